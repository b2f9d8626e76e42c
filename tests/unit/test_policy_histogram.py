"""Buckets that touch and never overlap, sums, and percentiles that lie in the bucket that they must."""

from __future__ import annotations

import random

import pytest

from supervisor.policy.histogram import BUCKETS, add, bounds, bucket_of, merged, percentile


@pytest.mark.parametrize("bucket", range(BUCKETS))
def test_buckets_touch_and_hold_what_they_say(bucket: int) -> None:
    low, beyond = bounds(bucket)
    assert bucket_of(low) == bucket_of(beyond - 1) == bucket
    assert bucket == BUCKETS - 1 or bounds(bucket + 1)[0] == beyond
    assert low < 4 or (beyond - low) * 4 <= low


def test_what_is_out_of_range_is_kept_at_the_ends() -> None:
    assert bucket_of(-5) == 0
    assert bucket_of(10**15) == BUCKETS - 1


def test_a_histogram_grows_as_far_as_it_must() -> None:
    histogram: list[int] = []
    add(histogram, {3: 2, 0: 1})
    assert histogram == [1, 0, 0, 2]
    add(histogram, {0: 4})
    assert histogram == [5, 0, 0, 2]


def test_histograms_of_any_length_are_added() -> None:
    assert merged([[1], [1, 2, 3], [], [0, 1]]) == [2, 3, 3]
    assert merged([]) == []


def test_there_is_no_percentile_of_nothing() -> None:
    assert percentile([], 0.5) is None
    assert percentile([0, 0], 0.99) is None


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95, 0.99, 1.0])
def test_a_percentile_is_exact_to_a_quarter(share: float) -> None:
    chance = random.Random(7)
    values = sorted(int(chance.lognormvariate(5, 2)) for _ in range(5_000))
    histogram: list[int] = []
    for value in values:
        add(histogram, {value: 1})
    exact = values[min(int(share * len(values)), len(values) - 1)]
    found = percentile(histogram, share)
    assert found is not None
    assert abs(found - exact) <= exact / 4 + 1
