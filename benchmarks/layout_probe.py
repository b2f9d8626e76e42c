"""Does a backlog spoil the body layout? The same verbs on two databases that differ only in how many jobs wait.

`python -m benchmarks.layout_probe` builds both (about 2 GB, some minutes) and prints, for each thing that the daemon
or an operator does, what it takes with a short backlog, with a long one, and the ratio. Each round measures both
databases one after the other, so that what else the machine does hits both alike; a figure is the median of rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.report import Report, median, parser, workplace
from supervisor.job import State
from supervisor.policy.discipline import Discipline
from supervisor.policy.settle import History
from supervisor.store.open import open_store
from supervisor.store.protocol import AttemptError, Completion, Group, Lease, LeasedJob, NewJob, Owner, Tx
from supervisor.store.reader import Reader, connect_reader
from supervisor.store.sqlite.store import SqliteStore
from supervisor.unix.clock import wall_ms

PAYLOAD = b'{"to":"someone@example.com","subject":"An ordinary payload","body":"of about a hundred bytes, as usual"}'
PLENTY = 1 << 40
BATCH = 100
BUILD_BATCH = 10_000
RARE_EVERY = 10_000
"""One finished job in so many is dead, and one in so many belongs to a queue of its own."""

BUSY, RARE = "busy", "rare"


class Site(NamedTuple):
    """One database, with a writer and a reader on it."""

    store: SqliteStore
    reader: Reader
    owner: int


def by_arrival(queue: str) -> Discipline:
    return Discipline(group=queue)


def build(path: Path, waiting: int, finished: int) -> Site:
    """History first, then the backlog: the oldest ids are final, as they are in a queue that cannot keep up."""
    store = open_store(str(path), "relaxed", create=True, migrate=True)
    store.govern(by_arrival)
    with store.transaction(wall_ms()) as tx:
        owner = tx.own(Owner("host", "boot", 1, 1, 1, BUSY, "/", 1, 1))
    for begin in range(0, finished, BUILD_BATCH):
        _put(store, min(BUILD_BATCH, finished - begin))
        _finish(store, owner)
        if begin % (20 * BUILD_BATCH) == 0:
            store.checkpoint("TRUNCATE")
    for begin in range(0, waiting, BUILD_BATCH):
        _put(store, min(BUILD_BATCH, waiting - begin))
        if begin % (20 * BUILD_BATCH) == 0:
            store.checkpoint("TRUNCATE")
    store.close()
    store = open_store(str(path), "full", create=False, migrate=False)
    store.govern(by_arrival)
    return Site(store, Reader(connect_reader(str(path)), lambda _: None), owner)


def _put(store: SqliteStore, jobs: int) -> None:
    with store.transaction(wall_ms()) as tx:
        tx.insert([Group(BUSY, [NewJob(PAYLOAD)] * jobs)])
        if jobs >= RARE_EVERY:
            tx.insert([Group(RARE, [NewJob(PAYLOAD)])])


def _finish(store: SqliteStore, owner: int) -> None:
    now_ms = wall_ms()
    for queue in (BUSY, RARE):
        with store.transaction(now_ms) as tx:
            lease = tx.lease(queue, owner, BUILD_BATCH, PLENTY)
            if lease is None:
                continue
            ids = [job.id for job in lease.jobs]
            if queue == BUSY and len(ids) >= RARE_EVERY:
                error = AttemptError("error", "it broke", b"{}")
                tx.finish(lease.token, ids.pop(), State.DEAD, now_ms, "max_attempts", History(5), error)
            tx.complete(lease.token, _done(ids, now_ms))


def _done(ids: list[int], now_ms: int) -> list[Completion]:
    return [Completion(job_id, now_ms, now_ms) for job_id in ids]


# -- what is measured: each leaves the database as long as it was ----------------------------------------------------


def transact(site: Site, act: Callable[[Tx], Any], now_ms: int | None = None) -> Any:
    """One synced transaction."""
    with site.store.transaction(now_ms or wall_ms()) as tx:
        return act(tx)


def lease_hundred(site: Site) -> Lease:
    lease: Lease | None = transact(site, lambda tx: tx.lease(BUSY, site.owner, BATCH, PLENTY))
    assert lease is not None
    return lease


def insert(site: Site) -> Iterator[None]:
    group = Group(BUSY, [NewJob(PAYLOAD)] * BATCH)
    yield
    transact(site, lambda tx: tx.insert([group]))
    yield
    finish_hundred(site)


def refill(site: Site) -> None:
    """A hundred more wait, as many as were taken."""
    transact(site, lambda tx: tx.insert([Group(BUSY, [NewJob(PAYLOAD)] * BATCH)]))


def finish_hundred(site: Site) -> None:
    found = lease_hundred(site)
    transact(site, lambda tx: tx.complete(found.token, _done([job.id for job in found.jobs], wall_ms())))


def lease(site: Site) -> Iterator[None]:
    yield
    found = lease_hundred(site)
    yield
    transact(site, lambda tx: tx.release(found.token, [job.id for job in found.jobs]))


def complete(site: Site) -> Iterator[None]:
    found = lease_hundred(site)
    done = _done([job.id for job in found.jobs], wall_ms())
    yield
    transact(site, lambda tx: tx.complete(found.token, done))
    yield
    refill(site)


def turn(site: Site) -> Iterator[None]:
    """What the keeper does all day: settle what ended, lease the next, one commit."""
    found = lease_hundred(site)
    done = _done([job.id for job in found.jobs], wall_ms())
    yield
    with site.store.transaction(wall_ms()) as tx:
        tx.complete(found.token, done)
        following = tx.lease(BUSY, site.owner, BATCH, PLENTY)
    yield
    assert following is not None
    transact(site, lambda tx: tx.release(following.token, [job.id for job in following.jobs]))
    refill(site)


def retry(site: Site) -> Iterator[None]:
    """Each of a hundred fails and waits for its time; then all are due and come back."""
    found, now_ms = lease_hundred(site), wall_ms()
    error = AttemptError("error", "it broke", b'{"type":"ValueError"}')
    yield
    with site.store.transaction(now_ms) as tx:
        for job in found.jobs:
            tx.reschedule(found.token, job.id, now_ms, History(1), error, solo=False)
    transact(site, lambda tx: tx.promote(BATCH), now_ms)


def prune(site: Site) -> Iterator[None]:
    """The oldest hundred final jobs, found and removed."""
    yield

    def remove(tx: Tx) -> None:
        tx.remove([job.id for job in tx.finished_after(0, BATCH, wall_ms() + 1)[0]])

    transact(site, remove)
    yield
    finish_hundred(site)
    refill(site)


def look_at_final(site: Site) -> Iterator[None]:
    """One page of retention's walk in which nothing is old enough."""
    yield
    transact(site, lambda tx: tx.finished_after(500_000, 1_000, 0))


