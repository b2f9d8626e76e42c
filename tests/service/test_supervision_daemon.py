"""The daemon's processes with real signals: stop, kill of each role, reload, logs, readiness, the watchdog."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from tests.support.daemon import Daemon
from tests.support.pools import QUEUE, a_daemon, node, queue_status, running, workers
from tests.support.waiting import alive, until

TWO = """
[queues.a]
handler = "tasks:run"
workers = 2
[queues.b]
handler = "tasks:run"
workers = 1
"""


def elapsed(act: Callable[[], object]) -> float:
    """How many seconds it takes."""
    began = time.monotonic()
    act()
    return time.monotonic() - began


# --- stopping -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_running_jobs_finish_and_hands_back_the_rest(tmp_path: Path, number: signal.Signals) -> None:
    with a_daemon(tmp_path) as daemon:
        go = tmp_path / "go"
        jobs = [daemon.enqueue("q", {"wait_for": str(go)}) for _ in range(2)]
        for job in jobs:
            running(daemon, job)
        waiting = daemon.enqueue("q", {})
        daemon.signal(number)
        until(lambda: "stopping" in daemon.log)
        daemon.signal(number)
        go.touch()
        assert daemon.wait_end() == 0
        assert daemon.survivors() == []
        assert [daemon.job(job)["state"] for job in jobs] == ["completed", "completed"]
        left = daemon.job(waiting)
        assert (left["state"], left["attempt"], left["interruptions"]) == ("queued", 0, 0)
        assert not daemon.socket.exists()


def test_what_does_not_finish_within_the_grace_is_interrupted_for_free(tmp_path: Path) -> None:
    with a_daemon(tmp_path, QUEUE, args=("--set", "daemon.shutdown_grace=300ms")) as daemon:
        job = daemon.enqueue("q", {"stubborn": 1})
        running(daemon, job)
        daemon.signal(signal.SIGTERM)
        assert elapsed(daemon.wait_end) < 0.3 + 2
        assert daemon.status == 0
        assert daemon.survivors() == []
        left = daemon.job(job)
        assert (left["state"], left["attempt"], left["interruptions"]) == ("queued", 0, 1)
        assert (left["failures"], left["crashes"]) == (0, 0)


def test_sigquit_waits_for_no_job_even_after_sigterm(tmp_path: Path) -> None:
    with a_daemon(tmp_path, QUEUE, args=("--set", "daemon.shutdown_grace=60s")) as daemon:
        job = daemon.enqueue("q", {"stubborn": 1})
        running(daemon, job)
        daemon.signal(signal.SIGTERM)
        until(lambda: "stopping" in daemon.log)
        daemon.signal(signal.SIGQUIT)
        assert elapsed(daemon.wait_end) < 2
        assert daemon.status == 0
        assert daemon.job(job)["interruptions"] == 1


def test_a_stop_while_an_import_hangs_does_not_wait_for_it(tmp_path: Path) -> None:
    began = tmp_path / "began"
    hanging = f"import threading\nopen({str(began)!r}, 'w').close()\nthreading.Event().wait()\ndef run(job): pass\n"
    app = {"slow.py": hanging}
    daemon = a_daemon(tmp_path, '[queues.slow]\nhandler = "slow:run"\n', app=app)
    try:
        daemon.start(ready=False)
        until(began.exists)
        assert elapsed(daemon.stop) < 2
        assert daemon.status == 0
        assert daemon.survivors() == []
    finally:
        daemon.sweep()


def test_accepted_jobs_are_written_after_the_pools_are_gone(tmp_path: Path) -> None:
    with a_daemon(tmp_path) as daemon:
        go = tmp_path / "go"
        running(daemon, daemon.enqueue("q", {"wait_for": str(go)}))
        daemon.signal(signal.SIGTERM)
        until(lambda: "stopping" in daemon.log)
        late = daemon.enqueue("q", {})
        go.touch()
        assert daemon.wait_end() == 0
        assert daemon.job(late)["state"] == "queued"


# --- deaths of roles ----------------------------------------------------------------------------------------


def test_a_killed_keeper_is_replaced_under_running_pools(tmp_path: Path) -> None:
    with a_daemon(tmp_path) as daemon:
        go = tmp_path / "go"
        job = daemon.enqueue("q", {"wait_for": str(go)})
        running(daemon, job)
        pids = workers(daemon)
        os.kill(node(daemon, "keeper")["pid"], signal.SIGKILL)
        second = daemon.enqueue("q", {})
        go.touch()
        done = daemon.wait_state(job, "completed")
        assert (done["crashes"], done["interruptions"], done["attempt"]) == (0, 0, 1)
        daemon.wait_state(second, "completed")
        assert workers(daemon) == pids
        assert node(daemon, "keeper")["restarts"] == 1


def test_a_keeper_that_dies_again_and_again_ends_the_daemon_after_its_pools(tmp_path: Path) -> None:
    with a_daemon(tmp_path) as daemon:
        killed: set[int | None] = set()
        for _ in range(6):
            keeper = until(lambda: {keeper_of(daemon)} - killed - {None}).pop()
            assert keeper is not None
            os.kill(keeper, signal.SIGKILL)
            killed.add(keeper)
        assert daemon.wait_end() == 1
        assert "giving up" in daemon.log
        assert daemon.survivors() == []


def keeper_of(daemon: Daemon) -> int | None:
    """The keeper's pid, from /proc: it may not be answering yet."""
    try:
        children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
        named = (int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text() == "jobsupd:keeper\n")
        return next(named, None)
    except OSError:  # one of them, or the daemon, has just ended
        return None


