"""Frames on a stream: a length of four bytes, big-endian, then that many bytes of JSON.

Client and keeper both use it, so it imports nothing heavy. What a length may be is checked as soon as its
four bytes are there: nobody can make the reader set aside memory for what was merely announced.
"""

from __future__ import annotations

import struct

from supervisor.errors import PayloadTooLarge, ProtocolError

FRAME_BYTES_MAX = 16 * 1024 * 1024
"""The most that one frame may hold, its four bytes of length not counted."""

HEADER_BYTES = 4

_HEADER = struct.Struct(">I")


def frame(body: bytes) -> bytes:
    """The body with its length in front, ready to be sent.

    Raises:
        PayloadTooLarge: the body is above `FRAME_BYTES_MAX`.
    """
    if len(body) > FRAME_BYTES_MAX:
        raise PayloadTooLarge(f"the message is {len(body):,} bytes; a frame takes at most {FRAME_BYTES_MAX:,}")
    return _HEADER.pack(len(body)) + body


class Decoder:
    """Cuts a stream into frames; feed it whatever the socket gives.

    A stream that broke the rules stays broken: once `feed` has raised, drop the decoder and its connection.
    """

    __slots__ = ("_max_bytes", "_rest", "_wanted_bytes")

    def __init__(self, max_bytes: int = FRAME_BYTES_MAX) -> None:
        self._max_bytes = max_bytes
        self._rest = bytearray()
        self._wanted_bytes = HEADER_BYTES

    @property
    def pending_bytes(self) -> int:
        """How much of a frame that is not complete yet is held; 0 between frames."""
        return len(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies of the frames that `data` completes, in order.

        Raises:
            ProtocolError: a length of 0 or above the limit. Frames before it in the same data are dropped:
                they come from a peer that has lost count, and none of them was answered.
        """
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < self._wanted_bytes:
                return []
            data = bytes(rest)
            rest.clear()
        return self._cut(data)

    def _cut(self, data: bytes) -> list[bytes]:
        frames = []
        start, end = 0, len(data)
        self._wanted_bytes = HEADER_BYTES
        while end - start >= HEADER_BYTES:
            (length,) = _HEADER.unpack_from(data, start)
            if not 0 < length <= self._max_bytes:
                raise ProtocolError(
                    f"the length of a frame is 1 to {self._max_bytes:,} bytes; this header says {length:,}"
                )
            stop = start + HEADER_BYTES + length
            if stop > end:
                self._wanted_bytes = HEADER_BYTES + length
                break
            frames.append(data[start + HEADER_BYTES : stop])
            start = stop
        self._rest += data[start:]
        return frames
