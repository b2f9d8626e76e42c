"""The words of supervision: what is to be kept alive, how it stands, what happens to it, what is to be done.

OTP's vocabulary, unchanged, with what OTP lacks: a boot handshake with a deadline, backoff between restarts, a
progress deadline, and a circuit in place of giving up. Rule 1: every decision about children is made in this
package. Rule 2: this package does not know what the children are.

A tree is one supervisor process: an ordered list of children, each in a group. A group has a strategy, an
intensity and a circuit of its own, as a supervisor of its own would have in OTP. `tier` orders across groups:
a child starts when those of lower tiers are ready and stops when those of higher tiers are gone; within a tier
children start and stop side by side. Times are milliseconds of one clock that never jumps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum


class Restart(Enum):
    """When a child that ended by itself is started again."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    TEMPORARY = "temporary"


class Strategy(Enum):
    """Whom the death of a child takes along: nobody, the whole group, or those after it."""

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"


class CrashLoop(Enum):
    """What more deaths than the intensity allows lead to: an open circuit, or the end of the tree."""

    BACKOFF = "backoff"
    ESCALATE = "escalate"


class Ending(Enum):
    """How a process ended: status 0, another status, a signal that we did not send, or as we asked."""

    NORMAL = "normal"
    FAILED = "failed"
    KILLED = "killed"
    ORDERED = "ordered"


class Goal(Enum):
    """What is wanted of a child: to run, to stop and run anew, to stay down until the circuit closes, to be gone."""

    UP = "up"
    CYCLE = "cycle"
    HELD = "held"
    DOWN = "down"


class Status(Enum):
    """What a child is. `STARTING` is a state of its own: without it a start under way would be ordered again."""

    DOWN = "down"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    KILLING = "killing"


class CircuitState(Enum):
    """Closed: children run. Open: they are held. Probing: one runs, to find out whether the others may."""

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


class Phase(Enum):
    """Of the whole tree."""

    RUNNING = "running"
    HALTING = "halting"
    HALTED = "halted"


@dataclass(frozen=True, slots=True)
class Delays:
    """A growing delay: base x factor^(n - 1), at most max, of which the part `jitter` is left to chance."""

    base_ms: int
    factor: float
    max_ms: int
    jitter: float


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What one child is and how it is treated.

    `shutdown_ms` is its grace between the polite request and the kill; 0 kills at once. `urgent_ms` is the same
    when the whole tree is in a hurry. `progress_ms`: killed when it is ready and shows none for so long.
    `undead_ms`: given up, and replaced, when it is still there so long after the kill; None waits for ever.
    `version` is what its owner changes to have it restarted; the other fields can change under a living process.
    """

    id: str
    restart: Restart = Restart.PERMANENT
    tier: int = 0
    boot_timeout_ms: int = 30_000
    shutdown_ms: int = 5_000
    urgent_ms: int = 0
    progress_ms: int | None = None
    undead_ms: int | None = None
    version: int = 0


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """What one group is: its children in the order in which they start, and how often they may die.

    More than `intensity` counted deaths within `period_ms` trip the circuit. `proven_ms`: a probe that has been
    ready for so long closes it again.
    """

    id: str
    children: tuple[ChildSpec, ...]
    strategy: Strategy = Strategy.ONE_FOR_ONE
    intensity: int = 5
    period_ms: int = 10_000
    on_crash_loop: CrashLoop = CrashLoop.BACKOFF
    restart_delays: Delays = Delays(100, 2.0, 30_000, 0.5)
    probe_delays: Delays = Delays(5_000, 2.0, 300_000, 0.5)
    proven_ms: int = 10_000


@dataclass(frozen=True, slots=True)
class Child:
    """How one child stands. `run` is unique in the tree, so that news of an earlier process is told apart."""

    spec: ChildSpec
    group: str
    goal: Goal = Goal.UP
    status: Status = Status.DOWN
    run: int = 0
    due_ms: int = 0
    """While down and wanted: not started before."""
    deadline_ms: int | None = None
    """While starting: killed then. While stopping: likewise. While being killed: given up then."""
    ready_ms: int | None = None
    """Since when this process has been ready; None if it never was."""
    progress_ms: int = 0
    starts: int = 0
    """How often this child has been started."""
    strikes: int = 0
    """Counted deaths in a row; each makes the next delay longer."""
    worked: bool = False
    """Whether this process has done real work since it was ready."""
    overdue: bool = False
    """Whether it is being killed for a missed boot or progress deadline; then its death counts, whoever killed it."""
    successor: ChildSpec | None = None
    """Takes the place of `spec` when this process is gone."""
    leaving: bool = False
    """Dropped from the tree when this process is gone."""
    reason: str = ""
    """Why it died last, for people."""

    @property
    def id(self) -> str:
        """The child's name, unique in the tree."""
        return self.spec.id

    @property
    def alive(self) -> bool:
        """Whether there is a process."""
        return self.status is not Status.DOWN

    @property
    def running(self) -> bool:
        """Whether there is a process that nobody has told to end."""
        return self.status in (Status.STARTING, Status.READY)


