"""The keys of a queue, as data; see `keys` for what walks these tables."""

from __future__ import annotations

from supervisor.config import special
from supervisor.config.alert_keys import ALERTS, OLDEST_MAX
from supervisor.config.keys import ACCESS, DAEMON, INTAKE, LOG, STATS, Key, Section
from supervisor.config.kinds import boolean, choice, duration, integer, listed, number, or_word, path, size
from supervisor.config.outbox_keys import OUTBOX
from supervisor.config.range import workers
from supervisor.config.retry_keys import BACKOFF, BREAKER, ON_ERROR, YEAR_MS, or_false
from supervisor.config.spec import (
    DAY_MS,
    HOUR_MS,
    MIB,
    Demand,
    Limit,
    Queue,
    Rate,
    Restart,
    Retention,
    Scale,
    ScopeTable,
    Unique,
)

EVER_MS = 36_500 * DAY_MS
WORKERS_MAX = 256

RESTART = Section(
    Restart,
    "How often workers of a pool may die before its circuit opens.",
    {
        "intensity": Key("intensity", integer(0, 1000), "deaths taken within `period`; one more opens the circuit"),
        "period": Key("period_ms", duration(1, DAY_MS), "the time over which deaths are counted"),
    },
)
_KEPT = or_word("never", None, duration(0, EVER_MS))
_COUNT = or_word("any", None, integer(0, 10**9))
RETENTION = Section(
    Retention,
    "How long final jobs are kept before they are deleted, and how many; `never` and `any` keep them.",
    {
        "completed": Key("completed_ms", _KEPT, "age at which completed jobs are deleted"),
        "cancelled": Key("cancelled_ms", _KEPT, "age at which cancelled jobs are deleted"),
        "dead": Key("dead_ms", _KEPT, "age at which dead letters are deleted"),
        "completed_max": Key("completed_max", _COUNT, "completed jobs that are kept; the oldest beyond are deleted"),
        "cancelled_max": Key("cancelled_max", _COUNT, "cancelled jobs that are kept; the oldest beyond are deleted"),
        "dead_max": Key("dead_max", _COUNT, "dead letters that are kept; the oldest beyond are deleted"),
    },
)
RATE = Section(
    Rate,
    "At most `limit` jobs begin in `period`.",
    {
        "limit": Key("limit", integer(1, 10**6), "how many jobs; a job of a higher `cost` counts as several"),
        "period": Key("period_ms", duration(1, 30 * DAY_MS), "the time in which so many may begin"),
        "algorithm": Key(
            "algorithm",
            choice("bucket", "leaky", "window"),
            "bucket: up to `limit` at once, refilled evenly; leaky: evenly spaced; window: never more in any `period`",
        ),
    },
)
UNIQUE = Section(
    Unique,
    "Jobs that count as the same are not enqueued twice.",
    {
        "by": Key(
            "by",
            listed(special.MEMBER),
            "payload members that are compared, such as `user.id`, and `key` for the job's key; none: all of it",
        ),
        "while": Key("states", listed(choice(*special.STATES), 1), "states in which a job keeps others out"),
        "period": Key("period_ms", duration(1, YEAR_MS), "instead of `while`: how long it keeps others out", "not set"),
        "on_conflict": Key(
            "on_conflict",
            choice("existing", "refuse", "replace"),
            "what a second one gives: the job that is there, an error, or new values for the one that is there",
        ),
        "replace": Key(
            "replace",
            listed(choice("payload", "priority", "due_at", "tags"), 1),
            "which values a second one gives to a job that has not begun",
        ),
        "across_queues": Key(
            "across_queues", boolean(), "jobs of other queues that say this, too, are compared as well"
        ),
    },
)
DEMAND = Section(
    Demand,
    "How many jobs a worker is handed at once.",
    {
        "min": Key("min", integer(1, 256), "no fewer, if so many wait: they are not spread over more workers"),
        "max": Key("max", integer(1, 1024), "no more, whatever waits", "as many as make about 20 ms of work"),
    },
)

SCALE = Section(
    Scale,
    "When a pool with `workers = { min, max }` grows and shrinks; the exact rule is in autoscaling.md.",
    {
        "latency": Key(
            "latency_ms", duration(1, DAY_MS), "how long jobs may wait for a worker; there are as many as that needs"
        ),
        "down_after": Key(
            "down_after_ms", duration(100, DAY_MS), "fewer workers only if fewer were needed for all of this time"
        ),
        "cpu_max": Key(
            "cpu_max",
            number(0.01, 1),
            "part of all CPUs in use at which a pool grows no further, unless its jobs mostly wait",
        ),
        "memory_min": Key(
            "memory_min_bytes",
            size(1, 1024 * 1024 * MIB),
            "memory that must be left on the host, and in the control group, beside that of a new worker",
        ),
    },
)
_LASTING = or_word("never", None, duration(1, EVER_MS))
_TARGET = or_false(special.QUEUE_NAME)

