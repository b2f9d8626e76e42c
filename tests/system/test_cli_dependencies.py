"""Each library that we depend on is used by a command that works with it and cannot without it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, Ran, environment
from tests.support.terminal import entry, jobsctl_on_terminal

TOML = '[queues.emails]\ncommand = ["true"]\n'


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("dependencies"), TOML) as daemon:
        daemon.enqueue("emails")
        yield daemon


def run(daemon: Daemon, *args: object, without: str | None = None) -> Ran:
    command = [sys.executable, "-c", entry(without), "-c", str(daemon.config), *map(str, args)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


def test_psutil_serves_workers_and_doctor(daemon: Daemon) -> None:
    assert all(worker["rss_bytes"] > 2**20 for worker in run(daemon, "workers", "--json").lines)
    assert run(daemon, "doctor").status == 0
    for command in ("workers", "doctor"):
        assert "import of psutil halted" in run(daemon, command, without="psutil").err


def test_tomli_w_serves_config_show_and_queues_add(daemon: Daemon) -> None:
    assert '[queues.emails]\ncommand = [\n    "true",\n]' in run(daemon, "config", "show").out
    assert "import of tomli_w halted" in run(daemon, "config", "show", without="tomli_w").err
    adding = ("queues", "add", "added", "--handler", "a:b")
    assert "import of tomli_w halted" in run(daemon, *adding, without="tomli_w").err
    ran = run(daemon, *adding)
    assert ran.status == 0
    Path(ran.out.strip()).unlink()


def test_sqlite_utils_serves_backup_and_doctor(daemon: Daemon, tmp_path: Path) -> None:
    found = run(daemon, "backup", tmp_path / "copy.db", "--json").json
    assert found["jobs"] == 1
    assert run(daemon, "doctor").status == 0
    for command in (["backup", tmp_path / "other.db"], ["doctor"]):
        assert "import of sqlite_utils halted" in run(daemon, *command, without="sqlite_utils").err


def test_rich_serves_tables_on_a_terminal(daemon: Daemon) -> None:
    ran = jobsctl_on_terminal("status", config=daemon.config)
    assert (ran.status, "─" in ran.out) == (0, True)
    assert "import of rich halted" in jobsctl_on_terminal("status", config=daemon.config, block="rich").out
    assert run(daemon, "status", without="rich").status == 0, "a pipe needs no tables"


def test_rich_serves_the_progress_bar_of_a_load(daemon: Daemon) -> None:
    load = ("enqueue", "emails", "--jsonl", "-")
    lines = b"1\n2\n3\n"
    ran = jobsctl_on_terminal(*load, config=daemon.config, stdin=lines)
    assert (ran.status, "━" in ran.out, "3 accepted, 0 rejected" in ran.out) == (0, True, True)
    assert "accepted 3, rejected 0" in ran.out
    ran = jobsctl_on_terminal(*load, config=daemon.config, stdin=lines, block="rich.progress")
    assert "import of rich.progress halted" in ran.out
    assert run(daemon, *load[:-1], "/dev/null", without="rich").status == 0


def test_msgspec_and_click_serve_everything(daemon: Daemon) -> None:
    assert "import of msgspec halted" in run(daemon, "config", "check", without="msgspec").err
    assert run(daemon, "enqueue", "emails", without="msgspec").status == 0, "but for enqueue, which must be quick"
    assert "import of click halted" in run(daemon, "status", without="click").err
