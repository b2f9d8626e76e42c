"""Every verb of jobsctl while no daemon runs: exit status, what it prints, and what it prints with --json."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.client import Client
from tests.support.daemon import Daemon, Ran, Site, environment, jobsctl

TOML = """
[queues.emails]
command = ["true"]
[queues.reports]
command = ["true"]
order = "priority"
"""


def init(site: Site) -> None:
    """Make the database, as `jobsupd --one-shot --init` does."""
    command = [sys.executable, "-m", "supervisor.cli.jobsupd", "--one-shot", "--init", "-c", str(site.config)]
    subprocess.run(command, check=True, env=environment(), capture_output=True)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path, TOML)
    init(site)
    return site


def error_of(ran: Ran) -> dict[str, str]:
    """The error object, which must be all that is on stdout."""
    (only,) = ran.lines
    assert set(only) == {"error"}
    assert {"code", "message", "hint"} <= set(only["error"])
    assert only["error"]["message"] in ran.err
    found: dict[str, str] = only["error"]
    return found


def test_a_queue_that_a_pattern_speaks_of_is_not_orphaned(tmp_path: Path) -> None:
    site = Site(tmp_path, '[queues."tenant_*"]\ncommand = ["true"]\n')
    with Daemon(tmp_path, site.config.read_text()) as daemon:
        daemon.ctl("pause", "tenant_acme")
        daemon.enqueue("tenant_acme", {})
        daemon.stop()
        found = site.ctl("status", "--json").json["queues"]["tenant_acme"]
        assert (found["queued"], found["orphaned"], found["reason"]) == (1, False, None)


def test_enqueue_prints_the_id(site: Site) -> None:
    assert site.ctl("enqueue", "emails", '{"to": "a"}') == Ran(0, "1\n", "")
    assert site.ctl("enqueue", "emails").out == "2\n"
    assert site.job(1)["payload"] == {"to": "a"}
    assert site.job(2)["payload"] is None


def test_enqueue_with_json_says_where_the_job_is(site: Site) -> None:
    ran = site.ctl("enqueue", "emails", "{}", "--json")
    assert (ran.status, ran.err) == (0, "")
    assert ran.json == {"id": 1, "queue": "emails", "state": "queued", "acknowledged": "committed", "existing": False}
    assert site.ctl("enqueue", "emails", "--delay", "1h", "--json").json["state"] == "scheduled"


def test_enqueue_takes_its_payload_from_a_file_or_standard_input(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "payload.json"
    file.write_text('{"from": "file"}\n')
    site.ctl("enqueue", "emails", f"@{file}")
    site.ctl("enqueue", "emails", "-", stdin='["stdin"]')
    assert [site.job(1)["payload"], site.job(2)["payload"]] == [{"from": "file"}, ["stdin"]]


def test_enqueue_keeps_every_option(site: Site) -> None:
    options = "--priority", -3, "--timeout", "90s", "--max-attempts", 2, "--tag", "a", "--tag", "b"
    job_id = site.enqueue("reports", 1, *options, "--at", "2100-01-31T08:00:00+02:00")
    job = site.job(job_id)
    assert (job["priority"], job["max_attempts"], job["tags"]) == (-3, 2, ["a", "b"])
    assert (job["state"], job["due_at"]) == ("scheduled", "2100-01-31T06:00:00.000Z")


def test_status_shows_every_queue_and_no_daemon(site: Site) -> None:
    site.enqueue("emails")
    ran = site.ctl("status", "--json")
    assert ran.status == 0
    assert ran.json["daemon"]["running"] is False
    assert {"running", "pid", "uptime_s", "version"} <= set(ran.json["daemon"])
    emails = ran.json["queues"]["emails"]
    assert (emails["queued"], emails["workers"], emails["paused"], emails["circuit"]) == (1, 0, False, None)
    assert emails["oldest_queued_s"] >= 0
    assert ran.json["queues"]["reports"]["oldest_queued_s"] is None
    assert ran.err == ""
    plain = site.ctl("status")
    assert (plain.status, plain.err) == (0, "jobsctl: jobsupd is not running\n")
    rows = plain.rows
    assert [row[:8] for row in rows][1] == ["reports", "0", "0", "0", "0", "0", "0", "0"]
    assert rows[0][:2] == ["emails", "1"]


def test_a_client_says_that_no_daemon_runs(site: Site) -> None:
    with Client(site.config) as client:
        client.enqueue("emails")
        status = client.status()
    daemon = status["daemon"]
    assert [daemon[name] for name in ("running", "pid", "uptime_s", "version")] == [False, None, None, None]
    assert status["queues"]["emails"]["queued"] == 1


def test_status_shows_one_job(site: Site) -> None:
    job_id = site.enqueue("emails", {"a": 1})
    job = site.job(job_id)
    assert job["state"] == "queued"
    assert {"id", "queue", "state", "payload", "result", "priority", "tags", "attempt", "max_attempts", "failures",
            "crashes", "interruptions", "token", "worker", "enqueued_at", "due_at", "started_at", "finished_at",
            "errors"} <= set(job)  # fmt: skip
    rows = dict(row for row in site.ctl("status", job_id).rows if len(row) == 2)
    assert (rows["state"], rows["payload"], rows["due_at"]) == ("queued", '{"a": 1}', "")


def test_status_of_no_job_is_3(site: Site) -> None:
    ran = site.ctl("status", 99, "--json")
    assert (ran.status, error_of(ran)["code"]) == (3, "unknown_job")


def test_list_shows_the_newest_first(site: Site) -> None:
    for number in range(5):
        site.enqueue("emails" if number % 2 else "reports", number, "--tag", f"t{number % 2}")
    assert [row["id"] for row in site.ctl("list", "--json").lines] == [5, 4, 3, 2, 1]
    assert [row["id"] for row in site.ctl("list", "--queue", "emails", "--json").lines] == [4, 2]
    assert [row["id"] for row in site.ctl("list", "--tag", "t0", "--json").lines] == [5, 3, 1]
    assert [row["id"] for row in site.ctl("list", "--limit", 2, "--json").lines] == [5, 4]
    assert [row["id"] for row in site.ctl("list", "--limit", 2, "--after", 4, "--json").lines] == [3, 2]
    assert [row["id"] for row in site.ctl("list", "--limit", 0, "--json").lines] == [5, 4, 3, 2, 1]
    assert site.ctl("list", "--state", "completed", "--json").out == ""
    ran = site.ctl("list", "--limit", 1)
    assert ran.rows[0][:6] == ["5", "reports", "queued", "0", "0", "0"]
    assert set(site.ctl("list", "--json").lines[0]) == {
        "id", "queue", "state", "priority", "attempt", "crashes", "enqueued_at", "due_at", "finished_at", "result",
        "error", "key", "task",
    }  # fmt: skip


def test_list_of_no_queue_is_3(site: Site) -> None:
    ran = site.ctl("list", "--queue", "emials", "--json")
    assert (ran.status, error_of(ran)["code"]) == (3, "unknown_queue")
    assert "emails" in error_of(ran)["hint"]


def test_cancel_and_retry(site: Site) -> None:
    job_id = site.enqueue("emails")
    assert site.ctl("cancel", job_id) == Ran(0, f"{job_id}\n", "")
    assert site.job(job_id)["state"] == "cancelled"
    ran = site.ctl("cancel", job_id, "--json")
    assert (ran.status, error_of(ran)["code"]) == (1, "wrong_state")
    assert site.ctl("retry", job_id, "--json").json == {"done": [job_id], "failed": []}
    assert site.job(job_id)["state"] == "queued"
    ran = site.ctl("retry", job_id)
    assert (ran.status, ran.out) == (1, "")


def test_several_ids_are_done_one_by_one(site: Site) -> None:
    first, second = site.enqueue("emails"), site.enqueue("emails")
    ran = site.ctl("cancel", first, 99, second)
    assert (ran.status, ran.out) == (3, f"{first}\n{second}\n")
    assert "99" in ran.err
    ran = site.ctl("cancel", first, 99, "--json")
    assert ran.status == 1, "the failures do not agree"
    assert [(each["id"], each["code"]) for each in ran.json["failed"]] == [(first, "wrong_state"), (99, "unknown_job")]


def test_pause_and_resume(site: Site) -> None:
    assert site.ctl("pause", "emails") == Ran(0, "", "")
    assert site.ctl("status", "--json").json["queues"]["emails"]["paused"] is True
    assert site.ctl("pause", "emails", "--json").json == {"queue": "emails", "paused": True}
    assert site.ctl("resume", "emails", "--json").json == {"queue": "emails", "paused": False}
    assert site.ctl("status", "--json").json["queues"]["emails"]["paused"] is False


UNKNOWN_QUEUE = [
    ("pause", "nope"), ("resume", "nope"), ("move", "emails", "nope"), ("move", "nope", "emails"), ("enqueue", "nope"),
    ("purge", "nope", "--state", "completed"), ("dead", "list", "--queue", "nope"), ("list", "--queue", "nope"),
    ("dead", "retry", "--queue", "nope"), ("dead", "delete", "--queue", "nope"),
]  # fmt: skip


@pytest.mark.parametrize("args", UNKNOWN_QUEUE, ids=" ".join)
def test_an_unknown_queue_is_3(site: Site, args: tuple[str, ...]) -> None:
    ran = site.ctl(*args, "--json")
    assert (ran.status, error_of(ran)["code"]) == (3, "unknown_queue")


def test_move_takes_the_jobs_of_a_queue_that_left_the_configuration(site: Site) -> None:
    site.enqueue("emails")
    site.enqueue("emails")
    site.configure(TOML.replace("emails", "letters"))
    assert site.ctl("status", "--json").json["queues"]["emails"]["orphaned"] is True
    assert site.ctl("move", "emails", "letters") == Ran(0, "2\n", "")
    assert site.ctl("move", "emails", "letters", "--json").json == {"old": "emails", "new": "letters", "count": 0}
    assert site.ctl("status", "--json").json["queues"]["letters"]["queued"] == 2


def test_purge_deletes_what_is_in_one_state(site: Site) -> None:
    first, second = site.enqueue("emails"), site.enqueue("emails")
    site.ctl("cancel", first)
    assert site.ctl("purge", "emails", "--state", "cancelled") == Ran(0, "1\n", "")
    assert site.ctl("status", first).status == 3
    assert site.ctl("status", second).status == 0
    ran = site.ctl("purge", "emails", "--state", "dead", "--json")
    assert ran.json == {"queue": "emails", "state": "dead", "count": 0}
    assert site.ctl("purge", "emails").status == 2
    assert site.ctl("purge", "emails", "--state", "running").status == 2


def test_wait_answers_for_a_final_job_only(site: Site) -> None:
    job_id = site.enqueue("emails")
    ran = site.ctl("wait", job_id, "--json")
    assert (ran.status, error_of(ran)["code"]) == (4, "not_running")
    site.ctl("cancel", job_id)
    assert site.ctl("wait", job_id) == Ran(1, "cancelled\n", "")
    assert site.ctl("wait", job_id, "--json").json["state"] == "cancelled"
    assert site.ctl("wait", 99).status == 3


@pytest.mark.parametrize("command", ["workers", "tree", "reload"])
def test_what_needs_a_daemon_is_4_without(site: Site, command: str) -> None:
    ran = site.ctl(command, "--json")
    assert (ran.status, error_of(ran)["code"]) == (4, "not_running")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["enqueu"], "there is no command 'enqueu'; did you mean enqueue?"),
        (["flow", "shwo", "3"], "there is no command 'shwo'; did you mean show?"),
        (["queues", "list"], "there is no command 'list'; known are add"),
        (["flow", "wait", "3"], "there is no command 'wait'; jobsctl wait ID waits for flows as well"),
    ],
)
def test_a_command_that_there_is_not_is_answered_with_one_that_there_is(command: list[str], said: str) -> None:
    ran = jobsctl(*command, "--json")
    assert (ran.status, error_of(ran)["message"]) == (2, said)


def test_dead_letters_need_a_filter_to_be_touched(site: Site) -> None:
    for verb in ("retry", "delete"):
        ran = site.ctl("dead", verb, "--json")
        assert (ran.status, error_of(ran)["code"]) == (2, "usage")
        assert site.ctl("dead", verb, "--all") == Ran(0, "0\n", "")
        assert site.ctl("dead", verb, "--queue", "emails", "--before", "7d", "--json").json == {"count": 0}
    assert site.ctl("dead", "list") == Ran(0, "", "")


def test_queues_add_writes_a_drop_in_and_leaves_the_file_alone(site: Site) -> None:
    before = site.config.read_bytes()
    ran = site.ctl("queues", "add", "thumbs", "--command", "convert 'a b' -- {path}", "--key", "backoff.base=2s")
    assert ran.status == 0
    file = site.config.parent / "queues.d" / "50-thumbs.toml"
    assert ran.out == f"{file}\n"
    shown = site.ctl("config", "show", "--json").json["queues"]["thumbs"]
    assert (shown["command"], shown["backoff"]["base"]) == (["convert", "a b", "--", "{path}"], "2s")
    assert site.config.read_bytes() == before
    again = site.ctl("queues", "add", "thumbs", "--handler", "a:b", "--json")
    assert (again.status, error_of(again)["code"]) == (2, "config")
    bad = site.ctl("queues", "add", "more", "--handler", "a:b", "--key", "wrokers=3", "--json")
    assert bad.status == 2
    assert "workers" in error_of(bad)["message"]
    assert site.ctl("queues", "add", "more", "--handler", "a:b", "--json").json["queue"] == "more"
    assert site.ctl("queues", "add", "less").status == 2


@pytest.mark.parametrize(("given", "workers"), [("3", 3), ("2-5", {"min": 2, "max": 5}), ("1-1", {"min": 1, "max": 1})])
def test_a_queue_is_added_with_a_number_of_workers_or_with_bounds(site: Site, given: str, workers: object) -> None:
    assert site.ctl("queues", "add", "more", "--handler", "a:b", "--workers", given).status == 0
    assert site.ctl("config", "show", "--json").json["queues"]["more"]["workers"] == workers


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("0", "0 is out of range"), ("5-2", "min 5 is above max 2"), ("1-999", "max: 999 is out of range"),
        ("many", "'many' is no number of workers"), ("1-", "'1-' is no number of workers"), ("-1", "--workers"),
    ],
)  # fmt: skip
def test_a_number_of_workers_that_cannot_be_adds_nothing(site: Site, given: str, text: str) -> None:
    ran = site.ctl("queues", "add", "more", "--handler", "a:b", "--workers", given)
    assert (ran.status, text in ran.err) == (2, True), ran.err
    assert "more" not in site.ctl("config", "show", "--json").json["queues"]


def test_config_check_says_every_problem(site: Site) -> None:
    assert site.ctl("config", "check").status == 0
    assert site.ctl("config", "check", "--json").json["queues"] == ["emails", "reports"]
    site.configure(TOML + "wrokers = 3\ntimeout = 5\n")
    ran = site.ctl("config", "check", "--json")
    assert ran.status == 2
    assert len(error_of(ran)["problems"]) == 2
    assert sum(f"{site.config}:" in line for line in ran.err.splitlines()) == 2


def test_config_show_can_be_loaded_again(site: Site, tmp_path: Path) -> None:
    ran = site.ctl("config", "show")
    assert ran.status == 0
    copy = tmp_path / "etc" / "copy.toml"
    copy.write_text(ran.out)
    assert jobsctl("config", "show", config=copy).out == ran.out
    assert json.loads(site.ctl("config", "show", "--json").out)["daemon"]["database"] == str(site.database)


def test_set_is_heeded_also_where_the_environment_names_a_socket(site: Site, tmp_path: Path) -> None:
    env = {"JOBSUP_SOCKET": str(tmp_path / "nobody.sock"), "JOBSUP_CONFIG": str(site.config)}
    assert jobsctl("--set", "bogus", "enqueue", "emails", env=env).status == 2
    assert jobsctl("--set", "daemon.shutdown_grace=1s", "enqueue", "emails", env=env).status == 0


def test_set_overrides_a_key_wherever_it_stands(site: Site) -> None:
    for args in (["--set", "queues.emails.workers=7", "config", "show", "--json"],
                 ["config", "show", "--json", "--set", "queues.emails.workers=7"]):  # fmt: skip
        assert site.ctl(*args).json["queues"]["emails"]["workers"] == 7


def test_the_configuration_may_be_named_in_front_or_behind(site: Site) -> None:
    assert jobsctl("-c", site.config, "status").status == 0
    assert jobsctl("status", "-c", site.config).status == 0
    assert jobsctl("status", env={"JOBSUP_CONFIG": str(site.config)}).status == 0
    assert jobsctl("status", cwd=site.path).status == 0, "etc/queues.toml below the working directory"
    assert jobsctl("status", cwd="/").status == 2


def test_backup_copies_the_database(site: Site, tmp_path: Path) -> None:
    site.enqueue("emails", "kept")
    copy = tmp_path / "copy.db"
    assert site.ctl("backup", copy) == Ran(0, f"{copy}\n", "")
    assert copy.stat().st_mode & 0o777 == 0o600
    ran = site.ctl("backup", copy, "--json")
    assert (ran.status, error_of(ran)["code"]) == (2, "usage")
    found = site.ctl("backup", tmp_path / "second.db", "--json").json
    assert (found["jobs"], found["newest_id"], found["file"]) == (1, 1, str(tmp_path / "second.db"))
    site.configure(f'[daemon]\ndatabase = "{copy}"\n' + TOML)
    assert site.job(1)["payload"] == "kept"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_backup_into_no_folder_says_so(site: Site) -> None:
    ran = site.ctl("backup", "/nonexistent/copy.db", "--json")
    assert (ran.status, error_of(ran)["code"]) == (1, "store")


def test_doctor_is_content_with_a_good_site(site: Site) -> None:
    ran = site.ctl("doctor", "--json")
    assert ran.status == 0, ran.out
    assert ran.json["ok"] is True
    assert {finding["name"] for finding in ran.json["findings"]} <= {"daemon_absent", "config_advice", "nofile_low"}
    assert len(ran.json["checked"]) >= 25


def test_without_a_database_reading_is_empty_and_writing_says_what_to_do(tmp_path: Path) -> None:
    site = Site(tmp_path, TOML)
    assert site.ctl("status", "--json").json["queues"]["emails"]["queued"] == 0
    assert site.ctl("list") == Ran(0, "", "")
    assert site.ctl("status", 1).status == 3
    for args in (["enqueue", "emails"], ["cancel", "1"], ["pause", "emails"], ["backup", str(tmp_path / "b")]):
        ran = site.ctl(*args, "--json")
        assert (ran.status, error_of(ran)["code"]) == (4, "no_database"), args
        assert "jobsupd" in error_of(ran)["hint"]
    assert not site.database.exists(), "nothing but a daemon, or --init, makes a database"
