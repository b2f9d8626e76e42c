"""What waits for code: jobs whose task no worker at hand knows, or only in an earlier version.

A job is blocked by whoever took it and could not run it, never before: so what decides is the code itself. It waits
outside of all lanes, where no lease walks over it, and costs nothing until code arrives that knows its task.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from supervisor.job import Event, State, after
from supervisor.policy.rank import HELD_BAND, Rank, rank
from supervisor.policy.settle import History
from supervisor.policy.tasks import Known, Need
from supervisor.store.driver import plain_text
from supervisor.store.protocol import SOLO, TRAILED, Held
from supervisor.store.sqlite.base import encode
from supervisor.store.sqlite.operating import Operating
from supervisor.store.sqlite.statements import SQL


class Blocking(Operating):
    """The verbs of tasks."""

    def park(self, token: int, job_id: int, need: Need) -> bool:
        """Let a leased job wait for code, with nothing charged; False if the lease does not hold it.

        Where order counts it holds its lane meanwhile, as a retry does.
        """
        lease = self._cache.leases.get(token)
        place = lease.jobs.pop(job_id, None) if lease else None
        if lease is None or place is None:
            return False
        after(State.RUNNING, Event.PARK)
        queue = self._cache.queues[lease.queue]
        self._db.execute(SQL.blocked_put, (job_id, queue.id, *need, 0))
        if queue.discipline.ordered:
            lane = self._lane_by_id(place.lane) if place.lane else queue.home
            lane.held = job_id
            self._changed_lane(lane)
        self._rewritten.add(token)
        self._freed(lease, place, refund_at_ms=lease.leased_at_ms)
        self._ended(lease, State.BLOCKED, 1)
        return True

    def needs(self) -> dict[str, list[Need]]:
        """What jobs of each queue wait for."""
        found: dict[str, list[Need]] = {}
        for queue, task, version in self._db.execute(SQL.blocked_needs).fetchall():
            found.setdefault(self._cache.by_id[queue].name, []).append(Need(task.decode(), version))
        return found

    def unblock(self, queue: str, need: Need, jobs_max: int, *, first: bool = False) -> int:
        """Make jobs ready that waited for this, the oldest first; returns how many.

        They count as newly arrived, or come before all others; whoever held its lane comes first in it.
        """
        row = self._cache.queues.get(queue)
        if row is None:
            return 0
        rows = self._db.execute(SQL.blocked_of, (row.id, *need, jobs_max)).fetchall()
        sequence = self._sequence(len(rows)) if rows else 0
        for job_id, lane_id, priority, failures, crashes, interruptions, solo in rows:
            lane = row.home if lane_id == row.home.id else self._lane_by_id(lane_id)
            place = rank(row.discipline.order, priority, sequence)
            if first or lane.held == job_id:
                lane.held = None if lane.held == job_id else lane.held
                self._changed_lane(lane)
                place = Rank(HELD_BAND, sequence)
            sequence += 1
            mark = SOLO if solo else TRAILED
            history = History(failures, crashes, interruptions)
            self._put_trail(job_id, history, Held(*place, mark, 1), None, None, solo=bool(solo))
            self._db.execute(SQL.insert_ready, (lane.id, *place, job_id, mark))
            self._db.execute(SQL.blocked_remove, (job_id,))
            self._mark(lane)
        self._count(row, State.BLOCKED, -len(rows))
        self._count(row, State.QUEUED, len(rows))
        return len(rows)

    def tasks(self) -> dict[str, list[Known]]:
        """What the code of each pool knows."""
        return known_tasks(self._db)

    def publish(self, pool: str, known: Sequence[Known]) -> None:
        """What the code of a pool knows from now on."""
        self._db.execute(SQL.tasks_forget, (pool,))
        rows = [(pool, one.name, one.version, one.oldest, encode(one.aliases).decode(), one.schema) for one in known]
        self._db.executemany(SQL.task_put, rows)


def known_tasks(db: Any) -> dict[str, list[Known]]:
    """What the code of each pool knows, by the rows."""
    found: dict[str, list[Known]] = {}
    for row in db.execute(SQL.tasks).fetchall():
        pool, name, version, oldest, aliases, schema = map(plain_text, row)
        found.setdefault(pool, []).append(Known(name, version, oldest, tuple(msgspec.json.decode(aliases)), schema))
    return found
