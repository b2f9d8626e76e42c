"""What each process of ours gets from the one that forked it. Roles never import each other: they meet here."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

from supervisor.config.spec import Alerts, Outbox, Queue, Spec
from supervisor.job import Job, Outcome
from supervisor.observe.log import Log
from supervisor.policy.tasks import Known
from supervisor.unix.slot import Slot

FOREMAN_UNUSABLE = 69
"""Exit status of a foreman: as things are, its workers cannot do their work; it has said why."""
FOREMAN_UNPRELOADABLE = 71
"""Exit status of a foreman: its import left behind what must not be forked; start it anew, unpreloaded."""
FOREMAN_ESCALATED = 73
"""Exit status of a foreman: its workers die too often, and its queue says that this ends the daemon."""


class Executor(Protocol):
    """Runs one job of a queue: a Python callable or a command."""

    @property
    def known(self) -> tuple[Known, ...]:
        """The tasks that it runs, where its queue has tasks."""
        ...

    def prepare(self) -> None:
        """Called once in each worker, after it was forked and before its first job."""
        ...

    def run(self, job: Job, payload: bytes) -> Outcome:
        """Run the job; `payload` is its payload as JSON text.

        Raises only NotBegun, and, in the signal handler, JobTimeout.
        """
        ...

    def defer(self) -> bool:
        """Whether an interruption must not be raised where the job is now: the executor then sees to it itself."""
        ...

    def interrupt(self) -> None:
        """End what is running from inside: called in a signal handler when the deadline has passed."""
        ...

    @property
    def descriptor(self) -> int | None:
        """What is readable while no job runs and there is something to `attend` to; None if there never is."""
        ...

    def attend(self) -> None:
        """Look at what has happened beside jobs."""
        ...

    @property
    def spent(self) -> bool:
        """Whether it can run no job any more, so that its worker must end."""
        ...

    def close(self) -> None:
        """Called once before the worker ends by itself; it may end the process in a way of its own."""
        ...


class BatchExecutor(Executor, Protocol):
    """Runs several jobs of a queue in one call."""

    def run_batch(self, jobs: Sequence[Job], outcomes: list[Outcome]) -> None:
        """Run the jobs; `outcomes` gets one for each, in their order, and what is in it counts.

        Raises only JobTimeout, in the signal handler.
        """
        ...


class KeeperInheritance(NamedTuple):
    """What the keeper has from the master. `listeners` listen; the writer lock comes as a descriptor.

    `control` is its SEQPACKET end to the master, `lifeline` the read end of a pipe that ends when the master
    does, `links` its SEQPACKET ends to the foremen by pool.
    """

    spec: Spec
    listeners: Sequence[socket.socket]
    control: socket.socket
    lifeline: int
    slots: Sequence[Slot]
    links: Mapping[str, socket.socket]
    boot_id: str
    epoch: int
    """Start of the master, CLOCK_BOOTTIME ms: tells the generations of one boot apart."""
    reload_error: str | None = None
    scopes: Mapping[str, socket.socket] = MappingProxyType({})
    """The listening sockets of scopes, by name."""
    alerter: socket.socket | None = None
    """Its SEQPACKET end to the alerter, if there is one."""
    relays: Mapping[str, socket.socket] = MappingProxyType({})
    """Its SEQPACKET ends to the relays, by outbox."""


class RelayInheritance(NamedTuple):
    """What the relay of an outbox has from the master: its SEQPACKET ends to master and keeper."""

    outbox: Outbox
    control: socket.socket
    link: socket.socket
    log: Log


class AlerterInheritance(NamedTuple):
    """What the alerter has from the master: its SEQPACKET ends to master and keeper."""

    alerts: Alerts
    control: socket.socket
    link: socket.socket
    log: Log


class ForemanInheritance(NamedTuple):
    """What a foreman has from the master: its SEQPACKET ends to master and keeper. Slots come over `control`."""

    queue: Queue
    control: socket.socket
    link: socket.socket
    worker: Callable[[WorkerInheritance], int]
    load: Callable[[Queue], Executor]
    log: Log
    unpreloaded: str | None = None
    """Why the workers must import by themselves, as an earlier foreman of the pool found out."""
    workers: int | None = None
    """How many an earlier foreman of the pool was to have at last, where their number follows the load."""
    by_hand: int | None = None
    """How many somebody asked for whatever the load is."""


class WorkerInheritance(NamedTuple):
    """What a worker has from its foreman.

    `executor` is None where the pool runs unpreloaded: then `load` makes it. `ready_fd` is written one byte when the
    worker can take jobs; `bell_fd` one byte when a job's deadline comes before the foreman's next look.
    """

    queue: Queue
    worker_end: socket.socket
    directory_fd: int
    ready_fd: int
    bell_fd: int
    executor: Executor | None
    load: Callable[[Queue], Executor]


class Roles(NamedTuple):
    """The entry functions of the roles, handed down from the composition root; each returns an exit status."""

    keeper: Callable[[KeeperInheritance], int]
    foreman: Callable[[ForemanInheritance], int]
    worker: Callable[[WorkerInheritance], int]
    load: Callable[[Queue], Executor]
    alerter: Callable[[AlerterInheritance], int]
    relay: Callable[[RelayInheritance], int]


class NotBegun(Exception):
    """The executor can run no job any more, and has not begun this one: it is another worker's, and costs nothing."""


class HandlerUnusable(Exception):
    """The handler or command of a queue cannot be used; `detail` has the traceback, if there is one."""

    def __init__(self, message: str, detail: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
