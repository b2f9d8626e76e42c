"""The keys of an `[[outbox]]`, as data; see `keys` for what walks these tables."""

from __future__ import annotations

from supervisor.config.keys import Key, Section
from supervisor.config.kinds import duration, listed, path
from supervisor.config.spec import MINUTE_MS, Outbox
from supervisor.config.special import QUEUE_NAME

OUTBOX = Section(
    Outbox,
    "A table in the database of an application, whose rows become jobs; see outbox.md. There may be several.",
    {
        "name": Key("name", QUEUE_NAME, "what it is called in status and in the log", "the name of the file"),
        "database": Key("database", path(), "the SQLite file of the application; it may be absent for now", "-"),
        "queues": Key("queues", listed(QUEUE_NAME), "the queues that its rows may name; empty: every queue"),
        "interval": Key(
            "interval_ms",
            duration(100, 10 * MINUTE_MS),
            "how often it is looked at when nothing tells of a change, and when it cannot be used",
        ),
    },
)
