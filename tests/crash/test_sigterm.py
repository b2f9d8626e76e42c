"""SIGTERM under load: what was acknowledged is there, whoever asked and however it was answered."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support.campaign import Campaign, size
from tests.support.field import Field, moment, payloads
from tests.support.ledger import read_database

GRACE_S = 5
MIX = payloads(
    (40, {"do": "nothing"}),
    (5, {"do": "spin", "us": 200}),
    (1, {"do": "rest", "ms": 30}),
    (1, {"do": "big", "bytes": 20_000}),
    (2, {"do": "family", "queue": "q", "children": 1, "us": 500}),
)


def begin(field: Field, acknowledge: str) -> None:
    """Every kind of client. Those that know the configuration go on through one-shot keepers while no daemon runs."""
    for seed in range(2):
        field.load("raw", "--payloads", MIX, "--group", 25, "--pause-ms", 3, "--seed", seed)
    field.load("client", "--payloads", MIX, "--group", 10, "--pause-ms", 5, config=True)
    field.load("buffered", "--payloads", MIX, "--pause-ms", 20, "--acknowledged", acknowledge)
    field.load("cli", "--payloads", MIX, config=True)


def stopped_in_order(field: Field) -> None:
    """SIGTERM, exit 0 within the grace and 2 s, nothing of it left."""
    begun = time.monotonic()
    assert field.stop(GRACE_S + 2) == 0
    assert time.monotonic() - begun < GRACE_S + 2
    assert field.survivors() == []
    assert not field.socket.exists()
    slots = field.run_dir / "slots"
    assert not slots.exists() or os.listdir(slots) == []


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("acknowledge", ["committed", "buffered"])
def test_a_stop_under_load_loses_nothing(tmp_path: Path, campaign: Campaign, acknowledge: str) -> None:
    enough = size(400, 2_000)
    for number, rounds in enumerate(campaign.batches(short=3, full=100, batch=10)):
        sections = {"intake": {"acknowledge": acknowledge}}
        with Field(tmp_path / str(number), {"q": {"workers": 2}}, **sections) as field:
            begin(field, acknowledge)
            for _ in range(rounds):
                field.under_load(enough)
                moment(campaign.chance, 0.05)
                stopped_in_order(field)
                field.start()
            field.end_loads()
            field.drain()
            stopped_in_order(field)
            assert field.acks.check(field.database, field.ledger) == []
            charged = {job.id: dict(job.charges) for job in read_database(field.database).jobs.values() if job.charges}
            assert charged == {}
        campaign.passed(rounds, acknowledged_jobs=len(field.acks.at_ns), buffered=len(field.acks.buffered))


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_jobs_longer_than_the_grace_are_interrupted_and_run_again(tmp_path: Path, campaign: Campaign) -> None:
    """What is left when the grace is over is killed, free of charge, and runs to its end after the next start."""
    for number, rounds in enumerate(campaign.batches(short=1, full=10, batch=5)):
        with Field(tmp_path / str(number), {"q": {"workers": 2}}, daemon={"shutdown_grace": "1s"}) as field:
            ids = field.add([{"do": "rest", "ms": 2_500}] * 2 + [{"do": "nothing"}] * 50)
            for _ in range(rounds):
                field.at_work()
                assert field.stop(1 + 2) == 0
                assert field.survivors() == []
                field.start()
            field.drain()
            assert field.stop() == 0
            assert field.acks.check(field.database, field.ledger) == []
            jobs = read_database(field.database).jobs
            assert [jobs[job_id].state for job_id in ids] == ["completed"] * 52
            assert {kind for job in jobs.values() for kind in job.charges} == {"interrupted"}
        campaign.passed(rounds)


def test_a_second_signal_changes_nothing_and_sigquit_does_not_wait(tmp_path: Path) -> None:
    with Field(tmp_path, {"q": {"workers": 1}}, daemon={"shutdown_grace": "30s"}) as field:
        (job_id,) = field.add([{"do": "rest", "ms": 20_000}])
        field.at_work()
        begun = time.monotonic()
        field.signal(15)
        field.signal(15)
        field.signal(2)
        assert field.quit(10) == 0
        assert time.monotonic() - begun < 5
        assert field.survivors() == []
        job = read_database(field.database).jobs[job_id]
        assert (job.state, dict(job.charges)) == ("queued", {"interrupted": 1})


def test_control_an_acknowledgement_of_nothing_is_found(tmp_path: Path) -> None:
    """Planted: a client that writes down an id it was never given."""
    with Field(tmp_path, {"q": {}}) as field:
        begin(field, "committed")
        field.under_load(100)
        field.end_loads()
        (field.path / "acks" / "liar.acks").write_text(f"committed 0 {10**6} 1\n")
        field.drain()
        stopped_in_order(field)
        assert field.acks.check(field.database, field.ledger) == [f"acknowledged is there: job {10**6} is not"]
