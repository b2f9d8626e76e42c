"""kill -9 of a busy worker: how long until its certificate can be read, and until another is at work."""

from __future__ import annotations

import os
import signal
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.campaign import Campaign
from tests.support.field import Field, moment
from tests.support.ledger import Run
from tests.support.waiting import until

LIMIT_MS = 250
JOB = {"do": "rest", "ms": 60}


class Times(NamedTuple):
    """Milliseconds from the kill."""

    certificate: float
    replacement: float


def now_ns() -> int:
    """The ledger's clock."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def kill_once(field: Field, *, stalled_s: float = 0) -> Times:
    """Kill the one worker in a job that is not its first; `stalled_s` stops its foreman for so long."""
    run = until(lambda: proven(field), 20, "a worker that has ended a job and is in another")
    (foreman,) = field.pids("foreman")
    killed_ns = now_ns()
    os.kill(run.pid, signal.SIGKILL)
    if stalled_s:
        os.kill(foreman, signal.SIGSTOP)
        until(lambda: now_ns() > killed_ns + stalled_s * 1e9)
        os.kill(foreman, signal.SIGCONT)
    until(lambda: any(error["kind"] == "crash" for error in field.ask("job", job=run.id)["errors"]), 20, "a crash")
    certified_ns = now_ns()
    until(lambda: later_than(field, killed_ns, run.pid), 20, "another worker at work")
    began_ns = min(started for started, pid in begun(field) if started > killed_ns and pid != run.pid)
    return Times((certified_ns - killed_ns) / 1e6, (began_ns - killed_ns) / 1e6)


def proven(field: Field) -> Run | None:
    """A run under way of a worker that has ended one before: what kills its first job is no reason to hurry."""
    ended = {run.pid for runs in field.ledger.runs().values() for run in runs if run.ended_ns}
    return next((run for run in field.running_now() if run.pid in ended), None)


def begun(field: Field) -> list[tuple[int, int]]:
    """When each run began, and where."""
    return [(run.started_ns, run.pid) for runs in field.ledger.runs().values() for run in runs]


def later_than(field: Field, at_ns: int, pid: int) -> bool:
    """Whether a run of another worker has begun since."""
    return any(started > at_ns and other != pid for started, other in begun(field))


def p99(values: list[float]) -> float:
    """The 99th percentile; the largest of fewer than 100."""
    return statistics.quantiles(values, n=100)[-1] if len(values) >= 100 else max(values)


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_a_killed_worker_is_certified_and_replaced_within_250_ms(tmp_path: Path, campaign: Campaign) -> None:
    """Its handler's module takes two seconds to import: the foreman has done so, the replacement need not."""
    for number, rounds in enumerate(campaign.batches(short=20, full=100, batch=100)):
        with Field(tmp_path / str(number), {"q": {"workers": 1, "handler": "slow_import:run"}}) as field:
            times = []
            for _ in range(rounds):
                field.add([JOB] * 3)
                moment(campaign.chance, 0.03)
                times.append(kill_once(field))
        slowest = {name: p99([getattr(one, name) for one in times]) for name in Times._fields}
        assert max(slowest.values()) <= LIMIT_MS, slowest
        campaign.passed(rounds, **{f"ms_p99_to_{name}": round(value) for name, value in slowest.items()})


def test_control_a_foreman_that_stalls_is_found(tmp_path: Path) -> None:
    """Planted: the foreman is stopped for 0.4 s when its worker dies."""
    with Field(tmp_path, {"q": {"workers": 1}}) as field:
        field.add([JOB] * 3)
        times = kill_once(field, stalled_s=0.4)
        assert min(times) > LIMIT_MS
