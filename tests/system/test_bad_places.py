"""Bad places for database, socket and run_dir, on a real daemon: refused with the cause, or left in time."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

import pytest

from supervisor.client import Client
from supervisor.errors import Busy, JobsupError
from supervisor.store.open import open_store
from tests.support.daemon import Daemon, Ran, Site, environment
from tests.support.place import mounted, read_only, small_disk
from tests.support.waiting import until

TOML = """
[daemon]
python_path = ["../app"]
shutdown_grace = "1s"
{daemon}
[defaults]
workers = 1
[queues.q]
handler = "tasks:run"
"""
APP = {
    "tasks.py": """
import os, time

def run(job):
    payload = job.payload if isinstance(job.payload, dict) else {}
    with open(os.path.join(os.path.dirname(__file__), "ran"), "a") as file:
        file.write(f"{job.id}\\n")
    while "until" in payload and not os.path.exists(payload["until"]):
        time.sleep(0.01)
    return payload.get("result")
"""
}
SECONDS_TO_REFUSE = 5.0
"""A bound for a loaded machine: Python needs half a second to start there."""


def site(path: Path, daemon: str = "") -> Site:
    """A site whose folders are private, as the tests' folders are not."""
    return Site(path, TOML.format(daemon=daemon), APP)


def start(where: Site, *args: str, prefix: tuple[str, ...] = ()) -> Ran:
    """Run jobsupd where it must refuse to run; fails if it does not end soon."""
    command = [*prefix, sys.executable, "-m", "supervisor.cli.jobsupd", "-c", str(where.config), *args]
    done = subprocess.run(command, env=environment(), capture_output=True, timeout=SECONDS_TO_REFUSE, check=False)
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def made(path: Path) -> Path:
    """A database of ours."""
    open_store(str(path), "full", create=True, migrate=True).close()
    return path


