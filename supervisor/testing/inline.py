"""One handler, called once as a worker would call it, without a queue, a process or a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from threading import get_ident
from typing import Any, NamedTuple

from supervisor.config.spec import Queue
from supervisor.errors import InvalidPayload, UsageError
from supervisor.job import CHECKPOINTS_MAX, Course, Done, FlowOfJob, Job, Outcome
from supervisor.policy.duration import to_ms
from supervisor.store.reader import instant
from supervisor.testing import enqueued
from supervisor.testing.clock import VirtualClock
from supervisor.testing.enqueued import Enqueued
from supervisor.testing.handlers import Handler, Watch, executor_of, surroundings, tasks_among, together
from supervisor.testing.workers import word_of
from supervisor.wire import payload as as_json
from supervisor.worker.executors.python import resolve
from supervisor.worker.main import OTHER_THREAD, Children, checkpoint_data

RESULT_BYTES_MAX = 1024 * 1024


class InlineRun(NamedTuple):
    """What came of a call. `outcome` is Done, Failed, Snooze, RateLimited, Cancel or Unknown, of `supervisor.job`.

    `ended` is its name: completed, failed, timed_out, snoozed, rate_limited, cancelled, or blocked (no such task).
    `error` is what the handler raised. `enqueued` is what it enqueued, if it completed: else that comes to nothing.
    `steps` and `cursor` are what is kept for a later attempt, however this one ended: give them to its `run_inline`.
    `progress` is what was said last of it, as a fraction and a text.
    """

    outcome: Outcome
    ended: str
    job: Job
    enqueued: tuple[Enqueued, ...] = ()
    error: BaseException | None = None
    steps: Mapping[str, Any] = {}
    cursor: Any = None
    progress: tuple[float, str] | None = None

    @property
    def completed(self) -> bool:
        """Whether the job would be completed."""
        return isinstance(self.outcome, Done)

    @property
    def result(self) -> Any:
        """The result as it comes back from JSON.

        Raises:
            AssertionError: the job did not complete; the message says why not.
        """
        if isinstance(self.outcome, Done):
            return json.loads(self.outcome.result or b"null")
        raise AssertionError(f"there is no result, the job is {self.ended}: {self.outcome}") from self.error

    def assert_enqueued(self, queue: str, *, count: int | None = None, **wanted: Any) -> list[Enqueued]:
        """Assert that it enqueued such a job; see `supervisor.testing.assert_enqueued`."""
        __tracebackhide__ = True
        return enqueued.assert_enqueued(self.enqueued, queue, count=count, **wanted)

    def assert_not_enqueued(self, queue: str, **wanted: Any) -> None:
        """Assert that it enqueued no such job."""
        __tracebackhide__ = True
        enqueued.assert_not_enqueued(self.enqueued, queue, **wanted)


def run_inline(
    handler: Handler, payload: Any = None, *, queue: str = "inline", task: str | None = None,
    version: int | None = None, attempt: int = 1, max_attempts: int = 5, previous_error: str | None = None,
    tags: Iterable[str] = (), priority: int = 0, key: str | None = None, now: datetime | str | None = None,
    timeout: str | float | timedelta = "5m", max_result_bytes: int = RESULT_BYTES_MAX,
    flow: Mapping[str, Any] | None = None, steps: Mapping[str, Any] | None = None, cursor: Any = None,
) -> InlineRun:  # fmt: skip
    """Call a handler with a job, as the worker's own code does it; what it raises becomes an outcome.

    The payload goes through JSON, as it does on its way to a worker. Tasks are chosen by name and version, payloads
    upgraded and checked. The result must be JSON. The timeout is what `job.deadline` says; nobody enforces it.

    Args:
        handler: a callable of one job; a task; a module of tasks; or a name, "myapp.mail:send" or "myapp.tasks".
        payload: anything that JSON can hold.
        queue: what `job.queue` says.
        task: which task; may be left out where the handler is one.
        version: that of the payload.
        attempt, max_attempts, previous_error, tags, priority, key: what the job says of itself.
        now: when it was enqueued and begun; None: now.
        timeout: how long after that its deadline is.
        max_result_bytes: how large its result may be.
        steps, cursor: what earlier attempts have kept.
        flow: what `job.flow` knows, by name: results, states, signals, context, step, name, id. None: it is no step.

    Raises:
        InvalidPayload: JSON cannot hold the payload.
        UsageError: the handler is a module of tasks, and none was named.
        HandlerUnusable: the handler cannot be imported.
    """
    clock, watch, children = VirtualClock(now), Watch(), Children()
    said: list[tuple[float, str]] = []
    course = _course(steps or {}, cursor, said)
    text = as_json.encode(payload)
    known = tasks_among(handler)
    spec = Queue(name=queue, handler="given:handler" if known is None else "given", max_result_bytes=max_result_bytes)
    if known is not None and task is None:
        task = _only(set(known.values()))
    job = Job(
        id=1, queue=queue, payload=json.loads(text), attempt=attempt, max_attempts=max_attempts, token=1,
        priority=priority, tags=tuple(tags), key=key, enqueued_at=clock.now, task=task, version=version,
        deadline=clock.now + timedelta(milliseconds=to_ms(timeout)), previous_error=previous_error,
        enqueue=children.add, flow=None if flow is None else FlowOfJob(**{"id": 1, **flow}, add=children.add),
        course=course,
    )  # fmt: skip
    executor = executor_of(spec, watch, handler)
    with surroundings(spec):
        outcome = executor.run(job, text.encode())
    watch.let_through()
    made, progress = _made(outcome, children, clock), said[-1] if said else None
    return InlineRun(
        outcome, word_of(outcome), job, made, watch.raised, course.steps, course.cursor, progress
    )  # fmt: skip


def run_batch_inline(
    handler: Callable[..., Any] | str, payloads: Iterable[Any], *, queue: str = "inline", attempt: int = 1,
    max_attempts: int = 5, now: datetime | str | None = None, timeout: str | float | timedelta = "5m",
    max_result_bytes: int = RESULT_BYTES_MAX,
) -> list[InlineRun]:  # fmt: skip
    """Call a handler of batches once with a job for each payload, as the worker's own code does it; one run for each.

    Everything is as in `run_inline`. The jobs have the ids 1, 2, 3 and so on, and what each keeps is its own.

    Raises:
        InvalidPayload: JSON cannot hold a payload.
        HandlerUnusable: the handler cannot be imported.
        UsageError: there is no payload: no worker calls a handler without a job.
    """
    clock, watch = VirtualClock(now), Watch()
    texts = [as_json.encode(payload) for payload in payloads]
    if not texts:
        raise UsageError("a batch has at least one job: give at least one payload")
    spec = Queue(name=queue, handler="given:handler", batch_size=len(texts), max_result_bytes=max_result_bytes)
    children, said = [Children() for _ in texts], [list[tuple[float, str]]() for _ in texts]
    courses = [_course({}, None, of_job) for of_job in said]
    jobs = [
        Job(
            id=number, queue=queue, payload=json.loads(text), attempt=attempt, max_attempts=max_attempts, token=1,
            enqueued_at=clock.now, deadline=clock.now + timedelta(milliseconds=to_ms(timeout)), enqueue=own.add,
            course=course,
        )
        for number, (text, own, course) in enumerate(zip(texts, children, courses, strict=True), 1)
    ]  # fmt: skip
    outcomes: list[Outcome] = []
    executor = together(watch, resolve(handler) if isinstance(handler, str) else handler, spec)
    with surroundings(spec):
        executor.run_batch(jobs, outcomes)
    watch.let_through()
    found = zip(outcomes, jobs, children, watch.errors(len(jobs)), courses, said, strict=True)
    return [
        InlineRun(
            outcome, word_of(outcome), job, _made(outcome, own, clock), error, course.steps, course.cursor,
            told[-1] if told else None,
        )
        for outcome, job, own, error, course, told in found
    ]  # fmt: skip


def _course(steps: Mapping[str, Any], cursor: Any, said: list[tuple[float, str]]) -> Course:
    """Keeps values under a worker's limits, and returns them as JSON has them; notes what is said of progress."""
    count, thread = len(steps), get_ident()

    def keep(name: str, value: Any) -> Any:
        nonlocal count
        if get_ident() != thread:
            raise RuntimeError(OTHER_THREAD)
        checkpoint_data(name, value)
        count += bool(name)
        if count > CHECKPOINTS_MAX:
            raise InvalidPayload(f"a job has at most {CHECKPOINTS_MAX} steps")
        return json.loads(as_json.encode(value))

    return Course(keep, lambda *told: said.append(told), dict(steps), cursor)


def _made(outcome: Outcome, children: Children, clock: VirtualClock) -> tuple[Enqueued, ...]:
    """What a job has enqueued, if it completed: else that comes to nothing."""
    listed = children.listed if isinstance(outcome, Done) else []
    return tuple(_child(child.queue, child.payload, child.options, clock) for child in listed)


def _only(tasks: set[Any]) -> str:
    if len(tasks) > 1:
        names = ", ".join(sorted(task.name for task in tasks))
        raise UsageError(f"the handler has several tasks: say which with task=; there are {names}")
    (one,) = tasks
    return str(one.name)


def _child(queue: str, payload: bytes, options: Mapping[str, Any], clock: VirtualClock) -> Enqueued:
    due_ms = options.get("due_at_ms")
    if "delay_ms" in options:
        due_ms = clock.wall_ms + options["delay_ms"]
    return Enqueued(
        queue, json.loads(payload), options.get("task"), options.get("key"), options.get("priority", 0),
        tuple(options.get("tags", ())), instant(due_ms), idempotency_key=options.get("idempotency_key"),
    )  # fmt: skip
