"""`jobsctl queues add`: a drop-in that is there whole, or not at all, and loads."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from supervisor.config import dropin
from supervisor.config.dropin import HEADER, add_queue
from supervisor.config.load import load
from supervisor.config.spec import Queue
from supervisor.errors import ConfigError
from tests.support.config_files import QUEUE, write


def test_a_queue_is_added_beside_the_users_file(tmp_path: Path) -> None:
    main = write(tmp_path, "# mine\n" + QUEUE)
    path = add_queue(main, "thumbs", {"command": ["convert", "--", "{path}"], "workers": 3}, {})
    assert path == tmp_path / "queues.d" / "50-thumbs.toml"
    assert path.read_text().startswith(HEADER)
    expected = Queue(name="thumbs", command=("convert", "--", "{path}"), workers=3)
    assert load(main, environ={}).queues == {"q": Queue(name="q", handler="m:f"), "thumbs": expected}
    assert main.read_text() == "# mine\n" + QUEUE


def test_the_main_file_is_looked_up_as_ever(tmp_path: Path) -> None:
    main = write(tmp_path, QUEUE)
    path = add_queue(None, "r", {"handler": "m:f"}, {"JOBSUP_CONFIG": str(main)})
    assert path.parent.parent == tmp_path


@pytest.mark.parametrize(("mode", "file_mode", "folder_mode"), [(0o644, 0o644, 0o755), (0o600, 0o600, 0o700)])
def test_it_may_be_read_by_those_who_read_the_main_file(
    tmp_path: Path, mode: int, file_mode: int, folder_mode: int
) -> None:
    main = write(tmp_path, QUEUE)
    main.chmod(mode)
    before = os.umask(0o077)
    try:
        path = add_queue(main, "r", {"handler": "m:f"}, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == file_mode
    assert stat.S_IMODE(path.parent.stat().st_mode) == folder_mode
    assert path.stat().st_uid == main.stat().st_uid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_it_belongs_to_the_owner_of_the_main_file(tmp_path: Path) -> None:
    main = write(tmp_path, QUEUE)
    os.chown(main, 65534, 65534)
    path = add_queue(main, "r", {"handler": "m:f"}, {})
    assert (path.stat().st_uid, path.parent.stat().st_uid) == (65534, 65534)


def test_files_that_cannot_be_given_away_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, uid: int, gid: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "fchown", refuse)
    assert add_queue(write(tmp_path, QUEUE), "r", {"handler": "m:f"}, {}).exists()


@pytest.mark.parametrize(
    ("name", "table", "problem"),
    [
        ("q", {"handler": "m:f"}, 'queue "q" exists already, at .*queues.toml:1'),
        ("Q", {"handler": "m:f"}, "50-Q.toml:3: queues.Q: .* write a name of lower-case letters"),
        ("../../x", {"handler": "m:f"}, "write a name of lower-case letters"),
        ("r", {}, "says neither what to call nor what to run"),
        ("r", {"handler": "m:f", "wrkers": 1}, r"50-r.toml:5: queues.r.wrkers: unknown key; did you mean workers\?"),
        ("r", {"handler": "m:f", "user": None}, 'queue "r" cannot be written as TOML'),
        ("r", {"handler": "m:f", "timeout": 5}, "queues.r.timeout: 5 has no unit"),
    ],
)
def test_what_would_not_load_is_not_written(tmp_path: Path, name: str, table: dict[str, object], problem: str) -> None:
    main = write(tmp_path, QUEUE)
    with pytest.raises(ConfigError, match=problem):
        add_queue(main, name, table, {})
    assert sorted(os.listdir(tmp_path)) == ["queues.toml"]


def test_a_queue_of_another_drop_in_exists_too(tmp_path: Path) -> None:
    main = write(tmp_path, QUEUE)
    add_queue(main, "r", {"handler": "m:f"}, {})
    with pytest.raises(ConfigError, match=r'queue "r" exists already, at .*queues\.d/50-r\.toml:3'):
        add_queue(main, "r", {"handler": "m:f"}, {})


def test_a_file_that_stands_there_already_is_never_replaced(tmp_path: Path) -> None:
    main = write(tmp_path, QUEUE)
    there = write(tmp_path, "# something else\n", "queues.d/50-r.toml")
    with pytest.raises(ConfigError, match=r"50-r\.toml\" exists already"):
        add_queue(main, "r", {"handler": "m:f"}, {})
    assert there.read_text() == "# something else\n"
    assert os.listdir(there.parent) == ["50-r.toml"]


def test_an_error_while_writing_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    main = write(tmp_path, QUEUE)
    write(tmp_path, "", "queues.d/other.toml")
    monkeypatch.setattr(dropin.os, "fsync", full)
    with pytest.raises(ConfigError, match=r"50-r\.toml\" cannot be written: No space left on device"):
        add_queue(main, "r", {"handler": "m:f"}, {})
    assert os.listdir(tmp_path / "queues.d") == ["other.toml"]


def test_a_temporary_file_is_no_drop_in(tmp_path: Path) -> None:
    main = write(tmp_path, QUEUE)
    write(tmp_path, "half a f", "queues.d/.50-r.toml.4711")
    assert list(load(main, environ={}).queues) == ["q"]


def test_environment_values_are_kept_as_they_were_written(tmp_path: Path) -> None:
    main = write(tmp_path, QUEUE)
    path = add_queue(main, "r", {"command": ["${TOOL}"]}, {"TOOL": "tar"})
    assert "${TOOL}" in path.read_text()
    assert load(main, environ={"TOOL": "zip"}).queues["r"].command == ("zip",)
