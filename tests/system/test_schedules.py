"""Schedules under a real daemon: they fire in time, make good what was missed, and overlap as they are told."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from supervisor.client import Client
from tests.support.clock import Clock
from tests.support.daemon import Daemon
from tests.support.field import kill
from tests.support.waiting import opened, until

HEAD = """
[daemon]
python_path = ["../app"]
[queues.q]
handler = "tasks:run"
[queues.gated]
handler = "tasks:wait"
workers = 4
[queues.other]
handler = "tasks:run"
"""
APP = {
    "tasks.py": """
import os

def run(job):
    return list(job.tags)

def wait(job):
    "Run until the named pipe is opened for writing: the test says when."
    with open(job.payload) as pipe:
        pipe.read()
"""
}
SECOND = '[schedules.s]\nqueue = "q"\nevery = "1s"\n'
MINUTE_S = 60.0


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "offsets")


def jobs_of(client: Client[int], name: str = "s") -> dict[str, Any]:
    """A schedule as the daemon shows it."""
    return client.request("cron_show", name=name)


def due_of(daemon: Daemon, name: str = "s") -> list[int]:
    """The due times that the jobs of a schedule stand for, in the order of their ids."""
    rows = daemon.ctl("list", "--limit", 0, "--tag", f"schedule:{name}", "--json").lines
    ids = sorted(row["id"] for row in rows)
    with daemon.client() as client:
        tags = [client.status(job_id)["tags"] for job_id in ids]
    return [ms(tag.removeprefix("due:")) for each in tags for tag in each if tag.startswith("due:")]


def test_a_schedule_fires_at_its_times_within_milliseconds(tmp_path: Path) -> None:
    text = HEAD + '[schedules.s]\nqueue = "q"\nevery = "1s"\npayload = { a = [1] }\ntags = ["mine"]\n'
    with Daemon(tmp_path, text, app=APP) as daemon, daemon.client() as client:
        until(lambda: jobs_of(client)["fired"] >= 3)
        shown = jobs_of(client)
        job = client.wait(shown["last_job"]["id"], timeout=5)
        assert job["payload"] == {"a": [1]}
        due = next(tag.removeprefix("due:") for tag in job["result"] if tag.startswith("due:"))
        assert job["result"] == ["mine", "schedule:s", f"due:{due}"]
        late = [ms(claim["at"]) - ms(claim["due_at"]) for claim in shown["recent"]]
        assert min(late) < 20, "a few milliseconds, where nothing else wants the processors"
        assert all(0 <= each < 900 for each in late)
        assert client.status()["schedules"]["next"] == "s"
    found = due_of(daemon)
    assert found == list(range(found[0], found[-1] + 1, 1_000))


def test_a_keeper_that_is_killed_around_due_times_misses_and_doubles_nothing(tmp_path: Path) -> None:
    with Daemon(tmp_path, HEAD + SECOND, app=APP) as daemon, daemon.client(timeout="20s") as client:
        until(lambda: jobs_of(client)["fired"] >= 1)
        for number in range(4):
            keeper = next(node for node in client.request("tree")["tree"] if node["role"] == "keeper")
            os.kill(keeper["pid"], signal.SIGKILL)
            until(lambda least=number + 2: jobs_of(client)["fired"] > least, 20)
    found = due_of(daemon)
    assert found == list(range(found[0], found[-1] + 1, 1_000))


@pytest.mark.parametrize(
    ("policy", "down_s", "late"),
    [
        ('missed = "skip"', 10.5 * MINUTE_S, 0),
        ('missed = "once"', 10.5 * MINUTE_S, 1),
        ('missed = "all"', 10.5 * MINUTE_S, 11),
        ('missed = "all"\nmissed_within = "3m"', 10.5 * MINUTE_S, 3),
        ('missed = "all"\nmissed_max = 4', 10.5 * MINUTE_S, 4),
        ('missed = "all"\nmissed_max = 60', 200 * MINUTE_S, 60),
    ],
)
def test_a_restart_after_downtime_makes_good_what_the_policy_says(
    tmp_path: Path, clock: Clock, policy: str, down_s: float, late: int
) -> None:
    """The anchor is chosen so that at the second start the last due time is half a minute ago, and more."""
    with Daemon(tmp_path, HEAD, app=APP, env=clock.env) as daemon:
        daemon.stop()
        now_s = datetime.now(UTC).timestamp()
        start = datetime.fromtimestamp(round(now_s) + 10).astimezone().isoformat()
        text = f'{HEAD}[schedules.s]\nqueue = "q"\nevery = "1m"\nstart = "{start}"\n{policy}\n'
        daemon.configure(text)
        daemon.start()
        with daemon.client() as client:
            assert jobs_of(client)["fired"] == 0
        daemon.stop()
        clock.wall_s = down_s + 15
        daemon.start()
        with daemon.client() as client:
            until(lambda: "missed" in daemon.log or jobs_of(client)["fired"] >= late)
            missed = down_s // MINUTE_S + 1 - late  # decided some at a time
            until(
                lambda: (jobs_of(client)["fired"], jobs_of(client)["missed"]) == (late, missed),
                what=f"{late} late runs",
            )
            shown = jobs_of(client)
        if shown["missed"]:
            assert f"schedule s missed {shown['missed']} runs" in daemon.log
    found = due_of(daemon)
    assert len(set(found)) == len(found) == late
    assert found == sorted(found)


def test_a_clock_set_forward_is_an_outage_and_one_set_back_fires_nothing_again(tmp_path: Path, clock: Clock) -> None:
    text = HEAD + SECOND + 'missed = "once"\n'
    with Daemon(tmp_path, text, app=APP, env=clock.env) as daemon, daemon.client() as client:
        until(lambda: jobs_of(client)["fired"] >= 1)
        clock.wall_s = 3_600.0
        until(lambda: jobs_of(client)["missed"] >= 1_000)
        ahead = jobs_of(client)["fired"]
        until(lambda: jobs_of(client)["fired"] > ahead)
        clock.wall_s = 0.0
        until(lambda: daemon.log.count("the wall clock was set by") == 2)
        resting = jobs_of(client)
        assert "runs next at" in resting["explanation"]
        client.wait(client.enqueue("q", delay="1500ms"), timeout=5)
        assert jobs_of(client)["fired"] == resting["fired"], "its time is an hour away"
        clock.wall_s = 3_600.0
        until(lambda: jobs_of(client)["fired"] > resting["fired"])
    found = due_of(daemon)
    assert len(set(found)) == len(found)
    assert found == sorted(found)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


@pytest.fixture
def overlapping(tmp_path: Path, gate: Path) -> Iterator[Any]:
    """A daemon whose schedule, with the given rule, enqueues jobs that run until the gate opens."""
    started: list[Daemon] = []

    def start(rule: str) -> Daemon:
        table = f'[schedules.s]\nqueue = "gated"\nevery = "1s"\noverlap = "{rule}"\npayload = "{gate}"\n'
        daemon = Daemon(tmp_path, HEAD + table, app=APP)
        started.append(daemon)
        return daemon.__enter__()

    yield start
    for daemon in started:
        daemon.__exit__(None, None, None)


def test_runs_that_may_overlap_do(overlapping: Any) -> None:
    with overlapping("allow").client() as client:
        until(lambda: client.status()["queues"]["gated"]["running"] >= 2)


def test_runs_that_must_not_overlap_are_skipped(overlapping: Any, gate: Path) -> None:
    daemon = overlapping("skip")
    with daemon.client() as client:
        until(lambda: jobs_of(client)["skipped"] >= 2)
        shown = jobs_of(client)
        assert (shown["fired"], shown["outcome"]) == (1, "skipped")
        assert f"did not run, as job {shown['last_job']['id']} has not ended" in shown["explanation"]
        until(lambda: opened(gate))
        until(lambda: jobs_of(client)["fired"] == 2)
    assert "schedule s did not run at" in daemon.log


def test_at_most_one_run_waits_for_the_one_before_it(overlapping: Any, gate: Path) -> None:
    daemon = overlapping("queue")
    with daemon.client() as client:
        until(lambda: jobs_of(client)["skipped"] >= 1)
        shown = jobs_of(client)
        assert (shown["fired"], shown["waiting_at"] is None) == (1, False)
        first = shown["last_job"]["id"]
        until(lambda: opened(gate))
        ended = client.wait(first, timeout=5)
        until(lambda: jobs_of(client)["fired"] == 2)
        after = jobs_of(client)
        second = client.status(after["last_job"]["id"])
        assert ms(second["enqueued_at"]) - ms(ended["finished_at"]) < 500, "it did not wait for the next due time"
        assert f"due:{shown['waiting_at']}" in second["tags"]


def test_a_run_that_waits_survives_the_daemon(overlapping: Any, gate: Path) -> None:
    daemon = overlapping("queue")
    with daemon.client() as client:
        until(lambda: jobs_of(client)["waiting_at"])
        waits = jobs_of(client)
    kill(*daemon.survivors())
    daemon.wait_end()
    daemon.start()
    with daemon.client() as client:
        assert client.request("cron_pause", name="s")["paused"]
        until(lambda: opened(gate))
        client.wait(waits["last_job"]["id"], timeout=10)
        assert jobs_of(client)["fired"] == 1, "while its schedule rests, it waits on"
        client.request("cron_resume", name="s")
        until(lambda: jobs_of(client)["fired"] == 2)
        second = client.status(jobs_of(client)["last_job"]["id"])
        assert f"due:{waits['waiting_at']}" in second["tags"]
        assert client.cancel(second["id"]) is None


def test_a_reload_adds_changes_and_removes_schedules(tmp_path: Path) -> None:
    kept = '[schedules.kept]\nqueue = "q"\nevery = "1s"\n'
    first = kept + '[schedules.gone]\nqueue = "q"\nevery = "1s"\n[schedules.slow]\nqueue = "q"\nevery = "1d"\n'
    with Daemon(tmp_path, HEAD + first, app=APP) as daemon, daemon.client() as client:
        until(lambda: jobs_of(client, "gone")["fired"])
        last = jobs_of(client, "gone")["last_job"]["id"]
        daemon.configure(HEAD + kept + '[schedules.slow]\nqueue = "q"\nevery = "1s"\npayload = 1\n')
        assert daemon.ctl("reload").status == 0
        until(lambda: [row["name"] for row in client.schedules()] == ["kept", "slow"])
        until(lambda: jobs_of(client, "slow")["fired"])
        assert client.status(last)["id"] == last, "its jobs stay"
        daemon.configure(HEAD)
        assert daemon.ctl("reload").status == 0
        until(lambda: client.schedules() == [])
        assert client.status()["schedules"] == {"count": 0, "paused": 0, "next": None, "next_at": None}


def test_a_schedule_whose_queue_left_the_file_says_so_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    with Daemon(tmp_path, HEAD, app=APP) as daemon, daemon.client() as client:
        client.schedule("s", "other", every="1s")
        until(lambda: jobs_of(client)["fired"])
        daemon.configure(HEAD.replace("[queues.other]", "[queues.another]"))
        assert daemon.ctl("reload").status == 0
        until(lambda: jobs_of(client)["failed"])
        assert "could not run: there is no queue other" in jobs_of(client)["explanation"]
        daemon.configure(HEAD)
        assert daemon.ctl("reload").status == 0
        fired = jobs_of(client)["fired"]
        until(lambda: jobs_of(client)["fired"] > fired)
    assert "schedule s could not run at" in daemon.log


def test_thousands_that_are_due_at_once_are_worked_off_while_others_are_served(tmp_path: Path, clock: Clock) -> None:
    many = 300
    tables = "".join(f'[schedules.s{n}]\nqueue = "q"\nevery = "1h"\nmissed = "all"\n' for n in range(many))
    with Daemon(tmp_path, HEAD + tables, app=APP, env=clock.env) as daemon, daemon.client() as client:
        until(lambda: client.status()["schedules"]["count"] == many)
        clock.wall_s = 3 * 3_600.0
        until(lambda: sum(client.status()["queues"]["q"].get(state, 0) for state in ("queued", "completed")) > 0, 15)
        assert client.wait(client.enqueue("other"), timeout=5)["state"] == "completed"
        until(lambda: sum(row["fired"] for row in client.schedules()) == 3 * many, 30)
        jobs = client.status()["queues"]["q"]
        assert sum(jobs[state] for state in ("queued", "running", "completed")) == 3 * many
