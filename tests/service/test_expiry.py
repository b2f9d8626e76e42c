"""Times to live and deadlines on a real keeper: nothing is started late, whoever holds it and whoever is killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from supervisor.store.reader import instant
from supervisor.unix.clock import wall_ms
from tests.support.rig import Rig, a_queue
from tests.support.waiting import opened


@contextmanager
def a_rig(path: Path, workers: int = 1) -> Iterator[Rig]:
    with Rig(path, [a_queue(path, workers=workers)], durability="relaxed") as rig:
        rig.start_keeper()
        rig.spawn_all()
        yield rig


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A FIFO at which runs wait."""
    fifo = tmp_path / "gate"
    os.mkfifo(fifo)
    return fifo


def hold(gate: Path) -> dict[str, Any]:
    return {"do": "hold", "until": str(gate)}


def begun(rig: Rig) -> set[int]:
    return {int(line.split()[1]) for line in rig.ledger.path.read_text().splitlines() if line.startswith("S")}


@pytest.mark.parametrize(
    ("option", "state", "reason"),
    [({"ttl_ms": 200}, "cancelled", "expired"), ({"deadline_ms": 200}, "dead", "deadline")],
)
def test_a_job_in_the_hands_of_a_busy_worker_is_taken_back(
    tmp_path: Path, gate: Path, option: dict[str, int], state: str, reason: str
) -> None:
    with a_rig(tmp_path) as rig:
        rig.enqueue([{}] * 300)  # quick ones: the worker is given many at once
        rig.until(rig.drained, 20, "all jobs to end")
        jobs = [{"payload": hold(gate)}, *[{"payload": {}, **option}] * 20]
        held, *rest = rig.ask("enqueue", queue="q", key="k", jobs=jobs)["ids"]
        rig.until(lambda: rig.counts()["running"] > 1, 20, "more than one job with the worker")
        rig.until(lambda: rig.counts()[state] == 20, 20, "the end of those that wait")
        assert {rig.job(job_id)["reason"] for job_id in rest} == {reason}
        rig.until(lambda: opened(gate), 20, "the run at its gate")
        rig.until(rig.drained, 20, "the end of all")
        assert rig.job(held)["state"] == "completed"
        assert begun(rig).isdisjoint(rest)


def test_thousands_that_expire_at_once_are_none_of_them_started(tmp_path: Path, gate: Path) -> None:
    with a_rig(tmp_path) as rig:
        rig.ask("pause", queue="q")
        ids = rig.enqueue([{}] * 5_000, ttl_ms=1_500)
        plain = rig.enqueue([{}] * 10)
        rig.until(lambda: rig.counts()["cancelled"] > 0, 20, "the first to expire")
        rig.ask("resume", queue="q")  # while the others are still being ended
        rig.until(rig.drained, 20, "the end of all")
        assert rig.counts()["cancelled"] == 5_000
        assert begun(rig) == set(plain)
        assert begun(rig).isdisjoint(ids)


def test_a_time_to_live_outlives_the_keeper(tmp_path: Path, gate: Path) -> None:
    with a_rig(tmp_path) as rig:
        (held,) = rig.enqueue([hold(gate)])
        rig.until(lambda: rig.counts()["running"] == 1, 20, "a run")
        late = rig.enqueue([{}] * 3, ttl_ms=300)
        rig.kill_keeper()
        rig.start_keeper()
        rig.until(lambda: rig.counts()["cancelled"] == 3, 20, "the end of those that wait")
        rig.until(lambda: opened(gate), 20, "the run at its gate")
        rig.until(rig.drained, 20, "the end of all")
        assert rig.job(held)["state"] == "completed"
        assert begun(rig).isdisjoint(late)


def test_a_run_that_is_given_back_after_the_deadline_is_not_begun_again(tmp_path: Path, gate: Path) -> None:
    with a_rig(tmp_path) as rig:
        (job,) = rig.enqueue([hold(gate)], deadline_ms=300)
        rig.until(lambda: rig.ledger.path.exists() and begun(rig) == {job}, 20, "a run")
        rig.until(lambda: instant(wall_ms()) > rig.job(job)["deadline_at"], 20, "the deadline")
        rig.kill_worker(next(iter(rig.hands.values())), "stop")
        rig.until(rig.drained, 20, "the end of the job")
        shown = rig.job(job)
        assert (shown["state"], shown["reason"], shown["interruptions"]) == ("dead", "deadline", 1)
        assert len(rig.ledger.path.read_text().splitlines()) == 1


def test_waiting_clients_hear_of_it(tmp_path: Path) -> None:
    with a_rig(tmp_path) as rig:
        rig.ask("pause", queue="q")
        (job,) = rig.enqueue([{}], ttl_ms=200)
        client = rig.client()
        try:
            assert client.ask("wait", job=job, timeout_ms=10_000)["ok"]["reason"] == "expired"
        finally:
            client.close()
