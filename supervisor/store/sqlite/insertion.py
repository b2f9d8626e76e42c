"""How jobs come in, and become ready when they are due."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from supervisor.job import Event, State, after
from supervisor.policy.settle import History
from supervisor.store.protocol import FRESH, SOLO, TRAILED, Group, Held, Inserted, NewJob, RankOf
from supervisor.store.sqlite.base import Base, text
from supervisor.store.sqlite.statements import SQL


class Insertion(Base):
    """The verbs of enqueueing, and of time."""

    def insert(self, groups: Sequence[Group], rank_of: RankOf) -> list[Inserted]:
        """Insert groups; a group whose key is known is not inserted again."""
        jobs: list[tuple[Any, ...]] = []
        ready: list[tuple[Any, ...]] = []
        scheduled: list[tuple[int, int]] = []
        answers: list[Inserted] = []
        now: dict[str, Inserted] = {}
        for group in groups:
            key = group.key
            answer = (now.get(key) or self.known_request(key)) if key else None
            if answer is None:
                answer = self._insert_group(group, rank_of, jobs, ready, scheduled)
                if key:
                    now[key] = answer._replace(repeated=True)
            answers.append(answer)
        self._db.executemany(SQL.insert_job, jobs)
        self._db.executemany(SQL.insert_ready, ready)
        if scheduled:
            self._db.executemany(SQL.insert_scheduled, scheduled)
        return answers

    def _insert_group(
        self, group: Group, rank_of: RankOf, jobs: list[Any], ready: list[Any], scheduled: list[Any]
    ) -> Inserted:
        lane, now_ms = self.lane_of(group.queue), self._now_ms
        ids = group.ids if group.ids is not None else self.reserve(len(group.jobs))
        sequence = self._take("next_sequence", len(group.jobs))
        states: list[State] = []
        for job_id, job in zip(ids, group.jobs, strict=True):
            band, pos = rank_of(group.queue, job.priority, sequence)
            sequence += 1
            later = job.due_at_ms is not None and job.due_at_ms > now_ms
            if job.due_at_ms is not None and later:
                scheduled.append((job.due_at_ms, job_id))
                self._note_due(job.due_at_ms)
                states.append(after(None, Event.ENQUEUE_LATER))
            else:
                ready.append((lane, band, pos, job_id, FRESH))
                states.append(State.QUEUED)
            jobs.append(self._job_row(job_id, lane, band, pos, job, later=later))
            if job.expires_at_ms is not None or job.deadline_at_ms is not None:
                self._put_expiries(job_id, job)
        waiting = states.count(State.SCHEDULED)
        self._count(lane, State.SCHEDULED, waiting)
        self._count(lane, State.QUEUED, len(states) - waiting)
        if group.key:
            self._db.execute(SQL.request_put, (group.key, now_ms, ids[0] if ids else 0, len(ids)))
        return Inserted(ids, states)

    def _put_expiries(self, job_id: int, job: NewJob) -> None:
        for at, ttl in ((job.expires_at_ms, 1), (job.deadline_at_ms, 0)):
            if at is not None:
                self._db.execute(SQL.expiry_put, (at, job_id, ttl))
                self.earliest_expiry_ms = at if self.earliest_expiry_ms is None else min(at, self.earliest_expiry_ms)

    def _job_row(self, job_id: int, lane: int, band: int, pos: int, job: NewJob, *, later: bool) -> tuple[Any, ...]:
        return (
            job_id, lane, band, pos, job.priority, self._now_ms, job.due_at_ms if later else None,
            text(job.options), job.payload.decode(),
        )  # fmt: skip

    def known_request(self, key: str) -> Inserted | None:
        """Where a group with this key went before; None if there was none."""
        row = self._db.execute(SQL.request_get, (key,)).fetchone()
        if row is None:
            return None
        ids = range(row[0], row[0] + row[1])
        standing = self.standing(ids)
        return Inserted(ids, [standing[i].state if i in standing else State.COMPLETED for i in ids], repeated=True)

    def forget_requests(self, before_ms: int, rows_max: int) -> int:
        """Forget the keys of old groups, and of those from days to come: their clock was wrong."""
        tomorrow_ms = self._now_ms + 86_400_000
        return int(self._db.execute(SQL.request_forget, (before_ms, rows_max, tomorrow_ms)).rowcount)

    def reserve(self, count: int) -> range:
        """Ids that will not be given to anyone else."""
        first = self._take("next_id", count)
        return range(first, first + count)

    def promote(self, jobs_max: int, rank_of: RankOf) -> int:
        """Make due jobs ready, in the order of their times; returns how many."""
        rows = self._db.execute(SQL.due, (self._now_ms, jobs_max)).fetchall()
        sequence = self._take("next_sequence", len(rows)) if rows else 0
        for due_at, job_id, lane, priority, queue, *rest in rows:
            band, pos = rank_of(queue.decode(), priority, sequence)
            sequence += 1
            history, trailed, solo = History(*rest[:3]), rest[3], rest[4]
            if trailed:
                self._db.execute(SQL.trail_rank, (job_id, band, pos))
            else:
                self._put_trail(job_id, history, Held(band, pos, FRESH, 1), None, None, solo=False)
            self._db.execute(SQL.insert_ready, (lane, band, pos, job_id, SOLO if solo else TRAILED))
            self._db.execute(SQL.due_remove, (due_at, job_id))
            self._count(lane, State.SCHEDULED, -1)
            self._count(lane, State.QUEUED, 1)
        return len(rows)

    def next_due_ms(self) -> int | None:
        """When the next scheduled job is due."""
        row = self._db.execute(SQL.due_next).fetchone()
        return None if row is None or row[0] is None else int(row[0])
