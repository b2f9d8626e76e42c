"""A worker that writes what no worker writes: the keeper believes nothing of it, and never ends of it.

What a forged record says of a job of its own lease is the forger's to say. Everything else is counted or ignored, the
worker is replaced if its ring is damaged, and other queues notice nothing.
"""

from __future__ import annotations

import os
import random
import select
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from supervisor.config.spec import Demand, Queue, Retention
from supervisor.keeper import settling
from supervisor.unix import ring
from supervisor.unix.chunk import Chunk, decode_chunk
from supervisor.unix.clock import wall_ms
from supervisor.unix.inheritance import WorkerInheritance
from supervisor.unix.memory import (
    HEADER_BYTES,
    MEMBERS_AT,
    MEMORY_BYTES,
    RING_BYTES,
    W_CLAIM,
    W_MEMBERS,
    W_PUBLISHED,
    W_READ,
    Memory,
)
from supervisor.unix.ring import RingWriter
from supervisor.unix.slot import open_memory
from tests.support.campaign import Campaign
from tests.support.ledger import read_database
from tests.support.rig import Hand, Rig, WorkerMain, a_queue

encode = msgspec.msgpack.encode
DEEP = 15_000


class Forger:
    """A worker in name only: it takes one chunk, does its deed, rings, and stays."""

    def __init__(self, given: WorkerInheritance) -> None:
        fd = open_memory(given.directory_fd)
        self.memory = Memory(fd)
        self.ring = RingWriter(self.memory)
        self.sock = given.worker_end
        self.folder = given.directory_fd
        self.sock.setblocking(True)
        os.write(given.ready_fd, b"r")
        self.chunk: Chunk = decode_chunk(self.sock.recv(1 << 18))
        self.id = self.chunk.jobs[0].id
        self.token = self.chunk.token

    def record(self, kind: int, data: bytes) -> None:
        """A record about the first job of the chunk."""
        self.ring.append(kind, self.id, self.token, 0, 0, data)

    def spilled(self, name: bytes) -> None:
        """A record whose data is said to be in a file."""
        self.record(ring.DONE | ring.SPILLED, name)

    def children(self, *listed: object) -> None:
        """A completion with children."""
        self.record(ring.DONE_WITH_CHILDREN, encode((None, listed)))


Deed = Callable[[Forger], object]


def forging(deed: Deed) -> WorkerMain:
    """The main function of a forger."""

    def main(given: WorkerInheritance) -> int:
        forger = Forger(given)
        deed(forger)
        try:
            forger.sock.send(b"\0")
        except OSError:
            pass
        select.select([], [], [])
        return 0

    return main


def fifo(forger: Forger) -> None:
    os.mkfifo("outcome-f", dir_fd=forger.folder)
    forger.spilled(b"outcome-f")


def folder(forger: Forger) -> None:
    os.mkdir("outcome-f", dir_fd=forger.folder)
    forger.spilled(b"outcome-f")


def link(forger: Forger) -> None:
    os.symlink("/etc/passwd", "outcome-f", dir_fd=forger.folder)
    forger.spilled(b"outcome-f")


def sparse(forger: Forger) -> None:
    fd = os.open("outcome-f", os.O_CREAT | os.O_WRONLY, dir_fd=forger.folder)
    os.ftruncate(fd, 1 << 40)
    forger.spilled(b"outcome-f")


def lost_files(forger: Forger) -> None:
    for name in os.listdir(forger.folder):
        os.unlink(name, dir_fd=forger.folder)


def odd_words(forger: Forger) -> None:
    forger.memory.begin(0, forger.id, forger.token, 0, 0)
    forger.memory.words[W_CLAIM] = (1 << 64) - 1


def full_of(byte: bytes) -> Deed:
    """Everything after the words that the master wrote."""

    def deed(forger: Forger) -> None:
        forger.memory.view[64:] = byte * (MEMORY_BYTES - 64)

    return deed


def published(count: int) -> Deed:
    """Say that so many records are there."""

    def deed(forger: Forger) -> None:
        forger.record(ring.DONE, b"")
        forger.memory.words[W_PUBLISHED] = count

    return deed


def done_twice(forger: Forger) -> None:
    """The end of a job, recorded twice."""
    forger.record(ring.DONE, b"")
    forger.record(ring.DONE, b"")


