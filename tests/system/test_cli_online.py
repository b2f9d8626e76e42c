"""Every verb of jobsctl with a daemon: exit status, what it prints, and what it prints with --json."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, Ran, Site, environment
from tests.support.terminal import jobsctl_on_terminal
from tests.support.waiting import until

APP = {
    "tasks.py": """
import os, time

def ok(job):
    return {"got": job.payload}

def fail(job):
    raise ValueError(f"no good: {job.payload}")

def other(job):
    raise KeyError(job.payload)

def gate(job):
    while not os.path.exists(job.payload):
        time.sleep(0.005)
    return "through"
"""
}
TOML = """
[daemon]
python_path = ["../app"]
shutdown_grace = "5s"
[defaults]
workers = 1
max_attempts = 1
[queues.ok]
handler = "tasks:ok"
[queues.fail]
handler = "tasks:fail"
[queues.other]
handler = "tasks:other"
[queues.gate]
handler = "tasks:gate"
[queues.sum]
command = ["sha256sum", "--", "{path}"]
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("online"), TOML, app=APP) as daemon:
        yield daemon


def error_of(ran: Ran) -> dict[str, str]:
    (only,) = ran.lines
    assert set(only) == {"error"}
    found: dict[str, str] = only["error"]
    assert all(line in ran.err for line in found["message"].splitlines())
    return found


def test_enqueue_and_wait_until_it_is_completed(daemon: Daemon) -> None:
    job_id = int(daemon.ctl("enqueue", "ok", '{"n": 1}').out)
    assert daemon.ctl("wait", job_id, "--timeout", "10s") == Ran(0, "completed\n", "")
    job = daemon.ctl("wait", job_id, "--json").json
    assert (job["state"], job["result"], job["attempt"]) == ("completed", {"got": {"n": 1}}, 1)


def test_enqueue_says_what_became_of_the_job(daemon: Daemon) -> None:
    found = daemon.ctl("enqueue", "ok", "1", "--json").json
    assert set(found) == {"id", "queue", "state", "acknowledged", "existing"}
    assert (found["queue"], found["acknowledged"]) == ("ok", "committed")
    assert found["state"] in ("queued", "running", "completed")
    assert daemon.ctl("enqueue", "ok", "1", "--delay", "1h", "--json").json["state"] == "scheduled"


