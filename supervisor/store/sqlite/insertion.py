"""How jobs come in, and become ready when they are due."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from supervisor.errors import JobsupError
from supervisor.job import State
from supervisor.policy.rank import HELD_BAND, Rank, rank
from supervisor.policy.settle import History
from supervisor.policy.unique import REPLACE
from supervisor.store.protocol import FRESH, SOLO, TRAILED, Group, Held, Inserted, NewFlow, NewJob, Standing
from supervisor.store.sqlite.adding import Pending
from supervisor.store.sqlite.base import encode
from supervisor.store.sqlite.cache import Lane, QueueRow
from supervisor.store.sqlite.flowing import Flowing
from supervisor.store.sqlite.idempotency import first_with_keys
from supervisor.store.sqlite.statements import SQL


class Insertion(Flowing):
    """The verbs of enqueueing, and of time."""

    def insert(self, groups: Sequence[Group | NewFlow]) -> list[Inserted]:
        """Insert groups and flows, each all or none; one whose key is known is not inserted again."""
        pending = Pending()
        answers: list[Inserted] = []
        now: dict[str, Inserted] = {}
        for group in groups:
            key = group.key
            answer = (now.get(key) or self.known_request(key)) if key else None
            if answer is None:
                answer = (
                    self._insert_flow(group, pending)
                    if isinstance(group, NewFlow)
                    else self._insert_group(group, pending)
                )
                if key and answer.refused is None:
                    now[key] = answer._replace(repeated=True)
            answers.append(answer)
        self._write(pending)
        return answers

    def refusal(self, groups: Sequence[Group]) -> JobsupError | None:
        """Why these groups cannot all be inserted; what only their commit could show is left to it."""
        sizes: Counter[str] = Counter()
        firsts: dict[str, dict[str, int]] = {}
        for group in groups:
            queue = self._queue(group.queue)
            fresh = self._fresh(queue, group, firsts.setdefault(group.queue, {})) if group.keyed else group
            sizes[group.queue] += len(fresh.jobs)
            refused = self._full(queue, sizes[group.queue]) or self._taken(queue, fresh) if fresh.jobs else None
            if refused is not None:
                return refused
        return None

    def _fresh(self, queue: QueueRow, group: Group, firsts: dict[str, int]) -> Group:
        """What of the group goes in, beside those that came with keys before it: `firsts`, to which it adds its own."""
        firsts |= self._firsts(queue, group.jobs)
        jobs = [group.jobs[at] for at in first_with_keys(group.jobs, firsts)]
        firsts |= {job.idempotency_key: 0 for job in jobs if job.idempotency_key is not None}
        return group._replace(jobs=jobs)

    def _insert_group(self, group: Group, pending: Pending) -> Inserted:
        queue = self._queue(group.queue)
        if group.keyed:
            return self._insert_keyed(queue, group, pending)
        if queue.discipline.unique is not None:
            return self._insert_unique(queue, group, pending)
        refused = self._make_room(queue, len(group.jobs), pending)
        if refused is not None:
            return Inserted((), (), refused=refused)
        ids = group.ids if group.ids is not None else self.reserve(len(group.jobs))
        states = self._add(queue, ids, group.jobs, pending)
        if group.flow:
            self._join(group.flow, ids)
        if group.key:
            self._db.execute(SQL.request_put, (group.key, self._now_ms, ids[0] if ids else 0, len(ids), None))
        return Inserted(ids, states)

    def _insert_keyed(self, queue: QueueRow, group: Group, pending: Pending) -> Inserted:
        """Insert what of a group comes first with its idempotency key; the rest is what did."""
        firsts = self._firsts(queue, group.jobs)
        fresh = first_with_keys(group.jobs, firsts)
        rest = group._replace(jobs=[group.jobs[at] for at in fresh], key=None, keyed=False)
        answer = self._insert_group(rest, pending) if fresh else Inserted((), ())
        if answer.refused is not None:
            return answer
        keys = zip((job.idempotency_key for job in rest.jobs), answer.ids, strict=True)
        mine = {key: job_id for key, job_id in keys if key is not None}
        firsts |= mine
        placed = dict(zip(fresh, answer.ids, strict=True))
        ids = tuple(placed.get(at) or firsts[str(job.idempotency_key)] for at, job in enumerate(group.jobs))
        existing = [*answer.existing, *(job_id for at, job_id in enumerate(ids) if at not in placed)]
        standing = self._standing_now(existing, pending)
        gone = set(answer.existing) - standing.keys()  # a rule of uniqueness may speak of what is not there any more
        self._keep_firsts(queue, {key: job_id for key, job_id in mine.items() if job_id not in gone})
        self._remember(group, ids)
        stands = dict(zip(answer.ids, answer.states, strict=True))
        stands |= {job_id: _state_of(standing.get(job_id)) for job_id in existing}
        return Inserted(ids, tuple(stands[job_id] for job_id in ids), existing=existing)

    def _remember(self, group: Group, ids: Sequence[int]) -> None:
        """Whoever repeats this request is answered with these ids, which need not follow each other."""
        if group.key:
            self._db.execute(SQL.request_put, (group.key, self._now_ms, 0, len(ids), encode(ids).decode()))

    def _standing_now(self, ids: Sequence[int], pending: Pending) -> dict[int, Standing]:
        """Where jobs stand that may have come earlier in this transaction."""
        if not ids:
            return {}
        self._write(pending)
        return self.standing(ids)

    def _insert_unique(self, queue: QueueRow, group: Group, pending: Pending) -> Inserted:
        """Insert a group into a queue that wants no two jobs that count as the same."""
        self._write(pending)  # what came before it in this transaction counts, too
        unique = queue.discipline.unique
        assert unique is not None
        found, ids = self._in_the_way(unique, [job.unique for job in group.jobs]), list[int]()
        if (taken := self._taken(queue, group)) is not None:
            return Inserted((), (), refused=taken)
        fresh = _first_of_each(group.jobs, found)
        refused = self._make_room(queue, len(fresh), pending)
        if refused is not None:
            return Inserted((), (), refused=refused)
        new_ids = dict(zip(fresh, self.reserve(len(fresh)), strict=True))
        states = self._add(queue, list(new_ids.values()), [group.jobs[at] for at in fresh], pending)
        self._write(pending)
        self._claim(unique, [(group.jobs[at].unique, job_id) for at, job_id in new_ids.items()])
        if group.flow:
            self._join(group.flow, list(new_ids.values()))
        by_hash = {group.jobs[at].unique: job_id for at, job_id in new_ids.items()}
        for at, job in enumerate(group.jobs):
            ids.append(new_ids.get(at) or found[at] or by_hash[job.unique])
        existing = [job_id for at, job_id in enumerate(ids) if at not in new_ids]
        if unique.on_conflict == REPLACE:
            for at, job_id in enumerate(ids):
                if at not in new_ids:
                    self._replace(job_id, group.jobs[at], unique.replace)
        self._remember(group, ids)
        stands = dict(zip(new_ids.values(), states, strict=True))
        if existing:
            now = self.standing(existing)  # a later one of the group may have changed an earlier one
            stands |= {job_id: _state_of(now.get(job_id)) for job_id in existing}
        return Inserted(ids, [stands[job_id] for job_id in ids], existing=existing)

    def known_request(self, key: str) -> Inserted | None:
        """Where a group with this key went before; None if there was none."""
        row = self._db.execute(SQL.request_get, (key,)).fetchone()
        if row is None:
            return None
        ids = range(row[0], row[0] + row[1]) if row[2] is None else msgspec.json.decode(row[2])
        standing = self.standing(ids)
        return Inserted(ids, [_state_of(standing.get(i)) for i in ids], repeated=True)

    def forget_requests(self, before_ms: int, rows_max: int) -> int:
        """Forget the keys of old groups, and of those from days to come: their clock was wrong."""
        tomorrow_ms = self._now_ms + 86_400_000
        return int(self._db.execute(SQL.request_forget, (before_ms, rows_max, tomorrow_ms)).rowcount)

    def promote(self, jobs_max: int) -> int:
        """Make due jobs ready, in the order of their times; returns how many."""
        rows = self._db.execute(SQL.due, (self._now_ms, jobs_max)).fetchall()
        sequence = self._sequence(len(rows)) if rows else 0
        for due_at, job_id, lane_id, queue_id, priority, *rest in rows:
            queue = self._cache.by_id[queue_id]
            lane = queue.home if lane_id == queue.home.id else self._lane_by_id(lane_id)
            band, pos = self._rank_of_due(queue, job_id, lane, priority, sequence)
            sequence += 1
            history, trailed, solo = History(*rest[:3]), rest[3], rest[4]
            if trailed:
                self._db.execute(SQL.trail_rank, (job_id, band, pos))
            else:
                self._put_trail(job_id, history, Held(band, pos, FRESH, 1), None, None, solo=False)
            self._db.execute(SQL.insert_ready, (lane_id, band, pos, job_id, SOLO if solo else TRAILED))
            self._db.execute(SQL.due_remove, (due_at, job_id))
            self._mark(lane)
            self._count(queue, State.SCHEDULED, -1)
            self._count(queue, State.QUEUED, 1)
        return len(rows)

    def _rank_of_due(self, queue: QueueRow, job_id: int, lane: Lane, priority: int, sequence: int) -> Rank:
        """A job that holds its lane comes before all others of it; any other counts as newly arrived."""
        if lane.held == job_id:
            lane.held = None
            self._changed_lane(lane)
            return Rank(HELD_BAND, sequence)
        return rank(queue.discipline.order, priority, sequence)

    def next_due_ms(self) -> int | None:
        """When the next scheduled job is due."""
        row = self._db.execute(SQL.due_next).fetchone()
        return None if row is None or row[0] is None else int(row[0])


def _state_of(standing: Standing | None) -> State:
    """Where a job stands that is known by its id; one that is gone had completed, as far as anyone can tell."""
    return State.COMPLETED if standing is None else standing.state


def _first_of_each(jobs: Sequence[NewJob], found: Sequence[int | None]) -> list[int]:
    """Places of the jobs that go in: nothing is in their way, neither a stored job nor one before them."""
    seen: dict[str | None, int] = {}
    for at, job in enumerate(jobs):
        if found[at] is None:
            seen.setdefault(job.unique, at)
    return list(seen.values())
