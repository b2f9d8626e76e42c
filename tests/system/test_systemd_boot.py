"""The shipped units under a really booted systemd: readiness, reload, kills, watchdog, stop and restart under load."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import until
from tests.system.boot.machine import REPOSITORY, Machine, why_not

REASON = why_not() if os.environ.get("CI") != "true" else None
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"SYSTEMD WAS NOT BOOTED, NOTHING HERE WAS TESTED: {REASON}")

SERVICE = "jobsup.service"
DATABASE = "/var/lib/jobsup/jobs.db"
DROP_IN = "/run/systemd/system/jobsup.service.d/test.conf"

CONFIGURATION = """\
[daemon]
python_path = ["/opt/app"]
[intake]
flush_max_jobs = 10000
flush_interval = "1m"
[queues.gated]
handler = "gated:hold"
workers = 2
[queues.calm]
handler = "calm:work"
workers = 1
"""

HANDLERS = {
    "/opt/app/gated.py": """\
import os

def wait_at(gate):
    try:
        with open(gate) as opened:
            opened.read()
    except FileNotFoundError:
        pass

wait_at("/run/scene/import")

def hold(job):
    wait_at("/run/scene/job")
    return os.getpid()
""",
    "/opt/app/calm.py": "import os\n\ndef work(job):\n    return os.getpid()\n",
}


@contextmanager
def booted(files: dict[str, str], *drop_ins: str) -> Iterator[Machine]:
    """A machine with jobsup installed and not yet started. Its folder is not below /tmp, which the machine covers."""
    folder = Path(tempfile.mkdtemp(prefix="jobsup-machine-", dir="/var/cache"))
    try:
        with Machine(folder, files, drop_ins) as machine:
            machine.run("systemd-sysusers")
            machine.run("chgrp", "-R", "jobsup", "/etc/jobsup")
            machine.run("mkdir", "-p", "/run/scene", "/etc/jobsup/queues.d")
            yield machine
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with booted({"/etc/jobsup/queues.toml": CONFIGURATION, **HANDLERS}) as machine:
        yield machine


@pytest.fixture
def running(machine: Machine) -> Machine:
    """The machine with the daemon ready, whatever the test before left."""
    machine.run("systemctl", "reset-failed", check=False)
    machine.run("systemctl", "start", "jobsup.socket", SERVICE)
    return machine


class Gate:
    """A FIFO at which a process of the machine waits until it is opened."""

    def __init__(self, machine: Machine, name: str) -> None:
        self._machine, self._path = machine, f"/run/scene/{name}"
        machine.run("mkfifo", "--mode=666", self._path)

    def hold(self) -> int:
        """Wait until somebody has reached the gate, and keep them there; closing the descriptor lets them through."""
        return until(self._opened, 30, f"somebody at {self._path}")

    def _opened(self) -> int | None:
        """Only a FIFO that somebody reads can be opened for writing without blocking."""
        try:
            return os.open(self._machine.path(self._path), os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return None

    def remove(self) -> None:
        self._machine.run("rm", "-f", self._path)


@contextmanager
def gate(machine: Machine, name: str) -> Iterator[Gate]:
    made = Gate(machine, name)
    try:
        yield made
    finally:
        made.remove()


def jobsctl(machine: Machine, *arguments: str, stdin: str = "") -> Any:
    return json.loads(machine.run("jobsctl", *arguments, "--json", stdin=stdin))


def enqueue(machine: Machine, queue: str) -> int:
    return int(jobsctl(machine, "enqueue", queue)["id"])


def state(machine: Machine, job: int) -> str:
    return str(jobsctl(machine, "status", str(job))["state"])


def completes(machine: Machine, job: int) -> dict[str, Any]:
    machine.run("jobsctl", "wait", str(job), "--timeout", "30s")
    status: dict[str, Any] = jobsctl(machine, "status", str(job))
    assert status["state"] == "completed", machine.journal()
    return status


def query(machine: Machine, database: str, sql: str) -> str:
    """The one value that a query gives, asked of the file itself by a process of its own."""
    code = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1], uri=True).execute(sys.argv[2]).fetchone())"
    return machine.run("/opt/jobsup/bin/python3", "-c", code, f"file:{database}?mode=ro", sql).strip()


def main_pid(machine: Machine) -> int:
    return int(machine.show(SERVICE, "MainPID"))


def tree(machine: Machine) -> list[dict[str, Any]]:
    return [json.loads(line) for line in machine.run("jobsctl", "tree", "--json").splitlines()]


def pids(machine: Machine, role: str) -> list[int]:
    return sorted(entry["pid"] for entry in tree(machine) if entry["role"] == role)


def processes(machine: Machine) -> set[int]:
    return set(map(int, machine.path("/sys/fs/cgroup/system.slice/jobsup.service/cgroup.procs").read_text().split()))


def active_again(machine: Machine, old_pid: int) -> None:
    def new_and_active() -> bool:
        return machine.show(SERVICE, "ActiveState") == "active" and main_pid(machine) not in (0, old_pid)

    until(new_and_active, 60, "a new daemon that is ready")


def test_the_service_is_ready_only_when_its_pools_are(machine: Machine) -> None:
    with gate(machine, "import") as importing:
        machine.run("systemctl", "start", "--no-block", "jobsup.socket", SERVICE)
        held = importing.hold()
        assert machine.show(SERVICE, "ActiveState") == "activating"
        importing.remove()
        os.close(held)
        until(lambda: machine.show(SERVICE, "ActiveState") == "active", 30, "readiness")
    states = {entry["path"]: entry["state"] for entry in tree(machine)}
    assert set(states.values()) <= {"ready", "busy"}, states
    assert machine.show(SERVICE, "StatusText") != ""


def test_the_daemon_serves_the_socket_that_systemd_holds(running: Machine) -> None:
    assert jobsctl(running, "status")["daemon"]["pid"] == main_pid(running)
    assert running.run("stat", "-c", "%a %G", "/run/jobsup/jobsup.sock").split() == ["660", "jobsup"]
    assert running.run("stat", "-c", "%a %U", "/run/jobsup").split() == ["750", "jobsup"]


def test_the_live_database_is_in_wal_mode(running: Machine) -> None:
    header = running.path(DATABASE).read_bytes()[:20]
    assert header[18:20] == b"\2\2"
    assert running.run("stat", "-c", "%a %U", DATABASE).split() == ["600", "jobsup"]


def test_a_reload_adds_a_queue_and_leaves_the_others_alone(running: Machine) -> None:
    before = {entry["pid"] for entry in tree(running)}
    added = '[queues.added]\nhandler = "calm:work"\nworkers = 1\n'
    running.run("tee", "/etc/jobsup/queues.d/added.toml", stdin=added, check=True)
    running.run("systemctl", "reload", SERVICE)
    until(lambda: "added" in jobsctl(running, "status")["queues"], 30, "the added queue")
    completes(running, enqueue(running, "added"))
    assert before <= {entry["pid"] for entry in tree(running)}
    assert running.show(SERVICE, "NRestarts") == "0"


def test_a_pool_follows_its_load_where_the_sandbox_hides_what_the_host_has_left(running: Machine) -> None:
    """ProcSubset=pid: the control groups and the memory nodes tell."""
    added = '[queues.follows]\nhandler = "gated:hold"\nworkers = { min = 1, max = 4 }\nscale = { down_after = "1s" }\n'
    running.run("tee", "/etc/jobsup/queues.d/follows.toml", stdin=added, check=True)
    running.run("systemctl", "reload", SERVICE)
    until(lambda: jobsctl(running, "status")["queues"].get("follows", {}).get("workers") == 1, 30, "its first worker")
    with gate(running, "job") as working:
        jobs = [enqueue(running, "follows") for _ in range(9)]
        held = working.hold()
        until(lambda: jobsctl(running, "status")["queues"]["follows"]["workers"] == 4, 30, "four workers")
        source = jobsctl(running, "status")["queues"]["follows"]["scale_source"]
        working.remove()
        os.close(held)
    for job in jobs:
        completes(running, job)
    assert re.fullmatch("cpu: (cgroup|unknown)(, cpu.max of .*)?; memory: (nodes|sysconf)(, memory.*)?", source), source
    until(lambda: jobsctl(running, "status")["queues"]["follows"]["workers"] == 1, 30, "one worker")
    running.run("rm", "/etc/jobsup/queues.d/follows.toml")
    running.run("systemctl", "reload", SERVICE)


def test_a_killed_master_is_started_again_and_its_job_runs_to_the_end(running: Machine) -> None:
    restarts = int(running.show(SERVICE, "NRestarts"))
    with gate(running, "job") as working:
        job = enqueue(running, "gated")
        held = working.hold()
        old, killed = processes(running), main_pid(running)
        running.kill(killed)
        active_again(running, killed)
        assert not old & processes(running)
        assert int(running.show(SERVICE, "NRestarts")) == restarts + 1
        working.remove()
        os.close(held)
        status = completes(running, job)
    assert (status["crashes"], status["failures"], status["interruptions"]) == (0, 0, 1)


def test_a_killed_keeper_is_replaced_under_running_pools(running: Machine) -> None:
    master, workers, (keeper,) = main_pid(running), pids(running, "worker"), pids(running, "keeper")
    restarts = running.show(SERVICE, "NRestarts")
    with gate(running, "job") as working:
        job = enqueue(running, "gated")
        held = working.hold()
        running.kill(keeper)
        until(lambda: pids(running, "keeper") not in ([], [keeper]), 30, "a new keeper")
        working.remove()
        os.close(held)
        status = completes(running, job)
    assert status["result"] in workers
    assert (status["attempt"], status["crashes"], status["interruptions"]) == (1, 0, 0)
    assert (main_pid(running), pids(running, "worker")) == (master, workers)
    assert running.show(SERVICE, "NRestarts") == restarts


def test_a_stopped_main_loop_is_restarted_by_the_watchdog(running: Machine) -> None:
    with brought_down_to(running, "WatchdogSec=20" if os.environ.get("JOBSUP_CAMPAIGN") == "full" else "WatchdogSec=2"):
        stopped = main_pid(running)
        running.kill(stopped, "STOP")
        active_again(running, stopped)
        assert re.search(r"jobsup\.service: Watchdog timeout", running.journal())
        completes(running, enqueue(running, "calm"))


@contextmanager
def brought_down_to(machine: Machine, setting: str) -> Iterator[None]:
    """The service runs with a limit that a test can wait for."""
    with drop_in(machine, f"[Service]\n{setting}\n"):
        machine.run("systemctl", "restart", SERVICE)
        yield
    machine.run("systemctl", "restart", SERVICE)


@contextmanager
def drop_in(machine: Machine, text: str) -> Iterator[None]:
    machine.run("mkdir", "-p", str(Path(DROP_IN).parent))
    machine.run("tee", DROP_IN, stdin=text)
    machine.run("systemctl", "daemon-reload")
    try:
        yield
    finally:
        machine.run("rm", DROP_IN)
        machine.run("systemctl", "daemon-reload")


def test_a_healthy_daemon_is_not_touched_by_the_watchdog(running: Machine) -> None:
    interval_us = running.show(SERVICE, "WatchdogUSec")
    assert interval_us == "20s"
    first = running.show(SERVICE, "WatchdogTimestampMonotonic")
    until(lambda: running.show(SERVICE, "WatchdogTimestampMonotonic") != first, 20, "a sign of life")


def test_a_stop_writes_all_that_was_only_buffered(running: Machine, tmp_path: Path) -> None:
    def written() -> int:
        return int(query(running, DATABASE, "SELECT count(*) FROM job"))

    configuration = CONFIGURATION.replace("[intake]\n", '[intake]\nacknowledge = "buffered"\n')
    running.run("tee", "/etc/jobsup/queues.toml", stdin=configuration)
    running.run("systemctl", "restart", SERVICE)
    before = written()
    payloads = "".join(f'{{"n": {number}}}\n' for number in range(2000))
    answer = jobsctl(running, "enqueue", "calm", "--jsonl", "-", "--delay", "1h", stdin=payloads)
    assert answer["accepted"] == 2000
    assert written() == before, "the jobs were not only buffered: this round shows nothing"
    running.run("systemctl", "stop", "jobsup.socket", SERVICE)
    assert running.show(SERVICE, "Result") == "success"
    assert running.show(SERVICE, "ExecMainStatus") == "0"
    assert not running.path("/sys/fs/cgroup/system.slice/jobsup.service").exists()
    for name in (DATABASE, f"{DATABASE}-wal"):
        if running.path(name).exists():
            shutil.copy(running.path(name), tmp_path)
    ids = {row[0] for row in sqlite3.connect(tmp_path / "jobs.db").execute("SELECT id FROM job")}
    assert set(range(answer["first_id"], answer["last_id"] + 1)) <= ids
    assert answer["last_id"] - answer["first_id"] == 1999
    running.run("tee", "/etc/jobsup/queues.toml", stdin=CONFIGURATION)


def test_a_stop_gets_the_grace_it_needs_however_short_the_units_limit(running: Machine) -> None:
    with brought_down_to(running, "TimeoutStopSec=1"), gate(running, "job") as working:
        job = enqueue(running, "gated")
        held = working.hold()
        running.run("systemctl", "stop", "--no-block", SERVICE)
        until(lambda: running.show(SERVICE, "ActiveState") == "deactivating", 30, "the stop")
        over_s = time.monotonic() + 2.5
        until(lambda: time.monotonic() > over_s, 10, "the unit's limit to be long over")
        assert running.show(SERVICE, "ActiveState") == "deactivating"
        working.remove()
        os.close(held)
        until(lambda: running.show(SERVICE, "ActiveState") == "inactive", 30, "the end")
        assert running.show(SERVICE, "Result") == "success"
    assert completes(running, job)["attempt"] == 1


def test_an_enqueue_while_the_service_restarts_waits_and_succeeds(running: Machine) -> None:
    before_start = "[Service]\nExecStartPre=/bin/sh -c 'read line </run/scene/gap || true'\n"
    with drop_in(running, before_start), gate(running, "gap") as gap:
        running.run("systemctl", "restart", "--no-block", SERVICE)
        held = gap.hold()
        assert main_pid(running) == 0
        assert running.show(SERVICE, "SubState") == "start-pre"
        command = running.inside("jobsctl", "enqueue", "calm", "--json")
        client = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        until(lambda: waiting_callers(running) == 1, 30, "the caller in the backlog")
        assert client.poll() is None
        os.close(held)
        said, _ = client.communicate(timeout=60)
    assert client.returncode == 0
    completes(running, json.loads(said)["id"])


def test_no_enqueue_fails_while_the_service_restarts_under_load(running: Machine) -> None:
    script = """
