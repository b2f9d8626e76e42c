"""What the clock ends: times to live and deadlines; each is a row only for the jobs that have one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from supervisor.job import WAITING, Event, State, after
from supervisor.policy.discipline import BURY, SKIP
from supervisor.store.protocol import Expiry
from supervisor.store.sqlite.base import Place
from supervisor.store.sqlite.operating import Operating
from supervisor.store.sqlite.statements import SQL


class Expiring(Operating):
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
        waiting = [(row, stands) for row, stands in waiting if stands in WAITING]
        assert all(after(stands, event) is state for _, stands in waiting)
        for row, stands in waiting:
            held = self._lane_of(row).held == row.id
            self._withdraw(row, stands, reason, state)
            if held and state is State.DEAD:
                self._bar_waiting(row)
        return [row.id for row, _ in waiting]

    def _bar_waiting(self, row: Place) -> None:
        """Whoever held its lane stays in its way once it is dead, where order counts."""
        discipline, lane = self._cache.queues[row.queue.decode()].discipline, self._lane_of(row)
        if discipline.ordered and discipline.after_dead != SKIP:
            lane.held = row.id
            lane.doom = row.id if discipline.after_dead == BURY else None
            self._changed_lane(lane)

    def payload(self, job_id: int) -> bytes:
        """The payload of a job that exists."""
        row: Sequence[Any] = self._db.execute(SQL.bodies, (f"[{job_id}]",)).fetchone()
        return bytes(row[5])

    def first_due_ms(self, job_id: int) -> int:
        """When a job was due first, or revived last."""
        return int(self._db.execute(SQL.first_due, (job_id,)).fetchone()[0])
