"""Forking a worker onto a slot: what it inherits, what its standard streams are, and how it says that it is up."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterable
from typing import NamedTuple

from supervisor.unix.inheritance import (
    FOREMAN_UNUSABLE,
    Executor,
    ForemanInheritance,
    HandlerUnusable,
    WorkerInheritance,
)
from supervisor.unix.lock import process_start
from supervisor.unix.spawn import spawn
from supervisor.wire.control import SlotGiven

OOM_SCORE = "500"
"""When memory is short the kernel ends a worker first: the job that eats it, not those who would restart it."""
DETAIL_MAX = 4 * 1024
PIPE_BYTES = 60 * 1024
"""What a pipe takes without a reader."""
UP, UNUSABLE = b"r", b"x"
"""First byte on the ready pipe: it can take jobs; or it cannot, and what follows says why, as JSON."""


class Place(NamedTuple):
    """A slot that no worker has used yet: the master's message, the worker's end and the directory."""

    given: SlotGiven
    worker_end: int
    folder: int


class Forked(NamedTuple):
    """A worker that was just forked; `ready_fd` and `output_fd` are our ends of its pipes, never blocking."""

    pid: int
    pidfd: int
    start_time: int
    ready_fd: int
    output_fd: int


class Kit(NamedTuple):
    """What every worker of a pool gets: `kept` are descriptors that the import opened."""

    given: ForemanInheritance
    executor: Executor | None
    kept: tuple[int, ...]
    bell_fd: int


def fork_worker(kit: Kit, place: Place, name: str) -> Forked:
    """Fork a worker; it leads a session of its own and dies with this process.

    Raises:
        OSError: no more processes, memory or descriptors.
    """
    ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
    output_read, output_write = os.pipe2(os.O_CLOEXEC)
    keep = (place.worker_end, place.folder, ready_write, output_write, kit.bell_fd, *kit.kept)
    try:
        spawned = spawn(
            lambda: _live(kit, place, ready_write, output_write),
            name=name,
            keep=keep,
            death_signal=signal.SIGKILL,
        )
    except OSError:
        _close((ready_read, output_read))
        raise
    finally:
        _close((ready_write, output_write))
    os.set_blocking(ready_read, False)
    os.set_blocking(output_read, False)
    return Forked(spawned.pid, spawned.pidfd, process_start(spawned.pid), ready_read, output_read)


def _close(descriptors: Iterable[int]) -> None:
    for fd in descriptors:
        os.close(fd)


def _live(kit: Kit, place: Place, ready_fd: int, output_fd: int) -> int:
    """The worker's whole life, in its own process; returns its exit status."""
    _take_streams(output_fd)
    _take_limits()
    given = kit.given
    inherited = WorkerInheritance(
        given.queue,
        socket.socket(fileno=place.worker_end),
        place.folder,
        ready_fd,
        kit.bell_fd,
        kit.executor,
        given.load,
    )
    try:
        return given.worker(inherited)
    except HandlerUnusable as unusable:
        said = [unusable.message[:DETAIL_MAX], (unusable.detail or "")[-DETAIL_MAX:] or None]
        os.write(ready_fd, UNUSABLE + json.dumps(said).encode()[:PIPE_BYTES])
        return FOREMAN_UNUSABLE


def _take_streams(output_fd: int) -> None:
    """Nothing to read; what is written goes to the foreman, a line at a time, so that a kill loses little of it."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output_fd, 1)
    os.dup2(output_fd, 2)
    os.close(null)
    os.close(output_fd)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _take_limits() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(OOM_SCORE)
    except OSError:
        pass  # where /proc is not ours to write, the kernel chooses by size alone
