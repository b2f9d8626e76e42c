"""How flows end, and the jobs that they enqueue then: each callback once in the life of a flow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import msgspec

from supervisor.flow.rules import Callback, FlowState, Policy, due, end_of, failed, told, tolerated
from supervisor.job import State
from supervisor.store.protocol import FlowEnd, NewJob
from supervisor.store.sqlite.adding import Pending
from supervisor.store.sqlite.base import encode
from supervisor.store.sqlite.graph import Node
from supervisor.store.sqlite.releasing import Releasing
from supervisor.store.sqlite.statements import SQL
from supervisor.store.sqlite.steps import FLOW, JOB, SIGNAL, FlowRow


class EndedStep(NamedTuple):
    """A step that ended; `fails`: what comes after it must not count it as done."""

    id: int
    flow: int
    kind: int
    state: State
    skipped: bool
    fails: bool
    result_bytes: int


class Ending(Releasing):
    """What the end of a step is to its flow."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self._flow_ends: list[FlowEnd] = []
        """Flows that ended in this transaction and that nobody was told of yet."""

    def _count_ends(self, steps: Iterable[EndedStep | Node]) -> None:
        """Flows count the ends of their steps, each once, in this order; those that are remembered have completed."""
        touched: dict[int, FlowRow] = {}
        for step in steps:
            if isinstance(step, Node):
                touched[step.plan.flow] = self._count_end(step.plan.flow, 1, step.result_bytes or 0)
            elif step.kind != SIGNAL:
                flow = touched[step.flow] = self._count_end(step.flow, 1, step.result_bytes)
                if step.fails or step.skipped:
                    self._count_failure(flow, step)
        for flow in touched.values():
            self._end_if_done(flow)

    def _count_known(self, known: Collection[Node]) -> None:
        """The same for steps that are all remembered."""
        counts = Counter(node.plan.flow for node in known)
        for node in known:
            if node.result_bytes:
                self._count_end(node.plan.flow, 0, node.result_bytes)
        for flow in [self._count_end(flow_id, count, 0) for flow_id, count in counts.items()]:
            self._end_if_done(flow)

    def _count_end(self, flow_id: int, steps: int, result_bytes: int) -> FlowRow:
        flow = self._flow(flow_id)
        assert flow is not None
        flow.unfinished -= steps
        self._root_of(flow).bytes += result_bytes
        return flow

    def _count_failure(self, flow: FlowRow, step: EndedStep) -> None:
        policies = [Policy(row[0]) for row in self._db.execute(SQL.edges_policies, (step.id,))] if step.fails else []
        forgiven = step.fails and tolerated(policies)
        if forgiven:
            self._db.execute(SQL.step_mark, (step.id, 0, 1))
        flow.count(step.state, 1, skipped=step.skipped, tolerated=forgiven)
        if step.state is State.DEAD:
            self._call_at_death(flow)

    def _call_at_death(self, flow: FlowRow) -> None:
        """Once the first of a flow's jobs is dead; those of the flows in it are among them."""
        around: FlowRow | None = flow
        while around is not None:
            if not around.told & Callback.DEATH:
                self._call(around, Callback.DEATH)
            around = self._flow(around.parent) if around.parent is not None else None

    def _count_anew(self, steps: Sequence[int]) -> None:
        """More steps come after these: of those whose flows counted that they failed, others may mind it now."""
        listed = encode(list(steps)).decode()
        uncounted = {row[0] for row in self._db.execute(SQL.ended_among, (listed,))} | set(self._final)
        for step in self._ended_steps(list(steps)).values():
            if not step.fails or step.id in uncounted:
                continue
            flow = self._flow(step.flow)
            assert flow is not None
            ((_, _, _, _, before),) = self._db.execute(SQL.steps_among, (encode([step.id]).decode(),)).fetchall()
            now = tolerated([Policy(row[0]) for row in self._db.execute(SQL.edges_policies, (step.id,))])
            if now != bool(before):
                flow.count(step.state, -1, skipped=False, tolerated=bool(before))
                flow.count(step.state, 1, skipped=False, tolerated=now)
                self._db.execute(SQL.step_mark, (step.id, 0, int(now)))

    def _ended_steps(self, ids: list[int]) -> dict[int, EndedStep]:
        """How these steps ended; those that run again by now are left out."""
        found: dict[int, EndedStep] = {}
        rows = self._db.execute(SQL.step_ended, (encode(ids).decode(),)) if ids else ()
        for step_id, flow_id, kind, skipped, outcome, size in rows:
            if outcome == b"completed" and kind == JOB:
                found[step_id] = EndedStep(step_id, flow_id, kind, State.COMPLETED, False, False, size)
                continue
            state = self._state_of_step(step_id, kind, outcome)
            if state is not None:
                fails = failed(state, skipped=bool(skipped))
                found[step_id] = EndedStep(step_id, flow_id, kind, state, bool(skipped), fails, size)
        return found

    def _state_of_step(self, step_id: int, kind: int, outcome: bytes | None) -> State | None:
        """How a step ended; None if it has not."""
        if kind == SIGNAL:
            return State.COMPLETED if self._db.execute(SQL.signal_at, (step_id,)).fetchone()[0] is not None else None
        if kind == FLOW:
            flow = self._flow(step_id)
            return State(flow.state.value) if flow is not None and flow.state.final else None
        return None if outcome is None else State(outcome.decode())

    def _end_if_done(self, flow: FlowRow) -> None:
        """A flow ends when its last step has, and a flow around it counts that as the end of a step."""
        if flow.unfinished or flow.open or flow.state.final:
            return
        self._turn(flow, end_of(flow.counts, cancelling=flow.state is FlowState.CANCELLING))
        flow.finished_at = self._now_ms
        self._cache.flows -= 1
        self._cache.cancelling.pop(flow.id, None)
        for callback in (Callback.COMPLETE, Callback.SUCCESS):
            if due(callback, flow.state, flow.told):
                self._call(flow, callback)
        self._flow_ends.append(FlowEnd(flow.id, flow.name, flow.state))
        if flow.parent is not None:
            self._final.append(flow.id)

    def _call(self, flow: FlowRow, callback: Callback) -> None:
        """Enqueue the job of a callback, whatever room its queue has: once in the life of a flow, never dropped."""
        flow.told |= callback
        calls = msgspec.json.decode(flow.callbacks) if flow.callbacks else {}
        made = calls.get(callback.key)
        if made is None:
            return
        payload = encode(
            {"flow": told(flow.id, flow.name, flow.state, callback, flow.counts), "payload": made["payload"]}
        )
        options = made.get("options")
        job = NewJob(payload, made.get("priority", 0), None, encode(options) if options else None)
        pending, ids = Pending(), self.reserve(1)
        self._add(self._queue(made["queue"]), ids, [job], pending)
        self._write(pending)
        if flow.parent is not None:
            self._join(flow.parent, ids)