def test_a_stopped_keeper_is_killed_and_replaced(tmp_path: Path) -> None:
    with a_daemon(tmp_path) as daemon:
        keeper = node(daemon, "keeper")["pid"]
        os.kill(keeper, signal.SIGSTOP)
        until(lambda: not alive(keeper), timeout=45)
        assert daemon.wait_state(daemon.enqueue("q", {}), "completed")


def test_a_killed_foreman_takes_its_workers_along_and_is_replaced_alone(tmp_path: Path) -> None:
    with a_daemon(tmp_path, TWO) as daemon:
        job = daemon.enqueue("a", {"child": str(tmp_path / "child"), "wait_for": str(tmp_path / "go")})
        running(daemon, job)
        gone, others = workers(daemon, "a"), workers(daemon, "b")
        child = int(until((tmp_path / "child").read_text))
        os.kill(node(daemon, "pool a")["pid"], signal.SIGKILL)
        until(lambda: not any(alive(pid) for pid in gone.values()))
        (tmp_path / "go").touch()
        done = daemon.wait_state(job, "completed")
        assert (done["crashes"], done["failures"], done["interruptions"]) == (0, 0, 1)
        until(lambda: not alive(child))
        assert workers(daemon, "b") == others
        assert not set(workers(daemon, "a")) & set(gone)


def test_a_killed_master_leaves_nothing_behind_within_two_seconds(tmp_path: Path) -> None:
    with a_daemon(tmp_path, TWO) as daemon:
        job = daemon.enqueue("a", {"stubborn": 1})
        running(daemon, job)
        daemon.kill()
        until(lambda: not daemon.survivors(), timeout=2, what="the end of everything")
        left = daemon.job(job)
        assert (left["state"], left["interruptions"], left["crashes"]) == ("queued", 1, 0)
        daemon.start()
        running(daemon, job)


