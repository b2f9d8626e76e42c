"""What a handler enqueued: checked against the queues as a client's request would be."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from supervisor.config.discipline import unique_of
from supervisor.config.names import SEPARATOR, internal_name, scope_of, short_name
from supervisor.config.spec import Queue, Spec, is_pattern
from supervisor.errors import InvalidPayload, PayloadTooLarge, UnknownQueue
from supervisor.job import GROUP_BYTES_MAX, GROUP_JOBS_MAX, IDEMPOTENCY_KEY, JOINS
from supervisor.keeper.fitting import fitted
from supervisor.policy.closest import NAME_MAX, did_you_mean
from supervisor.policy.unique import MemberMissing, Unique, fingerprint
from supervisor.store.protocol import Group, NewJob
from supervisor.wire import messages
from supervisor.wire.refusal import JOB_KEY_RULE

THE_PARENTS = -1
"""The flow of a child, where it is that of the job which enqueued it."""

KEY_SHOWN = 40
NO_KEY = "cannot have an idempotency_key: it is there with its flow, or not at all"
ONCE_WITH_THE_FLOW = "give the flow, or the steps that are added, a request_key: repeated, they are the first ones"

if TYPE_CHECKING:
    from supervisor.keeper.state import State


def known_queue(spec: Spec, name: str) -> Queue:
    """The queue of that name.

    Raises:
        UnknownQueue: it is not in the configuration.
    """
    queue = spec.queue(name)
    if queue is None:
        raise UnknownQueue(f"there is no queue {short_name(name)}", hint=nearest(spec, name))
    return queue


def inner(scope: str, name: str) -> str:
    """The internal name of a queue that somebody in a scope names.

    Raises:
        UnknownQueue: the name has a `/`, so it can only be meant for what is behind the boundary.
    """
    if SEPARATOR in name:
        raise UnknownQueue(f"there is no queue {name}", hint="names of queues have no /")
    return internal_name(scope, name)


class Hints:
    """What was meant by names that are no queues: comparing one with hundreds takes milliseconds, and whoever sends a
    wrong name sends it again. Only those of the newest configuration are kept, and no more than so many."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._spec: Spec | None = None
        self._found: dict[tuple[str, str], str | None] = {}

    def about(self, spec: Spec, name: str) -> str | None:
        """The hint about a name; None if no queue of its scope is like it."""
        if self._spec is not spec:
            self._spec, self._found = spec, {}
        asked = scope_of(name), short_name(name)[:NAME_MAX]
        if asked not in self._found:
            if len(self._found) >= self._room:
                self._found.clear()
            self._found[asked] = did_you_mean(asked[1], _beside(spec, name))
        return self._found[asked]


_hints = Hints(room=1_000)


def nearest(spec: Spec, name: str) -> str:
    """What to do about a name that is no queue; of other scopes nothing is said."""
    if is_pattern(name):
        return "that is a pattern; name a queue that it stands for"
    if name in spec.pools:
        return f"that is a pool; it draws from {', '.join(map(short_name, spec.pools[name].sources))}"
    hint = _hints.about(spec, name)
    if hint:
        return hint
    return f"queues: {', '.join(sorted(_beside(spec, name))) or 'none'}; add one with: jobsctl queues add"


def _beside(spec: Spec, name: str) -> list[str]:
    """The queues of the scope of a name, as they are known in it."""
    return [short_name(queue) for queue in spec.queues if scope_of(queue) == scope_of(name)]


def children_of(
    state: State, listed: Sequence[tuple[str, bytes, Mapping[str, Any]]], now_ms: int, scope: str = ""
) -> list[Group]:
    """The groups that a handler's own enqueues make, in its own scope.

    Raises:
        UnknownQueue, InvalidPayload, PayloadTooLarge: one of them could not be stored; then none is.
    """
    if len(listed) > GROUP_JOBS_MAX or sum(len(payload) for _, payload, _ in listed) > GROUP_BYTES_MAX:
        raise PayloadTooLarge(f"a job may enqueue {GROUP_JOBS_MAX} jobs with {GROUP_BYTES_MAX} bytes in all")
    groups = []
    for written, payload, options in listed:
        name = inner(scope, written)
        known_queue(state.spec, name)
        asked = _asked(written, payload, options)
        joins = THE_PARENTS if options.get(JOINS) is True else None
        groups.append(group_of(state, name, [asked], now_ms, flow=joins))
    return groups


def _asked(queue: str, payload: bytes, options: Mapping[str, Any]) -> messages.NewJob:
    """A job that a handler enqueued, as a client would ask for it."""
    try:
        own = {name: value for name, value in options.items() if name != JOINS}
        return msgspec.convert({"payload": msgspec.Raw(payload), **own}, messages.NewJob)
    except msgspec.ValidationError as error:
        raise InvalidPayload(f"a job for {queue}: {error}") from error


def joined(groups: Sequence[Group], options: bytes | None) -> Sequence[Group]:
    """The groups, those that are to belong to the flow of the job that enqueued them marked with it.

    Raises:
        InvalidPayload: that job belongs to no flow.
    """
    if all(group.flow is None for group in groups):
        return groups
    flow = msgspec.json.decode(options).get(JOINS) if options else None
    if type(flow) is not int:
        raise InvalidPayload("the job belongs to no flow that others could join")
    return [group if group.flow is None else group._replace(flow=flow, jobs=_marked(group, flow)) for group in groups]


