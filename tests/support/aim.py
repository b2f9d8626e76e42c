"""Whom of a daemon to kill, known before it is to happen: a look at /proc costs less than a millisecond.

A process is struck by a descriptor of it, and only if it is the one that was looked at: what else has its number by now
is not.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

KEEPER_NAME = "jobsupd:keeper"
FOREMAN_NAME = "jobsupd:"


class Target(NamedTuple):
    """A process of a daemon; `started` tells it from all others that ever had its number."""

    pid: int
    started: int
    role: str


def targets(master: int) -> list[Target]:
    """The keeper, the foremen and the workers of a master that live."""
    found = []
    for child in _children(master):
        if child.role == KEEPER_NAME:
            found.append(child._replace(role="keeper"))
        elif child.role.startswith(FOREMAN_NAME):
            found.append(child._replace(role="foreman"))
            found += [worker._replace(role="worker") for worker in _children(child.pid)]
    return found


def choose(found: Iterable[Target], roles: Iterable[str], chance: random.Random) -> Target | None:
    """One of the first of these roles that anybody has."""
    listed = list(found)
    for role in roles:
        having = [target for target in listed if target.role == role]
        if having:
            return chance.choice(having)
    return None


def strike(target: Target) -> bool:
    """SIGKILL to a process; False if it had ended."""
    try:
        fd = os.pidfd_open(target.pid)
    except ProcessLookupError:
        return False
    try:
        seen = _look(target.pid)
        if seen is None or seen.started != target.started:
            return False
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True


def _children(pid: int) -> Iterator[Target]:
    """The living children of a process of one thread, each with its name in the place of its role."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return
    for child in map(int, listed.split()):
        seen = _look(child)
        if seen is not None:
            yield seen


def _look(pid: int) -> Target | None:
    """A process by its name; None if it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    name, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split()
    return None if fields[0] in "ZX" else Target(pid, int(fields[19]), name)
