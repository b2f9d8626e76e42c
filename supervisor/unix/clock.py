"""The only file that asks what time it is; everything else is told.

Two clocks, never compared with each other: the wall clock, for what people read and for jobs that are due
at a time of day, and the boot clock, which counts through suspend and ignores every step of the wall clock,
for deadlines and durations. A reading of the boot clock means something only under the boot id it was taken in.

A thread may be told the time by a source of its own instead (`told`): tests of users live by that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import get_ident
from typing import Protocol

BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id"
UNKNOWN_BOOT = "unknown"
READ_WITHIN_NS = 1_000_000
"""Two clocks that are read further apart are read again."""
READ_TRIES = 5


class Source(Protocol):
    """Both clocks, in nanoseconds."""

    wall_ns: int
    boot_ns: int


_sources: dict[int, Source] = {}
"""By thread, who tells it the time; empty but in tests, where other threads go by the machine's clocks."""


@contextmanager
def told(source: Source | None) -> Iterator[None]:
    """Have this thread told the time by a source, or by the machine again (None), until the block is left."""
    thread = get_ident()
    before = _sources.get(thread)
    _tell(thread, source)
    try:
        yield
    finally:
        _tell(thread, before)


def _tell(thread: int, source: Source | None) -> None:
    if source is None:
        _sources.pop(thread, None)
    else:
        _sources[thread] = source


def wall_ms() -> int:
    """Milliseconds since 1970 in UTC, as people's clocks show it; may jump either way."""
    if _sources and (source := _sources.get(get_ident())):
        return source.wall_ns // 1_000_000
    return time.time_ns() // 1_000_000


def boot_ms() -> int:
    """Milliseconds since this machine booted, time asleep included; never jumps."""
    if _sources:
        return boot_ns() // 1_000_000
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def boot_ns() -> int:
    """Nanoseconds of the same clock as `boot_ms`, for measuring what takes less than a millisecond."""
    if _sources and (source := _sources.get(get_ident())):
        return source.boot_ns
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def wall_offset_ms() -> int:
    """What to add to the clock since boot to have the wall's; read again if we were kept waiting in between."""
    for _ in range(READ_TRIES):
        before_ns, wall = boot_ns(), wall_ms()
        after_ns = boot_ns()
        if after_ns - before_ns < READ_WITHIN_NS:
            break
    return wall - after_ns // 1_000_000


@cache
def boot_id() -> str:
    """What distinguishes this boot of the machine from every other, as 32 hexadecimal digits.

    $JOBSUP_BOOT_ID stands in where a unit with `ProcSubset=pid` hides the kernel's own (systemd passes it as `%b`).
    `UNKNOWN_BOOT` where neither can be had: then nothing that depends on the boot id is believed after a restart.
    """
    return (_kernel_boot_id() or os.environ.get("JOBSUP_BOOT_ID", "")).strip().replace("-", "") or UNKNOWN_BOOT


def _kernel_boot_id() -> str:
    try:
        with open(BOOT_ID_FILE, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""
