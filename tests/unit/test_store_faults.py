"""Failures in the middle of a transaction: all of it is stored or nothing, and the same handle goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.errors import StoreError
from supervisor.job import State
from supervisor.observe import failpoint
from supervisor.policy.settle import History
from supervisor.store.protocol import AttemptError, Completion, Group, NewJob, Tx
from supervisor.store.sqlite.store import SqliteStore
from tests.conformance.sqlite import SqliteBackend
from tests.support.stores import audited

NOW = 1_700_000_000_000


@pytest.fixture
def backend(tmp_path: Path) -> SqliteBackend:
    return SqliteBackend(tmp_path / "jobs.db")


@pytest.fixture
def store(backend: SqliteBackend) -> Iterator[SqliteStore]:
    yield from audited(backend)


def put(store: SqliteStore, jobs: int, payload: bytes = b"1") -> None:
    with store.transaction(NOW) as tx:
        tx.insert([Group("q", [NewJob(payload)] * jobs)])


def lease(store: SqliteStore, jobs: int) -> int:
    with store.transaction(NOW) as tx:
        found = tx.lease("q", 1, jobs, 1 << 30)
        assert found is not None
        return found.token


def work(tx: Tx, token: int) -> None:
    """Something of everything that a keeper does in one turn; job 1 to 3 are held, 4 waits."""
    tx.complete(token, [Completion(1, NOW, NOW), Completion(2, NOW, NOW, b"{}")])
    tx.reschedule(token, 3, NOW + 9, History(1), AttemptError("error", "it broke"), solo=False)
    tx.lease("q", 1, 1, 1 << 30)
    tx.insert([Group("q", [NewJob(b"5")], "key")])
    tx.advance(1, 7, 64)


def counts(store: SqliteStore) -> dict[str, int]:
    with store.transaction(NOW) as tx:
        return {state.value: jobs for state, jobs in tx.counts()["q"].items() if jobs}


BEFORE = {"running": 3, "queued": 1}
AFTER = {"completed": 2, "scheduled": 1, "running": 1, "queued": 1}


@pytest.mark.parametrize("statement", ["INSERT ON outcome", "INSERT ON trail", "DELETE ON ready", "UPDATE ON meta"])
@pytest.mark.parametrize("damage", ["ROLLBACK", "ABORT", "FAIL"])
def test_an_error_of_sqlite_anywhere_undoes_everything(
    backend: SqliteBackend, store: SqliteStore, statement: str, damage: str
) -> None:
    """ROLLBACK is what a full disk does: SQLite has ended the transaction itself."""
    put(store, 4)
    token = lease(store, 3)
    before = backend.places()
    trigger = f"CREATE TEMP TRIGGER fault BEFORE {statement} BEGIN SELECT RAISE({damage}, 'planted'); END"
    store.connection.execute(trigger)
    for _ in range(2):
        with pytest.raises(StoreError, match="planted"), store.transaction(NOW) as tx:
            work(tx, token)
    store.connection.execute("DROP TRIGGER fault")
    assert (backend.places(), counts(store)) == (before, BEFORE)
    with store.transaction(NOW) as tx:
        work(tx, token)
    assert counts(store) == AFTER


@pytest.mark.parametrize("action", ["enospc", "eio"])
def test_a_commit_that_fails_is_a_store_error_and_can_be_tried_again(
    backend: SqliteBackend, store: SqliteStore, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    put(store, 4)
    token = lease(store, 3)
    before = backend.places()
    failpoint.rearm({"JOBSUP_FAILPOINTS": f"store.before_commit={action}@2"})
    try:
        assert counts(store) == BEFORE
        with pytest.raises(StoreError, match="failpoint"), store.transaction(NOW) as tx:
            work(tx, token)
        assert (backend.places(), counts(store)) == (before, BEFORE)
        with store.transaction(NOW) as tx:
            work(tx, token)
    finally:
        failpoint.rearm({})
    assert counts(store) == AFTER


@pytest.mark.parametrize(("point", "stored"), [("store.before_commit", False), ("store.after_commit", True)])
def test_a_kill_around_the_commit_leaves_all_or_nothing(
    backend: SqliteBackend, store: SqliteStore, tmp_path: Path, point: str, stored: bool
) -> None:
    put(store, 4)
    token = lease(store, 3)
    code = f"""
from supervisor.store.open import open_store
from tests.unit.test_store_faults import NOW, work
with open_store({str(backend.path)!r}, "full", create=False, migrate=False).transaction(NOW) as tx:
    work(tx, {token})
