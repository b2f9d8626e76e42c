"""A backup under full load is whole, holds all that was acknowledged before it began, and can be started from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.campaign import Campaign
from tests.support.field import Field, payloads
from tests.support.ledger import read_database

MIX = payloads((20, {"do": "nothing"}), (1, {"do": "big", "bytes": 30_000}), (1, {"do": "rest", "ms": 5}))


def begin(field: Field) -> None:
    """Full load: more than the workers can do."""
    for seed in range(3):
        field.load("raw", "--payloads", MIX, "--group", 50, "--pause-ms", 4, "--seed", seed)


def back_up(field: Field, target: Path) -> set[int]:
    """`jobsctl backup` now; what was acknowledged before it began."""
    field.under_load(500)
    field.acks.read()
    before = set(field.acks.at_ns)
    ran = field.ctl("backup", target)
    assert ran.status == 0, ran.err
    assert field.acks.read() > len(before), "nothing was enqueued meanwhile: that is no backup under load"
    return before


def missing(target: Path, before: set[int]) -> list[str]:
    """What is wrong with a backup."""
    data = read_database(target)
    lost = before - data.jobs.keys()
    return [*data.problems, *(f"acknowledged is there: job {job_id} is not" for job_id in sorted(lost))]


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_a_backup_under_load_is_whole_and_starts(tmp_path: Path, campaign: Campaign) -> None:
    for number, rounds in enumerate(campaign.batches(short=2, full=20, batch=5)):
        path = tmp_path / str(number)
        with Field(path) as field:
            begin(field)
            taken = [(path / f"backup-{turn}.db", back_up(field, path / f"backup-{turn}.db")) for turn in range(rounds)]
            field.end_loads()
        for target, before in taken:
            assert missing(target, before) == []
        target, before = taken[-1]
        with Field(path / "r") as other:
            assert other.stop() == 0
            shutil.copy(target, other.database)
            other.start()
            other.drain()
            assert other.stop() == 0
            data = read_database(other.database)
            assert data.problems == []
            assert before <= data.jobs.keys()
            assert {data.jobs[job_id].state for job_id in before} == {"completed"}
        campaign.passed(rounds, acknowledged_before=sum(len(before) for _, before in taken))


def test_control_a_copy_without_the_wal_is_found(tmp_path: Path) -> None:
    """Planted: the file alone is copied, as people do."""
    with Field(tmp_path) as field:
        begin(field)
        field.under_load(500)
        field.acks.read()
        before = set(field.acks.at_ns)
        shutil.copy(field.database, tmp_path / "copy.db")
        field.end_loads()
    try:
        problems = missing(tmp_path / "copy.db", before)
    except Exception as error:
        problems = [str(error)]
    assert problems
