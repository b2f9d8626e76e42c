"""What operators do about jobs that have been, with a real daemon: groups, replays, edits, searches, exports."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.client import Client
from supervisor.errors import InvalidPayload, UnknownJob, WrongState
from supervisor.policy.figures import BARS
from tests.support.daemon import Daemon, Site
from tests.support.terminal import jobsctl_on_terminal
from tests.support.waiting import opened, until

TOML = """
[daemon]
python_path = ["../app"]
[defaults]
max_attempts = 1
workers = 2
[queues.mails]
handler = "tasks:run"
redact = ["secret"]
[queues.tries]
handler = "tasks:run"
max_attempts = 3
backoff = { base = "1h" }
[queues.ranked]
handler = "tasks:run"
order = "priority"
max_payload = "200B"
[queues.few]
handler = "tasks:run"
retention = { completed_max = 10, dead_max = 5 }
"""
APP = {
    "tasks.py": """
import os
from pathlib import Path

MENDED = Path(__file__).with_name("mended")

def run(job):
    payload = job.payload or {}
    if payload.get("bad") and not MENDED.exists():
        number = payload["n"]
        if payload["bad"] == "user":
            raise LookupError(f"no user {number} in '/srv/{number}'")
        raise ValueError("the disk is full")
    return {"n": payload.get("n")}
