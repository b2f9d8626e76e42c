"""Ten thousand short jobs with ten long ones among them: nothing short waits behind them beside an idle worker."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.campaign import Campaign, size
from tests.support.field import Field
from tests.support.idleness import LATE_NS, waited_beside_the_idle
from tests.support.ledger import check
from tests.support.stalls import Stalls
from tests.support.waiting import until

SHORT_JOB = {"do": "spin", "us": 100}
LONG_JOBS = 10


def fill(field: Field, campaign: Campaign, shorts: int, long_ms: int) -> list[int]:
    """The jobs in random order, enqueued while the queue is paused."""
    jobs = [SHORT_JOB] * shorts + [{"do": "rest", "ms": long_ms}] * LONG_JOBS
    campaign.chance.shuffle(jobs)
    field.ask("pause", queue="q")
    return [job_id for first in range(0, len(jobs), 1_000) for job_id in field.add(jobs[first : first + 1_000])]


@pytest.mark.campaign
@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", [2, 4])
def test_short_jobs_never_wait_beside_an_idle_worker(tmp_path: Path, campaign: Campaign, workers: int) -> None:
    long_ms = size(1_000, 30_000)
    for number, rounds in enumerate(campaign.batches(short=1, full=3, batch=1)):
        with Field(tmp_path / str(number), {"q": {"workers": workers}}) as field:
            ids = fill(field, campaign, 10_000, long_ms)
            at_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            with Stalls(tmp_path) as stalls:
                field.ask("resume", queue="q")
                field.drain(long_ms * LONG_JOBS / 1_000 + 60)
            assert field.stop() == 0
            assert check(field.database, field.ledger, ids) == []
            late_ns = LATE_NS + stalls.worst_ns
            assert waited_beside_the_idle(field.ledger, dict.fromkeys(ids, at_ns), long_ms, late_ns) == []
        campaign.passed(rounds, jobs=len(ids))


def test_control_a_worker_that_is_stopped_looks_idle_and_is_found(tmp_path: Path, campaign: Campaign) -> None:
    """Planted: one of two workers is stopped for a while between two jobs, so that short jobs wait beside it."""
    import os
    import signal

    with Field(tmp_path, {"q": {"workers": 2, "timeout": "1m"}}) as field:
        ids = fill(field, campaign, 4_000, 50)
        at_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        field.ask("resume", queue="q")
        pid = field.at_work().pid
        os.kill(pid, signal.SIGSTOP)
        stopped_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        until(lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME) > stopped_ns + 4 * LATE_NS)
        os.kill(pid, signal.SIGCONT)
        field.drain()
        # Seen from the ledger, a worker that is stopped in a job is at work: end that run where it was stopped.
        runs = field.ledger.runs()
        for listed in runs.values():
            for run in listed:
                if run.pid == pid and run.started_ns < stopped_ns < (run.ended_ns or 0):
                    listed.remove(run)
        field.ledger.runs = lambda: runs  # type: ignore[method-assign]
        assert waited_beside_the_idle(field.ledger, dict.fromkeys(ids, at_ns), 50)
