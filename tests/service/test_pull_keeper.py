"""Keepers that die while consumers are at work: no job is lost, none is done twice, and no lease is charged."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from supervisor.client import Client
from supervisor.config.spec import Queue
from supervisor.errors import PayloadTooLarge, StaleLease
from supervisor.keeper import consuming, dispatch, lending
from supervisor.keeper.fetches import Lending
from supervisor.store.protocol import CARRIED, GRACED, HEARD, NO_SLOT, Held, Loan, OpenLease, Owner
from supervisor.store.sqlite.store import SqliteStore
from supervisor.unix import clock
from tests.support.rig import QUICK, Rig
from tests.support.threads import beside

PULL = Queue(name="pull", pull=True, backoff=QUICK)
CHILDREN = Queue(name="children", pull=True)


@pytest.fixture
def rig(tmp_path: Path) -> Any:
    with Rig(tmp_path, [PULL, CHILDREN]) as found:
        yield found


def in_thread(rig: Rig, work: Any) -> None:
    """Do this beside a rig that starts another keeper whenever one has died."""
    thread, failed = beside(work)

    def over() -> bool:
        if not rig.keeper:
            rig.start_keeper()
        return not thread.is_alive()

    rig.until(over, 60, "the consumer")
    if failed:
        raise failed[0]


@pytest.mark.parametrize("point", ["keeper__after_lend", "keeper__consumer_heard", "store__after_commit"])
@pytest.mark.parametrize("at", [2, 5])
def test_a_keeper_that_dies_in_the_middle_loses_no_job_and_doubles_none(rig: Rig, point: str, at: int) -> None:
    """Whatever it dies of, the client asks again under the same key and token, and every job is done once."""
    done: list[int] = []
    ids: list[int] = []

    def work() -> None:
        with Client(socket=rig.socket) as client:
            ids.extend(client.enqueue_many("pull", list(range(12))))
            while jobs := client.fetch("pull", 2, lease="1h", wait=0):
                for job in jobs:
                    client.ack(job["id"], job["token"], enqueue=[{"queue": "children", "payload": job["id"]}])
                    done.append(job["id"])

    rig.start_keeper(**{point: f"kill@{at}"})
    in_thread(rig, work)
    with_client = []

    def look() -> None:
        with Client(socket=rig.socket) as client:
            with_client.extend(job["payload"] for job in client.fetch("children", 50))
            assert [client.status(job_id)["attempt"] for job_id in ids] == [1] * 12
            assert client.status()["queues"]["pull"]["completed"] == 12

    in_thread(rig, look)
    assert sorted(done) == ids
    assert sorted(with_client) == ids


def test_passes_that_are_always_late_answer_everybody_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine a pass has no time left when it comes to consumers; nothing else would wake them for 30 s."""
    monkeypatch.setattr(lending, "LEASE_UNTIL_US", 0)
    monkeypatch.setattr(dispatch, "LEASE_UNTIL_US", 0)
    with Rig(tmp_path, [PULL, CHILDREN]) as rig:
        rig.start_keeper()
        found: list[Any] = []

        def work() -> None:
            with Client(socket=rig.socket) as client:
                client.enqueue_many("pull", [1, 2, 3, 4])
                client.enqueue_many("children", [5, 6])
                with ThreadPoolExecutor(6) as pool:
                    asked = [
                        pool.submit(client.fetch, queue, wait="20s")
                        for queue in ("pull", "pull", "children", "pull", "children", "pull")
                    ]
                    found.extend(job["payload"] for each in asked for job in each.result(10))

        in_thread(rig, work)
        assert sorted(found) == [1, 2, 3, 4, 5, 6]


def test_a_lease_whose_reply_cannot_be_sent_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes back uncharged, and the consumer is told why it got nothing."""
    monkeypatch.setattr(lending, "LEASE_BYTES_MAX", 64 * 1024 * 1024)
    monkeypatch.setattr(lending, "REPLY_BYTES_MAX", 64 * 1024 * 1024)
    with Rig(tmp_path, [PULL]) as rig:
        rig.start_keeper()

        def work() -> None:
            with Client(socket=rig.socket) as client:
                ids = [client.enqueue("pull", "a" * 1_000_000) for _ in range(18)]
                with pytest.raises(PayloadTooLarge):
                    client.fetch("pull", 18, wait="10s")
                assert [job["attempt"] for job in client.fetch("pull", 2, wait="10s")] == [1, 1]
                assert {client.status(job_id)["failures"] for job_id in ids} == {0}
                assert len(client.consumers()) == 1

        in_thread(rig, work)


class Told:
    """As much of a keeper's state as loans need."""

    def __init__(self, boot_id: str) -> None:
        self.boot_id = boot_id


