"""Why a job is not running, as far as the rows say: one consistent read, the reason that comes first first.

What is asked here is what a lease asks, in its order: is the queue let, is the job's key let, do the limits of the key
have room, do those of the queue. Nothing is remembered and nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from supervisor.job import State
from supervisor.policy.discipline import Discipline, Limit
from supervisor.policy.rank import Rank, Turn, turn
from supervisor.policy.rate import Bucket, free_at_ms
from supervisor.policy.reason import Reason
from supervisor.store.driver import plain_text
from supervisor.store.protocol import NO_SLOT
from supervisor.store.sqlite.cache import Gate, gates_of, lane_gates
from supervisor.store.sqlite.statements import SQL
from supervisor.store.sqlite.steps import SIGNAL

COUNT_MAX = 10_000
"""So many that come first are counted; of more it is said that they are more."""

LANES_MAX = 256
"""So many of the lanes that come first are asked whether their first job costs more than their limits let through."""


class Job(NamedTuple):
    """A job and where it stands: a row of explain_job.sql."""

    id: int
    queue_id: int
    queue: str
    paused: int
    lane: int
    key: str
    lane_paused: int
    held: int | None
    doom: int | None
    a: int | None
    b: int | None
    c: int | None
    outcome: str | None
    reason: str | None
    due_at: int | None
    band: int
    pos: int
    options: str | None
    last_error: str | None
    attempts: int
    ready: int
    task: str | None
    version: int | None
    waits: int | None

    @property
    def cost(self) -> int:
        """What it takes of a rate."""
        return cost_of(self.options)


def cost_of(options: str | bytes | None) -> int:
    """What a job with these options takes of a rate."""
    return int(msgspec.json.decode(options).get("cost", 1)) if options else 1


def _job(row: tuple[Any, ...]) -> Job:
    return Job._make(map(plain_text, row))


class Explained(NamedTuple):
    """Where a job stands, and every reason why it does not run; none: it could be handed out."""

    queue: str
    key: str
    state: State
    reasons: list[Reason]


class Explainer:
    """Answers for one job, inside one transaction of the caller's."""

    def __init__(self, db: Any, discipline_of: Callable[[str], Discipline], now_ms: int) -> None:
        self._db = db
        self._discipline_of = discipline_of
        self._now_ms = now_ms
        self._held: dict[Gate, list[int]] | None = None

    def explain(self, job_id: int) -> Explained | None:
        """Why this job is not running; None if there is none of that id."""
        row = self._db.execute(SQL.explain_job, (job_id,)).fetchone()
        if row is None:
            return None
        job = _job(row)
        if job.outcome is not None:
            facts = {"state": job.outcome, "reason": job.reason, "error": job.last_error}
            return Explained(job.queue, job.key, State(job.outcome), [Reason("final", facts)])
        if job.task is not None:
            return Explained(job.queue, job.key, State.BLOCKED, [self._waits_for(job)])
        if not job.ready and job.due_at is None:
            return Explained(job.queue, job.key, State.RUNNING, [self._lease(job_id)])
        if job.due_at is not None:
            return Explained(job.queue, job.key, State.SCHEDULED, [self._due(job)])
        return Explained(job.queue, job.key, State.QUEUED, list(self._waits(job)))

    def _due(self, job: Job) -> Reason:
        assert job.due_at is not None
        facts = {"due_at_ms": job.due_at, "in_ms": job.due_at - self._now_ms}
        return Reason("due_later", {**facts, "attempt": job.attempts + 1, "error": job.last_error})

    def _lease(self, job_id: int) -> Reason:
        """Who has a running job: a worker, or a consumer until a time."""
        token, slot = self._db.execute(SQL.explain_lease, (job_id,)).fetchone() or (None, None)
        if slot != NO_SLOT:
            return Reason("handed_out", {"token": token})
        consumer, until_ms = self._db.execute(SQL.explain_loan, (token,)).fetchone()
        facts = {"consumer": plain_text(consumer), "token": token, "until_at_ms": until_ms}
        return Reason("consumer", {**facts, "in_ms": until_ms - self._now_ms})

    def _waits(self, job: Job) -> Iterator[Reason]:
        discipline = self._discipline_of(job.queue)
        if job.paused:
            yield Reason("paused", {"queue": job.queue})
        yield from self._shut((f"queue:{job.queue}", ""))
        yield from self._line(job, discipline)
        yield from self._limits(lane_gates(discipline, job.key), job.cost)
        if job.key:
            yield from self._shut((f"key:{job.queue}", job.key))
        yield from self._limits([((limit.name, ""), limit) for limit in discipline.limits], job.cost)
        yield from self._others(job, discipline)

    def _shut(self, gate: Gate) -> Iterator[Reason]:
        until_ms = self._bucket(gate).shut_until_ms
        if until_ms > self._now_ms:
            facts = {"key": gate[1], "until_at_ms": until_ms, "in_ms": until_ms - self._now_ms}
            yield Reason("shut", facts)

    def _line(self, job: Job, discipline: Discipline) -> Iterator[Reason]:
        where = {"queue": job.queue, "key": job.key}
        if job.lane_paused:
            yield Reason("key_paused", where)
        if job.doom is not None:
            yield Reason("doomed", {**where, "job": job.doom})
        elif job.held is not None and discipline.ordered:
            yield Reason("held", {**where, "job": job.held, **self._holder(job.held)})
        count = self._ahead(job)
        if count and job.key:
            yield Reason("behind_key", {**where, "count": min(count, COUNT_MAX), "more": count > COUNT_MAX})

    def _holder(self, job_id: int) -> dict[str, Any]:
        row = self._db.execute(SQL.explain_job, (job_id,)).fetchone()
        if row is None:
            return {"state": "deleted", "in_ms": None}
        holder = _job(row)
        if holder.outcome is not None:
            return {"state": holder.outcome, "in_ms": None}
        if holder.task is not None:
            return {"state": "blocked", "in_ms": None}
        if holder.ready:
            return {"state": "queued", "in_ms": None}
        in_ms = None if holder.due_at is None else holder.due_at - self._now_ms
        return {"state": "scheduled" if in_ms is not None else "running", "in_ms": in_ms}

    def _waits_for(self, job: Job) -> Reason:
        """The code that a blocked job waits for; of a step of a flow the first steps and signals."""
        if not job.waits:
            return Reason("no_code", {"queue": job.queue, "task": job.task, "version": job.version})
        rows = self._db.execute(SQL.explain_waits, (job.id,)).fetchall()
        signals = [plain_text(name) for _, kind, name, _ in rows if kind == SIGNAL]
        steps = [{"id": step, "name": plain_text(name)} for step, kind, name, _ in rows if kind != SIGNAL]
        return Reason("steps", {"count": job.waits, "steps": steps, "signals": signals})

    def _ahead(self, job: Job) -> int:
        """Ready jobs of its lane that come first; one more than `COUNT_MAX` stands for more."""
        found = self._db.execute(SQL.explain_ahead, (job.lane, job.band, job.pos, job.id, COUNT_MAX + 1)).fetchone()
        return int(found[0])

    def _limits(self, limits: list[tuple[Gate, Limit]], cost: int) -> Iterator[Reason]:
        for gate, limit in limits:
            facts = {"name": limit.name, "key": gate[1]}
            if limit.concurrency is not None and len(holders := self._holders(gate)) >= limit.concurrency:
                once = list(dict.fromkeys(holders))  # a job has two slots where rules name a limit twice
                yield Reason("slots", {**facts, "limit": limit.concurrency, "jobs": once})
            if limit.rate is None:
                continue
            spent = self._bucket(gate)._replace(shut_until_ms=0)  # that a handler shut it is a reason of its own
            until_ms = free_at_ms(limit.rate, spent, cost, self._now_ms)
            if until_ms > self._now_ms:
                numbers = {"limit": limit.rate.limit, "period_ms": limit.rate.period_ms}
                yield Reason("rate", {**facts, **numbers, "until_at_ms": until_ms, "in_ms": until_ms - self._now_ms})

    def _holders(self, gate: Gate) -> list[int]:
        """The leased jobs that count for a limit."""
        if self._held is None:
            self._held = {}
            for job_id, queue, key in self._db.execute(SQL.explain_leased).fetchall():
                for passed, _ in gates_of(self._discipline_of(plain_text(queue)), plain_text(key)):
                    self._held.setdefault(passed, []).append(job_id)
        return self._held.get(gate, [])

    def _bucket(self, gate: Gate) -> Bucket:
        row = self._db.execute(SQL.explain_bucket, gate).fetchone()
        return msgspec.json.decode(row[0], type=Bucket) if row else Bucket()

    def _others(self, job: Job, discipline: Discipline) -> Iterator[Reason]:
        """What comes first of the queue, seen from the first job of a lane."""
        if not job.key:
            count = self._ahead(job)
            if count:
                yield Reason("behind", {"count": min(count, COUNT_MAX), "more": count > COUNT_MAX})
        lanes = self._lanes_ahead(job, discipline)
        if lanes:
            yield Reason("behind_lanes", {"count": lanes})

    def _lanes_ahead(self, job: Job, discipline: Discipline) -> int:
        """Lanes whose first job has an earlier turn and could be handed out."""
        at = self._turn(job, discipline)
        place = (job.queue_id, *at, job.lane)
        count = int(self._db.execute(SQL.explain_turns, (*place, COUNT_MAX)).fetchone()[0])
        if discipline.key_limits:
            rows = self._db.execute(SQL.explain_first, (*place, LANES_MAX)).fetchall()
            count -= sum(not self._lets(discipline, plain_text(key), cost_of(options)) for key, options in rows)
        return count + bool(job.key and self._home_comes_first(job, discipline, at))

    def _lets(self, discipline: Discipline, key: str, cost: int) -> bool:
        """Whether the limits of a key let a job through that costs so much."""
        return not any(self._limits(lane_gates(discipline, key), cost))

    def _home_comes_first(self, job: Job, discipline: Discipline, at: Turn) -> bool:
        """Whether jobs without a key have an earlier turn than a key."""
        row = self._db.execute(SQL.explain_home, (job.queue_id,)).fetchone()
        if row is None:
            return False
        lane, band, pos, options, vtime, present, shut, held = row
        if shut or (discipline.ordered and held is not None) or not self._lets(discipline, "", cost_of(options)):
            return False
        used = vtime if present else max(vtime, self._clock(job.queue_id))
        return (turn(discipline.order, used, Rank(band, pos)), lane) < (at, job.lane)

    def _turn(self, job: Job, discipline: Discipline) -> Turn:
        """The turn of its lane; that of one without a turn follows from its first job, as far as it can be told."""
        if job.a is not None and job.b is not None and job.c is not None:
            return job.a, job.b, job.c
        used = int(self._db.execute(SQL.lane_get, (job.lane,)).fetchone()[4])
        if job.key or not job.b:  # it is not in line: when it comes back, it has saved nothing up
            used = max(used, self._clock(job.queue_id))
        return turn(discipline.order, used, Rank(job.band, job.pos))

    def _clock(self, queue_id: int) -> int:
        """The virtual time of a queue."""
        return int(self._db.execute(SQL.explain_clock, (queue_id,)).fetchone()[0])
