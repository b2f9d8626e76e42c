"""Where a database may lie, and what is refused, with its reason and before a byte of it is changed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from supervisor.errors import EXIT_IO, EXIT_NEWER, NoDatabase, StoreError, StoreNewer
from supervisor.job import State
from supervisor.store import open as opening
from supervisor.store.driver import sqlite3
from supervisor.store.history import Search
from supervisor.store.open import file_system_of, open_store
from supervisor.store.protocol import Completion, Group, NewJob
from supervisor.store.sqlite.migrations import APPLICATION_ID, MIGRATIONS, known
from supervisor.store.sqlite.store import SqliteStore
from tests.support.disciplines import by_name
from tests.support.small_disk import python_on

NOW = 1_700_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


def opened(path: Path | str, *, create: bool = True, migrate: bool = True, durability: str = "full") -> SqliteStore:
    return open_store(str(path), durability, create=create, migrate=migrate)


def made(path: Path) -> Path:
    """A database of ours with one job in it."""
    store = opened(path)
    with store.transaction(NOW) as tx:
        tx.insert([Group("q", [NewJob(b"1")])])
    store.close()
    return path


def asked(path: Path, question: str) -> Any:
    """One value, on a connection of its own; nothing else has the file open."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute(question).fetchone()[0]
    finally:
        connection.close()


def told(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


# -- making and opening --------------------------------------------------------------------------------------------


def test_a_new_database_is_wal_and_ours_alone(path: Path) -> None:
    old = os.umask(0)
    try:
        store = opened(path)
        with store.transaction(NOW) as tx:
            tx.count_stale(1)
        modes = {name.name: oct(name.stat().st_mode & 0o777) for name in path.parent.iterdir()}
    finally:
        os.umask(old)
    assert modes == dict.fromkeys(("jobs.db", "jobs.db-wal", "jobs.db-shm"), "0o600")
    store.close()
    assert asked(path, "PRAGMA journal_mode") == "wal"
    assert asked(path, "PRAGMA application_id") == APPLICATION_ID


@pytest.mark.parametrize(("durability", "synchronous"), [("full", 2), ("relaxed", 1)])
def test_durability_decides_what_is_synced(path: Path, durability: str, synchronous: int) -> None:
    store = opened(path, durability=durability)
    assert store.connection.execute("PRAGMA synchronous").fetchone()[0] == synchronous
    assert store.connection.execute("PRAGMA wal_autocheckpoint").fetchone()[0] == 0
    store.close()


@pytest.mark.parametrize(
    "name", ["a b.db", "50%.db", "what?.db", "a#b.db", "a\nb.db", "ü☃.db", "file:x.db", "a'b\".db"]
)
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    made(tmp_path / name)
    opened(tmp_path / name, create=False).close()
    assert os.listdir(tmp_path) == [name]


def test_a_symbolic_link_leads_to_the_one_real_file(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.db").symlink_to(tmp_path / "real" / "jobs.db")
    opened(tmp_path / "link.db").close()
    assert os.listdir(tmp_path / "real") == ["jobs.db"]
    opened(tmp_path / "link.db", create=False).close()


def test_an_empty_file_becomes_a_database(path: Path) -> None:
    path.touch()
    opened(path).close()
    assert asked(path, "PRAGMA user_version") == len(known())


# -- refusals ------------------------------------------------------------------------------------------------------


def test_a_missing_database_is_made_only_when_asked(path: Path) -> None:
    with pytest.raises(NoDatabase, match="there is no database yet") as refused:
        opened(path, create=False)
    assert (refused.value.code, refused.value.exit_status) == ("no_database", EXIT_IO)
    assert "jobsupd" in str(refused.value.hint)
    assert os.listdir(path.parent) == []


def test_a_missing_folder_is_named_with_the_way_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="missing: No such file or directory") as refused:
        opened(tmp_path / "missing" / "jobs.db")
    assert refused.value.hint == f"mkdir -p {tmp_path / 'missing'}"
    assert refused.value.exit_status == EXIT_IO


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="Not a directory"):
        opened(tmp_path / "file" / "jobs.db")