DEEDS: dict[str, Deed] = {
    "a job done twice": done_twice,
    "a job handed back twice": lambda it: it.record(ring.HANDBACK, encode([it.id, it.id])),
    "a snooze below zero": lambda it: it.record(ring.SNOOZE, encode(-5)),
    "a snooze for ever": lambda it: it.record(ring.SNOOZE, encode(2**64 - 1)),
    "a snooze of text": lambda it: it.record(ring.SNOOZE, encode("soon")),
    "a failure with bytes for words": lambda it: it.record(ring.FAILED, encode({"message": b"\xff\xfe"})),
    "a failure with an object for words": lambda it: it.record(ring.FAILED, encode({"message": {"a": 1}})),
    "a failure without words": lambda it: it.record(ring.FAILED, encode({"message": None})),
    "a failure of no kind": lambda it: it.record(ring.FAILED, encode({"message": "x", "kind": {"a": 1}})),
    "a failure of another kind": lambda it: it.record(ring.FAILED, encode({"message": "x", "kind": "nonsense"})),
    "a failure that is a list": lambda it: it.record(ring.FAILED, encode([1, 2])),
    "a failure without end": lambda it: it.record(ring.FAILED, b"\x81\xa7message" + b"\x91" * 20_000 + b"\xc0"),
    "a failure of nothing": lambda it: it.record(ring.FAILED, b""),
    "a result too deep": lambda it: it.record(ring.DONE, b"[" * DEEP + b"]" * DEEP),
    "a result in no encoding": lambda it: it.record(ring.DONE, b'"\xff"'),
    "a result with half a character": lambda it: it.record(ring.DONE, b'"\\ud800"'),
    "a result of 5,000 digits": lambda it: it.record(ring.DONE, b"1" * 5_000),
    "a result that is no number": lambda it: it.record(ring.DONE, b"1e999"),
    "an unknown kind": lambda it: it.record(99, b""),
    "a cancellation by number": lambda it: it.record(ring.CANCEL, encode(3)),
    "a child that is no JSON": lambda it: it.children(("q", b"\xff", {})),
    "a child too deep": lambda it: it.children(("q", b"[" * DEEP + b"]" * DEEP, {})),
    "a child of no queue": lambda it: it.children(("nowhere", b"1", {})),
    "a child with strange options": lambda it: it.children(("q", b"1", {"nope": 2**63})),
    "a child with two payloads": lambda it: it.children(("q", b"1", {"payload": 3})),
    "a child with tags of bytes": lambda it: it.children(("q", b"1", {"tags": [b"\xed\xa0\x80"]})),
    "a child far too late": lambda it: it.children(("q", b"1", {"due_at_ms": 2**63})),
    "children that are no list": lambda it: it.record(ring.DONE_WITH_CHILDREN, encode((None, 7))),
    "a file that is not there": lambda it: it.spilled(b"outcome-nope"),
    "a file name in no encoding": lambda it: it.spilled(b"outcome-\xff"),
    "a file name with a NUL": lambda it: it.spilled(b"outcome-\0"),
    "a file elsewhere": lambda it: it.spilled(b"outcome-/../../../jobs.db"),
    "a FIFO for a file": fifo,
    "a folder for a file": folder,
    "a link for a file": link,
    "a file of a terabyte": sparse,
    "strangers handed back": lambda it: it.record(ring.HANDBACK, encode([2**64 - 1, -4])),
    "a hand-back without end": lambda it: it.record(ring.HANDBACK, b"\x91" * 20_000 + b"\xc0"),
    "a claim that cannot grow": odd_words,
    "a cell from the future": lambda it: it.memory.begin(0, it.id, it.token, 2**64 - 1, 2**64 - 1),
    "times from the future": lambda it: it.ring.append(ring.DONE, it.id, it.token, 2**64 - 1, 2**64 - 1, b""),
    "a job of nobody": lambda it: it.ring.append(ring.FAILED, 2**64 - 1, it.token, 0, 0, encode({"message": "x"})),
    "a lease of nobody": lambda it: it.ring.append(ring.DONE, it.id, 2**64 - 1, 0, 0, b""),
    "every bit set": full_of(b"\xff"),
    "zeros": full_of(b"\0"),
    "records that are not there": published(99),
    "more records than numbers": published(2**64 - 1),
    "fewer records than before": published(0),
    "a memory cut short": lambda it: os.truncate(f"/proc/self/fd/{it.folder}/memory", 0),
    "no files at all": lost_files,
    "an empty message": lambda it: it.sock.send(b""),
    "a pair shut down": lambda it: it.sock.shutdown(socket.SHUT_WR),
    "a flood of bells": lambda it: [it.sock.send(b"\0" * 100) for _ in range(20_000)],
}


