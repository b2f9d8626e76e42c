"""Runs a command: an argument vector, never a shell, whose fields are filled from the payload.

The payload comes as JSON on stdin; stdout is the result (JSON, else a string, empty is null); exit status 0 is
done, 75 asks to be run later. Each command leads a process group of its own.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
from typing import Any

import msgspec

from supervisor.config.command import Argument, Field, parse_command
from supervisor.config.spec import Queue
from supervisor.job import OUT_OF_TIME, Done, Failed, Job, JobTimeout, Outcome, Snooze
from supervisor.policy.tasks import Known
from supervisor.unix.clock import boot_ms
from supervisor.unix.inheritance import HandlerUnusable

TEMPFAIL = 75
SNOOZE_S = 60
STDERR_TAIL_BYTES = 4096
ARGUMENT_BYTES_MAX = 128 * 1024 - 1
"""The kernel takes no longer argument (MAX_ARG_STRLEN, with its closing NUL)."""
READ_BYTES = 64 * 1024


class Unfillable(ValueError):
    """A payload that the command's fields cannot be filled from; retrying would not help."""


class CommandExecutor:
    """Starts the command of a queue for each job, and waits for it."""

    descriptor = None
    spent = False

    def __init__(self, queue: Queue, program: str) -> None:
        assert queue.command is not None
        self._arguments = parse_command(queue.command)
        self._program = program
        self._queue = queue
        self._running: subprocess.Popen[bytes] | None = None
        self._starting = self._overdue = False

    @property
    def known(self) -> tuple[Known, ...]:
        """A command is no task."""
        return ()

    def prepare(self) -> None:
        """Nothing: each command is a process of its own."""

    def run(self, job: Job, payload: bytes) -> Outcome:
        """Run the command for a job; never raises but for the deadline's own exception before it began."""
        try:
            argv = fill(self._arguments, job.payload)
        except Unfillable as error:
            return Failed(str(error), type="InvalidPayload", final=True)
        stdin = os.memfd_create("payload", os.MFD_CLOEXEC)
        try:
            os.write(stdin, payload)
            os.lseek(stdin, 0, os.SEEK_SET)
            return self._start_and_wait(argv, stdin, job)
        finally:
            os.close(stdin)

    def defer(self) -> bool:
        """Not while the command is being started: nobody could end what nobody knows yet."""
        self._overdue = self._starting
        return self._starting

    def interrupt(self) -> None:
        """Ask the running command to end: SIGTERM to its group."""
        if self._running and self._running.returncode is None:
            _kill_group(self._running.pid, signal.SIGTERM)

    def attend(self) -> None:
        """Nothing happens beside jobs."""

    def close(self) -> None:
        """Nothing is left."""

    def _start(self, argv: list[str], stdin: int, job: Job) -> tuple[subprocess.Popen[bytes], Output]:
        """Start the command; it cannot be interrupted before whoever called this can end it.

        Raises:
            OSError, ValueError: it cannot be started.
        """
        process = subprocess.Popen(
            argv,
            executable=self._program,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment_of(job),
            process_group=0,
            restore_signals=True,
        )
        try:
            return process, Output(process, self._queue.max_result_bytes)
        except OSError:
            _kill_group(process.pid, signal.SIGKILL)
            process.communicate()
            raise

    def _start_and_wait(self, argv: list[str], stdin: int, job: Job) -> Outcome:
        self._starting, self._overdue = True, False
        try:
            process, output = self._start(argv, stdin, job)
        except (OSError, ValueError) as error:
            self._starting = False
            return Failed(f"{argv[0]} cannot be started: {error}", type=type(error).__name__)
        try:
            self._running = process
            self._starting = False
            if self._overdue:
                self.interrupt()
                raise JobTimeout(OUT_OF_TIME)  # noqa: TRY301 - as the signal would have, a moment ago
            output.collect()
            _kill_group(process.pid, signal.SIGKILL)
            return self._outcome(process.wait(), output)
        except JobTimeout as error:
            self._end(process, output)
            return Failed(str(error), kind="timeout", type="JobTimeout", last_output=output.tail())
        finally:
            self._running = None
            if process.returncode is None:
                _kill_group(process.pid, signal.SIGKILL)
            output.close()
            process.wait()

    def _end(self, process: subprocess.Popen[bytes], output: Output) -> None:
        """Wait for a command that was asked to end; it has a third of the grace, for ours ends sooner than we do."""
        until_ms = boot_ms() + self._queue.kill_grace_ms // 3
        output.collect(until_ms)
        _kill_group(process.pid, signal.SIGKILL)

    def _outcome(self, status: int, output: Output) -> Outcome:
        if status == 0:
            if output.too_large:
                limit = self._queue.max_result_bytes
                return Failed(f"the command wrote more than max_result ({limit} bytes)", type="ResultTooLarge")
            return Done(result_of(output.stdout()))
        if status == TEMPFAIL:
            return Snooze(SNOOZE_S)
        tail = output.tail()
        if status < 0:
            return Failed(
                f"the command was ended by {_signal_name(-status)}",
                type="CommandFailed",
                signal=-status,
                last_output=tail,
            )
        last_line = tail.strip().rpartition("\n")[2]
        said = f": {last_line}" if last_line else ""
        message = f"the command ended with exit status {status}{said}"
        return Failed(message, type="CommandFailed", exit_code=status, last_output=tail)


