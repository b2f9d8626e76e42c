"""The outage breaker: closed, open, half-open; what opens it, how long it stays open, what closes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.policy.breaker import (
    CLOSED,
    Breaker,
    Phase,
    Settings,
    allowed,
    anchored,
    failed,
    passed,
    probing,
    wait_ms,
)

NOW = 1_700_000_000_000
SETTINGS = Settings(failures=3, period_ms=1_000, cooldown_ms=100, max_cooldown_ms=350)


def after_failures(*at: int, settings: Settings = SETTINGS) -> Breaker:
    """A breaker that heard of failures at these times."""
    known = CLOSED
    for job, moment in enumerate(at, 1):
        known = failed(known, settings, job, f"failure {job}", NOW + moment)
    return known


OPEN = after_failures(0, 1, 2)


def test_it_opens_at_so_many_failures_in_a_row() -> None:
    assert after_failures(0, 1).phase is Phase.CLOSED
    assert Breaker(Phase.OPEN, (), NOW + 2, NOW + 102, 100, None, "failure 3") == OPEN


def test_one_failure_may_be_enough() -> None:
    assert after_failures(5, settings=SETTINGS._replace(failures=1)).phase is Phase.OPEN


def test_a_success_between_begins_the_row_anew() -> None:
    assert passed(after_failures(0, 1), 9) == CLOSED
    assert failed(passed(after_failures(0, 1), 9), SETTINGS, 3, "x", NOW + 2).phase is Phase.CLOSED


def test_failures_that_are_too_long_ago_do_not_count() -> None:
    assert after_failures(0, 1, 1_000).failed_at_ms == (NOW + 1, NOW + 1_000)
    assert after_failures(0, 500, 999).phase is Phase.OPEN
    assert after_failures(0, 1, 1_000, 1_000).phase is Phase.OPEN


def test_failures_of_a_time_to_come_do_not_count_either() -> None:
    """The clock was set back."""
    assert after_failures(500, 501, 0).failed_at_ms == (NOW,)


def test_nothing_may_go_before_the_cooldown_is_over_and_then_one() -> None:
    assert allowed(CLOSED, NOW, probe_runs=False) is None
    assert allowed(after_failures(0), NOW, probe_runs=False) is None
    assert [allowed(OPEN, NOW + at, probe_runs=False) for at in (2, 101, 102, 10**9)] == [0, 0, 1, 1]
    half_open = probing(OPEN, 7)
    assert half_open.phase is Phase.HALF_OPEN
    assert allowed(half_open, NOW + 102, probe_runs=True) == 0
    assert allowed(half_open, NOW + 102, probe_runs=False) == 1


def test_a_probe_that_does_not_fail_closes_it() -> None:
    half_open = probing(OPEN, 7)
    assert passed(half_open, 8) == half_open
    assert passed(half_open, 7) == CLOSED
    assert passed(OPEN, 7) == OPEN


def test_a_probe_that_fails_opens_it_for_twice_as_long_up_to_the_most() -> None:
    known, waits = OPEN, []
    for job in range(4):
        known = failed(probing(known, job), SETTINGS, job, "still down", NOW + 1_000)
        waits.append(known.cooldown_ms)
        assert (known.phase, known.until_ms, known.probe) == (Phase.OPEN, NOW + 1_000 + known.cooldown_ms, None)
        assert (known.opened_at_ms, known.reason) == (NOW + 2, "still down")
    assert waits == [200, 350, 350, 350]


def test_a_failure_of_another_job_changes_nothing_while_it_is_not_closed() -> None:
    assert failed(OPEN, SETTINGS, 9, "late", NOW + 50) == OPEN
    half_open = probing(OPEN, 7)
    assert failed(half_open, SETTINGS, 9, "late", NOW + 150) == half_open


def test_settings_that_changed_meanwhile_never_shorten_a_cooldown_to_nothing() -> None:
    changed = SETTINGS._replace(cooldown_ms=1_000, max_cooldown_ms=1)
    assert failed(probing(OPEN, 1), changed, 1, "x", NOW).cooldown_ms == 200
    assert failed(probing(Breaker(Phase.OPEN), 1), SETTINGS, 1, "x", NOW).cooldown_ms == 2


@pytest.mark.parametrize(("now", "expected"), [(NOW + 2, 100), (NOW + 100, 2), (NOW + 102, 0), (NOW + 10**6, 0)])
def test_the_wait_ends_with_the_cooldown(now: int, expected: int) -> None:
    assert wait_ms(OPEN, now) == expected


def test_after_a_clock_was_set_back_the_cooldown_begins_anew() -> None:
    past = NOW - 10**9
    assert wait_ms(OPEN, past) > 10**9
    again = anchored(OPEN, past)
    assert wait_ms(again, past) == 100
    assert again == OPEN._replace(until_ms=past + 100)


@pytest.mark.parametrize("known", [OPEN, CLOSED, probing(OPEN, 7), Breaker(Phase.OPEN)])
def test_a_clock_that_runs_on_changes_nothing(known: Breaker) -> None:
    assert {anchored(known, NOW + at) for at in (2, 50, 10**9)} == {known}


def test_who_is_not_open_waits_for_nothing() -> None:
    assert wait_ms(CLOSED, NOW) == wait_ms(probing(OPEN, 7), NOW) == wait_ms(Breaker(Phase.OPEN), NOW) == 0


@given(st.lists(st.tuples(st.sampled_from(["fail", "pass", "probe"]), st.integers(1, 3), st.integers(0, 400))))
def test_whatever_happens_at_most_one_may_go_while_it_is_not_closed(steps: list[tuple[str, int, int]]) -> None:
    known, now = CLOSED, NOW
    for what, job, later in steps:
        now += later
        may = allowed(known, now, probe_runs=known.probe is not None)
        assert (may is None) == (known.phase is Phase.CLOSED)
        assert may in (None, 0, 1)
        if what == "fail":
            known = failed(known, SETTINGS, job, "x", now)
        elif what == "pass":
            known = passed(known, job)
        elif may:
            known = probing(known, job)
        assert len(known.failed_at_ms) < SETTINGS.failures
        assert (known.probe is not None) == (known.phase is Phase.HALF_OPEN)
        assert 0 <= wait_ms(known, now) <= SETTINGS.max_cooldown_ms
