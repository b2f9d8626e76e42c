"""A queue as plainly as it can be said: dictionaries and lists, no tokens to guard, no rows, no cache.

It is what the store is compared with, so it shares no code with it; only the words of `supervisor.job`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from supervisor.job import State

DAY_MS = 86_400_000


class Refused(Exception):
    """The job is in a state that does not allow this."""


class Unknown(Exception):
    """There is no such job."""


def renewed(options: bytes | None, now: int) -> bytes:
    """Budgets of time begin anew with a job that was revived; what was over for it is forgotten."""
    kept = {name: value for name, value in json.loads(options or b"{}").items() if name != "since_ms"}
    return json.dumps(kept | {"since_ms": now}, separators=(",", ":")).encode()


@dataclass
class ModelJob:
    """A job, and everything that happened to it."""

    id: int
    queue: str
    payload: bytes
    priority: int
    options: bytes | None
    enqueued_at: int
    due_at: int | None
    state: State
    turn: int = 0
    """When it became ready, among all jobs: what the orders go by."""
    time: int = 0
    """When it is due, if it is scheduled; when it ended, if it is final."""
    holder: int | None = None
    """The token of the lease that holds it, if it is running."""
    spent: tuple[int, int, int] = (0, 0, 0)
    """Failures, crashes, interruptions."""
    solo: bool = False
    last_error: str | None = None
    errors: list[tuple[int, str]] = field(default_factory=list)
    cancel_at: int | None = None
    need: tuple[str, int] | None = None
    """The task and version that it waits for, if it is blocked."""
    ended_in: int = 0
    """The attempt in which it reached the final state that it is in."""

    @property
    def attempt(self) -> int:
        return 1 + self.spent[0] + self.spent[1]

    @property
    def shown_attempt(self) -> int:
        """What people are told: the attempt that runs, or the last one that did."""
        if self.state.final:
            return self.ended_in
        return self.attempt if self.state is State.RUNNING else self.attempt - 1


@dataclass
class ModelLease:
    owner: int
    queue: str
    ids: list[int]


@dataclass
class Model:
    """All jobs of all queues. `orders` says how each queue orders its jobs."""

    orders: dict[str, str]
    now: int = 0
    jobs: dict[int, ModelJob] = field(default_factory=dict)
    leases: dict[int, ModelLease] = field(default_factory=dict)
    keys: dict[str, tuple[int, list[int]]] = field(default_factory=dict)
    owners: dict[int, list[Any]] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    settings: dict[str, int] = field(default_factory=lambda: {"stale": 0, "prune_after": 0})
    next_id: int = 1
    turns: int = 0

    # -- waiting -----------------------------------------------------------------------------------------------

    def ready(self, queue: str) -> list[ModelJob]:
        """The waiting jobs of a queue in the order in which they are to be handed out."""
        waiting = [job for job in self.jobs.values() if job.queue == queue and job.state is State.QUEUED]
        if self.orders[queue] == "lifo":
            return sorted(waiting, key=lambda job: job.turn, reverse=True)
        waiting.sort(key=lambda job: job.turn)
        if self.orders[queue] == "priority":
            waiting.sort(key=lambda job: job.priority, reverse=True)
        return waiting

    def arrive(self, job: ModelJob) -> None:
        """The job becomes ready, behind (or before) all that did so earlier."""
        self.turns += 1
        job.turn, job.state = self.turns, State.QUEUED

    # -- verbs -------------------------------------------------------------------------------------------------

    def reserve(self, count: int) -> list[int]:
        ids = list(range(self.next_id, self.next_id + count))
        self.next_id += count
        return ids

    def insert(
        self, queue: str, jobs: Sequence[tuple[bytes, int, int | None, bytes | None]], key: str | None,
        ids: list[int] | None,
    ) -> tuple[list[int], list[State], bool]:  # fmt: skip
        if key and key in self.keys:
            found = self.keys[key][1]
            gone = State.COMPLETED
            return found, [self.jobs[i].state if i in self.jobs else gone for i in found], True
        ids = self.reserve(len(jobs)) if ids is None else ids
        for job_id, (payload, priority, due_at, options) in zip(ids, jobs, strict=True):
            later = due_at is not None and due_at > self.now
            job = ModelJob(
                job_id, queue, payload, priority, options, self.now, due_at if later else None, State.SCHEDULED,
                time=due_at or 0,
            )  # fmt: skip
            self.jobs[job_id] = job
            if not later:
                self.arrive(job)
        if key:
            self.keys[key] = (self.now, ids)
        return ids, [self.jobs[i].state for i in ids], False

    def lease(self, queue: str, owner: int, token: int, jobs_max: int, bytes_max: int, solo: bool) -> list[ModelJob]:
        """What is handed out under this token; nothing if the queue is paused or empty."""
        taken = [] if queue in self.paused else self._first(queue, jobs_max, bytes_max)
        if not taken or (taken[0].solo and not solo):
            return []
        for job in taken:
            job.state, job.holder = State.RUNNING, token
        self.leases[token] = ModelLease(owner, queue, [job.id for job in taken])
        return taken

    def _first(self, queue: str, jobs_max: int, bytes_max: int) -> list[ModelJob]:
        taken: list[ModelJob] = []
        for job in self.ready(queue)[:jobs_max]:
            too_big = sum(len(other.payload) for other in taken) + len(job.payload) > bytes_max
            if taken and (job.solo or taken[0].solo or too_big):
                break
            taken.append(job)
        return taken

    def held(self, token: int) -> list[ModelJob]:
        """What the lease still holds, in the order in which it was handed out."""
        lease = self.leases.get(token)
        jobs = [self.jobs[i] for i in lease.ids if i in self.jobs] if lease else []
        return [job for job in jobs if job.state is State.RUNNING and job.holder == token]

    def end(self, token: int, job_id: int) -> ModelJob | None:
        """The job, taken out of the lease; None if the lease does not hold it: then nothing may change."""
        job = self.jobs.get(job_id)
        if job is None or job not in self.held(token):
            return None
        job.holder = None
        return job

    def complete(self, token: int, ids: Sequence[int], finished_at: int) -> list[int]:
        stale = []
        for job_id in ids:
            job = self.end(token, job_id)
            if job is None:
                stale.append(job_id)
            else:
                job.state, job.time, job.ended_in = State.COMPLETED, finished_at, job.attempt
        return stale

    def finish(
        self, token: int, job_id: int, state: State, spent: tuple[int, int, int], error: tuple[str, str] | None
    ) -> bool:
        job = self.end(token, job_id)
        if job is None:
            return False
        job.ended_in = job.attempt
        self.blame(job, error, spent)
        job.state, job.time = state, self.now
        return True

    def reschedule(
        self, token: int, job_id: int, due: int, spent: tuple[int, int, int], error: tuple[str, str] | None, solo: bool
    ) -> bool:
        job = self.end(token, job_id)
        if job is None:
            return False
        self.blame(job, error, spent)
        job.state, job.time, job.solo = State.SCHEDULED, due, solo
        return True

    def release(self, token: int, ids: Sequence[int]) -> list[int]:
        back = []
        for job_id in ids:
            job = self.end(token, job_id)
            if job:
                job.state = State.QUEUED
                back.append(job_id)
        return back

    def park(self, token: int, job_id: int, need: tuple[str, int]) -> bool:
        job = self.end(token, job_id)
        if job is None:
            return False
        job.state, job.need = State.BLOCKED, need
        return True

    def unblock(self, queue: str, need: tuple[str, int], jobs_max: int) -> int:
        """Jobs that wait for this become ready, the oldest first, behind all that wait already."""
        blocked = [job for _, job in sorted(self.jobs.items()) if job.state is State.BLOCKED and job.queue == queue]
        chosen = [job for job in blocked if job.need == need][:jobs_max]
        for job in chosen:
            self.arrive(job)
        return len(chosen)

    def needs(self) -> dict[str, set[tuple[str, int]]]:
        found: dict[str, set[tuple[str, int]]] = {}
        for job in self.jobs.values():
            if job.state is State.BLOCKED and job.need:
                found.setdefault(job.queue, set()).add(job.need)
        return found

    def interrupt(self, token: int, job_id: int, spent: tuple[int, int, int], error: tuple[str, str]) -> bool:
        job = self.end(token, job_id)
        if job is None:
            return False
        self.blame(job, error, spent)
        job.state = State.QUEUED
        return True

    def blame(self, job: ModelJob, error: tuple[str, str] | None, spent: tuple[int, int, int]) -> None:
        if error:
            job.errors.append((job.attempt, error[0]))
            job.last_error = error[1]
        job.spent = spent

    def promote(self, jobs_max: int) -> int:
        due = [job for job in self.jobs.values() if job.state is State.SCHEDULED and job.time <= self.now]
        due.sort(key=lambda job: (job.time, job.id))
        for job in due[:jobs_max]:
            self.arrive(job)
        return len(due[:jobs_max])

    def next_due(self) -> int | None:
        return min((job.time for job in self.jobs.values() if job.state is State.SCHEDULED), default=None)

    def cancel(self, job_id: int) -> State:
        job = self.known(job_id)
        if job.state.final:
            raise Refused
        if job.state is State.RUNNING:
            job.cancel_at = self.now
        else:
            job.state, job.time, job.ended_in = State.CANCELLED, self.now, job.attempt - 1
        return job.state

    def revive(self, job_id: int) -> None:
        job = self.known(job_id)
        if job.state in (State.QUEUED, State.RUNNING, State.BLOCKED):
            raise Refused
        job.spent, job.solo, job.cancel_at = (0, 0, 0), False, None
        job.options = renewed(job.options, self.now)
        self.arrive(job)

    def known(self, job_id: int) -> ModelJob:
        if job_id not in self.jobs:
            raise Unknown
        return self.jobs[job_id]

    def move(self, old: str, new: str, ids: Sequence[int]) -> int:
        movable = [
            self.jobs[job_id]
            for job_id in dict.fromkeys(ids)
            if job_id in self.jobs and self.jobs[job_id].queue == old and self.jobs[job_id].state is not State.RUNNING
        ]
        for job in movable:
            job.queue = new
            if job.state is State.QUEUED:
                self.arrive(job)
        return len(movable)

    def remove(self, ids: Sequence[int]) -> int:
        final = {i for i in ids if i in self.jobs and self.jobs[i].state.final}
        for job_id in final:
            del self.jobs[job_id]
        return len(final)

    def forget_requests(self, before: int, rows_max: int) -> int:
        oldest = list(self.keys)[:rows_max]
        forgotten = [key for key in oldest if self.keys[key][0] < before or self.keys[key][0] > self.now + DAY_MS]
        for key in forgotten:
            del self.keys[key]
        return len(forgotten)

    # -- what must always hold ---------------------------------------------------------------------------------

    def open_leases(self) -> dict[int, list[int]]:
        found = {token: [job.id for job in self.held(token)] for token in self.leases}
        return {token: ids for token, ids in found.items() if ids}

    def counts(self) -> dict[tuple[str, State], int]:
        found: dict[tuple[str, State], int] = {}
        for job in self.jobs.values():
            found[job.queue, job.state] = found.get((job.queue, job.state), 0) + 1
        return found

    def final(self) -> Iterator[ModelJob]:
        return (self.jobs[job_id] for job_id in sorted(self.jobs) if self.jobs[job_id].state.final)
