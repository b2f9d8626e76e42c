"""Disciplines for tests of the store: queues are named after their order, perhaps with a suffix: `lifo`, `lifo.b`."""

from __future__ import annotations

from supervisor.policy.discipline import Discipline
from supervisor.policy.rank import ORDERS, Order


def by_name(queue: str) -> Discipline:
    """The order that the name begins with, else fifo; each queue a group of its own."""
    order = queue.partition(".")[0]
    return Discipline(order=Order((order if order in ORDERS else "fifo",)), group=queue)
