"""Rows that an application commits become jobs, each one, and what cannot be one stays and says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.daemon import Daemon
from tests.support.outbox import Application, payloads, remembered
from tests.support.waiting import until

APP = {"tasks.py": "def run(job):\n    return job.payload\n"}
TOML = """
[daemon]
python_path = ["../app"]
[defaults]
workers = 1
[[outbox]]
database = "../app.db"
interval = "200ms"
{more}
[queues.q]
handler = "tasks:run"
"""


def toml(more: str = "", queues: str = "") -> str:
    return TOML.format(more=more) + queues


def status_of(daemon: Daemon, name: str = "app") -> dict[str, Any]:
    found: dict[str, Any] = daemon.ctl("status", "--json").json["outboxes"][name]
    return found


def empty(application: Application, daemon: Daemon, timeout: float = 15) -> None:
    """Wait until no row is left, and none is remembered."""
    until(lambda: not application.rows() and not remembered(daemon.database), timeout, "an empty outbox")


def test_a_committed_row_is_a_job_and_a_row_rolled_back_is_none(tmp_path: Path) -> None:
    application = Application(tmp_path / "app.db")
    with Daemon(tmp_path, toml(), app=APP) as daemon:
        application.put("q", {"n": 1}, '{"tags": ["from:app"], "max_attempts": 2}')
        db = application.connect()
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO jobsup_outbox (queue, payload) VALUES ('q', '{\"n\": 2}')")
        db.execute("ROLLBACK")
        db.close()
        application.put("q", {"n": 3})
        empty(application, daemon)
        assert payloads(daemon.database, "q") == [{"n": 1}, {"n": 3}]
        job = daemon.wait_state(1, "completed")
        assert (job["tags"], job["max_attempts"], job["result"]) == (["from:app"], 2, {"n": 1})
        until(lambda: status_of(daemon)["state"] == "idle")
        found = status_of(daemon)
        assert (found["error"], found["waiting"], found["refused"], found["moved"]) == (None, 0, 0, 2)
        assert found["last_moved_at"] is not None
