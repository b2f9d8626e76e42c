"""How flows go on: what ended is told to what comes after it, and a flow whose steps have all ended ends.

Nothing here takes longer than it is allowed to: what is left over is written down, and is the first to be told in the
next pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

from supervisor.errors import UnknownFlow, WrongState
from supervisor.flow.rules import FlowState, Policy, failed
from supervisor.job import WAITING, State
from supervisor.store.protocol import FlowEnd
from supervisor.store.sqlite.base import Place, encode
from supervisor.store.sqlite.ending import EndedStep
from supervisor.store.sqlite.planting import Planting
from supervisor.store.sqlite.statements import SQL
from supervisor.store.sqlite.steps import FLOW, JOB, SIGNAL

AT_ONCE = -1
"""In `blocked_free`: the step starts whatever else it waits for."""
EDGES_AT_ONCE = 512


class Parent(NamedTuple):
    """What a step comes after: a row of edges_into.sql. `outcome` is that of a job."""

    id: int
    kind: int
    outcome: bytes | None
    skipped: int
    flow: int


class Flowing(Planting):
    """The verbs of flows."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.told_ends: set[int] = set()
        """What `progress_flows` has told on in this transaction."""

    # -- going on --------------------------------------------------------------------------------------------------

    @property
    def flows_wait(self) -> bool:
        """Whether something has ended that is not told to all that comes after it."""
        return bool(self._final) or self._cache.flows_left

    def progress_flows(self, steps_max: int) -> list[FlowEnd]:
        """Tell what ended to what comes after it, so many edges and steps at most; returns flows that have ended."""
        left = steps_max
        while left > 0 and self.flows_wait:
            counted = self._take_ended(left)
            if not counted:
                break
            left -= self._tell(counted)
        ends, self._flow_ends = self._flow_ends, []
        return ends

    def _take_ended(self, steps_max: int) -> dict[int, bool]:
        """Ids of what ended, those written down first, each with whether its flow has counted it."""
        taken: dict[int, bool] = {}
        if self._cache.flows_left:
            taken = {step: bool(done) for step, done in self._db.execute(SQL.ended_take, (steps_max,)).fetchall()}
            self._db.execute(SQL.ended_drop, (encode(list(taken)).decode(),))
            self._cache.flows_left = len(taken) == steps_max
        mine, self._final = self._final[:steps_max], self._final[steps_max:]
        found = taken | dict.fromkeys(mine, False)
        self.told_ends.update(found)
        return found

    def _tell(self, counted: dict[int, bool]) -> int:
        """Tell these ends; returns how many steps and edges that took."""
        ended = self._ended_steps(list(counted))
        edges, cut = self._open_edges(list(ended))
        waits: Counter[int] = Counter()
        lost: dict[int, int] = {}
        for parent, child, policy in edges:
            if not ended[parent].fails or policy == Policy.IGNORE:
                waits[child] += 0 if waits[child] < 0 else 1
            elif policy == Policy.CONTINUE:
                waits[child] = AT_ONCE
            else:
                lost.setdefault(child, parent)
        for step in cut:
            self._write_down(step, counted=counted[step])
        self._count_ends(step for step in ended.values() if step.id not in cut and not counted[step.id])
        self._free_children(waits)
        self._cancel_children(lost)
        return max(len(ended) + len(edges), 1)

    def _ended_steps(self, ids: list[int]) -> dict[int, EndedStep]:
        """How these steps ended; those that run again by now are left out."""
        found: dict[int, EndedStep] = {}
        for step_id, flow_id, kind, skipped, outcome, size in self._db.execute(SQL.step_ended, (encode(ids).decode(),)):
            if outcome == b"completed" and kind == JOB:
                found[step_id] = EndedStep(step_id, flow_id, kind, State.COMPLETED, False, False, size)
                continue
            state = self._state_of_step(step_id, kind, outcome)
            if state is not None:
                fails = failed(state, skipped=bool(skipped))
                found[step_id] = EndedStep(step_id, flow_id, kind, state, bool(skipped), fails, size)
        return found

    def _state_of_step(self, step_id: int, kind: int, outcome: bytes | None) -> State | None:
        """How a step ended; None if it has not. What this transaction has made of a flow counts, not its row."""
        if kind == SIGNAL:
            return State.COMPLETED if self._db.execute(SQL.signal_at, (step_id,)).fetchone()[0] is not None else None
        if kind == FLOW:
            flow = self._flow(step_id)
            return State(flow.state.value) if flow is not None and flow.state.final else None
        return None if outcome is None else State(outcome.decode())

    def _open_edges(self, parents: list[int]) -> tuple[list[tuple[int, int, int]], set[int]]:
        """Edges that are not done, and are now; and the parents of which there are more than fit into one step."""
        listed = encode(parents).decode()
        edges = self._db.execute(SQL.edges_open, (listed, EDGES_AT_ONCE + 1)).fetchall()
        if len(edges) <= EDGES_AT_ONCE:
            self._db.execute(SQL.edges_done, (listed,))
            return edges, set()
        told = edges[:EDGES_AT_ONCE]
        self._db.executemany(SQL.edge_done, [(parent, child) for parent, child, _ in told])
        last = told[-1][0]
        return told, {parent for parent in parents if parent >= last}

    def _free_children(self, waits: Counter[int]) -> None:
        """Those who wait for less now; whoever waits for nothing is released."""
        if not waits:
            return
        counts = encode({str(child): count for child, count in waits.items()}).decode()
        free = [child for child, left in self._db.execute(SQL.blocked_free, (counts,)).fetchall() if not left]
        if free:
            self._release(free)

    def _cancel_children(self, lost: dict[int, int]) -> None:
        """Those who wait for a step that failed."""
        if not lost:
            return
        blocked = {row[0] for row in self._db.execute(SQL.blocked_waits, (encode(list(lost)).decode(),))}
        for row, state, _ in self._places([child for child in lost if child in blocked]):
            self._withdraw(row, state, f"job {lost[row.id]}, which it comes after, did not complete")

    def _write_down(self, step_id: int, *, counted: bool) -> None:
        self._db.execute(SQL.ended_put, (encode([step_id]).decode(), int(counted)))
        self._cache.flows_left = True

    # -- from outside ----------------------------------------------------------------------------------------------

    def signal_flow(self, flow_id: int, name: str, payload: bytes) -> bool:
        """Note that a signal came; False if it had come before, and nothing is changed."""
        signal, came = self._signal(flow_id, name)
        if came:
            return False
        self._db.execute(SQL.signal_set, (signal, self._now_ms, payload.decode()))
        self._final.append(signal)
        return True

    def close_flow(self, flow_id: int) -> None:
        """Let a flow end once its steps have: no more are added from outside."""
        flow = self._flow(flow_id)
        assert flow is not None
        flow.open = 0
        self._end_if_done(flow)

    def cancel_flow(self, flow_id: int) -> None:
        """Let no step of a flow begin any more; what becomes of its jobs is for `cancel_steps`."""
        flow = self._flow(flow_id)
        assert flow is not None
        for (inside,) in self._db.execute(SQL.flows_inside, (flow_id,)).fetchall():
            each = self._flow(inside)
            assert each is not None
            if not each.state.final:
                each.state, each.open = FlowState.CANCELLING, 0
                self._cache.cancelling[inside] = 0
                self._end_if_done(each)

    @property
    def cancelling(self) -> bool:
        """Whether there may be jobs of flows to be cancelled."""
        return bool(self._cache.cancelling)

    def cancel_steps(self, jobs_max: int) -> list[int]:
        """Cancel some jobs of flows that are being cancelled; returns those that run, which are to be interrupted."""
        running: list[int] = []
        for flow_id, after_id in list(self._cache.cancelling.items())[:1]:
            page = self._db.execute(SQL.steps_of_flow, (flow_id, after_id, jobs_max)).fetchall()
            for row, state, _ in self._places([step for step, kind in page if kind == JOB]):
                if state in WAITING:
                    self._withdraw(row, state, "the flow was cancelled")
                elif state is State.RUNNING:
                    self._db.execute(SQL.trail_cancel, (row.id, self._now_ms))
                    running.append(row.id)
            if page:
                self._cache.cancelling[flow_id] = page[-1][0]
            else:
                del self._cache.cancelling[flow_id]
        return running

    # -- again -----------------------------------------------------------------------------------------------------

    def retry_steps(self, flow_id: int, before_id: int | None, steps_max: int) -> tuple[int, int | None]:
        """Let dead and cancelled steps run again, the last first, as none comes before its parents."""
        flow = self._flow(flow_id)
        assert flow is not None
        inside = [row[0] for row in self._db.execute(SQL.flows_inside, (flow_id,)).fetchall()]
        page = sorted(
            (
                row
                for each in inside
                for row in self._db.execute(SQL.steps_before, (each, before_id or 2**62, steps_max))
            ),
            reverse=True,
        )[:steps_max]
        again = [
            row
            for row, state, _ in self._places([step for step, kind in page if kind == JOB])
            if state in (State.DEAD, State.CANCELLED)
        ]
        for row in sorted(again, reverse=True):
            self._run_again(row, partial(self._fails_again, set(inside)))
        return len(again), page[-1][0] if page else None

    def retry_from(self, flow_id: int, step: str, steps_max: int) -> int:
        """Let a step run again and all that comes after it; how many."""
        first = self._step_named(flow_id, step)
        if first is None:
            raise UnknownFlow(f"flow {flow_id} has no step {step}", hint=f"jobsctl flow show {flow_id} names its steps")
        ids = {row[0] for row in self._db.execute(SQL.edges_after, (first, flow_id, steps_max + 1)).fetchall()}
        for (inside,) in self._db.execute(SQL.flows_inside, (first,)).fetchall():
            ids |= {row[0] for row in self._db.execute(SQL.steps_of_flow, (inside, 0, steps_max)).fetchall()}
        if len(ids) > steps_max:
            raise WrongState(f"more than {steps_max:,} steps come after {step}", hint="retry those that failed instead")
        places = sorted(self._places(ids), reverse=True)
        for row, state, _ in places:
            if not state.final:
                raise WrongState(f"job {row.id} of the flow is {state}: only steps that have ended run again")
        for row, _, _ in places:
            self._run_again(row, lambda parent, _: parent.kind != SIGNAL and parent.id in ids)
        return len(places)

    def _run_again(self, row: Place, repeats: Callable[[Parent, State], bool]) -> None:
        """Let a step that ended wait for its parents once more, as far as they run again or have not ended."""
        waits = []
        for parent in map(Parent._make, self._db.execute(SQL.edges_into, (row.id,)).fetchall()):
            ended = self._state_of_step(parent.id, parent.kind, parent.outcome)
            if ended is None or repeats(parent, ended):
                waits.append(parent.id)
        if not waits:
            self.revive(row.id)
            return
        self._db.execute(SQL.edges_reopen, (row.id, encode(waits).decode()))
        self._revive_blocked(row, self._open_edges_into(row.id))

    def _fails_again(self, flows: set[int], parent: Parent, ended: State) -> bool:
        """Whether a retry of these flows lets a parent run again; one that is in none of them stays as it ended."""
        if parent.flow not in flows or not failed(ended, skipped=bool(parent.skipped)):
            return False
        return parent.kind == JOB or (parent.kind == FLOW and self._has_failed_jobs(parent.id))

    def _has_failed_jobs(self, flow_id: int) -> bool:
        """Whether some job of a flow that ended runs again with it: one that was cancelled may have none."""
        return self._db.execute(SQL.flow_failed_jobs, (flow_id,)).fetchone() is not None

    # -- gone ------------------------------------------------------------------------------------------------------

    def prune_flows(self, state: FlowState, before_ms: int, jobs_max: int) -> int:
        """Delete jobs of flows that ended in this state before this time, and flows of which all are; how many."""
        row = self._db.execute(SQL.flow_prunable, (state.value, before_ms, 1)).fetchone()
        if row is None:
            return 0
        for (flow_id,) in self._db.execute(SQL.flows_of_root, (row[0],)).fetchall():
            page = self._db.execute(SQL.steps_of_flow, (flow_id, 0, jobs_max)).fetchall()
            if page:
                self._remove_steps(page)
                return len(page)
        self._db.execute(SQL.flow_drop, (row[0],))
        return 1

    def _remove_steps(self, page: Iterable[tuple[int, int]]) -> None:
        ids = [step for step, _ in page]
        listed = encode(ids).decode()
        self._remove(ids)
        for statement in (SQL.edges_drop, SQL.signals_drop, SQL.ended_drop, SQL.steps_drop):
            self._db.execute(statement, (listed,))
