"""Handlers and commands that cannot be used: their pool says why, its jobs wait, and everything else goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import ROOT, Daemon
from tests.support.waiting import until

TOML = """
[daemon]
python_path = ["../app"]
[defaults]
workers = 1
kill_grace = "1s"
[queues.good]
handler = "tasks:run"
[queues.missing_module]
handler = "no_such_module:run"
[queues.raises_at_import]
handler = "raises:run"
[queues.bad_syntax]
handler = "syntax:run"
[queues.exits_at_import]
handler = "exits:run"
[queues.dies_at_import]
handler = "dies:run"
[queues.hangs_at_import]
handler = "hangs:run"
boot_timeout = "1s"
[queues.hangs_unpreloaded]
handler = "hangs:run"
boot_timeout = "1s"
preload = false
[queues.hangs_deaf]
handler = "deaf:run"
boot_timeout = "1s"
[queues.missing_name]
handler = "tasks:nothing"
[queues.not_callable]
handler = "tasks:VALUE"
[queues.missing_command]
command = ["no-such-command"]
[queues.not_executable]
command = ["{folder}/script"]
[queues.a_folder]
command = ["{folder}"]
[queues.missing_cwd]
command = ["true"]
cwd = "/no/such/folder"
"""
APP = {
    "tasks.py": "VALUE = 3\ndef run(job): return 'done'\n",
    "raises.py": "def helper():\n    raise RuntimeError('not today')\nhelper()\n",
    "syntax.py": "def run(job:\n",
    "exits.py": "import sys\nsys.exit(3)\n",
    "hangs.py": "import time\ntry:\n    time.sleep(600)\nexcept Exception:\n    pass\ndef run(job): return 1\n",
    "deaf.py": "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nimport hangs\n",
    "dies.py": "import os\nos._exit(9)\n",
    "script": "#!/bin/sh\ntrue\n",
}
UNUSABLE = {
    "missing_module": ("No module named 'no_such_module'", "ModuleNotFoundError"),
    "raises_at_import": ("not today", "in helper"),
    "bad_syntax": ("syntax", "SyntaxError"),
    "exits_at_import": ("3", "SystemExit"),
    "hangs_at_import": ("did not end within 1s (boot_timeout)", "time.sleep(600)"),
    "hangs_unpreloaded": ("did not end within 1s (boot_timeout)", "time.sleep(600)"),
    "hangs_deaf": ("was not ready within 7s", ""),
    "missing_name": ("nothing", ""),
    "not_callable": ("tasks:VALUE is not callable", ""),
    "missing_command": ("no-such-command is not found", ""),
    "not_executable": ("script", ""),
    "a_folder": ("app", ""),
    "missing_cwd": ("/no/such/folder", ""),
}
"""Queue -> what the reason in status says, and the detail beside it."""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    path = tmp_path_factory.mktemp("handlers")
    with Daemon(path, TOML.replace("{folder}", str(path / "app")), app=APP) as running:
        yield running


def queue(daemon: Daemon, name: str) -> dict[str, Any]:
    """What status says of a queue."""
    shown: dict[str, Any] = daemon.ctl("status", "--json").json["queues"][name]
    return shown


def opened(daemon: Daemon, name: str) -> dict[str, Any] | None:
    """What status says of a queue, once its circuit is open."""
    shown = queue(daemon, name)
    return shown if shown["circuit"] == "open" else None


def test_the_daemon_is_ready_and_its_good_pool_works(daemon: Daemon) -> None:
    assert daemon.wait_state(daemon.enqueue("good"), "completed")["result"] == "done"


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_cannot_be_used_opens_its_circuit_with_the_cause_and_its_jobs_wait(daemon: Daemon, name: str) -> None:
    waiting = daemon.enqueue(name, {})
    shown = until(lambda: opened(daemon, name), 20, f"an open circuit of {name}")  # now and then it is being probed
    reason, detail = UNUSABLE[name]
    assert reason in shown["reason"], shown
    assert detail in (shown["detail"] or ""), shown
    job = daemon.job(waiting)
    assert (job["state"], job["attempt"], job["errors"]) == ("queued", 0, [])


def test_handlers_are_not_imported_from_the_working_directory(tmp_path: Path) -> None:
    """Whoever can write there could put any module in front of an installed one; `--check` looks by the same rule."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "cwdmod.py").write_text("def run(job): return 'from here'\n")
    toml = '[queues.w]\nhandler = "cwdmod:run"\nworkers = 1\n'
    env = {"PYTHONPATH": f":{ROOT}"}
    with Daemon(tmp_path, toml, env=env, prefix=("env", "-C", str(tmp_path / "here"))) as daemon:
        shown = queue(daemon, "w")
        assert (shown["circuit"], "No module named 'cwdmod'" in shown["reason"]) == ("open", True), shown


def test_what_ends_its_process_at_its_import_is_tried_with_pauses_and_its_jobs_wait(daemon: Daemon) -> None:
    waiting = daemon.enqueue("dies_at_import", {})
    daemon.wait_for(lambda: "status 9" in (queue(daemon, "dies_at_import")["reason"] or ""), 30, "the cause in status")
    job = daemon.job(waiting)
    assert (job["state"], job["attempt"], job["crashes"], job["errors"]) == ("queued", 0, 0, [])
    assert daemon.wait_state(daemon.enqueue("good"), "completed")["attempt"] == 1


def test_what_is_mended_works_after_resume_and_its_jobs_have_waited(daemon: Daemon) -> None:
    mended = {
        "raises_at_import": lambda app: (app / "raises.py").write_text("def run(job): return 'mended'\n"),
        "not_executable": lambda app: (app / "script").chmod(0o755),
    }
    for name, mend in mended.items():
        waiting = daemon.enqueue(name, {})
        mend(Path(daemon.app))
        assert daemon.ctl("resume", name).status == 0
        assert daemon.wait_state(waiting, "completed")["attempt"] == 1
        assert queue(daemon, name)["circuit"] == "closed"
