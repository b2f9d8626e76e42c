"""SIGKILL under load, of every role and of everything at once: nothing lost, nothing stuck, the right one charged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.campaign import Campaign
from tests.support.field import Field, attempt, kill, moment, payloads
from tests.support.ledger import Database, check_crashes, read_database
from tests.support.waiting import alive, gone, until

MIX = payloads(
    (4, {"do": "nothing"}),
    (2, {"do": "spin", "us": 300}),
    (3, {"do": "rest", "ms": 15}),
    (1, {"do": "big", "bytes": 40_000}),
    (2, {"do": "family", "queue": "q", "children": 2, "us": 8_000}),
)
DEATHS_ALLOWED = 4
"""The daemon gives up when its keeper dies more than 5 times a minute, and has its foremen wait longer and longer."""


def begin(field: Field) -> None:
    """Four clients that do not stop."""
    for seed in range(2):
        field.load("raw", "--payloads", MIX, "--group", 6, "--pause-ms", 40, "--seed", seed)
    field.load("client", "--payloads", MIX, "--group", 4, "--pause-ms", 50)
    field.load("buffered", "--payloads", MIX, "--pause-ms", 2_000)


def kill_master(field: Field) -> set[int]:
    """The master; all others must be gone 2 s after it."""
    field.kill()
    until(lambda: not field.survivors(), 2, "the end of everything 2 s after the master")
    field.start()
    return set()


def kill_keeper(field: Field) -> set[int]:
    (pid,) = field.pids("keeper")
    kill(pid)
    gone(pid)
    until(lambda: attempt(lambda: field.pids("keeper") not in ([], [pid])), 20, "another keeper")
    return set()


def kill_foreman(field: Field) -> set[int]:
    (pid,) = until(lambda: field.pids("foreman"), 30, "a foreman")
    workers = field.pids("worker")
    kill(pid)
    gone(pid, *workers)
    return set()


def kill_worker(field: Field) -> set[int]:
    """A worker with a job running: the kill counts only if it cut that run off."""
    pid = field.at_work().pid
    kill(pid)
    gone(pid)
    return {pid}


def kill_everything(field: Field) -> set[int]:
    everyone = field.survivors()
    kill(*everyone)
    field.wait_end()
    gone(*everyone)
    field.start()
    return set()


ROLES: dict[str, Callable[[Field], set[int]]] = {
    "master": kill_master,
    "keeper": kill_keeper,
    "foreman": kill_foreman,
    "worker": kill_worker,
    "everything": kill_everything,
}


def cut_off(field: Field, before: set[tuple[int, int]]) -> bool:
    """Whether one of the runs that were under way has ended without its last line."""
    return any((run.id, run.token) in before and not alive(run.pid) for run in field.ledger.running)


def finish(field: Field, killed: set[int]) -> Database:
    """End the clients, let everything end, stop; the checker must find nothing."""
    field.end_loads()
    field.drain()
    assert field.stop() == 0
    assert field.survivors() == []
    assert field.acks.check(field.database, field.ledger) == []
    data = read_database(field.database, integrity=False)
    assert data.owners == 0
    charged = check_crashes(data.jobs, field.ledger, killed)
    assert charged.problems == []
    return data


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("role", ROLES)
def test_whoever_is_killed_under_load_nothing_is_lost(tmp_path: Path, campaign: Campaign, role: str) -> None:
    for number, rounds in enumerate(campaign.batches(short=4, full=90, batch=30)):
        with Field(tmp_path / str(number), {"q": {"workers": 2}}) as field:
            begin(field)
            killed: set[int] = set()
            met = kills = 0
            while met < rounds:
                running = field.under_load(20)
                moment(campaign.chance, 0.05)
                under_way = {(run.id, run.token) for run in (*running, *field.running_now())}
                victims = ROLES[role](field)
                kills += 1
                killed |= victims
                # A keeper takes no job with it: there, that one was running is the condition.
                met += role == "keeper" or cut_off(field, under_way)
                if role in ("keeper", "foreman") and kills % DEATHS_ALLOWED == 0:
                    assert field.stop() == 0
                    field.start()
            data = finish(field, killed)
        crashes = sum(job.charges.get("crash", 0) for job in data.jobs.values())
        interruptions = sum(job.charges.get("interrupted", 0) for job in data.jobs.values())
        campaign.passed(
            met, kills=kills, acknowledged_jobs=len(field.acks.at_ns), crashes_charged=crashes,
            interruptions=interruptions,
        )  # fmt: skip


def test_control_a_lost_acknowledgement_is_found(tmp_path: Path) -> None:
    """Planted: at `relaxed` nothing is lost by a kill either, but a row deleted by hand must be noticed."""
    import sqlite3

    with Field(tmp_path, {"q": {}}) as field:
        begin(field)
        field.under_load(50)
        field.end_loads()
        field.drain()
        assert field.stop() == 0
        assert field.acks.check(field.database, field.ledger) == []
        victim = min(field.acks.at_ns)
        with sqlite3.connect(field.database) as db:
            db.execute("DELETE FROM job WHERE id = ?", (victim,))
            db.execute("DELETE FROM outcome WHERE id = ?", (victim,))
        db.close()
        problems = field.acks.check(field.database, field.ledger)
        assert f"acknowledged is there: job {victim} is not" in problems
        assert any(problem.startswith("tally") for problem in problems)
