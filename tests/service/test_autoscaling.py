"""Pools that follow their load, in a real daemon: up, down, held, retuned, and when those who decide are killed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from supervisor.client import Client
from tests.support.daemon import Daemon
from tests.support.pools import a_daemon, node, queue_status, workers
from tests.support.terminal import jobsctl_on_terminal
from tests.support.waiting import alive, gone, until

REACHED_S = 2.0
"""Within which a step of load has led to the number of workers that it needs."""

STINGY = """
import errno, os, pathlib

from tasks import run

forked, fork = [], os.fork

def refuse_sometimes():
    "As a kernel does that has no process left for us; the first worker has been forked by then."
    if pathlib.Path(os.environ["FULL"]).exists() and forked:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
    forked.append(1)
    return fork()

os.fork = refuse_sometimes
"""

COMPUTING = """
import time

def run(job):
    until = time.monotonic() + job.payload
    while time.monotonic() < until:
        pass
"""


def scaled(workers: str = "{ min = 1, max = 8 }", scale: str = 'down_after = "1s"', handler: str = "tasks:run") -> str:
    return f'[queues.q]\nhandler = "{handler}"\nworkers = {workers}\n' + (f"scale = {{ {scale} }}\n" if scale else "")


def status_of(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = client.request("status")["queues"]["q"]
    return found


def decisions(daemon: Daemon) -> list[tuple[int, int]]:
    """Every change of the number, as the log has it."""
    found = re.findall(r"pool q scaled from (\d+) to (\d+): ", daemon.log)
    return [(int(before), int(after)) for before, after in found]


def turns(daemon: Daemon) -> int:
    """How often it went the other way."""
    steps = [after > before for before, after in decisions(daemon)]
    return sum(one != other for one, other in pairwise(steps))


def wait_for_workers(client: Client, count: int, timeout: float = 10) -> None:
    until(lambda: status_of(client)["workers"] == count, timeout, f"{count} workers ready")


def held(client: Client, count: int, gate: Path) -> list[int]:
    """Jobs that run until the gate is there."""
    found: list[int] = client.enqueue_many("q", [{"wait_for": str(gate)}] * count)
    return found


def finish(client: Client, jobs: list[int], gate: Path) -> None:
    """Let all held jobs end; none may have been charged with anything, or have run twice."""
    gate.touch()
    for job in jobs:
        assert client.wait(job, timeout=20)["state"] == "completed"
        shown = client.status(job)
        assert (shown["failures"], shown["crashes"], shown["interruptions"]) == (0, 0, 0)


def test_a_step_of_load_is_followed_within_two_seconds_and_left_without_flapping(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with a_daemon(tmp_path, scaled()) as daemon, daemon.client() as client:
        before = status_of(client)
        assert (before["workers"], before["workers_min"], before["workers_max"]) == (1, 1, 8)
        assert before["scale_source"].startswith("cpu: ")
        begun = time.monotonic()
        jobs = held(client, 40, gate)
        wait_for_workers(client, 8)
        took_s = time.monotonic() - begun
        assert took_s < REACHED_S
        assert status_of(client)["workers_target"] == 8
        finish(client, jobs, gate)
        wait_for_workers(client, 1)
        assert (decisions(daemon)[-1][1], turns(daemon)) == (1, 1)
        assert "no more than 1 were needed for 1 s" in daemon.log
        assert len(workers(daemon)) == 1
        until(lambda: len(list((daemon.run_dir / "slots").iterdir())) == 3, what="one slot in use and two spare ones")


def test_idle_workers_leave_and_a_busy_one_goes_on(tmp_path: Path) -> None:
    gate, last = tmp_path / "gate", tmp_path / "last"
    with a_daemon(tmp_path, scaled()) as daemon, daemon.client() as client:
        jobs = held(client, 12, gate)
        wait_for_workers(client, 8)
        until(lambda: status_of(client)["running"] == 8)
        (long,) = client.enqueue_many("q", [{"wait_for": str(last)}])
        finish(client, jobs, gate)
        pid = until(lambda: (client.status(long)["worker"] or {}).get("pid"))
        until(lambda: len(workers(daemon)) <= 2)
        assert alive(pid)
        assert client.status(long)["state"] == "running"
        finish(client, [long], last)


def test_short_jobs_that_few_workers_can_do_in_time_start_no_others(tmp_path: Path) -> None:
    with a_daemon(tmp_path, scaled()) as daemon, daemon.client() as client:
        jobs = client.enqueue_many("q", [{}] * 300)
        client.wait(jobs[-1], timeout=20)
        until(lambda: status_of(client)["completed"] == 300)
        assert decisions(daemon) == []


def test_a_host_without_memory_to_spare_holds_the_pool_and_status_says_why(tmp_path: Path) -> None:
    with a_daemon(tmp_path, scaled(scale='memory_min = "1024GiB"')) as daemon, daemon.client() as client:
        jobs = held(client, 8, tmp_path / "gate")
        reason = until(lambda: "memory" in (status_of(client)["scale_reason"] or "") and status_of(client))
        assert re.fullmatch(
            r"held at 1 although 8 jobs wait, .* each: \d+ MiB of memory are left, one more worker takes about \d+, "
            r"and 1048576 must stay free",
            reason["scale_reason"].replace("7 jobs wait", "8 jobs wait"),
        )
        assert (reason["workers"], reason["workers_target"]) == (1, 1)
        assert "q: 1 of 1 to 8 workers: held at 1 although" in jobsctl_on_terminal("status", config=daemon.config).out
        finish(client, jobs, tmp_path / "gate")
        assert decisions(daemon) == []


HIDING = (
    "unshare",
    "-m",
    "--propagation",
    "private",
    "sh",
    "-c",
    'mount -t proc -o subset=pid proc /proc && exec "$@"',
)


def test_a_pool_scales_where_proc_shows_processes_alone(tmp_path: Path) -> None:
    """As systemd's ProcSubset=pid has it: no /proc/stat, no /proc/meminfo."""
    if not shutil.which("unshare") or subprocess.run([*HIDING, "sh", "true"], check=False).returncode:
        pytest.skip("no /proc can be mounted here")
    gate = tmp_path / "gate"
    with a_daemon(tmp_path, scaled(), prefix=(*HIDING, "sh")) as daemon, Client(socket=str(daemon.socket)) as client:
        jobs = held(client, 20, gate)
        wait_for_workers(client, 8)
        source = status_of(client)["scale_source"]
        assert "psutil" not in source
        assert re.fullmatch("cpu: (cgroup|unknown)(, cpu.max of .*)?; memory: (nodes|sysconf)(, memory.*)?", source)
        finish(client, jobs, gate)


