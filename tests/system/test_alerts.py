"""People are told of each thing that goes wrong, within five seconds, not too often, and when it is over."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from supervisor.client import Client
from supervisor.errors import Busy
from supervisor.keeper.alerting import OUTBOX_MAX
from tests.support.daemon import Daemon
from tests.support.place import small_disk
from tests.support.told import REPORTED_S, Told
from tests.support.waiting import alive, gone, until

APP = {
    "tasks.py": """
import os, signal

def work(job):
    if os.path.exists(job.payload.get("unless", "")):
        os._exit(3)
    return job.payload

def fail(job):
    raise ValueError(f"no luck with {job.id}")

def crash(job):
    os.kill(os.getpid(), signal.SIGKILL)

def stop(job):
    os.kill(os.getpid(), signal.SIGSTOP)
"""
}
TOML = """
[daemon]
python_path = ["../app"]
shutdown_grace = "5s"
[alerts]
{alerts}
group = "1s"
[defaults]
workers = 1
max_attempts = 1
backoff = {{ base = "10ms", max = "10ms" }}
[queues.work]
handler = "tasks:work"
[queues.fail]
handler = "tasks:fail"
"""


def toml(told: Told, extra: str = "", alerts: str = "") -> str:
    return TOML.format(alerts=f"{told.command}\n{alerts}") + extra


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path / "told")


def node(daemon: Daemon, role: str) -> dict[str, Any] | None:
    return next((one for one in daemon.ctl("tree", "--json").lines if one["role"] == role), None)


def pid_of(daemon: Daemon, role: str) -> int:
    found = until(lambda: (one := node(daemon, role)) and one["pid"], what=f"a process {role}")
    return int(found)


def alerts_of(daemon: Daemon) -> dict[str, Any]:
    found: dict[str, Any] = daemon.ctl("status", "--json").json["alerts"]
    return found


# --- each kind ----------------------------------------------------------------------------------------------


def test_a_dead_job_is_told_of_with_its_error(tmp_path: Path, told: Told) -> None:
    with Daemon(tmp_path, toml(told), app=APP) as daemon:
        job_id = daemon.enqueue("fail", {})
        alert = told.wait("dead")
        assert alert["summary"] == f"job {job_id} of fail is dead: no luck with {job_id}"
        assert told.begun == [alert["summary"]]
        assert (alert["queue"], alert["count"], alert["ids"], alert["more"]) == ("fail", 1, [job_id], 0)
        assert daemon.job(job_id)["finished_at"] <= alert["first_at"] == alert["last_at"]


def test_a_poison_job_is_told_of_once_it_is_dead(tmp_path: Path, told: Told) -> None:
    extra = '[queues.poison]\nhandler = "tasks:crash"\nmax_crashes = 2\nrestart = { intensity = 20, period = "10s" }\n'
    with Daemon(tmp_path, toml(told, extra), app=APP) as daemon:
        job_id = daemon.enqueue("poison", {})
        daemon.wait_state(job_id, "dead")
        alert = told.wait("dead")
        assert (alert["queue"], alert["ids"]) == ("poison", [job_id])
        assert "killed by signal 9" in alert["detail"]


def test_a_crash_loop_is_told_of_when_it_begins_and_when_it_is_over(tmp_path: Path, told: Told) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    extra = '[queues.loop]\nhandler = "tasks:work"\nmax_crashes = 50\nrestart = { intensity = 1, period = "30s" }\n'
    with Daemon(tmp_path, toml(told, extra), app=APP) as daemon:
        ids = [daemon.enqueue("loop", {"unless": str(broken)}) for _ in range(3)]
        until(lambda: daemon.ctl("status", "--json").json["queues"]["loop"]["circuit"] == "open", what="the circuit")
        alert = told.wait("circuit", "open")
        assert alert["queue"] == "loop"
        assert "ended with status 3" in alert["summary"]
        assert [(one["kind"], one["queue"]) for one in alerts_of(daemon)["open"]] == [("circuit", "loop")]
        broken.unlink()
        assert daemon.ctl("resume", "loop").status == 0
        for job_id in ids:
            daemon.wait_state(job_id, "completed", timeout=30)
        until(lambda: daemon.ctl("status", "--json").json["queues"]["loop"]["circuit"] == "closed", 30, "the circuit")
        told.wait("circuit", "recovered")
        assert alerts_of(daemon)["open"] == []
        assert len(told.of("circuit", "open")) == len(told.of("circuit", "recovered")) == 1


BREAKER = 'breaker = { failures = 1, cooldown = "1h", max_cooldown = "1h" }\nmax_attempts = 9\n'


def test_the_end_of_a_breaker_is_told_when_it_leaves_the_configuration(tmp_path: Path, told: Told) -> None:
    extra = '[queues.down]\nhandler = "tasks:fail"\n'
    with Daemon(tmp_path, toml(told, extra + BREAKER), app=APP) as daemon:
        daemon.enqueue("down", {})
        told.wait("breaker", "open")
        daemon.configure(toml(told, extra))
        assert daemon.ctl("reload").status == 0
        assert told.wait("breaker", "recovered")["queue"] == "down"
        assert alerts_of(daemon)["open"] == []
        os.kill(pid_of(daemon, "keeper"), signal.SIGKILL)
        daemon.configure(toml(told, extra + BREAKER))
        until(lambda: daemon.ctl("reload").status == 0, what="a reload by the next keeper")
        assert daemon.ctl("status", "--json").json["queues"]["down"]["breaker"]["state"] == "closed"
        daemon.enqueue("fail", {})
        told.wait("dead")
        assert len(told.of("breaker", "open")) == 1


def test_a_disk_that_fills_up_is_told_of_until_there_is_room(tmp_path: Path, told: Told) -> None:
    with (
        small_disk(tmp_path / "var", "16m") as place,
        Daemon(tmp_path, toml(told, alerts='disk_min = "25%"'), app=APP, prefix=place.prefix) as daemon,
    ):
        ballast = place.see(daemon.database.parent) / "ballast"
        ballast.write_bytes(b"x" * 14 * 1024 * 1024)
        alert = told.wait("disk", "open")
        assert alert["queue"] is None
        assert "free of 16.0 MiB" in alert["detail"]
        ballast.unlink()
        told.wait("disk", "recovered")


def test_a_disk_below_a_size_is_told_of_and_a_reload_takes_it_back(tmp_path: Path, told: Told) -> None:
    with Daemon(tmp_path, toml(told, alerts='disk_min = "1000000GiB"'), app=APP) as daemon:
        told.wait("disk", "open")
        daemon.configure(toml(told, alerts='disk_min = "1B"'))
        assert daemon.ctl("reload").status == 0
        told.wait("disk", "recovered")


def test_a_queue_that_waits_too_long_is_told_of_and_its_end_as_well(tmp_path: Path, told: Told) -> None:
    extra = '[queues.calm]\nhandler = "tasks:work"\noldest_max = "never"\n'
    with Daemon(tmp_path, toml(told, extra, 'oldest_max = "1s"'), app=APP) as daemon:
        for queue in ("work", "calm"):
            assert daemon.ctl("pause", queue).status == 0
            daemon.enqueue(queue, {})
        alert = told.wait("oldest", "open", 1 + REPORTED_S)
        assert alert["queue"] == "work"
        assert "more than 1s (the queue is paused)" in alert["detail"]
        assert daemon.ctl("resume", "work").status == 0
        told.wait("oldest", "recovered")
        assert {one["queue"] for one in told.of("oldest", "open")} == {"work"}


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another program has a transaction open."""
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_a_database_that_cannot_be_written_is_told_of_all_the_same(tmp_path: Path, told: Told) -> None:
    with (
        Daemon(tmp_path, toml(told), app=APP) as daemon,
        Client(str(daemon.config), timeout="1s") as client,
    ):
        daemon.enqueue("work", {})
        with locked(daemon.database):
            with pytest.raises(Busy):
                client.enqueue("work", {})
            alert = told.wait("store", "open", REPORTED_S - 1)
            assert "database is locked" in alert["summary"]
            with pytest.raises(Busy):
                client.enqueue("work", {})
        told.wait("store", "recovered", 20)
        assert len(told.of("store", "open")) == 1


