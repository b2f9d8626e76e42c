"""What the rows say, kept between transactions: queues, lanes, sequences, counts, open leases.

The store makes it anew from rows whenever another connection wrote, or a transaction failed. How much of a limit is in
use is nowhere stored: it follows from the open leases, so nothing that dies can keep a slot.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import groupby
from typing import Any

import msgspec

from supervisor.job import State
from supervisor.policy.discipline import Discipline, DisciplineOf, Limit
from supervisor.policy.rank import Turn
from supervisor.policy.rate import Bucket, Rate
from supervisor.store.history import Figures
from supervisor.store.protocol import Held, Loan, OpenLease
from supervisor.store.sqlite.graph import Graph
from supervisor.store.sqlite.statements import SQL

LANES_MAX = 50_000
"""Lanes of keys that are remembered between transactions; beyond it they are read again."""

Gate = tuple[str, str]
"""A limit's name, and the key it holds for; "" for a limit of whole queues."""


class QueueRow:
    """A queue. `turns` counts its lanes whose first job could be leased; `home` is the lane of jobs without a key."""

    __slots__ = ("clock", "discipline", "home", "id", "name", "oldest_id", "oldest_kept", "paused", "ranking",
                 "rerank_after", "rerank_until", "shut_until_ms", "turns")  # fmt: skip

    def __init__(self, row: tuple[Any, ...], discipline: Discipline, home: Lane) -> None:
        self.id, self.name, self.paused, self.clock, self.ranking, self.rerank_after, self.rerank_until = row
        self.discipline = discipline
        self.home = home
        self.turns = 0
        self.shut_until_ms = 0
        self.oldest_id = 0
        """Where the search for the oldest waiting job goes on: below it none was found."""
        self.oldest_kept = 0
        """What the rows say of it: less, so that it need not be written with every job."""


class Lane:
    """A lane: the jobs of one key of a queue. `turn` is None while nothing of it may be leased.

    `held`: the job that keeps an ordered lane shut; `doom`: the dead job that takes the rest along;
    `gate`: the limit, as text, at which it waits; `present`: a home lane was in line when it was last looked at.
    """

    __slots__ = ("doom", "gate", "held", "id", "jobs", "key", "paused", "present", "queue", "turn", "vtime")

    def __init__(self, row: tuple[Any, ...]) -> None:
        self.id, self.queue, key, self.jobs, self.vtime, self.paused, self.held, self.doom, a, b, c, gate = row
        self.key = key.decode()
        self.turn: Turn | None = None if a is None else (a, b, c)
        self.gate: str | None = None if gate is None else gate.decode()
        self.present = bool(b) and a is None

    def shut(self, *, ordered: bool) -> bool:
        """Whether it is shut for another reason than a limit. Only where order counts does a job hold its lane."""
        return bool(self.paused) or self.doom is not None or (ordered and self.held is not None)


