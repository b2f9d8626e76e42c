"""Threads that play another side of a test."""

from __future__ import annotations

import threading
from collections.abc import Callable


def beside(work: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    """A thread that has begun to do this, and what went wrong in it."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, failed
