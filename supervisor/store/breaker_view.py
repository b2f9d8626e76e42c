"""How the outage breaker of a queue is shown, with a daemon and without one: its state, why, and when it is probed."""

from __future__ import annotations

from typing import Any

from supervisor.policy.breaker import CLOSED, Breaker, Phase, wait_ms
from supervisor.store.reader import instant


def shown(configured: object | None, known: Breaker | None, now_ms: int) -> dict[str, Any] | None:
    """The member `breaker` of a queue in status; None where the queue has none. One that waits no more is half-open."""
    if configured is None:
        return None
    known = known or CLOSED
    left_ms = wait_ms(known, now_ms)
    phase = Phase.HALF_OPEN if known.phase is Phase.OPEN and not left_ms else known.phase
    return {
        "state": phase.value,
        "reason": known.reason,
        "failures": len(known.failed_at_ms),
        "opened_at": instant(known.opened_at_ms),
        "next_probe_at": instant(now_ms + left_ms) if left_ms else None,
        "probe": known.probe if phase is Phase.HALF_OPEN else None,
    }


def sentence(breaker: dict[str, Any] | None) -> str | None:
    """Why a queue stands still, where its breaker is the reason."""
    said = standing(breaker)
    return said and f"breaker {said}"


def standing(breaker: dict[str, Any] | None) -> str | None:
    """How a breaker stands that is not closed, until when, and why."""
    if breaker is None or breaker["state"] == Phase.CLOSED:
        return None
    if breaker["state"] == Phase.OPEN:
        return f"open, next probe at {breaker['next_probe_at']}: {breaker['reason']}"
    probe = f"job {breaker['probe']} is the probe" if breaker["probe"] else "the next job is the probe"
    return f"half-open, {probe}: {breaker['reason']}"
