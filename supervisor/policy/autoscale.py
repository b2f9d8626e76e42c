"""Autoscaling: how many workers a pool is to have, from its load, its host, and what it needed of late. Pure.

*Up:* so many that what waits now is begun within the latency, at once; at most doubled (or four more) per step, and
never by a worker that the host has no memory for, nor by one that would only share CPUs which are all in use.
*Down:* to the most that was needed at any moment of the quiet period. Growing again soon after a shrink doubles the
next quiet period, up to eight times: a load that comes and goes is met by staying, not by flapping.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

STEP_WORKERS = 4
STEP_MS = 150
"""At most so many more at a time, or twice as many; the next step follows when these had time to become ready."""
FULL = 0.8
"""The part of the workers that is to be at work: the rest is what random arrivals need."""
COMPUTES = 0.5
"""Jobs that want less of a CPU than this mostly wait for something else: more of them find CPU even on a full host."""
PATIENCE_MAX = 3
"""The quiet period is doubled at most so often."""
MIB = 1024 * 1024


class Bounds(NamedTuple):
    """What the configuration says; see `config.spec.Scale`."""

    least: int
    most: int
    latency_ms: int
    down_after_ms: int
    cpu_max: float
    memory_min_bytes: int


class Load(NamedTuple):
    """What the pool has to do: `backlog` jobs that nobody has begun, `busy` workers at a job.

    `mean_ms` is how long a job takes, as far as it is known; `work` how many workers were at a job since the last
    report, on average; `idle` how many could take a job and got none.
    """

    backlog: int
    busy: int
    mean_ms: float
    work: float
    idle: int = 0


NO_LOAD = Load(0, 0, 0.0, 0.0)


class Host(NamedTuple):
    """What the host has left, None for what is not known. `cpu` is the part of all CPUs in use.

    `worker_bytes` is the resident memory of the largest worker, `worker_cpu` what a worker at a job wants of one CPU
    (uses, or stands in line for), `workers` how many there were when this was read. `refusal` is why the kernel has
    just refused one more.
    """

    cpu: float | None = None
    memory_bytes: int | None = None
    worker_bytes: int | None = None
    worker_cpu: float | None = None
    workers: int = 0
    refusal: str | None = None


class History(NamedTuple):
    """What was decided, and what was needed within the quiet period: (when, workers), ever fewer, the latest last."""

    target: int
    peaks: tuple[tuple[int, int], ...]
    grown_at_ms: int | None = None
    shrunk_at_ms: int | None = None
    patience: int = 0


class Decision(NamedTuple):
    """How many workers from now on, and why, for people."""

    target: int
    reason: str


def begin(target: int, now_ms: int) -> History:
    """A pool of so many workers of whose past nothing is known: it shrinks after one quiet period at the soonest."""
    return History(target, ((now_ms, target),))


def begin_anew(history: History, now_ms: int) -> History:
    """Whoever reported the load is a new one, and knows nothing yet: what was needed until now is needed still."""
    return history._replace(peaks=((now_ms, history.target),))


def settle_for(history: History, workers: int, bounds: Bounds) -> History | None:
    """A pool that cannot have more than so many for now; None if it cannot do with so few."""
    return history._replace(target=min(workers, history.target)) if workers >= bounds.least else None


def needed(load: Load, bounds: Bounds) -> int:
    """How many workers begin all that waits within the latency.

    Within it each of them ends latency / mean jobs, but at least the one that it runs: so of jobs that take longer
    than the latency, each needs a worker of its own. What waits beside idle workers waits for something else: a limit,
    or its turn.
    """
    waiting = 0 if load.idle else load.backlog
    return ceil((waiting + load.busy) * min(1.0, load.mean_ms / bounds.latency_ms))


def decide(history: History, load: Load, host: Host, bounds: Bounds, now_ms: int) -> tuple[History, Decision]:
    """How many workers there are to be now. `host` counts for growth only."""
    history = _remember(history, load, bounds, now_ms)
    target = min(max(history.target, bounds.least), bounds.most)
    if target != history.target:
        return _moved(history, bounds, target, _range(bounds), now_ms)
    wanted = needed(load, bounds)
    if wanted > target:
        return _up(history, wanted, load, host, bounds, now_ms)
    peak = max(history.peaks[0][1], bounds.least)
    if peak < target:
        quiet_s = _quiet_ms(history, bounds) / 1000
        return _moved(history, bounds, peak, f"no more than {peak} were needed for {quiet_s:g} s", now_ms)
    return history, Decision(target, _steady(load))


def next_ms(history: History, bounds: Bounds) -> int | None:
    """When time alone may change the decision, if the load stays as it is; None: never."""
    if history.target <= bounds.least or len(history.peaks) < 2:
        return None
    return history.peaks[0][0] + _quiet_ms(history, bounds)


def _quiet_ms(history: History, bounds: Bounds) -> int:
    return int(bounds.down_after_ms << history.patience)


def _remember(history: History, load: Load, bounds: Bounds, now_ms: int) -> History:
    """What is needed now, instead of all earlier needs that are not greater; what is too old is forgotten."""
    need = min(max(needed(load, bounds), ceil(load.work / FULL), bounds.least), bounds.most)
    since_ms = now_ms - _quiet_ms(history, bounds)
    greater = tuple(peak for peak in history.peaks if peak[1] > need and peak[0] > since_ms)
    return history._replace(peaks=(*greater, (now_ms, need)))


def _up(
    history: History, wanted: int, load: Load, host: Host, bounds: Bounds, now_ms: int
) -> tuple[History, Decision]:  # fmt: skip
    target, why = history.target, _waiting(load)
    if target == bounds.most:
        return history, Decision(target, f"{why}; {target} is the most")
    obstacle = _obstacle(target, host, bounds)
    if obstacle is not None:
        return history, Decision(target, f"held at {target} although {why}: {obstacle}")
    if history.grown_at_ms is not None and now_ms - history.grown_at_ms < STEP_MS:
        return history, Decision(target, why)
    step = max(2 * target, target + STEP_WORKERS)
    return _moved(history, bounds, min(wanted, step, bounds.most, _memory_allows(host, bounds, wanted)), why, now_ms)


def _moved(history: History, bounds: Bounds, target: int, reason: str, now_ms: int) -> tuple[History, Decision]:
    if target < history.target:
        history = history._replace(target=target, shrunk_at_ms=now_ms)
    else:
        history = history._replace(target=target, grown_at_ms=now_ms, patience=_patience(history, bounds, now_ms))
    return history, Decision(target, reason)


def _patience(history: History, bounds: Bounds, now_ms: int) -> int:
    """How often the quiet period is doubled from now on: once more if a shrink was taken back within one of them."""
    shrunk_ms, grown_ms = history.shrunk_at_ms, history.grown_at_ms
    if shrunk_ms is None or (grown_ms is not None and grown_ms > shrunk_ms):
        return history.patience  # a further step up
    soon = now_ms - shrunk_ms < _quiet_ms(history, bounds)
    return min(history.patience + 1, PATIENCE_MAX) if soon else 0


def _obstacle(target: int, host: Host, bounds: Bounds) -> str | None:
    """Why the host has nothing left for one more worker; None if it has, or if nobody knows."""
    if host.refusal is not None:
        return host.refusal
    computes = host.worker_cpu is None or host.worker_cpu >= COMPUTES
    if host.cpu is not None and host.cpu >= bounds.cpu_max and computes:
        return f"{host.cpu:.0%} of the CPUs are in use, and more workers would only share them"
    if host.memory_bytes is not None and _memory_allows(host, bounds, target + 1) <= target:
        worker, least = (host.worker_bytes or 0) // MIB, bounds.memory_min_bytes // MIB
        left = f"{host.memory_bytes // MIB} MiB of memory are left"
        return f"{left}, one more worker takes about {worker}, and {least} must stay free"
    return None


def _memory_allows(host: Host, bounds: Bounds, wanted: int) -> int:
    """At most `wanted`: those that were there when memory was read, and as many more as it has room for."""
    if host.memory_bytes is None:
        return wanted
    spare = host.memory_bytes - bounds.memory_min_bytes
    return min(wanted, host.workers + max(0, spare // max(host.worker_bytes or 1, 1)))


def _range(bounds: Bounds) -> str:
    if bounds.least == bounds.most:
        return f"the configuration says {bounds.most}"
    return f"the configuration says {bounds.least} to {bounds.most}"


def _waiting(load: Load) -> str:
    jobs = "1 job waits" if load.backlog == 1 else f"{load.backlog} jobs wait"
    return f"{jobs}, {_seconds(load.mean_ms)} each"


def _steady(load: Load) -> str:
    if load.backlog and load.idle:
        return f"{_waiting(load)}, but {load.idle} idle workers may not run them yet"
    return f"{_waiting(load)}; these are enough" if load.backlog else "nothing waits"


def _seconds(ms: float) -> str:
    return f"{ms / 1000:.1f} s" if ms >= 100 else f"{ms:.1f} ms"
