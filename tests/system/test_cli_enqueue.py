"""Enqueueing bad input and many lines: each refused with a clear error, nothing lost, and fast to start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, Site, environment
from tests.support.fake_keeper import FakeKeeper
from tests.support.waiting import until

TOML = """
[defaults]
workers = 1
[queues.small]
command = ["true"]
max_payload = "1KiB"
[queues.large]
command = ["true"]
max_payload = "8MiB"
"""
DEEP = "[" * 10_000 + "]" * 10_000

BAD_PAYLOADS = {
    "not JSON": ("{to: 1}", "invalid_payload", "not JSON"),
    "empty": ("", "invalid_payload", "not JSON"),
    "two values": ("1 2", "invalid_payload", "not JSON"),
    "above max_payload": (json.dumps("x" * 2000), "payload_too_large", "max_payload"),
    "NaN": ('{"a": NaN}', "invalid_payload", "NaN"),
    "infinity": ("-Infinity", "invalid_payload", "Infinity"),
    "lone surrogate": ('"\\ud800"', "invalid_payload", "surrogate"),
    "NUL": ('"a\\u0000b"', "invalid_payload", "NUL"),
    "5,000 digits": ("1" * 5000, "invalid_payload", "digits"),
    "10,000 levels": (DEEP, "invalid_payload", "levels"),
    "1e999": ("1e999", "invalid_payload", "1.8e308"),
}
"""What is wrong -> the payload, the code, and what the message must say."""

BAD_USAGE = {
    "priority beyond the range": ["enqueue", "small", "1", "--priority", "101"],
    "priority that is no number": ["enqueue", "small", "1", "--priority", "high"],
    "delay without a unit": ["enqueue", "small", "1", "--delay", "5"],
    "negative delay": ["enqueue", "small", "1", "--delay", "-5s"],
    "time without an offset": ["enqueue", "small", "1", "--at", "2030-01-01T00:00:00"],
    "time that is none": ["enqueue", "small", "1", "--at", "tomorrow"],
    "delay and time": ["enqueue", "small", "1", "--at", "2030-01-01T00:00:00Z", "--delay", "1s"],
    "no attempts": ["enqueue", "small", "1", "--max-attempts", "0"],
    "payload and jsonl": ["enqueue", "small", "1", "--jsonl", "-"],
    "empty idempotency key": ["enqueue", "small", "1", "--idempotency-key", ""],
    "idempotency key that does not print": ["enqueue", "small", "1", "--idempotency-key", "a\tb"],
    "one idempotency key for all lines": ["enqueue", "small", "--jsonl", "-", "--idempotency-key", "k"],
    "resume without jsonl": ["enqueue", "small", "--resume", "3"],
    "file that does not exist": ["enqueue", "small", "@/nonexistent"],
    "jsonl that does not exist": ["enqueue", "small", "--jsonl", "/nonexistent"],
    "jsonl that is a directory": ["enqueue", "small", "--jsonl", "/"],
    "queue of no letters": ["enqueue", ""],
    "id that is no number": ["status", "abc"],
    "negative id": ["cancel", "--", "-1"],
    "id 0": ["wait", "0"],
    "id 2^70": ["status", str(2**70)],
    "id beyond 2^53-1": ["retry", str(2**53)],
    "unknown option": ["enqueue", "small", "--colour"],
    "unknown command": ["enqueu"],
    "unknown command of a group": ["flow", "shwo"],
    "no command": ["dead"],
    "unknown state": ["list", "--state", "asleep"],
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("enqueue"), TOML) as daemon:
        for queue in ("small", "large"):
            assert daemon.ctl("pause", queue).status == 0
        yield daemon


@pytest.mark.parametrize("what", BAD_PAYLOADS)
def test_a_bad_payload_is_refused_with_a_clear_error(daemon: Daemon, what: str, tmp_path: Path) -> None:
    payload, code, said = BAD_PAYLOADS[what]
    file = tmp_path / "payload"
    file.write_text(payload)
    before = daemon.ctl("status", "--json").json["queues"]["small"]["queued"]
    for given, stdin in ((f"@{file}", None), ("-", payload)):
        ran = daemon.ctl("enqueue", "small", given, "--json", stdin=stdin)
        assert (ran.status, ran.json["error"]["code"]) == (2, code)
        assert said in ran.json["error"]["message"]
        assert "Traceback" not in ran.err
    assert daemon.ctl("status", "--json").json["queues"]["small"]["queued"] == before


def test_a_payload_that_is_not_utf_8_is_refused(daemon: Daemon) -> None:
    ran = daemon.ctl("enqueue", "small", "-", "--json", stdin=b'"\xff"')
    assert (ran.status, ran.json["error"]["code"]) == (2, "invalid_payload")


def test_a_payload_above_every_limit_is_refused_before_it_is_read_to_its_end(daemon: Daemon, tmp_path: Path) -> None:
    endless = tmp_path / "endless"
    with endless.open("wb") as file:
        file.truncate(2**33)
    ran = daemon.ctl("enqueue", "large", f"@{endless}", "--json")
    assert (ran.status, ran.json["error"]["code"]) == (2, "payload_too_large")


@pytest.mark.parametrize("what", BAD_USAGE)
def test_a_mistake_on_the_command_line_is_2(daemon: Daemon, what: str) -> None:
    ran = daemon.ctl("--json", *BAD_USAGE[what])
    assert ran.status == 2, ran
    assert ran.json["error"]["code"] == "usage"
    assert ran.err.startswith("jobsctl: ")
    assert "Traceback" not in ran.err


def test_errors_of_the_command_line_are_json_wherever_json_was_asked_for(daemon: Daemon) -> None:
    assert daemon.ctl("enqueue", "small", "--colour", "--json").json["error"]["code"] == "usage"
    assert daemon.ctl("enqueue", "small", "--colour", "--", "--json").out == ""


def test_a_priority_where_the_queue_has_no_order_by_it_is_refused(daemon: Daemon) -> None:
    ran = daemon.ctl("enqueue", "small", "1", "--priority", 3, "--json")
    assert ran.status == 2
    assert "priority" in ran.json["error"]["message"]


def test_lines_become_jobs_and_bad_lines_are_named(daemon: Daemon) -> None:
    lines = ['{"n": 1}', "{bad", "", '"two"', json.dumps("x" * 2000), "NaN", "[3]"]
    ran = daemon.ctl("enqueue", "small", "--jsonl", "-", stdin="\n".join(lines))
    assert (ran.status, ran.out) == (1, "accepted 3, rejected 3\n")
    assert [line.split(":")[1] for line in ran.err.splitlines()] == [" line 2", " line 5", " line 6"]
    ran = daemon.ctl("enqueue", "small", "--jsonl", "-", "--json", stdin="\n".join(lines))
    found = ran.json
    assert (ran.status, found["accepted"], [each["line"] for each in found["rejected"]]) == (1, 3, [2, 5, 6])
    assert found["last_id"] == found["first_id"] + 2
    assert [daemon.job(found["first_id"] + n)["payload"] for n in range(3)] == [{"n": 1}, "two", [3]]


def test_a_load_of_good_lines_is_0_with_options_for_all(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "jobs.jsonl"
    file.write_text("1\n2\n3")
    ran = daemon.ctl("enqueue", "small", "--jsonl", file, "--tag", "loaded", "--delay", "1h", "--json")
    assert (ran.status, ran.json["accepted"], ran.json["rejected"]) == (0, 3, [])
    rows = daemon.ctl("list", "--tag", "loaded", "--json").lines
    assert [row["state"] for row in rows] == ["scheduled"] * 3
    assert daemon.ctl("enqueue", "small", "--jsonl", os.devnull).out == "accepted 0, rejected 0\n"


def test_an_unknown_queue_stops_a_load_at_once(daemon: Daemon) -> None:
    ran = daemon.ctl("enqueue", "nope", "--jsonl", "-", "--json", stdin="1\n2\n")
    assert (ran.status, ran.json["error"]["code"], ran.json["accepted"]) == (3, "unknown_queue", 0)


def count(daemon: Daemon, queue: str) -> int:
    found: int = daemon.ctl("status", "--json").json["queues"][queue]["queued"]
    return found


def test_an_interrupted_load_says_where_to_go_on_and_nothing_is_lost_or_doubled(daemon: Daemon, tmp_path: Path) -> None:
    before = count(daemon, "large")
    file = tmp_path / "jobs.jsonl"
    file.write_text("".join(f'{{"line": {number}}}\n' for number in range(1, 2001)))
    command = [
        sys.executable,
        "-m",
        "supervisor.cli.jobsctl",
        "-c",
        str(daemon.config),
        "enqueue",
        "large",
        "--jsonl",
        "-",
    ]
    process = subprocess.Popen(
        command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(b"".join(file.read_bytes().splitlines(keepends=True)[:1234]))
    process.stdin.flush()
    until(lambda: count(daemon, "large") == before + 1234, what="what was written so far")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, b"accepted 1234, rejected 0\n")
    assert b"the last committed line is 1234; --resume 1234 goes on behind it" in err
    assert b"Traceback" not in err
    ran = daemon.ctl("enqueue", "large", "--jsonl", file, "--resume", 1234)
    assert ran.out == "accepted 766, rejected 0\n"
    rows = daemon.ctl("list", "--queue", "large", "--limit", 0, "--json").lines
    lines = [daemon.job(row["id"])["payload"]["line"] for row in (rows[0], rows[765], rows[766], rows[1999])]
    assert lines == [2000, 1235, 1234, 1]
    assert count(daemon, "large") == before + 2000


def test_a_load_whose_daemon_goes_away_says_where_to_go_on(tmp_path: Path) -> None:
    site = Site(tmp_path, '[queues.emails]\ncommand = ["true"]\n')
    site.run_dir.mkdir()
    command = [sys.executable, "-m", "supervisor.cli.jobsctl", "-c", str(site.config), "--json"]
    with FakeKeeper(str(site.socket)) as keeper:
        process = subprocess.Popen(
            [*command, "enqueue", "emails", "--jsonl", "-"], env=environment(), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(b"1\n2\n3\n")
        process.stdin.flush()
        until(lambda: len(keeper.jobs) == 3, what="the first lines")
        site.socket.unlink()
    out, err = process.communicate(b"4\n5\n", timeout=60)
    found = json.loads(out)
    assert (process.returncode, found["accepted"], found["last_line"]) == (4, 3, 3)
    assert found["error"]["code"] == "no_database", "it would have been a keeper of its own that went on"
    assert b"--resume 3 goes on behind it" in err
