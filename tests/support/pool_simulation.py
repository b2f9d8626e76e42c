"""A pool in miniature, on a clock of its own: arrivals, workers that take time to start, and who decides how many.

What the keeper tells is told as often as it does it, with what it would know; nothing here waits for anything.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from supervisor.policy.autoscale import NO_LOAD, Bounds, Host, Load, begin, decide, next_ms

TURN_MS = 20
PRESSED_MS, BUSY_MS = 200, 1_000
HOST = Host(cpu=0.3, memory_bytes=8 << 30, worker_bytes=50 << 20, worker_cpu=0.2, workers=1)


class Arrival(NamedTuple):
    """A job that comes at a time and takes so long."""

    at_ms: int
    run_ms: int


@dataclass
class _Worker:
    ready_ms: int
    until_ms: int = 0
    since_ms: int = 0

    def free(self, now_ms: int) -> bool:
        return self.ready_ms <= now_ms and self.until_ms <= now_ms

    def busy(self, now_ms: int) -> bool:
        return self.until_ms > now_ms


@dataclass
class Pool:
    """`targets` has every number that was decided, with when; `waits_ms` how long each begun job had waited."""

    bounds: Bounds
    boot_ms: int
    host: Callable[[int], Host] = lambda _: HOST
    targets: list[tuple[int, int]] = field(default_factory=list)
    waits_ms: list[int] = field(default_factory=list)

    def run(self, arrivals: Iterable[Arrival], until_ms: int) -> None:
        """Let time pass."""
        coming = deque(sorted(arrivals))
        waiting: deque[Arrival] = deque()
        workers = [_Worker(0) for _ in range(self.bounds.least)]
        history = begin(self.bounds.least, 0)
        known_ms: float | None = None
        ended: deque[int] = deque()
        done_ms = worked_ms = 0.0
        load, told_at_ms = NO_LOAD, 0
        self.targets.append((0, history.target))
        for now_ms in range(0, until_ms, TURN_MS):
            while coming and coming[0].at_ms <= now_ms:
                waiting.append(coming.popleft())
            for worker in workers:
                if worker.until_ms and worker.until_ms <= now_ms:
                    ended.append(worker.until_ms - worker.since_ms)
                    worker.until_ms = 0
                if waiting and worker.free(now_ms):
                    job = waiting.popleft()
                    self.waits_ms.append(now_ms - job.at_ms)
                    worker.since_ms, worker.until_ms = now_ms, now_ms + job.run_ms
            while ended:
                took_ms = ended.popleft()
                done_ms += took_ms
                known_ms = took_ms if known_ms is None else 0.8 * known_ms + 0.2 * took_ms
            ages = [now_ms - worker.since_ms for worker in workers if worker.busy(now_ms)]
            every_ms = PRESSED_MS if load.backlog or waiting else BUSY_MS
            active = bool(ages or waiting)
            if (active or load != NO_LOAD) and now_ms - told_at_ms >= every_ms:
                before_ms, worked_ms = worked_ms, done_ms + sum(ages)
                mean_ms = max(ages, default=0) if known_ms is None else max(known_ms, sum(ages) / max(len(ages), 1))
                work = len(ages) if load == NO_LOAD else (worked_ms - before_ms) / (now_ms - told_at_ms)
                load = Load(len(waiting), len(ages), mean_ms, max(work, 0.0)) if active else NO_LOAD
                told_at_ms = now_ms
            elif (at_ms := next_ms(history, self.bounds)) is None or now_ms < at_ms:
                continue
            history, decision = decide(history, load, self.host(len(workers)), self.bounds, now_ms)
            if decision.target != self.targets[-1][1]:
                self.targets.append((now_ms, decision.target))
            while len(workers) < decision.target:
                workers.append(_Worker(now_ms + self.boot_ms))
            idle_last = sorted(workers, key=lambda worker: not worker.busy(now_ms))
            for worker in idle_last[decision.target :]:
                if not worker.busy(now_ms):
                    workers.remove(worker)

    @property
    def turns(self) -> int:
        """How often the number went down after it had gone up, or up after it had gone down."""
        numbers = [target for _, target in self.targets]
        steps = [after > before for before, after in pairwise(numbers)]
        return sum(one != other for one, other in pairwise(steps))
