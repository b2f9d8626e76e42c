"""Rates: never more than they allow, whatever is asked when, and no less than they promise."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.policy.rate import (
    BUCKET,
    LEAKY,
    STEPS,
    US,
    WINDOW,
    Bucket,
    Rate,
    corrected,
    cost_of,
    forgotten_at_ms,
    free_at_ms,
    granted,
    refunded,
)

START_MS = 1_700_000_000_123
HOUR_MS = 3_600_000
LIMITS = st.integers(1, 50) | st.integers(1, 5_000)
PERIODS = st.integers(STEPS, 5_000) | st.integers(STEPS, 30 * 86_400_000)
ASKED = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 60)), max_size=150)
"""Requests: so many thousandths of the period after the one before, and their cost."""
KINDS = [BUCKET, LEAKY, WINDOW]
RATES = st.builds(Rate, LIMITS, PERIODS, st.sampled_from(KINDS))


def taken(rate: Rate, asked: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """When each request was granted, if it was at once, and the cost that counted."""
    bucket, now_ms, found = Bucket(), START_MS, []
    for gap, cost in asked:
        now_ms += gap * rate.period_ms // 1_000
        if free_at_ms(rate, bucket, cost, now_ms) <= now_ms:
            bucket = granted(rate, bucket, cost, now_ms)
            found.append((now_ms, cost_of(rate, cost)))
    return found


def most_in(grants: list[tuple[int, int]], length_ms: int) -> int:
    """The most that was granted in any stretch of time of this length."""
    ends = [at for at, _ in grants]
    return max((sum(cost for at, cost in grants if end - length_ms < at <= end) for end in ends), default=0)


# -- never too many ------------------------------------------------------------------------------------------------


@given(st.builds(Rate, LIMITS, PERIODS, st.just(WINDOW)), ASKED)
def test_a_window_never_holds_more_than_the_limit(rate: Rate, asked: list[tuple[int, int]]) -> None:
    assert most_in(taken(rate, asked), rate.period_ms) <= rate.limit


@given(st.builds(Rate, LIMITS, PERIODS, st.just(BUCKET)), ASKED, st.integers(1, 3_000))
def test_a_bucket_never_gives_more_than_it_holds_and_what_is_refilled(
    rate: Rate, asked: list[tuple[int, int]], thousandths: int
) -> None:
    length_ms = max(1, rate.period_ms * thousandths // 1_000)
    assert most_in(taken(rate, asked), length_ms) <= rate.limit + length_ms * rate.limit / rate.period_ms


@given(st.builds(Rate, LIMITS, PERIODS, st.just(LEAKY)), ASKED)
def test_leaky_grants_are_spaced(rate: Rate, asked: list[tuple[int, int]]) -> None:
    times = [at for at, _ in taken(rate, asked)]
    assert all((b - a) * US >= rate.interval_us for a, b in pairwise(times))


@pytest.mark.parametrize("limit", [600, 1_000, 3_000, 999_983, 1_000_000])
@pytest.mark.parametrize("kind", [BUCKET, WINDOW])
def test_at_one_moment_there_is_no_more_than_the_limit_even_if_it_does_not_divide_the_period(
    kind: str, limit: int
) -> None:
    rate = Rate(limit, 1_000, kind)
    bucket = granted(rate, Bucket(), limit - 1, START_MS)
    bucket = granted(rate, bucket, 1, START_MS)
    assert free_at_ms(rate, bucket, 1, START_MS) > START_MS


# -- no fewer than promised ----------------------------------------------------------------------------------------


@given(RATES, ASKED, st.integers(1, 60))
def test_what_is_told_is_the_first_moment_at_which_it_is_granted(
    rate: Rate, asked: list[tuple[int, int]], cost: int
) -> None:
    bucket, now_ms = Bucket(), START_MS
    for gap, each in asked:
        now_ms += gap * rate.period_ms // 1_000
        if free_at_ms(rate, bucket, each, now_ms) <= now_ms:
            bucket = granted(rate, bucket, each, now_ms)
    at_ms = free_at_ms(rate, bucket, cost, now_ms)
    if at_ms > now_ms:
        assert free_at_ms(rate, bucket, cost, at_ms) <= at_ms
        assert free_at_ms(rate, bucket, cost, at_ms - 1) > at_ms - 1


@pytest.mark.parametrize("kind", [BUCKET, WINDOW])
def test_the_whole_limit_may_come_at_once_and_again_after_the_period(kind: str) -> None:
    rate = Rate(10, 6_400, kind)
    bucket = Bucket()
    for now_ms in (START_MS, START_MS + 6_500):
        for _ in range(10):
            assert free_at_ms(rate, bucket, 1, now_ms) <= now_ms
            bucket = granted(rate, bucket, 1, now_ms)
        assert free_at_ms(rate, bucket, 1, now_ms) > now_ms


def test_a_bucket_refills_evenly_and_a_window_step_by_step() -> None:
    full = {kind: granted(Rate(10, 6_400, kind), Bucket(), 10, START_MS) for kind in (BUCKET, WINDOW)}
    assert free_at_ms(Rate(10, 6_400, BUCKET), full[BUCKET], 1, START_MS) == START_MS + 640
    assert free_at_ms(Rate(10, 6_400, BUCKET), full[BUCKET], 5, START_MS) == START_MS + 3_200
    at_ms = free_at_ms(Rate(10, 6_400, WINDOW), full[WINDOW], 1, START_MS)
    assert START_MS + 6_400 <= at_ms <= START_MS + 6_400 + 6_400 // STEPS


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_that_costs_more_than_the_limit_does_not_wait_for_ever(kind: str) -> None:
    rate = Rate(3, 1_000, kind)
    assert free_at_ms(rate, Bucket(), 1_000_000, START_MS) <= START_MS
    bucket = granted(rate, Bucket(), 1_000_000, START_MS)
    assert START_MS < free_at_ms(rate, bucket, 1_000_000, START_MS) <= START_MS + 1_000 + 1_000 // STEPS + 1


def test_a_costly_job_keeps_the_next_away_for_as_long_as_so_many_would() -> None:
    rate = Rate(10, 1_000, LEAKY)
    assert free_at_ms(rate, granted(rate, Bucket(), 4, START_MS), 1, START_MS) == START_MS + 400


# -- handing back --------------------------------------------------------------------------------------------------


@given(RATES, st.integers(1, 60), ASKED)
def test_what_is_handed_back_at_once_was_never_granted(rate: Rate, cost: int, asked: list[tuple[int, int]]) -> None:
    bucket, now_ms = Bucket(), START_MS
    for gap, each in [*asked, (1, cost)]:
        now_ms += gap * rate.period_ms // 1_000
        if free_at_ms(rate, bucket, each, now_ms) <= now_ms:
            back = refunded(rate, granted(rate, bucket, each, now_ms), each, now_ms, now_ms)
            assert free_at_ms(rate, back, 1, now_ms) >= free_at_ms(rate, bucket, 1, now_ms)
            assert free_at_ms(rate, back, each, now_ms) <= now_ms
            bucket = granted(rate, bucket, each, now_ms)


@given(
    st.builds(Rate, st.integers(1, 20), PERIODS, st.sampled_from([BUCKET, WINDOW])),
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 5), st.none() | st.integers(0, 800)), max_size=60),
)
def test_what_is_handed_back_later_lets_no_more_through_than_if_it_had_never_been(
    rate: Rate, asked: list[tuple[int, int, int | None]]
) -> None:
    """Each request is kept, or handed back some time after its grant."""
    bucket, now_ms, kept = Bucket(), START_MS, list[tuple[int, int]]()
    back: list[tuple[int, int, int]] = []
    for gap, cost, until in asked:
        now_ms += gap * rate.period_ms // 1_000
        for due_ms, at_ms, each in sorted(back):
            if due_ms <= now_ms:
                bucket = refunded(rate, bucket, each, at_ms, due_ms)
                back.remove((due_ms, at_ms, each))
        if free_at_ms(rate, bucket, cost, now_ms) > now_ms:
            continue
        bucket = granted(rate, bucket, cost, now_ms)
        if until is None:
            kept.append((now_ms, cost_of(rate, cost)))
        else:
            back.append((now_ms + until * rate.period_ms // 1_000, now_ms, cost))
    for part in (10, 3, 2, 1):
        length_ms = max(rate.period_ms // part, 1)
        refilled = 0 if rate.algorithm == WINDOW else length_ms * rate.limit / rate.period_ms
        assert most_in(kept, length_ms) <= rate.limit + refilled


def test_of_a_window_the_step_of_the_grant_gives_back() -> None:
    rate = Rate(2, 6_400, WINDOW)
    bucket = granted(rate, granted(rate, Bucket(), 1, START_MS), 1, START_MS + 1_000)
    back = refunded(rate, bucket, 1, START_MS, START_MS + 2_000)
    assert back == granted(rate, Bucket(), 1, START_MS + 1_000)
    assert refunded(rate, back, 1, START_MS, START_MS + 2_000) == back
    twice = granted(rate, granted(rate, Bucket(), 1, START_MS), 1, START_MS)
    assert refunded(rate, twice, 1, START_MS, START_MS) == granted(rate, Bucket(), 1, START_MS)


# -- the clock -----------------------------------------------------------------------------------------------------


@given(RATES, st.integers(1, 10**12), st.integers(0, 60))
def test_after_the_clock_was_set_back_a_limit_opens_again_within_a_period(
    rate: Rate, back_ms: int, grants: int
) -> None:
    bucket = Bucket()
    for _ in range(grants):
        if free_at_ms(rate, bucket, 1, START_MS + back_ms) <= START_MS + back_ms:
            bucket = granted(rate, bucket, 1, START_MS + back_ms)
    bucket = corrected(rate, bucket, START_MS)
    at_ms = free_at_ms(rate, bucket, 1, START_MS)
    assert at_ms <= START_MS + rate.limit * rate.interval_us // US + 1 + rate.period_ms + rate.period_ms // STEPS + 1
    assert free_at_ms(rate, bucket, 1, max(at_ms, START_MS)) <= max(at_ms, START_MS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_limit_that_was_used_up_is_not_free_because_the_clock_was_set_back(kind: str) -> None:
    rate = Rate(5, 64_000, kind)
    bucket = Bucket()
    for number in range(5):
        now_ms = START_MS + (number * 12_800 if kind == LEAKY else number)
        bucket = granted(rate, bucket, 1, now_ms)
    assert free_at_ms(rate, bucket, 1, START_MS - HOUR_MS) > START_MS - HOUR_MS
    known = corrected(rate, bucket, START_MS - HOUR_MS)
    assert known != bucket
    again = granted(rate, known, 5, START_MS - HOUR_MS + 2 * 64_000)
    assert free_at_ms(rate, again, 1, START_MS - HOUR_MS + 2 * 64_000) > START_MS - HOUR_MS + 2 * 64_000


def test_a_window_keeps_what_lies_behind_the_clock_beside_what_lies_ahead() -> None:
    rate = Rate(5, 6_400, WINDOW)
    bucket = granted(rate, granted(rate, Bucket(), 1, START_MS), 3, START_MS + 3_000)
    known = corrected(rate, bucket, START_MS + 1_000)
    assert [grants for _, grants in known.steps] == [1, 3]
    assert sum(grants for _, grants in corrected(rate, granted(rate, bucket, 1, START_MS + 3_000), START_MS).steps) == 5


@given(RATES, ASKED)
def test_while_the_clock_goes_on_nothing_is_corrected(rate: Rate, asked: list[tuple[int, int]]) -> None:
    bucket, now_ms = Bucket(), START_MS
    for gap, cost in asked:
        now_ms += gap * rate.period_ms // 1_000
        assert corrected(rate, bucket, now_ms) is bucket
        if free_at_ms(rate, bucket, cost, now_ms) <= now_ms:
            bucket = granted(rate, bucket, cost, now_ms)


# -- forgetting, and being told to rest ----------------------------------------------------------------------------


@given(RATES, ASKED, st.integers(1, 60))
def test_what_may_be_forgotten_is_as_nothing(rate: Rate, asked: list[tuple[int, int]], cost: int) -> None:
    bucket, now_ms = Bucket(), START_MS
    for gap, each in asked:
        now_ms += gap * rate.period_ms // 1_000
        if free_at_ms(rate, bucket, each, now_ms) <= now_ms:
            bucket = granted(rate, bucket, each, now_ms)
    gone_ms = max(forgotten_at_ms(rate, bucket), now_ms)
    assert free_at_ms(rate, bucket, cost, gone_ms) <= gone_ms
    after, fresh = granted(rate, bucket, cost, gone_ms), granted(rate, Bucket(), cost, gone_ms)
    assert free_at_ms(rate, after, 1, gone_ms) == free_at_ms(rate, fresh, 1, gone_ms)


@pytest.mark.parametrize("kind", KINDS)
def test_a_limit_that_was_told_to_rest_rests_and_is_remembered_as_long(kind: str) -> None:
    rate = Rate(5, 1_000, kind)
    resting = Bucket(shut_until_ms=START_MS + HOUR_MS)
    assert free_at_ms(rate, resting, 1, START_MS) == START_MS + HOUR_MS
    assert free_at_ms(rate, resting, 1, START_MS + HOUR_MS) <= START_MS + HOUR_MS
    assert forgotten_at_ms(rate, resting) == START_MS + HOUR_MS
    assert granted(rate, resting, 1, START_MS + HOUR_MS).shut_until_ms == START_MS + HOUR_MS


def test_steps_of_a_window_mean_the_same_under_another_period() -> None:
    before, after = Rate(2, 640, WINDOW), Rate(2, 60_000, WINDOW)
    bucket = granted(before, granted(before, Bucket(), 1, START_MS), 1, START_MS)
    free_ms = free_at_ms(after, bucket, 1, START_MS + 1_000)
    assert START_MS + 60_000 <= free_ms <= START_MS + 60_010
    shorter = granted(after, granted(after, Bucket(), 1, START_MS), 1, START_MS)
    assert free_at_ms(before, shorter, 1, START_MS + 639) > START_MS + 639
    assert free_at_ms(before, shorter, 1, START_MS + 640 + 60_000 // 64 + 1) <= START_MS + 640 + 60_000 // 64 + 1
