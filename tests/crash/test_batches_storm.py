"""Kills every 100 ms while batches run whose jobs end differently: each job is charged only for its own."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from supervisor.errors import Busy, NotRunning, Unconfirmed
from tests.conformance.sqlite import SqliteBackend
from tests.support.campaign import Campaign, size
from tests.support.daemon import Daemon
from tests.support.ledger import Database, read_database
from tests.support.waiting import until

TOML = """
[daemon]
python_path = ["../app"]
[queues.q]
handler = "storm:run"
workers = 2
batch_size = 50
batch_wait = "20ms"
max_attempts = 3
max_crashes = 100
max_interruptions = 10000
backoff = { base = "1ms", factor = 1.0, jitter = 0.0 }
restart = { intensity = 1000, period = "10s" }
kill_grace = "1s"
"""
APP = """
import os, time
from pathlib import Path
from supervisor.job import Cancel, Dead, Snooze

LOG = os.open(Path(__file__).parent / "calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def run(jobs):
    ids = " ".join(str(job.id) for job in jobs)
    os.write(LOG, f"{os.getpid()} {jobs[0].token} {ids}\\n".encode())
    time.sleep(0.05 if len(jobs) > 1 else 0.002)
    outcomes = [outcome(job) for job in jobs]
    os.write(LOG, f"{os.getpid()} {jobs[0].token}\\n".encode())
    return outcomes

def outcome(job):
    match job.payload["ends"]:
        case "fails":
            return ValueError(f"job {job.id} fails")
        case "dies":
            return Dead("of no use")
        case "cancels":
            return Cancel("not wanted")
        case "snoozes" if job.cursor is None:
            job.save(1)
            return Snooze("1ms")
    return job.payload["number"]
"""
BATCH = 50
KILL_EVERY_S = 0.1
KEEPER_FIRST, KEEPER_EVERY = 3, 250
"""After how many kills of workers the keeper is hit: a master gives up when too many of its keepers die in a minute."""
ENDS = ("completes", "fails", "completes", "dies", "completes", "cancels", "completes", "snoozes")
OWN: Mapping[str, tuple[str, str | None, dict[str, int]]] = {
    "completes": ("completed", None, {}),
    "snoozes": ("completed", None, {}),
    "fails": ("dead", "max_attempts", {"error": 3}),
    "dies": ("dead", "rejected", {"error": 1}),
    "cancels": ("cancelled", "not wanted", {"cancelled": 1}),
}
"""What becomes of a job by itself: its state, the reason, what it is charged."""


class Called(NamedTuple):
    """A call of the handler, as it noted when it began; without jobs, when it ended."""

    pid: int
    token: int
    ids: tuple[int, ...]


def noted_in(log: Path) -> list[Called]:
    """The calls, in the order in which they began and ended."""
    numbers = [list(map(int, line.split())) for line in log.read_text().splitlines()]
    return [Called(pid, token, tuple(ids)) for pid, token, *ids in numbers]


def faults(data: Database, noted: list[Called], killed: set[int]) -> list[str]:
    """What contradicts that each job has what is its own: outcome, charges, and no run after it was completed.

    A worker that was killed between calls may have begun one that its handler could not note any more: what is charged
    for no call that was noted is as little as that.
    """
    found = list(data.problems)
    calls = [each for each in noted if each.ids]
    last = {call.pid: call for call in calls}
    between = sum(not each.ids for pid, each in {each.pid: each for each in noted}.items() if pid in killed)
    unseen: Counter[str] = Counter()
    cut_off = [last[pid] for pid in killed if pid in last]
    alone = Counter(call.ids[0] for call in cut_off if len(call.ids) == 1)
    together = Counter(job for call in cut_off if len(call.ids) > 1 for job in call.ids)
    newest = {job: call.token for call in calls for job in call.ids}
    for job in data.jobs.values():
        state, reason, own = OWN[job.payload["ends"]]
        charged = {kind: count for kind, count in job.charges.items() if kind not in ("crash", "interrupted")}
        if (job.state, job.reason, charged) != (state, reason, own):
            found.append(f"its own: job {job.id} is {job.state} ({job.reason}), charged {charged} for {own}")
        if job.state == "completed" and job.result != str(job.payload["number"]):
            found.append(f"its own: job {job.id} has the result {job.result}")
        unseen["crash"] += max(0, job.charges.get("crash", 0) - alone[job.id])
        unseen["interrupted"] += max(0, job.charges.get("interrupted", 0) - together[job.id])
        if job.state == "completed" and newest[job.id] != job.token:
            found.append(f"once: job {job.id} was completed under {job.token}, and ran under {newest[job.id]}")
    if unseen["crash"] > between or unseen["interrupted"] > BATCH * between:
        found.append(f"charges: {dict(unseen)} for no call that was noted, and {between} kills between calls")
    again = Counter((call.token, job) for call in calls for job in call.ids)
    found += [f"once: job {job} ran {count} times under {token}" for (token, job), count in again.items() if count > 1]
    return found


class Storm:
    """What strikes the daemon."""

    def __init__(self, daemon: Daemon, campaign: Campaign) -> None:
        self._daemon = daemon
        self._chance = campaign.chance
        self.killed: set[int] = set()
        self.keepers = 0

    def rage(self, over: threading.Event) -> None:
        """Kill until `over`."""
        while not over.wait(KILL_EVERY_S):
            try:
                with self._daemon.client(one_shot=False, timeout=5) as client:
                    self._strike(client.request("tree")["tree"])
            except (Busy, NotRunning, Unconfirmed):
                continue

    def _strike(self, tree: list[dict[str, Any]]) -> None:
        keeper_next = len(self.killed) >= KEEPER_FIRST + KEEPER_EVERY * self.keepers
        role = "keeper" if keeper_next else "worker"
        pids = [node["pid"] for node in tree if node["role"] == role and node["pid"]]
        if not pids:
            return
        pid = self._chance.choice(pids)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        if keeper_next:
            self.keepers += 1
        else:
            self.killed.add(pid)


@pytest.mark.campaign
@pytest.mark.timeout(1200)
def test_in_a_storm_each_job_of_a_batch_is_charged_only_for_its_own(tmp_path: Path, campaign: Campaign) -> None:
    jobs = size(500, 10_000)
    with Daemon(tmp_path, TOML, app={"storm.py": APP}) as daemon:
        payloads = [{"number": number, "ends": ENDS[number % len(ENDS)]} for number in range(jobs)]
        campaign.chance.shuffle(payloads)
        storm, over = Storm(daemon, campaign), threading.Event()
        striking = threading.Thread(target=storm.rage, args=(over,))
        striking.start()
        try:
            with daemon.client() as client:
                client.enqueue_many("q", payloads)
            until(lambda: all_ended(daemon, jobs), 900, "the end of all jobs")
        finally:
            over.set()
            striking.join()
        assert daemon.stop() == 0
    data, noted = read_database(daemon.database), noted_in(tmp_path / "app" / "calls")
    assert faults(data, noted, storm.killed) == []
    assert SqliteBackend(daemon.database).complaints() == []
    hit = sum(job.charges.get("interrupted", 0) > 0 for job in data.jobs.values())
    crashes = sum(job.charges.get("crash", 0) for job in data.jobs.values())
    assert hit, "no batch was struck: then nobody was spared"
    calls = [each for each in noted if each.ids]
    assert max(len(call.ids) for call in calls) == BATCH
    campaign.passed(
        jobs, kills=len(storm.killed), keepers=storm.keepers, calls=len(calls), suspected=hit, crashes=crashes
    )


def all_ended(daemon: Daemon, jobs: int) -> bool:
    """Whether every job is final."""
    try:
        with daemon.client(one_shot=False, timeout=5) as client:
            counts = client.status()["queues"]["q"]
    except (Busy, NotRunning, Unconfirmed):
        return False
    return bool(counts["completed"] + counts["dead"] + counts["cancelled"] == jobs)


@pytest.mark.parametrize(
    ("noted", "charges", "found"),
    [
        ([Called(9, 1, (1, 2)), Called(8, 2, (1,))], {"interrupted": 1}, 0),
        ([Called(9, 1, (1,)), Called(8, 2, (1,))], {"crash": 1}, 0),
        ([Called(9, 1, (1, 2)), Called(8, 2, (1,))], {"crash": 1}, 1),
        ([Called(9, 1, (1,)), Called(8, 2, (1,))], {"interrupted": 1}, 1),
        ([Called(9, 1, (1, 2)), Called(8, 2, (1,))], {"error": 1}, 1),
        ([Called(9, 1, (3,)), Called(9, 1, ()), Called(8, 2, (1,))], {"crash": 1}, 0),
        ([Called(9, 1, (3,)), Called(9, 1, ()), Called(8, 2, (1,))], {"crash": 2}, 1),
        ([Called(8, 2, (1,)), Called(8, 3, (1,))], {}, 1),
        ([Called(8, 2, (1,)), Called(8, 2, (1,))], {}, 1),
    ],
)
def test_the_checker_finds_what_is_planted(noted: list[Called], charges: dict[str, int], found: int) -> None:
    from tests.support.ledger import JobRow

    job = JobRow(1, "q", "completed", 2, {"number": 4, "ends": "completes"}, charges, None, "4")
    assert len(faults(Database({1: job}, {}, 0, 0, []), noted, {9})) == found
