"""The jobs of a batch in a slot's memory: all of them or none, and nothing of an earlier batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.unix.memory import (
    MEMBERS_AT,
    MEMBERS_MAX,
    MEMORY_BYTES,
    W_MEMBERS,
    W_TOGETHER,
    Memory,
    MemoryFile,
    format_memory,
)


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Memory, MemoryFile]]:
    fd = os.open(tmp_path / "memory", os.O_RDWR | os.O_CREAT)
    format_memory(fd, 1, "0" * 32)
    memory = Memory(fd)
    yield memory, MemoryFile(fd, batches=True)
    memory.close()
    os.close(fd)


def ids(file: MemoryFile) -> list[int]:
    return [cell.id for cell in file.cells()]


def test_every_job_of_a_batch_is_read_with_the_times_of_the_first(both: tuple[Memory, MemoryFile]) -> None:
    memory, file = both
    assert file.cells() == []
    memory.begin_together([7, 9, 8], 3, 1_000, 2_000)
    assert [tuple(cell) for cell in file.cells()] == [(0, job, 3, 1_000, 2_000) for job in (7, 9, 8)]
    memory.returned(0)
    assert {cell.deadline_ms for cell in file.cells()} == {0}
    memory.end_together()
    assert file.cells() == []


def test_the_largest_batch_has_room_and_the_next_one_is_another(both: tuple[Memory, MemoryFile]) -> None:
    memory, file = both
    memory.begin_together(range(1, 257), 3, 1_000, 2_000)
    assert ids(file) == [*range(1, 257)]
    memory.end_together()
    memory.begin_together([300], 4, 1_000, 2_000)
    assert ids(file) == [300]
    memory.begin_together([300, 301], 4, 1_000, 2_000)
    assert ids(file) == [300, 301]


def test_a_kill_between_any_two_writes_shows_nobody_who_does_not_run(both: tuple[Memory, MemoryFile]) -> None:
    memory, file = both
    memory.begin_together([1, 2, 3], 5, 1_000, 2_000)
    memory.end(0)  # and no more of the end
    assert file.cells() == []
    memory.words[MEMBERS_AT // 8 : MEMBERS_AT // 8 + 3] = memory.words[0:3]  # a beginning that came no further
    assert file.cells() == []
    memory.begin(0, 9, 6, 1_000, 2_000)  # another first job, with the members of the batch before
    assert ids(file) == [9]


def test_of_a_worker_that_runs_jobs_one_by_one_nothing_is_read_behind_the_ring(
    both: tuple[Memory, MemoryFile],
) -> None:
    memory, file = both
    memory.begin_together([1, 2], 5, 1_000, 2_000)
    assert ids(MemoryFile(file.fd)) == [1]


@pytest.mark.parametrize(("word", "found"), [(0, [1]), (1, [1, 2]), (2, [1]), (2**64 - 1, [1])])
def test_whether_jobs_run_together_is_what_their_worker_was_started_as(
    both: tuple[Memory, MemoryFile], word: int, found: list[int]
) -> None:
    memory, file = both
    memory.begin_together([1, 2], 5, 1_000, 2_000)
    memory.words[W_TOGETHER] = word
    adopted = MemoryFile(file.fd)
    adopted.take_its_word()
    assert ids(adopted) == found


@pytest.mark.parametrize("count", [1, 3, MEMBERS_MAX, MEMBERS_MAX + 1, 2**64 - 1])
def test_no_more_is_believed_than_there_is_room_for(both: tuple[Memory, MemoryFile], count: int) -> None:
    memory, file = both
    memory.begin_together([7, 8], 3, 1_000, 2_000)
    for place in range(MEMBERS_AT // 8 + 2, MEMORY_BYTES // 8):
        memory.words[place] = place
    memory.words[W_MEMBERS] = count
    assert len(file.cells()) == 1 + min(count, MEMBERS_MAX)


def test_a_job_that_is_named_twice_or_not_at_all_is_one_or_none(both: tuple[Memory, MemoryFile]) -> None:
    memory, file = both
    memory.begin_together([7, 8, 8, 0, 7], 3, 1_000, 2_000)
    assert ids(file) == [7, 8]


def test_a_memory_that_was_cut_short_has_no_members(both: tuple[Memory, MemoryFile]) -> None:
    memory, file = both
    memory.begin_together([7, 8], 3, 1_000, 2_000)
    os.truncate(file.fd, MEMBERS_AT)
    assert ids(file) == [7]
    os.truncate(file.fd, MEMBERS_AT + 24)
    assert ids(file) == [7], "what reads as zeros is no job"