def test_a_lock_that_is_held_for_a_moment_is_told_to_nobody(tmp_path: Path, told: Told) -> None:
    with Daemon(tmp_path, toml(told), app=APP) as daemon:
        adding = threading.Thread(target=lambda: daemon.enqueue("work", {}))
        with locked(daemon.database):
            adding.start()
            until(lambda: "cannot be written" in daemon.log, what="a pass that fails")
        adding.join()
        daemon.enqueue("fail", {})
        told.wait("dead")
        assert {one["kind"] for one in told.alerts} == {"dead"}


def test_a_reload_that_is_refused_is_told_of(tmp_path: Path, told: Told) -> None:
    with Daemon(tmp_path, toml(told), app=APP) as daemon:
        daemon.configure(toml(told) + "nonsense = 1\n")
        daemon.signal(signal.SIGHUP)
        alert = told.wait("reload")
        assert "nonsense: unknown key" in alert["summary"]
        assert alert["queue"] is None


def test_a_due_time_whose_job_is_refused_is_told_of(tmp_path: Path, told: Told) -> None:
    extra = '[queues.full]\nhandler = "tasks:work"\nmax_size = 1\n[schedules.often]\nqueue = "full"\nevery = "1s"\n'
    with Daemon(tmp_path, toml(told, extra), app=APP) as daemon:
        assert daemon.ctl("pause", "full").status == 0
        alert = told.wait("missed", timeout=3 + REPORTED_S)
        assert alert["queue"] == "full"
        assert alert["summary"].startswith("schedules of full missed runs (")
        assert "schedule often could not run at" in alert["detail"]
        assert "queue full holds 1 waiting jobs" in alert["detail"]


