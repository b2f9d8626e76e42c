"""Changing what a job is, while it does not run; and what finds jobs by what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from supervisor.job import Event, State, after
from supervisor.store.history import Edit, Search
from supervisor.store.protocol import SOLO, TRAILED, Held, RankOf
from supervisor.store.search import matching
from supervisor.store.sqlite.base import Base, Place, text
from supervisor.store.sqlite.statements import SQL


class Editing(Base):
    """The verbs of edits and searches."""

    def edit(self, job_id: int, change: Edit, rank_of: RankOf) -> State:
        """Change a job that does not run; the state that it has then.

        With another priority, a queued job gets the place that a new arrival of that priority would have.

        Raises:
            UnknownJob: there is none of that id.
            IllegalTransition: it is running, or shall be due later and is final; nothing was changed.
        """
        row, state = self._place(job_id)
        now = after(state, Event.EDIT if change.due_at_ms is None else Event.POSTPONE)
        body = (job_id, text(change.payload), change.priority, text(change.options), change.due_at_ms)
        if change.due_at_ms is not None:
            self._unplace(row, state)
            self._schedule(row, change.due_at_ms)
            self._count(row.lane, state, -1)
            self._count(row.lane, now, 1)
        elif state is State.QUEUED and change.priority != row.priority:
            self._unplace(row, state)
            self._line_up(row, change.priority, rank_of)
        self._db.execute(SQL.edit_job, body)
        return now

    def _unplace(self, row: Place, state: State) -> None:
        if state is State.SCHEDULED:
            self._db.execute(SQL.due_remove, (row.due_at, row.id))
        else:
            self._db.execute(SQL.ready_remove, (row.lane, row.band, row.pos, row.id))

    def _schedule(self, row: Place, due_at_ms: int) -> None:
        place = Held(row.band, row.pos, TRAILED, 1)
        self._put_trail(row.id, row.history, place, due_at_ms, None, solo=bool(row.solo))
        self._db.execute(SQL.insert_scheduled, (due_at_ms, row.id))
        self._note_due(due_at_ms)

    def _line_up(self, row: Place, priority: int, rank_of: RankOf) -> None:
        rank = rank_of(row.queue.decode(), priority, self._take("next_sequence", 1))
        mark = SOLO if row.solo else TRAILED
        self._put_trail(row.id, row.history, Held(*rank, mark, 1), None, None, solo=bool(row.solo))
        self._db.execute(SQL.insert_ready, (row.lane, *rank, row.id, mark))

    def payload_of(self, job_id: int) -> bytes | None:
        """A job's payload; None if there is no such job."""
        row = self._db.execute(SQL.payload_of, (job_id,)).fetchone()
        return None if row is None else bytes(row[0])

    def ids_after(self, job_id: int, jobs_max: int) -> list[int]:
        """Ids of jobs of all queues in ascending order."""
        return [row[0] for row in self._db.execute(SQL.ids_after, (job_id, jobs_max))]

    def meant(self, ids: Sequence[int], search: Search, hidden: Mapping[str, Sequence[str]] | None = None) -> list[int]:
        """Those of these jobs that a search means; `hidden` has the redacted members of each queue."""
        return matching(self._db, ids, search, hidden)

    def kept(self, queue: str, state: State) -> int:
        """How many jobs of a queue are in a state, as maintained."""
        lane = self._cache.lanes.get(queue)
        if lane is None:
            return 0
        return self._cache.tally[lane, state.value] + self._tally[lane, state.value]

    def final_after(self, queue: str, job_id: int, jobs_max: int) -> list[tuple[int, State | None]]:
        """Jobs of a queue in the order of their ids, with the state of those that are final."""
        rows = self._db.execute(SQL.final_of_queue, (queue, job_id, jobs_max))
        return [(found, None if state is None else State(state.decode())) for found, state in rows]
