"""How flows come in: all their steps at once, or more of one that has not ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, TypeAlias

from supervisor.config.names import short_name
from supervisor.errors import JobsupError, NotUnique, UnknownFlow, WrongState
from supervisor.flow.plan import FLOW_SIGNALS_MAX
from supervisor.flow.rules import FlowState, Policy
from supervisor.job import State
from supervisor.store.protocol import Inserted, NewFlow, NewJob, NewStep
from supervisor.store.sqlite.adding import Pending
from supervisor.store.sqlite.base import encode, text
from supervisor.store.sqlite.ending import Ending
from supervisor.store.sqlite.graph import CONTEXT_MAX, Node, Plan
from supervisor.store.sqlite.statements import SQL
from supervisor.store.sqlite.steps import FLOW, JOB, SIGNAL, FlowRow

Edges: TypeAlias = dict[tuple[int, int], dict[str, list[int]]]
"""Parents of steps, by policy and whether they are done, then by the step's id."""

TOLD_AGAIN = 1
"""In `ended_step`: its end was counted, and new edges are to hear of it."""


class Planting(Ending):
    """What `insert` does with a flow."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self._told_again: set[int] = set()

    def _insert_flow(self, new: NewFlow, pending: Pending) -> Inserted:
        """All of its steps, or, with `refused`, none of them. Answers the flow's id, and then those of its steps."""
        self._write(pending)
        refused = self._flow_refused(new, pending)
        if refused is not None:
            return Inserted((), (), refused=refused)
        own = 0 if new.into is not None else 1
        ids = self.reserve(own + len(new.steps))
        root = ids[0] if new.into is None else new.into
        flow = self._plant(new, root) if new.into is None else self._flow(root)
        assert flow is not None
        states = self._put_steps(flow, ids[own:], new.steps, pending)
        if new.into is None:
            self._note_steps(new, root, ids[own:])
        self._claim_steps(new.steps, ids[own:])
        self._cache.has_flows = True
        self._end_if_done(flow)
        if new.key:
            row = (new.key, self._now_ms, ids[0] if ids else root, len(ids), None)
            self._db.execute(SQL.request_put, row)
        return Inserted(ids if new.into is None else [root, *ids], [State.BLOCKED, *states])

    def _plant(self, new: NewFlow, flow_id: int) -> FlowRow:
        callbacks, context = text(new.callbacks), text(new.context)
        self._db.execute(
            SQL.flow_put,
            (flow_id, new.name, None, flow_id, new.scope, int(new.open), 0, 0, self._now_ms, callbacks, context),
        )
        self._cache.flows += 1
        row = self._flow(flow_id)
        assert row is not None
        return row

    def _note_steps(self, new: NewFlow, root: int, ids: Sequence[int]) -> None:
        """What was written of the steps of a new flow, if there is room for all of them."""
        graph = self._cache.graph
        if not graph.plant(ids, self._now_ms):
            return
        context = b"null" if new.context is None else new.context
        kept = context if len(context) <= CONTEXT_MAX else None
        plans = {-1: Plan(root, _head(root, new.name), kept)}
        for at, (step, step_id) in enumerate(zip(new.steps, ids, strict=True)):
            if step.job is None:
                plans[at] = Plan(step_id, _head(step_id, step.name), kept)
            else:
                graph.put(step_id, self._node(step, plans[step.flow]))
            graph.put_after(step_id, [ids[ref] for ref, _ in step.parents if isinstance(ref, int)])

    def _node(self, step: NewStep, plan: Plan) -> Node:
        node = Node(plan, None if step.name is None else encode(step.name))
        assert step.job is not None and step.queue is not None
        if step.signals or step.rules is not None or step.job.key:
            node.results = None
        elif step.parents:
            queue = self._queue(step.queue)
            level = queue.discipline.order.level(step.job.priority)
            node.place, node.waits = (queue.id, level), len(step.parents)
        return node

    # -- whether it fits -----------------------------------------------------------------------------------------

    def _flow_refused(self, new: NewFlow, pending: Pending) -> JobsupError | None:
        """Why it cannot go in. Room is made last of all: a flow that is refused has dropped nobody's jobs."""
        sizes = Counter(step.queue for step in new.steps if step.queue is not None)
        try:
            if new.into is not None:
                self._check_graft(new)
            self._check_signals(new)
        except JobsupError as error:
            return error
        full = (self._full(self._queue(name), jobs) for name, jobs in sizes.items())
        refused = next((each for each in full if each is not None), None) or self._steps_taken(new.steps, list(sizes))
        if refused is not None:
            return refused
        made = (self._make_room(self._queue(name), jobs, pending) for name, jobs in sizes.items())
        return next((each for each in made if each is not None), None)

    def _steps_taken(self, steps: Sequence[NewStep], queues: Sequence[str]) -> NotUnique | None:
        """That a step is there already, where its queue wants no two that count as the same."""
        for name in queues:
            queue = self._queue(name)
            unique = queue.discipline.unique
            if unique is None:
                continue
            hashes = [step.job.unique for step in steps if step.queue == name and step.job is not None]
            taken = next((each for each in self._in_the_way(unique, hashes) if each is not None), None)
            if taken is not None:
                return self.not_unique(taken, name)
            if len(set(hashes)) < len(hashes):
                return NotUnique(f"two steps for queue {short_name(name)} count as the same job")
        return None

    def _claim_steps(self, steps: Sequence[NewStep], ids: Sequence[int]) -> None:
        for step, job_id in zip(steps, ids, strict=True):
            if step.job is not None and step.job.unique is not None and step.queue is not None:
                unique = self._queue(step.queue).discipline.unique
                if unique is not None:
                    self._claim(unique, [(step.job.unique, job_id)])

    def _check_graft(self, new: NewFlow) -> None:
        """More steps fit into a flow that has not ended, under names that it does not have, after steps that it has."""
        assert new.into is not None
        flow = self._flow(new.into)
        if flow is None or flow.scope != new.scope:
            raise UnknownFlow(f"there is no flow {new.into}")
        if flow.state is not FlowState.RUNNING:
            raise WrongState(f"flow {flow.id} is {flow.state.value}: nothing is added to it", hint="start another flow")
        for step in new.steps:
            if step.flow == -1 and step.name is not None and self._step_named(flow.id, step.name) is not None:
                raise WrongState(f"flow {flow.id} has a step {step.name} already")
            for name, _ in step.parents:
                if isinstance(name, str) and self._step_named(flow.id, name) is None:
                    hint = f"jobsctl flow show {flow.id} names its steps"
                    raise UnknownFlow(f"flow {flow.id} has no step {name} to come after", hint=hint)

    def _check_signals(self, new: NewFlow) -> None:
        """The whole flow has room for the signals that its steps wait for."""
        wanted = {name for step in new.steps for name in step.signals}
        if wanted:
            self._check_room_for_signals(new.into, wanted)

    def _check_room_for_signals(self, flow_id: int | None, names: Collection[str]) -> None:
        """A flow, None for a new one, may have these signals beside those that it has.

        Raises:
            WrongState: they would be too many.
        """
        count = len(names)
        flow = None if flow_id is None else self._flow(flow_id)
        if flow is not None:
            flow_id = flow.root
            known = self._db.execute(SQL.signals_count, (flow_id,)).fetchone()[0]
            if known + count > FLOW_SIGNALS_MAX:
                count = sum(self._db.execute(SQL.step_signal, (flow_id, name)).fetchone() is None for name in names)
            count += known if count else 0
        if count > FLOW_SIGNALS_MAX:
            called = "the flow" if flow_id is None else f"flow {flow_id}"
            text = f"{called} would have {count:,} different signals, the limit is {FLOW_SIGNALS_MAX:,}"
            raise WrongState(text, hint="put what differs into the payload of a signal, not into its name")

    # -- rows ------------------------------------------------------------------------------------------------------

    def _put_steps(self, flow: FlowRow, ids: Sequence[int], steps: Sequence[NewStep], pending: Pending) -> list[State]:
        """Insert steps; where each stands."""
        edges: Edges = {}
        members: Counter[int] = Counter()
        waits: list[int] = []
        flows = [flow.id if step.flow < 0 else ids[step.flow] for step in steps]
        for step, step_id, flow_id in zip(steps, ids, flows, strict=True):
            members[flow_id] += 1
            waits.append(self._edges_to(step, step_id, flow_id, flow, ids, edges))
            if step.job is None:
                self._put_nested(step, step_id, flow_id, flow)
        self._write_edges(self._told_again)
        self._put_rows(ids, flows, steps, edges)
        states = self._put_jobs(ids, flows, steps, waits, pending)
        self._write(pending)
        for flow_id, count in members.items():
            self._count_in(flow_id, count)
        self._hear_again()
        free = [
            step_id
            for step, step_id, others in zip(steps, ids, waits, strict=True)
            if not others and step.rules is not None and step.job is not None
        ]
        if free:
            self._release(free)
        return states

    def _put_rows(self, ids: Sequence[int], flows: Sequence[int], steps: Sequence[NewStep], edges: Edges) -> None:
        """Rows of steps and edges, by whole sets: one by one they would take twice as long as the jobs themselves."""
        plain: dict[tuple[int, int], dict[str, str | None]] = {}
        ruled: list[tuple[Any, ...]] = []
        for step, step_id, flow_id in zip(steps, ids, flows, strict=True):
            kind = FLOW if step.job is None else JOB
            if step.rules is None:
                plain.setdefault((flow_id, kind), {})[str(step_id)] = step.name
            else:
                ruled.append((step_id, flow_id, kind, step.name, text(step.rules)))
        for (flow_id, kind), names in plain.items():
            self._db.execute(SQL.steps_put, (flow_id, kind, encode(names).decode()))
        self._db.executemany(SQL.step_put, ruled)
        for (policy, done), parents in edges.items():
            self._db.execute(SQL.edges_put, (policy, done, encode(parents).decode()))

    def _put_jobs(
        self, ids: Sequence[int], flows: Sequence[int], steps: Sequence[NewStep], waits: Sequence[int], pending: Pending
    ) -> list[State]:  # fmt: skip
        """Rows of the jobs that steps are, queue by queue; where each step stands."""
        states = [State.BLOCKED] * len(steps)
        ready: dict[str, list[int]] = {}
        blocked: dict[str, list[int]] = {}
        for at, step in enumerate(steps):
            if step.queue is not None:
                (blocked if waits[at] or step.rules is not None else ready).setdefault(step.queue, []).append(at)
        for name, places in ready.items():
            jobs = [_marked(steps[at].job, flows[at]) for at in places]
            found = self._add(self._queue(name), [ids[at] for at in places], jobs, pending)
            for at, state in zip(places, found, strict=True):
                states[at] = state
        for name, places in blocked.items():
            jobs = [_marked(steps[at].job, flows[at]) for at in places]
            others = [max(waits[at], 1) for at in places]
            self._add_blocked(self._queue(name), [ids[at] for at in places], jobs, others, pending)
        return states

    def _signal(self, flow_id: int, name: str) -> tuple[int, bool]:
        """The id of a signal, and whether it came already; it is made if nobody spoke of it.

        It is one of the whole flow: those in it hear it as well.
        """
        flow = self._flow(flow_id)
        assert flow is not None
        flow_id = flow.root
        row = self._db.execute(SQL.step_signal, (flow_id, name)).fetchone()
        if row is not None:
            return row[0], self._db.execute(SQL.signal_at, (row[0],)).fetchone()[0] is not None
        (signal,) = self.reserve(1)
        self._db.execute(SQL.step_put, (signal, flow_id, SIGNAL, name, None))
        self._db.execute(SQL.signal_put, (signal,))
        return signal, False

    def _edges_to(
        self, step: NewStep, step_id: int, flow_id: int, flow: FlowRow, ids: Sequence[int], edges: Edges
    ) -> int:  # fmt: skip
        """Add edges from all that the step waits for; for how many of them it has to."""
        waits, child = len(step.parents), str(step_id)
        for each in {policy for _, policy in step.parents}:
            edges.setdefault((each, 0), {})[child] = [
                ids[ref] if isinstance(ref, int) else self._parent_named(flow.id, ref)
                for ref, policy in step.parents
                if policy == each
            ]
        for name in step.signals:
            signal, came = self._signal(flow_id, name)
            edges.setdefault((Policy.IGNORE, int(came)), {}).setdefault(child, []).append(signal)
            waits += not came
        return waits

    def _parent_named(self, flow_id: int, name: str) -> int:
        """A step that the flow has already; if it has ended, its end is told again."""
        parent = self._step_named(flow_id, name)
        assert parent is not None
        self._cache.graph.forget([parent])
        self._told_again.add(parent)
        return parent

    def _hear_again(self) -> None:
        """Steps that had ended before others were put behind them are told to those, too."""
        if self._told_again:
            again = sorted(self._told_again)
            self._count_anew(again)
            self._db.execute(SQL.ended_put, (encode(again).decode(), TOLD_AGAIN))
            self._cache.flows_left = True
            self._told_again.clear()

    def _put_nested(self, step: NewStep, step_id: int, flow_id: int, root: FlowRow) -> None:
        row = (step_id, step.name, flow_id, root.root, root.scope, 0, 0, 0, self._now_ms, text(step.callbacks), None)
        self._db.execute(SQL.flow_put, row)
        self._cache.flows += 1


def _head(flow_id: int, name: str | None) -> bytes:
    return b'{"id":%d,"name":%b,"step":' % (flow_id, encode(name))


def _marked(job: NewJob | None, flow_id: int) -> NewJob:
    """A job whose options say of which flow it is."""
    assert job is not None
    mark, options = b'{"flow":%d' % flow_id, job.options
    return NewJob(  # made anew, as replacing one member takes twice as long
        job.payload, job.priority, job.due_at_ms, mark + (b"," + options[1:] if options and options != b"{}" else b"}"),
        job.key, job.cost, job.unique, job.expires_at_ms, job.deadline_at_ms,
    )  # fmt: skip
