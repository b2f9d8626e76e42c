"""Cancels and deadlines meet the job they are meant for: no other one, no later one, and not after its work is done."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from supervisor.config.spec import Queue
from supervisor.job import Job, JobTimeout
from supervisor.wire import control
from supervisor.worker.executors import command
from tests.support.daemon import Daemon
from tests.support.rig import Rig, a_queue
from tests.support.waiting import alive, until

HEAD = (
    '[daemon]\npython_path = ["../app"]\n[defaults]\nworkers = 1\nmax_attempts = 1\n[queues.q]\nhandler = "tasks:run"\n'
)
APP = {
    "tasks.py": r"""
import time

def run(job):
    "A run of `s` seconds: that it takes time is the case; it comes back to Python often, where it can be interrupted."
    wanted = job.payload or {}
    with open(wanted["log"], "a") as log:
        log.write(f"{job.id}\n")
    end = time.monotonic() + wanted.get("s", 0)
    while time.monotonic() < end:
        time.sleep(0.002)
    return "x" * wanted.get("bytes", 0)
"""
}


def began(log: Path) -> list[int]:
    """The jobs that were begun, in order."""
    return list(map(int, log.read_text().split())) if log.exists() else []


def test_a_signal_that_is_about_no_running_job_interrupts_nobody(tmp_path: Path) -> None:
    """As one that comes late does: it was sent for a job that ended just before it arrived."""
    log = tmp_path / "began"
    with Daemon(tmp_path, HEAD, app=APP) as daemon:
        job = daemon.enqueue("q", {"log": str(log), "s": 0.5})
        worker = until(lambda: daemon.job(job)["worker"], what="a worker at the job")
        for _ in range(5):
            os.kill(worker["pid"], signal.SIGUSR1)
        done = daemon.wait_state(job, "completed")
        assert (done["failures"], done["errors"]) == (0, [])


def test_a_command_that_is_interrupted_while_it_starts_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = command.load(Queue(name="q", command=("sleep", "{n}"), kill_grace_ms=300))
    started: list[int] = []
    start = subprocess.Popen._execute_child  # type: ignore[attr-defined]

    def interrupted(self: subprocess.Popen[bytes], *args: object, **named: object) -> None:
        start(self, *args, **named)
        started.append(self.pid)
        signal.raise_signal(signal.SIGUSR1)  # it exists, and nobody knows its number yet

    def on_deadline(*_: object) -> None:
        if not executor.defer():
            executor.interrupt()
            raise JobTimeout("too late")

    monkeypatch.setattr(subprocess.Popen, "_execute_child", interrupted)
    before = signal.signal(signal.SIGUSR1, on_deadline)
    try:
        outcome = executor.run(Job(id=1, queue="q", payload={"n": 60}, deadline=datetime.now(UTC)), b"{}")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert "ran out of time" in str(outcome)
    assert not alive(started[0])


def test_a_job_that_has_returned_can_miss_no_deadline(tmp_path: Path) -> None:
    """Its results find no room while the store cannot commit: that is longer than its time-out, and not its fault."""
    log = tmp_path / "began"
    with Daemon(tmp_path, HEAD + 'timeout = "500ms"\nkill_grace = "300ms"\n', app=APP) as daemon:
        with daemon.client() as client:
            ids = client.enqueue_many("q", [{"log": str(log), "bytes": 30_000}] * 400, delay="300ms")
        holder = sqlite3.connect(daemon.database, isolation_level=None)
        until(lambda: began(log), what="the first of them")
        holder.execute("BEGIN IMMEDIATE")
        held = len(began(log))
        threading.Event().wait(2.5)  # five times what a job may take
        holder.execute("ROLLBACK")
        holder.close()
        with daemon.client(timeout=60) as client:
            for job_id in ids:
                done = client.wait(job_id, 60)
                assert (done["state"], done["failures"], done["crashes"]) == ("completed", 0, 0), done["errors"]
        assert held < len(ids)
        assert sorted(began(log)) == sorted(ids), "each ran once"


def test_a_cancelled_job_that_waits_behind_another_never_begins(tmp_path: Path) -> None:
    log = tmp_path / "began"
    with Daemon(tmp_path, HEAD, app=APP) as daemon, daemon.client() as client:
        quick = client.enqueue_many("q", [{"log": str(log)}] * 300)  # so that several are handed out at once
        client.wait(quick[-1], timeout=20)
        slow, behind, after = client.enqueue_many("q", [{"log": str(log), "s": 1.5}] + [{"log": str(log)}] * 2)
        until(lambda: slow in began(log), what="the slow one")
        client.cancel(behind)
        assert client.wait(after, timeout=20)["state"] == "completed"
        assert client.status(behind)["state"] == "cancelled"
        assert client.status(slow)["state"] == "completed"
        assert behind not in began(log)


def test_a_cancel_outlives_the_keeper_that_took_it(tmp_path: Path) -> None:
    """Killed between the commit and telling the foreman: the next keeper finds the row, and tells it."""
    for at in range(2, 12):
        if _cancel_dies(tmp_path / str(at), at):
            return
    pytest.fail("the keeper was never killed right after the commit of the cancel")


def _cancel_dies(path: Path, at: int) -> bool:
    path.mkdir()
    with Rig(path, [a_queue(path, workers=1)]) as rig:
        rig.start_keeper()
        rig.spawn_all()
        os.mkfifo(path / "never")
        (job,) = rig.enqueue([{"do": "hold", "until": str(path / "never")}])
        rig.until(lambda: rig.ledger.running)
        rig.kill_keeper()
        rig.start_keeper(store__after_commit=f"kill@{at}")
        rig.pump_for(0.3)
        if not rig.keeper:
            return False
        asked = threading.Thread(target=lambda: _try(lambda: rig.client().ask("cancel", ids=[job])))
        asked.start()
        rig.pump_for(0.3)
        if rig.keeper:
            return False
        asked.join()
        with sqlite3.connect(rig.database) as db:
            noted = db.execute("SELECT count(*) FROM trail WHERE cancel_at IS NOT NULL").fetchone()[0]
        if not noted or rig.said(control.CancelRunning):
            return False
        rig.start_keeper()
        rig.until(lambda: rig.said(control.CancelRunning), what="the word about the cancel")
        return True


def _try(ask: object) -> None:
    try:
        ask()  # type: ignore[operator]
    except OSError:
        pass