class Adopting:
    """As much of a pass."""

    def __init__(self, boot_id: str, boot_ms: int) -> None:
        self.state = Told(boot_id)
        self.boot_ms = boot_ms
        self.now_ms = 1_700_000_000_000


LOAN = Loan("cam", "here", 100_000, 60_000, 1_700_000_100_000)


@pytest.mark.parametrize(
    ("boot_id", "boot_ms", "loan", "left_ms", "prolonged"),
    [
        ("here", 40_000, LOAN, 60_000, HEARD),
        ("here", 99_000, LOAN, consuming.GRACE_MS, GRACED),
        ("here", 500_000, LOAN, consuming.GRACE_MS, GRACED),
        ("here", 99_000, LOAN._replace(prolonged=GRACED), 1_000, GRACED),
        ("here", 500_000, LOAN._replace(prolonged=CARRIED), -400_000, CARRIED),
        ("elsewhere", 1_000, LOAN, 60_000, CARRIED),
        ("elsewhere", 1_000, LOAN._replace(prolonged=GRACED), 60_000, CARRIED),
        ("elsewhere", 1_000, LOAN._replace(prolonged=CARRIED), 0, CARRIED),
        (clock.UNKNOWN_BOOT, 1_000, LOAN._replace(boot=clock.UNKNOWN_BOOT), 60_000, CARRIED),
    ],
)
def test_what_is_left_of_a_lease_after_a_restart(
    boot_id: str, boot_ms: int, loan: Loan, left_ms: int, prolonged: int
) -> None:
    held = consuming._adopted(Adopting(boot_id, boot_ms), loan)  # type: ignore[arg-type]
    assert (held.until_boot_ms - boot_ms, held.prolonged) == (left_ms, prolonged)


def test_after_a_reboot_a_lease_that_runs_out_is_an_interruption(rig: Rig) -> None:
    """The host ended the run, not the consumer: nothing is charged to the job."""
    rig.start_keeper()
    job: dict[str, Any] = {}

    def fetch() -> None:
        with Client(socket=rig.socket) as client:
            client.enqueue("pull", 1)
            job.update(client.fetch("pull", lease="100ms", wait=0)[0])
            client.extend(job["token"], "1h")

    in_thread(rig, fetch)
    rig.kill_keeper()
    forge(rig, job["token"], "another boot", lease_ms=50)
    rig.start_keeper()

    def look() -> None:
        with Client(socket=rig.socket) as client:
            again = client.fetch("pull", lease="1h")[0]
            assert (again["id"], again["attempt"]) == (job["id"], 1)
            shown = client.status(job["id"])
            assert (shown["failures"], shown["interruptions"]) == (0, 1)
            assert [each["kind"] for each in shown["errors"]] == ["interrupted"]

    in_thread(rig, look)


def forge(rig: Rig, token: int, boot: str, *, lease_ms: int) -> None:
    """Let a loan be one of another boot."""
    from supervisor.store.open import open_store

    store: SqliteStore = open_store(str(rig.database), "full", create=False, migrate=False)
    with store.transaction(clock.wall_ms()) as tx:
        loan = tx.loans()[token]
        tx.lend(token, loan._replace(boot=boot, lease_ms=lease_ms))
    store.close()


def test_an_owner_of_a_consumer_is_left_alone_at_adoption(rig: Rig) -> None:
    """It has no slot whose worker could be dead."""
    assert Owner("h", "b", 0, NO_SLOT, -1, "", "", 1, 0).slot == -1
    rig.start_keeper()
    token: list[int] = []

    def fetch() -> None:
        with Client(socket=rig.socket) as client:
            client.enqueue("pull", 1)
            token.append(client.fetch("pull", lease="1h", wait=0)[0]["token"])

    in_thread(rig, fetch)
    for _ in range(2):
        rig.kill_keeper()
        rig.start_keeper()

    def ack() -> None:
        with Client(socket=rig.socket) as client:
            (held,) = client.consumers()
            assert held["token"] == token[0]
            client.ack(held["jobs"][0], token[0])

    in_thread(rig, ack)


