"""Reading: what `jobsctl` shows, straight from rows, on a read-only connection and in short transactions.

States are derived from where an id stands, as everywhere; the words and units are those of the command contract.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from supervisor.config.names import inner_name, scope_of, short_name
from supervisor.errors import Denied, NoDatabase, StoreError, UnknownJob
from supervisor.job import IDEMPOTENCY_KEY, JOB_ID_MAX, State
from supervisor.policy.breaker import Breaker
from supervisor.policy.discipline import DisciplineOf
from supervisor.policy.redact import redact
from supervisor.policy.tasks import Known
from supervisor.reading import read
from supervisor.store.driver import plain_text, sqlite3
from supervisor.store.explain import Explained, Explainer
from supervisor.store.open import read_only
from supervisor.store.protocol import NO_SLOT, Claim, ScheduleRow
from supervisor.store.sqlite.blocking import known_tasks
from supervisor.store.sqlite.breaking import breaker_of
from supervisor.store.sqlite.scheduling import schedule_row
from supervisor.store.sqlite.statements import SQL

NO_SUCH_JOB = "ids are given out once; retention removes old jobs"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
IDS_MAX = 100_000
"""Ids that are looked up at once: numbers only, so that what must be sorted is sorted seldom."""

ROWS_MAX = 64
"""Jobs that are read at once: each may be a megabyte."""

KEYS_PAGE = 500
TAGGED_MAX = 1_000
"""Ids looked up at once where most jobs may turn out not to be wanted."""

STEPS_SHOWN = 1_000
EDGES_SHOWN = 20_000
FLOWS_PAGE = 100
KIND_JOB, KIND_SIGNAL = 0, 2

STATE = 7
"""The column of read_job and read_page that holds the state of a final job, NULL for the others."""

_OF_RUN = ("type", "traceback", "exit_code", "signal", "last_output")
DETAILS = {
    "error": _OF_RUN,
    "timeout": _OF_RUN,
    "crash": ("signal", "exit_code", "rss_peak_bytes", "cpu_s", "oom", "age_s", "last_output", "traceback"),
}
"""What an attempt's error has beside its message, by kind: null where it is not known, never left out."""