def list_page(**wanted: Any) -> Callable[[Site], Iterator[None]]:
    def listing(site: Site) -> Iterator[None]:
        yield
        list(site.reader.jobs(limit=50, **wanted))

    return listing


def list_running(site: Site) -> Iterator[None]:
    found = lease_hundred(site)
    yield
    assert len(list(site.reader.jobs(limit=50, state=State.RUNNING))) == 50
    yield
    transact(site, lambda tx: tx.release(found.token, [job.id for job in found.jobs]))


def one_job(site: Site) -> Iterator[None]:
    yield
    assert site.reader.job(5_000) or site.reader.job(500_000)


def summary(site: Site) -> Iterator[None]:
    yield
    site.reader.counts()
    site.reader.oldest_queued_ms()


def ids_of_rare(site: Site) -> Iterator[None]:
    """What `move` begins with: the ids of a queue, here one with few jobs."""
    yield
    transact(site, lambda tx: tx.ids_of(RARE, 0, 1_000))


def revive(site: Site) -> Iterator[None]:
    """A hundred dead ones, as `dead retry` does it; they end again."""
    found = transact(site, lambda tx: tx.dead_after(0, BATCH))
    yield

    def all_of_them(tx: Tx) -> None:
        for job in found:
            tx.revive(job.id)

    transact(site, all_of_them)


