"""How long final jobs are kept, and how often that is looked at."""

from __future__ import annotations

import pytest

from supervisor.job import FINAL, State
from supervisor.policy.retention import FOR_EVER, CountKeep, Keep, excess, expired, sweep_interval_ms

KEEP = Keep(completed_ms=1_000, cancelled_ms=2_000, dead_ms=None)


@pytest.mark.parametrize(
    ("state", "age_ms", "expected"),
    [
        (State.COMPLETED, 1_000, False),
        (State.COMPLETED, 1_001, True),
        (State.CANCELLED, 1_001, False),
        (State.CANCELLED, 2_001, True),
        (State.DEAD, 10**15, False),
        (State.COMPLETED, -5_000, False),
    ],
)
def test_a_final_job_is_kept_as_long_as_its_state_says(state: State, age_ms: int, expected: bool) -> None:
    assert expired(KEEP, state, 7_000, 7_000 + age_ms) is expected


@pytest.mark.parametrize("state", sorted(FINAL))
def test_nothing_expires_that_is_kept_for_ever(state: State) -> None:
    assert not expired(FOR_EVER, state, 0, 10**18)


@pytest.mark.parametrize("state", sorted(set(State) - FINAL))
def test_only_final_jobs_can_be_asked_about(state: State) -> None:
    with pytest.raises(KeyError):
        expired(FOR_EVER, state, 0, 0)


def test_nothing_is_kept_at_all_if_so_wanted() -> None:
    keep = Keep(0, 0, 0)
    assert not expired(keep, State.DEAD, 5, 5)
    assert expired(keep, State.DEAD, 5, 6)


@pytest.mark.parametrize(
    ("keeps", "expected"),
    [
        ([], None),
        ([FOR_EVER], None),
        ([KEEP], 1_000),
        ([Keep(0, None, None)], 1_000),
        ([Keep(600_000, 900_000, None), FOR_EVER], 60_000),
        ([Keep(10**12, None, None)], 3_600_000),
    ],
)
def test_the_shortest_time_decides_how_often_to_look(keeps: list[Keep], expected: int | None) -> None:
    assert sweep_interval_ms(keeps) == expected


def test_a_count_limits_the_states_that_have_one() -> None:
    assert CountKeep(10, None, 0).limits() == [(State.COMPLETED, 10), (State.DEAD, 0)]
    assert CountKeep(None, None, None).limits() == []


@pytest.mark.parametrize(("jobs", "expected"), [(0, 0), (10, 0), (11, 1), (1_000, 990)])
def test_only_what_is_beyond_the_count_is_too_many(jobs: int, expected: int) -> None:
    assert excess(jobs, 10) == expected
