"""How a run ends: completed, final in another way, again later, or back where it was. Each asks for the open lease."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from supervisor.job import State
from supervisor.policy.settle import History
from supervisor.store.history import MINUTE_MS
from supervisor.store.protocol import SOLO, TRAILED, AttemptError, Completion, Facts
from supervisor.store.sqlite.base import ZERO, encode, text
from supervisor.store.sqlite.letters import Letters
from supervisor.store.sqlite.measuring import Measuring
from supervisor.store.sqlite.statements import SQL

PLAIN_RUN_MS = 2**20
"""Completed first attempts without a result, of shorter runs than this, are written by one statement, each as one
number that holds start and run time: less than half the cost. complete_plain.sql takes the number apart."""


class Settling(Letters, Measuring):
    """The verbs of outcomes and verdicts."""

    def complete(self, token: int, done: Sequence[Completion]) -> list[int]:
        """Record completions; returns the ids that were not in the open lease."""
        lease = self._cache.leases.get(token)
        if lease is None:
            return [job.id for job in done]
        held, rows, stale = lease.jobs, [], []
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
        self._count_completed(lease, waits, runs, early)
        return stale

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
            self._put_letter(job_id, self._cache.queues[lease.lane], self._now_ms, error, reason)
        self._ended(lease, state, 1)
        return True

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
        self._ended(lease, State.SCHEDULED, 1)
        return True

    def interrupt(self, token: int, job_id: int, history: History, error: AttemptError) -> bool:
        """Hand a started job back to the place it had and count the interruption."""
        lease = self._cache.leases.get(token)
        place = lease.jobs.pop(job_id, None) if lease else None
        if lease is None or place is None:
            return False
        solo = place.mark == SOLO
        self._put_trail(job_id, history, place, None, error, solo=solo)
        self._put_error(job_id, place.attempt, error)
        mark = SOLO if solo else TRAILED
        self._db.execute(SQL.insert_ready, (lease.lane, place.band, place.pos, job_id, mark))
        self._rewritten.add(token)
        self._ended(lease, State.QUEUED, 1)
        return True

    def facts(self, ids: Iterable[int]) -> dict[int, Facts]:
        """What decides about these jobs."""
        rows = self._db.execute(SQL.facts, (encode(list(ids)).decode(),))
        return {
            job_id: Facts(job_id, queue.decode(), priority, options, History(failures, crashes, broken), cancel_at)
            for job_id, queue, priority, options, failures, crashes, broken, cancel_at in rows
        }

    def count_stale(self, count: int) -> None:
        """Count reports that changed nothing."""
        self._db.execute(SQL.stale_add, (count,))
