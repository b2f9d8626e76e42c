"""Waits of the keeper: answered once, forgotten in time, and bounded by those who still wait."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from supervisor.errors import JobsupError, UnknownJob, WaitTimeout
from supervisor.keeper.waits import SWEEP_MIN, Waits
from supervisor.wire.connection import Connection
from supervisor.wire.messages import Wait


class Said:
    """What clients were told: (connection, request id) -> answer."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, object]] = []
        self.waits = Waits(lambda _, number, shown: self.answers.append((number, shown["state"])), self._refused)

    def _refused(self, _connection: Connection, number: int, error: JobsupError) -> None:
        self.answers.append((number, type(error)))

    def wait(self, number: int, job: int, timeout_ms: int, connection: Any = None) -> None:
        who = connection or SimpleNamespace(closed=False)
        self.waits.add(cast("Connection", who), Wait(v=1, id=number, job=job, timeout_ms=timeout_ms), 0)


def completed(job_id: int) -> dict[str, Any]:
    return {"id": job_id, "state": "completed"}


def test_each_wait_is_answered_once_by_the_end_of_its_job_or_of_its_time() -> None:
    said = Said()
    said.wait(1, job=7, timeout_ms=50)
    said.wait(2, job=7, timeout_ms=500)
    said.wait(3, job=8, timeout_ms=70)
    assert said.waits.next_ms == 50
    said.waits.end(50)
    assert said.answers == [(1, WaitTimeout)]
    said.waits.tell({7, 9}, set, completed)
    said.waits.end(10_000)
    assert said.answers == [(1, WaitTimeout), (2, "completed"), (3, WaitTimeout)]
    assert (said.waits.next_ms, said.waits.jobs) == (None, set())


def test_a_run_that_was_not_the_last_ends_no_wait_and_a_deleted_job_every_one() -> None:
    said = Said()
    said.wait(1, job=7, timeout_ms=50)
    said.waits.tell({7}, set, lambda job_id: {"id": job_id, "state": "scheduled"})
    assert said.answers == []
    said.waits.tell({7}, set, lambda _: None)
    assert said.answers == [(1, UnknownJob)]


def test_what_is_kept_of_waits_that_are_over_is_bounded() -> None:
    """Waits may last a day: what was answered long ago, or asked by who has gone, must not be kept for as long."""
    said, gone = Said(), SimpleNamespace(closed=True)
    for number in range(10 * SWEEP_MIN):
        said.wait(number, job=number, timeout_ms=86_400_000, connection=gone if number % 2 else None)
        if not number % 2:
            said.waits.tell({number}, set, completed)
    assert len(said.waits._ends) <= SWEEP_MIN + 1
    assert len(said.waits.jobs) <= SWEEP_MIN + 1
