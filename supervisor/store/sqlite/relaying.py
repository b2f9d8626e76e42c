"""Which rows of applications' outboxes have become which jobs, while the rows may still stand there.

*Invariant:* that a row is a job is written in the transaction that inserts the job, and forgotten no earlier than the
row is gone. No clock has a say in it: a row may stand there for a year.
"""

from __future__ import annotations

from collections.abc import Sequence

from supervisor.store.driver import plain_text
from supervisor.store.protocol import Relayed
from supervisor.store.sqlite.base import Base, encode
from supervisor.store.sqlite.statements import SQL


class Relaying(Base):
    """The verbs of outboxes."""

    def relayed(self, instance: str, ids: Sequence[int]) -> dict[int, Relayed]:
        """Those of these rows of an outbox that are jobs already, by their ids."""
        rows = self._db.execute(SQL.relayed_among, (instance, encode(ids).decode()))
        return {row: Relayed(row, plain_text(digest), job_id) for row, digest, job_id in rows.fetchall()}

    def note_relayed(self, instance: str, rows: Sequence[Relayed]) -> None:
        """Remember which jobs these rows are; of a row that is another one by now, the newer job."""
        self._db.executemany(SQL.relayed_put, [(instance, *row) for row in rows])

    def forget_relayed(self, instance: str, ids: Sequence[int]) -> int:
        """Forget rows that are gone; returns how many of them were known."""
        return int(self._db.execute(SQL.relayed_forget, (instance, encode(ids).decode())).rowcount)

    def relayed_after(self, instance: str, row: int, rows_max: int) -> list[int]:
        """Rows of an outbox that are remembered, in the order of their ids."""
        return [found[0] for found in self._db.execute(SQL.relayed_page, (instance, row, rows_max)).fetchall()]
