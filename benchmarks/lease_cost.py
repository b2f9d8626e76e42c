"""What a lease costs, whatever waits: `python -m benchmarks.lease_cost [--full]`.

Each case is a database of its own. Measured is one lease and the completion of what it gave, through the store's verbs,
warm (many in a row) and cold (the first ones after the file was opened anew and its pages were dropped). The ratio is
to the case of 10,000 waiting jobs in the same run; with --full the large cases have 5,000,000 jobs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from supervisor.policy.discipline import Discipline, Limit, line_of
from supervisor.policy.settle import History
from supervisor.store.open import open_store
from supervisor.store.protocol import AttemptError, Completion, Group, NewJob
from supervisor.store.sqlite.store import SqliteStore

NOW = 1_700_000_000_000
PAYLOAD = b'{"n": 12345, "text": "' + b"x" * 80 + b'"}'
BATCH = 16
ROUNDS = 200
COLD_ROUNDS = 12


def rules(queue: str) -> Discipline:
    """Queues are named after what they are."""
    if queue == "ordered":
        return Discipline(ordered=True, key_limits=(line_of(queue),), group=queue)
    if queue == "keyed":
        return Discipline(key_limits=(Limit("key:keyed", concurrency=1),), group=queue)
    return Discipline(group="tenant_*" if queue.startswith("tenant_") else queue)


class Case:
    """One database and what is leased from it."""

    def __init__(self, name: str, queue: str, fill: Callable[[SqliteStore], None], *, same_as: str) -> None:
        self.name = name
        self.queue = queue
        self.fill = fill
        self.same_as = same_as


def put(
    store: SqliteStore, queue: str, jobs: int, key: Callable[[int], str] = lambda _: "", due: int | None = None
) -> None:
    """Enqueue jobs, ten thousand in a transaction."""
    for begin in range(0, jobs, 10_000):
        with store.transaction(NOW) as tx:
            count = min(10_000, jobs - begin)
            new = [NewJob(PAYLOAD, due_at_ms=due, key=key(begin + number)) for number in range(count)]
            tx.insert([Group(queue, new)])


def finish(store: SqliteStore, queue: str, jobs: int) -> None:
    """Run jobs of a queue."""
    while jobs > 0:
        with store.transaction(NOW) as tx:
            lease = tx.lease(queue, 1, min(jobs, 1000), 1 << 40)
            assert lease is not None
            tx.complete(lease.token, [Completion(job.id, NOW, NOW) for job in lease.jobs])
            jobs -= len(lease.jobs)


def block(store: SqliteStore, queue: str, jobs: int, keys: int) -> None:
    """Fill keys whose heads have failed: all of it waits."""
    put(store, queue, keys, key=lambda number: f"blocked{number}")
    left = keys
    while left > 0:
        with store.transaction(NOW) as tx:
            lease = tx.lease(queue, 1, 200, 1 << 40)
            assert lease is not None
            for job in lease.jobs:
                tx.reschedule(lease.token, job.id, NOW + 10**9, History(1), AttemptError("error", "x"), solo=False)
            left -= len(lease.jobs)
    put(store, queue, jobs - keys, key=lambda number: f"blocked{number % keys}")


def saturate(store: SqliteStore, queue: str, jobs: int) -> None:
    """One key, whose only slot is taken, in front of all others."""
    put(store, queue, jobs, key=lambda _: "saturated")
    with store.transaction(NOW) as tx:
        assert tx.lease(queue, 2, 1, 1 << 40)


def tenants(store: SqliteStore, queues: int) -> None:
    """Many queues that exist and are empty."""
    for begin in range(0, queues, 500):
        with store.transaction(NOW) as tx:
            groups = [Group(f"tenant_{begin + number}", [NewJob(PAYLOAD)]) for number in range(500)]
            ids = [answer.ids[0] for answer in tx.insert(groups)]
            for job_id in ids:
                tx.cancel(job_id)
            tx.remove(ids)


def cases(many: int) -> list[Case]:
    """The cases; those with keys are compared with few keys."""
    few = 10_000

    def plain(jobs: int) -> Callable[[SqliteStore], None]:
        return lambda store: put(store, "plain", jobs)

    def keyed(jobs: int, keys: int) -> Callable[[SqliteStore], None]:
        return lambda store: put(store, "keyed", jobs, key=lambda number: f"k{number % keys}")

    def behind(fill: Callable[[SqliteStore], None], queue: str, keys: int) -> Callable[[SqliteStore], None]:
        def both(store: SqliteStore) -> None:
            fill(store)
            put(store, queue, few, key=lambda number: f"k{number % keys}" if keys else "")

        return both

    part = many // 10

    def ended(store: SqliteStore) -> None:
        put(store, "plain", 9 * part // 5)
        finish(store, "plain", 9 * part // 5)

    return [
        Case("10,000 waiting", "plain", plain(few), same_as="10,000 waiting"),
        Case(f"{many:,} waiting", "plain", plain(many), same_as="10,000 waiting"),
        Case("90 % scheduled", "plain", behind(lambda s: put(s, "plain", 9 * part, due=NOW + 10**9), "plain", 0),
             same_as="10,000 waiting"),
        Case("90 % finished", "plain", behind(ended, "plain", 0), same_as="10,000 waiting"),
        Case("10,000 queues, one has work", "tenant_7", behind(lambda s: tenants(s, 10_000), "tenant_7", 0),
             same_as="10,000 waiting"),
        Case("100 keys", "keyed", keyed(few, 100), same_as="100 keys"),
        Case("100,000 keys", "keyed", keyed(max(many // 10, 100_000), 100_000), same_as="100 keys"),
        Case("a saturated key in front", "keyed", behind(lambda s: saturate(s, "keyed", part), "keyed", 100),
             same_as="100 keys"),
        Case("100 keys, ordered", "ordered", lambda s: put(s, "ordered", few, key=lambda n: f"k{n % 100}"),
             same_as="100 keys, ordered"),
        Case("90 % blocked, ordered", "ordered",
             behind(lambda s: block(s, "ordered", 9 * part // 5, 1000), "ordered", 100),
             same_as="100 keys, ordered"),
    ]  # fmt: skip


def leases(store: SqliteStore, queue: str, rounds: int) -> Iterator[float]:
    """Seconds of each round: one transaction that leases by the queue's group, and completes what it got."""
    for _ in range(rounds):
        begun = time.perf_counter()
        with store.transaction(NOW) as tx:
            name = tx.next_of(rules(queue).group)
            assert name == queue
            lease = tx.lease(name, 1, BATCH, 1 << 40)
            assert lease is not None
            tx.complete(lease.token, [Completion(job.id, NOW, NOW) for job in lease.jobs])
        yield (time.perf_counter() - begun) / len(lease.jobs)


