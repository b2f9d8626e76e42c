"""Loading jobs line by line: what is sent, what is rejected, and where an interrupted load goes on."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from supervisor.cli import load
from supervisor.errors import Busy, InvalidPayload


class Queue:
    """A client whose queue refuses the payload "bad", and is busy from the nth request on."""

    def __init__(self, busy_from: int | None = None) -> None:
        self.groups: list[list[Any]] = []
        self.requests = 0
        self._busy_from = busy_from
        self._next_id = 1

    def insert(self, queue: str, jobs: list[dict[str, Any]]) -> dict[str, Any]:
        self.requests += 1
        if self._busy_from is not None and self.requests >= self._busy_from:
            raise Busy("the disk is full")
        if any(job["payload"] == '"bad"' for job in jobs):
            raise InvalidPayload("bad is not taken")
        self.groups.append(jobs)
        ids = list(range(self._next_id, self._next_id + len(jobs)))
        self._next_id += len(jobs)
        return {"ids": ids, "states": ["queued"] * len(ids), "acknowledged": "committed"}


def never() -> bool:
    return False


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def read_all(text: bytes, resume: int = 0) -> list[load.Chunk]:
    reader, writer = os.pipe()
    feeder = threading.Thread(target=lambda: (_write_all(writer, text), os.close(writer)))
    feeder.start()
    try:
        return list(load.chunks(reader, resume, never))
    finally:
        feeder.join()
        os.close(reader)


def _write_all(descriptor: int, text: bytes) -> None:
    while text:
        text = text[os.write(descriptor, text) :]


def test_lines_come_in_chunks_in_order() -> None:
    found = read_all(b"".join(b"%d\n" % number for number in range(1, 1201)))
    lines = [line for chunk in found for line in chunk.lines]
    assert [line.number for line in lines] == list(range(1, 1201))
    assert max(len(chunk.lines) for chunk in found) <= load.CHUNK_JOBS
    assert found[-1].last == 1200


def test_a_chunk_is_bounded_in_bytes() -> None:
    line = b'"' + b"x" * 300_000 + b'"\n'
    assert [len(chunk.lines) for chunk in read_all(line * 9)] == [4, 4, 1]


def test_empty_lines_count_as_lines_and_are_no_jobs() -> None:
    (chunk,) = read_all(b"1\n\n  \n4")
    assert [(line.number, line.text) for line in chunk.lines] == [(1, b"1"), (4, b"4")]


def test_resuming_goes_on_behind_a_line() -> None:
    (chunk,) = read_all(b"1\n2\n3\n4\n", resume=2)
    assert [line.number for line in chunk.lines] == [3, 4]


def test_a_line_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "LINE_BYTES_MAX", 1000)
    monkeypatch.setattr(load, "READ_BYTES", 100)
    (chunk,) = read_all(b"1\n" + b"x" * 5000 + b"\n3\n")
    assert [(line.number, line.text) for line in chunk.lines] == [(1, b"1"), (2, None), (3, b"3")]
    assert chunk.read_bytes == 5005


def test_what_has_come_is_sent_when_the_source_falls_silent(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.write(writer, b"1\n2\n")
    found = load.chunks(reader, 0, never)
    assert [line.number for line in next(found).lines] == [1, 2]
    os.write(writer, b"3\n")
    os.close(writer)
    assert [line.number for line in next(found).lines] == [3]


def chunk(*texts: bytes, first: int = 1) -> load.Chunk:
    lines = [load.Line(number, text) for number, text in enumerate(texts, first)]
    return load.Chunk(lines, lines[-1].number, 0)


def test_bad_lines_are_named_and_their_neighbours_get_in() -> None:
    queue = Queue()
    loader = load.Loader(queue, "q", {}, 0)  # type: ignore[arg-type]
    loader.send(chunk(b"1", b"{", b'"bad"', b"NaN", b"5", b"\xff", b'"bad"', b"8"))
    assert [each.line for each in loader.rejected] == [2, 3, 4, 6, 7]
    assert loader.accepted == 3
    assert [job["payload"] for group in queue.groups for job in group] == ["1", "5", "8"]
    assert (loader.first_id, loader.last_id, loader.committed_line) == (1, 3, 8)


def test_options_go_with_every_job() -> None:
    queue = Queue()
    load.Loader(queue, "q", {"priority": 3}, 0).send(chunk(b"1", b"2"))  # type: ignore[arg-type]
    assert queue.groups == [[{"payload": "1", "priority": 3}, {"payload": "2", "priority": 3}]]


def test_what_stops_a_load_leaves_the_line_to_go_on_behind() -> None:
    loader = load.Loader(Queue(busy_from=2), "q", {}, 0)  # type: ignore[arg-type]
    loader.send(chunk(b"1", b"2"))
    with pytest.raises(Busy):
        loader.send(chunk(b"3", b"4", first=3))
    assert (loader.committed_line, loader.uncertain_line) == (2, 4)


def test_half_a_chunk_that_was_committed_counts() -> None:
    loader = load.Loader(Queue(busy_from=3), "q", {}, 0)  # type: ignore[arg-type]
    with pytest.raises(Busy):
        loader.send(chunk(b"1", b"2", b"3", b'"bad"'))
    assert (loader.accepted, loader.committed_line) == (2, 2)


def test_the_first_interrupt_is_noted_and_the_second_raised() -> None:
    with load._interrupts() as interrupted:
        assert not interrupted()
        signal.raise_signal(signal.SIGINT)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
