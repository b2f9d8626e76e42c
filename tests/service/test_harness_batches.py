"""Handlers of batches in a harness and in a single call: who is in a batch at which time, and what befalls it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.errors import UsageError
from supervisor.job import Job, Snooze
from supervisor.testing import Crash, Fail, Harness, Interrupt, TimeOut, run_batch_inline

TOML = """
[queues.q]
handler = "none:here"
batch_size = 3
batch_wait = "500ms"
max_attempts = 1
[queues.others]
handler = "none:here"
"""


class Acts:
    """A handler that notes its calls."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.harness: Harness | None = None

    def run(self, jobs: list[Job]) -> Any:
        self.calls.append([job.id for job in jobs])
        return [self.entry(job) for job in jobs]

    def entry(self, job: Job) -> Any:
        match job.payload:
            case "fail":
                return ValueError("of its own")
            case "raise":
                raise ValueError("of all")
            case "snooze":
                return Snooze("5m")
            case "child":
                job.enqueue("others", job.id)
            case "spend":
                assert self.harness is not None
                self.harness.spend("10m")
        return job.id


@pytest.fixture
def acts() -> Acts:
    return Acts()


@pytest.fixture
def jobs(tmp_path: Path, acts: Acts) -> Iterator[Harness]:
    path = tmp_path / "queues.toml"
    path.write_text(TOML)
    with Harness(path, handlers={"q": acts.run, "others": lambda job: job.payload}) as harness:
        acts.harness = harness
        yield harness


def test_a_full_batch_runs_at_once_and_the_rest_when_it_has_waited(jobs: Harness, acts: Acts) -> None:
    ids = jobs.client.enqueue_many("q", [1] * 5)
    jobs.advance("499ms")
    assert acts.calls == [ids[:3]]
    jobs.advance("1ms")
    assert acts.calls == [ids[:3], ids[3:]]
    assert [run.ended for run in jobs.runs] == ["completed"] * 5


def test_a_wait_for_a_job_lets_its_batch_be_due(jobs: Harness, acts: Acts) -> None:
    job = jobs.client.enqueue("q", 1)
    before = jobs.now
    assert jobs.client.wait(job)["state"] == "completed"
    assert (jobs.now - before).total_seconds() == 0.5
    assert acts.calls == [[job]]


def test_a_drain_waits_for_nobody(jobs: Harness, acts: Acts) -> None:
    ids = jobs.client.enqueue_many("q", [1, "child"])
    before = jobs.now
    assert [(run.job_id, run.ended) for run in jobs.drain()][:2] == [(job, "completed") for job in ids]
    assert (jobs.now, acts.calls) == (before, [ids])
    jobs.assert_enqueued("others", payload=ids[1], state="completed")


def test_each_run_says_what_came_of_its_job(jobs: Harness) -> None:
    jobs.client.enqueue_many("q", [1, "fail", "snooze"])
    runs = jobs.drain()
    assert [run.ended for run in runs] == ["completed", "failed", "snoozed"]
    assert [str(run.error) for run in runs] == ["None", "of its own", "None"]
    jobs.client.enqueue_many("q", [1, "raise"])
    assert [str(run.error) for run in jobs.drain()] == ["of all"] * 2
    jobs.client.enqueue_many("q", [1, "raise"])
    with pytest.raises(ValueError, match="of all"):
        jobs.drain(raising=True)


def test_virtual_time_runs_out_for_all(jobs: Harness) -> None:
    jobs.client.enqueue_many("q", [1, "spend"])
    assert [run.ended for run in jobs.drain()] == ["timed_out"] * 2


@pytest.mark.parametrize(
    ("what", "ended", "charged"),
    [
        (Fail("planned"), ["completed", "failed", "completed"], (0, 1, 0)),
        (TimeOut(), ["timed_out"] * 3, (1, 1, 1)),
        (TimeOut(killed=True), ["timed_out"] * 3, (1, 1, 1)),
        (Interrupt(), ["interrupted"] * 3 + ["completed"] * 3, (0, 0, 0)),
        (Crash(), ["crashed"] * 3 + ["completed"] * 3, (0, 0, 0)),
        (Crash(after_handler=True), ["crashed"] * 3 + ["completed"] * 3, (0, 0, 0)),
    ],
)
def test_what_befalls_one_job(jobs: Harness, acts: Acts, what: Any, ended: list[str], charged: tuple[int, ...]) -> None:
    ids = jobs.client.enqueue_many("q", [1, 1, 1])
    jobs.plan(what, job=ids[1])
    assert [run.ended for run in jobs.drain()] == ended
    assert tuple(jobs.job(job)["failures"] for job in ids) == charged
    assert {jobs.job(job)["crashes"] for job in ids} == {0}
    if isinstance(what, Crash):
        assert acts.calls[-3:] == [[job] for job in ids], "a suspect was with others"
    if isinstance(what, Fail):
        assert acts.calls == [[ids[0], ids[2]]]


def test_one_call_without_a_queue(acts: Acts) -> None:
    good, bad, parent = run_batch_inline(acts.run, ["x", "fail", "child"], attempt=2, now="2026-03-02T12:00:00Z")
    assert (good.result, good.job.attempt, good.error) == (1, 2, None)
    assert (bad.ended, str(bad.error)) == ("failed", "of its own")
    parent.assert_enqueued("others", payload=3, count=1)
    assert [run.ended for run in run_batch_inline(acts.run, ["x", "raise"])] == ["failed"] * 2
    with pytest.raises(UsageError, match="at least one payload"):
        run_batch_inline(acts.run, [])


def test_each_job_of_one_call_keeps_its_own() -> None:
    def handler(jobs: list[Job]) -> list[Any]:
        for job in jobs:
            job.step("number", lambda job=job: job.id)  # type: ignore[misc]
            job.save([job.id])
        jobs[1].progress(0.5, "half")
        return [job.cursor for job in jobs]

    first, second = run_batch_inline(handler, [{}, {}])
    assert (first.result, first.steps, first.cursor, first.progress) == ([1], {"number": 1}, [1], None)
    assert (second.result, second.steps, second.cursor, second.progress) == ([2], {"number": 2}, [2], (0.5, "half"))


def test_what_is_meant_for_the_test_comes_through(acts: Acts) -> None:
    def interrupted(_: list[Job]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_batch_inline(interrupted, [1])