@contextmanager
def opened(path: Path) -> Iterator[SqliteStore]:
    store = open_store(str(path), "relaxed", create=True, migrate=True)
    store.govern(rules)
    try:
        yield store
    finally:
        store.close()


def drop_pages(path: Path) -> None:
    """Let the kernel forget the file, so that the next look reads it from the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="5,000,000 jobs in the large cases, not 200,000")
    parser.add_argument("--folder", type=Path, default=None)
    asked = parser.parse_args()
    many = 5_000_000 if asked.full else 200_000
    with tempfile.TemporaryDirectory(prefix="jobsup-lease-", dir=asked.folder) as folder:
        databases = {}
        for number, case in enumerate(cases(many)):
            databases[case.name] = Path(folder) / f"{number}.db"
            with opened(databases[case.name]) as store:
                case.fill(store)
        results: dict[str, tuple[float, float]] = {}
        for case in cases(many):
            path = databases[case.name]
            drop_pages(path)
            with opened(path) as store:
                cold = list(leases(store, case.queue, COLD_ROUNDS))
                warm = list(leases(store, case.queue, ROUNDS))
            results[case.name] = statistics.median(warm) * 1e6, statistics.median(cold) * 1e6
        print(f"{'case':32} {'warm us/job':>12} {'ratio':>6} {'cold us/job':>12} {'ratio':>6}")
        for case in cases(many):
            found, base = results[case.name], results[case.same_as]
            ratios = found[0] / base[0], found[1] / base[1]
            print(f"{case.name:32} {found[0]:12.1f} {ratios[0]:6.2f} {found[1]:12.1f} {ratios[1]:6.2f}")


if __name__ == "__main__":
    main()
