"""Finding the socket: right, and cheap enough for every `jobsctl enqueue`."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.config import spec
from supervisor.config.load import load
from supervisor.config.locate import socket_path
from supervisor.config.lookup import main_file
from supervisor.config.sockets import SOCKET_NAME
from supervisor.errors import ConfigError
from tests.support.config_files import QUEUE, write

DEAR = {
    "asyncio",
    "dataclasses",
    "difflib",
    "importlib.metadata",
    "logging",
    "msgspec",
    "pathlib",
    "psutil",
    "rich",
    "sqlite3",
    "sqlite_utils",
    "subprocess",
    "tempfile",
    "tomli_w",
}


def test_the_environment_names_it(tmp_path: Path) -> None:
    assert socket_path(None, {"JOBSUP_SOCKET": "/s"}) == "/s"
    assert socket_path(write(tmp_path, ""), {"JOBSUP_SOCKET": "/s"}) != "/s"


@pytest.mark.parametrize(
    "daemon", ["", '[daemon]\nrun_dir = "r"\n', '[daemon]\nrun_dir = "/r"\n', '[daemon]\nrun_dir = "../a/./r/"\n']
)
def test_it_is_where_the_daemon_binds_it(tmp_path: Path, daemon: str) -> None:
    path = write(tmp_path, QUEUE + daemon)
    assert socket_path(path, {}) == load(path, environ={}).daemon.socket
    assert socket_path(None, {"JOBSUP_CONFIG": str(path)}) == load(path, environ={}).daemon.socket


def test_both_names_of_the_socket_are_the_same() -> None:
    assert spec.SOCKET_NAME == SOCKET_NAME


@pytest.mark.parametrize("text", ["a = [", ".".join("a" * 20_000) + " = 1"])
def test_a_file_that_cannot_be_used_is_an_error(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as raised:
        socket_path(path, {})
    assert raised.value.problems[0].startswith(f"{path}:1: ")


@pytest.mark.parametrize("run_dir", ["", 'run_dir = "../elsewhere"\n', "  run_dir='../elsewhere' # here\n"])
def test_a_daemon_is_found_while_its_file_is_no_toml(tmp_path: Path, run_dir: str) -> None:
    """Whoever enqueues must not suffer from a half-saved edit: the daemon runs on."""
    path = write(tmp_path, f"[daemon]\n{run_dir}[queues.", "etc/queues.toml")
    with pytest.raises(ConfigError):
        socket_path(path, {})
    there = tmp_path / ("elsewhere" if run_dir else "run") / SOCKET_NAME
    there.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(there))
        assert socket_path(path, {}) == str(there)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        socket_path(tmp_path / "none.toml", {})


@pytest.mark.parametrize("text", ["daemon = 1", "[daemon]\nrun_dir = 1"])
def test_what_only_validation_would_refuse_gives_the_default_place(tmp_path: Path, text: str) -> None:
    assert socket_path(write(tmp_path, text), {}) == f"{tmp_path.parent}/run/jobsup.sock"


def test_it_imports_nothing_dear(tmp_path: Path) -> None:
    path = write(tmp_path, QUEUE)
    code = (
        "import sys; from supervisor.config.locate import socket_path; "
        f"socket_path({str(path)!r}, {{}}); print(*sorted(sys.modules), sep='\\n')"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert DEAR.intersection(done.stdout.split()) == set()


def test_without_a_file_it_is_said_which_socket_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as none:
        main_file(None, {})
    assert none.value.hint == "name a file with -c FILE or $JOBSUP_CONFIG"
    with pytest.raises(ConfigError) as named:
        main_file(None, {"JOBSUP_SOCKET": "/run/s"})
    assert "$JOBSUP_SOCKET is enough where a daemon listens, and names /run/s" in (named.value.hint or "")
