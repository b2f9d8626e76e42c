"""A slot's memory: what a worker, its foreman and the keeper tell each other without a system call.

The file holds aligned 8-byte words and a ring of outcomes. Each word has one writer and is written by
itself, through a memoryview cast to "Q" (struct.pack_into clears first, and a kill in between shows zeros).
Only the worker maps the file: keeper and foreman read and write it by offset, so that a job which truncates it
cannot raise SIGBUS in the process that owns the database, or in the one that owns the pool.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
from collections.abc import Sequence
from typing import NamedTuple

MAGIC = int.from_bytes(b"JOBSUPS1", "little")
LAYOUT = 1
CELLS = 8
RING_BYTES = 256 * 1024
HEADER_BYTES = 4096
MEMBERS_BYTES = 4096
MEMBERS_AT = HEADER_BYTES + RING_BYTES
"""Behind the ring: the id and the token of the first job of a batch, then the ids of the others."""
MEMBERS_MAX = 255
MEMORY_BYTES = MEMBERS_AT + MEMBERS_BYTES

# Words 0 to 4, written by the master: magic, layout, incarnation, and the boot id in two halves (`identity`).
W_PUBLISHED = 16
"""Records published so far; written by the worker, last of all."""
W_READ = 24
"""Bytes of the ring that are free again; written by the keeper. It only frees space: how far was read is a row."""
W_CLAIM = 32
"""serial << 16 | index of the job that the worker has begun or is about to begin; written by the worker."""
W_LIMIT = 40
"""serial << 16 | index: of that chunk, begin no job at or after the index; written by the keeper."""
W_WATCH = 48
"""When the foreman looks at the cells next, CLOCK_BOOTTIME ms; written by the foreman."""
W_DONE = 56
"""Jobs this worker has ended; written by the worker."""
W_TOGETHER = 57
"""1: this worker runs several jobs in one call, whatever the configuration says by now; written by the worker, before
it is given any."""
W_TARGET_TOKEN, W_TARGET = 58, 59
"""Whose deadline the foreman's next signal is about: token, then id. The job may end before the signal arrives, and
must not end the next one. Written by the foreman."""
W_CELLS = 64
CELL_WORDS = 8
W_MEMBERS = W_CELLS + 4
"""How many other jobs run in one call with that of the first cell: 0 but in a queue of batches. A word that the first
cell does not need, so that whoever reads the cells knows without a look behind the ring."""

W_PROGRESS = 128
"""How far the running job says it is: a number that is odd while the rest is written, id, token, wall-clock ms, the
fraction as the bits of a float, the length of the text; written by the worker."""
PROGRESS_WORDS = 6
PROGRESS_AT = (W_PROGRESS + 1) * 8
PROGRESS = struct.Struct("=QQQdQ")
"""All of it but the number. Written at once, unlike other words: who reports often reports with cold caches, in which
each further step costs a hundred times of what it does otherwise; and what is torn is not read."""
PROGRESS_TEXT_AT = 2048
PROGRESS_TEXT_MAX = 512
PROGRESS_READS = 5

MEMORY_FILE = "memory"


class Cell(NamedTuple):
    """A job in flight. Times are CLOCK_BOOTTIME milliseconds; deadline 0: it has returned, and is being recorded."""

    number: int
    id: int
    token: int
    started_ms: int
    deadline_ms: int


class Progress(NamedTuple):
    """How far a job says it is: from 0 to 1, with a text."""

    id: int
    token: int
    at_ms: int
    fraction: float
    text: str


class Memory:
    """The mapped memory of a slot, as its worker sees it."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, MEMORY_BYTES)
        self.view = memoryview(self._map)
        self.words = self.view.cast("Q")

    def close(self) -> None:
        """Give the mapping back; a worker's own end does that otherwise."""
        self.words.release()
        self.view.release()
        self._map.close()

    @property
    def watch_until_ms(self) -> int:
        """When the foreman looks at the cells next; a job that must end sooner rings the foreman's bell."""
        return self.words[W_WATCH]

    def begin(self, cell: int, job_id: int, token: int, started_ms: int, deadline_ms: int) -> None:
        """Say that a job is running in this cell; its id is written last, so a cell with an id is whole."""
        at = W_CELLS + cell * CELL_WORDS
        words = self.words
        words[at + 1] = token
        words[at + 2] = started_ms
        words[at + 3] = deadline_ms
        words[at] = job_id

    def end(self, cell: int) -> None:
        """Say that nothing runs in this cell."""
        self.words[W_CELLS + cell * CELL_WORDS] = 0

    def begin_together(self, ids: Sequence[int], token: int, started_ms: int, deadline_ms: int) -> None:
        """Say that these jobs, at most 256, run in one call; the first has the first cell, which is written last.

        The id and the token of the first stand with the others, so that nobody takes the members of an earlier batch
        for those of this one.
        """
        at, words = MEMBERS_AT // 8, self.words
        words[at], words[at + 1] = ids[0], token
        for place, job_id in enumerate(ids[1:], at + 2):
            words[place] = job_id
        words[W_MEMBERS] = len(ids) - 1
        self.begin(0, ids[0], token, started_ms, deadline_ms)

    def end_together(self) -> None:
        """Say that nothing runs any more; without its first job a batch is none."""
        self.end(0)
        self.words[W_MEMBERS] = 0

    def report(self, job_id: int, token: int, at_ms: int, fraction: float, text: str) -> None:
        """Say how far a job is. Whoever reads it in the middle sees an odd number, or two different ones.

        A deadline may be raised anywhere in here: what was left half written is begun anew by the next job.
        """
        words, said = self.words, text.encode("utf-8", "replace")[:PROGRESS_TEXT_MAX]
        serial = words[W_PROGRESS] | 1
        words[W_PROGRESS] = serial
        PROGRESS.pack_into(self._map, PROGRESS_AT, job_id, token, at_ms, fraction, len(said))
        self._map[PROGRESS_TEXT_AT : PROGRESS_TEXT_AT + len(said)] = said
        words[W_PROGRESS] = serial + 1

    def returned(self, cell: int) -> None:
        """Say that the job has returned, and only its outcome is not kept yet: no deadline can be missed any more."""
        self.words[W_CELLS + cell * CELL_WORDS + 3] = 0

    @property
    def targeted(self) -> bool:
        """Whether the job of the first cell is the one that the foreman's last signal was about."""
        words = self.words
        return words[W_TARGET] == words[W_CELLS] != 0 and words[W_TARGET_TOKEN] == words[W_CELLS + 1]


