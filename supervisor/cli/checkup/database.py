"""Checks of the database file and what surrounds it. Nothing but SQLite ever opens it: other opens drop its locks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from supervisor.cli.checkup.finding import Finding, note, problem, warning
from supervisor.cli.checkup.site import Site

if TYPE_CHECKING:
    import psutil

WAL_LARGE_BYTES = 64 * 1024 * 1024
DAMAGES_SHOWN = 3


def database_missing(site: Site) -> Iterator[Finding]:
    """There is no database, or no folder for it."""
    if site.database is None:
        return
    folder = os.path.dirname(site.database)
    if not os.path.isdir(folder):
        yield problem("database_missing", f"the folder {folder} does not exist", f"mkdir -p {folder}")
    elif not os.path.lexists(site.database):
        yield warning("database_missing", f"there is no database at {site.database} yet", "start jobsupd: it makes one")


def database_hard_linked(site: Site) -> Iterator[Finding]:
    """Under a second name it has a second lock: two daemons could write it."""
    links = _links(site)
    if links > 1:
        text = f"{site.database} has {links} hard links: two daemons could each hold a lock on it"
        yield problem("database_hard_linked", text, "keep one name for the file and remove the others")


def database_network(site: Site) -> Iterator[Finding]:
    """SQLite's locks do not hold on network file systems."""
    from supervisor.store.open import NETWORK_FILE_SYSTEMS, file_system_of

    folder = os.path.dirname(site.database) if site.database else ""
    if not os.path.isdir(folder):
        return
    kind = file_system_of(os.stat(folder).st_dev)
    if kind in NETWORK_FILE_SYSTEMS:
        text = f"{site.database} is on a network file system ({kind}), where SQLite's locks do not hold"
        yield problem("database_network", text, "put [daemon] database on a local disk")


def database_unreadable(site: Site) -> Iterator[Finding]:
    """It is there, and cannot be read by this user, or not be written by the service."""
    from supervisor.errors import Denied

    if isinstance(site.connection_error, Denied):
        text = f"{site.database} cannot be read by this user, so half of these checks were left out"
        yield warning("database_unreadable", text, "run jobsctl doctor as the service's user, or as root")


def database_foreign(site: Site) -> Iterator[Finding]:
    """Some other program made it, or it is no database at all."""
    from supervisor.errors import Denied, NoDatabase, StoreError

    error = site.connection_error
    if isinstance(error, StoreError) and not isinstance(error, (NoDatabase, Denied)):
        text = f"{error.message}: it is no database of jobsup, or its beginning is damaged"
        yield problem("database_foreign", text, "name a file of its own in [daemon] database, or restore a backup")
    from supervisor.store.sqlite.migrations import APPLICATION_ID

    if site.connection and site.rows("PRAGMA application_id")[0]["application_id"] != APPLICATION_ID:
        text = f"{site.database} is a database of another program"
        yield problem("database_foreign", text, "name a file of its own in [daemon] database")


def database_newer(site: Site) -> Iterator[Finding]:
    """A newer version of jobsup has written it."""
    from supervisor.errors import StoreNewer
    from supervisor.store.sqlite.migrations import refuse_newer

    try:
        if site.connection:
            refuse_newer(site.connection)
    except StoreNewer as error:
        yield problem("database_newer", error.message, error.hint or "install the newer version")


def database_damaged(site: Site) -> Iterator[Finding]:
    """Its pages or indexes do not fit together, or its counts are not those of its rows."""
    from supervisor.store.driver import sqlite3

    remedy = "stop jobsupd and restore the newest backup; docs/backup-and-upgrade.md has the steps"
    try:
        said = [row["integrity_check"] for row in site.rows("PRAGMA integrity_check")]
        for text in [text for text in said if text != "ok"][:DAMAGES_SHOWN]:
            yield problem("database_damaged", f"{site.database}: {text}", remedy)
        for row in site.rows(COUNTS):
            if row["counted"] != row["kept"]:
                text = f"{site.database} holds {row['counted']} jobs, but its counts say {row['kept']}"
                yield problem("database_damaged", text, remedy)
    except sqlite3.DatabaseError as error:
        yield problem("database_damaged", f"{site.database}: {error}", remedy)


COUNTS = "SELECT (SELECT count(*) FROM job) AS counted, (SELECT coalesce(sum(jobs), 0) FROM tally) AS kept"


def wal_large(site: Site) -> Iterator[Finding]:
    """The write-ahead log grows because some reader does not let go of an old state."""
    if site.database is None:
        return
    try:
        size = os.stat(site.database + "-wal").st_size
    except OSError:
        return
    if size >= WAL_LARGE_BYTES:
        from supervisor.cli.render import size as shown

        readers = ", ".join(f"{reader.pid} ({reader.name()})" for reader in _openers(site))
        text = f"the write-ahead log of {site.database} has {shown(size)}"
        if readers:
            remedy = f"end what reads it: pid {readers}; it shrinks by itself when nobody reads an old state any more"
        else:
            remedy = "start jobsupd: its first checkpoint empties it"
        yield warning("wal_large", text, remedy)


def sqlite_faulty(_site: Site) -> Iterator[Finding]:
    """This SQLite can corrupt a database that several processes write; ours has one writer."""
    from supervisor.store.driver import WAL_RESET_SAFE, sqlite_version

    if not WAL_RESET_SAFE:
        version = ".".join(map(str, sqlite_version))
        text = f"SQLite {version} has the WAL-reset fault: a second program that writes the database could corrupt it"
        yield note(
            "sqlite_faulty", text, "let nothing but jobsup write it; pip install pysqlite3 brings a fixed SQLite"
        )


def disk_nearly_full(site: Site) -> Iterator[Finding]:
    """Where the database or the run_dir stands, there is hardly room left."""
    import psutil

    if site.spec is None or site.database is None:
        return
    for folder in dict.fromkeys((os.path.dirname(site.database), site.spec.daemon.run_dir)):
        try:
            usage = psutil.disk_usage(_existing(folder))
        except OSError:
            continue
        if usage.free < DISK_FREE_BYTES and usage.free < usage.total * DISK_FREE_PART:
            from supervisor.cli.render import size

            text = f"{folder} has {size(usage.free)} left of {size(usage.total)}"
            yield problem("disk_nearly_full", text, "make room: nothing is acknowledged when the disk is full")


DISK_FREE_BYTES = 1024 * 1024 * 1024
DISK_FREE_PART = 0.05

CHECKS = (
    database_missing, database_hard_linked, database_network, database_unreadable, database_foreign, database_newer,
    database_damaged, wal_large, sqlite_faulty, disk_nearly_full,
)  # fmt: skip


def _links(site: Site) -> int:
    try:
        return os.stat(site.database).st_nlink if site.database else 0
    except OSError:
        return 0


def _existing(folder: str) -> str:
    """The folder, or the nearest one above it that exists."""
    while not os.path.isdir(folder) and folder != "/":
        folder = os.path.dirname(folder)
    return folder


def _openers(site: Site) -> Iterator[psutil.Process]:
    """Processes that have the database open, but for the daemon's own keeper and ourselves."""
    import psutil

    assert site.database is not None
    names = {site.database, f"{site.database}-wal", f"{site.database}-shm"}
    for process in psutil.process_iter():
        try:
            ours = process.pid == os.getpid() or (site.daemon_pid and process.ppid() == site.daemon_pid)
            if not ours and any(file.path in names for file in process.open_files()):
                yield process
        except (psutil.Error, OSError):
            continue