@pytest.mark.parametrize("kind", ["directory", "fifo", "loop"])
def test_what_is_no_regular_file_is_refused_without_waiting(path: Path, kind: str) -> None:
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path)
    with pytest.raises(StoreError, match=r"is not a regular file|symbolic links"):
        opened(path)


def test_hard_links_are_refused(path: Path) -> None:
    os.link(made(path), path.with_suffix(".other"))
    with pytest.raises(StoreError, match="has 2 hard links"):
        opened(path)


def test_a_file_that_is_no_database_is_refused_unchanged(path: Path) -> None:
    path.write_bytes(b"These are my notes about jobs.\n" * 200)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="file is not a database"):
        opened(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["jobs.db"]


def test_a_truncated_database_is_refused(path: Path) -> None:
    made(path)
    path.write_bytes(path.read_bytes()[:8192])
    with pytest.raises(StoreError, match="malformed"):
        opened(path)


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_another_programs_database_is_refused_unchanged(path: Path, journal: str) -> None:
    told(path, f"PRAGMA journal_mode = {journal}", "CREATE TABLE customer (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="is a database of another program"):
        opened(path)
    assert path.read_bytes() == before


def test_a_newer_database_is_refused_unchanged(path: Path) -> None:
    told(made(path), "INSERT INTO _sqlite_migrations VALUES (99, 'jobsup', 'm999_from_the_future', 'now')")
    before = path.read_bytes()
    for migrate in (True, False):
        with pytest.raises(StoreNewer, match="m999_from_the_future") as refused:
            opened(path, migrate=migrate)
    assert refused.value.exit_status == EXIT_NEWER
    assert path.read_bytes() == before


def test_a_newer_database_that_was_killed_is_refused_with_its_wal_unchanged(path: Path) -> None:
    insert = "INSERT INTO _sqlite_migrations VALUES (99, 'jobsup', 'm999_from_the_future', 'now')"
    code = (
        f"import os, signal; from supervisor.store.driver import sqlite3; db = sqlite3.connect({str(made(path))!r})\n"
    )
    code += f"db.execute({insert!r}); db.commit(); os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", code], check=False)
    before = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    assert before[1]
    with pytest.raises(StoreNewer):
        opened(path)
    assert (path.read_bytes(), Path(f"{path}-wal").read_bytes()) == before


def test_a_read_only_file_system_is_refused(tmp_path: Path) -> None:
    made(tmp_path / "jobs.db")
    code = """
import sys
from supervisor.errors import StoreError
from supervisor.store.open import open_store
for name in ("jobs.db", "new.db"):
    try:
        open_store(f"{sys.argv[1]}/{name}", "full", create=True, migrate=True)
    except StoreError as error:
        print(error.message)
"""
    said = python_on(tmp_path, code, size=None).splitlines()
    assert said == [f"{tmp_path}/{name}: {tmp_path} is read-only for this user" for name in ("jobs.db", "new.db")]