BATCH_MAX = 256
OWN_KEYS = ("handler", "command", "serve", "pull", "batch_size", "batch_wait")
"""Keys that say what a queue runs: they are its own, and not inherited."""

QUEUE = Section(
    Queue,
    "A queue, and the pool of workers that serves it. Names are `[a-z0-9][a-z0-9_.-]{0,62}`.",
    {
        "handler": Key(
            "handler", special.HANDLER, "Python callable that takes the job, or a module of tasks; this or `command`"
        ),
        "command": Key(
            "command",
            special.COMMAND,
            'program and arguments, never a shell; the payload fills "{member}", `{{` is a brace; this or `handler`',
        ),
        "serve": Key(
            "serve",
            boolean(),
            "start the command once in each worker, and give it one job after the other as lines, see serve.md",
        ),
        "pull": Key(
            "pull",
            boolean(),
            "its jobs are fetched over the socket by consumers of any language, and no worker is started",
        ),
        "batch_size": Key(
            "batch_size",
            integer(2, BATCH_MAX),
            "the handler takes a list of up to so many jobs, and each has an outcome of its own, see batches.md",
            "not set: one job",
        ),
        "batch_wait": Key(
            "batch_wait_ms",
            duration(0, HOUR_MS),
            "how long a batch that is not full waits for more jobs; 0ms: it is what waits already",
        ),
        "workers": Key(
            "workers",
            workers(WORKERS_MAX),
            "processes that run jobs of this queue: a number, or bounds between which it follows the load",
        ),
        "scale": Key("scale", SCALE, SCALE.meaning),
        "order": Key("order", special.ORDER, "which waiting job comes next; of an array, the first decides first"),
        "ageing": Key(
            "ageing_ms",
            duration(1_000, YEAR_MS),
            "time in which a waiting job gains one level of priority, so that none waits for ever",
            "not set",
        ),
        "weights": Key("weights", special.WEIGHTS, "by key: how many turns it has where others have one (fair)"),
        "ordered": Key(
            "ordered", boolean(), "jobs of one key run one at a time and in order; those without a key likewise"
        ),
        "after_dead": Key(
            "after_dead",
            choice("block", "skip", "dead_letter"),
            "what a dead job of an ordered queue does to those behind it: they wait, go on, or are dead with it",
        ),
        "concurrency": Key("concurrency", integer(1, 100_000), "how many jobs of the queue run at once", "not set"),
        "key_concurrency": Key(
            "key_concurrency", integer(1, 100_000), "how many jobs of one key run at once", "not set"
        ),
        "rate": Key("rate", RATE, "how many jobs of the queue begin in a time", "not set"),
        "key_rate": Key("key_rate", RATE, "how many jobs of one key begin in a time", "not set"),
        "limits": Key("limits", listed(special.QUEUE_NAME), "names of `[limits.NAME]` that hold for this queue, too"),
        "max_size": Key("max_size", integer(1, 10**9), "how many jobs may wait in the queue", "not set"),
        "when_full": Key(
            "when_full",
            choice("refuse", "wait", "drop_oldest"),
            "what enqueueing into a full queue does: an error, waiting for room, or cancelling the oldest that waits",
        ),
        "unique": Key("unique", UNIQUE, UNIQUE.meaning, "not set"),
        "throttle": Key(
            "throttle_ms", duration(1, YEAR_MS), "one job in this time of those that count as the same", "not set"
        ),
        "debounce": Key(
            "debounce_ms",
            duration(1, 30 * DAY_MS),
            "run when none that counts as the same came for this long, with the last one's payload",
            "not set",
        ),
        "demand": Key("demand", DEMAND, DEMAND.meaning),
        "timeout": Key(
            "timeout_ms",
            duration(1, 30 * DAY_MS),
            "how long one attempt may take; with `pull` the lease of a fetch that names none",
        ),
        "kill_grace": Key("kill_grace_ms", duration(0, HOUR_MS), "time between the steps that end a late attempt"),
        "boot_timeout": Key(
            "boot_timeout_ms",
            duration(1, HOUR_MS),
            "how long an import may take, and a worker until it is ready; beyond it the circuit opens",
        ),
        "max_attempts": Key("max_attempts", integer(1, 1000), "failures after which a job is dead"),
        "max_crashes": Key("max_crashes", integer(1, 100), "deaths of its worker after which a job is dead"),
        "max_interruptions": Key(
            "max_interruptions", integer(1, 10_000), "runs cut short by stops and restarts after which a job is dead"
        ),
        "backoff": Key("backoff", BACKOFF, BACKOFF.meaning),
        "restart": Key("restart", RESTART, RESTART.meaning),
        "retention": Key("retention", RETENTION, RETENTION.meaning),
        "max_payload": Key("max_payload_bytes", size(2, 8 * MIB), "largest payload, as JSON"),
        "max_result": Key("max_result_bytes", size(2, 4 * MIB), "largest result, as JSON"),
        "pass_env": Key(
            "pass_env",
            listed(special.VARIABLE),
            "variables of the daemon's environment that jobs get, beside PATH, HOME, LANG, LC_* and PYTHON*",
        ),
        "env": Key("env", special.ENVIRONMENT, "variables that jobs get; joined with those of `[defaults]`"),
        "cwd": Key("cwd", path(), "working directory of the workers", "that of the daemon"),
        "user": Key(
            "user",
            special.USER,
            "user that the workers run as; the daemon needs the right to change to it",
            "the daemon's own",
        ),
        "network": Key(
            "network", boolean(), "jobs need the network; under systemd this needs the drop-in `network.conf`"
        ),
        "preload": Key(
            "preload",
            special.PRELOAD,
            "import the handler once and fork workers from there; auto: unless the import leaves threads or files open",
        ),
        "after_fork": Key(
            "after_fork", special.REFERENCE_TO_CODE, "function called in each worker at its start", "nothing"
        ),
        "on_crash_loop": Key(
            "on_crash_loop",
            choice("backoff", "escalate"),
            "an open circuit is probed with growing delay, or the daemon exits with 1 and systemd decides",
        ),
        "redact": Key(
            "redact",
            listed(special.MEMBER),
            "payload members whose values are shown nowhere: `password` at any depth, `card.number`, `card.*`",
        ),
        "oldest_max": Key(
            "oldest_max_ms",
            OLDEST_MAX,
            "age of the oldest queued job above which an alert is sent; `never` sends none",
            "that of `[alerts]`",
        ),
        "recycle_jobs": Key("recycle_jobs", integer(1, 10**9), "jobs after which a worker is replaced", "never"),
        "on_error": Key("on_error", ON_ERROR, "what is done about errors of one kind, see retries.md"),
        "retry_for": Key(
            "retry_for_ms", _LASTING, "no retry later than this after the job was due first; then it is dead"
        ),
        "ttl": Key("ttl_ms", _LASTING, "a job that is not started this long after it was due is cancelled: expired"),
        "on_failure": Key("on_failure", _TARGET, "queue that gets a job for every failure and crash that is charged"),
        "on_dead": Key("on_dead", _TARGET, "queue that gets a job for every job that is dead"),
        "breaker": Key("breaker", BREAKER, BREAKER.meaning, "none"),
    },
)
DEFAULTS = Section(
    Queue,
    "What every queue inherits unless it says otherwise; tables within are inherited key by key.",
    {name: key for name, key in QUEUE.keys.items() if name not in OWN_KEYS},
)
TOP = {
    "daemon": DAEMON,
    "intake": INTAKE,
    "log": LOG,
    "access": ACCESS,
    "stats": STATS,
    "alerts": ALERTS,
    "defaults": DEFAULTS,
}
"""The sections of which a file has one; beside them it has `[queues.NAME]`."""

