"""Faults planted in what flows do, each of which the random program of test_flows.py must find."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.flow.rules import Callback
from supervisor.store.sqlite import flowing, steps
from supervisor.store.sqlite.base import Base
from supervisor.store.sqlite.flowing import Flowing
from supervisor.store.sqlite.operating import Operating
from supervisor.store.sqlite.steps import Steps
from tests.conformance.sqlite import SqliteBackend
from tests.model.test_flows import a_run

RUNS_MAX = 40
Plant = Callable[[pytest.MonkeyPatch], None]


def forget_what_is_left_over(patch: pytest.MonkeyPatch) -> None:
    """What ended in a transaction and was not told is not written down."""
    flush = Base.flush

    def forgetful(self: Any) -> None:
        self._final.clear()
        flush(self)

    patch.setattr(Base, "flush", forgetful)


def call_twice(patch: pytest.MonkeyPatch) -> None:
    """A callback is not noted as made."""
    call = Flowing._call

    def repeated(self: Any, flow: Any, callback: Callback) -> None:
        call(self, flow, callback)
        flow.told &= ~callback

    patch.setattr(Flowing, "_call", repeated)


def revive_before_parents(patch: pytest.MonkeyPatch) -> None:
    """A step that is revived does not wait for what it comes after."""
    patch.setattr(Steps, "_open_edges_into", lambda _self, _job: 0)


def end_early(patch: pytest.MonkeyPatch) -> None:
    """A flow ends one step before its last."""
    done = Flowing._end_if_done

    def early(self: Any, flow: Any) -> None:
        if flow.unfinished == 1 and not flow.open and flow.steps > 3:
            flow.unfinished = 0
        done(self, flow)

    patch.setattr(Flowing, "_end_if_done", early)


def ignore_is_continue(patch: pytest.MonkeyPatch) -> None:
    """A failed step that is ignored lets the next one start at once."""
    free = Flowing._free_children
    patch.setattr(Flowing, "_free_children", lambda self, waits: free(self, type(waits)(dict.fromkeys(waits, -1))))


def forget_to_reopen(patch: pytest.MonkeyPatch) -> None:
    """A step that runs again still counts as ended."""
    patch.setattr(Steps, "_reopen", lambda _self, _ids: None)


def keep_around_closed(patch: pytest.MonkeyPatch) -> None:
    """The flow around one that runs again still counts it as ended."""
    patch.setattr(Steps, "_reopen_around", lambda _self, _flow, _ended: None)


def wait_for_signals_again(patch: pytest.MonkeyPatch) -> None:
    """A retry waits for a signal that had come."""
    patch.setattr(flowing, "SIGNAL", 99)


def lose_the_cancelled(patch: pytest.MonkeyPatch) -> None:
    """What is cancelled is not told to what comes after it."""
    withdraw = Operating._withdraw

    def quiet(self: Any, row: Any, *args: Any, **options: Any) -> None:
        withdraw(self, row, *args, **options)
        self._final = [each for each in self._final if each != row.id]

    patch.setattr(Operating, "_withdraw", quiet)


def count_no_failure(patch: pytest.MonkeyPatch) -> None:
    """A flow does not count what failed in it."""
    patch.setattr(steps.FlowRow, "count", lambda *_args, **_options: None)


PLANTS: list[Plant] = [
    forget_what_is_left_over, call_twice, revive_before_parents, end_early, ignore_is_continue, forget_to_reopen,
    keep_around_closed, wait_for_signals_again, lose_the_cancelled, count_no_failure,
]  # fmt: skip


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plant: Plant) -> None:
    empty = tmp_path / "empty.db"
    SqliteBackend(empty, durability="relaxed").open().close()
    plant(monkeypatch)
    for number in range(RUNS_MAX):
        path = tmp_path / "run.db"
        try:
            a_run(SqliteBackend(path, template=empty, durability="relaxed"), f"control {number}")
        except AssertionError:
            return
        for file in tmp_path.glob("run.db*"):
            file.unlink()
    pytest.fail(f"not found in {RUNS_MAX} runs: {plant.__doc__}")