def pools(path: Path) -> list[Queue]:
    """The forger's queue, and one that must notice nothing. Forged times must not make a job old."""
    kept = Retention(completed_ms=None, cancelled_ms=None, dead_ms=None)
    forgers = a_queue(path, workers=1, max_attempts=2, max_crashes=5, retention=kept)
    return [forgers, a_queue(path, "good", workers=1)]


def forge(rig: Rig, deed: Deed) -> Hand:
    """A forger at work on three jobs, beside an honest worker."""
    rig.start_keeper()
    forger = rig.spawn("q", forging(deed))
    rig.spawn("good")
    rig.until(lambda: len(rig.ready) == 2, what="ready workers")
    return forger


def others_go_on(rig: Rig) -> list[int]:
    """Jobs of the other queue run meanwhile."""
    good = rig.enqueue([{"do": "nothing"}] * 3, "good")
    rig.until(lambda: not rig.keeper or rig.drained("good"), 5, "the other queue")
    assert rig.keeper, "the keeper died"
    return good


def end(rig: Rig, forger: Hand | None, keeper: int, ids: list[int], good: list[int]) -> None:
    """Bury the forger; then every job ends, and the database is in order."""
    rig.until(lambda: rig.ask("status") and rig.keeper == keeper)
    if forger and forger.slot.number in rig.hands and forger.slot.number not in rig.expected:
        rig.kill_worker(forger)
    rig.until(rig.drained, 20, "the end of all jobs")
    assert rig.keeper == keeper
    assert rig.finish() == 0
    data = read_database(rig.database)
    assert data.problems == []
    assert {data.jobs[job_id].state for job_id in ids} <= {"completed", "dead", "cancelled"}
    assert {data.jobs[job_id].state for job_id in good} == {"completed"}
    assert not any(data.jobs[job_id].charges for job_id in good)
    assert data.owners == 0


@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS.keys())
def test_the_keeper_outlives(tmp_path: Path, deed: Deed) -> None:
    with Rig(tmp_path, pools(tmp_path)) as rig:
        forger = forge(rig, deed)
        keeper = rig.keeper
        ids = rig.enqueue([{"do": "nothing"}] * 3)
        end(rig, forger, keeper, ids, others_go_on(rig))


def scribble(seed: int) -> Deed:
    """Random bytes at random places: whole words, words of the header, parts of records."""

    def deed(forger: Forger) -> None:
        chance = random.Random(seed)
        for _ in range(chance.randint(0, 6)):
            forger.ring.append(
                chance.choice((1, 2, 3, 4, 5, 6, 257, 258, 262)), forger.id, forger.token, 0, 0,
                chance.randbytes(chance.choice((0, 1, 9, 200, 30_000))),
            )  # fmt: skip
        for _ in range(chance.randint(0, 40)):
            at = chance.choice((chance.randrange(64, 1024), HEADER_BYTES + chance.randrange(RING_BYTES)))
            data = chance.randbytes(chance.choice((1, 8, 64)))[: MEMORY_BYTES - at]
            forger.memory.view[at : at + len(data)] = data
        forger.memory.words[W_PUBLISHED] = chance.choice((0, 1, 3, 7, 5_000, 2**63))

    return deed


@pytest.mark.campaign
@pytest.mark.timeout(1200)
def test_random_scribbling_never_ends_the_keeper(tmp_path: Path, campaign: Campaign) -> None:
    seed = campaign.chance.randrange(1 << 40)
    for number, rounds in enumerate(campaign.batches(short=40, full=5_000, batch=100)):
        path = tmp_path / str(number)
        with Rig(path, pools(path)) as rig:
            rig.start_keeper()
            rig.spawn("good")
            keeper, ids, good = rig.keeper, [], []
            rig.replace = False
            for _ in range(rounds):
                seed += 1
                forger = rig.spawn("q", forging(scribble(seed)))
                rig.until(lambda: len(rig.ready) == 2, what="ready workers")
                ids += rig.enqueue([{"do": "nothing"}] * 2)
                good += others_go_on(rig)
                if forger.slot.number in rig.hands and forger.slot.number not in rig.expected:
                    rig.kill_worker(forger)
                rig.until(lambda gone=forger: gone.slot.number not in rig.slots, what="the slot's end")
                assert rig.keeper == keeper, f"the keeper died of seed {seed}"
            rig.spawn("q")
            end(rig, None, keeper, ids, good)
        campaign.passed(rounds)


