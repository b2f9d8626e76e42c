"""How flows go on: what ended is told to what comes after it, and a flow whose steps have all ended ends.

Nothing here takes longer than it is allowed to: what is left over is written down, and is the first to be told in the
next pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from supervisor.errors import NotUnique, StoreError, UnknownFlow, WrongState
from supervisor.flow.rules import FlowState, Policy, failed
from supervisor.job import WAITING, State
from supervisor.store.protocol import FlowEnd, Retried
from supervisor.store.sqlite.base import Place, encode
from supervisor.store.sqlite.graph import Node
from supervisor.store.sqlite.planting import Planting
from supervisor.store.sqlite.releasing import NOT_AS_REMEMBERED
from supervisor.store.sqlite.statements import SQL
from supervisor.store.sqlite.steps import FLOW, JOB, SIGNAL

AT_ONCE = -1
"""In place of how many ends a step is told of: it starts whatever else it waits for."""
EDGES_AT_ONCE = 512
KNOWN_EDGES_AT_ONCE = 2_048
"""Of steps that are remembered, which are told much faster."""
FLOWS_AT_ONCE = 200
RULED_AT_ONCE = 16
"""So many steps with conditions or times of their own are released at once: what they read may be large."""


class Flowing(Planting):
    """The verbs of flows."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.told_ends: set[int] = set()
        """What `progress_flows` has told on in this transaction."""

    # -- going on --------------------------------------------------------------------------------------------------

    @property
    def flows_wait(self) -> bool:
        """Whether something has ended that is not told to all that comes after it, or a flow of which nobody heard."""
        return bool(self._final or self._flow_ends) or self._cache.flows_left

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
        waits: dict[int, int] = {}
        lost: dict[int, int] = {}
        known = self._tell_known(counted, waits)
        ended = self._ended_steps([step for step in counted if step not in known])
        edges, cut = self._open_edges(list(ended))
        for parent, child, policy in edges:
            self._cache.graph.unsure(child)
            if not ended[parent].fails or policy == Policy.IGNORE:
                waits[child] = AT_ONCE if (told := waits.get(child, 0)) < 0 else told + 1
            elif policy == Policy.CONTINUE:
                waits[child] = AT_ONCE
            else:
                lost.setdefault(child, parent)
        self._write_down([step for step in cut if not counted[step]], counted=False)
        self._write_down([step for step in cut if counted[step]], counted=True)
        if ended:
            ends = (known.get(step) or ended.get(step) for step in counted if step not in cut and not counted[step])
            self._count_ends(end for end in ends if end is not None)
        else:
            self._count_known(known.values())
        self._uncounted_bytes = sum(step.result_bytes for step in ended.values() if step.id in cut)
        self._free_children(waits, edges, known)
        self._cancel_children(lost)
        return max(len(known) + len(ended) + len(edges), 1)

    def _tell_known(self, counted: Mapping[int, bool], waits: dict[int, int]) -> dict[int, Node]:
        """Tell the ends of those of these steps that are remembered as completed, by how much whom; returns them."""
        graph = self._cache.graph
        known = graph.completed((step for step, done in counted.items() if not done), KNOWN_EDGES_AT_ONCE)
        graph.tell(known.values(), waits)
        graph.forget(counted)
        return known

    def _open_edges(self, parents: list[int]) -> tuple[list[tuple[int, int, int]], set[int]]:
        """Edges that are not done, and are now; and the parents of which there are more than fit into one step."""
        if not parents:
            return [], set()
        listed = encode(parents).decode()
        edges = self._db.execute(SQL.edges_open, (listed, EDGES_AT_ONCE + 1)).fetchall()
        if len(edges) <= EDGES_AT_ONCE:
            self._db.executemany(SQL.edges_done, [(parent,) for parent in parents])
            return edges, set()
        told = edges[:EDGES_AT_ONCE]
        self._db.executemany(SQL.edge_done, [(parent, child) for parent, child, _ in told])
        last = told[-1][0]
        return told, {parent for parent in parents if parent >= last}

    def _free_children(
        self, waits: Mapping[int, int], edges: Sequence[tuple[int, int, int]], parents: Mapping[int, Node]
    ) -> None:  # fmt: skip
        """Those who wait for less now; whoever waits for nothing is released."""
        free: list[int] = []
        ruled: list[int] = []
        known, fewer, unknown = self._known_children(waits)
        rows = self._db.execute(SQL.blocked_waits, (encode(unknown).decode(),)).fetchall() if unknown else ()
        for child, left, has_rules in rows:
            told = waits[child]
            if told != AT_ONCE and told < left:
                fewer.setdefault(told, []).append(child)
            elif has_rules and told != AT_ONCE:
                ruled.append(child)
            else:
                free.append(child)
        for told, children in fewer.items():
            if self._db.execute(SQL.blocked_fewer, (told, encode(children).decode())).rowcount != len(children):
                raise StoreError(NOT_AS_REMEMBERED)
        if len(ruled) > RULED_AT_ONCE:
            self._put_off(ruled[RULED_AT_ONCE:], edges, parents)
        if free or ruled:
            self._release([*free, *ruled[:RULED_AT_ONCE]])
        self._release_known(known)

    def _known_children(self, waits: Mapping[int, int]) -> tuple[dict[int, Node], dict[int, list[int]], list[int]]:
        """Those that are remembered and wait for nothing any more; others, by how much less they wait for; the rest."""
        known: dict[int, Node] = {}
        fewer: dict[int, list[int]] = {}
        unknown: list[int] = []
        get = self._cache.graph.get
        for child, told in waits.items():
            node = get(child)
            if node is None or not node.waits or told == AT_ONCE:
                unknown.append(child)
            elif told < node.waits:
                node.waits -= told
                fewer.setdefault(told, []).append(child)
            else:
                node.waits = 0
                if node.results is None:
                    unknown.append(child)  # what it would be told may be too much
                else:
                    known[child] = node
        self._cache.graph.forget(child for child in unknown if waits[child] == AT_ONCE)
        return known, fewer, unknown

    def _put_off(
        self, children: Sequence[int], edges: Sequence[tuple[int, int, int]], parents: Mapping[int, Node]
    ) -> None:  # fmt: skip
        """These steps hear of one of their parents once more: conditions take their time, and these are for later."""
        wanted = set(children)
        last = {child: parent for parent, child, _ in edges if child in wanted}
        last |= {child: parent for parent, node in parents.items() for child in node.after if child in wanted}
        self._write_edges(set(last.values()) & parents.keys())
        self._db.executemany(SQL.edge_undone, [(parent, child) for child, parent in last.items()])
        self._db.execute(SQL.blocked_by_one, (encode(list(children)).decode(),))
        self._write_down(sorted(set(last.values())), counted=True)

    def _cancel_children(self, lost: dict[int, int]) -> None:
        """Those who wait for a step that failed."""
        if not lost:
            return
        blocked = {row[0] for row in self._db.execute(SQL.blocked_waits, (encode(list(lost)).decode(),))}
        for row, state, _ in self._places([child for child in lost if child in blocked]):
            self._withdraw(row, state, f"job {lost[row.id]}, which it comes after, did not complete")

    def _write_down(self, steps: list[int], *, counted: bool) -> None:
        """Steps that ended are told on later, some of what comes after them having heard of it."""
        if steps:
            self._db.execute(SQL.ended_put, (encode(steps).decode(), int(counted)))
            self._cache.flows_left = True

    # -- from outside ----------------------------------------------------------------------------------------------

    def signal_flow(self, flow_id: int, name: str, payload: bytes) -> bool:
        """Note that a signal came; False if it had come before, and nothing is changed."""
        self._check_room_for_signals(flow_id, (name,))
        signal, came = self._signal(flow_id, name)
        if came:
            return False
        self._db.execute(SQL.signal_set, (signal, self._now_ms, payload.decode()))
        self._final.append(signal)
        return True

    def signals_awaited(self, flow_id: int) -> list[str]:
        """The signals that steps of a flow come after, whether they came or not."""
        flow = self._flow(flow_id)
        assert flow is not None
        return [row[0].decode() for row in self._db.execute(SQL.signals_awaited, (flow.root,))]

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
        self._turn(flow, FlowState.CANCELLING)
        flow.open = 0
        self._cache.cancelling[flow_id] = 0
        self._end_if_done(flow)

    @property
    def cancelling(self) -> bool:
        """Whether there may be jobs of flows to be cancelled."""
        return bool(self._cache.cancelling)

    def cancel_steps(self, jobs_max: int) -> list[int]:
        """Cancel some steps of flows that are being cancelled; returns jobs that run, which are to be interrupted."""
        running: list[int] = []
        left = jobs_max
        while left > 0 and self._cache.cancelling:
            flow_id, after_id = next(iter(self._cache.cancelling.items()))
            page = self._db.execute(SQL.steps_of_flow, (flow_id, after_id, left)).fetchall()
            left -= max(len(page), 1)
            for row, state, _ in self._places([step for step, kind in page if kind == JOB]):
                if state in WAITING:
                    self._withdraw(row, state, "the flow was cancelled")
                elif state is State.RUNNING:
                    self._db.execute(SQL.trail_cancel, (row.id, self._now_ms))
                    running.append(row.id)
            for inside in (self._flow(step) for step, kind in page if kind == FLOW):
                if inside is not None and not inside.state.final:
                    self.cancel_flow(inside.id)
            if flow_id in self._cache.cancelling:  # it may have ended just now
                if page:
                    self._cache.cancelling[flow_id] = page[-1][0]
                else:
                    del self._cache.cancelling[flow_id]
        return running

    # -- again -----------------------------------------------------------------------------------------------------

    def retry_steps(self, walk: Sequence[tuple[int, int]], steps_max: int) -> Retried:
        """Let some dead and cancelled steps run again, of those that come next on a walk through a flow.

        All steps of a flow in a flow come where that stands in the flow around it, also those that were added later: so
        nothing comes before what it comes after, and whatever is kept of this, if it ends in the middle, no step waits
        for one that has ended.
        """
        left, page, looked = list(walk), list[int](), 0
        while left and looked < steps_max:
            flow_id, after_id = left[-1]
            rows = self._db.execute(SQL.steps_of_flow, (flow_id, after_id, steps_max - looked)).fetchall()
            for step, kind in rows:
                looked, left[-1] = looked + 1, (flow_id, step)
                if kind == FLOW:
                    left.append((step, 0))
                    break
                if kind == JOB:
                    page.append(step)
            if not rows:
                looked += 1
                left.pop()
        return Retried(self._run_again(page, (State.DEAD, State.CANCELLED)) if page else 0, left)

    def steps_from(self, flow_id: int, step: str, steps_max: int) -> list[int]:
        """The jobs that run again if a step does: its own, and all that comes after it, in the order of their ids."""
        first = self._step_named(flow_id, step)
        if first is None:
            raise UnknownFlow(f"flow {flow_id} has no step {step}", hint=f"jobsctl flow show {flow_id} names its steps")
        ids = {row[0] for row in self._db.execute(SQL.edges_after, (first, flow_id, steps_max + 1)).fetchall()}
        for (inside,) in self._db.execute(SQL.flows_inside, (first,)).fetchall():
            ids |= {row[0] for row in self._db.execute(SQL.steps_of_flow, (inside, 0, steps_max)).fetchall()}
        if len(ids) > steps_max:
            raise WrongState(f"more than {steps_max:,} steps come after {step}", hint="retry those that failed instead")
        jobs = self._db.execute(SQL.jobs_ended, (encode(list(ids)).decode(),)).fetchall()
        for job_id, ended in jobs:
            if ended is None:
                raise WrongState(f"job {job_id} of the flow has not ended: only steps that have ended run again")
            self._refuse_rival(job_id)
        return sorted(job_id for job_id, _ in jobs)

    def retry_jobs(self, ids: Sequence[int], *, first: bool) -> int:
        """Let these jobs of flows run again, as far as they have ended, in this order; how many.

        `first`: the first one runs whatever has failed before it, as it was asked for.
        """
        return self._run_again(ids, (State.COMPLETED, State.DEAD, State.CANCELLED), forced=ids[0] if first else None)

    def _refuse_rival(self, job_id: int) -> None:
        """Raise NotUnique if another job is in the way of this one, before anything is changed."""
        other = self.rival(job_id) if self._cache.has_unique else None
        if other is not None:
            raise self.not_unique(other, self._place(job_id)[0].queue.decode())

    def _run_again(self, ids: Sequence[int], ended: Collection[State], forced: int | None = None) -> int:
        """Let steps that ended so wait for their parents once more, as far as those have not ended; how many.

        Those stay as they are that another job is in the way of, or that a failed step before them would cancel anew.
        """
        count = 0
        places = {place[0].id: place for place in self._places(ids)}
        for row, state, _ in (places[each] for each in ids if each in places):
            if state not in ended:
                continue
            waits = self._waits_of(row.id)
            if waits is None and row.id != forced:
                continue
            try:
                self._revive_step(row, waits or ())
            except NotUnique:
                continue
            count += 1
        return count

    def _revive_step(self, row: Place, waits: Sequence[int]) -> None:
        self._refuse_rival(row.id)
        if not waits:
            self.revive(row.id)
            return
        self._db.execute(SQL.edges_reopen, (row.id, encode(list(waits)).decode()))
        self._revive_blocked(row, self._open_edges_into(row.id))

    def _waits_of(self, step_id: int) -> list[int] | None:
        """What a step that ended would wait for; None if it would be cancelled by what has failed before it."""
        waits = []
        rows = self._db.execute(SQL.edges_into, (step_id,)).fetchall()
        for parent, policy, kind, outcome, skipped, came_at in rows:
            if kind == SIGNAL:
                if came_at is None:
                    waits.append(parent)
                continue
            state = self._state_of_step(parent, kind, outcome)
            if state is None:
                waits.append(parent)
            elif policy == Policy.CANCEL and failed(state, skipped=bool(skipped)) and self._stays(parent, kind):
                return None
        return waits

    def _stays(self, parent: int, kind: int) -> bool:
        """Whether what has failed has failed for itself: a flow that was cancelled may have no job that runs again."""
        return kind == JOB or self._has_failed_jobs(parent)

    def _has_failed_jobs(self, flow_id: int) -> bool:
        """Whether some job of a flow that ended runs again with it: one that was cancelled may have none."""
        return self._db.execute(SQL.flow_failed_jobs, (flow_id,)).fetchone() is not None

    # -- gone ------------------------------------------------------------------------------------------------------

    def prune_flows(self, state: FlowState, before_ms: int, jobs_max: int) -> int:
        """Delete jobs of flows that ended in this state before this time, and flows of which all are; how many."""
        self._write_flows(self._flows.values())  # one that ended, and runs again in this transaction, is not pruned
        row = self._db.execute(SQL.flow_prunable, (state.value, before_ms, 1)).fetchone()
        if row is None:
            return 0
        inside = self._db.execute(SQL.flows_of_root, (row[0], FLOWS_AT_ONCE)).fetchall()
        for (flow_id,) in [row, *inside]:  # whoever has a flow in it has a lower id, and is emptied first
            page = self._db.execute(SQL.steps_of_flow, (flow_id, 0, jobs_max)).fetchall()
            if page:
                self._remove_steps(page)
                return len(page)
            if flow_id != row[0]:
                self._db.execute(SQL.flow_drop, (flow_id,))
        if len(inside) < FLOWS_AT_ONCE:
            self._db.execute(SQL.flow_drop, (row[0],))
        return 1

    def _remove_steps(self, page: Iterable[tuple[int, int]]) -> None:
        ids = [step for step, _ in page]
        listed = encode(ids).decode()
        self._remove(ids)
        for statement in (SQL.edges_drop, SQL.signals_drop, SQL.ended_drop, SQL.steps_drop):
            self._db.execute(statement, (listed,))
