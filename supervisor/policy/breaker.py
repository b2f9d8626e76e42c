"""The outage breaker of a queue: whether its jobs may be handed out, while what they need may be down.

closed: all may. After `failures` in a row within `period_ms` it opens. open: none may, until the cooldown is over.
half-open: one may, the probe. If the probe does not fail, the breaker closes; if it fails, it opens again, with twice
the cooldown, up to `max_cooldown_ms`. A failure that comes in while it is not closed is not charged to its job.

In a row means with no success between: an outage fails every job, while some bad jobs among good ones are no outage.
Times are wall-clock ms, since they outlive a boot; after a clock was set back, the cooldown begins anew (`anchored`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Phase(StrEnum):
    """Where a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Settings(NamedTuple):
    """When it opens, and for how long."""

    failures: int = 10
    period_ms: int = 60_000
    cooldown_ms: int = 30_000
    max_cooldown_ms: int = 600_000


class Breaker(NamedTuple):
    """The state of one. `failed_at_ms` are the failures that count while it is closed, oldest first.

    `until_ms` is when the next probe may go, `probe` the job that is the probe now; `cooldown_ms` the present cooldown.
    """

    phase: Phase = Phase.CLOSED
    failed_at_ms: tuple[int, ...] = ()
    opened_at_ms: int | None = None
    until_ms: int | None = None
    cooldown_ms: int = 0
    probe: int | None = None
    reason: str | None = None


CLOSED = Breaker()


def failed(breaker: Breaker, settings: Settings, job: int, reason: str, now_ms: int) -> Breaker:
    """After a failure that counts. One of a job that is not the probe changes nothing while it is not closed."""
    if breaker.phase is Phase.CLOSED:
        recent = [at for at in breaker.failed_at_ms if 0 <= now_ms - at < settings.period_ms]
        counted = (*recent, now_ms)[-settings.failures :]
        if len(counted) < settings.failures:
            return breaker._replace(failed_at_ms=counted, reason=reason)
        return _opened(now_ms, now_ms, settings.cooldown_ms, reason)
    if breaker.probe != job:
        return breaker
    longer_ms = min(max(breaker.cooldown_ms, 1) * 2, max(settings.max_cooldown_ms, settings.cooldown_ms))
    return _opened(breaker.opened_at_ms, now_ms, longer_ms, reason)


def _opened(since_ms: int | None, now_ms: int, cooldown_ms: int, reason: str) -> Breaker:
    return Breaker(Phase.OPEN, (), since_ms, now_ms + cooldown_ms, cooldown_ms, None, reason)


def passed(breaker: Breaker, job: int) -> Breaker:
    """After a run that did not fail in a way that counts: it closes if that was the probe, or forgets what failed."""
    if breaker.phase is Phase.CLOSED or breaker.probe == job:
        return CLOSED
    return breaker


def probing(breaker: Breaker, job: int) -> Breaker:
    """After this job was handed out as the probe."""
    return breaker._replace(phase=Phase.HALF_OPEN, probe=job)


def wait_ms(breaker: Breaker, now_ms: int) -> int:
    """How long until a probe may go: 0 if it may go now, or if there is nothing to wait for."""
    if breaker.phase is not Phase.OPEN or breaker.until_ms is None:
        return 0
    return max(breaker.until_ms - now_ms, 0)


def anchored(breaker: Breaker, now_ms: int) -> Breaker:
    """The breaker by a clock that may have been set back: no wait is longer than the cooldown that it is part of."""
    if wait_ms(breaker, now_ms) <= breaker.cooldown_ms:
        return breaker
    return breaker._replace(until_ms=now_ms + breaker.cooldown_ms)


def allowed(breaker: Breaker, now_ms: int, *, probe_runs: bool) -> int | None:
    """How many jobs may be handed out now; None for any number. A probe that ended without a word gets a successor."""
    if breaker.phase is Phase.CLOSED:
        return None
    if breaker.phase is Phase.HALF_OPEN:
        return 0 if probe_runs else 1
    return 0 if wait_ms(breaker, now_ms) else 1
