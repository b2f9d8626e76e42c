"""The writer lock: one holder, named by the file, waited for only where it is about to go."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.errors import Busy, StoreError, StoreHeld
from supervisor.unix.lock import DAEMON, ONE_SHOT, RUN_DIR_LOCK, holder_of, take_lock, take_lock_within, take_run_dir

SOON_MS = 10_000


@pytest.fixture
def database(tmp_path: Path) -> str:
    return str(tmp_path / "jobs.db")


class Held:
    """The lock, held by us under some name, until it is let go."""

    def __init__(self, database: str, role: str, pid: int | None = None) -> None:
        self.fd = take_lock(database, role)
        if pid is not None:
            facts = {"pid": pid, "start": 1, "role": role}
            os.pwrite(self.fd, json.dumps(facts).encode().ljust(128), 0)
        self.timer = threading.Timer(0.1, os.close, [self.fd])

    def let_go_soon(self) -> None:
        self.timer.start()


@pytest.fixture
def ours(database: str) -> Iterator[Held]:
    held = Held(database, DAEMON)
    yield held
    if not held.timer.ident:
        os.close(held.fd)


def test_it_has_one_holder_whose_name_is_in_the_file(database: str, ours: Held) -> None:
    holder = holder_of(database)
    assert holder is not None
    assert (holder.pid, holder.role) == (os.getpid(), DAEMON)
    with pytest.raises(StoreHeld, match=f"in use by jobsup's daemon, pid {os.getpid()}"):
        take_lock(database, DAEMON)


def test_a_daemon_does_not_wait_for_one_that_lives(database: str, ours: Held) -> None:
    ours.let_go_soon()
    with pytest.raises(StoreHeld):
        take_lock_within(database, DAEMON, SOON_MS)
    ours.timer.join()


@pytest.mark.parametrize(("held_by", "wanted_by"), [(DAEMON, ONE_SHOT), (ONE_SHOT, ONE_SHOT)])
def test_a_one_shot_waits_for_whoever_holds_it(database: str, held_by: str, wanted_by: str) -> None:
    Held(database, held_by).let_go_soon()
    os.close(take_lock_within(database, wanted_by, SOON_MS))


def test_a_daemon_waits_for_the_keeper_of_one_that_is_dead(database: str) -> None:
    gone = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(gone, 0)
    Held(database, DAEMON, pid=gone).let_go_soon()
    os.close(take_lock_within(database, DAEMON, SOON_MS))


def test_the_wait_has_an_end_and_names_who_was_waited_for(database: str, ours: Held) -> None:
    with pytest.raises(StoreHeld, match="daemon"):
        take_lock_within(database, ONE_SHOT, 50)


def test_a_run_dir_has_one_daemon(tmp_path: Path) -> None:
    fd = take_run_dir(str(tmp_path))
    with pytest.raises(Busy, match=f"in use by jobsup's daemon, pid {os.getpid()}"):
        take_run_dir(str(tmp_path))
    os.close(fd)
    os.close(take_run_dir(str(tmp_path)))


@pytest.mark.parametrize("kind", ["fifo", "folder", "link"])
def test_what_lies_in_the_place_of_a_lock_is_neither_waited_for_nor_followed(tmp_path: Path, kind: str) -> None:
    for path in (tmp_path / "jobs.db.lock", tmp_path / RUN_DIR_LOCK):
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to(tmp_path / "precious")
    for take in (lambda: take_lock(str(tmp_path / "jobs.db"), DAEMON), lambda: take_run_dir(str(tmp_path))):
        with pytest.raises(StoreError, match=r"is not a regular file|Is a directory|symbolic links"):
            take()
    assert not (tmp_path / "precious").exists()
    assert holder_of(str(tmp_path / "jobs.db")) is None


def test_a_lock_file_that_names_nobody_is_held_by_an_unknown(database: str, ours: Held) -> None:
    os.pwrite(ours.fd, b"garbage".ljust(128), 0)
    holder = holder_of(database)
    assert holder is not None
    assert (holder.pid, holder.role) == (0, "unknown")
