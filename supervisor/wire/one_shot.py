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
from supervisor.wire.client import Clock, Stream

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


class OneShot(Stream):
    """The connection to a keeper that was started for it. It alone has the database: there can be no second."""

    exclusive = True

    def __init__(self, sock: socket.socket, clock_ms: Clock, process: subprocess.Popen[bytes], said_fd: int) -> None:
        super().__init__(sock, clock_ms)
        self._process = process
        self._said_fd = said_fd
        self._said: tuple[str, ...] = ()
        self._hint: str | None = None

    def close(self) -> None:
        """End the connection, and wait for the keeper to end: whoever comes next finds the database free."""
        super().close()
        try:
            self._process.wait(EXIT_WAIT_S)
        except subprocess.TimeoutExpired:
            pass
        self._hear()

    def abandon(self) -> None:
        """As for any stream; the process is not this one's child."""
        super().close()
        self._process.returncode = 0
        self._hear()

    def cause(self) -> JobsupError | None:
        """What its exit status means, if it ended without a single answer; what it wrote to stderr says why."""
        status = self._process.returncode
        if self.answered or status is None or status <= 0:
            return None
        said = self._said or (f"the one-shot keeper ended with status {status}",)
        kind = CLASS_OF_STATUS.get(status, Internal)
        if kind is ConfigError:
            return ConfigError(said[0], hint=self._hint, problems=said)
        return kind(said[0], hint=self._hint)

    def _hear(self) -> None:
        """Keep what the keeper wrote to stderr, once: sentences behind its name, and an indented hint."""
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


def start(config: str, overrides: Sequence[str], clock_ms: Clock) -> OneShot:
    """Start a keeper for the database that the configuration names, and connect to it.

    Whether it can do its work shows with the first question.

    Raises:
        NotRunning: no process can be started.
    """
    ours, theirs = socket.socketpair()
    said_fd = os.memfd_create("jobsup-one-shot")
    try:
        with theirs:
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
        ours.close()
        os.close(said_fd)
        raise NotRunning(f"no daemon is running, and no keeper could be started: {error}") from None
    return OneShot(ours, clock_ms, process, said_fd)


def _environment() -> dict[str, str]:
    """Ours, so that the keeper finds this same package where it is not installed, as in a clone."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    environment = dict(os.environ)
    if os.path.basename(root) not in {"site-packages", "dist-packages"}:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
    return environment