def test_a_read_only_file_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(path)
    monkeypatch.setattr(os, "access", lambda name, mode: name != str(path))
    with pytest.raises(StoreError, match=r"jobs\.db is read-only for this user"):
        opened(path)


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
31 22 0:26 / /mnt/office\\040files rw,relatime - nfs4 server:/export rw
32 22 0:27 / /mnt/share rw - fuse.sshfs me@host:/ rw,user_id=0
short line
"""


def instead_of(path: Path) -> Callable[..., Any]:
    """An `open` that opens this file, whatever it is asked for."""
    return lambda _, **how: path.open(**how)


@pytest.mark.parametrize(
    ("device", "kind"),
    [((254, 0), "ext4"), ((0, 26), "nfs4"), ((0, 27), "fuse.sshfs"), ((0, 2), "unknown"), ((8, 1), "unknown")],
)
def test_the_file_system_is_found_by_its_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: tuple[int, int], kind: str
) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    monkeypatch.setattr(opening, "open", instead_of(tmp_path / "mountinfo"), raising=False)
    assert file_system_of(os.makedev(*device)) == kind


def test_a_kernel_that_tells_no_mounts_is_no_reason_to_refuse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(opening, "open", instead_of(tmp_path / "missing"), raising=False)
    assert file_system_of(os.stat(tmp_path).st_dev) == "unknown"


def test_the_mounts_of_this_machine_can_be_read() -> None:
    assert file_system_of(os.stat("/proc").st_dev) == "proc"


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "9p", "fuse.sshfs"])
def test_a_network_file_system_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    made(path)
    monkeypatch.setattr(opening, "file_system_of", lambda _: kind)
    with pytest.raises(StoreError, match=rf"network file system \({kind}\)") as refused:
        opened(path)
    assert refused.value.hint == "put [daemon] database on a local disk"


# -- while open ----------------------------------------------------------------------------------------------------


def test_what_happens_to_the_file_under_us_is_noticed(path: Path) -> None:
    store = opened(path)
    assert store.lost() is None
    os.link(path, path.with_suffix(".other"))
    assert store.lost() == "hard-linked"
    os.unlink(path.with_suffix(".other"))
    assert store.lost() is None
    os.rename(path, path.with_suffix(".away"))
    assert store.lost() == "deleted"
    path.write_bytes(path.with_suffix(".away").read_bytes()[:0])
    assert store.lost() == "replaced"
    os.unlink(path)
    os.rename(path.with_suffix(".away"), path)
    assert store.lost() is None
    store.close()


# -- migrations ----------------------------------------------------------------------------------------------------


def schema(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    try:
        return [row[0] for row in connection.execute("SELECT name FROM sqlite_schema ORDER BY name")]
    finally:
        connection.close()


def test_the_migrations_that_this_version_knows_are_those_that_it_has() -> None:
    assert [migration.name for migration in MIGRATIONS.pending(Database(memory=True))] == known()


def test_every_migration_is_marked_as_applied(path: Path) -> None:
    made(path)
    names = [row["name"] for row in Database(sqlite3.connect(path))["_sqlite_migrations"].rows]
    assert names == known()


@pytest.mark.parametrize("step", range(1, len(known()) + 1))
def test_a_kill_in_the_middle_of_a_migration_leaves_nothing_of_it(path: Path, tmp_path: Path, step: int) -> None:
    strikes = tmp_path / "strikes"
    strikes.mkdir()
    code = f"from supervisor.store.open import open_store; open_store({str(path)!r}, 'full', create=True, migrate=True)"
    environ = {**os.environ, "JOBSUP_FAILPOINTS": f"migrate.step=kill@{step}", "JOBSUP_FAILPOINT_DIR": str(strikes)}
    ended = subprocess.run([sys.executable, "-c", code], env=environ, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert (strikes / "hits").read_text().startswith("migrate.step ")
    assert schema(path) == []
    assert asked(path, "PRAGMA user_version") == 0
    opened(path).close()
    assert asked(path, "PRAGMA user_version") == len(known())


WITHOUT_QUEUES = (
    "INSERT INTO lane (id, queue) VALUES (1, 'q')",
    "INSERT INTO job VALUES (1, 1, 0, 1, 0, 1, NULL, NULL, 'null')",
)
WITH_QUEUES = (
    "INSERT INTO queue (id, name, ranking) VALUES (1, 'q', '')",
    "INSERT INTO lane (id, queue, jobs) VALUES (1, 1, 1)",
    "INSERT INTO job VALUES (1, 1, 0, 1, 0, 1, NULL, NULL, 'null', 1)",
)
"""What one job is, in the tables of older versions."""


def at_version(path: Path, version: int) -> Path:
    """A database as an older version of jobsup left it, with one job in it."""
    connection = sqlite3.connect(path, isolation_level=None)
    db = Database(connection, execute_plugins=False)
    MIGRATIONS.apply(db, stop_before=known()[version])
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {version}")
    for statement in WITHOUT_QUEUES if version < 3 else WITH_QUEUES:
        connection.execute(statement)
    connection.execute("INSERT INTO ready VALUES (1, 0, 1, 1, 0)")
    connection.execute("INSERT INTO tally VALUES (1, 'queued', 1)")
    connection.execute("UPDATE meta SET value = 2 WHERE name = 'next_id'")
    connection.close()
    return path


@pytest.mark.parametrize("version", range(1, len(known())))
def test_an_older_database_is_migrated_with_its_jobs(path: Path, version: int) -> None:
    store = opened(at_version(path, version))
    with store.transaction(NOW) as tx:
        assert tx.waiting("q") == 1
        found = tx.lease("q", 1, 10, 1_000)
    assert found is not None
    assert [job.id for job in found.jobs] == [1]
    store.close()


LIVED = """
INSERT INTO lane (id, queue, paused) VALUES (1, 'q', 0), (2, 'lifo', 0), (3, 'priority', 0), (4, 'stopped', 1);
INSERT INTO job (id, lane, band, pos, priority, enqueued_at, due_at, options, payload) VALUES
  (1, 1, 0, 1, 0, 1, NULL, NULL, '"waits"'), (2, 1, 0, 2, 0, 1, NULL, NULL, '"waits behind it"'),
  (3, 1, 0, 3, 0, 1, 5, NULL, '"is scheduled"'), (4, 1, 0, 4, 0, 1, NULL, NULL, '"runs"'),
  (5, 1, 0, 5, 0, 1, NULL, '{"tags":["a"]}', '"is completed"'), (6, 1, 0, 6, 0, 1, NULL, NULL, '"is dead"'),
  (7, 2, 0, -7, 0, 1, NULL, NULL, '"came first"'), (8, 2, 0, -8, 0, 1, NULL, NULL, '"came last"'),
  (9, 3, -1, 9, 1, 1, NULL, NULL, '"is less urgent"'), (10, 3, -9, 10, 9, 1, NULL, NULL, '"is more urgent"'),
  (11, 4, 0, 11, 0, 1, NULL, NULL, '"waits in a paused queue"'), (12, 4, 0, 12, 0, 1, NULL, NULL, '"is cancelled"'),
  (13, 1, 0, 13, 0, 1, NULL, NULL, '"waits for its retry"');
