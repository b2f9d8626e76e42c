"""One tenant with a great many jobs, enqueued first, and 99 with a hundred each: who must wait for whom."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from supervisor.policy.discipline import Discipline
from supervisor.policy.rank import Order
from supervisor.store.protocol import Completion, Group, NewJob
from supervisor.store.sqlite.store import SqliteStore
from tests.conformance.sqlite import SqliteBackend

CAMPAIGN = os.environ.get("JOBSUP_CAMPAIGN") == "full"
NOW = 1_700_000_000_000
LARGE = 1_000_000 if CAMPAIGN else 30_000
TENANTS, EACH = 99, 100
pytestmark = pytest.mark.timeout(900 if CAMPAIGN else 120)


def put(store: SqliteStore, key: str, jobs: int) -> None:
    for begin in range(0, jobs, 10_000):
        with store.transaction(NOW) as tx:
            tx.insert([Group("q", [NewJob(b"1", key=key)] * min(10_000, jobs - begin))])


def drain(store: SqliteStore, batch: int, until: Counter[str]) -> int:
    """Run jobs until those that are waited for have run; returns how many ran in all."""
    total = 0
    while +until:
        with store.transaction(NOW) as tx:
            lease = tx.lease("q", 1, batch, 1 << 40)
            assert lease is not None
            for job in lease.jobs:
                until[job.key] -= 1
            tx.complete(lease.token, [Completion(job.id, NOW, NOW) for job in lease.jobs])
            total += len(lease.jobs)
    return total


@pytest.mark.parametrize("batch", [1, 64])
def test_the_small_ones_are_done_before_twice_their_number_has_run(tmp_path: Path, batch: int) -> None:
    backend = SqliteBackend(tmp_path / "jobs.db", durability="relaxed")
    backend.discipline_of = lambda queue: Discipline(order=Order(("fair",)), group=queue)
    store = backend.open()
    put(store, "large", LARGE)
    wanted: Counter[str] = Counter()
    for tenant in range(TENANTS):
        put(store, f"small{tenant}", EACH)
        wanted[f"small{tenant}"] = EACH
    total = drain(store, batch, wanted)
    print(f"{TENANTS * EACH} jobs of the small ones were done when {total} had run, beside {LARGE}")
    assert total < 2 * TENANTS * EACH
    store.close()


def test_a_weight_is_a_share(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path / "jobs.db", durability="relaxed")
    backend.discipline_of = lambda queue: Discipline(order=Order(("fair",)), weights={"a": 3}, group=queue)
    store = backend.open()
    put(store, "a", 1000)
    put(store, "b", 1000)
    ran: Counter[str] = Counter({"a": 301})
    total = drain(store, 1, ran)
    assert 100 <= -ran["b"] <= 101
    assert total == 301 - ran["b"]
    store.close()
