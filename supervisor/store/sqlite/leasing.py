"""Who has which jobs: hand-outs, what is handed back, and the owners they are held by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from supervisor.job import State
from supervisor.store.protocol import SOLO, Held, Lease, LeasedJob, OpenLease, Owner
from supervisor.store.sqlite.base import encode
from supervisor.store.sqlite.measuring import Measuring
from supervisor.store.sqlite.statements import SQL


class Leasing(Measuring):
    """The verbs of leases and their owners."""

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
        ready = self._ready_since(rows, trails)
        held = {job.id: Held(job.band, job.pos, job.mark, job.attempt, ready[job.id]) for job in jobs}
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

    def waiting(self, queue: str) -> int:
        """Jobs of a queue that are ready and could be leased now: 0 while it is paused."""
        lane = self._cache.lanes.get(queue)
        if lane is None or queue in self._cache.paused:
            return 0
        key = (lane, State.QUEUED.value)
        return self._cache.tally[key] + self._tally[key]

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


def _leased(row: Sequence[Any], trail: tuple[Any, ...] | None) -> LeasedJob:
    job_id, band, pos, mark, priority, enqueued_at, due_at, options, payload = row
    attempt = 1 + trail[1] + trail[2] if trail else 1
    previous = trail[6] if trail else None
    return LeasedJob(
        job_id, attempt, priority, enqueued_at, due_at, options, payload, previous, band, pos, mark
    )  # fmt: skip
