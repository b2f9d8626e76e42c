"""Deaths in the middle of a start or a stop: it still ends in time, leaves nothing behind, and loses nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Set as AbstractSet
from pathlib import Path

import pytest

from tests.support.campaign import Campaign
from tests.support.field import Field, attempt, kill, moment, payloads
from tests.support.ledger import read_database
from tests.support.waiting import alive, gone, until

GRACE_S = 5
MIX = payloads((10, {"do": "nothing"}), (1, {"do": "rest", "ms": 30}), (1, {"do": "big", "bytes": 20_000}))


def begin(field: Field) -> None:
    """Clients that only know the socket: while no daemon is there, they wait."""
    for seed in range(2):
        field.load("raw", "--payloads", MIX, "--group", 10, "--pause-ms", 10, "--seed", seed)


def finished(field: Field, may_miss: AbstractSet[int] = frozenset()) -> None:
    """Everything ends and is in order."""
    field.end_loads()
    flush(field)
    field.drain()
    assert field.stop() == 0
    assert field.survivors() == []
    assert field.acks.check(field.database, field.ledger, may_miss=may_miss) == []


def flush(field: Field) -> None:
    """Ask for the newest job that was acknowledged: what is buffered counts nowhere until it is flushed for that.

    It may be unknown: answered as buffered, and lost with its keeper.
    """
    field.acks.read()
    newest = max(field.acks.at_ns)
    attempt(lambda: field.ask("job", job=newest))


def nothing_left(field: Field, within: float) -> None:
    """Wait for the end of the master, and of all others 2 s after it."""
    field.wait_end(within)
    until(lambda: not field.survivors(), 2, "the end of everything 2 s after the master")


@pytest.mark.campaign
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("role", ["master", "keeper", "foreman", "worker"])
def test_a_death_during_a_stop(tmp_path: Path, campaign: Campaign, role: str) -> None:
    """What was answered as buffered is lost only with the keeper: whoever else dies, it is flushed."""
    for number, rounds in enumerate(campaign.batches(short=3, full=60, batch=20)):
        with Field(tmp_path / str(number), intake={"acknowledge": "buffered", "flush_interval": "200ms"}) as field:
            begin(field)
            for _ in range(rounds):
                field.under_load(100)
                victims = field.pids(role)
                field.signal(signal.SIGTERM)
                moment(campaign.chance, 0.06)
                kill(*victims)
                nothing_left(field, GRACE_S + 2)
                field.start()
            field.acks.read()
            finished(field, field.acks.buffered if role == "keeper" else set())
        campaign.passed(rounds, acknowledged_jobs=len(field.acks.at_ns))


@pytest.mark.campaign
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGQUIT])
def test_an_end_during_a_start(tmp_path: Path, campaign: Campaign, number: signal.Signals) -> None:
    """At any moment from the first fork to readiness: no process is left, and the next start works."""
    with Field(tmp_path, {"q": {"workers": 2}, "other": {"workers": 1}}) as field:
        ids = field.add([{"do": "rest", "ms": 20}] * 20)
        assert field.stop() == 0
        for rounds in campaign.batches(short=8, full=300, batch=300):
            for _ in range(rounds):
                field.start(ready=False)
                moment(campaign.chance, 0.8)
                field.signal(number)
                nothing_left(field, GRACE_S + 2)
                assert field.status in (0, -number)  # the signal itself, before the program could listen to it
            campaign.passed(rounds)
        field.start()
        field.drain()
        assert field.stop() == 0
        jobs = read_database(field.database).jobs
        assert {jobs[job_id].state for job_id in ids} == {"completed"}


def stopped(field: Field, role: str) -> int:
    """SIGSTOP to the process of a role."""
    (pid,) = field.pids(role) if role != "master" else (field.pid,)
    os.kill(pid, signal.SIGSTOP)
    return pid


def test_a_stopped_master_is_not_missed(tmp_path: Path) -> None:
    """While it is stopped workers die and are replaced from spare slots; when it goes on, all is as it was."""
    with Field(tmp_path, {"q": {"workers": 2}}) as field:
        begin(field)
        field.under_load(50)
        before = field.pids("keeper", "foreman")
        master = stopped(field, "master")
        for _ in range(2):
            pid = field.at_work().pid
            kill(pid)
            gone(pid)
        field.under_load(50)
        os.kill(master, signal.SIGCONT)
        field.under_load(50)
        pid = field.at_work().pid
        kill(pid)
        gone(pid)
        field.under_load(50)
        assert field.pids("keeper", "foreman") == before
        finished(field)


@pytest.mark.campaign
@pytest.mark.timeout(300)
@pytest.mark.parametrize("role", ["keeper", "foreman"])
def test_a_stopped_role_is_replaced(tmp_path: Path, campaign: Campaign, role: str) -> None:
    """A loop that shows no turn for half a minute is killed and started anew. Takes as long; full form only."""
    for _ in campaign.batches(short=0, full=1, batch=1):
        with Field(tmp_path) as field:
            begin(field)
            field.under_load(50)
            pid = stopped(field, role)
            gone(pid, within=60)
            until(lambda dead=pid: attempt(lambda: field.pids(role) not in ([], [dead])), 30, "another one")
            field.under_load(50)
            finished(field)
        campaign.passed(1)


def one_shots(field: Field) -> list[int]:
    """One-shot keepers of this configuration that live now."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        words = attempt(lambda pid=name: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")) or []
        if b"--one-shot" in words and str(field.config).encode() in words:
            found.append(int(name))
    return found


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_killed_one_shot_keepers_and_starting_daemons_lose_nothing(tmp_path: Path, campaign: Campaign) -> None:
    """Without a daemon clients start keepers of their own; they are killed, or asked to yield to a daemon."""
    for number, rounds in enumerate(campaign.batches(short=2, full=60, batch=20)):
        with Field(tmp_path / str(number)) as field:
            assert field.stop() == 0
            field.load("client", "--payloads", MIX, "--group", 5, "--pause-ms", 5, config=True)
            field.load("client", "--payloads", MIX, "--group", 5, "--pause-ms", 5, "--seed", 1, config=True)
            killed = 0
            for _ in range(rounds):
                before = field.acks.read()
                until(lambda count=before: field.acks.read() > count + 20, 60, "acknowledgements without a daemon")
                victims = until(lambda: one_shots(field), 30, "a one-shot keeper")
                moment(campaign.chance, 0.05)
                kill(*victims)
                killed += len(victims)
                before = field.acks.read()
                until(lambda count=before: field.acks.read() > count + 20, 60, "acknowledgements after the kill")
                field.start()
                field.under_load(20)
                assert field.stop() == 0
            field.start()
            finished(field)
        campaign.passed(rounds, one_shot_keepers_killed=killed, acknowledged_jobs=len(field.acks.at_ns))


def test_control_a_process_that_is_left_is_found(tmp_path: Path) -> None:
    """Planted: a worker is stopped and its foreman with it, so that neither can end when the master is killed."""
    with Field(tmp_path, {"q": {"workers": 1}}) as field:
        foreman, worker = field.pids("foreman") + field.pids("worker")
        os.kill(foreman, signal.SIGSTOP)
        field.kill()
        begun = time.monotonic()
        with pytest.raises(AssertionError, match="2 s after the master"):
            nothing_left(field, 1)
        assert time.monotonic() - begun >= 2
        assert alive(foreman)
        kill(foreman, worker)
