"""The deadline ladder, enforced from outside: pure decisions about a job that is past its deadline.

At the deadline a stack dump and the soft exception; at half of the kill grace SIGTERM to the worker's process
group; at the whole of it SIGKILL to everything of its session.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Rung(IntEnum):
    """How far the ladder has been climbed for a job."""

    GROUND = 0
    SOFT = 1
    TERM = 2
    KILL = 3


class Climb(NamedTuple):
    """The ladder as it stands for one job. `from_ms` is the deadline, or when a client cancelled it."""

    job: int
    token: int
    from_ms: int
    cause: str = "timeout"
    rung: Rung = Rung.GROUND


def due_ms(climb: Climb, kill_grace_ms: int) -> int | None:
    """When the next rung is due, on the boot clock; None on the last."""
    if climb.rung is Rung.KILL:
        return None
    offsets = {Rung.GROUND: 0, Rung.SOFT: kill_grace_ms // 2, Rung.TERM: kill_grace_ms}
    return climb.from_ms + offsets[climb.rung]


def climbed(climb: Climb, kill_grace_ms: int, now_ms: int) -> Climb:
    """The ladder after the rung that is due now, if one is."""
    due = due_ms(climb, kill_grace_ms)
    if due is None or due > now_ms:
        return climb
    return climb._replace(rung=Rung(climb.rung + 1))
