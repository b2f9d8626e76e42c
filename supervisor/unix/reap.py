"""Reaping: how a child ended and what it had used, and the orphans that fall to us as a subreaper.

A child that is watched is reaped by its watcher alone, by number while nobody else can have that number; the
rest are looked at before they are taken, so that a watched one is never taken by mistake.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Container
from typing import NamedTuple


class End(NamedTuple):
    """How a process ended: `exit_code`, or the `signal` that killed it; peak memory and processor time."""

    exit_code: int | None
    signal: int | None
    rss_peak_bytes: int
    cpu_s: float

    def __str__(self) -> str:
        """For people: "status 3" or "signal 11 (SIGSEGV)"."""
        if self.signal is None:
            return f"status {self.exit_code}"
        return f"signal {self.signal} ({signal_name(self.signal)})"


def signal_name(number: int) -> str:
    """SIGKILL for 9; the number itself where it has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def reap(pid: int) -> End | None:
    """Reap a child of ours that has ended; None if it has not.

    Raises:
        ChildProcessError: it is no child of ours, or was reaped before.
    """
    found, status, used = os.wait4(pid, os.WNOHANG)
    if not found:
        return None
    code = os.waitstatus_to_exitcode(status)
    cpu_s = used.ru_utime + used.ru_stime
    return End(code if code >= 0 else None, -code if code < 0 else None, used.ru_maxrss * 1024, cpu_s)


def reap_orphans(watched: Container[int]) -> bool:
    """Reap every dead child that nobody watches; False if a watched one stood in the way: then come back."""
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return True
        if found is None:
            return True
        if found.si_pid in watched:
            return False
        os.waitid(os.P_PID, found.si_pid, os.WEXITED | os.WNOHANG)


def children() -> list[int]:
    """Every living child of ours, by number: those we forked, and those that fell to us."""
    ours = os.getpid()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            state, parent = _state_and_parent(name)
            if parent == ours and state != "Z":
                found.append(int(name))
    return found


def _state_and_parent(pid: str) -> tuple[str, int]:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[1])
    except (OSError, ValueError, IndexError):
        return "Z", 0
