"""Who has which jobs: hand-outs, what is handed back, and the owners they are held by."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

import msgspec

from supervisor.job import State
from supervisor.policy.discipline import Discipline
from supervisor.policy.rank import Rank, Turn, charged, turn
from supervisor.store.protocol import SOLO, Held, Lease, LeasedJob, OpenLease, Owner
from supervisor.store.sqlite.base import encode, stored_jobs
from supervisor.store.sqlite.cache import Gate, Lane, QueueRow, lane_gates
from supervisor.store.sqlite.feeding import Feeding
from supervisor.store.sqlite.measuring import READY_AT, Measuring
from supervisor.store.sqlite.statements import SQL

Rows: TypeAlias = Sequence[Sequence[Any]]
Stories: TypeAlias = Sequence[bytes | None]

NONE: Stories = ()
PAGE_MAX = 64
BACKLOG_QUEUES = 100
PARKED_MAX = 256
"""Lanes that one lease may find without room: each is looked at once and then waits at its limit."""


class Ready(NamedTuple):
    """A ready job with what is handed out of it: a row of lease_select.sql."""

    id: int
    band: int
    pos: int
    mark: int
    priority: int
    enqueued_at: int
    due_at: int | None
    options: bytes | None
    payload: bytes

    @property
    def rank(self) -> Rank:
        """Where it stands in its lane."""
        return Rank(self.band, self.pos)


class Picked(NamedTuple):
    """A job that a lease takes."""

    lane: Lane
    job: Ready
    cost: int
    size: int
    story: bytes | None


class Leasing(Feeding, Measuring):
    """The verbs of leases and their owners."""

    def lease(self, queue: str, owner: int, jobs_max: int, bytes_max: int, *, solo: bool = True) -> Lease | None:
        """Hand out the first jobs of a queue that its limits let through; None if there are none, or it is paused."""
        self.gave_up = False
        row = self._cache.queues.get(queue)
        if row is None or row.paused or self._resting(row):
            return None
        self._place_marked()
        picked: list[Picked] = []
        if row.discipline.plain and not row.turns and not row.home.shut(ordered=False):
            jobs, stories = self._cut(row, jobs_max, bytes_max, solo=solo)
        else:
            picked = self._pick(row, jobs_max, bytes_max, solo=solo)
            jobs, stories = [each.job for each in picked], [each.story for each in picked]
        if not jobs:
            return None
        self._cache.served(row)
        return self._hand_out(row, owner, jobs, stories, picked)

    def _resting(self, queue: QueueRow) -> bool:
        """Whether a handler has said that nothing of this queue is wanted for some time."""
        if queue.shut_until_ms <= self._now_ms:
            return False
        self._cache.rest(queue)
        self._cache.nap(queue.shut_until_ms, queue.name)
        return True

    def _cut(self, queue: QueueRow, jobs_max: int, bytes_max: int, *, solo: bool) -> tuple[Rows, Stories]:
        """One cut through a lane that nothing limits, and what its jobs are told."""
        home = queue.home
        rows = _fitting(self._db.execute(SQL.lease_select, (home.id, jobs_max)), bytes_max)
        if not rows:
            self._cache.rest(queue)
        if not rows or (rows[0][3] == SOLO and not solo):
            return [], []
        stories: Stories = NONE
        if self._tells:
            stories = self._stories_fitting(rows, bytes_max)
            rows = rows[: len(stories)]
        last = rows[-1]
        self._db.execute(SQL.lease_cut, (home.id, last[1], last[2], last[0]))
        return rows, stories

    def _stories_fitting(self, rows: Sequence[tuple[Any, ...]], bytes_max: int) -> Stories:
        """What as many of these rows are told as fit with it, at least one."""
        known = self._all_remembered((row[0], row[3]) for row in rows)
        if known is not None and sum(map(len, known)) + sum(len(row[8]) for row in rows) <= bytes_max:
            return known
        size = 0
        told: list[bytes | None] = []
        with closing(self._stories([(row[0], row[7], row[3]) for row in rows])) as stories:
            for row, story in zip(rows, stories, strict=True):
                size += len(row[8]) + len(story or b"")
                if told and size > bytes_max:
                    break
                told.append(story)
        return told

    def _hand_out(
        self, queue: QueueRow, owner: int, rows: Rows, stories: Stories, picked: Sequence[Picked]
    ) -> Lease:  # fmt: skip
        """Write a lease of ready jobs, with what each is told, if any is.

        `picked` has the lane and the cost of each, nothing where all are plain.
        """
        trailed = [row[0] for row in rows if row[3] > 0]
        trails = self._trails(trailed) if trailed else {}
        jobs: list[LeasedJob] = []
        held: dict[int, Held] = {}
        for number, row in enumerate(rows):
            job_id, band, pos, mark, priority, enqueued_at, due_at, options, payload = row
            trail = trails.get(job_id) if mark > 0 else None
            attempt, previous, ready_at = 1, None, -mark if mark < 0 else due_at or enqueued_at
            if trail is not None:
                attempt, previous, ready_at = 1 + trail[1] + trail[2], trail[6], trail[READY_AT] or ready_at
            lane, cost, key = _placed(picked[number]) if picked else PLAIN_PLACE
            own_bytes = None
            story = stories[number] if stories else None
            if story is not None:
                payload, own_bytes = payload + story, len(payload)
            jobs.append(
                LeasedJob(job_id, attempt, priority, enqueued_at, due_at, options, payload, previous, band, pos, mark,
                          lane, cost, key, own_bytes)
            )  # fmt: skip
            held[job_id] = Held(band, pos, mark, attempt, lane, cost, ready_at)
        token = self._take("next_token", 1)
        self._db.execute(SQL.lease_insert, (token, owner, queue.id, self._now_ms, stored_jobs(held)))
        self._cache.leases[token] = OpenLease(token, owner, queue.name, held, self._now_ms)
        self._count(queue, State.QUEUED, -len(jobs))
        self._count(queue, State.RUNNING, len(jobs))
        return Lease(token, owner, queue.name, jobs)

    # -- where lanes take turns, or limits decide ----------------------------------------------------------------

    def _pick(self, queue: QueueRow, jobs_max: int, bytes_max: int, *, solo: bool) -> list[Picked]:
        """The first jobs of the first lanes, one after another as their turns come."""
        picked: list[Picked] = []
        parked = 0
        while len(picked) < jobs_max and parked < PARKED_MAX:
            merge = Merge(self, queue, jobs_max - len(picked))
            more = self._pick_from(merge, picked, jobs_max, bytes_max, solo=solo)
            parked += merge.parked
            self._take_picked(merge)
            if not (more and merge.parked):
                break
        self.gave_up = not picked and parked >= PARKED_MAX
        if not picked and not self.gave_up and not self._held_by_solo:
            self._cache.rest(queue)
        return picked

    gave_up = False
    """Whether the last lease found so many keys without room that it stopped: more may be had at once."""
    _held_by_solo = False
    """Whether the last pick found a job that must be leased alone, and could not be."""

    def _pick_from(
        self, merge: Merge, picked: list[Picked], jobs_max: int, bytes_max: int, *, solo: bool
    ) -> bool:  # fmt: skip
        """Take what comes next while it fits and the queue's limits allow; whether more could be looked for."""
        self._held_by_solo = False
        size = sum(each.size for each in picked)
        queue = merge.queue
        while len(picked) < jobs_max and (found := merge.next()) is not None:
            lane, job = found
            cost = _cost(queue.discipline, job.options)
            if picked and (size + len(job.payload) > bytes_max or job.mark == SOLO):
                return False
            if job.mark == SOLO and not solo:
                self._held_by_solo = True
                return False
            if not self._passes_lane(queue, lane, cost):
                merge.parked += bool(lane.key)  # a home lane is looked up each time, and would be found again
                continue
            if not self._passes_queue(queue, cost):
                return False
            story = self._story(job)
            own = len(job.payload) + len(story or b"")
            if picked and size + own > bytes_max:
                return False
            size += own
            self._grant(queue, lane.key, cost)
            picked.append(Picked(lane, job, cost, own, story))
            merge.took(lane, job)
            if job.mark == SOLO:
                return False
        return len(picked) < jobs_max

    def _story(self, job: Ready) -> bytes | None:
        """What a job that comes next would be told beside its payload."""
        if not self._tells:
            return None
        with closing(self._stories([(job.id, job.options, job.mark)])) as stories:
            return next(stories)

    def _passes_queue(self, queue: QueueRow, cost: int) -> bool:
        """Whether the limits of the whole queue let a job through; else the queue waits at the one that does not."""
        for limit in queue.discipline.limits:
            gate = (limit.name, "")
            until_ms = self._free_at_ms(gate, limit.concurrency, limit.rate, cost)
            if until_ms is None or until_ms > self._now_ms:
                self._stall(queue, gate, until_ms)
                return False
        return True

    def _passes_lane(self, queue: QueueRow, lane: Lane, cost: int) -> bool:
        """Whether the limits of the key let a job through; else its lane waits."""
        for gate, limit in lane_gates(queue.discipline, lane.key):
            until_ms = self._free_at_ms(gate, limit.concurrency, limit.rate, cost)
            if until_ms is None or until_ms > self._now_ms:
                if lane.key:
                    self._park(lane, gate, until_ms)
                    lane.turn, queue.turns = None, queue.turns - (lane.turn is not None)
                    self._changed[lane.id] = lane
                else:
                    self._stall(queue, gate, until_ms)
                return False
        return True

    def _stall(self, queue: QueueRow, gate: Gate, until_ms: int | None) -> None:
        """Let a queue wait for a limit: until somebody gives a slot back, or for a time."""
        self._cache.stalled.setdefault(gate, set()).add(queue.name)
        if until_ms is not None:
            self._cache.nap(until_ms, queue.name)

    def _take_picked(self, merge: Merge) -> None:
        """What was picked is ready no more; its lanes are placed anew."""
        self._db.executemany(SQL.lease_cut, merge.cuts())
        for lane in merge.last:
            lane_of_key = self._lane_by_id(lane)
            if merge.queue.discipline.order.fair:
                self._changed[lane] = lane_of_key
            self._mark(lane_of_key)
        if merge.clock > merge.queue.clock:
            merge.queue.clock = merge.clock
            self._changed_queues[merge.queue.id] = merge.queue
        self._place_marked()

    def first_lanes(self, queue: QueueRow, lanes_max: int) -> Iterator[tuple[Lane, Ready, Turn]]:
        """The lanes that come first, each with its first job; the home lane among them, if nothing shuts it."""
        for row in self._db.execute(SQL.lane_next, (queue.id, lanes_max)).fetchall():
            lane = self._lane_by_id(row[0])
            assert lane.turn is not None, "a lane in the index of turns has one"
            yield lane, Ready._make(row[1:]), lane.turn
        home = queue.home
        if not home.shut(ordered=queue.discipline.ordered):
            first = self._db.execute(SQL.lease_select, (home.id, 1)).fetchone()
            if first is not None:
                job = Ready._make(first)
                order = queue.discipline.order
                if not home.present:
                    home.present, home.vtime = True, max(home.vtime, queue.clock)
                    self._changed[home.id] = home
                yield home, job, turn(order, home.vtime, job.rank)
            elif home.present:
                home.present = False
                self._changed[home.id] = home

    def jobs_after(self, lane: Lane, job: Ready, jobs_max: int) -> list[Ready]:
        """The next jobs of a lane."""
        after = (lane.id, job.band, job.pos, job.id, jobs_max)
        return [Ready._make(row) for row in self._db.execute(SQL.lane_rest, after).fetchall()]

    # -- the rest ------------------------------------------------------------------------------------------------

    def next_of(self, group: str, passed: Collection[str] = ()) -> str | None:
        """A queue of the group in which something may be leased, none of those passed; who was served comes last."""
        active = self._cache.active.get(group)
        return next((name for name in active if name not in passed), None) if active else None

    def active_of(self, group: str) -> dict[str, int]:
        """The queues of a group in which something may be leased, as far as is known; who was served comes last.

        With how many jobs of each are ready. It is asked in every pass, of thousands of queues at once.
        """
        cache, queued = self._cache, State.QUEUED.value
        queues, before, since = cache.queues, cache.tally.get, self._tally.get
        keys = [(name, (queues[name].id, queued)) for name in cache.active.get(group, ())]
        return {name: before(key, 0) + since(key, 0) for name, key in keys}

    def solo_next(self, queue: str) -> bool:
        """Whether the job that comes first of a queue must be leased alone."""
        row = self._cache.queues.get(queue)
        if row is None:
            return False
        self._place_marked()
        if row.discipline.plain and not row.turns and not row.home.shut(ordered=False):
            first = self._db.execute(SQL.lease_select, (row.home.id, 1)).fetchone()
            return first is not None and first[3] == SOLO
        lanes = [(at, lane.id, job) for lane, job, at in self.first_lanes(row, 1)]
        return bool(lanes) and min(lanes)[2].mark == SOLO

    def others_of(self, group: str) -> bool:
        """Whether more than one queue of the group has something."""
        return len(self._cache.active.get(group, ())) > 1

    def queues_of(self, group: str) -> list[str]:
        """The queues of a group that exist."""
        return [name for name, queue in self._cache.queues.items() if queue.discipline.group == group]

    def backlog(self, group: str) -> int:
        """Jobs that could be leased of a group's queues, as far as is known; of many queues, those that come first."""
        names = islice(self._cache.active.get(group, ()), BACKLOG_QUEUES)
        return sum(self._counted(self._cache.queues[name], State.QUEUED) for name in names)

    def source_times(self, pool: str) -> Mapping[str, int]:
        """The virtual time that each source of a pool has used; that of the pool itself under no name."""
        return self._cache.sources.get(pool, {})

    def charge_source(self, pool: str, source: str, vtime: int, clock: int) -> None:
        """Note the virtual time of a source, and that of its pool."""
        self._cache.sources.setdefault(pool, {}).update({source: vtime, "": clock})
        self._db.executemany(SQL.source_put, [(pool, source, vtime), (pool, "", clock)])

    def waiting(self, queue: str) -> int:
        """Jobs of a queue that are ready, if any could be leased now, as far as is known: 0 while it is paused."""
        row = self._cache.queues.get(queue)
        if row is None or row.name not in self._cache.active.get(row.discipline.group, ()):
            return 0
        return self._counted(row, State.QUEUED)

    def leased_jobs(self, token: int) -> Lease | None:
        """An open lease with its jobs' bodies, to send it anew."""
        lease = self._cache.leases.get(token)
        if lease is None or not lease.jobs:
            return None
        queue = self._cache.queues[lease.queue]
        bodies = {row[0]: row for row in self._db.execute(SQL.bodies, (encode(list(lease.jobs)).decode(),))}
        trails = self._trails([job_id for job_id, held in lease.jobs.items() if held.mark > 0])
        jobs = [
            _leased(
                Ready(job_id, held.band, held.pos, held.mark, *bodies[job_id][1:]), trails.get(job_id),
                self._lane_by_id(held.lane) if held.lane else queue.home, held.cost,
            )
            for job_id, held in lease.jobs.items()
            if job_id in bodies
        ]  # fmt: skip
        return Lease(token, lease.owner, lease.queue, self._with_fed(jobs))

    def open_leases(self) -> Mapping[int, OpenLease]:
        """Every open lease by token."""
        return self._cache.leases

    def _trails(self, ids: Sequence[int]) -> dict[int, tuple[Any, ...]]:
        if not ids:
            return {}
        return {row[0]: row for row in self._db.execute(SQL.trail_of, (encode(list(ids)).decode(),))}

    def release(self, token: int, ids: Iterable[int]) -> list[int]:
        """Hand unstarted jobs back to the place they had, with what their limits took; returns those that were held."""
        lease = self._cache.leases.get(token)
        if lease is None:
            return []
        places = [(job_id, lease.jobs.pop(job_id)) for job_id in ids if job_id in lease.jobs]
        queue = self._cache.queues[lease.queue]
        self._db.executemany(
            SQL.insert_ready,
            [(held.lane or queue.home.id, held.band, held.pos, job_id, held.mark) for job_id, held in places],
        )
        for job_id, held in places:
            self._waits_again(queue, job_id)
            self._freed(lease, held, refund_at_ms=lease.leased_at_ms)
        if places:
            self._rewritten.add(token)
            self._ended(lease, State.QUEUED, len(places))
        return [job_id for job_id, _ in places]

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


