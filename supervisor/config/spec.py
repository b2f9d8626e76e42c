"""The configuration as every process sees it: frozen, typed, complete.

What is written in TOML as "5m" or "1MiB" is here an integer whose unit is the last word of its name. Defaults
stand here and nowhere else: loading, `docs/config.md` and the JSON Schema all read them from these classes.
"""

from __future__ import annotations

from typing import Literal

import msgspec

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
MIB = 1024 * 1024


class Daemon(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[daemon]`; all paths are absolute."""

    database: str = "/var/lib/jobsup/jobs.db"
    run_dir: str = "/run/jobsup"
    python_path: tuple[str, ...] = ()
    shutdown_grace_ms: int = 30 * SECOND_MS
    durability: Literal["full", "relaxed"] = "full"

    @property
    def socket(self) -> str:
        """Where the keeper listens."""
        return f"{self.run_dir}/{SOCKET_NAME}"


SOCKET_NAME = "jobsup.sock"


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
    status: tuple[str, ...] = ()
    admin: tuple[str, ...] = ()


class Backoff(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The delay before a retry: base x factor^(failures - 1), at most max, give or take the part jitter."""

    base_ms: int = SECOND_MS
    factor: float = 2.0
    max_ms: int = HOUR_MS
    jitter: float = 0.1


class Restart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often workers of a pool may die within `period_ms` before its circuit opens."""

    intensity: int = 5
    period_ms: int = 10 * SECOND_MS


class Retention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long final jobs are kept; None is for ever."""

    completed_ms: int | None = 7 * DAY_MS
    cancelled_ms: int | None = 7 * DAY_MS
    dead_ms: int | None = None


class Queue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[queues.NAME]`, with what it inherits from `[defaults]`; either `handler` or `command` is set."""

    name: str
    handler: str | None = None
    command: tuple[str, ...] | None = None
    workers: int = 2
    order: Literal["fifo", "lifo", "priority"] = "fifo"
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
    python_path: tuple[str, ...] = ()


class Schedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[schedules.NAME]`; either `cron` or `every_ms` is set. `payload` is JSON text, None for null."""

    name: str
    queue: str
    cron: str | None = None
    every_ms: int | None = None
    timezone: str = "UTC"
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


class Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that was configured; `files` are the files read, the main one first."""

    files: tuple[str, ...] = ()
    daemon: Daemon = Daemon()
    intake: Intake = Intake()
    log: Log = Log()
    access: Access = Access()
    queues: dict[str, Queue] = {}
    schedules: dict[str, Schedule] = {}
    warnings: tuple[str, ...] = ()
