"""Schedules, and the claims on their due times.

*Invariant:* a due time is decided once: its claim is a row of the transaction that inserts its job, and none is taken
at or before the newest one. So older claims can go, and retention of jobs never touches any.
"""

from __future__ import annotations

from typing import Any

from supervisor.store.driver import plain_text
from supervisor.store.protocol import Claim, ScheduleRow
from supervisor.store.sqlite.base import Base
from supervisor.store.sqlite.statements import SQL

CLAIMS_KEPT = 20
FORGOTTEN_AFTER_MS = 30 * 86_400_000
"""How long the name of a schedule that was removed is remembered with its last due time."""


class Scheduling(Base):
    """The verbs of schedules."""

    def schedule(self, name: str) -> ScheduleRow | None:
        """A schedule; None if there is none of that name."""
        found = self._db.execute(SQL.schedule_get, (name,)).fetchone()
        return None if found is None else schedule_row(found)

    def schedules(self, after: str, rows_max: int) -> list[ScheduleRow]:
        """Schedules in the order of their names."""
        return [schedule_row(found) for found in self._db.execute(SQL.schedule_page, (after, rows_max)).fetchall()]

    def schedules_count(self) -> int:
        """How many schedules there are."""
        return int(self._db.execute(SQL.schedule_count).fetchone()[0])

    def define_schedule(self, row: ScheduleRow) -> None:
        """Store a schedule with all that is known of it, in the place of one of the same name."""
        self._db.execute(SQL.schedule_define, tuple(map(_value, row)))

    def advance_schedule(self, row: ScheduleRow) -> None:
        """Store where a schedule stands now; what it is and whether it is paused stays."""
        self._db.execute(SQL.schedule_advance, (row.name, *map(_value, row[3:-1])))

    def remove_schedule(self, name: str) -> None:
        """Forget a schedule. The last due time that was decided is remembered under its name for 30 days."""
        self._db.execute(SQL.schedule_remove, (name,))
        self._db.execute(SQL.claim_trim, (name, 1))
        self._db.execute(SQL.claim_forget, (self._now_ms - FORGOTTEN_AFTER_MS,))

    def due_schedules(self, rows_max: int) -> list[ScheduleRow]:
        """Schedules with something to fire by now, the longest due first."""
        rows = self._db.execute(SQL.schedule_due, (self._now_ms, rows_max)).fetchall()
        return [schedule_row(found) for found in rows]

    def next_fire_ms(self) -> int | None:
        """When the next schedule fires."""
        at_ms = self._db.execute(SQL.schedule_next).fetchone()[0]
        return None if at_ms is None else int(at_ms)

    def claim(self, name: str, due_ms: int, outcome: str) -> bool:
        """Decide about a due time; False if that one or a later one was decided before."""
        return bool(self._db.execute(SQL.claim_put, (name, due_ms, outcome, self._now_ms)).rowcount)

    def settle_claim(self, name: str, due_ms: int, outcome: str, job_id: int | None) -> None:
        """Say what became of a due time that was claimed; of a schedule's claims the newest 20 are kept."""
        self._db.execute(SQL.claim_settle, (name, due_ms, outcome, job_id))
        self._db.execute(SQL.claim_trim, (name, CLAIMS_KEPT))

    def claims(self, name: str, rows_max: int) -> list[Claim]:
        """What was decided of a schedule's due times, the latest first."""
        found = self._db.execute(SQL.claims_of, (name, rows_max)).fetchall()
        return [Claim(due, outcome.decode(), at, job_id) for due, outcome, at, job_id in found]


def schedule_row(found: Any) -> ScheduleRow:
    """A schedule from its columns, of which those of text may come as bytes or as text."""
    raw = ScheduleRow._make(value.encode() if isinstance(value, str) else value for value in found)
    return raw._replace(
        name=plain_text(found[0]),
        origin=plain_text(found[1]),
        outcome=plain_text(found[11]),
        reason=plain_text(found[13]),
        paused=bool(raw.paused),
    )


def _value(value: Any) -> Any:
    """A member as its column has it."""
    if isinstance(value, bool):
        return int(value)
    return value.decode() if isinstance(value, bytes) else value
