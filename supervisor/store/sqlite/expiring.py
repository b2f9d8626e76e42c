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

    def forget_expiry(self, expiry: Expiry) -> bool:
        """Ask no more about this job at that time; False if that was so already."""
        return bool(self._db.execute(SQL.expiry_remove, (expiry.at_ms, expiry.id, int(expiry.ttl))).rowcount)

    def expire(self, job_id: int, state: State, reason: str) -> bool:
        """End a job that waits; False if it does not wait."""
        found = self._places([job_id])
        if not found or found[0][1] not in (State.QUEUED, State.SCHEDULED):
            return False
        row, stands, _ = found[0]
        assert after(stands, Event.BURY if state is State.DEAD else Event.CANCEL) is state
        self._end_waiting(row, stands, state, reason)
        return True

    def payload(self, job_id: int) -> bytes:
        """The payload of a job that exists."""
        row: Sequence[Any] = self._db.execute(SQL.bodies, (f"[{job_id}]",)).fetchone()
        return bytes(row[5])

    def first_due_ms(self, job_id: int) -> int:
        """When a job was due first, or revived last."""
        return int(self._db.execute(SQL.first_due, (job_id,)).fetchone()[0])

    def _end_waiting(self, row: Place, stands: State, state: State, reason: str) -> None:
        """Take a job that waits out of where it waits, and record its end."""
        if stands is State.SCHEDULED:
            self._db.execute(SQL.due_remove, (row.due_at, row.id))
        else:
            self._db.execute(SQL.ready_remove, (row.lane, row.band, row.pos, row.id))
        ended = (row.id, state.value, row.history.attempt - 1, 0, None, self._now_ms, reason)
        self._db.execute(SQL.finish, ended)
        self._count(row.lane, stands, -1)
        self._count(row.lane, state, 1)
