"""The verbs on SQLite. Cost per job decides the speed of everything, so batches are set-based where that pays.

What is kept in memory between transactions (lanes, sequences, open leases) is a cache: `Cache.load` rebuilds it
from rows whenever another connection wrote or a transaction failed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import msgspec

from supervisor.errors import UnknownJob
from supervisor.job import Event, State, after
from supervisor.policy.settle import History
from supervisor.store.protocol import (
    FRESH,
    SOLO,
    TRAILED,
    AttemptError,
    Completion,
    Facts,
    Finished,
    Group,
    Held,
    Inserted,
    Lease,
    LeasedJob,
    NewJob,
    OpenLease,
    Owner,
    RankOf,
    Standing,
)
from supervisor.store.sqlite.statements import SQL

encode = msgspec.json.encode
ZERO = History()
FEW = 16
"""So few ids are looked up in each lease one by one; of more, whole sets are compared."""
PLAIN_RUN_MS = 2**20
"""Completed first attempts without a result, of shorter runs than this, are written by one statement, each as one
number that holds start and run time: less than half the cost. complete_plain.sql takes the number apart."""


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


class Cache:
    """What the rows say, kept between transactions; never believed after another connection wrote."""

    def __init__(self, connection: Any) -> None:
        self.lanes: dict[str, int] = {}
        self.queues: dict[int, str] = {}
        self.paused: set[str] = set()
        self.leases: dict[int, OpenLease] = {}
        self.sequences: dict[str, int] = {}
        self.tally: Counter[tuple[int, str]] = Counter()
        self._load(connection)

    def _load(self, connection: Any) -> None:
        for lane, queue, paused in connection.execute(SQL.lanes):
            self.note_lane(lane, queue.decode())
            if paused:
                self.paused.add(queue.decode())
        self.sequences = {name.decode(): value for name, value in connection.execute(SQL.sequences)}
        for lane, state, jobs in connection.execute(SQL.tally_of_lanes):
            self.tally[lane, state.decode()] = jobs
        rows = connection.execute(SQL.lease_open).fetchall()
        for token, group in groupby(rows, key=lambda row: row[0]):
            jobs = list(group)
            decoded = (msgspec.json.decode(row[3]) for row in jobs)
            held = {job_id: Held(*place) for job_id, *place in decoded}
            self.leases[token] = OpenLease(token, jobs[0][1], jobs[0][2], held)

    def note_lane(self, lane: int, queue: str) -> None:
        """Remember a lane by both its names."""
        self.lanes[queue] = lane
        self.queues[lane] = queue


class Transaction:
    """One transaction; made by the store, which commits it."""

    def __init__(self, connection: Any, cache: Cache, now_ms: int) -> None:
        self._db = connection
        self._cache = cache
        self._now_ms = now_ms
        self._tally: Counter[tuple[int, str]] = Counter()
        self._sequences_before = dict(cache.sequences)
        self._rewritten: set[int] = set()
        self._touched: set[int] = set()
        self.earliest_due_ms: int | None = None

    # -- inserting ---------------------------------------------------------------------------------------------

    def insert(self, groups: Sequence[Group], rank_of: RankOf) -> list[Inserted]:
        """Insert groups; a group whose key is known is not inserted again."""
        jobs: list[tuple[Any, ...]] = []
        ready: list[tuple[Any, ...]] = []
        scheduled: list[tuple[int, int]] = []
        answers: list[Inserted] = []
        now: dict[str, Inserted] = {}
        for group in groups:
            key = group.key
            answer = (now.get(key) or self.known_request(key)) if key else None
            if answer is None:
                answer = self._insert_group(group, rank_of, jobs, ready, scheduled)
                if key:
                    now[key] = answer._replace(repeated=True)
            answers.append(answer)
        self._db.executemany(SQL.insert_job, jobs)
        self._db.executemany(SQL.insert_ready, ready)
        if scheduled:
            self._db.executemany(SQL.insert_scheduled, scheduled)
        return answers

    def _insert_group(
        self, group: Group, rank_of: RankOf, jobs: list[Any], ready: list[Any], scheduled: list[Any]
    ) -> Inserted:
        lane, now_ms = self.lane_of(group.queue), self._now_ms
        ids = group.ids if group.ids is not None else self.reserve(len(group.jobs))
        sequence = self._take("next_sequence", len(group.jobs))
        states: list[State] = []
        for job_id, job in zip(ids, group.jobs, strict=True):
            band, pos = rank_of(group.queue, job.priority, sequence)
            sequence += 1
            later = job.due_at_ms is not None and job.due_at_ms > now_ms
            if job.due_at_ms is not None and later:
                scheduled.append((job.due_at_ms, job_id))
                self._note_due(job.due_at_ms)
                states.append(after(None, Event.ENQUEUE_LATER))
            else:
                ready.append((lane, band, pos, job_id, FRESH))
                states.append(State.QUEUED)
            jobs.append(self._job_row(job_id, lane, band, pos, job, later=later))
        waiting = states.count(State.SCHEDULED)
        self._count(lane, State.SCHEDULED, waiting)
        self._count(lane, State.QUEUED, len(states) - waiting)
        if group.key:
            self._db.execute(SQL.request_put, (group.key, now_ms, ids[0] if ids else 0, len(ids)))
        return Inserted(ids, states)

    def _job_row(self, job_id: int, lane: int, band: int, pos: int, job: NewJob, *, later: bool) -> tuple[Any, ...]:
        return (
            job_id, lane, band, pos, job.priority, self._now_ms, job.due_at_ms if later else None,
            text(job.options), job.payload.decode(),
        )  # fmt: skip

    def known_request(self, key: str) -> Inserted | None:
        """Where a group with this key went before; None if there was none."""
        row = self._db.execute(SQL.request_get, (key,)).fetchone()
        if row is None:
            return None
        ids = range(row[0], row[0] + row[1])
        standing = self.standing(ids)
        return Inserted(ids, [standing[i].state if i in standing else State.COMPLETED for i in ids], repeated=True)

    def reserve(self, count: int) -> range:
        """Ids that will not be given to anyone else."""
        first = self._take("next_id", count)
        return range(first, first + count)

    def _take(self, name: str, count: int) -> int:
        first = self._cache.sequences[name]
        self._cache.sequences[name] = first + count
        return first

    def lane_of(self, queue: str) -> int:
        """The queue's lane, made if it is new."""
        lane = self._cache.lanes.get(queue)
        if lane is None:
            lane = int(self._db.execute(SQL.lane_make, (queue,)).fetchone()[0])
            self._cache.note_lane(lane, queue)
        return lane

    # -- leasing -----------------------------------------------------------------------------------------------

    def lease(self, queue: str, owner: int, jobs_max: int, bytes_max: int, *, solo: bool = True) -> Lease | None:
        """Hand out the first jobs of a queue; None if it is empty or paused, or a solo job is next and may not."""
        lane = self._cache.lanes.get(queue)
        if lane is None or queue in self._cache.paused:
            return None
        rows = _fitting(self._db.execute(SQL.lease_select, (lane, jobs_max)), bytes_max)
        if not rows or (rows[0][3] == SOLO and not solo):
            return None
        trails = self._trails([row[0] for row in rows if row[3]]) if any(row[3] for row in rows) else {}
        jobs = [_leased(row, trails.get(row[0])) for row in rows]
        token = self._take("next_token", 1)
        self._db.execute(SQL.lease_take, (lane, rows[-1][1], rows[-1][2]))
        stored = encode([(job.id, job.band, job.pos, job.mark, job.attempt) for job in jobs]).decode()
        self._db.execute(SQL.lease_insert, (token, owner, lane, self._now_ms, stored))
        held = {job.id: Held(job.band, job.pos, job.mark, job.attempt) for job in jobs}
        self._cache.leases[token] = OpenLease(token, owner, lane, held)
        self._count(lane, State.QUEUED, -len(jobs))
        self._count(lane, State.RUNNING, len(jobs))
        return Lease(token, owner, lane, jobs)

    def leased_jobs(self, token: int) -> Lease | None:
        """An open lease with its jobs' bodies, to send it anew."""
        lease = self._cache.leases.get(token)
        if lease is None or not lease.jobs:
            return None
        bodies = {row[0]: row for row in self._db.execute(SQL.bodies, (encode(list(lease.jobs)).decode(),))}
        trails = self._trails([job_id for job_id, held in lease.jobs.items() if held.mark])
        jobs = [
            _leased((job_id, held.band, held.pos, held.mark, *bodies[job_id][1:]), trails.get(job_id))
            for job_id, held in lease.jobs.items()
            if job_id in bodies
        ]
        return Lease(token, lease.owner, lease.lane, jobs)

    def open_leases(self) -> Mapping[int, OpenLease]:
        """Every open lease by token."""
        return self._cache.leases

    def _trails(self, ids: Sequence[int]) -> dict[int, tuple[Any, ...]]:
        if not ids:
            return {}
        return {row[0]: row for row in self._db.execute(SQL.trail_of, (encode(list(ids)).decode(),))}

    # -- settling ----------------------------------------------------------------------------------------------

    def complete(self, token: int, done: Sequence[Completion]) -> list[int]:
        """Record completions; returns the ids that were not in the open lease."""
        lease = self._cache.leases.get(token)
        if lease is None:
            return [job.id for job in done]
        held, rows, stale = lease.jobs, [], []
        plain: dict[int, int] = {}
        for job_id, started_at, finished_at, result in done:
            place = held.pop(job_id, None)
            run_ms = finished_at - started_at
            if place is None:
                stale.append(job_id)
            elif result is None and place.attempt == 1 and 0 <= run_ms < PLAIN_RUN_MS:
                plain[job_id] = started_at * PLAIN_RUN_MS + run_ms
            else:
                rows.append((job_id, place.attempt, token, started_at, finished_at, text(result)))
        if plain:
            self._db.execute(SQL.complete_plain, (token, encode(plain).decode()))
        self._db.executemany(SQL.complete, rows)
        self._ended(lease, State.COMPLETED, len(plain) + len(rows))
        return stale

    def finish(
        self, token: int, job_id: int, state: State, started_at_ms: int | None, reason: str | None,
        history: History, error: AttemptError | None,
    ) -> bool:  # fmt: skip
        """Record any other end of a leased job; False if the lease does not hold it."""
        lease = self._cache.leases.get(token)
        place = lease.jobs.pop(job_id, None) if lease else None
        if lease is None or place is None:
            return False
        row = (job_id, state.value, place.attempt, token, started_at_ms, self._now_ms, reason)
        self._db.execute(SQL.finish, row)
        if error or history != ZERO:
            self._put_trail(job_id, history, place, None, error, solo=False)
        self._put_error(job_id, place.attempt, error)
        self._ended(lease, state, 1)
        return True

    def reschedule(
        self, token: int, job_id: int, due_at_ms: int, history: History, error: AttemptError | None, *, solo: bool
    ) -> bool:
        """Give a leased job a new time; False if the lease does not hold it."""
        lease = self._cache.leases.get(token)
        place = lease.jobs.pop(job_id, None) if lease else None
        if lease is None or place is None:
            return False
        self._put_trail(job_id, history, place, due_at_ms, error, solo=solo)
        self._put_error(job_id, place.attempt, error)
        self._db.execute(SQL.insert_scheduled, (due_at_ms, job_id))
        self._note_due(due_at_ms)
        self._rewritten.add(token)
        self._ended(lease, State.SCHEDULED, 1)
        return True

    def release(self, token: int, ids: Iterable[int]) -> list[int]:
        """Hand unstarted jobs back to the place they had; returns those that the lease held."""
        lease = self._cache.leases.get(token)
        if lease is None:
            return []
        places = [(job_id, lease.jobs.pop(job_id)) for job_id in ids if job_id in lease.jobs]
        self._db.executemany(
            SQL.insert_ready, [(lease.lane, place.band, place.pos, job_id, place.mark) for job_id, place in places]
        )
        if places:
            self._rewritten.add(token)
            self._ended(lease, State.QUEUED, len(places))
        return [job_id for job_id, _ in places]

    def interrupt(self, token: int, job_id: int, history: History, error: AttemptError) -> bool:
        """Hand a started job back to the place it had and count the interruption."""
        lease = self._cache.leases.get(token)
        place = lease.jobs.pop(job_id, None) if lease else None
        if lease is None or place is None:
            return False
        solo = place.mark == SOLO
        self._put_trail(job_id, history, place, None, error, solo=solo)
        self._put_error(job_id, place.attempt, error)
        mark = SOLO if solo else TRAILED
        self._db.execute(SQL.insert_ready, (lease.lane, place.band, place.pos, job_id, mark))
        self._rewritten.add(token)
        self._ended(lease, State.QUEUED, 1)
        return True

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

    # -- time --------------------------------------------------------------------------------------------------

    def promote(self, jobs_max: int, rank_of: RankOf) -> int:
        """Make due jobs ready, in the order of their times; returns how many."""
        rows = self._db.execute(SQL.due, (self._now_ms, jobs_max)).fetchall()
        sequence = self._take("next_sequence", len(rows)) if rows else 0
        for due_at, job_id, lane, priority, queue, *rest in rows:
            band, pos = rank_of(queue.decode(), priority, sequence)
            sequence += 1
            history, trailed, solo = History(*rest[:3]), rest[3], rest[4]
            if trailed:
                self._db.execute(SQL.trail_rank, (job_id, band, pos))
            else:
                self._put_trail(job_id, history, Held(band, pos, FRESH, 1), None, None, solo=False)
            self._db.execute(SQL.insert_ready, (lane, band, pos, job_id, SOLO if solo else TRAILED))
            self._db.execute(SQL.due_remove, (due_at, job_id))
            self._count(lane, State.SCHEDULED, -1)
            self._count(lane, State.QUEUED, 1)
        return len(rows)

    def _note_due(self, due_at_ms: int) -> None:
        if self.earliest_due_ms is None or due_at_ms < self.earliest_due_ms:
            self.earliest_due_ms = due_at_ms

    def next_due_ms(self) -> int | None:
        """When the next scheduled job is due."""
        row = self._db.execute(SQL.due_next).fetchone()
        return None if row is None or row[0] is None else int(row[0])

    # -- owners ------------------------------------------------------------------------------------------------

    def own(self, owner: Owner) -> int:
        """Store an owner, or what changed of it; returns its id."""
        row = self._db.execute(
            SQL.owner_put,
            (owner.host, owner.boot, owner.epoch, owner.slot, owner.incarnation, owner.pool, owner.directory,
             owner.pid, owner.start_time),
        ).fetchone()  # fmt: skip
        return int(row[0])

    def owners(self) -> list[Owner]:
        """Every stored owner."""
        return [
            Owner(
                host.decode(), boot.decode(), epoch, slot, incarnation, pool.decode(), directory.decode(), pid, start,
                owner, sequence, offset,
            )
            for owner, host, boot, epoch, slot, incarnation, pool, directory, pid, start, sequence, offset
            in self._db.execute(SQL.owners).fetchall()
        ]  # fmt: skip

    def advance(self, owner: int, sequence: int, offset: int) -> None:
        """Record how far an owner's ring has been read."""
        self._db.execute(SQL.owner_advance, (owner, sequence, offset))

    def disown(self, owner: int) -> None:
        """Forget an owner that holds no lease any more."""
        self._db.execute(SQL.owner_delete, (owner,))

    # -- asking and operating ----------------------------------------------------------------------------------

    def facts(self, ids: Iterable[int]) -> dict[int, Facts]:
        """What decides about these jobs."""
        rows = self._db.execute(SQL.facts, (encode(list(ids)).decode(),))
        return {
            job_id: Facts(job_id, queue.decode(), priority, options, History(failures, crashes, broken), cancel_at)
            for job_id, queue, priority, options, failures, crashes, broken, cancel_at in rows
        }

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

    def cancel(self, job_id: int) -> State:
        """Cancel a job that is not final; a running one when its run ends. Returns the state it has now."""
        row, state = self._place(job_id)
        after(state, Event.CANCEL)
        if state is State.RUNNING:
            self._db.execute(SQL.trail_cancel, (job_id, self._now_ms))
            return state
        if state is State.SCHEDULED:
            self._db.execute(SQL.due_remove, (row.due_at, job_id))
        else:
            self._db.execute(SQL.ready_remove, (row.lane, row.band, row.pos, job_id))
        ended = (job_id, "cancelled", row.history.attempt - 1, 0, None, self._now_ms, "cancelled by a client")
        self._db.execute(SQL.finish, ended)
        self._count(row.lane, state, -1)
        self._count(row.lane, State.CANCELLED, 1)
        return State.CANCELLED

    def revive(self, job_id: int, rank_of: RankOf) -> None:
        """Make a final or scheduled job ready anew, with fresh budgets."""
        row, state = self._place(job_id)
        after(state, Event.REVIVE)
        if state is State.SCHEDULED:
            self._db.execute(SQL.due_remove, (row.due_at, job_id))
        else:
            self._drop_outcomes([job_id])
        rank = rank_of(row.queue.decode(), row.priority, self._take("next_sequence", 1))
        self._put_trail(job_id, ZERO, Held(*rank, TRAILED, 1), None, None, solo=False)
        self._db.execute(SQL.cancel_withdraw, (job_id,))
        self._db.execute(SQL.insert_ready, (row.lane, *rank, job_id, TRAILED))
        self._count(row.lane, state, -1)
        self._count(row.lane, State.QUEUED, 1)

    def _drop_outcomes(self, ids: Sequence[int]) -> None:
        """Delete outcomes, and take their jobs out of the open leases that still name them.

        A lease's row keeps the ids that ended with an outcome: without the outcome they would seem held.
        """
        listed = encode(ids).decode()
        tokens = {row[0] for row in self._db.execute(SQL.outcome_tokens, (listed,))}
        self._rewritten |= tokens
        self._touched |= tokens
        self._db.execute(SQL.prune_outcome, (listed,))

    def move(self, old: str, new: str, ids: Sequence[int], rank_of: RankOf) -> int:
        """Move jobs that are not running to another queue; returns how many could be moved."""
        target = self.lane_of(new)
        source = old.encode()
        moved = 0
        for row, state, _ in self._places(ids):
            if row.queue != source or state is State.RUNNING:
                continue
            self._db.execute(SQL.move_jobs, (row.id, target))
            if state is State.QUEUED:
                self._db.execute(SQL.ready_remove, (row.lane, row.band, row.pos, row.id))
                rank = rank_of(new, row.priority, self._take("next_sequence", 1))
                mark = SOLO if row.solo else TRAILED
                self._put_trail(row.id, row.history, Held(*rank, mark, 1), None, None, solo=bool(row.solo))
                self._db.execute(SQL.insert_ready, (target, *rank, row.id, mark))
            self._count(row.lane, state, -1)
            self._count(target, state, 1)
            moved += 1
        return moved

    def ids_of(self, queue: str, after_id: int, jobs_max: int) -> list[int]:
        """Ids of a queue's jobs in ascending order."""
        lane = self._cache.lanes.get(queue, 0)
        return [row[0] for row in self._db.execute(SQL.ids_of_lane, (lane, after_id, jobs_max))]

    def pause(self, queue: str, *, paused: bool) -> None:
        """Stop or resume leasing of a queue."""
        self.lane_of(queue)
        self._db.execute(SQL.lane_pause, (queue, int(paused)))
        (self._cache.paused.add if paused else self._cache.paused.discard)(queue)

    def paused(self, queue: str) -> bool:
        """Whether the queue is paused."""
        return queue in self._cache.paused

    def finished_after(self, job_id: int, jobs_max: int) -> list[Finished]:
        """Final jobs in the order of their ids."""
        return _finished(self._db.execute(SQL.finished_after, (job_id, jobs_max)))

    def dead_after(self, job_id: int, jobs_max: int) -> list[Finished]:
        """Dead jobs in the order of their ids."""
        return _finished(self._db.execute(SQL.ended_after, (State.DEAD.value, job_id, jobs_max)))

    def remove(self, ids: Sequence[int]) -> int:
        """Delete final jobs with all that is known of them; returns how many."""
        final = [standing for standing in self.standing(ids).values() if standing.state.final]
        found = [standing.id for standing in final]
        self._drop_outcomes(found)
        listed = encode(found).decode()
        for statement in (SQL.prune_attempt, SQL.prune_trail, SQL.prune_job):
            self._db.execute(statement, (listed,))
        for standing in final:
            self._count(self._cache.lanes[standing.queue], standing.state, -1)
        return len(final)

    def forget_requests(self, before_ms: int, rows_max: int) -> int:
        """Forget the keys of old groups, and of those from days to come: their clock was wrong."""
        tomorrow_ms = self._now_ms + 86_400_000
        return int(self._db.execute(SQL.request_forget, (before_ms, rows_max, tomorrow_ms)).rowcount)

    def waiting(self, queue: str) -> int:
        """Jobs of a queue that are ready and could be leased now: 0 while it is paused."""
        lane = self._cache.lanes.get(queue)
        if lane is None or queue in self._cache.paused:
            return 0
        key = (lane, State.QUEUED.value)
        return self._cache.tally[key] + self._tally[key]

    def count_stale(self, count: int) -> None:
        """Count reports that changed nothing."""
        self._db.execute(SQL.stale_add, (count,))

    def setting(self, name: str) -> int:
        """A stored number."""
        return int(self._db.execute(SQL.meta_get, (name,)).fetchone()[0])

    def set_setting(self, name: str, value: int) -> None:
        """Store a number."""
        self._db.execute(SQL.sequences_set, (name, value))

    def counts(self) -> dict[str, dict[State, int]]:
        """Jobs by queue and state."""
        found: dict[str, dict[State, int]] = {queue: dict.fromkeys(State, 0) for queue in self._cache.lanes}
        for queue, state, jobs in self._db.execute(SQL.tally).fetchall():
            found[queue.decode()][State(state.decode())] = jobs
        for (lane, name), jobs in self._tally.items():
            found[self._cache.queues[lane]][State(name)] += jobs
        return found

    # -- the end of the transaction ----------------------------------------------------------------------------

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

    def _count(self, lane: int, state: State, jobs: int) -> None:
        if jobs:
            self._tally[lane, state.value] += jobs


def _fitting(cursor: Any, bytes_max: int) -> list[tuple[Any, ...]]:
    """As many rows from the first as fit, at least one; a job marked solo comes alone. No more are read than that."""
    rows: list[tuple[Any, ...]] = []
    size = 0
    for row in cursor:
        size += len(row[8])
        if rows and (size > bytes_max or row[3] == SOLO):
            break
        rows.append(row)
        if row[3] == SOLO:
            break
    cursor.close()
    return rows


def _finished(rows: Any) -> list[Finished]:
    return [Finished(found, queue.decode(), State(state.decode()), ended_at) for found, queue, state, ended_at in rows]


def _leased(row: Sequence[Any], trail: tuple[Any, ...] | None) -> LeasedJob:
    job_id, band, pos, mark, priority, enqueued_at, due_at, options, payload = row
    attempt = 1 + trail[1] + trail[2] if trail else 1
    previous = trail[6] if trail else None
    return LeasedJob(
        job_id, attempt, priority, enqueued_at, due_at, options, payload, previous, band, pos, mark
    )  # fmt: skip
