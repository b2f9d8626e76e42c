"""What all verbs rest on: the cache, the sequences, the counts, where jobs stand, what is written once at the end.

*Invariant:* whatever a verb changes in the cache it changes in the rows of the same transaction; a transaction that
fails takes the cache with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from supervisor.errors import UnknownJob
from supervisor.job import State
from supervisor.policy.settle import History
from supervisor.store.protocol import AttemptError, Held, OpenLease, Standing
from supervisor.store.sqlite.cache import Cache
from supervisor.store.sqlite.statements import SQL

encode = msgspec.json.encode
ZERO = History()
FEW = 16
"""So few ids are looked up in each lease one by one; of more, whole sets are compared."""


def text(data: bytes | None) -> str | None:
    """A column that the library gives as bytes, as text."""
    return None if data is None else data.decode()


class Place(NamedTuple):
    """Where a job's id stands: a row of stand.sql. `outcome` is the state of a final job."""

    id: int
    lane: int
    queue: bytes
    outcome: bytes | None
    band: int
    pos: int
    due_at: int | None
    priority: int
    solo: int
    failures: int
    crashes: int
    interruptions: int

    @property
    def history(self) -> History:
        """What its runs were charged to."""
        return History(self.failures, self.crashes, self.interruptions)

    def state(self, *, held: bool) -> State:
        """The state that follows from it; `held` says whether an open lease holds the job."""
        if self.outcome is not None:
            return State(self.outcome.decode())
        if held:
            return State.RUNNING
        return State.QUEUED if self.due_at is None else State.SCHEDULED


class Base:
    """One transaction, without its verbs."""

    def __init__(self, connection: Any, cache: Cache, now_ms: int) -> None:
        self._db = connection
        self._cache = cache
        self._now_ms = now_ms
        self._tally: Counter[tuple[int, str]] = Counter()
        self._sequences_before = dict(cache.sequences)
        self._rewritten: set[int] = set()
        self._touched: set[int] = set()
        self.earliest_due_ms: int | None = None
        self.earliest_expiry_ms: int | None = None

    def lane_of(self, queue: str) -> int:
        """The queue's lane, made if it is new."""
        lane = self._cache.lanes.get(queue)
        if lane is None:
            lane = int(self._db.execute(SQL.lane_make, (queue,)).fetchone()[0])
            self._cache.note_lane(lane, queue)
        return lane

    def _take(self, name: str, count: int) -> int:
        first = self._cache.sequences[name]
        self._cache.sequences[name] = first + count
        return first

    def _count(self, lane: int, state: State, jobs: int) -> None:
        if jobs:
            self._tally[lane, state.value] += jobs

    def _note_due(self, due_at_ms: int) -> None:
        if self.earliest_due_ms is None or due_at_ms < self.earliest_due_ms:
            self.earliest_due_ms = due_at_ms

    def standing(self, ids: Iterable[int]) -> dict[int, Standing]:
        """Where these jobs stand."""
        return {
            row.id: Standing(
                row.id, row.queue.decode(), state, row.history, *((lease.token, lease.owner) if lease else ())
            )
            for row, state, lease in self._places(ids)
        }

    def _places(self, ids: Iterable[int]) -> list[tuple[Place, State, OpenLease | None]]:
        """What the rows say of these jobs, each once, those of unknown ids left out."""
        wanted = list(dict.fromkeys(ids))
        found = []
        holders = self._holders(wanted)
        for row in map(Place._make, self._db.execute(SQL.stand, (encode(wanted).decode(),)).fetchall()):
            lease = None if row.outcome is not None else holders.get(row.id)
            found.append((row, row.state(held=lease is not None), lease))
        return found

    def _holders(self, ids: Sequence[int]) -> dict[int, OpenLease]:
        """Which open lease holds each of these jobs."""
        leases = self._cache.leases.values()
        if len(ids) < FEW:
            return {job_id: lease for lease in leases for job_id in ids if job_id in lease.jobs}
        sought = set(ids)
        return {job_id: lease for lease in leases for job_id in lease.jobs.keys() & sought}

    def _place(self, job_id: int) -> tuple[Place, State]:
        found = self._places([job_id])
        if not found:
            raise UnknownJob(f"there is no job {job_id}")
        row, state, _ = found[0]
        return row, state

    def _put_trail(
        self, job_id: int, history: History, place: Held, due_at_ms: int | None, error: AttemptError | None,
        *, solo: bool,
    ) -> None:  # fmt: skip
        message = error.message if error else None
        self._db.execute(SQL.trail_put, (job_id, *history, place.band, place.pos, due_at_ms, int(solo), message))

    def _put_error(self, job_id: int, attempt: int, error: AttemptError | None) -> None:
        if error:
            row = (job_id, attempt, self._now_ms, error.kind, error.message, text(error.detail))
            self._db.execute(SQL.attempt_put, row)

    def _ended(self, lease: OpenLease, state: State, jobs: int) -> None:
        self._count(lease.lane, State.RUNNING, -jobs)
        self._count(lease.lane, state, jobs)
        self._touched.add(lease.token)

    def flush(self) -> None:
        """Write what is written once per transaction: leases that shrank, counts, sequences."""
        for token in self._touched:
            lease = self._cache.leases.get(token)
            if lease is None:
                continue
            if not lease.jobs:
                self._db.execute(SQL.lease_delete, (token,))
                del self._cache.leases[token]
            elif token in self._rewritten:
                stored = encode([(job_id, *held) for job_id, held in lease.jobs.items()]).decode()
                self._db.execute(SQL.lease_rewrite, (token, stored))
        rows = [(lane, state, jobs) for (lane, state), jobs in self._tally.items() if jobs]
        self._db.executemany(SQL.tally_add, rows)
        self._cache.tally.update(self._tally)
        changed = [item for item in self._cache.sequences.items() if item[1] != self._sequences_before[item[0]]]
        self._db.executemany(SQL.sequences_set, changed)
