"""The application's database: its outbox is read, and what has become a job is deleted. Nothing else is touched.

Transactions are short, waits for locks are bounded, and every commit is synced whatever the application has chosen:
the keeper forgets a row only once it is surely gone. For the same reason what was read is synced before it is sent: a
power loss must not take back a row that is a job by then, and give its id to another one. And a row is deleted only if
it is still the one that was read: a backup that is put back into the file gives its id to another one, too.

*Invariant:* a connection to a file that has lost its name is never closed. As the last one it would delete the WAL
of whatever has the name now.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from supervisor.store.driver import sqlite3, sqlite_version
from supervisor.store.sqlite.statements import Statements
from supervisor.wire.outbox import Row

MEASURES_UNREAD = (3, 43)
"""Since this version SQLite can tell how long a value is without reading it."""


def worded(statement: str, version: tuple[int, ...]) -> str:
    """A statement as a version of SQLite knows it."""
    if version >= MEASURES_UNREAD:
        return statement
    return re.sub(r"octet_length\((\w+)\)", r"length(CAST(\1 AS BLOB))", statement)


SQL: Any = SimpleNamespace(
    **{name: worded(text, sqlite_version) for name, text in vars(Statements(Path(__file__).parent / "sql")).items()}
)
SCHEMA = Path(__file__).parent / "outbox.sql"
TABLE, INSTANCE = "jobsup_outbox", "jobsup_outbox_instance"
INDICES = ("jobsup_outbox_waiting", "jobsup_outbox_refused")
COLUMNS = {"id", "queue", "payload", "options", "created_at", "error"}
MAKE_IT = "make it with: jobsctl outbox sql"
WHERE_IT_IS = "let the application create it, or correct database of the outbox in the configuration"
KEEPS = (
    "where jobsup deletes what is a job, and says why others are none: drop that trigger, or have it let these through"
)
READ_ONLY = "is read-only for this user: what is a job could not be deleted; let it write"
CLOSED = "cannot be opened: let this user read and write the file and its folder"
PRIMARY = 0xFF
"""What of an error's code is the same for all errors of a kind."""

BUSY_MS = 100
"""How long a statement waits for a lock of the application's before we try again later."""
PAGE_ROWS = 256
PAGE_BYTES = 4 * 1024 * 1024
TEXT_BYTES_MAX = 16 * 1024 * 1024
"""No job is larger; a row that is, is refused unread."""
NAME_BYTES_MAX = 1_000
"""As the statements have it: what is longer is the name of no queue, and is refused unread, too."""
OPTIONS_BYTES_MAX = 64 * 1024
"""As the statements have it, too: the keeper reads them while everybody waits."""
INSTANCE_BYTES_MAX = 200
"""As its statement has it."""
NEW_INSTANCE = "for a new one: DELETE FROM jobsup_outbox_instance"
CHECKPOINT_PAGES = 4_000
"""The application looks after its WAL, at 1,000 pages unless it says otherwise. Where it does not, as while it rests
and a million of its rows are deleted, we do."""
COUNT_MAX = 10_000
REFUSALS_SHOWN = 20

KEPT: list[Any] = []
"""Connections to files that have lost their names; they end with the process."""

T = TypeVar("T")


class Locked(Exception):
    """Another program holds a lock: nothing was done, and it is worth trying again soon."""


class Unusable(Exception):
    """The outbox cannot be used as it is; the message says why, and what to do."""


class Foul(Exception):
    """A value of a row that is no text."""


