"""`run_inline`: one handler, as a worker would call it."""

from __future__ import annotations

import os
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from supervisor.client import Client
from supervisor.errors import InvalidPayload, NotRunning, UsageError
from supervisor.job import Cancel, Dead, Done, Failed, Job, JobTimeout, RateLimited, Retry, Snooze, Unknown
from supervisor.task import task
from supervisor.testing import InlineRun, run_batch_inline, run_inline
from supervisor.unix.inheritance import HandlerUnusable


def give(returned: Any) -> Callable[[Job], Any]:
    return lambda job: returned


def throw(error: BaseException) -> Callable[[Job], Any]:
    def handler(job: Job) -> Any:
        raise error

    return handler


@task(version=3, aliases=["hello"])
def greet(job: Job, name: str, times: int = 1) -> str:
    return f"{job.attempt}: {' '.join([name] * times)}"


@greet.upgrade(2)
def _(payload: Any) -> Any:
    return {"name": payload["who"]}


@task
def part() -> None:
    """Takes nothing."""


def module() -> types.ModuleType:
    made = types.ModuleType("made")
    made.greet, made.part = greet, part  # type: ignore[attr-defined]
    return made


@pytest.mark.parametrize(
    ("handler", "ended", "kind"),
    [
        (give({"a": [1, None]}), "completed", Done),
        (give(Snooze("5m")), "snoozed", Snooze),
        (give(RateLimited(60, key_only=True)), "rate_limited", RateLimited),
        (give(Cancel("enough")), "cancelled", Cancel),
        (give(Dead("hopeless")), "failed", Failed),
        (give(Retry("5s", "later")), "failed", Failed),
        (give(object()), "failed", Failed),
        (give(float("nan")), "failed", Failed),
        (give("x" * 200), "failed", Failed),
        (throw(ValueError("no")), "failed", Failed),
        (throw(SystemExit(3)), "failed", Failed),
        (throw(JobTimeout("late")), "timed_out", Failed),
    ],
)
def test_whatever_a_handler_does_is_an_outcome(handler: Any, ended: str, kind: type) -> None:
    ran = run_inline(handler, {}, max_result_bytes=100)
    assert (ran.ended, type(ran.outcome), ran.completed) == (ended, kind, ended == "completed")


def test_the_result_is_what_comes_back_from_json() -> None:
    assert run_inline(give({"pair": (1, 2)})).result == {"pair": [1, 2]}
    assert run_inline(give(None)).result is None


def test_without_a_result_it_says_why_with_its_cause() -> None:
    error = ValueError("out of ink")
    ran = run_inline(throw(error))
    assert ran.error is error
    with pytest.raises(AssertionError, match=r"the job is failed.*out of ink") as caught:
        _ = ran.result
    assert caught.value.__cause__ is error


def test_the_job_says_what_it_was_told_to() -> None:
    seen: list[Job] = []
    ran = run_inline(
        seen.append, {"when": (1, 2)}, queue="mail", attempt=2, max_attempts=4, previous_error="it was down",
        tags=["a"], priority=7, key="acme", now="2026-03-01T12:00:00Z", timeout="1m",
    )  # fmt: skip
    (job,) = seen
    assert job is ran.job
    assert (job.payload, job.queue, job.attempt, job.max_attempts) == ({"when": [1, 2]}, "mail", 2, 4)
    assert (job.previous_error, job.tags, job.priority, job.key) == ("it was down", ("a",), 7, "acme")
    assert (str(job.enqueued_at), str(job.deadline)) == ("2026-03-01 12:00:00+00:00", "2026-03-01 12:01:00+00:00")
    with pytest.raises(InvalidPayload):
        run_inline(seen.append, {"a": object()})


def test_what_it_enqueues_is_kept_if_it_completes() -> None:
    def handler(job: Job) -> Any:
        job.enqueue("mail", {"to": "a@b.c"}, delay="1h", tags=["x"], key="acme", task="welcome", priority=2)
        return job.payload and Cancel()

    ran = run_inline(handler, now="2026-03-01T12:00:00Z")
    (found,) = ran.assert_enqueued("mail", payload={"to": "a@b.c"}, task="welcome", key="acme", tags=["x"], count=1)
    assert (found.due_at, found.priority, found.id) == ("2026-03-01T13:00:00.000Z", 2, None)
    ran.assert_not_enqueued("receipts")
    assert run_inline(handler, payload=True).enqueued == ()


