"""Whom a worker's death is charged to."""

from __future__ import annotations

import pytest

from supervisor.policy.verdict import CAUSES, Charge, charge


@pytest.mark.parametrize(
    ("cause", "climbed_for", "expected"),
    [
        ("exit", [], Charge.CRASH),
        ("exit", [1], Charge.CRASH),
        ("timeout", [1], Charge.FAILURE),
        ("timeout", [2, 1], Charge.FAILURE),
        ("timeout", [2], Charge.INTERRUPTION),
        ("timeout", [], Charge.INTERRUPTION),
        ("cancelled", [1], Charge.CANCELLED),
        ("cancelled", [2], Charge.INTERRUPTION),
        ("stop", [], Charge.INTERRUPTION),
        ("stop", [1], Charge.INTERRUPTION),
        ("foreman", [], Charge.INTERRUPTION),
        ("a cause of a newer foreman", [1], Charge.INTERRUPTION),
        ("", [], Charge.INTERRUPTION),
    ],
)
def test_a_death_is_charged_to(cause: str, climbed_for: list[int], expected: Charge) -> None:
    assert charge(cause, 1, climbed_for) is expected


@pytest.mark.parametrize("cause", CAUSES)
def test_of_a_call_with_several_jobs_only_a_crash_is_charged_to_nobody(cause: str) -> None:
    alone, shared = charge(cause, 1, [1], alone=True), charge(cause, 1, [1], alone=False)
    assert shared is (Charge.SUSPICION if alone is Charge.CRASH else alone)


def test_every_cause_has_a_row_above() -> None:
    (table,) = [mark for mark in test_a_death_is_charged_to.pytestmark if mark.name == "parametrize"]
    assert {row[0] for row in table.args[1]} >= set(CAUSES)
