"""Waiting for an event in a test: the only place where tests let time pass."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.005


def until(condition: Callable[[], T], timeout: float = 10, what: str = "the condition") -> T:
    """The first true value of `condition`, asked again until `timeout` seconds have passed.

    Raises:
        AssertionError: it stayed false; the message holds its last value.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what} did not come true within {timeout} s; last value {value!r}")
        time.sleep(POLL_S)
    return value


def opened(fifo: Path | str) -> bool:
    """Open a FIFO for writing, if a reader waits at it: the way to let a run go on that was told to hold."""
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def alive(pid: int) -> bool:
    """Whether a process is there, and is more than a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def gone(*pids: int, within: float = 5) -> None:
    """Wait until none of these lives."""
    until(lambda: not any(map(alive, pids)), within, f"the end of {pids}")


async def until_in_loop(condition: Callable[[], T], timeout: float = 10, what: str = "the condition") -> T:
    """As `until`, letting the event loop go on meanwhile."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what} did not come true within {timeout} s; last value {value!r}")
        await asyncio.sleep(POLL_S)
    return value
