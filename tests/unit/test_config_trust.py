"""Whose words are believed: modes and owners, decided in a table, and applied to files and folders."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from supervisor.config.problem import Report
from supervisor.config.source import read
from supervisor.config.trust import distrust, kind
from tests.support.config_files import QUEUE, load_text, problems, write

FILE, FOLDER, STICKY = stat.S_IFREG, stat.S_IFDIR, stat.S_IFDIR | stat.S_ISVTX

TABLE = [
    # mode, owner, read by root: None believed, False a warning, True refused
    (FILE | 0o644, 0, True, None),
    (FILE | 0o600, 1000, False, None),
    (FILE | 0o644, 0, False, None),
    (FILE | 0o646, 0, True, True),
    (FILE | 0o646, 1000, False, True),
    (FILE | 0o602, 1000, False, True),
    (FILE | 0o664, 0, True, True),
    (FILE | 0o664, 1000, False, False),
    (FILE | 0o666, 1000, False, True),
    (FILE | 0o644, 1000, True, False),
    (FOLDER | 0o755, 0, True, None),
    (FOLDER | 0o777, 0, True, True),
    (FOLDER | 0o777, 1000, False, True),
    (FOLDER | 0o775, 0, True, True),
    (FOLDER | 0o775, 1000, False, False),
    (STICKY | 0o777, 0, True, None),
    (STICKY | 0o777, 1000, False, None),
    (FILE | stat.S_ISVTX | 0o666, 0, False, True),
]


@pytest.mark.parametrize(("mode", "owner", "root", "refused"), TABLE, ids=[f"{m:o}-{o}-{r}" for m, o, r, _ in TABLE])
def test_what_others_can_write_is_not_believed(mode: int, owner: int, root: bool, refused: bool | None) -> None:
    found = distrust(mode, owner, root=root)
    assert (found and found.refused) == refused


@pytest.mark.parametrize(
    ("mode", "name"),
    [(stat.S_IFDIR, "a directory"), (stat.S_IFIFO, "a FIFO"), (stat.S_IFCHR, "a device"), (0, "no regular file")],
)
def test_what_a_path_is_has_a_name(mode: int, name: str) -> None:
    assert kind(mode) == name


def test_a_group_writable_file_is_refused_for_root_and_warned_about_otherwise(tmp_path: Path, as_user: None) -> None:
    path = write(tmp_path, QUEUE)
    path.chmod(0o664)
    report = Report()
    assert read(str(path), report) == QUEUE.encode()
    assert [warning.split(": ")[2] for warning in report.warnings] == [
        "can be written by its group, and configuration is code; run chmod g-w on it"
    ]


def test_it_is_refused_for_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, QUEUE)
    path.chmod(0o664)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert problems(path)[0].startswith("queues.toml:1: file: can be written by its group")


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user who is not root, so far as decisions go."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def test_a_file_in_a_sticky_folder_is_believed(tmp_path: Path, as_user: None) -> None:
    path = write(tmp_path, QUEUE, "tmp/queues.toml")
    path.parent.chmod(0o1777)
    assert read(str(path), Report()) == QUEUE.encode()


def test_both_the_folder_of_a_link_and_that_of_its_target_are_looked_at(tmp_path: Path, as_user: None) -> None:
    real = write(tmp_path, QUEUE, "real/queues.toml")
    link = tmp_path / "links" / "queues.toml"
    link.parent.mkdir(mode=0o755)
    link.symlink_to(real)
    assert read(str(link), Report()) == QUEUE.encode()
    link.parent.chmod(0o777)
    report = Report()
    assert read(str(link), report) is None
    assert f"its directory {link.parent} can be written by everyone" in report.problems[0]


def test_a_world_writable_folder_of_python_path_is_refused(tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.mkdir()
    text = QUEUE + '[daemon]\npython_path = ["app", "not-there"]\n'
    assert load_text(tmp_path, text).daemon.python_path == (str(app), str(tmp_path / "not-there"))
    app.chmod(0o777)
    assert problems(tmp_path / "queues.toml") == [
        (
            "queues.toml:1: file: its directory app can be written by everyone, and configuration is code; "
            "run chmod o-w on it"
        )
    ]


def test_a_socket_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "queues.toml"))
        assert problems(tmp_path / "queues.toml") == ["queues.toml:1: file: is a socket; name a regular file"]


def test_a_path_through_a_file_does_not_exist(tmp_path: Path) -> None:
    write(tmp_path, "", "file")
    found = problems(tmp_path / "file" / "queues.toml")
    assert "does not exist: a part of its path is no directory" in found[0]


def test_a_name_too_long_for_the_kernel_is_a_problem(tmp_path: Path) -> None:
    (found,) = problems(tmp_path / ("q" * 300))
    assert "has too long a name" in found


def test_an_error_while_reading_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, QUEUE)

    def fail(descriptor: int, size: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "read", fail)
    assert problems(path) == ["queues.toml:1: file: cannot be read: Input/output error"]


def test_an_error_while_opening_is_a_problem_with_the_systems_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str, flags: int) -> int:
        raise OSError(23, "Too many open files in system")

    monkeypatch.setattr(os, "open", fail)
    (found,) = problems(tmp_path / "queues.toml")
    assert "cannot be opened: Too many open files in system" in found


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for name in ("none", "", "q"):
        read(str(tmp_path / name), Report())
    read(str(write(tmp_path, QUEUE)), Report())
    assert len(os.listdir("/proc/self/fd")) == before
