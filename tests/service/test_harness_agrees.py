"""What a harness says becomes of jobs is what becomes of them in a daemon: the same jobs, once in each."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from supervisor.client import Client
from supervisor.job import Cancel, Dead, Job, Retry, Snooze, State
from supervisor.testing import Crash, Daemon, Harness, TimeOut

TOML = f"""
[daemon]
python_path = ["{Path(__file__).resolve().parents[2]}"]
[defaults]
backoff = {{ base = "10ms", factor = 1.0, jitter = 0.1 }}
timeout = "1s"
kill_grace = "200ms"
max_attempts = 3
max_crashes = 2
[queues.work]
handler = "tests.service.test_harness_agrees:run"
on_failure = "told"
on_dead = "told"
[queues.told]
handler = "tests.service.test_harness_agrees:run"
[queues.ranked]
handler = "tests.service.test_harness_agrees:run"
order = "priority"
unique = {{ by = ["id"] }}
[queues.together]
handler = "tests.service.test_harness_agrees:run_together"
batch_size = 6
batch_wait = "50ms"
[queues.work.on_error]
"LookupError" = "dead"
"""
JOBS: list[dict[str, Any]] = [
    {"say": [1, {"a": None}]},
    {"fail": 2, "say": "at last"},
    {"fail": 9},
    {"lookup": True},
    {"return": "cancel"},
    {"return": "dead"},
    {"return": "retry", "once": "retried"},
    {"return": "snooze", "once": "snoozed"},
    {"return": "nonsense"},
    {"die": 1, "say": "alive"},
    {"die": 9},
    {"hang": 1, "say": "awake"},
    {"children": ["told", "ranked"]},
    {"children": ["nowhere"]},
    {"fail": 1, "die": 2, "say": "both"},
]
BATCH: list[dict[str, Any]] = [
    {"say": 1},
    {"fail": 1, "say": "at last"},
    {"die": 1, "say": "alive"},
    {"return": "cancel"},
    {"fail": 9},
    {"children": ["ranked"]},
]
"""One call, in which a worker dies: nobody knows of which job, so each runs alone."""


def run(job: Job) -> Any:
    """Does what its payload says; to die and to hang only where this is a process of its own."""
    payload = job.payload
    if "HARNESS" not in os.environ:
        if payload.get("die", 0) >= job.attempt > payload.get("fail", 0):
            os.kill(os.getpid(), signal.SIGKILL)
        if payload.get("hang", 0) >= job.attempt:
            time.sleep(60)  # outlasts its time-out: the foreman ends it
    if payload.get("fail", 0) >= job.attempt:
        raise ConnectionError(f"attempt {job.attempt} after {job.previous_error}")
    if payload.get("lookup"):
        raise KeyError("nothing there")
    for number, queue in enumerate(payload.get("children", ())):
        job.enqueue(queue, {"id": number}, tags=["child"])
    if "once" in payload and not first_time(Path(os.environ["NOTES"]) / payload["once"]):
        return "the second time"
    values = {"cancel": Cancel("no"), "dead": Dead("hopeless"), "nonsense": object(), "retry": Retry("20ms", "again"),
              "snooze": Snooze("20ms")}  # fmt: skip
    return values.get(payload.get("return"), payload.get("say"))


def run_together(jobs: list[Job]) -> list[Any]:
    """The same for each job of a batch."""
    return [entry(job) for job in jobs]


def entry(job: Job) -> Any:
    """What a job's entry is: what it raises is its own."""
    try:
        return run(job)
    except Exception as error:
        return error


def first_time(note: Path) -> bool:
    """Whether nobody was here before: the file says so to whichever process comes next."""
    try:
        note.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def shown(client: Client[int], job_id: int) -> dict[str, Any]:
    """What must be the same; not when it was, and which processes it was."""
    job = client.status(job_id)
    kept = ("state", "result", "attempt", "failures", "crashes", "interruptions", "reason", "tags")
    errors = [(error["attempt"], error["kind"], error.get("type"), error["message"]) for error in job["errors"]]
    return {name: job[name] for name in kept} | {"errors": errors}


def told(client: Client[int]) -> list[dict[str, Any]]:
    """What callbacks were told, in an order that does not depend on who was quicker."""
    counts = client.status()["queues"]
    found = (client.status(job_id) for job_id in range(1, 1 + sum(sum_of(counts[name]) for name in counts)))
    payloads = [job["payload"] for job in found if "reason" in job["payload"]]
    return sorted(payloads, key=lambda one: (one["job"]["id"], one["job"]["attempt"], one["reason"]))


def sum_of(counts: dict[str, Any]) -> int:
    """How many jobs a queue has, in whatever state."""
    return sum(counts[state.value] for state in State)


def configured(folder: Path) -> Path:
    """A configuration whose handlers leave their notes in a folder."""
    folder.mkdir()
    path = folder / "queues.toml"
    path.write_text(TOML + f'[queues.work.env]\nNOTES = "{folder}"\n')
    return path


def test_they_agree_about_a_batch_whose_worker_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Daemon(configured(tmp_path / "real")) as daemon:
        ids = daemon.client.enqueue_many("together", BATCH)
        for job_id in ids:
            daemon.client.wait(job_id, timeout="30s")
        real = [shown(daemon.client, job_id) for job_id in ids]
    monkeypatch.setenv("HARNESS", "yes")
    with Harness(configured(tmp_path / "mirrored")) as jobs:
        assert jobs.client.enqueue_many("together", BATCH) == ids
        for number in (1, 2):  # with the others, then alone
            jobs.plan(Crash(), run=number, job=ids[2])
        jobs.drain(until_empty=True)
        assert [shown(jobs.client, job_id) for job_id in ids] == real
    assert [(job["interruptions"], job["crashes"]) for job in real] == [(1, int(job_id == ids[2])) for job_id in ids]


def test_a_harness_and_a_daemon_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Daemon(configured(tmp_path / "real")) as daemon:
        ids = daemon.client.enqueue_many("work", JOBS)
        for job_id in ids:
            daemon.client.wait(job_id, timeout="30s")
        callbacks = told(daemon.client)
        real = [shown(daemon.client, job_id) for job_id in ids]
    monkeypatch.setenv("HARNESS", "yes")
    with Harness(configured(tmp_path / "mirrored")) as jobs:
        assert jobs.client.enqueue_many("work", JOBS) == ids
        for job_id, payload in zip(ids, JOBS, strict=True):
            for number in range(payload.get("fail", 0) + 1, payload.get("die", 0) + 1):
                jobs.plan(Crash(), run=number, job=job_id)
            if "hang" in payload:
                jobs.plan(TimeOut(), run=1, job=job_id)
        jobs.drain(until_empty=True)
        mirrored = [shown(jobs.client, job_id) for job_id in ids]
        for payload, one, other in zip(JOBS, real, mirrored, strict=True):
            assert one == other, payload
        assert {one["state"] for one in real} == {"completed", "dead", "cancelled"}
        assert callbacks == told(jobs.client)
        assert len(callbacks) > 10
        jobs.assert_enqueued("told", tags=["child"], count=1)
        jobs.assert_enqueued("ranked", tags=["child"], count=1)
