"""Imported by the interpreter of a jobsupd that `benchmarks.instructions` counts; not a module of its own use.

Valgrind knows nothing of pidfds: they are opened by the benchmark, which is not under it, and sent here. Everything
takes `COUNTED_SLOWER` times as long under it: the clocks go as much slower, so that jobs seem to take what they take
without it, and chunks and commits are as large as they are then.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import Any

CLOCKS = (time.CLOCK_BOOTTIME, time.CLOCK_REALTIME)
PIDFDS = os.environ.get("COUNTED_PIDFDS", "")
"""The socket that gives them; read once, since a foreman clears its environment."""


def _open(pid: int, flags: int = 0) -> int:  # noqa: ARG001 - the signature of os.pidfd_open
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
        asking.connect(PIDFDS)
        asking.send(str(pid).encode())
        answer, fds, _, _ = socket.recv_fds(asking, 64, 1)
    if not fds:
        raise OSError(int(answer), os.strerror(int(answer)))
    os.set_inheritable(fds[0], False)
    return fds[0]


def _send_signal(pidfd: int, number: int, info: Any = None, flags: int = 0) -> None:  # noqa: ARG001
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as lines:
        pid = next(int(line.split()[1]) for line in lines if line.startswith("Pid:"))
    if pid <= 0:
        raise ProcessLookupError(pidfd, "it has ended")
    os.kill(pid, number)


def _slow_down(times: int) -> None:
    """Have the two clocks that jobsup reads go slower from here on."""
    read, begun = time.clock_gettime_ns, {clock: time.clock_gettime_ns(clock) for clock in CLOCKS}

    def slower(clock: int) -> int:
        return begun[clock] + (read(clock) - begun[clock]) // times if clock in begun else read(clock)

    time.clock_gettime_ns = slower
    time.time_ns = lambda: slower(time.CLOCK_REALTIME)


if PIDFDS:
    os.pidfd_open, signal.pidfd_send_signal = _open, _send_signal
    _slow_down(int(os.environ["COUNTED_SLOWER"]))