def test_a_full_host_holds_a_pool_whose_jobs_compute(tmp_path: Path) -> None:
    toml = scaled(scale="cpu_max = 0.01", handler="computing:run")
    with a_daemon(tmp_path, toml, app={"computing.py": COMPUTING}) as daemon, daemon.client() as client:
        client.enqueue_many("q", [30] * 4)
        reason = until(lambda: "CPUs" in (status_of(client)["scale_reason"] or "") and status_of(client))
        assert "more workers would only share them" in reason["scale_reason"]
        assert (reason["workers"], reason["workers_target"]) == (1, 1)


def test_a_kernel_that_refuses_more_processes_holds_the_pool_and_opens_no_circuit(tmp_path: Path) -> None:
    full, gate = tmp_path / "full", tmp_path / "gate"
    full.touch()
    toml = scaled(handler="stingy:run") + f'env = {{ FULL = "{full}" }}\nrestart.intensity = 0\n'
    made = a_daemon(tmp_path, toml, app={"stingy.py": STINGY}, env={"FULL": str(full)})
    with made as daemon, daemon.client() as client:
        jobs = held(client, 20, gate)
        until(lambda: "can be forked" in (status_of(client)["scale_reason"] or ""))
        shown = status_of(client)
        assert (shown["workers"], shown["workers_target"], shown["circuit"]) == (1, 1, "closed")
        assert "pool q scaled from 5 to 1: no worker can be forked: Resource temporarily unavailable" in daemon.log
        full.unlink()
        wait_for_workers(client, 8, timeout=20)
        finish(client, jobs, gate)