import os, sys
from supervisor.client import Client
with Client("/etc/jobsup/queues.toml") as client:
    while not os.path.exists("/run/scene/enough"):
        print(client.enqueue("calm", {"n": 1}), flush=True)
"""
    callers = [
        subprocess.Popen(running.inside("/opt/jobsup/bin/python3", "-c", script), stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert all(caller.stdout and caller.stdout.readline() for caller in callers), "nobody enqueues: no load"
    running.run("systemctl", "restart", SERVICE)
    running.run("touch", "/run/scene/enough")
    said = [caller.communicate(timeout=60)[0] for caller in callers]
    running.run("rm", "/run/scene/enough")
    assert [caller.returncode for caller in callers] == [0, 0]
    acknowledged = {int(line) for text in said for line in text.split()}
    assert len(acknowledged) > 10
    until(lambda: unfinished(running, "calm") == 0, 30, "the end of the jobs")
    listed = running.run("jobsctl", "list", "--queue", "calm", "--limit", "0", "--state", "completed", "--json")
    assert acknowledged <= {json.loads(line)["id"] for line in listed.splitlines()}


def unfinished(machine: Machine, queue: str) -> int:
    counts = jobsctl(machine, "status")["queues"][queue]
    return int(counts["queued"] + counts["running"])


def waiting_callers(machine: Machine) -> int:
    """Connections that nobody has accepted yet: each shows the listener's path beside the listener itself."""
    return machine.run("cat", "/proc/net/unix").count("/run/jobsup/jobsup.sock") - 1


