"""SQLite as the suite sees it. The looks at its rows share no statement with the store."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from supervisor.policy.discipline import DisciplineOf
from supervisor.store.driver import sqlite3 as library
from supervisor.store.open import open_store
from supervisor.store.sqlite.store import SqliteStore
from tests.conformance.flow_audit import misflowed
from tests.support.disciplines import by_name

ONE_PLACE_EACH = """
SELECT id, 'queued' AS place FROM ready
UNION ALL SELECT id, 'scheduled' FROM scheduled
UNION ALL SELECT id, 'blocked' FROM blocked
UNION ALL SELECT id, state FROM outcome
"""


class SqliteBackend:
    """A database file. `template`, if given, is an empty database to begin from: migrating costs 50 ms."""

    def __init__(self, path: Path, *, template: Path | None = None, durability: str = "full") -> None:
        self.path = path
        self.discipline_of: DisciplineOf = by_name
        self._durability = durability
        if template:
            shutil.copyfile(template, path)

    def open(self) -> SqliteStore:
        store = open_store(str(self.path), self._durability, create=True, migrate=True)
        store.govern(self.discipline_of)
        return store

    def crash(self, store: SqliteStore) -> None:
        store._db.close()

    @contextmanager
    def look(self) -> Iterator[Any]:
        """A read-only connection of the same library: two copies of SQLite must not meet on one file."""
        connection = library.connect(f"file:{self.path}?mode=ro", uri=True, isolation_level=None)
        try:
            connection.execute("BEGIN")
            yield connection
        finally:
            connection.close()

    def places(self) -> dict[int, list[str]]:
        with self.look() as db:
            return _places(db)

    def complaints(self) -> list[str]:
        with self.look() as db:
            return [
                *_misplaced(db),
                *_miscounted(db),
                *_misranked(db),
                *_misviewed(db),
                *_orphans(db),
                *misflowed(db),
                *_misfiled(db),
                *_damage(db),
            ]


def _places(db: Any) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {row[0]: [] for row in db.execute("SELECT id FROM job")}
    for job_id, place in db.execute(ONE_PLACE_EACH).fetchall():
        found.setdefault(job_id, ["no body"]).append(place)
    ended = {row[0] for row in db.execute("SELECT id FROM outcome")}
    for token, jobs in db.execute("SELECT token, jobs FROM lease").fetchall():
        named = {job[0] for job in json.loads(jobs)}
        if not named - ended:
            found.setdefault(-token, []).append("an empty lease")
        for job_id in named - ended:
            found.setdefault(job_id, ["no body"]).append(f"lease {token}")
    return found


def _misplaced(db: Any) -> Iterator[str]:
    for job_id, places in _places(db).items():
        if len(places) != 1 or job_id < 1:
            yield f"job {job_id} stands in {places}"


def _miscounted(db: Any) -> Iterator[str]:
    queues = dict(db.execute("SELECT id, queue FROM job").fetchall())
    counted: Counter[tuple[int, str]] = Counter()
    for job_id, places in _places(db).items():
        for place in places[:1]:
            counted[queues.get(job_id, 0), "running" if place.startswith("lease") else place] += 1
    stored = {(queue, state): jobs for queue, state, jobs in db.execute("SELECT queue, state, jobs FROM tally") if jobs}
    if stored != dict(counted):
        yield f"counts say {stored}, rows say {dict(counted)}"


def _misranked(db: Any) -> Iterator[str]:
    """What cancel, move and revive go by, to find a waiting job's row: its lane, rank and time."""
    rows = db.execute(
        "SELECT ready.id FROM ready LEFT JOIN job USING (id) LEFT JOIN trail USING (id) "
        "WHERE (ready.lane, ready.band, ready.pos) IS NOT "
        "(job.lane, coalesce(trail.band, job.band), coalesce(trail.pos, job.pos)) "
        "OR CASE WHEN trail.id IS NULL THEN job.due_at ELSE trail.due_at END IS NOT NULL "
        "OR (ready.mark = 2) <> coalesce(trail.solo, 0) OR (ready.mark > 0 AND trail.id IS NULL)"
    )
    yield from (f"ready job {row[0]} cannot be found by its rank" for row in rows.fetchall())
    rows = db.execute(
        "SELECT scheduled.id FROM scheduled LEFT JOIN job USING (id) LEFT JOIN trail USING (id) "
        "WHERE scheduled.due_at IS NOT CASE WHEN trail.id IS NULL THEN job.due_at ELSE trail.due_at END"
    )
    yield from (f"scheduled job {row[0]} cannot be found by its time" for row in rows.fetchall())


def _misviewed(db: Any) -> Iterator[str]:
    """Whether the view for analysts derives the state that the places say."""
    viewed = dict(db.execute("SELECT id, state FROM jobs").fetchall())
    for job_id, places in _places(db).items():
        state = "running" if places[:1] and places[0].startswith("lease") else "".join(places[:1])
        if viewed.get(job_id) != state:
            yield f"the view says that job {job_id} is {viewed.get(job_id)}, and it is {state}"


def _orphans(db: Any) -> Iterator[str]:
    for row in db.execute("SELECT blocked.id FROM blocked JOIN job USING (id) WHERE blocked.queue <> job.queue"):
        yield f"blocked job {row[0]} is filed under another queue"
    for table in ("outcome", "trail", "attempt"):
        for row in db.execute(f"SELECT DISTINCT id FROM {table} WHERE id NOT IN (SELECT id FROM job)").fetchall():
            yield f"{table} has a row of job {row[0]}, which does not exist"
    for row in db.execute("SELECT key, id FROM idempotent WHERE id NOT IN (SELECT id FROM job)"):
        yield f"idempotency key {row[0]} is that of job {row[1]}, which does not exist"
    for row in db.execute("SELECT token FROM loan WHERE token NOT IN (SELECT token FROM lease)"):
        yield f"loan {row[0]} has no lease"
    for row in db.execute("SELECT token FROM loan JOIN lease USING (token) WHERE owner NOT IN (SELECT id FROM owner)"):
        yield f"loan {row[0]} has no owner"
    highest = db.execute("SELECT coalesce(max(id), 0) FROM job").fetchone()[0]
    given = db.execute("SELECT value FROM meta WHERE name = 'next_id'").fetchone()[0]
    if highest >= given:
        yield f"job {highest} exists and {given} would be given out next"


def _misfiled(db: Any) -> Iterator[str]:
    """Whether exactly the dead have letters, in the right queue, and each group has the count of its letters."""
    dead = dict(
        db.execute(
            "SELECT outcome.id, queue.name FROM outcome JOIN job USING (id) JOIN queue ON queue.id = job.queue "
            "WHERE outcome.state = 'dead'"
        ).fetchall()
    )
    letters = dict(db.execute("SELECT id, queue FROM letter").fetchall())
    if letters != dead:
        yield f"dead are {dead}, and there are letters of {letters}"
    counted = Counter(db.execute("SELECT queue, fingerprint FROM letter").fetchall())
    kept = {
        (queue, mark): jobs for queue, mark, jobs in db.execute("SELECT queue, fingerprint, jobs FROM letter_group")
    }
    if kept != dict(counted):
        yield f"groups count {kept}, and letters are {dict(counted)}"


def _damage(db: Any) -> Iterator[str]:
    answer = db.execute("PRAGMA quick_check").fetchone()[0]
    if answer != "ok":
        yield answer