def test_a_worker_that_does_not_die_is_told_of_once(tmp_path: Path, told: Told) -> None:
    extra = '[queues.undead]\nhandler = "tasks:stop"\ntimeout = "100ms"\nkill_grace = "100ms"\n'
    env = {"JOBSUP_FAILPOINTS": "ladder.kill=skip@*"}
    with Daemon(tmp_path, toml(told, extra), app=APP, env=env) as daemon:
        daemon.enqueue("undead", {})
        until(lambda: "its session is killed" in daemon.log, what="the end of the ladder")
        alert = told.wait("undead", timeout=2 + REPORTED_S)
        assert alert["queue"] == "undead"
        assert "still there" in alert["detail"]
        daemon.enqueue("fail", {})
        told.wait("dead")
        assert len(told.of("undead")) == 1


def test_kinds_can_be_switched_off(tmp_path: Path, told: Told) -> None:
    with Daemon(tmp_path, toml(told, alerts='on = ["reload"]\ndisk_min = "1000000GiB"'), app=APP) as daemon:
        daemon.wait_state(daemon.enqueue("fail", {}), "dead")
        daemon.configure("nonsense = 1\n")
        daemon.signal(signal.SIGHUP)
        told.wait("reload")
        assert {one["kind"] for one in told.alerts} == {"reload"}


# --- not too often ------------------------------------------------------------------------------------------


def test_ten_thousand_deaths_within_a_minute_are_at_most_ten_messages_whose_counts_add_up(
    tmp_path: Path, told: Told
) -> None:
    text = toml(told).replace('group = "1s"', 'group = "10s"').replace("workers = 1", "workers = 2")
    with Daemon(tmp_path, text + '[log]\nlevel = "error"\n', app=APP) as daemon:
        with daemon.client() as client:
            client.enqueue_many("fail", [{}] * 10_000)
            until(lambda: client.status()["queues"]["fail"]["dead"] == 10_000, 60, "ten thousand deaths")
        counted = until(lambda: (sum(one["count"] + one["more"] for one in told.alerts) == 10_000) and told.alerts, 30)
        assert 1 <= len(counted) <= 10
        assert {one["kind"] for one in counted} <= {"dead", "more"}
        assert all(len(one["ids"]) <= 5 for one in counted)
        assert any(" jobs of fail are dead, such as " in one["summary"] for one in counted)