def test_a_configuration_error_is_not_retried_for_ever(running: Machine) -> None:
    running.run("systemctl", "stop", "jobsup.socket", SERVICE)
    running.run("tee", "/etc/jobsup/queues.d/broken.toml", stdin="[queues.broken]\nworkers = true\n")
    try:
        running.run("systemctl", "start", SERVICE, check=False)
        until(lambda: running.show(SERVICE, "ActiveState") == "failed", 30, "the end of all tries")
        assert running.show(SERVICE, "ExecMainStatus") == "2"
        assert running.show(SERVICE, "NRestarts") == "0"
        assert "broken.toml:2:" in running.journal()
    finally:
        running.run("rm", "/etc/jobsup/queues.d/broken.toml")


OTHER_USER = """\
[daemon]
python_path = ["/opt/app"]
[queues.other]
handler = "whoami:tell"
user = "games"
workers = 1
"""
WHOAMI = """\
import os

def tell(job):
    status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
    held = {name: status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    return {"uids": os.getresuid(), "groups": os.getgroups(), "held": held, "payload": job.payload}
"""
RECEIVER = """\
import http.server, sys

class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        print(self.headers["webhook-id"], self.headers["webhook-signature"], body.decode(), flush=True)
        self.send_response(204)
        self.end_headers()

http.server.HTTPServer(("127.0.0.1", 8080), Receiver).serve_forever()
"""


