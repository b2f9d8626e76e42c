"""Making a foreman fit to fork: the right user, the application imported once, nothing left that a fork breaks."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import select
import socket
import stat
import traceback
from typing import NamedTuple

from supervisor.config.sandbox import needs
from supervisor.config.spec import Queue
from supervisor.unix.inheritance import Executor, ForemanInheritance, HandlerUnusable
from supervisor.unix.privileges import become, drop_capabilities

THREAD_LOOKS, THREAD_LOOK_S = 10, 0.005
REFUSED = frozenset({errno.EAFNOSUPPORT, errno.EPERM, errno.EACCES})


class Preloaded(NamedTuple):
    """What an import came to. `executor` is None where workers import by themselves.

    `kept` are the descriptors that the import opened, which its workers need as well; `leftover` says, for people,
    what it left behind that must not be forked.
    """

    executor: Executor | None
    kept: tuple[int, ...] = ()
    leftover: str | None = None


def take_on(queue: Queue) -> None:
    """Become the queue's user without any capability, and make sure that its jobs can reach what they need.

    Raises:
        HandlerUnusable: the service lacks a privilege or the network; the message names the drop-in that gives it.
    """
    missing = {need.key: f"queue {queue.name} {need.sentence}" for need in needs(queue)}
    if queue.network and not _has_network():
        raise HandlerUnusable(missing["network"])
    try:
        if queue.user is not None:
            become(queue.user)
        drop_capabilities()
    except KeyError:
        raise HandlerUnusable(f"queue {queue.name}: there is no user {queue.user} on this host") from None
    except PermissionError as error:
        raise HandlerUnusable(missing.get("user", f"queue {queue.name}: {error}")) from None
    except OSError as error:
        raise HandlerUnusable(f"queue {queue.name} cannot give up its privileges: {error}") from None


def _has_network() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
    except OSError as error:
        return error.errno not in REFUSED
    return True


def preload(given: ForemanInheritance) -> Preloaded:
    """Import the application here, once for all workers, unless the queue or an earlier attempt says otherwise.

    Raises:
        HandlerUnusable: the handler or command cannot be used; with the traceback.
    """
    if given.unpreloaded is not None or given.queue.preload == "never":
        return Preloaded(None)
    before = open_descriptors()
    executor = load(given)
    opened = sorted(open_descriptors() - before)
    leftover = None if given.queue.preload == "always" else leftovers(opened)
    gc.collect()
    gc.freeze()
    return Preloaded(executor, tuple(opened), leftover)


def load(given: ForemanInheritance) -> Executor:
    """Run the queue's import.

    Raises:
        HandlerUnusable: it raised anything at all, or wanted to exit.
    """
    try:
        return given.load(given.queue)
    except HandlerUnusable:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the import runs user code, which may raise anything
        message = f"the import of queue {given.queue.name} raised {type(error).__name__}: {error}"
        raise HandlerUnusable(message, traceback.format_exc()) from None


def leftovers(opened: list[int]) -> str | None:
    """What keeps this process from being forked: threads, and descriptors other than of files that are only read."""
    found = []
    threads = _threads()
    if threads:
        found.append(f"{threads} thread{'s' * (threads > 1)}")
    found += [_name(fd) for fd in opened if not _harmless(fd)]
    return f"the import left behind: {', '.join(found)}" if found else None


def _threads() -> int:
    """Threads besides this one; one that was joined just now is given the moment it needs to be gone."""
    for _ in range(THREAD_LOOKS):
        threads = len(os.listdir("/proc/self/task")) - 1
        if not threads:
            break
        select.select([], [], [], THREAD_LOOK_S)
    return threads


def open_descriptors() -> set[int]:
    """Every open descriptor of this process."""
    listed = {int(name) for name in os.listdir("/proc/self/fd")}
    return {fd for fd in listed if _is_open(fd)}


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _harmless(fd: int) -> bool:
    mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    return mode == os.O_RDONLY and stat.S_ISREG(os.fstat(fd).st_mode)


def _name(fd: int) -> str:
    try:
        return f"descriptor {fd} ({os.readlink(f'/proc/self/fd/{fd}')})"
    except OSError:
        return f"descriptor {fd}"
