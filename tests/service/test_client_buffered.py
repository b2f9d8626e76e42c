"""The buffered client: what is gathered, when it goes, what is heard of what failed, and what an end costs."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from supervisor.client import Client
from supervisor.errors import (
    Busy,
    InvalidPayload,
    JobsupError,
    PayloadTooLarge,
    Unconfirmed,
    UnknownQueue,
    UsageError,
    WaitTimeout,
)
from supervisor.unix.clock import boot_ms
from supervisor.wire import messages
from supervisor.wire.buffer import BLOCK_AT, Buffer, Receipt
from tests.service.test_client_faults import in_child
from tests.support.daemon import environment
from tests.support.fake_keeper import KEEP_SILENT, LOSE_REPLY, MAX_PAYLOAD_BYTES, FakeKeeper
from tests.support.waiting import until

NEVER = "1h"


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[FakeKeeper]:
    with FakeKeeper(str(tmp_path / "s")) as keeper:
        yield keeper


@pytest.fixture
def client(keeper: FakeKeeper, tmp_path: Path) -> Iterator[Client[Receipt]]:
    """One that sends only when it must."""
    with Client(socket=str(tmp_path / "s"), timeout=10, buffered=True, flush_jobs=10, flush_interval=NEVER) as client:
        yield client


def groups(keeper: FakeKeeper) -> list[int]:
    return [len(request.jobs) for request in keeper.seen if isinstance(request, messages.Enqueue)]


def test_jobs_are_gathered_and_sent_by_size(client: Client[Receipt], keeper: FakeKeeper) -> None:
    for n in range(9):
        client.enqueue("emails", n)
    assert not keeper.seen
    client.enqueue("emails", 9)
    until(lambda: groups(keeper) == [10])
    assert [job["payload"] for job in keeper.jobs.values()] == [b"%d" % n for n in range(10)]


def test_jobs_are_sent_when_they_are_large(client: Client[Receipt], keeper: FakeKeeper) -> None:
    client.enqueue("emails", "x" * 600_000)
    assert not keeper.seen
    client.enqueue("emails", "x" * 600_000)
    until(lambda: groups(keeper) == [2])


def test_jobs_are_sent_after_the_interval(keeper: FakeKeeper, tmp_path: Path) -> None:
    with Client(socket=str(tmp_path / "s"), buffered=True, flush_interval="20ms") as client:
        receipts = [client.enqueue("emails", n) for n in range(3)]
        until(lambda: all(receipt.done for receipt in receipts))
        assert [receipt.id() for receipt in receipts] == [1, 2, 3]
        later = client.enqueue("emails", 3)
        until(lambda: later.done)


def test_flush_sends_what_there_is_and_waits_for_it(client: Client[Receipt], keeper: FakeKeeper) -> None:
    receipts = [client.enqueue("emails", n) for n in range(3)]
    client.flush()
    assert all(receipt.done for receipt in receipts)
    assert groups(keeper) == [3]
    client.flush()
    assert groups(keeper) == [3]


def test_leaving_the_block_sends_the_rest(keeper: FakeKeeper, tmp_path: Path) -> None:
    with Client(socket=str(tmp_path / "s"), buffered=True, flush_interval=NEVER) as client:
        receipt = client.enqueue("emails", 1)
    assert receipt.id() == 1
    assert len(keeper.jobs) == 1
    client.close()
    with pytest.raises(UsageError, match="closed"):
        client.enqueue("emails", 2)


def test_a_receipt_is_as_good_as_an_id_and_hurries_the_flush(client: Client[Receipt], keeper: FakeKeeper) -> None:
    receipt = client.enqueue("emails", {"a": 1})
    assert repr(receipt) == "<Receipt pending>"
    assert client.status(receipt)["payload"] == {"a": 1}
    assert repr(receipt) == "<Receipt 1>"
    assert (int(receipt), receipt.id()) == (1, 1)
    client.cancel(receipt)
    assert keeper.jobs[1]["state"] == "cancelled"


def test_a_receipt_waits_no_longer_than_told(client: Client[Receipt], keeper: FakeKeeper) -> None:
    keeper.faults.append(KEEP_SILENT)
    receipt = client.enqueue("emails", 1)
    with pytest.raises(WaitTimeout):
        receipt.id(timeout=0.02)
    keeper.break_connections()
    assert receipt.id(timeout=10) == 1


def test_queues_go_apart_and_keep_their_order(client: Client[Receipt], keeper: FakeKeeper) -> None:
    for n in range(6):
        client.enqueue("emails" if n % 2 else "reports", n)
    client.flush()
    assert groups(keeper) == [3, 3]
    assert [(job["queue"], job["payload"]) for job in keeper.jobs.values()] == [
        ("reports", b"0"), ("reports", b"2"), ("reports", b"4"), ("emails", b"1"), ("emails", b"3"), ("emails", b"5"),
    ]  # fmt: skip


def test_many_at_once_stay_all_or_none(client: Client[Receipt], keeper: FakeKeeper) -> None:
    good = client.enqueue_many("emails", range(3))
    bad = client.enqueue_many("emails", [1, "x" * MAX_PAYLOAD_BYTES, 2])
    also_good = client.enqueue("emails", "last")
    with pytest.raises(PayloadTooLarge, match="3 buffered jobs failed"):
        client.flush()
    assert [receipt.id() for receipt in [*good, also_good]] == [1, 2, 3, 4]
    for receipt in bad:
        with pytest.raises(PayloadTooLarge):
            receipt.id()
    assert len(keeper.jobs) == 4


def test_a_group_above_the_flush_size_goes_whole(client: Client[Receipt], keeper: FakeKeeper) -> None:
    client.enqueue("emails", "first")
    receipts = client.enqueue_many("emails", range(1000))
    client.flush()
    assert [receipt.id() for receipt in receipts] == list(range(2, 1002))
    assert sum(groups(keeper)) == 1001
    assert max(groups(keeper)) >= 1000


def test_what_cannot_be_written_as_json_is_refused_at_once(client: Client[Receipt]) -> None:
    with pytest.raises(InvalidPayload):
        client.enqueue("emails", float("nan"))
    with pytest.raises(InvalidPayload):
        client.enqueue("emails", 1, delay="soon")
    with pytest.raises(UsageError, match="not buffered"):
        client.enqueue("emails", 1, request_key="k")
    client.flush()


def test_a_job_that_is_refused_spoils_no_other(client: Client[Receipt], keeper: FakeKeeper) -> None:
    receipts = [client.enqueue("emails", n, priority=1000 if n == 5 else None) for n in range(9)]
    with pytest.raises(InvalidPayload, match="1 buffered jobs failed; the first: jobs"):
        client.flush()
    assert sorted(receipt.id() for n, receipt in enumerate(receipts) if n != 5) == list(range(1, 9))
    with pytest.raises(InvalidPayload, match="priority"):
        receipts[5].id()
    client.flush()


def test_failures_nobody_looked_at_are_raised_when_closing(keeper: FakeKeeper, tmp_path: Path) -> None:
    client = Client(socket=str(tmp_path / "s"), buffered=True, flush_interval="1ms")
    receipts = client.enqueue_many("nix", [1, 2])
    until(lambda: all(receipt.done for receipt in receipts))
    client.enqueue("emails", 1)
    with pytest.raises(UnknownQueue, match="2 buffered jobs failed") as caught:
        client.close()
    assert caught.value.hint == "look at status"
    assert len(keeper.jobs) == 1


def test_a_broken_connection_neither_loses_nor_doubles(client: Client[Receipt], keeper: FakeKeeper) -> None:
    keeper.faults.extend([LOSE_REPLY, None, LOSE_REPLY])
    receipts = [client.enqueue("emails", n) for n in range(95)]
    client.flush()
    assert sorted(receipt.id() for receipt in receipts) == list(range(1, 96))
    assert sorted(int(job["payload"]) for job in keeper.jobs.values()) == list(range(95))


def test_a_lost_answer_is_unconfirmed_for_all_that_went_together(keeper: FakeKeeper, tmp_path: Path) -> None:
    client = Client(socket=str(tmp_path / "s"), buffered=True, flush_interval=NEVER, timeout="100ms")
    receipts = [client.enqueue("emails", n) for n in range(3)]
    keeper.faults.append(KEEP_SILENT)
    with pytest.raises(Unconfirmed, match="3 buffered jobs failed"):
        client.flush()
    for receipt in receipts:
        with pytest.raises(Unconfirmed):
            receipt.id()
    client.close()


def test_threads_enqueue_into_one_buffer(client: Client[Receipt], keeper: FakeKeeper) -> None:
    receipts: list[Receipt] = []

    def work() -> None:
        receipts.extend(client.enqueue("emails", n) for n in range(250))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    client.flush()
    assert sorted(receipt.id() for receipt in receipts) == list(range(1, 1001))
    assert max(groups(keeper)) <= 10


def test_who_enqueues_faster_than_can_be_sent_is_slowed_down(keeper: FakeKeeper, tmp_path: Path) -> None:
    keeper.faults.append(KEEP_SILENT)
    with Client(socket=str(tmp_path / "s"), buffered=True, flush_jobs=10, flush_interval=NEVER) as client:
        count = 0

        def work() -> None:
            nonlocal count
            for n in range(200):
                client.enqueue("emails", n)
                count += 1

        thread = threading.Thread(target=work)
        thread.start()
        until(lambda: count >= BLOCK_AT * 10 - 1 and len(keeper.seen) == 1)
        assert count <= (BLOCK_AT + 1) * 10
        keeper.break_connections()
        thread.join(10)
    assert len(keeper.jobs) == 200


def test_a_forked_child_sends_only_its_own(client: Client[Receipt], keeper: FakeKeeper) -> None:
    receipt = client.enqueue("emails", "parent")

    def child() -> object:
        own = client.enqueue("emails", "child")
        try:
            receipt.id()
        except Unconfirmed as error:
            return f"{own.id()} {error.message}"
        return "the parent's job was sent by the child"

    assert in_child(child) == "1 the parent process enqueues this job; only it learns the id"
    assert receipt.id() == 2
    assert [job["payload"] for job in keeper.jobs.values()] == [b'"child"', b'"parent"']


ENDING = """
import os, signal, sys
from supervisor.client import Client
client = Client(socket=sys.argv[1], buffered=True, flush_interval="1h")
for n in range(20):
    client.enqueue("emails", n)
{}
"""


@pytest.mark.parametrize(
    ("ending", "sent"),
    [
        ("", 20),
        ("sys.exit(3)", 20),
        ("raise RuntimeError", 20),
        ("signal.signal(signal.SIGTERM, lambda *_: sys.exit()); os.kill(os.getpid(), signal.SIGTERM)", 20),
        ("client.close(); client = None", 20),
        ("del client", 20),
        ("os.fork(); sys.exit()", 20),
        ("os._exit(0)", 0),
        ("os.kill(os.getpid(), signal.SIGKILL)", 0),
    ],
)
def test_an_ordinary_end_of_the_program_loses_nothing(
    keeper: FakeKeeper, tmp_path: Path, ending: str, sent: int
) -> None:
    program = [sys.executable, "-c", ENDING.format(ending), str(tmp_path / "s")]
    root = str(Path(__file__).parents[2])
    subprocess.run(program, check=False, timeout=60, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": root})
    assert sorted(int(job["payload"]) for job in keeper.jobs.values()) == list(range(sent))


def test_a_failure_at_the_end_of_the_program_is_shown(keeper: FakeKeeper, tmp_path: Path) -> None:
    program = [sys.executable, "-c", ENDING.format("").replace('"emails"', '"nix"'), str(tmp_path / "s")]
    root = str(Path(__file__).parents[2])
    env = os.environ | {"PYTHONPATH": root}
    done = subprocess.run(program, check=False, timeout=60, capture_output=True, text=True, env=env)
    assert "20 buffered jobs failed; the first: there is no queue nix" in done.stderr


class Sink:
    """Where a buffer sends, in place of a daemon."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, list[str]]] = []
        self.error: BaseException | None = None

    def __call__(self, queue: str, jobs: Sequence[str]) -> list[int]:
        self.sent.append((queue, list(jobs)))
        if self.error:
            raise self.error
        return list(range(len(jobs)))

    def buffer(self, clock: Callable[[], int] = boot_ms, **more: Any) -> Buffer:
        return Buffer(self, clock, **({"jobs_max": 10, "bytes_max": 1000, "interval_ms": 3_600_000} | more))


