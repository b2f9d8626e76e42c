"""fifo, lifo and priority drain their jobs in exactly the order of a model, retries included."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.campaign import Campaign, size
from tests.support.field import Field
from tests.support.ledger import Ledger
from tests.support.waiting import until


class Arrival(NamedTuple):
    """A job as it became ready: the model knows nothing else."""

    id: int
    priority: int
    number: int


MODELS: dict[str, Callable[[Arrival], Any]] = {
    "fifo": lambda job: job.number,
    "lifo": lambda job: -job.number,
    "priority": lambda job: (-job.priority, job.number),
}


def in_order(order: str, jobs: list[Arrival]) -> list[int]:
    """The order in which they shall run."""
    return [job.id for job in sorted(jobs, key=MODELS[order])]


def ran(ledger: Ledger, after_ns: int) -> list[int]:
    """The order in which they did, since that moment."""
    runs = [run for listed in ledger.runs().values() for run in listed if run.started_ns > after_ns]
    return [run.id for run in sorted(runs, key=lambda run: run.started_ns)]


def fill(field: Field, order: str, campaign: Campaign, count: int) -> list[Arrival]:
    """So many jobs, one in twenty of which fails at first; enqueued while the queue is paused."""
    field.ask("pause", queue="q")
    found: list[Arrival] = []
    while len(found) < count:
        chosen = [campaign.chance.randint(-100, 100) if order == "priority" else 0 for _ in range(200)]
        jobs = [{"payload": {"do": "fail", "times": int(campaign.chance.random() < 0.05)}} for _ in chosen]
        if order == "priority":
            jobs = [job | {"priority": priority} for job, priority in zip(jobs, chosen, strict=True)]
        ids = field.ask("enqueue", queue="q", key=f"{len(found)}", jobs=jobs)["ids"]
        first = len(found)
        found += [Arrival(ids[at], chosen[at], first + at) for at in range(len(ids))]
    return found


def run_all(field: Field) -> int:
    """Let the queue go until nothing is left that could run; the moment before."""
    begun_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    field.ask("resume", queue="q")

    def idle() -> bool:
        counts = field.ask("status")["queues"]["q"]
        return not counts["queued"] and not counts["running"]

    until(idle, 120, "an idle queue")
    return begun_ns


def scheduled(field: Field, jobs: list[Arrival]) -> list[Arrival]:
    """The retries as they will arrive: by the time they are due, as `jobsctl list` has it, then by id."""
    ran = field.ctl("list", "--queue", "q", "--state", "scheduled", "--limit", 0, "--json")
    assert ran.status == 0, ran.err
    due = sorted((shown["due_at"], shown["id"]) for shown in ran.lines)
    known = {job.id: job for job in jobs}
    return [known[job_id]._replace(number=number) for number, (_, job_id) in enumerate(due)]


def wait_until_due(field: Field, count: int) -> None:
    """Wait until so many retries are ready, while nothing runs."""
    until(lambda: field.ask("status")["queues"]["q"]["queued"] == count, 60, "retries that are due")


@pytest.mark.campaign
@pytest.mark.timeout(900)
@pytest.mark.parametrize("order", MODELS)
def test_a_queue_drains_in_the_order_of_its_model(tmp_path: Path, campaign: Campaign, order: str) -> None:
    count, backoff_s = size(2_000, 10_000), size(5, 25)
    backoff = {"base": f"{backoff_s}s", "factor": 1.0, "max": f"{backoff_s}s", "jitter": 0.0}
    for number, rounds in enumerate(campaign.batches(short=1, full=1, batch=1)):
        with Field(tmp_path / str(number), {"q": {"workers": 1, "order": order, "backoff": backoff}}) as field:
            jobs = fill(field, order, campaign, count)
            assert ran(field.ledger, run_all(field)) == in_order(order, jobs)
            field.ask("pause", queue="q")
            again = scheduled(field, jobs)
            assert len(again) > count // 40, "retries came before all else had run"
            wait_until_due(field, len(again))
            assert ran(field.ledger, run_all(field)) == in_order(order, again)
            assert field.ask("status")["queues"]["q"]["completed"] == count
        campaign.passed(rounds, jobs=count, retries=len(again))


def test_control_another_order_is_found(tmp_path: Path, campaign: Campaign) -> None:
    """Planted: the queue is lifo, the model fifo."""
    with Field(tmp_path, {"q": {"workers": 1, "order": "lifo"}}) as field:
        jobs = fill(field, "lifo", campaign, 200)
        assert ran(field.ledger, run_all(field)) != in_order("fifo", jobs)
