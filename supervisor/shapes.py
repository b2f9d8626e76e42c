"""The shapes of what clients take and return, for type checkers and editors. Nothing of ours imports it to run.

Instants (`_at`) are RFC 3339 text in UTC, durations (`_s`) seconds, what is unknown is None. A daemon that is newer may
say more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal, NotRequired, TypedDict

from supervisor.job import Duration

StateName = Literal["blocked", "scheduled", "queued", "running", "completed", "dead", "cancelled"]


class JobOptions(TypedDict, total=False):
    """The options of a job, as `Client.enqueue` explains them."""

    delay: Duration | None
    at: datetime | str | None
    priority: int | None
    timeout: Duration | None
    max_attempts: int | None
    tags: Iterable[str] | None
    backoff: Duration | Sequence[Duration] | None
    retry_for: Duration | None
    ttl: Duration | None
    expires: datetime | str | None
    deadline: datetime | Duration | None
    key: str | None
    cost: int | None
    task: str | None
    version: int | None
    idempotency_key: str | None


class Changes(TypedDict, total=False):
    """What `edit` may change of a job besides its payload."""

    queue: str | None
    priority: int | None
    delay: Duration | None
    at: datetime | str | None
    timeout: Duration | None
    max_attempts: int | None
    tags: Iterable[str] | None
    untag: Iterable[str] | None
    task: str | None
    version: int | None


class SignalSent(TypedDict):
    """What became of a signal. `awaited`: whether steps of the flow wait for it, or did; if not, which may be meant."""

    id: int
    signal: str
    repeated: bool
    awaited: bool
    meant: str | None


class Inserted(TypedDict):
    """What became of a group of jobs, in their order."""

    ids: list[int]
    states: list[StateName]
    acknowledged: Literal["committed", "buffered"]
    repeated: bool
    existing: list[int]


class ConsumerOfJob(TypedDict):
    """Who has fetched a job, and until when."""

    name: str
    pid: int
    until_at: str


class WorkerOfJob(TypedDict):
    """Who has a job."""

    slot: int
    pid: int | None


class Attempt(TypedDict):
    """How a run of a job failed; `kind` says what else there is: `type`, `traceback`, `exit_code`, ..."""

    attempt: int
    at: str
    kind: str
    message: str


class Progress(TypedDict):
    """How far a job that runs says it is."""

    fraction: float
    text: str
    at: str


class Kept(TypedDict):
    """What a job keeps for its next run: steps that it skips then, the oldest first; its cursor."""

    steps: list[str]
    cursor: Any


class JobStatus(TypedDict):
    """All about a job."""

    id: int
    queue: str
    state: StateName
    payload: Any
    result: Any
    priority: int
    key: str | None
    flow: int | None
    progress: Progress | None
    kept: Kept | None
    task: str | None
    version: int | None
    idempotency_key: str | None
    tags: list[str]
    attempt: int
    max_attempts: int | None
    failures: int
    crashes: int
    interruptions: int
    token: int | None
    worker: WorkerOfJob | None
    consumer: ConsumerOfJob | None
    enqueued_at: str
    due_at: str | None
    expires_at: str | None
    deadline_at: str | None
    started_at: str | None
    finished_at: str | None
    reason: str | None
    error: str | None
    errors: list[Attempt]


class DaemonStatus(TypedDict):
    """The daemon. Where none runs, a one-shot keeper says so."""

    running: bool
    pid: int | None
    uptime_s: float | None
    version: str | None
    reload_error: str | None
    store: str | None
    stale: int
    wal_bytes: int


class BatchStatus(TypedDict):
    """How many jobs a handler takes at once, and what has gathered for its next call; `due_in_s` None: nothing."""

    size: int
    wait_s: float
    gathered: int
    due_in_s: float | None


class QueueStatus(TypedDict):
    """A queue: how many of its jobs are in each state, and how its pool does."""

    blocked: int
    scheduled: int
    queued: int
    running: int
    completed: int
    dead: int
    cancelled: int
    oldest_queued_s: float | None
    pool: str | None
    workers: int
    workers_min: int | None
    workers_max: int | None
    workers_target: int | None
    scale_reason: str | None
    scale_source: str | None
    paused: bool
    circuit: str
    reason: str | None
    detail: str | None
    preloaded: bool | None
    orphaned: bool
    pull: bool | None
    consumers: int | None
    breaker: dict[str, Any] | None
    batch: BatchStatus | None
    reranked: dict[str, Any] | None


class OutboxStatus(TypedDict):
    """An outbox, by name: what its relay has said of it."""

    database: str
    state: str
    error: str | None
    waiting: int | None
    refused: int | None
    moved: int | None
    oldest_s: float | None
    last_moved_at: str | None
    full: list[str]
    refusals: list[dict[str, Any]]


class Overview(TypedDict):
    """The daemon and all its queues, by name."""

    daemon: DaemonStatus
    queues: dict[str, QueueStatus]
    schedules: dict[str, Any]
    alerts: dict[str, Any] | None
    outboxes: dict[str, OutboxStatus]


class Explanation(TypedDict):
    """Why a job is not running, or a flow has not ended: a sentence, and each reason with its `kind` and its numbers.

    `queue` is None of a flow.
    """

    id: int
    queue: str | None
    key: str | None
    state: StateName
    sentence: str
    reasons: list[dict[str, Any]]


class Edited(TypedDict):
    """A job after it was changed."""

    id: int
    queue: str
    state: StateName


class LastJob(TypedDict):
    """The job that a schedule made last; the state is None if it is not kept any more."""

    id: int
    state: StateName | None


class ScheduleStatus(TypedDict):
    """All about a schedule; in a list of them, without what was decided before."""

    name: str
    origin: str
    queue: str | None
    cron: str | None
    every_s: float | None
    timezone: str | None
    payload: Any
    jitter_s: float | None
    start_at: str | None
    end_at: str | None
    missed_policy: str
    missed_within_s: float | None
    missed_max: int | None
    overlap: str
    priority: int | None
    tags: list[str]
    paused: bool
    next_at: str | None
    fires_at: str | None
    waiting_at: str | None
    last_at: str | None
    last_fired_at: str | None
    last_job: LastJob | None
    outcome: str | None
    outcome_at: str | None
    reason: str | None
    fired: int
    skipped: int
    missed: int
    failed: int
    explanation: str
    recent: NotRequired[list[dict[str, Any]]]


class FetchedJob(TypedDict):
    """A job of a queue with `pull`, as its consumer gets it; `token` is what is said of it later."""

    id: int
    queue: str
    token: int
    payload: Any
    attempt: int
    max_attempts: int
    priority: int
    key: str | None
    tags: list[str]
    enqueued_at: str
    due_at: str | None
    deadline_at: str | None
    previous_error: str | None
    flow: dict[str, Any] | None


class Extended(TypedDict):
    """A lease that is held longer: the jobs that it still has, and those of them that were cancelled."""

    token: int
    lease_s: float
    until_at: str
    jobs: list[int]
    cancelled: list[int]


class Settled(TypedDict):
    """What a job is after its consumer has said what became of it; `repeated`: an ack that had been said before."""

    id: int
    queue: str
    state: StateName
    repeated: NotRequired[bool]
