"""Unique jobs: which stored job is in the way of a new one. A table of its own, which outlives the jobs.

A row names the job and the rule under which it was written: until a time, or while the job is in some states. What a
deleted job had become stays in the row, so retention opens nothing that a rule keeps shut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from supervisor.config.names import short_name
from supervisor.errors import NotUnique
from supervisor.job import IDEMPOTENCY_KEY, WAITING, State
from supervisor.policy.rank import HELD_BAND, Rank, rank
from supervisor.policy.unique import MemberMissing, Unique, fingerprint, in_the_way
from supervisor.reading import read
from supervisor.store.protocol import SOLO, TRAILED, Held, NewJob, Standing
from supervisor.store.sqlite.base import ZERO, Base, Place, encode, text
from supervisor.store.sqlite.cache import QueueRow
from supervisor.store.sqlite.statements import SQL


class Uniqueness(Base):
    """What insertion asks about jobs that count as the same."""

    def _in_the_way(self, unique: Unique, hashes: Sequence[str | None]) -> list[int | None]:
        """For each of these the stored job that keeps it out; None where there is none."""
        wanted = encode(list(set(hashes))).decode()
        rows = {row[0].decode(): row[1:] for row in self._db.execute(SQL.uniq_get, (wanted,))}
        standing = self.standing([row[0] for row in rows.values()])
        return [self._blocker(unique, rows.get(hash_ or ""), standing) for hash_ in hashes]

    def _blocker(self, unique: Unique, row: tuple[Any, ...] | None, standing: dict[int, Standing]) -> int | None:
        if row is None:
            return None
        job_id, until_ms, states, gone = row
        if unique.debounce_ms is not None and job_id in standing and standing[job_id].history != ZERO:
            return None  # it has begun and keeps what it has: what is new must not be lost with it
        state = standing[job_id].state.value if job_id in standing else gone and gone.decode()
        listed = msgspec.json.decode(states) if states else None
        return int(job_id) if in_the_way(until_ms, listed, state, self._now_ms) else None

    def _claim(self, unique: Unique, jobs: Iterable[tuple[str | None, int]]) -> None:
        """These jobs are in the way from now on."""
        until_ms = None if unique.period_ms is None else self._now_ms + unique.period_ms
        states = None if unique.period_ms is not None else encode([state.value for state in unique.states]).decode()
        self._cache.has_unique = True
        self._db.executemany(SQL.uniq_put, [(hash_, job_id, until_ms, states) for hash_, job_id in jobs])

    # -- jobs that wait anew ---------------------------------------------------------------------------------------

    def rival(
        self, job_id: int, *, queue: str | None = None, payload: bytes | None = None, task: str | None = None
    ) -> int | None:
        """The other job that keeps this one out, if it waits anew here, with this payload, for this task; or None.

        A rule that holds for a time speaks of enqueueing, and not of this.
        """
        row, _ = self._place(job_id)
        return self._rival_of(row, *self._hash_of(row, queue, payload, task))

    def _rival_of(self, row: Place, hash_: str | None, unique: Unique | None) -> int | None:
        if hash_ is None or unique is None:
            return None
        (found,) = self._in_the_way(unique, [hash_])
        return None if found == row.id else found

    def _hash_of(
        self, row: Place, queue: str | None, payload: bytes | None, task: str | None
    ) -> tuple[str | None, Unique | None]:
        """What those that count as the same have in common; None: nothing keeps it out, or nobody can tell."""
        name = queue or row.queue.decode()
        unique = self._queue(name).discipline.unique
        if unique is None or unique.period_ms is not None or State.QUEUED not in unique.states:
            return None, unique
        stored, _, options, _ = self._db.execute(SQL.job_body, (row.id,)).fetchone()
        found = read(stored if payload is None else payload)
        task = options_of(options).get("task") if task is None else task
        try:
            return fingerprint(unique, name, self._lane_of(row).key, found, task), unique
        except MemberMissing:
            return None, unique

    def _compete(
        self, row: Place, *, queue: str | None = None, payload: bytes | None = None, task: str | None = None
    ) -> None:
        """A job is about to wait anew: from now on it is in the way, and no more for what it was.

        Raises:
            NotUnique: another one is in its way; nothing was changed.
        """
        if self._queue(queue or row.queue.decode()).discipline.unique is None and not self._cache.has_unique:
            return
        hash_, unique = self._hash_of(row, queue, payload, task)
        other = self._rival_of(row, hash_, unique)
        if other is not None:
            raise self.not_unique(other, queue or row.queue.decode())
        if (queue, payload, task) != (None, None, None):
            self._db.execute(SQL.uniq_leave, (row.id,))
        if hash_ is not None and unique is not None:
            self._claim(unique, [(hash_, row.id)])

    def not_unique(self, other: int, queue: str) -> NotUnique:
        """That another job is in the way."""
        said = f"job {other} is there already, and queue {short_name(queue)} wants no second"
        return NotUnique(said, hint="unique in the configuration says what counts as the same")

    def _replace(self, job_id: int, job: NewJob, fields: Sequence[str]) -> None:
        """Give a stored job chosen members of a new one, unless it has begun or ended: then it stays what it is."""
        found = self._places([job_id])
        if not found or found[0][1] not in WAITING or found[0][0].history != ZERO:
            return
        row, state, _ = found[0]
        payload, priority, options, due_at = self._db.execute(SQL.job_body, (job_id,)).fetchone()
        payload = job.payload if "payload" in fields else payload
        priority = job.priority if "priority" in fields else priority
        kept = _of_key(job.options, options) if "tags" in fields else options
        if "payload" in fields:
            kept = _of_version(kept, job.options)
        options = self._with_times(job_id, options, kept, job, anew="due_at" in fields)
        queue = self._cache.queues[row.queue.decode()]
        moved = "due_at" in fields or (priority != row.priority and state is State.QUEUED)
        due_ms = self._unplace(row, state) if moved else row.due_at
        if "due_at" in fields:
            due_ms = job.due_at_ms if job.due_at_ms is not None and job.due_at_ms > self._now_ms else None
        place = self._rank_anew(row, queue, priority, due_ms) if moved else Rank(row.band, row.pos)
        stored = (job_id, payload.decode(), priority, text(options), due_ms if moved else due_at, *place)
        self._db.execute(SQL.job_replace, stored)
        if moved:
            self._place_again(row, state, queue, due_ms, place)

    def _rank_anew(self, row: Place, queue: QueueRow, priority: int, due_ms: int | None) -> Rank:
        """Where it stands among those that wait; whoever held its lane, and is ready, comes first."""
        lane, sequence = self._lane_of(row), self._sequence(1)
        if due_ms is not None or lane.held != row.id:
            return rank(queue.discipline.order, priority, sequence)
        lane.held = None
        self._changed_lane(lane)
        return Rank(HELD_BAND, sequence)

    def _with_times(
        self, job_id: int, before: bytes | None, kept: bytes | None, job: NewJob, *, anew: bool
    ) -> bytes | None:
        """Options with the time to live and the deadline of the stored job; those of the new one if it is due anew."""
        old = times_of(before)
        times = times_of(job.options) if anew else old
        if not (old or times):
            return kept
        if anew:
            rows = [(at, job_id, int(name == TTL)) for name, at in old.items()]
            self._db.executemany(SQL.expiry_remove, rows)
            self._put_expiries(job_id, job)
        others = {name: value for name, value in options_of(kept).items() if name not in TIMES}
        return encode(others | times)

    def _place_again(self, row: Place, before: State, queue: QueueRow, due_ms: int | None, place: Rank) -> None:
        """A job that was taken from where it stood waits anew: for a time, or in its lane."""
        now = State.QUEUED if due_ms is None else State.SCHEDULED
        mark = SOLO if row.solo else TRAILED
        self._put_trail(row.id, row.history, Held(*place, mark, 1), due_ms, None, solo=bool(row.solo))
        if due_ms is None:
            self._db.execute(SQL.insert_ready, (row.lane, *place, row.id, mark))
            self._mark(self._lane_of(row))
        else:
            self._db.execute(SQL.insert_scheduled, (due_ms, row.id))
            self._note_due(due_ms)
        self._count(queue, before, -1)
        self._count(queue, now, 1)

    def _ended_unique(self, ids: Sequence[int], states: Sequence[State]) -> None:
        """Jobs are deleted: what they had become stays known where it keeps others out."""
        if self._cache.has_unique:
            pairs = [(job_id, state.value) for job_id, state in zip(ids, states, strict=True)]
            self._db.executemany(SQL.uniq_drop, pairs)
            self._db.executemany(SQL.uniq_gone, pairs)

    def forget_unique(self, rows_max: int) -> int:
        """Forget what no longer keeps anything out; returns how many."""
        return int(self._db.execute(SQL.uniq_forget, (self._now_ms, rows_max)).rowcount)


TTL = "expires_at_ms"
TIMES = (TTL, "deadline_at_ms")


def options_of(written: bytes | None) -> dict[str, Any]:
    """Options as they are stored."""
    found: dict[str, Any] = msgspec.json.decode(written) if written else {}
    return found


def _of_key(new: bytes | None, old: bytes | None) -> bytes | None:
    """Options of a new job for a stored one, which keeps the idempotency key that it came with itself."""
    mine, brought = options_of(old).get(IDEMPOTENCY_KEY), options_of(new)
    if mine == brought.get(IDEMPOTENCY_KEY):
        return new
    others = {name: value for name, value in brought.items() if name != IDEMPOTENCY_KEY}
    found = others | ({} if mine is None else {IDEMPOTENCY_KEY: mine})
    return encode(found) if found else None


def _of_version(kept: bytes | None, new: bytes | None) -> bytes | None:
    """Options with the version that the new payload has."""
    old, version = options_of(kept), options_of(new).get("version")
    if version == old.get("version"):
        return kept
    others = {name: value for name, value in old.items() if name != "version"}
    found = others | ({} if version is None else {"version": version})
    return encode(found) if found else None


def times_of(written: bytes | None) -> dict[str, int]:
    """The times among stored options after which a job is not wanted any more."""
    if not written or b"_at_ms" not in written:
        return {}
    return {name: at for name, at in options_of(written).items() if name in TIMES}
