"""A slot as the keeper sees it: what was handed out through it, and what came back."""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Sequence
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

import msgspec

from supervisor.config.spec import Queue
from supervisor.policy.batch import Rule, limit_of
from supervisor.store.protocol import SOLO, Lease, LeasedJob
from supervisor.unix.chunk import (
    CHUNK_BYTES_MAX,
    CHUNK_JOBS_MAX,
    INLINE_BYTES_MAX,
    Chunk,
    ChunkJob,
    decode_chunk,
    encode_chunk,
    payload_file,
)
from supervisor.unix.clock import wall_ms
from supervisor.unix.memory import MemoryFile
from supervisor.unix.ring import Position, RingReader
from supervisor.unix.slot import open_directory, open_memory, write_file

CHUNK_WORK_US = 1_000
CHUNK_MESSAGE_MAX = 256 * 1024
BELLS_PER_TURN = 512


class Phase(Enum):
    """Where a slot stands. Jobs are handed out only in READY."""

    GIVEN = "given"
    STARTED = "starting"
    READY = "ready"
    LEAVING = "stopping"
    JUDGED = "judged"


class Before(NamedTuple):
    """What was true of a slot before some of its jobs ended."""

    out: dict[int, tuple[int, int]]
    solo: bool
    quiet_since_ms: int


