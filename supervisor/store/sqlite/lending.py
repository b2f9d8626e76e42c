"""Leases of consumers: a hand-out to somebody who is watched by nobody, and holds it until a time."""

from __future__ import annotations

from collections.abc import Mapping

from supervisor.job import State
from supervisor.store.protocol import Loan
from supervisor.store.sqlite.base import Base
from supervisor.store.sqlite.statements import SQL


class Lending(Base):
    """The verbs of loans. A loan goes with its lease, and its owner with the last loan that it has."""

    def lend(self, token: int, loan: Loan) -> None:
        """Hold a lease until a time, or until another one than before."""
        lease = self._cache.leases[token]
        self._db.execute(SQL.loan_put, (token, *loan))
        self._cache.note_loan(lease, loan)

    def loans(self) -> Mapping[int, Loan]:
        """Every loan by the token of its lease."""
        return self._cache.loans

    def loan_by_key(self, key: str) -> int | None:
        """The open lease that was asked for under this key."""
        return self._cache.loan_keys.get(key)

    def final_by(self, job_id: int) -> tuple[State, int] | None:
        """The state of a final job, and the token under which it ended; None while it is not final."""
        row = self._db.execute(SQL.outcome_of, (job_id,)).fetchone()
        return None if row is None else (State(row[0].decode()), row[1])

    def flush(self) -> None:
        """Drop the loans of leases that are over, and owners that hold no other."""
        cache = self._cache
        over = [token for token in self._touched if token in cache.loans and not cache.leases[token].jobs]
        for token in over:
            owner = cache.drop_loan(cache.leases[token])
            self._db.execute(SQL.loan_delete, (token,))
            if owner is not None:
                self._db.execute(SQL.owner_delete, (owner,))
        super().flush()