def told(path: Path, *statements: str) -> None:
    """Change a database as another program would."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


# -- places where a daemon refuses to start ------------------------------------------------------------------------


def no_database(where: Site) -> None:
    where.database.write_bytes(b"These are my notes about jobs.\n" * 200)


def of_another_program(where: Site) -> None:
    told(where.database, "CREATE TABLE customer (name TEXT)")


def newer(where: Site) -> None:
    insert = "INSERT INTO _sqlite_migrations VALUES (99, 'jobsup', 'm999_from_the_future', 'now')"
    told(made(where.database), insert)


def hard_linked(where: Site) -> None:
    os.link(made(where.database), where.path / "other.db")


def a_folder(where: Site) -> None:
    where.database.mkdir()


def a_fifo(where: Site) -> None:
    os.mkfifo(where.database)


def a_fifo_as_lock(where: Site) -> None:
    os.mkfifo(f"{where.database}.lock")


def a_file_as_socket(where: Site) -> None:
    where.run_dir.mkdir()
    where.socket.write_text("precious")


def nothing(where: Site) -> None:
    """The configuration is what is bad."""


class Bad(NamedTuple):
    """How a place is made bad, what [daemon] says of it, what jobsupd ends with and says, and jobsctl enqueue."""

    make: Callable[[Site], None]
    daemon: str
    status: int
    said: str
    enqueue: int


BAD = {
    "database in a missing folder": Bad(nothing, 'database = "../gone/jobs.db"', 74, "mkdir -p", 4),
    "database below a file": Bad(nothing, 'database = "queues.toml/jobs.db"', 74, "queues.toml", 4),
    "not a database": Bad(no_database, "", 74, "file is not a database", 1),
    "another program's database": Bad(of_another_program, "", 74, "is a database of another program", 1),
    "newer database": Bad(newer, "", 78, "was written by a newer version of jobsup (m999_from_the_future)", 1),
    "hard-linked database": Bad(hard_linked, "", 74, "has 2 hard links", 1),
    "a folder as database": Bad(a_folder, "", 74, "is not a regular file", 1),
    "a FIFO as database": Bad(a_fifo, "", 74, "is not a regular file", 1),
    "a FIFO as lock": Bad(a_fifo_as_lock, "", 74, "is not a regular file", 4),
    "a file as run_dir": Bad(nothing, 'run_dir = "queues.toml"', 2, "queues.toml: File exists", 4),
    "a file as socket": Bad(a_file_as_socket, "", 2, "is there already, and no socket", 4),
    "a socket path too long": Bad(nothing, f'run_dir = "{"r" * 100}"', 2, "the kernel takes 107", 2),
}


def contents(folder: Path) -> dict[str, bytes | int]:
    """Every file's bytes, and what else there is; SQLite's own index of a WAL apart, which readers write."""
    found: dict[str, bytes | int] = {}
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        if path.suffix in (".db-shm", ".db-wal") or path.name.endswith(".lock"):
            continue
        found[str(path.relative_to(folder))] = path.read_bytes() if stat.S_ISREG(facts.st_mode) else facts.st_mode
    return found


@pytest.mark.parametrize("name", BAD)
def test_a_bad_place_is_refused_with_its_cause_and_unchanged(tmp_path: Path, name: str) -> None:
    bad = BAD[name]
    where = site(tmp_path, bad.daemon)
    bad.make(where)
    before = contents(tmp_path / "var")
    ran = start(where)
    assert (ran.status, bad.said in ran.err) == (bad.status, True), ran
    assert "Traceback" not in ran.err
    enqueued = where.ctl("enqueue", "q", "{}", "--json", timeout=SECONDS_TO_REFUSE)
    assert (enqueued.status, "error" in enqueued.json) == (bad.enqueue, True), enqueued
    if "FIFO" in name:
        assert where.ctl("status", timeout=SECONDS_TO_REFUSE).err.count("\n") <= 2
    assert contents(tmp_path / "var") == before
    assert not where.run_dir.is_dir() or sorted(os.listdir(where.run_dir)) in (
        ["jobsupd.lock"],
        ["jobsup.sock", "jobsupd.lock"],
    )
    if name == "a file as socket":
        assert where.socket.read_text() == "precious"


def test_a_read_only_file_system_is_refused_and_can_be_looked_at(tmp_path: Path) -> None:
    where = site(tmp_path)
    made(where.database)
    with read_only(where.database.parent) as place:
        ran = start(where, prefix=place.prefix)
        assert (ran.status, "Read-only file system" in ran.err) == (74, True), ran
    assert where.ctl("status", "--json").status == 0


def test_a_database_mounted_as_a_single_file_is_refused(tmp_path: Path) -> None:
    where = site(tmp_path)
    made(where.database)
    (tmp_path / "elsewhere.db").touch()
    with mounted(where.database, tmp_path / "elsewhere.db") as place:
        where.configure(TOML.format(daemon='database = "../elsewhere.db"'))
        ran = start(where, prefix=place.prefix)
    assert (ran.status, "is mounted as a single file" in ran.err) == (74, True), ran


# -- a second daemon -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("first"), TOML.format(daemon=""), app=APP) as daemon:
        yield daemon


def same_configuration(first: Daemon, path: Path) -> Site:
    return first


def same_run_dir(first: Daemon, path: Path) -> Site:
    return site(path, f'run_dir = "{first.run_dir}"')


def link_to_the_file(first: Daemon, path: Path) -> Site:
    (path / "link.db").symlink_to(first.database)
    return site(path, 'database = "../link.db"')


def link_to_the_folder(first: Daemon, path: Path) -> Site:
    (path / "link").symlink_to(first.database.parent)
    return site(path, 'database = "../link/jobs.db"')


SECOND = {
    "the same configuration": same_configuration,
    "the same run_dir": same_run_dir,
    "a symbolic link to the database": link_to_the_file,
    "a symbolic link to its folder": link_to_the_folder,
}


@pytest.mark.parametrize("name", SECOND)
def test_a_second_daemon_ends_at_once_naming_the_first(first: Daemon, tmp_path: Path, name: str) -> None:
    ran = start(SECOND[name](first, tmp_path))
    assert (ran.status, f"pid {first.pid}" in ran.err) == (75, True), ran
    assert first.wait_state(first.enqueue("q"), "completed")


def test_a_second_daemon_by_a_second_mount_of_the_folder_ends_at_once(first: Daemon, tmp_path: Path) -> None:
    second = site(tmp_path)
    with mounted(first.database.parent, tmp_path / "var") as place:
        ran = start(second, prefix=place.prefix)
    assert (ran.status, f"pid {first.pid}" in ran.err) == (75, True), ran
    assert first.wait_state(first.enqueue("q"), "completed")


def test_of_daemons_that_start_at_once_on_one_run_dir_one_runs(tmp_path: Path) -> None:
    """Neither finds a socket that the other answers on."""
    shared = f'run_dir = "{tmp_path / "run"}"'
    daemons = [Daemon(tmp_path / name, TOML.format(daemon=shared), app=APP) for name in "abc"]
    try:
        for daemon in daemons:
            daemon.start(ready=False)
        until(lambda: sum(daemon.running for daemon in daemons) == 1, 30, "all but one refused")
        (winner,) = [daemon for daemon in daemons if daemon.running]
        assert [daemon.status for daemon in daemons if daemon is not winner] == [75, 75]
        with Client(socket=str(tmp_path / "run" / "jobsup.sock")) as client:
            assert client.wait(client.enqueue("q", {"result": 7}), timeout=20)["result"] == 7
            assert client.request("hello")["pid"] == winner.pid
    finally:
        for daemon in daemons:
            daemon.sweep()


def test_a_daemon_that_starts_while_one_shot_keepers_work_takes_over_and_nothing_is_lost(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, TOML.format(daemon=""), app=APP)
    made(daemon.database)
    ids: list[int] = []
    stop = threading.Event()

    def load() -> None:
        with daemon.client() as client:
            while not stop.is_set():
                ids.append(client.enqueue("q"))

    loaders = [threading.Thread(target=load) for _ in range(2)]
    for loader in loaders:
        loader.start()
    try:
        until(lambda: len(ids) > 20)
        before = time.monotonic()
        with daemon:
            assert time.monotonic() - before < 10
            count = len(ids)
            until(lambda: len(ids) > count + 20)
            stop.set()
            for loader in loaders:
                loader.join(30)
            with daemon.client() as client:
                for job_id in ids:
                    assert client.wait(job_id, timeout=30)["state"] == "completed"
    finally:
        stop.set()
    assert len(set(ids)) == len(ids)


# -- a database that changes under a running daemon ----------------------------------------------------------------


def moved_away(database: Path) -> Callable[[], None]:
    database.rename(database.with_suffix(".away"))
    return lambda: database.with_suffix(".away").rename(database) and None


def replaced(database: Path) -> Callable[[], None]:
    made(database.with_suffix(".new"))
    shutil.copy(database, database.with_suffix(".old"))
    os.link(database, database.with_suffix(".kept"))
    database.with_suffix(".new").rename(database)

    def undo() -> None:
        assert not Path(f"{database}-wal").stat().st_size, "no WAL of one database must meet another"
        database.with_suffix(".kept").rename(database)

    return undo


def linked(database: Path) -> Callable[[], None]:
    os.link(database, database.with_suffix(".other"))
    return database.with_suffix(".other").unlink


def without_wal(database: Path) -> Callable[[], None]:
    Path(f"{database}-wal").unlink()
    return lambda: None


def without_lock(database: Path) -> Callable[[], None]:
    Path(f"{database}.lock").unlink()
    return lambda: None


CHANGED = {
    "separated from its lock": (without_lock, "was separated from its .lock file"),
    "moved away": (moved_away, "was deleted"),
    "replaced": (replaced, "was replaced"),
    "hard-linked": (linked, "was hard-linked"),
    "separated from its WAL": (without_wal, "was separated from its -wal file"),
}
NOTICED_S = 2.0


@pytest.mark.parametrize("name", CHANGED)
def test_a_database_that_changes_while_running_is_left_within_two_seconds_and_nothing_is_lost(
    tmp_path: Path, name: str
) -> None:
    change, said = CHANGED[name]
    with Daemon(tmp_path, TOML.format(daemon=""), app=APP) as daemon:
        with daemon.client(timeout="20s") as client:
            ids = [client.enqueue("q", {"result": number}) for number in range(20)]
            waiting = client.enqueue("q", delay="1h")
        undo = change(daemon.database)
        began = time.monotonic()
        until(lambda: said in daemon.log, NOTICED_S, "the notice in the log")
        assert daemon.wait_end(10) == 74
        assert time.monotonic() - began < 2 * NOTICED_S
        assert daemon.survivors() == []
        refused = daemon.ctl("enqueue", "q", "{}", "--json") if name == "moved away" else None
        assert refused is None or (refused.status, refused.json["error"]["code"]) == (4, "no_database")
        undo()
        daemon.start()
        with daemon.client() as client:
            assert [client.wait(job_id, timeout=20)["result"] for job_id in ids] == list(range(20))
            assert client.status(waiting)["state"] == "scheduled"
        assert sorted(map(int, (daemon.app / "ran").read_text().split())) == ids


def test_a_deleted_database_is_not_written_on_and_its_jobs_end_within_the_grace(tmp_path: Path) -> None:
    with Daemon(tmp_path, TOML.format(daemon=""), app=APP) as daemon:
        job_id = daemon.enqueue("q", {"until": str(tmp_path / "never")})
        until((daemon.app / "ran").exists)
        daemon.database.unlink()
        until(lambda: "was deleted" in daemon.log, NOTICED_S)
        with Client(socket=str(daemon.socket), timeout="2s") as client, pytest.raises(JobsupError) as refused:
            client.status(job_id)
        assert refused.value.exit_status in (4, 75)
        assert daemon.wait_end(10) == 74
        assert daemon.survivors() == []


# -- a database that another program locks ---------------------------------------------------------------------------


def test_whoever_waits_for_a_locked_database_hears_the_cause_before_the_time_is_up(tmp_path: Path) -> None:
    """Also who waits for no longer than a try to commit takes, and who asked for no new job."""
    with Daemon(tmp_path, TOML.format(daemon=""), app=APP) as daemon:
        scheduled = daemon.enqueue("q", {}, "--delay", "1h")
        holder = sqlite3.connect(daemon.database, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        for timeout in ("500ms", "1s", "2s"):
            with daemon.client(timeout=timeout) as client:
                for ask in (
                    lambda: client.enqueue("q"),
                    lambda: client.cancel(scheduled),
                    lambda: client.request("pause", queue="q"),
                    lambda: client.request("purge", queue="q", state="completed"),
                ):
                    with pytest.raises(Busy, match="locked"):
                        ask()
        holder.execute("ROLLBACK")
        holder.close()
        with daemon.client(timeout="10s") as client:
            client.cancel(scheduled)
            assert client.status(scheduled)["state"] == "cancelled"
            assert client.request("status")["queues"]["q"]["paused"] is False


# -- a full disk ---------------------------------------------------------------------------------------------------


def fill(folder: Path, *, leave_bytes: int = 0) -> Path:
    """Leave no more room than this; the file to delete."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
        file.truncate(max(0, file.tell() - leave_bytes))
    return ballast


