"""What relay and keeper hand each other in files beside their messages: rows of an outbox, and what became of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec


class Row(msgspec.Struct, frozen=True, array_like=True):
    """A committed row of an outbox, as the application wrote it; `created` is whatever stands in that column."""

    id: int
    queue: str
    payload: str
    options: str | None = None
    created: str | None = None
    error: str | None = None
    """Why it could not become a job before."""

    @property
    def digest(self) -> str:
        """What tells it from another row of the same id; why it was refused is no part of it."""
        found = hashlib.blake2b(digest_size=16)
        for part in (self.queue, self.payload, self.options, self.created):
            data = b"" if part is None else part.encode()
            found.update(b"%d:" % (-1 if part is None else len(data)) + data)
        return found.hexdigest()


class Verdict(msgspec.Struct, frozen=True, array_like=True):
    """What became of a row: the job that it is, or why it cannot be one; neither: its queue is full, it waits."""

    job: int | None = None
    error: str | None = None


_rows = msgspec.msgpack.Decoder(tuple[Row, ...])
_verdicts = msgspec.msgpack.Decoder(tuple[Verdict, ...])


def encode(listed: Sequence[Row] | Sequence[Verdict]) -> bytes:
    """Rows or verdicts as they travel."""
    return msgspec.msgpack.encode(listed)


def decode_rows(data: bytes) -> tuple[Row, ...]:
    """The rows of `encode`.

    Raises:
        msgspec.MsgspecError: they are none.
    """
    return _rows.decode(data)


def decode_verdicts(data: bytes) -> tuple[Verdict, ...]:
    """The verdicts of `encode`.

    Raises:
        msgspec.MsgspecError: they are none.
    """
    return _verdicts.decode(data)