class Output:
    """What a running command writes: the whole of stdout up to a limit, the tail of stderr."""

    def __init__(self, process: subprocess.Popen[bytes], stdout_bytes_max: int) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self._stdout_fd, self._stderr_fd = process.stdout.fileno(), process.stderr.fileno()
        self._stdout: list[bytes] = []
        self._left = stdout_bytes_max + 1
        self._stderr = b""
        self._exit_fd = os.pidfd_open(process.pid)
        self.too_large = False

    def collect(self, until_ms: int | None = None) -> None:
        """Read until the command has ended; what others of its group hold open is not waited for."""
        poll = select.poll()
        for fd in (self._stdout_fd, self._stderr_fd, self._exit_fd):
            os.set_blocking(fd, False)
            poll.register(fd, select.POLLIN)
        while True:
            wait_ms = None if until_ms is None else max(0, until_ms - boot_ms())
            ready = {fd for fd, _ in poll.poll(wait_ms)}
            if not ready:
                return
            for fd in ready - {self._exit_fd}:
                if not self._read(fd):
                    poll.unregister(fd)
            if self._exit_fd in ready:
                while self._read(self._stdout_fd) or self._read(self._stderr_fd):
                    pass
                return

    def _read(self, fd: int) -> bool:
        """Read once; False when there is nothing more."""
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return False
        if fd == self._stderr_fd:
            self._stderr = (self._stderr + data)[-STDERR_TAIL_BYTES:]
        elif data:
            kept = data[: self._left]
            self._left -= len(kept)
            self._stdout.append(kept)
            self.too_large = self._left <= 0
        return bool(data)

    def stdout(self) -> bytes:
        """All of stdout."""
        return b"".join(self._stdout)

    def tail(self) -> str:
        """The end of stderr, as text."""
        return self._stderr.decode("utf-8", "backslashreplace")

    def close(self) -> None:
        """Close what was opened."""
        os.close(self._exit_fd)
        for stream in (self._process.stdout, self._process.stderr):
            if stream:
                stream.close()


def load(queue: Queue) -> CommandExecutor:
    """Find the program.

    Raises:
        HandlerUnusable: it does not exist or is not executable.
    """
    assert queue.command is not None
    name = parse_command(queue.command)[0]
    assert not isinstance(name, Field)
    return CommandExecutor(queue, find_program(name.text))


def find_program(name: str) -> str:
    """The path of a program.

    Raises:
        HandlerUnusable: it does not exist or is not executable.
    """
    program = shutil.which(name)
    if program is None:
        kind = "is not executable" if os.path.exists(name) else "is not found in PATH"
        raise HandlerUnusable(f"command: {name} {kind}")
    return program


def fill(arguments: tuple[Argument, ...], payload: Any) -> list[str]:
    """The argument vector for a payload.

    Raises:
        Unfillable: a member is missing, is no plain value, begins with `-` before any `--`, holds NUL, or is longer
            than the kernel takes; the message names the member.
    """
    argv: list[str] = []
    for argument in arguments:
        if isinstance(argument, Field):
            argv.append(_value(argument.member, payload, after_dashes="--" in argv))
        else:
            argv.append(argument.text)
    return argv


def _value(member: str, payload: Any, *, after_dashes: bool) -> str:
    if not isinstance(payload, dict) or member not in payload:
        raise Unfillable(f"the payload has no member {member!r}, which the command needs")
    value = payload[member]
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, str | int | float):
        text = str(value)
    else:
        raise Unfillable(f"the payload's member {member!r} must be a text, a number or true or false")
    if text.startswith("-") and not after_dashes:
        raise Unfillable(
            f"the payload's member {member!r} begins with '-', which the command could take for an option; "
            'put "--" before the field in `command` if it takes such values'
        )
    if "\0" in text:
        raise Unfillable(f"the payload's member {member!r} holds a NUL, which no argument can")
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > ARGUMENT_BYTES_MAX:
        raise Unfillable(
            f"the payload's member {member!r} has {size} bytes; the kernel takes {ARGUMENT_BYTES_MAX} in one argument"
        )
    return text


FLOW_BYTES_MAX = 64 * 1024
"""What a command is told of its flow is an environment variable up to this size, and left out beyond."""


def _flow_of(job: Job) -> dict[str, str]:
    if job.flow is None:
        return {}
    told = msgspec.json.encode(job.flow.as_dict())
    known = {"JOBSUP_FLOW_ID": str(job.flow.id)}
    return known if len(told) > FLOW_BYTES_MAX else known | {"JOBSUP_FLOW": told.decode()}


def environment_of(job: Job) -> dict[str, str]:
    """The environment of a command: the pool's own, and what it may want to know of its job."""
    return dict(os.environ) | {
        "JOBSUP_JOB_ID": str(job.id),
        "JOBSUP_QUEUE": job.queue,
        "JOBSUP_ATTEMPT": str(job.attempt),
        "JOBSUP_MAX_ATTEMPTS": str(job.max_attempts),
        "JOBSUP_TOKEN": str(job.token),
        "JOBSUP_DEADLINE": job.deadline.isoformat(),
        **_flow_of(job),
    }


def result_of(stdout: bytes) -> bytes | None:
    """The result as JSON text: what stdout is, else stdout as a string; None if it is empty."""
    stripped = stdout.strip()
    if not stripped:
        return None
    try:
        return msgspec.json.encode(msgspec.json.decode(stripped))
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return msgspec.json.encode(stdout.decode("utf-8", "backslashreplace").removesuffix("\n"))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _kill_group(pid: int, number: signal.Signals) -> None:
    """Signal a group whose leader was not waited for yet: only so long is its number surely ours."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass
