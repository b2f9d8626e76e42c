"""Which rule an error falls under: the most derived class first, the name with its module before the bare one."""

from __future__ import annotations

import pytest

from supervisor.job import Failed
from supervisor.policy.on_error import named, names_of, rule_for

TIMEOUT = Failed("x", type="Timeout", classes=("requests.exceptions.Timeout", "OSError", "Exception"))


@pytest.mark.parametrize(
    ("failed", "names"),
    [
        (TIMEOUT, ["requests.exceptions.Timeout", "Timeout", "OSError", "Exception"]),
        (Failed("x"), []),
        (Failed("x", type="InvalidResult"), ["InvalidResult"]),
        (Failed("x", kind="timeout", type="JobTimeout"), ["timeout", "JobTimeout"]),
        (Failed("x", type="CommandFailed", exit_code=65), ["exit 65", "CommandFailed"]),
        (Failed("x", type="CommandFailed", signal=9), ["signal 9", "CommandFailed"]),
    ],
)
def test_a_failure_has_names(failed: Failed, names: list[str]) -> None:
    assert list(names_of(failed)) == names


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({}, None),
        ({"ValueError": 1}, None),
        ({"Exception": 1, "OSError": 2}, 2),
        ({"Exception": 1, "Timeout": 2, "OSError": 3}, 2),
        ({"Timeout": 1, "requests.exceptions.Timeout": 2}, 2),
        ({"exceptions.Timeout": 1}, None),
    ],
)
def test_the_narrowest_name_that_has_a_rule_counts(rules: dict[str, int], expected: int | None) -> None:
    assert rule_for(rules, TIMEOUT) == expected


def test_an_error_is_among_names_or_not() -> None:
    assert named(("ValueError", "OSError"), TIMEOUT)
    assert not named(("ValueError", "timeout"), TIMEOUT)
    assert not named((), TIMEOUT)