def test_what_is_beyond_the_limit_is_counted_in_status(tmp_path: Path, told: Told) -> None:
    extra = '[queues.other]\nhandler = "tasks:fail"\n'
    with Daemon(tmp_path, toml(told, extra, "limit = 1"), app=APP) as daemon:
        daemon.enqueue("fail", {})
        told.wait("dead")
        daemon.enqueue("other", {})
        until(lambda: alerts_of(daemon)["suppressed"] == 1, REPORTED_S, "a message that is left out")
        assert len(told.alerts) == 1


# --- the command --------------------------------------------------------------------------------------------


def test_a_test_goes_the_whole_way_and_says_how_it_went(tmp_path: Path, told: Told) -> None:
    with Daemon(tmp_path, toml(told), app=APP) as daemon:
        ran = daemon.ctl("alerts", "test", "--json")
        assert ran.status == 0, ran.err
        assert ran.json == {
            "summary": "this is a test of the alerts of jobsup",
            "command": {"told": True, "error": None},
            "queue": None,
        }
        assert [one["kind"] for one in told.alerts] == ["test"]
        status = alerts_of(daemon)
        assert (status["error"], status["sent"], status["failed"]) == (None, 1, 0)
        assert status["last_sent_at"] is not None


def test_a_command_that_fails_is_tried_twice_and_status_and_doctor_say_why(tmp_path: Path, told: Told) -> None:
    told.fail(True)
    with Daemon(tmp_path, toml(told), app=APP) as daemon:
        ran = daemon.ctl("alerts", "test")
        error = f"{told.program}: it ended with exit status 3: no such channel"
        assert (ran.status, ran.rows) == (1, [["command", "failed", error]])
        assert len(told.begun) == 2
        assert alerts_of(daemon)["error"] == error
        assert f"alerts cannot be sent: {error}" in daemon.ctl("status").err
        findings = {one["name"]: one["message"] for one in daemon.ctl("doctor", "--json").json["findings"]}
        assert findings["alerts_failing"] == f"alerts cannot be sent: {error}"
        assert daemon.log.count("the alert command failed, trying once more") == 1
        told.fail(False)
        assert daemon.ctl("alerts", "test").status == 0
        assert alerts_of(daemon)["error"] is None


def test_a_command_that_does_not_exist_is_a_problem_for_check_and_doctor(tmp_path: Path, told: Told) -> None:
    told.program.unlink()
    with Daemon(tmp_path, toml(told), app=APP) as daemon:
        assert daemon.ctl("config", "check").status == 2
        report = daemon.ctl("doctor", "--json").json["findings"]
        findings = [one for one in report if one["name"] == "alerts_failing"]
        assert [one["severity"] for one in findings] == ["problem"]
        assert f'alerts.command: "{told.program}" does not exist' in findings[0]["message"]
        ran = daemon.ctl("alerts", "test", "--json")
        assert ran.status == 1
        assert "cannot be started" in ran.json["command"]["error"]


def test_a_command_that_hangs_is_killed_with_its_children_and_holds_up_nobody_else(tmp_path: Path, told: Told) -> None:
    os.mkfifo(told.folder / "hold")
    with Daemon(tmp_path, toml(told, alerts='timeout = "2s"'), app=APP) as daemon:
        daemon.enqueue("fail", {})
        until(lambda: len(told.begun) == 1, REPORTED_S, "a command that hangs")
        (told.folder / "hold").rename(told.folder / "held")
        assert daemon.ctl("alerts", "test").status == 0
        until(lambda: told.of("dead"), 10, "the second try")
        assert daemon.log.count("it took longer than its time-out") == 1


def test_without_alerts_there_is_nobody_to_test(tmp_path: Path) -> None:
    with Daemon(tmp_path, '[queues.q]\ncommand = ["true"]\n') as daemon:
        ran = daemon.ctl("alerts", "test", "--json")
        assert (ran.status, ran.json["error"]["code"]) == (1, "wrong_state")
        assert daemon.ctl("status", "--json").json["alerts"] is None
        assert node(daemon, "alerter") is None
    assert daemon.ctl("alerts", "test").status == 4
    assert daemon.ctl("status", "--json").json["alerts"] is None


