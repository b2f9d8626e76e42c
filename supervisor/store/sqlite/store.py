"""The SQLite store: one connection, one writer, explicit transactions.

*Invariant:* in this process nothing but this connection ever opens, copies or hashes the database file: closing
any other descriptor of it would drop the locks that the connection holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from supervisor.errors import StoreError
from supervisor.observe.failpoint import hit
from supervisor.policy.discipline import PLAIN, DisciplineOf
from supervisor.store.driver import sqlite3
from supervisor.store.sqlite.cache import Cache
from supervisor.store.sqlite.transaction import Transaction

BUSY_TIMEOUT_MS = 100
FAILING_TIMEOUT_MS = 10
"""How long each try waits for a lock once others have failed: whoever only asks must not wait for tries, too."""
COMPANIONS = ("-wal", "-shm", ".lock")
"""Files beside the database that must stay what they were: without the lock's name, a second daemon takes another."""
WAL_LIMIT_BYTES = 32 * 1024 * 1024


class Identity(NamedTuple):
    """Which file this is: replaced, deleted or hard-linked files differ from what was opened."""

    device: int
    inode: int
    links: int


def _inode(path: str) -> int:
    """Which file a path names; 0 for none."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


class SqliteStore:
    """The writer's handle. Made by `store.open.open_store`, which has checked and migrated the file."""

    def __init__(self, path: str, connection: Any) -> None:
        self.path = path
        self._db = connection
        self._cache: Cache | None = None
        self._discipline_of: DisciplineOf = lambda _: PLAIN
        self._version = -1
        self._timeout_ms = BUSY_TIMEOUT_MS
        self._opened = self.identity()
        self._companions = {suffix: _inode(path + suffix) for suffix in COMPANIONS}

    @contextmanager
    def transaction(self, now_ms: int) -> Iterator[Transaction]:
        """Begin, and commit at the end of the block, or roll back if it raises."""
        tx = self._begin(now_ms)
        try:
            yield tx
            tx.flush()
            self._commit()
        except BaseException as error:
            self._roll_back()
            if isinstance(error, sqlite3.Error):
                raise StoreError(f"{self.path}: {error}") from error
            raise
        hit("store.after_commit")

    def govern(self, discipline_of: DisciplineOf) -> None:
        """By which rules the jobs of each queue are handed out, from the next transaction on."""
        self._discipline_of = discipline_of
        self._cache = None

    def wait_for_locks(self, timeout_ms: int) -> None:
        """How long a transaction waits for another program's lock before it fails."""
        if timeout_ms != self._timeout_ms:
            self._timeout_ms = timeout_ms
            self._db.execute(f"PRAGMA busy_timeout = {timeout_ms}")

    def _begin(self, now_ms: int) -> Transaction:
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}") from error
        try:
            version = self._db.execute("PRAGMA data_version").fetchone()[0]
            if self._cache is None or version != self._version:
                self._cache = Cache(self._db, self._discipline_of)
                self._version = version
            self._cache.forget_lanes()
            return Transaction(self._db, self._cache, now_ms)
        except BaseException as error:
            self._roll_back()
            if isinstance(error, sqlite3.Error):
                raise StoreError(f"{self.path}: {error}") from error
            raise

    def _commit(self) -> None:
        try:
            hit("store.before_commit")
            self._db.execute("COMMIT")
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{self.path}: {error}") from error

    def _roll_back(self) -> None:
        """Forget the cache, and roll back unless SQLite has done so itself (as it does on a full disk)."""
        self._cache = None
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error:
            pass

    @property
    def connection(self) -> Any:
        """The connection, for a reader in this process: between transactions, never inside one."""
        return self._db

    def identity(self) -> Identity:
        """The file that the path names now, by stat alone.

        Raises:
            FileNotFoundError: the path names nothing.
        """
        facts = os.stat(self.path)
        return Identity(facts.st_dev, facts.st_ino, facts.st_nlink)

    def lost(self) -> str | None:
        """What happened to the file under us: `deleted`, `replaced`, `hard-linked` or the like; None if nothing."""
        try:
            now = self.identity()
        except OSError:
            return "deleted"
        if now[:2] != self._opened[:2]:
            return "replaced"
        return "hard-linked" if now.links > 1 else self._companion_lost()

    def _companion_lost(self) -> str | None:
        """SQLite writes on into a WAL or index that was deleted, and nobody else ever sees what is in it.

        A lock whose file was deleted keeps nobody out any more.
        """
        for suffix, known in self._companions.items():
            found = _inode(self.path + suffix)
            if known and found != known:
                return f"separated from its {suffix} file"
            self._companions[suffix] = found
        return None

    def checkpoint(self, mode: str = "PASSIVE") -> tuple[int, int]:
        """Move the WAL into the file; returns (pages in the WAL, pages moved). Neither raises nor waits for being busy.

        A reader in the middle of a backup holds up more than a passive one: all clients would wait along with us.
        """
        try:
            self._db.execute("PRAGMA busy_timeout = 0")
            try:
                _, pages, moved = self._db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
            finally:
                self._db.execute(f"PRAGMA busy_timeout = {self._timeout_ms}")
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}") from error
        return pages, moved

    def wal_bytes(self) -> int:
        """Size of the WAL file."""
        try:
            return os.stat(self.path + "-wal").st_size
        except OSError:
            return 0

    def fold(self) -> None:
        """Move all of the WAL into the file that is open, wherever its name leads by now. Never raises.

        A WAL that is left behind would be taken for that of whatever database has the name next.
        """
        try:
            self.checkpoint("TRUNCATE")
        except StoreError:
            pass

    def close(self) -> None:
        """Checkpoint and close."""
        self.fold()
        self._db.close()