def install_drop_in(machine: Machine, name: str) -> None:
    text = (REPOSITORY / "systemd/jobsup.service.d" / name).read_text()
    machine.run("tee", f"/etc/systemd/system/jobsup.service.d/{name}", stdin=text)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", SERVICE)


def reason(machine: Machine, queue: str) -> str:
    return str(jobsctl(machine, "status")["queues"][queue]["reason"])


def test_the_shipped_configuration_runs_as_the_docs_deploy_it() -> None:
    shipped = (REPOSITORY / "etc/queues.toml").read_text()
    with booted({"/etc/jobsup/queues.toml": shipped}) as machine:
        check = ("/opt/jobsup/bin/jobsupd", "--check", "-c", "/etc/jobsup/queues.toml")
        machine.run("runuser", "-u", "jobsup", "--", *check)
        machine.run("systemctl", "enable", "--now", "jobsup.socket", SERVICE)
        job = jobsctl(machine, "enqueue", "checksum", '{"path": "/etc/hostname"}')["id"]
        expected = machine.run("sha256sum", "/etc/hostname").split()[0]
        assert expected in json.dumps(completes(machine, job)["result"])

        assert "network.conf" in reason(machine, "webhook"), "a queue that needs a drop-in must name it"
        install_drop_in(machine, "network.conf")
        refused = jobsctl(machine, "enqueue", "webhook", '{"url": "https://example.com/", "body": 1}')["id"]
        until(lambda: state(machine, refused) == "dead", 30, "the dead letter")
        assert "no signing secret" in jobsctl(machine, "status", str(refused))["errors"][-1]["message"]

        machine.run("jobsctl", "backup", "/var/lib/jobsup/backup.db")
        assert query(machine, "/var/lib/jobsup/backup.db", "PRAGMA integrity_check") == "ok"


