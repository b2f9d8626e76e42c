"""The keys of a queue, as data; see `keys` for what walks these tables."""

from __future__ import annotations

from supervisor.config import special
from supervisor.config.keys import ACCESS, DAEMON, INTAKE, LOG, Key, Section
from supervisor.config.kinds import boolean, choice, duration, integer, listed, or_word, path, size, text
from supervisor.config.retry_keys import BACKOFF, BREAKER, ON_ERROR, or_false
from supervisor.config.spec import DAY_MS, HOUR_MS, MIB, Queue, Restart, Retention

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
RETENTION = Section(
    Retention,
    "How long final jobs are kept before they are deleted; `never` keeps them.",
    {
        "completed": Key("completed_ms", _KEPT, "age at which completed jobs are deleted"),
        "cancelled": Key("cancelled_ms", _KEPT, "age at which cancelled jobs are deleted"),
        "dead": Key("dead_ms", _KEPT, "age at which dead letters are deleted"),
    },
)

QUEUE_NAME = text(
    "a name of lower-case letters, digits, _ . and -, beginning with a letter or digit, of at most 63 characters",
    r"[a-z0-9][a-z0-9_.-]{0,62}",
)
_LASTING = or_word("never", None, duration(1, EVER_MS))
_TARGET = or_false(QUEUE_NAME)

OWN_KEYS = ("handler", "command")
"""Keys that a queue must have of its own: they are not inherited."""

QUEUE = Section(
    Queue,
    "A queue, and the pool of workers that serves it. Names are `[a-z0-9][a-z0-9_.-]{0,62}`.",
    {
        "handler": Key("handler", special.REFERENCE_TO_CODE, "Python callable that takes the job; this or `command`"),
        "command": Key(
            "command",
            special.COMMAND,
            'program and arguments, never a shell; the payload fills "{member}", `{{` is a brace; this or `handler`',
        ),
        "workers": Key("workers", integer(1, WORKERS_MAX), "processes that run jobs of this queue"),
        "order": Key("order", choice("fifo", "lifo", "priority"), "which waiting job comes next"),
        "timeout": Key("timeout_ms", duration(1, 30 * DAY_MS), "how long one attempt may take"),
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
TOP = {"daemon": DAEMON, "intake": INTAKE, "log": LOG, "access": ACCESS, "defaults": DEFAULTS}
"""The sections of which a file has one; beside them it has `[queues.NAME]`."""
