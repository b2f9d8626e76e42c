"""jobsctl backup: a copy of the database while it is in use, checked before it gets its name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation


@jobsctl_command(examples=["jobsctl backup /var/backups/jobs-$(date +%F).db", "jobsctl backup jobs.db --json"])
@click.argument("file")
@pass_invocation
def command(invocation: Invocation, file: str) -> None:
    """Copy the database while it is in use.

    FILE must not exist yet. It gets its name when the copy is whole and checked, and its path is printed. The copy
    holds every job that was acknowledged before it began. Jobs go on meanwhile; the write-ahead log grows until the
    copy is done. A daemon can be started on the copy as it is.
    """
    from supervisor.cli.render import put_json, put_line
    from supervisor.store.reader import connect_reader

    target = os.path.abspath(file)
    if os.path.lexists(target):
        raise click.UsageError(f"{target} exists already; name a file that does not")
    spec = invocation.spec()
    if spec.scope:
        from supervisor.errors import Denied

        raise Denied(
            "a backup is of the whole database, with all scopes", hint=f"jobsctl -c {spec.daemon.scope_of} backup"
        )
    source = connect_reader(spec.daemon.database)
    try:
        with _unnamed(target) as draft:
            facts = _copy(source, draft)
            _publish(draft, target)
    finally:
        source.close()
    if invocation.json:
        put_json({"file": target, "size_bytes": os.stat(target).st_size, **facts})
    else:
        put_line(target)


@contextmanager
def _unnamed(target: str) -> Iterator[str]:
    """A name beside the target for a copy that is not known to be good; what is there at the end is removed."""
    draft = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.{os.getpid()}")
    import signal

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # as Ctrl-C: a draft of a large database must not stay
    try:
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        yield draft
    except OSError as error:
        from supervisor.errors import StoreError

        raise StoreError(f"{target}: {error.strerror}") from error
    finally:
        for path in (draft, f"{draft}-journal", f"{draft}-wal", f"{draft}-shm"):
            try:
                os.unlink(path)
            except OSError:
                continue


def _copy(source: Any, draft: str) -> dict[str, Any]:
    """Copy in one pass, one state of the database; returns what the copy holds.

    Raises:
        StoreError: it could not be written, or the copy is damaged, as then the database is.
    """
    from sqlite_utils import Database

    from supervisor.errors import StoreError
    from supervisor.store.driver import sqlite3

    try:
        copy = sqlite3.connect(draft, isolation_level=None)
        try:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
            db = Database(copy, execute_plugins=False)
            said = [row["integrity_check"] for row in db.query("PRAGMA integrity_check")]
            if said != ["ok"]:
                raise StoreError(f"the copy is damaged: {said[0]}", hint="jobsctl doctor examines the database itself")
            return dict(next(iter(db.query("SELECT count(*) AS jobs, max(id) AS newest_id FROM job"))))
        finally:
            copy.close()
    except sqlite3.Error as error:
        raise StoreError(f"{draft}: {error}") from error


def _publish(draft: str, target: str) -> None:
    """Make the copy durable and give it its name; never replaces what came there meanwhile."""
    for path in (draft, os.path.dirname(target)):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if path == draft:
            os.link(draft, target)
