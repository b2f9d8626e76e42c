"""The client and the protocol against a real daemon, and a real keeper where none runs."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.client import Client
from supervisor.errors import InvalidPayload, NotRunning, UnknownJob, UnknownQueue, WaitTimeout, WrongState
from tests.service.test_client_protocol import Scratch, shown
from tests.support.daemon import Daemon
from tests.support.payloads import ACCEPTED, REFUSED
from tests.support.waiting import until

TOML = """
[daemon]
python_path = ["../app"]
[queues.emails]
handler = "tasks:work"
workers = 2
[queues.ordered]
handler = "tasks:work"
workers = 1
order = "priority"
"""

APP = {
    "tasks.py": (
        "from supervisor.client import Client\n"
        "def work(job):\n"
        "    if isinstance(job.payload, dict) and 'follow' in job.payload:\n"
        "        with Client() as client:\n"
        "            return client.enqueue('emails', job.payload['follow'])\n"
        "    return {'was': job.payload}\n"
    )
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("daemon"), TOML, app=APP) as daemon:
        yield daemon


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client[int]]:
    with Client(daemon.config) as client:
        yield client


def test_the_worked_example_of_the_document_is_what_happens(daemon: Daemon) -> None:
    """The first job of this database; a worker may have had it at once, or be at something else."""
    scratch = Scratch(str(daemon.socket), "scratch")
    scratch.socket.sendall(shown("request"))
    reply, expected = scratch.receive(), json.loads(shown("reply")[4:])
    assert reply["ok"].pop("states") in (["queued"], ["running"])
    del expected["ok"]["states"]
    assert reply == expected
    scratch.socket.close()


def test_a_job_goes_from_the_client_to_its_result(client: Client[int]) -> None:
    job_id = client.enqueue("emails", {"to": "\u00e9"}, tags=["a"], max_attempts=2)
    job = client.wait(job_id, timeout=10)
    assert (job["state"], job["result"], job["tags"], job["max_attempts"]) == (
        "completed",
        {"was": {"to": "\u00e9"}},
        ["a"],
        2,
    )
    with pytest.raises(WrongState):
        client.cancel(job_id)
    client.retry(job_id, force=True)
    assert client.wait(job_id, timeout=10)["state"] == "completed"


def test_later_is_later_until_it_is_cancelled(client: Client[int]) -> None:
    ids = [client.enqueue("emails", 1, delay="1h"), client.enqueue("emails", 1, at="2999-01-01T00:00:00Z")]
    assert [client.status(job_id)["state"] for job_id in ids] == ["scheduled", "scheduled"]
    with pytest.raises(WaitTimeout):
        client.wait(ids[0], timeout="10ms")
    for job_id in ids:
        client.cancel(job_id)
        assert client.wait(job_id)["state"] == "cancelled"


def test_what_is_wrong_is_raised_as_what_it_is(client: Client[int]) -> None:
    with pytest.raises(UnknownQueue) as caught:
        client.enqueue("emailz", 1)
    assert "emails" in str(caught.value.hint)
    with pytest.raises(UnknownJob):
        client.status(10**12)
    with pytest.raises(InvalidPayload, match="does not order by priority"):
        client.enqueue("emails", 1, priority=1)
    assert client.enqueue("ordered", 1, priority=1)


def test_the_same_key_is_the_same_job(client: Client[int]) -> None:
    first = client.insert("emails", [{"payload": 1}, {"payload": 2}], request_key="the-same")
    again = client.insert("emails", [{"payload": 1}, {"payload": 2}], request_key="the-same")
    assert (first["repeated"], again["repeated"]) == (False, True)
    assert first["ids"] == again["ids"]


def test_a_handler_enqueues_through_the_daemon(client: Client[int]) -> None:
    job = client.wait(client.enqueue("emails", {"follow": "me"}), timeout=10)
    assert client.wait(job["result"], timeout=10)["result"] == {"was": "me"}


def test_every_payload_is_kept_as_it_is_or_refused_before_anything_is_written(daemon: Daemon) -> None:
    scratch = Scratch(str(daemon.socket), "corpus")
    before = scratch.ask("status")["ok"]["queues"]["emails"]

    def send(raw: bytes, number: int) -> dict[str, Any]:
        head = f'{{"v":1,"id":{number},"op":"enqueue","queue":"emails","key":"corpus-{number}","jobs":[{{"payload":'
        body = head.encode() + raw + b',"delay_ms":3600000}]}'
        scratch.socket.sendall(len(body).to_bytes(4, "big") + body)
        return scratch.receive()

    kept = [raw for raw in ACCEPTED if len(raw) < 100_000]
    for number, raw in enumerate(kept):
        reply = send(raw, number)
        assert reply["id"] == number, raw
        (job_id,) = reply["ok"]["ids"]
        assert json.dumps(scratch.ask("job", job=job_id)["ok"]["payload"]) == json.dumps(json.loads(raw)), raw
    for number, (raw, word) in enumerate(REFUSED, 10_000):
        reply = send(raw, number)
        assert reply["id"] == number, raw
        assert reply["error"]["code"] in ("invalid_payload", "protocol" if word in ("not JSON", "UTF-8") else ""), raw
    after = scratch.ask("status")["ok"]["queues"]["emails"]
    assert sum(after[state] for state in ("scheduled", "queued", "running", "completed")) == len(kept) + sum(
        before[state] for state in ("scheduled", "queued", "running", "completed")
    )
    scratch.socket.close()


def test_a_buffered_client_gets_everything_in(daemon: Daemon) -> None:
    with Client(daemon.config, buffered=True) as client:
        receipts = [client.enqueue("emails", n) for n in range(2000)]
        bad = client.enqueue("emails", "x", priority=7)
        with pytest.raises(InvalidPayload, match="1 buffered jobs failed"):
            client.flush()
        with pytest.raises(InvalidPayload, match="priority"):
            bad.id()
        assert len({receipt.id() for receipt in receipts}) == 2000
        assert client.wait(receipts[-1], timeout=30)["result"] == {"was": 1999}


def keeper_pid(client: Client[int]) -> int:
    return next(int(node["pid"]) for node in client.request("tree")["tree"] if node["role"] == "keeper")


def test_a_keeper_that_is_killed_costs_a_client_nothing(client: Client[int], daemon: Daemon) -> None:
    waited = client.enqueue("emails", "waits", delay="2s")
    found: list[dict[str, Any]] = []
    waiter = threading.Thread(target=lambda: found.append(client.wait(waited, timeout=30)))
    waiter.start()
    ids: list[int] = []
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            ids.append(client.enqueue("emails", len(ids)))

    worker = threading.Thread(target=work)
    worker.start()
    for _ in range(2):
        count, killed = len(ids), keeper_pid(client)
        os.kill(killed, signal.SIGKILL)
        until(lambda count=count: len(ids) > count + 20)
        until(lambda killed=killed: keeper_pid(client) != killed)
    stop.set()
    worker.join(30)
    waiter.join(30)
    assert len(set(ids)) == len(ids)
    assert found[0]["result"] == {"was": "waits"}
    payloads = [client.wait(job_id, timeout=30)["payload"] for job_id in ids]
    assert payloads == list(range(len(ids)))


def test_without_a_daemon_jobs_are_written_down_and_run_by_the_next(tmp_path: Path) -> None:
    with Daemon(tmp_path, TOML, app=APP) as daemon:
        assert daemon.stop() == 0
        with Client(daemon.config) as client:
            ids = client.enqueue_many("emails", range(3))
            assert client.status(ids[0])["state"] == "queued"
            with pytest.raises(NotRunning, match="no daemon runs"):
                client.wait(ids[0], timeout=10)
            client.cancel(ids[2])
            with pytest.raises(NotRunning):
                client.request("reload")
        daemon.start()
        with Client(daemon.config) as client:
            assert [client.wait(job_id, timeout=10)["state"] for job_id in ids] == [
                "completed",
                "completed",
                "cancelled",
            ]
