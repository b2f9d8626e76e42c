"""The noun: what a job is to its handler, the states it passes through, and what a run of it can end with.

Pure and cheap to import: handlers import it, and every layer above speaks in its words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any, NamedTuple, NoReturn, cast

JOB_ID_MAX = 2**53 - 1
"""Ids are 1 to 2^53-1: exact in every language's JSON. They are never reused."""

PRIORITY_MIN, PRIORITY_MAX = -100, 100
GROUP_JOBS_MAX = 10_000
GROUP_BYTES_MAX = 16 * 1024 * 1024
TAGS_MAX = 32
TAG_LENGTH_MAX = 64
JOB_KEY_LENGTH_MAX = 200
COST_MAX = 1_000_000
TASK_NAME_MAX = 200
VERSION_MAX = 1_000_000
CHECKPOINTS_MAX = 1_000
"""Steps whose values a job keeps for its next run."""

Duration = str | int | float | timedelta
"""A duration as users write it: "1h30m", or seconds, or a timedelta."""


class State(StrEnum):
    """Where a job stands. `blocked` waits for steps before it, or for code that knows it; a retry is `scheduled`."""

    BLOCKED = "blocked"
    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    DEAD = "dead"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing more happens to the job by itself."""
        return self in FINAL


FINAL = frozenset({State.COMPLETED, State.DEAD, State.CANCELLED})
WAITING = frozenset({State.BLOCKED, State.SCHEDULED, State.QUEUED})


class Event(StrEnum):
    """What can happen to a job; the keys of the transition table."""

    ENQUEUE = "enqueue"
    ENQUEUE_LATER = "enqueue later"
    ENQUEUE_BLOCKED = "enqueue blocked"
    PROMOTE = "promote"
    LEASE = "lease"
    COMPLETE = "complete"
    RETRY = "retry"
    SNOOZE = "snooze"
    BURY = "bury"
    RELEASE = "release"
    CANCEL = "cancel"
    REVIVE = "revive"
    REVIVE_LATER = "revive later"
    REVIVE_BLOCKED = "revive blocked"
    EDIT = "edit"
    PARK = "park"
    UNBLOCK = "unblock"
    UNBLOCK_LATER = "unblock later"
    POSTPONE = "postpone"


TRANSITIONS: Mapping[State | None, Mapping[Event, State]] = {
    None: {
        Event.ENQUEUE: State.QUEUED,
        Event.ENQUEUE_LATER: State.SCHEDULED,
        Event.ENQUEUE_BLOCKED: State.BLOCKED,
    },
    State.BLOCKED: {
        Event.UNBLOCK: State.QUEUED,
        Event.UNBLOCK_LATER: State.SCHEDULED,
        Event.CANCEL: State.CANCELLED,
        Event.BURY: State.DEAD,
        Event.EDIT: State.BLOCKED,
    },
    State.SCHEDULED: {
        Event.PROMOTE: State.QUEUED,
        Event.CANCEL: State.CANCELLED,
        Event.BURY: State.DEAD,
        Event.REVIVE: State.QUEUED,
        Event.EDIT: State.SCHEDULED,
        Event.POSTPONE: State.SCHEDULED,
    },
    State.QUEUED: {
        Event.LEASE: State.RUNNING,
        Event.CANCEL: State.CANCELLED,
        Event.BURY: State.DEAD,
        Event.EDIT: State.QUEUED,
        Event.POSTPONE: State.SCHEDULED,
    },
    State.RUNNING: {
        Event.COMPLETE: State.COMPLETED,
        Event.RETRY: State.SCHEDULED,
        Event.SNOOZE: State.SCHEDULED,
        Event.BURY: State.DEAD,
        Event.RELEASE: State.QUEUED,
        Event.PARK: State.BLOCKED,
        Event.CANCEL: State.CANCELLED,
    },
    State.COMPLETED: {
        Event.REVIVE: State.QUEUED,
        Event.REVIVE_BLOCKED: State.BLOCKED,
        Event.EDIT: State.COMPLETED,
    },
    State.DEAD: {
        Event.REVIVE: State.QUEUED,
        Event.REVIVE_LATER: State.SCHEDULED,
        Event.REVIVE_BLOCKED: State.BLOCKED,
        Event.EDIT: State.DEAD,
    },
    State.CANCELLED: {
        Event.REVIVE: State.QUEUED,
        Event.REVIVE_BLOCKED: State.BLOCKED,
        Event.EDIT: State.CANCELLED,
    },
}
"""All that can happen to a job. What is not in the table does not happen: `after` raises."""


class IllegalTransition(ValueError):
    """A job was asked to do what its state does not allow."""


def after(state: State | None, event: Event) -> State:
    """The state that follows; `None` is a job that does not exist yet.

    Raises:
        IllegalTransition: the pair is not in `TRANSITIONS`.
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(f"a job that is {state or 'not there yet'} cannot {event}") from None


class Done(NamedTuple):
    """The handler returned; `result` is JSON text, or None for null."""

    result: bytes | None = None


