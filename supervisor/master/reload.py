"""Reading a configuration that may be anything, in a process of its own that may use little and is soon over.

A bad file changes nothing: the master only ever gets a finished spec, or the list of what is wrong.
"""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Sequence
from typing import NamedTuple

from supervisor.config import codec
from supervisor.config.load import load
from supervisor.config.spec import Spec
from supervisor.errors import ConfigError
from supervisor.unix.spawn import Spawned, spawn

CPU_S = 2
MEMORY_BYTES = 512 * 1024 * 1024
WITHIN_MS = 5_000


class Reading(NamedTuple):
    """A reload under way: the child that reads, and the pipe on which it answers."""

    child: Spawned
    answer_fd: int
    request: int
    until_ms: int


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
        return b"+" + codec.encode(load(config, overrides))
    except ConfigError as error:
        return b"-" + json.dumps(error.problems).encode()


def result(data: bytes) -> Spec | tuple[str, ...]:
    """What an answer says: a spec, or what is wrong; no answer means that reading took too much."""
    if data.startswith(b"+"):
        return codec.decode(data[1:])
    if data.startswith(b"-"):
        return tuple(json.loads(data[1:]))
    return (f"reading the configuration took more than {CPU_S} s or {MEMORY_BYTES // 1024 // 1024} MiB",)
