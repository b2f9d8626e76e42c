"""Every kind of bad configuration, at the start of a daemon and at the reload of a running one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from supervisor.errors import ConfigError
from tests.support.daemon import Daemon, environment
from tests.unit.test_config_bad_input import BAD

TOML = '[defaults]\nworkers = 1\n[queues.q]\ncommand = ["true"]\n'
ENDED_S = 10.0
NOT_FOR_ROOT = "a file that cannot be read"
AT_START = (
    "a file that is missing", NOT_FOR_ROOT, "an empty file", "a directory", "a FIFO", "10 MB",
    "bytes that are not UTF-8", "a world-writable file", "duplicate keys", "booleans for numbers", "inf and nan",
    "a key of 20,000 dotted parts", "unknown keys", "keys of later versions", "two queues with one name",
    "a socket path that is too long",
)  # fmt: skip
"""One of each kind: a reload takes the rest for less."""


def start(name: str, folder: Path) -> tuple[str, int, str]:
    """What jobsupd ends with, and says, for this configuration."""
    folder.mkdir()
    make, _ = BAD[name]
    command = [sys.executable, "-m", "supervisor.cli.jobsupd", "-c", str(make(folder))]
    done = subprocess.run(command, env=environment(), capture_output=True, timeout=ENDED_S, check=False, cwd=folder)
    return name, done.returncode, done.stderr.decode()


def test_a_daemon_does_not_start_with_a_bad_configuration_and_says_why(tmp_path: Path) -> None:
    names = [name for name in AT_START if name != NOT_FOR_ROOT or os.geteuid() != 0]
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(start, names, [tmp_path / str(number) for number in range(len(names))]))
    assert len(ended) == len(names)
    for name, status, said in ended:
        sentence = BAD[name][1]
        assert (name, status, sentence in said) == (name, 2, True), said
        assert said.startswith("jobsupd: ")
        assert "Traceback" not in said


def remove(path: Path) -> None:
    """Whatever it is."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def test_a_running_daemon_keeps_its_configuration_whatever_it_is_told_to_reload(tmp_path: Path) -> None:
    with Daemon(tmp_path, TOML) as daemon, daemon.client(timeout="10s") as client:
        etc = daemon.config.parent
        before = {node["path"]: node["pid"] for node in client.request("tree")["tree"]}
        tried = 0
        for name, (make, sentence) in BAD.items():
            remove(daemon.config)
            if make(etc) != daemon.config or (name == NOT_FOR_ROOT and os.geteuid() == 0):
                continue
            began = time.monotonic()
            with pytest.raises(ConfigError) as refused:
                client.request("reload")
            assert time.monotonic() - began < 5
            assert sentence in "\n".join(refused.value.problems), (name, refused.value.problems)
            assert sentence in client.request("status")["daemon"]["reload_error"]
            tried += 1
        assert tried >= 24
        assert client.wait(client.enqueue("q"), timeout=10)["state"] == "completed"
        assert {node["path"]: node["pid"] for node in client.request("tree")["tree"]} == before

        remove(daemon.config)
        daemon.configure(TOML + '[queues.more]\ncommand = ["true"]\n')
        daemon.config.chmod(0o644)
        assert client.request("reload")["added"] == ["more"]
        assert client.request("status")["daemon"]["reload_error"] is None
