"""Queues whose handler takes several jobs: what goes with `batch_size`, and the sentence for what does not."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import tomli_w

from supervisor.config.diff import diff
from supervisor.config.resolved import as_toml_data
from tests.support.config_files import load_text, problems_of

FULL = '[queues.q]\nhandler = "m:f"\nbatch_size = 100\nbatch_wait = "500ms"\n'

CONFLICTS = [
    ('handler = "m"', "batch_size = 5", "batch_size", 'm is a module of tasks; write handler = "module:function"'),
    ('command = ["true"]', "batch_size = 5", "batch_size", "means something for a handler only"),
    ('command = ["true"]\nserve = true', "batch_size = 5", "batch_size", "means something for a handler only"),
    ("pull = true", "batch_size = 5", "batch_size", "consumers fetch the jobs of this queue"),
    ("pull = true", 'batch_wait = "1s"', "batch_wait", "consumers fetch the jobs of this queue"),
    (
        'handler = "m:f"',
        'batch_wait = "1s"',
        "batch_wait",
        "means something beside batch_size only; write batch_size =",
    ),
    (
        'handler = "m:f"\nbatch_size = 5',
        "demand = { max = 2 }",
        "demand",
        "which says how many jobs a worker is handed",
    ),
    ('handler = "m:f"', "batch_size = 1", "batch_size", "1 is out of range; write an integer from 2 to 256"),
    ('handler = "m:f"', "batch_size = 257", "batch_size", "257 is out of range; write an integer from 2 to 256"),
    ('handler = "m:f"', "batch_size = true", "batch_size", "write an integer"),
    ('handler = "m:f"', 'batch_size = "many"', "batch_size", "write an integer"),
    ('handler = "m:f"\nbatch_size = 5', "batch_wait = 3", "batch_wait", "3"),
    ('handler = "m:f"\nbatch_size = 5', 'batch_wait = "2h"', "batch_wait", 'write a duration from "0s" to "1h"'),
]


@pytest.mark.parametrize(("before", "line", "key", "said"), CONFLICTS)
def test_what_does_not_go_with_batches_is_named(tmp_path: Path, before: str, line: str, key: str, said: str) -> None:
    (found,) = problems_of(tmp_path, f"[queues.q]\n{before}\n{line}\n")
    assert found.startswith(f"queues.toml:{3 + before.count(chr(10))}: queues.q.{key}: ")
    assert said in found


@pytest.mark.parametrize("key", ["batch_size = 5", 'batch_wait = "1s"'])
def test_it_is_not_inherited(tmp_path: Path, key: str) -> None:
    (found,) = problems_of(tmp_path, f'[defaults]\n{key}\n[queues.q]\nhandler = "m:f"\n')
    assert "is not inherited" in found


def test_where_a_pool_draws_it_stands_in_the_pool(tmp_path: Path) -> None:
    (found,) = problems_of(tmp_path, '[queues.q]\nbatch_size = 5\n[pools.p]\nhandler = "m:f"\nsources = ["q"]\n')
    assert "queues.q.batch_size: stands in the pool" in found
    spec = load_text(tmp_path, '[queues.q]\n[pools.p]\nhandler = "m:f"\nsources = ["q"]\nbatch_size = 5\n')
    assert spec.pools["p"].batch_size == 5


def test_a_demand_of_the_defaults_is_passed_over(tmp_path: Path) -> None:
    assert load_text(tmp_path, "[defaults]\ndemand = { max = 2 }\n" + FULL).queues["q"].batch_size == 100


def test_without_a_wait_a_batch_is_what_waits(tmp_path: Path) -> None:
    queue = load_text(tmp_path, '[queues.q]\nhandler = "m:f"\nbatch_size = 2\n').queues["q"]
    assert (queue.batch_size, queue.batch_wait_ms) == (2, 0)


def test_what_is_shown_loads_again(tmp_path: Path) -> None:
    spec = load_text(tmp_path, FULL + '[queues.w]\nhandler = "m:f"\n[queues.c]\ncommand = ["true"]\n')
    shown = tomllib.loads(tomli_w.dumps(as_toml_data(spec)))["queues"]
    assert (shown["q"]["batch_size"], shown["q"]["batch_wait"]) == (100, "500ms")
    assert not {"batch_size", "batch_wait"} & {*shown["w"], *shown["c"]}
    assert load_text(tmp_path, tomli_w.dumps(as_toml_data(spec))).queues == spec.queues


def test_another_wait_touches_no_worker_and_another_size_does(tmp_path: Path) -> None:
    before = load_text(tmp_path, FULL)
    assert diff(before, load_text(tmp_path, FULL.replace("500ms", "1s"))).retuned == ("q",)
    assert diff(before, load_text(tmp_path, FULL.replace("100", "50"))).changed == ("q",)
    assert diff(before, load_text(tmp_path, '[queues.q]\nhandler = "m:f"\n')).changed == ("q",)
