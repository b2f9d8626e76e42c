"""Handlers that spoil the process they run in, each in its way; the job itself is none the worse for it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ledgered


def run(job: Any) -> Any:
    """Do the deed that the payload names, and anything that ledgered does."""
    deed = DEEDS.get(job.payload.get("deed"))
    if deed is None:
        return ledgered.run(job)
    ledgered.note("S", job)
    deed()
    if os.getpid() == MAIN:
        ledgered.note("E", job)
    return None


MAIN = 0


def remember_main() -> None:
    """After the fork of a worker: which process is the worker."""
    global MAIN  # noqa: PLW0603
    MAIN = os.getpid()


def close_all() -> None:
    os.closerange(3, 256)


def close_what_wakes() -> None:
    for fd in _sockets():
        os.close(fd)


def scribble() -> None:
    for fd in range(1, 40):
        try:
            os.write(fd, b"\xff" * 4_096)
        except OSError:
            continue


def shut_down() -> None:
    for fd in _sockets():
        with socket.socket(fileno=os.dup(fd)) as sock:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


def _sockets() -> list[int]:
    links = {int(name): f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")}
    return [fd for fd, link in links.items() if os.path.exists(link) and os.readlink(link).startswith("socket:")]


def come_back_twice() -> None:
    os.fork()


def leave_a_thread() -> None:
    threading.Thread(target=threading.Event().wait).start()


def leave_a_process() -> None:
    if not os.fork():
        os.setsid()
        if os.fork():
            os._exit(0)
        signal.pause()
        os._exit(0)


def deaf() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def alarm() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)


def elsewhere() -> None:
    os.chdir("/")
    os.umask(0o777)
    sys.path.clear()
    sys.setrecursionlimit(150)


def loud() -> None:
    for _ in range(200):
        print("x" * 20_000)
    sys.stdout.flush()


def silent() -> None:
    sys.stdout.close()
    sys.stderr.close()
    os.closerange(0, 3)


def no_slot() -> None:
    for fd in range(3, 40):
        try:
            link = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if Path(link).parent.name == "slots":
            shutil.rmtree(link, ignore_errors=True)


DEEDS: dict[str, Callable[[], None]] = {
    deed.__name__: deed
    for deed in (
        close_all, close_what_wakes, scribble, shut_down, come_back_twice, leave_a_thread, leave_a_process, deaf, alarm,
        elsewhere, loud, silent, no_slot,
    )
}  # fmt: skip
