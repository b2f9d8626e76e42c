"""Handlers that leave a trace: what ran, under which token, and whether it came to its end.

Each run appends `S id token pid at_ns` when it begins and `E id token pid at_ns` when it ends, each by one write to a
file that was opened to append: so what a kill leaves is whole lines. The file is named by $LEDGER. What else a job
does stands in its payload, `do` first.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable
from typing import Any


def run(job: Any) -> Any:
    """Do what the payload says, between two lines in the ledger."""
    note("S", job)
    payload = job.payload if isinstance(job.payload, dict) else {}
    returned = ACTIONS[payload.get("do", "nothing")](job, payload)
    note("E", job)
    return returned


def together(jobs: list[Any]) -> list[Any]:
    """The same for each job of a batch."""
    return [run(job) for job in jobs]


def note(kind: str, job: Any) -> None:
    """One line, by one write."""
    at_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    fd = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    os.write(fd, f"{kind} {job.id} {job.token} {os.getpid()} {at_ns}\n".encode())
    os.close(fd)


def nothing(_job: Any, payload: dict[str, Any]) -> Any:
    """Return what the payload asks to be returned."""
    return payload.get("result")


def hold(job: Any, payload: dict[str, Any]) -> None:
    """Wait until somebody opens the FIFO `until` for writing; `{attempt}` in it gives each attempt its own."""
    os.close(os.open(payload["until"].format(attempt=job.attempt), os.O_RDONLY))


def spin(_job: Any, payload: dict[str, Any]) -> None:
    """Use the processor for `us` microseconds."""
    end = time.perf_counter_ns() + int(payload["us"]) * 1000
    while time.perf_counter_ns() < end:
        pass


def rest(_job: Any, payload: dict[str, Any]) -> None:
    """Take `ms` milliseconds and no processor: how long runs are is what loads are mixed of; nobody waits by this."""
    time.sleep(payload["ms"] / 1000)


def stubborn(job: Any, payload: dict[str, Any]) -> None:
    """On the first `times` attempts go on for `ms` whatever is raised in here: only SIGKILL ends it sooner."""
    end = time.monotonic() + payload["ms"] / 1000
    while job.attempt <= payload.get("times", 1) and time.monotonic() < end:
        try:
            time.sleep(0.01)  # where the exception reaches it
        except BaseException:
            continue


def fail(job: Any, payload: dict[str, Any]) -> Any:
    """Raise on the first `times` attempts."""
    if job.attempt <= payload.get("times", 1 << 30):
        raise ValueError(f"job {job.id} was asked to fail")


def big(_job: Any, payload: dict[str, Any]) -> str:
    """Return a text of `bytes` bytes, which says where it ends."""
    return "x" * (payload["bytes"] - 1) + "."


def family(job: Any, payload: dict[str, Any]) -> None:
    """Enqueue children that name this run, then be busy for a moment, so that a kill finds it here."""
    for number in range(payload["children"]):
        job.enqueue(payload["queue"], {"parent": job.id, "token": job.token, "number": number})
    spin(job, {"us": payload.get("us", 2_000)})


def die(job: Any, payload: dict[str, Any]) -> None:
    """End the worker, by `how`, on the first `times` attempts."""
    if job.attempt <= payload.get("times", 1 << 30):
        DEATHS[payload["how"]]()


def snooze(job: Any, payload: dict[str, Any]) -> Any:
    """Ask to be run again once, after `ms`."""
    from supervisor.job import Snooze

    mark = payload["mark"]
    if os.path.exists(mark):
        return None
    os.close(os.open(mark, os.O_CREAT | os.O_WRONLY))
    return Snooze(payload["ms"] / 1000)


def descriptors(_job: Any, _payload: dict[str, Any]) -> list[list[Any]]:
    """What this process has open: number and what /proc calls it, the listing itself left out."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append([int(name), os.readlink(f"/proc/self/fd/{name}")])
        except OSError:
            continue
    return sorted(found)


def peek(job: Any, payload: dict[str, Any]) -> None:
    """Open a file that is none of a job's business, and hold it."""
    with open(payload["file"], "rb"):
        hold(job, payload)


def _fault() -> None:
    ctypes.string_at(0)


DEATHS: dict[str, Callable[[], Any]] = {
    "segv": _fault,
    "abort": os.abort,
    "exit": lambda: os._exit(7),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
}


def keep(job: Any, payload: dict[str, Any]) -> Any:
    """Keep a step, and a cursor."""
    job.save(payload.get("cursor", 1))
    return job.step("kept", lambda: job.id)


ACTIONS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "nothing": nothing,
    "hold": hold,
    "spin": spin,
    "rest": rest,
    "fail": fail,
    "keep": keep,
    "big": big,
    "family": family,
    "die": die,
    "snooze": snooze,
    "stubborn": stubborn,
    "descriptors": descriptors,
    "peek": peek,
}
