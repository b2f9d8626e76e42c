"""The writer lock: flock on DATABASE.lock of the real path, taken by the master and inherited by every keeper.

It is held until both are gone. The file names who holds it: pid, start time and role.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import stat
from typing import NamedTuple

from supervisor.errors import Busy, StoreError, StoreHeld
from supervisor.unix.clock import boot_ms

DAEMON, ONE_SHOT = "daemon", "one-shot"
RUN_DIR_LOCK = "jobsupd.lock"
SIGNED_BYTES = 128
RETRY_S = 0.02


class Holder(NamedTuple):
    """Who holds the writer lock, as the lock file says; pid 0 if it does not."""

    pid: int
    role: str
    start: int = 0


def lock_path(database: str) -> str:
    """The lock file of a database, of its real path: two names of one file have one lock.

    Raises:
        StoreError: the folder is missing, or the database is no regular file or has several hard links.
    """
    real = os.path.realpath(database)
    folder = os.path.dirname(real)
    if not os.path.isdir(folder):
        raise StoreError(f"{database}: the folder {folder} does not exist", hint=f"mkdir -p {folder}")
    try:
        facts = os.stat(real)
    except FileNotFoundError:
        return real + ".lock"
    except OSError as error:
        raise StoreError(f"{database}: {error.strerror}") from error
    if not stat.S_ISREG(facts.st_mode):
        raise StoreError(f"{database} is not a regular file")
    if facts.st_nlink > 1:
        raise StoreError(
            f"{database} has {facts.st_nlink} hard links: two daemons could each hold a lock on it",
            hint="keep one name for the file and remove the others",
        )
    return real + ".lock"


def take_lock(database: str, role: str) -> int:
    """Take the writer lock without waiting; returns its descriptor, which children inherit.

    Raises:
        StoreHeld: another process holds it; the message names its pid and role.
        StoreError: the lock file cannot be made.
    """
    fd, holder = _take(lock_path(database), role)
    if holder is None:
        return fd
    raise StoreHeld(
        f"{database} is in use by jobsup's {holder.role}, pid {holder.pid}",
        hint="one daemon per database; stop that one first, or name another [daemon] database",
    )


def take_run_dir(run_dir: str) -> int:
    """Let no other daemon use this run_dir, whatever its database; returns the descriptor to hold.

    Raises:
        Busy: another daemon uses it; the message names its pid.
        StoreError: the lock file cannot be made.
    """
    fd, holder = _take(os.path.join(run_dir, RUN_DIR_LOCK), DAEMON)
    if holder is None:
        return fd
    raise Busy(
        f"run_dir {run_dir} is in use by jobsup's daemon, pid {holder.pid}",
        hint="choose another [daemon] run_dir, or stop that daemon first",
    )


def _take(path: str, role: str) -> tuple[int, Holder | None]:
    """The lock's descriptor, or who holds it."""
    try:
        fd = _open_lock(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        sign_lock(fd, role)
    except OSError as error:
        holder = read_holder(fd)
        os.close(fd)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise StoreError(f"{path}: {error.strerror}") from error
        return -1, holder
    return fd, None


def _open_lock(path: str, flags: int) -> int:
    """Open the lock file, and nothing else that lies in its place: a FIFO would be waited for."""
    fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, "is not a regular file")


def take_lock_within(database: str, role: str, within_ms: int) -> int:
    """Take the writer lock, waiting for a holder that is about to go; returns its descriptor.

    A one-shot keeper yields to a daemon that asks it to (SIGTERM), after its current group; a daemon yields to
    nobody, but a one-shot waits a while for one that is just stopping. What holds the lock of a daemon that is dead
    is its keeper, at its last work.

    Raises:
        StoreHeld: it is still held when the time is over, or by another daemon that lives and we are one.
        StoreError: the lock file cannot be made.
    """
    until_ms = boot_ms() + within_ms
    asked: set[int] = set()
    while True:
        try:
            return take_lock(database, role)
        except StoreHeld:
            holder = holder_of(database)
            if (role == DAEMON and holder and holder.role == DAEMON and lives(holder)) or boot_ms() >= until_ms:
                raise
            if role == DAEMON and holder and holder.pid not in asked and holder.role == ONE_SHOT:
                asked.add(holder.pid)
                _ask_to_yield(holder)
            select.select([], [], [], RETRY_S)


def _ask_to_yield(holder: Holder) -> None:
    """Ask the one-shot keeper that the lock file names; its start time says that the number is still its own."""
    if lives(holder):
        try:
            os.kill(holder.pid, signal.SIGTERM)
        except OSError:
            pass  # gone, or another user's: then the lock tells


def lives(holder: Holder) -> bool:
    """Whether this process still is the one that the lock file names."""
    return bool(holder.pid) and process_start(holder.pid) == holder.start


def sign_lock(fd: int, role: str) -> None:
    """Write who we are into the lock file that we hold: over what stood there, for which a full disk has room."""
    text = json.dumps({"pid": os.getpid(), "start": process_start(os.getpid()), "role": role})
    os.pwrite(fd, text.encode().ljust(SIGNED_BYTES), 0)
    os.ftruncate(fd, SIGNED_BYTES)


def holder_of(database: str) -> Holder | None:
    """Who holds the lock now, or None when nobody does."""
    try:
        fd = _open_lock(lock_path(database), os.O_RDONLY)
    except (OSError, StoreError):
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return read_holder(fd)
    finally:
        os.close(fd)
    return None


def read_holder(fd: int) -> Holder:
    """What the lock file says of its holder."""
    try:
        facts = json.loads(os.pread(fd, 4096, 0))
        return Holder(int(facts["pid"]), str(facts["role"]), int(facts["start"]))
    except (ValueError, KeyError, TypeError):
        return Holder(0, "unknown")


def process_start(pid: int) -> int:
    """Start time of a process in clock ticks since boot; 0 if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0
