"""Statistics as people read them: sums over periods, percentiles, and bars of characters."""

from __future__ import annotations

from collections.abc import Sequence

from supervisor.policy.histogram import percentile

SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
BARS = "▁▂▃▄▅▆▇█"


def percentiles_s(name: str, histogram: Sequence[int]) -> dict[str, float | None]:
    """The percentiles of a histogram of milliseconds, in seconds: `run_p50_s` and so on."""
    found = {label: percentile(histogram, share) for label, share in SHARES.items()}
    return {f"{name}_{label}_s": None if ms is None else round(ms / 1000, 3) for label, ms in found.items()}


def sparkline(values: Sequence[int], width: int) -> str:
    """Values over time as a line of at most `width` bars, the highest full; nothing is a blank, little is not."""
    if not values or width < 1:
        return ""
    size = -(-len(values) // width)
    sums = [sum(values[begin : begin + size]) for begin in range(0, len(values), size)]
    top = max(sums)
    return "".join(BARS[(value * len(BARS) - 1) // top] if value > 0 else " " for value in sums)