def test_a_worker_cannot_hand_back_what_another_holds(tmp_path: Path) -> None:
    """A forged hand-back under the token of another worker's lease releases nothing."""
    fifo_path = tmp_path / "go"
    os.mkfifo(fifo_path)
    with Rig(tmp_path, [a_queue(tmp_path)]) as rig:
        rig.start_keeper()
        rig.spawn("q")
        rig.until(lambda: rig.ready)
        held = rig.enqueue([{"do": "hold", "until": str(fifo_path)}])[0]
        run = rig.until(lambda: rig.ledger.running, what="a held job")[0]
        forged = encode([held])
        forger = rig.spawn("q", forging(lambda it: it.ring.append(ring.HANDBACK, 0, run.token, 0, 0, forged)))
        rig.until(lambda: len(rig.ready) == 2)
        rig.enqueue([{"do": "nothing"}])
        rig.enqueue([{"do": "nothing"}])
        rig.pump_for(0.2)
        assert rig.job(held)["state"] == "running"
        assert rig.job(held)["token"] == run.token
        os.close(os.open(fifo_path, os.O_WRONLY))
        rig.kill_worker(forger)
        rig.until(rig.drained)
        assert rig.finish() == 0
        assert len(rig.ledger.runs()[held]) == 1


def test_what_was_finished_before_the_damage_counts(tmp_path: Path) -> None:
    """Two whole records, then one that is none: the two are kept, the rest runs elsewhere."""

    def deed(it: Forger) -> None:
        for sent in it.chunk.jobs[:2]:
            it.ring.append(ring.DONE, sent.id, it.token, wall_ms(), 0, b'"kept"')
        it.memory.words[W_PUBLISHED] = 3

    with Rig(tmp_path, [a_queue(tmp_path, workers=1)]) as rig:
        rig.start_keeper()
        warm = rig.spawn("q")
        rig.until(lambda: rig.ready)
        rig.enqueue([{"do": "nothing"}] * 50)
        rig.until(rig.drained)
        rig.ask("pause", queue="q")
        ids = rig.enqueue([{"do": "nothing"}] * 5)
        rig.replace = False
        rig.kill_worker(warm, "stop")
        rig.until(lambda: not rig.hands and not rig.certificates)
        rig.replace = True
        rig.spawn("q", forging(deed))
        rig.until(lambda: rig.ready)
        rig.ask("resume", queue="q")
        rig.until(rig.drained, what="the end of all jobs")
        assert rig.finish() == 0
        jobs = read_database(rig.database).jobs
        assert [jobs[job_id].result for job_id in ids] == ['"kept"', '"kept"', None, None, None]


def test_a_large_outcome_after_the_end_of_the_ring_is_read_after_death(tmp_path: Path) -> None:
    """The pad before it fills what one read loads; the record behind it must be read all the same."""

    def deed(it: Forger) -> None:
        size = ring.DATA_MAX
        first = it.chunk.jobs[0].id
        for _ in range(7):
            it.ring.append(ring.DONE, 1 << 40, it.token, 0, 0, b"x" * size)
        it.sock.send(b"\0")
        while it.memory.words[W_READ] < 7 * ring.padded(size):
            select.select([], [], [], 0.001)
        it.ring.append(ring.DONE, first, it.token, 0, 0, b'"' + b"x" * (size - 2) + b'"')
        os._exit(0)

    with Rig(tmp_path, [a_queue(tmp_path, workers=1)]) as rig:
        rig.start_keeper()
        rig.spawn("q", forging(deed))
        rig.until(lambda: rig.ready)
        (job_id,) = rig.enqueue([{"do": "nothing"}])
        rig.until(rig.drained)
        assert rig.job(job_id)["state"] == "completed"
        assert rig.finish() == 0
        assert rig.ledger.runs() == {}


