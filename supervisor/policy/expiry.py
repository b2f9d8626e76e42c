"""What becomes of a job whose time to be started, or to be done, is over."""

from __future__ import annotations

from enum import StrEnum

from supervisor.job import State


class Fate(StrEnum):
    """What is to be done about it now."""

    FORGET = "forget"
    EXPIRE = "expire"
    BURY = "bury"
    TAKE_BACK = "take back"
    WAIT = "wait"


def fate(state: State, *, ttl: bool, started: bool) -> Fate:
    """What the clock does to a job whose time to live (`ttl`), or else whose deadline, is over.

    A time to live ends a job that was never started. A deadline ends every job that waits; the run of one is cut by
    its worker, and what comes of that is waited for. What a worker holds and has not begun is taken back first.
    """
    if state.final or (ttl and started):
        return Fate.FORGET
    if state is State.RUNNING:
        return Fate.WAIT if started else Fate.TAKE_BACK
    return Fate.EXPIRE if ttl else Fate.BURY