class Load:
    """Clients that enqueue until they are told to stop: what was acknowledged, what was refused and how late."""

    def __init__(self, daemon: Daemon, clients: int) -> None:
        self.acknowledged: list[int] = []
        self.refused: list[tuple[float, JobsupError]] = []
        self._daemon = daemon
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self) -> None:
        with self._daemon.client(timeout="2s") as client:
            while not self._stop.is_set():
                began = time.monotonic()
                try:
                    self.acknowledged.append(client.enqueue("q", {"text": "x" * 2000}))
                except JobsupError as error:
                    self.refused.append((time.monotonic() - began, error))


def test_a_full_disk_under_load_refuses_with_the_cause_and_recovers_by_itself(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "var", "16m") as place,
        Daemon(tmp_path, TOML.format(daemon=""), app=APP, prefix=place.prefix) as daemon,
    ):
        var = place.see(daemon.database.parent)
        with Load(daemon, 4) as load:
            until(lambda: len(load.acknowledged) > 100, 20)
            fill(var)
            until(lambda: len(load.refused) >= 4, 20)
            assert daemon.ctl("status", "--json").json["daemon"]["store"].endswith("database or disk is full")
        assert {type(error) for _, error in load.refused} == {Busy}
        assert all("database or disk is full" in error.message for _, error in load.refused)
        assert all(seconds < 3 for seconds, _ in load.refused)
        with daemon.client(timeout="1s") as client:
            for _ in range(2):  # between them there is nothing to write: a store that fails by turns
                with pytest.raises(Busy, match="full"):
                    client.enqueue("q", "x" * 900_000)
        (var / "ballast").unlink()
        began = time.monotonic()
        with daemon.client(timeout="20s") as client:
            after = client.enqueue("q")
            assert time.monotonic() - began < 5
            for job_id in [*load.acknowledged, after]:
                assert client.wait(job_id, timeout=30)["state"] == "completed"
        ran = sorted(map(int, (daemon.app / "ran").read_text().split()))
        assert ran == sorted(set(ran))
        assert set(ran) >= {*load.acknowledged, after}
        assert daemon.log.count("the database can") <= 4, "no storm in the log: it fails and works by turns"
        assert daemon.stop() == 0
        checked = sqlite3.connect(place.see(daemon.database))
        assert checked.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        checked.close()


