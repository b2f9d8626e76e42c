"""A real jobsupd on a directory of its own, for tests: start it, talk to it, stop or kill it, read its log.

    with Daemon(tmp_path, TOML, app={"tasks.py": "def run(job): ..."}) as daemon:
        job_id = int(daemon.ctl("enqueue", "q", "{}").out)
        daemon.wait_state(job_id, "completed")

The file is tmp_path/etc/queues.toml, handlers are in tmp_path/app (write `python_path = ["../app"]`), the database
and the run_dir are where the defaults put them: tmp_path/var/jobs.db and tmp_path/run.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from tests.support.waiting import until

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
TAG = "JOBSUP_TEST_DAEMON"
"""Set in the environment of everything a Daemon starts, so that what it leaves behind is found."""

COVERED = any(name.startswith("COVERAGE_") for name in os.environ)
"""Whether coverage is measured: a worker that is killed, as SIGQUIT does, cannot say what it ran."""
POLITE_S = 3.0

NOT_PASSED = ("JOBSUP_", "NOTIFY_", "LISTEN_", "PYTHONDONTWRITEBYTECODE")

LIBC = ctypes.CDLL(None)
PR_CAPBSET_DROP = 24
FILE_CAPABILITIES = (1, 2)
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""

_numbers = itertools.count(1)


class Ran(NamedTuple):
    """What a finished command gave."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as one JSON value."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """stdout as one JSON value per line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def rows(self) -> list[list[str]]:
        """stdout as tab-separated rows."""
        return [line.split("\t") for line in self.out.splitlines()]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a program under test: ours without jobsup's own variables, this tree importable.

    Compiled modules may be written: without them every program takes three times as long to start.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_PASSED)}
    paths = [str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    return kept | {"PYTHONPATH": os.pathsep.join(paths)} | dict(extra or {})


def jobsctl(
    *args: object, config: Path | str | None = None, stdin: str | bytes | None = None,
    env: Mapping[str, str] | None = None, cwd: Path | str | None = None, timeout: float = 60, privileged: bool = True,
) -> Ran:  # fmt: skip
    """Run one jobsctl command to its end; without privileges, file permissions hold for root as well."""
    named = ["-c", str(config)] if config else []
    command = [sys.executable, "-m", "supervisor.cli.jobsctl", *named, *map(str, args)]
    raw = stdin.encode() if isinstance(stdin, str) else stdin
    given: dict[str, Any] = {"input": raw} if raw is not None else {"stdin": subprocess.DEVNULL}
    done = subprocess.run(
        command, check=False, capture_output=True, env=environment(env), cwd=cwd, timeout=timeout,
        preexec_fn=None if privileged else drop_privileges, **given,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def drop_privileges() -> None:
    """Between fork and exec: what root may do to files that it may not read or write is not inherited."""
    for capability in FILE_CAPABILITIES:
        LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


class Site:
    """A directory with a configuration and handlers in it, and jobsctl for it; no daemon."""

    def __init__(self, path: Path, toml: str, app: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.config = path / "etc" / "queues.toml"
        self.app = path / "app"
        for folder in (self.config.parent, self.app, path / "var"):
            folder.mkdir(parents=True, exist_ok=True)
        for name, text in (app or {}).items():
            (self.app / name).write_text(text)
        self.configure(toml)

    @property
    def database(self) -> Path:
        """Where the database is, unless the TOML says otherwise."""
        return self.path / "var" / "jobs.db"

    @property
    def run_dir(self) -> Path:
        """Where the socket and the slots are, unless the TOML says otherwise."""
        return self.path / "run"

    @property
    def socket(self) -> Path:
        """The public socket, unless the TOML says otherwise."""
        return self.run_dir / "jobsup.sock"

    def configure(self, toml: str) -> None:
        """Write the configuration anew."""
        self.config.write_text(toml)

    def ctl(
        self, *args: object, stdin: str | bytes | None = None, env: Mapping[str, str] | None = None,
        timeout: float = 60, privileged: bool = True,
    ) -> Ran:  # fmt: skip
        """Run one jobsctl command for this configuration."""
        return jobsctl(
            *args, config=self.config, stdin=stdin, env=env, cwd=self.path, timeout=timeout, privileged=privileged
        )

    def enqueue(self, queue: str, payload: object = None, *args: object) -> int:
        """Enqueue through jobsctl; the id."""
        ran = self.ctl("enqueue", queue, json.dumps(payload), *args)
        assert ran.status == 0, ran.err
        return int(ran.out)

    def job(self, job_id: int) -> dict[str, Any]:
        """`status ID --json`."""
        ran = self.ctl("status", job_id, "--json")
        assert ran.status == 0, ran.err
        found: dict[str, Any] = ran.json
        return found

    def client(self, **options: Any) -> Any:
        """A Client of this configuration."""
        from supervisor.client import Client

        return Client(str(self.config), **options)

    def wait_for(self, condition: Callable[[], T], timeout: float = 15, what: str = "the condition") -> T:
        """Wait until the condition holds."""
        return until(condition, timeout, what)

    def wait_state(self, job_id: int, *states: str, timeout: float = 15) -> dict[str, Any]:
        """Wait until the job is in one of these states; the job."""
        last: dict[str, Any] = {}

        def arrived() -> bool:
            last.update(self.job(job_id))
            return last["state"] in states

        until(arrived, timeout, f"job {job_id} in {' or '.join(states)} (it is {last.get('state')})")
        return last


class Daemon(Site):
    """jobsupd, ready when the block is entered, gone when it is left, with everything it started."""

    def __init__(
        self, path: Path, toml: str, *, app: Mapping[str, str] | None = None, env: Mapping[str, str] | None = None,
        args: tuple[str, ...] = (), prefix: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """`prefix` is a command that runs the command behind it in its own place: nsenter, for example."""
        super().__init__(path, toml, app)
        self.log_file = path / "jobsupd.log"
        self._env = dict(env or {})
        self._args = args
        self._prefix = prefix
        self._tag = f"{os.getpid()}-{next(_numbers)}-{path}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.running and COVERED:
                self.signal(signal.SIGTERM)
                self._end_within(POLITE_S)
            if self.running:
                self.quit()
        finally:
            self.sweep()
        if error is not None:
            sys.stderr.write(f"--- log of jobsupd ({self.log_file})\n{self.log}\n")

    @property
    def main(self) -> Path:
        """The file that it is started with."""
        return self.config

    @property
    def pid(self) -> int:
        """The master's pid."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the master lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What it has written to stderr, over all its starts."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def start(self, *, ready: bool = True, env: Mapping[str, str] | None = None) -> None:
        """Start it, again after a stop or kill; with `ready`, wait until it says READY=1.

        Raises:
            AssertionError: it ended, or did not become ready in time; the message holds its log.
        """
        assert not self.running, "already running"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            name = f"jobsup-test-{os.getpid()}-{next(_numbers)}"
            notify.bind(f"\0{name}")
            program = [sys.executable, "-m", "supervisor.cli.jobsupd", "-c", str(self.main), *self._args]
            command = [*self._prefix, *program]
            own = {"NOTIFY_SOCKET": f"@{name}", TAG: self._tag}
            with self.log_file.open("ab") as log:
                self._process = subprocess.Popen(
                    command, env=environment(self._env | own | dict(env or {})), cwd=self.path,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
            if ready:
                self._await_ready(notify)

    def _await_ready(self, notify: socket.socket) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        notify.settimeout(0.05)
        while time.monotonic() < deadline:
            try:
                if b"READY=1" in notify.recv(65536).split(b"\n"):
                    return
            except TimeoutError:
                assert self.running, f"jobsupd ended with {self.status} before it was ready:\n{self.log}"
        raise AssertionError(f"jobsupd was not ready within {READY_TIMEOUT_S} s:\n{self.log}")

    @property
    def status(self) -> int | None:
        """How the master ended, as subprocess says it; None while it runs."""
        return self._process.poll() if self._process else None

    def signal(self, number: signal.Signals) -> None:
        """Send the master a signal."""
        assert self._process is not None, "not started"
        self._process.send_signal(number)

    def wait_end(self, timeout: float = STOP_TIMEOUT_S) -> int:
        """Wait until the master has ended; its exit status."""
        assert self._process is not None, "not started"
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"jobsupd did not end within {timeout} s:\n{self.log}") from None

    def stop(self, timeout: float = STOP_TIMEOUT_S) -> int:
        """SIGTERM: drain and stop; its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait_end(timeout)

    def _end_within(self, timeout: float) -> None:
        try:
            self.wait_end(timeout)
        except AssertionError:
            pass  # a job runs on: then it is killed with its worker

    def quit(self, timeout: float = STOP_TIMEOUT_S) -> int:
        """SIGQUIT: stop at once; its exit status."""
        self.signal(signal.SIGQUIT)
        return self.wait_end(timeout)

    def kill(self) -> None:
        """SIGKILL to the master alone; what becomes of the others is theirs to do."""
        self.signal(signal.SIGKILL)
        self.wait_end()

    def survivors(self) -> list[int]:
        """Processes that live of all that were started for this Daemon; jobs' commands are not among them."""
        wanted = f"{TAG}={self._tag}".encode()
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _tagged(pid, wanted)]

    def sweep(self) -> list[int]:
        """SIGKILL whatever is left; the pids."""
        left = self.survivors()
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if self._process is not None:
            self._process.wait(STOP_TIMEOUT_S)
        until(lambda: not self.survivors(), STOP_TIMEOUT_S, "the end of what was killed")
        return left


def _tagged(pid: int, wanted: bytes) -> bool:
    """Whether a living process was started with this environment; a zombie has none."""
    try:
        return wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
