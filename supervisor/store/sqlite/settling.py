"""How a run ends: completed, final in another way, again later, or back where it was. Each asks for the open lease."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from supervisor.job import CHECKPOINTS_MAX, State
from supervisor.policy.discipline import BURY, SKIP
from supervisor.policy.settle import History
from supervisor.store.history import MINUTE_MS
from supervisor.store.protocol import SOLO, TRAILED, AttemptError, Completion, Facts, Held, OpenLease
from supervisor.store.sqlite.base import ZERO, encode, text
from supervisor.store.sqlite.cache import Lane
from supervisor.store.sqlite.letters import Letters
from supervisor.store.sqlite.measuring import Measuring
from supervisor.store.sqlite.statements import SQL

PLAIN_RUN_MS = 2**20
"""Completed first attempts without a result, of shorter runs than this, are written by one statement, each as one
number that holds start and run time: less than half the cost. complete_plain.sql takes the number apart."""


class Settling(Letters, Measuring):
    """The verbs of outcomes and verdicts."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._steps_kept: dict[int, int] = {}

    def complete(self, token: int, done: Sequence[Completion]) -> list[int]:
        """Record completions; returns the ids that were not in the open lease."""
        lease = self._cache.leases.get(token)
        if lease is None:
            return [job.id for job in done]
        held, rows, stale = lease.jobs, [], []
        limited = not self._cache.queues[lease.queue].discipline.plain
        plain: dict[int, int] = {}
        waits: list[int] = []
        runs: list[int] = []
        early: list[tuple[int, int, int]] = []
        minute_ms = self._minute * MINUTE_MS
        for job_id, started_at, finished_at, result in done:
            place = held.pop(job_id, None)
            run_ms = finished_at - started_at
            if place is None:
                stale.append(job_id)
                continue
            if limited:
                self._free(lease, place)
            if started_at >= minute_ms:
                waits.append(started_at - place.ready_at_ms)
                runs.append(run_ms)
            else:
                early.append((started_at, finished_at, place.ready_at_ms))
            if result is None and place.attempt == 1 and 0 <= run_ms < PLAIN_RUN_MS:
                plain[job_id] = started_at * PLAIN_RUN_MS + run_ms
            else:
                rows.append((job_id, place.attempt, token, started_at, finished_at, text(result)))
        if plain:
            self._db.execute(SQL.complete_plain, (token, encode(plain).decode()))
        self._db.executemany(SQL.complete, rows)
        self._ended(lease, State.COMPLETED, len(plain) + len(rows))
        if self._cache.has_checkpoints:
            self._db.execute(SQL.checkpoint_drop, (encode([*plain, *(row[0] for row in rows)]).decode(),))
        if self._cache.flows:
            self._note_completed(plain, rows)
        self._count_completed(lease, waits, runs, early)
        return stale

    def _note_completed(self, plain: Iterable[int], others: Sequence[tuple[Any, ...]]) -> None:
        """What comes after these is to hear of it: of some that there is no result, of others their rows."""
        get = self._cache.graph.get
        for job_id in plain:
            node = get(job_id)
            if node is not None:
                node.complete(None)
        for row in others:
            node = get(row[0])
            if node is not None:
                node.complete(row[5])
        self._note_final(plain)
        self._note_final(row[0] for row in others)

    def finish(
        self, token: int, job_id: int, state: State, started_at_ms: int | None, reason: str | None,
        history: History, error: AttemptError | None,
    ) -> bool:  # fmt: skip
        """Record any other end of a leased job; False if the lease does not hold it."""
        lease = self._cache.leases.get(token)
        place = lease.jobs.pop(job_id, None) if lease else None
        if lease is None or place is None:
            return False
        row = (job_id, state.value, place.attempt, token, started_at_ms, self._now_ms, reason)
        self._db.execute(SQL.finish, row)
        if error or history != ZERO:
            self._put_trail(job_id, history, place, None, error, solo=False)
        self._put_error(job_id, place.attempt, error)
        if state is State.DEAD:
            self._bar(lease, place, job_id)
            self._put_letter(job_id, lease.queue, self._now_ms, error, reason)
        self._freed(lease, place)
        self._ended(lease, state, 1)
        self._note_final((job_id,))
        return True

    def _bar(self, lease: OpenLease, place: Held, job_id: int) -> None:
        """Let a dead job stay in the way of its lane, or take the rest of it along, where order counts."""
        discipline = self._cache.queues[lease.queue].discipline
        if discipline.ordered and discipline.after_dead != SKIP:
            lane = self._held_lane(lease, place)
            lane.held = job_id
            lane.doom = job_id if discipline.after_dead == BURY else None
            self._changed_lane(lane)

    def _held_lane(self, lease: OpenLease, place: Held) -> Lane:
        return self._lane_by_id(place.lane) if place.lane else self._cache.queues[lease.queue].home

    def reschedule(
        self, token: int, job_id: int, due_at_ms: int, history: History, error: AttemptError | None, *, solo: bool
    ) -> bool:
        """Give a leased job a new time; False if the lease does not hold it."""
        lease = self._cache.leases.get(token)
        place = lease.jobs.pop(job_id, None) if lease else None
        if lease is None or place is None:
            return False
        self._put_trail(job_id, history, place, due_at_ms, error, solo=solo)
        self._put_error(job_id, place.attempt, error)
        self._db.execute(SQL.insert_scheduled, (due_at_ms, job_id))
        self._note_due(due_at_ms)
        self._rewritten.add(token)
        queue = self._cache.queues[lease.queue]
        self._waits_again(queue, job_id)
        if queue.discipline.ordered:
            lane = self._held_lane(lease, place)
            lane.held = job_id  # whoever comes after it waits for it
            self._changed_lane(lane)
        self._freed(lease, place)
        self._ended(lease, State.SCHEDULED, 1)
        return True

    def interrupt(
        self, token: int, job_id: int, history: History, error: AttemptError, *, solo: bool = False
    ) -> bool:  # fmt: skip
        """Hand a started job back to the place it had and count the interruption; `solo`: it is leased alone then."""
        lease = self._cache.leases.get(token)
        place = lease.jobs.pop(job_id, None) if lease else None
        if lease is None or place is None:
            return False
        solo = solo or place.mark == SOLO
        self._put_trail(job_id, history, place, None, error, solo=solo)
        self._put_error(job_id, place.attempt, error)
        mark = SOLO if solo else TRAILED
        lane = self._held_lane(lease, place)
        self._waits_again(self._cache.queues[lease.queue], job_id)
        self._db.execute(SQL.insert_ready, (lane.id, place.band, place.pos, job_id, mark))
        self._rewritten.add(token)
        self._freed(lease, place)
        self._ended(lease, State.QUEUED, 1)
        return True

    def checkpoint(self, token: int, job_id: int, name: str, value: bytes) -> bool:
        """Keep a value of a leased job for its later runs; False if the lease does not hold it, or it keeps enough."""
        lease = self._cache.leases.get(token)
        if lease is None or job_id not in lease.jobs:
            return False
        kept = self._db.execute(SQL.checkpoint_again, (self._now_ms, value.decode(), job_id, name)).rowcount
        if not kept and not self._has_room_for(job_id, name):
            return False
        if not kept:
            self._db.execute(SQL.checkpoint_put, (job_id, name, self._now_ms, value.decode()))
        self._cache.has_checkpoints = True
        return True

    def _has_room_for(self, job_id: int, name: str) -> bool:
        """Whether a job may keep another step; the cursor is none. They are counted once for all of a transaction."""
        if not name:
            return True
        if job_id not in self._steps_kept:
            self._steps_kept[job_id] = self._db.execute(SQL.checkpoint_count, (job_id,)).fetchone()[0]
        if self._steps_kept[job_id] >= CHECKPOINTS_MAX:
            return False
        self._steps_kept[job_id] += 1
        return True

    def facts(self, ids: Iterable[int]) -> dict[int, Facts]:
        """What decides about these jobs."""
        rows = self._db.execute(SQL.facts, (encode(list(ids)).decode(),))
        return {
            job_id: Facts(
                job_id, queue.decode(), priority, options, History(failures, crashes, broken), cancel_at, key.decode()
            )
            for job_id, queue, priority, options, failures, crashes, broken, cancel_at, key in rows
        }

    def count_stale(self, count: int) -> None:
        """Count reports that changed nothing."""
        self._db.execute(SQL.stale_add, (count,))
