"""Forking a child of ours: nothing inherited but what it is given, and no signal lost on the way.

All signals are blocked over the fork, so that none reaches a child which still has its parent's handlers and
would write into its parent's wake-up pipe. Only the main thread forks: a death signal is tied to the thread.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Container, Iterable
from typing import NamedTuple

PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 1, 15, 36
EXIT_FAULT = 70
"""The body of a child raised: a fault of ours, or of user code outside of a job."""

_libc = ctypes.CDLL(None, use_errno=True)


class Spawned(NamedTuple):
    """A child, by number and by descriptor."""

    pid: int
    pidfd: int


def spawn(body: Callable[[], int], *, name: str, keep: Iterable[int], death_signal: int | None) -> Spawned:
    """Fork; the child runs `body` and exits with what it returns. It never comes back into the caller's code.

    `keep` are the descriptors that the child keeps, besides 0, 1 and 2. `death_signal` is sent to the child when
    this process dies; None for none.

    Raises:
        OSError: no more processes, memory or descriptors.
    """
    assert threading.current_thread() is threading.main_thread()
    parent = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if not pid:
            _child(body, name, keep, death_signal, parent)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        return Spawned(pid, os.pidfd_open(pid))
    except OSError:
        # A child that nobody watches would live on beside the one that is started in its place, on the same slot.
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _child(body: Callable[[], int], name: str, keep: Iterable[int], death_signal: int | None, parent: int) -> None:
    """The child's whole life after the fork; ends in os._exit whatever happens."""
    status = EXIT_FAULT
    try:
        reset_signals()
        close_others(keep)
        os.setsid()
        set_name(name)
        if death_signal is not None:
            die_with(parent, death_signal)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        status = body()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else EXIT_FAULT
    except BaseException:  # noqa: BLE001 - the last frame of a child: nothing may leave it
        os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))
    finally:
        _flush()
        os._exit(status)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass


def reset_signals() -> None:
    """Forget the parent's handlers and its wake-up pipe."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP) and signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def close_others(keep: Iterable[int]) -> None:
    """Close every descriptor but 0, 1, 2 and these."""
    kept = sorted({0, 1, 2, *keep})
    for low, high in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
        if high > low + 1:
            os.closerange(low + 1, high)


def die_with(parent: int, number: int) -> None:
    """Ask for a signal when the parent dies, and end now if it did so before it was asked."""
    _libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(EXIT_FAULT)


def adopt_orphans() -> None:
    """Become the parent of what descendants leave behind, so that it is reaped and can be killed."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def set_name(name: str) -> None:
    """The name that ps and top show, cut to what the kernel keeps."""
    _libc.prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def reap_strangers(watched: Container[int]) -> None:
    """Reap what descendants left to us when they died; children that somebody watches are left to them."""
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None or found.si_pid in watched:
            return
        os.waitid(os.P_PID, found.si_pid, os.WEXITED | os.WNOHANG)
