"""Ending a worker with all that it started: every process of the session that it leads.

*Invariant:* a number that a worker wrote is never signalled. Who asks gives the pid and the start time that the
foreman recorded; a process counts as the leader only if both fit, and only members of its session are killed.
"""

from __future__ import annotations

import os
import select
import signal

from supervisor.unix.clock import boot_ms
from supervisor.unix.lock import process_start

ROUNDS = 20
"""A session may fork while it is being killed: it is looked at until it is empty, or this often."""


def members(session: int) -> list[int]:
    """Every process of a session, its leader included, as /proc shows it now; zombies are left out."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            state, of = _state_and_session(name)
            if of == session and state != "Z":
                found.append(int(name))
    return found


def _state_and_session(pid: str) -> tuple[str, int]:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[3])
    except (OSError, ValueError, IndexError):
        return "Z", 0


def kill_session(session: int) -> int:
    """SIGKILL every process of a session, until none is left; returns how many were killed."""
    killed: set[int] = set()
    for _ in range(ROUNDS):
        alive = members(session)
        if not alive:
            break
        for pid in alive:
            killed.add(pid)
            _kill(pid, session)
    return len(killed)


def _kill(pid: int, session: int) -> None:
    """Kill a process that is still of the session once we hold it by descriptor: its number cannot be another's."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if _state_and_session(str(pid))[1] == session:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    except OSError:
        pass
    finally:
        os.close(fd)


def end_leftover(pid: int, start_time: int, within_ms: int = 1_000) -> bool:
    """End a worker of an earlier run with its session, and wait until its leader is gone.

    Returns whether there was one. Members that outlived their leader are ended too, if none of them is older than
    the leader was, and they are of our control group: the number may have been given to somebody else's session by
    now, whose leader is gone as well.
    """
    started = process_start(pid)
    if started and started != start_time:
        return False
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        fd = -1
    left = members(pid)
    oldest = min(map(process_start, left), default=start_time)
    if oldest < start_time or (not started and any(_cgroup(member) != _cgroup(os.getpid()) for member in left)):
        if fd >= 0:
            os.close(fd)
        return False
    killed = kill_session(pid)
    if fd >= 0:
        _await_exit(fd, boot_ms() + within_ms)
        os.close(fd)
    return killed > 0


def _cgroup(pid: int) -> bytes:
    """The control groups of a process; under systemd they tell a service's processes from all others."""
    try:
        with open(f"/proc/{pid}/cgroup", "rb") as file:
            return file.read()
    except OSError:
        return b""


def _await_exit(fd: int, until_ms: int) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.poll(max(0, until_ms - boot_ms()))
