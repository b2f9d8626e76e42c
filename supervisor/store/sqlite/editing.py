"""Changing what a job is, while it does not run; and what finds jobs by what they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from supervisor.job import Event, State, after
from supervisor.policy.rank import rank
from supervisor.store.history import Edit, Search
from supervisor.store.keyed import LANES_MAX, ROWS_MAX, lanes_of, page_after
from supervisor.store.protocol import SOLO, TRAILED, Held
from supervisor.store.search import matching
from supervisor.store.sqlite.base import Place, text
from supervisor.store.sqlite.statements import SQL
from supervisor.store.sqlite.uniqueness import Uniqueness


class Editing(Uniqueness):
    """The verbs of edits and searches."""

    def edit(self, job_id: int, change: Edit) -> State:
        """Change a job that does not run; the state that it has then.

        With another priority, a queued job gets the place that a new arrival of that priority would have.

        Raises:
            UnknownJob: there is none of that id.
            IllegalTransition: it is running, or shall be due later and is final; nothing was changed.
            NotUnique: another job counts as the same by the new payload or task; nothing was changed.
        """
        row, state = self._place(job_id)
        now = after(state, Event.EDIT if change.due_at_ms is None else Event.POSTPONE)
        if change.payload is not None or change.need is not None:
            self._stand_for(row, state, change.payload, change.need.task if change.need else None)
        body = (job_id, text(change.payload), change.priority, text(change.options), change.due_at_ms)
        if change.due_at_ms is not None:
            self._unplace(row, state)
            self._schedule(row, change.due_at_ms)
            queue = self._cache.queues[row.queue.decode()]
            self._count(queue, state, -1)
            self._count(queue, now, 1)
        elif state is State.QUEUED and change.priority != row.priority:
            self._unplace(row, state)
            self._line_up(row, change.priority)
        if state is State.BLOCKED and change.need is not None:
            self._db.execute(SQL.blocked_need, (job_id, *change.need))
        self._db.execute(SQL.edit_job, body)
        return now

    def _stand_for(self, row: Place, state: State, payload: bytes | None, task: str | None) -> None:
        """Be in the way for what it is now; a final job comes to that when it is run again."""
        if state.final:
            self._db.execute(SQL.uniq_leave, (row.id,))
        else:
            self._compete(row, payload=payload, task=task)

    def _schedule(self, row: Place, due_at_ms: int) -> None:
        place = Held(row.band, row.pos, TRAILED, 1)
        self._put_trail(row.id, row.history, place, due_at_ms, None, solo=bool(row.solo))
        self._db.execute(SQL.insert_scheduled, (due_at_ms, row.id))
        self._note_due(due_at_ms)

    def _line_up(self, row: Place, priority: int) -> None:
        queue = self._cache.queues[row.queue.decode()]
        place = rank(queue.discipline.order, priority, self._sequence(1))
        mark = SOLO if row.solo else TRAILED
        self._put_trail(row.id, row.history, Held(*place, mark, 1), None, None, solo=bool(row.solo))
        self._db.execute(SQL.insert_ready, (row.lane, *place, row.id, mark))
        self._mark(self._lane_of(row))

    def payload_of(self, job_id: int) -> bytes | None:
        """A job's payload; None if there is no such job."""
        row = self._db.execute(SQL.payload_of, (job_id,)).fetchone()
        return None if row is None else bytes(row[0])

    def ids_after(self, job_id: int, jobs_max: int) -> list[int]:
        """Ids of jobs of all queues in ascending order."""
        return [row[0] for row in self._db.execute(SQL.ids_after, (job_id, jobs_max))]

    def ids_of_key(
        self, key: str, queue: str | None, job_id: int, jobs_max: int, state: State | None = None
    ) -> list[int] | None:
        """Ids of the jobs of a key in ascending order, of one queue or of all; see the protocol."""
        lanes = lanes_of(self._db, key, queue, LANES_MAX)
        if lanes is None:
            return None
        rows_max = jobs_max if state is None and len(lanes) == 1 else ROWS_MAX
        rows = page_after(self._db, lanes, job_id, rows_max)
        wanted = [found for found, ended in rows if state in (None, ended) or found == rows[-1][0]]
        return wanted[:jobs_max]

    def meant(
        self, ids: Sequence[int], search: Search, hidden: Callable[[str], Sequence[str]] | None = None
    ) -> list[int]:
        """Those of these jobs that a search means; `hidden` gives the redacted members of a queue."""
        return matching(self._db, ids, search, hidden)

    def kept(self, queue: str, state: State) -> int:
        """How many jobs of a queue are in a state, as maintained."""
        row = self._cache.queues.get(queue)
        return self._counted(row, state) if row else 0

    def final_after(self, queue: str, job_id: int, jobs_max: int) -> list[tuple[int, State | None]]:
        """Jobs of a queue in the order of their ids, with the state of those that are final."""
        rows = self._db.execute(SQL.final_of_queue, (queue, job_id, jobs_max))
        return [(found, None if state is None else State(state.decode())) for found, state in rows]
