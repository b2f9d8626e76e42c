"""A step that waits for nothing any more: it becomes ready, or scheduled, or is skipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from supervisor.errors import StoreError
from supervisor.flow import condition
from supervisor.flow.rules import FlowState
from supervisor.job import Event, State, after
from supervisor.policy.rank import rank, ranks
from supervisor.store.protocol import OVERFED, SOLO, TRAILED, Expiry
from supervisor.store.sqlite.adding import Adding
from supervisor.store.sqlite.base import encode
from supervisor.store.sqlite.cache import QueueRow
from supervisor.store.sqlite.feeding import Feeding
from supervisor.store.sqlite.graph import Node
from supervisor.store.sqlite.statements import SQL

SKIPPED = "skipped"
NOT_AS_REMEMBERED = "steps of a flow are not what is remembered of them"
"""With this the transaction fails, and they are read again."""
FED_BYTES_MAX = 1024 * 1024
"""So much of results a step is told at most."""


class Stand(NamedTuple):
    """Where steps line up that may run: one after another of a queue, as far as its order counts their priority."""

    queue: int
    level: int


class Releasing(Feeding, Adding):
    """What becomes of steps whose time has come."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self._uncounted_bytes = 0
        """Of results of steps that are being told of, and that their flows have not counted yet."""
        self.overfed: list[int] = []
        """Steps that are dead as they would be fed too much."""

    def _release(self, ids: Sequence[int]) -> None:
        """Let steps go on. One that would be fed more than may be is dead; one whose condition fails is skipped."""
        rows = self._db.execute(SQL.step_release, (encode(list(ids)).decode(),)).fetchall()
        heavy = self._heavy(rows)
        free: dict[Stand, dict[int, int]] = {}
        for row in rows:
            job_id, flow_id, rules = row[0], row[8], row[9]
            flow = self._flow(flow_id)
            assert flow is not None
            if flow.state is FlowState.CANCELLING:
                self._end_step(job_id, State.CANCELLED, "the flow was cancelled")
            elif job_id in heavy:
                self._end_step(job_id, State.DEAD, OVERFED)
                self.overfed.append(job_id)
            elif rules is None:
                free.setdefault(self._stand(row[1], row[3]), {})[job_id] = row[2]
            elif self._wanted(job_id, msgspec.json.decode(rules)):
                self._go_on_later(row, msgspec.json.decode(rules))
        for stand, lanes in free.items():
            self._make_ready(stand, lanes)

    def _heavy(self, rows: Sequence[tuple[Any, ...]]) -> set[int]:
        """Those that would be fed more than may be; looked for only in flows whose results are as large in all."""
        flows = [flow for flow_id in {row[8] for row in rows} if (flow := self._flow(flow_id)) is not None]
        if all(self._root_of(flow).bytes + self._uncounted_bytes <= FED_BYTES_MAX for flow in flows):
            return set()
        listed = encode([row[0] for row in rows]).decode()
        return {row[0] for row in self._db.execute(SQL.fed_bytes, (listed, FED_BYTES_MAX)).fetchall()}

    def _wanted(self, job_id: int, rules: dict[str, Any]) -> bool:
        """Whether a step's condition holds; if not, or if it cannot be told, the step is skipped, with the reason."""
        expression = rules.get("when")
        if expression is None:
            return True
        reason = f"{SKIPPED}: {expression} does not hold"
        try:
            if condition.holds(expression, self._facts_of(job_id)):
                return True
        except condition.BadCondition as error:
            reason = f"{SKIPPED}: {expression} could not be computed: {error}"
        self._db.execute(SQL.step_mark, (job_id, 1, 0))
        self._end_step(job_id, State.CANCELLED, reason)
        return False

    def _end_step(self, job_id: int, state: State, reason: str) -> None:
        row, stands = self._place(job_id)
        self._withdraw(row, stands, reason, state)

    def _release_known(self, known: Mapping[int, Node]) -> None:
        """Let steps go on that are remembered: nothing but a flow that is cancelled keeps them from it."""
        over = {flow_id for flow_id in {node.plan.flow for node in known.values()} if self._is_cancelled(flow_id)}
        free: dict[tuple[int, int], list[int]] = {}
        for job_id, node in known.items():
            if over and node.plan.flow in over:
                self._end_step(job_id, State.CANCELLED, "the flow was cancelled")
            elif node.place in free:
                free[node.place].append(job_id)
            else:
                free[node.place] = [job_id]
        for place, ids in free.items():
            queue, first, listed = self._line_up_steps(Stand(*place), ids)
            self._db.execute(SQL.steps_ready, (queue.home.id, *first, -self._now_ms, listed))

    def _is_cancelled(self, flow_id: int) -> bool:
        flow = self._flow(flow_id)
        assert flow is not None
        return flow.state is FlowState.CANCELLING

    def _stand(self, queue_id: int, priority: int) -> Stand:
        return Stand(queue_id, self._cache.by_id[queue_id].discipline.order.level(priority))

    def _make_ready(self, stand: Stand, lanes: Mapping[int, int]) -> None:
        """Steps that may run now, by the lane of each."""
        queue, first, listed = self._line_up_steps(stand, list(lanes))
        self._db.execute(SQL.steps_ready_each, (*first, TRAILED, SOLO, listed))
        for lane_id in dict.fromkeys(lanes.values()):
            if lane_id != queue.home.id:
                self._mark(self._lane_by_id(lane_id))

    def _line_up_steps(self, stand: Stand, ids: Sequence[int]) -> tuple[QueueRow, tuple[int, int, int], str]:
        """Steps wait no more: the place of the first, and how far that of the next one is from it; the ids as JSON.

        Whoever asks puts them there.
        """
        queue = self._cache.by_id[stand.queue]
        band, places = ranks(queue.discipline.order, stand.level, self._sequence(len(ids)), len(ids))
        listed = encode(ids).decode()
        if self._db.execute(SQL.steps_unblock, (listed,)).rowcount != len(ids):
            raise StoreError(NOT_AS_REMEMBERED)
        self._db.execute(SQL.steps_trails, (band, places.start, places.step, self._now_ms, listed))
        self._waits_again(queue, min(ids))
        self._count(queue, State.BLOCKED, -len(ids))
        self._count(queue, State.QUEUED, len(ids))
        return queue, (band, places.start, places.step), listed

    def _go_on_later(self, row: tuple[Any, ...], rules: dict[str, Any]) -> None:
        """A step with times of its own, which begin now."""
        job_id, queue_id, lane_id, priority, failures, crashes, interruptions, solo = row[:8]
        due_at = self._now_ms + rules["delay_ms"] if "delay_ms" in rules else rules.get("due_at_ms")
        if "ttl_ms" in rules:
            self._give_ttl(job_id, max(due_at or 0, self._now_ms) + rules["ttl_ms"])
        if due_at is None or due_at <= self._now_ms:
            self._make_ready(self._stand(queue_id, priority), {job_id: lane_id})
            return
        queue = self._cache.by_id[queue_id]
        after(State.BLOCKED, Event.UNBLOCK_LATER)
        place = rank(queue.discipline.order, priority, self._sequence(1))
        self._db.execute(SQL.blocked_remove, (job_id,))
        self._db.execute(SQL.step_trail, (job_id, failures, crashes, interruptions, *place, due_at, solo, due_at))
        self._db.execute(SQL.insert_scheduled, (due_at, job_id))
        self._note_due(due_at)
        self._waits_again(queue, job_id)
        self._count(queue, State.BLOCKED, -1)
        self._count(queue, State.SCHEDULED, 1)

    def _give_ttl(self, job_id: int, at_ms: int) -> None:
        """A step's time to live begins when it is released."""
        expiry = Expiry(at_ms, job_id, ttl=True)
        self._db.execute(SQL.expiry_put, (expiry.at_ms, expiry.id, 1))
        self._db.execute(SQL.options_expiry, (job_id, at_ms))
        self.earliest_expiry_ms = at_ms if self.earliest_expiry_ms is None else min(at_ms, self.earliest_expiry_ms)
