"""Queues whose jobs are fetched: what goes with `pull`, and the sentence for what does not."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import tomli_w

from supervisor.config.diff import diff
from supervisor.config.resolved import as_toml_data
from tests.support.config_files import load_text, problems_of

CONFLICTS = [
    ('handler = "m:f"', "handler", "speaks of workers, and consumers fetch the jobs of this queue"),
    ('command = ["true"]', "command", "speaks of workers"),
    ("workers = 3", "workers", "speaks of workers"),
    ("demand = { max = 3 }", "demand", "speaks of workers"),
    ('backoff = { function = "m:f" }', "backoff", "names a function, which handlers only have"),
    ('on_error = { "crash" = "dead" }', "on_error", '"crash" is how a process of ours ends'),
    ('on_error = { "exit 3" = "dead" }', "on_error", "for consumers write the type that they give"),
]


@pytest.mark.parametrize(("line", "key", "said"), CONFLICTS)
def test_what_does_not_go_with_pull_is_named(tmp_path: Path, line: str, key: str, said: str) -> None:
    (found,) = problems_of(tmp_path, f"[queues.q]\npull = true\n{line}\n")
    assert found.startswith(f"queues.toml:3: queues.q.{key}: ")
    assert said in found


def test_a_pool_cannot_draw_from_what_is_fetched(tmp_path: Path) -> None:
    text = '[queues.q]\npull = true\n[pools.p]\nhandler = "m:f"\nsources = ["q"]\n'
    (found,) = problems_of(tmp_path, text)
    assert "a pool draws from this queue; keep one of them" in found


def test_a_queue_without_anything_is_told_of_pull(tmp_path: Path) -> None:
    (found,) = problems_of(tmp_path, "[queues.q]\n")
    assert found.endswith("or pull = true if consumers fetch its jobs")


def test_pull_is_not_inherited(tmp_path: Path) -> None:
    (found,) = problems_of(tmp_path, '[defaults]\npull = true\n[queues.q]\nhandler = "m:f"\n')
    assert "is not inherited" in found


def test_a_schedule_names_no_task_of_it(tmp_path: Path) -> None:
    text = '[queues.q]\npull = true\n[schedules.s]\nqueue = "q"\nevery = "1h"\ntask = "t"\n'
    (found,) = problems_of(tmp_path, text)
    assert "means nothing in queue q, which has no tasks" in found


def test_it_has_no_pool_and_every_policy(tmp_path: Path) -> None:
    text = '[defaults]\nworkers = 7\n[queues.q]\npull = true\ntimeout = "2m"\nordered = true\n'
    text += '[queues."t_*"]\npull = true\n'
    spec = load_text(tmp_path, text)
    assert (spec.workplaces, spec.pool_of("q")) == ({}, None)
    assert (spec.queues["q"].pull, spec.queues["q"].timeout_ms, spec.queues["q"].ordered) == (True, 120_000, True)
    found = spec.queue("t_1")
    assert found is not None
    assert found.pull


def test_what_is_shown_loads_again(tmp_path: Path) -> None:
    spec = load_text(tmp_path, '[queues.q]\npull = true\n[queues.w]\nhandler = "m:f"\n')
    shown = tomli_w.dumps(as_toml_data(spec))
    assert tomllib.loads(shown)["queues"]["q"]["pull"] is True
    assert load_text(tmp_path, shown).queues == spec.queues


def test_a_queue_that_is_fetched_from_now_on_has_changed(tmp_path: Path) -> None:
    before = load_text(tmp_path, '[queues.q]\nhandler = "m:f"\n')
    after = load_text(tmp_path, "[queues.q]\npull = true\n")
    assert diff(before, after).changed == ("q",)
