"""Committed rows and jobs agree one to one, whoever is killed when, and however the clock is set.

The application writes each number into a table of its own, in the transaction that inserts the row: that is what was
committed. What became a job is read from the daemon's rows by other code.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.campaign import Campaign
from tests.support.clock import Clock
from tests.support.daemon import ROOT, Daemon, environment
from tests.support.field import attempt, kill, moment
from tests.support.outbox import Application, payloads, remembered
from tests.support.outbox_app import payload
from tests.support.waiting import gone, until

TOML = """
[daemon]
python_path = ["../app"]
[[outbox]]
database = "../app.db"
interval = "100ms"
[queues.q]
handler = "tasks:run"
workers = 1
retention = { completed = "never", dead = "never", cancelled = "never" }
"""
APP = {"tasks.py": "def run(job):\n    return None\n"}
DAY_S = 86_400
ROWS, FULL_ROWS, BATCH_ROWS = 2_000, 100_000, 5_000
KILLS, FULL_KILLS, BATCH_KILLS = 3, 100, 10


def committed(application: Application) -> list[int]:
    """What the application has committed."""
    return sorted(row for (row,) in application.ask("SELECT id FROM done"))


def differences(application: Application, database: Path) -> Counter[int]:
    """Numbers that are not exactly one job each: how many jobs too many or, below 0, too few."""
    found = Counter(job["number"] for job in payloads(database, "q"))
    found.subtract(committed(application))
    return Counter({number: jobs for number, jobs in found.items() if jobs})


def moved(application: Application, database: Path) -> bool:
    """Whether no row is left, and none is remembered."""
    return not application.rows() and not remembered(database)


class Applications:
    """Processes that insert rows until so many are committed, and that are started again when they were killed."""

    def __init__(self, application: Application, chance: random.Random, rows: int) -> None:
        self._application = application
        self._chance = chance
        self._rows = rows
        self._running: list[subprocess.Popen[bytes]] = []

    def keep_up(self) -> bool:
        """Have two at work while there is something to do; whether there is."""
        self._running = [process for process in self._running if process.poll() is None]
        left = self._rows - len(committed(self._application))
        while left > 0 and len(self._running) < 2:
            arguments = (str(self._application.path), str(self._chance.random()), str(max(1, left // 2)))
            command = [sys.executable, "-m", "tests.support.outbox_app", *arguments]
            self._running.append(subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT, env=environment()))
        return left > 0

    def kill_one(self) -> None:
        """SIGKILL to one of them."""
        if self._running:
            self._chance.choice(self._running).kill()

    def end(self) -> None:
        """End all."""
        for process in self._running:
            process.kill()
            process.wait()


def pids(daemon: Daemon, role: str) -> list[int]:
    """The processes of a role; none where the daemon does not answer just now."""
    found = daemon.ctl("tree", "--json")
    return [node["pid"] for node in found.lines if node["role"] == role and node["pid"]] if found.status == 0 else []


def keep_running(daemon: Daemon) -> None:
    """A keeper that is killed too often ends the daemon: then somebody starts it again, as systemd would."""
    if not daemon.running:
        daemon.wait_end()
        until(lambda: not daemon.survivors(), 10, "the end of what the master left")
        daemon.start(ready=False)


def looked_after(application: Application, daemon: Daemon) -> bool:
    """Whether all rows have moved; a daemon that gave up while it was still stopping is started again meanwhile."""
    keep_running(daemon)
    return bool(attempt(lambda: moved(application, daemon.database)))


def strike(daemon: Daemon, applications: Applications, clock: Clock, chance: random.Random) -> str:
    """Kill somebody; sometimes set the clock."""
    victim = chance.choice(("application", "relay", "relay", "keeper", "master", "clock"))
    if victim == "application":
        applications.kill_one()
    elif victim == "clock":
        clock.wall_s += chance.choice((-DAY_S, DAY_S))
    elif victim == "master":
        daemon.kill()
        until(lambda: not daemon.survivors(), 10, "the end of what the master left")
        daemon.start()
    else:
        kill(*pids(daemon, victim))
    return victim


@pytest.mark.campaign
@pytest.mark.timeout(7_200)
def test_committed_rows_and_jobs_agree_whoever_is_killed(tmp_path: Path, campaign: Campaign) -> None:
    for number, rows in enumerate(campaign.batches(short=ROWS, full=FULL_ROWS, batch=BATCH_ROWS)):
        folder = tmp_path / str(number)
        folder.mkdir()
        application, clock = Application(folder / "app.db"), Clock(folder / "clock")
        applications, struck = Applications(application, campaign.chance, rows), Counter[str]()
        with Daemon(folder, TOML, app=APP, env=clock.env) as daemon:
            try:
                while applications.keep_up() or not struck:
                    moment(campaign.chance, 0.3)
                    keep_running(daemon)
                    struck[strike(daemon, applications, clock, campaign.chance)] += 1
            finally:
                applications.end()
            keep_running(daemon)
            daemon.ctl("reload")  # a circuit that the kills have opened is closed by whoever looks after it
            until(lambda a=application, d=daemon: looked_after(a, d), 120, "an empty outbox")
            assert daemon.stop() == 0
            assert daemon.survivors() == []
        assert differences(application, daemon.database) == {}
        assert len(committed(application)) >= rows
        campaign.passed(rows, kills=struck.total() - struck["clock"], clocks=struck["clock"])


BETWEEN = {
    "relay.after_read": "relay",
    "relay.before_delete": "relay",
    "relay.after_delete": "relay",
    "keeper.outbox": "keeper",
    "keeper.before_taken": "keeper",
    "keeper.forget_rows": "keeper",
}
"""Failpoints between the steps of a row, and who stands there when it is killed."""


@pytest.mark.campaign
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("point", BETWEEN)
def test_a_death_between_two_steps_repeats_a_step_and_no_job(tmp_path: Path, campaign: Campaign, point: str) -> None:
    """Each process stops at the point when it comes there the second time; a day passes; then it is killed."""
    for number, rounds in enumerate(campaign.batches(short=KILLS, full=FULL_KILLS, batch=BATCH_KILLS)):
        folder = tmp_path / str(number)
        folder.mkdir()
        application, clock = Application(folder / "app.db"), Clock(folder / "clock")
        hits = folder / "failpoints"
        hits.mkdir()
        daemon = Daemon(folder, TOML, app=APP, env=clock.env | {"JOBSUP_FAILPOINTS": f"{point}=stop@2"})
        with daemon:
            for _ in range(rounds):
                victim = until_stopped(daemon, application, BETWEEN[point])
                clock.wall_s += DAY_S
                kill(victim)
                gone(victim)
                look_after(daemon)
            keep_running(daemon)
            daemon.quit()
            daemon.start(env={"JOBSUP_FAILPOINTS": ""})
            until(lambda a=application, d=daemon: moved(a, d.database), 30, "an empty outbox")
            assert daemon.stop() == 0
        assert differences(application, daemon.database) == {}
        assert len(committed(application)) >= rounds
        campaign.passed(rounds, kills=rounds)


def put(application: Application, number: int) -> None:
    """One row in a transaction of its own."""
    with application.transaction() as db:
        db.execute("INSERT INTO done (id) VALUES (?)", (number,))
        db.execute("INSERT INTO jobsup_outbox (queue, payload) VALUES ('q', ?)", (payload(number),))


def until_stopped(daemon: Daemon, application: Application, role: str) -> int:
    """Insert rows until the process of that role has stopped; its pid."""
    victim = int(until(lambda: keep_running(daemon) or role_pid(daemon, role), 40, f"a {role}"))

    def stopped() -> bool:
        if len(application.rows()) == 0:
            put(application, len(committed(application)) + 1)
        return state_of(victim) == "T"

    until(stopped, 20, f"a {role} that stands at its failpoint")
    return victim


def role_pid(daemon: Daemon, role: str) -> int | None:
    """By the processes themselves: a keeper that has stopped answers nobody."""
    name = {"keeper": "jobsupd:keeper", "relay": "jobsupd:app"}[role]
    alive = [pid for pid in daemon.survivors() if comm_of(pid) == name and state_of(pid) not in ("Z", None)]
    return alive[0] if alive else None


def comm_of(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return None


def state_of(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None


def look_after(daemon: Daemon) -> None:
    """Somebody looks after a process that was killed too often: SIGHUP has all circuits tried."""
    if daemon.running:
        os.kill(daemon.pid, signal.SIGHUP)


def test_control_a_planted_loss_and_a_planted_double_are_found(tmp_path: Path) -> None:
    """The checker has teeth."""
    application = Application(tmp_path / "app.db")
    with Daemon(tmp_path, TOML, app=APP) as daemon:
        for number in range(1, 6):
            put(application, number)
        until(lambda: moved(application, daemon.database))
        daemon.stop()
    assert differences(application, daemon.database) == {}
    columns = "lane, band, pos, priority, enqueued_at, due_at, options, payload, queue"
    with closing(sqlite3.connect(daemon.database)) as db, db:
        db.execute(f"INSERT INTO job (id, {columns}) SELECT 99, {columns} FROM job WHERE payload = ?", (payload(3),))
        db.execute("DELETE FROM job WHERE payload = ?", (payload(4),))
    assert differences(application, daemon.database) == {3: 1, 4: -1}


@pytest.mark.timeout(120)
def test_control_a_memory_that_is_wiped_doubles_a_job(tmp_path: Path) -> None:
    """Planted: what the keeper remembers is deleted between commit and deletion; without it a row is two jobs."""
    application = Application(tmp_path / "app.db")
    with Daemon(tmp_path, TOML, app=APP, env={"JOBSUP_FAILPOINTS": "relay.before_delete=stop@2"}) as daemon:
        victim = until_stopped(daemon, application, "relay")
        with closing(sqlite3.connect(daemon.database, timeout=10)) as db, db:
            db.execute("DELETE FROM relayed")
        kill(victim)
        until(lambda: differences(application, daemon.database), 20, "a double")
        assert set(differences(application, daemon.database).values()) == {1}
