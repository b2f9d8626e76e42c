"""Whatever users' data holds, jobsctl shows it and no terminal obeys it: escapes, bidi overrides, rich markup."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.daemon import Daemon
from tests.support.terminal import jobsctl_on_terminal

HOSTILE = (
    "\x1b[2J\x1b]0;title\x07 \x9b31m \u202egnp.exe\u2066 [bold red]markup[/] [/nope] :bomb: \ttab\r\nline \x7f\u2028"
)
FORBIDDEN = {*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), *"\u061c\u200e\u200f\u2028\u2029"}
FORBIDDEN |= {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}
TOML = """
[daemon]
python_path = ["../app"]
[defaults]
workers = 1
max_attempts = 1
[queues.echo]
handler = "tasks:echo"
[queues.fail]
handler = "tasks:fail"
[queues.secret]
handler = "tasks:echo"
redact = ["password", "card.number"]
"""
APP = {
    "tasks.py": """
class Hostile(Exception):
    pass

def echo(job):
    return job.payload

def fail(job):
    raise Hostile(job.payload["text"])
"""
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("display"), TOML, app=APP) as daemon:
        payload = {"text": HOSTILE, HOSTILE: [HOSTILE]}
        daemon.wait_state(daemon.enqueue("echo", payload), "completed")
        daemon.wait_state(daemon.enqueue("fail", payload), "dead")
        daemon.wait_state(
            daemon.enqueue("secret", {"password": "hunter2", "card": {"number": 4, "name": "n"}}), "completed"
        )
        yield daemon


COMMANDS = [
    ["status"], ["status", "1"], ["status", "2"], ["list"], ["dead", "list"], ["wait", "1"], ["workers"], ["tree"],
    ["doctor"], ["config", "show"], ["list", "--queue", HOSTILE], ["enqueue", HOSTILE], ["pause", HOSTILE],
    ["list", "--tag", HOSTILE], ["enqueue", "echo", HOSTILE], ["status", HOSTILE], [HOSTILE], ["move", HOSTILE, "echo"],
    ["dead", "groups"], ["dead", "retry", "--all", "--dry-run"], ["dead", "replays"], ["stats"],
    ["stats", "--by", "hour"], ["list", "--text", HOSTILE], ["dead", "list", "--fingerprint", HOSTILE],
    ["dead", "retry", "--all", "--pace", HOSTILE],
    ["edit", "1", "--queue", HOSTILE], ["delete", "--queue", HOSTILE], ["export", "--queue", HOSTILE],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: ascii(" ".join(command))[:30])
def test_no_output_holds_what_a_terminal_would_obey(daemon: Daemon, command: list[str]) -> None:
    piped = daemon.ctl(*command)
    shown = jobsctl_on_terminal(*command, config=daemon.config)
    assert piped.status == shown.status
    for text in (piped.out, piped.err, shown.out):
        assert {character for character in text if character in FORBIDDEN} <= {"\n", "\t"}, ascii(text)
        assert "Traceback (most recent call last)" not in text.split("traceback:")[0], "no fault of ours"


@pytest.mark.parametrize("command", [["status", "1"], ["list"], ["dead", "list"]], ids=" ".join)
def test_markup_is_shown_as_it_is(daemon: Daemon, command: list[str]) -> None:
    for ran in (daemon.ctl(*command), jobsctl_on_terminal(*command, config=daemon.config)):
        assert "[bold red]markup[/] [/nope] :bomb:" in ran.out
        assert r"\x1b[2J" in ran.out or r"\u001b[2J" in ran.out
        assert r"\u202e" in ran.out


def test_json_carries_everything_and_is_ascii(daemon: Daemon) -> None:
    ran = daemon.ctl("status", 1, "--json")
    assert ran.out.isascii()
    assert {character for character in ran.out if character in FORBIDDEN} == {"\n"}
    assert json.loads(ran.out)["result"] == {"text": HOSTILE, HOSTILE: [HOSTILE]}
    error = daemon.ctl("status", 2, "--json").json["errors"][0]
    assert (error["type"], error["message"]) == ("Hostile", HOSTILE)


def test_tab_separated_lines_stay_one_line_per_row(daemon: Daemon) -> None:
    assert [len(row) for row in daemon.ctl("list").rows] == [13, 13, 13]


def test_named_members_are_redacted_wherever_they_are_shown(daemon: Daemon) -> None:
    job = daemon.ctl("status", 3, "--json").json
    assert job["payload"] == {"password": "[redacted]", "card": {"number": "[redacted]", "name": "n"}}
    for command in (["status", "3"], ["status", "3", "--json"], ["list"], ["list", "--json"]):
        assert "hunter2" not in daemon.ctl(*command).out
