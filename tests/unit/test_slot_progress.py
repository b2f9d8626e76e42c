"""Progress in a slot's memory: what is half written is never read, and spoils nothing that comes after it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.unix.memory import PROGRESS_TEXT_MAX, W_PROGRESS, Memory, MemoryFile, Progress, format_memory


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Memory, MemoryFile]]:
    fd = os.open(tmp_path / "memory", os.O_RDWR | os.O_CREAT)
    format_memory(fd, 1, "0" * 32)
    memory = Memory(fd)
    yield memory, MemoryFile(fd)
    memory.close()
    os.close(fd)


def test_what_was_said_last_is_read(both: tuple[Memory, MemoryFile]) -> None:
    memory, file = both
    assert file.progress() is None
    memory.report(7, 3, 1_000, 0.25, "ä" * 400)
    found = file.progress()
    assert found is not None
    assert found[:4] == (7, 3, 1_000, 0.25)
    assert len(found.text.encode()) <= PROGRESS_TEXT_MAX
    memory.report(7, 3, 2_000, 1.0, "")
    assert file.progress() == Progress(7, 3, 2_000, 1.0, "")


def test_what_is_half_written_is_not_read_and_the_next_is(both: tuple[Memory, MemoryFile]) -> None:
    memory, file = both
    memory.report(7, 3, 1_000, 0.25, "before")
    memory.words[W_PROGRESS] |= 1  # as a deadline that is raised in the middle leaves it
    assert file.progress() is None
    memory.report(8, 4, 2_000, 0.5, "after")
    assert file.progress() == Progress(8, 4, 2_000, 0.5, "after")
    assert memory.words[W_PROGRESS] % 2 == 0


@pytest.mark.parametrize(("word", "value"), [(4, 2**63 - 1), (4, 0x4000000000000000), (3, 2**60), (1, 0)])
def test_nonsense_is_nothing(both: tuple[Memory, MemoryFile], word: int, value: int) -> None:
    memory, file = both
    memory.report(7, 3, 1_000, 0.25, "x")
    memory.words[W_PROGRESS + word] = value
    assert file.progress() is None
