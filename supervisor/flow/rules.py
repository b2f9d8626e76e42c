"""What the end of a step does to the steps after it, and what the ends of all steps make of their flow."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import NamedTuple

from supervisor.job import State


class Policy(IntEnum):
    """What a step does once one that it comes after has failed: is dead, or was cancelled.

    CANCEL: it is cancelled. IGNORE: it counts the failed one as done, and waits for the others. CONTINUE: it starts at
    once, whatever else it waits for.
    """

    CANCEL = 0
    IGNORE = 1
    CONTINUE = 2


POLICIES = {policy.name.lower(): policy for policy in Policy}


class FlowState(StrEnum):
    """Where a flow stands. `cancelling`: it is cancelled, and some of its jobs have not ended yet."""

    RUNNING = "running"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    DEAD = "dead"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether all its steps have ended."""
        return self in (FlowState.COMPLETED, FlowState.DEAD, FlowState.CANCELLED)


class Callback(IntEnum):
    """When a flow enqueues one more job: bits of what was done already. Each happens once in its life."""

    DEATH = 1
    COMPLETE = 2
    SUCCESS = 4

    @property
    def key(self) -> str:
        """What a flow calls it: `on_success` and the like."""
        return f"on_{self.name.lower()}"


CALLBACKS = {callback.key: callback for callback in Callback}


class Counts(NamedTuple):
    """How the steps of a flow have ended; those that a failed one's followers all shrug off count as completed."""

    steps: int
    unfinished: int
    dead: int
    cancelled: int
    skipped: int


def failed(state: State, *, skipped: bool) -> bool:
    """Whether a final step is one that the steps after it must not count as done."""
    return state is not State.COMPLETED and not skipped


def tolerated(policies: list[Policy]) -> bool:
    """Whether nobody minds that a step failed: all that come after it go on without it, and somebody does."""
    return bool(policies) and Policy.CANCEL not in policies


def end_of(counts: Counts, *, cancelling: bool) -> FlowState:
    """The state of a flow whose steps have all ended."""
    if cancelling:
        return FlowState.CANCELLED
    if counts.dead:
        return FlowState.DEAD
    return FlowState.CANCELLED if counts.cancelled else FlowState.COMPLETED


def due(callback: Callback, state: FlowState, told: int) -> bool:
    """Whether a flow that has ended in this state makes this callback now."""
    if told & callback or callback is Callback.DEATH:
        return False
    return callback is Callback.COMPLETE or state is FlowState.COMPLETED
