"""The outcome ring: a job is finished when its whole outcome is in the ring, before the next job is taken.

A record is a header of eight words and its data, padded to 64 bytes, so that a header never wraps; a record
that does not fit before the end of the ring is preceded by a pad. A record carries its sequence number and
its length, and one counter, written last, publishes it. What a kill left half written was never published.

*Invariant:* the reader believes nothing: a record counts only if its sequence number is the expected one and
its length lies inside the ring; anything else stops the reading of that ring and is reported.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from supervisor.unix.memory import HEADER_BYTES, RING_BYTES, W_PUBLISHED, W_READ, Memory, MemoryFile

RECORD_WORDS = 8
ALIGN = 64
DATA_MAX = RING_BYTES // 8
"""Larger data goes into a file of the slot first, and the record names it."""

_HEAD = struct.Struct("=7Q")

DONE, FAILED, SNOOZE, CANCEL, HANDBACK, DONE_WITH_CHILDREN = 1, 2, 3, 4, 5, 6
RATE_LIMITED, UNKNOWN, CHECKPOINT = 16, 17, 18
PAD = 127
SPILLED = 256
"""Flag of a kind: the data is the name of a file of the slot that holds the real data."""


class Position(NamedTuple):
    """How far a ring has been read: records, and bytes since the beginning of time."""

    sequence: int = 0
    offset: int = 0


class Record(NamedTuple):
    """One outcome. `started_ms` is wall-clock milliseconds; `run_us` how long it ran."""

    kind: int
    id: int
    token: int
    started_ms: int
    run_us: int
    data: bytes


class RingDamaged(Exception):
    """What the ring holds is no record: the worker, or a job in it, wrote over it."""


def padded(length: int) -> int:
    """The bytes that a record with so much data takes."""
    return -(-(RECORD_WORDS * 8 + length) // ALIGN) * ALIGN


class RingWriter:
    """The worker's side."""

    def __init__(self, memory: Memory) -> None:
        self._words = memory.words
        self._view = memory.view
        self._offset = 0
        self._sequence = 0

    def has_room(self, length: int) -> bool:
        """Whether a record with so much data, and the pad it may need, can be written now."""
        return self._offset + 2 * padded(length) - self._words[W_READ] <= RING_BYTES

    def append(self, kind: int, job_id: int, token: int, started_ms: int, run_us: int, data: bytes) -> None:
        """Write a record and publish it. The caller has asked `has_room` and kept data within `DATA_MAX`."""
        length = len(data)
        size = padded(length)
        at = self._offset % RING_BYTES
        if at + size > RING_BYTES:
            self._pad(RING_BYTES - at)
            at = 0
        words, base = self._words, (HEADER_BYTES + at) // 8
        sequence = self._sequence
        words[base] = sequence
        words[base + 1] = length
        words[base + 2] = kind
        words[base + 3] = job_id
        words[base + 4] = token
        words[base + 5] = started_ms
        words[base + 6] = run_us
        if length:
            start = HEADER_BYTES + at + RECORD_WORDS * 8
            self._view[start : start + length] = data
        self._sequence = sequence + 1
        self._offset += size
        words[W_PUBLISHED] = self._sequence

    def _pad(self, size: int) -> None:
        base = (HEADER_BYTES + self._offset % RING_BYTES) // 8
        self._words[base] = self._sequence
        self._words[base + 1] = size - RECORD_WORDS * 8
        self._words[base + 2] = PAD
        self._sequence += 1
        self._offset += size
        self._words[W_PUBLISHED] = self._sequence


class RingReader:
    """The keeper's side; starts from the position that a committed row gave.

    `damaged` is set by a read that found no record: from there on nothing of this ring counts.
    """

    def __init__(self, memory: MemoryFile, position: Position) -> None:
        self._memory = memory
        self.position = position
        self._freed = position.offset
        self.damaged = False

    def resume(self, position: Position) -> None:
        """Go back, or on, to a position that is committed; what was found damaged is looked at anew."""
        self.position = position
        self._freed = position.offset
        self.damaged = False

    def read(self, records_max: int) -> list[Record]:
        """The records published since `position`, which moves on; the space stays taken until `free`.

        Records before a damaged one are given out first. An empty list does not mean that none is left: a pad may
        have been all that was passed; `waiting` says. No more is believed than fits between what was given back
        and what is published: a forger cannot keep a reader reading.

        Raises:
            RingDamaged: the next record is none of ours; `position` stays before it.
        """
        if self.damaged:
            return []
        published = self._memory.word(W_PUBLISHED)
        sequence, offset = self.position
        if published == sequence:
            return []
        end = self._freed + RING_BYTES
        records: list[Record] = []
        damage: str | None = None
        if published < sequence:
            damage = f"{published} records are published, {sequence} were read before"
        ring = self._load(offset, min(max(published - sequence, 0), records_max))
        at = 0
        while damage is None and sequence < published and len(records) < records_max:
            if at + RECORD_WORDS * 8 > len(ring):
                damage = None if at else "the memory was cut short"
                break
            head = ring[at : at + 64].cast("Q")
            length = head[1]
            size = padded(length)
            if head[0] != sequence or (offset % RING_BYTES) + size > RING_BYTES or offset + size > end:
                damage = f"record {sequence} is marked {head[0]}, of {length} bytes"
                break
            if at + size > len(ring):
                damage = None if at else f"record {sequence} of {length} bytes is larger than records are"
                break
            if head[2] != PAD:
                data = bytes(ring[at + 64 : at + 64 + length]) if length else b""
                records.append(Record(head[2], head[3], head[4], head[5], head[6], data))
            sequence += 1
            offset += size
            at += size
        if damage is not None and not at:
            self.damaged = True
            raise RingDamaged(damage)
        self.position = Position(sequence, offset)
        return records

    def _load(self, offset: int, records: int) -> memoryview:
        """Enough of the ring to hold so many small records, or one of the largest, unwrapped."""
        want = min(RING_BYTES, max(records * ALIGN * 4, padded(DATA_MAX)))
        start = offset % RING_BYTES
        first = min(want, RING_BYTES - start)
        data = os.pread(self._memory.fd, first, HEADER_BYTES + start)
        if first < want:
            data += os.pread(self._memory.fd, want - first, HEADER_BYTES)
        return memoryview(data[: len(data) // 8 * 8])

    def waiting(self) -> int:
        """How many records the worker has published that were not read; none of a damaged ring."""
        return 0 if self.damaged else max(0, self._memory.word(W_PUBLISHED) - self.position.sequence)

    def free(self) -> None:
        """Give the space of what was read, and is committed, back to the worker."""
        self._freed = self.position.offset
        self._memory.set_word(W_READ, self._freed)
