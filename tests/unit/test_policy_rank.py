"""Rank: two integers that put any set of jobs into the order their queue promises; turns do the same for keys."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.policy.rank import (
    FAIR,
    FIFO,
    HELD_BAND,
    LIFO,
    PRIORITY,
    TICKS_PER_MS,
    Order,
    Rank,
    charged,
    rank,
    ranked_anew,
    ranks,
    sequence_of,
    turn,
)

LEVELS = st.integers(-100, 100)
ARRIVALS = st.lists(LEVELS, max_size=50)
SEQUENCES = st.integers(1, 2**53)
YEAR_MS = 365 * 86_400_000
PLAIN_TERMS = [
    (FIFO,),
    (LIFO,),
    (PRIORITY,),
    (FAIR,),
    (PRIORITY, FAIR),
    (FAIR, PRIORITY),
    (FAIR, LIFO),
    (PRIORITY, LIFO),
]
ORDERS = st.sampled_from([Order(terms) for terms in PLAIN_TERMS]) | st.builds(
    Order, st.sampled_from([(PRIORITY,), (PRIORITY, FIFO), (PRIORITY, LIFO)]), st.integers(1_000, YEAR_MS)
)


def drained(order: Order, priorities: list[int]) -> list[int]:
    """The indexes of jobs that arrived in this order, in the order of their ranks."""
    return sorted(range(len(priorities)), key=lambda index: rank(order, priorities[index], index + 1))


@given(ARRIVALS)
def test_fifo_is_first_come_first_served_whatever_the_priority(priorities: list[int]) -> None:
    assert drained(Order(), priorities) == list(range(len(priorities)))


@given(ARRIVALS)
def test_lifo_is_last_come_first_served_whatever_the_priority(priorities: list[int]) -> None:
    assert drained(Order((LIFO,)), priorities) == list(range(len(priorities)))[::-1]


@given(ARRIVALS, st.booleans())
def test_priority_is_higher_first_and_then_as_they_came(priorities: list[int], newest_first: bool) -> None:
    step = -1 if newest_first else 1
    of_level = {level: [index for index, own in enumerate(priorities) if own == level][::step] for level in priorities}
    expected = [index for level in sorted(of_level, reverse=True) for index in of_level[level]]
    assert drained(Order((PRIORITY, LIFO) if newest_first else (PRIORITY,)), priorities) == expected


@given(ORDERS, LEVELS, SEQUENCES, st.integers(1, 50))
def test_many_at_once_have_the_ranks_that_each_would_have(order: Order, level: int, first: int, count: int) -> None:
    band, places = ranks(order, level, first, count)
    assert [Rank(band, pos) for pos in places] == [rank(order, level, first + number) for number in range(count)]


@given(ORDERS, LEVELS, LEVELS, SEQUENCES)
def test_jobs_of_one_level_have_one_rank(order: Order, one: int, other: int, sequence: int) -> None:
    same = order.level(one) == order.level(other)
    assert same == (rank(order, one, sequence) == rank(order, other, sequence))
    assert rank(order, order.level(one), sequence) == rank(order, one, sequence)


@given(ARRIVALS)
def test_keys_that_take_turns_leave_the_order_within_a_key(priorities: list[int]) -> None:
    assert drained(Order((FAIR,)), priorities) == list(range(len(priorities)))


@given(st.lists(st.tuples(st.sampled_from([(FIFO,), (LIFO,), (PRIORITY,)]), LEVELS), max_size=50))
def test_no_two_jobs_have_one_rank_even_if_the_order_of_their_queue_changed(
    arrivals: list[tuple[tuple[str, ...], int]],
) -> None:
    ranks = [rank(Order(terms), priority, sequence) for sequence, (terms, priority) in enumerate(arrivals, 1)]
    assert len(set(ranks)) == len(ranks)


def test_the_lower_rank_is_the_sooner() -> None:
    assert Rank(HELD_BAND, 9) < Rank(-100, 1) < Rank(-1, 9) < Rank(0, 1) < Rank(0, 2)


# -- ageing --------------------------------------------------------------------------------------------------------


@given(LEVELS, LEVELS, st.integers(0, 10**12), st.integers(0, 10**12), st.integers(1_000, YEAR_MS))
def test_a_level_is_worth_exactly_its_time_of_waiting(one: int, other: int, at: int, later: int, age_ms: int) -> None:
    order = Order((PRIORITY,), age_ms)
    ahead = at - one * age_ms < at + later - other * age_ms
    first, second = (rank(order, level, ms * TICKS_PER_MS) for level, ms in ((one, at), (other, at + later)))
    assert (first < second) == ahead


def test_nothing_waits_for_ever_where_priorities_age() -> None:
    order = Order((PRIORITY,), 60_000)
    waiting = rank(order, -100, 0)
    newcomers = (rank(order, 100, minute * 60_000 * TICKS_PER_MS) for minute in range(300))
    assert sum(newcomer < waiting for newcomer in newcomers) == 200


# -- a new order ---------------------------------------------------------------------------------------------------


@given(ORDERS, LEVELS, SEQUENCES)
def test_a_rank_says_from_which_sequence_it_was_made(order: Order, priority: int, sequence: int) -> None:
    assert sequence_of(rank(order, priority, sequence), priority) == sequence


@given(ORDERS, ORDERS, LEVELS, SEQUENCES)
def test_ranked_anew_is_as_if_the_order_had_always_been_so(
    old: Order, new: Order, priority: int, sequence: int
) -> None:
    assert ranked_anew(new, rank(old, priority, sequence), priority) == rank(new, priority, sequence)


@given(ORDERS, LEVELS, SEQUENCES)
def test_who_holds_its_lane_stays_at_the_head(order: Order, priority: int, sequence: int) -> None:
    held = Rank(HELD_BAND, sequence)
    assert ranked_anew(order, held, priority) == held < rank(order, priority, sequence)


# -- turns ---------------------------------------------------------------------------------------------------------

HEADS = st.builds(Rank, LEVELS, st.integers(-(2**53), 2**53))
TIMES = st.integers(0, 2**53)


@given(TIMES, HEADS, TIMES, HEADS)
def test_without_fair_the_first_job_alone_decides(time: int, head: Rank, other: int, later: Rank) -> None:
    order = Order((PRIORITY,))
    assert (turn(order, time, head) < turn(order, other, later)) == (head < later)
    assert turn(order, time, head) == turn(order, other, head)


@given(TIMES, HEADS, TIMES, HEADS)
def test_what_comes_first_in_the_array_decides_first(time: int, head: Rank, other: int, later: Rank) -> None:
    fair_first = turn(Order((FAIR, PRIORITY)), time, head) < turn(Order((FAIR, PRIORITY)), other, later)
    assert fair_first == ((time, head) < (other, later))
    fair_last = turn(Order((PRIORITY, FAIR)), time, head) < turn(Order((PRIORITY, FAIR)), other, later)
    assert fair_last == ((head.band, time, head.pos) < (later.band, other, later.pos))


@pytest.mark.parametrize("terms", [(FAIR,), (FAIR, LIFO)])
def test_fair_alone_goes_by_what_a_key_has_had(terms: tuple[str, ...]) -> None:
    order = Order(terms)
    assert order.fair
    assert not Order((PRIORITY, LIFO)).fair
    assert turn(order, 1, Rank(0, 99)) < turn(order, 2, Rank(0, 1)) < turn(order, 2, Rank(0, 2))


@settings(deadline=None)
@given(st.lists(st.integers(1, 1_000), min_size=2, max_size=6))
def test_shares_follow_the_weights(weights: list[int]) -> None:
    order, times, had = Order((FAIR,)), [0] * len(weights), [0] * len(weights)
    for _ in range(500):
        first = min(range(len(weights)), key=lambda key: turn(order, times[key], Rank(0, key)))
        times[first] = charged(times[first], weights[first])
        had[first] += 1
    for key, weight in enumerate(weights):
        assert abs(had[key] - 500 * weight / sum(weights)) <= len(weights)
