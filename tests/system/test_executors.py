"""What handlers and commands can do wrong, on a real daemon: each is answered clearly and nothing else is touched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon

TOML = """
[daemon]
python_path = ["../app"]
shutdown_grace = "2s"
[defaults]
workers = 1
max_attempts = 1
kill_grace = "2s"
backoff = { base = "10ms", max = "20ms" }
[queues.py]
handler = "jobs:run"
max_result = "1KiB"
[queues.deadline]
handler = "jobs:run"
timeout = "300ms"
[queues.crash]
handler = "jobs:run"
max_crashes = 2
[queues.twice]
handler = "jobs:run"
max_attempts = 2
[queues.sink]
handler = "jobs:run"
[queues.missing_module]
handler = "no_such_module:run"
[queues.not_callable]
handler = "jobs:VALUE"
[queues.missing_command]
command = ["no-such-command"]
[queues.echo]
command = ["printf", "%s", "{text}"]
[queues.dashed]
command = ["printf", "%s", "--", "{text}"]
[queues.shell]
command = ["sh", "-c", "cat; echo oops >&2; exit 3"]
[queues.cat]
command = ["cat"]
max_result = "1KiB"
[queues.hang]
command = ["sh", "-c", "trap '' TERM; sleep 60 & wait; wait"]
timeout = "300ms"
kill_grace = "600ms"
"""

APP = {
    "jobs.py": r"""
import ctypes, os, signal, sys, time
from supervisor.job import Cancel, Dead, Failed, JobTimeout, Snooze

VALUE = 3

def run(job):
    return globals()[job.payload["do"]](job)

def nothing(job): return None
def echo(job): return job.payload
def raise_it(job): raise ValueError("it is broken")
def exit_it(job): sys.exit(4)
def not_json(job): return object()
def not_finite(job): return {"a": None, "b": [1.5, float("inf")]}
def dead_of(job): return Dead(ValueError("no use"))
def cancel_of(job): return Cancel(KeyError("gone"))
def an_outcome(job): return Failed("x")
def nan_child(job): job.enqueue("sink", float("nan"))
def set_child(job): job.enqueue("sink", {1, 2})
def many_children(job):
    for number in range(10_001): job.enqueue("sink", number)
def half_child(job): job.enqueue("sink", "\ud800")
def too_large(job): return "x" * 2000
def snooze(job):
    if os.path.exists(job.payload["mark"]): return "rested"
    open(job.payload["mark"], "w").close()
    return Snooze("10ms")
def cancel(job): return Cancel("not wanted any more")
def dead(job): return Dead("will never work")
def soft(job):
    try:
        time.sleep(60)
    except JobTimeout:
        return "tidied up"
def spin(job):
    while True: pass
def deaf(job):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
    while True: time.sleep(1)
def segv(job): ctypes.string_at(0)
def leave(job): os._exit(9)
def family(job):
    job.enqueue("sink", {"do": "echo", "from": job.id})
    job.enqueue("sink", {"do": "echo", "from": job.id}, delay="10ms")
    if job.payload.get("fail"): raise RuntimeError("after enqueueing")
    return "parent"
def wrong_child(job): job.enqueue("nowhere", {})
def facts(job):
    names = ("id", "queue", "attempt", "max_attempts", "priority", "previous_error")
    said = {"env": os.environ.get("JOBSUP_WORKER"), "secret": os.environ.get("SECRET")}
    return {name: getattr(job, name) for name in names} | said
def flaky(job):
    if job.attempt == 1: raise RuntimeError("the first time")
    return job.previous_error
