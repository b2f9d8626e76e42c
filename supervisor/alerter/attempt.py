"""One run of the alert command: an argument vector, never a shell, in a session of its own, with a deadline."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from supervisor.alerter.waiting import Task
from supervisor.config.command import Field, parse_command
from supervisor.config.spec import Alerts
from supervisor.unix.reap import signal_name
from supervisor.unix.spawn import die_with

OUTPUT_TAIL_BYTES = 4096
READ_BYTES = 64 * 1024
READS_MAX = 16
"""How often in a row one command's output is read: one that writes without end must not hold up the others."""
LAST_LINE_MAX = 500
PASSED = re.compile(r"PATH|HOME|LANG|LC_.*|TZ|JOBSUP_SOCKET|JOBSUP_CONFIG|COVERAGE_.*")


class Attempt:
    """A command that runs. `pidfd` becomes readable when it has ended, `output_fd` when it has written something."""

    def __init__(self, alerts: Alerts, task: Task, environ: Mapping[str, str], until_ms: int) -> None:
        """Start the command.

        Raises:
            OSError, ValueError: it cannot be started.
        """
        assert alerts.command is not None
        self.task = task
        self.until_ms = until_ms
        self.overdue = False
        argv = arguments(alerts.command, msgspec.json.decode(task.data))
        parent = os.getpid()
        with os.fdopen(os.memfd_create("alert", os.MFD_CLOEXEC), "r+b") as stdin:
            stdin.write(task.data)
            stdin.flush()
            stdin.seek(0)
            self._process = subprocess.Popen(
                argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
                env=environment(alerts, environ), restore_signals=True,
                preexec_fn=lambda: die_with(parent, signal.SIGKILL),  # noqa: PLW1509 - there is one thread only
            )  # fmt: skip
        assert self._process.stdout is not None
        self._tail = b""
        self.pid = self._process.pid
        self.output_fd = self._process.stdout.fileno()
        os.set_blocking(self.output_fd, False)
        try:
            self.pidfd = os.pidfd_open(self._process.pid)
        except OSError:
            self.kill()
            self._process.wait()
            self._process.stdout.close()
            raise

    def read(self) -> bool:
        """Take what it has written; False when there will be no more."""
        for _ in range(READS_MAX):
            try:
                data = os.read(self.output_fd, READ_BYTES)
            except BlockingIOError:
                return True
            self._tail = (self._tail + data)[-OUTPUT_TAIL_BYTES:]
            if not data:
                return False
        return True

    def kill(self) -> None:
        """End it with all it started that is still of its group."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass

    def end(self) -> str | None:
        """It has ended: take leave of it. Returns why it failed; None if it did not."""
        self.kill()  # what it left behind: until it is waited for, the group's number is its own
        self.read()
        status = self._process.wait()
        os.close(self.pidfd)
        assert self._process.stdout is not None
        self._process.stdout.close()
        if self.overdue:
            return "it took longer than its time-out" + self._last_words()
        if status == 0:
            return None
        how = f"was ended by {signal_name(-status)}" if status < 0 else f"ended with exit status {status}"
        return f"it {how}{self._last_words()}"

    def _last_words(self) -> str:
        line = self._tail.decode("utf-8", "backslashreplace").strip().rpartition("\n")[2]
        return f": {line[:LAST_LINE_MAX]}" if line else ""


def arguments(command: Sequence[str], alert: Mapping[str, Any]) -> list[str]:
    """The argument vector for an alert. A value that a program could take for an option gets a blank before it."""
    argv: list[str] = []
    for argument in parse_command(tuple(command)):
        if isinstance(argument, Field):
            value = _shown(alert.get(argument.member))
            argv.append(f" {value}" if value.startswith("-") and "--" not in argv else value)
        else:
            argv.append(argument.text)
    return argv


def _shown(value: Any) -> str:
    """A value as one argument: nothing is empty, a list is joined by commas, and no argument can hold a NUL."""
    if value is None:
        return ""
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text.replace("\0", "")


def environment(alerts: Alerts, environ: Mapping[str, str]) -> dict[str, str]:
    """What the command sees: little of the daemon's environment, which may hold secrets, and what `env` says."""
    return {name: value for name, value in environ.items() if PASSED.fullmatch(name)} | alerts.env
