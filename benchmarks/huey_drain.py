"""The same jobs through Huey on SQLite, as its documentation sets it up, with as many worker processes."""

from __future__ import annotations

import importlib
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

APP = """\
from huey import SqliteHuey

huey = SqliteHuey("bench", filename={filename!r})


@huey.task()
def noop(payload):
    return None
"""
POLL_S = 0.005
"""Between looks at its table: Huey's consumer tells nobody that its queue is empty. As for ours in `drain`."""
TIMEOUT_S = 300


def drain_per_s(folder: Path, payload: Any, jobs: int, workers: int) -> float:
    """Jobs per second from the first that leaves a full queue to an empty one; the consumer's start is not counted.

    Raises:
        ImportError: Huey is not installed.
    """
    app = _app(folder)
    for _ in range(jobs):
        app.noop(payload)
    command = [sys.executable, "-m", "huey.bin.huey_consumer", "huey_app.huey"]
    options = ["--workers", str(workers), "--worker-type", "process", "--no-periodic", "--quiet"]
    with (folder / "huey.log").open("wb") as log:
        consumer = subprocess.Popen([*command, *options], cwd=folder, stdout=log, stderr=log, env=_environment(folder))
    try:
        return jobs / _drain_s(folder / "huey.db", consumer)
    finally:
        consumer.terminate()
        consumer.wait()


def _app(folder: Path) -> Any:
    (folder / "huey_app.py").write_text(APP.format(filename=str(folder / "huey.db")))
    sys.path.insert(0, str(folder))
    sys.modules.pop("huey_app", None)
    try:
        return importlib.import_module("huey_app")
    finally:
        sys.path.remove(str(folder))


def _environment(folder: Path) -> dict[str, str]:
    return dict(os.environ) | {"PYTHONPATH": str(folder)}


def _drain_s(database: Path, consumer: subprocess.Popen[bytes]) -> float:
    """Watch the head of the queue, which costs Huey next to nothing."""
    reader = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    head = _head(reader)
    give_up = time.perf_counter() + TIMEOUT_S
    while _head(reader) == head:
        _pause(give_up, consumer)
    begun = time.perf_counter()
    while _head(reader) is not None:
        _pause(give_up, consumer)
    return time.perf_counter() - begun


def _head(reader: sqlite3.Connection) -> int | None:
    found: int | None = reader.execute("SELECT min(id) FROM task").fetchone()[0]
    return found


def _pause(give_up: float, consumer: subprocess.Popen[bytes]) -> None:
    assert consumer.poll() is None, f"Huey's consumer ended with {consumer.returncode}"
    assert time.perf_counter() < give_up, f"Huey was not done within {TIMEOUT_S} s"
    time.sleep(POLL_S)
