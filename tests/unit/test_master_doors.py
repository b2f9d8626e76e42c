"""The sockets of scopes: opened, closed, and what is in their way."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from supervisor.errors import UsageError
from supervisor.master.doors import Doors


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def test_sockets_come_and_go(tmp_path: Path) -> None:
    doors, folder = Doors(str(tmp_path)), tmp_path / "scopes"
    mask = os.umask(0o077)
    try:
        doors.open(["shop", "blog"])
    finally:
        os.umask(mask)
    assert folder.stat().st_mode & 0o777 == 0o750
    assert (folder / "shop.sock").stat().st_mode & 0o777 == 0o660
    assert doors.change(["blog", "new"]) == (["new"], ["shop"], ())
    assert sorted(os.listdir(folder)) == ["blog.sock", "new.sock"]
    assert listens(folder / "blog.sock")
    doors.close()
    doors.close()
    assert os.listdir(folder) == []


def test_what_an_earlier_daemon_left_is_replaced_or_removed(tmp_path: Path) -> None:
    folder = tmp_path / "scopes"
    folder.mkdir()
    for name in ("shop", "old"):
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(folder / f"{name}.sock"))
    (folder / "notes").touch()
    doors = Doors(str(tmp_path))
    doors.open(["shop"])
    assert sorted(os.listdir(folder)) == ["notes", "shop.sock"]
    assert listens(folder / "shop.sock")
    doors.close()


def test_a_socket_that_cannot_be_had_is_an_error_at_the_start_and_said_later(tmp_path: Path) -> None:
    folder = tmp_path / "scopes"
    (folder / "shop.sock").mkdir(parents=True)
    doors = Doors(str(tmp_path))
    with pytest.raises(UsageError, match="no socket"):
        doors.open(["shop"])
    opened, gone, problems = doors.change(["shop", "blog"])
    assert (opened, gone) == (["blog"], [])
    assert problems[0].startswith("scope shop has no socket: ")
    (folder / "shop.sock").rmdir()
    assert doors.change(["shop", "blog"]) == (["shop"], [], ())
    os.unlink(folder / "blog.sock")
    doors.close()


def test_a_run_dir_that_cannot_hold_them_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "scopes").touch()
    with pytest.raises(UsageError, match="scopes"):
        Doors(str(tmp_path)).open(["shop"])