@dataclass(frozen=True, slots=True)
class Death:
    """A death that counts for the intensity."""

    at_ms: int
    child: str
    run: int


@dataclass(frozen=True, slots=True)
class Group:
    """How one group stands."""

    spec: GroupSpec
    circuit: CircuitState = CircuitState.CLOSED
    deaths: tuple[Death, ...] = ()
    probes: int = 0
    """Times in a row that the circuit opened; each makes the next wait longer."""
    until_ms: int = 0
    """While open: probed then."""
    reason: str = ""
    tripped_by: tuple[str, int] | None = None
    """The child and run whose counted death opened the circuit."""

    @property
    def id(self) -> str:
        """The group's name, unique in the tree."""
        return self.spec.id

    @property
    def coupled(self) -> bool:
        """Whether the death of one child stops others."""
        return self.spec.strategy is not Strategy.ONE_FOR_ONE


@dataclass(frozen=True, slots=True)
class Tree:
    """One supervisor: its groups and all their children, in starting order."""

    groups: tuple[Group, ...]
    children: tuple[Child, ...]
    phase: Phase = Phase.RUNNING
    runs: int = 0
    """Processes started so far; each start takes the next number."""
    urgent: bool = False
    grace_ms: int | None = None
    """While halting: the grace of every child, in place of its own."""
    status: int = 0
    """The exit status that the tree ends with."""
    reason: str = ""

    def child(self, name: str) -> Child | None:
        """The child of that name."""
        return next((child for child in self.children if child.id == name), None)

    def group(self, name: str) -> Group:
        """The group of that name.

        Raises:
            KeyError: there is none.
        """
        for group in self.groups:
            if group.id == name:
                return group
        raise KeyError(name)

    def members(self, group: str) -> Iterator[Child]:
        """The children of one group, in starting order."""
        return (child for child in self.children if child.group == group)

    def with_child(self, child: Child) -> Tree:
        """The same tree with this child as it stands now."""
        return replace(self, children=tuple(child if old.id == child.id else old for old in self.children))

    def with_group(self, group: Group) -> Tree:
        """The same tree with this group as it stands now."""
        return replace(self, groups=tuple(group if old.id == group.id else old for old in self.groups))


def plant(groups: tuple[GroupSpec, ...]) -> Tree:
    """A tree in which nothing runs yet and everything is wanted; the first `Tick` starts it.

    Raises:
        ValueError: two groups or two children have one name.
    """
    children = tuple(Child(spec, group.id) for group in groups for spec in group.children)
    for names in ([group.id for group in groups], [child.id for child in children]):
        if len(set(names)) != len(names):
            raise ValueError(f"names in a tree are unique: {sorted(names)}")
    return Tree(tuple(Group(spec) for spec in groups), children)
