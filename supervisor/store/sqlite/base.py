"""What all verbs rest on: the cache, the sequences, the counts, where jobs stand, what is written once at the end.

*Invariant:* whatever a verb changes in the cache it changes in the rows of the same transaction; a transaction that
fails takes the cache with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from supervisor.errors import UnknownJob
from supervisor.job import State
from supervisor.policy.rank import TICKS_PER_MS
from supervisor.policy.settle import History
from supervisor.store.protocol import AttemptError, Held, NewJob, OpenLease, Standing
from supervisor.store.sqlite.cache import Cache, Lane, QueueRow
from supervisor.store.sqlite.lanes import Lanes
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
    blocked: int

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
        if self.blocked:
            return State.BLOCKED
        return State.QUEUED if self.due_at is None else State.SCHEDULED


def stored_jobs(jobs: Mapping[int, Held]) -> str:
    """The jobs of a lease as its row keeps them; what most have in common is left out."""
    return encode(
        [(job_id, *(held[:6] if held[4:6] != (0, 1) else held[:4])) for job_id, held in jobs.items()]
    ).decode()


class Base(Lanes):
    """One transaction, without its verbs."""

    def __init__(self, connection: Any, cache: Cache, now_ms: int) -> None:
        super().__init__(connection, cache, now_ms)
        self._tally: Counter[tuple[int, str]] = Counter()
        self._sequences_before = dict(cache.sequences)
        self._rewritten: set[int] = set()
        self._final: list[int] = []
        """What ended while there are flows: a step of one, perhaps."""
        self._touched: set[int] = set()
        self.earliest_due_ms: int | None = None
        self.earliest_expiry_ms: int | None = None

    def _take(self, name: str, count: int) -> int:
        first = self._cache.sequences[name]
        self._cache.sequences[name] = first + count
        return first

    def _sequence(self, count: int) -> int:
        """The first of so many places in the order of becoming ready: it follows the clock and never goes back."""
        first = max(self._cache.sequences["next_sequence"], self._now_ms * TICKS_PER_MS)
        self._cache.sequences["next_sequence"] = first + count
        return first

    def _count(self, queue: QueueRow, state: State, jobs: int) -> None:
        if jobs:
            self._tally[queue.id, state.value] += jobs
            if state is State.QUEUED and jobs > 0:
                self._cache.wake(queue)

    def _counted(self, queue: QueueRow, state: State) -> int:
        """Jobs of the queue in this state, this transaction included."""
        key = (queue.id, state.value)
        return self._cache.tally[key] + self._tally[key]

    def _note_due(self, due_at_ms: int) -> None:
        if self.earliest_due_ms is None or due_at_ms < self.earliest_due_ms:
            self.earliest_due_ms = due_at_ms

    def _put_expiries(self, job_id: int, job: NewJob) -> None:
        for at, ttl in ((job.expires_at_ms, 1), (job.deadline_at_ms, 0)):
            if at is not None:
                self._db.execute(SQL.expiry_put, (at, job_id, ttl))
                self.earliest_expiry_ms = at if self.earliest_expiry_ms is None else min(at, self.earliest_expiry_ms)

    def standing(self, ids: Iterable[int]) -> dict[int, Standing]:
        """Where these jobs stand."""
        return {
            row.id: Standing(
                row.id, row.queue.decode(), state, row.history, *((lease.token, lease.owner) if lease else ())
            )
            for row, state, lease in self._places(ids)
        }

    def _places(self, ids: Iterable[int]) -> list[tuple[Place, State, OpenLease | None]]:
        """What the rows say of these jobs, each once, those of unknown ids left out: who asks may change them."""
        wanted = list(dict.fromkeys(ids))
        self._cache.graph.forget(wanted)
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

    def _unplace(self, row: Place, state: State) -> int | None:
        """Take a waiting job from where it stands; returns when it was due."""
        if state is State.SCHEDULED:
            self._db.execute(SQL.due_remove, (row.due_at, row.id))
        elif state is State.BLOCKED:
            self._db.execute(SQL.blocked_remove, (row.id,))
        else:
            self._db.execute(SQL.ready_remove, (row.lane, row.band, row.pos, row.id))
            self._mark(self._lane_of(row))
        return row.due_at

    def _lane_of(self, row: Place) -> Lane:
        home = self._cache.queues[row.queue.decode()].home
        return home if row.lane == home.id else self._lane_by_id(row.lane)

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
        queue = self._cache.queues[lease.queue]
        self._count(queue, State.RUNNING, -jobs)
        self._count(queue, state, jobs)
        self._touched.add(lease.token)

    def _note_final(self, ids: Iterable[int]) -> None:
        """These ended: what comes after them in a flow is to hear of it."""
        if self._cache.flows:
            self._final.extend(ids)

    def flush(self) -> None:
        """Write what is written once per transaction: lanes, leases that shrank, counts, sequences."""
        self._place_marked()
        for token in self._touched:
            lease = self._cache.leases.get(token)
            if lease is None:
                continue
            if not lease.jobs:
                self._db.execute(SQL.lease_delete, (token,))
                del self._cache.leases[token]
            elif token in self._rewritten:
                self._db.execute(SQL.lease_rewrite, (token, stored_jobs(lease.jobs)))
        if self._final:
            self._db.execute(SQL.ended_put, (encode(self._final).decode(), 0))
            self._cache.flows_left = True
        rows = [(queue, state, jobs) for (queue, state), jobs in self._tally.items() if jobs]
        self._db.executemany(SQL.tally_add, rows)
        self._cache.tally.update(self._tally)
        changed = [item for item in self._cache.sequences.items() if item[1] != self._sequences_before[item[0]]]
        self._db.executemany(SQL.sequences_set, changed)
