"""A real daemon under fire: clients that do not stop, a ledger of what ran, and the pids to aim at.

with Field(tmp_path, {"q": {"workers": 2}}) as field:
    field.load("raw")
    field.under_load(20)
    field.kill_role("keeper")
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import tomli_w

from tests.support.daemon import ROOT, Daemon, environment
from tests.support.ledger import Acknowledged, Ledger, Run
from tests.support.load import RawClient
from tests.support.waiting import alive, until

T = TypeVar("T")

HANDLERS = str(Path(__file__).parent / "handlers")
_SHUFFLER = str(Path(__file__).parent / "any_order")
SHUFFLED = {"PYTHONPATH": os.pathsep.join((_SHUFFLER, str(ROOT))), "ANY_ORDER": "shuffled"}
"""The environment of a daemon to which the events of each wait come in another order than the kernel's."""


def toml(path: Path, queues: Mapping[str, Mapping[str, Any]], **sections: Any) -> str:
    """A configuration of ledgered queues; the ledger is PATH/ledger. Kills are no reason to give up."""
    defaults = {
        "handler": "ledgered:run", "env": {"LEDGER": str(path / "ledger")}, "max_interruptions": 10_000,
        "max_crashes": 100, "restart": {"intensity": 1_000, "period": "10s"}, "kill_grace": "1s",
        "backoff": {"base": "20ms", "factor": 1.0, "max": "20ms", "jitter": 0.0},
    }  # fmt: skip
    daemon = {"python_path": [HANDLERS], "shutdown_grace": "5s"} | sections.pop("daemon", {})
    given = {name: _mine(defaults, options) for name, options in queues.items()}
    return tomli_w.dumps({"daemon": daemon, **sections, "queues": given})


def _mine(defaults: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**defaults, **options, "env": {**defaults["env"], **options.get("env", {})}}
    if merged.get("pull"):
        merged = {key: merged[key] for key in ("pull", "max_interruptions", "backoff", *options) if key != "env"}
    if "command" in merged:
        del merged["handler"]
    return merged


class Field(Daemon):
    """A Daemon with clients, a ledger, and aim."""

    def __init__(
        self, path: Path, queues: Mapping[str, Mapping[str, Any]] | None = None, *,
        env: Mapping[str, str] | None = None, **sections: Any,
    ) -> None:  # fmt: skip
        path.mkdir(parents=True, exist_ok=True)
        super().__init__(path, toml(path, queues or {"q": {}}, **sections), env=env)
        (path / "acks").mkdir()
        self.ledger = Ledger(path / "ledger")
        self.acks = Acknowledged(path / "acks")
        self._loads: list[subprocess.Popen[bytes]] = []
        self._raw = RawClient(str(self.socket))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._raw.close()
        try:
            super().__exit__(kind, error, trace)
        finally:
            self.end_loads()

    # -- clients -----------------------------------------------------------------------------------------------

    def load(self, mode: str, *options: object, config: bool = False) -> None:
        """Start a client that enqueues until `end_loads`; with `config` it is told the file, else the socket."""
        name = self.path / "acks" / f"{mode}-{len(self._loads)}"
        place = self.config if config else self.socket
        command = [sys.executable, "-m", "tests.support.load", mode, str(place), str(name), *map(str, options)]
        errors = (self.path / "load.log").open("ab")
        env = environment() | {"LEDGER": str(self.ledger.path)}
        self._loads.append(subprocess.Popen(command, stdin=subprocess.PIPE, stderr=errors, cwd=ROOT, env=env))
        errors.close()

    def end_loads(self, timeout: float = 60) -> None:
        """Let every client end."""
        for process in self._loads:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._loads:
            process.wait(timeout)
        self._loads.clear()

    def ask(self, op: str, **members: Any) -> Any:
        """One request, as often as it takes to be answered; its `ok`."""
        deadline = time.monotonic() + 20
        while True:
            try:
                answer = self._raw.ask(op, **members)
            except OSError:
                assert time.monotonic() < deadline, f"{op} was not answered"
                until(lambda: True)
                continue
            assert "ok" in answer, answer
            return answer["ok"]

    def add(self, payloads: Iterable[Any], queue: str = "q", **options: Any) -> list[int]:
        """Enqueue a group; its ids."""
        jobs = [{"payload": payload, **options} for payload in payloads]
        ids: list[int] = self.ask("enqueue", queue=queue, key=os.urandom(8).hex(), jobs=jobs)["ids"]
        return ids

    def drained(self) -> bool:
        """Whether every job of every queue is final."""
        queues = self.ask("status")["queues"].values()
        return not any(counts[state] for counts in queues for state in ("queued", "scheduled", "running"))

    def drain(self, timeout: float = 120) -> None:
        """Wait until every job is final."""
        until(self.drained, timeout, "the end of all jobs")

    # -- conditions and aim ------------------------------------------------------------------------------------

    def under_load(self, acknowledged: int, timeout: float = 60) -> list[Run]:
        """Wait until so many more were acknowledged and a job runs; the runs."""
        before = self.acks.read()
        until(lambda: self.acks.read() >= before + acknowledged, timeout, "acknowledgements")
        return until(self.running_now, timeout, "a running job")

    def running_now(self) -> list[Run]:
        """Runs that have begun and not ended, of workers that live."""
        return [run for run in self.ledger.running if alive(run.pid)]

    def pids(self, *roles: str) -> list[int]:
        """The processes of these roles, as the daemon's tree has them."""
        return [node["pid"] for node in self.ask("tree")["tree"] if node["role"] in roles and node["pid"]]

    def at_work(self) -> Run:
        """A run that has begun and not ended, of a worker that lives."""
        return until(self.running_now, 30, "a worker at work")[0]


def kill(*pids: int) -> None:
    """SIGKILL to each that is still there."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def moment(chance: random.Random, at_most_s: float) -> None:
    """Let a random time pass: it chooses where a fault strikes, nothing is waited for by it."""
    end = time.monotonic() + chance.random() * at_most_s
    until(lambda: time.monotonic() >= end, at_most_s + 5)


def attempt(action: Callable[[], T]) -> T | None:
    """What an action gives, or None where the daemon was just not there."""
    try:
        return action()
    except (OSError, AssertionError):
        return None


def payloads(*weighted: tuple[float, Any]) -> str:
    """Payloads by weight, for `--payloads`."""
    return json.dumps([list(entry) for entry in weighted])