def test_a_command_queue_gives_its_output(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "a file"
    file.write_bytes(b"abc")
    job = daemon.wait_state(daemon.enqueue("sum", {"path": str(file)}), "completed")
    assert job["result"].split()[0] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_wait_ends_with_1_for_a_dead_job_and_75_when_time_is_up(daemon: Daemon, tmp_path: Path) -> None:
    assert daemon.ctl("wait", daemon.enqueue("fail", "x"), "--timeout", "10s") == Ran(1, "dead\n", "")
    job_id = daemon.enqueue("gate", str(tmp_path / "gate"))
    ran = daemon.ctl("wait", job_id, "--timeout", "100ms", "--json")
    assert (ran.status, error_of(ran)["code"]) == (75, "wait_timeout")
    assert error_of(ran)["message"].startswith(f"not ended within 100ms; job {job_id} of gate: it is running")
    (tmp_path / "gate").touch()
    assert daemon.ctl("wait", job_id, "--timeout", "10s").out == "completed\n"
    ran = daemon.ctl("wait", 2**50, "--json")
    assert (ran.status, error_of(ran)["code"]) == (3, "unknown_job")


def test_status_shows_the_daemon_and_its_queues(daemon: Daemon) -> None:
    found = daemon.ctl("status", "--json").json
    assert (found["daemon"]["running"], found["daemon"]["pid"]) == (True, daemon.pid)
    assert found["daemon"]["uptime_s"] > 0
    keys = {"blocked", "scheduled", "queued", "running", "completed", "dead", "cancelled", "oldest_queued_s", "workers",
            "paused", "circuit", "reason"}  # fmt: skip
    for name in ("ok", "fail", "gate", "sum"):
        assert keys <= set(found["queues"][name])
        assert (found["queues"][name]["workers"], found["queues"][name]["circuit"]) == (1, "closed")
    rows = {row[0]: row for row in daemon.ctl("status").rows}
    assert rows["ok"][9:12] == ["1", "no", "closed"]


def test_status_of_a_dead_job_tells_why(daemon: Daemon) -> None:
    job = daemon.wait_state(daemon.enqueue("fail", "reason"), "dead")
    (error,) = job["errors"]
    assert (error["kind"], error["type"], error["message"]) == ("error", "ValueError", "no good: reason")
    assert 'raise ValueError(f"no good: {job.payload}")' in error["traceback"]
    assert [error[name] for name in ("exit_code", "signal", "last_output")] == [None, None, None], "null, never absent"
    text = daemon.ctl("status", job["id"]).out
    assert "    ValueError: no good: reason\n" in text
    assert "state\tdead\n" in text


def test_running_jobs_and_their_workers_are_seen(daemon: Daemon, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job_id = daemon.enqueue("gate", str(gate))
    job = daemon.wait_state(job_id, "running")
    worker = daemon.wait_for(
        lambda: next((row for row in daemon.ctl("workers", "--json").lines if row["job_id"] == job_id), None)
    )
    assert (worker["queue"], worker["state"]) == ("gate", "busy")
    assert job["worker"] in (None, {"slot": worker["slot"], "pid": worker["pid"]})
    assert {"queue", "slot", "pid", "state", "job_id", "running_s", "done", "restarts", "rss_bytes"} <= set(worker)
    assert worker["running_s"] >= 0
    assert worker["rss_bytes"] > 1024 * 1024
    assert [row["id"] for row in daemon.ctl("list", "--state", "running", "--json").lines] == [job_id]
    rows = {row[0]: row for row in daemon.ctl("workers").rows}
    assert (rows["gate"][1:4], rows["gate"][4]) == ([str(worker["slot"]), str(worker["pid"]), "busy"], str(job_id))
    gate.touch()
    daemon.wait_state(job_id, "completed")


def test_tree_shows_every_process(daemon: Daemon) -> None:
    nodes = daemon.ctl("tree", "--json").lines
    keys = {"path", "parent", "role", "pid", "state", "uptime_s", "restarts", "circuit", "queue", "slot"}
    assert all(keys <= set(node) for node in nodes)
    assert {node["role"] for node in nodes} == {"master", "keeper", "foreman", "worker"}
    assert sorted(node["pid"] for node in nodes) == sorted(daemon.survivors())
    paths = [node["path"] for node in nodes]
    assert paths[0] == "jobsupd"
    assert all(node["parent"] is None or node["parent"] in paths[:index] for index, node in enumerate(nodes))
    by_path = {node["path"]: node for node in nodes}
    for node in nodes:
        if node["role"] == "worker":
            assert node["path"].rsplit("/", 1)[0] == f"jobsupd/pool {node['queue']}/{node['queue']}"
            assert by_path[node["parent"]]["role"] == "foreman"
    assert [row[1] for row in daemon.ctl("tree").rows] == [node["role"] for node in nodes]


def test_cancel_ends_a_running_job(daemon: Daemon, tmp_path: Path) -> None:
    job_id = daemon.enqueue("gate", str(tmp_path / "never"))
    daemon.wait_state(job_id, "running")
    assert daemon.ctl("cancel", job_id) == Ran(0, f"{job_id}\n", "")
    assert daemon.ctl("wait", job_id, "--timeout", "15s") == Ran(1, "cancelled\n", "")
    ran = daemon.ctl("cancel", job_id, "--json")
    assert (ran.status, error_of(ran)["code"]) == (1, "wrong_state")


def test_retry_keeps_the_id_and_completed_jobs_need_force(daemon: Daemon) -> None:
    dead = daemon.wait_state(daemon.enqueue("fail", "again"), "dead")["id"]
    assert daemon.ctl("retry", dead, "--json").json == {"done": [dead], "failed": []}
    assert len(daemon.wait_state(dead, "dead")["errors"]) >= 1
    done = daemon.wait_state(daemon.enqueue("ok", 1), "completed")["id"]
    ran = daemon.ctl("retry", done, "--json")
    assert (ran.status, error_of(ran)["code"]) == (1, "wrong_state")
    assert daemon.ctl("retry", done, "--force") == Ran(0, f"{done}\n", "")
    daemon.wait_state(done, "completed")


def test_who_waits_at_a_terminal_is_told_what_for(daemon: Daemon) -> None:
    daemon.ctl("pause", "ok")
    job_id = daemon.enqueue("ok", "later")
    told = jobsctl_on_terminal("wait", job_id, "--timeout", "1500ms", config=daemon.config)
    assert told.status == 75
    assert f"⠋ job {job_id} of ok: queue ok is paused; jobsctl resume ok lets it go on" in told.out.replace("⠙", "⠋")
    assert told.out.endswith("\n  wait again; the job is not affected\n")
    daemon.ctl("resume", "ok")
    assert jobsctl_on_terminal("wait", job_id, config=daemon.config).out.splitlines()[-1].endswith("completed")


def test_a_paused_queue_accepts_and_does_not_run(daemon: Daemon) -> None:
    assert daemon.ctl("pause", "ok", "--json").json == {"queue": "ok", "paused": True}
    job_id = daemon.enqueue("ok", "later")
    assert daemon.ctl("wait", job_id, "--timeout", "200ms").status == 75
    assert daemon.ctl("status", "--json").json["queues"]["ok"]["paused"] is True
    assert daemon.ctl("resume", "ok") == Ran(0, "", "")
    daemon.wait_state(job_id, "completed")


def test_move_takes_waiting_jobs_to_another_queue(daemon: Daemon) -> None:
    daemon.ctl("pause", "fail")
    job_id = daemon.enqueue("fail", "moved")
    assert daemon.ctl("move", "fail", "ok", "--json").json["count"] >= 1
    assert daemon.wait_state(job_id, "completed")["queue"] == "ok"
    daemon.ctl("resume", "fail")


def test_purge_deletes_final_jobs(daemon: Daemon) -> None:
    job_id = daemon.wait_state(daemon.enqueue("sum", {"path": "/etc/passwd"}), "completed")["id"]
    ran = daemon.ctl("purge", "sum", "--state", "completed")
    assert ran.status == 0
    assert int(ran.out) >= 1
    assert daemon.ctl("status", job_id).status == 3
    assert daemon.ctl("purge", "sum", "--state", "completed", "--json").json["count"] == 0


def test_dead_letters_are_listed_retried_and_deleted_by_filter(daemon: Daemon) -> None:
    daemon.ctl("dead", "delete", "--all")
    one = daemon.wait_state(daemon.enqueue("fail", "one"), "dead")["id"]
    two = daemon.wait_state(daemon.enqueue("fail", "two"), "dead")["id"]
    key = daemon.wait_state(daemon.enqueue("other", "three"), "dead")["id"]

    def listed(*args: object) -> list[int]:
        return [row["id"] for row in daemon.ctl("dead", "list", *args, "--json").lines]

    assert listed() == [key, two, one]
    assert listed("--queue", "fail") == [two, one]
    assert listed("--type", "KeyError") == [key]
    assert listed("--text", "good: one") == [one]
    assert listed("--after", "1h", "--queue", "other") == [key]
    assert listed("--before", "1h") == []
    assert listed(one, key) == [key, one]
    assert listed("--limit", 1) == [key]
    assert daemon.ctl("dead", "list", "--type", "KeyError").rows[0][5] == "KeyError"
    assert daemon.ctl("dead", "retry", "--json").status == 2
    assert daemon.ctl("dead", "retry", "--type", "KeyError") == Ran(0, "1\n", "")
    daemon.wait_state(key, "dead")
    assert daemon.ctl("dead", "delete", "--text", "good: two", "--json").json == {"count": 1}
    assert daemon.ctl("status", two).status == 3
    assert daemon.ctl("dead", "delete", one, key) == Ran(0, "2\n", "")
    assert listed() == []


def test_list_pages_through_everything(daemon: Daemon) -> None:
    for _ in range(7):
        daemon.enqueue("ok")
    everything = [row["id"] for row in daemon.ctl("list", "--limit", 0, "--json").lines]
    assert everything == sorted(everything, reverse=True)
    first = [row["id"] for row in daemon.ctl("list", "--limit", 3, "--json").lines]
    then = [row["id"] for row in daemon.ctl("list", "--limit", 3, "--after", first[-1], "--json").lines]
    assert first + then == everything[:6]


def test_a_reload_says_what_changed_and_refuses_what_is_wrong(daemon: Daemon) -> None:
    nothing: dict[str, object] = {
        "added": [],
        "removed": [],
        "changed": [],
        "retuned": [],
        "settings": [],
        "warnings": [],
        "broken": {},
    }
    assert daemon.ctl("reload", "--json").json == nothing
    daemon.configure(TOML + '[queues.new]\nhandler = "tasks:ok"\n')
    try:
        assert daemon.ctl("reload") == Ran(0, "added\tnew\n", "")
        daemon.wait_state(daemon.enqueue("new", 1), "completed")
        daemon.configure(TOML + "[queues.new]\nhandler = 5\nwrokers = 1\n")
        ran = daemon.ctl("reload", "--json")
        assert (ran.status, error_of(ran)["code"]) == (2, "config")
        assert len(error_of(ran)["problems"]) == 2
        assert [line.startswith("jobsctl: ") for line in ran.err.splitlines()] == [True, True, False]
        said = daemon.ctl("status", "--json").json["daemon"]["reload_error"]
        assert f"{daemon.config}" in said
        daemon.wait_state(daemon.enqueue("new", 2), "completed")
    finally:
        daemon.configure(TOML)
        assert daemon.ctl("reload", "--json").json["removed"] == ["new"]
    assert daemon.ctl("status", "--json").json["daemon"]["reload_error"] is None
    assert daemon.ctl("enqueue", "new").status == 3


def test_queues_add_can_reload_at_once(daemon: Daemon) -> None:
    ran = daemon.ctl("queues", "add", "added", "--handler", "tasks:ok", "--reload", "--json")
    try:
        assert ran.status == 0, ran.err
        assert ran.json["reloaded"] is True
        daemon.wait_state(daemon.enqueue("added", "new"), "completed")
    finally:
        Path(ran.json["file"]).unlink()
        daemon.ctl("reload")


def test_queues_add_says_at_once_that_a_new_queue_cannot_work(daemon: Daemon) -> None:
    ran = daemon.ctl("queues", "add", "broken", "--handler", "tasks:nothing", "--reload")
    try:
        assert ran.status == 1
        assert "broken: circuit open: " in ran.err
    finally:
        Path(ran.out.strip()).unlink()
        daemon.ctl("reload")


def test_a_backup_of_a_running_daemon_can_be_started_on(daemon: Daemon, tmp_path: Path) -> None:
    job_id = daemon.wait_state(daemon.enqueue("ok", "kept"), "completed")["id"]
    (tmp_path / "var").mkdir()
    copy = tmp_path / "var" / "jobs.db"
    found = daemon.ctl("backup", copy, "--json")
    assert found.status == 0, found.err
    assert found.json["newest_id"] >= job_id
    with sqlite3.connect(copy) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with Daemon(tmp_path, TOML, app=APP) as second:
        assert second.job(job_id)["result"] == {"got": "kept"}
        second.wait_state(second.enqueue("ok", 1), "completed")


def test_doctor_is_content_with_a_running_daemon(daemon: Daemon) -> None:
    ran = daemon.ctl("doctor", "--json")
    assert ran.status == 0, ran.out
    assert {each["name"] for each in ran.json["findings"]} <= {"dead_letters", "nofile_low", "config_advice"}, ran.out


def test_commands_that_only_talk_need_only_the_socket(daemon: Daemon) -> None:
    env = {"JOBSUP_SOCKET": str(daemon.socket)}
    elsewhere = Site(daemon.path / "elsewhere", "").path
    for args in (["status"], ["enqueue", "ok"], ["workers"], ["tree"]):
        command = [sys.executable, "-m", "supervisor.cli.jobsctl", *args]
        done = subprocess.run(command, env=environment(env), cwd=elsewhere / "app", capture_output=True, check=False)
        assert done.returncode == 0, done.stderr


def test_who_may_not_open_the_socket_is_told_so(daemon: Daemon) -> None:
    mode = daemon.socket.stat().st_mode
    daemon.socket.chmod(0)
    try:
        for args in (["enqueue", "ok"], ["status"], ["workers"], ["wait", "1"]):
            ran = daemon.ctl(*args, "--json", privileged=False)
            assert (ran.status, error_of(ran)["code"]) == (4, "denied"), args
    finally:
        daemon.socket.chmod(mode)


def test_ctrl_c_ends_a_wait_with_130_and_without_a_traceback(daemon: Daemon, tmp_path: Path) -> None:
    job_id = daemon.enqueue("gate", str(tmp_path / "gate"))
    command = [sys.executable, "-m", "supervisor.cli.jobsctl", "-c", str(daemon.config), "wait", str(job_id)]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: _waits_in_recv(process.pid), what="the wait")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, b"", b"")
    (tmp_path / "gate").touch()
    daemon.wait_state(job_id, "completed")


