"""`supervisor.testing.Harness`: the keeper's decisions, in this process, at times of the test's choice."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.client import Client
from supervisor.errors import (
    Busy,
    ConfigError,
    InvalidPayload,
    NotRunning,
    QueueFull,
    UnknownJob,
    UnknownQueue,
    UsageError,
    WaitTimeout,
)
from supervisor.job import Cancel, Dead, Job, RateLimited, Retry, Snooze
from supervisor.testing import Crash, Fail, Harness, Interrupt, TimeOut
from supervisor.testing.keeper import InProcessKeeper
from supervisor.unix import clock
from supervisor.wire.calls import WAIT_SLICE_MS

NOW = "2026-03-01T12:00:00Z"
TASKS = """
from supervisor.task import task

@task(version=2)
def greet(name: str, mark: str = "!"):
    return f"Hello, {name}{mark}"

@greet.upgrade(1)
def _(payload):
    return {"name": payload["who"]}
"""
TOML = """
[daemon]
python_path = ["../app"]
[queues.plain]
handler = "acts:run"
max_attempts = 3
backoff = { base = "10s", factor = 2.0, jitter = 0.5 }
[queues.ranked]
handler = "acts:run"
order = "priority"
[queues.ordered]
handler = "acts:run"
ordered = true
[queues.once]
handler = "acts:run"
unique = { by = ["id"] }
[queues.rated]
handler = "acts:run"
rate = { limit = 2, period = "1m" }
[queues.small]
handler = "acts:run"
max_size = 2
when_full = "wait"
[queues.brief]
handler = "acts:run"
ttl = "10m"
retention = { completed = "1h", cancelled = "1h", dead = "never" }
[queues.guarded]
handler = "acts:run"
breaker = { failures = 3, period = "1m", cooldown = "5m" }
max_attempts = 10
backoff = { base = "1s", factor = 1.0, jitter = 0.0 }
[queues."tenant_*"]
handler = "acts:run"
[queues.told]
handler = "acts:run"
env = { GREETING = "hello" }
redact = ["password"]
[queues.shell]
command = ["sh", "-c", "echo $GREETING \\"$0\\"; exit $1", "{word}", "{status}"]
env = { GREETING = "moin" }
[queues.named]
handler = "things"
[queues.pulled]
pull = true
backoff = { base = "10s", factor = 1.0 }
[schedules.nightly]
queue = "plain"
cron = "30 2 * * *"
payload = { do = "nothing" }
"""
ACTS: list[Any] = []
"""The payloads of the runs that reached a handler, in order."""


def run(job: Job) -> Any:
    """Does what its payload says."""
    ACTS.append(job.payload)
    payload = job.payload or {}
    for queue, child in payload.get("children", ()):
        job.enqueue(queue, child)
    match payload.get("do"):
        case "raise":
            raise ValueError("as told")
        case "raise until":
            if job.attempt < payload["attempt"]:
                raise ConnectionError("not yet")
        case "snooze":
            return Snooze(payload["delay"]) if len(ACTS) <= payload["times"] else "rested"
        case "slow down":
            return RateLimited("10m") if len(ACTS) == 1 else None
        case "cancel":
            return Cancel("no more")
        case "dead":
            return Dead("hopeless")
        case "retry":
            return Retry("90s") if job.attempt == 1 else None
        case "see":
            return {"env": os.environ["GREETING"], "worker": os.environ["JOBSUP_WORKER"], "now": str(job.enqueued_at)}
        case "large":
            return "x" * payload["size"]
        case "stop":
            raise KeyboardInterrupt
        case "fail the test":
            pytest.fail("of the test's own")
    return payload.get("say")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for folder in ("etc", "app"):
        (tmp_path / folder).mkdir()
    (tmp_path / "app" / "things.py").write_text(TASKS)
    (tmp_path / "app" / "acts.py").write_text("from tests.service.test_harness import run\n")
    path = tmp_path / "etc" / "queues.toml"
    path.write_text(TOML)
    ACTS.clear()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield path
    sys.modules.pop("acts", None)
    sys.modules.pop("things", None)


@pytest.fixture
def jobs(config: Path) -> Iterator[Harness]:
    with Harness(config, now=NOW) as harness:
        yield harness


def states(jobs: Harness, *ids: int) -> list[str]:
    return [jobs.job(job_id)["state"] for job_id in ids]


def instants(jobs: Harness, job_id: int) -> list[str]:
    """When the attempts of a job failed, as minutes and seconds."""
    return [error["at"][14:19] for error in jobs.job(job_id)["errors"]]


def open_files() -> dict[int, str]:
    """What each descriptor of this process is."""
    found = {}
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            found[number] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue  # that of the listing itself
    return found


# -- what runs, and when ---------------------------------------------------------------------------------------------


def test_nothing_runs_before_it_is_told_to(jobs: Harness) -> None:
    job_id = jobs.client.enqueue("plain", {"say": 1})
    assert (states(jobs, job_id), ACTS) == (["queued"], [])
    (ran,) = jobs.drain()
    assert (ran.job_id, ran.queue, ran.attempt, ran.ended, ran.error) == (job_id, "plain", 1, "completed", None)
    shown = jobs.job(job_id)
    assert (shown["state"], shown["result"], shown["finished_at"]) == ("completed", 1, "2026-03-01T12:00:00.000Z")
    assert jobs.drain() == []


def test_what_would_be_acknowledged_from_a_buffer_is_there_at_once(config: Path) -> None:
    with Harness(config, overrides=["intake.acknowledge=buffered"]) as jobs:
        for number in range(3):
            jobs.client.enqueue("plain", {"n": number})
            jobs.assert_enqueued("plain", payload={"n": number})
        assert len(jobs.drain()) == 3


def test_what_a_job_enqueues_is_there_only_if_it_completes(jobs: Harness) -> None:
    jobs.client.enqueue("plain", {"children": [["ranked", {"n": 1}], ["told", {"n": 2}]]})
    jobs.client.enqueue("plain", {"children": [["ranked", {"n": 3}]], "do": "dead"})
    jobs.drain()
    assert [one.payload for one in jobs.assert_enqueued("ranked")] == [{"n": 1}]
    jobs.assert_enqueued("told", payload={"n": 2}, state="completed", count=1)


def test_a_child_for_a_queue_that_is_none_fails_its_job(jobs: Harness) -> None:
    job_id = jobs.client.enqueue("plain", {"children": [["nowhere", {}]]})
    jobs.drain()
    assert jobs.job(job_id)["errors"][0]["type"] == "UnknownQueue"


def test_retries_come_exactly_after_their_backoff_and_end_with_the_budget(jobs: Harness) -> None:
    job_id = jobs.client.enqueue("plain", {"do": "raise"})
    ran = jobs.drain(until_empty=True)
    assert [one.ended for one in ran] == ["failed"] * 3
    assert isinstance(ran[0].error, ValueError)
    shown = jobs.job(job_id)
    assert (shown["state"], shown["failures"], instants(jobs, job_id)) == ("dead", 3, ["00:00", "00:10", "00:30"])
    assert shown["errors"][0]["type"] == "ValueError"
    assert "acts" not in shown["errors"][0]["traceback"]
    assert "in run" in shown["errors"][0]["traceback"]


def test_drain_does_not_move_the_clock_and_advance_stops_on_the_way(jobs: Harness) -> None:
    job_id = jobs.client.enqueue("plain", {"do": "raise until", "attempt": 3})
    assert len(jobs.drain()) == 1
    assert str(jobs.now) == "2026-03-01 12:00:00+00:00"
    assert jobs.advance("9s") == []
    assert [one.attempt for one in jobs.advance("1s")] == [2]
    assert [one.ended for one in jobs.advance("1h")] == ["completed"]
    assert jobs.job(job_id)["finished_at"] == "2026-03-01T12:00:30.000Z"
    assert str(jobs.now) == "2026-03-01 13:00:10+00:00"


def test_every_value_that_a_handler_may_return_does_what_it_does_in_a_daemon(jobs: Harness) -> None:
    snoozed = jobs.client.enqueue("plain", {"do": "snooze", "delay": "1h", "times": 2})
    jobs.drain(until_empty=True)
    shown = jobs.job(snoozed)
    assert (shown["state"], shown["result"], shown["attempt"]) == ("completed", "rested", 1)
    assert str(jobs.now) == "2026-03-01 14:00:00+00:00"
    ids = [jobs.client.enqueue("plain", {"do": do}) for do in ("cancel", "dead", "retry")]
    assert [one.ended for one in jobs.drain()] == ["cancelled", "failed", "failed"]
    assert states(jobs, *ids) == ["cancelled", "dead", "scheduled"]
    assert jobs.job(ids[2])["due_at"] == "2026-03-01T14:01:30.000Z"


def test_a_service_that_asks_to_slow_down_stops_its_queue_for_that_time(jobs: Harness) -> None:
    jobs.client.enqueue_many("plain", [{"do": "slow down"}, {"say": 2}])
    assert [one.ended for one in jobs.drain()] == ["rate_limited"]
    assert jobs.advance("599s") == []
    assert len(jobs.advance("1s")) == 2


def test_jobs_run_in_the_order_of_their_queue(jobs: Harness) -> None:
    for priority in (0, 5, -5, 5):
        jobs.client.enqueue("ranked", {"p": priority, "say": len(ACTS)}, priority=priority)
    jobs.drain()
    assert [payload["p"] for payload in ACTS] == [5, 5, 0, -5]


def test_an_ordered_key_waits_for_its_retry_while_others_go_on(jobs: Harness) -> None:
    jobs.client.enqueue("ordered", {"n": 1, "do": "raise until", "attempt": 2}, key="a")
    jobs.client.enqueue("ordered", {"n": 2}, key="a")
    jobs.client.enqueue("ordered", {"n": 3}, key="b")
    jobs.drain(until_empty=True)
    assert [payload["n"] for payload in ACTS] == [1, 3, 1, 2]


def test_a_unique_job_is_there_once(jobs: Harness) -> None:
    first = jobs.client.enqueue("once", {"id": 7})
    assert jobs.client.enqueue("once", {"id": 7, "other": 1}) == first
    jobs.assert_enqueued("once", count=1)


def test_a_job_with_a_key_is_the_first_one_until_retention_has_removed_that(jobs: Harness) -> None:
    first = jobs.client.enqueue("brief", {"id": 1}, idempotency_key="order-7")
    result = jobs.client.wait(first)["result"]
    assert jobs.client.enqueue("brief", {"id": 2}, idempotency_key="order-7") == first
    assert jobs.client.wait(first)["result"] == result
    jobs.assert_enqueued("brief", idempotency_key="order-7", count=1)
    jobs.advance("3h")
    assert jobs.client.enqueue("brief", {"id": 3}, idempotency_key="order-7") != first


def test_a_rate_lets_so_many_run_in_its_time(jobs: Harness) -> None:
    jobs.client.enqueue_many("rated", [{"n": n} for n in range(5)])
    assert [len(jobs.drain()), len(jobs.advance("1m")), len(jobs.advance("1m"))] == [2, 2, 1]
    jobs.client.enqueue_many("rated", [{"n": n} for n in range(5)])
    assert len(jobs.drain(until_empty=True)) == 5
    assert str(jobs.now) == "2026-03-01 12:04:00+00:00"


def test_a_full_queue_makes_room_while_its_caller_waits(jobs: Harness) -> None:
    jobs.client.enqueue_many("small", [{"n": 1}, {"n": 2}])
    jobs.client.enqueue("small", {"n": 3})
    assert ACTS == [{"n": 1}]
    with pytest.raises(QueueFull):
        jobs.client.enqueue_many("small", [{"n": n} for n in range(3)])


def test_what_is_not_started_in_time_expires_if_no_worker_is_free(jobs: Harness) -> None:
    job_id = jobs.client.enqueue("brief", {})
    jobs.advance("9m", work=False)
    assert states(jobs, job_id) == ["queued"]
    jobs.advance("1h", work=False)
    shown = jobs.job(job_id)
    assert (shown["state"], shown["finished_at"], ACTS) == ("cancelled", "2026-03-01T12:10:00.000Z", [])


def test_retention_deletes_what_has_been_long_enough(jobs: Harness) -> None:
    ids = jobs.client.enqueue_many("brief", [{}] * 1200)
    jobs.drain()
    jobs.advance("61m")
    with pytest.raises(UnknownJob):
        jobs.job(ids[-1])
    jobs.assert_not_enqueued("brief")


def test_schedules_fire_at_their_times(jobs: Harness) -> None:
    assert [one.queue for one in jobs.advance("3d")] == ["plain"] * 3
    due = [one.due_at for one in jobs.assert_enqueued("plain", tags=["schedule:nightly"], count=3)]
    assert due == [None] * 3
    assert all("due:2026-03-0" in "".join(one.tags) for one in jobs.enqueued)


def test_the_breaker_of_a_queue_opens_and_probes(jobs: Harness) -> None:
    jobs.plan(Fail(ConnectionError("down")), run=None, queue="guarded")
    jobs.client.enqueue_many("guarded", [{"n": n} for n in range(5)])
    assert len(jobs.drain()) == 3
    assert jobs.advance("4m") == []
    assert len(jobs.advance("61s")) == 1
    assert "breaker open" in jobs.log


def test_a_drain_waits_for_the_probe_of_a_breaker(jobs: Harness) -> None:
    jobs.plan(Fail(ConnectionError("down")), run=1, queue="guarded")
    jobs.client.enqueue_many("guarded", [{"n": n} for n in range(3)])
    jobs.drain(until_empty=True)
    assert jobs.counts("guarded")["completed"] == 3
    assert str(jobs.now) == "2026-03-01 12:05:00+00:00"


def test_a_paused_queue_ends_a_drain_with_its_jobs_left(jobs: Harness) -> None:
    jobs.client.request("pause", queue="plain")
    job_id = jobs.client.enqueue("plain", {})
    assert jobs.drain(until_empty=True) == []
    assert jobs.counts("plain")["queued"] == 1
    jobs.client.request("resume", queue="plain")
    assert [one.job_id for one in jobs.drain()] == [job_id]


def test_queues_of_a_pattern_are_there_from_their_first_job_on(jobs: Harness) -> None:
    jobs.client.enqueue("tenant_acme", {"say": "hi"})
    assert [one.queue for one in jobs.drain()] == ["tenant_acme"]


def test_an_alert_becomes_a_job_when_it_would_be_told(config: Path) -> None:
    alerts = '[alerts]\nqueue = "told"\npayload = { text = "{summary}" }\ncommand = ["touch", "told"]\n'
    config.write_text(alerts + TOML)
    with Harness(config, now=NOW) as jobs:
        jobs.client.enqueue_many("plain", [{"do": "dead"}] * 2)
        jobs.advance("10m")
        (alert,) = [jobs.job(one.id) for one in jobs.assert_enqueued("told", count=1) if one.id is not None]
        assert alert["payload"]["text"] == "2 jobs of plain are dead, such as 1, 2: hopeless"
        assert alert["finished_at"] == "2026-03-01T12:00:01.000Z"


# -- consumers -------------------------------------------------------------------------------------------------------


def test_a_fetch_waits_in_virtual_time(jobs: Harness) -> None:
    assert jobs.client.fetch("pulled", wait="5s") == []
    assert str(jobs.now) == "2026-03-01 12:00:05+00:00"
    job_id = jobs.client.enqueue("pulled", {"n": 1}, delay="2s")
    (fetched,) = jobs.client.fetch("pulled", wait="5s")
    assert (fetched["id"], str(jobs.now)) == (job_id, "2026-03-01 12:00:07+00:00")
    assert jobs.client.ack(job_id, fetched["token"], "done")["state"] == "completed"
    assert jobs.job(job_id)["result"] == "done"


def test_a_lease_ends_at_its_time(jobs: Harness) -> None:
    job_id = jobs.client.enqueue("pulled", {})
    jobs.client.fetch("pulled", lease="1m")
    jobs.advance("1h")
    assert (states(jobs, job_id), instants(jobs, job_id)) == (["queued"], ["01:00"])
    (again,) = jobs.client.fetch("pulled", lease="1m")
    jobs.advance("50s")
    jobs.client.extend(again["token"], "2m")
    assert jobs.drain(until_empty=True) == [], "it ends when time brings nothing more, though nobody fetches"
    assert instants(jobs, job_id) == ["01:00", "02:50"]
    assert str(jobs.now) == "2026-03-01 13:03:00+00:00"


# -- the client ------------------------------------------------------------------------------------------------------


def test_to_wait_for_a_job_is_to_run_it_and_to_let_time_pass(jobs: Harness) -> None:
    assert isinstance(jobs.client, Client)
    job_id = jobs.client.enqueue("plain", {"say": 5}, delay="2h")
    with pytest.raises(WaitTimeout):
        jobs.client.wait(job_id, timeout="1h")
    assert str(jobs.now) == "2026-03-01 13:00:00+00:00"
    assert jobs.client.wait(job_id, timeout="2h")["result"] == 5
    assert str(jobs.now) == "2026-03-01 14:00:00+00:00"


def test_a_wait_goes_on_when_a_slice_of_it_ends_as_the_job_is_due(jobs: Harness) -> None:
    job_id = jobs.client.enqueue("plain", {"say": 1}, delay=WAIT_SLICE_MS / 1000)
    assert jobs.client.wait(job_id)["result"] == 1


def test_to_wait_for_what_never_comes_ends(jobs: Harness) -> None:
    jobs.client.request("pause", queue="told")
    job_id = jobs.client.enqueue("told", {})
    with pytest.raises(WaitTimeout):
        jobs.client.wait(job_id, timeout="10m")
    assert str(jobs.now) == "2026-03-01 12:10:00+00:00"
    with pytest.raises(WaitTimeout, match=f"to wait for {job_id} would never end"):
        jobs.client.wait(job_id)


def test_a_call_that_nothing_can_answer_ends_with_its_time(jobs: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InProcessKeeper, "next_ms", lambda *_, **__: None)
    with pytest.raises(Busy, match="nothing is left to run"):
        jobs.client.fetch("pulled", wait="5s")
    assert jobs.now.minute == 0


def test_an_application_may_close_the_client_that_it_was_given(jobs: Harness) -> None:
    with jobs.client as client:
        job_id = client.enqueue("plain", {})
    assert jobs.client.status(job_id)["state"] == "queued"


def test_what_keeps_a_job_is_explained(jobs: Harness) -> None:
    jobs.client.enqueue_many("rated", [{}, {}, {}])
    jobs.drain()
    assert "rate" in jobs.client.explain(3)["sentence"]


def test_refusals_are_those_of_the_daemon(jobs: Harness) -> None:
    with pytest.raises(UnknownQueue, match="there is no queue plian") as caught:
        jobs.client.enqueue("plian", {})
    assert caught.value.hint == "did you mean plain?"
    with pytest.raises(InvalidPayload, match="does not order by priority"):
        jobs.client.enqueue("plain", {}, priority=3)
    with pytest.raises(UnknownQueue):
        jobs.counts("plian")


def test_a_handler_may_enqueue_and_wait_by_the_client(config: Path) -> None:
    def parent(_: Job) -> Any:
        child = jobs.client.enqueue("plain", {"say": "from the child"})
        return jobs.client.wait(child, timeout="1m")["result"]

    with Harness(config, handlers={"told": parent}) as jobs:
        job_id = jobs.client.enqueue("told", {})
        assert [one.queue for one in jobs.drain()] == ["plain", "told"]
        assert jobs.job(job_id)["result"] == "from the child"


def test_a_handler_that_waits_for_its_own_queue_needs_a_second_worker(config: Path) -> None:
    def parent(job: Job) -> Any:
        if job.payload == "child":
            return "done"
        child = jobs.client.enqueue("told", "child")
        return jobs.client.wait(child, timeout="1m")["result"]

    for workers, ended in ((1, "failed"), (2, "completed")):
        with Harness(config, handlers={"told": parent}, workers=workers) as jobs:
            job_id = jobs.client.enqueue("told", "parent")
            ran = next(one for one in jobs.drain() if one.job_id == job_id)
            assert ran.ended == ended, ran.error


def test_a_worker_that_waits_runs_nothing_else_meanwhile(config: Path) -> None:
    """Not even what it was sent already: a second message lies in its socket."""
    config.write_text(config.read_text().replace("[queues.plain]", "[queues.plain]\ndemand = { min = 20, max = 20 }"))
    depth: list[int] = []
    running = 0

    def handler(_: Job) -> None:
        nonlocal running
        running += 1
        depth.append(running)
        jobs.client.wait(jobs.client.enqueue("told", {}), timeout="1m")
        running -= 1

    with Harness(config, handlers={"plain": handler}) as jobs:
        jobs.client.enqueue_many("plain", [{}] * 20)
        jobs.drain()
    assert depth == [1] * 20


def test_workers_that_have_run_as_many_jobs_as_they_may_are_replaced(config: Path) -> None:
    limits = ["queues.plain.recycle_jobs=2", "queues.plain.demand={ min = 3, max = 3 }"]
    with Harness(config, overrides=limits) as jobs:
        ids = jobs.client.enqueue_many("plain", [{"say": n} for n in range(7)])
        assert [one.job_id for one in jobs.drain()] == ids
        assert {jobs.job(job_id)["interruptions"] for job_id in ids} == {0}


def test_large_payloads_and_results_go_the_way_they_go(jobs: Harness) -> None:
    payload = {"do": "large", "size": 200_000, "more": "y" * 100_000}
    job_id = jobs.client.enqueue("plain", payload)
    jobs.client.enqueue("plain", {"children": [["told", {"n": n}] for n in range(3000)]})
    jobs.client.enqueue_many("ranked", [{"more": "z" * 100_000}] * 50)
    assert ACTS == [], "what is long in being sent is not waited for"
    jobs.drain()
    assert jobs.job(job_id)["result"] == "x" * 200_000
    assert jobs.counts("ranked")["completed"] == 50
    assert jobs.counts("told")["completed"] == 3000


# -- what befalls jobs -----------------------------------------------------------------------------------------------


def test_a_crash_is_charged_as_one_and_three_are_the_end(jobs: Harness) -> None:
    job_id = jobs.client.enqueue("plain", {})
    jobs.plan(Crash(signal=signal.SIGSEGV), run=None, job=job_id)
    assert {one.ended for one in jobs.drain(until_empty=True)} == {"crashed"}
    shown = jobs.job(job_id)
    assert (shown["state"], shown["crashes"], shown["failures"], ACTS) == ("dead", 3, 0, [])
    assert {(error["kind"], error["signal"]) for error in shown["errors"]} == {("crash", 11)}


def test_a_crash_after_the_handler_leaves_its_effects_and_no_outcome(jobs: Harness) -> None:
    job_id = jobs.client.enqueue("plain", {"children": [["told", {}]]})
    jobs.plan(Crash(exit_code=1, after_handler=True), queue="plain")
    assert [one.ended for one in jobs.drain(until_empty=True)] == ["crashed", "completed", "completed"]
    assert len([payload for payload in ACTS if payload]) == 2
    jobs.assert_enqueued("told", count=1)
    assert jobs.job(job_id)["errors"][0]["exit_code"] == 1


def test_jobs_beside_one_that_crashes_are_charged_with_nothing(jobs: Harness) -> None:
    bad, good = jobs.client.enqueue_many("plain", [{"n": 1}, {"n": 2}])
    jobs.plan(Crash(), job=bad)
    jobs.drain(until_empty=True)
    assert [jobs.job(one)["crashes"] for one in (bad, good)] == [1, 0]
    assert states(jobs, bad, good) == ["completed", "completed"]


def test_an_interruption_costs_nothing(jobs: Harness) -> None:
    job_id = jobs.client.enqueue("plain", {})
    jobs.plan(Interrupt(), run=1)
    assert [(one.ended, one.attempt) for one in jobs.drain()] == [("interrupted", 1), ("completed", 1)]
    shown = jobs.job(job_id)
    assert (shown["interruptions"], shown["failures"], shown["crashes"]) == (1, 0, 0)


@pytest.mark.parametrize("killed", [False, True])
def test_a_time_out_is_a_failure(jobs: Harness, killed: bool) -> None:
    job_id = jobs.client.enqueue("plain", {})
    jobs.plan(TimeOut(killed=killed), run=1)
    assert [one.ended for one in jobs.drain(until_empty=True)] == ["timed_out", "completed"]
    shown = jobs.job(job_id)
    assert (shown["failures"], shown["errors"][0]["kind"]) == (1, "timeout")


def test_the_last_plan_counts_and_each_job_counts_its_own_runs(jobs: Harness) -> None:
    first, second = jobs.client.enqueue_many("plain", [{"n": 1}, {"n": 2}])
    jobs.plan(Fail("for all"), run=2, queue="plain")
    jobs.plan(Crash(), run=2, job=second)
    jobs.plan(Fail("the first time"), run=1)
    jobs.drain(until_empty=True)
    assert [error["message"] for error in jobs.job(first)["errors"]] == ["the first time", "for all"]
    assert [error["kind"] for error in jobs.job(second)["errors"]] == ["error", "crash"]


def test_a_failure_of_a_class_follows_the_rules_for_it(config: Path) -> None:
    rules = '[queues.plain.on_error]\n"ValueError" = "dead"\n[queues.ranked]'
    config.write_text(TOML.replace("[queues.ranked]", rules))
    with Harness(config) as jobs:
        job_id = jobs.client.enqueue("plain", {})
        jobs.plan(Fail(ValueError("never again")))
        jobs.drain()
        assert states(jobs, job_id) == ["dead"]


def test_a_handler_that_spends_its_time_is_cut_at_its_deadline(config: Path) -> None:
    def slow(job: Job) -> None:
        jobs.spend(job.payload)

    with Harness(config, now=NOW, handlers={"told": slow}) as jobs:
        quick, late = jobs.client.enqueue_many("told", ["2m", "10m"])
        assert [one.ended for one in jobs.drain()] == ["completed", "timed_out"]
        assert jobs.job(quick)["finished_at"] == "2026-03-01T12:02:00.000Z"
        assert jobs.job(late)["errors"][0]["at"] == "2026-03-01T12:07:00.000Z"
        with pytest.raises(UsageError, match="advance"):
            jobs.spend("1s")


def test_what_a_handler_says_of_its_progress_is_said_in_virtual_time(config: Path) -> None:
    def handler(job: Job) -> Any:
        jobs.spend("2m")
        job.progress(0.5, "half")
        return jobs.job(job.id)["progress"]

    with Harness(config, now=NOW, handlers={"told": handler}) as jobs:
        job_id = jobs.client.enqueue("told", {})
        jobs.drain()
        said = {"fraction": 0.5, "text": "half", "at": "2026-03-01T12:02:00.000Z"}
        assert jobs.job(job_id)["result"] == said


# -- handlers --------------------------------------------------------------------------------------------------------


def test_tasks_are_checked_chosen_and_upgraded(jobs: Harness) -> None:
    with pytest.raises(InvalidPayload, match="greet"):
        jobs.client.enqueue("named", {"nome": "Ada"}, task="greet")
    new = jobs.client.enqueue("named", {"name": "Ada"}, task="greet")
    old = jobs.client.enqueue("named", {"who": "Bob"}, task="greet", version=1)
    later = jobs.client.enqueue("named", {}, task="part")
    assert [one.ended for one in jobs.drain(until_empty=True)] == ["completed", "completed", "blocked"]
    assert [jobs.job(one)["result"] for one in (new, old)] == ["Hello, Ada!", "Hello, Bob!"]
    assert states(jobs, later) == ["blocked"]
    jobs.assert_enqueued("named", task="greet", count=2)


def test_handlers_find_the_environment_of_their_queue_and_leave_none(jobs: Harness) -> None:
    job_id = jobs.client.enqueue("told", {"do": "see"})
    jobs.drain()
    assert jobs.job(job_id)["result"] == {"env": "hello", "worker": "told", "now": "2026-03-01 12:00:00+00:00"}
    assert not {"GREETING", "JOBSUP_WORKER"} & os.environ.keys()


def test_a_client_that_a_handler_makes_does_not_reach_the_daemon_of_this_machine(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def handler(_: Job) -> None:
        Client(timeout=0.05).enqueue("told", {})

    with socket.socket(socket.AF_UNIX) as real:
        real.bind(str(config.parent / "real.sock"))
        real.listen()
        monkeypatch.setenv("JOBSUP_SOCKET", real.getsockname())
        with Harness(config, handlers={"told": handler}) as jobs:
            jobs.client.enqueue("told", {})
            (ran,) = jobs.drain()
        assert isinstance(ran.error, NotRunning), ran
        real.setblocking(False)
        with pytest.raises(BlockingIOError):
            real.accept()
        assert os.environ["JOBSUP_SOCKET"] == real.getsockname()


def test_commands_are_run(jobs: Harness) -> None:
    good = jobs.client.enqueue("shell", {"word": "you", "status": 0})
    bad = jobs.client.enqueue("shell", {"word": "you", "status": 3})
    jobs.drain()
    assert jobs.job(good)["result"] == "moin you"
    assert jobs.job(bad)["errors"][0]["exit_code"] == 3


def test_a_command_that_stays_alive_is_refused_before_anything_of_it_runs(config: Path) -> None:
    note = config.parent / "started"
    config.write_text(TOML + f'[queues.served]\ncommand = ["touch", "{note}"]\nserve = true\n')
    with Harness(config) as jobs:
        job_id = jobs.client.enqueue("served", {})
        with pytest.raises(UsageError, match="serve = true") as caught:
            jobs.drain()
        assert (caught.value.hint or "").startswith('give a function in its place, handlers={"served": function}')
        assert (states(jobs, job_id), jobs.job(job_id)["failures"], note.exists()) == (["queued"], 0, False)
        jobs.plan(Fail(), run=None, job=job_id)
        jobs.drain(until_empty=True)
        assert (states(jobs, job_id), jobs.job(job_id)["failures"]) == (["dead"], 5)
    with Harness(config, handlers={"served": lambda job: job.payload + 1}) as jobs:
        assert jobs.client.wait(jobs.client.enqueue("served", 1))["result"] == 2


@pytest.mark.parametrize(("do", "kind"), [("stop", KeyboardInterrupt), ("fail the test", pytest.fail.Exception)])
def test_what_is_meant_for_the_test_reaches_it_and_is_charged_to_nobody(
    jobs: Harness, do: str, kind: type[BaseException]
) -> None:
    job_id = jobs.client.enqueue("plain", {"do": do})
    with pytest.raises(kind):
        jobs.drain()
    shown = jobs.job(job_id)
    assert (shown["state"], shown["failures"], shown["crashes"], shown["interruptions"]) == ("queued", 0, 0, 1)
    jobs.client.cancel(job_id)
    jobs.client.enqueue("plain", {})
    assert [one.ended for one in jobs.drain()] == ["completed"]


def test_what_a_handler_raises_can_be_had_raised(jobs: Harness) -> None:
    job_id = jobs.client.enqueue("plain", {"do": "raise"})
    with pytest.raises(ValueError, match="as told"):
        jobs.drain(raising=True)
    assert states(jobs, job_id) == ["scheduled"]


def test_a_handler_that_cannot_be_imported_is_said_when_its_job_runs(config: Path) -> None:
    config.write_text(config.read_text() + '\n[queues.broken]\nhandler = "broken:run"\n')
    (config.parent.parent / "app" / "broken.py").write_text("import no_such_module\n")
    with Harness(config) as jobs:
        jobs.client.enqueue("plain", {})
        jobs.drain()
        job_id = jobs.client.enqueue("broken", {})
        with pytest.raises(Exception, match="no_such_module"):
            jobs.drain()
        assert jobs.job(job_id)["failures"] == 0


def test_jobs_that_never_end_are_noticed(config: Path) -> None:
    def again(job: Job) -> None:
        job.enqueue("told", {})

    with Harness(config, handlers={"told": again}) as jobs:
        jobs.client.enqueue("told", {})
        with pytest.raises(AssertionError, match="more than 50 runs, the last of job 51 of told"):
            jobs.drain(runs_max=50)


# -- what it leaves alone --------------------------------------------------------------------------------------------


def test_nothing_is_left_behind(config: Path) -> None:
    folder, descriptors, path = config.parent.parent, open_files(), list(sys.path)
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM)]
    with Harness(config) as jobs:
        jobs.client.enqueue_many("plain", [{"do": "raise"}, {}])
        jobs.plan(Crash(), run=1)
        jobs.drain(until_empty=True)
    jobs.close()
    assert open_files() == descriptors
    assert sorted(os.listdir(folder)) == ["app", "etc"]
    assert sys.path == path
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM)] == handlers


def test_a_configuration_that_is_none_leaves_nothing_either(config: Path) -> None:
    config.write_text("[queues.q]\n")
    with pytest.raises(ConfigError):
        Harness(config)
    config.write_text(TOML)
    with pytest.raises(UnknownQueue, match="there is no pool nope"):
        Harness(config, handlers={"nope": run})
    with pytest.raises(ValueError, match="time zone"):
        Harness(config, now="2026-03-01T12:00:00")
    assert sorted(os.listdir(config.parent.parent)) == ["app", "etc"]


def test_the_time_of_others_goes_on(config: Path) -> None:
    """Other threads, and handlers, go by the machine's clocks, also while the harness goes by its own."""
    seen: list[int] = []

    def handler(_: Job | None) -> None:
        seen.append(clock.boot_ms())

    before = clock.boot_ms()
    with Harness(config, handlers={"told": handler}) as jobs:
        jobs.client.enqueue("told")
        jobs.advance("30d")
        with jobs.clock.ruling():
            other = threading.Thread(target=handler, args=[None])
            other.start()
            other.join()
            assert clock.boot_ms() == jobs.clock.boot_ms()
            assert clock.wall_ms() == jobs.clock.wall_ms
        handler(None)
    assert len(seen) == 3
    assert seen == sorted([before, *seen])[1:]
    assert seen[-1] - before < 60_000


def test_another_thread_is_told_that_it_must_not(jobs: Harness) -> None:
    said: list[str] = []

    def enqueue() -> None:
        try:
            jobs.client.enqueue("plain", {})
        except RuntimeError as error:
            said.append(str(error))

    other = threading.Thread(target=enqueue)
    other.start()
    other.join()
    assert "from the thread that made it" in said[0]
    jobs.client.enqueue("plain", {"say": 1})
    assert [one.ended for one in jobs.drain()][-1] == "completed"


def test_two_harnesses_know_nothing_of_each_other(config: Path, jobs: Harness) -> None:
    with Harness(config, now="2030-01-01T00:00:00Z") as others:
        others.client.enqueue("plain", {})
        jobs.assert_not_enqueued("plain")
        assert (others.now.year, jobs.now.year) == (2030, 2026)
        assert len(others.drain()) == 1


def test_what_is_redacted_is_still_asserted(jobs: Harness) -> None:
    jobs.client.enqueue("told", {"user": "ada", "password": "secret"})
    jobs.assert_enqueued("told", payload={"user": "ada", "password": "secret"})
    assert "secret" not in str(jobs.job(1))
