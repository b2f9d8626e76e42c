"""A child process as the master knows it: its number, its descriptor, the link to it."""

from __future__ import annotations

import os
import socket
from typing import Any

import msgspec

from supervisor.config.spec import Queue
from supervisor.unix.clock import boot_ms
from supervisor.unix.spawn import Spawned
from supervisor.wire import control
from supervisor.wire.control import Link, memory_file


class Process:
    """A child with a link to it."""

    def __init__(self, run: int, spawned: Spawned, link: Link) -> None:
        self.run = run
        self.pid = spawned.pid
        self.pidfd = spawned.pidfd
        self.link = link
        self.since_ms = boot_ms()
        self.stopping = False


class KeeperProcess(Process):
    """The keeper."""

    def __init__(self, run: int, spawned: Spawned, link: Link) -> None:
        super().__init__(run, spawned, link)
        self._tree: bytes | None = None

    def tell_tree(self, nodes: list[dict[str, Any]]) -> None:
        """How the processes stand, if that is news."""
        data = msgspec.json.encode(nodes)
        if data != self._tree:
            self._tree = data
            self._send_file(control.TreeChanged(), data)

    def tell_spec(self, data: bytes) -> None:
        """The spec to work by from now on."""
        self._send_file(control.SpecChanged(), data)

    def _send_file(self, message: control.SpecChanged | control.TreeChanged, data: bytes) -> None:
        fd = memory_file("jobsup", data)
        self.link.send(message, [fd])
        os.close(fd)


class Foreman(Process):
    """A foreman; `keeper_end` is the keeper's end of the link between the two, handed to each keeper anew."""

    def __init__(self, run: int, spawned: Spawned, link: Link, queue: Queue, keeper_end: socket.socket) -> None:
        super().__init__(run, spawned, link)
        self.queue = queue
        self.keeper_end = keeper_end
        self.state: control.PoolState | None = None
        """What it said last of its pool."""
        self.short_of: str | None = None
        """Why it has too few spare slots, if it has."""

    @property
    def reason(self) -> str | None:
        """Why its pool does not run, or not as it was asked to."""
        return self.state.reason if self.state else None


class AlerterProcess(Process):
    """The alerter; `keeper_end` is the keeper's end of the link between the two, handed to each keeper anew."""

    def __init__(self, run: int, spawned: Spawned, link: Link, keeper_end: socket.socket) -> None:
        super().__init__(run, spawned, link)
        self.keeper_end = keeper_end


class RelayProcess(Process):
    """The relay of an outbox; `keeper_end` is the keeper's end of the link between the two, as the alerter's is."""

    def __init__(self, run: int, spawned: Spawned, link: Link, outbox: str, keeper_end: socket.socket) -> None:
        super().__init__(run, spawned, link)
        self.outbox = outbox
        self.keeper_end = keeper_end


def wait_for(pidfd: int) -> tuple[int, str]:
    """Reap a child: its exit status (negative for a signal), and the same for people."""
    found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    assert found is not None
    if found.si_code == os.CLD_EXITED:
        return found.si_status, f"status {found.si_status}"
    return -found.si_status, f"signal {found.si_status}"
