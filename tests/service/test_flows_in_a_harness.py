"""What flows do as time goes by, and what their callbacks are checked for, with the clock in hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.errors import InvalidFlow, InvalidPayload, WaitTimeout
from supervisor.flow import Flow, step
from supervisor.testing import Harness

TOML = """
[queues.q]
handler = "steps:run"
[queues.bad]
handler = "steps:bad"
max_attempts = 1
on_dead = "told"
[queues.told]
handler = "steps:run"
ttl = "1h"
[queues.tells]
handler = "steps:tell"
[queues.deep]
handler = "steps:deep"
max_attempts = 1
[queues.tasks]
handler = "done_tasks"
"""
STEPS = """
def run(job):
    return "x" * job.payload["bytes"] if isinstance(job.payload, dict) and "bytes" in job.payload else job.payload

def tell(job):
    return {"context": job.flow.context, "signals": job.flow.signals}

def deep(job):
    found = []
    for _ in range(200):
        found = [found]
    return found

def bad(job):
    raise ValueError("asked to")
"""
TASKS = """
from typing import Any
from supervisor.task import task

@task
def done(flow: dict[str, Any], payload: Any) -> str:
    return flow["name"]

@task
def welcome(to: str) -> None: ...
"""


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    for name, text in (("queues.toml", TOML), ("steps.py", STEPS), ("done_tasks.py", TASKS)):
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with Harness(tmp_path / "queues.toml") as running:
        yield running


def test_a_delay_holds_for_a_first_step_with_a_condition_too(harness: Harness) -> None:
    steps = [{"name": "a", "queue": "q", "delay": "1h", "when": "context.x == `1`"}, {"name": "b", "queue": "q"}]
    flow = harness.client.flows.start({"context": {"x": 1}, "steps": steps})
    harness.drain()
    found = {each["name"]: each["state"] for each in harness.client.flows.show(flow)["steps"]}
    assert found == {"a": "scheduled", "b": "completed"}
    harness.advance("1h")
    harness.drain()
    assert harness.client.flows.show(flow)["state"] == "completed"


def test_a_callback_that_is_a_task_is_checked_as_it_will_be_called(harness: Harness) -> None:
    flows = harness.client.flows
    flows.start(Flow(step("q"), name="mine", on_success=step("tasks", {"to": "x"}, task="done")))
    with pytest.raises(InvalidPayload, match=r"does not fit task welcome.*'flow'"):
        flows.start(Flow(step("q"), on_success=step("tasks", {"to": "x"}, task="welcome")))
    harness.drain()
    assert harness.counts("tasks")["completed"] == 1


@pytest.mark.parametrize("times", [{"deadline": "1h"}, {"ttl": "1h"}, {"delay": "1h"}, {"key": "k"}])
def test_a_callback_has_no_times_that_would_begin_with_its_flow(harness: Harness, times: dict[str, str]) -> None:
    with pytest.raises(InvalidFlow, match="on_complete: a callback has no delay, time, ttl, deadline or key"):
        harness.client.flows.start(Flow(step("q"), on_complete=step("told", **times)))


def test_the_time_to_live_of_a_callbacks_queue_does_not_begin_with_the_flow(harness: Harness) -> None:
    flow = harness.client.flows.start(Flow(step("q", delay="3h"), on_complete=step("told")))
    harness.advance("3h")
    harness.drain()
    assert harness.client.flows.show(flow)["state"] == "completed"
    assert harness.counts("told")["completed"] == 1


def test_a_step_that_would_be_told_too_much_is_a_dead_letter_like_any_other(harness: Harness) -> None:
    halves = [step("q", {"bytes": 700_000}, name=name) for name in "ab"]
    harness.client.flows.start(Flow(step("bad", name="c").after(*halves)))
    harness.drain()
    (told,) = [job for job in harness.enqueued if job.queue == "told"]
    assert told.payload["reason"] == "results_too_large"


def test_steps_of_flows_in_flows_have_the_context_and_hear_the_signals_of_the_whole(harness: Harness) -> None:
    inner = Flow(step("tells", wait_for="go"), name="inner")
    flow = harness.client.flows.start(Flow(Flow(inner), context={"x": 1}))
    assert harness.client.flows.signal(flow, "go", "now")
    harness.drain()
    (run,) = harness.runs
    assert harness.client.status(run.job_id)["result"] == {"context": {"x": 1}, "signals": {"go": "now"}}
    with pytest.raises(InvalidFlow, match="flow inner in a flow has a context of its own"):
        harness.client.flows.start(Flow(Flow(step("q"), name="inner", context=1)))


def test_a_result_that_the_next_step_could_not_read_is_refused(harness: Harness) -> None:
    job = harness.client.enqueue("deep")
    harness.drain()
    assert harness.client.status(job)["errors"][0]["message"] == "the result is nested deeper than 100 levels"


def test_to_wait_for_a_flow_is_to_let_virtual_time_pass(harness: Harness) -> None:
    flow = harness.client.flows.start({"steps": [{"name": "a", "queue": "q", "delay": "1h"}]})
    before = harness.now
    with pytest.raises(WaitTimeout):
        harness.client.flows.wait(flow, timeout="10m")
    assert harness.client.flows.wait(flow)["state"] == "completed"
    assert (harness.now - before).total_seconds() == 3600


def test_to_wait_for_a_flow_that_waits_for_a_signal_ends(harness: Harness) -> None:
    flow = harness.client.flows.start({"steps": [{"name": "a", "queue": "q", "wait_for": ["go"]}]})
    with pytest.raises(WaitTimeout, match=f"to wait for {flow} would never end"):
        harness.client.flows.wait(flow)
    harness.client.flows.signal(flow, "go")
    assert harness.client.flows.wait(flow)["state"] == "completed"


def test_retention_deletes_all_flows_that_have_been_long_enough(harness: Harness) -> None:
    for _ in range(210):  # more than one pass deletes
        harness.client.flows.start(Flow(step("q")))
    harness.drain()
    harness.advance("9d")
    assert list(harness.client.flows.list()) == []
