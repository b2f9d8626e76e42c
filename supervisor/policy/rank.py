"""Rank: where a job stands among the ready jobs of its lane, decided whenever it becomes ready.

Two integers: `band` separates what never mixes (lower first), `pos` orders within it and comes from a stored
sequence, so rank never depends on a clock. A retry, and a job whose time has come, count as newly arrived; a job
that is handed back unstarted keeps the rank it had.
"""

from __future__ import annotations

from typing import NamedTuple

FIFO, LIFO, PRIORITY = "fifo", "lifo", "priority"


class Rank(NamedTuple):
    """Lower is sooner, band before pos."""

    band: int
    pos: int


def rank(order: str, priority: int, sequence: int) -> Rank:
    """The rank of a job that becomes ready now; `sequence` grows with every job that becomes ready."""
    if order == LIFO:
        return Rank(0, -sequence)
    if order == PRIORITY:
        return Rank(-priority, sequence)
    return Rank(0, sequence)