def test_the_backup_units_and_the_restore_of_the_docs_work() -> None:
    docs = (REPOSITORY / "docs/backup-and-upgrade.md").read_text()
    units = dict(re.findall(r"^```ini\n# (\S+)\n(.*?)^```", docs, re.MULTILINE | re.DOTALL))
    (restore,) = re.findall(r"^```sh\n(systemctl stop .*?)^```", docs, re.MULTILINE | re.DOTALL)
    with booted({"/etc/jobsup/queues.toml": CONFIGURATION, **HANDLERS, **units}) as machine:
        machine.run("systemctl", "start", "jobsup.socket", SERVICE)
        kept = enqueue(machine, "calm")
        completes(machine, kept)
        names = " ".join(Path(unit).name for unit in units)
        assert machine.run("bash", "-c", f"systemd-analyze verify {names} 2>&1") == ""
        machine.run("systemctl", "start", "jobsup-backup.timer", "jobsup-backup.service")
        machine.run("systemctl", "start", "jobsup-backup.service")
        lost = enqueue(machine, "calm")
        completes(machine, lost)
        today = machine.run("date", "+%a").strip()
        machine.run("bash", "-c", restore.replace("backup/Mon.db", f"backup/{today}.db"))
        assert state(machine, kept) == "completed"
        assert machine.run("jobsctl", "list", "--limit", "0", "--json").count("\n") == 1
        completes(machine, enqueue(machine, "calm"))


