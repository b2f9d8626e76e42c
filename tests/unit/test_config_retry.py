"""The keys that say what happens after a failure: what they mean, what is refused, what goes together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supervisor.config.check import check
from supervisor.config.resolved import as_data
from supervisor.config.retry_keys import BACKOFF
from supervisor.config.spec import Backoff, Breaker, ErrorRule
from tests.support.config_files import QUEUE, load_text, problems_of, write

COMMAND = '[queues.q]\ncommand = ["true"]\n'

READ = [
    ('backoff = ["1s", "10s", "1m"]', "backoff", Backoff(delays_ms=(1_000, 10_000, 60_000))),
    ('backoff = "a.b:delay"', "backoff", Backoff(function="a.b:delay")),
    ('backoff = { shape = "linear", base = "2s" }', "backoff", Backoff(shape="linear", base_ms=2_000)),
    (
        'backoff = { delays = ["0s"], jitter = 0, function = "m:f" }',
        "backoff",
        Backoff(delays_ms=(0,), jitter=0.0, function="m:f"),
    ),
    ('on_error = { "ValueError" = "dead" }', "on_error", {"ValueError": ErrorRule(action="dead")}),
    ('on_error = { "builtins.ValueError" = "retry" }', "on_error", {"ValueError": ErrorRule()}),
    ('on_error = { "timeout" = "cancel", "crash" = { max_attempts = 1 } }', "on_error",
     {"timeout": ErrorRule(action="cancel"), "crash": ErrorRule(max_attempts=1)}),
    ('on_error = { "a.b.C" = { snooze = "30s" } }', "on_error",
     {"a.b.C": ErrorRule(action="snooze", delay_ms=30_000)}),
    ('on_error = { "A" = { backoff = ["1s"], max_attempts = 10 } }', "on_error",
     {"A": ErrorRule(backoff=Backoff(delays_ms=(1_000,)), max_attempts=10)}),
    ('on_error = { "A" = { backoff = { shape = "constant", base = "5s" } } }', "on_error",
     {"A": ErrorRule(backoff=Backoff(shape="constant", base_ms=5_000))}),
    ('retry_for = "1h"', "retry_for_ms", 3_600_000),
    ('retry_for = "never"', "retry_for_ms", None),
    ('ttl = "10m"', "ttl_ms", 600_000),
    ("breaker = true", "breaker", Breaker()),
    ("breaker = false", "breaker", None),
    ('breaker = { failures = 3, on = ["OSError", "timeout", "builtins.OSError"] }', "breaker",
     Breaker(failures=3, on=("OSError", "timeout"))),
    ("on_dead = false", "on_dead", None),
]  # fmt: skip


@pytest.mark.parametrize(("line", "field", "value"), READ, ids=[line for line, _, _ in READ])
def test_a_value_becomes_what_the_spec_keeps(tmp_path: Path, line: str, field: str, value: Any) -> None:
    assert getattr(load_text(tmp_path, QUEUE + line).queues["q"], field) == value


def test_how_a_command_ends_is_named_in_one_form(tmp_path: Path) -> None:
    rules = 'on_error = { "exit 65" = "dead", "signal KILL" = "retry", "signal SIGTERM" = "dead", "signal 1" = "dead" }'
    assert list(load_text(tmp_path, COMMAND + rules).queues["q"].on_error) == [
        "exit 65", "signal 9", "signal 15", "signal 1",
    ]  # fmt: skip


TABLE_OR = 'write a table, an array of durations, or "module:function"'
REFUSED = [
    ("backoff = []", 'backoff: has no delay; write at least one, such as ["1s", "10s", "1m"]'),
    ("backoff = [1]", "backoff: element 1: 1 has no unit; write a duration"),
    (f"backoff = {['1s'] * 33}", "backoff: has 33 delays; write at most 32, of which the last repeats"),
    ('backoff = "soon"', 'backoff: "soon" names no function; write "module:function"'),
    ("backoff = 5", f"backoff: 5 is an integer; {TABLE_OR}"),
    ('backoff = { shape = "square" }', 'backoff.shape: "square" is not known here'),
    ("on_error = 1", "on_error: 1 is an integer; write a table"),
    ('on_error = { "A" = "die" }', 'on_error: A: "die" is no action; known are cancel, dead, retry'),
    ('on_error = { "A" = "retyr" }', "did you mean retry?"),
    ('on_error = { "A" = {} }', 'on_error: A: a table says nothing; write "dead", "cancel", "retry"'),
    ('on_error = { "A" = 5 }', 'on_error: A: 5 is an integer; write "dead", "cancel", "retry"'),
    ('on_error = { "A" = { snooze = "1s", max_attempts = 2 } }', "A: snooze goes with nothing else"),
    ('on_error = { "A" = { snoze = "1s" } }', 'A: "snoze" is no key of a rule; did you mean snooze?'),
    (r'on_error = { "A" = { "a\u0006" = "1s" } }', r'A: "a\u0006" is no key of a rule'),
    ('on_error = { "A" = { snooze = 5 } }', "A: snooze: 5 has no unit"),
    ('on_error = { "A" = { backoff = "m:f" } }', "a function is for the whole queue"),
    ('on_error = { "A" = { backoff = { function = "m:f" } } }', "A: backoff: function is no key of it"),
    ('on_error = { "A" = { backoff = { base = 1 } } }', "A: backoff: base: 1 has no unit"),
    ('on_error = { "A" = { backoff = { base = "2h" } } }', "A: backoff: max: 1h is below base, 2h"),
    ('on_error = { "crash" = { snooze = "1s" } }', "crash: a crash cannot be snoozed"),
    ('on_error = { "A" = "dead", "builtins.A" = "retry" }', 'builtins.A": means the same as "A"; keep one of them'),
    ('on_error = { "no class" = "dead" }', '"no class": names no error; write the class of an exception'),
    (f'on_error = {{ "{"x" * 201}" = "dead" }}', "is longer than 200 characters"),
    ('on_error = { "exit 3" = "dead" }', '"exit 3" is how a command ends; for a handler write the class'),
    ('retry_for = "0s"', 'retry_for: "0s" is out of range'),
    ("ttl = 5", "ttl: 5 has no unit"),
    ('on_dead = "Not A Name"', "on_dead: "),
    ('on_dead = "nowhere"', "on_dead: there is no queue nowhere; known are q"),
    ('on_failure = "qq"', "on_failure: there is no queue qq; did you mean q?"),
    ('on_dead = "q"', "on_dead: is the queue itself; name another one"),
    ("breaker = 5", "breaker: 5 is an integer; write a table such as"),
    ("breaker = { failures = 0 }", "breaker.failures: 0 is out of range"),
    ('breaker = { cooldown = "1h" }', "breaker.max_cooldown: 10m is below cooldown, 1h; raise one or lower the other"),
    ('breaker = { on = ["x y"] }', "breaker.on: element 1: names no error"),
    ('breaker = { on = ["crash"] }', "breaker.on: element 1: crashes do not open a breaker"),
    ("breaker = { on = [5] }", "breaker.on: element 1: 5 is an integer; write the name of a kind of error"),
    ('breaker = { on = "OSError" }', "breaker.on: "),
    (f"breaker = {{ on = {['A'] * 101} }}", "breaker.on: has 101 elements; write at most 100"),
]


@pytest.mark.parametrize(("line", "text"), REFUSED, ids=[line[:60] for line, _ in REFUSED])
def test_a_wrong_value_is_one_problem_that_says_what_would_be_right(tmp_path: Path, line: str, text: str) -> None:
    (found,) = problems_of(tmp_path, QUEUE + line + "\n")
    assert found.startswith("queues.toml:3: queues.q.")
    assert text in found


OF_COMMANDS = [
    ('on_error = { "exit 75" = "dead" }', '"exit 75": cannot be a rule: with 75 a command asks to be run later'),
    ('on_error = { "exit 0" = "dead" }', '"exit 0": has no exit status of a failure; write exit 1 to exit 255'),
    ('on_error = { "exit 256" = "dead" }', "has no exit status of a failure"),
    ('on_error = { "signal 65" = "dead" }', "has no signal; write signal 9 or signal SIGKILL"),
    ('on_error = { "signal 9" = "dead", "signal SIGKILL" = "dead" }', 'means the same as "signal 9"; keep one of them'),
    ('backoff = "m:f"', "backoff: names a function, which handlers only have"),
    ('backoff = { function = "m:f" }', "backoff: names a function, which handlers only have"),
]


@pytest.mark.parametrize(("line", "text"), OF_COMMANDS, ids=[line[:60] for line, _ in OF_COMMANDS])
def test_a_queue_with_a_command_has_its_own_rules(tmp_path: Path, line: str, text: str) -> None:
    (found,) = problems_of(tmp_path, COMMAND + line + "\n")
    assert text in found


def test_too_many_rules_are_refused(tmp_path: Path) -> None:
    rules = ", ".join(f'"E{number}" = "dead"' for number in range(101))
    (found,) = problems_of(tmp_path, f"{QUEUE}on_error = {{ {rules} }}\n")
    assert "has 101 rules; write at most 100" in found


DEFAULTS = """
[defaults]
backoff = { delays = ["1s"], function = "m:delay" }
on_error = { "ValueError" = "dead", "timeout" = "dead", "exit 3" = "dead" }
on_dead = "alerts"
breaker = { failures = 3 }
ttl = "5m"
[queues.alerts]
command = ["true"]
"""


def test_queues_inherit_and_say_otherwise(tmp_path: Path) -> None:
    own = """
