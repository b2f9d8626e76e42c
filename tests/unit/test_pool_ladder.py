"""The deadline ladder: when it is set up, when each rung is due, and what it makes of a worker's end."""

from __future__ import annotations

import pytest

from supervisor.pool.ladder import CANCELLED, TIMEOUT, Climb, Step, ended_by, next_look_ms, next_rung_ms, overdue, steps
from supervisor.unix.memory import Cell

GRACE_MS = 1_000


def cell(job: int = 7, deadline_ms: int = 5_000, token: int = 1) -> Cell:
    return Cell(0, job, token, 0, deadline_ms)


@pytest.mark.parametrize(("now_ms", "climbs"), [(4_999, False), (5_000, True), (9_000, True)])
def test_a_ladder_is_set_up_when_the_deadline_has_passed(now_ms: int, climbs: bool) -> None:
    found = overdue(None, [cell()], (), now_ms)
    assert found == (Climb((7, 1), now_ms) if climbs else None)


def test_a_job_that_has_returned_is_neither_overdue_nor_to_be_cancelled() -> None:
    assert overdue(None, [cell(deadline_ms=0)], {(7, 1)}, 1 << 60) is None
    assert overdue(Climb((7, 1), 5_000, rung=1), [cell(deadline_ms=0)], (), 6_000) is None


def test_a_cancelled_job_has_its_whole_grace_from_now() -> None:
    """Not from when it was cancelled: it may have begun, or been seen, long after that."""
    assert overdue(None, [cell()], {(7, 1)}, 1_000) == Climb((7, 1), 1_000, cause=CANCELLED)
    assert overdue(None, [cell(token=2)], {(7, 1)}, 1_000) is None


def test_a_cancelled_job_of_a_batch_is_left_to_end_with_the_others() -> None:
    together = [cell(job) for job in (7, 8, 9)]
    assert overdue(None, together, {(7, 1), (8, 1)}, 1_000) is None
    assert overdue(None, together[:1], {(7, 1)}, 1_000) == Climb((7, 1), 1_000, cause=CANCELLED)
    assert overdue(None, together, {(8, 1)}, 5_000) == Climb((7, 1), 5_000)


def test_the_ladder_is_left_when_its_job_has_ended() -> None:
    climb = Climb((7, 1), 5_000, rung=1)
    assert overdue(climb, [cell()], (), 6_000) == climb
    assert overdue(climb, [cell(job=8, deadline_ms=9_000)], (), 6_000) is None
    assert overdue(climb, [cell(job=8, deadline_ms=5_500)], (), 6_000) == Climb((8, 1), 6_000)


def test_a_worker_that_was_told_to_go_stays_on_its_ladder() -> None:
    climb = Climb((7, 1), 5_000, rung=2)
    assert overdue(climb, [], (), 6_000) == climb


def test_rungs_are_taken_when_they_are_due() -> None:
    climb = Climb((7, 1), 5_000)
    taken = []
    for now_ms in (5_000, 5_499, 5_500, 5_999, 6_000, 9_000):
        climb, due = steps(climb, GRACE_MS, now_ms)
        taken.append(due)
    assert taken == [(Step.DUMP, Step.SOFT), (), (Step.TERM,), (), (Step.KILL,), ()]


def test_rungs_that_were_missed_are_taken_at_once_in_order() -> None:
    climb, due = steps(Climb((7, 1), 5_000), GRACE_MS, 99_000)
    assert due == (Step.DUMP, Step.SOFT, Step.TERM, Step.KILL)
    assert next_rung_ms(climb, GRACE_MS) is None


def test_the_next_look_is_at_the_next_deadline_or_the_next_rung() -> None:
    assert next_look_ms(None, [], GRACE_MS, 10_000) == 10_000
    assert next_look_ms(None, [cell(), cell(deadline_ms=0)], GRACE_MS, 10_000) == 5_000
    assert next_look_ms(Climb((7, 1), 5_000, rung=1), [cell()], GRACE_MS, 10_000) == 5_500
    assert next_look_ms(Climb((7, 1), 5_000, rung=3), [cell()], GRACE_MS, 10_000) == 10_000


@pytest.mark.parametrize(
    ("rung", "exit_code", "number", "cause"),
    [
        (1, None, 11, None),
        (1, 0, None, None),
        (2, 0, None, TIMEOUT),
        (2, None, 15, TIMEOUT),
        (3, None, 9, TIMEOUT),
        (3, None, 11, None),
    ],
)
def test_what_ended_a_worker_on_its_ladder(rung: int, exit_code: int | None, number: int | None, cause: str) -> None:
    assert ended_by(Climb((7, 1), 0, rung), exit_code, number) == cause


def test_no_ladder_ended_a_worker_that_was_on_none() -> None:
    assert ended_by(None, None, 9) is None
