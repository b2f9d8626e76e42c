"""What becomes of a job when its run has ended: three budgets that never mix."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.job import Cancel, Done, Failed, Outcome, Snooze, Unknown
from supervisor.policy.backoff import Backoff, delay_ms
from supervisor.policy.on_error import Rule
from supervisor.policy.settle import (
    Budgets,
    Bury,
    Complete,
    Decision,
    History,
    Later,
    Park,
    Release,
    Retry,
    Withdraw,
    after_crash,
    after_failure,
    after_interruption,
    after_outage,
    alone,
    settle,
)
from supervisor.policy.tasks import Need

NOW = 1_700_000_000_000
STEADY = Backoff(base_ms=1_000, factor=2.0, max_ms=60_000, jitter=0.0)
BUDGETS = Budgets(max_attempts=3, max_crashes=2, max_interruptions=4, backoff=STEADY)
NEVER = History()
HISTORIES = st.builds(History, st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
ALLOWED = st.tuples(st.integers(1, 30), st.integers(1, 30), st.integers(0, 30)).map(lambda most: Budgets(*most, STEADY))


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
        (NEVER, Unknown("send", 2), Park(Need("send", 2))),
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


def test_a_failure_while_the_breaker_is_not_closed_charges_nothing() -> None:
    assert after_outage(History(2), BUDGETS, 1_000) == Later(1_000)
    assert after_outage(History(2), BUDGETS._replace(deadline_ms=1_000), 1_000) == Bury(History(2), "deadline")


def test_who_ran_out_of_time_in_a_queue_of_batches_runs_alone_if_it_runs_again() -> None:
    assert alone(Retry(5, NEVER)) == Retry(5, NEVER, solo=True)
    for decision in (Later(5), Bury(NEVER, "max_attempts"), Withdraw("x")):
        assert alone(decision) == decision


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
    alone = expected._replace(solo=True) if isinstance(expected, Release) else expected
    assert after_interruption(history, BUDGETS, solo=True) == alone


def test_a_budget_of_one_allows_no_second_attempt() -> None:
    budgets = Budgets(max_attempts=1, max_crashes=1, max_interruptions=0)
    assert after_failure(NEVER, budgets, Failed("x"), NOW, 0.5) == Bury(History(1), "max_attempts")
    assert after_crash(NEVER, budgets, NOW, 0.5) == Bury(History(0, 1), "max_crashes")
    assert after_interruption(NEVER, budgets) == Bury(History(0, 0, 1), "unfinished")
    assert after_interruption(NEVER, budgets, solo=True) == Bury(History(0, 0, 1), "unfinished")


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


# -- rules for errors ----------------------------------------------------------------------------------------------

TIMEOUT = Failed("x", type="Timeout", classes=("requests.exceptions.Timeout", "OSError", "Exception"))
LISTED = Backoff(delays_ms=(7,), jitter=0.0)


@pytest.mark.parametrize(
    ("rule", "history", "expected"),
    [
        (Rule("dead"), NEVER, Bury(History(1), "on_error")),
        (Rule("cancel"), NEVER, Withdraw("on_error")),
        (Rule("snooze", 30), History(2, 1), Later(NOW + 30)),
        (Rule("retry"), NEVER, Retry(NOW + 1_000, History(1))),
        (Rule(backoff=LISTED), NEVER, Retry(NOW + 7, History(1))),
        (Rule(max_attempts=10), History(8), Retry(NOW + 60_000, History(9))),
        (Rule(max_attempts=10), History(9), Bury(History(10), "max_attempts")),
        (Rule(max_attempts=1), NEVER, Bury(History(1), "max_attempts")),
    ],
)
def test_a_rule_decides_about_its_errors(rule: Rule, history: History, expected: Decision) -> None:
    budgets = BUDGETS._replace(rules={"Timeout": rule})
    assert settle(history, budgets, TIMEOUT, NOW, 0.5) == expected
    assert settle(NEVER, budgets, Failed("x", type="Other"), NOW, 0.5) == Retry(NOW + 1_000, History(1))


def test_what_a_handler_calls_of_no_use_is_dead_whatever_a_rule_says() -> None:
    budgets = BUDGETS._replace(rules={"Dead": Rule("retry", max_attempts=99)})
    assert settle(NEVER, budgets, Failed("x", type="Dead", final=True), NOW, 0.5) == Bury(History(1), "rejected")


@pytest.mark.parametrize(
    ("rule", "history", "expected"),
    [
        (Rule("dead"), NEVER, Bury(History(0, 1), "on_error")),
        (Rule("cancel"), NEVER, Withdraw("on_error")),
        (Rule("retry"), NEVER, Retry(NOW + 1_000, History(0, 1), solo=True)),
        (Rule(backoff=LISTED, max_attempts=9), History(0, 5), Retry(NOW + 7, History(0, 6), solo=True)),
        (Rule(max_attempts=1), NEVER, Bury(History(0, 1), "max_crashes")),
    ],
)
def test_a_rule_decides_about_crashes(rule: Rule, history: History, expected: Decision) -> None:
    budgets = BUDGETS._replace(rules={"crash": rule}, own_attempts=2)
    assert after_crash(history, budgets, NOW, 0.5) == expected


# -- what a job brings itself, and what it asked for ---------------------------------------------------------------


def test_a_job_goes_before_the_rules_of_its_queue() -> None:
    rules = {"Timeout": Rule(max_attempts=10, backoff=LISTED)}
    budgets = BUDGETS._replace(rules=rules, own_attempts=2, own_backoff=Backoff(delays_ms=(99,), jitter=0.0))
    assert settle(NEVER, budgets, TIMEOUT, NOW, 0.5) == Retry(NOW + 99, History(1))
    assert settle(History(1), budgets, TIMEOUT, NOW, 0.5) == Bury(History(2), "max_attempts")


@pytest.mark.parametrize(
    ("failed", "budgets", "delay"),
    [
        (TIMEOUT._replace(delay_ms=5, backoff_ms=6), BUDGETS._replace(own_backoff=LISTED), 5),
        (TIMEOUT._replace(delay_ms=0), BUDGETS, 0),
        (TIMEOUT._replace(backoff_ms=6), BUDGETS, 6),
        (TIMEOUT._replace(backoff_ms=6), BUDGETS._replace(rules={"Timeout": Rule(max_attempts=9)}), 6),
        (TIMEOUT._replace(backoff_ms=6), BUDGETS._replace(rules={"Timeout": Rule(backoff=LISTED)}), 7),
        (TIMEOUT._replace(backoff_ms=6), BUDGETS._replace(own_backoff=LISTED), 7),
    ],
)
def test_the_nearest_word_about_the_delay_counts(failed: Failed, budgets: Budgets, delay: int) -> None:
    assert settle(NEVER, budgets, failed, NOW, 0.5) == Retry(NOW + delay, History(1))


# -- times ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("left", "dead"), [(999, True), (1_000, False), (1_001, False)])
def test_no_retry_comes_later_than_it_may(left: int, dead: bool) -> None:
    budgets = BUDGETS._replace(retry_until_ms=NOW + left)
    for found in (settle(NEVER, budgets, Failed("x"), NOW, 0.5), after_crash(NEVER, budgets, NOW, 0.5)):
        assert isinstance(found, Bury | Retry)
        assert isinstance(found, Bury) is dead
        assert not isinstance(found, Bury) or found.reason == "retry_for"


def test_a_snooze_by_rule_is_no_way_around_the_time_for_retries() -> None:
    budgets = BUDGETS._replace(rules={"Timeout": Rule("snooze", 30)}, retry_until_ms=NOW + 29)
    assert settle(NEVER, budgets, TIMEOUT, NOW, 0.5) == Bury(History(1), "retry_for")
    assert settle(NEVER, budgets, Snooze("5m"), NOW, 0.5) == Later(NOW + 300_000)


@pytest.mark.parametrize(("left", "dead"), [(-5, True), (1_000, True), (1_001, False)])
def test_nothing_comes_after_the_deadline(left: int, dead: bool) -> None:
    budgets = BUDGETS._replace(deadline_ms=NOW + left, retry_until_ms=NOW - 1 if dead else None)
    rest = Snooze(1)
    found = [settle(NEVER, budgets, end, NOW, 0.5) for end in (Failed("x", kind="timeout"), rest)]
    found.append(after_crash(NEVER, budgets, NOW, 0.5))
    assert [isinstance(one, Bury) for one in found] == [dead] * 3
    assert {one.reason for one in found if isinstance(one, Bury)} <= {"deadline"}
    assert settle(NEVER, budgets, Done(b"1"), NOW, 0.5) == Complete(b"1")
