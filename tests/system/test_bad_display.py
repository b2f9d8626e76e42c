"""Hostile text wherever users can put it: shown by every command of jobsctl and in the log, obeyed by no display."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, Site
from tests.support.terminal import jobsctl_on_terminal

MARKUP = "[bold red]up[/] [/nope] [link=http://x]y[/link]"
HOSTILE = f"\x1b[2J\x1b]0;title\x07 \x9b31m \u202egnp.exe\u2066 {MARKUP} \r\n{{}}\u2028"
"""Escape sequences of two lengths, a title, bidi overrides, markup that is sound and markup that is not, new lines."""
FORBIDDEN = {*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), *"\u061c\u200e\u200f\u2028\u2029"}
FORBIDDEN |= {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}
FORGED = 'worker\n2026-01-01T00:00:00.000Z master[1] ready: 1 pools\n{"event": "master.ready"}\n'
TOML = """
[daemon]
python_path = ["../app"]
[log]
format = "{format}"
[defaults]
workers = 1
max_attempts = 1
[queues.result]
handler = "tasks:give_back"
[queues.error]
handler = "tasks:fail"
[queues.stderr]
command = ["sh", "-c", "cat >&2; exit 3"]
[queues.stdout]
command = ["cat"]
[queues.unusable]
handler = "hostile:run"
[queues.waits]
command = ["true"]
"""
APP = {
    "tasks.py": """
import sys

def give_back(job):
    for text in (job.payload["text"], job.payload["log"]):
        print(text, flush=True)
        print(text, file=sys.stderr, flush=True)
    return job.payload

def fail(job):
    raise type(job.payload["type"], (Exception,), {})(job.payload["text"] * job.payload.get("times", 1))
""",
    "hostile.py": f"raise RuntimeError({HOSTILE!r})\n",
}
RESULT, ERROR, STDERR, STDOUT, WAITS = range(1, 6)
"""The ids of the jobs, in the order of their enqueueing."""


def a_daemon(path: Path, form: str) -> Daemon:
    return Daemon(path, TOML.replace("{format}", form), app=APP)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with a_daemon(tmp_path_factory.mktemp("hostile"), "text") as daemon:
        with daemon.client() as client:
            assert client.request("pause", queue="waits")
            for queue in ("result", "error", "stderr", "stdout"):
                client.enqueue(queue, {"text": HOSTILE, "type": HOSTILE, "log": FORGED, HOSTILE: [HOSTILE]})
            client.enqueue("waits", HOSTILE)
            for job_id, state in ((RESULT, "completed"), (ERROR, "dead"), (STDERR, "dead"), (STDOUT, "completed")):
                assert client.wait(job_id, timeout=20)["state"] == state
        daemon.wait_for(lambda: daemon.ctl("status", "--json").json["queues"]["unusable"]["circuit"] == "open")
        yield daemon


SHOWS = {
    "a payload": ["status", str(WAITS)],
    "a result": ["status", str(RESULT)],
    "an error": ["status", str(ERROR)],
    "the stderr of a command": ["status", str(STDERR)],
    "the stdout of a command": ["status", str(STDOUT)],
    "why a circuit is open": ["status"],
    "a list": ["list"],
    "a list of the dead": ["dead", "list"],
}
"""Commands that show users' data -> all of it is there, in a form that is harmless."""

NAMES = {
    "a queue to enqueue to": ["enqueue", HOSTILE, "1"],
    "a payload to enqueue": ["enqueue", "waits", HOSTILE],
    "a file to enqueue": ["enqueue", "waits", f"@/{HOSTILE}"],
    "a load to enqueue": ["enqueue", "waits", "--jsonl", f"/{HOSTILE}"],
    "a delay": ["enqueue", "waits", "1", "--delay", HOSTILE],
    "a time": ["enqueue", "waits", "1", "--at", HOSTILE],
    "a tag to enqueue with": ["enqueue", "waits", "1", "--tag", HOSTILE],
    "an id": ["status", HOSTILE],
    "an id to cancel": ["cancel", HOSTILE],
    "an id to retry": ["retry", HOSTILE],
    "an id to wait for": ["wait", HOSTILE],
    "a queue to list": ["list", "--queue", HOSTILE],
    "a state to list": ["list", "--state", HOSTILE],
    "a tag to list": ["list", "--tag", HOSTILE],
    "a queue to pause": ["pause", HOSTILE],
    "a queue to resume": ["resume", HOSTILE],
    "a queue to purge": ["purge", HOSTILE, "--state", "dead"],
    "queues to move between": ["move", HOSTILE, HOSTILE],
    "a queue of the dead": ["dead", "list", "--queue", HOSTILE],
    "a type of the dead": ["dead", "retry", "--type", HOSTILE],
    "a text of the dead": ["dead", "delete", "--text", HOSTILE],
    "a queue to add": ["queues", "add", HOSTILE, "--command", HOSTILE],
    "a setting": ["--set", f"queues.{HOSTILE}.workers={HOSTILE}", "config", "check"],
    "a file of configuration": ["-c", f"/{HOSTILE}", "status"],
    "a file for a backup": ["backup", f"/nowhere/{HOSTILE}"],
    "a shell": ["completion", HOSTILE],
    "a command": [HOSTILE],
    "an option": ["status", f"--{HOSTILE}"],
    "a job that succeeded to wait for": ["wait", str(RESULT)],
    "a job that failed to wait for": ["wait", str(ERROR)],
    "workers": ["workers"],
    "a tree": ["tree"],
    "a doctor": ["doctor"],
    "a configuration": ["config", "show"],
}
"""Commands that are given hostile text, or show much beside it."""