class Merge:
    """The lanes of a queue as one line, in the order of their turns."""

    def __init__(self, tx: Leasing, queue: QueueRow, jobs_max: int) -> None:
        self._tx = tx
        self.queue = queue
        self.parked = 0
        self.clock = queue.clock
        self.last: dict[int, Ready] = {}
        """The last job that was taken of each lane."""
        self._pages: dict[int, list[Ready]] = {}
        self._sizes: dict[int, int] = {}
        self._heap = [(at, lane.id, job, lane) for lane, job, at in tx.first_lanes(queue, jobs_max)]
        self._horizon = _horizon(self._heap, jobs_max)
        heapify(self._heap)

    def next(self) -> tuple[Lane, Ready] | None:
        """What comes next; None if nothing does, or if a lane that was not read could come first."""
        if not self._heap or (self._horizon is not None and self._heap[0][:2] > self._horizon):
            return None
        _, _, job, lane = heappop(self._heap)
        return lane, job

    def took(self, lane: Lane, job: Ready) -> None:
        """The job was taken: its lane is charged, and its next job has its turn when it comes."""
        order = self.queue.discipline.order
        self.last[lane.id] = job
        if order.fair:
            self.clock = max(self.clock, lane.vtime)
            lane.vtime = charged(lane.vtime, self.queue.discipline.weight(lane.key))
        following = self._following(lane, job)
        if following is not None:
            heappush(self._heap, (turn(order, lane.vtime, following.rank), lane.id, following, lane))

    def _following(self, lane: Lane, job: Ready) -> Ready | None:
        """The lane's next job. More are read at once the more were wanted."""
        if any(limit.concurrency == 1 for _, limit in lane_gates(self.queue.discipline, lane.key)):
            return None
        page = self._pages.get(lane.id)
        if not page:
            size = self._sizes[lane.id] = min(PAGE_MAX, 4 * self._sizes.get(lane.id, 1))
            page = self._pages[lane.id] = self._tx.jobs_after(lane, job, size)[::-1]
        return page.pop() if page else None

    def cuts(self) -> list[tuple[int, int, int, int]]:
        """Up to where each lane was taken: always its first jobs."""
        return [(lane, job.band, job.pos, job.id) for lane, job in self.last.items()]


