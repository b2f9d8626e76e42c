"""What people and retention do to jobs that exist: look, cancel, revive, move, remove, pause."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from supervisor.job import Event, State, after
from supervisor.store.protocol import SOLO, TRAILED, Finished, Held, RankOf
from supervisor.store.sqlite.base import ZERO, encode
from supervisor.store.sqlite.expiring import Expiring
from supervisor.store.sqlite.statements import SQL


class Operating(Expiring):
    """The verbs of operations."""

    def cancel(self, job_id: int) -> State:
        """Cancel a job that is not final; a running one when its run ends. Returns the state it has now."""
        row, state = self._place(job_id)
        after(state, Event.CANCEL)
        if state is State.RUNNING:
            self._db.execute(SQL.trail_cancel, (job_id, self._now_ms))
            return state
        self._end_waiting([(row, state)], State.CANCELLED, "cancelled by a client")
        return State.CANCELLED

    def revive(self, job_id: int, rank_of: RankOf) -> None:
        """Make a final or scheduled job ready anew, with fresh budgets."""
        row, state = self._place(job_id)
        after(state, Event.REVIVE)
        if state is State.SCHEDULED:
            self._db.execute(SQL.due_remove, (row.due_at, job_id))
        else:
            self._drop_outcomes([job_id])
        rank = rank_of(row.queue.decode(), row.priority, self._take("next_sequence", 1))
        self._put_trail(job_id, ZERO, Held(*rank, TRAILED, 1), None, None, solo=False)
        self._db.execute(SQL.cancel_withdraw, (job_id,))
        self._db.execute(SQL.options_renew, (job_id, self._now_ms))
        self._db.execute(SQL.insert_ready, (row.lane, *rank, job_id, TRAILED))
        self._count(row.lane, state, -1)
        self._count(row.lane, State.QUEUED, 1)

    def _drop_outcomes(self, ids: Sequence[int]) -> None:
        """Delete outcomes, and take their jobs out of the open leases that still name them.

        A lease's row keeps the ids that ended with an outcome: without the outcome they would seem held.
        """
        listed = encode(ids).decode()
        tokens = {row[0] for row in self._db.execute(SQL.outcome_tokens, (listed,))}
        self._rewritten |= tokens
        self._touched |= tokens
        self._db.execute(SQL.prune_outcome, (listed,))

    def move(self, old: str, new: str, ids: Sequence[int], rank_of: RankOf) -> int:
        """Move jobs that are not running to another queue; returns how many could be moved."""
        target = self.lane_of(new)
        source = old.encode()
        moved = 0
        for row, state, _ in self._places(ids):
            if row.queue != source or state is State.RUNNING:
                continue
            self._db.execute(SQL.move_jobs, (row.id, target))
            if state is State.QUEUED:
                self._db.execute(SQL.ready_remove, (row.lane, row.band, row.pos, row.id))
                rank = rank_of(new, row.priority, self._take("next_sequence", 1))
                mark = SOLO if row.solo else TRAILED
                self._put_trail(row.id, row.history, Held(*rank, mark, 1), None, None, solo=bool(row.solo))
                self._db.execute(SQL.insert_ready, (target, *rank, row.id, mark))
            self._count(row.lane, state, -1)
            self._count(target, state, 1)
            moved += 1
        return moved

    def ids_of(self, queue: str, after_id: int, jobs_max: int) -> list[int]:
        """Ids of a queue's jobs in ascending order."""
        lane = self._cache.lanes.get(queue, 0)
        return [row[0] for row in self._db.execute(SQL.ids_of_lane, (lane, after_id, jobs_max))]

    def pause(self, queue: str, *, paused: bool) -> None:
        """Stop or resume leasing of a queue."""
        self.lane_of(queue)
        self._db.execute(SQL.lane_pause, (queue, int(paused)))
        (self._cache.paused.add if paused else self._cache.paused.discard)(queue)

    def paused(self, queue: str) -> bool:
        """Whether the queue is paused."""
        return queue in self._cache.paused

    def finished_after(self, job_id: int, jobs_max: int) -> list[Finished]:
        """Final jobs in the order of their ids."""
        return _finished(self._db.execute(SQL.finished_after, (job_id, jobs_max)))

    def dead_after(self, job_id: int, jobs_max: int) -> list[Finished]:
        """Dead jobs in the order of their ids."""
        return _finished(self._db.execute(SQL.ended_after, (State.DEAD.value, job_id, jobs_max)))

    def remove(self, ids: Sequence[int]) -> int:
        """Delete final jobs with all that is known of them; returns how many."""
        final = [standing for standing in self.standing(ids).values() if standing.state.final]
        found = [standing.id for standing in final]
        self._drop_outcomes(found)
        listed = encode(found).decode()
        for statement in (SQL.prune_attempt, SQL.prune_trail, SQL.prune_job):
            self._db.execute(statement, (listed,))
        for standing in final:
            self._count(self._cache.lanes[standing.queue], standing.state, -1)
        return len(final)

    def setting(self, name: str) -> int:
        """A stored number."""
        return int(self._db.execute(SQL.meta_get, (name,)).fetchone()[0])

    def set_setting(self, name: str, value: int) -> None:
        """Store a number."""
        self._db.execute(SQL.sequences_set, (name, value))

    def counts(self) -> dict[str, dict[State, int]]:
        """Jobs by queue and state."""
        found: dict[str, dict[State, int]] = {queue: dict.fromkeys(State, 0) for queue in self._cache.lanes}
        for queue, state, jobs in self._db.execute(SQL.tally).fetchall():
            found[queue.decode()][State(state.decode())] = jobs
        for (lane, name), jobs in self._tally.items():
            found[self._cache.queues[lane]][State(name)] += jobs
        return found


def _finished(rows: Any) -> list[Finished]:
    return [Finished(found, queue.decode(), State(state.decode()), ended_at) for found, queue, state, ended_at in rows]
