"""Clocks that jump, under a real daemon: no running job ends early, no due job waits for ever, nobody is blamed.

The wall clock is set by people; the boot clock goes on through a suspend, and is another one after a reboot.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.client import Client
from tests.support.clock import Clock
from tests.support.daemon import Daemon
from tests.support.field import kill
from tests.support.place import mounted
from tests.support.waiting import until

HOUR_S = 3600.0
SOON_S = 3.0
"""The keeper compares its clocks once a second."""
KERNELS = Path("/proc/sys/kernel/random/boot_id")
TOML = """
[daemon]
python_path = ["../app"]
[defaults]
workers = 3
max_attempts = 1
kill_grace = "2s"
[queues.q]
handler = "tasks:run"
timeout = "10m"
[queues.again]
handler = "tasks:fail_first"
workers = 1
max_attempts = 2
backoff = { base = "1s", jitter = 0.0 }
"""
APP = {
    "tasks.py": """
import os, time

def run(job):
    payload = job.payload or {}
    while "until" in payload and not os.path.exists(payload["until"]):
        time.sleep(0.01)
    return "done"

def fail_first(job):
    if job.attempt == 1:
        raise RuntimeError("the first time")
    return "done"
"""
}


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "offsets")


@pytest.fixture
def daemon(tmp_path: Path, clock: Clock) -> Iterator[Daemon]:
    with Daemon(tmp_path, TOML, app=APP, env=clock.env) as daemon:
        yield daemon


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client[int]]:
    with daemon.client(timeout="5s") as client:
        yield client


def running(client: Client[int], job_id: int) -> dict[str, Any]:
    """The job, once a worker is at it."""
    return until(lambda: (shown := client.status(job_id))["worker"] and shown)


def pids(client: Client[int]) -> dict[str, int]:
    """Every process of the daemon."""
    return {node["path"]: node["pid"] for node in client.request("tree")["tree"]}


def cpu_ticks(all_pids: dict[str, int]) -> int:
    """User and system time that these processes have used."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in all_pids.values()]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats)


@pytest.mark.parametrize("step_s", [-HOUR_S, HOUR_S], ids=["back", "forward"])
def test_a_step_of_the_wall_clock_ends_no_running_job_and_stops_no_work(
    tmp_path: Path, clock: Clock, daemon: Daemon, client: Client[int], step_s: float
) -> None:
    go = tmp_path / "go"
    long = client.enqueue("q", {"until": str(go)})
    short = client.enqueue("q", {"until": str(tmp_path / "never")}, timeout="1500ms")
    for job_id in (long, short):
        running(client, job_id)
    before = pids(client)

    clock.wall_s = step_s
    until(lambda: "the wall clock was set by" in daemon.log, SOON_S)
    assert client.status(long)["state"] == "running"
    late = client.wait(short, timeout=10)
    assert (late["state"], late["errors"][0]["kind"]) == ("dead", "timeout"), "its own time is still kept"
    assert client.wait(client.enqueue("q", delay="300ms"), timeout=SOON_S)["state"] == "completed"
    assert client.wait(client.enqueue("again"), timeout=10)["failures"] == 1
    go.touch()
    done = client.wait(long, timeout=5)
    assert (done["state"], done["attempt"], done["errors"]) == ("completed", 1, [])
    assert done["started_at"] <= done["finished_at"]
    assert pids(client) == before

    ticks = cpu_ticks(before)
    went_by = client.enqueue("q", delay="1s")
    client.wait(went_by, timeout=5)
    assert cpu_ticks(before) - ticks < os.sysconf("SC_CLK_TCK") / 2, "nobody turns for nothing"


def test_what_a_forward_step_makes_due_runs_at_once(clock: Clock, daemon: Daemon, client: Client[int]) -> None:
    due = client.enqueue("q", delay="30m")
    later = client.enqueue("q", delay="2h")
    until(lambda: client.status(due)["state"] == "scheduled")
    clock.wall_s = HOUR_S
    assert client.wait(due, timeout=SOON_S)["state"] == "completed"
    assert client.status(later)["state"] == "scheduled"


def test_what_a_backward_step_puts_off_runs_when_its_time_comes_again(
    clock: Clock, daemon: Daemon, client: Client[int]
) -> None:
    due = client.enqueue("q", delay="1500ms")
    clock.wall_s = -HOUR_S
    until(lambda: "the wall clock was set by -3" in daemon.log, SOON_S)
    assert client.status(due)["state"] == "scheduled"
    clock.wall_s = 0.0
    assert client.wait(due, timeout=SOON_S)["state"] == "completed"


def test_a_suspend_costs_no_process_and_only_jobs_whose_time_is_over_are_told(
    tmp_path: Path, clock: Clock, daemon: Daemon, client: Client[int]
) -> None:
    go = tmp_path / "go"
    long = client.enqueue("q", {"until": str(go)}, timeout="2h")
    short = client.enqueue("q", {"until": str(tmp_path / "never")}, timeout="5m")
    due = client.enqueue("q", delay="30m")
    for job_id in (long, short):
        running(client, job_id)
    before = pids(client)

    clock.boot_s = clock.wall_s = HOUR_S
    ended = client.wait(short, timeout=20)
    assert (ended["state"], ended["crashes"], ended["errors"][0]["type"]) == ("dead", 0, "JobTimeout")
    assert client.wait(due, timeout=SOON_S)["state"] == "completed"
    assert client.status(long)["state"] == "running"
    go.touch()
    done = client.wait(long, timeout=5)
    assert (done["state"], done["attempt"], done["errors"]) == ("completed", 1, [])
    assert pids(client) == before
    assert "no progress" not in daemon.log


def test_after_a_reboot_with_another_boot_clock_jobs_run_again_uncharged(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "offsets")
    clock.boot_s = 10 * HOUR_S
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("b" * 32 + "\n")
    daemon = Daemon(tmp_path, TOML, app=APP, env=clock.env)
    with daemon, daemon.client() as client:
        cut_short = client.enqueue("q", {"until": str(tmp_path / "go")}, timeout="1h")
        running(client, cut_short)
        due = client.enqueue("q", delay="30m")
        kill(*daemon.survivors())
        daemon.wait_end()
    shutil.rmtree(daemon.run_dir)
    clock.boot_s, clock.wall_s = 0.0, HOUR_S
    (tmp_path / "go").touch()
    with mounted(boot_id, KERNELS) as place:
        assert place.see(KERNELS).read_text() != KERNELS.read_text()
        again = Daemon(tmp_path, TOML, app=APP, env=clock.env, prefix=place.prefix)
        with again, again.client() as client:
            done = client.wait(cut_short, timeout=10)
            assert (done["state"], done["failures"], done["crashes"], done["interruptions"]) == ("completed", 0, 0, 1)
            assert client.wait(due, timeout=SOON_S)["state"] == "completed"