def _horizon(lanes: Sequence[tuple[Turn, int, Ready, Lane]], lanes_max: int) -> tuple[Turn, int] | None:
    """Where the last lane of a key stands that was read; None if there are no others beyond it."""
    keys = [each for each in lanes if each[3].key]
    return keys[-1][:2] if len(keys) >= lanes_max else None


def _cost(discipline: Discipline, options: bytes | None) -> int:
    """What a job takes of a rate."""
    if options is None or b'"cost"' not in options or discipline.plain:
        return 1
    return int(msgspec.json.decode(options).get("cost", 1))


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


PLAIN_PLACE = (0, 1, "")
"""The lane, the cost and the key of a job without any."""


def _placed(picked: Picked) -> tuple[int, int, str]:
    lane = picked.lane
    return lane.id if lane.key else 0, picked.cost, lane.key


def _leased(job: Ready, trail: tuple[Any, ...] | None, lane: Lane, cost: int) -> LeasedJob:
    attempt = 1 + trail[1] + trail[2] if trail else 1
    previous = trail[6] if trail else None
    return LeasedJob(
        job.id, attempt, job.priority, job.enqueued_at, job.due_at, job.options, job.payload, previous, job.band,
        job.pos, job.mark, lane.id if lane.key else 0, cost, lane.key,
    )  # fmt: skip