def test_a_webhook_is_delivered_from_within_the_sandbox() -> None:
    queue = """\
[queues.webhook]
handler = "supervisor.handlers.webhook:deliver"
network = true
env = { JOBSUP_WEBHOOK_SECRET_FILE = "/etc/jobsup/webhook.secret", JOBSUP_WEBHOOK_ALLOW_PRIVATE = "127.0.0.1/32" }
"""
    files = {"/etc/jobsup/queues.toml": queue, "/etc/jobsup/webhook.secret": "secret\n", "/opt/receiver.py": RECEIVER}
    with booted(files, "network.conf") as machine:
        machine.run("systemd-run", "--unit=receiver", "/opt/jobsup/bin/python3", "/opt/receiver.py")
        until(lambda: " 0100007F:1F90 " in machine.run("cat", "/proc/net/tcp"), 30, "the receiver on port 8080")
        machine.run("systemctl", "start", "jobsup.socket", SERVICE)
        job = jobsctl(machine, "enqueue", "webhook", '{"url": "http://127.0.0.1:8080/", "body": {"n": 1}}')["id"]
        assert completes(machine, job)["result"]["status"] == 204
        received = machine.run("journalctl", "--output=cat", "--unit=receiver.service")
        signature, body = re.findall(rf"^job-{job}-\d+ (v1,\S+) (.*)$", received, re.MULTILINE)[0]
        assert len(signature) == len("v1,") + 44
        assert json.loads(body) == {"n": 1}


def test_a_pool_of_another_user_holds_none_of_the_daemons_capabilities() -> None:
    with booted({"/etc/jobsup/queues.toml": OTHER_USER, "/opt/app/whoami.py": WHOAMI}) as machine:
        machine.run("systemctl", "start", "jobsup.socket", SERVICE)
        assert "users.conf" in reason(machine, "other"), "a queue that needs a drop-in must name it"
        install_drop_in(machine, "users.conf")
        large = "x" * 100_000
        job = jobsctl(machine, "enqueue", "other", "-", stdin=json.dumps(large))["id"]
        result = completes(machine, job)["result"]
        games = int(machine.run("id", "-u", "games"))
        assert result["uids"] == [games] * 3
        assert int(machine.run("id", "-g", "jobsup")) not in result["groups"]
        assert {name: int(value, 16) for name, value in result["held"].items() if name != "CapBnd"} == {
            "CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapAmb": 0,
        }  # fmt: skip
        assert result["payload"] == large
        worker = pids(machine, "worker")[0]
        machine.kill(worker)
        until(lambda: pids(machine, "worker") not in ([], [worker]), 30, "another worker")


def test_a_machine_leaves_nothing_on_the_host() -> None:
    before = (Path("/proc/self/mountinfo").read_text(), cgroups())
    with booted({"/etc/jobsup/queues.toml": CONFIGURATION, **HANDLERS}) as machine:
        init = machine.pid_1
        assert cgroups() != before[1], "the machine has no cgroup that could be left"
    assert not Path(f"/proc/{init}").exists()
    assert (Path("/proc/self/mountinfo").read_text(), cgroups()) == before


def cgroups() -> set[str]:
    """Every cgroup that is named after a machine of ours, whether or not the host has the hierarchy mounted."""
    look = "mount -t cgroup2 cgroup2 /mnt && find /mnt -name 'jobsup-boot-*'"
    done = subprocess.run(["unshare", "--mount", "bash", "-c", look], capture_output=True, text=True, check=True)
    return set(done.stdout.split())
