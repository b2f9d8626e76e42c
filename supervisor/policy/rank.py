"""Rank: where a job stands among the ready jobs of its lane, and a lane among those of its queue.

A rank is decided whenever a job becomes ready: two integers, of which `band` separates what never mixes (lower first)
and `pos` orders within it. `pos` comes from a stored sequence that follows the clock and never goes back, so ageing
is linear in time and no step of the clock changes an order. A retry, and a job whose time has come, count as newly
arrived; a job that is handed back unstarted keeps the rank it had; one that holds an ordered lane comes first.

A rank says of itself by which order it was made (`sequence_of`), so jobs can be ranked anew while others are leased.
"""

from __future__ import annotations

from typing import NamedTuple

FIFO, LIFO, PRIORITY, FAIR = "fifo", "lifo", "priority", "fair"
ORDERS = (FIFO, LIFO, PRIORITY, FAIR)

TICKS_PER_MS = 1_024
"""So many jobs can become ready in a millisecond before their sequence runs ahead of the clock."""
AGED_BAND = 1_000
"""Jobs whose priority ages share one band, this and the milliseconds that a level is worth."""
HELD_BAND = -(2**40)
"""The job that holds an ordered lane: before all others, whatever their order."""
CHARGE = 1 << 20
"""Virtual time that one job costs a lane of weight 1."""


class Rank(NamedTuple):
    """Lower is sooner, band before pos."""

    band: int
    pos: int


class Order(NamedTuple):
    """How a queue orders its jobs: one or more of `ORDERS`, the first deciding first.

    `age_ms`: a waiting job gains a level of priority in that time; None: priorities do not age.
    """

    terms: tuple[str, ...] = (FIFO,)
    age_ms: int | None = None

    @property
    def fair(self) -> bool:
        """Whether keys take turns."""
        return FAIR in self.terms

    def level(self, priority: int) -> int:
        """A job's priority as far as it counts: jobs of one level come in the order in which they become ready."""
        return priority if PRIORITY in self.terms else 0


def rank(order: Order, priority: int, sequence: int) -> Rank:
    """The rank of a job that becomes ready now; `sequence` grows with every job that becomes ready."""
    pos = -sequence if LIFO in order.terms else sequence
    if PRIORITY not in order.terms:
        return Rank(0, pos)
    if order.age_ms is None:
        return Rank(-priority, pos)
    return Rank(AGED_BAND + order.age_ms, pos - priority * order.age_ms * TICKS_PER_MS)


def ranks(order: Order, priority: int, sequence: int, count: int) -> tuple[int, range]:
    """The ranks of so many jobs of one priority that become ready one after another: their band, and the positions."""
    band, pos = rank(order, priority, sequence)
    step = rank(order, priority, sequence + 1).pos - pos
    return band, range(pos, pos + step * count, step)


def sequence_of(made: Rank, priority: int) -> int:
    """The sequence from which a rank was made, by whatever order it was."""
    if made.band >= AGED_BAND:
        return abs(made.pos + priority * (made.band - AGED_BAND) * TICKS_PER_MS)
    return abs(made.pos)


def ranked_anew(order: Order, made: Rank, priority: int) -> Rank:
    """The rank that the order gives to a job that has a rank by another one; whoever holds its lane keeps the head."""
    return made if made.band == HELD_BAND else rank(order, priority, sequence_of(made, priority))


Turn = tuple[int, int, int]
"""Where a lane stands among the lanes of its queue: lower is sooner."""


def turn(order: Order, vtime: int, head: Rank) -> Turn:
    """The turn of a lane whose first job has this rank, and which has used so much virtual time."""
    if not order.fair:
        return head.band, head.pos, 0
    if PRIORITY in order.terms and order.terms.index(PRIORITY) < order.terms.index(FAIR):
        return head.band, vtime, head.pos
    return vtime, head.band, head.pos


def charged(vtime: int, weight: int) -> int:
    """The virtual time of a lane after one more of its jobs was leased."""
    return vtime + CHARGE // weight
