"""Flows: from the request to what is stored, how they go on in every pass, and what is done to them from outside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec

from supervisor.errors import InvalidFlow, JobsupError, PayloadTooLarge, WrongState
from supervisor.flow import rules
from supervisor.flow.plan import FlowInvalid, Planned, plan
from supervisor.flow.rules import CALLBACKS, Counts, FlowState
from supervisor.job import GROUP_BYTES_MAX
from supervisor.keeper import callbacks, withdrawal
from supervisor.keeper.children import NO_KEY, ONCE_WITH_THE_FLOW, inner, known_queue, new_job
from supervisor.keeper.fitting import fitted
from supervisor.keeper.housekeeping import Chores, kept_as
from supervisor.keeper.operations import Refuse, Reply
from supervisor.keeper.pending import PendingGroup
from supervisor.keeper.state import State
from supervisor.keeper.strangers import unknown_flow
from supervisor.keeper.work import Work
from supervisor.observe.failpoint import hit
from supervisor.policy.closest import closest_of_few
from supervisor.policy.retention import sweep_interval_ms
from supervisor.store.protocol import OVERFED, FlowStanding, Inserted, NewFlow, NewJob, NewStep
from supervisor.store.sqlite.transaction import Transaction
from supervisor.wire import messages

CONTEXT_BYTES_MAX = 64 * 1024
SIGNAL_BYTES_MAX = 64 * 1024
CALLBACK_SPARE_BYTES = 4 * 1024
"""What is put around the payload of a callback."""
STEPS_AT_ONCE = 256
STEPS_UNTIL_US = 2_200
CANCEL_AT_ONCE = 100
RETRY_AT_ONCE = 32
RETRY_FROM_MAX = 10_000
PRUNE_AT_ONCE = 200
PRUNE_EVERY_MS = 3_600_000


# -- coming in -----------------------------------------------------------------------------------------------------


def accept(
    state: State, request: messages.FlowStart, scope: str, now_ms: int, boot_ms: int,
    answer: Callable[[Inserted, Sequence[Planned]], None], refuse: Callable[[JobsupError], None],
) -> None:  # fmt: skip
    """Check a flow and let it wait for the next pass.

    Raises:
        InvalidFlow, UnknownQueue, InvalidPayload, PayloadTooLarge: nothing of it is kept.
    """
    _refuse_keys(request)
    planned = _planned(request)
    steps = [_step(state, scope, each, now_ms) for each in planned]
    context = bytes(request.context)
    check_kept(context, CONTEXT_BYTES_MAX, "the context")
    size = len(context) + sum(len(step.job.payload) for step in steps if step.job is not None)
    if size > GROUP_BYTES_MAX:
        raise PayloadTooLarge(f"the flow has {size} bytes of payloads, the limit is {GROUP_BYTES_MAX}")
    new = NewFlow(
        steps, request.key, request.name, scope, None if context == b"null" else context,
        _callbacks(state, scope, request, now_ms), request.open, request.into,
    )  # fmt: skip
    until_ms = None if request.within_ms is None else boot_ms + request.within_ms
    pending = PendingGroup(new, size, lambda inserted, _: answer(inserted, planned), refuse, until_ms)
    state.intake.append(pending)
    hit("keeper.after_accept")


def check_kept(raw: bytes, bytes_max: int, what: str) -> None:
    """Refuse what a flow cannot keep, or what its steps could not read.

    Raises:
        InvalidPayload, PayloadTooLarge: it breaks a rule of payloads, or is larger than this.
    """
    if len(raw) > bytes_max:
        raise PayloadTooLarge(f"{what} has {len(raw)} bytes, the limit is {bytes_max}")
    messages.check_json(raw, what)


def _planned(request: messages.FlowStart) -> list[Planned]:
    if request.into is not None and (
        request.name or bytes(request.context) != b"null" or request.open or any(_callbacks_of(request).values())
    ):
        raise InvalidFlow("steps that are added to a flow come without name, context, open and callbacks")
    try:
        return plan(request.steps, grafted=request.into is not None)
    except FlowInvalid as error:
        raise InvalidFlow(str(error), hint=error.hint) from None


def _refuse_keys(request: messages.FlowStart) -> None:
    """A flow is there with all its steps and callbacks, or not at all: there is nothing for a key of one of them to do.

    Raises:
        InvalidFlow: a step or a callback has an idempotency key.
    """
    waiting: list[tuple[str, messages.NewJob]] = [(called, job) for called, job in _given(request)]
    while waiting:
        called, job = waiting.pop()
        if job.idempotency_key is not None:
            raise InvalidFlow(f"{called} {NO_KEY}", hint=ONCE_WITH_THE_FLOW)
        waiting += _given(job) if isinstance(job, messages.Step) else ()


def _given(asked: messages.Step | messages.FlowStart) -> Iterator[tuple[str, messages.NewJob]]:
    """The steps and callbacks that are written within a flow, each with what it is called in errors."""
    yield from ((_called(step), step) for step in asked.steps or ())
    yield from ((name, job) for name, job in _callbacks_of(asked).items() if job is not None)


def _step(state: State, scope: str, planned: Planned, now_ms: int) -> NewStep:
    asked: messages.Step = planned.asked
    parents = tuple((ref, int(policy)) for ref, policy in planned.parents)
    if planned.nested:
        return NewStep(None, None, planned.flow, asked.name, parents, callbacks=_callbacks(state, scope, asked, now_ms))
    if any(_callbacks_of(asked).values()):
        raise InvalidFlow(f"{_called(asked)}: a job has no callbacks", hint="on_dead of its queue, or a flow around it")
    assert asked.queue is not None
    name = inner(scope, asked.queue)
    queue = known_queue(state.spec, name)
    (fit,) = fitted(state, name, [asked])
    own: dict[str, Any] = {} if asked.when is None else {"when": asked.when}
    if parents or asked.wait_for or own:
        own |= _from_its_release(fit)
        fit = msgspec.structs.replace(fit, delay_ms=None, due_at_ms=None, ttl_ms=None)
        if "ttl_ms" not in own and queue.ttl_ms is not None and fit.expires_at_ms is None:
            own["ttl_ms"] = queue.ttl_ms
            queue = msgspec.structs.replace(queue, ttl_ms=None)
    job = new_job(queue, fit, now_ms, name)
    kept = msgspec.json.encode(own) if own else None
    return NewStep(name, job, planned.flow, asked.name, parents, asked.wait_for, kept)


def _from_its_release(job: messages.NewJob) -> dict[str, Any]:
    """Times that begin when the step has nothing to wait for any more."""
    given = {"delay_ms": job.delay_ms, "due_at_ms": job.due_at_ms, "ttl_ms": job.ttl_ms}
    return {name: value for name, value in given.items() if value is not None}


def _called(asked: messages.Step) -> str:
    return f"step {asked.name}" if asked.name else f"a step for queue {asked.queue}"


def _callbacks_of(asked: messages.Step | messages.FlowStart) -> dict[str, messages.CallbackJob | None]:
    return {name: getattr(asked, name) for name in CALLBACKS}


def _callbacks(state: State, scope: str, asked: messages.Step | messages.FlowStart, now_ms: int) -> bytes | None:
    """The jobs that a flow is to enqueue, as they are stored: checked now, as nobody could be told later."""
    made = {
        name: _callback(state, scope, name, job, asked.name, now_ms)
        for name, job in _callbacks_of(asked).items()
        if job is not None
    }  # fmt: skip
    return msgspec.json.encode(made) if made else None


def _callback(
    state: State, scope: str, called: str, job: messages.CallbackJob, flow_name: str | None, now_ms: int
) -> dict[str, Any]:  # fmt: skip
    """One of them; its payload is checked as it will be, with what is put around it."""
    name = inner(scope, job.queue)
    queue = known_queue(state.spec, name)
    if any(getattr(job, member) is not None for member in NOT_OF_CALLBACKS):
        raise InvalidFlow(f"{called}: a callback has no delay, time, ttl, deadline or key", hint=NO_TIMES)
    flow = rules.told(1, flow_name, FlowState.COMPLETED, CALLBACKS[called], Counts(1, 0, 0, 0, 0))
    whole = msgspec.json.encode({"flow": flow, "payload": job.payload})
    told = msgspec.structs.replace(job, payload=msgspec.Raw(whole))
    (fit,) = fitted(state, name, [told])
    at_any_time = msgspec.structs.replace(queue, ttl_ms=None)  # that of its queue would begin with the flow
    new: NewJob = new_job(at_any_time, msgspec.structs.replace(fit, payload=job.payload), now_ms, name)
    if len(new.payload) > queue.max_payload_bytes - CALLBACK_SPARE_BYTES:
        raise PayloadTooLarge(
            f"{called}: the payload has {len(new.payload)} bytes; what is put around it needs {CALLBACK_SPARE_BYTES}"
        )
    return {
        "queue": name, "payload": msgspec.Raw(new.payload), "priority": new.priority,
        "options": msgspec.Raw(new.options) if new.options else None,
    }  # fmt: skip


NOT_OF_CALLBACKS = ("delay_ms", "due_at_ms", "key", "ttl_ms", "expires_at_ms", "deadline_ms", "deadline_at_ms")
NO_TIMES = "they would begin with the flow, and not with the callback"


# -- going on ------------------------------------------------------------------------------------------------------


def go_on(work: Work) -> None:
    """Tell what ended to what comes after it, and cancel what belongs to flows that are cancelled, as time allows."""
    tx, state = work.tx, work.state
    if tx.cancelling:
        _cancel_some(work)
    while tx.flows_wait and not work.late(STEPS_UNTIL_US):
        ended = tx.progress_flows(STEPS_AT_ONCE)
        work.final.update(tx.told_ends)
        for flow in ended:
            work.final.add(flow.id)
            called = f" {flow.name}" if flow.name else ""
            work.afterwards(partial(state.log.emit, "flow.ended", id=flow.id, called=called, state=flow.state.value))
        overfed, tx.overfed = tx.overfed, []
        if overfed:
            callbacks.dead_unrun(work, overfed, OVERFED)
    if tx.flows_wait or tx.cancelling:
        work.afterwards(partial(setattr, state, "wants_lease", True))


def _cancel_some(work: Work) -> None:
    running = work.tx.cancel_steps(CANCEL_AT_ONCE)
    if running:
        work.afterwards(partial(withdrawal.ask, work.state, running))


def prune(work: Work, chores: Chores) -> None:
    """Delete flows that are old enough, with their jobs, some jobs in each pass."""
    if work.boot_ms < chores.prune_flows_at_ms:
        return
    keep, removed = kept_as(work.state.spec.flow_retention), 0
    for ended, kept_ms in zip((FlowState.COMPLETED, FlowState.CANCELLED, FlowState.DEAD), keep, strict=True):
        if kept_ms is not None and not removed:
            removed = work.tx.prune_flows(ended, work.now_ms - kept_ms, PRUNE_AT_ONCE)
    rest_ms = sweep_interval_ms([keep]) or PRUNE_EVERY_MS
    at_ms = work.boot_ms + (20 if removed else rest_ms)
    work.afterwards(partial(setattr, chores, "prune_flows_at_ms", at_ms))


# -- from outside --------------------------------------------------------------------------------------------------


class OnFlow(ABC):
    """An operation on one flow."""

    until_ms: int | None = None

    def __init__(self, state: State, flow: int, scope: str, reply: Reply, refuse: Refuse) -> None:
        self.state = state
        self.flow = flow
        self.scope = scope
        self.reply = reply
        self.refuse = refuse

    def step(self, tx: Transaction, now_ms: int) -> Callable[[], bool]:  # noqa: ARG002 - the interface of operations
        """Do it, or say why not."""
        try:
            shown = self.act(tx, _standing(tx, self.flow, self.scope))
        except JobsupError as error:
            return partial(self._refused, error)
        return partial(self._done, shown)

    @abstractmethod
    def act(self, tx: Transaction, flow: FlowStanding) -> dict[str, Any] | None:
        """Do it; what is answered, or None if there is more to do."""

    def _refused(self, error: JobsupError) -> bool:
        self.refuse(error)
        return True

    def _done(self, shown: dict[str, Any] | None) -> bool:
        self.state.wants_lease = True
        if shown is None:
            return False
        self.reply(shown)
        return True


def _standing(tx: Transaction, flow_id: int, scope: str) -> FlowStanding:
    flow = tx.flow(flow_id)
    if flow is None or flow.scope != scope:
        raise unknown_flow(tx, flow_id)
    return flow


class Signal(OnFlow):
    """A signal came."""

    def __init__(
        self, state: State, flow: int, scope: str, reply: Reply, refuse: Refuse, *, name: str, payload: bytes
    ) -> None:  # fmt: skip
        super().__init__(state, flow, scope, reply, refuse)
        self.name = name
        self.payload = payload

    def act(self, tx: Transaction, flow: FlowStanding) -> dict[str, Any]:
        """Note it, unless it came before."""
        if flow.state is not FlowState.RUNNING:
            raise WrongState(f"flow {flow.id} is {flow.state.value}: it waits for no signal", hint=_look(flow.id))
        first = tx.signal_flow(flow.id, self.name, self.payload)
        known = tx.signals_awaited(flow.id)
        awaited = self.name in known
        meant = closest_of_few(self.name, known) if first and not awaited else None
        return {"id": flow.id, "signal": self.name, "repeated": not first, "awaited": awaited, "meant": meant}


class Close(OnFlow):
    """No more is added from outside."""

    def act(self, tx: Transaction, flow: FlowStanding) -> dict[str, Any]:
        """Close it; closed once is closed."""
        tx.close_flow(flow.id)
        return _said(tx, flow)


class Cancel(OnFlow):
    """Cancel all of it."""

    def act(self, tx: Transaction, flow: FlowStanding) -> dict[str, Any]:
        """Begin; the passes that follow do the rest."""
        if flow.state.final:
            error = f"flow {flow.id} is {flow.state.value}: only a flow that has not ended can be cancelled"
            raise WrongState(error, hint=_look(flow.id))
        tx.cancel_flow(flow.id)
        return _said(tx, flow)


class Reached(NamedTuple):
    """How far a retry has got: steps that run again; what is left, as a walk through flows, or as the jobs."""

    steps: int = 0
    walk: Sequence[tuple[int, int]] | None = None
    jobs: Sequence[int] | None = None


class Retry(OnFlow):
    """Run steps again, some in each pass."""

    def __init__(
        self, state: State, flow: int, scope: str, reply: Reply, refuse: Refuse, *, name: str | None
    ) -> None:  # fmt: skip
        super().__init__(state, flow, scope, reply, refuse)
        self.name = name
        self.reached = self.reaches = Reached()

    def act(self, tx: Transaction, flow: FlowStanding) -> dict[str, Any] | None:
        """The next of them."""
        if flow.state is FlowState.CANCELLING:
            raise WrongState(f"flow {flow.id} is being cancelled", hint="try again when it has ended")
        self.reaches = reaches = self._failed(tx) if self.name is None else self._following(tx, self.name)
        return None if reaches.jobs or reaches.walk else _said(tx, flow) | {"count": reaches.steps}

    def _failed(self, tx: Transaction) -> Reached:
        steps, walk, _ = self.reached
        found = tx.retry_steps([(self.flow, 0)] if walk is None else walk, RETRY_AT_ONCE)
        return Reached(steps + found.steps, found.walk)

    def _following(self, tx: Transaction, name: str) -> Reached:
        jobs = self.reached.jobs
        first = jobs is None
        if jobs is None:
            jobs = tx.steps_from(self.flow, name, RETRY_FROM_MAX)
        steps = tx.retry_jobs(jobs[:RETRY_AT_ONCE], first=first) if jobs else 0
        return Reached(self.reached.steps + steps, jobs=jobs[RETRY_AT_ONCE:])

    def _done(self, shown: dict[str, Any] | None) -> bool:
        self.reached = self.reaches  # what was done is committed: a pass that fails is done anew from where it began
        return super()._done(shown)


def _look(flow_id: int) -> str:
    return f"jobsctl flow show {flow_id} says how it stands"


def _said(tx: Transaction, flow: FlowStanding) -> dict[str, Any]:
    now = tx.flow(flow.id)
    assert now is not None
    return {"id": flow.id, "name": flow.name, "state": now.state.value}


def answered(inserted: Inserted, planned: Sequence[Planned], into: int | None) -> dict[str, Any]:
    """What the client of a flow hears; a repeated request to add steps is answered with those alone."""
    flow, *ids = inserted.ids if into is None or not inserted.repeated else [into, *inserted.ids]
    named = {
        each.asked.name: step_id
        for each, step_id in zip(planned, ids, strict=False)
        if each.flow == -1 and each.asked.name is not None
    }
    return {"id": flow, "steps": len(ids), "ids": named, "repeated": inserted.repeated}
