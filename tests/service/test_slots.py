"""Slots under odd conditions: long errors, no room for files, names that a job has taken."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.config.spec import Queue
from supervisor.keeper.slots import KeeperSlot
from supervisor.policy.batch import Rule
from supervisor.store.protocol import SOLO, Lease, LeasedJob
from supervisor.unix.chunk import decode_chunk, payload_file
from supervisor.unix.slot import Slot, discard_slot, make_slot, open_directory, read_file, write_file
from tests.support.rig import QUICK, Rig
from tests.support.small_disk import python_on

LARGE = 300 * 1024


@pytest.fixture
def slot(tmp_path: Path) -> Iterator[Slot]:
    made = make_slot(str(tmp_path), 1, "q", "0" * 32)
    yield made
    discard_slot(made)


def keepers(slot: Slot) -> KeeperSlot:
    return KeeperSlot(
        slot.number, slot.pool, slot.incarnation, slot.directory, slot.keeper_end.dup(), slot.worker_end.dup()
    )


def a_job(number: int, payload: bytes) -> LeasedJob:
    return LeasedJob(number, 1, 0, 0, None, None, payload, None, 0, number, 0)


WORDY = """
def run(job):
    if job.attempt < 3:
        raise ValueError({letter!r} * 16_000)
"""


@pytest.mark.parametrize("letter", ["x", "\N{SNOWMAN}"])
def test_jobs_that_failed_with_long_errors_are_tried_again(tmp_path: Path, letter: str) -> None:
    (tmp_path / "wordy.py").write_text(WORDY.format(letter=letter))
    queue = Queue(name="q", handler="wordy:run", python_path=(str(tmp_path),), workers=1, backoff=QUICK)
    with Rig(tmp_path, [queue]) as rig:
        rig.start_keeper()
        rig.spawn_all()
        rig.enqueue([{}] * 100)
        rig.until(rig.drained, what="jobs that were tried again")
        assert rig.counts()["completed"] == 100


@pytest.mark.timeout(10)
def test_a_name_that_a_job_has_taken_does_not_keep_the_keeper_waiting(slot: Slot) -> None:
    folder = open_directory(slot.directory)
    for name in (payload_file(5, 7), payload_file(5, 7) + ".part"):
        os.mkfifo(name, dir_fd=folder)
    write_file(folder, payload_file(5, 7), b"{}")
    assert read_file(folder, payload_file(5, 7)) == b"{}"
    os.close(folder)


def test_a_file_that_is_written_anew_is_read_whole(slot: Slot) -> None:
    folder = open_directory(slot.directory)
    write_file(folder, "payload-1-1", b"old" * 1000)
    reader = os.open("payload-1-1", os.O_RDONLY, dir_fd=folder)
    write_file(folder, "payload-1-1", b"new")
    assert os.read(reader, 10_000) == b"old" * 1000
    for fd in (reader, folder):
        os.close(fd)


def test_a_payload_that_finds_no_room_is_sent_when_there_is_room(slot: Slot) -> None:
    kept = keepers(slot)
    taken = Path(slot.directory) / payload_file(5, 7)
    taken.mkdir()  # stands for a run_dir that is full: the file cannot be made
    kept.hand_out(Lease(5, 1, "q", [a_job(7, b'"' + b"x" * LARGE + b'"')]), Queue(name="q"), 100.0, 0)
    assert kept.unsent
    taken.rmdir()
    kept.send()
    assert not kept.unsent
    assert decode_chunk(slot.worker_end.recv(1 << 18)).jobs[0].payload is None
    assert taken.stat().st_size == LARGE + 2
    kept.close()


NO_ROOM = """
import os, sys
from supervisor.unix.slot import SPARE_SLOTS, make_slot, slots_root
made = 0
try:
    while True:
        make_slot(sys.argv[1], made + 1, "q", "0" * 32)
        made += 1
except OSError as error:
    print(error.errno)
print(made, len(os.listdir(slots_root(sys.argv[1]))))
"""


def test_a_slot_that_finds_no_room_is_not_made_at_all(tmp_path: Path) -> None:
    """Not even in part: a worker that writes where no page is left dies of it, and its job is charged."""
    said = python_on(tmp_path, NO_ROOM, size="2m").splitlines()
    assert said == [str(errno.ENOSPC), "7 7"]


def test_a_suspect_is_alone_also_when_a_new_keeper_sends_it_anew(slot: Slot) -> None:
    kept = keepers(slot)
    kept.hand_out(Lease(5, 1, "q", [a_job(7, b"{}")._replace(mark=SOLO)]), Queue(name="q"), 100.0, 0)
    assert kept.solo
    kept.close()


def test_the_largest_batch_is_one_message_and_nothing_in_it_waits_for_another(slot: Slot) -> None:
    kept = keepers(slot)
    jobs = [a_job(number, b"1") for number in range(1, 257)]
    kept.hand_out(Lease(5, 1, "q", jobs), Queue(name="q"), 1.0, 0, Rule(256))
    assert len(decode_chunk(slot.worker_end.recv(1 << 18)).jobs) == 256
    assert (kept.unsent, kept.unbegun, kept.batch) == (deque(), 0, 256)
    kept.end([job.id for job in jobs], 1)
    kept.hand_out(Lease(6, 1, "q", jobs[:2]), Queue(name="q"), 1.0, 0)
    assert (kept.unbegun, kept.batch, kept.memory.batches) == (1, 0, True)
    kept.close()


def test_jobs_of_other_time_limits_are_messages_of_their_own_the_most_of_one_first(slot: Slot) -> None:
    kept = keepers(slot)
    brief = b'{"timeout_ms": 7}'
    jobs = [a_job(1, b"1")._replace(options=brief), a_job(2, b"1"), a_job(3, b"1"), a_job(4, b"1")]
    jobs.append(a_job(5, b"1")._replace(options=brief))
    kept.hand_out(Lease(5, 1, "q", jobs), Queue(name="q"), 1.0, 0, Rule(10))
    sent = [[job.id for job in decode_chunk(slot.worker_end.recv(1 << 18)).jobs] for _ in range(2)]
    assert sent == [[2, 3, 4], [1, 5]]
    kept.close()
