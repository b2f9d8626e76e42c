"""What waits for the next commit: groups of jobs, and operations on jobs that exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from supervisor.errors import JobsupError
from supervisor.store.protocol import Group, Inserted, NewFlow
from supervisor.store.sqlite.transaction import Transaction


class PendingGroup(NamedTuple):
    """A group that a client waits for, or, once it was answered as buffered, that waits alone."""

    group: Group | NewFlow
    size_bytes: int
    answer: Callable[[Inserted, str], None]
    refuse: Callable[[JobsupError], None]
    until_ms: int | None


class Operation(Protocol):
    """Something a client asked to be done to jobs, in steps that each fit into a pass.

    `until_ms`, on the boot clock, is when its client stops waiting; None where it did not say.
    """

    until_ms: int | None

    def step(self, tx: Transaction, now_ms: int) -> Callable[[], bool]:
        """Do one step; the returned effect is called once it is committed and says whether it was the last."""

    def refuse(self, error: JobsupError) -> None:
        """Tell the client that it was not done."""