def test_everything_killed_at_once_is_recovered_by_the_next_start(tmp_path: Path) -> None:
    with a_daemon(tmp_path) as daemon:
        done = daemon.enqueue("q", {})
        daemon.wait_state(done, "completed")
        job = daemon.enqueue("q", {"wait_for": str(tmp_path / "go")})
        running(daemon, job)
        daemon.sweep()
        (tmp_path / "go").touch()
        daemon.start()
        again = daemon.wait_state(job, "completed")
        assert (again["crashes"], again["interruptions"]) == (0, 1)
        assert daemon.job(done)["state"] == "completed"
        until(lambda: len(list((daemon.run_dir / "slots").iterdir())) == 4, what="the old slots deleted")


def test_slots_do_not_pile_up(tmp_path: Path) -> None:
    with a_daemon(tmp_path, '[queues.q]\nhandler = "tasks:run"\nworkers = 1\n') as daemon:
        daemon.wait_state(daemon.enqueue("q", {}), "completed")
        before = len(os.listdir(f"/proc/{daemon.pid}/fd"))
        for _ in range(5):
            daemon.wait_state(daemon.enqueue("q", {}), "completed")
            (slot, pid), *_ = until(lambda: workers(daemon, state="ready")).items()
            os.kill(pid, signal.SIGKILL)
            until(lambda slot=slot: slot not in workers(daemon))
        until(lambda: len(list((daemon.run_dir / "slots").iterdir())) == 3)
        until(lambda: len(os.listdir(f"/proc/{daemon.pid}/fd")) == before)


# --- reload, logs, state ------------------------------------------------------------------------------------


def test_a_reload_touches_only_what_changed(tmp_path: Path) -> None:
    with a_daemon(tmp_path, TWO) as daemon:
        a, b = workers(daemon, "a"), workers(daemon, "b")
        keeper = node(daemon, "keeper")["pid"]
        text = daemon.config.read_text().replace('shutdown_grace = "5s"', 'shutdown_grace = "6s"')
        daemon.configure(
            text.replace("workers = 1", 'workers = 3\ntimeout = "4m"') + '[queues.c]\nhandler = "tasks:run"\n'
        )
        daemon.signal(signal.SIGHUP)
        until(lambda: len(workers(daemon, "b", "ready")) == 3 and workers(daemon, "c", "ready"))
        assert workers(daemon, "a") == a
        assert not set(workers(daemon, "b")) & set(b)
        assert node(daemon, "keeper")["pid"] == keeper
        daemon.configure(daemon.config.read_text().partition("[queues.c]")[0])
        daemon.signal(signal.SIGHUP)
        until(lambda: not workers(daemon, "c"))
        assert workers(daemon, "a") == a


@pytest.mark.parametrize("bad", ["nonsense = [", "a" + ".a" * 20_000 + " = 1\n"], ids=["syntax", "a bomb"])
def test_a_bad_file_changes_nothing_and_the_loop_turns_on(tmp_path: Path, bad: str) -> None:
    with a_daemon(tmp_path) as daemon:
        before, good = workers(daemon), daemon.config.read_text()
        daemon.configure(bad)
        daemon.signal(signal.SIGHUP)
        until(lambda: "reload refused" in daemon.log)
        daemon.configure(good)
        assert daemon.ctl("status", "--json").json["daemon"]["reload_error"]
        assert workers(daemon) == before
        daemon.signal(signal.SIGHUP)
        until(lambda: daemon.ctl("status", "--json").json["daemon"]["reload_error"] is None)


def test_a_reload_tries_an_open_circuit_again(tmp_path: Path) -> None:
    toml = '[queues.bad]\nhandler = "bad:run"\n'
    with a_daemon(tmp_path, toml, app={"bad.py": "raise RuntimeError('not today')"}) as daemon:
        assert queue_status(daemon, "bad")["circuit"] == "open"
        (daemon.app / "bad.py").write_text("def run(job): return 'mended'")
        daemon.ctl("reload")
        assert daemon.wait_state(daemon.enqueue("bad"), "completed")["result"] == "mended"