def _waits_in_recv(pid: int) -> bool:
    """Whether a process has a socket open and sleeps: it has asked, and no answer has come."""
    try:
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state == "S" and any(link.startswith("socket:") for link in links)


def test_a_reader_that_goes_away_ends_a_listing_quietly(daemon: Daemon) -> None:
    lines = "".join(f"{number}\n" for number in range(3000))
    daemon.ctl("pause", "sum")
    assert daemon.ctl("enqueue", "sum", "--jsonl", "-", stdin=lines).out == "accepted 3000, rejected 0\n"
    command = [
        sys.executable,
        "-m",
        "supervisor.cli.jobsctl",
        "-c",
        str(daemon.config),
        "list",
        "--limit",
        "0",
        "--json",
    ]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith(b'{"id": ')
    process.stdout.close()
    assert process.wait(20) == 141
    assert process.stderr.read() == b""
    process.stderr.close()
    assert int(daemon.ctl("purge", "sum", "--state", "queued").out) == 3000
    daemon.ctl("resume", "sum")


def test_output_that_cannot_be_written_is_an_error(daemon: Daemon) -> None:
    command = [sys.executable, "-m", "supervisor.cli.jobsctl", "-c", str(daemon.config), "status"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, env=environment(), stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, b"No space left" in done.stderr) == (1, True), done.stderr
