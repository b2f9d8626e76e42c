"""What clients ask about schedules, and have done to them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any

import msgspec

from supervisor.config.names import scope_of, short_name
from supervisor.config.schedules import from_values
from supervisor.config.scopes import renamed
from supervisor.config.spec import Schedule
from supervisor.config.zones import zone
from supervisor.errors import Busy, JobsupError, UnknownQueue, UnknownSchedule, UsageError, WrongState
from supervisor.job import State as JobState
from supervisor.keeper.children import inner, known_queue
from supervisor.keeper.state import State
from supervisor.keeper.timetable import FILE, RUNTIME, UNUSABLE, defined, enqueue, restarted
from supervisor.policy.redact import redact
from supervisor.policy.schedule import read_cron
from supervisor.policy.schedule_words import last_run, next_run, rhythm
from supervisor.store.protocol import ScheduleRow
from supervisor.store.reader import Reader, instant
from supervisor.store.sqlite.transaction import Transaction

ROWS_MAX = 10_000
"""So many schedules there may be in all."""
LISTED_MAX = 50
"""Schedules in one answer: it holds up the loop."""
Reply = Callable[[dict[str, Any]], None]
Refuse = Callable[[JobsupError], None]


# -- what is shown ---------------------------------------------------------------------------------------------------


def shown(state: State, reader: Reader, row: ScheduleRow, now_ms: int) -> dict[str, Any]:
    """A schedule as `jobsctl cron show --json` has it, without what was decided before."""
    try:
        schedule = msgspec.json.decode(row.definition, type=Schedule)
    except msgspec.MsgspecError:
        schedule = Schedule(name=row.name, queue="")
    queue = state.spec.queue(schedule.queue)
    payload = None if schedule.payload is None else msgspec.json.decode(schedule.payload)
    last = _last_job(reader, row)
    return {
        "name": row.name,
        "origin": row.origin,
        "queue": schedule.queue or None,
        "cron": schedule.cron,
        "every_s": _seconds(schedule.every_ms),
        "timezone": schedule.timezone if schedule.cron is not None else None,
        "payload": redact(payload, queue.redact if queue else ()),
        "jitter_s": _seconds(schedule.jitter_ms),
        "start_at": instant(schedule.start_ms),
        "end_at": instant(schedule.end_ms),
        "missed_policy": schedule.missed,
        "missed_within_s": _seconds(schedule.missed_within_ms),
        "missed_max": schedule.missed_max,
        "overlap": schedule.overlap,
        "priority": schedule.priority,
        "tags": list(schedule.tags),
        "paused": row.paused or schedule.paused,
        "next_at": instant(row.next_ms),
        "fires_at": instant(row.fires_ms),
        "waiting_at": instant(row.waiting_ms),
        "last_at": instant(row.last_due_ms),
        "last_fired_at": instant(row.last_fired_ms),
        "last_job": None if row.last_job_id is None else {"id": row.last_job_id, "state": last},
        "outcome": row.outcome,
        "outcome_at": instant(row.outcome_ms),
        "reason": row.reason,
        "fired": row.fired,
        "skipped": row.skipped,
        "missed": row.missed,
        "failed": row.failed,
        "explanation": _explanation(row, schedule, last, now_ms),
    }


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000


def _last_job(reader: Reader, row: ScheduleRow) -> str | None:
    """The state of the last job; None if there was none, or retention has removed it."""
    found = reader.job(row.last_job_id) if row.last_job_id is not None else None
    return None if found is None else str(found["state"])


def _explanation(row: ScheduleRow, schedule: Schedule, last: str | None, now_ms: int) -> str:
    """Why and when it runs next, and what happened last."""
    facts = {"due": instant(row.last_due_ms), "job": row.last_job_id, "state": last, "reason": row.reason}
    if row.outcome == UNUSABLE:
        return f"{row.name} does not run: {row.reason}"
    place = UTC if schedule.cron is None else zone(schedule.timezone)
    words = rhythm(
        cron=None if schedule.cron is None else read_cron(schedule.cron), every_ms=schedule.every_ms,
        timezone=schedule.timezone,
    )  # fmt: skip
    coming = next_run(row.name, _rest(row, schedule), row.next_ms, row.fires_ms, now_ms, place)
    held = "; a run waits for the end of that job" if row.waiting_ms is not None and row.outcome != "waiting" else ""
    return f"{coming}; it is due {words[:1].lower()}{words[1:]}; {last_run(row.outcome, facts)}{held}"


def _rest(row: ScheduleRow, schedule: Schedule) -> str | None:
    """Why it is at rest; None if it is not."""
    if schedule.paused:
        return "it is paused by its definition"
    return f"it is paused; jobsctl cron resume {row.name} lets it go on" if row.paused else None


def listed(state: State, reader: Reader, after: str | None, now_ms: int) -> dict[str, Any]:
    """A page of schedules, in the order of their names; `next` is the name to go on after."""
    rows = reader.schedules(after or "", LISTED_MAX)
    more = rows[-1].name if len(rows) == LISTED_MAX else None
    return {"schedules": [shown(state, reader, row, now_ms) for row in rows], "next": more}


def one(state: State, reader: Reader, name: str, now_ms: int) -> dict[str, Any]:
    """All about one schedule, with what was decided about its last due times.

    Raises:
        UnknownSchedule: there is none of that name.
    """
    row = reader.schedule(name)
    if row is None:
        raise _unknown(name)
    recent = [
        {"due_at": instant(claim.due_ms), "outcome": claim.outcome, "at": instant(claim.at_ms), "job_id": claim.job_id}
        for claim in reader.claims(name)
    ]
    return {**shown(state, reader, row, now_ms), "recent": recent}


def _unknown(name: str) -> UnknownSchedule:
    return UnknownSchedule(f"there is no schedule {name}", hint="jobsctl cron list names those that there are")


# -- what is done ----------------------------------------------------------------------------------------------------


class ScheduleOperation(ABC):
    """Something done to one schedule, in one step. Where no daemon has, it takes in the configuration first."""

    until_ms: int | None = None

    def __init__(self, state: State, name: str, reply: Reply, refuse: Refuse) -> None:
        self.state = state
        self.name = name
        self.reply = reply
        self.refuse = refuse

    def step(self, tx: Transaction, now_ms: int) -> Callable[[], bool]:
        """Do it, or say why not."""
        timetable, spec = self.state.timetable, self.state.spec
        if timetable.taken is not spec and self.state.leasing:
            return lambda: False  # a daemon takes it in by itself, a page in each pass: then it is our turn again
        if timetable.taken is not spec:
            timetable.forget_progress()
            while not timetable.take_in(tx, self.state, now_ms):
                pass
            timetable.forget_progress()
        try:
            answer = self.act(tx, now_ms)
        except JobsupError as error:
            refused = error
            return lambda: self._refused(refused)

        def effect() -> bool:
            timetable.ended.add(self.name)
            timetable.wake(0)
            self.reply(answer())
            return True

        return effect

    def _refused(self, error: JobsupError) -> bool:
        self.refuse(error)
        return True

    def known(self, tx: Transaction) -> ScheduleRow:
        """The row of the schedule.

        Raises:
            UnknownSchedule: there is none.
        """
        row = tx.schedule(self.name)
        if row is None:
            raise _unknown(self.name)
        return row

    @abstractmethod
    def act(self, tx: Transaction, now_ms: int) -> Callable[[], dict[str, Any]]:
        """Do it; what gives the answer once it is committed."""


class Shown(ScheduleOperation):
    """An operation that answers with the schedule as it is then."""

    def __init__(self, state: State, name: str, reply: Reply, refuse: Refuse, reader: Reader) -> None:
        super().__init__(state, name, reply, refuse)
        self.reader = reader

    def then(self, now_ms: int) -> Callable[[], dict[str, Any]]:
        """What shows it after the commit."""
        return lambda: one(self.state, self.reader, self.name, now_ms)


class Look(Shown):
    """Show one schedule, where the rows may not have taken in the configuration yet."""

    def act(self, tx: Transaction, now_ms: int) -> Callable[[], dict[str, Any]]:
        """Nothing."""
        self.known(tx)
        return self.then(now_ms)


class LookAtMany(Shown):
    """Show a page of schedules, those after a name, where the rows may not have taken in the configuration yet."""

    def act(self, tx: Transaction, now_ms: int) -> Callable[[], dict[str, Any]]:  # noqa: ARG002 - as the others have it
        """Nothing."""
        return lambda: listed(self.state, self.reader, self.name, now_ms)


class Add(Shown):
    """Add a schedule, or change one that was added before."""

    def __init__(
        self, state: State, name: str, reply: Reply, refuse: Refuse, reader: Reader, values: Mapping[str, Any]
    ) -> None:
        super().__init__(state, name, reply, refuse, reader)
        self.values = values

    def act(self, tx: Transaction, now_ms: int) -> Callable[[], dict[str, Any]]:
        """Check and store it."""
        row = tx.schedule(self.name)
        if row is not None and row.origin == FILE:
            raise WrongState(
                f"schedule {self.name} is in the configuration", hint="edit it there, or take another name"
            )
        if row is None and tx.schedules_count() >= ROWS_MAX:
            raise Busy(f"there are {ROWS_MAX} schedules already", hint="remove some that are not needed")
        schedule = self._schedule()
        tx.define_schedule(self.state.timetable.placed(defined(tx, row, schedule, RUNTIME, now_ms)))
        return self.then(now_ms)

    def _schedule(self) -> Schedule:
        """What it says, with every problem at once; an unknown queue counts last, as it has an error of its own."""
        named, queue, missing = self.values.get("queue"), None, None
        scope = scope_of(self.name)
        if isinstance(named, str):
            try:
                queue = known_queue(self.state.spec, inner(scope, named))
            except UnknownQueue as error:
                missing = error
        try:
            schedule = from_values(short_name(self.name), self.values, queue)
        except ValueError as error:
            more = f"; queue: {missing.message}" if missing else ""
            raise UsageError(f"schedule {self.name}: {error}{more}") from None
        if missing is not None:
            raise missing
        return renamed(schedule, scope)


class Remove(ScheduleOperation):
    """Remove a schedule that was added; its jobs stay."""

    def act(self, tx: Transaction, now_ms: int) -> Callable[[], dict[str, Any]]:  # noqa: ARG002 - as the others have it
        """Forget it."""
        if self.known(tx).origin == FILE:
            hint = f"delete it there and reload; jobsctl cron pause {self.name} holds it until then"
            raise WrongState(f"schedule {self.name} is in the configuration", hint=hint)
        tx.remove_schedule(self.name)
        self.state.timetable.forget(self.name)
        return lambda: {"name": self.name}


class Pause(Shown):
    """Let a schedule rest."""

    def act(self, tx: Transaction, now_ms: int) -> Callable[[], dict[str, Any]]:
        """Nothing of it is due."""
        row = self.known(tx)._replace(paused=True)
        tx.define_schedule(self.state.timetable.placed(row))
        return self.then(now_ms)


class Resume(Shown):
    """Let it go on from now."""

    def act(self, tx: Transaction, now_ms: int) -> Callable[[], dict[str, Any]]:
        """What was due meanwhile is not made up for."""
        row = self.known(tx)
        if msgspec.json.decode(row.definition)["paused"]:
            where = "in the configuration" if row.origin == FILE else "where it was added"
            raise WrongState(f"schedule {self.name} has paused = true {where}", hint="change it there")
        if row.paused:
            row = restarted(row._replace(paused=False), now_ms)
        tx.define_schedule(self.state.timetable.placed(row))
        return self.then(now_ms)


class Run(ScheduleOperation):
    """Enqueue its job now. The timetable stays as it is, and does not count this job as one of its own."""

    def act(self, tx: Transaction, now_ms: int) -> Callable[[], dict[str, Any]]:
        """Insert the job."""
        try:
            schedule, _ = self.state.timetable.plan(self.known(tx))
        except (ValueError, msgspec.MsgspecError) as error:
            raise WrongState(f"schedule {self.name} cannot be used: {error}") from None
        job_id = enqueue(self.state, tx, schedule, None, now_ms)

        def answer() -> dict[str, Any]:
            self.state.committed_jobs += 1
            self.state.wants_lease = True
            return {"name": self.name, "queue": schedule.queue, "id": job_id, "state": JobState.QUEUED.value}

        return answer