def harmless(text: str) -> str:
    """The text, if no display would obey it."""
    assert {character for character in text if character in FORBIDDEN} <= {"\n", "\t"}, ascii(text)
    return text


@pytest.mark.parametrize("what", SHOWS)
def test_users_data_is_shown_and_not_obeyed(daemon: Daemon, what: str) -> None:
    for out in (daemon.ctl(*SHOWS[what]).out, jobsctl_on_terminal(*SHOWS[what], config=daemon.config).out):
        flat = "".join(harmless(out).split())
        assert "".join(MARKUP.split()) in flat, "markup is text"
        assert "\\x1b[2J" in flat or "\\u001b[2J" in flat
        assert "\\u202e" in flat


@pytest.mark.parametrize("what", SHOWS)
def test_json_is_ascii_and_has_it_all(daemon: Daemon, what: str) -> None:
    out = harmless(daemon.ctl(*SHOWS[what], "--json").out)
    assert out.isascii()
    told = [text for line in out.splitlines() for text in texts(json.loads(line))]
    inside = (
        json.dumps(HOSTILE)[1:-1],
        json.dumps(HOSTILE, ensure_ascii=False)[1:-1],
    )  # a payload that a command printed
    assert any(form in text for text in told for form in (HOSTILE, *inside)), told


def texts(value: object) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, member in value.items():
            yield name
            yield from texts(member)
    elif isinstance(value, list):
        for element in value:
            yield from texts(element)


@pytest.mark.parametrize("what", NAMES)
def test_what_is_named_on_the_command_line_is_shown_and_not_obeyed(daemon: Daemon, what: str) -> None:
    command = NAMES[what]
    as_json = daemon.ctl("--json", *command)
    said = [as_json.err, jobsctl_on_terminal(*command, config=daemon.config).out]
    if not as_json.err:  # what is refused is refused in the same words
        said.append(daemon.ctl(*command).out)
    for text in said:
        harmless(text)
        assert "Traceback (most recent call last)" not in text.split("traceback:")[0], "no fault of ours"
    for line in harmless(as_json.out).splitlines():
        assert line.isascii()
        json.loads(line)


def test_a_hostile_configuration_is_told_harmlessly(tmp_path: Path) -> None:
    quoted = json.dumps(HOSTILE)
    site = Site(tmp_path, f"[queues.{quoted}]\n{quoted} = {quoted}\n[queues.q]\nhandler = {quoted}\ntags = {quoted}\n")
    for command in (["config", "check"], ["config", "show"], ["status"], ["doctor"]):
        for out in (site.ctl(*command), jobsctl_on_terminal(*command, config=site.config)):
            assert out.status != 0
            harmless(out.out + out.err)
        for line in harmless(site.ctl("--json", *command).out).splitlines():
            json.loads(line)


def test_an_event_is_one_line_of_the_log_whatever_is_in_it(daemon: Daemon) -> None:
    harmless(daemon.log)
    lines = daemon.log.splitlines()
    assert all(re.match(r"2\d{3}-\S+Z [a-z_ ]+\[\d+\] ", line) for line in lines)
    assert not any(line.startswith(("{", "2026-01-01")) for line in lines)
    assert sum(line.endswith('{"event": "master.ready"}') for line in lines) == 2, "of stdout and of stderr"


def test_a_log_of_json_is_json_line_by_line_however_long_an_event_is(tmp_path: Path) -> None:
    with a_daemon(tmp_path, "json") as daemon:
        with daemon.client() as client:
            payloads = [{"type": "E", "text": text, "times": 2_000} for text in (HOSTILE, FORGED, "\U0001f600", "x")]
            ids = [client.enqueue("error", payload) for payload in payloads]
            for job_id in ids:
                assert client.wait(job_id, timeout=20)["state"] == "dead"
        lines = [json.loads(line) for line in harmless(daemon.log).splitlines()]
    dead = [line for line in lines if line["event"] == "job.dead"]
    assert len(dead) == 4
    assert all(line["message"].startswith("job ") for line in dead)
    assert any(line.get("shortened") for line in dead)
    assert max(map(len, daemon.log.splitlines())) <= 8192
