"""When a batch is due, and which jobs share a call."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.policy.batch import Gathered, Rule, due_at_ms, lacking, limit_of

RULE = Rule(size=10, wait_ms=500)


@pytest.mark.parametrize(
    ("gathered", "rule", "at_ms"),
    [
        (Gathered(1_000, 1), RULE, 1_500),
        (Gathered(1_000, 9), RULE, 1_500),
        (Gathered(1_000, 10), RULE, 1_000),
        (Gathered(1_000, 11), RULE, 1_000),
        (Gathered(1_000, 1, alone=True), RULE, 1_000),
        (Gathered(1_000, 1), Rule(10), 1_000),
    ],
)
def test_a_batch_is_due_when_it_is_full_or_has_waited_or_must_run_alone(
    gathered: Gathered, rule: Rule, at_ms: int
) -> None:
    assert due_at_ms(gathered, rule) == at_ms


@pytest.mark.parametrize(("ready", "left"), [(0, 10), (3, 7), (10, 0), (12, 0)])
def test_what_is_lacking_is_never_below_nothing(ready: int, left: int) -> None:
    assert lacking(Gathered(0, ready), RULE) == left


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ({}, {}, True),
        ({}, {"timeout_ms": 5_000}, True),
        ({}, {"timeout_ms": 4_999}, False),
        ({"timeout_ms": 70_000}, {"timeout_ms": 70_000}, True),
        ({}, {"deadline_at_ms": 1_000_000 + 5_000}, True),
        ({}, {"deadline_at_ms": 1_000_000 + 4_999}, False),
        ({"deadline_at_ms": 1_000_007}, {"deadline_at_ms": 1_000_007}, True),
        ({"deadline_at_ms": 1_000_007}, {"deadline_at_ms": 1_000_008}, False),
        ({"timeout_ms": 9_000, "deadline_at_ms": 1_006_000}, {"deadline_at_ms": 1_006_000}, False),
        ({"deadline_at_ms": 3}, {"deadline_at_ms": 4}, False),
    ],
)
def test_only_jobs_of_one_time_limit_share_a_call(one: dict[str, Any], other: dict[str, Any], together: bool) -> None:
    limits = {limit_of(options, 5_000, 1_000_000) for options in (one, other)}
    assert (len(limits) == 1) is together
