"""How long to wait before the next attempt."""

from __future__ import annotations

from typing import NamedTuple


class Backoff(NamedTuple):
    """base x factor^(n - 1), at most max, give or take the part `jitter` of it."""

    base_ms: int = 1_000
    factor: float = 2.0
    max_ms: int = 3_600_000
    jitter: float = 0.1


def delay_ms(backoff: Backoff, failures: int, chance: float) -> int:
    """The delay after the n-th failure (from 1), in milliseconds.

    `chance` in [0, 1) spreads it evenly over plus and minus the jitter, so that jobs which failed together do
    not return together. A power that no float can hold is the maximum.
    """
    try:
        grown = backoff.base_ms * float(backoff.factor) ** (failures - 1)
    except OverflowError:
        grown = backoff.max_ms if backoff.base_ms else 0
    spread = 1.0 + backoff.jitter * (2.0 * chance - 1.0)
    return max(0, round(min(grown, backoff.max_ms) * spread))
