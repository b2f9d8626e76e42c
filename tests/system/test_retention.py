"""Retention on a real daemon: completed jobs go when their time is over, dead ones stay, also over a restart."""

from __future__ import annotations

from pathlib import Path

from tests.support.daemon import Daemon

TOML = """
[daemon]
python_path = ["../app"]
[queues.brief]
handler = "jobs:run"
workers = 1
max_attempts = 1
retention = { completed = "1s", dead = "never" }
[queues.kept]
handler = "jobs:run"
workers = 1
"""
APP = {"jobs.py": "def run(job):\n    if job.payload == 'fail':\n        raise ValueError('no')\n"}


def test_completed_jobs_go_and_others_stay(tmp_path: Path) -> None:
    with Daemon(tmp_path, TOML, app=APP) as daemon:
        gone = [daemon.enqueue("brief", number) for number in range(3)]
        dead = daemon.enqueue("brief", "fail")
        kept = daemon.enqueue("kept", 1)
        daemon.wait_state(dead, "dead")
        daemon.wait_state(kept, "completed")
        daemon.wait_for(lambda: all(daemon.ctl("status", job).status == 3 for job in gone), what="retention")
        assert (daemon.job(dead)["state"], daemon.job(kept)["state"]) == ("dead", "completed")
        counts = daemon.ctl("status", "--json").json["queues"]["brief"]
        assert (counts["completed"], counts["dead"]) == (0, 1)

        later = daemon.enqueue("brief", 4)
        assert daemon.stop() == 0
        daemon.start()
        daemon.wait_for(lambda: daemon.ctl("status", later).status == 3, what="retention after a restart")
        assert daemon.job(dead)["state"] == "dead"
