"""The pace of replays, how many may be under way, and what the end of one of its jobs says."""

from __future__ import annotations

import pytest

from supervisor.job import State
from supervisor.policy.replay import HORIZON_MS, UNDER_WAY_MAX, Pace, Seen, due_times, parse_pace, room, seen
from supervisor.policy.settle import History

NOW = 1_700_000_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10/s", Pace(10, 1_000)),
        ("100/1m", Pace(100, 60_000)),
        ("5/1m30s", Pace(5, 90_000)),
        ("1/h", Pace(1, 3_600_000)),
        ("3/0.5s", Pace(3, 500)),
        ("1000000/s", Pace(1_000_000, 1_000)),
    ],
)
def test_a_pace_is_jobs_and_a_time(text: str, expected: Pace) -> None:
    assert parse_pace(text) == expected


@pytest.mark.parametrize(
    "text", ["", "10", "10/", "/s", "10/x", "-1/s", "0/s", "10/0s", "1.5/s", "10 / s", "10000000/s", "10/5"]
)
def test_what_is_no_pace_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"pace|duration|unit"):
        parse_pace(text)


def test_without_a_pace_all_are_due_now() -> None:
    assert due_times(None, 5, NOW, 3) == ([NOW] * 3, 5)


def test_jobs_of_a_pace_are_evenly_spread_up_to_the_horizon() -> None:
    times, next_us = due_times(Pace(10, 1_000), 0, NOW, 100)
    assert times == [NOW + 100 * number for number in range(10)]
    assert next_us == (NOW + HORIZON_MS) * 1_000


def test_no_more_than_there_are() -> None:
    times, next_us = due_times(Pace(10, 1_000), 0, NOW, 2)
    assert times == [NOW, NOW + 100]
    assert next_us == (NOW + 200) * 1_000


def test_a_slow_pace_waits_for_its_time() -> None:
    assert due_times(Pace(1, 60_000), (NOW + 50_000) * 1_000, NOW, 100) == ([], (NOW + 50_000) * 1_000)


def test_time_that_was_missed_is_not_made_up_for() -> None:
    times, _ = due_times(Pace(1, 1_000), (NOW - 3_600_000) * 1_000, NOW, 100)
    assert times == [NOW]


def test_a_pace_beyond_a_job_a_millisecond_is_kept_as_well() -> None:
    times, _ = due_times(Pace(3_000, 1_000), 0, NOW, 10_000)
    assert abs(len(times) - 3_000) <= 5


@pytest.mark.parametrize(
    ("canary", "released", "pending", "expected"),
    [
        (None, 0, 0, UNDER_WAY_MAX),
        (None, 5_000, UNDER_WAY_MAX, 0),
        (None, 5_000, UNDER_WAY_MAX + 1, 0),
        (3, 0, 0, 3),
        (3, 2, 2, 1),
        (3, 3, 3, 0),
        (5_000, 0, 0, UNDER_WAY_MAX),
    ],
)
def test_room_is_bounded_by_what_is_under_way_and_by_the_canary(
    canary: int | None, released: int, pending: int, expected: int
) -> None:
    assert room(canary, released, pending) == expected


@pytest.mark.parametrize(
    ("state", "history", "expected"),
    [
        (State.QUEUED, History(), Seen.PENDING),
        (State.RUNNING, History(interruptions=1), Seen.PENDING),
        (State.SCHEDULED, History(failures=1), Seen.FAILING),
        (State.RUNNING, History(crashes=1), Seen.FAILING),
        (State.COMPLETED, History(failures=2), Seen.COMPLETED),
        (State.DEAD, History(failures=5), Seen.FAILED),
        (State.CANCELLED, History(), Seen.FAILED),
    ],
)
def test_what_became_of_a_job(state: State, history: History, expected: Seen) -> None:
    assert seen(state, history) is expected