# --- the role -----------------------------------------------------------------------------------------------


def test_a_reload_starts_changes_and_stops_the_alerter(tmp_path: Path, told: Told) -> None:
    without = "[queues.work]\ncommand = ['true']\n"
    with Daemon(tmp_path, without, app=APP) as daemon:
        workers = {one["pid"] for one in daemon.ctl("workers", "--json").lines}
        daemon.configure(f"[alerts]\n{told.command}\n{without}")
        assert daemon.ctl("reload").status == 0
        first = pid_of(daemon, "alerter")
        assert daemon.ctl("alerts", "test").status == 0
        daemon.configure(f"[alerts]\n{told.command}\ntimeout = '3s'\n{without}")
        assert daemon.ctl("reload").status == 0
        until(lambda: pid_of(daemon, "alerter") != first, what="another alerter")
        assert daemon.ctl("alerts", "test").status == 0
        daemon.configure(without)
        assert daemon.ctl("reload").status == 0
        until(lambda: node(daemon, "alerter") is None, what="no alerter")
        assert {one["pid"] for one in daemon.ctl("workers", "--json").lines} == workers


def test_what_a_killed_alerter_had_in_hand_is_told_by_the_next_one(tmp_path: Path, told: Told) -> None:
    hold = told.folder / "hold"
    os.mkfifo(hold)
    with Daemon(tmp_path, toml(told), app=APP) as daemon:
        job_id = daemon.enqueue("fail", {})
        until(lambda: told.begun, REPORTED_S, "the command")
        before = pid_of(daemon, "alerter")
        (command,) = children_of(before)
        hold.rename(told.folder / "held")
        os.kill(before, signal.SIGKILL)
        assert told.wait("dead")["ids"] == [job_id]
        gone(before, command)
        assert len(told.begun) == 2
        assert pid_of(daemon, "alerter") != before
        assert "what it had is told again" in daemon.log


def children_of(pid: int) -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and alive(int(name)):
            found.append(int(name))
    return found


def test_a_new_keeper_tells_nothing_twice_and_still_tells_the_end(tmp_path: Path, told: Told) -> None:
    with Daemon(tmp_path, toml(told, alerts='oldest_max = "1s"'), app=APP) as daemon:
        assert daemon.ctl("pause", "work").status == 0
        daemon.enqueue("work", {})
        told.wait("oldest", "open", 1 + REPORTED_S)
        keeper = pid_of(daemon, "keeper")
        os.kill(keeper, signal.SIGKILL)
        until(lambda: pid_of(daemon, "keeper") != keeper, what="another keeper")
        assert [one["kind"] for one in until(lambda: alerts_of(daemon)["open"], what="what was told")] == ["oldest"]
        daemon.enqueue("fail", {})
        told.wait("dead")
        assert daemon.ctl("resume", "work").status == 0
        told.wait("oldest", "recovered")
        assert len(told.of("oldest", "open")) == 1


def test_a_condition_that_was_not_told_is_told_by_the_next_keeper(tmp_path: Path, told: Told) -> None:
    told.fail(True)
    with Daemon(tmp_path, toml(told, alerts='disk_min = "1000000GiB"'), app=APP) as daemon:
        until(lambda: alerts_of(daemon)["failed"] == 1, 10, "an alert that reaches nobody")
        told.fail(False)
        os.kill(pid_of(daemon, "keeper"), signal.SIGKILL)
        told.wait("disk", "open")


def test_deaths_while_the_daemon_stops_are_told_before_it_is_gone(tmp_path: Path, told: Told) -> None:
    text = toml(told).replace('group = "1s"', 'group = "1h"')
    with Daemon(tmp_path, text, app=APP) as daemon:
        first = daemon.enqueue("fail", {})
        told.wait("dead")
        second = daemon.enqueue("fail", {})
        daemon.wait_state(second, "dead")
        assert len(told.alerts) == 1
        assert daemon.stop(3) == 0
        assert [one["ids"] for one in told.alerts] == [[first], [second]]


