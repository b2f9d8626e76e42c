"""From which of its queues a pool draws next: the first of a list, or by weights; in a pattern in turns."""

from __future__ import annotations

from typing import NamedTuple

from supervisor.keeper import breaking
from supervisor.keeper.work import Work
from supervisor.policy.rank import charged


class Drawn(NamedTuple):
    """A queue, and the source of the pool that it belongs to. `shared`: others wait for their turn, too."""

    queue: str
    source: str
    shared: bool


def draw(work: Work, pool: str, passed: set[str]) -> Drawn | None:
    """The queue that comes next; None if none of the pool's has anything. What is in `passed` was asked in vain."""
    weights = work.state.spec.sources_of(pool)
    found = [(source, queue) for source in weights if (queue := work.tx.next_of(source, passed)) is not None]
    if not found:
        return None
    if len(weights) > 1 and not work.state.workplaces[pool].strict:
        times = work.tx.source_times(pool)
        found.sort(key=lambda each: times.get(each[0], 0))
    source, queue = found[0]
    return Drawn(queue, source, shared=len(found) > 1 or work.tx.others_of(source))


def backlog(work: Work, pool: str) -> int:
    """Jobs that this pool's workers could be leased now, over all queues that it draws from; none behind a breaker."""
    total = sum(work.tx.backlog(source) for source in work.state.spec.sources_of(pool))
    halted = [queue for queue in breaking.halted(work) if pool in work.state.pools_of(queue)]
    return max(0, total - sum(map(work.tx.waiting, halted)))


def charge(work: Work, pool: str, drawn: Drawn, jobs: int) -> None:
    """Jobs of this source were leased: the others come first until they have had their share."""
    weights = work.state.spec.sources_of(pool)
    if len(weights) == 1 or work.state.workplaces[pool].strict:
        return
    times = work.tx.source_times(pool)
    clock = times.get("", 0)
    begun = max(times.get(drawn.source, 0), clock)
    spent = (charged(begun, weights[drawn.source]) - begun) * jobs
    work.tx.charge_source(pool, drawn.source, begun + spent, max(clock, begun))
