"""Kills and stops of consumers, keeper and master while consumers work: each job is completed once, by who holds it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from supervisor.errors import Busy, NotRunning, Unconfirmed
from tests.conformance.sqlite import SqliteBackend
from tests.support.campaign import Campaign, size
from tests.support.daemon import Daemon, environment
from tests.support.ledger import connect
from tests.support.waiting import until

TOML = '[queues.pull]\npull = true\nmax_attempts = 1000\nbackoff = ["1ms"]\n'
CONSUMERS = 4
STRIKE_EVERY_S = 0.15
MASTER_EVERY_S = 6.0
KEEPERS_ALLOWED = 4
"""A master gives up when more of its keepers die within a minute."""
STRIKES = ("killed", "killed", "stopped", "keeper")
STOPPED_S = 0.7
"""Longer than a lease."""

CONSUMER = """
import os, random, sys, time
from supervisor.client import Client
from supervisor.errors import Busy, NotRunning, StaleLease, Unconfirmed

log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
with Client(socket=sys.argv[1], one_shot=False, patience=60, timeout=60) as client:
    while True:
        try:
            for job in client.fetch("pull", 3, lease="400ms", wait="5s"):
                os.write(log, b"B %d %d\\n" % (job["id"], job["token"]))
                time.sleep(0.6 if random.random() < 0.05 else random.uniform(0, 0.02))  # some are too late
                try:
                    if not client.ack(job["id"], job["token"], job["token"])["repeated"]:
                        os.write(log, b"A %d %d\\n" % (job["id"], job["token"]))
                except StaleLease:
                    os.write(log, b"S %d %d\\n" % (job["id"], job["token"]))
        except (Busy, NotRunning, Unconfirmed):
            pass
