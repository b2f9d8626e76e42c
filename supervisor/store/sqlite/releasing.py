"""A step that waits for nothing any more: it becomes ready, or scheduled, or is skipped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from supervisor.flow import condition
from supervisor.flow.rules import FlowState
from supervisor.job import Event, State, after
from supervisor.policy.rank import rank
from supervisor.store.protocol import SOLO, TRAILED, Expiry
from supervisor.store.sqlite.adding import Adding
from supervisor.store.sqlite.base import encode
from supervisor.store.sqlite.feeding import SKIPPED, Feeding
from supervisor.store.sqlite.statements import SQL

FED_BYTES_MAX = 1024 * 1024
"""So much of results and signals a step is told at most."""
TOO_LARGE = "results_too_large"


class Releasing(Feeding, Adding):
    """What becomes of steps whose time has come."""

    def _release(self, ids: Sequence[int]) -> None:
        """Let steps go on. One that would be fed more than may be is dead; one whose condition fails is skipped."""
        listed = encode(list(ids)).decode()
        heavy = dict(self._db.execute(SQL.fed_bytes, (listed, FED_BYTES_MAX)).fetchall())
        for row in self._db.execute(SQL.step_release, (listed,)).fetchall():
            job_id, flow_id, rules = row[0], row[8], msgspec.json.decode(row[9]) if row[9] else {}
            flow = self._flow(flow_id)
            if flow is None or flow.state is FlowState.CANCELLING:
                self._end_step(job_id, State.CANCELLED, "the flow was cancelled")
            elif job_id in heavy:
                self._end_step(job_id, State.DEAD, TOO_LARGE)
            elif "when" not in rules or self._wanted(job_id, rules["when"]):
                self._go_on(row, rules)

    def _wanted(self, job_id: int, expression: str) -> bool:
        """Whether a step's condition holds; if not, or if it cannot be told, the step is skipped, with the reason."""
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

    def _go_on(self, row: Sequence[Any], rules: dict[str, Any]) -> None:
        job_id, queue_id, lane_id, priority, failures, crashes, interruptions, solo = row[:8]
        queue = self._cache.by_id[queue_id]
        lane = queue.home if lane_id == queue.home.id else self._lane_by_id(lane_id)
        place = rank(queue.discipline.order, priority, self._sequence(1))
        due_at = rules.get("due_at_ms")
        if "delay_ms" in rules:
            due_at = self._now_ms + rules["delay_ms"]
        later = due_at if due_at is not None and due_at > self._now_ms else None
        self._db.execute(SQL.blocked_remove, (job_id,))
        trail = (job_id, failures, crashes, interruptions, *place, later, solo)
        self._db.execute(SQL.step_trail, (*trail, later or self._now_ms))
        if later is not None:
            after(State.BLOCKED, Event.UNBLOCK_LATER)
            self._db.execute(SQL.insert_scheduled, (later, job_id))
            self._note_due(later)
        else:
            self._db.execute(SQL.insert_ready, (lane.id, *place, job_id, SOLO if solo else TRAILED))
            self._mark(lane)
        if "ttl_ms" in rules:
            self._give_ttl(job_id, (later or self._now_ms) + rules["ttl_ms"])
        self._waits_again(queue, job_id)
        self._count(queue, State.BLOCKED, -1)
        self._count(queue, State.QUEUED if later is None else State.SCHEDULED, 1)

    def _give_ttl(self, job_id: int, at_ms: int) -> None:
        """A step's time to live begins when it is released."""
        expiry = Expiry(at_ms, job_id, ttl=True)
        self._db.execute(SQL.expiry_put, (expiry.at_ms, expiry.id, 1))
        self._db.execute(SQL.options_expiry, (job_id, at_ms))
        self.earliest_expiry_ms = at_ms if self.earliest_expiry_ms is None else min(at_ms, self.earliest_expiry_ms)
