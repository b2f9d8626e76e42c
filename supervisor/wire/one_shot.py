"""A keeper of one's own, where no daemon runs: started as a process, spoken to over a socketpair.

There is still only one writer of the database: the keeper takes the writer lock or ends with status 75, and ends
when its client does.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from supervisor.errors import (
    EXIT_BUSY,
    EXIT_IO,
    EXIT_NEWER,
    EXIT_NOT_RUNNING,
    EXIT_USAGE,
    Busy,
    ConfigError,
    Denied,
    Internal,
    JobsupError,
    NotRunning,
    StoreError,
    StoreNewer,
)

EXIT_WAIT_S = 10
SAID_BYTES_MAX = 4096

SPEAKER = "jobsupd: "
"""What stands before the sentences that jobsupd writes to stderr."""

CLASS_OF_STATUS: dict[int, type[JobsupError]] = {
    EXIT_USAGE: ConfigError,
    EXIT_NOT_RUNNING: Denied,
    EXIT_IO: StoreError,
    EXIT_BUSY: Busy,
    EXIT_NEWER: StoreNewer,
}


class Keeper:
    """The process of a keeper that was started for one client. It alone has the database: there can be no second."""

    def __init__(self, process: subprocess.Popen[bytes], said_fd: int) -> None:
        self.process = process
        self._said_fd = said_fd
        self._said: tuple[str, ...] = ()
        self._hint: str | None = None

    def wait(self, timeout_s: float) -> None:
        """Wait for its end, which that of the connection brings about: whoever comes next finds the database free."""
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pass
        self.hear()

    def abandon(self) -> None:
        """It belongs to the process that was forked from."""
        self.process.returncode = 0
        self.hear()

    def cause(self) -> JobsupError | None:
        """What its exit status means, if it ended before it answered; what it wrote to stderr says why."""
        status = self.process.returncode
        if status is None or status <= 0:
            return None
        said = self._said or (f"the one-shot keeper ended with status {status}",)
        kind = CLASS_OF_STATUS.get(status, Internal)
        if kind is ConfigError:
            return ConfigError(said[0], hint=self._hint, problems=said)
        return kind(said[0], hint=self._hint)

    def hear(self) -> None:
        """Keep what it wrote to stderr, once: sentences behind its name, and an indented hint."""
        if self._said_fd < 0:
            return
        size = os.fstat(self._said_fd).st_size
        told = os.pread(self._said_fd, SAID_BYTES_MAX, max(size - SAID_BYTES_MAX, 0))
        os.close(self._said_fd)
        self._said_fd = -1
        lines = [line for line in told.decode(errors="replace").splitlines() if line.strip()]
        spoken = [line.removeprefix(SPEAKER) for line in lines if line.startswith(SPEAKER)]
        self._said = tuple(spoken or lines[-1:])
        self._hint = next((line.strip() for line in lines if line.startswith("  ")), None)


def command(config: str, overrides: Sequence[str], fd: int) -> list[str]:
    """What starts a one-shot keeper for the client at the other end of `fd`.

    `-P`: the working directory, which may be anybody's, is not where Python looks for modules.
    """
    program = [sys.executable, "-P", "-m", "supervisor.cli.jobsupd", "--one-shot", "--fd", str(fd), "-c", config]
    return program + [word for override in overrides for word in ("--set", override)]


def start(config: str, overrides: Sequence[str]) -> tuple[socket.socket, Keeper]:
    """Start a keeper for the database that the configuration names, and connect to it.

    Whether it can do its work shows with the first question.

    Raises:
        NotRunning: no process can be started.
    """
    with ExitStack() as unless_started:
        try:
            ours, theirs = socket.socketpair()
            unless_started.callback(ours.close)
            with theirs:
                said_fd = os.memfd_create("jobsup-one-shot")
                unless_started.callback(os.close, said_fd)
                process = subprocess.Popen(
                    command(config, overrides, theirs.fileno()),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=said_fd,
                    pass_fds=[theirs.fileno()],
                    env=_environment(),
                    start_new_session=True,
                )
        except OSError as error:
            raise NotRunning(f"no daemon is running, and no keeper could be started: {error}") from None
        unless_started.pop_all()
    return ours, Keeper(process, said_fd)


def _environment() -> dict[str, str]:
    """Ours, so that the keeper finds this same package where it is not installed, as in a clone."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    environment = dict(os.environ)
    if os.path.basename(root) not in {"site-packages", "dist-packages"}:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
    return environment
