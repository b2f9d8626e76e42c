"""What can happen to a tree: a closed set, told by the loop that owns the processes."""

from __future__ import annotations

from dataclasses import dataclass

from supervisor.tree.model import Ending, GroupSpec


@dataclass(frozen=True, slots=True)
class Ready:
    """The child has said that it is up."""

    child: str
    run: int


@dataclass(frozen=True, slots=True)
class Progress:
    """The child's loop has turned."""

    child: str
    run: int


@dataclass(frozen=True, slots=True)
class Worked:
    """The child has done a piece of real work since it was ready."""

    child: str
    run: int


@dataclass(frozen=True, slots=True)
class Exited:
    """The child's process is gone.

    `excused`: the death counts for nothing (see `restart.excused`). `final`: starting it again as things are is
    of no use, so the circuit trips at once. `status` is what an escalation ends the tree with. `chance` is a
    random number from 0 up to 1, for the jitter.
    """

    child: str
    run: int
    ending: Ending
    excused: bool = False
    final: bool = False
    reason: str = ""
    status: int = 1
    chance: float = 0.5


@dataclass(frozen=True, slots=True)
class NotStarted:
    """The child could not even be forked. `final`: nor will it be, as things are."""

    child: str
    run: int
    reason: str
    chance: float = 0.5
    final: bool = False


@dataclass(frozen=True, slots=True)
class Pardon:
    """A death that was counted turns out to be excused."""

    child: str
    run: int


@dataclass(frozen=True, slots=True)
class Condemn:
    """The child must be killed now, and replaced."""

    child: str
    run: int
    reason: str = "past its deadline"


@dataclass(frozen=True, slots=True)
class Recycle:
    """The child shall end politely, and be replaced."""

    child: str
    run: int


@dataclass(frozen=True, slots=True)
class Probe:
    """Someone wants an open circuit to be tried now."""

    group: str


@dataclass(frozen=True, slots=True)
class Reshape:
    """From now on these groups are wanted. Children with an unchanged version are not touched."""

    groups: tuple[GroupSpec, ...]


@dataclass(frozen=True, slots=True)
class Halt:
    """Stop everything, in reverse order, and end with `status`.

    `grace_ms` takes the place of every child's `shutdown_ms`; urgently, every child has its `urgent_ms`.
    """

    status: int = 0
    reason: str = ""
    urgent: bool = False
    grace_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Slept:
    """We could not run for so long: the machine was suspended, or we were stopped. Nobody is to blame for that time."""

    ms: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Nothing but time has passed."""


Event = (
    Ready | Progress | Worked | Exited | NotStarted | Pardon | Condemn | Recycle | Probe | Reshape | Halt | Slept | Tick
)  # fmt: skip
