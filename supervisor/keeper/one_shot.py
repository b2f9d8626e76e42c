"""The one-shot keeper: the same code for one client, when no daemon runs. It ends with its client.

It never migrates a database, never recovers, never touches a job that is running; it makes a new database only
when asked. A daemon that starts sends it SIGTERM: it yields after its current group.
"""

from __future__ import annotations

import socket

from supervisor.config.spec import Spec
from supervisor.errors import NoDatabase
from supervisor.keeper.main import Keeper
from supervisor.keeper.state import State
from supervisor.observe.log import Log
from supervisor.store.open import open_store
from supervisor.store.sqlite.store import SqliteStore
from supervisor.unix.clock import boot_id, boot_ms, wall_ms


def run_one_shot(spec: Spec, sock: socket.socket, *, create: bool, scope: str = "") -> int:
    """Serve one client, of a scope, until it closes; returns the exit status. The caller holds the writer lock.

    Raises:
        StoreError: the database cannot be opened.
    """
    log = Log("stderr", "warning", "text", wall_ms)
    log.role = "one-shot"
    state = State(spec, _open(spec, create=create), log, boot_id(), boot_ms())
    state.leasing = False
    keeper = Keeper(state)
    state.tasks.learn(keeper.reader.tasks())
    state.tasks.unblock_at_ms = None  # nobody is here who could run them
    keeper.serve_one(sock, scope)
    return keeper.finish()


def init_database(spec: Spec) -> None:
    """Make a new database, if there is none; the caller holds the writer lock."""
    _open(spec, create=True).close()


def _open(spec: Spec, *, create: bool) -> SqliteStore:
    try:
        return open_store(spec.daemon.database, spec.daemon.durability, create=False, migrate=False)
    except NoDatabase:
        if not create:
            raise
    return open_store(spec.daemon.database, spec.daemon.durability, create=True, migrate=True)