class Reader:
    """Answers questions from rows. `queue_of` gives a queue's budgets and what to redact (config.spec.Queue).

    `hidden_in` gives what is redacted by any queue of a scope: the context of a flow is that of steps of many queues.
    With a `scope` (that of the main file is empty) there is nothing but what is of it, and names are as they are known
    within it; without one there is everything, under internal names.
    """

    def __init__(
        self, connection: Any, queue_of: Callable[[str], Any], scope: str | None = None,
        hidden_in: Callable[[str], Sequence[str]] = lambda scope: (),  # noqa: ARG005 - the name says what it is given
    ) -> None:  # fmt: skip
        self._db = connection
        self.queue_of = queue_of
        self.hidden_in = hidden_in
        self._scope = scope

    def _has(self, queue: str) -> bool:
        """Whether an internal name is one of this scope."""
        return self._scope is None or scope_of(queue) == self._scope

    def _named(self, queue: str) -> str:
        """An internal name as it is told."""
        return queue if self._scope is None else short_name(queue)

    def _inner(self, queue: str) -> str:
        """The internal name of what is asked for."""
        return queue if self._scope is None else inner_name(self._scope, queue)

    def queue_of_job(self, job_id: int) -> str | None:
        """The internal name of the queue that a job is in; None if there is no such job."""
        row = self._db.execute(SQL.read_queue_of_job, (job_id,)).fetchone()
        return None if row is None else str(_plain(row)[0])

    def job(self, job_id: int) -> dict[str, Any] | None:
        """Everything about a job, as `status ID` shows it; None if there is none."""
        if not 0 < job_id <= JOB_ID_MAX:
            return None
        with self._snapshot():
            row = self._db.execute(SQL.read_job, (job_id,)).fetchone()
            if row is None or not self._has(_plain(row)[1]):
                return None
            shown = self._present(_plain(row), self._leased_among([row]))
            shown["kept"] = self._kept(job_id, shown["queue"])
            shown["errors"] = list(self._errors(job_id))
            return shown

    def _kept(self, job_id: int, queue: str) -> dict[str, Any] | None:
        """What a job that has not completed keeps for its next run: names of steps, and its cursor; None if nothing."""
        if not self._db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'checkpoint'").fetchone():
            return None
        rows = [_plain(row) for row in self._db.execute(SQL.read_kept, (job_id,)).fetchall()]
        spec = self.queue_of(queue)
        cursors = [redact(read(value), spec.redact if spec else ()) for name, value in rows if not name]
        kept = {"steps": [name for name, _ in rows if name], "cursor": cursors[0] if cursors else None}
        return kept if rows else None

    def ended_among(self, numbers: Collection[int]) -> list[int]:
        """Those of these jobs and flows that are final, or are not there any more."""
        listed = msgspec.json.encode(list(numbers)).decode()
        return [row[0] for row in self._db.execute(SQL.read_ended_among, (listed,)).fetchall()]

    def job_or_flow(self, number: int) -> dict[str, Any] | None:
        """Everything about a job, or about a flow without its steps: both have ids of one sequence."""
        return self.job(number) or self.flow_alone(number)

    def unknown_job(self, number: int, scope: str | None = None) -> UnknownJob:
        """The refusal of an id that no job has; it may be that of a flow, as both have ids of one sequence."""
        if self.flow_alone(number, scope) is not None:
            return UnknownJob(f"{number} is a flow, and no job", hint=f"jobsctl flow show {number} says how it stands")
        return UnknownJob(f"there is no job {number}", hint=NO_SUCH_JOB)

    def jobs(
        self, *, queue: str | None = None, state: State | None = None, tag: str | None = None, limit: int = 50,
        before_id: int | None = None,
    ) -> Iterator[dict[str, Any]]:  # fmt: skip
        """Jobs without their payloads, newest first; `limit` 0 is all, `before_id` goes on after an earlier page."""
        before = JOB_ID_MAX + 1 if before_id is None else before_id
        left = limit or JOB_ID_MAX
        picked = tag or (self._scope is not None and queue is None)
        queue = queue and self._inner(queue)
        while left > 0:
            ids = self._ids(queue, state, before, TAGGED_MAX if picked else min(left, IDS_MAX))
            if not ids:
                return
            before = ids[-1]
            for shown in self._shown(ids):
                # Between the two looks the job may have gone on to another state.
                if (state and shown["state"] != state.value) or (tag and tag not in shown["tags"]):
                    continue
                yield shown
                left -= 1
                if left <= 0:
                    return

    def _shown(self, ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        for begin in range(0, len(ids), ROWS_MAX):
            listed = msgspec.json.encode(ids[begin : begin + ROWS_MAX]).decode()
            with self._snapshot():
                rows = self._db.execute(SQL.read_page, (listed,)).fetchall()
                leased = self._leased_among(rows)
            for row in map(_plain, rows):
                if self._has(row[1]):
                    yield self._present(row, leased)

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """One consistent view for several queries, and a short one: a long reader keeps the WAL from shrinking."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("COMMIT")

    def _ids(self, queue: str | None, state: State | None, before: int, limit: int) -> list[int]:
        statement = _statement(queue, state)
        asked = {"queue": queue, "state": state and state.value, "before": before, "limit": limit}
        return [row[0] for row in self._db.execute(statement, asked)]

    def hidden_of(self, queue: str) -> Sequence[str]:
        """The members of its payloads that a queue shows nowhere."""
        spec = self.queue_of(self._named(queue))
        return spec.redact if spec else ()

    def explain(self, job_id: int, discipline_of: DisciplineOf, now_ms: int) -> Explained | None:
        """Why a job is not running, as far as the rows say; None if there is none of that id."""
        if not 0 < job_id <= JOB_ID_MAX:
            return None
        with self._snapshot():
            found = Explainer(self._db, discipline_of, now_ms).explain(job_id)
        return found if found is not None and self._has(found.queue) else None

    def keys(self, queue: str, *, everything: bool, limit: int) -> Iterator[dict[str, Any]]:
        """Keys of a queue in their order, those that something keeps waiting, or all; `limit` 0 is all."""
        left, after = limit or JOB_ID_MAX, None
        while left > 0:
            page = min(left, KEYS_PAGE)
            asked = {"queue": self._inner(queue), "all": everything, "after": after, "limit": page}
            rows = [_plain(row) for row in self._db.execute(SQL.read_keys, asked).fetchall()]
            for key, paused, held, doom, gate, state, due_at, waiting in rows:
                after, left = key, left - 1
                name = self._limit(gate.partition("\0")[0]) if gate else None
                yield {
                    "key": key or None,
                    "waiting": waiting,
                    "paused": bool(paused),
                    "held_by": held,
                    "held_state": None if held is None else state or ("scheduled" if due_at is not None else "running"),
                    "due_at": instant(due_at) if held is not None and state is None else None,
                    "buried": doom is not None,
                    "limit": name,
                }
            if len(rows) < page:
                return

    def _limit(self, name: str) -> str:
        """The name of a limit, "limit:api", as it is told."""
        kind, _, of = name.partition(":")
        return f"{kind}:{self._named(of)}"

    def counts(self) -> dict[str, dict[str, int]]:
        """Jobs by queue and state, as maintained."""
        found: dict[str, dict[str, int]] = {}
        for queue, state, jobs in map(_plain, self._db.execute(SQL.tally)):
            if self._has(queue):
                found.setdefault(self._named(queue), dict.fromkeys((state.value for state in State), 0))[state] = jobs
        return found

    def oldest_queued_ms(self) -> dict[str, int]:
        """When the oldest waiting job of each queue was enqueued.

        Only those first and last in line are looked at, of each priority: a retry between them may be older.
        """
        found = map(_plain, self._db.execute(SQL.read_oldest))
        return {self._named(queue): at for queue, at in found if at is not None and self._has(queue)}

    def waiting_since_ms(self, after: int, queues_max: int) -> tuple[int, dict[str, int | None]]:
        """A page of queues, and since when the oldest queued job of each could have run; None where none is queued.

        That is when it was enqueued, became due, or was interrupted or failed last; the same jobs are looked at as for
        `oldest_queued_ms`. Also returns what to go on after, 0 after the last page.
        """
        page: dict[int, str] = dict(map(_plain, self._db.execute(SQL.read_queues, (after, queues_max))))
        if not page:
            return 0, {}
        found = dict(map(_plain, self._db.execute(SQL.read_waiting, (min(page), max(page)))))
        since = {name: found.get(queue_id) for queue_id, name in page.items()}
        return (max(page) if len(page) == queues_max else 0), since

    def reranked(self) -> dict[str, float]:
        """Queues whose waiting jobs are being ranked anew after a change of their order, with the part that is done."""
        rows = map(_plain, self._db.execute(SQL.read_reranking))
        return {
            self._named(queue): round(after / until, 3) if until else 1.0
            for queue, after, until in rows
            if self._has(queue)
        }

    def paused(self) -> set[str]:
        """Queues that are paused."""
        found = (_plain(row)[0] for row in self._db.execute(SQL.read_paused))
        return {self._named(queue) for queue in found if self._has(queue)}

    def breakers(self) -> dict[str, Breaker]:
        """The outage breakers that are not as they were made, by queue; none in a file of an earlier version."""
        if not self._db.execute(SQL.has_breakers).fetchone():
            return {}
        found = map(_plain, self._db.execute(SQL.breakers))
        return {self._named(queue): breaker_of(row) for queue, *row in found if self._has(queue)}

    def schedule(self, name: str) -> ScheduleRow | None:
        """A schedule; None if there is none of that name."""
        found = self._db.execute(SQL.schedule_get, (name,)).fetchone()
        return None if found is None else schedule_row(found)

    def schedules(self, after: str, rows_max: int) -> list[ScheduleRow]:
        """Schedules in the order of their names."""
        return [schedule_row(found) for found in self._db.execute(SQL.schedule_page, (after, rows_max)).fetchall()]

    def claims(self, name: str, rows_max: int = 20) -> list[Claim]:
        """What was decided of a schedule's due times, the latest first."""
        return [Claim(*_plain(row)) for row in self._db.execute(SQL.claims_of, (name, rows_max)).fetchall()]

    # -- flows -------------------------------------------------------------------------------------------------

    def _has_flows(self) -> bool:
        return bool(self._db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'flow'").fetchone())

    def flow_alone(self, flow_id: int, scope: str | None = None) -> dict[str, Any] | None:
        """A flow without its steps; None if there is none of that id in the scope."""
        if not (0 < flow_id <= JOB_ID_MAX and self._has_flows()):
            return None
        row = self._db.execute(SQL.read_flow, (flow_id,)).fetchone()
        return None if row is None else self._flow(_plain(row), scope)

    def flow(self, flow_id: int, scope: str | None = None, *, steps_max: int = STEPS_SHOWN) -> dict[str, Any] | None:
        """A flow with its steps and those of flows in it, parents before children, as far as `steps_max` goes."""
        with self._snapshot():
            shown = self.flow_alone(flow_id, scope)
            if shown is None:
                return None
            rows = [_plain(row) for row in self._db.execute(SQL.read_steps, (flow_id, steps_max + 1)).fetchall()]
            shown["more"] = len(rows) > steps_max
            after: dict[int, list[int]] = {}
            listed = msgspec.json.encode([row[0] for row in rows]).decode()
            for child, parent in self._db.execute(SQL.read_edges, (listed, EDGES_SHOWN)).fetchall():
                after.setdefault(child, []).append(parent)
            known = {row[0] for row in rows}
            others = {parent for parents in after.values() for parent in parents if parent not in known}
            rows = rows[:steps_max] + self._signals_among(others)
            leased = {row[0] for row in self._db.execute(SQL.read_leased)}
            shown["steps"] = [self._step(row, after.get(row[0], []), leased) for row in rows]
            return shown

    def _signals_among(self, steps: Collection[int]) -> list[list[Any]]:
        """Those of these that are signals, as rows of steps: steps of a flow in a flow wait for those of the whole."""
        if not steps:
            return []
        listed = msgspec.json.encode(sorted(steps)).decode()
        return [_plain(row) for row in self._db.execute(SQL.read_signals, (listed,)).fetchall()]

    def flows(
        self, scope: str | None = None, *, before: int | None = None, state: str | None = None, limit: int = FLOWS_PAGE
    ) -> dict[str, Any]:
        """Flows that are in no other, the newest first, a page at a time."""
        if not self._has_flows():
            return {"flows": [], "next": None}
        scope = self._scope if scope is None else scope
        asked = {"before": before or JOB_ID_MAX + 1, "state": state, "scope": scope, "limit": limit}
        rows = [_plain(row) for row in self._db.execute(SQL.read_flows, asked).fetchall()]
        shown = [flow for row in rows if (flow := self._flow(row, scope)) is not None]
        return {"flows": shown, "next": rows[-1][0] if len(rows) == limit else None}

    def _flow(self, row: Sequence[Any], scope: str | None) -> dict[str, Any] | None:
        (flow_id, name, state, parent, of_scope, opened, steps, unfinished, dead, cancelled, skipped, created_at,
         finished_at, context) = row  # fmt: skip
        scope = self._scope if scope is None else scope
        if scope is not None and of_scope != scope:
            return None
        return {
            "id": flow_id, "name": name, "state": state, "open": bool(opened), "flow": parent,
            "jobs": {"all": steps, "unfinished": unfinished, "dead": dead, "cancelled": cancelled, "skipped": skipped,
                     "completed": steps - unfinished - dead - cancelled - skipped},
            "created_at": instant(created_at), "finished_at": instant(finished_at) if finished_at else None,
            "context": redact(read(context), self.hidden_in(of_scope)) if context else None,
        }  # fmt: skip

    def _step(self, row: Sequence[Any], after: list[int], leased: set[int]) -> dict[str, Any]:
        (step_id, flow, kind, name, skipped, queue, state, started_at, finished_at, reason, waits, blocked, due_at,
         came_at, last_error) = row  # fmt: skip
        if state is None and kind == KIND_JOB:
            waiting = "blocked" if blocked is not None else "scheduled" if due_at else "queued"
            state = "running" if step_id in leased else waiting
        elif kind == KIND_SIGNAL:
            state = "waiting" if came_at is None else "received"
        return {
            "id": step_id, "flow": flow, "kind": ("job", "flow", "signal")[kind], "name": name,
            "queue": queue and self._named(queue), "state": "skipped" if skipped else state, "after": after,
            "waits": waits or 0, "reason": reason, "error": last_error,
            "started_at": instant(started_at) if started_at else None,
            "finished_at": instant(finished_at or came_at) if finished_at or came_at else None,
        }  # fmt: skip

    def schedules_overview(self, scope: str | None = None) -> dict[str, Any]:
        """How many schedules there are, of a scope if one is named, and which is due next.

        None in a file from before there were any.
        """
        if not self._db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'schedule'").fetchone():
            return {"count": 0, "paused": 0, "next": None, "next_at": None}
        of = self._scope if scope is None else scope
        if of is None:
            count, paused = self._db.execute(SQL.schedule_count).fetchone()
            row = self._db.execute(SQL.schedule_soonest).fetchone()
        else:
            count, paused = self._db.execute(SQL.read_schedules_count, {"scope": of}).fetchone()
            row = self._db.execute(SQL.read_schedules_soonest, {"scope": of}).fetchone()
        name, next_ms = _plain(row) if row else (None, None)
        name = name if of is None or name is None else short_name(name)
        return {"count": count, "paused": paused, "next": name, "next_at": instant(next_ms)}

    def tasks(self) -> dict[str, list[Known]]:
        """What tasks the code of each pool knows; none in a file of an earlier version."""
        if not self._db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'task'").fetchone():
            return {}
        return {self._named(pool): known for pool, known in known_tasks(self._db).items() if self._has(pool)}

    def blocked_needs(self) -> Iterator[tuple[str, str, int, int]]:
        """What blocked jobs wait for: queue, task, version, and how many jobs."""
        if not self._db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'blocked'").fetchone():
            return
        for queue, task, version, jobs in map(_plain, self._db.execute(SQL.read_blocked_needs).fetchall()):
            if self._has(queue):
                yield self._named(queue), task, version, jobs

    def setting(self, name: str) -> int:
        """A stored number."""
        row = self._db.execute(SQL.meta_get, (name,)).fetchone()
        return int(row[0]) if row else 0

    def dead_matches(
        self, job_id: int, *, kind: str | None, text: str | None, before_ms: int | None, after_ms: int | None
    ) -> bool:
        """Whether a dead job's last error has this exception type, contains this text, and ended in this time."""
        finished_at, *errors = self._last_error(job_id)
        message, detail = errors
        facts = msgspec.json.decode(detail) if detail else {}
        return (
            (kind is None or facts.get("type") == kind)
            and (text is None or text in (message or "") or text in (facts.get("traceback") or ""))
            and (before_ms is None or finished_at < before_ms)
            and (after_ms is None or finished_at >= after_ms)
        )

    def _last_error(self, job_id: int) -> list[Any]:
        row = self._db.execute(SQL.read_last_error, (job_id,)).fetchone()
        return _plain(row) if row else [0, None, None]

    def consumers(self) -> list[dict[str, Any]]:
        """What consumers hold, lease by lease; none in a file of an earlier version."""
        if not self._db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'loan'").fetchone():
            return []
        found = [
            {
                "queue": self._named(queue), "consumer": name, "pid": pid, "state": "working", "token": token,
                "jobs": msgspec.json.decode(jobs), "since_at": instant(leased_at), "until_at": instant(until_at),
            }
            for queue, name, pid, token, leased_at, until_at, jobs in map(_plain, self._db.execute(SQL.read_loans))
            if self._has(queue)
        ]  # fmt: skip
        return sorted(found, key=lambda each: (each["queue"], each["consumer"], each["token"]))

    def _consumer(self, token: int) -> dict[str, Any] | None:
        row = self._db.execute(SQL.read_loan, (token,)).fetchone()
        if row is None:
            return None
        name, pid, until_at = _plain(row)
        return {"name": name, "pid": pid, "until_at": instant(until_at)}

    def _leased_among(self, rows: Sequence[Sequence[Any]]) -> dict[int, Sequence[Any]]:
        """What is leased; not looked up where all jobs are final."""
        if all(row[STATE] is not None for row in rows):
            return {}
        return {row[0]: row for row in self._db.execute(SQL.read_leased)}

    def _errors(self, job_id: int) -> Iterator[dict[str, Any]]:
        for attempt, at, kind, message, detail in map(_plain, self._db.execute(SQL.read_attempts, (job_id,))):
            known = msgspec.json.decode(detail) if detail else {}
            unknown = dict.fromkeys(DETAILS.get(kind, ()))
            yield {"attempt": attempt, "at": instant(at), "kind": kind, "message": message, **unknown, **known}

    def _present(self, row: Sequence[Any], leased: Mapping[int, Sequence[Any]]) -> dict[str, Any]:
        (job_id, queue, payload, priority, options, enqueued_at, due_at, state, attempt, token, started_at, finished_at,
         result, reason, failures, crashes, interruptions, trail_due_at, last_error, trailed, key,
         blocked) = row  # fmt: skip
        queue = self._named(queue)
        spec = self.queue_of(queue)
        own = msgspec.json.decode(options) if options else {}
        failures, crashes, interruptions = failures or 0, crashes or 0, interruptions or 0
        lease = leased.get(job_id)
        due = trail_due_at if trailed else due_at
        hidden = spec.redact if spec else ()
        if state is None:
            state = "running" if lease else "blocked" if blocked else "queued" if due is None else "scheduled"
            attempt = lease[4] if lease else failures + crashes
            token = lease[1] if lease else None
        return {
            "id": job_id,
            "queue": queue,
            "state": state,
            "payload": redact(read(payload), hidden) if payload is not None else None,
            "result": redact(read(result), hidden) if result is not None else None,
            "priority": priority,
            "key": key or None,
            "flow": own.get("flow"),
            "progress": None,
            "task": own.get("task"),
            "version": own.get("version"),
            "idempotency_key": own.get(IDEMPOTENCY_KEY),
            "tags": own.get("tags", []),
            "attempt": attempt,
            "max_attempts": own.get("max_attempts", spec.max_attempts if spec else None),
            "failures": failures,
            "crashes": crashes,
            "interruptions": interruptions,
            "token": token or None,
            "worker": {"slot": lease[2], "pid": lease[3]} if lease and lease[2] not in (None, NO_SLOT) else None,
            "consumer": self._consumer(lease[1]) if lease and lease[2] == NO_SLOT else None,
            "enqueued_at": instant(enqueued_at),
            "due_at": instant(due),
            "expires_at": instant(own.get("expires_at_ms")),
            "deadline_at": instant(own.get("deadline_at_ms")),
            "started_at": instant(started_at),
            "finished_at": instant(finished_at),
            "reason": reason,
            "error": last_error if state != "completed" else None,
        }


def _statement(queue: str | None, state: State | None) -> str:
    """What finds the ids of a listing."""
    match state:
        case None:
            found = SQL.read_queue if queue else SQL.read_all
        case State.QUEUED:
            found = SQL.read_queued_of if queue else SQL.read_queued
        case State.SCHEDULED:
            found = SQL.read_scheduled
        case State.RUNNING:
            found = SQL.read_running
        case State.COMPLETED:
            found = SQL.read_completed
        case State.DEAD | State.CANCELLED:
            found = SQL.read_ended
        case State.BLOCKED:
            found = SQL.read_blocked
    return found


def instant(ms: int | None) -> str | None:
    """An instant as RFC 3339 in UTC with milliseconds."""
    if ms is None:
        return None
    when = EPOCH + timedelta(milliseconds=ms)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(row: Sequence[Any]) -> list[Any]:
    """Text columns as text, whichever way the connection gives them."""
    return [plain_text(value) for value in row]


def connect_reader(path: str) -> Any:
    """A read-only connection for short transactions.

    Raises:
        NoDatabase: there is none.
        Denied: the caller may not read it.
        StoreError: it cannot be read.
    """
    real = os.path.realpath(path)
    if not os.path.exists(real):
        raise NoDatabase(f"{path}: there is no database yet", hint="start jobsupd, which makes it")
    if not os.path.isfile(real):  # a FIFO would be waited for
        raise StoreError(f"{path} is not a regular file")
    if not os.access(real, os.R_OK):
        raise Denied(f"{path}: not readable for this user", hint="run as the service's user, or as root")
    try:
        connection = sqlite3.connect(read_only(real), uri=True, timeout=5, isolation_level=None)
        connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT count(*) FROM meta").fetchone()
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}", hint="jobsctl doctor says more") from error
    return connection