INSERT INTO ready (lane, band, pos, id, mark) VALUES
  (1, 0, 1, 1, 0), (1, 0, 2, 2, 1), (2, 0, -7, 7, 0), (2, 0, -8, 8, 0), (3, -1, 9, 9, 0), (3, -9, 10, 10, 0),
  (4, 0, 11, 11, 0);
INSERT INTO scheduled (due_at, id) VALUES (5, 3), (9, 13);
INSERT INTO owner (id, host, boot, epoch, slot, incarnation, pool, directory, pid, start_time)
  VALUES (1, 'h', 'b', 1, 1, 7, 'q', '/s', 1, 1);
INSERT INTO lease (token, owner, lane, leased_at, jobs) VALUES (1, 1, 1, 2, '[[4,0,4,0,1]]');
INSERT INTO outcome (id, state, attempt, token, started_at, finished_at, result, reason) VALUES
  (5, 'completed', 1, 1, 2, 3, '{"n":1}', NULL), (6, 'dead', 5, 1, 2, 3, NULL, 'failures'),
  (12, 'cancelled', 0, 0, NULL, 3, NULL, 'cancelled by a client');
INSERT INTO trail (id, failures, crashes, interruptions, band, pos, due_at, solo, last_error) VALUES
  (2, 1, 0, 0, 0, 2, NULL, 0, 'it broke'), (6, 5, 0, 0, 0, 6, NULL, 0, 'it broke'),
  (13, 2, 0, 0, 0, 13, 9, 0, 'so did it');
