"""How the outage breakers stand: one row for each that is not as it was made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from supervisor.policy.breaker import CLOSED, Breaker, Phase
from supervisor.store.sqlite.base import Base
from supervisor.store.sqlite.statements import SQL


class Breaking(Base):
    """The verbs of breakers."""

    def breakers(self) -> dict[str, Breaker]:
        """The breakers that are not as they were made, by queue."""
        rows = self._db.execute(SQL.breakers).fetchall()
        return {
            queue.decode(): breaker_of([phase.decode(), failed, *rest, None if reason is None else reason.decode()])
            for queue, phase, failed, *rest, reason in rows
        }

    def put_breaker(self, queue: str, breaker: Breaker) -> None:
        """Store how a breaker stands; one that is as it was made needs no row."""
        if breaker == CLOSED:
            self._db.execute(SQL.breaker_remove, (queue,))
            return
        failed = msgspec.json.encode(breaker.failed_at_ms).decode()
        self._db.execute(SQL.breaker_put, (queue, breaker.phase.value, failed, *breaker[2:]))


def breaker_of(row: Sequence[Any]) -> Breaker:
    """A breaker from its row without the queue, texts as text."""
    phase, failed, *rest = row
    return Breaker(Phase(phase), tuple(msgspec.json.decode(failed)), *rest)
