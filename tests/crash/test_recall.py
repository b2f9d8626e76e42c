"""Recall: what a busy worker has not begun goes to an idle one; each job runs once, whoever dies meanwhile."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from supervisor.keeper import recall
from supervisor.keeper.slots import KeeperSlot
from tests.support.campaign import Campaign
from tests.support.idleness import waited_beside_the_idle
from tests.support.ledger import check, read_database
from tests.support.rig import Rig, a_queue

SHORT = {"do": "spin", "us": 100}


def mixed(rig: Rig, shorts: int, longs: int, long_ms: int) -> list[int]:
    """Long jobs spread among many short ones, enqueued while leasing is paused, then let go."""
    rig.ask("pause", queue="q")
    ids = []
    each = shorts // longs
    for _ in range(longs):
        ids += rig.enqueue([SHORT] * (each // 2))
        ids += rig.enqueue([{"do": "rest", "ms": long_ms}])
        ids += rig.enqueue([SHORT] * (each - each // 2))
    rig.ask("resume", queue="q")
    return ids


def drain_warm(rig: Rig) -> None:
    """Some short jobs, so that the keeper hands out many at once."""
    rig.enqueue([SHORT] * 300)
    rig.until(rig.drained)


@pytest.mark.campaign
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("workers", [2, 4])
def test_short_jobs_pass_long_ones_and_run_once(tmp_path: Path, campaign: Campaign, workers: int) -> None:
    for number, rounds in enumerate(campaign.batches(short=2, full=40, batch=10)):
        with Rig(tmp_path / str(number), [a_queue(tmp_path / str(number), workers=workers)]) as rig:
            rig.start_keeper()
            rig.spawn_all()
            drain_warm(rig)
            ids = []
            for _ in range(rounds):
                ids += mixed(rig, 1_000, 10, campaign.chance.randint(40, 160))
                rig.until(rig.drained, 60, "the end of all jobs")
            assert rig.finish() == 0
            data = read_database(rig.database)
            assert check(rig.database, rig.ledger, ids) == []
            assert not any(job.charges for job in data.jobs.values())
        campaign.passed(rounds, jobs=len(ids))


@pytest.mark.campaign
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("point", ["keeper__after_recall", None])
def test_a_keeper_killed_around_a_recall_loses_and_doubles_nothing(
    tmp_path: Path, campaign: Campaign, point: str | None
) -> None:  # fmt: skip
    """At the failpoint between taking back and releasing, and at any other moment of such work."""
    stuck = [*[SHORT] * 5, {"do": "rest", "ms": 60}, *[SHORT] * 80]
    groups = json.dumps([*[[SHORT] * 100] * 4, stuck])
    for number, rounds in enumerate(campaign.batches(short=10, full=500, batch=50)):
        with Rig(tmp_path / str(number), [a_queue(tmp_path / str(number), workers=3)]) as rig:
            rig.start_keeper()
            rig.spawn_all()
            rig.load("raw", "--groups", groups, "--pause-ms", 15)
            for _ in range(rounds):
                rig.kill_keeper()
                rig.start_keeper(**({point: f"kill@{campaign.chance.randint(1, 2)}"} if point else {}))
                if point:
                    rig.until(lambda: not rig.keeper, what=f"a death at {point}")
                    rig.start_keeper()
                before = rig.acks.read()
                rig.until(lambda count=before: rig.acks.read() > count + 100 and rig.ledger.running, what="load")
                rig.pump_for(campaign.chance.random() * 0.02)
            rig.end_loads()
            rig.until(rig.drained, 60, "the end of all jobs")
            assert rig.finish() == 0
            assert rig.acks.check(rig.database, rig.ledger) == []
            assert not any(job.charges for job in read_database(rig.database).jobs.values())
        campaign.passed(rounds, jobs=len(rig.acks.at_ns))


@pytest.mark.campaign
@pytest.mark.timeout(1200)
def test_jobs_that_end_in_the_moment_of_a_recall_run_once(tmp_path: Path, campaign: Campaign) -> None:
    """Jobs just as long as the quiet time before a recall: the keeper recalls as they end."""
    for number, rounds in enumerate(campaign.batches(short=4, full=100, batch=10)):
        with Rig(tmp_path / str(number), [a_queue(tmp_path / str(number), workers=3)]) as rig:
            rig.start_keeper()
            rig.spawn_all()
            ids = []
            for _ in range(rounds):
                drain_warm(rig)
                rig.ask("pause", queue="q")
                ids += rig.enqueue(
                    [{"do": "spin", "us": campaign.chance.choice((100, 100, 100, 9_900, 10_400, 11_000, 12_000))}
                     for _ in range(120)]
                )  # fmt: skip
                rig.ask("resume", queue="q")
                rig.until(rig.drained, 60, "the end of all jobs")
            assert rig.finish() == 0
            assert check(rig.database, rig.ledger, ids) == []
            assert not any(job.charges for job in read_database(rig.database).jobs.values())
        campaign.passed(rounds, jobs=len(ids))


def test_control_a_recall_without_limit_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: chunks are taken back by the rows alone; the worker is not told, its socket is not read."""
    monkeypatch.setattr(KeeperSlot, "take_back", lambda _slot: [])
    monkeypatch.setattr(recall, "running_job", lambda slot: next((cell.id for cell in slot.memory.cells()), None))
    with Rig(tmp_path, [a_queue(tmp_path)]) as rig:
        rig.start_keeper()
        rig.spawn_all()
        drain_warm(rig)
        ids = []
        for _ in range(6):  # on a busy machine no worker runs dry for long enough, in one of these
            ids += mixed(rig, 1_000, 10, 100)
            rig.until(rig.drained, 60)
        assert rig.finish() == 0
        problems = check(rig.database, rig.ledger, ids)
        assert any(problem.startswith("runs are charged") for problem in problems)


def stuck_behind_a_long_one(rig: Rig) -> list[str]:
    """One long job among short ones that two workers share; what waited beside an idle worker."""
    rig.start_keeper()
    rig.spawn_all()
    drain_warm(rig)
    rig.ask("pause", queue="q")
    ids = rig.enqueue([SHORT] * 5 + [{"do": "rest", "ms": 600}] + [SHORT] * 150)
    rig.ask("resume", queue="q")
    at_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    rig.until(rig.drained)
    assert rig.finish() == 0
    return waited_beside_the_idle(rig.ledger, dict.fromkeys(ids, at_ns), 600)


def test_nothing_waits_behind_a_long_job_beside_an_idle_worker(tmp_path: Path) -> None:
    with Rig(tmp_path, [a_queue(tmp_path)]) as rig:
        assert stuck_behind_a_long_one(rig) == []


def test_control_a_keeper_that_never_recalls_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: no recall. Then short jobs wait behind long ones beside an idle worker."""
    monkeypatch.setattr(recall, "stuck_slots", lambda *_: [])
    with Rig(tmp_path, [a_queue(tmp_path)]) as rig:
        assert len(stuck_behind_a_long_one(rig)) > 10