class Failed(NamedTuple):
    """The handler raised, its result was unusable, its command failed, or its deadline passed.

    `kind` is `error` or `timeout`; `type` the exception's class; `traceback` its text;
    `last_output` the tail of what a command wrote to stderr; `final` asks for no retry. `classes` are the names of
    the exception's classes with their modules, the most derived first. `delay_ms` is the delay that the handler asked
    for, `backoff_ms` the one that the queue's function gave, `backoff_error` why it gave none.
    """

    message: str
    kind: str = "error"
    type: str | None = None
    traceback: str | None = None
    last_output: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    final: bool = False
    classes: tuple[str, ...] = ()
    delay_ms: int | None = None
    backoff_ms: int | None = None
    backoff_error: str | None = None


class Retry(NamedTuple):
    """Returned by a handler: this attempt failed; try again after `delay`, or after the usual backoff."""

    delay: Duration | None = None
    reason: str = ""


class Snooze(NamedTuple):
    """Returned by a handler: run me again after `delay`, without charging an attempt."""

    delay: Duration


class RateLimited(NamedTuple):
    """Returned by a handler that was told to slow down, as by HTTP 429: nothing of its queue begins within `delay`.

    The job itself runs again then, without charging an attempt. `key_only`: only jobs of the same key wait.
    """

    delay: Duration
    key_only: bool = False


class Cancel(NamedTuple):
    """Returned by a handler: this job shall not run again; `reason` is kept with it."""

    reason: str = ""


class Dead(NamedTuple):
    """Returned by a handler: retrying is of no use; the job goes to the dead letters with `reason`."""

    reason: str


class Unknown(NamedTuple):
    """The code that a worker has does not know the job's task, or not in this version of its payload.

    Not for handlers. The job waits until code arrives that does; nothing is charged.
    """

    task: str
    version: int


Outcome = Done | Failed | Snooze | RateLimited | Cancel | Unknown


class JobTimeout(Exception):
    """Raised inside a handler whose deadline has passed; what follows, soon, is SIGTERM and then SIGKILL."""


OUT_OF_TIME = "the job ran out of time: its timeout or its deadline has passed"


class Child(NamedTuple):
    """A job that a handler enqueued: it exists only if the handler's own job completes."""

    queue: str
    payload: Any
    options: Mapping[str, Any]


class Course:
    """Where a run of a job has got to: what earlier runs of it have kept, and how this one keeps more.

    `keep(name, value)` writes down a value under the lease of this run; `tell(fraction, text)` says how far it is.
    """

    __slots__ = ("cursor", "had", "keep", "steps", "tell")

    def __init__(
        self, keep: Callable[[str, Any], Any], tell: Callable[[float, str], None],
        steps: dict[str, Any] | None = None, cursor: Any = None,
    ) -> None:  # fmt: skip
        self.keep = keep
        self.tell = tell
        self.steps = steps or {}
        self.cursor = cursor
        self.had: set[str] = set()
        """The steps that this run has come to. One whose action has failed can come again."""


JOINS = "flow"
"""The option of a child that belongs to the flow of the job that enqueued it."""

IDEMPOTENCY_KEY = "idempotency_key"
"""The option of a job that is the first with a key: whoever enqueues with it again gets this job."""


class FlowOfJob:
    """What a step knows of its flow, as `job.flow`; a job that is no step has none.

    `step` is its own name; `context` what the flow was started with; `results` and `states` are by the names of the
    steps that it comes after, `signals` by the names of those that it waited for. There are results of steps that
    completed only; a step that was skipped is `skipped` in `states`.
    """

    __slots__ = ("_add", "context", "id", "name", "results", "signals", "states", "step")

    def __init__(
        self, *, id: int, name: str | None = None, step: str | None = None, context: Any = None,  # noqa: A002
        results: Mapping[str, Any] | None = None, states: Mapping[str, str] | None = None,
        signals: Mapping[str, Any] | None = None, add: Callable[[Child], None] | None = None,
    ) -> None:  # fmt: skip
        self.id = id
        self.name = name
        self.step = step
        self.context = context
        self.results = results or {}
        self.states = states or {}
        self.signals = signals or {}
        self._add = add

    def as_dict(self) -> dict[str, Any]:
        """All that it knows, as commands are told it."""
        return {name: getattr(self, name) for name in self.__slots__ if not name.startswith("_")}

    def enqueue(self, queue: str, payload: Any = None, **options: Any) -> None:
        """As `Job.enqueue`, and the new job belongs to this flow: it does not end before that job has.

        Raises:
            RuntimeError: the job was not started by a worker.
        """
        if self._add is None:
            raise RuntimeError("job.flow.enqueue works only while a worker runs the job")
        self._add(Child(queue, payload, {**options, JOINS: True}))


