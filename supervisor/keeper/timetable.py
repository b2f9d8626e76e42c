"""Schedules that are due: which jobs they make, in which order, and when to look again.

Rows say where each schedule stands. What is here is a cache, and when to look: nothing is done while there is none.

*Invariant:* a due time is claimed in the transaction that inserts its job, and what is decided never goes back: keepers
may die or race, and clocks may be set; there is one job for each due time, or it is known why there is none.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from supervisor.config.schedule_keys import show_instant
from supervisor.config.schedules import plan_of
from supervisor.config.spec import Schedule, Spec
from supervisor.errors import JobsupError
from supervisor.keeper.children import known_queue, new_job
from supervisor.keeper.fitting import fitted
from supervisor.observe.failpoint import hit
from supervisor.policy.schedule import Decision, Outage, Plan, decide, overlapping
from supervisor.store.protocol import Group, ScheduleRow
from supervisor.store.sqlite.transaction import Transaction
from supervisor.wire import messages

if TYPE_CHECKING:
    from supervisor.keeper.state import State
    from supervisor.keeper.work import Work

FILE, RUNTIME = "file", "runtime"
UNUSABLE = "unusable"
NEVER_MS = 1 << 62
LOOK_MS = 60_000
"""While there is a schedule, it is looked at this often, whatever the clocks say."""
SCHEDULES_AT_ONCE = 32
DUE_AT_ONCE = 16
"""Due times of one schedule that are decided in one transaction."""
FIRE_UNTIL_US = 1_800
"""When a pass takes on no more of them: one is always done."""

_decode = msgspec.json.Decoder(Schedule).decode


class Timetable:
    """What the keeper remembers of schedules between passes. Times are on the boot clock."""

    def __init__(self) -> None:
        self.at_ms = 0
        """When to look for what is due."""
        self.taken: Spec | None = None
        """The configuration whose schedules are in the rows."""
        self.watched: dict[int, str] = {}
        """Jobs for whose end a run waits, with the names of their schedules."""
        self.ended: set[str] = set()
        """Schedules whose job may have ended."""
        self.looked_at_ms = 0
        """When all that wait were looked at."""
        self._taking: Spec | None = None
        self._defined = self._checked = ""
        self._plans: dict[str, tuple[bytes, Schedule, Plan]] = {}

    def wake_ms(self, *, leasing: bool) -> int | None:
        """When the loop must turn for schedules; None while there is nothing to fire, or no daemon to fire it."""
        return self.at_ms if leasing and self.at_ms < NEVER_MS else None

    def wake(self, boot_ms: int) -> None:
        """Look again at once: rows or the wall clock have changed."""
        self.at_ms = min(self.at_ms, boot_ms)

    def hear(self, ended: Iterable[int], *, everything: bool, boot_ms: int) -> None:
        """Some jobs have ended, or any may have."""
        if self.watched:
            found = self.watched if everything else [job_id for job_id in ended if job_id in self.watched]
            self.ended.update(self.watched[job_id] for job_id in found)
            if self.ended:
                self.wake(boot_ms)

    def plan(self, row: ScheduleRow) -> tuple[Schedule, Plan]:
        """What a row's definition says.

        Raises:
            ValueError: it cannot be read by this version, or on this host.
        """
        known = self._plans.get(row.name)
        if known is None or known[0] != row.definition:
            schedule = _decode(row.definition)
            self._plans[row.name] = known = (row.definition, schedule, plan_of(schedule))
        return known[1], known[2]

    def forget(self, name: str) -> None:
        """A schedule is gone."""
        self._plans.pop(name, None)

    # -- taking in what the configuration says ------------------------------------------------------------------

    def take_in(self, tx: Transaction, state: State, now_ms: int) -> bool:
        """Bring the next rows in line with the configuration; whether all of them are.

        What this changes in memory is true of whatever is committed: names that were passed are compared again by
        whoever begins anew, as a transaction that failed makes us do.
        """
        if self._taking is not state.spec:
            self._taking = state.spec
            self._defined = self._checked = ""
        spec = state.spec
        left = sorted(name for name in spec.schedules if name > self._defined)
        for name in left[:SCHEDULES_AT_ONCE]:
            self._define(tx, state, spec.schedules[name], now_ms)
            self._defined = name
        if len(left) > SCHEDULES_AT_ONCE:
            return False
        rows = tx.schedules(self._checked, SCHEDULES_AT_ONCE)
        for row in rows:
            if row.origin == FILE and row.name not in spec.schedules:
                tx.remove_schedule(row.name)
                self.forget(row.name)
            else:
                self._check(tx, state, row)
            self._checked = row.name
        return len(rows) < SCHEDULES_AT_ONCE

    def forget_progress(self) -> None:
        """The transaction failed: begin anew."""
        self._taking = None

    def _define(self, tx: Transaction, state: State, schedule: Schedule, now_ms: int) -> None:
        row = tx.schedule(schedule.name)
        definition = msgspec.json.encode(schedule)
        if row is not None and (row.origin, row.definition) == (FILE, definition):
            return
        if row is not None and row.origin != FILE:
            state.log.emit("schedule.replaced", schedule=schedule.name)
        tx.define_schedule(self.placed(defined(tx, row, schedule, FILE, now_ms)))

    def _check(self, tx: Transaction, state: State, row: ScheduleRow) -> None:
        """A row from before: zones may have changed since, and a run may wait."""
        if row.waiting_ms is not None and row.last_job_id is not None:
            self.watched[row.last_job_id] = row.name
            self.ended.add(row.name)
        placed = self.placed(row)
        if placed != row:
            tx.advance_schedule(placed)
            if placed.outcome == UNUSABLE:
                state.log.emit("schedule.unusable", schedule=row.name, reason=placed.reason)

    def placed(self, row: ScheduleRow) -> ScheduleRow:
        """The row with when it fires next."""
        try:
            schedule, plan = self.plan(row)
        except (ValueError, msgspec.MsgspecError) as error:
            return row._replace(next_ms=None, fires_ms=None, outcome=UNUSABLE, reason=str(error))
        if row.paused or schedule.paused:
            return row._replace(next_ms=None, fires_ms=None)
        if row.outcome == UNUSABLE:
            row = row._replace(outcome=None, reason=None)
        due_ms = plan.after(row.handled_ms)
        return row._replace(next_ms=due_ms, fires_ms=None if due_ms is None else plan.fires_ms(due_ms))


def defined(tx: Transaction, row: ScheduleRow | None, schedule: Schedule, origin: str, now_ms: int) -> ScheduleRow:
    """The row of a schedule that is new, or says something else than before.

    A timetable that changed begins now; one that did not goes on where it was. None begins before the last due time
    that was decided under its name.
    """
    definition = msgspec.json.encode(schedule)
    if row is None:
        claims = tx.claims(schedule.name, 1)
        handled_ms = max([now_ms, *(claim.due_ms for claim in claims)])
        return ScheduleRow(
            schedule.name, origin, False, handled_ms, None, None, None, None, None, None, None, None, None, None,
            0, 0, 0, 0, definition,
        )  # fmt: skip
    same = _same_times(row, schedule)
    row = row._replace(origin=origin, definition=definition)
    return row if same else restarted(row, now_ms)


def _same_times(row: ScheduleRow, schedule: Schedule) -> bool:
    try:
        before = _decode(row.definition)
    except msgspec.MsgspecError:
        return False
    names = ("cron", "every_ms", "timezone", "jitter_ms", "start_ms", "end_ms", "paused")
    return all(getattr(before, name) == getattr(schedule, name) for name in names)


def restarted(row: ScheduleRow, now_ms: int) -> ScheduleRow:
    """The row, with nothing before now to be looked at any more."""
    return row._replace(handled_ms=max(row.handled_ms, now_ms), outage=None)


# -- firing ------------------------------------------------------------------------------------------------------


def keep_time(work: Work) -> None:
    """Make the jobs of schedules that are due, as far as this pass has time for it."""
    state, timetable = work.state, work.state.timetable
    if not state.leasing:
        return
    taking = timetable.taken is not state.spec
    if not taking and work.boot_ms < timetable.at_ms:
        return
    work.on_failure(partial(_failed, timetable))
    if taking and timetable.take_in(work.tx, state, work.now_ms):
        work.afterwards(partial(setattr, timetable, "taken", state.spec))
        taking = False
    if not taking:  # what has left the configuration must not fire any more
        _fire_due(work)
        _fire_waiting(work)
    hit("keeper.schedule")
    _note_next(work)


def _fire_due(work: Work) -> None:
    for row in work.tx.due_schedules(SCHEDULES_AT_ONCE):
        _fire(work, row)
        if work.late(FIRE_UNTIL_US):
            return


def _failed(timetable: Timetable) -> None:
    timetable.forget_progress()
    timetable.taken = None
    timetable.at_ms = 0


def _note_next(work: Work) -> None:
    """When to look again; pages that are left, and what must be taken in, are due at once."""
    timetable = work.state.timetable
    fires_ms = work.tx.next_fire_ms()
    spec = work.state.spec

    def effect() -> None:
        if timetable.taken is not spec or timetable.ended:
            timetable.at_ms = work.boot_ms
        elif fires_ms is None:
            timetable.at_ms = work.boot_ms + LOOK_MS if timetable.watched else NEVER_MS
        else:
            timetable.at_ms = work.boot_ms + min(max(fires_ms - work.now_ms, 0), LOOK_MS)

    work.afterwards(effect)


def _fire(work: Work, row: ScheduleRow) -> None:
    """Decide about the next due times of one schedule."""
    timetable = work.state.timetable
    try:
        schedule, plan = timetable.plan(row)
    except (ValueError, msgspec.MsgspecError):
        work.tx.advance_schedule(timetable.placed(row))
        return
    outage = None if row.outage is None else Outage(*msgspec.json.decode(row.outage))
    decision = decide(plan, row.handled_ms, outage, work.now_ms, DUE_AT_ONCE)
    for due_ms in decision.run:
        row = _decided(work, row, schedule, plan, due_ms)
    row = _passed_over(work, row, schedule.queue, decision)
    work.tx.advance_schedule(timetable.placed(row))


def _passed_over(work: Work, row: ScheduleRow, queue: str, decision: Decision) -> ScheduleRow:
    """Note what was missed, and how far all is decided."""
    encoded = None if decision.outage is None else msgspec.json.encode(tuple(decision.outage))
    row = row._replace(handled_ms=decision.handled_ms, outage=encoded, missed=row.missed + decision.missed)
    if decision.missed and decision.handled_ms not in decision.run:
        if work.tx.claim(row.name, decision.handled_ms, "missed"):
            work.tx.settle_claim(row.name, decision.handled_ms, "missed", None)
        row = row._replace(outcome="missed", outcome_ms=work.now_ms, reason=None)
    ended = decision.ended
    if ended and ended.missed:
        _say(work, "schedule.missed", schedule=row.name, missed=ended.missed, made_good=ended.seen - ended.missed,
             until=show_instant(ended.until_ms))  # fmt: skip
        detail = f"schedule {row.name} missed {ended.missed} until {show_instant(ended.until_ms)}"
        work.afterwards(partial(work.state.alerts.missed, queue, detail, ended.missed))
    return row


def _decided(work: Work, row: ScheduleRow, schedule: Schedule, plan: Plan, due_ms: int) -> ScheduleRow:
    """Run, hold back or leave out one due time, under its claim."""
    unfinished = plan.overlap != "allow" and _unfinished(work.tx, row.last_job_id)
    verdict = overlapping(plan.overlap, unfinished=unfinished, waiting=row.waiting_ms is not None)
    if not work.tx.claim(row.name, due_ms, verdict):
        return row
    if verdict == "run":
        return _run(work, row, schedule, due_ms)
    outcome, due = ("waiting" if verdict == "wait" else "skipped"), show_instant(due_ms)
    work.tx.settle_claim(row.name, due_ms, outcome, None)
    row = row._replace(outcome=outcome, outcome_ms=work.now_ms, reason=None)
    if verdict == "wait":
        assert row.last_job_id is not None
        _watch(work, row.last_job_id, row.name)
        _say(work, "schedule.waits", schedule=row.name, due=due, id=row.last_job_id)
        return row._replace(waiting_ms=due_ms)
    reason = f"job {row.last_job_id} has not ended"
    _say(work, "schedule.skipped", schedule=row.name, due=due, reason=reason)
    return row._replace(skipped=row.skipped + 1, reason=reason)


def _run(work: Work, row: ScheduleRow, schedule: Schedule, due_ms: int) -> ScheduleRow:
    """Insert the job of a due time that is claimed; a queue that is gone is a failure of this due time alone."""
    due = show_instant(due_ms)
    try:
        job_id = enqueue(work.state, work.tx, schedule, due_ms, work.now_ms)
    except JobsupError as error:
        work.tx.settle_claim(row.name, due_ms, "failed", None)
        _say(work, "schedule.failed", schedule=row.name, due=due, reason=error.message)
        detail = f"schedule {row.name} could not run at {due}: {error.message}"
        work.afterwards(partial(work.state.alerts.missed, schedule.queue, detail))
        return row._replace(outcome="failed", outcome_ms=work.now_ms, reason=error.message, failed=row.failed + 1)
    work.tx.settle_claim(row.name, due_ms, "fired", job_id)
    work.state.wants_lease = True
    work.afterwards(partial(_count_one, work.state))
    _say(work, "schedule.fired", schedule=row.name, id=job_id, queue=schedule.queue, due=due)
    return row._replace(
        last_job_id=job_id, last_due_ms=due_ms, last_fired_ms=work.now_ms, fired=row.fired + 1,
        outcome="fired", outcome_ms=work.now_ms, reason=None,
    )  # fmt: skip


def enqueue(state: State, tx: Transaction, schedule: Schedule, due_ms: int | None, now_ms: int) -> int:
    """Insert one job of a schedule; its id. `due_ms` is None for a run that nobody waited for.

    Raises:
        UnknownQueue, InvalidPayload, PayloadTooLarge, QueueFull, NotUnique: its queue takes no such job; nothing was
            changed.
    """
    queue = known_queue(state.spec, schedule.queue)
    due = () if due_ms is None else (f"due:{show_instant(due_ms)}",)
    payload = msgspec.Raw((schedule.payload or "null").encode())
    tags = (*schedule.tags, f"schedule:{schedule.name}", *due)
    asked = messages.NewJob(payload, priority=schedule.priority, tags=tags, task=schedule.task)
    (wanted,) = fitted(state, schedule.queue, [asked])
    job = new_job(queue, wanted, now_ms, schedule.queue)
    (inserted,) = tx.insert([Group(schedule.queue, [job])])
    if inserted.refused is not None:
        raise inserted.refused
    return inserted.ids[0]


def _count_one(state: State) -> None:
    state.committed_jobs += 1


def _unfinished(tx: Transaction, job_id: int | None) -> bool:
    """Whether a job is still to end; one that was deleted has."""
    found = tx.standing([job_id]).get(job_id) if job_id is not None else None
    return found is not None and not found.state.final


def _watch(work: Work, job_id: int, name: str) -> None:
    work.state.timetable.watched[job_id] = name


def _fire_waiting(work: Work) -> None:
    """Run what waited for the end of the job before it, if that has come."""
    timetable = work.state.timetable
    if not timetable.watched:
        timetable.ended.clear()
        return
    if work.boot_ms - timetable.looked_at_ms >= LOOK_MS:
        timetable.looked_at_ms = work.boot_ms
        timetable.ended.update(timetable.watched.values())
    looked_at = sorted(timetable.ended)[:SCHEDULES_AT_ONCE]
    timetable.ended.difference_update(looked_at)
    work.on_failure(lambda: timetable.ended.update(looked_at))
    for name in looked_at:
        if not _still_waits(work, work.tx.schedule(name)):
            work.afterwards(partial(_forget, timetable, name))


def _still_waits(work: Work, row: ScheduleRow | None) -> bool:
    """Run what waited, unless it must wait on."""
    timetable = work.state.timetable
    if row is None or row.waiting_ms is None:
        return False
    try:
        schedule, _ = timetable.plan(row)
    except (ValueError, msgspec.MsgspecError):
        return True
    if row.paused or schedule.paused or _unfinished(work.tx, row.last_job_id):
        return True
    ran = _run(work, row._replace(waiting_ms=None), schedule, row.waiting_ms)
    work.tx.advance_schedule(timetable.placed(ran))
    return False


def _forget(timetable: Timetable, name: str) -> None:
    """Watch the job that its run waited for no more."""
    for job_id in [job_id for job_id, waiting in timetable.watched.items() if waiting == name]:
        del timetable.watched[job_id]


def _say(work: Work, event: str, **facts: Any) -> None:
    work.afterwards(partial(work.state.log.emit, event, **facts))
