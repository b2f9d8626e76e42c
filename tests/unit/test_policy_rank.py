"""Rank: two integers that put any set of jobs into the order their queue promises."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supervisor.policy.rank import FIFO, LIFO, PRIORITY, Rank, rank

ARRIVALS = st.lists(st.integers(-100, 100), unique=False, max_size=50)


def drained(order: str, priorities: list[int]) -> list[int]:
    """The indexes of jobs that arrived in this order, in the order of their ranks."""
    return sorted(range(len(priorities)), key=lambda index: rank(order, priorities[index], index + 1))


@given(ARRIVALS)
def test_fifo_is_first_come_first_served_whatever_the_priority(priorities: list[int]) -> None:
    assert drained(FIFO, priorities) == list(range(len(priorities)))


@given(ARRIVALS)
def test_lifo_is_last_come_first_served_whatever_the_priority(priorities: list[int]) -> None:
    assert drained(LIFO, priorities) == list(range(len(priorities)))[::-1]


@given(ARRIVALS)
def test_priority_is_higher_first_and_first_come_among_equals(priorities: list[int]) -> None:
    expected = [index for level in range(100, -101, -1) for index, own in enumerate(priorities) if own == level]
    assert drained(PRIORITY, priorities) == expected


@given(st.lists(st.tuples(st.sampled_from([FIFO, LIFO, PRIORITY]), st.integers(-100, 100)), max_size=50))
def test_no_two_jobs_have_one_rank_even_if_the_order_of_their_queue_changed(arrivals: list[tuple[str, int]]) -> None:
    ranks = [rank(order, priority, sequence) for sequence, (order, priority) in enumerate(arrivals, 1)]
    assert len(set(ranks)) == len(ranks)


def test_the_lower_rank_is_the_sooner() -> None:
    assert Rank(-1, 9) < Rank(0, 1) < Rank(0, 2)
