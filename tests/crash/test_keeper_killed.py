"""SIGKILL of the keeper at any moment: workers go on, nothing is lost, nothing runs twice, nobody is charged."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from supervisor.keeper import adoption
from supervisor.keeper.work import Work
from tests.support.campaign import Campaign
from tests.support.ledger import check, check_crashes, read_database
from tests.support.rig import Rig, a_queue

MIX = [
    [6, {"do": "nothing"}],
    [3, {"do": "spin", "us": 300}],
    [1, {"do": "rest", "ms": 8}],
    [1, {"do": "big", "bytes": 60_000}],
    [1, {"do": "big", "bytes": 20_000}],
    [1, {"do": "family", "queue": "q", "children": 2}],
]


def begin(rig: Rig, mix: Any = MIX) -> None:
    """A keeper, its workers, and two clients that do not stop."""
    rig.start_keeper()
    rig.spawn_all()
    for seed in range(2):
        rig.load("raw", "--payloads", json.dumps(mix), "--group", 8, "--pause-ms", 2, "--delayed", 0.1, "--seed", seed)


def busy(rig: Rig, acknowledged: int) -> Any:
    """Whether enough was acknowledged since, and a job runs now."""
    return rig.acks.read() >= acknowledged and rig.ledger.running


def stop_all(rig: Rig) -> list[str]:
    """End the clients, let everything end, stop; what the checker finds."""
    rig.end_loads()
    rig.until(rig.drained, 60, "the end of all jobs")
    assert rig.finish() == 0
    return rig.acks.check(rig.database, rig.ledger)


def settle_all(rig: Rig) -> list[str]:
    """As `stop_all`, where nobody was to be charged with anything."""
    problems = stop_all(rig)
    charged = {job.id: dict(job.charges) for job in read_database(rig.database).jobs.values() if job.charges}
    return problems + [f"nobody is charged: {charged}"] * bool(charged)


def kill_again_and_again(rig: Rig, rounds: int, campaign: Campaign) -> int:
    """So many kills with a job running and clients enqueueing; how many jobs were acknowledged between them."""
    acknowledged = 0
    for _ in range(rounds):
        acknowledged = rig.acks.read()
        rig.until(lambda before=acknowledged: busy(rig, before + 20), what="load")
        rig.pump_for(campaign.chance.random() * 0.02)
        rig.until(lambda: rig.ledger.running, what="a running job")
        rig.kill_keeper()
        rig.start_keeper()
        assert rig.keeper, "the new keeper died"
    return acknowledged


@pytest.mark.campaign
@pytest.mark.timeout(1200)
def test_a_keeper_killed_at_any_moment_changes_nothing(tmp_path: Path, campaign: Campaign) -> None:
    for number, rounds in enumerate(campaign.batches(short=25, full=500, batch=50)):
        with Rig(tmp_path / str(number), [a_queue(tmp_path / str(number))]) as rig:
            begin(rig)
            acknowledged = kill_again_and_again(rig, rounds, campaign)
            assert settle_all(rig) == []
        campaign.passed(rounds, acknowledged_jobs=acknowledged)


KEEPER_POINTS = [
    "store__before_commit", "store__after_commit", "keeper__after_accept", "keeper__before_reply",
    "keeper__after_reply", "keeper__after_lease", "keeper__after_chunk", "keeper__read_position",
    "keeper__before_free", "keeper__promote",
]  # fmt: skip


@pytest.mark.campaign
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("point", KEEPER_POINTS)
def test_a_keeper_killed_at_a_failpoint_changes_nothing(tmp_path: Path, campaign: Campaign, point: str) -> None:
    for number, rounds in enumerate(campaign.batches(short=2, full=50, batch=25)):
        with Rig(tmp_path / str(number), [a_queue(tmp_path / str(number))]) as rig:
            begin(rig)
            for _ in range(rounds):
                rig.kill_keeper()
                rig.start_keeper(**{point: f"kill@{campaign.chance.randint(1, 40)}"})
                rig.until(lambda: not rig.keeper, what=f"a death at {point}")
                rig.start_keeper()
            assert settle_all(rig) == []
        campaign.passed(rounds)


@pytest.mark.campaign
@pytest.mark.timeout(1200)
def test_a_worker_that_dies_while_no_keeper_lives_is_charged_once(tmp_path: Path, campaign: Campaign) -> None:
    """Its death is certified to the next keeper, which has seen nothing of it."""
    for number, rounds in enumerate(campaign.batches(short=10, full=200, batch=25)):
        with Rig(tmp_path / str(number), [a_queue(tmp_path / str(number), max_crashes=1000)]) as rig:
            begin(rig, mix=[*MIX, [6, {"do": "rest", "ms": 40}]])
            killed, cut_off = set(), 0
            while cut_off < rounds:
                acknowledged = rig.acks.read()
                rig.until(lambda before=acknowledged: busy(rig, before + 20), what="load")
                victim = rig.until(lambda: busy_hand(rig), what="a worker at work")
                rig.kill_keeper()
                rig.kill_worker(victim)
                rig.until(lambda gone=victim: gone.slot.number not in rig.hands, what="the death")
                killed.add(victim.pid)
                cut_off += any(run.pid == victim.pid for run in rig.ledger.running)  # else between two runs
                rig.start_keeper()
            problems = stop_all(rig)
            charged = check_crashes(read_database(rig.database, integrity=False).jobs, rig.ledger, killed)
        assert problems + charged.problems == []
        assert charged.seen == rounds
        campaign.passed(rounds, crashes_charged=charged.seen, in_the_gaps=charged.unseen)


def busy_hand(rig: Rig) -> Any:
    """A worker that runs a job now, as the ledger says."""
    pids = {run.pid for run in rig.ledger.running}
    return next((hand for hand in rig.hands.values() if hand.pid in pids), None)


def test_large_outcomes_do_not_lock_a_worker_out_when_the_keeper_dies_before_freeing_them(tmp_path: Path) -> None:
    """The ring is full, all of it is read and committed, and the one who would have said so is dead."""
    queue = a_queue(tmp_path, workers=1)
    with Rig(tmp_path, [queue]) as rig:
        rig.start_keeper(keeper__before_free="kill@1")
        hand = rig.spawn("q")
        rig.until(lambda: rig.ready)
        ids = rig.enqueue([{"do": "big", "bytes": 32_000}] * 40)
        rig.until(lambda: not rig.keeper, what="a death before the space was given back")
        rig.start_keeper()
        rig.until(rig.drained, 20, "the end of all jobs")
        assert hand.slot.number in rig.hands
        assert rig.finish() == 0
        assert check(rig.database, rig.ledger, ids) == []


def test_a_stopped_keeper_is_as_good_as_a_dead_one(tmp_path: Path) -> None:
    """SIGSTOP, work goes on as far as leases reach, SIGKILL: what ended meanwhile is in the rings."""
    with Rig(tmp_path) as rig:
        begin(rig)
        rig.until(lambda: busy(rig, 200), what="load")
        os.kill(rig.keeper, signal.SIGSTOP)
        before = rig.ledger.ended
        rig.until(lambda: rig.ledger.ended > before or not rig.ledger.running, what="work without a keeper")
        rig.kill_keeper()
        rig.start_keeper()
        assert settle_all(rig) == []


def test_control_effects_before_the_commit_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: clients are told before the commit. A kill between the two must be noticed."""
    kept = Work.afterwards

    def too_soon(work: Work, effect: Any) -> None:
        effect() if effect.__module__ == "supervisor.keeper.intake" else kept(work, effect)

    monkeypatch.setattr(Work, "afterwards", too_soon)
    with Rig(tmp_path) as rig:
        rig.start_keeper()
        rig.spawn_all()
        rig.load("raw", "--payloads", json.dumps([[1, {"do": "nothing"}]]), "--group", 8)
        rig.until(lambda: rig.acks.read() > 50)
        for _ in range(20):
            rig.kill_keeper()
            rig.start_keeper(store__before_commit="kill@20")
            rig.until(lambda: not rig.keeper, what="a death before a commit")
            rig.start_keeper()
        assert any(problem.startswith("acknowledged") for problem in settle_all(rig))


def test_control_a_keeper_that_leases_anew_what_lives_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Planted: a new keeper releases the leases of living workers instead of adopting them."""

    def release_all(work: Work, slot: Any, owner: Any) -> int:
        for token, lease in list(work.tx.open_leases().items()):
            if lease.owner == owner.id:
                work.tx.release(token, list(lease.jobs))
        slot.owner, slot.pid, slot.phase = owner.id, owner.pid, adoption.Phase.STARTED
        slot.ring.resume(adoption.Position(owner.read_sequence, owner.read_offset))
        return 0

    monkeypatch.setattr(adoption, "_take_up", release_all)
    with Rig(tmp_path) as rig:
        begin(rig)
        kill_again_and_again(rig, 5, Campaign("control"))
        assert any(problem.startswith(("runs are charged", "one at a time")) for problem in settle_all(rig))
