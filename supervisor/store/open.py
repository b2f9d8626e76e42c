"""Opening the database: every refusal with its reason, before a byte of it is changed."""

from __future__ import annotations

import os
import re
import stat
from typing import Any

from supervisor.errors import NoDatabase, StoreError
from supervisor.store.driver import sqlite3
from supervisor.store.sqlite.store import BUSY_TIMEOUT_MS, SqliteStore

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "fuse.glusterfs", "fuse.sshfs", "afs", "lustre",
     "fuse.s3fs", "gfs2", "ocfs2", "beegfs"}
)  # fmt: skip


def open_store(path: str, durability: str, *, create: bool, migrate: bool) -> SqliteStore:
    """Open the database for writing; the caller holds the writer lock.

    Raises:
        StoreNewer: a newer version wrote it.
        NoDatabase: it does not exist and `create` is false.
        StoreError: it cannot be opened, is no database of ours, or lies where SQLite is not safe.
    """
    real = os.path.realpath(path)
    check_place(real, create=create)
    if not os.path.exists(real):
        make_private(real)
    connection: Any = None
    try:
        check_content(real)
        connection = connect(real, durability)
        prepare(connection, real, migrate=migrate)
    except (sqlite3.Error, OSError) as error:
        if connection is not None:
            connection.close()
        raise StoreError(f"{path}: {error}") from error
    except BaseException:
        if connection is not None:
            connection.close()
        raise
    return SqliteStore(real, connection)


def check_place(path: str, *, create: bool) -> None:
    """Refuse a missing folder, a network file system, what is no regular file or has two names, what is read-only."""
    folder = os.path.dirname(path)
    check_folder(path, folder)
    try:
        facts = os.stat(path)
    except FileNotFoundError:
        if not create:
            raise NoDatabase(
                f"{path}: there is no database yet",
                hint="start jobsupd once, or make one with: jobsupd --one-shot --init",
            ) from None
        return
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(facts.st_mode):
        raise StoreError(f"{path} is not a regular file")
    if facts.st_nlink > 1:
        raise StoreError(f"{path} has {facts.st_nlink} hard links", hint="keep one name for the file")
    if path in mount_points():
        hint = "mount the folder that it is in"
        raise StoreError(f"{path} is mounted as a single file, and its WAL would lie apart from it", hint=hint)
    if not os.access(path, os.W_OK):
        raise StoreError(f"{path} is read-only for this user")


def check_folder(path: str, folder: str) -> None:
    """Refuse a folder that is missing, on a network file system, or not writable: the WAL lies beside the database."""
    try:
        device = os.stat(folder).st_dev
    except OSError as error:
        raise StoreError(f"{path}: {folder}: {error.strerror}", hint=f"mkdir -p {folder}") from error
    kind = file_system_of(device)
    if kind in NETWORK_FILE_SYSTEMS:
        raise StoreError(
            f"{path} is on a network file system ({kind}), where SQLite's locks do not hold",
            hint="put [daemon] database on a local disk",
        )
    if not os.access(folder, os.W_OK):
        raise StoreError(f"{path}: {folder} is read-only for this user", hint="the WAL lies beside the database")


def file_system_of(device: int) -> str:
    """The type of the mounted file system with this device number, `unknown` if the kernel does not say."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                left, _, right = line.partition(" - ")
                if left.split()[2] == wanted:
                    return right.split()[0]
    except (OSError, IndexError):
        pass
    return "unknown"


def mount_points() -> set[str]:
    """Where file systems, folders and single files are mounted, as far as the kernel says."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            return {os.fsdecode(_unescaped(line.split()[4])) for line in file if len(line.split()) > 4}
    except OSError:
        return set()


def _unescaped(name: bytes) -> bytes:
    """A name as the kernel writes it, with octal for what would break its lines."""
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), name)


def make_private(path: str) -> None:
    """Make the file for its owner alone, whatever the umask: payloads are in it. SQLite's own files follow it."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error


def check_content(path: str) -> None:
    """Refuse another program's database, and a newer one, on a connection that cannot change a byte of it."""
    from supervisor.store.sqlite.migrations import APPLICATION_ID, refuse_newer

    connection = sqlite3.connect(read_only(path), uri=True, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None)
    try:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_schema WHERE type = 'table'").fetchone()[0]
        if tables and application != APPLICATION_ID:
            hint = "name a file of its own in [daemon] database"
            raise StoreError(f"{path} is a database of another program", hint=hint)
        refuse_newer(connection)
    finally:
        connection.close()


def read_only(path: str) -> str:
    """The URI by which SQLite opens a file for reading only."""
    return f"file:{path.replace('%', '%25').replace('?', '%3f').replace('#', '%23')}?mode=ro"


def connect(path: str, durability: str) -> Any:
    """A connection as the keeper uses it: WAL, autocommit with explicit BEGIN, TEXT as bytes, no own checkpoints."""
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None, cached_statements=256)
    try:
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise StoreError(f"{path}: its file system does not support WAL ({mode})")  # noqa: TRY301 - closed below
        connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'full' else 'NORMAL'}")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA cache_size = -16384")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA journal_size_limit = 4194304")
    except BaseException:
        connection.close()
        raise
    return connection


def prepare(connection: Any, path: str, *, migrate: bool) -> None:
    """Bring the schema to this version, or refuse where that is not ours to do; `check_content` has passed it."""
    from supervisor.store.sqlite import migrations

    if not migrations.is_current(connection):
        if not migrate:
            raise StoreError(f"{path} needs a migration", hint="start jobsupd: it migrates at its start")
        migrations.migrate(connection)
    connection.text_factory = bytes
