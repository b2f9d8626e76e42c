"""The raw limit: one process, the product's own verbs on its own store, synced, history kept, no sockets.

Every transaction completes 100 jobs, and leases 256 more when the last lease is used up.
"""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

from supervisor.policy.discipline import Discipline
from supervisor.store.open import open_store
from supervisor.store.protocol import Completion, Group, Lease, NewJob, Owner
from supervisor.store.sqlite.store import SqliteStore
from supervisor.unix.clock import wall_ms

BATCH = 100
LEASE = 256
GROUP = 1_000
PLENTY = 1 << 40


def drain_per_s(folder: Path, payload: bytes, jobs: int) -> float:
    """Jobs per second from a full queue to an empty one."""
    store = open_store(str(folder / "raw.db"), "full", create=True, migrate=True)
    store.govern(lambda queue: Discipline(group=queue))
    try:
        return jobs / _drain_s(store, _fill(store, payload, jobs), jobs)
    finally:
        store.close()


def _fill(store: SqliteStore, payload: bytes, jobs: int) -> int:
    """Insert the jobs; returns the owner that will lease them."""
    for start in range(0, jobs, GROUP):
        with store.transaction(wall_ms()) as tx:
            tx.insert([Group("noop", [NewJob(payload)] * min(GROUP, jobs - start))])
    with store.transaction(wall_ms()) as tx:
        return tx.own(Owner("host", "boot", 1, 1, 1, "noop", "/", 1, 1))


def _drain_s(store: SqliteStore, owner: int, jobs: int) -> float:
    begun = time.perf_counter()
    batches: deque[tuple[int, list[int]]] = deque()
    done = 0
    while done < jobs:
        now_ms = wall_ms()
        with store.transaction(now_ms) as tx:
            if not batches:
                batches.extend(_batches(tx.lease("noop", owner, LEASE, PLENTY)))
            token, ids = batches.popleft()
            stale = tx.complete(token, [Completion(job_id, now_ms, now_ms) for job_id in ids])
        assert not stale
        done += len(ids)
    return time.perf_counter() - begun


def _batches(lease: Lease | None) -> list[tuple[int, list[int]]]:
    assert lease is not None
    ids = [job.id for job in lease.jobs]
    return [(lease.token, ids[at : at + BATCH]) for at in range(0, len(ids), BATCH)]