POOL_KEYS = (
    "handler", "command", "serve", "batch_size", "batch_wait", "workers", "timeout", "kill_grace", "boot_timeout",
    "restart", "pass_env", "env", "cwd", "user", "network", "preload", "after_fork", "on_crash_loop", "recycle_jobs",
    "demand", "scale",
)  # fmt: skip
"""Keys of a queue that speak of its workers."""
POOL = Section(
    Queue,
    "A pool of workers that draws from several queues; what speaks of its workers stands here, not in the queues.",
    {
        "sources": Key(
            "sources",
            special.SOURCES,
            "queues or patterns, with the share of each; or an array, of which the first that has jobs comes first",
            "-",
        ),
        **{name: QUEUE.keys[name] for name in POOL_KEYS},
    },
)
LIMIT = Section(
    Limit,
    "A limit that several queues share: each names it in `limits`.",
    {
        "concurrency": Key("concurrency", integer(1, 100_000), "how many of their jobs run at once", "not set"),
        "rate": Key("rate", RATE, "how many of their jobs begin in a time", "not set"),
        "per_key": Key("per_key", boolean(), "it holds for each key by itself, and for jobs that have one"),
    },
)
SCOPE = Section(
    ScopeTable,
    "Another instance in the same database: its queues, limits and pools stand in a file of its own, and its clients "
    "use a socket of their own and see nothing of the others. See [scopes.md](scopes.md).",
    {
        "config": Key(
            "config",
            path(),
            "the file of the scope, in a folder of its own; there `[daemon] scope_of` names this file",
            "-",
        )
    },
)
NAMED = {"limits": LIMIT, "pools": POOL, "scopes": SCOPE}
"""Sections of which a file has any number, each with a name."""
ARRAYS = {"outbox": OUTBOX}
"""Sections of which a file has any number, each an element of an array of tables."""
MAIN_ONLY = {
    "intake": "all scopes share one intake",
    "log": "the daemon has one log",
    "stats": "what is kept of statistics is said for all scopes together",
    "alerts": "people are told what concerns the daemon and all of its scopes",
    "scopes": "a scope has no scopes",
    "outbox": "rows of an outbox are for queues of the main file",
}
"""Sections that the file of a scope does not have, and why. All others it has for itself."""
