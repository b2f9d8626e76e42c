"""Rates in the store: what is used up is used up whatever the clock does, and opens again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.policy.discipline import Discipline, Limit
from supervisor.policy.rate import ALGORITHMS, BUCKET, Rate
from supervisor.store.protocol import Group, NewJob
from supervisor.store.sqlite.store import SqliteStore
from tests.conformance.sqlite import SqliteBackend

NOW = 1_700_000_000_000
MINUTE_MS, HOUR_MS = 60_000, 3_600_000


def backend_with(path: Path, rules: Discipline) -> SqliteBackend:
    backend = SqliteBackend(path / "jobs.db", durability="relaxed")
    backend.discipline_of = lambda _: rules
    return backend


def limited(kind: str, *, per_key: bool) -> Discipline:
    """Two jobs in a minute, of the queue or of each key."""
    limit = Limit("key:q" if per_key else "queue:q", rate=Rate(2, MINUTE_MS, kind))
    return Discipline(group="q", key_limits=(limit,)) if per_key else Discipline(group="q", limits=(limit,))


def leased(store: SqliteStore, now_ms: int, jobs: int = 10) -> list[int]:
    """What a lease gives once what waits for its time has been looked at."""
    with store.transaction(now_ms) as tx:
        tx.wake()
        found = tx.lease("q", 1, jobs, 1 << 30)
        return [job.id for job in found.jobs] if found else []


def drained(store: SqliteStore, now_ms: int) -> list[int]:
    found: list[int] = []
    while more := leased(store, now_ms):
        found += more
    return found


@pytest.mark.parametrize("per_key", [False, True], ids=["of the queue", "of each key"])
@pytest.mark.parametrize("kind", ALGORITHMS)
@pytest.mark.parametrize("reopened", [False, True], ids=["at work", "reopened"])
def test_after_the_clock_was_set_back_a_rate_holds_and_opens_within_two_periods(
    tmp_path: Path, per_key: bool, kind: str, reopened: bool
) -> None:
    backend = backend_with(tmp_path, limited(kind, per_key=per_key))
    store = backend.open()
    with store.transaction(NOW) as tx:
        tx.insert([Group("q", [NewJob(b"1", key="k") for _ in range(8)])])
    begun = drained(store, NOW) + drained(store, NOW + 30_000)
    assert len(begun) in (2, 3)  # a bucket has refilled one by then
    back = NOW - HOUR_MS
    if reopened:
        store.close()
        store = backend.open()
    assert drained(store, back) == []
    found = [drained(store, back + second * 1_000) for second in range(1, 122)]
    at_once = max(len(jobs) for jobs in found)
    assert 1 <= at_once <= 2
    assert 2 <= sum(map(len, found)) <= 4
    assert backend.complaints() == []
    store.close()


def test_what_is_handed_back_unstarted_takes_nothing_of_the_rate(tmp_path: Path) -> None:
    store = backend_with(tmp_path, limited(BUCKET, per_key=False)).open()
    with store.transaction(NOW) as tx:
        tx.insert([Group("q", [NewJob(b"1") for _ in range(3)])])
        first = tx.lease("q", 1, 10, 1 << 30)
        assert first is not None
        assert [job.id for job in first.jobs] == [1, 2]
        assert tx.release(first.token, [2]) == [2]
    assert drained(store, NOW) == [2]
    store.close()


@pytest.mark.parametrize(("spread", "jobs"), [(lambda n: "k", 2), (str, 5)], ids=["one key", "a key each"])
def test_a_rate_of_each_key_is_of_each_key(tmp_path: Path, spread: Callable[[int], str], jobs: int) -> None:
    store = backend_with(tmp_path, limited(BUCKET, per_key=True)).open()
    with store.transaction(NOW) as tx:
        tx.insert([Group("q", [NewJob(b"1", key=spread(number)) for number in range(5)])])
    assert len(drained(store, NOW)) == jobs
    store.close()