def move(site: Site) -> Iterator[None]:
    """A hundred of those that wait go to another queue, and back."""
    ids = [job.id for job in first_hundred(site)]
    yield
    transact(site, lambda tx: tx.move(BUSY, RARE, ids))
    yield
    transact(site, lambda tx: tx.move(RARE, BUSY, ids))


def first_hundred(site: Site) -> Sequence[LeasedJob]:
    """The first hundred in line, handed back."""
    found = lease_hundred(site)
    transact(site, lambda tx: tx.release(found.token, [job.id for job in found.jobs]))
    return found.jobs


def cancel(site: Site) -> Iterator[None]:
    (job_id,) = transact(site, lambda tx: tx.insert([Group(BUSY, [NewJob(PAYLOAD)])]))[0].ids
    yield
    transact(site, lambda tx: tx.cancel(job_id))


# Reviving comes last: what it takes from the dead, their listing would miss.
MEASURED: dict[str, tuple[Callable[[Site], Iterator[None]], int]] = {
    "insert 100": (insert, 100),
    "lease 100": (lease, 100),
    "complete 100": (complete, 100),
    "complete 100 and lease 100": (turn, 100),
    "fail 100 and promote 100": (retry, 40),
    "remove the oldest 100 final": (prune, 40),
    "look at 1,000 final for retention": (look_at_final, 40),
    "cancel one": (cancel, 40),
    "move 100": (move, 40),
    "status of one": (one_job, 40),
    "counts and oldest": (summary, 40),
    "list 50": (list_page(), 20),
    "list 50 of a queue": (list_page(queue=BUSY), 20),
    "list 50 queued": (list_page(state=State.QUEUED), 20),
    "list 50 completed of a queue": (list_page(queue=BUSY, state=State.COMPLETED), 20),
    "list 50 running": (list_running, 5),
    "list 50 scheduled (there are none)": (list_page(state=State.SCHEDULED), 3),
    "list 50 dead (1 final in 10,000)": (list_page(queue=BUSY, state=State.DEAD), 5),
    "list 50 of a rare queue": (list_page(queue=RARE), 3),
    "list 50 completed of a rare queue": (list_page(queue=RARE, state=State.COMPLETED), 5),
    "ids of a rare queue, to move it": (ids_of_rare, 3),
    "revive 100 dead": (revive, 1),
}


def measure_ms(what: Callable[[Site], Iterator[None]], site: Site) -> float:
    """One sample: a measured thing sets up until its first yield, is timed until its second, then tidies up."""
    steps = what(site)
    next(steps)
    begun = time.perf_counter()
    next(steps, None)
    spent_ms = (time.perf_counter() - begun) * 1000
    next(steps, None)
    return spent_ms


def main() -> None:
    """Build, measure, print."""
    asked = parser(__doc__ or "")
    asked.add_argument("--short", type=int, default=10_000, help="jobs that wait in the one database (%(default)s)")
    asked.add_argument("--long", type=int, default=5_000_000, help="jobs that wait in the other (%(default)s)")
    asked.add_argument("--finished", type=int, default=1_000_000, help="final jobs in each (%(default)s)")
    chosen = asked.parse_args()
    with workplace(chosen.dir) as folder:
        report = Report("layout", f"{chosen.long:,} jobs waiting against {chosen.short:,}, {chosen.finished:,} final")
        sites = [
            build(Path(folder) / f"{name}.db", waiting, chosen.finished)
            for name, waiting in (("short", chosen.short), ("long", chosen.long))
        ]
        for name, (what, rounds) in MEASURED.items():
            samples = [[measure_ms(what, site) for site in sites] for _ in range(rounds)]
            short, long = (median(column) for column in zip(*samples, strict=True))
            report.add(name, long / short, "times", f"{short:.3f} ms, {long:.3f} ms")
            for site in sites:
                site.store.checkpoint("TRUNCATE")
        report.print(Path(folder), as_json=chosen.json)
        for site in sites:
            site.store.close()


if __name__ == "__main__":
    main()
