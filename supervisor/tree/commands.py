"""What a tree wants done: a closed set, carried out by the loop that owns the processes."""

from __future__ import annotations

from dataclasses import dataclass

from supervisor.tree.model import CircuitState


@dataclass(frozen=True, slots=True)
class Start:
    """Start the child's process."""

    child: str
    run: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask it politely to end. `booting`: it never said it was ready, so it may not be listening yet."""

    child: str
    run: int
    urgent: bool = False
    booting: bool = False


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill it, and everything it started."""

    child: str
    run: int
    reason: str


@dataclass(frozen=True, slots=True)
class Abandon:
    """It does not die; go on without it."""

    child: str
    run: int


@dataclass(frozen=True, slots=True)
class CircuitChanged:
    """A circuit has opened, is being probed, or has closed."""

    group: str
    circuit: CircuitState
    reason: str


@dataclass(frozen=True, slots=True)
class Halting:
    """The tree has begun to stop."""

    status: int
    reason: str
    urgent: bool


@dataclass(frozen=True, slots=True)
class Halted:
    """The tree has stopped: nothing of it runs."""

    status: int
    reason: str


Command = Start | Stop | Kill | Abandon | CircuitChanged | Halting | Halted