def test_another_number_of_workers_restarts_nothing(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with a_daemon(tmp_path, scaled("2", "")) as daemon, daemon.client() as client:
        jobs = held(client, 2, gate)
        until(lambda: status_of(client)["running"] == 2)
        first = set(workers(daemon).values())
        for text, least, most in (("{ min = 4, max = 6 }", 4, 6), ("3", 3, 3), ("{ min = 1, max = 4 }", 3, 4)):
            daemon.configure(daemon.config.read_text().partition("[queues.q]")[0] + scaled(text, ""))
            assert daemon.ctl("reload", "--json").json["retuned"] == ["q"]
            until(lambda least=least: len(workers(daemon, state=None)) >= least)
            until(lambda most=most: len(workers(daemon)) <= most)
            shown = queue_status(daemon)
            assert (shown["workers_min"], shown["workers_max"]) == (least if least == most else int(text[8]), most)
            assert first <= set(workers(daemon).values())
        finish(client, jobs, gate)
        assert len({job["result"]["ppid"] for job in map(client.status, jobs)}) == 1


def test_fewer_workers_than_are_busy_let_them_finish(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with a_daemon(tmp_path, scaled("4", "")) as daemon, daemon.client() as client:
        jobs = held(client, 4, gate)
        until(lambda: status_of(client)["running"] == 4)
        pids = set(workers(daemon).values())
        daemon.configure(daemon.config.read_text().replace("workers = 4", "workers = 1"))
        daemon.ctl("reload")
        until(lambda: status_of(client)["workers"] == 1)
        assert all(map(alive, pids))
        daemon.configure(daemon.config.read_text().replace("workers = 1", "workers = 3"))
        daemon.ctl("reload")
        until(lambda: "scaled from 1 to 3" in daemon.log)
        assert len(workers(daemon)) <= 4, "those that finish their last job count for the bounds"
        finish(client, jobs, gate)
        wait_for_workers(client, 3)


def killed(daemon: Daemon, path: str) -> int:
    pid: int = node(daemon, path)["pid"]
    os.kill(pid, signal.SIGKILL)
    gone(pid)
    return pid


@pytest.mark.parametrize("path", ["pool q", "keeper"])
@pytest.mark.parametrize("when", ["growing", "grown", "shrinking"])
def test_a_kill_of_who_decides_is_survived(tmp_path: Path, path: str, when: str) -> None:
    """Its successor goes on from what is there: no job is lost or runs twice to its end, and the bounds hold."""
    gate = tmp_path / "gate"
    with a_daemon(tmp_path, scaled()) as daemon, Client(socket=str(daemon.socket)) as client:
        kill: Callable[[], int] = lambda: killed(daemon, path)  # noqa: E731
        jobs = held(client, 30, gate)
        if when == "growing":
            until(lambda: decisions(daemon))
            kill()
        wait_for_workers(client, 8)
        if when == "grown":
            kill()
            until(lambda: status_of(client)["workers_target"] == 8)
            wait_for_workers(client, 8)
        gate.touch()
        for job in jobs:
            assert client.wait(job, timeout=20)["state"] == "completed"
            shown = client.status(job)
            assert (shown["failures"], shown["crashes"]) == (0, 0)
        if when == "shrinking":
            kill()
        wait_for_workers(client, 1)
        until(lambda: len(workers(daemon)) == 1)
        assert all(1 <= after <= 8 for _, after in decisions(daemon))
        assert turns(daemon) <= 1
        assert client.status(client.enqueue("q", {}))["queue"] == "q"


def test_a_number_by_hand_holds_whatever_the_load_is_and_whoever_is_killed(tmp_path: Path) -> None:
    with a_daemon(tmp_path, scaled()) as daemon, Client(socket=str(daemon.socket)) as client:
        assert daemon.ctl("scale", "q", 5, "--json").json == {"queue": "q", "workers": 5}
        wait_for_workers(client, 5)
        assert status_of(client)["scale_reason"] == "set by hand; jobsctl scale QUEUE auto ends that"
        for path in ("pool q", "keeper", "pool q"):
            killed(daemon, path)
            until(lambda: status_of(client)["workers_target"] == 5)
            wait_for_workers(client, 5)
        jobs = held(client, 20, tmp_path / "gate")
        until(lambda: status_of(client)["running"] == 5)
        assert daemon.ctl("scale", "q", "auto").status == 0
        wait_for_workers(client, 8)
        finish(client, jobs, tmp_path / "gate")
        wait_for_workers(client, 1)


def test_a_reload_of_the_bounds_counts_more_than_a_number_by_hand(tmp_path: Path) -> None:
    with a_daemon(tmp_path, scaled()) as daemon, daemon.client() as client:
        assert daemon.ctl("scale", "q", 3).status == 0
        wait_for_workers(client, 3)
        daemon.configure(daemon.config.read_text().replace("min = 1, max = 8", "min = 2, max = 4"))
        daemon.ctl("reload")
        wait_for_workers(client, 2)


@pytest.mark.parametrize(
    ("args", "status", "text"),
    [
        (("q", "9"), 2, "queue q may have 1 to 8 workers, not 9"),
        (("q", "0"), 2, "workers must be an integer from 1 to 256, or null"),
        (("q", "257"), 2, "workers must be an integer from 1 to 256, or null"),
        (("q", "many"), 2, "'many' is no number of workers; write one, or auto"),
        (("q", "-1"), 2, "No such option"),
        (("q", "1.5"), 2, "is no number of workers"),
        (("fixed", "auto"), 1, "queue fixed has 2 workers, whatever the load is"),
        (("nope", "2"), 3, "there is no queue nope"),
    ],
)
def test_a_number_that_cannot_be_is_refused(shared: Daemon, args: tuple[str, ...], status: int, text: str) -> None:
    ran = shared.ctl("scale", *args)
    assert (ran.status, text in ran.err) == (status, True), ran.err


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    toml = scaled() + '[queues.fixed]\nhandler = "tasks:run"\n'
    with a_daemon(tmp_path_factory.mktemp("shared"), toml) as daemon:
        yield daemon


def test_an_unpreloaded_pool_keeps_two_that_stand_by(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with a_daemon(tmp_path, scaled("{ min = 1, max = 3 }") + "preload = false\n") as daemon, daemon.client() as client:
        until(lambda: len(workers(daemon)) == 3)
        jobs = held(client, 9, gate)
        wait_for_workers(client, 3, timeout=20)
        until(lambda: len(workers(daemon)) == 5)
        finish(client, jobs, gate)
        wait_for_workers(client, 1)
        until(lambda: len(workers(daemon)) == 3)
        assert client.status(client.wait(client.enqueue("q", {}), timeout=20)["id"])["state"] == "completed"
