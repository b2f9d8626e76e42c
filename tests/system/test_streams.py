"""Standard streams and log files as they should not be: closed, full, gone, or something else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.client import Client
from tests.support.daemon import Site, environment
from tests.support.waiting import alive, gone, until

TOML = '[daemon]\npython_path = ["../app"]\nshutdown_grace = "2s"\n[queues.q]\nhandler = "tasks:run"\nworkers = 1\n'
APP = {"tasks.py": "def run(job):\n    print('x' * 3_000, flush=True)\n    return job.id\n"}
JOBSUPD = [sys.executable, "-m", "supervisor.cli.jobsupd"]
JOBSCTL = [sys.executable, "-m", "supervisor.cli.jobsctl"]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, TOML, APP)


def serving(site: Site, process: subprocess.Popen[bytes]) -> Client[int]:
    """A client of the daemon, once it serves."""
    until((site.path / "run" / "jobsup.sock").exists, 20, "the socket")
    assert process.poll() is None
    return Client(socket=str(site.path / "run" / "jobsup.sock"), timeout="20s")


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Daemons to be ended, whatever comes."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_log_that_nobody_reads_holds_up_neither_jobs_nor_the_stop(
    site: Site, started: list[subprocess.Popen[bytes]]
) -> None:
    """A pipe takes 64 KiB. Whoever does not read it loses lines, and nothing else."""
    read, write = os.pipe()
    process = subprocess.Popen(
        [*JOBSUPD, "-c", str(site.config)], stderr=write, env=environment(), start_new_session=True
    )
    started.append(process)
    os.close(write)
    with serving(site, process) as client:
        ids = client.enqueue_many("q", [None] * 200)
        assert client.wait(ids[-1], timeout=30)["result"] == ids[-1]
        tree = [node["pid"] for node in client.request("tree")["tree"]]
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    gone(*tree)
    os.close(read)


def test_closed_standard_streams_are_nobodys_files(site: Site, started: list[subprocess.Popen[bytes]]) -> None:
    line = f"exec {sys.executable} -m supervisor.cli.jobsupd -c {site.config} <&- >&- 2>&-"
    process = subprocess.Popen(["sh", "-c", line], env=environment(), start_new_session=True)
    started.append(process)
    with serving(site, process) as client:
        job = client.enqueue("q")
        assert client.wait(job, timeout=20)["result"] == job
        assert [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_jobsctl_does_its_work_with_closed_streams(site: Site, closed: str) -> None:
    subprocess.run([*JOBSUPD, "--one-shot", "--init", "-c", site.config], check=True, env=environment())
    command = f"{' '.join(JOBSCTL)} -c {site.config}"
    for verb in ("enqueue q", "status", "list", "pause q"):
        ran = subprocess.run(["sh", "-c", f"{command} {verb} {closed}"], env=environment(), check=False)
        assert ran.returncode == 0, verb
    with Client(site.config) as client:
        assert client.status()["queues"]["q"]["queued"] == 1


def test_a_job_that_prints_for_ever_does_not_fill_the_disk(site: Site, started: list[subprocess.Popen[bytes]]) -> None:
    (site.app / "tasks.py").write_text("def run(job):\n    for n in range(100_000): print('line', n, 'x' * 80)\n")
    log = site.path / "log"
    site.configure(f'{TOML}[log]\ntarget = "{log}"\n')
    process = subprocess.Popen([*JOBSUPD, "-c", str(site.config)], env=environment(), start_new_session=True)
    started.append(process)
    with serving(site, process) as client:
        assert client.wait(client.enqueue("q"), timeout=60)["state"] == "completed"
        until(lambda: "the rest of this second is left out" in log.read_text(), 20, "what was left out")
    assert log.stat().st_size < 8 * 1024 * 1024
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0


def test_text_that_the_locale_cannot_write_is_escaped(site: Site) -> None:
    subprocess.run([*JOBSUPD, "--one-shot", "--init", "-c", site.config], check=True, env=environment())
    with Client(site.config) as client:
        job = client.enqueue("q", {"text": "\N{SNOWMAN}"})
    env = environment({"PYTHONIOENCODING": "ascii"})
    ran = subprocess.run([*JOBSCTL, "-c", site.config, "status", str(job)], env=env, capture_output=True, check=False)
    assert ran.returncode == 0
    assert b"\\u2603" in ran.stdout


@pytest.mark.parametrize("kind", ["directory", "fifo", "missing folder"])
def test_a_log_that_cannot_be_a_log_is_refused_at_once(site: Site, kind: str) -> None:
    target = site.path / "log"
    if kind == "directory":
        target.mkdir()
    elif kind == "fifo":
        os.mkfifo(target)
    else:
        target = target / "in" / "it"
    site.configure(f'{TOML}[log]\ntarget = "{target}"\n')
    ran = subprocess.run(
        [*JOBSUPD, "-c", site.config], env=environment(), capture_output=True, text=True, timeout=20, check=False
    )
    assert ran.returncode == 2
    assert f"log.target {target}" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_log_that_cannot_be_reopened_goes_on_where_it_was(site: Site, started: list[subprocess.Popen[bytes]]) -> None:
    folder = site.path / "logs"
    folder.mkdir()
    site.configure(f'{TOML}[log]\ntarget = "{folder / "log"}"\n')
    process = subprocess.Popen([*JOBSUPD, "-c", site.config], env=environment(), start_new_session=True)
    started.append(process)
    with serving(site, process) as client, (folder / "log").open() as log:
        client.wait(client.enqueue("q"), timeout=20)
        shutil.rmtree(folder)
        process.send_signal(signal.SIGUSR1)
        said: list[str] = []
        until(lambda: said.extend(log) or "could not be reopened" in "".join(said), 10, "what the log says of itself")
        assert client.wait(client.enqueue("q"), timeout=20)["state"] == "completed"
        assert alive(process.pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