class Job:
    """What a handler receives. Frozen; `enqueued_at`, `due_at` and `deadline` are datetimes in UTC.

    `task` is the name that it was enqueued with, `version` that of its payload, in a queue of tasks;
    `flow` is what a step of a flow knows of it.
    """

    __slots__ = (
        "_course", "_enqueue", "attempt", "deadline", "due_at", "enqueued_at", "flow", "id", "key", "max_attempts",
        "payload", "previous_error", "priority", "queue", "tags", "task", "token", "version",
    )  # fmt: skip

    id: int
    queue: str
    payload: Any
    attempt: int
    max_attempts: int
    token: int
    priority: int
    tags: Sequence[str]
    key: str | None
    enqueued_at: Any
    due_at: Any
    deadline: Any
    previous_error: str | None
    task: str | None
    version: int | None
    flow: FlowOfJob | None
    _course: Callable[[Job], Course] | Course | None
    _enqueue: Callable[[Child], None] | None

    def __init__(
        self, *, id: int, queue: str, payload: Any, attempt: int = 1, max_attempts: int = 5, token: int = 0,  # noqa: A002
        priority: int = 0, tags: Sequence[str] = (), enqueued_at: Any = None, due_at: Any = None,
        deadline: Any = None, previous_error: str | None = None, enqueue: Callable[[Child], None] | None = None,
        key: str | None = None, task: str | None = None, version: int | None = None, flow: FlowOfJob | None = None,
        course: Callable[[Job], Course] | Course | None = None,
    ) -> None:  # fmt: skip
        put = object.__setattr__
        put(self, "id", id)
        put(self, "queue", queue)
        put(self, "payload", payload)
        put(self, "attempt", attempt)
        put(self, "max_attempts", max_attempts)
        put(self, "token", token)
        put(self, "priority", priority)
        put(self, "tags", tags)
        put(self, "key", key)
        put(self, "enqueued_at", enqueued_at)
        put(self, "due_at", due_at)
        put(self, "deadline", deadline)
        put(self, "previous_error", previous_error)
        put(self, "_enqueue", enqueue)
        put(self, "task", task)
        put(self, "version", version)
        put(self, "flow", flow)
        put(self, "_course", course)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a job is frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a job is frozen: {name} cannot be deleted")

    def __repr__(self) -> str:
        return f"<Job {self.id} of {self.queue}, attempt {self.attempt} of {self.max_attempts}>"

    def with_payload(self, payload: Any, version: int) -> Job:
        """The same job with another payload: an upgraded one."""
        values = {name.lstrip("_"): getattr(self, name) for name in self.__slots__}
        return Job(**values | {"payload": payload, "version": version})

    def enqueue(self, queue: str, payload: Any = None, **options: Any) -> None:
        """Enqueue another job, which becomes one only if this job completes: both are one commit.

        Options are those of `Client.enqueue`: delay, at, priority, timeout, max_attempts, tags, backoff, retry_for,
        ttl, expires, deadline, key, cost, task, version, idempotency_key.

        Raises:
            RuntimeError: this job was not started by a worker.
        """
        if self._enqueue is None:
            raise RuntimeError("job.enqueue works only while a worker runs the job")
        self._enqueue(Child(queue, payload, options))

    def step(self, name: str, action: Callable[[], Any]) -> Any:
        """Do a part of the job once: what it returned is kept, and a later attempt of the job gets that instead.

        It is kept as soon as `action` has returned, by the lease of this run; the value comes back as JSON has it. A
        part whose run was cut off is done again. Only the thread that runs the handler may ask for it.

        Raises:
            InvalidPayload: the value is no JSON, or too large, or the job has too many steps.
            ValueError: the step has no name, or one of another step of this run: what it does would be left out.
            RuntimeError: the job was not started by a worker, or this is another thread or process.
        """
        course = self._running("step")
        if not name or not isinstance(name, str):
            raise ValueError("a step needs a name, a text by which a later attempt knows it")
        if name in course.had:
            raise ValueError(f"this run has had a step {name} already: each needs a name of its own, such as {name}-2")
        if name not in course.steps:
            course.steps[name] = course.keep(name, action())
        course.had.add(name)
        return course.steps[name]

    @property
    def cursor(self) -> Any:
        """What an earlier attempt, or this one, has kept with `save`; None if none did."""
        return None if self._course is None else self._running("cursor").cursor

    def save(self, cursor: Any) -> None:
        """Keep where the job is, for its next attempt: JSON, such as the last page that was done.

        Raises:
            InvalidPayload: it is no JSON, or too large.
            RuntimeError: the job was not started by a worker.
        """
        course = self._running("save")
        course.cursor = course.keep("", cursor)

    def progress(self, fraction: float, text: str = "") -> None:
        """Say how far the job is, from 0 to 1; `jobsctl status` shows it while the job runs.

        Raises:
            ValueError: it is not between 0 and 1.
            RuntimeError: the job was not started by a worker.
        """
        if not 0.0 <= fraction <= 1.0:
            raise ValueError(f"progress is between 0 and 1, and not {fraction!r}")
        course = self._course
        if type(course) is not Course:
            course = self._running("progress")
        course.tell(fraction, text)

    def _running(self, what: str) -> Course:
        if self._course is None:
            raise RuntimeError(f"job.{what} works only while a worker runs the job")
        if not isinstance(self._course, Course):
            object.__setattr__(self, "_course", self._course(self))
        return cast("Course", self._course)
