"""How flows end, and the jobs that they enqueue then: each callback once in the life of a flow."""

from __future__ import annotations

from typing import Any

import msgspec

from supervisor.flow.rules import CALLBACKS, Callback, FlowState, Policy, due, end_of, tolerated
from supervisor.job import State
from supervisor.store.protocol import FlowEnd, NewJob
from supervisor.store.sqlite.adding import Pending
from supervisor.store.sqlite.base import encode
from supervisor.store.sqlite.releasing import Releasing
from supervisor.store.sqlite.statements import SQL
from supervisor.store.sqlite.steps import FlowRow


class Ending(Releasing):
    """What the end of a step is to its flow."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self._flow_ends: list[FlowEnd] = []
        """Flows that ended in this transaction and that nobody was told of yet."""

    def _count_end(self, step_id: int, flow_id: int, state: State, *, skipped: bool, fails: bool) -> None:
        flow = self._flow(flow_id)
        assert flow is not None
        forgiven = fails and tolerated([Policy(row[0]) for row in self._db.execute(SQL.edges_policies, (step_id,))])
        if forgiven:
            self._db.execute(SQL.step_mark, (step_id, 0, 1))
        flow.count(state, 1, skipped=skipped, tolerated=forgiven)
        flow.unfinished -= 1
        if state is State.DEAD and not flow.told & Callback.DEATH:
            self._call(flow, Callback.DEATH)
        self._end_if_done(flow)

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
        made = calls.get(next(name for name, value in CALLBACKS.items() if value is callback))
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