def _marked(group: Group, flow: int) -> list[NewJob]:
    return [
        job._replace(options=msgspec.json.encode({JOINS: flow, **(msgspec.json.decode(job.options or b"{}"))}))
        for job in group.jobs
    ]


def group_of(
    state: State, name: str, asked: Sequence[messages.NewJob], now_ms: int, *,
    key: str | None = None, flow: int | None = None,
) -> Group:  # fmt: skip
    """The group that these jobs make in the queue of that internal name, each checked, and as it is stored.

    Raises:
        UnknownQueue, InvalidPayload, PayloadTooLarge: one of them could not be stored; then none is.
    """
    queue = known_queue(state.spec, name)
    jobs = fitted(state, name, asked)
    for job in asked:
        if job.idempotency_key is not None:
            return Group(name, [_with_key(queue, job, now_ms, name, flow) for job in jobs], key, None, flow, keyed=True)
    return Group(name, [new_job(queue, job, now_ms, name) for job in jobs], key, None, flow)


def _with_key(queue: Queue, job: messages.NewJob, now_ms: int, name: str, flow: int | None) -> NewJob:
    """As `new_job`, and with the idempotency key, if it has one: where keys are looked up, and where jobs are shown."""
    key = job.idempotency_key
    if key is None:
        return new_job(queue, job, now_ms, name)
    if not key.isprintable():
        raise InvalidPayload(f"idempotency_key must be {JOB_KEY_RULE}; {key[:KEY_SHOWN]!r} is none")
    if flow is not None:
        raise InvalidPayload(f"a job that joins a flow {NO_KEY}", hint=ONCE_WITH_THE_FLOW)
    return new_job(queue, job, now_ms, name, {IDEMPOTENCY_KEY: key})._replace(idempotency_key=key)


def new_job(
    queue: Queue, job: messages.NewJob, now_ms: int, name: str | None = None, marks: Mapping[str, Any] | None = None
) -> NewJob:
    """A job as it is stored, from a job as it is asked for; `name` is the queue's own where its table is a pattern.

    `marks` stand among its options. Of an idempotency key it knows nothing: only groups have them.

    Raises:
        InvalidPayload, PayloadTooLarge: the payload cannot be stored, or the queue does not order by priority.
    """
    payload = bytes(job.payload)
    messages.check_payload(payload, queue.max_payload_bytes, short_name(queue.name))
    if job.priority and "priority" not in queue.order:
        raise InvalidPayload(
            f"queue {short_name(queue.name)} does not order by priority (its order is {', '.join(queue.order)})",
            hint='set order = "priority" for it, or leave the priority out',
        )
    due_at_ms = job.due_at_ms if job.delay_ms is None else now_ms + job.delay_ms
    own: dict[str, Any] = dict(marks) if marks else {}
    if job.timeout_ms is not None:
        own["timeout_ms"] = job.timeout_ms
    if job.max_attempts is not None:
        own["max_attempts"] = job.max_attempts
    if job.tags:
        own["tags"] = job.tags
    if job.cost is not None and job.cost != 1:
        own["cost"] = job.cost
    if job.task is not None:
        own["task"] = job.task
        if job.version is not None:
            own["version"] = job.version
    key, unique, name = job.key or "", unique_of(queue), queue.name if name is None else name
    same = None if unique is None else _same(unique, name, key, payload, job.task)
    if unique is not None and unique.debounce_ms is not None:
        due_at_ms = now_ms + unique.debounce_ms
    if (
        job.backoff_ms or job.ttl_ms or job.deadline_ms or job.retry_for_ms or queue.ttl_ms
        or job.expires_at_ms is not None or job.deadline_at_ms is not None
    ):  # fmt: skip
        new = NewJob(payload, job.priority or 0, due_at_ms, None, key, job.cost or 1, same)
        return _with_times(queue, job, new, own, now_ms)
    options = msgspec.json.encode(own) if own else None
    return NewJob(payload, job.priority or 0, due_at_ms, options, key, job.cost or 1, same)


def _with_times(queue: Queue, job: messages.NewJob, new: NewJob, own: dict[str, Any], now_ms: int) -> NewJob:
    """The job with what it brings about retries and times; a time to live begins when it is due."""
    expires_at_ms = job.expires_at_ms
    ttl_ms = queue.ttl_ms if job.ttl_ms is None else job.ttl_ms
    if expires_at_ms is None and ttl_ms is not None:
        expires_at_ms = (new.due_at_ms or now_ms) + ttl_ms
    deadline_at_ms = job.deadline_at_ms if job.deadline_ms is None else now_ms + job.deadline_ms
    brought = {
        "backoff_ms": job.backoff_ms, "retry_for_ms": job.retry_for_ms, "expires_at_ms": expires_at_ms,
        "deadline_at_ms": deadline_at_ms,
    }  # fmt: skip
    own |= {name: value for name, value in brought.items() if value is not None}
    options = msgspec.json.encode(own) if own else None
    return new._replace(options=options, expires_at_ms=expires_at_ms, deadline_at_ms=deadline_at_ms)


def _same(unique: Unique, queue: str, key: str, payload: bytes, task: str | None) -> str:
    """What the job has in common with those that count as the same."""
    try:
        return fingerprint(unique, queue, key, json.loads(payload), task)
    except MemberMissing as error:
        raise InvalidPayload(str(error), hint="unique.by in the configuration names what a payload must have") from None