def test_an_interrupted_flush_leaves_nobody_waiting_for_ever() -> None:
    sink = Sink()
    sink.error = KeyboardInterrupt()
    buffer = sink.buffer()
    (receipt,) = buffer.add("q", ["1"])
    with pytest.raises(KeyboardInterrupt):
        buffer.flush()
    with pytest.raises(Unconfirmed, match="cut short"):
        receipt.id(timeout=10)
    with pytest.raises(Unconfirmed, match="1 buffered jobs failed"):
        buffer.close()


def test_what_cuts_a_flush_short_takes_along_only_what_was_being_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    died = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: died.set())
    sink = Sink()
    sink.error = MemoryError()
    buffer = sink.buffer(interval_ms=1)
    (first, second) = [buffer.add(queue, ["1"])[0] for queue in ("a", "b")]
    assert died.wait(10)
    sink.error = None
    assert second.id(timeout=10) == 0
    with pytest.raises(Unconfirmed, match="cut short"):
        first.id(timeout=10)
    (later,) = buffer.add("c", ["1"])
    until(lambda: later.done, what="a job that nobody asks about")
    with pytest.raises(Unconfirmed, match="1 buffered jobs failed"):
        buffer.close()


def test_where_no_descriptor_is_left_a_client_is_busy_and_goes_on_later(keeper: FakeKeeper, tmp_path: Path) -> None:
    program = f"""
        import os, resource
        from supervisor.client import Client
        from supervisor.errors import Busy
        with Client(socket={str(tmp_path / "s")!r}, timeout=0.2) as client, \
                Client(socket={str(tmp_path / "s")!r}, timeout=0.2, buffered=True) as buffered:
            free = os.dup(0)
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, free))
            for enqueue in (client.enqueue, lambda queue: buffered.enqueue(queue).id()):
                try:
                    enqueue("emails")
                except Busy as error:
                    print(error.message, "|", error.hint)
            os.close(0)
            print(client.enqueue("emails"), buffered.enqueue("emails").id() if client.close() is None else None)
            try:
                buffered.flush()
            except Busy as error:
                print(error.message)
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment(), capture_output=True, text=True, check=False
    )
    refused = "no connection to a daemon can be opened: Too many open files"
    hint = "close files and sockets that are not needed any more, or raise the limit: ulimit -n"
    assert done.stdout.splitlines() == [
        f"{refused} | {hint}", f"{refused} | {hint}", "1 2", f"1 buffered jobs failed; the first: {refused}",
    ], done.stderr  # fmt: skip


def test_the_thread_ends_when_nothing_comes_and_begins_again_when_something_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("supervisor.wire.buffer.LINGER_S", 0.01)
    buffer = Sink().buffer(interval_ms=1)
    for _ in range(3):
        (receipt,) = buffer.add("q", ["1"])
        until(lambda receipt=receipt: receipt.done)
        until(lambda: not any(thread.name == "jobsup-flush" for thread in threading.enumerate()))
    buffer.close()


def test_where_no_thread_can_start_asking_for_the_id_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    buffer = Sink().buffer()
    (receipt,) = buffer.add("q", ["1"])
    assert receipt.id() == 0
    buffer.close()


def test_a_receipt_keeps_its_first_outcome() -> None:
    receipt = Receipt(Sink().buffer())
    receipt.settle(5)
    receipt.settle(Busy("late"))
    assert receipt.id() == 5


def test_errors_that_hit_a_whole_group_count_every_job() -> None:
    sink = Sink()
    sink.error = Busy("no")
    buffer = sink.buffer()
    for _ in range(25):
        buffer.add("q", ["1"])
    with pytest.raises(JobsupError, match="25 buffered jobs failed"):
        buffer.close()
    assert not any(thread.name == "jobsup-flush" for thread in threading.enumerate())