def test_outcomes_that_fit_are_settled_while_new_jobs_do_not_fit(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with (
        small_disk(tmp_path / "var", "16m") as place,
        Daemon(tmp_path, TOML.format(daemon=""), app=APP, prefix=place.prefix) as daemon,
        daemon.client(timeout="2s") as client,
    ):
        running = client.enqueue("q", {"until": str(go), "result": "done"})
        until(lambda: client.status(running)["worker"] is not None)
        fill(place.see(daemon.database.parent), leave_bytes=300_000)
        with pytest.raises(Busy, match="full"):
            client.enqueue("q", {"text": "x" * 900_000})
        go.touch()
        assert client.wait(running, timeout=10)["result"] == "done"
        with pytest.raises(Busy, match="full"):
            client.enqueue("q", {"text": "x" * 900_000})


def test_a_full_run_dir_costs_no_job_anything_and_says_who_waits_for_room(tmp_path: Path) -> None:
    """Rings were given their pages before; a payload that is too large for a message waits for room."""
    with (
        small_disk(tmp_path / "run", "3m") as place,
        Daemon(tmp_path, TOML.format(daemon=""), app=APP, prefix=place.prefix) as daemon,
        Client(socket=str(place.see(daemon.socket)), timeout="5s") as client,
    ):
        ballast = fill(place.see(daemon.socket.parent))
        ids = client.enqueue_many("q", [{"result": "x" * 2_000}] * 400)
        for job_id in ids:
            job = client.wait(job_id, timeout=30)
            assert (job["state"], job["crashes"], job["failures"]) == ("completed", 0, 0)
        large = client.enqueue("q", {"result": 1, "text": "x" * 300_000})
        until(lambda: client.request("status")["queues"]["q"]["reason"], 10)
        assert "No space left" in client.request("status")["queues"]["q"]["reason"]
        until(lambda: "a job of q waits: its payload finds no room in" in daemon.log, 10)
        ballast.unlink()
        assert client.wait(large, timeout=20)["state"] == "completed"
        assert client.request("status")["queues"]["q"]["reason"] is None


def test_what_was_buffered_and_does_not_fit_at_the_end_is_counted_and_74(tmp_path: Path) -> None:
    toml = TOML.format(daemon="") + '[intake]\nacknowledge = "buffered"\nflush_interval = "10s"\n'
    with (
        small_disk(tmp_path / "var", "16m") as place,
        Daemon(tmp_path, toml, app=APP, prefix=place.prefix) as daemon,
    ):
        with daemon.client(timeout="2s") as client:
            client.insert("q", [{"payload": 1}])
            fill(place.see(daemon.database.parent))
            receipts = [client.insert("q", [{"payload": "x" * 100_000}]) for _ in range(30)]
        assert {receipt["acknowledged"] for receipt in receipts} == {"buffered"}
        assert daemon.stop() == 74
        assert "31 accepted jobs could not be written before the end" in daemon.log
        assert "disk is full" in daemon.log


def test_a_daemon_that_starts_on_a_full_disk_names_the_cause_or_runs(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "var", "4m") as place,
        Daemon(tmp_path, TOML.format(daemon=""), app=APP, prefix=place.prefix) as daemon,
    ):
        waiting = daemon.enqueue("q", {"result": 1}, "--delay", "1h")
        assert daemon.stop() == 0
        ballast = fill(place.see(daemon.database.parent))
        daemon.start(ready=False)
        assert daemon.wait_end(20) == 74
        assert "Traceback" not in daemon.log
        assert any(cause in daemon.log for cause in ("disk is full", "unable to open", "disk I/O error"))
        ballast.unlink()
        daemon.start()
        assert daemon.job(waiting)["state"] == "scheduled"