def test_a_daemon_that_tells_of_nothing_stops_at_once_all_the_same(tmp_path: Path, told: Told) -> None:
    text = toml(told, alerts="on = []").replace('shutdown_grace = "5s"', 'shutdown_grace = "1m"')
    with Daemon(tmp_path, text, app=APP) as daemon:
        daemon.wait_state(daemon.enqueue("fail", {}), "dead")
        assert daemon.ctl("alerts", "test").status == 0
        assert daemon.stop() == 0
        assert [one["kind"] for one in told.alerts] == ["test"]


def test_a_daemon_that_was_told_to_stop_at_once_leaves_no_command_behind(tmp_path: Path, told: Told) -> None:
    os.mkfifo(told.folder / "hold")
    with Daemon(tmp_path, toml(told), app=APP) as daemon:
        daemon.enqueue("fail", {})
        until(lambda: told.begun, REPORTED_S, "the command")
        (command,) = children_of(pid_of(daemon, "alerter"))
        daemon.quit(5)
        gone(command)


def test_the_alerter_goes_with_its_master(tmp_path: Path, told: Told) -> None:
    with Daemon(tmp_path, toml(told), app=APP) as daemon:
        alerter = pid_of(daemon, "alerter")
        daemon.kill()
        gone(alerter)


def test_a_broken_alerter_holds_up_no_pool(tmp_path: Path, told: Told) -> None:
    with Daemon(tmp_path, toml(told), app=APP) as daemon:
        for _ in range(7):
            os.kill(pid_of(daemon, "alerter"), signal.SIGKILL)
            until(lambda: (one := node(daemon, "alerter")) and (one["pid"] or one["state"] == "failed"), 15)
        until(lambda: (one := node(daemon, "alerter")) and one["circuit"] != "closed", what="its circuit")
        daemon.wait_state(daemon.enqueue("work", {}), "completed")
        foreman = next(one["pid"] for one in daemon.ctl("tree", "--json").lines if one["queue"] == "work")
        os.kill(foreman, signal.SIGKILL)
        daemon.wait_state(daemon.enqueue("work", {}), "completed")


# --- the queue ----------------------------------------------------------------------------------------------


