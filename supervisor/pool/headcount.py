"""How many workers the pool is to have, and why: a fixed number, or what the load asks for (`policy.autoscale`).

The keeper tells the load, the host is looked at from here. What was decided is what the foreman works by; it is told
to keeper and master, so that status shows it and a new foreman goes on from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from supervisor.config.spec import Queue
from supervisor.policy import autoscale
from supervisor.policy.autoscale import NO_LOAD, Bounds, Decision, Host, Load
from supervisor.unix.host import HostMeter
from supervisor.wire.control import PoolLoad, PoolScaled

SILENT_MS = 3_000
"""A keeper that reports a load does so again within a second: one that is silent for so long is gone."""
REFUSED_MS = 10_000
"""How long a pool goes on with what it has when the kernel has refused one more worker."""
SAY_EVERY_MS = 1_000
"""A reason that changes while the number does not is told so often."""
WORK_LEAST = 0.1
"""With less work than this nobody knows what a worker at a job uses of a CPU."""


def a_meter() -> HostMeter:
    """A meter of this host. psutil is imported by foremen of autoscaled pools only, and may fail without /proc."""
    library: Any = None
    try:
        import psutil as library
    except (ImportError, OSError):
        pass
    return HostMeter(library)


def bounds_of(queue: Queue) -> Bounds:
    """What the configuration says of the number of workers."""
    scale = queue.scale
    return Bounds(
        queue.workers_min, queue.workers_max, scale.latency_ms, scale.down_after_ms, scale.cpu_max,
        scale.memory_min_bytes,
    )  # fmt: skip


class Headcount:
    """The number of one pool's workers. `begin` is what it had before, if it did."""

    def __init__(
        self, queue: Queue, begin: int | None, now_ms: int, make_meter: Callable[[], HostMeter] = a_meter,
        *, by_hand: int | None = None,
    ) -> None:  # fmt: skip
        self._bounds = bounds_of(queue)
        self._make_meter = make_meter
        self._meter: HostMeter | None = None
        self._scaled = queue.autoscaled
        self._computes = queue.command is not None
        target = min(max(begin or 0, queue.workers_min), queue.workers_max)
        self._history = autoscale.begin(target, now_ms)
        self._reason = "as before" if begin else "the least, as it has just begun"
        self._load, self._heard_ms, self._due = NO_LOAD, now_ms, False
        self._refusal: tuple[int, str] | None = None
        """Until when the kernel's refusal of one more counts, and what it said."""
        self._by_hand: int | None = None
        if by_hand is not None:
            self.set_by_hand(by_hand)
        self._source: str | None = None
        self._said: PoolScaled | None = None
        self._say_at_ms = 0

    @property
    def target(self) -> int:
        """How many workers there are to be."""
        return self._history.target

    @property
    def most(self) -> int:
        """How many processes there may be at most, those included that only finish their last job."""
        return self._bounds.most

    @property
    def next_ms(self) -> int | None:
        """When `look` has something to decide though nobody said anything."""
        return autoscale.next_ms(self._history, self._within) if self._scaled else None

    @property
    def _within(self) -> Bounds:
        """The bounds of the load's number; a number by hand leaves it none."""
        if self._by_hand is None:
            return self._bounds
        return self._bounds._replace(least=self._by_hand, most=self._by_hand)

    def set_by_hand(self, workers: int | None) -> None:
        """Have so many whatever the load is, if the bounds allow it; None: let the load decide again."""
        self._due = True
        fits = workers is not None and self._scaled and self._bounds.least <= workers <= self._bounds.most
        self._by_hand = workers if fits else None

    def resize(self, queue: Queue) -> None:
        """The configuration says something else now; it counts more than a number by hand."""
        self._bounds, self._scaled, self._due, self._by_hand = bounds_of(queue), queue.autoscaled, True, None

    def hear(self, load: PoolLoad, now_ms: int) -> None:
        """What the keeper says there is to do."""
        self._load, self._heard_ms, self._due = Load(*msgspec.structs.astuple(load)), now_ms, True

    def begin_anew(self, now_ms: int) -> None:
        """There is a new keeper, which must hear how things stand, and has seen no load yet."""
        self._history = autoscale.begin_anew(self._history, now_ms)
        self._load, self._heard_ms, self._said = NO_LOAD, now_ms, None

    def settle_for(self, workers: int, refusal: str, now_ms: int) -> bool:
        """The kernel refused one more: go on with those that there are, if that is no less than the least.

        A pool that has just grown has lost nobody. One that follows no load wants its number, and gets it by restarts.
        """
        settled = autoscale.settle_for(self._history, workers, self._within) if self._scaled else None
        if settled is None:
            return False
        self._history, self._reason = settled, refusal
        self._refusal = now_ms + REFUSED_MS, refusal
        return True

    def look(self, pids: Callable[[], Sequence[int]], now_ms: int) -> Decision | None:
        """Decide, if there is news or time has come; returns what changes the number."""
        next_ms = self.next_ms
        if not self._due and (next_ms is None or now_ms < next_ms):
            return None
        if self._load != NO_LOAD and now_ms - self._heard_ms >= SILENT_MS:
            self.begin_anew(now_ms)
            return None
        self._due, before = False, self.target
        host = self._host(pids, now_ms)
        self._history, decision = autoscale.decide(self._history, self._load, host, self._within, now_ms)
        if self._by_hand is not None:
            decision = decision._replace(reason="set by hand; jobsctl scale QUEUE auto ends that")
        self._reason = decision.reason
        return decision if decision.target != before else None

    def _host(self, pids: Callable[[], Sequence[int]], now_ms: int) -> Host:
        """What the host has left, where that can matter: only growth depends on it. It takes two looks to know."""
        if not self._scaled or self._load.backlog == 0 or self._load.idle or self.target >= self._within.most:
            return Host()
        if self._refusal is not None and now_ms < self._refusal[0]:
            return Host(refusal=self._refusal[1])
        facts = self._looked().facts(pids(), now_ms)
        if facts is None:
            return Host(refusal="the host is looked at first")
        self._source = facts.source
        known = self._load.work >= WORK_LEAST and not self._computes
        worker_cpu = facts.workers_cpu / self._load.work if known else None
        return Host(facts.cpu, facts.memory_bytes, facts.largest_bytes, worker_cpu, facts.processes)

    def _looked(self) -> HostMeter:
        if self._meter is None:
            self._meter = self._make_meter()
        return self._meter

    def news(self, pool: str, now_ms: int) -> PoolScaled | None:
        """What keeper and master must be told now; at once if the number changed, seldom if only its reason did."""
        if not self._scaled:
            return None
        if self._source is None:
            self._source = self._looked().sources()
        said = PoolScaled(pool, self.target, self._reason, self._source, self._by_hand)
        moved = self._said is None or said.target != self._said.target
        if said == self._said or not (moved or now_ms >= self._say_at_ms):
            return None
        self._said, self._say_at_ms = said, now_ms + SAY_EVERY_MS
        return said
