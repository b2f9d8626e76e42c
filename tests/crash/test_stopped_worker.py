"""A worker that is stopped, judged as if it were dead, and goes on: its report is stale, and changes nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from supervisor.keeper import settling
from supervisor.keeper.work import Work
from supervisor.store.protocol import Completion
from tests.support.campaign import Campaign
from tests.support.ledger import Run, check, read_database
from tests.support.rig import Hand, Rig, a_queue
from tests.support.waiting import opened


class Stopped(NamedTuple):
    """A job whose worker was stopped in the middle of it."""

    job: int
    hand: Hand
    gate: Path

    def open_gate(self, rig: Rig, attempt: int) -> None:
        """Let the run of that attempt go on to its end."""
        rig.until(lambda: opened(Path(str(self.gate).format(attempt=attempt))), what="a run at the gate")


def running(rig: Rig, job_id: int) -> list[Run]:
    """Runs of a job that have not ended."""
    return [run for run in rig.ledger.running if run.id == job_id]


def ready_rig(rig: Rig) -> None:
    """A keeper and one worker; who dies is not replaced by itself."""
    rig.replace = False
    rig.start_keeper()
    rig.spawn()
    rig.until(lambda: rig.ready)


def stop_in_a_job(rig: Rig) -> Stopped:
    """A job that is held, its worker stopped in the middle of it."""
    gate = rig.path / f"gate-{len(list(rig.path.glob('gate-*')))}-{{attempt}}"
    for attempt in (1, 2):
        os.mkfifo(str(gate).format(attempt=attempt))
    (job_id,) = rig.enqueue([{"do": "hold", "until": str(gate)}])
    run = rig.until(lambda: running(rig, job_id), what="a held job")[0]
    hand = next(hand for hand in rig.hands.values() if hand.pid == run.pid)
    os.kill(hand.pid, signal.SIGSTOP)
    rig.until(lambda: state_of(hand.pid) == "T", what="a stopped worker")
    return Stopped(job_id, hand, gate)


def state_of(pid: int) -> str:
    """What /proc says a process does."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def judge(rig: Rig, stopped: Stopped) -> None:
    """Certify it as killed at its deadline, which it was not; a second run begins on another worker."""
    slot = stopped.hand.slot
    rig.certify(stopped.hand, "timeout", jobs=(stopped.job,), gone=False)
    rig.until(lambda: rig.answered.get(slot.number), what="a verdict")
    rig.spawn()
    rig.until(lambda: len(running(rig, stopped.job)) == 2, what="a second run")


def report(rig: Rig, stopped: Stopped) -> None:
    """Let the stopped worker end its run, and the keeper read what it says."""
    stale = rig.ask("status")["daemon"]["stale"]
    os.kill(stopped.hand.pid, signal.SIGCONT)
    stopped.open_gate(rig, 1)
    rig.until(lambda: rig.ask("status")["daemon"]["stale"] > stale, what="a stale report")


def bury(rig: Rig, stopped: Stopped) -> None:
    """Kill it after all, and certify that."""
    number = stopped.hand.slot.number
    rig.certificates.pop(number, None)
    rig.kill_worker(stopped.hand, "timeout")
    rig.until(lambda: number not in rig.slots, what="the slot's end")


def completed(rig: Rig, stopped: Stopped) -> int:
    """Let the second run end; the token that the job completed under."""
    stopped.open_gate(rig, 2)
    rig.until(lambda: rig.job(stopped.job)["state"] == "completed", what="the second run's end")
    token: int = rig.job(stopped.job)["token"]
    return token


def report_after(rig: Rig, stopped: Stopped) -> None:
    """The first run reports when the second has completed the job."""
    token = completed(rig, stopped)
    report(rig, stopped)
    assert rig.job(stopped.job)["token"] == token


def report_before(rig: Rig, stopped: Stopped) -> None:
    """The first run reports while the second is at it."""
    token = rig.job(stopped.job)["token"]
    report(rig, stopped)
    shown = rig.job(stopped.job)
    assert (shown["state"], shown["token"]) == ("running", token)
    assert completed(rig, stopped) == token


ORDERS = (report_after, report_before)


@pytest.mark.campaign
@pytest.mark.timeout(1200)
def test_a_report_after_the_verdict_changes_nothing(tmp_path: Path, campaign: Campaign) -> None:
    for number, rounds in enumerate(campaign.batches(short=20, full=400, batch=50)):
        path = tmp_path / str(number)
        with Rig(path, [a_queue(path, workers=1, max_attempts=10)]) as rig:
            ready_rig(rig)
            ids = []
            for turn in range(rounds):
                stopped = stop_in_a_job(rig)
                judge(rig, stopped)
                ORDERS[turn % 2](rig, stopped)
                bury(rig, stopped)
                ids.append(stopped.job)
            assert rig.finish() == 0
            data = read_database(rig.database)
            assert check(rig.database, rig.ledger, ids, overlap=True) == []
            assert data.stale == rounds
            assert [dict(job.charges) for job in data.jobs.values()] == [{"timeout": 1}] * rounds
        campaign.passed(rounds, stale_reports=data.stale)


def test_a_new_keeper_leases_nothing_to_a_worker_that_was_judged(tmp_path: Path) -> None:
    """The verdict was one keeper's, the report is read by the next."""
    with Rig(tmp_path, [a_queue(tmp_path, workers=1)]) as rig:
        ready_rig(rig)
        stopped = stop_in_a_job(rig)
        judge(rig, stopped)
        rig.kill_keeper()
        rig.start_keeper()
        report_before(rig, stopped)
        more = rig.enqueue([{"do": "nothing"}] * 20)
        rig.until(rig.drained)
        bury(rig, stopped)
        assert rig.finish() == 0
        assert check(rig.database, rig.ledger, [stopped.job, *more], overlap=True) == []
        assert not any(run.pid == stopped.hand.pid for job_id in more for run in rig.ledger.runs()[job_id])


def test_a_stopped_worker_that_is_only_certified_when_dead_is_judged_once(tmp_path: Path) -> None:
    """The normal ladder: stopped, killed, certified. One charge, one more run, nothing stale."""
    with Rig(tmp_path, [a_queue(tmp_path, workers=1)]) as rig:
        ready_rig(rig)
        stopped = stop_in_a_job(rig)
        rig.kill_worker(stopped.hand, "exit")
        rig.spawn()
        completed(rig, stopped)
        assert rig.finish() == 0
        assert check(rig.database, rig.ledger, [stopped.job]) == []
        data = read_database(rig.database)
        assert data.stale == 0
        assert dict(data.jobs[stopped.job].charges) == {"crash": 1}


def test_control_a_keeper_that_does_not_ask_for_the_token_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Planted: a report is written under whatever lease holds the job now."""

    def unguarded(work: Work, _slot: Any, records: Sequence[Any]) -> None:
        held = {job_id: lease.token for lease in work.tx.open_leases().values() for job_id in lease.jobs}
        for record in records:
            work.tx.complete(held.get(record.id, 0), [Completion(record.id, work.now_ms, work.now_ms)])
            work.tx.count_stale(1)

    monkeypatch.setattr(settling, "settle_records", unguarded)
    with Rig(tmp_path, [a_queue(tmp_path, workers=1, max_attempts=10)]) as rig:
        ready_rig(rig)
        stopped = stop_in_a_job(rig)
        judge(rig, stopped)
        with pytest.raises(AssertionError, match="completed"):
            report_before(rig, stopped)
