"""A handler that finds out by itself whether a limit or an order was broken: locks end with their process."""

from __future__ import annotations

import fcntl
import os
import time
from typing import Any

FOLDER = os.environ.get("LOCKS", ".")


def held(name: str) -> int | None:
    """The descriptor of a lock that nobody else has; None if somebody has it."""
    descriptor = os.open(os.path.join(FOLDER, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def note(name: str, line: str) -> None:
    """Add a line to a file, whole or not at all."""
    descriptor = os.open(os.path.join(FOLDER, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.write(descriptor, (line + "\n").encode())
    os.close(descriptor)


def run(job: Any) -> None:
    """Take the locks that the queue's limits promise to be free, say what ran, and work a little."""
    mine: list[int | None] = []
    note("starts", f"{job.queue} {time.time():.4f}")
    if job.queue == "ordered":
        mine.append(held(f"key-{job.key}"))
        note(f"order-{job.key}", str(job.payload["n"]))
    if job.queue in ("shared_a", "shared_b"):
        mine.append(next(filter(None, (held(f"slot-{number}") for number in range(2))), None))
    if job.queue == "keyed":
        slots = (held(f"keyed-{job.key}-{number}") for number in range(2))
        mine.append(next(filter(None, slots), None))
    if None in mine:
        note("broken", f"job {job.id} of {job.queue}, key {job.key}, ran beside too many others")
    time.sleep(job.payload.get("ms", 1) / 1000)  # it holds its slots for so long: that is what is tried out
    for descriptor in mine:
        if descriptor is not None:
            os.close(descriptor)
    if job.payload.get("fail", 0) >= job.attempt:
        raise ValueError("as told")
