"""Positive controls: a fault is planted, and a machine must find it."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from supervisor.errors import StoreError
from supervisor.job import IllegalTransition
from supervisor.store.driver import sqlite3
from supervisor.store.sqlite.statements import SQL

Plant = Callable[[pytest.MonkeyPatch], None]

SYMPTOMS = (AssertionError, StoreError, IllegalTransition, KeyError, sqlite3.Error)
"""How a fault may show: an answer that is not the model's, or a refusal where the model expected none."""


def statement(name: str, old: str, new: str) -> Plant:
    """A fault in one statement."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        text = getattr(SQL, name)
        assert old in text
        patch.setattr(SQL, name, text.replace(old, new))

    return plant


class Found(KeyboardInterrupt):
    """Ends the search at once: Hypothesis would run what failed again, and some faults do not fail twice alike."""


def watched(machine: type[RuleBasedStateMachine]) -> type[RuleBasedStateMachine]:
    """The machine, which stops at the first symptom."""

    class Watched(machine):  # type: ignore[misc, valid-type]
        def teardown(self) -> None:
            symptom = sys.exc_info()[1]
            try:
                super().teardown()
            except SYMPTOMS as late:
                symptom = symptom or late
            if isinstance(symptom, SYMPTOMS):
                raise Found from symptom

    return Watched


def must_find(machine: type[RuleBasedStateMachine], *, examples: int, steps: int) -> None:
    """Let the machine look for the fault that is planted, in the same way each time."""
    size = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    with pytest.raises(Found):
        run_state_machine_as_test(watched(machine), settings=size)
