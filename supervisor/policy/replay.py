"""Replays of dead letters: how many go out when, and what their ends mean for the rest."""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from supervisor.job import State
from supervisor.policy.duration import parse_ms
from supervisor.policy.settle import History

HORIZON_MS = 1_000
"""So far ahead jobs of a paced replay are made due: what was stopped runs on no longer than this."""

UNDER_WAY_MAX = 1_000
"""A replay releases no more while so many of its jobs have not ended: what fails is seen before all are out."""

PACE_JOBS_MAX = 1_000_000
_PACE = re.compile(r"([0-9]{1,7})/([0-9.]*[a-z].*)")


class Pace(NamedTuple):
    """So many jobs in so much time, evenly spread."""

    jobs: int
    per_ms: int

    @property
    def step_us(self) -> int:
        """Microseconds from one job to the next."""
        return max(self.per_ms * 1_000 // self.jobs, 1)


class Seen(Enum):
    """What became of a job that was released."""

    PENDING = "pending"
    FAILING = "failing"
    COMPLETED = "completed"
    FAILED = "failed"


def parse_pace(text: str) -> Pace:
    """The pace that a text like "10/s", "100/h" or "5/1m30s" means.

    Raises:
        ValueError: with a sentence that says what would be right.
    """
    written = _PACE.fullmatch(text)
    if not written:
        raise ValueError("not a pace; write a number of jobs, / and a duration, such as 10/s or 100/1m")
    jobs = int(written[1])
    per_ms = parse_ms(written[2] if written[2][0].isdigit() else f"1{written[2]}")
    if not 1 <= jobs <= PACE_JOBS_MAX or per_ms < 1:
        raise ValueError(f"a pace has 1 to {PACE_JOBS_MAX} jobs, and a duration that is not zero")
    return Pace(jobs, per_ms)


def due_times(pace: Pace | None, next_us: int, now_ms: int, jobs_max: int) -> tuple[list[int], int]:
    """When the next jobs shall be due, in milliseconds, at most `jobs_max`; and when the one after them, in us.

    Time that was missed, while nothing ran, is not made up for.
    """
    if pace is None:
        return [now_ms] * jobs_max, next_us
    at_us = max(next_us, now_ms * 1_000)
    times: list[int] = []
    while len(times) < jobs_max and at_us < (now_ms + HORIZON_MS) * 1_000:
        times.append(at_us // 1_000)
        at_us += pace.step_us
    return times, at_us


def room(canary: int | None, released: int, pending: int) -> int:
    """How many more jobs may be released now; `canary` is how many go first, None once they have completed."""
    free = UNDER_WAY_MAX - pending
    return max(0, free if canary is None else min(free, canary - released))


def seen(state: State, history: History) -> Seen:
    """What a released job's state and history, which began anew, say of it."""
    if state is State.COMPLETED:
        return Seen.COMPLETED
    if state.final:
        return Seen.FAILED
    return Seen.FAILING if history.failures or history.crashes else Seen.PENDING
