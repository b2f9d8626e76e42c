"""What becomes of a job when its run has ended: three budgets that never mix."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.job import Cancel, Done, Failed, Outcome, Snooze
from supervisor.policy.backoff import Backoff, delay_ms
from supervisor.policy.settle import (
    Budgets,
    Bury,
    Complete,
    Decision,
    History,
    Later,
    Release,
    Retry,
    Withdraw,
    after_crash,
    after_failure,
    after_interruption,
    settle,
)

NOW = 1_700_000_000_000
STEADY = Backoff(base_ms=1_000, factor=2.0, max_ms=60_000, jitter=0.0)
BUDGETS = Budgets(max_attempts=3, max_crashes=2, max_interruptions=4, backoff=STEADY)
NEVER = History()
HISTORIES = st.builds(History, st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
ALLOWED = st.builds(Budgets, st.integers(1, 30), st.integers(1, 30), st.integers(0, 30), st.just(STEADY))


@pytest.mark.parametrize(
    ("history", "outcome", "expected"),
    [
        (NEVER, Done(b"[1]"), Complete(b"[1]")),
        (NEVER, Done(), Complete(None)),
        (History(2, 1, 4), Done(b"1"), Complete(b"1")),
        (NEVER, Snooze("5m"), Later(NOW + 300_000)),
        (History(2, 1, 4), Snooze(1.5), Later(NOW + 1_500)),
        (NEVER, Snooze(timedelta(seconds=2)), Later(NOW + 2_000)),
        (NEVER, Snooze(0), Later(NOW)),
        (NEVER, Cancel("not wanted"), Withdraw("not wanted")),
        (NEVER, Cancel(), Withdraw("")),
        (NEVER, Failed("x"), Retry(NOW + 1_000, History(1))),
        (History(1), Failed("x"), Retry(NOW + 2_000, History(2))),
        (History(2), Failed("x"), Bury(History(3), "max_attempts")),
        (History(9), Failed("x"), Bury(History(10), "max_attempts")),
        (NEVER, Failed("x", kind="timeout"), Retry(NOW + 1_000, History(1))),
        (NEVER, Failed("x", final=True), Bury(History(1), "rejected")),
        (History(2), Failed("x", final=True), Bury(History(3), "rejected")),
        (History(0, 1), Failed("x"), Retry(NOW + 1_000, History(1, 1), solo=True)),
        (History(0, 0, 3), Failed("x"), Retry(NOW + 1_000, History(1, 0, 3))),
    ],
)
def test_an_outcome_decides_what_becomes_of_the_job(history: History, outcome: Outcome, expected: Decision) -> None:
    assert settle(history, BUDGETS, outcome, NOW, 0.5) == expected


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (NEVER, Retry(NOW + 1_000, History(0, 1), solo=True)),
        (History(2), Retry(NOW + 1_000, History(2, 1), solo=True)),
        (History(0, 1), Bury(History(0, 2), "max_crashes")),
        (History(0, 5), Bury(History(0, 6), "max_crashes")),
    ],
)
def test_a_crash_makes_a_suspect_and_then_a_dead_job(history: History, expected: Decision) -> None:
    assert after_crash(history, BUDGETS, NOW, 0.5) == expected


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (NEVER, Release(History(0, 0, 1))),
        (History(2, 1, 3), Release(History(2, 1, 4))),
        (History(0, 0, 4), Bury(History(0, 0, 5), "unfinished")),
    ],
)
def test_an_interruption_is_free_but_not_for_ever(history: History, expected: Decision) -> None:
    assert after_interruption(history, BUDGETS) == expected


def test_a_budget_of_one_allows_no_second_attempt() -> None:
    budgets = Budgets(max_attempts=1, max_crashes=1, max_interruptions=0)
    assert after_failure(NEVER, budgets, Failed("x"), NOW, 0.5) == Bury(History(1), "max_attempts")
    assert after_crash(NEVER, budgets, NOW, 0.5) == Bury(History(0, 1), "max_crashes")
    assert after_interruption(NEVER, budgets) == Bury(History(0, 0, 1), "unfinished")


@given(HISTORIES, ALLOWED)
def test_each_end_is_charged_to_one_budget_only(history: History, budgets: Budgets) -> None:
    failures, crashes, interruptions = history
    failed = after_failure(history, budgets, Failed("x"), NOW, 0.5)
    crashed = after_crash(history, budgets, NOW, 0.5)
    interrupted = after_interruption(history, budgets)
    assert failed.history == (failures + 1, crashes, interruptions)
    assert crashed.history == (failures, crashes + 1, interruptions)
    assert interrupted.history == (failures, crashes, interruptions + 1)
    assert isinstance(failed, Bury) == (failures + 1 >= budgets.max_attempts)
    assert isinstance(crashed, Bury) == (crashes + 1 >= budgets.max_crashes)
    assert isinstance(interrupted, Bury) == (interruptions + 1 > budgets.max_interruptions)


def test_the_backoff_grows_with_what_the_job_is_retried_for() -> None:
    assert after_failure(History(1, 1), BUDGETS, Failed("x"), NOW, 0.5) == Retry(NOW + 2_000, History(2, 1), solo=True)
    more = BUDGETS._replace(max_crashes=9)
    assert after_crash(History(2, 3), more, NOW, 0.5) == Retry(NOW + 8_000, History(2, 4), solo=True)


def test_attempts_are_numbered_by_what_was_charged() -> None:
    assert [history.attempt for history in (NEVER, History(1), History(1, 2), History(1, 2, 9))] == [1, 2, 4, 4]


@pytest.mark.parametrize(("chance", "expected"), [(0.0, 900), (0.5, 1_000), (0.999_999, 1_100)])
def test_chance_spreads_the_retry(chance: float, expected: int) -> None:
    budgets = Budgets(backoff=Backoff(1_000, 2.0, 60_000, 0.1))
    assert settle(NEVER, budgets, Failed("x"), NOW, chance) == Retry(NOW + expected, History(1))
    assert delay_ms(budgets.backoff, 1, chance) == expected
