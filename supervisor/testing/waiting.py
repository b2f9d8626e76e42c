"""Waiting for what other processes do: looked at again and again, up to a limit."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import TypeVar

from supervisor.unix.clock import boot_ms

T = TypeVar("T")
PAUSE_S = 0.01


def until(look: Callable[[], T | None], timeout_s: float, what: str) -> T:
    """What `look` gives, as soon as that is true.

    Raises:
        TimeoutError: it was not within this time.
    """
    end_ms = boot_ms() + timeout_s * 1000
    while not (found := look()):
        if boot_ms() >= end_ms:
            raise TimeoutError(f"{what} did not come within {timeout_s} s")
        select.select([], [], [], PAUSE_S)
    return found
