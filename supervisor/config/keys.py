"""Every key of the configuration, as data: its section, what it may hold, and what it means.

Here are the sections of which a file has one; `queue_keys` has those of a queue. Loading, the JSON Schema,
docs/config.md and `jobsctl config show` walk these tables; a key that is not in them does not exist. Defaults
are those of the classes in `spec`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from supervisor.config import special
from supervisor.config.kinds import Kind, choice, duration, integer, listed, or_word, path
from supervisor.config.spec import DAY_MS, HOUR_MS, MINUTE_MS, Access, Daemon, Intake, Log, Stats


class Section(NamedTuple):
    """A table of the file, and the class of the spec that it becomes."""

    type: type[msgspec.Struct]
    meaning: str
    keys: dict[str, Key]
    short: Kind | None = None
    """What may stand in the table's place: it is read as the fields that it sets, or as None for no such table."""


class Key(NamedTuple):
    """One key: `kind` is a section for a table within a table; `field` is its name in the spec."""

    field: str
    kind: Kind | Section
    meaning: str
    default: str | None = None
    """How the docs word a default that the class cannot express."""


def default(section: Section, key: Key) -> Any:
    """The value in the spec of a key that is not set; msgspec.NODEFAULT for one that must be."""
    field = next(field for field in msgspec.structs.fields(section.type) if field.name == key.field)
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


DAEMON = Section(
    Daemon,
    "The daemon itself. Paths here take no environment values: clients with another environment must find the socket.",
    {
        "database": Key(
            "database",
            special.DATABASE,
            "the SQLite file that holds the jobs",
            "`/var/lib/jobsup/jobs.db` for a file below /etc, else `../var/jobs.db`",
        ),
        "run_dir": Key(
            "run_dir",
            path(),
            "directory of the socket and the slots; the socket's path may have 107 bytes",
            "`/run/jobsup` for a file below /etc, else `../run`",
        ),
        "python_path": Key(
            "python_path",
            listed(path()),
            "where handlers are imported from, then site-packages; never the working directory",
        ),
        "shutdown_grace": Key(
            "shutdown_grace_ms", duration(0, DAY_MS), "how long running jobs may go on when the daemon is told to stop"
        ),
        "durability": Key(
            "durability",
            choice("full", "relaxed"),
            "full: each commit is synced before it is acknowledged; relaxed: synced within a second",
        ),
        "scope_of": Key(
            "scope_of",
            path(),
            "in the file of a scope: the main file of the daemon that runs it; beside it only `python_path` may stand",
            "not set",
        ),
    },
)
INTAKE = Section(
    Intake,
    "How enqueued jobs are gathered and acknowledged.",
    {
        "acknowledge": Key(
            "acknowledge",
            choice("committed", "buffered"),
            "committed: after the synced commit; buffered: at once, and a kill may lose what is not flushed yet",
        ),
        "flush_max_jobs": Key("flush_max_jobs", integer(1, 10_000), "buffered jobs at which the buffer is flushed"),
        "flush_interval": Key("flush_interval_ms", duration(1, MINUTE_MS), "age at which buffered jobs are flushed"),
    },
)
LOG = Section(
    Log,
    "What the daemon writes about itself.",
    {
        "target": Key(
            "target",
            special.LOG_TARGET,
            "stderr, journald, the path of a file, or auto: the journal under systemd, else stderr",
        ),
        "level": Key(
            "level", choice("debug", "info", "warning", "error"), "the least important events that are written"
        ),
        "format": Key("format", choice("text", "json"), "a line of text, or one JSON object, for each event"),
    },
)
_WHO = listed(special.ACCESS)
ACCESS = Section(
    Access,
    "Who may do what over the socket; an empty list admits whoever may open it.",
    {
        "enqueue": Key("enqueue", _WHO, "who may enqueue"),
        "consume": Key("consume", _WHO, "who may fetch jobs of queues with `pull = true`, and say what became of them"),
        "status": Key("status", _WHO, "who may ask for the state of jobs and queues"),
        "admin": Key(
            "admin",
            _WHO,
            "who may cancel, retry, edit, pause, resume, move, purge, delete, change schedules, reload and back up",
        ),
    },
)
STATS = Section(
    Stats,
    "Statistics by queue and minute: counts, and histograms of run times and waits.",
    {
        "keep": Key(
            "keep_ms",
            or_word("never", None, duration(HOUR_MS, 3_650 * DAY_MS)),
            "age at which they are deleted, `never` keeps them; after two days there is one row an hour",
        ),
    },
)
