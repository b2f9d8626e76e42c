"""Rows of new jobs, and room for them: what all ways in have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from supervisor.config.names import short_name
from supervisor.errors import NotUnique, QueueFull
from supervisor.job import WAITING, Event, State, after
from supervisor.policy.discipline import DROP_OLDEST
from supervisor.policy.rank import rank
from supervisor.policy.unique import EXISTING, REPLACE
from supervisor.store.protocol import FRESH, Group, NewJob
from supervisor.store.sqlite.base import text
from supervisor.store.sqlite.cache import QueueRow
from supervisor.store.sqlite.operating import Operating
from supervisor.store.sqlite.statements import SQL

DROPPED = "dropped: the queue was full"
LOOK_PAGE = 256
LOOKED_AT_MAX = 200_000
"""So many jobs are looked at for the oldest that waits; mostly none, as where it was found is kept."""
OLDEST_EVERY = 1_000
"""So many ids further the search for the oldest must be before that is written down again."""


class Pending:
    """Rows that gather while groups are looked at, and are written together."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Any, ...]] = []
        self.ready: list[tuple[Any, ...]] = []
        self.scheduled: list[tuple[int, int]] = []
        self.blocked: list[tuple[int, int, str, int, int]] = []


class Adding(Operating):
    """What the verbs of enqueueing are made of."""

    def reserve(self, count: int) -> range:
        """Ids that will not be given to anyone else."""
        first = self._take("next_id", count)
        return range(first, first + count)

    def _write(self, pending: Pending) -> None:
        self._db.executemany(SQL.insert_job, pending.jobs)
        self._db.executemany(SQL.insert_ready, pending.ready)
        if pending.scheduled:
            self._db.executemany(SQL.insert_scheduled, pending.scheduled)
        if pending.blocked:
            self._db.executemany(SQL.blocked_put, pending.blocked)
        pending.jobs.clear()
        pending.ready.clear()
        pending.scheduled.clear()
        pending.blocked.clear()

    def _add(self, queue: QueueRow, ids: Sequence[int], jobs: Sequence[NewJob], pending: Pending) -> list[State]:
        """Rows for new jobs; returns where each stands."""
        now_ms, order, home = self._now_ms, queue.discipline.order, queue.home
        sequence = self._sequence(len(jobs))
        states: list[State] = []
        for job_id, job in zip(ids, jobs, strict=True):
            band, pos = rank(order, job.priority, sequence)
            sequence += 1
            lane = home
            if job.key:
                lane = self._lane(queue, job.key)
                lane.jobs += 1
                self._changed_lane(lane)
            later = job.due_at_ms is not None and job.due_at_ms > now_ms
            if job.due_at_ms is not None and later:
                pending.scheduled.append((job.due_at_ms, job_id))
                self._note_due(job.due_at_ms)
                states.append(after(None, Event.ENQUEUE_LATER))
            else:
                pending.ready.append((lane.id, band, pos, job_id, FRESH))
                states.append(State.QUEUED)
            if job.expires_at_ms is not None or job.deadline_at_ms is not None:
                self._put_expiries(job_id, job)
            pending.jobs.append(
                (job_id, queue.id, lane.id, band, pos, job.priority, now_ms, job.due_at_ms if later else None,
                 text(job.options), job.payload.decode())
            )  # fmt: skip
        waiting = states.count(State.SCHEDULED)
        self._count(queue, State.SCHEDULED, waiting)
        self._count(queue, State.QUEUED, len(states) - waiting)
        self._count_enqueued(queue.name, len(states))
        return states

    def _add_blocked(
        self, queue: QueueRow, ids: Sequence[int], jobs: Sequence[NewJob], waits: Sequence[int], pending: Pending
    ) -> State:
        """Rows for jobs, each of which waits for so many others; where they all stand."""
        now_ms, order = self._now_ms, queue.discipline.order
        sequence = self._sequence(len(jobs))
        for job_id, job, others in zip(ids, jobs, waits, strict=True):
            band, pos = rank(order, job.priority, sequence)
            sequence += 1
            lane = queue.home
            if job.key:
                lane = self._lane(queue, job.key)
                lane.jobs += 1
                self._changed_lane(lane)
            if job.expires_at_ms is not None or job.deadline_at_ms is not None:
                self._put_expiries(job_id, job)
            pending.blocked.append((job_id, queue.id, "", 0, others))
            pending.jobs.append(
                (job_id, queue.id, lane.id, band, pos, job.priority, now_ms, None, text(job.options),
                 job.payload.decode())
            )  # fmt: skip
        self._count(queue, State.BLOCKED, len(jobs))
        self._count_enqueued(queue.name, len(jobs))
        return after(None, Event.ENQUEUE_BLOCKED)

    def _make_room(self, queue: QueueRow, jobs: int, pending: Pending) -> QueueFull | None:
        """Make room in a bounded queue, if it drops its oldest jobs for that; else say that there is none."""
        limit = queue.discipline.max_size
        if limit is None or (over := self._waiting(queue) + jobs - limit) <= 0:
            return None
        if jobs <= limit and queue.discipline.when_full == DROP_OLDEST:
            self._write(pending)
            self._drop_oldest(queue, over)
        return self._full(queue, jobs, dropping=False)

    def _waiting(self, queue: QueueRow) -> int:
        return sum(self._counted(queue, state) for state in WAITING)

    def _full(self, queue: QueueRow, jobs: int, *, dropping: bool = True) -> QueueFull | None:
        """That the queue has no room for so many; `dropping`: room can still be made, if it is that kind of queue."""
        limit, waiting = queue.discipline.max_size, self._waiting(queue)
        if limit is None or waiting + jobs <= limit:
            return None
        if dropping and jobs <= limit and queue.discipline.when_full == DROP_OLDEST:
            return None
        said = f"queue {short_name(queue.name)} holds {waiting:,} waiting jobs and takes at most {limit:,} (max_size)"
        return QueueFull(said, hint="try again when some have run" if jobs <= limit else "send fewer jobs at once")

    def _taken(self, queue: QueueRow, group: Group) -> NotUnique | None:
        """That a job of the group is there already, where its queue refuses a second one."""
        unique = queue.discipline.unique
        if unique is None or unique.on_conflict in (EXISTING, REPLACE):
            return None
        hashes = [job.unique for job in group.jobs]
        taken = next((each for each in self._in_the_way(unique, hashes) if each is not None), None)
        return None if taken is None else self.not_unique(taken, queue.name)

    def _drop_oldest(self, queue: QueueRow, jobs: int) -> int:
        """Cancel jobs that wait, those enqueued first; returns how many."""
        dropped = looked = 0
        cursor = self._db.execute(SQL.waiting_from, (queue.id, queue.oldest_id, LOOKED_AT_MAX))
        rows = cursor.fetchmany(LOOK_PAGE)
        while rows and dropped < jobs:
            for job_id, ended in rows:
                looked += 1
                queue.oldest_id = job_id
                if not ended and self.withdraw(job_id, DROPPED):
                    dropped += 1
                if dropped >= jobs:
                    break
            rows = cursor.fetchmany(LOOK_PAGE) if dropped < jobs else []
        if not dropped and looked < LOOKED_AT_MAX:
            queue.oldest_id = 0  # one that is older waits again
        if queue.oldest_id >= queue.oldest_kept + OLDEST_EVERY:
            self._keep_oldest(queue)
        return dropped
