"""An application with an outbox: its database, rows in its own transactions, and what became of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from supervisor.relay.table import SCHEMA


class Application:
    """A database with an outbox, and a table of the application's own, `done`, that says which rows it committed."""

    def __init__(self, path: Path, *, mode: str = "wal", make: bool = True) -> None:
        self.path = path
        self._mode = mode
        if make:
            self.make()

    def make(self) -> None:
        """Make the file anew."""
        with closing(self.connect()) as db:
            db.execute(f"PRAGMA journal_mode = {self._mode}")
            db.executescript(SCHEMA.read_text())
            db.execute("CREATE TABLE IF NOT EXISTS done (id INTEGER PRIMARY KEY)")

    def connect(self) -> sqlite3.Connection:
        """A connection as the application has it."""
        return sqlite3.connect(self.path, isolation_level=None, timeout=30)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction of the application's."""
        with closing(self.connect()) as db:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")

    def put(self, queue: Any, payload: Any, options: Any = None, *, raw: bool = False) -> int:
        """Insert one row, and commit; the payload as JSON unless it is raw."""
        with self.transaction() as db:
            text = payload if raw else json.dumps(payload)
            row = db.execute(
                "INSERT INTO jobsup_outbox (queue, payload, options) VALUES (?, ?, ?)", (queue, text, options)
            )
            return int(row.lastrowid or 0)

    def ask(self, question: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        with closing(self.connect()) as db:
            return db.execute(question, values).fetchall()

    def rows(self) -> list[tuple[int, str, str | None]]:
        """What stands in the outbox: id, queue, error."""
        return self.ask("SELECT id, queue, error FROM jobsup_outbox ORDER BY id")

    def error_of(self, row: int) -> str | None:
        """Why a row was refused."""
        found = self.ask("SELECT error FROM jobsup_outbox WHERE id = ?", row)
        return found[0][0] if found else None


def payloads(database: Path, queue: str) -> list[Any]:
    """The payloads of all jobs of a queue in the order of their ids, by nothing of the program's."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        rows = db.execute(
            "SELECT job.payload FROM job JOIN queue ON queue.id = job.queue WHERE queue.name = ? ORDER BY job.id",
            (queue,),
        )
        return [json.loads(payload) for (payload,) in rows]


def remembered(database: Path) -> list[int]:
    """Rows that the daemon remembers as jobs."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        return [row for (row,) in db.execute("SELECT id FROM relayed ORDER BY id")]
