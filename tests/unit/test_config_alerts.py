"""`[alerts]`: what may be written, what is wrong with what may not, and what of it a reload touches."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from supervisor.config.codec import decode, encode
from supervisor.config.load import load
from supervisor.config.resolved import as_data, as_toml_data
from supervisor.config.spec import GIB, Alerts
from supervisor.policy.alerts import KINDS
from tests.support.config_files import QUEUE, problems, write

FULL = """
[alerts]
command = ["./tell", "--to", "ops", "--", "{summary}", "{queue}"]
timeout = "5s"
env = { TOKEN = "${TOKEN:-none}" }
queue = "q"
url = "https://example.org/in"
payload = { text = "{summary}", deep = { list = ["{alert}", 1, true, 2.5, "a {brace}", "$${X}"] } }
on = ["dead", "store"]
group = "1m"
limit = 3
disk_min = "5%"
oldest_max = "never"
"""


def test_everything_that_may_be_written(tmp_path: Path) -> None:
    alerts = load(write(tmp_path, FULL + QUEUE), environ={}).alerts
    assert alerts == Alerts(
        command=(str(tmp_path / "tell"), "--to", "ops", "--", "{summary}", "{queue}"),
        timeout_ms=5_000,
        env={"TOKEN": "none"},
        queue="q",
        url="https://example.org/in",
        payload={"text": "{summary}", "deep": {"list": ["{alert}", 1, True, 2.5, "a {brace}", "${X}"]}},
        on=("dead", "store"),
        group_ms=60_000,
        limit=3,
        disk_min=(0, 5),
        oldest_max_ms=0,
    )
    assert alerts.configured


def test_it_survives_its_way_to_other_processes_and_back_into_a_file(tmp_path: Path) -> None:
    spec = load(write(tmp_path, FULL + QUEUE), environ={})
    assert decode(encode(spec)) == spec
    again = tmp_path / "again"
    again.mkdir()
    assert load(write(again, tomli_w.dumps(as_toml_data(spec))), environ={}).alerts == spec.alerts


def test_nobody_is_told_unless_it_is_written(tmp_path: Path) -> None:
    spec = load(write(tmp_path, QUEUE), environ={})
    assert spec.alerts == Alerts()
    assert not spec.alerts.configured
    assert "alerts" not in as_data(spec)
    assert (spec.alerts.on, spec.alerts.disk_min) == (KINDS, (GIB, 0))


def test_a_queue_may_have_another_age_than_the_rest(tmp_path: Path) -> None:
    text = '[defaults]\noldest_max = "1h"\n[queues.a]\nhandler = "m:f"\n'
    text += '[queues.b]\nhandler = "m:f"\noldest_max = "never"\n'
    queues = load(write(tmp_path, text), environ={}).queues
    assert (queues["a"].oldest_max_ms, queues["b"].oldest_max_ms) == (3_600_000, 0)
    assert load(write(tmp_path, QUEUE), environ={}).queues["q"].oldest_max_ms is None
    assert tomllib.loads(tomli_w.dumps(as_toml_data(load(write(tmp_path, text), environ={}))))["queues"]["b"][
        "oldest_max"
    ] == "never"  # fmt: skip


COMMAND = 'command = ["tell"]\n'


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('limit = 5\n', "1: alerts: says neither what to run nor which queue takes the alerts; write command ="),
        ('queue = "q"\n', '2: alerts.queue: is told nothing to do; write url = "https://..." for a webhook, or'),
        (f'{COMMAND}url = "https://x"\n', "3: alerts.url: means something beside `queue` only; name the queue, or"),
        (f"{COMMAND}payload = {{ a = 1 }}\n", "3: alerts.payload: means something beside `queue` only"),
        ('queue = "p"\npayload = { a = 1 }\n', '2: alerts.queue: names "p", which is no queue; known are q'),
        ('queue = "qq"\npayload = { a = 1 }\n', '2: alerts.queue: names "qq", which is no queue; did you mean q?'),
        (f'{COMMAND}on = ["dead", "died"]\n', '3: alerts.on: element 2: "died" is not known here; did you mean dead?'),
        (f"{COMMAND}limit = 0\n", "3: alerts.limit: 0 is out of range; write an integer from 1 to 1000"),
        (f"{COMMAND}limit = 1001\n", "3: alerts.limit: 1001 is out of range"),
        (f'{COMMAND}group = "1ms"\n', '3: alerts.group: "1ms" is out of range; write a duration from "1s" to "1h"'),
        (f'{COMMAND}group = "2h"\n', '3: alerts.group: "2h" is out of range'),
        (f'{COMMAND}timeout = "1h"\n', '3: alerts.timeout: "1h" is out of range; write a duration from "1s" to "10m"'),
        (f'{COMMAND}oldest_max = "1ms"\n', '3: alerts.oldest_max: "1ms" is out of range; write "never" or a duration'),
        (f'{COMMAND}disk_min = "0%"\n', '3: alerts.disk_min: "0%" would never be too little; write a size such as'),
        (f'{COMMAND}disk_min = "100%"\n', '3: alerts.disk_min: "100%" is out of range; write a part from "1%"'),
        (f"{COMMAND}disk_min = 5\n", '3: alerts.disk_min: 5 has no unit; write a size such as "1GiB", or a part such'),
        (f'{COMMAND}disk_min = "little"\n', '3: alerts.disk_min: "little" is not a size; write a size such as "1GiB"'),
        ('command = "tell {summary}"\n', '2: alerts.command: "tell {summary}" is text, and no shell splits it'),
        ('command = ["tell", "{sumary}"]\n', "2: alerts.command: {sumary} is no field of an alert; did you mean summ"),
        ('command = ["tell", "{alert}"]\n', "2: alerts.command: {alert} is no field of an alert"),
        ('command = ["tell", "a{summary}"]\n', "2: alerts.command: element 2: a field fills a whole argument"),
        ('command = ["{summary}"]\n', "2: alerts.command: the program to run is fixed"),
        ('queue = "q"\nurl = "ftp://x"\n', '3: alerts.url: "ftp://x" is not right here; write an address that begins'),
        ('queue = "q"\npayload = "x"\n', '3: alerts.payload: "x" is text; write a table, such as {'),
        (
            'queue = "q"\npayload = { a = { b = "{sumary}" } }\n',
            '3: alerts.payload: a.b: "{sumary}" is no field of an alert; did you mean summary?',
        ),
        (
            'queue = "q"\npayload = { at = 2026-01-01, n = inf }\n',
            "3: alerts.payload: at: a date or time cannot stand in JSON; write text, a number, true or false; n: inf",
        ),
        (
            f'queue = "q"\npayload = {{ a = {[0] * 257} }}\n',
            "3: alerts.payload: a: has 257 members; write at most 256",
        ),
        (f"{COMMAND}shell = true\n", "3: alerts.shell: unknown key"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, written: str, expected: str) -> None:
    found = problems(write(tmp_path, f"[alerts]\n{written}{QUEUE}"))
    assert len(found) == 1, found
    assert f"queues.toml:{expected}" in found[0]


def test_a_queue_may_be_one_that_a_pattern_stands_for(tmp_path: Path) -> None:
    text = '[alerts]\nqueue = "hook-ops"\npayload = { a = 1 }\n[queues."hook-*"]\nhandler = "m:f"\n'
    assert load(write(tmp_path, text), environ={}).alerts.queue == "hook-ops"
    (found,) = problems(write(tmp_path, text.replace('"hook-ops"', '"hooks"')))
    assert 'alerts.queue: names "hooks", which is no queue' in found


def test_a_queue_that_is_wrong_itself_is_not_called_unknown(tmp_path: Path) -> None:
    text = '[alerts]\nqueue = "q"\npayload = { a = 1 }\n[queues.q]\nhandler = "m:f"\nworkers = 0\n'
    (found,) = problems(write(tmp_path, text))
    assert "queues.q.workers" in found


def test_a_drop_in_holds_no_alerts_but_a_queue_of_it_takes_them(tmp_path: Path) -> None:
    path = write(tmp_path, '[alerts]\nqueue = "hooks"\nurl = "https://x"\n')
    folder = tmp_path / "queues.d"
    folder.mkdir(mode=0o755)
    (folder / "hooks.toml").write_text('[queues.hooks]\nhandler = "m:f"\n')
    assert load(path, environ={}).alerts.queue == "hooks"


def test_it_can_be_set_on_the_command_line(tmp_path: Path) -> None:
    spec = load(write(tmp_path, QUEUE), ['alerts.command=["tell"]'], environ={})
    assert spec.alerts.command == ("tell",)


def test_every_kind_of_payload_is_shown_as_it_was_written(tmp_path: Path) -> None:
    shown: dict[str, Any] = as_data(load(write(tmp_path, FULL + QUEUE), environ={}))["alerts"]
    assert (shown["disk_min"], shown["oldest_max"], shown["group"]) == ("5%", "never", "1m")