class KeeperSlot:
    """One slot. `out` holds the jobs that were handed out and have not ended: id -> (token, payload bytes)."""

    def __init__(
        self, number: int, pool: str, incarnation: int, directory: str, sock: socket.socket | None,
        worker_end: socket.socket | None,
    ) -> None:  # fmt: skip
        self.number = number
        self.pool = pool
        self.incarnation = incarnation
        self.directory = directory
        self.sock = sock
        self.worker_end = worker_end
        self.folder = open_directory(directory)
        try:
            self.memory = MemoryFile(open_memory(self.folder))
        except OSError:
            os.close(self.folder)
            raise
        self.ring = RingReader(self.memory, Position())
        self.phase = Phase.GIVEN
        self.owner = 0
        self.pid = 0
        self.start_time = 0
        self.restarts = 0
        self.started_at_ms = 0
        self.out: dict[int, tuple[int, int]] = {}
        self.out_bytes = 0
        self.solo = False
        self.batch = 0
        """How many jobs its worker was handed to be run in one call; 0: they are run one by one."""
        self.serial = 0
        self.unsent: deque[Chunk] = deque()
        self.quiet_since_ms = 0
        self.pinged = False
        """Whether an empty chunk was sent to a worker that took nothing from its socket, and no bell answered yet."""
        self.no_room: str | None = None
        """Why the first chunk cannot be sent: a large payload travels as a file, and run_dir takes none."""
        self.no_room_said = False
        self._refused = ""
        self.resent: set[int] = set()
        """Tokens that were sent anew: the worker may have their jobs in its hands and in its socket."""

    @property
    def idle(self) -> bool:
        """Whether the worker could take a job and has none."""
        return self.phase is Phase.READY and not self.out and not self.pinged

    @property
    def unbegun(self) -> int:
        """How many jobs wait in its worker's hands for the one that it runs; those of a batch wait for nothing."""
        return 0 if self.batch or not self.out else len(self.out) - 1

    def hand_out(self, lease: Lease, queue: Queue, mean_us: float, now_ms: int, rule: Rule | None = None) -> None:
        """Queue a committed lease for sending: in chunks of about a millisecond of work, or of a batch, by its rule."""
        if not self.out:
            self.quiet_since_ms = now_ms
            self.batch = 0 if rule is None else len(lease.jobs)
        for job in lease.jobs:
            self.out[job.id] = (lease.token, len(job.payload))
            self.out_bytes += len(job.payload)
        self.solo = any(job.mark == SOLO for job in lease.jobs)
        self.memory.batches |= rule is not None  # a worker stays what it is, whatever a reload says until it is gone
        if rule is None:
            jobs_max = max(1, min(CHUNK_JOBS_MAX, int(CHUNK_WORK_US / max(mean_us, 1.0))))
            self.unsent.extend(self._chunks(lease, queue, jobs_max))
        else:
            self.unsent.extend(self._batches(lease, queue, rule))
        self.send()

    def _batches(self, lease: Lease, queue: Queue, rule: Rule) -> list[Chunk]:
        """One chunk for each call: jobs of one time limit together, as far as they fit into one message."""
        together: dict[tuple[int, int], list[LeasedJob]] = {}
        now_ms = wall_ms()
        for job in lease.jobs:
            options = msgspec.json.decode(job.options) if job.options else {}
            together.setdefault(limit_of(options, queue.timeout_ms, now_ms), []).append(job)
        shares = sorted(together.values(), key=len, reverse=True)
        return [chunk for jobs in shares for chunk in self._chunks(lease._replace(jobs=jobs), queue, rule.size)]

    def _chunks(self, lease: Lease, queue: Queue, jobs_max: int) -> list[Chunk]:
        chunks: list[Chunk] = []
        sending: list[ChunkJob] = []
        size, max_attempts = 0, queue.max_attempts
        drawn = None if lease.queue == self.pool else {"queue": lease.queue, "timeout_ms": queue.timeout_ms}
        for job in lease.jobs:
            sent = self._sent(lease.token, job, drawn)
            weight = _weight(sent, job)
            if sending and (len(sending) >= jobs_max or size + weight > CHUNK_BYTES_MAX):
                chunks.append(self._chunk(lease.token, sending, max_attempts))
                sending, size = [], 0
            sending.append(sent)
            size += weight
        chunks.append(self._chunk(lease.token, sending, max_attempts))
        return chunks

    def _chunk(self, token: int, sending: list[ChunkJob], max_attempts: int) -> Chunk:
        self.serial += 1
        return Chunk(token, self.serial, sending, max_attempts)

    def _sent(self, token: int, job: LeasedJob, drawn: dict[str, object] | None) -> ChunkJob:
        """A job as it is sent. What finds no room in the slot travels in the message, if that can hold it."""
        sent = ChunkJob(job.id, job.attempt, job.enqueued_at_ms, job.payload, extra_of(job, drawn))
        return self._outsourced(token, sent)

    def ping(self) -> None:
        """Send an empty chunk: a worker that takes it rings."""
        self.unsent.append(self._chunk(0, [], 0))
        self.send()

    def send(self) -> None:
        """Send what waits, as far as the socket takes it; a full one keeps its place for later."""
        assert self.sock is not None
        while self.unsent:
            try:
                self.sock.send(encode_chunk(self.unsent[0]), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.EMSGSIZE and self._lighten():
                    continue
                return  # no room for its files yet; or its worker is gone, and the certificate will say so
            self.unsent.popleft()
            self.no_room, self.no_room_said = None, False

    def _lighten(self) -> bool:
        """Try again to put the large payloads of the first chunk into files; whether any of them went."""
        chunk = self.unsent[0]
        sending = [self._outsourced(chunk.token, sent) for sent in chunk.jobs]
        self.unsent[0] = msgspec.structs.replace(chunk, jobs=sending)
        if sending != chunk.jobs:
            return True
        self.no_room = f"its payload finds no room in {self.directory} ({self._refused})"
        return False

    def _outsourced(self, token: int, sent: ChunkJob) -> ChunkJob:
        if sent.payload is None or len(sent.payload) < INLINE_BYTES_MAX:
            return sent
        try:
            write_file(self.folder, payload_file(token, sent.id), sent.payload)
        except OSError as error:
            self._refused = os.strerror(error.errno or errno.EIO)
            return sent
        return msgspec.structs.replace(sent, payload=None)

    def take_back(self) -> list[Chunk]:
        """Chunks that nobody has begun: unsent ones, and those still in the socket. The kernel decides who got each."""
        chunks = list(self.unsent)
        self.unsent.clear()
        while self.worker_end is not None:
            try:
                data = self.worker_end.recv(CHUNK_MESSAGE_MAX, socket.MSG_DONTWAIT)
            except OSError:
                break
            if not data:
                break
            chunks.append(decode_chunk(data))
        return sorted((chunk for chunk in chunks if chunk.jobs), key=lambda chunk: chunk.serial)

    def holds(self, job_id: int, token: int) -> bool:
        """Whether this job was handed out through this slot under this token."""
        held = self.out.get(job_id)
        return held is not None and held[0] == token

    def end(self, ids: Sequence[int], now_ms: int) -> Before:
        """Jobs of this slot have ended, were handed back or taken back; returns what `undo_end` needs."""
        before = Before({job_id: self.out.pop(job_id) for job_id in ids}, self.solo, self.quiet_since_ms)
        self.out_bytes -= sum(held[1] for held in before.out.values())
        if ids:
            self.quiet_since_ms = now_ms
        if not self.out:
            self.solo = False
        return before

    def undo_end(self, before: Before) -> None:
        """It was not committed: they are still handed out."""
        self.out.update(before.out)
        self.out_bytes += sum(held[1] for held in before.out.values())
        self.solo, self.quiet_since_ms = before.solo, before.quiet_since_ms

    def hear(self) -> bool:
        """Empty the bells, as far as a turn has time for; False if what came is none.

        We hold the worker's end too, so the pair does not end with the worker: an empty message, or the end of the
        pair, is a job's doing, and from then on its bells may not be heard.
        """
        assert self.sock is not None
        for _ in range(BELLS_PER_TURN):
            try:
                if not self.sock.recv(64, socket.MSG_DONTWAIT):
                    return False
            except BlockingIOError:
                return True
            except OSError:
                return False
        return True

    def close(self) -> None:
        """Close what this process holds of the slot; its maker deletes it."""
        self.memory.close()
        os.close(self.folder)
        for end in (self.sock, self.worker_end):
            if end is not None:
                end.close()


def _weight(sent: ChunkJob, job: LeasedJob) -> int:
    """About the bytes that a job takes in a message. An error's text may be far longer than the payload."""
    return len(sent.payload or b"") + len(job.options or b"") + len(job.previous_error or b"") + 256


def extra_of(job: LeasedJob, drawn: dict[str, object] | None = None) -> dict[str, object] | None:
    """What most jobs do not have, for a chunk; `drawn` is what its queue says where the pool has another name."""
    few = job.options is None and not job.priority and job.due_at_ms is None and job.previous_error is None
    if few and not job.key and drawn is None and job.own_bytes is None:
        return None
    usual = _usual(job.options, job.priority, job.due_at_ms, job.own_bytes)
    if not job.key and drawn is None and job.previous_error is None:
        return usual
    extra = {**(drawn or {}), **usual}
    if job.key:
        extra["key"] = job.key
    if job.previous_error is not None:
        extra["previous_error"] = job.previous_error.decode()
    return extra


@lru_cache(64)
def _usual(options: bytes | None, priority: int, due_at_ms: int | None, own_bytes: int | None) -> dict[str, object]:
    """What is often the same as of the job before: steps of a flow say of which one they are. Not to be changed."""
    decoded: dict[str, object] = msgspec.json.decode(options) if options else {}
    decoded |= {"priority": priority, "due_at_ms": due_at_ms}
    return decoded if own_bytes is None else decoded | {"own_bytes": own_bytes}
