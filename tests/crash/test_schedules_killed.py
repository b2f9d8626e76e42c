"""SIGKILL around due times: one job for each, whoever dies when. The jobs are read from rows by other code."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.client import Client
from supervisor.policy.options import instant_ms
from supervisor.unix.clock import wall_ms
from tests.support.campaign import Campaign
from tests.support.daemon import Daemon
from tests.support.waiting import until

NAMES = ("a", "b", "c")
TOML = """
[daemon]
python_path = ["../app"]
[queues.q]
handler = "tasks:run"
retention = { completed = "0s" }
""" + "".join(
    f'[schedules.{name}]\nqueue = "{where}"\nevery = "1s"\n' for name, where in zip(NAMES, "qkq", strict=True)
)
KEPT = '[queues.k]\nhandler = "tasks:run"\n'
"""Jobs of this queue stay, and can be counted; those of the other are deleted as soon as they have ended."""
APP = {"tasks.py": "def run(job):\n    return None\n"}
ROUNDS, FULL_ROUNDS = 4, 200
AROUND_MS = 40


def due_times(database: Path) -> list[int]:
    """What the jobs of the schedule that keeps them stand for, in the order in which they were inserted."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        rows = db.execute(
            "SELECT job.options FROM job JOIN queue ON queue.id = job.queue WHERE queue.name = 'k' ORDER BY job.id"
        )
        tags = [tag for (options,) in rows for tag in json.loads(options)["tags"]]
    return [instant_ms(tag.removeprefix("due:")) for tag in tags if tag.startswith("due:")]


def in_order(found: list[int]) -> bool:
    """Whether these are all due times from the first to the last, each once."""
    return found == list(range(found[0], found[-1] + 1, 1_000))


def counted(client: Client[int]) -> dict[str, tuple[int, int]]:
    """How often each schedule fired, and its last due time."""
    return {row["name"]: (row["fired"], instant_ms(row["last_at"] or "1970-01-01T00:00:00Z"))
            for row in client.schedules()}  # fmt: skip


def every_due_time_has_one_job(
    database: Path, before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]
) -> None:
    """The jobs that are kept have all due times, each once; the counters of the others say the same."""
    assert in_order(due_times(database))
    for name in NAMES:
        (fired_before, last_before), (fired, last) = before[name], after[name]
        assert fired - fired_before == (last - last_before) // 1_000, name


def test_a_planted_double_and_a_planted_gap_are_found(tmp_path: Path) -> None:
    """The checker has teeth."""
    with Daemon(tmp_path, TOML + KEPT, app=APP) as daemon, daemon.client() as client:
        until(lambda: counted(client)["b"][0] >= 3)
    assert in_order(due_times(daemon.database))
    of_b = "FROM job WHERE options LIKE '%schedule:b%'"
    columns = "lane, band, pos, priority, enqueued_at, due_at, options, payload, queue"
    planted = {
        f"INSERT INTO job SELECT id + 1000, {columns} {of_b} ORDER BY id DESC LIMIT 1": False,
        "DELETE FROM job WHERE id > 1000": True,
        f"DELETE FROM job WHERE id = (SELECT id {of_b} ORDER BY id LIMIT 1 OFFSET 1)": False,
    }
    for statement, right in planted.items():
        with closing(sqlite3.connect(daemon.database)) as db, db:
            db.execute(statement)
        assert in_order(due_times(daemon.database)) == right


@pytest.mark.campaign
@pytest.mark.timeout(3_600)
def test_keepers_killed_around_due_times(tmp_path: Path, campaign: Campaign) -> None:
    """Each round kills the keeper within 40 ms of a due time, then lets it fire twice."""
    for number, rounds in enumerate(campaign.batches(short=ROUNDS, full=FULL_ROUNDS, batch=20)):
        with Daemon(tmp_path / str(number), TOML + KEPT, app=APP) as daemon, daemon.client(timeout="20s") as client:
            until(lambda client=client: all(fired for fired, _ in counted(client).values()))
            before = counted(client)
            for _ in range(rounds):
                kill_at(client, campaign.chance.randint(-AROUND_MS, AROUND_MS))
                fired = counted(client)["b"][0]
                until(lambda client=client, fired=fired: counted(client)["b"][0] >= fired + 2, 20)
            daemon.stop()
            daemon.start()
            with daemon.client() as again:
                after = counted(again)
            daemon.stop()
        every_due_time_has_one_job(daemon.database, before, after)
        campaign.passed(rounds, due_times=sum(after[name][0] - before[name][0] for name in NAMES))


def kill_at(client: Client[int], offset_ms: int) -> None:
    """SIGKILL the keeper so long after the next whole second."""
    keeper = next(node["pid"] for node in client.request("tree")["tree"] if node["role"] == "keeper")
    at_ms = (wall_ms() // 1_000 + 1) * 1_000 + offset_ms
    until(lambda: wall_ms() >= at_ms)
    os.kill(keeper, signal.SIGKILL)


@pytest.mark.parametrize(
    "point", ["keeper.schedule=kill@4", "store.after_commit=kill@16", "store.before_commit=kill@16"]
)
def test_a_keeper_that_dies_at_a_boundary_of_its_firing(tmp_path: Path, point: str) -> None:
    """Every keeper dies at the same boundary, again and again, until enough has fired."""
    daemon = Daemon(tmp_path, TOML + KEPT, app=APP, env={"JOBSUP_FAILPOINTS": point})
    with daemon, daemon.client(timeout="20s") as client:
        until(lambda: all(fired for fired, _ in counted(client).values()), 20)
        before = counted(client)
        first = next(node["pid"] for node in client.request("tree")["tree"] if node["role"] == "keeper")
        until(lambda: counted(client)["b"][0] >= before["b"][0] + 6, 60)
        last = next(node["pid"] for node in client.request("tree")["tree"] if node["role"] == "keeper")
        assert first != last, "it never died"
        daemon.quit()
        daemon.start(env={"JOBSUP_FAILPOINTS": ""})
        with daemon.client() as again:
            after = counted(again)
    every_due_time_has_one_job(daemon.database, before, after)
