"""A deploy played through: old and new code of an application side by side, two pools on one queue."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from supervisor.errors import InvalidPayload
from tests.support.daemon import Daemon
from tests.support.waiting import until

OLD = """
from supervisor.task import task

@task
def welcome(job, to: str):
    return {"code": "old", "task": job.task, "version": job.version, "to": to}

@task
def retired(job):
    return {"code": "old", "task": job.task, "version": job.version}
"""
NEW = """
from supervisor.task import task

@task(name="greet", aliases=["welcome"], version=2)
def greet(job, to: list[str]):
    return {"code": "new", "task": job.task, "version": job.version, "to": to}

@greet.upgrade(1)
def _(payload):
    return {"to": [payload["to"]]}

@task
def fresh(job):
    return {"code": "new", "task": job.task, "version": job.version}
"""
HEAD = '[daemon]\npython_path = ["../app"]\n[queues.mail]\n{mail}'
POOL = '[pools.{name}]\nsources = ["mail"]\nhandler = "{module}"\nworkers = 2\n'
BOTH = HEAD + POOL.format(name="before", module="old") + POOL.format(name="after", module="new")
AFTER = HEAD + POOL.format(name="after", module="new")


def load(client: Any, count: int) -> list[int]:
    """What old and new programs enqueue meanwhile, in turns."""
    ids = []
    for number in range(count):
        ids += [
            client.enqueue("mail", {"to": f"{number}"}, task="welcome"),  # as old code writes it
            client.enqueue("mail", {"to": [f"{number}"]}, task="greet"),
            client.enqueue("mail", {"to": [f"{number}"]}, task="welcome", version=2),
            client.enqueue("mail", None, task="retired"),
            client.enqueue("mail", None, task="fresh"),
        ]
    return ids


@pytest.mark.parametrize(
    "mail", ["", "ordered = true\n", 'rate = { limit = 1000, period = "1s" }\nkey_concurrency = 1\n']
)
def test_old_and_new_code_side_by_side_lose_and_misread_nothing(tmp_path: Path, mail: str) -> None:
    toml = BOTH.format(mail=mail)
    with Daemon(tmp_path, toml, app={"old.py": OLD, "new.py": NEW}) as daemon, daemon.client() as client:
        daemon.wait_for(lambda: len({row[0] for row in daemon.ctl("tasks").rows}) == 2, what="both pools' tasks")
        ids = load(client, 60)
        for job_id in ids:
            assert client.wait(job_id, 60)["state"] == "completed"
        found = [client.status(job_id) for job_id in ids]
        ran = Counter((job["task"], job["version"], job["result"]["code"]) for job in found)
        assert {(task, version) for task, version, code in ran if code == "old"} <= {("welcome", 1), ("retired", 1)}
        assert {(task, version) for task, version, code in ran if code == "new"} <= {
            ("welcome", 1), ("welcome", 2), ("greet", 2), ("fresh", 1),
        }  # fmt: skip
        assert sum(count for (task, _, code), count in ran.items() if task == "retired" and code == "old") == 60
        assert all((job["failures"], job["crashes"]) == (0, 0) for job in found)
        counts = client.request("status")["queues"]["mail"]
        assert (counts["completed"], counts["dead"], counts["cancelled"], counts["blocked"]) == (len(ids), 0, 0, 0)


def test_what_only_the_other_code_runs_waits_for_it_and_nothing_else_does(tmp_path: Path) -> None:
    """The old pool goes: its tasks wait; what new code can read, it runs. It comes back: all is done."""
    with (
        Daemon(tmp_path, BOTH.format(mail=""), app={"old.py": OLD, "new.py": NEW}) as daemon,
        daemon.client() as client,
    ):
        daemon.wait_for(lambda: len({row[0] for row in daemon.ctl("tasks").rows}) == 2, what="both pools' tasks")
        first = client.enqueue("mail", {"to": "a"}, task="welcome", version=1)
        client.wait(first, 30)
        daemon.configure(AFTER.format(mail=""))
        assert daemon.ctl("reload").status == 0
        ids = load_after(client)
        assert client.wait(ids["welcome"], 30)["result"]["to"] == ["b"]
        until(lambda: client.status(ids["retired"])["state"] == "blocked", 30, "the task that nobody knows")
        daemon.configure(BOTH.format(mail=""))
        assert daemon.ctl("reload").status == 0
        assert client.wait(ids["retired"], 30)["result"]["code"] == "old"


def load_after(client: Any) -> dict[str, int]:
    with pytest.raises(InvalidPayload):
        client.enqueue("mail", {"to": 7}, task="welcome")
    return {
        "welcome": client.enqueue("mail", {"to": "b"}, task="welcome", version=1),
        "retired": client.enqueue("mail", None, task="retired"),
    }


def test_two_pools_share_a_queue_only_if_both_run_tasks(tmp_path: Path) -> None:
    with Daemon(tmp_path, AFTER.format(mail=""), app={"old.py": OLD, "new.py": NEW}) as daemon:
        daemon.configure(BOTH.format(mail="").replace('handler = "old"', 'handler = "old:welcome"'))
        ran = daemon.ctl("config", "check")
        assert ran.status == 2
        assert "several of tasks" in ran.out + ran.err
