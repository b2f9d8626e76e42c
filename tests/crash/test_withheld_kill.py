"""A worker stopped past its deadline, its SIGKILL withheld, judged all the same, then continued so that it reports."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.support.campaign import Campaign
from tests.support.field import Field
from tests.support.ledger import Database, Run, check, read_database
from tests.support.waiting import gone, opened, until

AT_ONCE = 5
QUEUE = {"workers": AT_ONCE, "timeout": "400ms", "kill_grace": "200ms", "max_attempts": 10}


def gate(path: Path, number: int) -> str:
    """A FIFO for each of the first two attempts of a job; the payload names them by a pattern."""
    pattern = str(path / f"gate-{number}-{{attempt}}")
    for attempt in (1, 2):
        os.mkfifo(pattern.format(attempt=attempt))
    return pattern


def go_on(pid: int) -> None:
    """SIGCONT, if it is there."""
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        pass


def runs_of(field: Field, ids: Iterable[int], attempt: int) -> dict[int, Run]:
    """The runs of these jobs that are under way, if each of them has begun so often."""
    runs = field.ledger.runs()
    return {job_id: runs[job_id][-1] for job_id in ids if len(runs.get(job_id, ())) == attempt}


def one_round(field: Field, first: int) -> list[int]:
    """Stop a whole pool in its jobs; each is judged, its job completes elsewhere, then it is continued."""
    gates = [gate(field.path, first + number) for number in range(AT_ONCE)]
    ids = field.add({"do": "hold", "until": pattern} for pattern in gates)
    stopped = until(lambda: len(found := runs_of(field, ids, 1)) == AT_ONCE and found, 20, "jobs at their gates")
    for run in stopped.values():
        os.kill(run.pid, signal.SIGSTOP)
    until(lambda: len(runs_of(field, ids, 2)) == AT_ONCE, 30, "second runs")
    for pattern in gates:
        second = pattern.format(attempt=2)
        until(lambda fifo=second: opened(fifo), 20, "a second run at its gate")
    until(lambda: all(field.ask("job", job=job_id)["state"] == "completed" for job_id in ids), 20, "second runs' ends")
    for run in stopped.values():
        go_on(run.pid)
    gone(*(run.pid for run in stopped.values()), within=20)
    return ids


def pool(tmp_path: Path, rounds: int, env: dict[str, str]) -> tuple[list[int], Database, list[str]]:
    """So many stopped workers; the jobs, the database, and what the checker finds."""
    with Field(tmp_path, {"q": QUEUE}, env=env) as field:
        ids: list[int] = []
        while len(ids) < rounds:
            ids += one_round(field, len(ids))
        field.drain()
        assert field.stop() == 0
        return ids, read_database(field.database), check(field.database, field.ledger, ids, overlap=True)


@pytest.mark.campaign
@pytest.mark.timeout(1200)
def test_a_report_after_a_verdict_that_came_too_soon_changes_nothing(tmp_path: Path, campaign: Campaign) -> None:
    for number, rounds in enumerate(campaign.batches(short=10, full=200, batch=50)):
        env = {"JOBSUP_FAILPOINTS": "ladder.kill=skip@*"}
        ids, data, problems = pool(tmp_path / str(number), rounds, env)
        assert problems == []
        assert data.stale == len(ids) == rounds
        assert [charges_of(data, job_id) for job_id in ids] == [("completed", {"timeout": 1})] * rounds
        campaign.passed(rounds, stale_reports=data.stale)


def charges_of(data: Database, job_id: int) -> tuple[str, dict[str, Any]]:
    """How a job ended, and what was charged."""
    job = data.jobs[job_id]
    return job.state, dict(job.charges)


def test_control_where_the_kill_is_not_withheld_nothing_is_stale(tmp_path: Path) -> None:
    """The same without the failpoint: the condition of the campaign is not met, and its count shows it."""
    ids, data, problems = pool(tmp_path, AT_ONCE, {})
    assert problems == []
    assert data.stale == 0
    assert [charges_of(data, job_id) for job_id in ids] == [("completed", {"timeout": 1})] * AT_ONCE
