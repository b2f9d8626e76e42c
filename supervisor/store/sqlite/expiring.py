"""What the clock ends: times to live and deadlines; each is a row only for the jobs that have one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from supervisor.job import Event, State, after
from supervisor.store.protocol import Expiry
from supervisor.store.sqlite.base import Base, Place
from supervisor.store.sqlite.statements import SQL


class Expiring(Base):
    """The verbs of time running out."""

    def expiring(self, jobs_max: int) -> list[Expiry]:
        """Times that are over, in their order."""
        return [
            Expiry(at, job, bool(ttl)) for at, job, ttl in self._db.execute(SQL.expiry_due, (self._now_ms, jobs_max))
        ]

    def next_expiry_ms(self) -> int | None:
        """When the next time is over."""
        row = self._db.execute(SQL.expiry_next).fetchone()
        return None if row is None or row[0] is None else int(row[0])

    def forget_expiries(self, expiries: Sequence[Expiry]) -> int:
        """Ask no more about these jobs at those times; returns of how many that was not so already."""
        rows = [(expiry.at_ms, expiry.id, int(expiry.ttl)) for expiry in expiries]
        return int(self._db.executemany(SQL.expiry_remove, rows).rowcount) if rows else 0

    def expire(self, ids: Sequence[int], state: State, reason: str) -> list[int]:
        """End jobs that wait; returns those that waited, in the order given."""
        event = Event.BURY if state is State.DEAD else Event.CANCEL
        places = {row.id: (row, stands) for row, stands, _ in self._places(ids)}
        waiting = [places[job_id] for job_id in dict.fromkeys(ids) if job_id in places]
        waiting = [(row, stands) for row, stands in waiting if stands in (State.QUEUED, State.SCHEDULED)]
        assert all(after(stands, event) is state for _, stands in waiting)
        self._end_waiting(waiting, state, reason)
        return [row.id for row, _ in waiting]

    def payload(self, job_id: int) -> bytes:
        """The payload of a job that exists."""
        row: Sequence[Any] = self._db.execute(SQL.bodies, (f"[{job_id}]",)).fetchone()
        return bytes(row[5])

    def first_due_ms(self, job_id: int) -> int:
        """When a job was due first, or revived last."""
        return int(self._db.execute(SQL.first_due, (job_id,)).fetchone()[0])

    def _end_waiting(self, waiting: Sequence[tuple[Place, State]], state: State, reason: str) -> None:
        """Take jobs that wait out of where they wait, and record their end."""
        scheduled = [(row.due_at, row.id) for row, stands in waiting if stands is State.SCHEDULED]
        queued = [(row.lane, row.band, row.pos, row.id) for row, stands in waiting if stands is State.QUEUED]
        ended = [(row.id, state.value, row.history.attempt - 1, 0, None, self._now_ms, reason) for row, _ in waiting]
        for statement, rows in ((SQL.due_remove, scheduled), (SQL.ready_remove, queued), (SQL.finish, ended)):
            self._db.executemany(statement, rows)
        for row, stands in waiting:
            self._count(row.lane, stands, -1)
            self._count(row.lane, state, 1)