class MemoryFile:
    """The same memory as keeper and foreman read it: by offset, never mapped, believing nothing."""

    def __init__(self, fd: int, *, batches: bool = False) -> None:
        self.fd = fd
        self.batches = batches
        """Whether its worker runs several jobs in one call: of any other, nothing is read behind the ring."""

    def word(self, index: int) -> int:
        """One word; 0 where the file has been cut short."""
        return int.from_bytes(os.pread(self.fd, 8, index * 8), "little")

    def set_word(self, index: int, value: int) -> None:
        """Write one word of ours."""
        os.pwrite(self.fd, value.to_bytes(8, "little"), index * 8)

    def identity(self) -> tuple[int, int, int, str]:
        """Magic, layout, incarnation and boot id, as the master wrote them."""
        data = os.pread(self.fd, 40, 0).ljust(40, b"\0")
        magic, layout, incarnation, high, low = memoryview(data).cast("Q")
        return magic, layout, incarnation, f"{high:016x}{low:016x}"

    def cells(self) -> list[Cell]:
        """The jobs that the worker says are in flight; those of one call have one number, and its first comes first."""
        size = CELLS * CELL_WORDS * 8
        words = memoryview(os.pread(self.fd, size, W_CELLS * 8).ljust(size, b"\0")).cast("Q")
        cells = read_cells(words)
        if self.batches and words[0] and words[W_MEMBERS - W_CELLS]:
            cells[1:1] = self._members(cells[0], words[W_MEMBERS - W_CELLS])
        return cells

    def _members(self, first: Cell, count: int) -> list[Cell]:
        """The jobs that run in one call with the first: each once, and no more than there is room for."""
        size = (2 + min(count, MEMBERS_MAX)) * 8
        words = memoryview(os.pread(self.fd, size, MEMBERS_AT).ljust(size, b"\0")).cast("Q")
        if (words[0], words[1]) != (first.id, first.token):
            return []
        return [first._replace(id=job_id) for job_id in dict.fromkeys(words[2:]) if job_id not in (0, first.id)]

    def progress(self) -> Progress | None:
        """How far the job says it is that spoke last; None if none did, or what is there makes no sense."""
        for _ in range(PROGRESS_READS):
            before = self.word(W_PROGRESS)
            size = PROGRESS_WORDS * 8
            words = memoryview(os.pread(self.fd, size, W_PROGRESS * 8).ljust(size, b"\0")).cast("Q")
            text = os.pread(self.fd, min(words[5], PROGRESS_TEXT_MAX), PROGRESS_TEXT_AT)
            if before % 2 == 0 and before == self.word(W_PROGRESS):
                fraction = struct.unpack("=d", words[4].to_bytes(8, sys.byteorder))[0]
                sound = words[1] and 0.0 <= fraction <= 1.0 and words[3] < 2**53
                return (
                    Progress(words[1], words[2], words[3], fraction, text.decode(errors="replace")) if sound else None
                )
        return None

    def take_its_word(self) -> None:
        """Find out from the worker itself whether it runs several jobs in one call: it stays what it was started as."""
        self.batches = self.word(W_TOGETHER) == 1

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


def read_cells(words: Sequence[int]) -> list[Cell]:
    """The cells that hold a job."""
    return [
        Cell(at // CELL_WORDS, words[at], words[at + 1], words[at + 2], words[at + 3])
        for at in range(0, CELLS * CELL_WORDS, CELL_WORDS)
        if words[at]
    ]


def format_memory(fd: int, incarnation: int, boot_id: str) -> None:
    """Lay out a new slot's memory: sized, zeroed, and named after its incarnation and boot.

    Its pages are taken now: on a full file system a worker that touches a missing page gets SIGBUS, in the middle of
    a job that would be charged with it.

    Raises:
        OSError: the file system has no room for it.
    """
    os.posix_fallocate(fd, 0, MEMORY_BYTES)
    digits = boot_id.rjust(32, "0") if boot_id.isalnum() and boot_id != "unknown" else "0" * 32
    words = (MAGIC, LAYOUT, incarnation, int(digits[:16], 16), int(digits[16:], 16))
    os.pwrite(fd, b"".join(word.to_bytes(8, "little") for word in words), 0)
