"""What must become of flows, checkpoints, parked jobs and loans, as plainly as it can be said: objects in dictionaries.

It is what the store is compared with, so it shares no code with it and knows no rows. Where the store may choose (which
jobs a lease has, in which order ends are told, which jobs of a cancelled flow come first) the model is told the choice,
and refuses one that was not allowed; all that follows from it, it computes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

CANCEL, IGNORE, CONTINUE = 0, 1, 2
FINAL = ("completed", "dead", "cancelled")
WAITING = ("blocked", "scheduled", "queued")
FED_MAX = 1024 * 1024
"""So many bytes of results are fed to a step at most."""
EVENTS = {"death": 1, "complete": 2, "success": 4}

Condition = Callable[[dict[str, Any]], bool]


@dataclass(eq=False)
class Step:
    """What has an id and can be waited for. `flow` is what it is a step of; `counted` how that has counted its end."""

    id: int
    flow: int | None = None
    name: str | None = None
    skipped: bool = False
    tolerated: bool = False
    counted: str | None = None

    @property
    def ended(self) -> str | None:
        """The state in which it ended; None if it has not."""
        raise NotImplementedError

    @property
    def fails(self) -> bool:
        """Whether what comes after it must not count it as done."""
        return self.ended in ("dead", "cancelled") and not self.skipped


@dataclass(eq=False)
class Job(Step):
    queue: str = ""
    state: str = "queued"
    told: bool = False
    """Whether it is told of its flow: it was made as a step of one."""
    when: Condition | None = None
    delay_ms: int | None = None
    need: tuple[str, int] = ("", 0)
    """The task that it names, and the version of its payload; 0: any."""
    parked: tuple[str, int] | None = None
    due: int = 0
    failures: int = 0
    interruptions: int = 0
    token: int | None = None
    ended_by: int | None = None
    result: Any = None
    wished: bool = False
    """Whether somebody cancelled it while it ran."""
    asked: bool = False
    """Whether it ran when its flow was cancelled."""
    kept: dict[str, Any] = field(default_factory=dict)
    kept_under: int | None = None

    @property
    def ended(self) -> str | None:
        """The state of a final job."""
        return self.state if self.state in FINAL else None

    @property
    def waits(self) -> bool:
        """Whether it waits for other steps."""
        return self.state == "blocked" and self.parked is None


@dataclass(eq=False)
class Flow(Step):
    state: str = "running"
    open: bool = False
    callbacks: Collection[str] = ()
    told: int = 0
    finished_at: int | None = None
    context: Any = None
    title: str | None = None
    root: int = 0
    members: list[int] = field(default_factory=list)

    @property
    def ended(self) -> str | None:
        """The state of a flow whose steps have all ended."""
        return self.state if self.state in FINAL else None


@dataclass(eq=False)
class Signal(Step):
    payload: Any = None
    came: bool = False

    @property
    def ended(self) -> str | None:
        """A signal that came counts as a completed step."""
        return "completed" if self.came else None


@dataclass(eq=False)
class Edge:
    policy: int
    done: bool = False


@dataclass(eq=False)
class Loan:
    """What a consumer holds until a time of the boot clock. `spared`: by how little it was heard since: 0, 1 or 2."""

    until: int
    lease_ms: int
    key: str | None
    boot: str
    spared: int = 0


@dataclass(eq=False)
class Planned:
    """A step as it is asked for; parents are ids, each with a policy."""

    id: int
    flow: int
    name: str | None
    queue: str | None
    parents: Sequence[tuple[int, int]]
    signals: Sequence[str]
    when: Condition | None = None
    delay_ms: int | None = None
    need: tuple[str, int] = ("", 0)
    callbacks: Collection[str] = ()


class FlowModel:
    """All jobs, flows and signals by their ids. `calls` are callbacks that were made and have no ids yet."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.steps: dict[int, Step] = {}
        self.into: dict[int, dict[int, Edge]] = {}
        self.out_of: dict[int, dict[int, Edge]] = {}
        self.pending: set[int] = set()
        """What ended, and neither its flow nor what comes after it was told."""
        self.again: set[int] = set()
        """What is to be told to steps that were put behind it later, if it has ended."""
        self.loans: dict[int, Loan] = {}
        self.calls: dict[tuple[int, str], tuple[int, dict[str, Any]]] = {}
        self.overfed: list[int] = []
        """Steps that are dead as they would have been fed too much."""
        self._unborn = 0

    # -- looking ---------------------------------------------------------------------------------------------------

    def job(self, job_id: int) -> Job:
        found = self.steps[job_id]
        assert isinstance(found, Job), f"{job_id} is no job"
        return found

    def flow(self, flow_id: int) -> Flow:
        found = self.steps[flow_id]
        assert isinstance(found, Flow), f"{flow_id} is no flow"
        return found

    def jobs(self, *states: str) -> list[Job]:
        return [each for each in self.steps.values() if isinstance(each, Job) and (not states or each.state in states)]

    def flows(self, *states: str) -> list[Flow]:
        return [each for each in self.steps.values() if isinstance(each, Flow) and (not states or each.state in states)]

    def queued(self, queue: str) -> list[Job]:
        return [job for job in self.jobs("queued") if job.queue == queue]

    def held(self, token: int) -> list[int]:
        return sorted(job.id for job in self.jobs("running") if job.token == token)

    def members(self, flow: Flow) -> list[Step]:
        """The steps that count: jobs and flows."""
        return [each for each in (self.steps[i] for i in flow.members) if not isinstance(each, Signal)]

    def names(self, flow_id: int) -> list[str]:
        return [each.name for each in self.members(self.flow(flow_id)) if each.name is not None]

    def named(self, flow_id: int, name: str) -> int:
        return next(each.id for each in self.members(self.flow(flow_id)) if each.name == name)

    def root(self, flow_id: int) -> Flow:
        return self.flow(self.flow(flow_id).root)

    def inside(self, flow: Flow) -> list[Flow]:
        """The flow, and all flows in it."""
        found = [flow]
        for each in found:
            found += [one for one in self.members(each) if isinstance(one, Flow)]
        return found

    def signal_of(self, flow_id: int, name: str) -> Signal | None:
        """A signal of the whole flow in which this one is."""
        found = (self.steps[i] for i in self.root(flow_id).members)
        return next((each for each in found if isinstance(each, Signal) and each.name == name), None)

    def shown(self, flow: Flow, event: str) -> dict[str, Any]:
        """What a callback of a flow is told."""
        members = self.members(flow)
        ends = [_as_counted(each) for each in members]
        numbers = {name: ends.count(name) for name in (*FINAL, "skipped")}
        steps = {"all": len(members), "unfinished": ends.count(None), **numbers}
        return {"id": flow.id, "name": flow.title, "state": flow.state, "event": event, "steps": steps}

    def story(self, job: Job) -> dict[str, Any]:
        """What a job is told as it begins: of its flow, and of what its earlier runs have kept."""
        kept = {"steps": {name: value for name, value in job.kept.items() if name}, "cursor": job.kept.get("")}
        return ({"flow": self.fed(job)} if job.told else {}) | (kept if job.kept else {})

    def fed(self, job: Job) -> dict[str, Any]:
        """What a step is told of the steps that it comes directly after."""
        assert job.flow is not None
        flow = self.flow(job.flow)
        told: dict[str, Any] = {"id": flow.id, "name": flow.title, "step": job.name}
        told["context"] = self.root(flow.id).context
        told |= {"results": {}, "states": {}, "signals": {}}
        for parent in (self.steps[i] for i in self.into.get(job.id, ())):
            if isinstance(parent, Signal):
                told["signals"] |= {parent.name: parent.payload} if parent.came else {}
                continue
            state = "skipped" if parent.skipped else parent.ended or getattr(parent, "state", "")
            told["states"][parent.name] = state if parent.ended or isinstance(parent, Flow) else "unfinished"
            if state in ("completed", "skipped"):
                result = parent.result if isinstance(parent, Job) and state == "completed" else None
                told["results"][parent.name] = result
        return told

    # -- coming in -------------------------------------------------------------------------------------------------

    def add_flow(self, flow: Flow) -> None:
        self.steps[flow.id] = flow

    def plant(self, root: Flow, planned: Sequence[Planned], signals: Mapping[tuple[int, str], int]) -> None:
        """Steps come into a flow; `signals` has the ids of those that were not spoken of before."""
        for each in planned:
            if each.queue is None:
                nested = Flow(each.id, each.flow, each.name, callbacks=each.callbacks, title=each.name, root=root.root)
                self._join(nested)
            else:
                self._join(_job_of(each))
            self._edges(each, signals)
        for each in planned:
            if each.queue is not None and not self._left(each.id):
                self._release(self.job(each.id))
        self._end_if_done(root)

    def _edges(self, planned: Planned, signals: Mapping[tuple[int, str], int]) -> None:
        for parent, policy in planned.parents:
            self._edge(parent, planned.id, policy)
        for name in planned.signals:
            signal = self.signal_of(planned.flow, name)
            if signal is None:
                root = self.root(planned.flow)
                signal = Signal(signals[root.id, name], root.id, name)
                self._join(signal)
            self._edge(signal.id, planned.id, IGNORE).done = signal.came

    def tell_again(self, parents: Iterable[int]) -> None:
        """Steps that were there before have others behind them now, which have to hear how they ended."""
        for step in (self.steps[i] for i in parents):
            self.again.add(step.id)
            if step.counted is not None:
                step.tolerated = self._tolerates(step)

    def enqueue(self, job: Job) -> None:
        """A job comes in; as a step of a flow, if that has not ended."""
        if job.flow is not None and self.flow(job.flow).ended:
            job.flow = None
        self._join(job)

    def _join(self, step: Step) -> None:
        self.steps[step.id] = step
        if step.flow is not None:
            self.flow(step.flow).members.append(step.id)

    def _edge(self, parent: int, child: int, policy: int) -> Edge:
        edge = Edge(policy)
        self.into.setdefault(child, {})[parent] = self.out_of.setdefault(parent, {})[child] = edge
        return edge

    def _left(self, job_id: int) -> int:
        return sum(not edge.done for edge in self.into.get(job_id, {}).values())

    # -- going on --------------------------------------------------------------------------------------------------

    def tell(self, batch: Mapping[int, bool]) -> None:
        """The store tells these ends, in this order; with each whether its flow has counted it."""
        ended: dict[int, Step] = {}
        for step_id, counted in batch.items():
            step = self.steps.get(step_id)
            if step is None or step.flow is None:
                continue  # a job of no flow
            due = self.again if counted else self.pending
            assert step_id in due, f"{step_id} is told, and was not to be"
            due.remove(step_id)
            if step.ended:
                ended[step_id] = step
        at_once, done, lost = self._follow(ended.values())
        self._count([step for step_id, step in ended.items() if not batch[step_id]])
        for job in (self.job(i) for i in {**at_once, **done, **lost}):
            if job.waits and (job.id in at_once or (job.id not in lost and not self._left(job.id))):
                self._release(job)
            elif job.waits and job.id in lost:
                self._end(job, "cancelled")

    def _follow(self, ended: Iterable[Step]) -> tuple[dict[int, None], dict[int, None], dict[int, None]]:
        """Who starts at once, who has one less to wait for, and who is lost."""
        found: tuple[dict[int, None], dict[int, None], dict[int, None]] = {}, {}, {}
        for step in ended:
            for child, edge in self.out_of.get(step.id, {}).items():
                if edge.done:
                    continue
                edge.done = True
                kind = 1 if not step.fails or edge.policy == IGNORE else 0 if edge.policy == CONTINUE else 2
                found[kind][child] = None
        return found

    def _count(self, steps: Iterable[Step]) -> None:
        touched: dict[int, Flow] = {}
        for step in steps:
            if isinstance(step, Signal) or step.flow is None:
                continue
            flow = touched[step.flow] = self.flow(step.flow)
            step.tolerated, step.counted = self._tolerates(step), step.ended
            if step.fails and step.ended == "dead":
                for each in (flow, *self._around(flow)):
                    self._call(each, "death")
        for flow in touched.values():
            self._end_if_done(flow)

    def _tolerates(self, step: Step) -> bool:
        """Whether it failed, and all that come after it, one at least, go on without it."""
        policies = [edge.policy for edge in self.out_of.get(step.id, {}).values()]
        return step.fails and bool(policies) and CANCEL not in policies

    def _end_if_done(self, flow: Flow) -> None:
        ends = [_as_counted(each) for each in self.members(flow)]
        if None in ends or flow.open or flow.ended:
            return
        cancelled = flow.state == "cancelling" or ("cancelled" in ends and "dead" not in ends)
        flow.state = "cancelled" if cancelled else "dead" if "dead" in ends else "completed"
        flow.finished_at = self.now
        self._call(flow, "complete")
        if flow.state == "completed":
            self._call(flow, "success")
        if flow.flow is not None:
            self.pending.add(flow.id)

    def _call(self, flow: Flow, event: str) -> None:
        """A callback is made, once in the life of a flow; it belongs to the flow around."""
        if flow.told & EVENTS[event]:
            return
        flow.told |= EVENTS[event]
        if f"on_{event}" in flow.callbacks:
            self._unborn -= 1
            self.calls[flow.id, event] = self._unborn, self.shown(flow, event)
            self._join(Job(self._unborn, flow.flow, queue="told"))

    def called(self, flow_id: int, event: str, job_id: int) -> dict[str, Any]:
        """A callback that was made has this id; what it must be told."""
        unborn, shown = self.calls.pop((flow_id, event))
        job = self.job(unborn)
        job.id = job_id
        self.steps[job_id] = self.steps.pop(unborn)
        if job.flow is not None:
            members = self.flow(job.flow).members
            members[members.index(unborn)] = job_id
        return shown

    def _release(self, job: Job) -> None:
        """A step waits for nothing any more."""
        if job.flow is not None and self.flow(job.flow).state == "cancelling":
            self._end(job, "cancelled")
        elif self._fed_bytes(job) > FED_MAX:
            self.overfed.append(job.id)
            self._end(job, "dead")
        elif job.when is not None and not job.when(self.fed(job)):
            job.skipped = True
            self._end(job, "cancelled")
        elif job.delay_ms:
            job.state, job.due = "scheduled", self.now + job.delay_ms
        else:
            job.state = "queued"

    def _fed_bytes(self, job: Job) -> int:
        return sum(
            len(json.dumps(parent.result, separators=(",", ":")))
            for parent in (self.steps[i] for i in self.into.get(job.id, ()))
            if isinstance(parent, Job) and parent.result is not None
        )

    def _end(self, job: Job, state: str) -> None:
        job.state, job.token, job.parked, job.asked = state, None, None, False
        if job.flow is not None:
            self.pending.add(job.id)

    def promote(self, jobs_max: int) -> int:
        due = sorted((job.due, job.id) for job in self.jobs("scheduled") if job.due <= self.now)[:jobs_max]
        for _, job_id in due:
            self.job(job_id).state = "queued"
        return len(due)

    # -- runs ------------------------------------------------------------------------------------------------------

    def lease(self, queue: str, token: int, ids: Iterable[int]) -> list[Job]:
        """The store hands these jobs out."""
        jobs = [self.job(job_id) for job_id in ids]
        for job in jobs:
            assert (job.queue, job.state) == (queue, "queued"), f"{job} was handed out of {queue}"
            job.state, job.token = "running", token
        return jobs

    def holds(self, token: int, job_id: int) -> bool:
        job = self.steps.get(job_id)
        return isinstance(job, Job) and job.state == "running" and job.token == token

    def _taken(self, token: int, job_id: int) -> Job:
        job = self.job(job_id)
        assert self.holds(token, job_id), f"{job} ended under {token}"
        job.token = None
        return job

    def complete(self, token: int, job_id: int, result: Any) -> None:
        job = self._taken(token, job_id)
        job.kept, job.kept_under, job.result, job.ended_by = {}, None, result, token
        self._end(job, "completed")

    def finish(self, token: int, job_id: int, state: str, charged: tuple[int, int] | None = None) -> None:
        job = self._taken(token, job_id)
        job.failures, job.interruptions = charged or (job.failures, job.interruptions)
        self._end(job, state)

    def later(self, token: int, job_id: int, due: int, charged: tuple[int, int]) -> None:
        job = self._taken(token, job_id)
        job.state, job.due, (job.failures, job.interruptions) = "scheduled", due, charged

    def back(self, token: int, job_id: int, charged: tuple[int, int] | None = None) -> None:
        job = self._taken(token, job_id)
        job.state = "queued"
        job.failures, job.interruptions = charged or (job.failures, job.interruptions)

    def keep(self, token: int, job_id: int, name: str, value: Any) -> None:
        job = self.job(job_id)
        assert self.holds(token, job_id)
        job.kept[name], job.kept_under = value, token

    def park(self, token: int, job_id: int, need: tuple[str, int]) -> None:
        job = self._taken(token, job_id)
        job.state, job.parked = "blocked", need

    def unpark(self, job: Job) -> None:
        job.state, job.parked = "queued", None

    # -- from outside ----------------------------------------------------------------------------------------------

    def signal(self, flow_id: int, name: str, payload: Any, signal_id: int) -> bool:
        found = self.signal_of(flow_id, name)
        if found is None:
            found = Signal(signal_id, self.root(flow_id).id, name)
            self._join(found)
        if found.came:
            return False
        found.came, found.payload = True, payload
        self.pending.add(found.id)
        return True

    def close(self, flow_id: int) -> None:
        self.flow(flow_id).open = False
        self._end_if_done(self.flow(flow_id))

    def cancel(self, job_id: int) -> None:
        job = self.job(job_id)
        if job.state == "running":
            job.wished = True
        else:
            self._end(job, "cancelled")

    def expire(self, job_id: int, state: str) -> None:
        self._end(self.job(job_id), state)

    def cancel_flow(self, flow_id: int) -> None:
        """The flows in it hear of that one after the other."""
        flow = self.flow(flow_id)
        flow.state, flow.open = "cancelling", False
        self._end_if_done(flow)

    def cancelled_steps(self, flows: Iterable[int], ended: Iterable[int], running: Iterable[int]) -> None:
        """The store has cancelled these flows and jobs, of flows that are cancelled, and asked those jobs to end."""
        for flow in map(self.flow, sorted(flows)):
            assert flow.flow is not None
            assert self.flow(flow.flow).state == "cancelling", f"{flow} was cancelled, and that around it is not"
            self.cancel_flow(flow.id)
        for job in map(self.job, ended):
            assert job.flow is not None
            assert self.flow(job.flow).state == "cancelling", f"{job} was cancelled, and its flow is not"
            self._end(job, "cancelled")
        for job in map(self.job, running):
            assert job.state == "running"
            job.wished = job.asked = True

    def uncancelled(self) -> list[Job]:
        """Jobs of cancelled flows, and of flows in those, that wait or run."""
        return [job for job in self.jobs(*WAITING, "running") if job.flow is not None and self.is_cancelled(job.flow)]

    def is_cancelled(self, flow_id: int) -> bool:
        """Whether a flow is being cancelled, or one around it."""
        flow = self.flow(flow_id)
        return any(each.state == "cancelling" for each in (flow, *self._around(flow)))

    def untold(self) -> list[tuple[int, int]]:
        """What has ended, and those who wait for that."""
        blocked = {job.id for job in self.jobs("blocked") if job.waits}
        return [
            (parent, child)
            for child in blocked
            for parent, edge in self.into.get(child, {}).items()
            if not edge.done and self.steps[parent].ended
        ]

    # -- again -----------------------------------------------------------------------------------------------------

    def revive(self, job_id: int) -> None:
        """A final or scheduled job runs again, after what it comes after."""
        job = self.job(job_id)
        waits = bool(job.ended and self._left(job_id))
        if job.ended:
            self._reopen(job)
        job.state = "blocked" if waits else "queued"
        job.failures = job.interruptions = 0
        job.wished = False
        job.ended_by, job.result = None, None

    def _reopen(self, step: Step) -> None:
        """The end of a step does not count any more."""
        counted = step.id not in self.pending and step.flow is not None
        self.pending.discard(step.id)
        self.again.discard(step.id)
        step.skipped = step.tolerated = False
        step.counted = None
        if not counted:
            return
        assert step.flow is not None
        flow = self.flow(step.flow)
        if flow.ended:
            cancelled = any(around.state == "cancelling" for around in self._around(flow))
            flow.state, flow.finished_at = "cancelling" if cancelled else "running", None
            if flow.flow is not None:
                self._reopen(flow)

    def _around(self, flow: Flow) -> Iterator[Flow]:
        """The flows in which this one is."""
        while flow.flow is not None:
            flow = self.flow(flow.flow)
            yield flow

    def retry(self, flow_id: int, gone: tuple[int, ...], goes: tuple[int, ...]) -> int:
        """How many steps run again of those between two places of a walk; what would be cancelled anew does not.

        A place is the last step that was passed, with all that is in it, after the flows that it is in itself.
        """
        jobs = [each for each in self.steps.values() if isinstance(each, Job) and each.flow is not None]
        paths = sorted(path for job in jobs if (path := self._path(flow_id, job)) is not None)
        page = [path[-1] for path in paths if _passed(path, goes) and not _passed(path, gone)]
        return len([job_id for job_id in page if self._again(job_id, ("dead", "cancelled"))])

    def _path(self, flow_id: int, step: Step) -> tuple[int, ...] | None:
        """The ids of the flows in a flow in which a step is, and its own; None if it is not in that."""
        if step.flow is None or step.flow == flow_id:
            return None if step.flow is None else (step.id,)
        around = self._path(flow_id, self.flow(step.flow))
        return None if around is None else (*around, step.id)

    def steps_from(self, flow_id: int, name: str) -> list[int] | None:
        """The jobs that a step is, and that come after it; None if one of them has not ended."""
        ids = self._after(flow_id, self.named(flow_id, name))
        jobs = [job for job in self.jobs() if job.id in ids]
        return sorted(job.id for job in jobs) if all(job.ended for job in jobs) else None

    def retry_jobs(self, ids: Sequence[int], *, first: bool) -> int:
        """These run again, the first one in any case; how many."""
        return len([i for at, i in enumerate(ids) if self._again(i, FINAL, forced=first and not at)])

    def _after(self, flow_id: int, first: int) -> set[int]:
        found, left = {first}, [first]
        while left:
            step = self.steps[left.pop()]
            following = [*self.out_of.get(step.id, ()), *([step.flow] if step.flow not in (flow_id, None) else [])]
            left += [each for each in following if each is not None and each not in found]
            found.update(left)
        start = self.steps[first]
        return found | {i for flow in (self.inside(start) if isinstance(start, Flow) else ()) for i in flow.members}

    def _again(self, job_id: int, ended: Collection[str], *, forced: bool = False) -> bool:
        """A job that ended so waits once more for those before it that have not ended now; whether it does."""
        job, edges = self.job(job_id), self.into.get(job_id, {})
        lost = any(edge.policy == CANCEL and self._stays(self.steps[parent]) for parent, edge in edges.items())
        if job.ended not in ended or (lost and not forced):
            return False
        for parent, edge in edges.items():
            if not lost and not self.steps[parent].ended:
                edge.done = False
        self.revive(job_id)
        return True

    def _stays(self, step: Step) -> bool:
        """Whether what comes after a step cannot run, as that has failed; a flow may have been cancelled and no job."""
        if not step.fails or not isinstance(step, Flow):
            return step.fails
        members = [each for flow in self.inside(step) for each in self.members(flow)]
        return any(isinstance(each, Job) and each.state in ("dead", "cancelled") for each in members)

    # -- gone ------------------------------------------------------------------------------------------------------

    def prune(self, state: str, before: int) -> None:
        for root in self.flows(state):
            if root.flow is None and root.finished_at is not None and root.finished_at <= before:
                for flow in self.inside(root):
                    for gone in (*flow.members, flow.id):
                        self._forget(gone)

    def _forget(self, step_id: int) -> None:
        self.steps.pop(step_id, None)
        self.pending.discard(step_id)
        self.again.discard(step_id)
        for child in self.out_of.pop(step_id, {}):
            self.into.get(child, {}).pop(step_id, None)
        for parent in self.into.pop(step_id, {}):
            self.out_of.get(parent, {}).pop(step_id, None)

    # -- loans -----------------------------------------------------------------------------------------------------

    def lend(self, token: int, loan: Loan) -> None:
        self.loans[token] = loan

    def over(self, boot_ms: int) -> list[int]:
        """The loans whose time is over."""
        return [token for token, loan in self.loans.items() if loan.until <= boot_ms and self.held(token)]

    def forget_loans(self) -> None:
        """A loan goes with the last job that it holds."""
        held = {job.token for job in self.jobs("running")}
        self.loans = {token: loan for token, loan in self.loans.items() if token in held}

    def adopted(self, boot: str, boot_ms: int, grace_ms: int) -> None:
        """A new keeper takes the loans up: it ends none at once, and each only once is spared so."""
        for loan in self.loans.values():
            if loan.boot != boot:
                loan.until = boot_ms + (0 if loan.spared == 2 else loan.lease_ms)
                loan.boot, loan.spared = boot, 2
            elif loan.until - boot_ms < grace_ms and not loan.spared:
                loan.until, loan.spared = boot_ms + grace_ms, 1

    # -- what the rows must say ------------------------------------------------------------------------------------

    def rows(self) -> dict[str, Any]:
        """What the tables of a database must say."""
        jobs, flows = self.jobs(), self.flows()
        return {
            "jobs": {job.id: (job.queue, job.state) for job in jobs},
            "charged": {job.id: (job.failures, job.interruptions) for job in jobs if job.failures or job.interruptions},
            "due": {job.id: job.due for job in jobs if job.state == "scheduled"},
            "parked": {job.id: job.parked for job in jobs if job.parked is not None},
            "flows": {flow.id: (flow.state, flow.open, flow.told, flow.finished_at) for flow in flows},
            "steps": {each.id: (each.flow, each.name, each.skipped, each.tolerated) for each in self._in_flows()},
            "waits": {(at, child): edge.done for child, edges in self.into.items() for at, edge in edges.items()},
            "pending": dict.fromkeys(self.pending, 0),
            "kept": {(job.id, name): value for job in jobs for name, value in job.kept.items()},
            "held": {job.id: job.token for job in jobs if job.state == "running"},
            "loans": {token: (each.until, each.lease_ms, each.key, each.spared) for token, each in self.loans.items()},
        }  # fmt: skip

    def _in_flows(self) -> Iterator[Step]:
        return (each for each in self.steps.values() if each.flow is not None)


def _job_of(planned: Planned) -> Job:
    return Job(
        planned.id, planned.flow, planned.name, queue=planned.queue or "", state="blocked", told=True,
        when=planned.when, delay_ms=planned.delay_ms, need=planned.need,
    )  # fmt: skip


def _passed(path: tuple[int, ...], place: tuple[int, ...]) -> bool:
    return path <= place or path[: len(place)] == place


def _as_counted(step: Step) -> str | None:
    """How the end of a step counts in its flow; None if it does not yet."""
    if step.counted is None:
        return None
    return "skipped" if step.skipped else "completed" if step.tolerated else step.counted
