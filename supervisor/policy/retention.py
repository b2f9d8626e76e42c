"""Which final jobs are old enough, or too many, to be kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from supervisor.job import State


class Keep(NamedTuple):
    """How long final jobs are kept, in milliseconds; None is for ever."""

    completed_ms: int | None
    cancelled_ms: int | None
    dead_ms: int | None


FOR_EVER = Keep(None, None, None)


def expired(keep: Keep, state: State, finished_at_ms: int, now_ms: int) -> bool:
    """Whether a job that reached this final state then may be removed now."""
    kept_ms = {State.COMPLETED: keep.completed_ms, State.CANCELLED: keep.cancelled_ms, State.DEAD: keep.dead_ms}[state]
    return kept_ms is not None and now_ms - finished_at_ms > kept_ms


def shortest_ms(keeps: Iterable[Keep]) -> int | None:
    """The shortest time that anything final is kept; None if all is kept for ever."""
    return min((kept for keep in keeps for kept in keep if kept is not None), default=None)


def sweep_interval_ms(keeps: Iterable[Keep]) -> int | None:
    """How often to look for expired jobs: a tenth of the shortest time, between 1 s and 1 h; None if never."""
    shortest = shortest_ms(keeps)
    return None if shortest is None else min(max(shortest // 10, 1_000), 3_600_000)


class CountKeep(NamedTuple):
    """How many final jobs of a queue are kept in each state; None is any number."""

    completed_max: int | None
    cancelled_max: int | None
    dead_max: int | None

    def limits(self) -> list[tuple[State, int]]:
        """The states that have a limit."""
        found = zip((State.COMPLETED, State.CANCELLED, State.DEAD), self, strict=True)
        return [(state, jobs_max) for state, jobs_max in found if jobs_max is not None]


def excess(jobs: int, jobs_max: int) -> int:
    """How many of so many jobs are more than are kept."""
    return max(0, jobs - jobs_max)
