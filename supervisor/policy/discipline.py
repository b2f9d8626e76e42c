"""The rules by which the jobs of one queue are handed out: what the store must know of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from supervisor.policy.rank import Order
from supervisor.policy.rate import Rate
from supervisor.policy.unique import Unique

BLOCK, SKIP, BURY = "block", "skip", "dead_letter"
AFTER_DEAD = (BLOCK, SKIP, BURY)
REFUSE, WAIT, DROP_OLDEST = "refuse", "wait", "drop_oldest"
WHEN_FULL = (REFUSE, WAIT, DROP_OLDEST)


class Limit(NamedTuple):
    """A bound on what runs at once, on what begins in a time, or both. Queues that name the same limit share it.

    `keyless`: a limit for each key counts jobs without a key as one key of their own.
    """

    name: str
    concurrency: int | None = None
    rate: Rate | None = None
    keyless: bool = False


class Discipline(NamedTuple):
    """`group`: the table of the configuration that it comes from; queues of one pattern share it.

    `limits` are those of the whole queue, `key_limits` those that hold for each key by itself.
    """

    order: Order = Order()
    ordered: bool = False
    after_dead: str = BLOCK
    weights: Mapping[str, int] = MappingProxyType({})
    limits: tuple[Limit, ...] = ()
    key_limits: tuple[Limit, ...] = ()
    max_size: int | None = None
    when_full: str = REFUSE
    unique: Unique | None = None
    group: str = ""

    @property
    def plain(self) -> bool:
        """Whether nothing but order decides: then a lease is one cut through the queue."""
        return not (self.limits or self.key_limits or self.order.fair)

    def weight(self, key: str) -> int:
        """The share of a key where keys take turns."""
        return self.weights.get(key, 1)


PLAIN = Discipline()
DisciplineOf = Callable[[str], Discipline]
"""The discipline of a queue by its name; `PLAIN` where the configuration knows none."""


def line_of(queue: str) -> Limit:
    """What `ordered` means for running jobs: one of each key, and one of those without a key."""
    return Limit(f"line:{queue}", concurrency=1, keyless=True)
