"""Lanes: which jobs of a queue come next, and which must wait. A lease looks only at lanes that have their turn.

*Invariant:* a lane of a key has a turn exactly if it has a ready job and nothing shuts it: no pause, no job that holds
it, no limit without room. Whatever changes one of these marks the lane, and it is placed anew before anyone looks.
Jobs without a key stand in the queue's home lane, which needs no turn: where it stands is looked up.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from supervisor.policy.rank import Rank, turn
from supervisor.policy.rate import Bucket, Rate, corrected, forgotten_at_ms, free_at_ms, granted, refunded
from supervisor.store.protocol import Held, OpenLease
from supervisor.store.sqlite.cache import (
    Cache,
    Gate,
    Lane,
    QueueRow,
    gate_text,
    gates_of,
    lane_gates,
    oldest_name,
    ranking_of,
)
from supervisor.store.sqlite.statements import SQL

encode = msgspec.json.encode
WOKEN_MAX = 1_000
"""So many that wait for a time are looked at in one pass; more follow in the next."""


class Lanes:
    """What a transaction knows of queues, lanes and limits."""

    def __init__(self, connection: Any, cache: Cache, now_ms: int) -> None:
        self._db = connection
        self._cache = cache
        self._now_ms = now_ms
        self._marked: dict[int, Lane] = {}
        """Lanes whose turn must be looked at again."""
        self._changed: dict[int, Lane] = {}
        """Lanes whose rows must be written."""
        self._changed_queues: dict[int, QueueRow] = {}
        self._spent: set[Gate] = set()

    # -- finding -----------------------------------------------------------------------------------------------

    def _queue(self, name: str) -> QueueRow:
        """The queue of that name, made if it is new."""
        found = self._cache.queues.get(name)
        if found is None:
            discipline = self._cache.discipline_of(name)
            ranking = ranking_of(discipline)
            queue_id = int(self._db.execute(SQL.queue_make, (name, ranking)).fetchone()[0])
            home = Lane(self._db.execute(SQL.lane_home, (queue_id,)).fetchone())
            found = self._cache.note_queue((queue_id, name, 0, 0, ranking, None, None), home)
        return found

    def _lane(self, queue: QueueRow, key: str) -> Lane:
        """The lane of a key, made if it is new."""
        if not key:
            return queue.home
        known = self._cache.lane_ids.get((queue.id, key))
        if known is not None and (lane := self._cache.lanes.get(known)) is not None:
            return lane
        row = self._db.execute(SQL.lane_find, (queue.id, key)).fetchone()
        if row is None:
            row = self._db.execute(SQL.lane_insert, (queue.id, key)).fetchone()
        return self._cache.note_lane(Lane(row))

    def _lane_by_id(self, lane_id: int) -> Lane:
        return self._cache.lane(self._db, lane_id)

    # -- marking and placing -----------------------------------------------------------------------------------

    def _mark(self, lane: Lane) -> None:
        """The lane's first job, or what shuts it, may be another by now."""
        if lane.key:
            self._marked[lane.id] = lane
        self._cache.wake(self._cache.by_id[lane.queue])

    def _changed_lane(self, lane: Lane) -> None:
        """The lane's row must be written, and its turn looked at."""
        self._changed[lane.id] = lane
        self._mark(lane)

    def _place_marked(self) -> None:
        """Give every marked lane the turn it has now; afterwards the rows say so."""
        if self._marked:
            marked, self._marked = self._marked, {}
            heads = self._db.execute(SQL.lane_heads, (encode(list(marked)).decode(),)).fetchall()
            for lane_id, band, pos in heads:
                self._give_turn(marked[lane_id], None if band is None else Rank(band, pos))
        self._write_changes()

    def _give_turn(self, lane: Lane, head: Rank | None) -> None:
        queue = self._cache.by_id[lane.queue]
        wanted = None
        shut = lane.shut(ordered=queue.discipline.ordered)
        if head is not None and not shut and self._has_room(queue, lane):
            if queue.discipline.order.fair and lane.turn is None and lane.vtime < queue.clock:
                lane.vtime = queue.clock  # whoever was away has saved nothing up
            wanted = turn(queue.discipline.order, lane.vtime, head)
        elif lane.gate is not None and (head is None or shut):
            lane.gate = None
            self._changed[lane.id] = lane
        if wanted != lane.turn:
            queue.turns += (wanted is not None) - (lane.turn is not None)
            lane.turn = wanted
            self._changed[lane.id] = lane

    def _has_room(self, queue: QueueRow, lane: Lane) -> bool:
        """Whether the limits of the lane's key let one more through; else it waits at the one that does not."""
        for gate, limit in lane_gates(queue.discipline, lane.key):
            until_ms = self._free_at_ms(gate, limit.concurrency, limit.rate, 1)
            if until_ms is None or until_ms > self._now_ms:
                self._park(lane, gate, until_ms)
                return False
        until_ms = self._shut_until_ms((f"key:{queue.name}", lane.key))
        if until_ms > self._now_ms:
            self._park(lane, (f"key:{queue.name}", lane.key), until_ms)
            return False
        if lane.gate is not None:
            lane.gate = None
            self._changed[lane.id] = lane
        return True

    def _park(self, lane: Lane, gate: Gate, until_ms: int | None) -> None:
        """Let a lane wait at a limit: until somebody gives a slot back, or for a time."""
        text = gate_text(gate)
        if lane.gate != text:
            lane.gate = text
            self._changed[lane.id] = lane
        self._cache.gated.add(text)
        if until_ms is not None:
            self._cache.nap(until_ms, "", gate)

    def _write_changes(self) -> None:
        """Write the rows of what has changed."""
        if self._changed:
            rows = [
                (
                    lane.id,
                    lane.jobs,
                    lane.vtime,
                    lane.paused,
                    lane.held,
                    lane.doom,
                    *_stored_turn(lane),
                    lane.gate,
                )
                for lane in self._changed.values()
            ]
            self._db.executemany(SQL.lane_put, rows)
            for lane in self._changed.values():
                if lane.key and not (lane.jobs or lane.paused or lane.vtime > self._cache.by_id[lane.queue].clock):
                    self._drop_lane(lane)
            self._changed.clear()
        if self._changed_queues:
            self._db.executemany(
                SQL.queue_put,
                [
                    (queue.id, queue.paused, queue.clock, queue.ranking, queue.rerank_after, queue.rerank_until)
                    for queue in self._changed_queues.values()
                ],
            )
            self._changed_queues.clear()
        if self._spent:
            self._write_buckets()

    def _drop_lane(self, lane: Lane) -> None:
        """Nothing is left of a key: no job, no pause, no debt of virtual time."""
        self._db.execute(SQL.lane_drop, (lane.id,))
        self._cache.drop_lane(lane)

    def _write_buckets(self) -> None:
        rows = []
        for gate in self._spent:
            bucket = self._cache.buckets[gate]
            rate = self._cache.rates.get(gate[0])
            until_ms = forgotten_at_ms(rate, bucket) if rate else bucket.shut_until_ms
            rows.append((*gate, encode(bucket).decode(), until_ms))
        self._db.executemany(SQL.bucket_put, rows)
        self._spent.clear()

    # -- limits ------------------------------------------------------------------------------------------------

    def _free_at_ms(self, gate: Gate, concurrency: int | None, rate: Rate | None, cost: int) -> int | None:
        """When the limit lets one more job through, by the clock; None: when one that runs has ended."""
        if concurrency is not None and self._cache.running[gate] >= concurrency:
            return None
        if rate is None:
            return self._shut_until_ms(gate)
        bucket = self._cache.buckets.get(gate)
        if bucket is None:
            return 0
        return free_at_ms(rate, self._check_bucket(gate, rate, bucket), cost, self._now_ms)

    def _shut_until_ms(self, gate: Gate) -> int:
        bucket = self._cache.buckets.get(gate)
        return bucket.shut_until_ms if bucket else 0

    def _grant(self, queue: QueueRow, key: str, cost: int) -> None:
        """Take one job through all its limits."""
        for gate, limit in gates_of(queue.discipline, key):
            self._cache.running[gate] += 1
            if limit.rate is not None:
                self._spend(gate, granted(limit.rate, self._cache.buckets.get(gate) or Bucket(), cost, self._now_ms))

    def _spend(self, gate: Gate, bucket: Bucket) -> None:
        self._cache.buckets[gate] = bucket
        self._spent.add(gate)

    def _freed(self, lease: OpenLease, held: Held, *, refund_at_ms: int | None = None) -> None:
        """A job of a lease has ended, or is ready again."""
        if not self._cache.queues[lease.queue].discipline.plain:
            self._free(lease, held, refund_at_ms=refund_at_ms)
        elif held.lane:
            self._mark(self._lane_by_id(held.lane))

    def _free(self, lease: OpenLease, held: Held, *, refund_at_ms: int | None = None) -> None:
        """A job of a lease has ended, or was handed back: its limits have room again, in the same transaction.

        `refund_at_ms`: it was not started; its tokens of that time are given back, too.
        """
        queue = self._cache.queues[lease.queue]
        lane = self._lane_by_id(held.lane) if held.lane else queue.home
        for gate, limit in gates_of(queue.discipline, lane.key):
            self._cache.running[gate] -= 1
            if limit.rate is not None and refund_at_ms is not None and gate in self._cache.buckets:
                bucket = self._cache.buckets[gate]
                self._spend(gate, refunded(limit.rate, bucket, held.cost, refund_at_ms, self._now_ms))
            self._open(gate)
        self._mark(lane)

    def _open(self, gate: Gate) -> None:
        """A limit has room: whoever waited at it is looked at again."""
        for name in self._cache.stalled.pop(gate, ()):
            if (queue := self._cache.queues.get(name)) is not None:
                self._cache.wake(queue)
        text = gate_text(gate)
        if text in self._cache.gated:
            self._cache.gated.discard(text)
            self._mark_all(row[0] for row in self._db.execute(SQL.lane_at_gate, (text,)).fetchall())
            self._mark_all(lane.id for lane in self._changed.values() if lane.gate == text)

    def _waits_again(self, queue: QueueRow, job_id: int) -> None:
        """A job waits that did not: the search for the oldest one must not have passed it."""
        queue.oldest_id = min(queue.oldest_id, job_id)
        if job_id < queue.oldest_kept:
            self._keep_oldest(queue)

    def _keep_oldest(self, queue: QueueRow) -> None:
        queue.oldest_kept = queue.oldest_id
        self._db.execute(SQL.meta_put, (oldest_name(queue), queue.oldest_id))

    def _mark_all(self, ids: Iterable[int]) -> None:
        for lane_id in list(ids):
            self._mark(self._lane_by_id(lane_id))

    @property
    def asleep_until_ms(self) -> int | None:
        """When the next of what waits for a time is to be looked at."""
        naps = self._cache.naps
        return naps[0][0] if naps else None

    def wake(self) -> None:
        """Look again at what waited for a time.

        After the clock was set back, at all of it: those times were of another clock.
        """
        cache = self._cache
        if not cache.buckets_checked:
            self._check_buckets()
        if self._now_ms < cache.woken_at_ms:
            cache.rouse()
        cache.woken_at_ms = self._now_ms
        for name, gate in cache.rise(self._now_ms, WOKEN_MAX):
            if gate is not None:
                self._open(gate)
            elif (queue := cache.queues.get(name)) is not None:
                cache.wake(queue)
        self._place_marked()

    def _check_buckets(self) -> None:
        """What was remembered of a limit may go by another rate, or another clock: no more of it than there can be."""
        self._cache.buckets_checked = True
        for gate, bucket in list(self._cache.buckets.items()):
            self._check_bucket(gate, self._cache.rates.get(gate[0]), bucket)

    def _check_bucket(self, gate: Gate, rate: Rate | None, bucket: Bucket) -> Bucket:
        """What is right of a bucket, which is stored if it is other than it was."""
        known = corrected(rate, bucket, self._now_ms) if rate else bucket
        if known is not bucket:
            self._spend(gate, known)
        return known

    def clock_set(self, step_ms: int) -> None:
        """The clock was set by so much: what was remembered by it means what it meant before, as far as it can."""
        for gate, bucket in list(self._cache.buckets.items()):
            known = self._check_bucket(gate, self._cache.rates.get(gate[0]), bucket)
            if bucket.shut_until_ms:
                self._spend(gate, known._replace(shut_until_ms=max(0, bucket.shut_until_ms + step_ms)))
        for queue in self._cache.queues.values():
            if queue.shut_until_ms:
                queue.shut_until_ms = max(0, queue.shut_until_ms + step_ms)
        self._cache.rouse()

    def shut(self, queue: str, key: str, until_ms: int) -> None:
        """Hand out nothing of a queue, or of one key of it, before this time."""
        row = self._queue(queue)
        gate = (f"key:{queue}", key) if key else (f"queue:{queue}", "")
        bucket = self._cache.buckets.get(gate) or Bucket()
        if until_ms <= bucket.shut_until_ms:
            return
        self._spend(gate, bucket._replace(shut_until_ms=until_ms))
        if key:
            self._mark(self._lane(row, key))
        else:
            row.shut_until_ms = until_ms
            self._cache.nap(until_ms, queue)

    def forget_buckets(self, rows_max: int) -> int:
        """Forget limits whose state says nothing any more; returns how many."""
        if self._spent:
            self._write_buckets()
        gone = self._db.execute(SQL.bucket_forget, (self._now_ms, rows_max)).fetchall()
        for name, key in gone:
            self._cache.buckets.pop((name.decode(), key.decode()), None)
        return len(gone)


def _stored_turn(lane: Lane) -> tuple[int | None, ...]:
    """A lane's turn as its row has it; a home lane has none, only whether it is in line."""
    return lane.turn or (None, int(lane.present), None)
