"""Shifts the clocks of a program under test by what a file says at the moment: found by Python through PYTHONPATH.

Everything of jobsup asks supervisor.unix.clock, and that asks these two functions; a test holds that nobody else does.
"""

from __future__ import annotations

import mmap
import os
import time


def _shift(path: str) -> None:
    with open(path, "rb") as file:
        offsets_ns = memoryview(mmap.mmap(file.fileno(), 16, prot=mmap.PROT_READ)).cast("q")
    wall_ns, clock_ns = time.time_ns, time.clock_gettime_ns

    def shifted_ns(clock: int) -> int:
        return clock_ns(clock) + (offsets_ns[1] if clock == time.CLOCK_BOOTTIME else 0)

    time.time_ns = lambda: wall_ns() + offsets_ns[0]
    time.clock_gettime_ns = shifted_ns


if "CLOCK_OFFSETS" in os.environ:
    _shift(os.environ["CLOCK_OFFSETS"])