INSERT INTO attempt (id, seq, attempt, at, kind, message) VALUES (2, 1, 1, 3, 'error', 'it broke');
INSERT INTO tally (lane, state, jobs) VALUES
  (1, 'queued', 2), (1, 'scheduled', 2), (1, 'running', 1), (1, 'completed', 1), (1, 'dead', 1), (2, 'queued', 2),
  (3, 'queued', 2), (4, 'queued', 1), (4, 'cancelled', 1);
INSERT INTO request (seq, key, at, first_id, jobs) VALUES (1, 'r', 1, 7, 2);
UPDATE meta SET value = 14 WHERE name IN ('next_id', 'next_sequence');
UPDATE meta SET value = 2 WHERE name = 'next_token';
"""
STOOD = {
    "q": {"queued": 2, "scheduled": 2, "running": 1, "completed": 1, "dead": 1}, "lifo": {"queued": 2},
    "priority": {"queued": 2}, "stopped": {"queued": 1, "cancelled": 1},
}  # fmt: skip


def lived_in(path: Path, version: int) -> Path:
    """A database of an older version with jobs in every state, in several queues; it began as one without keys."""
    connection = sqlite3.connect(path, isolation_level=None)
    db = Database(connection, execute_plugins=False)
    MIGRATIONS.apply(db, stop_before=known()[min(version, 2)])
    connection.executescript(LIVED)
    MIGRATIONS.apply(db, stop_before=known()[version])
    connection.executescript(
        f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version}; PRAGMA journal_mode = WAL;"
    )
    connection.close()
    return path


@pytest.mark.parametrize("version", range(1, len(known())))
def test_jobs_of_an_older_version_stand_where_they_stood(path: Path, version: int) -> None:
    store = opened(lived_in(path, version))
    store.govern(by_name)
    with store.transaction(NOW) as tx:
        counts = {
            name: {str(state): jobs for state, jobs in found.items() if jobs} for name, found in tx.counts().items()
        }
        assert counts == STOOD
        standing = {job_id: str(found.state) for job_id, found in tx.standing(range(1, 20)).items()}
        assert standing == {
            1: "queued", 2: "queued", 3: "scheduled", 4: "running", 5: "completed", 6: "dead", 7: "queued", 8: "queued",
            9: "queued", 10: "queued", 11: "queued", 12: "cancelled", 13: "scheduled",
        }  # fmt: skip
        assert tx.paused("stopped")
        assert list(tx.known_request("r").ids) == [7, 8]  # type: ignore[union-attr]
    shown = store.connection.execute("SELECT id, queue, key, state FROM jobs ORDER BY id").fetchall()
    assert {row[0]: row[3].decode() for row in shown} == standing
    assert {row[2] for row in shown} == {b""}
    store.close()


@pytest.mark.parametrize("version", range(1, len(known())))
@pytest.mark.parametrize("reranked", [False, True])
def test_jobs_of_an_older_version_go_on_beside_new_ones(path: Path, version: int, reranked: bool) -> None:
    store = opened(lived_in(path, version))
    store.govern(by_name)
    with store.transaction(NOW) as tx:
        tx.insert([Group(queue, [NewJob(b"0")]) for queue in ("q", "lifo")])
        tx.insert([Group("priority", [NewJob(b"0", 5)])])
    while reranked:
        with store.transaction(NOW) as tx:
            reranked = tx.rerank(2)
    with store.transaction(NOW) as tx:
        orders = {queue: tx.lease(queue, 1, 10, 10_000) for queue in STOOD}
        assert {queue: [job.id for job in lease.jobs] if lease else [] for queue, lease in orders.items()} == {
            "q": [1, 2, 14], "lifo": [15, 8, 7], "priority": [10, 16, 9], "stopped": [],
        }  # fmt: skip
        second = orders["q"].jobs[1]  # type: ignore[union-attr]
        assert (second.attempt, second.previous_error) == (2, b"it broke")
        assert tx.promote(10) == 2
        due = tx.lease("q", 1, 10, 10_000)
        assert due is not None
        assert [(job.id, job.attempt) for job in due.jobs] == [(3, 1), (13, 3)]
        assert tx.complete(1, [Completion(4, NOW, NOW + 1, b"null")]) == []
        tx.pause("stopped", paused=False)
        resumed = tx.lease("stopped", 1, 10, 10_000)
        assert resumed is not None
        assert [job.id for job in resumed.jobs] == [11]
        assert tx.remove([5, 6, 12]) == 3
    with store.transaction(NOW) as tx:
        assert tx.counts()["q"] == {**dict.fromkeys(State, 0), State.RUNNING: 5, State.COMPLETED: 1}
    store.close()


@pytest.mark.parametrize(
    ("version", "step"), [(old, step) for old in range(1, len(known())) for step in range(1, len(known()) - old + 1)]
)
def test_a_kill_at_any_step_leaves_an_older_database_as_it_was(
    path: Path, tmp_path: Path, version: int, step: int
) -> None:
    before = contents(lived_in(path, version))
    (tmp_path / "strikes").mkdir()
    code = f"from supervisor.store.open import open_store; open_store({str(path)!r}, 'full', create=True, migrate=True)"
    points = {"JOBSUP_FAILPOINTS": f"migrate.step=kill@{step}", "JOBSUP_FAILPOINT_DIR": str(tmp_path / "strikes")}
    ended = subprocess.run([sys.executable, "-c", code], env={**os.environ, **points}, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert contents(path) == before
    opened(path).close()
    assert asked(path, "PRAGMA user_version") == len(known())
    assert asked(path, "SELECT count(*) FROM jobs WHERE state = 'queued'") == 7


def contents(path: Path) -> dict[str, Any]:
    """All that is in a database: its schema, and every row of every table."""
    connection = sqlite3.connect(path)
    try:
        tables = connection.execute("SELECT name, sql, type FROM sqlite_schema ORDER BY name").fetchall()
        rows = {
            name: connection.execute(f"SELECT * FROM {name}").fetchall() for name, _, kind in tables if kind == "table"
        }
        return {"": tables, **rows, "version": connection.execute("PRAGMA user_version").fetchall()}
    finally:
        connection.close()


@pytest.mark.parametrize("version", range(1, len(known())))
@pytest.mark.parametrize("action", ["kill", "enospc"])
def test_an_older_database_stays_what_it_was_if_its_migration_fails(
    path: Path, tmp_path: Path, version: int, action: str
) -> None:
    before = schema(at_version(path, version))
    code = f"from supervisor.store.open import open_store; open_store({str(path)!r}, 'full', create=True, migrate=True)"
    environ = {**os.environ, "JOBSUP_FAILPOINTS": f"migrate.step={action}"}
    ended = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    if action == "kill":
        assert ended.returncode == -signal.SIGKILL
    else:
        assert "StoreError" in ended.stderr
        assert "no space left on device" in ended.stderr
    assert schema(path) == before
    assert asked(path, "PRAGMA user_version") == version


def test_who_may_not_migrate_leaves_an_older_database_unchanged(path: Path) -> None:
    told(at_version(path, 1), "PRAGMA journal_mode = WAL")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="needs a migration") as refused:
        opened(path, migrate=False)
    assert "jobsupd" in str(refused.value.hint)
    assert path.read_bytes() == before


# -- a full disk ---------------------------------------------------------------------------------------------------

FILL = """
import json, os, sys
from supervisor.errors import StoreError
from supervisor.job import State
from supervisor.store.open import open_store
from supervisor.store.protocol import Completion, Group, NewJob