"""
    environ = {**os.environ, "JOBSUP_FAILPOINTS": f"{point}=kill", "JOBSUP_FAILPOINT_DIR": str(tmp_path / "strikes")}
    ended = subprocess.run([sys.executable, "-c", code], env=environ, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert (tmp_path / "strikes" / "hits").read_text().startswith(point)
    assert counts(store) == (AFTER if stored else BEFORE)
    with store.transaction(NOW) as tx:
        (again,) = tx.insert([Group("q", [NewJob(b"5")], "key")])
    assert again.repeated is stored


def test_a_database_that_may_not_grow_refuses_and_goes_on(backend: SqliteBackend, store: SqliteStore) -> None:
    put(store, 4)
    token = lease(store, 3)
    pages = store.connection.execute("PRAGMA page_count").fetchone()[0]
    store.connection.execute(f"PRAGMA max_page_count = {pages + 8}")
    before = backend.places()
    for size in (1, 40, 1):
        with pytest.raises(StoreError, match="full"):
            put(store, size, b"x" * 60_000)
    assert (backend.places(), counts(store)) == (before, BEFORE)
    store.connection.execute("PRAGMA max_page_count = 1000000")
    with store.transaction(NOW) as tx:
        work(tx, token)
    assert counts(store) == AFTER


def test_a_locked_database_is_refused_soon_and_resumes_by_itself(backend: SqliteBackend, store: SqliteStore) -> None:
    put(store, 4)
    token = lease(store, 3)
    other = backend.open()
    with other.transaction(NOW) as tx:
        tx.insert([Group("q", [NewJob(b"5")])])
        for _ in range(2):
            with pytest.raises(StoreError, match="locked"), store.transaction(NOW) as mine:
                work(mine, token)
    other.close()
    with store.transaction(NOW) as tx:
        work(tx, token)
    assert counts(store) == {**AFTER, "queued": 2}


def test_an_error_of_the_callers_own_passes_as_it_is(store: SqliteStore) -> None:
    put(store, 1)
    with pytest.raises(ZeroDivisionError), store.transaction(NOW) as tx:
        tx.cancel(1)
        raise ZeroDivisionError
    with store.transaction(NOW) as tx:
        assert tx.standing([1])[1].state is State.QUEUED


def test_text_that_cannot_be_stored_stores_nothing(backend: SqliteBackend, store: SqliteStore) -> None:
    put(store, 1)
    before = backend.places()
    for job in (NewJob(b"\xff"), NewJob(b"1", 2**63), NewJob(b"1", 0, NOW + 2**63)):
        with pytest.raises((ValueError, OverflowError)), store.transaction(NOW) as tx:
            tx.insert([Group("q", [NewJob(b"2"), job])])
    assert backend.places() == before
    put(store, 1)
    assert counts(store) == {"queued": 2}


def test_rows_that_cannot_be_read_are_a_store_error_every_time(backend: SqliteBackend, store: SqliteStore) -> None:
    put(store, 1)
    lease(store, 1)
    (sound,) = store.connection.execute("SELECT jobs FROM lease").fetchone()
    other = backend.open()
    other.connection.execute("UPDATE lease SET jobs = 'no JSON'")
    for _ in range(2):
        with pytest.raises(StoreError, match="malformed JSON"), store.transaction(NOW):
            pass
    other.connection.execute("UPDATE lease SET jobs = ?", (sound.decode(),))
    other.close()
    assert counts(store) == {"running": 1}


# -- checkpoints ---------------------------------------------------------------------------------------------------


def test_a_checkpoint_moves_the_wal_into_the_file(store: SqliteStore) -> None:
    put(store, 100, b"x" * 1_000)
    assert store.wal_bytes() > 100_000
    pages, moved = store.checkpoint()
    assert pages == moved > 0
    store.checkpoint("TRUNCATE")
    assert store.wal_bytes() == 0


def test_a_reader_delays_a_checkpoint_and_fails_nothing(backend: SqliteBackend, store: SqliteStore) -> None:
    put(store, 1)
    with backend.look() as reader:
        reader.execute("SELECT count(*) FROM job").fetchone()
        put(store, 100, b"x" * 1_000)
        _, moved = store.checkpoint("RESTART")
        put(store, 1)
    pages, all_moved = store.checkpoint("TRUNCATE")
    assert (pages, all_moved) == (0, 0)
    assert moved >= 0
    assert store.wal_bytes() == 0


def test_closing_leaves_one_file(backend: SqliteBackend) -> None:
    store = backend.open()
    put(store, 5)
    store.close()
    store.close()
    assert os.listdir(backend.path.parent) == ["jobs.db"]


def test_a_closed_store_refuses(backend: SqliteBackend) -> None:
    store = backend.open()
    store.close()
    with pytest.raises(StoreError), store.transaction(NOW):
        pass
    with pytest.raises(StoreError):
        store.checkpoint()
    assert store.wal_bytes() == 0
