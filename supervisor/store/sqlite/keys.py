"""What changes the lanes themselves: a new order of their jobs, a dead job that takes its key along, a key let go."""

from __future__ import annotations

from supervisor.job import Event, State, after
from supervisor.policy.rank import Rank, ranked_anew
from supervisor.store.protocol import TRAILED, AttemptError, Held
from supervisor.store.sqlite.base import Place
from supervisor.store.sqlite.cache import Lane, QueueRow, ranking_of
from supervisor.store.sqlite.operating import Operating
from supervisor.store.sqlite.statements import SQL

LANES_PHASE = 0
"""What `rerank_until` says when all jobs have their new ranks, and the lanes are gone through."""


class Keys(Operating):
    """The verbs of lanes."""

    # -- a new order -------------------------------------------------------------------------------------------

    def rerank(self, jobs_max: int) -> bool:
        """Rank some waiting jobs anew, of queues whose order has changed; whether there are more.

        Goes by ids, so it can be broken off anywhere; what comes in meanwhile has its rank by the new order already.
        """
        name = next(iter(self._cache.reranking), None)
        if name is None:
            return False
        queue = self._cache.queues[name]
        if queue.rerank_after is None or queue.ranking != ranking_of(queue.discipline):
            self._begin_rerank(queue)
        assert queue.rerank_after is not None
        assert queue.rerank_until is not None
        if queue.rerank_until == LANES_PHASE:
            self._rerank_lanes(queue, queue.rerank_after, jobs_max)
        else:
            self._rerank_jobs(queue, queue.rerank_after, queue.rerank_until, jobs_max)
        self._changed_queues[queue.id] = queue
        return bool(self._cache.reranking)

    def _rerank_jobs(self, queue: QueueRow, after_id: int, until_id: int, jobs_max: int) -> None:
        listed = self._db.execute(SQL.ids_of_queue, (queue.id, after_id, jobs_max)).fetchall()
        ids = [row[0] for row in listed if row[0] < until_id]
        for row, state, _ in self._places(ids):
            if state is State.QUEUED:
                self._rerank_one(queue, row)
        queue.rerank_after = ids[-1] if ids else 0
        queue.rerank_until = until_id if ids else LANES_PHASE

    def _rerank_lanes(self, queue: QueueRow, after_id: int, lanes_max: int) -> None:
        """The lanes have their turns by the new order."""
        lanes = [row[0] for row in self._db.execute(SQL.lanes_of_queue, (queue.id, after_id, lanes_max)).fetchall()]
        for lane in lanes:
            self._mark(self._lane_by_id(lane))
        queue.rerank_after = lanes[-1] if lanes else None
        if not lanes:
            queue.rerank_until = None
            self._cache.reranking.discard(queue.name)

    def _begin_rerank(self, queue: QueueRow) -> None:
        """Begin anew, with what is leased now: a job that is handed back comes with the rank it had."""
        queue.ranking = ranking_of(queue.discipline)
        queue.rerank_after, queue.rerank_until = 0, self._cache.sequences["next_id"]
        leases = [lease for lease in self._cache.leases.values() if lease.queue == queue.name]
        facts = self._priorities([job_id for lease in leases for job_id in lease.jobs])
        for lease in leases:
            for job_id, held in lease.jobs.items():
                place = ranked_anew(queue.discipline.order, Rank(held.band, held.pos), facts[job_id])
                lease.jobs[job_id] = held._replace(band=place.band, pos=place.pos)
                self._db.execute(SQL.trail_rerank, (job_id, *place))
            self._rewritten.add(lease.token)
            self._touched.add(lease.token)

    def _priorities(self, ids: list[int]) -> dict[int, int]:
        return {row.id: row.priority for row, _, _ in self._places(ids)}

    def _rerank_one(self, queue: QueueRow, row: Place) -> None:
        place = ranked_anew(queue.discipline.order, Rank(row.band, row.pos), row.priority)
        if place == (row.band, row.pos):
            return
        mark = self._db.execute(SQL.ready_mark, (row.lane, row.band, row.pos, row.id)).fetchone()[0]
        self._db.execute(SQL.ready_remove, (row.lane, row.band, row.pos, row.id))
        self._db.execute(SQL.trail_rerank, (row.id, *place))
        self._db.execute(SQL.insert_ready, (row.lane, *place, row.id, max(mark, TRAILED)))
        self._mark(self._lane_of(row))

    # -- a dead job that takes its key along ---------------------------------------------------------------------

    def bury_doomed(self, jobs_max: int) -> list[int]:
        """Dead letters of what waited behind a dead job that takes its key along; returns which jobs."""
        row = self._db.execute(SQL.lane_doomed).fetchone()
        if row is None:
            return []
        lane = self._lane_by_id(row[0])
        found = self._db.execute(SQL.lane_ids, (lane.id, jobs_max)).fetchall()
        waiting = [each[0] for each in found]
        for place, state, _ in self._places(waiting):
            self._bury(place, state, lane)
        if len(waiting) < jobs_max:
            lane.held = lane.doom = None
            self._changed_lane(lane)
        return waiting

    def _bury(self, row: Place, state: State, lane: Lane) -> None:
        reason = f"job {lane.doom}, which came before it, is dead"
        after(state, Event.BURY)
        self._unplace(row, state)
        self._db.execute(SQL.finish, (row.id, "dead", row.history.attempt - 1, 0, None, self._now_ms, "dead_key"))
        error = AttemptError("cancelled", reason)
        self._put_trail(row.id, row.history, Held(row.band, row.pos, TRAILED, 1), None, error, solo=False)
        self._put_error(row.id, row.history.attempt - 1, error)
        self._put_letter(row.id, row.queue.decode(), self._now_ms, error, "dead_key")
        self._count_names(row.queue.decode(), ("dead",))
        queue = self._cache.queues[row.queue.decode()]
        self._count(queue, state, -1)
        self._count(queue, State.DEAD, 1)
        self._note_final((row.id,))

    # -- a key let go --------------------------------------------------------------------------------------------

    def free_key(self, queue: str, key: str, *, paused: bool | None = None) -> bool:
        """Let a key go on whatever held it, or pause or resume it; False if there is no such key."""
        found = self._queue(queue) if paused else self._cache.queues.get(queue)
        if found is None or (key and not paused and not self._known_key(found, key)):
            return False
        lane = self._lane(found, key)
        if paused is None:
            lane.held = lane.doom = None
        else:
            lane.paused = int(paused)
        self._changed_lane(lane)
        return True

    def key_stops(self, queue: str, key: str) -> tuple[bool, int | None, int | None]:
        """What stops a key: whether it is paused, the job that holds it, the dead job that takes it along."""
        found = self._cache.queues.get(queue)
        if found is None or (key and not self._known_key(found, key)):
            return False, None, None
        lane = self._lane(found, key)
        return bool(lane.paused), lane.held, lane.doom

    def _known_key(self, queue: QueueRow, key: str) -> bool:
        return self._db.execute(SQL.lane_find, (queue.id, key)).fetchone() is not None

    def forget_idle_lanes(self, rows_max: int) -> int:
        """Forget keys of which nothing is left; returns how many."""
        idle = self._db.execute(SQL.lanes_idle, (rows_max,)).fetchall()
        for row in idle:
            lane = self._lane_by_id(row[0])
            self._changed.pop(lane.id, None)
            self._marked.pop(lane.id, None)
            self._drop_lane(lane)
        return len(idle)