"""


class Storm:
    """Consumers of one daemon, and what strikes them."""

    def __init__(self, daemon: Daemon, log: Path, campaign: Campaign) -> None:
        self.daemon = daemon
        self.log = log
        self.chance = campaign.chance
        self.struck: Counter[str] = Counter()
        self.consumers = [self.consumer() for _ in range(CONSUMERS)]
        self._first = ["stopped", "keeper", "killed"]
        self._keepers = 0
        self._began = time.monotonic()

    def consumer(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", CONSUMER, str(self.daemon.socket), str(self.log)]
        return subprocess.Popen(command, env=environment(), stdin=subprocess.DEVNULL)

    def rage(self, over: threading.Event) -> None:
        """Strike until `over`."""
        while not over.wait(STRIKE_EVERY_S):
            if time.monotonic() - self._began > MASTER_EVERY_S:
                self.strike_master()
            else:
                self.strike(self._first.pop() if self._first else self.chance.choice(STRIKES))

    def strike(self, how: str) -> None:
        number = self.chance.randrange(CONSUMERS)
        if how == "keeper" and self._keepers < KEEPERS_ALLOWED:
            self._keepers += self.strike_keeper()
        elif how == "stopped":
            self.consumers[number].send_signal(signal.SIGSTOP)
            time.sleep(STOPPED_S)  # so long it holds jobs whose lease is over
            self.consumers[number].send_signal(signal.SIGCONT)
            self.struck["stopped"] += 1
        else:
            self.consumers[number].kill()
            self.consumers[number].wait()
            self.consumers[number] = self.consumer()
            self.struck["killed"] += 1

    def strike_keeper(self) -> int:
        try:
            with self.daemon.client(one_shot=False, timeout=5) as client:
                tree = client.request("tree")["tree"]
        except (Busy, NotRunning, Unconfirmed):
            return 0
        for node in tree:
            if node["role"] == "keeper" and node["pid"]:
                os.kill(node["pid"], signal.SIGKILL)
                self.struck["keeper"] += 1
                return 1
        return 0

    def strike_master(self) -> None:
        self.daemon.kill()
        self.daemon.sweep()
        self.daemon.start()
        self._began, self._keepers = time.monotonic(), 0
        self.struck["master"] += 1

    def end(self) -> None:
        for process in self.consumers:
            process.kill()
            process.wait()


def lines(log: Path) -> list[tuple[str, int, int]]:
    """What the consumers wrote, the last line of one that was killed left out if it is not whole."""
    found = [line.split() for line in log.read_text().splitlines()]
    return [(words[0], int(words[1]), int(words[2])) for words in found if len(words) == 3]


def faults(log: Path, rows: dict[int, tuple[str, int, Any]], ids: list[int]) -> list[str]:
    """What contradicts that each job was completed once, by the consumer that held it."""
    found = [f"job {job_id} is {rows.get(job_id)}" for job_id in ids if rows.get(job_id, ("",))[0] != "completed"]
    acked = [(job_id, token) for what, job_id, token in lines(log) if what == "A"]
    found += [f"job {job_id} was acknowledged {count} times" for job_id, count in _often(acked).items() if count > 1]
    for job_id, token in acked:
        if rows[job_id][1:] != (token, str(token)):
            found.append(f"job {job_id} was acknowledged under {token}, and its row says {rows[job_id]}")
    begun = Counter((job_id, token) for what, job_id, token in lines(log) if what == "B")
    found += [f"job {job_id} was given twice under {token}" for (job_id, token), n in begun.items() if n > 1]
    return found


def _often(acked: list[tuple[int, int]]) -> Counter[int]:
    return Counter(job_id for job_id, _ in acked)


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_consumers_in_a_storm_complete_each_job_once(tmp_path: Path) -> None:
    campaign = Campaign("pull_storm")
    jobs = size(300, 10_000)
    log = tmp_path / "log"
    with Daemon(tmp_path, TOML) as daemon:
        with daemon.client() as client:
            ids = client.enqueue_many("pull", list(range(jobs)))
        storm, over = Storm(daemon, log, campaign), threading.Event()
        watching = threading.Thread(target=until_completed, args=(daemon, jobs, over))
        watching.start()
        try:
            storm.rage(over)
        finally:
            over.set()
            watching.join()
            storm.end()
        with daemon.client() as client:
            assert client.consumers() == [] or all(each["state"] == "waiting" for each in client.consumers())
        daemon.stop()
    assert faults(log, rows_of(daemon), ids) == []
    assert SqliteBackend(daemon.database).complaints() == []
    assert {"killed", "stopped", "keeper"} <= storm.struck.keys()
    assert any(what == "S" for what, _, _ in lines(log)), "nobody was too late: then nothing was fenced"
    campaign.passed(jobs, **storm.struck)


def until_completed(daemon: Daemon, jobs: int, over: threading.Event) -> None:
    """Set `over` when all jobs are done, or when that takes too long."""

    def all_done() -> bool:
        try:
            with daemon.client(one_shot=False, timeout=5) as client:
                return bool(over.is_set() or client.status()["queues"]["pull"]["completed"] == jobs)
        except (Busy, NotRunning, Unconfirmed):
            return False

    try:
        until(all_done, 400, "all jobs")
    finally:
        over.set()


def rows_of(daemon: Daemon) -> dict[int, tuple[str, int, Any]]:
    """State, token and result of every final job."""
    with closing(connect(daemon.database)) as db:
        return {row[0]: row[1:] for row in db.execute("SELECT id, state, token, result FROM outcome")}


@pytest.mark.parametrize(
    ("text", "rows", "found"),
    [
        ("B 1 5\nA 1 5\n", {1: ("completed", 5, "5")}, 0),
        ("B 1 5\nA 1 5\n", {1: ("completed", 6, "6")}, 1),
        ("B 1 5\nA 1 5\nB 1 6\nA 1 6\n", {1: ("completed", 6, "6")}, 2),
        ("B 1 5\nB 1 5\nA 1 5\n", {1: ("completed", 5, "5")}, 1),
        ("B 1 5\nS 1 5\n", {1: ("dead", 5, None)}, 1),
        ("", {}, 1),
    ],
)
def test_the_checker_finds_what_is_planted(
    tmp_path: Path, text: str, rows: dict[int, tuple[str, int, Any]], found: int
) -> None:
    log = tmp_path / "log"
    log.write_text(text)
    assert len(faults(log, rows, [1])) == found
