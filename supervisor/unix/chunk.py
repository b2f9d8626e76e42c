"""A chunk: one message of a lease to a worker, about a millisecond of work.

The names of its members are short because they are sent for every job; both ends are of one version, since the
master forked them.
"""

from __future__ import annotations

from typing import Any

import msgspec

CHUNK_JOBS_MAX = 128
CHUNK_BYTES_MAX = 128 * 1024
INLINE_BYTES_MAX = 16 * 1024
"""Payloads of this size and more travel as files of the slot."""


class ChunkJob(msgspec.Struct, array_like=True, frozen=True):
    """One job of a chunk. `payload` is JSON text, or None when it is a file of the slot.

    `extra` has what most jobs do not have: priority, tags, due_at_ms, timeout_ms, max_attempts, previous_error.
    """

    id: int
    attempt: int
    enqueued_at_ms: int
    payload: bytes | None
    extra: dict[str, Any] | None = None


class Chunk(msgspec.Struct, array_like=True, frozen=True):
    """Jobs of the lease `token`; `serial` grows with every chunk that is sent to a slot.

    `max_attempts` is that of the queue when they were sent: a reload may change it under a worker.
    """

    token: int
    serial: int
    jobs: list[ChunkJob]
    max_attempts: int


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Chunk)


def encode_chunk(chunk: Chunk) -> bytes:
    """The message."""
    return _encoder.encode(chunk)


def decode_chunk(data: bytes) -> Chunk:
    """The chunk of a message."""
    return _decoder.decode(data)


def payload_file(token: int, job_id: int) -> str:
    """The slot's file that holds a large payload."""
    return f"payload-{token}-{job_id}"


def outcome_file(token: int, job_id: int) -> str:
    """The slot's file that holds a large outcome."""
    return f"outcome-{token}-{job_id}"