def test_what_a_run_keeps_is_found_by_the_next_one() -> None:
    done: list[str] = []

    def pages(job: Job) -> Any:
        assert job.step("open", lambda: done.append("open") or ("door", 1)) == ["door", 1]
        for page in range(job.cursor or 0, 3):
            job.progress(page / 3, f"page {page}")
            if page == 2 and job.attempt == 1:
                raise ValueError("torn")
            done.append(f"page {page}")
            job.save(page + 1)
        return job.cursor

    first = run_inline(pages)
    assert (first.ended, first.steps, first.cursor) == ("failed", {"open": ["door", 1]}, 2)
    assert first.progress == (2 / 3, "page 2")
    second = run_inline(pages, attempt=2, steps=first.steps, cursor=first.cursor)
    assert second.result == 3
    assert done == ["open", "page 0", "page 1", "page 2"]
    assert run_inline(give(None)).progress is None


def test_a_client_that_a_handler_makes_reaches_no_daemon_and_starts_no_keeper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def handler(job: Job) -> Any:
        return Client(timeout=0.05).enqueue("q", {})

    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "queues.toml").write_text('[queues.q]\ncommand = ["true"]\n')
    monkeypatch.chdir(tmp_path)
    for name in ("JOBSUP_SOCKET", "JOBSUP_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    runs = [run_inline(handler), *run_batch_inline(lambda jobs: [handler(job) for job in jobs], [{}])]
    assert [type(run.error) for run in runs] == [NotRunning] * 2
    assert os.listdir(tmp_path) == ["etc"]
    assert not {"JOBSUP_SOCKET", "JOBSUP_WORKER"} & os.environ.keys()


def test_only_the_thread_of_the_handler_keeps_something() -> None:
    def elsewhere(job: Job) -> Any:
        with ThreadPoolExecutor() as pool:
            return pool.submit(job.step, "pay", lambda: "paid").result()

    run = run_inline(elsewhere)
    assert (run.ended, run.steps) == ("failed", {})
    assert "by the thread that runs its handler" in str(run.error)


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        (lambda job: job.step("s", object), "the value of step s cannot be written as JSON"),
        (lambda job: job.save("x" * 20_000), "the cursor has 20002 bytes, the limit is 16384"),
        (lambda job: job.step("n" * 101, int), "the name of a step is up to 100 printable characters"),
        (lambda job: [job.step(f"s{number}", int) for number in range(1001)], "a job has at most 1000 steps"),
        (lambda job: [job.step("send", int) for _ in "ab"], "this run has had a step send already: each needs a name"),
        (lambda job: job.progress(2), "progress is between 0 and 1"),
    ],
)
def test_what_a_worker_would_not_keep_is_refused(keep: Callable[[Job], Any], said: str) -> None:
    run = run_inline(keep)
    assert run.ended == "failed"
    assert said in str(run.error)


def test_what_it_may_not_enqueue_is_its_own_error() -> None:
    ran = run_inline(lambda job: job.enqueue("mail", object()))
    assert isinstance(ran.error, InvalidPayload)


def test_tasks_are_chosen_checked_and_upgraded() -> None:
    assert run_inline(greet, {"name": "Ada", "times": 2}).result == "1: Ada Ada"
    assert run_inline(module(), {"name": "Ada"}, task="hello").result == "1: Ada"
    assert run_inline(module(), {"who": "Ada"}, task="greet", version=2, attempt=3).result == "3: Ada"
    wrong = run_inline(greet, {"name": 5})
    assert isinstance(wrong.outcome, Failed)
    assert (wrong.ended, wrong.outcome.final) == ("failed", True)
    for asked in ({"task": "nothing"}, {"task": "greet", "version": 1}, {"task": "greet", "version": 4}):
        ran: InlineRun = run_inline(module(), {}, **asked)
        assert (ran.ended, type(ran.outcome)) == ("blocked", Unknown)
    with pytest.raises(UsageError, match="greet, part"):
        run_inline(module(), {})


def test_handlers_are_found_by_name() -> None:
    assert run_inline("operator:truth", [1]).result is True
    with pytest.raises(HandlerUnusable, match="cannot be imported"):
        run_inline("operator:nothing")


def test_what_is_meant_for_the_test_reaches_it() -> None:
    with pytest.raises(KeyboardInterrupt):
        run_inline(throw(KeyboardInterrupt()))
    with pytest.raises(pytest.fail.Exception):
        run_inline(lambda job: pytest.fail("of the test's own"))


def test_it_changes_nothing_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(os.environ)
    run_inline("operator:truth")
    assert dict(os.environ) == before
