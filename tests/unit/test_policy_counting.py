"""What the end of a run counts as, and how figures are shown."""

from __future__ import annotations

import pytest

from supervisor.policy.counting import COUNTS, Counted, counted
from supervisor.policy.figures import percentiles_s, sparkline
from supervisor.policy.settle import Bury, Complete, Decision, History, Later, Release, Retry, Withdraw

ONE = History(failures=1)


@pytest.mark.parametrize(
    ("decision", "kind", "names", "measured"),
    [
        (Retry(1, ONE), "error", ("failed", "retried"), True),
        (Retry(1, ONE), "timeout", ("failed", "retried"), True),
        (Retry(1, ONE), "crash", ("crashed", "retried"), True),
        (Bury(ONE, "max_attempts"), "error", ("failed", "dead"), True),
        (Bury(ONE, "max_crashes"), "crash", ("crashed", "dead"), True),
        (Bury(ONE, "unfinished"), "interrupted", ("interrupted", "dead"), False),
        (Bury(ONE, "expired"), None, ("dead",), True),
        (Release(ONE), "interrupted", ("interrupted",), False),
        (Withdraw("x"), "cancelled", ("cancelled",), False),
        (Later(1), None, (), True),
        (Complete(None), None, (), True),
    ],
)
def test_a_decision_counts_as_what_it_is(
    decision: Decision, kind: str | None, names: tuple[str, ...], measured: bool
) -> None:
    assert counted(decision, kind) == Counted(names, measured)
    assert set(names) <= set(COUNTS)


def test_percentiles_are_seconds_and_unknown_without_runs() -> None:
    assert percentiles_s("run", [0, 4]) == {"run_p50_s": 0.001, "run_p95_s": 0.001, "run_p99_s": 0.001}
    assert percentiles_s("wait", []) == {"wait_p50_s": None, "wait_p95_s": None, "wait_p99_s": None}


@pytest.mark.parametrize(
    ("values", "width", "expected"),
    [
        ([], 5, ""),
        ([1, 2], 0, ""),
        ([0, 1, 8], 5, " ▁█"),
        ([0, 0], 5, "  "),
        ([1, 1, 1, 1], 2, "██"),
        ([1, 10_000], 5, "▁█"),
    ],
)
def test_a_sparkline_shows_the_highest_full_and_little_as_little(values: list[int], width: int, expected: str) -> None:
    assert sparkline(values, width) == expected


def test_a_sparkline_is_no_wider_than_it_may_be() -> None:
    assert len(sparkline([1] * 61, 24)) <= 24