[queues.q]
handler = "m:f"
backoff = ["5s", "6s"]
on_error = { "timeout" = "retry" }
on_dead = false
breaker = false
ttl = "never"
[queues.p]
handler = "m:f"
backoff = "m:other"
breaker = { cooldown = "1s" }
"""
    queues = load_text(tmp_path, DEFAULTS + own).queues
    assert queues["q"].backoff == Backoff(delays_ms=(5_000, 6_000))
    assert {name: rule.action for name, rule in queues["q"].on_error.items()} == {
        "ValueError": "dead", "timeout": "retry", "exit 3": "dead",
    }  # fmt: skip
    assert (queues["q"].on_dead, queues["q"].breaker, queues["q"].ttl_ms) == (None, None, None)
    assert queues["p"].backoff == Backoff(function="m:other")
    assert queues["p"].breaker == Breaker(failures=3, cooldown_ms=1_000)
    assert queues["alerts"].on_dead == "alerts"
    assert queues["alerts"].backoff == Backoff(delays_ms=(1_000,))


def test_a_wrong_target_is_named_where_it_was_written(tmp_path: Path) -> None:
    (found,) = problems_of(tmp_path, f'[defaults]\non_dead = "nowhere"\n{QUEUE}')
    assert found == "queues.toml:2: defaults.on_dead: there is no queue nowhere; known are q"


def test_a_function_that_nobody_defines_is_found_by_the_check(tmp_path: Path) -> None:
    (tmp_path / "mail.py").write_text("def send(job): ...\n")
    text = '[daemon]\npython_path = ["."]\n[queues.q]\nhandler = "mail:send"\nbackoff = "mail:delay"\n'
    found = check(write(tmp_path, text), environ={})
    assert [line.partition(": ")[2] for line in found.advice if "mail" in line] == [
        f"queues.q.backoff: {tmp_path}/mail.py seems not to define delay; name a function of that module"
    ]


def test_what_is_understood_is_shown_as_tables(tmp_path: Path) -> None:
    shown = as_data(load_text(tmp_path, QUEUE + 'backoff = ["1s"]\nbreaker = true'))["queues"]["q"]
    assert set(shown["backoff"]) == set(BACKOFF.keys) - {"function"}
    assert shown["backoff"]["delays"] == ["1s"]
    assert shown["breaker"] == {
        "failures": 10, "period": "1m", "cooldown": "30s", "max_cooldown": "10m", "on": [],
    }  # fmt: skip
    assert {"retry_for", "ttl", "on_dead"}.isdisjoint(shown)
