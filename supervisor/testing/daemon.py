"""A real jobsupd in a folder of its own, for tests that want processes: started, broken on purpose, and ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from supervisor.client import Client
from supervisor.config.load import load_main
from supervisor.observe import failpoint
from supervisor.testing.folder import only_outboxes_of, placed
from supervisor.testing.waiting import until
from supervisor.unix.clock import boot_ms

READY_S = 30.0
STOP_S = 15.0
MARK = "JOBSUP_TEST_DAEMON"
"""Stands in the environment of all processes of a daemon, so that those are found that outlive their master."""
OURS = ("JOBSUP_", "NOTIFY_", "LISTEN_")


class DaemonFailed(Exception):
    """The daemon did not become what it was to be; the message holds its log."""


class Daemon:
    """jobsupd on your configuration, with database, socket and log in a temporary folder; nothing outside is touched.

        with Daemon("etc/queues.toml", failpoints={"keeper.before_reply": "kill"}) as daemon:
            daemon.client.enqueue("emails", {"to": "a@b.c"})
            assert daemon.struck()

    Its processes, its time and its handlers are real. Nobody is alerted, and rows of outboxes are left where they are,
    but for those of `outboxes`.
    """

    def __init__(
        self, config: str | os.PathLike[str] | None = None, *, failpoints: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None, overrides: Sequence[str] = (),
        outboxes: Mapping[str, str | os.PathLike[str]] | None = None,
    ) -> None:  # fmt: skip
        """Args:
            config: the configuration; None: looked up as `jobsctl` does.
            failpoints: what is armed in all of its processes: name -> action, as `jobsupd --failpoints` lists them;
                "kill@3" strikes at the third time. Each strikes once, whoever reaches it.
            env: added to its environment. $JOBSUP_... of this process are not passed on.
            overrides: "section.key=value", put over the values of the configuration.
            outboxes: by their names, those outboxes of the configuration that are served, each in this database of the
                test's; the others are not.

        Raises:
            ConfigError: there is no configuration, or it cannot be used.
            UsageError: the configuration has no outbox of such a name.
            ValueError: a failpoint or an action does not exist.
        """  # fmt: skip
        self._env = dict(env or {})
        self._failpoints = _checked(failpoints)
        self.folder = Path(tempfile.mkdtemp(prefix="jobsup-"))
        try:
            spec = load_main(config, (*overrides, *placed(self.folder)))
            served = only_outboxes_of(spec, outboxes or {})
        except BaseException:
            self.folder.rmdir()
            raise
        self.config = spec.files[0]
        quiet = ["alerts.on=[]"] if spec.alerts.configured else []  # in front: a test may say otherwise
        silent = ['alerts.command=["true"]'] if spec.alerts.command else []
        self._overrides = (*quiet, *overrides, *placed(self.folder), served, *silent)
        self._mark = self.folder.name
        self._process: subprocess.Popen[bytes] | None = None
        self._client: Client[int] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- what there is -----------------------------------------------------------------------------------------

    @property
    def client(self) -> Client[int]:
        """A client of it. It starts no keeper of its own; while the daemon is being restarted, it waits for it."""
        if self._client is None:
            self._client = Client(socket=str(self.folder / "jobsup.sock"))
        return self._client

    @property
    def database(self) -> Path:
        """Its database; open it for reading only, or after the daemon has ended."""
        return self.folder / "jobs.db"

    @property
    def pid(self) -> int:
        """The process id of its master.

        Raises:
            DaemonFailed: it was never started.
        """
        if self._process is None:
            raise DaemonFailed("the daemon was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether its master lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What it has logged, over all its starts."""
        file = self.folder / "jobsupd.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def struck(self) -> dict[str, int]:
        """The failpoints that have struck so far: name -> id of the process that it struck."""
        file = self.folder / "failpoints" / "hits"
        lines = file.read_text().splitlines() if file.exists() else []
        return {name: int(pid) for name, pid in map(str.split, lines)}

    def survivors(self) -> list[int]:
        """The ids of all of its processes that live, its master's included."""
        wanted = f"{MARK}={self._mark}".encode()
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _has(pid, wanted)]

    # -- what can be done --------------------------------------------------------------------------------------

    def start(self, *, failpoints: Mapping[str, str] | None = None, ready: bool = True) -> None:
        """Start it, and wait until it is ready; again, after it has ended, on the same database.

        Args:
            failpoints: those to be armed from now on; None: as before. All may strike anew.
            ready: False: do not wait, as it may be made to die before it is ready.

        Raises:
            DaemonFailed: it runs already, has ended, or was not ready in 30 s.
        """
        if self.running:
            raise DaemonFailed("the daemon runs already; to start it anew there is restart")
        if failpoints is not None:
            self._failpoints = _checked(failpoints)
        strikes = self.folder / "failpoints"
        shutil.rmtree(strikes, ignore_errors=True)
        strikes.mkdir(mode=0o777)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            name = f"{self._mark}-{boot_ms()}"
            notify.bind(f"\0{name}")
            with (self.folder / "jobsupd.log").open("ab") as log:
                self._process = subprocess.Popen(
                    self._command(), env=self._environment(name, strikes), stdin=subprocess.DEVNULL, stdout=log,
                    stderr=log, start_new_session=True,
                )  # fmt: skip
            if ready:
                self._await_ready(notify)

    def restart(self, *, failpoints: Mapping[str, str] | None = None) -> None:
        """Stop it if it runs, wait until all of its processes are gone, and start it again; as `start`."""
        if self.running:
            self.stop()
        until(lambda: not self.survivors(), STOP_S, "the end of all processes of the daemon")
        self.start(failpoints=failpoints)

    def stop(self, timeout_s: float = STOP_S) -> int:
        """SIGTERM: it drains and stops; its exit status.

        Raises:
            DaemonFailed: it has not ended in time.
        """
        return self._end(signal.SIGTERM, timeout_s)

    def kill(self) -> int:
        """SIGKILL to its master alone, and wait until that is gone; the others are for jobsup to bring to an end."""
        return self._end(signal.SIGKILL, STOP_S)

    def wait_end(self, timeout_s: float = STOP_S) -> int:
        """Wait until its master has ended by itself, as of a failpoint; its exit status, -9 for SIGKILL.

        Raises:
            DaemonFailed: it has not ended in time.
        """
        try:
            return self._started().wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise DaemonFailed(f"jobsupd did not end within {timeout_s} s:\n{self.log}") from None

    def wait_struck(self, name: str, timeout_s: float = READY_S) -> int:
        """Wait until a failpoint has struck; the id of the process that it struck.

        Raises:
            TimeoutError: it did not in this time: nobody came by, or it is not armed.
        """
        return until(lambda: self.struck().get(name), timeout_s, f"a strike at {name}")

    def close(self) -> None:
        """End it and all of its processes, by their ids, and delete its folder; tolerates being called again."""
        if self._client is not None:
            self._client.close()
            self._client = None
        if self.running:
            self._signal_all(signal.SIGCONT)  # what a failpoint has stopped must go on to end
            with contextlib.suppress(DaemonFailed):
                self._end(signal.SIGQUIT, STOP_S)
        self._signal_all(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(STOP_S)
        until(lambda: not self.survivors(), STOP_S, "the end of what was killed")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in self.survivors():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise DaemonFailed("the daemon was not started")
        return self._process

    def _end(self, number: signal.Signals, timeout_s: float) -> int:
        self._started().send_signal(number)
        return self.wait_end(timeout_s)

    def _command(self) -> list[str]:
        sets = [part for value in self._overrides for part in ("--set", value)]
        return [sys.executable, "-m", "supervisor.cli.jobsupd", "-c", self.config, *sets]

    def _environment(self, notify: str, strikes: Path) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        armed = ",".join(f"{name}={action}" for name, action in self._failpoints.items())
        own = {"NOTIFY_SOCKET": f"@{notify}", MARK: self._mark, "JOBSUP_FAILPOINT_DIR": str(strikes)}
        return kept | self._env | own | ({"JOBSUP_FAILPOINTS": armed} if armed else {})

    def _await_ready(self, notify: socket.socket) -> None:
        until_ms = boot_ms() + READY_S * 1000
        notify.settimeout(0.05)
        while boot_ms() < until_ms:
            try:
                if b"READY=1" in notify.recv(65536).split(b"\n"):
                    return
            except TimeoutError:
                if not self.running:
                    raise DaemonFailed(
                        f"jobsupd ended with {self.wait_end()} before it was ready:\n{self.log}"
                    ) from None
        raise DaemonFailed(f"jobsupd was not ready within {READY_S} s:\n{self.log}")


def _checked(failpoints: Mapping[str, str] | None) -> dict[str, str]:
    armed = dict(failpoints or {})
    failpoint.parse(",".join(f"{name}={action}" for name, action in armed.items()))
    return armed


def _has(pid: int, wanted: bytes) -> bool:
    """Whether a living process was started with this in its environment; a zombie has none."""
    try:
        return wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
