"""Histograms of durations in fixed logarithmic buckets: four to each doubling, from 1 ms to 37 hours.

Fixed, so that histograms of any two times can be added. A percentile is exact to a quarter of its value at worst.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

STEPS = 4
"""Buckets to each doubling."""

BUCKETS = 108
"""The last one also has what is longer."""


def bucket_of(ms: int) -> int:
    """The bucket that a duration belongs to; one below zero, where a clock was set back, counts as zero."""
    if ms < STEPS:
        return max(ms, 0)
    shift = ms.bit_length() - 3
    return min(shift * STEPS + STEPS + ((ms >> shift) & 3), BUCKETS - 1)


def bounds(bucket: int) -> tuple[int, int]:
    """The shortest duration of a bucket and the shortest that is beyond it, in milliseconds."""
    if bucket < STEPS:
        return bucket, bucket + 1
    shift, step = divmod(bucket - STEPS, STEPS)
    low = (STEPS + step) << shift
    return low, low + (1 << shift)


def add(histogram: list[int], counted: Mapping[int, int]) -> None:
    """Add durations, given as milliseconds -> how many, to a histogram, which grows as far as it must."""
    for ms, count in counted.items():
        bucket = bucket_of(ms)
        if bucket >= len(histogram):
            histogram.extend([0] * (bucket + 1 - len(histogram)))
        histogram[bucket] += count


def merged(histograms: Iterable[Sequence[int]]) -> list[int]:
    """The sum of histograms."""
    total: list[int] = []
    for histogram in histograms:
        if len(histogram) > len(total):
            total.extend([0] * (len(histogram) - len(total)))
        for bucket, count in enumerate(histogram):
            total[bucket] += count
    return total


def percentile(histogram: Sequence[int], share: float) -> float | None:
    """The duration in milliseconds that this share (0 to 1) of the counted ones do not exceed; None of nothing.

    Within its bucket a duration is taken to lie as its rank says, so that none is told better than it can be known.
    """
    total = sum(histogram)
    rank = share * total
    seen = 0
    for bucket, count in enumerate(histogram):
        if count and seen + count >= rank:
            low, beyond = bounds(bucket)
            return low + (beyond - low - 1) * max(rank - seen, 0) / count
        seen += count
    return None