def begun_together(*ids: int, more: int = 0, token: int = 0) -> Deed:
    """Say that a batch runs: of the own jobs, by their place in the lease, from 0, or of strangers."""

    def deed(it: Forger) -> None:
        own = [sent.id for sent in it.chunk.jobs]
        named = [own[number] if number < len(own) else number for number in ids]
        it.memory.begin_together(named, token or it.token, 0, 2**63)
        it.memory.words[W_MEMBERS] += more

    return deed


MEMBERS: dict[str, Deed] = {
    "strangers": begun_together(0, 1, 2**53 - 1, 2**64 - 1, 77),
    "a first job of nobody": begun_together(77, 0, 1, 2),
    "more than there is room for": begun_together(0, 1, more=2**63),
    "a lease of nobody": begun_together(0, 1, 2, token=2**64 - 1),
    "every bit set": full_of(b"\xff"),
    "a memory cut before them": lambda it: (begun_together(0, 1, 2)(it), os.truncate(memory_of(it), MEMBERS_AT)),
}


def memory_of(it: Forger) -> str:
    """The file of the forger's memory."""
    return f"/proc/self/fd/{it.folder}/memory"


@pytest.mark.parametrize("deed", MEMBERS.values(), ids=MEMBERS.keys())
def test_what_a_batch_is_said_to_be_harms_nobody(tmp_path: Path, deed: Deed) -> None:
    """Asked while it runs, cancelled, and buried: jobs outside the lease are as if nothing had been said."""
    forgers, honest = pools(tmp_path)
    together = msgspec.structs.replace(forgers, handler="ledgered:together", batch_size=3, batch_wait_ms=50)
    with Rig(tmp_path, [together, honest]) as rig:
        forger = forge(rig, deed)
        keeper = rig.keeper
        ids = rig.enqueue([{"do": "nothing"}] * 3)
        good = others_go_on(rig)
        for job_id in (*ids, *good):
            rig.ask("explain", job=job_id)
            rig.job(job_id)
        rig.ask("cancel", ids=ids[2:])
        end(rig, forger, keeper, ids, good)


def test_who_says_that_others_were_beside_it_is_charged_all_the_same_when_it_was_alone(tmp_path: Path) -> None:
    def deed(it: Forger) -> None:
        it.memory.begin_together([it.id, it.id + 1, it.id + 2], it.token, 0, 2**63)
        os._exit(3)

    forgers, honest = pools(tmp_path)
    together = msgspec.structs.replace(forgers, batch_size=3, max_crashes=2)
    with Rig(tmp_path, [together, honest]) as rig:
        rig.worker_main = forging(deed)
        forge(rig, deed)
        ids = rig.enqueue([{"do": "nothing"}] * 3)
        rig.until(rig.drained, what="the end of all jobs")
        assert rig.finish() == 0
        jobs = read_database(rig.database).jobs
        assert [jobs[job_id].reason for job_id in ids] == ["max_crashes"] * 3
        assert [dict(jobs[job_id].charges) for job_id in ids] == [{"interrupted": 1, "crash": 2}] * 3


def test_of_jobs_that_run_one_by_one_no_batch_is_believed(tmp_path: Path) -> None:
    """Who dies with jobs that it has not begun cannot make suspects of them, nor of itself one of several."""

    def deed(it: Forger) -> None:
        it.memory.begin_together([sent.id for sent in it.chunk.jobs], it.token, 0, 2**63)
        os._exit(3)

    queue = a_queue(tmp_path, workers=1, demand=Demand(min=3))
    with Rig(tmp_path, [queue]) as rig:
        rig.start_keeper()
        rig.ask("pause", queue="q")
        ids = rig.enqueue([{"do": "nothing"}] * 3)
        rig.spawn("q", forging(deed))
        rig.until(lambda: rig.ready)
        rig.ask("resume", queue="q")
        rig.until(rig.drained, what="the end of all jobs")
        assert rig.finish() == 0
        jobs = read_database(rig.database).jobs
        assert [dict(jobs[job_id].charges) for job_id in ids] == [{"crash": 1}, {}, {}]


def test_control_a_keeper_that_believes_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: nothing that reading raises is caught."""
    monkeypatch.setattr(settling, "UNREADABLE", ())
    with Rig(tmp_path, pools(tmp_path)) as rig:
        forge(rig, DEEDS["a failure with an object for words"])
        rig.enqueue([{"do": "nothing"}] * 3)
        rig.until(lambda: not rig.keeper, what="the keeper's death")