class Table:
    """An open outbox. Whatever a method raises, it has changed nothing, unless it says so."""

    def __init__(self, path: str, owner: int) -> None:
        """Open the file, and claim its outbox for a jobsup.

        Raises:
            Locked, Unusable: it cannot be, now.
        """
        self._given = path
        self.path = os.path.realpath(path)
        self._identity = _identity(self.path)
        self._wal = 0
        self._owner = owner
        self._read_version: int | None = None
        """The version of the file that rows were last read from."""
        self.last: int | None = None
        """The greatest id there was when they were."""
        self._schema_version: int | None = None
        _require_access(self.path)
        self._db = _connect(self.path)
        try:
            self.instance = self._try(self._claim)
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """Close the file, unless it has lost its name."""
        if self._lost:
            KEPT.append(self._db)
        else:
            self._db.close()

    @property
    def replaced(self) -> bool:
        """Whether the name leads to another file, or to none; or its WAL was taken away, and nobody else sees ours."""
        return os.path.realpath(self._given) != self.path or self._lost

    @property
    def _lost(self) -> bool:
        try:
            if _identity(self.path) != self._identity:
                return True
        except Unusable:
            return True
        self._wal = self._wal or _wal_of(self.path)
        return self._wal != _wal_of(self.path)

    def _claim(self) -> str:
        self._require_schema()
        self._db.execute("BEGIN IMMEDIATE")  # whoever may not write must not take rows that it could not delete
        try:
            self._db.execute(SQL.instance_make)
            self._db.execute(SQL.claim, (self._owner,))
            instance, holder, size = self._db.execute(SQL.instance).fetchone() or (None, None, None)
            found = self._readable(instance, size)
            self._db.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        self._require_owner(holder)
        return found

    def _readable(self, instance: Any, size: int | None) -> str:
        try:
            return _text(instance, f"instance in {INSTANCE}", size, INSTANCE_BYTES_MAX)
        except Foul as foul:
            raise Unusable(f"{self.path}: {foul}; {NEW_INSTANCE}") from foul

    def _require_owner(self, holder: Any) -> None:
        if holder != self._owner:
            raise Unusable(
                "another jobsup takes its rows; if that is gone for good, set owner to NULL in jobsup_outbox_instance"
            )

    def _require_same(self) -> None:
        """The file may have been overwritten where it stands: then it is another outbox, and has to be opened anew."""
        instance, holder, _ = self._db.execute(SQL.instance).fetchone() or (None, self._owner, None)
        if not isinstance(instance, bytes) or instance.decode("utf-8", "replace") != self.instance:
            raise Unusable(f"{self.path} holds another outbox than before")
        self._require_owner(holder)
        self._require_schema()

    def _require_schema(self) -> None:
        """Look at the schema once, and whenever it has changed: a table that is made anew may be another one."""
        version = self._db.execute("PRAGMA schema_version").fetchone()[0]
        if version != self._schema_version:
            self._check()
        self._schema_version = version

    def _check(self) -> None:
        for kind, names in (("table", (TABLE, INSTANCE)), ("index", INDICES)):
            for name in names:
                if self._db.execute(SQL.definition, (name,)).fetchone() is None:
                    raise Unusable(f"{self.path} has no {kind} {name}; {MAKE_IT}")
        listed = self._db.execute(f"PRAGMA table_info({TABLE})").fetchall()
        found = {name.decode(): (kind.upper(), key) for _, name, kind, _, _, key in listed}
        if missing := sorted(COLUMNS - found.keys()):
            raise Unusable(f"{TABLE} in {self.path} has no column {', '.join(missing)}; {MAKE_IT}")
        if found["id"] != (b"INTEGER", 1):
            raise Unusable(f"{TABLE}.id in {self.path} is not INTEGER PRIMARY KEY, so it numbers no rows; {MAKE_IT}")
        definition = self._db.execute(SQL.definition, (TABLE,)).fetchone()[0]
        if b"AUTOINCREMENT" not in definition.upper():
            raise Unusable(f"{TABLE}.id in {self.path} is not AUTOINCREMENT, so ids come again; {MAKE_IT}")

    # -- reading -----------------------------------------------------------------------------------------------

    def version(self) -> int:
        """A number that changes with every commit of another program."""
        return self._try(self._version)

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def page(self, after: int, without: Sequence[str]) -> list[tuple[Row, str | None]]:
        """Rows behind an id that wait for none of these queues, in order, each with what is wrong with it."""
        return self._page(SQL.page, (after, json.dumps(list(without)), PAGE_ROWS, TEXT_BYTES_MAX))

    def page_of_queue(self, after: int, queue: str) -> list[tuple[Row, str | None]]:
        """As `page`, of one queue."""
        return self._page(SQL.page_of_queue, (after, queue, PAGE_ROWS, TEXT_BYTES_MAX))

    def page_refused(self, after: int) -> list[tuple[Row, str | None]]:
        """As `page`, of rows that were refused."""
        return self._page(SQL.page_refused, (after, PAGE_ROWS, TEXT_BYTES_MAX))

    def _page(self, statement: str, values: tuple[Any, ...]) -> list[tuple[Row, str | None]]:
        def read() -> list[tuple[Row, str | None]]:
            found: list[tuple[Row, str | None]] = []
            size = 0
            self._db.execute("BEGIN")
            try:
                self._read_version = self._version()
                self._require_same()
                (self.last,) = self._db.execute(SQL.last).fetchone()
                for columns in self._db.execute(statement, values):
                    found.append(_row(columns))
                    size += len(found[-1][0].payload) + len(found[-1][0].options or "")
                    if size >= PAGE_BYTES:
                        break
            finally:
                self._roll_back()  # the end of the read transaction
            return found

        return self._try(read)

    def sync(self) -> None:
        """Have what was read on disk: the application may commit without syncing.

        Raises:
            Unusable: the disk does not take it.
        """
        try:
            fd = os.open(f"{self.path}-wal", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return  # no WAL: a commit that can be read has been synced
        except OSError as error:
            raise Unusable(f"{self.path}-wal cannot be read: {error.strerror}") from error
        try:
            os.fdatasync(fd)
        except OSError as error:
            raise Unusable(f"{self.path}-wal cannot be synced: {error.strerror}") from error
        finally:
            os.close(fd)  # nobody locks a WAL, so this drops no lock

    def gone(self, ids: Sequence[int]) -> list[int]:
        """Which of these rows are not there any more, for good."""
        rows = self._try(lambda: self._db.execute(SQL.present, (json.dumps(list(ids)),)).fetchall())
        present = {row[0] for row in rows}
        gone = [row for row in ids if row not in present]
        if gone:
            self.sync()
        return gone

    def counts(self) -> tuple[int, int]:
        """How many rows wait, and how many were refused; both at most `COUNT_MAX`."""
        found = [
            self._try(lambda one=one: self._db.execute(one, (COUNT_MAX,)).fetchone()[0])  # type: ignore[misc]
            for one in (SQL.waiting, SQL.refused)
        ]
        return found[0], found[1]

    def oldest_ms(self) -> int | None:
        """What stands in `created_at` of the first row that waits, if that is a time."""
        row = self._try(lambda: self._db.execute(SQL.oldest).fetchone())
        return row[0] if row and isinstance(row[0], int) and 0 <= row[0] < 2**53 else None

    def refusals(self) -> tuple[tuple[int, str, str], ...]:
        """The first rows that were refused: id, queue, error."""
        rows = self._try(lambda: self._db.execute(SQL.refusals, (REFUSALS_SHOWN,)).fetchall())
        return tuple((row, _shown(queue), _shown(error)) for row, queue, error in rows)

    # -- writing -----------------------------------------------------------------------------------------------

    def settle(self, done: Sequence[Row], marks: Sequence[tuple[Row, str | None]]) -> list[int]:
        """Delete rows, and write errors to others, in one synced commit: those that still are what was read.

        Returns which of the first are not there any more, whoever has deleted them.

        Raises:
            Unusable: a trigger keeps some as they are; then all stay.
        """
        return self._try(lambda: self._settle(done, marks))

    def _settle(self, done: Sequence[Row], marks: Sequence[tuple[Row, str | None]]) -> list[int]:
        if not (done or marks):
            return []
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._require_same()
            same, absent = self._compared([*done, *(row for row, _ in marks)])
            self._delete([row.id for row in done if row.id in same])
            self._mark([(row.id, error) for row, error in marks if row.id in same])
            if absent:
                self.sync()  # the application may have deleted them without
            self._db.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        return [row.id for row in done if row.id in same or row.id in absent]

    def _delete(self, ids: Sequence[int]) -> None:
        if not ids:
            return
        self._db.executemany(SQL.delete, [(row,) for row in ids])
        kept = self._db.execute(SQL.present, (json.dumps(ids),)).fetchone()
        if kept:
            raise Unusable(f"a trigger of the application keeps row {kept[0]} of {TABLE} {KEEPS}")

    def _mark(self, marks: Sequence[tuple[int, str | None]]) -> None:
        if marks and self._db.executemany(SQL.mark, marks).rowcount != len(marks):
            raise Unusable(f"a trigger of the application keeps error from being written to {TABLE} {KEEPS}")

    def _compared(self, rows: Sequence[Row]) -> tuple[set[int], set[int]]:
        """Which of these rows stand there as they were read, and which do not stand there."""
        ids = {row.id for row in rows}
        if self._version() == self._read_version:
            return ids, set()
        now = self._db.execute(SQL.among, (json.dumps(list(ids)), TEXT_BYTES_MAX))
        digests = {row.id: row.digest for row, _ in map(_row, now)}
        return {row.id for row in rows if digests.get(row.id) == row.digest}, ids - digests.keys()

    def _roll_back(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error:
            pass

    def _try(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except sqlite3.Error as error:
            raise _meaning(error, self.path) from error


def _identity(path: str) -> tuple[int, int]:
    try:
        facts = os.stat(path)
    except FileNotFoundError as error:
        raise Unusable(f"{path}: {error.strerror}; {WHERE_IT_IS}") from error
    except OSError as error:
        raise Unusable(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(facts.st_mode):
        raise Unusable(f"{path} is no regular file")
    return facts.st_dev, facts.st_ino


def _require_access(path: str) -> None:
    """Before SQLite opens it: it would make a WAL where it may only read, and shut out the application by that."""
    if not os.access(path, os.R_OK, effective_ids=True):
        raise Unusable(f"{path} {CLOSED}")
    if not os.access(path, os.W_OK, effective_ids=True):
        raise Unusable(f"{path} {READ_ONLY}")


def _wal_of(path: str) -> int:
    """Which file the WAL is; 0 for none."""
    try:
        return os.stat(f"{path}-wal").st_ino
    except OSError:
        return 0


def _connect(path: str) -> Any:
    from urllib.parse import quote

    try:
        db = sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True, isolation_level=None, timeout=BUSY_MS / 1000)
        db.text_factory = bytes
        db.execute("PRAGMA synchronous = EXTRA")
        db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    except sqlite3.Error as error:
        raise _meaning(error, path) from error
    return db


def _meaning(error: Exception, path: str) -> Exception:
    """What an error of SQLite's means to us: wait a little, or something is wrong. Triggers have texts of their own."""
    code = getattr(error, "sqlite_errorcode", None)  # the driver's own errors have none
    match None if code is None else code & PRIMARY:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return Locked(f"{path} is locked by another program")
        case sqlite3.SQLITE_READONLY:
            return Unusable(f"{path} {READ_ONLY}")
        case sqlite3.SQLITE_CANTOPEN:
            return Unusable(f"{path} {CLOSED}")
        case sqlite3.SQLITE_ERROR if "no such index" in str(error):
            return Unusable(f"{TABLE} in {path} lacks an index: {error}; {MAKE_IT}")
    return Unusable(f"{path}: {error}")


def _row(columns: Sequence[Any]) -> tuple[Row, str | None]:
    """A row, and what is wrong with it: any program may have written anything."""
    number, queue, queue_size, payload, payload_size, options, options_size, created, error = columns
    wrong = None
    try:
        texts = (
            _text(queue, "queue", queue_size, NAME_BYTES_MAX),
            _text(payload, "payload", payload_size, TEXT_BYTES_MAX),
            None if options_size is None else _text(options, "options", options_size, OPTIONS_BYTES_MAX),
        )
    except Foul as foul:
        wrong, texts = str(foul), (_shown(queue), "", None)
    made = None if created is None else _shown(created)
    return Row(number, *texts, made, None if error is None else _shown(error)), wrong


def _text(value: Any, name: str, size: int | None, size_max: int) -> str:
    if value is None and size is not None:
        raise Foul(f"{name} has {size} bytes, the limit is {size_max}")
    if not isinstance(value, bytes):
        raise Foul(f"{name} is {'NULL' if value is None else 'a number'}, and must be text")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Foul(f"{name} is not UTF-8") from None


def _shown(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