folder = sys.argv[1]
ballast = f"{folder}/ballast"
with open(ballast, "wb") as file:
    file.write(bytes(512 * 1024))
store = open_store(f"{folder}/jobs.db", "full", create=True, migrate=True)
sequence = 0

def put(jobs=4):
    with store.transaction(1_000) as tx:
        return list(tx.insert([Group("q", [NewJob(b"x" * 3000)] * jobs)])[0].ids)

acknowledged, refusals = [], []
while not refusals:
    try:
        acknowledged += put()
    except StoreError as error:
        refusals.append(error.message)
for _ in range(5):
    try:
        acknowledged += put(64)
    except StoreError as error:
        refusals.append(error.message)

def waiting():
    with store.transaction(1_000) as tx:
        return tx.waiting("q")

seen_while_full = waiting()
os.unlink(ballast)
acknowledged += put()
with store.transaction(2_000) as tx:
    lease = tx.lease("q", 1, 10, 1 << 30)
    stale = tx.complete(lease.token, [Completion(job.id, 1_000, 1_001) for job in lease.jobs])
with store.transaction(2_000) as tx:
    found = {job_id: stand.state.value for job_id, stand in tx.standing(range(1, 100_000)).items()}
    counts = {state.value: jobs for state, jobs in tx.counts()["q"].items() if jobs}
