"""Reading a configuration that may be anything, in a process of its own that may use little and is soon over.

A bad file changes nothing: the master only ever gets a finished spec, or the list of what is wrong.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from supervisor.config import codec
from supervisor.config.load import load_main
from supervisor.config.spec import Spec
from supervisor.errors import ConfigError
from supervisor.unix.spawn import Spawned, spawn

CPU_S = 2
MEMORY_BYTES = 512 * 1024 * 1024
WITHIN_MS = 5_000
PROBLEMS_MAX = 100
PROBLEM_LENGTH_MAX = 500


class Reading(NamedTuple):
    """A reload under way: the child that reads, and the pipe on which it answers."""

    child: Spawned
    answer_fd: int
    request: int
    until_ms: int


Found = Spec | tuple[str, ...]
"""What a reading came to: a spec, or what is wrong."""


class Reloader:
    """One reading at a time. `done` is called with what was found and the request that asked for it."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        config: str,
        overrides: Sequence[str],
        done: Callable[[Found, int], None],
    ) -> None:
        self._selector = selector
        self._config = config
        self._overrides = overrides
        self._done = done
        self._wanted: deque[int] = deque()
        self._reading: Reading | None = None
        self._answer = b""

    def ask(self, request: int) -> None:
        """Read as soon as the reading under way is done."""
        self._wanted.append(request)

    @property
    def pid(self) -> int | None:
        """The process that reads, if one does: it is waited for by descriptor."""
        return self._reading.child.pid if self._reading else None

    @property
    def next_ms(self) -> int | None:
        """When a reading has taken too long."""
        return self._reading.until_ms if self._reading else None

    def look_after(self, now_ms: int) -> None:
        """End a reading that takes too long; begin the next one that is wanted."""
        if self._reading and now_ms >= self._reading.until_ms:
            signal.pidfd_send_signal(self._reading.child.pidfd, signal.SIGKILL)
            self._end(self._reading)
        if self._wanted and not self._reading:
            self._begin(self._wanted.popleft(), now_ms)

    def _begin(self, request: int, now_ms: int) -> None:
        self._answer = b""
        try:
            reading = begin(self._config, self._overrides, request, now_ms)
        except OSError as error:
            self._done((f"the configuration could not be read: {error.strerror}",), request)
            return
        self._reading = reading
        self._selector.register(reading.answer_fd, selectors.EVENT_READ, lambda _: self._readable(reading))

    def _readable(self, reading: Reading) -> None:
        try:
            data = os.read(reading.answer_fd, 1 << 20)
        except BlockingIOError:
            return
        self._answer += data
        if not data:
            self._end(reading)

    def _end(self, reading: Reading) -> None:
        self._reading = None
        self._selector.unregister(reading.answer_fd)
        os.close(reading.answer_fd)
        os.waitid(os.P_PIDFD, reading.child.pidfd, os.WEXITED)
        os.close(reading.child.pidfd)
        self._done(result(self._answer), reading.request)


def begin(config: str, overrides: Sequence[str], request: int, now_ms: int) -> Reading:
    """Start reading the configuration anew."""
    answer, ours = os.pipe2(os.O_CLOEXEC)

    def body() -> int:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        data = read(config, overrides)
        with os.fdopen(ours, "wb") as pipe:
            pipe.write(data)
        return 0

    child = spawn(body, name="jobsupd:reload", keep=[ours], death_signal=9)
    os.close(ours)
    os.set_blocking(answer, False)
    return Reading(child, answer, request, now_ms + WITHIN_MS)


def read(config: str, overrides: Sequence[str]) -> bytes:
    """The answer: the encoded spec after `+`, or the problems as a JSON list after `-`."""
    try:
        return b"+" + codec.encode(load_main(config, overrides))
    except ConfigError as error:
        return b"-" + json.dumps(shortened(error.problems)).encode()


def shortened(problems: Sequence[str]) -> list[str]:
    """As many problems as a message between processes surely holds, and how many more there are."""
    kept = [problem[:PROBLEM_LENGTH_MAX] for problem in problems[:PROBLEMS_MAX]]
    more = len(problems) - len(kept)
    return kept + ([f"and {more} more problems; jobsupd --check lists all"] if more else [])


def result(data: bytes) -> Found:
    """What an answer says. No answer, or half of one, means that reading took too much."""
    try:
        return codec.decode(data[1:]) if data.startswith(b"+") else tuple(json.loads(data[1:]))
    except (ConfigError, ValueError):
        return (f"reading the configuration took more than {CPU_S} s or {MEMORY_BYTES // 1024 // 1024} MiB",)
