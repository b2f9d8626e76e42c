"""The rows of flows: what each counts, who belongs to one, and what happens to it when a step runs again.

*Invariant:* a flow's `unfinished` is the number of its steps that have not ended, or whose end is not told to all that
comes after them; it ends exactly when that is 0 and nothing more may be added.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from supervisor.flow.rules import Counts, FlowState
from supervisor.job import State
from supervisor.store.driver import plain_text
from supervisor.store.protocol import FlowStanding
from supervisor.store.sqlite.base import Base, encode
from supervisor.store.sqlite.statements import SQL

JOB, FLOW, SIGNAL = 0, 1, 2
"""Kinds of steps: what has the id."""


class FlowRow:
    """A flow as this transaction has it."""

    __slots__ = (
        "bytes", "callbacks", "cancelled", "created_at", "dead", "finished_at", "id", "name", "open", "parent", "root",
        "scope", "skipped", "state", "steps", "told", "unfinished",
    )  # fmt: skip

    def __init__(self, row: Sequence[object]) -> None:
        values = [plain_text(value) for value in row]
        (
            self.id, self.name, state, self.parent, self.root, self.scope, self.open, self.steps, self.unfinished,
            self.dead, self.cancelled, self.skipped, self.told, self.bytes, self.created_at, self.finished_at,
            self.callbacks,
        ) = values  # fmt: skip
        self.state = FlowState(state)

    @property
    def counts(self) -> Counts:
        """How its steps have ended."""
        return Counts(self.steps, self.unfinished, self.dead, self.cancelled, self.skipped)

    def count(self, state: State, change: int, *, skipped: bool, tolerated: bool) -> None:
        """So many more steps, or fewer, have ended in this state."""
        if skipped:
            self.skipped += change
        elif state is State.DEAD and not tolerated:
            self.dead += change
        elif state is State.CANCELLED and not tolerated:
            self.cancelled += change


class Steps(Base):
    """What all verbs must know of flows."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._flows: dict[int, FlowRow] = {}
        """Flows that this transaction has looked at; their rows are written at its end."""
        self._turned: dict[int, FlowRow] = {}
        """Those of them in other flows whose rows say another state, and must not be read before they are written."""

    def _flow(self, flow_id: int) -> FlowRow | None:
        found = self._flows.get(flow_id)
        if found is None:
            row = self._db.execute(SQL.flow_get, (flow_id,)).fetchone()
            if row is None:
                return None
            found = self._flows[flow_id] = FlowRow(row)
        return found

    def _turn(self, flow: FlowRow, state: FlowState) -> None:
        """A flow is in another state from now on."""
        flow.state = state
        if flow.parent is not None:
            self._turned[flow.id] = flow

    def _root_of(self, flow: FlowRow) -> FlowRow:
        """The flow that is in no other; it counts the bytes of all results."""
        root = self._flow(flow.root) if flow.parent is not None else flow
        assert root is not None
        return root

    def flow(self, flow_id: int) -> FlowStanding | None:
        """Where a flow stands; None if there is none of that id."""
        row = self._flow(flow_id)
        if row is None:
            return None
        return FlowStanding(row.id, row.name, row.scope, row.state, bool(row.open), row.counts, row.parent)

    def _count_in(self, flow_id: int, steps: int) -> None:
        """So many more steps belong to a flow."""
        flow = self._flow(flow_id)
        assert flow is not None
        flow.steps += steps
        flow.unfinished += steps

    def _join(self, flow_id: int, ids: Sequence[int]) -> None:
        """Jobs that were inserted belong to a flow that has not ended; nothing comes before them."""
        flow = self._flow(flow_id)
        if flow is None or flow.state.final:
            return
        self._db.executemany(SQL.step_put, [(job_id, flow_id, JOB, None, None) for job_id in ids])
        self._count_in(flow_id, len(ids))
        if flow.state is FlowState.CANCELLING and ids:
            self._cache.cancelling[flow_id] = min(self._cache.cancelling.get(flow_id, ids[0] - 1), ids[0] - 1)

    def _step_named(self, flow_id: int, name: str) -> int | None:
        row = self._db.execute(SQL.step_named, (flow_id, name)).fetchone()
        return None if row is None else int(row[0])

    def without_steps(self, ids: Sequence[int]) -> Sequence[int]:
        """Those of these jobs that belong to no flow."""
        if not self._cache.has_flows or not ids:
            return ids
        steps = {row[0] for row in self._db.execute(SQL.steps_among, (encode(list(ids)).decode(),))}
        return [job_id for job_id in ids if job_id not in steps]

    def _open_edges_into(self, job_id: int) -> int:
        """How many ends and signals a step has not been told of."""
        if not self._cache.has_flows:
            return 0
        open_edges = int(self._db.execute(SQL.edges_left, (job_id,)).fetchone()[0])
        if not self._final:
            return open_edges
        untold = set(self._final)
        return open_edges + sum(row[0] in untold for row in self._db.execute(SQL.edges_implied, (job_id,)).fetchall())

    def _write_edges(self, parents: Collection[int]) -> None:
        """Write which edges behind these are done: it follows from their ends no more (see `told_edge`)."""
        untold = set(self._final) if parents else ()
        self._db.executemany(SQL.edges_write, [(parent,) for parent in parents if parent not in untold])

    def _reopen(self, ids: Iterable[int]) -> None:
        """Final jobs are about to wait or run again: the flows that counted their end count it no more."""
        if not self._cache.has_flows:
            return
        wanted = list(ids)
        listed = encode(wanted).decode()
        rows = self._db.execute(SQL.steps_among, (listed,)).fetchall()
        if not rows:
            return
        uncounted = {row[0] for row in self._db.execute(SQL.ended_among, (listed,))} | set(self._final)
        states = {row.id: state for row, state, _ in self._places(wanted)}
        self._write_edges(states)
        for job_id, flow_id, _, skipped, tolerated in rows:
            self._db.execute(SQL.step_mark, (job_id, 0, 0))
            self._cancel_anew(flow_id)
            if job_id not in uncounted:
                self._count_again(flow_id, states[job_id], skipped=bool(skipped), tolerated=bool(tolerated))
        self._final = [job_id for job_id in self._final if job_id not in states]
        self._cache.graph.clear()  # steps that were told of these, and wait for a worker, are told that they wait
        self._db.execute(SQL.ended_drop, (listed,))

    def _count_again(self, flow_id: int, state: State, *, skipped: bool, tolerated: bool) -> None:
        """One of a flow's steps has not ended any more; a flow that had ended has not, either, nor those around it."""
        flow = self._flow(flow_id)
        assert flow is not None
        flow.count(state, -1, skipped=skipped, tolerated=tolerated)
        flow.unfinished += 1
        if flow.state.final:
            ended, flow.finished_at = flow.state, None
            self._turn(flow, self._state_again(flow))
            self._cache.flows += 1
            if flow.parent is not None:
                self._reopen_around(flow, ended)
        self._cancel_anew(flow_id)

    def _state_again(self, flow: FlowRow) -> FlowState:
        """The state of a flow that has not ended any more: none begins anew in one that is being cancelled."""
        around: FlowRow | None = flow
        while around is not None and around.parent is not None:
            around = self._flow(around.parent)
            if around is not None and around.state is FlowState.CANCELLING:
                return FlowState.CANCELLING
        return FlowState.RUNNING

    def _cancel_anew(self, flow_id: int) -> None:
        """What runs again of a flow that is being cancelled is to be cancelled, whether its end was told or not."""
        flow = self._flow(flow_id)
        if flow is not None and flow.state is FlowState.CANCELLING:
            self._cache.cancelling[flow_id] = 0

    def _reopen_around(self, flow: FlowRow, ended: FlowState) -> None:
        """The flow in which this one is a step counts it as unfinished again."""
        listed = encode([flow.id]).decode()
        uncounted = self._db.execute(SQL.ended_among, (listed,)).fetchone() or flow.id in self._final
        ((_, _, _, _, tolerated),) = self._db.execute(SQL.steps_among, (listed,)).fetchall()
        self._db.execute(SQL.step_mark, (flow.id, 0, 0))
        self._db.execute(SQL.ended_drop, (listed,))
        self._final = [each for each in self._final if each != flow.id]
        if not uncounted:
            self._count_again(flow.parent, State(ended.value), skipped=False, tolerated=bool(tolerated))

    def flush(self) -> None:
        """Write the rows of flows, and then what is written once per transaction."""
        self._write_flows(self._flows.values())
        super().flush()

    def _write_flows(self, flows: Iterable[FlowRow]) -> None:
        rows = [
            (each.id, each.state.value, each.open, each.steps, each.unfinished, each.dead, each.cancelled,
             each.skipped, each.told, each.bytes, each.finished_at)
            for each in flows
        ]  # fmt: skip
        if rows:
            self._db.executemany(SQL.flow_set, rows)
