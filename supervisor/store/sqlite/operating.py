"""What people and retention do to jobs that exist: look, cancel, revive, move, remove, pause."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from supervisor.errors import NotUnique
from supervisor.job import WAITING, Event, State, after
from supervisor.policy.rank import HELD_BAND, Rank, rank
from supervisor.store.protocol import SOLO, TRAILED, Finished, Held
from supervisor.store.sqlite.base import ZERO, Place, encode
from supervisor.store.sqlite.cache import Lane, QueueRow
from supervisor.store.sqlite.idempotency import Idempotency
from supervisor.store.sqlite.letters import Letters
from supervisor.store.sqlite.measuring import Measuring
from supervisor.store.sqlite.statements import SQL
from supervisor.store.sqlite.steps import Steps
from supervisor.store.sqlite.uniqueness import Uniqueness


class Operating(Steps, Uniqueness, Idempotency, Letters, Measuring):
    """The verbs of operations."""

    def cancel(self, job_id: int) -> State:
        """Cancel a job that is not final; a running one when its run ends. Returns the state it has now."""
        row, state = self._place(job_id)
        after(state, Event.CANCEL)
        if state is State.RUNNING:
            self._db.execute(SQL.trail_cancel, (job_id, self._now_ms))
            return state
        self._withdraw(row, state, "cancelled by a client")
        return State.CANCELLED

    def withdraw(self, job_id: int, reason: str) -> bool:
        """Cancel a job that waits, for a reason of ours; False if it does not wait."""
        found = self._places([job_id])
        if not found or found[0][1] not in WAITING:
            return False
        self._withdraw(*found[0][:2], reason)
        return True

    def _withdraw(self, row: Place, state: State, reason: str, final: State = State.CANCELLED) -> None:
        self._unplace(row, state)
        ended = (row.id, final.value, row.history.attempt - 1, 0, None, self._now_ms, reason)
        self._db.execute(SQL.finish, ended)
        queue = self._cache.queues[row.queue.decode()]
        self._count_names(queue.name, (final.value,))
        if final is State.DEAD:
            self._put_letter(row.id, queue.name, self._now_ms, None, reason)
        self._let_go(row)
        self._count(queue, state, -1)
        self._count(queue, final, 1)
        self._note_final((row.id,))

    def _let_go(self, row: Place) -> None:
        """A job that held its lane holds it no more."""
        lane = self._lane_of(row)
        if row.id in (lane.held, lane.doom):
            lane.held = lane.doom = None
            self._changed_lane(lane)

    def revive(self, job_id: int) -> None:
        """Make a final or scheduled job ready anew, with fresh budgets; whoever held its lane comes first in it.

        A step of a flow waits for what it comes after, as far as that has not ended.

        Raises:
            UnknownJob: there is none of that id.
            IllegalTransition: it waits or runs; nothing was changed.
            NotUnique: another job that counts as the same is in its way; nothing was changed.
        """
        row, state = self._place(job_id)
        if state.final and (waits := self._open_edges_into(job_id)):
            self._revive_blocked(row, waits)
            return
        after(state, Event.REVIVE)
        if state is State.SCHEDULED:
            self._db.execute(SQL.due_remove, (row.due_at, job_id))
        else:
            self._compete(row)
            self._reopen([job_id])
            self._drop_outcomes([job_id])
        queue = self._cache.queues[row.queue.decode()]
        lane, sequence = self._lane_of(row), self._sequence(1)
        place = (
            Rank(HELD_BAND, sequence) if lane.held == job_id else rank(queue.discipline.order, row.priority, sequence)
        )
        self._let_go(row)
        self._waits_again(queue, job_id)
        self._put_trail(job_id, ZERO, Held(*place, TRAILED, 1), None, None, solo=False)
        self._db.execute(SQL.trail_ready, (job_id, self._now_ms))
        self._db.execute(SQL.cancel_withdraw, (job_id,))
        self._db.execute(SQL.options_renew, (job_id, self._now_ms))
        self._db.execute(SQL.insert_ready, (row.lane, *place, job_id, TRAILED))
        self._mark(lane)
        self._count(queue, state, -1)
        self._count(queue, State.QUEUED, 1)

    def _revive_blocked(self, row: Place, waits: int) -> None:
        _, state = self._place(row.id)
        after(state, Event.REVIVE_BLOCKED)
        self._compete(row)
        self._reopen([row.id])
        self._drop_outcomes([row.id])
        queue = self._cache.queues[row.queue.decode()]
        self._let_go(row)
        place = rank(queue.discipline.order, row.priority, self._sequence(1))
        self._waits_again(queue, row.id)
        self._put_trail(row.id, ZERO, Held(*place, TRAILED, 1), None, None, solo=False)
        self._db.execute(SQL.cancel_withdraw, (row.id,))
        self._db.execute(SQL.options_renew, (row.id, self._now_ms))
        self._db.execute(SQL.blocked_put, (row.id, queue.id, "", 0, waits))
        self._count(queue, state, -1)
        self._count(queue, State.BLOCKED, 1)

    def _drop_outcomes(self, ids: Sequence[int]) -> None:
        """Delete outcomes, and take their jobs out of the open leases that still name them.

        A lease's row keeps the ids that ended with an outcome: without the outcome they would seem held.
        """
        listed = encode(ids).decode()
        tokens = {row[0] for row in self._db.execute(SQL.outcome_tokens, (listed,))}
        self._rewritten |= tokens
        self._touched |= tokens
        self._drop_letters(ids)
        self._db.execute(SQL.prune_outcome, (listed,))

    def move(
        self, old: str, new: str, ids: Sequence[int], *, payload: bytes | None = None, task: str | None = None
    ) -> int:
        """Move jobs that are not running to another queue; returns how many could be moved. Each keeps its key.

        One that the other queue has already, where they must be unique, stays. `payload` and `task`: what it is about
        to become.
        """
        target, source = self._queue(new), old.encode()
        moved = 0
        for row, state, _ in self._places(ids):
            if row.queue != source or state is State.RUNNING or not self._fits(row, state, new, payload, task):
                continue
            origin, left = self._cache.queues[old], self._lane_of(row)
            self._let_go(row)
            lane = self._lane(target, left.key)
            self._db.execute(SQL.move_jobs, (row.id, target.id, lane.id))
            if state is State.QUEUED:
                self._rank_moved(row, target, lane)
            if state is State.DEAD:
                self._move_letter(row.id, new)
            if state is State.BLOCKED:
                self._db.execute(SQL.blocked_move, (row.id, target.id))
            self._waits_again(target, row.id)
            self._recount(left, -1)
            self._recount(lane, 1)
            self._count(origin, state, -1)
            self._count(target, state, 1)
            moved += 1
        return moved

    def _fits(self, row: Place, state: State, queue: str, payload: bytes | None, task: str | None) -> bool:
        """Whether another queue takes the job; then it is in the way there."""
        if state.final:
            return True
        try:
            self._compete(row, queue=queue, payload=payload, task=task)
        except NotUnique:
            return False
        return True

    def _rank_moved(self, row: Place, queue: QueueRow, lane: Lane) -> None:
        self._db.execute(SQL.ready_remove, (row.lane, row.band, row.pos, row.id))
        place = rank(queue.discipline.order, row.priority, self._sequence(1))
        mark = SOLO if row.solo else TRAILED
        self._put_trail(row.id, row.history, Held(*place, mark, 1), None, None, solo=bool(row.solo))
        self._db.execute(SQL.insert_ready, (lane.id, *place, row.id, mark))

    def _recount(self, lane: Lane, jobs: int) -> None:
        """A lane of a key has so many more jobs; one that has none is forgotten."""
        if lane.key:
            lane.jobs += jobs
            self._changed_lane(lane)

    def ids_of(self, queue: str, after_id: int, jobs_max: int) -> list[int]:
        """Ids of a queue's jobs in ascending order."""
        row = self._cache.queues.get(queue)
        found = self._db.execute(SQL.ids_of_queue, (row.id if row else 0, after_id, jobs_max))
        return [each[0] for each in found]

    def pause(self, queue: str, *, paused: bool) -> None:
        """Stop or resume leasing of a queue."""
        row = self._queue(queue)
        row.paused = int(paused)
        self._changed_queues[row.id] = row
        if paused:
            self._cache.rest(row)
        else:
            self._cache.wake(row)

    def paused(self, queue: str) -> bool:
        """Whether the queue is paused."""
        row = self._cache.queues.get(queue)
        return row is not None and bool(row.paused)

    def finished_after(self, job_id: int, jobs_max: int, before_ms: int) -> tuple[list[Finished], int]:
        """Of so many final jobs in the order of their ids: those that ended before this time, and the id of the last.

        The id is 0 if there were none to look at.
        """
        last = self._db.execute(SQL.finished_end, (job_id, jobs_max)).fetchone()[0]
        return _finished(self._db.execute(SQL.finished_after, (job_id, jobs_max, before_ms))), last or 0

    def dead_after(self, job_id: int, jobs_max: int) -> list[Finished]:
        """Dead jobs in the order of their ids."""
        return _finished(self._db.execute(SQL.ended_after, (State.DEAD.value, job_id, jobs_max)))

    def remove(self, ids: Sequence[int]) -> int:
        """Delete final jobs with all that is known of them; returns how many. Steps go with their flows only."""
        return self._remove(self.without_steps(ids))

    def _remove(self, ids: Sequence[int]) -> int:
        final = [(row, state) for row, state, _ in self._places(ids) if state.final]
        found = [row.id for row, _ in final]
        self._drop_outcomes(found)
        listed = encode(found).decode()
        for statement in (SQL.prune_attempt, SQL.prune_trail, SQL.checkpoint_drop, SQL.prune_job):
            self._db.execute(statement, (listed,))
        self._ended_unique(found, [state for _, state in final])
        self._forget_keys(found)
        for row, state in final:
            queue = self._cache.queues[row.queue.decode()]
            self._let_go(row)  # also where order does not count now: it may again
            if row.lane != queue.home.id:
                self._recount(self._lane_by_id(row.lane), -1)
            self._count(queue, state, -1)
        return len(final)

    def setting(self, name: str) -> int:
        """A stored number."""
        return int(self._db.execute(SQL.meta_get, (name,)).fetchone()[0])

    def set_setting(self, name: str, value: int) -> None:
        """Store a number."""
        self._db.execute(SQL.sequences_set, (name, value))

    def counts(self) -> dict[str, dict[State, int]]:
        """Jobs by queue and state."""
        found: dict[str, dict[State, int]] = {queue: dict.fromkeys(State, 0) for queue in self._cache.queues}
        for queue, state, jobs in self._db.execute(SQL.tally).fetchall():
            found[queue.decode()][State(state.decode())] = jobs
        for (queue_id, name), jobs in self._tally.items():
            found[self._cache.by_id[queue_id].name][State(name)] += jobs
        return found


def _finished(rows: Any) -> list[Finished]:
    return [Finished(found, queue.decode(), State(state.decode()), ended_at) for found, queue, state, ended_at in rows]
