"""A job that was answered as buffered has an id, and whoever has an id may ask for it at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.client import Client
from tests.support.daemon import Daemon

TOML = """
[intake]
acknowledge = "buffered"
flush_max_jobs = 10000
flush_interval = "30s"
[defaults]
workers = 1
[queues.q]
command = ["true"]
[queues.held]
command = ["true"]
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client[int]]:
    with Daemon(tmp_path_factory.mktemp("buffered"), TOML) as daemon, daemon.client(timeout="5s") as client:
        client.request("pause", queue="held")
        yield client


def buffered(client: Client[int], queue: str) -> list[int]:
    answer = client.insert(queue, [{"payload": 1}, {"payload": 2}])
    assert answer["acknowledged"] == "buffered"
    ids: list[int] = answer["ids"]
    return ids


def test_its_status_is_known(client: Client[int]) -> None:
    assert [client.status(job_id)["payload"] for job_id in buffered(client, "held")] == [1, 2]


def test_it_can_be_waited_for(client: Client[int]) -> None:
    assert client.wait(buffered(client, "q")[0], timeout=5)["state"] == "completed"


def test_it_can_be_cancelled(client: Client[int]) -> None:
    first, second = buffered(client, "held")
    client.cancel(second)
    assert [client.status(job_id)["state"] for job_id in (first, second)] == ["queued", "cancelled"]


def test_a_stop_whose_keeper_was_killed_does_not_end_as_if_all_were_written(tmp_path: Path) -> None:
    toml = TOML.replace("[defaults]", '[daemon]\nshutdown_grace = "1s"\n[defaults]')
    with Daemon(tmp_path, toml.replace('"true"', '"sleep", "60"')) as daemon, daemon.client(timeout="5s") as client:
        running = buffered(client, "q")[0]
        daemon.wait_for(lambda: client.status(running)["worker"])
        (keeper,) = [node["pid"] for node in client.request("tree")["tree"] if node["role"] == "keeper"]
        daemon.signal(signal.SIGTERM)
        daemon.wait_for(lambda: "stopping (SIGTERM)" in daemon.log)
        os.kill(keeper, signal.SIGKILL)
        assert daemon.wait_end() == 1
