"""How long to wait before the next attempt."""

from __future__ import annotations

from typing import NamedTuple

EXPONENTIAL, LINEAR, CONSTANT = "exponential", "linear", "constant"
SHAPES = (EXPONENTIAL, LINEAR, CONSTANT)


class Backoff(NamedTuple):
    """A shape from `base_ms`, at most `max_ms`; or the delays that are listed. Both give or take the part `jitter`.

    exponential: base x factor^(n - 1). linear: base x n. constant: base. Where `delays_ms` lists any, the n-th of
    them, and the last again and again; neither `max_ms` nor the shape matters then.
    """

    base_ms: int = 1_000
    factor: float = 2.0
    max_ms: int = 3_600_000
    jitter: float = 0.1
    shape: str = EXPONENTIAL
    delays_ms: tuple[int, ...] = ()


def delay_ms(backoff: Backoff, failures: int, chance: float) -> int:
    """The delay after the n-th failure (from 1), in milliseconds.

    `chance` in [0, 1) spreads it evenly over plus and minus the jitter, so that jobs which failed together do
    not return together. A power that no float can hold is the maximum.
    """
    spread = 1.0 + backoff.jitter * (2.0 * chance - 1.0)
    return max(0, round(_plain_ms(backoff, failures) * spread))


def _plain_ms(backoff: Backoff, failures: int) -> float:
    """The delay before chance has its say."""
    if backoff.delays_ms:
        return backoff.delays_ms[min(failures, len(backoff.delays_ms)) - 1]
    if backoff.shape == LINEAR:
        return min(backoff.base_ms * failures, backoff.max_ms)
    if backoff.shape == CONSTANT:
        return min(backoff.base_ms, backoff.max_ms)
    try:
        grown = backoff.base_ms * float(backoff.factor) ** (failures - 1)
    except OverflowError:
        grown = backoff.max_ms if backoff.base_ms else 0
    return min(grown, backoff.max_ms)
