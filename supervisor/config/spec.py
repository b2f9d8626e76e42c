"""The configuration as every process sees it: frozen, typed, complete.

What is written in TOML as "5m" or "1MiB" is here an integer whose unit is the last word of its name. Defaults
stand here and nowhere else: loading, `docs/config.md` and the JSON Schema all read them from these classes.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from supervisor.config.names import scope_of, short_name
from supervisor.config.sockets import SOCKET_NAME, socket_in
from supervisor.policy.alerts import KINDS

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
MIB = 1024 * 1024
GIB = 1024 * MIB


class Daemon(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[daemon]`; all paths are absolute."""

    database: str = "/var/lib/jobsup/jobs.db"
    run_dir: str = "/run/jobsup"
    python_path: tuple[str, ...] = ()
    shutdown_grace_ms: int = 30 * SECOND_MS
    durability: Literal["full", "relaxed"] = "full"
    scope_of: str | None = None

    @property
    def socket(self) -> str:
        """Where the keeper listens."""
        return f"{self.run_dir}/{SOCKET_NAME}"


class Intake(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[intake]`: how enqueued jobs are gathered and when they are acknowledged."""

    acknowledge: Literal["committed", "buffered"] = "committed"
    flush_max_jobs: int = 512
    flush_interval_ms: int = 5


class Log(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[log]`; target is `auto`, `stderr`, `journald`, or the absolute path of a file."""

    target: str = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class Access(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[access]`: who may do what over the socket; entries are `user:NAME`, `group:NAME` or `*`.

    An empty list admits whoever may open the socket.
    """

    enqueue: tuple[str, ...] = ()
    consume: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    admin: tuple[str, ...] = ()


class Alerts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[alerts]`: who is told of what goes wrong; nobody is while neither `command` nor `queue` is set."""

    command: tuple[str, ...] | None = None
    timeout_ms: int = 30 * SECOND_MS
    env: dict[str, str] = {}
    queue: str | None = None
    url: str | None = None
    payload: dict[str, Any] | None = None
    on: tuple[str, ...] = KINDS
    group_ms: int = 10 * SECOND_MS
    limit: int = 10
    disk_min: tuple[int, int] = (GIB, 0)
    """Bytes that are to be free, or else per cent of the file system; the other one is 0."""
    oldest_max_ms: int = 10 * MINUTE_MS

    @property
    def configured(self) -> bool:
        """Whether anybody is told."""
        return self.command is not None or self.queue is not None


class Backoff(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The delay before a retry, by a shape or a list, give or take the part jitter; or what `function` says."""

    base_ms: int = SECOND_MS
    factor: float = 2.0
    max_ms: int = HOUR_MS
    jitter: float = 0.1
    shape: Literal["exponential", "linear", "constant"] = "exponential"
    delays_ms: tuple[int, ...] = ()
    function: str | None = None


class ErrorRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `on_error` says of one kind of error; None is as for every other error."""

    action: Literal["retry", "dead", "cancel", "snooze"] = "retry"
    delay_ms: int = 0
    max_attempts: int | None = None
    backoff: Backoff | None = None


class Breaker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a queue stops handing out its jobs, and how it finds out that it may again; an empty `on` is any failure."""

    failures: int = 10
    period_ms: int = MINUTE_MS
    cooldown_ms: int = 30 * SECOND_MS
    max_cooldown_ms: int = 10 * MINUTE_MS
    on: tuple[str, ...] = ()


class Restart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often workers of a pool may die within `period_ms` before its circuit opens."""

    intensity: int = 5
    period_ms: int = 10 * SECOND_MS


class Retention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long final jobs are kept, and how many; None is for ever, and any number."""

    completed_ms: int | None = 7 * DAY_MS
    cancelled_ms: int | None = 7 * DAY_MS
    dead_ms: int | None = None
    completed_max: int | None = None
    cancelled_max: int | None = None
    dead_max: int | None = None


class Stats(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[stats]`: statistics by queue and minute; None keeps them for ever."""

    keep_ms: int | None = 21 * DAY_MS


class Rate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At most `limit` jobs begin in `period_ms`; `algorithm` says how that is counted."""

    limit: int = 1
    period_ms: int = SECOND_MS
    algorithm: Literal["bucket", "leaky", "window"] = "bucket"


class Limit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[limits.NAME]`: a limit that all queues which name it share."""

    name: str
    concurrency: int | None = None
    rate: Rate | None = None
    per_key: bool = False


class Unique(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which jobs count as the same, for how long, and what a second one does."""

    by: tuple[str, ...] = ()
    states: tuple[str, ...] = ("blocked", "scheduled", "queued", "running")
    period_ms: int | None = None
    on_conflict: Literal["existing", "refuse", "replace"] = "existing"
    replace: tuple[str, ...] = ("payload",)
    across_queues: bool = False


class Demand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many jobs a worker is handed at once: at least `min`, if so many wait, and at most `max`."""

    min: int = 1
    max: int | None = None


class WorkerRange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As many workers as the load needs, within these bounds; `min` is at least 1."""

    min: int
    max: int


class Scale(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the number of workers follows the load, and what the host must have left for more of them."""

    latency_ms: int = SECOND_MS
    down_after_ms: int = 30 * SECOND_MS
    cpu_max: float = 0.9
    memory_min_bytes: int = 256 * MIB


class Queue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[queues.NAME]`, with what it inherits from `[defaults]`.

    Either `handler` or `command` is set, or `pull` (its jobs are fetched by others), or a pool draws from it. The same
    for `[pools.NAME]`: then `sources` has the queues that it draws from, with their weights; `strict`: the first that
    has anything comes first.
    """

    name: str
    handler: str | None = None
    command: tuple[str, ...] | None = None
    serve: bool = False
    pull: bool = False
    batch_size: int | None = None
    batch_wait_ms: int = 0
    workers: int | WorkerRange = 2
    scale: Scale = Scale()
    order: tuple[str, ...] = ("fifo",)
    ageing_ms: int | None = None
    weights: dict[str, int] = {}
    ordered: bool = False
    after_dead: Literal["block", "skip", "dead_letter"] = "block"
    concurrency: int | None = None
    key_concurrency: int | None = None
    rate: Rate | None = None
    key_rate: Rate | None = None
    limits: tuple[str, ...] = ()
    max_size: int | None = None
    when_full: Literal["refuse", "wait", "drop_oldest"] = "refuse"
    unique: Unique | None = None
    throttle_ms: int | None = None
    debounce_ms: int | None = None
    demand: Demand = Demand()
    sources: dict[str, int] = {}
    strict: bool = False
    timeout_ms: int = 5 * MINUTE_MS
    kill_grace_ms: int = 5 * SECOND_MS
    boot_timeout_ms: int = 30 * SECOND_MS
    max_attempts: int = 5
    max_crashes: int = 3
    max_interruptions: int = 20
    backoff: Backoff = Backoff()
    restart: Restart = Restart()
    retention: Retention = Retention()
    max_payload_bytes: int = MIB
    max_result_bytes: int = MIB
    pass_env: tuple[str, ...] = ("TZ",)
    env: dict[str, str] = {}
    cwd: str | None = None
    user: str | None = None
    network: bool = False
    preload: Literal["auto", "always", "never"] = "auto"
    after_fork: str | None = None
    on_crash_loop: Literal["backoff", "escalate"] = "backoff"
    redact: tuple[str, ...] = ()
    recycle_jobs: int | None = None
    on_error: dict[str, ErrorRule] = {}
    retry_for_ms: int | None = None
    ttl_ms: int | None = None
    on_failure: str | None = None
    on_dead: str | None = None
    breaker: Breaker | None = None
    python_path: tuple[str, ...] = ()
    oldest_max_ms: int | None = None
    """None: as `[alerts]` says; 0: never."""

    @property
    def has_tasks(self) -> bool:
        """Whether its jobs name a task: its handler is a module, of which any task may be meant."""
        return self.handler is not None and ":" not in self.handler

    @property
    def workers_min(self) -> int:
        """The least number of workers."""
        return self.workers if isinstance(self.workers, int) else self.workers.min

    @property
    def workers_max(self) -> int:
        """The greatest number of workers: what descriptors, processes and memory are reckoned for."""
        return self.workers if isinstance(self.workers, int) else self.workers.max

    @property
    def autoscaled(self) -> bool:
        """Whether the number of workers follows the load."""
        return self.workers_min < self.workers_max


class Schedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[schedules.NAME]`; either `cron` or `every_ms` is set. `payload` is JSON text, None for null."""

    name: str
    queue: str
    cron: str | None = None
    every_ms: int | None = None
    timezone: str = "UTC"
    task: str | None = None
    payload: str | None = None
    jitter_ms: int = 0
    start_ms: int | None = None
    end_ms: int | None = None
    missed: Literal["skip", "once", "all"] = "skip"
    missed_within_ms: int | None = None
    missed_max: int = 100
    overlap: Literal["allow", "skip", "queue"] = "allow"
    priority: int | None = None
    tags: tuple[str, ...] = ()
    paused: bool = False


class ScopeTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[scopes.NAME]`: another instance in the same database; `config` is its file, `access` who may use its socket."""

    name: str
    config: str = ""
    access: Access = Access()


class Outbox(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[outbox]]`: a table in the database of an application, whose rows become jobs; no `queues` are all."""

    name: str
    database: str
    queues: tuple[str, ...] = ()
    interval_ms: int = SECOND_MS


class Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that was configured; `files` are the files read, the main one first.

    Of a main file: queues, limits and pools of all its scopes are here, too, under their internal names (see `names`).
    Of the file of a scope: `scope` is its name, and everything stands here as it is known within it.
    """

    files: tuple[str, ...] = ()
    daemon: Daemon = Daemon()
    intake: Intake = Intake()
    log: Log = Log()
    access: Access = Access()
    stats: Stats = Stats()
    alerts: Alerts = Alerts()
    limits: dict[str, Limit] = {}
    queues: dict[str, Queue] = {}
    pools: dict[str, Queue] = {}
    scopes: dict[str, ScopeTable] = {}
    scope: str = ""
    schedules: dict[str, Schedule] = {}
    outbox: dict[str, Outbox] = {}
    flow_retention: Retention = Retention()
    """How long flows are kept, with their jobs: as `[defaults]` says."""
    warnings: tuple[str, ...] = ()

    @property
    def socket(self) -> str:
        """Where clients of this file reach the keeper."""
        return socket_in(self.daemon.run_dir, self.scope)

    def queue(self, name: str) -> Queue | None:
        """The table that speaks of a queue: its own, else the pattern that matches it. Patterns do not overlap."""
        found = self.queues.get(name)
        if found is not None and not is_pattern(name):
            return found
        return next((each for pattern, each in self.patterns if matches(pattern, name)), None)

    def hidden_in(self, scope: str) -> tuple[str, ...]:
        """What any queue of a scope hides of payloads: that of what several of them share."""
        within = "" if self.scope else scope
        tables = (queue for name, queue in self.queues.items() if queue.redact and scope_of(name) == within)
        return tuple(dict.fromkeys(hidden for queue in tables for hidden in queue.redact))

    @property
    def patterns(self) -> tuple[tuple[str, Queue], ...]:
        """The tables whose name is a pattern."""
        return tuple((name, queue) for name, queue in self.queues.items() if is_pattern(name))

    @property
    def workplaces(self) -> dict[str, Queue]:
        """Every pool of workers by its name: of queues that have their own, and of `[pools.NAME]`."""
        own = {name: queue for name, queue in self.queues.items() if queue.handler or queue.command}
        return {**own, **self.pools}

    def pool_of(self, name: str) -> str | None:
        """The pool that draws from a queue, the first of several; None for one that no table speaks of."""
        return next(iter(self.pools_of(name)), None)

    def pools_of(self, name: str) -> tuple[str, ...]:
        """The pools that draw from a queue: one, or several that run tasks."""
        table = self.queue(name)
        if table is None:
            return ()
        return tuple(pool for pool in self.workplaces if table.name in self.sources_of(pool))

    def sources_of(self, pool: str) -> dict[str, int]:
        """The tables of queues that a pool draws from, with their weights: its own queue, if it says nothing else."""
        return self.workplaces[pool].sources or {pool: 1}


def is_pattern(name: str) -> bool:
    """Whether a name stands for all queues that match it."""
    return name.endswith("*")


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern stands for a queue; it does so within its scope only."""
    within = name.startswith(pattern[:-1]) and scope_of(name) == scope_of(pattern)
    return within and QUEUE_NAME_SHAPE.fullmatch(short_name(name)) is not None


QUEUE_NAME_SHAPE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
SCOPE_NAME_SHAPE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}")
