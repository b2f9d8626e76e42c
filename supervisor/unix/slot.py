"""A slot: what the master makes for a worker before anyone needs it, and what outlives the worker.

A SOCK_SEQPACKET pair and a directory RUN_DIR/slots/N with the slot's memory. A slot serves one worker and is
never used again. Chunks of jobs go down the pair; doorbells come up; payloads and outcomes that are too large
for either are files of the directory, which everyone reaches by descriptor.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import socket
import stat
from pathlib import Path
from typing import NamedTuple

from supervisor.unix.memory import MEMORY_FILE, format_memory

CERTIFICATE_FILE = "certificate"
TASKS_FILE = "tasks"
"""What a worker that imports by itself has found: the tasks of its code, as JSON."""
STACKS_FILE = "stacks"
FILE_BYTES_MAX = 64 * 1024 * 1024
SPARE_SLOTS = 2


class Slot(NamedTuple):
    """Both ends of a slot, as its maker holds them."""

    number: int
    pool: str
    incarnation: int
    keeper_end: socket.socket
    worker_end: socket.socket
    directory: str


def slots_root(run_dir: str) -> Path:
    """Where the slots of a run_dir live."""
    return Path(run_dir) / "slots"


def first_free_number(run_dir: str) -> int:
    """A number above every slot that this run_dir still holds: slot numbers are never used again."""
    root = slots_root(run_dir)
    taken = [int(entry.name) for entry in root.iterdir() if entry.name.isdigit()] if root.is_dir() else []
    return max(taken, default=0) + 1


def make_slot(run_dir: str, number: int, pool: str, boot_id: str, *, owner: tuple[int, int] | None = None) -> Slot:
    """Make a slot. `owner` is the (uid, gid) of a pool that runs as another user, else None.

    The directory alone keeps strangers out: the files in it are open to whoever may enter, so that keeper and worker
    read each other's without a common group, and without the setgid bit, which the systemd sandbox forbids.

    Raises:
        OSError: the directory or the socket pair cannot be made, or run_dir has no room; nothing is left of it.
    """
    directory = slots_root(run_dir) / str(number)
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return _made(directory, number, pool, boot_id, owner)
    except OSError:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _made(directory: Path, number: int, pool: str, boot_id: str, owner: tuple[int, int] | None) -> Slot:
    directory.mkdir(mode=0o700)
    incarnation = secrets.randbits(62) + 1
    memory = os.open(directory / MEMORY_FILE, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o660)
    try:
        format_memory(memory, incarnation, boot_id)
        os.fchmod(memory, 0o660)
        if owner:
            os.fchown(memory, owner[0], os.getegid())
    finally:
        os.close(memory)
    directory.chmod(0o770)
    if owner:
        os.chown(directory, owner[0], os.getegid())
    keeper_end, worker_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    keeper_end.setblocking(False)
    return Slot(number, pool, incarnation, keeper_end, worker_end, str(directory))


def discard_slot(slot: Slot) -> None:
    """Close both ends and delete the directory, once the keeper has given its verdict."""
    slot.keeper_end.close()
    slot.worker_end.close()
    shutil.rmtree(slot.directory, ignore_errors=True)


def open_directory(directory: str) -> int:
    """A descriptor of the slot's directory; everything inside is reached through it."""
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)


def open_memory(directory_fd: int) -> int:
    """A descriptor of the slot's memory file.

    Raises:
        OSError: it is missing, or a job has put something else in its place.
    """
    fd = os.open(MEMORY_FILE, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory_fd)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, f"{MEMORY_FILE} is not a regular file")
    return fd


def write_file(directory_fd: int, name: str, data: bytes) -> None:
    """Write a file of the slot whole: a reader sees all of it, or what was there before.

    It is written under another name, as a file that did not exist, and then renamed: what a job has put under either
    name, a FIFO say, can neither keep the writer waiting nor lead it elsewhere. A failure leaves nothing behind.

    Raises:
        OSError: no space, or the name is not ours to write.
    """
    part = f"{name}.part"
    remove_file(directory_fd, part)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(part, flags, 0o666, dir_fd=directory_fd)
    try:
        os.fchmod(fd, 0o666)  # whatever the umask
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.rename(part, name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
    except BaseException:
        remove_file(directory_fd, part)
        raise
    finally:
        os.close(fd)


def read_file(directory_fd: int, name: str, bytes_max: int = FILE_BYTES_MAX) -> bytes:
    """Read a file of the slot whole.

    Raises:
        OSError: it is missing, is no regular file, or is larger than `bytes_max`.
    """
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory_fd)
    try:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(f"{name} is not a regular file")
        if facts.st_size > bytes_max:
            raise OSError(f"{name} has {facts.st_size} bytes, the limit is {bytes_max}")
        parts = []
        while part := os.read(fd, 1 << 20):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def remove_file(directory_fd: int, name: str) -> None:
    """Delete a file of the slot, if it is there and is a file; what is left goes with the slot."""
    try:
        os.unlink(name, dir_fd=directory_fd)
    except OSError:
        pass
