"""Kills of every role while limits and keys are in use: no slot leaks, no key is blocked for ever, order holds."""

from __future__ import annotations

import itertools
import sqlite3
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.campaign import Campaign
from tests.support.field import Field, attempt, kill, moment
from tests.support.waiting import gone, until

RATE = {"limit": 20, "period": "1s", "algorithm": "window"}
QUEUES = {
    "ordered": {"handler": "limited:run", "workers": 3, "ordered": True},
    "keyed": {"handler": "limited:run", "workers": 3, "key_concurrency": 2},
    "shared_a": {"handler": "limited:run", "workers": 2, "limits": ["both"]},
    "shared_b": {"handler": "limited:run", "workers": 2, "limits": ["both"]},
    "paced": {"handler": "limited:run", "workers": 2, "rate": RATE},
}
KEYS = [f"k{number}" for number in range(8)]
ROLES = ("worker", "worker", "worker", "foreman", "keeper", "master")
KEEPERS_ALLOWED = 5
"""A master gives up when more of its keepers die within a minute."""
SLACK_S = 1.0
"""How much later than it was handed out a job may begin, while everything around it is being killed."""


def storm(field: Field, campaign: Campaign, rounds: int) -> Counter[str]:
    killed: Counter[str] = Counter()
    counts, keepers = dict.fromkeys(KEYS, 0), 0
    for _ in range(rounds):
        for key in KEYS:
            jobs = []
            for _ in range(4):
                jobs.append({"n": counts[key], "ms": 3, "fail": campaign.chance.choice([0, 0, 0, 1])})
                counts[key] += 1
            field.add(jobs, "ordered", key=key)
            field.add([{"ms": 2}] * 3, "keyed", key=key)
        for queue in ("shared_a", "shared_b"):
            field.add([{"ms": 4, "fail": campaign.chance.choice([0, 0, 1])} for _ in range(8)], queue)
        field.add([{"ms": 1}] * 10, "paced")
        moment(campaign.chance, 0.15)
        role = campaign.chance.choice(ROLES)
        if role == "keeper" and keepers == KEEPERS_ALLOWED:
            role = "master"
        keepers = 0 if role == "master" else keepers + (role == "keeper")
        killed[role] += 1
        strike(field, campaign, role)
    return killed


def strike(field: Field, campaign: Campaign, role: str) -> None:
    if role == "master":
        field.kill()
        until(lambda: not field.survivors(), 5, "the end of everything after the master")
        field.start()
        return
    pids = attempt(lambda: field.pids(role)) or []
    if pids:
        pid = campaign.chance.choice(pids)
        kill(pid)
        gone(pid)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.campaign
@pytest.mark.timeout(7200)
def test_no_slot_leaks_and_no_key_is_blocked_for_ever(tmp_path: Path, campaign: Campaign) -> None:
    for number, rounds in enumerate(campaign.batches(short=5, full=600, batch=40)):
        folder = tmp_path / str(number)
        locks = folder / "locks"
        locks.mkdir(parents=True)
        queues = {name: {**queue, "env": {"LOCKS": str(locks)}} for name, queue in QUEUES.items()}
        with Field(folder, queues, limits={"both": {"concurrency": 2}}) as field:
            begun = time.time()
            killed = storm(field, campaign, rounds)
            # A slot that leaked, or a key that nobody wakes, would leave jobs waiting for ever.
            field.drain(60 + rounds)
            lasted = time.time() - begun
            assert field.stop() == 0
        assert lines(locks / "broken") == []
        for key in KEYS:
            ran = [int(line) for line in lines(locks / f"order-{key}")]
            assert ran == sorted(ran), f"key {key} did not keep its order: {ran}"
            assert set(ran) == set(range(4 * rounds))
        check_rate(lines(locks / "starts"), lasted)
        check_rows(field.database)
        campaign.passed(rounds, **killed)


def check_rate(starts: list[str], lasted_s: float) -> None:
    """No stretch of a second had more grants than it may: what began in it and in the slack before it bounds them."""
    times = sorted(float(line.split()[1]) for line in starts if line.startswith("paced "))
    assert len(times) <= 20 * (lasted_s + 2)
    for first, last in zip(times, itertools.islice(times, 40, None), strict=False):
        assert last - first > 2 - SLACK_S, "more than 40 began within a second, and 20 may be granted in each"


def check_rows(database: Path) -> None:
    """Nothing is leased, held or parked when nothing is left to do."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        assert connection.execute("SELECT count(*) FROM lease").fetchone() == (0,)
        stuck = "SELECT count(*) FROM lane WHERE held IS NOT NULL OR doom IS NOT NULL OR a IS NOT NULL"
        assert connection.execute(stuck).fetchone() == (0,)
        dead = connection.execute("SELECT count(*) FROM outcome WHERE state <> 'completed'").fetchone()
        assert dead == (0,)
    finally:
        connection.close()
