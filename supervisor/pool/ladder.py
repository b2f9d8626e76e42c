"""The deadline ladder: what is done about a job that should have ended, and when. Pure.

The rungs are climbed from outside, so a job that holds the interpreter, or a worker that was stopped, meets them
all the same. A job that ends on the way leaves the ladder where it is; the worker then lives on, unless it was
already told to go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable
from enum import Enum
from typing import NamedTuple

from supervisor.unix.memory import Cell


class Step(Enum):
    """What one rung does to the worker."""

    DUMP = "its stacks are written down"
    SOFT = "an exception is raised in the job"
    TERM = "its process group gets SIGTERM"
    KILL = "its session is killed"


RUNGS: tuple[tuple[float, tuple[Step, ...]], ...] = (
    (0.0, (Step.DUMP, Step.SOFT)),
    (0.5, (Step.TERM,)),
    (1.0, (Step.KILL,)),
)
"""Part of the kill grace that has passed since the deadline was seen to be over -> what is done then."""

TIMEOUT, CANCELLED = "timeout", "cancelled"


class Climb(NamedTuple):
    """A ladder being climbed. `job` is (id, token); `rung` the next rung, counted from 0; `cause` the certificate's."""

    job: tuple[int, int]
    since_ms: int
    rung: int = 0
    cause: str = TIMEOUT


def overdue(climb: Climb | None, cells: Iterable[Cell], asked: Container[tuple[int, int]], now_ms: int) -> Climb | None:
    """The ladder to be on now: that of the job being climbed for while it runs, else of one that is overdue.

    `asked` has the jobs that a client cancelled. One that shares its call with others is left to end with them: they
    are nobody's to interrupt.
    """
    running = {(cell.id, cell.token): cell for cell in cells if cell.deadline_ms}
    together = Counter(cell.number for cell in running.values())
    if climb and (climb.job in running or climb.rung > 1):
        return climb
    for job, cell in running.items():
        if job in asked and together[cell.number] == 1:
            return Climb(job, now_ms, cause=CANCELLED)  # not since it was asked for: the job may have begun later
        if cell.deadline_ms <= now_ms:
            return Climb(job, now_ms)  # not since the deadline: after a suspend, it had no grace before now
    return None


def steps(climb: Climb, kill_grace_ms: int, now_ms: int) -> tuple[Climb, tuple[Step, ...]]:
    """Every step that is due now, and the ladder after it. Rungs that were missed are taken at once, in order."""
    due: tuple[Step, ...] = ()
    while (at := next_rung_ms(climb, kill_grace_ms)) is not None and at <= now_ms:
        due += RUNGS[climb.rung][1]
        climb = climb._replace(rung=climb.rung + 1)
    return climb, due


def next_rung_ms(climb: Climb, kill_grace_ms: int) -> int | None:
    """When the next rung is due; None at the top."""
    if climb.rung >= len(RUNGS):
        return None
    return climb.since_ms + int(RUNGS[climb.rung][0] * kill_grace_ms)


def next_look_ms(climb: Climb | None, cells: Iterable[Cell], kill_grace_ms: int, latest_ms: int) -> int:
    """When this worker must be looked at next, at the latest at `latest_ms`."""
    moments = [cell.deadline_ms for cell in cells if cell.deadline_ms and not climb]
    if climb and (rung_ms := next_rung_ms(climb, kill_grace_ms)) is not None:
        moments.append(rung_ms)
    return min((*moments, latest_ms))


def ended_by(climb: Climb | None, exit_code: int | None, number: int | None) -> str | None:
    """The cause that the ladder gives a worker's end; None if it ended by itself.

    The first rung asks only the job. From the second on the worker was told to go, so how it went is our doing,
    save that it died of another signal than the two we send.
    """
    if not climb or climb.rung < 2:
        return None
    return climb.cause if exit_code is not None or number in SENT else None


SENT = frozenset({15, 9})