class Hook(ThreadingHTTPServer):
    """Keeps the bodies that are sent to it."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_alert_becomes_a_job_of_a_webhook_queue(tmp_path: Path, hook: Hook) -> None:
    (tmp_path / "secret").write_bytes(b"a secret")
    alerts = f'queue = "hooks"\nurl = "http://127.0.0.1:{hook.server_port}/in"'
    extra = (
        '[queues.hooks]\nhandler = "supervisor.handlers.webhook:deliver"\n'
        f'env.JOBSUP_WEBHOOK_SECRET_FILE = "{tmp_path / "secret"}"\n'
        'env.JOBSUP_WEBHOOK_ALLOW_PRIVATE = "127.0.0.0/8"\n'
    )
    with Daemon(tmp_path, TOML.format(alerts=alerts) + extra, app=APP) as daemon:
        assert node(daemon, "alerter") is None
        job_id = daemon.enqueue("fail", {})
        until(lambda: hook.bodies, REPORTED_S, "a delivery")
        assert hook.bodies[0]["summary"] == f"job {job_id} of fail is dead: no luck with {job_id}"
        ran = daemon.ctl("alerts", "test", "--json")
        assert ran.status == 0
        assert (ran.json["command"], ran.json["queue"]["name"]) == (None, "hooks")
        daemon.wait_state(ran.json["queue"]["job"], "completed")
        assert hook.bodies[1]["kind"] == "test"


def test_a_payload_of_ones_own_is_filled_beside_the_command(tmp_path: Path, told: Told) -> None:
    payload = '{ channel = "ops", text = "{summary}", n = "{count}", all = ["{alert}"], plain = "a {brace}" }'
    with Daemon(tmp_path, toml(told, alerts=f'queue = "work"\npayload = {payload}'), app=APP) as daemon:
        ran = daemon.ctl("alerts", "test", "--json")
        found = daemon.wait_state(ran.json["queue"]["job"], "completed")["payload"]
        (alert,) = told.alerts
        assert found == {
            "channel": "ops", "text": alert["summary"], "n": 1, "all": [alert], "plain": "a {brace}",
        }  # fmt: skip


def test_a_dead_alert_causes_no_other_alert_in_its_queue(tmp_path: Path) -> None:
    with Daemon(tmp_path, TOML.format(alerts='queue = "fail"\npayload = { a = 1 }'), app=APP) as daemon:
        until(lambda: daemon.ctl("alerts", "test").status == 0)
        until(lambda: daemon.ctl("status", "--json").json["queues"]["fail"]["dead"] == 1, what="a dead alert")
        daemon.configure("nonsense = 1\n")
        daemon.signal(signal.SIGHUP)
        until(lambda: daemon.ctl("status", "--json").json["queues"]["fail"]["dead"] == 2, REPORTED_S, "the next alert")
        assert alerts_of(daemon)["sent"] == 2


def test_an_alert_for_a_queue_waits_until_the_database_can_be_written(tmp_path: Path) -> None:
    text = TOML.format(alerts='queue = "work"\npayload = { text = "{summary}" }')
    with (
        Daemon(tmp_path, text, app=APP) as daemon,
        Client(str(daemon.config), timeout="1s") as client,
    ):
        daemon.enqueue("work", {})
        with locked(daemon.database):
            with pytest.raises(Busy):
                client.enqueue("work", {})
            until(lambda: alerts_of(daemon)["waiting"] == 1, REPORTED_S, "an alert that waits")
        until(lambda: daemon.ctl("status", "--json").json["queues"]["work"]["completed"] == 2, 10, "the alert's job")
        told = [one for one in daemon.ctl("list", "--queue", "work", "--json").lines if one["id"] != 1]
        assert "database is locked" in daemon.job(told[0]["id"])["payload"]["text"]


def test_the_command_goes_on_when_as_many_alerts_as_may_wait_for_the_queue(tmp_path: Path, told: Told) -> None:
    """While the database cannot be written, which is when people need to hear of it."""
    alerts = 'queue = "tell"\npayload = { text = "{summary}" }\nlimit = 1000\noldest_max = "2s"'
    extra = '[queues.tell]\npull = true\noldest_max = "never"\n[queues."old_*"]\npull = true\n'
    with Daemon(tmp_path, toml(told, extra, alerts), app=APP) as daemon, daemon.client() as client:
        for number in range(OUTBOX_MAX + 50):  # some may be told of before the database is locked
            client.enqueue(f"old_{number}", {})
        with locked(daemon.database):
            until(lambda: alerts_of(daemon)["waiting"] == OUTBOX_MAX < len(told.alerts), 30, "more than may wait")
            ran = daemon.ctl("alerts", "test", "--json")
            assert (ran.status, ran.json["command"]) == (1, {"told": True, "error": None})
            assert "100 alerts are on their way" in ran.json["queue"]["error"]
            assert "100 alerts are on their way" in alerts_of(daemon)["error"]
        until(lambda: alerts_of(daemon)["waiting"] == 0, 10, "the jobs of those that waited")
        assert daemon.ctl("alerts", "test").status == 0


def test_the_command_sees_little_of_the_daemons_environment(tmp_path: Path) -> None:
    out = tmp_path / "environment"
    script = tmp_path / "show"
    script.write_text(f"#!/bin/sh\nenv > {out}\n")
    script.chmod(0o755)
    text = f'[alerts]\ncommand = ["{script}"]\nenv = {{ TO = "ops" }}\n[queues.q]\ncommand = ["true"]\n'
    with Daemon(tmp_path, text, env={"A_SECRET": "x"}) as daemon:
        assert daemon.ctl("alerts", "test").status == 0
    lines = out.read_text().splitlines()
    assert "TO=ops" in lines
    assert any(line.startswith("PATH=") for line in lines)
    assert not any(line.startswith(("A_SECRET", "NOTIFY_SOCKET")) for line in lines)