sound = store.connection.execute("PRAGMA integrity_check").fetchone()[0].decode()
store.close()
print(json.dumps([acknowledged, refusals, seen_while_full, sorted(found), counts, stale, sound]))
"""


def test_a_full_disk_refuses_what_it_cannot_store_and_loses_nothing(tmp_path: Path) -> None:
    said = python_on(tmp_path, FILL, size="2m")
    acknowledged, refusals, seen_while_full, found, counts, stale, sound = json.loads(said)
    assert len(refusals) == 6
    assert all("full" in refusal for refusal in refusals), refusals
    assert seen_while_full == len(acknowledged) - 4
    assert found == acknowledged
    assert counts == {"queued": len(acknowledged) - 10, "completed": 10}
    assert stale == []
    assert sound == "ok"


KEYED = """
INSERT INTO queue (id, name) VALUES (1, 'fifo'), (2, 'lifo');
INSERT INTO lane (id, queue, key, jobs) VALUES (1, 1, '', 0), (2, 1, 'acme', 2), (3, 2, '', 0), (4, 2, 'acme', 1);
INSERT INTO job (id, lane, queue, band, pos, priority, enqueued_at, payload) VALUES
  (1, 1, 1, 0, 1, 0, 1, '1'), (2, 2, 1, 0, 2, 0, 1, '1'), (3, 3, 2, 0, 3, 0, 1, '1'), (4, 4, 2, 0, 4, 0, 1, '1'),
  (5, 2, 1, 0, 5, 0, 1, '1');
INSERT INTO outcome (id, state, attempt, token, finished_at) SELECT id, 'completed', 1, 1, 2 FROM job;
INSERT INTO tally VALUES (1, 'completed', 3), (2, 'completed', 2);
UPDATE meta SET value = 6 WHERE name = 'next_id';
"""
"""Keys of a version that could not find by them; there the lane of jobs without a key may have any number."""


def test_jobs_with_keys_of_an_older_version_are_found_by_them(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    MIGRATIONS.apply(Database(connection, execute_plugins=False), stop_before="m007_keys")
    connection.executescript(f"{KEYED} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 6;")
    connection.close()
    store = opened(path)
    store.govern(by_name)
    with store.transaction(NOW) as tx:
        tx.insert([Group(queue, [NewJob(b"1"), NewJob(b"1", key="acme")]) for queue in ("lifo", "priority")])
    with store.transaction(NOW) as tx:
        assert tx.ids_of_key("acme", None, 0, 99) == [2, 4, 5, 7, 9]
        assert tx.ids_of_key("acme", "lifo", 0, 99) == [4, 7]
        assert tx.meant(range(1, 10), Search(key="")) == [1, 3, 6, 8]
    store.close()
