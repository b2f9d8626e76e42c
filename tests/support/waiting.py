"""Waiting for an event in a test: the only place where tests let time pass."""

from __future__ import annotations

import time
from collections.abc import Callable
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