class Cache:
    """What the rows say, kept between transactions; never believed after another connection wrote."""

    def __init__(self, connection: Any, discipline_of: DisciplineOf) -> None:
        self.discipline_of = discipline_of
        self.queues: dict[str, QueueRow] = {}
        self.by_id: dict[int, QueueRow] = {}
        self.lanes: dict[int, Lane] = {}
        self.lane_ids: dict[tuple[int, str], int] = {}
        self.leases: dict[int, OpenLease] = {}
        self.loans: dict[int, Loan] = {}
        self.loan_keys: dict[str, int] = {}
        self._borrowed: Counter[int] = Counter()
        """By owner: how many loans it has."""
        self.sequences: dict[str, int] = {}
        self.tally: Counter[tuple[int, str]] = Counter()
        self.running: Counter[Gate] = Counter()
        self.buckets: dict[Gate, Bucket] = {}
        self.rates: dict[str, Rate] = {}
        self.gated: set[str] = set()
        """Limits, as text, at which lanes wait."""
        self.active: dict[str, OrderedDict[str, None]] = {}
        """By group: queues in which something may be leased, as far as is known; who was served goes to the end."""
        self.stalled: dict[Gate, set[str]] = {}
        """Queues that wait for a limit of theirs to have room."""
        self.naps: list[tuple[int, str, Gate | None]] = []
        """When to look again: (time, queue or "", limit at which lanes wait or None), the earliest first."""
        self._earliest: dict[tuple[str, Gate | None], int] = {}
        """The one among `naps` that counts; later ones are left where they are until their time."""
        self.woken_at_ms = 0
        self.buckets_checked = False
        """Whether the buckets have been held against the rates of now, which may be others than before."""
        self.sources: dict[str, dict[str, int]] = {}
        self.reranking: set[str] = set()
        self.has_checkpoints = connection.execute(SQL.checkpoint_any).fetchone() is not None
        self.has_idempotent = connection.execute(SQL.idempotent_any).fetchone() is not None
        self.has_unique = connection.execute(SQL.uniq_any).fetchone() is not None
        some, self.flows, left = connection.execute(SQL.flows_count).fetchone()
        self.has_flows = bool(some)
        """Whether there are flows; `flows` is how many have not ended."""
        self.flows_left = bool(left)
        """Whether rows say that something ended which is not told to all that comes after it."""
        self.cancelling = {row[0]: 0 for row in connection.execute(SQL.flows_cancelling)}
        """Flows to be cancelled, each with the last step that was looked at."""
        self.graph = Graph()
        self.figures: dict[tuple[str, int], Figures] = {}
        self.minute = 0
        self._load(connection)

    def _load(self, db: Any) -> None:
        for row in db.execute(SQL.queues).fetchall():
            self.note_queue((row[0], row[1].decode(), *row[2:4], row[4].decode(), *row[5:7]), Lane(row[7:]))
        self.sequences = {name.decode(): value for name, value in db.execute(SQL.sequences)}
        oldest = {name.decode(): job_id for name, job_id in db.execute(SQL.meta_oldest)}
        for queue_row in self.by_id.values() if oldest else ():
            queue_row.oldest_id = queue_row.oldest_kept = oldest.get(oldest_name(queue_row), 0)
        for queue, state, jobs in db.execute(SQL.tally_of_queues):
            self.tally[queue, state.decode()] = jobs
        for pool, source, vtime in db.execute(SQL.sources):
            self.sources.setdefault(pool.decode(), {})[source.decode()] = vtime
        for queue, turns in db.execute(SQL.lane_turns):
            self.by_id[queue].turns = turns
        self._load_leases(db)
        self._load_loans(db)
        self._load_limits(db)
        for (queue, state), jobs in self.tally.items():
            if state == State.QUEUED.value and jobs > 0:
                self.wake(self.by_id[queue])

    def _load_leases(self, db: Any) -> None:
        rows = db.execute(SQL.lease_open).fetchall()
        for token, group in groupby(rows, key=lambda row: row[0]):
            jobs = list(group)
            decoded = [msgspec.json.decode(row[4]) for row in jobs]
            listed = msgspec.json.encode([job[0] for job in decoded]).decode()
            ready = dict(db.execute(SQL.ready_since, (listed,)).fetchall())
            held = {job_id: Held(*place)._replace(ready_at_ms=ready.get(job_id, 0)) for job_id, *place in decoded}
            queue = self.by_id[jobs[0][2]]
            lease = OpenLease(token, jobs[0][1], queue.name, held, jobs[0][3])
            self.leases[token] = lease
            if not queue.discipline.plain:
                self._count_gates(db, queue, lease)

    def _load_loans(self, db: Any) -> None:
        for token, consumer, boot, until_boot, lease_ms, until_at, key, prolonged in db.execute(SQL.loans).fetchall():
            if token in self.leases:
                told = key.decode() if key is not None else None
                loan = Loan(consumer.decode(), boot.decode(), until_boot, lease_ms, until_at, told, prolonged)
                self.note_loan(self.leases[token], loan)

    def note_loan(self, lease: OpenLease, loan: Loan) -> None:
        """Remember that a consumer holds a lease."""
        if lease.token not in self.loans:
            self._borrowed[lease.owner] += 1
        self.loans[lease.token] = loan
        if loan.key is not None:
            self.loan_keys[loan.key] = lease.token

    def drop_loan(self, lease: OpenLease) -> int | None:
        """Forget a loan; returns its owner, if that has no other."""
        loan = self.loans.pop(lease.token)
        if loan.key is not None and self.loan_keys.get(loan.key) == lease.token:
            del self.loan_keys[loan.key]
        self._borrowed[lease.owner] -= 1
        if self._borrowed[lease.owner]:
            return None
        del self._borrowed[lease.owner]
        return lease.owner

    def _count_gates(self, db: Any, queue: QueueRow, lease: OpenLease) -> None:
        for held in lease.jobs.values():
            lane = self.lane(db, held.lane) if held.lane else queue.home
            for gate, _ in gates_of(queue.discipline, lane.key):
                self.running[gate] += 1

    def _load_limits(self, db: Any) -> None:
        for name, key, state, _ in db.execute(SQL.buckets):
            gate = name.decode(), key.decode()
            bucket = msgspec.json.decode(state, type=Bucket)
            self.buckets[gate] = bucket
            if bucket.shut_until_ms and gate[0].startswith("queue:") and (queue := self.queues.get(gate[0][6:])):
                queue.shut_until_ms = bucket.shut_until_ms
        for (gate,) in db.execute(SQL.lane_gates):
            self.gated.add(gate.decode())
            self.nap(0, "", gate_of(gate.decode()))

    def note_queue(self, row: tuple[Any, ...], home: Lane) -> QueueRow:
        """Remember a queue and the lane of its jobs without a key."""
        queue = QueueRow(row, self.discipline_of(row[1]), home)
        self.queues[queue.name] = self.by_id[queue.id] = queue
        for limit in (*queue.discipline.limits, *queue.discipline.key_limits):
            if limit.rate is not None:
                self.rates[limit.name] = limit.rate
        if queue.rerank_after is not None or queue.ranking != ranking_of(queue.discipline):
            self.reranking.add(queue.name)
        return queue

    def lane(self, db: Any, lane_id: int) -> Lane:
        """A lane by its id, read if it is not known."""
        found = self.lanes.get(lane_id)
        if found is None:
            row = db.execute(SQL.lane_get, (lane_id,)).fetchone()
            home = self.by_id[row[1]].home
            found = home if home.id == lane_id else self.note_lane(Lane(row))
        return found

    def note_lane(self, lane: Lane) -> Lane:
        """Remember the lane of a key."""
        self.lanes[lane.id] = lane
        self.lane_ids[lane.queue, lane.key] = lane.id
        return lane

    def drop_lane(self, lane: Lane) -> None:
        """Forget a lane that is no more."""
        self.lanes.pop(lane.id, None)
        self.lane_ids.pop((lane.queue, lane.key), None)

    def forget_lanes(self) -> None:
        """Between transactions: do not remember more lanes than are worth their room."""
        if len(self.lanes) > LANES_MAX:
            self.lanes.clear()
            self.lane_ids.clear()

    def wake(self, queue: QueueRow) -> None:
        """Something of the queue may be leased, as far as is known."""
        if not queue.paused:
            self.active.setdefault(queue.discipline.group, OrderedDict()).setdefault(queue.name)

    def served(self, queue: QueueRow) -> None:
        """Something of the queue was leased: the others of its group come first now."""
        group = self.active.get(queue.discipline.group)
        if group is not None and queue.name in group:
            group.move_to_end(queue.name)

    def rest(self, queue: QueueRow) -> None:
        """Nothing of the queue can be leased until something happens that wakes it."""
        group = self.active.get(queue.discipline.group)
        if group is not None:
            group.pop(queue.name, None)

    def nap(self, until_ms: int, queue: str, gate: Gate | None = None) -> None:
        """Look again at a queue, or at the lanes that wait at a limit, at this time if not before."""
        known = self._earliest.get((queue, gate))
        if known is None or until_ms < known:
            self._earliest[queue, gate] = until_ms
            heappush(self.naps, (until_ms, queue, gate))

    def rise(self, now_ms: int, count_max: int) -> Iterator[tuple[str, Gate | None]]:
        """What is to be looked at by now, so many at most."""
        while self.naps and count_max and self.naps[0][0] <= now_ms:
            until_ms, queue, gate = heappop(self.naps)
            if self._earliest.get((queue, gate)) == until_ms:
                del self._earliest[queue, gate]
                count_max -= 1
                yield queue, gate

    def rouse(self) -> None:
        """Let all that waits for a time be looked at next."""
        self._earliest = dict.fromkeys(self._earliest, 0)
        self.naps = sorted((0, queue, gate) for queue, gate in self._earliest)


def oldest_name(queue: QueueRow) -> str:
    """Under which name `oldest_kept` is stored."""
    return f"oldest:{queue.id}"


def gates_of(discipline: Discipline, key: str) -> list[tuple[Gate, Limit]]:
    """Every limit that a job with this key must pass."""
    return [((limit.name, ""), limit) for limit in discipline.limits] + lane_gates(discipline, key)


def lane_gates(discipline: Discipline, key: str) -> list[tuple[Gate, Limit]]:
    """The limits that hold for this key by itself."""
    return [((limit.name, key), limit) for limit in discipline.key_limits if key or limit.keyless]


def gate_text(gate: Gate) -> str:
    """A limit and its key in one text."""
    return "\0".join(gate)


def gate_of(text: str) -> Gate:
    """The way back from `gate_text`."""
    name, _, key = text.partition("\0")
    return name, key


def ranking_of(discipline: Discipline) -> str:
    """What decides ranks, as it is stored: another text means that waiting jobs must be ranked anew."""
    return msgspec.json.encode([*discipline.order.terms, discipline.order.age_ms, discipline.ordered]).decode()
