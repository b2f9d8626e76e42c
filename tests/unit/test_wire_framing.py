"""Frames: cut right wherever the stream was torn, and refused at their header."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import PayloadTooLarge, ProtocolError
from supervisor.wire.framing import FRAME_BYTES_MAX, Decoder, frame

MIB = 1024 * 1024


@given(bodies=st.lists(st.binary(min_size=1, max_size=40), max_size=8), data=st.data())
def test_frames_come_out_whole_however_the_stream_is_torn(bodies: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(frame, bodies))
    decoder = Decoder()
    found = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += decoder.feed(stream[:size])
        stream = stream[size:]
    assert bodies == found
    assert decoder.pending_bytes == 0


def test_a_frame_is_its_length_in_four_bytes_and_its_body() -> None:
    assert frame(b"{}") == b"\x00\x00\x00\x02{}"


def test_what_is_not_complete_is_held_and_counted() -> None:
    decoder = Decoder()
    assert decoder.feed(frame(b"whole") + b"\x00\x00\x00\x09half") == [b"whole"]
    assert decoder.pending_bytes == 8
    assert decoder.feed(b" whol") == [b"half whol"]
    assert decoder.pending_bytes == 0


@pytest.mark.parametrize("length", [0, FRAME_BYTES_MAX + 1, 2 * 1024**3, 2**32 - 1])
def test_a_length_that_cannot_be_is_refused_at_the_header(length: int) -> None:
    with pytest.raises(ProtocolError, match=f"{length:,}"):
        Decoder().feed(struct.pack(">I", length))


def test_another_protocol_is_refused_by_its_first_bytes() -> None:
    with pytest.raises(ProtocolError):
        Decoder().feed(b"GET / HTTP/1.1\r\n")


def test_a_frame_of_the_largest_size_passes_and_one_byte_more_does_not() -> None:
    body = b"x" * FRAME_BYTES_MAX
    assert Decoder().feed(frame(body)) == [body]
    with pytest.raises(PayloadTooLarge, match=f"{FRAME_BYTES_MAX:,}"):
        frame(body + b"x")


def test_an_announced_length_takes_no_memory() -> None:
    tracemalloc.start()
    decoder = Decoder()
    decoder.feed(struct.pack(">I", FRAME_BYTES_MAX) + b"x")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 64 * 1024


def test_a_large_frame_in_small_pieces_comes_out_whole() -> None:
    body = b"x" * (4 * MIB)
    stream = frame(body)
    decoder = Decoder()
    found: list[bytes] = []
    for start in range(0, len(stream), 1000):
        found += decoder.feed(stream[start : start + 1000])
    assert found == [body]