"""
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("executors"), TOML, app=APP, env={"SECRET": "hidden"}) as running:
        yield running


def run(daemon: Daemon, queue: str, payload: object, timeout: float = 15) -> dict[str, Any]:
    with daemon.client() as client:
        job_id = client.enqueue(queue, payload)
    return daemon.wait_state(job_id, "completed", "dead", "cancelled", timeout=timeout)


def last_error(job: dict[str, Any]) -> dict[str, Any]:
    error: dict[str, Any] = job["errors"][-1]
    return error


def test_a_result_is_kept_and_none_is_null(daemon: Daemon) -> None:
    assert run(daemon, "py", {"do": "echo", "text": "ünï"})["result"] == {"do": "echo", "text": "ünï"}
    assert run(daemon, "py", {"do": "nothing"})["result"] is None


def test_a_large_payload_and_a_large_result_travel_as_files(daemon: Daemon) -> None:
    payload = {"do": "echo", "text": "x" * 500_000}
    assert run(daemon, "twice", payload)["result"] == payload


def test_an_exception_is_kept_with_its_traceback(daemon: Daemon) -> None:
    job = run(daemon, "py", {"do": "raise_it"})
    error = last_error(job)
    assert (job["state"], job["failures"], job["reason"]) == ("dead", 1, "max_attempts")
    assert (error["kind"], error["type"], error["message"]) == ("error", "ValueError", "it is broken")
    assert 'raise ValueError("it is broken")' in error["traceback"]


def test_sys_exit_is_a_failure_of_the_job_and_the_worker_lives(daemon: Daemon) -> None:
    before = daemon.ctl("workers", "--json").out
    job = run(daemon, "py", {"do": "exit_it"})
    assert (job["state"], last_error(job)["type"]) == ("dead", "SystemExit")
    pids = [line["pid"] for line in daemon.ctl("workers", "--json").lines if line["queue"] == "py"]
    assert all(str(pid) in before for pid in pids)


@pytest.mark.parametrize(
    ("do", "type_", "said"),
    [
        ("not_json", "InvalidResult", "not JSON"),
        ("not_finite", "InvalidResult", "NaN or Infinity"),
        ("an_outcome", "InvalidResult", "not for handlers"),
        ("nan_child", "InvalidPayload", "NaN or Infinity"),
        ("set_child", "InvalidPayload", "cannot be written as JSON"),
        ("many_children", "PayloadTooLarge", "may enqueue 10000 jobs"),
        ("half_child", "InvalidPayload", "surrogate"),
        ("too_large", "ResultTooLarge", "max_result is 1024"),
    ],
)
def test_a_result_that_cannot_be_kept_is_a_failure(daemon: Daemon, do: str, type_: str, said: str) -> None:
    error = last_error(run(daemon, "py", {"do": do}))
    assert (error["type"], said in error["message"]) == (type_, True)


def test_a_reason_may_be_the_exception_itself(daemon: Daemon) -> None:
    dead = run(daemon, "py", {"do": "dead_of"})
    assert (dead["state"], dead["failures"], dead["crashes"], dead["error"]) == ("dead", 1, 0, "no use")
    cancelled = run(daemon, "py", {"do": "cancel_of"})
    assert (cancelled["state"], cancelled["reason"]) == ("cancelled", "KeyError: 'gone'")


def test_what_a_handler_returns_decides(daemon: Daemon, tmp_path: Path) -> None:
    snoozed = run(daemon, "py", {"do": "snooze", "mark": str(tmp_path / "mark")})
    assert (snoozed["state"], snoozed["result"], snoozed["failures"]) == ("completed", "rested", 0)
    cancelled = run(daemon, "py", {"do": "cancel"})
    assert (cancelled["state"], cancelled["reason"]) == ("cancelled", "not wanted any more")
    dead = run(daemon, "twice", {"do": "dead"})
    assert (dead["state"], dead["failures"], last_error(dead)["message"]) == ("dead", 1, "will never work")


def test_a_retry_knows_its_attempt_and_the_previous_error(daemon: Daemon) -> None:
    job = run(daemon, "twice", {"do": "flaky"})
    assert (job["state"], job["attempt"], job["result"]) == ("completed", 2, "the first time")


def test_a_handler_sees_its_job_and_only_the_promised_environment(daemon: Daemon) -> None:
    job = run(daemon, "twice", {"do": "facts"})
    assert job["result"] == {
        "id": job["id"], "queue": "twice", "attempt": 1, "max_attempts": 2, "priority": 0, "previous_error": None,
        "env": "twice", "secret": None,
    }  # fmt: skip


def test_children_exist_only_if_their_parent_completes(daemon: Daemon) -> None:
    def children(parent: int) -> list[dict[str, Any]]:
        found = daemon.ctl("list", "--queue", "sink", "--limit", "0", "--json").lines
        return [job for job in found if (daemon.job(job["id"])["payload"] or {}).get("from") == parent]

    parent = run(daemon, "py", {"do": "family"})
    daemon.wait_for(lambda: [job["state"] for job in children(parent["id"])] == ["completed", "completed"])
    failed = run(daemon, "py", {"do": "family", "fail": True})
    assert (failed["state"], children(failed["id"])) == ("dead", [])
    wrong = run(daemon, "py", {"do": "wrong_child"})
    assert (wrong["state"], "nowhere" in last_error(wrong)["message"]) == ("dead", True)


def test_the_soft_exception_lets_a_handler_tidy_up(daemon: Daemon) -> None:
    job = run(daemon, "deadline", {"do": "soft"})
    assert (job["state"], job["result"]) == ("completed", "tidied up")


def test_a_handler_past_its_deadline_fails_with_a_timeout(daemon: Daemon) -> None:
    job = run(daemon, "deadline", {"do": "spin"})
    assert (job["state"], job["crashes"], last_error(job)["kind"]) == ("dead", 0, "timeout")


def test_a_handler_that_hears_nothing_is_killed_and_its_stacks_are_kept(daemon: Daemon) -> None:
    error = last_error(run(daemon, "deadline", {"do": "deaf"}))
    assert error["kind"] == "timeout"
    assert "in deaf" in error["traceback"]


@pytest.mark.parametrize(("do", "signal", "exit_code"), [("segv", 11, None), ("leave", None, 9)])
def test_a_crash_is_charged_to_its_job_with_a_certificate(
    daemon: Daemon, do: str, signal: int | None, exit_code: int | None
) -> None:
    job = run(daemon, "crash", {"do": do})
    error = last_error(job)
    assert (job["state"], job["crashes"], job["failures"], job["reason"]) == ("dead", 2, 0, "max_crashes")
    assert (error["kind"], error["signal"], error["exit_code"]) == ("crash", signal, exit_code)
    assert error["rss_peak_bytes"] > 1_000_000
    assert error["cpu_s"] >= 0


@pytest.mark.parametrize(
    ("queue", "said"),
    [
        ("missing_module", "No module named 'no_such_module'"),
        ("not_callable", "jobs:VALUE is not callable"),
        ("missing_command", "no-such-command is not found"),
    ],
)
def test_an_unusable_handler_opens_its_circuit_and_its_jobs_wait(daemon: Daemon, queue: str, said: str) -> None:
    job_id = daemon.enqueue(queue, {})
    shown = daemon.ctl("status", "--json").json["queues"][queue]
    assert (shown["circuit"], said in shown["reason"]) == ("open", True)
    assert daemon.job(job_id)["state"] == "queued"
    assert run(daemon, "py", {"do": "nothing"})["state"] == "completed"


def test_a_command_gets_its_payload_and_gives_its_result(daemon: Daemon) -> None:
    assert run(daemon, "cat", {"a": [1, 2]})["result"] == {"a": [1, 2]}
    assert run(daemon, "echo", {"text": "a b; $(c) *"})["result"] == "a b; $(c) *"
    assert run(daemon, "echo", {"text": ""})["result"] is None


def test_a_failing_command_keeps_the_end_of_its_stderr(daemon: Daemon) -> None:
    error = last_error(run(daemon, "shell", {}))
    assert (error["exit_code"], error["last_output"]) == (3, "oops\n")
    assert error["message"] == "the command ended with exit status 3: oops"


@pytest.mark.parametrize(
    ("queue", "payload", "said"),
    [
        ("echo", {}, "no member 'text'"),
        ("echo", [], "no member 'text'"),
        ("echo", {"text": "-rf"}, "begins with '-'"),
        ("echo", {"text": "x" * 200_000}, "the kernel takes"),
        ("echo", {"text": {"a": 1}}, "must be a text"),
    ],
)
def test_a_payload_that_fills_no_command_is_dead_at_once(
    daemon: Daemon, queue: str, payload: object, said: str
) -> None:
    job = run(daemon, queue, payload)
    assert (job["state"], said in last_error(job)["message"]) == ("dead", True)


def test_after_two_dashes_a_member_may_begin_with_one(daemon: Daemon) -> None:
    assert "-rf" in run(daemon, "dashed", {"text": "-rf"})["result"]


def test_a_command_that_prints_too_much_is_a_failure(daemon: Daemon) -> None:
    assert last_error(run(daemon, "cat", {"text": "x" * 2_000}))["type"] == "ResultTooLarge"


def test_a_command_past_its_deadline_is_ended_with_its_group(daemon: Daemon) -> None:
    job = run(daemon, "hang", {})
    assert (job["state"], last_error(job)["kind"], job["crashes"]) == ("dead", "timeout", 0)
