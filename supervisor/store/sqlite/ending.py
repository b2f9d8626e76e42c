"""How flows end, and the jobs that they enqueue then: each callback once in the life of a flow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from supervisor.flow.rules import Callback, FlowState, Policy, due, end_of, tolerated
from supervisor.job import State
from supervisor.store.protocol import FlowEnd, NewJob
from supervisor.store.sqlite.adding import Pending
from supervisor.store.sqlite.base import encode
from supervisor.store.sqlite.releasing import Releasing
from supervisor.store.sqlite.statements import SQL
from supervisor.store.sqlite.steps import SIGNAL, FlowRow


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

    def _count_ends(self, steps: Iterable[EndedStep]) -> None:
        """Flows count the ends of their steps, each once."""
        touched: dict[int, FlowRow] = {}
        for step_id, flow_id, kind, state, skipped, fails, result_bytes in steps:
            if kind == SIGNAL:
                continue
            flow = touched.get(flow_id) or self._flow(flow_id)
            assert flow is not None
            touched[flow_id] = flow
            flow.unfinished -= 1
            if result_bytes:
                self._root_of(flow).bytes += result_bytes
            if fails or skipped:
                self._count_failure(flow, step_id, state, skipped=skipped, fails=fails)
        for flow in touched.values():
            self._end_if_done(flow)

    def _count_failure(self, flow: FlowRow, step_id: int, state: State, *, skipped: bool, fails: bool) -> None:
        forgiven = fails and tolerated([Policy(row[0]) for row in self._db.execute(SQL.edges_policies, (step_id,))])
        if forgiven:
            self._db.execute(SQL.step_mark, (step_id, 0, 1))
        flow.count(state, 1, skipped=skipped, tolerated=forgiven)
        if state is State.DEAD and not flow.told & Callback.DEATH:
            self._call(flow, Callback.DEATH)

    def _end_if_done(self, flow: FlowRow) -> None:
        """A flow ends when its last step has, and a flow around it counts that as the end of a step."""
        if flow.unfinished or flow.open or flow.state.final:
            return
        flow.state = end_of(flow.counts, cancelling=flow.state is FlowState.CANCELLING)
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
        payload = encode({"flow": self._shown(flow, callback), "payload": made["payload"]})
        options = made.get("options")
        job = NewJob(payload, made.get("priority", 0), None, encode(options) if options else None)
        pending, ids = Pending(), self.reserve(1)
        self._add(self._queue(made["queue"]), ids, [job], pending)
        self._write(pending)
        if flow.parent is not None:
            self._join(flow.parent, ids)

    def _shown(self, flow: FlowRow, callback: Callback) -> dict[str, Any]:
        steps, unfinished, dead, cancelled, skipped = flow.counts
        done = steps - unfinished - dead - cancelled - skipped
        return {
            "id": flow.id, "name": flow.name, "state": flow.state.value, "event": callback.name.lower(),
            "steps": {"all": steps, "unfinished": unfinished, "completed": done, "dead": dead, "cancelled": cancelled,
                      "skipped": skipped},
        }  # fmt: skip
