"""`serve` in the configuration: what goes with it, and what is said where something does not."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from supervisor.config.load import load
from supervisor.config.resolved import as_toml_data
from tests.support.config_files import problems_of, write

SERVES = 'command = ["x"]\nserve = true\n'


@pytest.mark.parametrize(
    ("lines", "key", "sentence"),
    [
        ("serve = true", "q", "says neither what to call nor what to run"),
        ("serve = true", "q.serve", 'means something for a command only; write command = ["program", "argument"]'),
        ('handler = "m:f"\nserve = true', "q.serve", "means something for a command only"),
        ('handler = "m:f"\nserve = false', "q.serve", "means something for a command only"),
        ('command = ["x"]\nserve = 1', "q.serve", "write true or false"),
        (
            'command = ["x", "{a}", "{{b}}", "{c}"]\nserve = true',
            "q.command",
            "{a}, {c}: a command that serves is started",
        ),
        (f'{SERVES}on_error = {{ "exit 3" = "dead" }}', "q.on_error", "for a command that serves write the type that"),
        (f"{SERVES}preload = true", "q.preload", "means something for a handler only"),
    ],
)
def test_what_cannot_serve_is_said_with_its_key(tmp_path: Path, lines: str, key: str, sentence: str) -> None:
    found = problems_of(tmp_path, f"[queues.q]\n{lines}\n")
    assert [line for line in found if f": queues.{key}: " in line and sentence in line], found


def test_it_is_not_inherited(tmp_path: Path) -> None:
    (found,) = problems_of(tmp_path, f"[defaults]\nserve = true\n[queues.q]\n{SERVES}")
    assert "defaults.serve: is not inherited; write it in each [queues.NAME]" in found


def test_a_queue_that_draws_from_a_pool_leaves_it_to_the_pool(tmp_path: Path) -> None:
    pool = f'[pools.p]\nsources = ["q"]\n{SERVES}'
    (found,) = problems_of(tmp_path, f"{pool}[queues.q]\nserve = true\n")
    assert "queues.q.serve: stands in the pool that draws from this queue" in found
    assert load(write(tmp_path, f"{pool}[queues.q]\n"), environ={}).pools["p"].serve


def test_a_brace_that_is_doubled_is_a_brace(tmp_path: Path) -> None:
    queue = load(write(tmp_path, '[queues.q]\ncommand = ["x", "{{a}}"]\nserve = true\n'), environ={}).queues["q"]
    assert (queue.serve, queue.command) == (True, ("x", "{{a}}"))


def test_rules_name_the_types_of_errors(tmp_path: Path) -> None:
    text = f'[queues.q]\n{SERVES}on_error = {{ "app.Broken" = "dead", crash = "dead", timeout = "dead" }}\n'
    assert set(load(write(tmp_path, text), environ={}).queues["q"].on_error) == {"app.Broken", "crash", "timeout"}


def test_what_is_shown_loads_again(tmp_path: Path) -> None:
    import tomli_w

    text = f'[queues.q]\n{SERVES}[queues.h]\nhandler = "m:f"\n[queues.c]\ncommand = ["y"]\n'
    spec = load(write(tmp_path, text), environ={})
    shown = tomli_w.dumps(as_toml_data(spec))
    assert {name: queue.get("serve") for name, queue in tomllib.loads(shown)["queues"].items()} == {
        "q": True, "h": None, "c": False,
    }  # fmt: skip
    assert load(write(tmp_path, shown), environ={}).queues == spec.queues