# -- leases that run out ---------------------------------------------------------------------------------------------


def ran_out(rig: Rig) -> list[int]:
    """How many jobs of leases that ran out ended at once, each time."""
    return [line.count("job ") for line in rig.log.splitlines() if "was not heard of in time (lease" in line]


def test_a_large_lease_that_runs_out_ends_some_jobs_at_a_time(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consuming, "SETTLE_UNTIL_US", 0)
    rig.start_keeper()

    def work() -> None:
        with Client(socket=rig.socket) as client:
            client.enqueue_many("pull", list(range(30)))
            assert len(client.fetch("pull", 30, lease="100ms", wait=0)) == 30
            again = [job for _ in range(30) for job in client.fetch("pull", lease="1h", wait="10s")]
            assert sorted(job["payload"] for job in again) == list(range(30))
            assert {job["attempt"] for job in again} == {2}
            assert {client.status(job["id"])["failures"] for job in again} == {1}

    in_thread(rig, work)
    counts = ran_out(rig)
    assert sum(counts) == 30
    assert max(counts) <= consuming.END_AT_ONCE


@pytest.mark.parametrize("at", [5, 12, 28])
def test_a_keeper_that_dies_while_a_lease_ends_ends_each_job_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """What it ended is ended, and nothing holds the rest: the lease is over, and no grace begins anew."""
    monkeypatch.setattr(consuming, "SETTLE_UNTIL_US", 0)
    monkeypatch.setattr(consuming, "GRACE_MS", 20_000)
    rig.start_keeper(keeper__consumer_heard=f"kill@{at}")

    def work() -> None:
        with Client(socket=rig.socket) as client:
            client.enqueue_many("pull", list(range(30)))
            token = client.fetch("pull", 30, lease="100ms", wait=0)[0]["token"]
            again = [job for _ in range(30) for job in client.fetch("pull", lease="1h", wait="10s")]
            assert sorted(job["payload"] for job in again) == list(range(30))
            assert {client.status(job["id"])["failures"] for job in again} == {1}
            with pytest.raises(StaleLease):
                client.extend(token)

    in_thread(rig, work)
    assert sum(ran_out(rig)) <= 30


def test_a_lease_of_which_some_jobs_have_ended_is_not_extended() -> None:
    """Its consumer may be heard between two passes: what is left ends all the same."""
    held = OpenLease(7, 1, "pull", {1: Held(0, 0, 0, 1)})
    tx = SimpleNamespace(open_leases=lambda: {7: held}, loans=lambda: {7: LOAN}, count_stale=lambda _: None)
    work: Any = SimpleNamespace(tx=tx, state=SimpleNamespace(lending=Lending()))
    asked: Any = SimpleNamespace(scope="")
    assert consuming._lease(work, asked, 7) == (held, LOAN)
    work.state.lending.ending.add(7)
    with pytest.raises(StaleLease):
        consuming._lease(work, asked, 7)
    work.state.lending.forget(7)
    assert consuming._lease(work, asked, 7) == (held, LOAN)


def test_a_consumer_that_is_gone_before_it_could_be_told_has_nothing(rig: Rig) -> None:
    """Its keeper finds out when it answers: it had looked at the connection before."""
    rig.start_keeper(keeper__after_lend="stop")
    question = json.dumps({"v": 1, "id": 1, "op": "fetch", "queue": "pull", "wait_ms": 60_000, "lease_ms": 600_000})
    with socket.socket(socket.AF_UNIX) as consumer, Client(socket=rig.socket) as client:
        consumer.connect(rig.socket)
        consumer.sendall(struct.pack(">I", len(question)) + question.encode())
        rig.until(lambda: len(client.consumers()) == 1, 10, "the fetch that waits")
        job = client.enqueue("pull", 1)
        rig.until(lambda: process_state(rig.keeper) == "T", 10, "the lease")
    os.kill(rig.keeper, signal.SIGCONT)
    with Client(socket=rig.socket) as client:
        rig.until(lambda: client.status(job)["state"] == "queued", 10, "the job in its place")
        assert client.status(job)["attempt"] == 0


def process_state(pid: int) -> str:
    """As /proc has it: T if it was stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