def test_sigusr1_reopens_the_log_of_every_process(tmp_path: Path) -> None:
    log = tmp_path / "jobsupd.own.log"
    with a_daemon(tmp_path, f'[log]\ntarget = "{log}"\n' + QUEUE) as daemon:
        log.rename(tmp_path / "rotated")
        daemon.signal(signal.SIGUSR1)
        until(lambda: log.exists() and log.read_text().count("log reopened") == 3)
        who = {line.partition(" ")[2].partition("[")[0] for line in log.read_text().splitlines()}
        assert who == {"master", "keeper", "pool q"}


def test_sigusr2_writes_the_state_to_the_log(tmp_path: Path) -> None:
    with a_daemon(tmp_path) as daemon:
        daemon.signal(signal.SIGUSR2)
        line = until(lambda: next((line for line in daemon.log.splitlines() if "state: " in line), None))
        nodes = json.loads(line.partition("state: ")[2])
        assert [one["role"] for one in nodes] == ["master", "keeper", "foreman"]


def test_a_storm_of_signals_loses_no_child_and_no_job(tmp_path: Path) -> None:
    with a_daemon(tmp_path) as daemon:
        jobs = [daemon.enqueue("q", {"kill": signal.SIGKILL}) for _ in range(3)]
        for _ in range(500):
            for number in (signal.SIGCHLD, signal.SIGWINCH, signal.SIGUSR1, signal.SIGCHLD):
                daemon.signal(number)
        for job in jobs:
            assert daemon.wait_state(job, "dead")["crashes"] == 3
        until(lambda: len(workers(daemon, state="ready")) == 2)
        assert daemon.stop() == 0


# --- readiness and the watchdog -----------------------------------------------------------------------------


def test_ready_is_said_when_the_pools_are_up_and_not_before(tmp_path: Path) -> None:
    held = tmp_path / "held"
    app = {"slow.py": f"import fcntl\nfcntl.flock(open({str(held)!r}), fcntl.LOCK_SH)\ndef run(job): pass\n"}
    with Heard() as heard, held.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        daemon = a_daemon(tmp_path, '[queues.q]\nhandler = "slow:run"\n', app=app)
        try:
            daemon.start(ready=False, env=heard.env)
            heard.until("EXTEND_TIMEOUT_USEC=")
            assert "READY=1" not in heard.lines
            fcntl.flock(lock, fcntl.LOCK_UN)
            heard.until("READY=1")
            assert len(workers(daemon, state="ready")) == 2
            assert daemon.stop() == 0
            heard.until("STOPPING=1")
        finally:
            daemon.sweep()


def test_the_watchdog_hears_us_only_while_the_keeper_turns(tmp_path: Path) -> None:
    with Heard() as heard:
        daemon = a_daemon(tmp_path)
        try:
            daemon.start(ready=False, env=heard.env | {"WATCHDOG_USEC": "200000"})
            heard.until("WATCHDOG=1")
            os.kill(daemon.pid, signal.SIGSTOP)
            heard.drain()
            assert not heard.within(0.5, "WATCHDOG=1")
            os.kill(daemon.pid, signal.SIGCONT)
            heard.until("WATCHDOG=1")
        finally:
            daemon.sweep()


class Heard:
    """What a process says to systemd."""

    def __enter__(self) -> Self:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        name = f"jobsup-heard-{os.getpid()}-{id(self)}"
        self.sock.bind(f"\0{name}")
        self.env = {"NOTIFY_SOCKET": f"@{name}"}
        self.lines: list[str] = []
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def within(self, seconds: float, start: str) -> bool:
        """Whether a line that starts so is heard in that time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self.sock], [], [], left)[0]:
                new = self.sock.recv(65536).decode().splitlines()
                self.lines += new
                if any(line.startswith(start) for line in new):
                    return True
        return False

    def until(self, start: str) -> None:
        assert self.within(15, start), f"{start} was not said; said: {self.lines}"

    def drain(self) -> None:
        """Forget what was said until now."""
        while select.select([self.sock], [], [], 0)[0]:
            self.sock.recv(65536)