"""
}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, TOML, app=APP) as running:
        yield running


def mend(daemon: Daemon) -> None:
    (daemon.app / "mended").touch()


def run_all(daemon: Daemon, queue: str, payloads: list[Any], *states: str) -> list[int]:
    """Enqueue jobs, and wait until each is in one of these states (final ones, unless they are named)."""
    with daemon.client() as client:
        ids: list[int] = client.enqueue_many(queue, payloads)
        if states:
            for job in ids:
                until(lambda job=job: client.status(job)["state"] in states, 15)
        else:
            for job in ids:
                client.wait(job, timeout=15)
    return ids


def user(number: int) -> dict[str, Any]:
    return {"n": number, "bad": "user"}


def disk(number: int) -> dict[str, Any]:
    return {"n": number, "bad": "disk"}


def replays(daemon: Site) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = daemon.ctl("dead", "replays", "--json").lines
    return found


def ended(daemon: Site) -> dict[str, Any]:
    """The newest replay, once it is over."""
    return until(lambda: next((one for one in replays(daemon)[:1] if one["ended_at"]), None), 20, "the replay's end")


def counts(daemon: Site, queue: str) -> dict[str, int]:
    with daemon.client() as client:
        found: dict[str, int] = client.status()["queues"][queue]
        return found


# -- dead letters by error -------------------------------------------------------------------------------------


def test_dead_letters_are_grouped_by_error_and_listed_and_retried_by_group(daemon: Daemon) -> None:
    ids = run_all(daemon, "mails", [user(1), disk(2), user(3), user(4)])
    first, second = daemon.ctl("dead", "groups", "--json").lines
    assert (first["count"], first["type"], first["queue"], first["sample_id"]) == (3, "LookupError", "mails", ids[3])
    assert (second["count"], second["type"], second["message"]) == (1, "ValueError", "the disk is full")
    assert first["first_at"] <= first["last_at"]
    listed = daemon.ctl("dead", "list", "--fingerprint", first["fingerprint"], "--json").lines
    assert [job["id"] for job in listed] == [ids[3], ids[2], ids[0]]
    assert {job["fingerprint"] for job in listed} == {first["fingerprint"]}
    mend(daemon)
    assert daemon.ctl("dead", "retry", "--fingerprint", first["fingerprint"], "--limit", "2").out == "2\n"
    for job in (ids[0], ids[2]):
        daemon.wait_state(job, "completed")
    assert [group["count"] for group in daemon.ctl("dead", "groups", "--json").lines] == [1, 1]


def test_a_dry_run_says_how_many_of_which_group_and_changes_nothing(daemon: Daemon) -> None:
    run_all(daemon, "mails", [user(1), disk(2), user(3)])
    for verb in ("retry", "delete"):
        found = daemon.ctl("dead", verb, "--queue", "mails", "--dry-run", "--json").json
        assert found["count"] == 3
        assert [(group["count"], group["type"]) for group in found["groups"]] == [(2, "LookupError"), (1, "ValueError")]
    assert daemon.ctl("dead", "retry", "--all", "--limit", "1", "--dry-run", "--json").json["count"] == 1
    assert counts(daemon, "mails")["dead"] == 3


def test_what_is_no_fingerprint_no_pace_and_no_filter_is_refused(daemon: Daemon) -> None:
    for args, said in (
        (("retry", "--fingerprint", "xyz"), "no fingerprint"),
        (("retry", "--all", "--pace", "10"), "not a pace"),
        (("retry", "--all", "--pace", "0/s"), "a pace has 1 to"),
        (("retry", "--pace", "10/s"), "name the dead letters that are meant"),
        (("delete", "--dry-run"), "name the dead letters that are meant"),
    ):
        ran = daemon.ctl("dead", *args)
        assert (ran.status, said in ran.err) == (2, True), ran.err


def test_dead_letters_of_an_earlier_version_get_their_groups(tmp_path: Path) -> None:
    with Daemon(tmp_path, TOML, app=APP) as daemon:
        run_all(daemon, "mails", [user(number) for number in range(120)])
        before = daemon.ctl("dead", "groups", "--json").lines
        assert daemon.stop() == 0
        db = sqlite3.connect(daemon.database)
        db.executescript("DELETE FROM letter; DELETE FROM letter_group;")
        db.execute("UPDATE meta SET value = (SELECT max(id) + 1 FROM job) WHERE name = 'letters_below'")
        db.commit()
        db.close()
        daemon.start()
        until(lambda: [group["count"] for group in daemon.ctl("dead", "groups", "--json").lines] == [120], 10)
        (after,) = daemon.ctl("dead", "groups", "--json").lines
        assert after["fingerprint"] == before[0]["fingerprint"]


def test_a_database_that_is_not_brought_to_this_version_yet_is_an_error_that_says_so(tmp_path: Path) -> None:
    with Daemon(tmp_path, TOML, app=APP) as daemon:
        assert daemon.stop() == 0
    db = sqlite3.connect(tmp_path / "var" / "jobs.db")
    db.executescript("DROP TABLE letter_group; DROP TABLE stat;")
    db.close()
    site = Site(tmp_path, TOML)
    for args in (("dead", "groups"), ("stats",)):
        ran = site.ctl(*args)
        assert (ran.status, "no such table" in ran.err, "start jobsupd" in ran.err) == (1, True, True)


# -- replays ---------------------------------------------------------------------------------------------------


def test_a_replay_releases_at_its_pace(daemon: Daemon) -> None:
    ids = run_all(daemon, "mails", [user(number) for number in range(12)])
    mend(daemon)
    assert daemon.ctl("dead", "retry", "--queue", "mails", "--pace", "10/s", "--json").json == {"replay": 1}
    found = ended(daemon)
    assert (found["state"], found["matched"], found["released"], found["completed"]) == ("finished", 12, 12, 12)
    assert (found["failed"], found["pending"], found["pace"]) == (0, 0, "10/1s")
    started = sorted(_ms(daemon.job(job)["started_at"]) for job in ids)
    assert started[-1] - started[0] >= 1_000, "12 jobs at 10 a second take more than a second"


def _ms(instant: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(instant).timestamp() * 1000


def test_a_canary_that_fails_stops_the_replay_and_the_rest_stays_dead(daemon: Daemon) -> None:
    ids = run_all(daemon, "mails", [user(number) for number in range(10)])
    daemon.ctl("dead", "retry", "--queue", "mails", "--canary", "2")
    found = ended(daemon)
    assert (found["state"], found["released"]) == ("stopped", 2)
    assert found["reason"].startswith("canary job ")
    assert counts(daemon, "mails")["dead"] == 10
    assert Counter(len(daemon.job(job)["errors"]) for job in ids) == {1: 8, 2: 2}


def test_the_rest_follows_a_canary_that_completes(daemon: Daemon) -> None:
    run_all(daemon, "mails", [user(number) for number in range(10)])
    mend(daemon)
    daemon.ctl("dead", "retry", "--queue", "mails", "--canary", "2", "--limit", "7")
    found = ended(daemon)
    assert (found["state"], found["matched"], found["completed"]) == ("finished", 7, 7)
    assert counts(daemon, "mails")["dead"] == 3


def test_a_failed_attempt_stops_a_replay_that_is_to_stop_on_failure(daemon: Daemon) -> None:
    """Though that job will be tried again: nobody waits for its last attempt."""
    ids = run_all(daemon, "tries", [user(number) for number in range(5)], "scheduled")
    _bury(daemon, ids)
    daemon.ctl("dead", "retry", "--queue", "tries", "--pace", "1/1h", "--stop-on-failure")
    found = ended(daemon)
    assert (found["state"], found["released"], found["failed"]) == ("stopped", 1, 0)
    assert found["reason"] == f"job {ids[0]} failed an attempt"
    assert daemon.job(ids[0])["state"] == "scheduled"


def _bury(daemon: Daemon, ids: list[int]) -> None:
    """Make jobs that wait for their next attempt dead, by letting them use up their attempts."""
    daemon.configure(TOML.replace('backoff = { base = "1h" }', 'backoff = { base = "1ms" }'))
    assert daemon.ctl("reload").status == 0
    for job in ids:
        daemon.ctl("retry", job)
        daemon.wait_state(job, "dead")
    daemon.configure(TOML)
    assert daemon.ctl("reload").status == 0


def test_a_replay_is_stopped_by_hand_once(daemon: Daemon) -> None:
    run_all(daemon, "mails", [user(number) for number in range(5)])
    mend(daemon)
    daemon.ctl("dead", "retry", "--queue", "mails", "--pace", "1/1h")
    until(lambda: replays(daemon)[0]["completed"] == 1, 10)
    assert daemon.ctl("dead", "stop", "1", "--json").json == {"replay": 1, "released": 1}
    found = ended(daemon)
    assert (found["state"], found["reason"]) == ("stopped", "stopped by a client")
    assert counts(daemon, "mails")["dead"] == 4
    again, unknown = daemon.ctl("dead", "stop", "1"), daemon.ctl("dead", "stop", "7")
    assert (again.status, unknown.status) == (1, 3)
    assert "stopped already" in again.err


def test_a_replay_goes_on_at_its_pace_after_its_keeper_and_its_daemon_were_killed(daemon: Daemon) -> None:
    ids = run_all(daemon, "mails", [user(number) for number in range(30)])
    mend(daemon)
    daemon.ctl("dead", "retry", "--queue", "mails", "--pace", "10/s", "--canary", "1")
    until(lambda: replays(daemon)[0]["completed"] >= 3, 10)
    keeper = next(node["pid"] for node in daemon.ctl("tree", "--json").lines if node["role"] == "keeper")
    os.kill(keeper, signal.SIGKILL)
    until(lambda: replays(daemon)[0]["completed"] >= 10, 15)
    daemon.kill()
    daemon.sweep()
    halfway = replays(daemon)[0]
    assert halfway["released"] < 30
    daemon.start()
    found = ended(daemon)
    assert (found["state"], found["released"], found["completed"], found["failed"]) == ("finished", 30, 30, 0)
    assert {daemon.job(job)["attempt"] for job in ids} == {1}, "each ran once more, and no more"


def test_a_replay_asked_for_without_a_daemon_waits_for_one(tmp_path: Path) -> None:
    with Daemon(tmp_path, TOML, app=APP) as daemon:
        run_all(daemon, "mails", [user(1), user(2)])
        assert daemon.stop() == 0
        mend(daemon)
        assert daemon.ctl("dead", "retry", "--queue", "mails", "--canary", "1").out == "1\n"
        assert [one["state"] for one in replays(daemon)] == ["choosing"]
        daemon.start()
        assert ended(daemon)["completed"] == 2


# -- edits -----------------------------------------------------------------------------------------------------


def test_a_dead_job_is_mended_and_retried(daemon: Daemon) -> None:
    (job,) = run_all(daemon, "mails", [user(1)])
    assert daemon.ctl("edit", job, "--payload", '{"n": 5}', "--tag", "mended").out == f"{job}\n"
    daemon.ctl("retry", job)
    found = daemon.wait_state(job, "completed")
    assert (found["payload"], found["result"], found["tags"]) == ({"n": 5}, {"n": 5}, ["mended"])


def test_a_scheduled_job_gets_another_time_priority_and_limits(daemon: Daemon) -> None:
    job = daemon.enqueue("ranked", {"n": 1}, "--delay", "1h", "--tag", "a", "--tag", "b", "--timeout", "5s")
    found = daemon.ctl(
        "edit", job, "--delay", "2h", "--priority", "7", "--untag", "a", "--tag", "c", "--max-attempts", "9", "--json"
    )  # fmt: skip
    assert found.json == {"id": job, "queue": "ranked", "state": "scheduled"}
    shown = daemon.job(job)
    assert (shown["priority"], shown["tags"], shown["max_attempts"]) == (7, ["b", "c"], 9)
    assert daemon.ctl("edit", job, "--delay", "0s").status == 0
    daemon.wait_state(job, "completed")


def test_a_job_moves_to_another_queue_whose_rules_hold(daemon: Daemon) -> None:
    job = daemon.enqueue("mails", {"n": "x" * 300}, "--delay", "1h")
    refused = daemon.ctl("edit", job, "--queue", "ranked")
    assert (refused.status, "max_payload" in refused.err) == (2, True)
    assert daemon.job(job)["queue"] == "mails"
    assert daemon.ctl("edit", job, "--queue", "ranked", "--payload", '{"n":1}', "--priority", "3").status == 0
    assert [daemon.job(job)[name] for name in ("queue", "priority", "payload")] == ["ranked", 3, {"n": 1}]


def test_what_cannot_be_edited_is_refused_and_nothing_is_changed(daemon: Daemon) -> None:
    (job,) = run_all(daemon, "mails", [{"n": 1}])
    waiting = daemon.enqueue("mails", {"n": 2}, "--delay", "1h")
    for status, said, args in (
        (1, "it has no time to run at", (job, "--delay", "1h")),
        (3, "there is no job 9999", (9999, "--payload", "1")),
        (3, "there is no queue nowhere", (waiting, "--queue", "nowhere")),
        (2, "does not order by priority", (waiting, "--priority", "1")),
        (2, "not JSON", (waiting, "--payload", "{")),
        (2, "exclude each other", (waiting, "--delay", "1h", "--at", "2030-01-01T00:00:00Z")),
        (2, "name something to change", (waiting,)),
    ):
        ran = daemon.ctl("edit", *args)
        assert (ran.status, said in ran.err) == (status, True), ran.err
    assert daemon.job(waiting)["payload"] == {"n": 2}


def test_a_running_job_is_not_edited(tmp_path: Path) -> None:
    app = {"tasks.py": "def run(job):\n    open(job.payload).read()\n"}
    os.mkfifo(tmp_path / "gate")
    with Daemon(tmp_path, TOML, app=app) as daemon, daemon.client() as client:
        job = client.enqueue("mails", str(tmp_path / "gate"))
        until(lambda: client.status(job)["worker"], 10)
        with pytest.raises(WrongState, match=f"job {job} is running"):
            client.edit(job, payload=1)
        until(lambda: opened(tmp_path / "gate"), 10)
        client.wait(job, timeout=10)


def test_the_python_client_edits_as_the_command_does(daemon: Daemon) -> None:
    with daemon.client() as client:
        job = client.enqueue("ranked", {"n": 1}, delay="1h")
        assert client.edit(job, payload=None, priority=5, tags=["a"], untag=["b"], timeout=3)["state"] == "scheduled"
        shown = client.status(job)
        assert (shown["payload"], shown["priority"], shown["tags"]) == (None, 5, ["a"])
        with pytest.raises(InvalidPayload):
            client.edit(job, payload={"n": float("nan")})
        with pytest.raises(UnknownJob):
            client.edit(10**6, priority=1)


def test_a_job_is_edited_without_a_daemon(tmp_path: Path) -> None:
    with Daemon(tmp_path, TOML, app=APP) as daemon:
        (job,) = run_all(daemon, "mails", [user(1)])
        assert daemon.stop() == 0
    site = Site(tmp_path, TOML)
    assert site.ctl("edit", job, "--payload", "{}").status == 0
    assert site.job(job)["payload"] == {}


# -- searches, deletion, retention, export ---------------------------------------------------------------------


def test_jobs_are_found_by_time_text_tag_and_error(daemon: Daemon) -> None:
    ids = run_all(daemon, "mails", [user(1), {"n": 2, "to": "ann@example.com", "secret": "hush"}, disk(3)])
    tagged = daemon.enqueue("ranked", {"n": 4}, "--tag", "x")
    daemon.wait_state(tagged, "completed")

    def found(*args: object) -> list[int]:
        return [job["id"] for job in daemon.ctl("list", "--json", *args).lines]

    assert found("--text", "ann@example") == [ids[1]]
    assert found("--text", "no user 1") == [ids[0]]
    assert found("--text", "hush") == [], "what is redacted is not found"
    assert found("--error-type", "ValueError") == [ids[2]]
    assert found("--tag", "x") == [tagged]
    assert found("--since", "1h", "--limit", "2") == [tagged, ids[2]]
    assert found("--since", "1h", "--after", str(ids[2])) == [ids[1], ids[0]]
    assert found("--until", "1h") == []
    at = daemon.job(ids[2])["finished_at"]
    assert ids[2] in found("--by", "finished", "--since", at)
    assert ids[2] not in found("--by", "finished", "--until", at)


def test_jobs_are_deleted_by_what_they_are_and_never_by_nothing(daemon: Daemon) -> None:
    ids = run_all(daemon, "mails", [{"n": 1}, {"n": 2}, user(3)])
    waiting = daemon.enqueue("mails", {"n": 4}, "--delay", "1h", "--tag", "old")
    for args in ((), ("--dry-run",), ("--by", "finished")):
        assert daemon.ctl("delete", *args).status == 2
    assert daemon.ctl("delete", "--state", "running").status == 2
    assert daemon.ctl("delete", "--queue", "nowhere").status == 3
    assert daemon.ctl("delete", "--queue", "mails", "--dry-run").out == "3\n"
    for verb, status in (("completed", 0), ("running", 2)):
        assert daemon.ctl("purge", "mails", "--state", verb, "--dry-run").status == status
    assert daemon.ctl("purge", "mails", "--state", "completed", "--dry-run").out == "2\n"
    assert counts(daemon, "mails")["completed"] == 2
    assert daemon.ctl("delete", "--queue", "mails", "--text", '"n":2').out == "1\n"
    assert daemon.ctl("delete", str(ids[0]), str(waiting)).out == "1\n", "one that has not ended is not meant"
    assert daemon.ctl("delete", "--tag", "old", "--state", "scheduled").out == "1\n"
    assert daemon.ctl("delete", "--before", "0s", "--state", "dead", "--json").json == {"count": 1}
    assert daemon.ctl("list", "--limit", "0").out == ""
    assert daemon.ctl("dead", "groups").out == ""


def test_no_more_final_jobs_are_kept_than_the_queue_says_and_the_newest_are(daemon: Daemon) -> None:
    bad = run_all(daemon, "few", [user(number) for number in range(8)])
    good = run_all(daemon, "few", [{"n": number} for number in range(40)])
    until(lambda: (counts(daemon, "few")["completed"], counts(daemon, "few")["dead"]) == (10, 5), 15)
    left = {job["id"] for job in daemon.ctl("list", "--queue", "few", "--limit", "0", "--json").lines}
    assert left == {*bad[-5:], *good[-10:]}


def test_an_export_is_whole_redacted_and_as_many_as_there_are(daemon: Daemon, tmp_path: Path) -> None:
    ids = run_all(daemon, "mails", [{"n": 1, "secret": "hush"}, user(2), {"n": 3, "text": 'a "b",\nc'}])
    lines = daemon.ctl("export").lines
    assert [job["id"] for job in lines] == ids[::-1]
    assert lines[2]["payload"] == {"n": 1, "secret": "[redacted]"}
    assert lines[1]["error"] == "no user 2 in '/srv/2'"
    target = tmp_path / "jobs.csv"
    ran = daemon.ctl("export", "--queue", "mails", "--state", "completed", "--format", "csv", "-o", target, "--json")
    assert ran.json == {"file": str(target), "count": 2, "format": "csv"}
    with target.open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [int(row["id"]) for row in table] == [ids[2], ids[0]]
    assert json.loads(table[0]["payload"]) == {"n": 3, "text": 'a "b",\nc'}
    assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.glob(".jobs.csv*")] == []


def test_an_export_follows_links_and_writes_to_what_is_no_file_as_it_is(daemon: Daemon, tmp_path: Path) -> None:
    (job,) = run_all(daemon, "mails", [{"n": 1}])
    real, link, pipe = tmp_path / "real.jsonl", tmp_path / "link.jsonl", tmp_path / "pipe"
    link.symlink_to(real)
    os.mkfifo(pipe)
    assert daemon.ctl("export", "--queue", "mails", "-o", link).status == 0
    assert link.is_symlink()
    assert json.loads(real.read_text().splitlines()[0])["id"] == job
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    assert daemon.ctl("export", "--queue", "mails", "-o", pipe).status == 0
    reader.join(20)
    assert pipe.is_fifo()
    assert read == [real.read_text()]
    full = daemon.ctl("export", "--queue", "mails", "-o", "/dev/full")
    assert (full.status, "No space left" in full.err) == (1, True)
    assert Path("/dev/full").is_char_device()


def test_an_export_that_cannot_be_written_leaves_what_was_there(daemon: Daemon, tmp_path: Path) -> None:
    run_all(daemon, "mails", [{"n": 1}])
    assert daemon.ctl("export", "-o", tmp_path / "missing" / "x").status == 2
    assert daemon.ctl("export", "-o", tmp_path).status == 2
    assert daemon.ctl("export", "--format", "csv", "--json").status == 2


# -- keys ------------------------------------------------------------------------------------------------------


def of_key(daemon: Site, queue: str, key: str | None, *payloads: Any) -> list[int]:
    """Jobs of a key that have ended."""
    with daemon.client() as client:
        ids: list[int] = client.enqueue_many(queue, payloads, key=key)
        for job in ids:
            client.wait(job, timeout=15)
    return ids


def test_jobs_are_listed_and_exported_by_their_key(daemon: Daemon, tmp_path: Path) -> None:
    first = of_key(daemon, "mails", "acme", {"n": 1}, user(2))
    plain = of_key(daemon, "mails", None, {"n": 3})
    other = of_key(daemon, "mails", "other", {"n": 4})
    last = of_key(daemon, "ranked", "acme", {"n": 5})

    def found(*args: object) -> list[int]:
        return [job["id"] for job in daemon.ctl("list", "--json", *args).lines]

    assert found("--key", "acme") == [*last, *first[::-1]]
    assert found("--key", "acme", "--queue", "mails") == first[::-1]
    assert found("--key", "acme", "--state", "dead") == first[1:]
    assert found("--key", "acme", "--limit", "2", "--after", last[0]) == first[::-1]
    assert found("--key", "acme", "--text", "no user") == first[1:]
    assert found("--key", "") == plain
    assert found("--key", "nobody") == []
    assert {job["id"]: job["key"] for job in daemon.ctl("list", "--json").lines} == {
        **dict.fromkeys(first + last, "acme"), plain[0]: None, other[0]: "other"
    }  # fmt: skip
    assert daemon.ctl("list", "--key", "other").out.rstrip("\n").split("\t")[-2] == "other"
    assert daemon.job(first[0])["key"] == "acme"
    assert [(job["id"], job["key"]) for job in daemon.ctl("export", "--key", "acme", "--queue", "ranked").lines] == [
        (last[0], "acme")
    ]
    target = tmp_path / "jobs.csv"
    assert daemon.ctl("export", "--key", "acme", "--format", "csv", "-o", target).out == "3\n"
    with target.open(newline="") as file:
        assert [row["key"] for row in csv.DictReader(file)] == ["acme"] * 3
    assert daemon.ctl("export", "--key", "", "--format", "csv").out.splitlines()[1].endswith(",")
    for args in (("list",), ("export",), ("delete",), ("dead", "list"), ("dead", "delete")):
        ran = daemon.ctl(*args, "--key", "k" * 201)
        assert (ran.status, "keys have at most 200 printable characters" in ran.err) == (2, True), ran.err


def test_jobs_are_deleted_by_their_key_and_no_others(daemon: Daemon) -> None:
    mine = of_key(daemon, "mails", "acme", *[{"n": number} for number in range(150)])
    away = of_key(daemon, "ranked", "acme", {"n": 1})
    plain = of_key(daemon, "mails", None, {"n": 2})
    kept = of_key(daemon, "mails", "other", {"n": 3})
    waiting = daemon.enqueue("mails", {"n": 4}, "--key", "acme", "--delay", "1h")
    assert daemon.ctl("delete", "--key", "acme", "--dry-run").out == f"{len(mine) + 1}\n"
    assert daemon.ctl("delete", "--key", "acme", "--queue", "mails", "--json").json == {"count": len(mine)}
    assert daemon.ctl("delete", "--key", "acme", "--state", "scheduled").out == "1\n"
    assert daemon.ctl("status", waiting).status == 3
    left = {job["id"] for job in daemon.ctl("list", "--limit", "0", "--json").lines}
    assert left == {*away, *plain, *kept}
    assert daemon.ctl("delete", "--key", "").out == "1\n", "those without a key"
    with daemon.client() as client:
        assert client.request("delete", key="acme") == {"count": 1}
    assert [job["id"] for job in daemon.ctl("list", "--json").lines] == kept


def test_dead_letters_are_listed_retried_and_deleted_by_their_key(daemon: Daemon) -> None:
    mine = of_key(daemon, "mails", "acme", user(1), {"n": 2}, disk(3), user(4))
    other = of_key(daemon, "mails", "other", user(5))
    plain = of_key(daemon, "mails", None, user(6))
    listed = daemon.ctl("dead", "list", "--key", "acme", "--json").lines
    assert [(job["id"], job["key"]) for job in listed] == [(mine[i], "acme") for i in (3, 2, 0)]
    mark = listed[0]["fingerprint"]
    by_both = daemon.ctl("dead", "list", "--key", "acme", "--fingerprint", mark, "--json").lines
    assert [job["id"] for job in by_both] == [mine[3], mine[0]]
    assert [job["id"] for job in daemon.ctl("dead", "list", "--key", "", "--json").lines] == plain
    assert daemon.ctl("dead", "retry", "--key", "acme", "--dry-run", "--json").json["count"] == 3
    assert daemon.ctl("dead", "delete", "--key", "acme", "--type", "ValueError").out == "1\n"
    mend(daemon)
    assert daemon.ctl("dead", "retry", "--key", "acme", "--fingerprint", mark, "--limit", "1").out == "1\n"
    daemon.wait_state(mine[0], "completed")
    assert daemon.ctl("dead", "retry", "--key", "acme", "--queue", "mails").out == "1\n"
    daemon.wait_state(mine[3], "completed")
    assert daemon.ctl("dead", "delete", "--key", "").out == "1\n"
    with daemon.client() as client:
        assert client.request("dead_delete", filter={"key": "acme"}) == {"count": 0}
    assert [job["id"] for job in daemon.ctl("dead", "list", "--json").lines] == other


def test_a_replay_of_a_key_goes_on_with_it_after_its_daemon_was_killed(daemon: Daemon) -> None:
    mine = of_key(daemon, "mails", "acme", *[user(number) for number in range(20)])
    others = of_key(daemon, "mails", "other", user(1), user(2)) + of_key(daemon, "mails", None, user(3))
    mend(daemon)
    daemon.ctl("dead", "retry", "--key", "acme", "--pace", "10/s")
    until(lambda: replays(daemon)[0]["completed"] >= 3, 10)
    daemon.kill()
    daemon.sweep()
    assert replays(daemon)[0]["filter"] == {"key": "acme"}
    daemon.start()
    found = ended(daemon)
    assert (found["state"], found["matched"], found["completed"]) == ("finished", 20, 20)
    assert {daemon.job(job)["state"] for job in mine} == {"completed"}
    assert {daemon.job(job)["state"] for job in others} == {"dead"}


# -- statistics ------------------------------------------------------------------------------------------------


def test_statistics_are_what_the_rows_say(daemon: Daemon) -> None:
    """An independent count: every job of the database, by minute, against the statistics of the same minutes."""
    run_all(daemon, "mails", [{"n": number} for number in range(300)] + [user(1), disk(2)])
    run_all(daemon, "tries", [user(number) for number in range(4)], "scheduled")
    daemon.ctl("cancel", daemon.enqueue("mails", 1, "--delay", "1h"))
    told: Counter[tuple[str, str, str]] = Counter()
    for row in daemon.ctl("stats", "--by", "minute", "--json").lines:
        for name in ("enqueued", "started", "completed", "failed", "crashed", "retried", "dead", "cancelled"):
            told[row["queue"], row["at"][:16], name] += row[name]
    expected: Counter[tuple[str, str, str]] = Counter()
    with daemon.client() as client:
        for job in (client.status(shown["id"]) for shown in daemon.ctl("list", "--limit", "0", "--json").lines):

            def count(at: str, name: str, job: dict[str, Any] = job) -> None:
                expected[job["queue"], at[:16], name] += 1

            count(job["enqueued_at"], "enqueued")
            if job["state"] in ("completed", "dead", "cancelled"):
                count(job["finished_at"], job["state"])
            if job["started_at"]:
                count(job["started_at"], "started")
            for error in job["errors"]:
                count(error["at"], "failed")
                if job["state"] == "scheduled":
                    count(error["at"], "retried")
                    count(error["at"], "started")  # the job does not say when it began; it failed at once
    assert +told == expected


def test_statistics_survive_the_death_of_their_keeper_exactly(daemon: Daemon) -> None:
    with daemon.client() as client:
        ids = client.enqueue_many("mails", [{"n": number} for number in range(3_000)])
        until(lambda: client.status()["queues"]["mails"]["completed"] > 200, 15)
        keeper = next(node["pid"] for node in daemon.ctl("tree", "--json").lines if node["role"] == "keeper")
        os.kill(keeper, signal.SIGKILL)
        until(lambda: client.status()["queues"]["mails"]["completed"] == 3_000, 30)
    (row,) = daemon.ctl("stats", "mails", "--json").lines
    assert (row["enqueued"], row["started"], row["completed"]) == (len(ids),) * 3


def test_percentiles_lie_where_the_rows_have_them(daemon: Daemon) -> None:
    ids = run_all(daemon, "mails", [{"n": number} for number in range(50)])
    (row,) = daemon.ctl("stats", "mails", "--json").lines
    waits = []
    for job in map(daemon.job, ids[::10]):
        waits.append((_ms(job["started_at"]) - _ms(job["enqueued_at"])) / 1000)
    assert row["span_s"] in (3_600, 3_660), "an hour, and the minute that has begun"
    spans = {by: daemon.ctl("stats", "mails", "--by", by, "--json").lines[0]["span_s"] for by in ("minute", "hour")}
    assert spans == {"minute": 60, "hour": 3_600}
    assert row["wait_p50_s"] <= max(waits) * 1.25 + 0.002
    assert row["wait_p99_s"] >= row["wait_p50_s"]
    assert 0 <= row["run_p50_s"] <= row["run_p99_s"] < 5


def test_a_terminal_shows_bars_and_no_columns_of_nothing(daemon: Daemon) -> None:
    run_all(daemon, "mails", [{"n": number} for number in range(20)])
    shown = jobsctl_on_terminal("stats", config=daemon.config).out
    head, _, line = shown.splitlines()[:3]
    assert line.rstrip()[-1] in BARS
    assert "completed" in head
    assert "crashed" not in head
    assert jobsctl_on_terminal("stats", "--json", config=daemon.config).out.count("\n") == 1


def test_statistics_of_nothing_and_of_nobody(daemon: Daemon) -> None:
    assert daemon.ctl("stats", "mails", "--json").out == ""
    assert daemon.ctl("stats", "nowhere").status == 3
    assert daemon.ctl("stats", "--since", "1h", "--until", "2h").status == 2


def test_a_client_without_a_daemon_counts_what_it_enqueues(tmp_path: Path) -> None:
    with Daemon(tmp_path, TOML, app=APP) as daemon:
        assert daemon.stop() == 0
    site = Site(tmp_path, TOML)
    with Client(str(site.config)) as client:
        client.enqueue_many("mails", [1, 2, 3])
    (row,) = site.ctl("stats", "--json").lines
    assert (row["enqueued"], row["started"], row["wait_p50_s"]) == (3, 0, None)
