"""Runs jobs by a command that stays alive: `serve = true`. Jobs are lines on its stdin, answers lines on its stdout.

1. A worker and its command have one life: where the command ends, its worker ends in the same way. So whoever judges
   the death of a worker judges this one as well, and the next command comes by the pool's own rules.
2. After anything that leaves open what its next line would be about, no job is given to the command any more.
3. A job that the command has not read a byte of is another worker's, and nobody is charged with it.

The lines are in docs/serve.md; what is read of them is here and nowhere else.
"""

from __future__ import annotations

import os
import signal
from datetime import datetime
from typing import Any, NoReturn

import msgspec
from msgspec import UNSET, UnsetType

from supervisor.config.command import Text, parse_command
from supervisor.config.names import short_name
from supervisor.config.spec import Queue
from supervisor.errors import JobsupError
from supervisor.job import OUT_OF_TIME, Cancel, Failed, Job, Outcome, RateLimited, Snooze
from supervisor.policy.duration import show, to_ms
from supervisor.policy.tasks import Known
from supervisor.reading import is_utf8
from supervisor.unix.clock import boot_ms
from supervisor.unix.inheritance import HandlerUnusable, NotBegun
from supervisor.unix.reap import signal_name
from supervisor.worker.executors.command import find_program
from supervisor.worker.executors.python import done
from supervisor.worker.executors.served import LINE_BYTES_MAX, Ended, Served, Unreadable

PROTOCOL = 1
READY = '{"ready": true}'
EXCERPT_BYTES = 200
TYPE_NAME_MAX = 200
INVALID_ANSWER = "InvalidAnswer"

Duration = str | int | float
_encode = msgspec.json.encode


class Ready(msgspec.Struct, forbid_unknown_fields=True):
    """The first line of a command; `jobsup` is the version of the protocol that it speaks."""

    ready: bool
    jobsup: int = PROTOCOL


class Error(msgspec.Struct, forbid_unknown_fields=True):
    """What went wrong; `final` asks for no retry, `retry_after` for one after that time."""

    message: str
    type: str | None = None
    traceback: str | None = None
    final: bool = False
    retry_after: Duration | None = None


class Limited(msgspec.Struct, forbid_unknown_fields=True):
    """Nothing of the queue begins within `delay`; of the job's key only, if `key_only`."""

    delay: Duration
    key_only: bool = False


class Answer(msgspec.Struct, forbid_unknown_fields=True):
    """The line that ends a job: its id and token, and one of the others; `enqueue` may stand beside `result`."""

    id: int
    token: int
    result: Any = UNSET
    error: str | Error | UnsetType = UNSET
    snooze: Duration | UnsetType = UNSET
    rate_limited: str | int | float | Limited | UnsetType = UNSET
    cancel: str | UnsetType = UNSET
    enqueue: list[dict[str, Any]] = []


OUTCOMES = ("result", "error", "snooze", "rate_limited", "cancel")
_decode = msgspec.json.Decoder(Answer).decode
_decode_ready = msgspec.json.Decoder(Ready).decode


class ServeExecutor:
    """Starts the command of a queue once in each worker, and gives it one job after the other."""

    def __init__(self, queue: Queue, argv: list[str], program: str) -> None:
        self._queue = queue
        self._argv = argv
        self._program = program
        self._served: Served
        self._answered: tuple[int, int] | None = None
        self.spent = False
        """Whether no job can be given to the command any more."""

    @property
    def known(self) -> tuple[Known, ...]:
        """A command is no task."""
        return ()

    # -- its beginning -----------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Start the command and wait until it says that it is ready.

        Raises:
            HandlerUnusable: it cannot be started, ends, says something else, or nothing within `boot_timeout`.
        """
        try:
            self._served = Served(self._argv, self._program)
        except (OSError, ValueError) as error:
            raise HandlerUnusable(f"command: {self._argv[0]} cannot be started: {error}") from error
        try:
            self._served.send(hello(self._queue))
            check_ready(self._served.next_line(boot_ms() + self._queue.boot_timeout_ms), self._queue.boot_timeout_ms)
        except (Ended, Unreadable, ValueError) as error:
            how = how_ended(self._served.status) if isinstance(error, Ended) else str(error)
            self._served.kill()
            tail = self._served.tail()
            said = tail.strip().rpartition("\n")[2] if tail else ""
            message = f"command: {self._argv[0]} did not become ready: {how}" + (f": {said}" if said else "")
            raise HandlerUnusable(message, tail) from None

    # -- a job -------------------------------------------------------------------------------------------------

    def run(self, job: Job, payload: bytes) -> Outcome:
        """Give the job to the command and wait for its answer.

        Raises:
            NotBegun: the command can take no more jobs, and has nothing to do with this one.
        """
        self._served.begin()
        self._look_for_strays()
        if self.spent:
            raise NotBegun
        self._served.send(line_of(job, payload))
        try:
            line = self._served.next_line()
            if line is None:
                return self._out_of_time(job)
            return self._outcome(line, job)
        except Unreadable as error:
            return self._unusable(str(error))
        except Ended:
            self.spent = True
            if not self._served.begun:
                raise NotBegun from None
            self._end_alike()

    def _out_of_time(self, job: Job) -> Outcome:
        """Ask the command to end; it has a third of the grace to answer all the same, for ours ends sooner than we."""
        self.spent = True
        self._served.terminate()
        try:
            line = self._served.next_line(boot_ms() + self._queue.kill_grace_ms // 3)
            outcome = None if line is None else self._outcome(line, job)
        except (Ended, Unreadable, NotBegun):
            outcome = None
        self._served.kill()
        if outcome is None or (isinstance(outcome, Failed) and outcome.type == INVALID_ANSWER):
            return Failed(OUT_OF_TIME, kind="timeout", type="JobTimeout", last_output=self._served.tail())
        return outcome

    def _outcome(self, line: bytes, job: Job) -> Outcome:
        try:
            answer = answer_in(line)
        except ValueError as error:
            return self._unusable(f"the command wrote a line that is no answer: {error}: {excerpt(line)}")
        named, asked = (answer.id, answer.token), (job.id, job.token)
        if named != asked and named == self._answered:
            self._give_up(f"the command answered job {answer.id} twice: {excerpt(line)}")
            raise NotBegun  # it is not this job that was answered wrongly
        if named != asked:
            said = f"the command answered job {named[0]} with token {named[1]}"
            return self._unusable(f"{said}, and had job {asked[0]} with token {asked[1]}")
        if not self._served.all_sent:
            return self._unusable("the command answered before it had read the whole job")
        self._answered = asked
        outcome = outcome_of(answer, job, self._queue.max_result_bytes)
        return outcome._replace(last_output=self._served.tail()) if isinstance(outcome, Failed) else outcome

    def _unusable(self, why: str) -> Failed:
        """The failure of a job that got no answer; nobody knows what the command would write next.

        Raises:
            NotBegun: the command had not read anything of the job.
        """
        self._give_up(why)
        if not self._served.begun:
            raise NotBegun
        return Failed(why, type=INVALID_ANSWER, last_output=self._served.tail())

    def defer(self) -> bool:
        """Always: the wait for the answer ends by itself, and not in the middle of a line."""
        self._served.interrupt()
        return True

    def interrupt(self) -> None:
        """Nothing: `defer` does it."""

    # -- between jobs, and at the end --------------------------------------------------------------------------

    @property
    def descriptor(self) -> int:
        """What becomes readable when the command says something, or ends, while it has no job."""
        return self._served.descriptor

    def attend(self) -> None:
        """Look at what the command does while it has no job: it may log, and it may end; it must not answer."""
        self._served.look()
        self._look_for_strays()

    def close(self) -> None:
        """Let the command end; where it has ended by itself, with an error, this process ends in the same way."""
        self._served.leave(self._queue.kill_grace_ms)
        if not self._served.ordered and self._served.status:
            self._end_alike()

    def _look_for_strays(self) -> None:
        stray = self._served.strays()
        if stray:
            self._give_up(f"the command wrote a line without having a job: {excerpt(stray)}")
        elif self._served.status is not None or self._served.closed:
            self.spent = True

    def _give_up(self, why: str) -> None:
        """End the command, and say in the log why: no job is there to be charged with it."""
        self.spent = True
        self._served.kill()
        os.write(2, f"{why}; it is ended\n".encode())

    def _end_alike(self) -> NoReturn:
        """End this process as the command ended: who reaps it says what became of the job that it had."""
        status = self._served.status
        assert status is not None
        if status >= 0:
            os._exit(status)
        if -status not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
        os._exit(128 - status)  # as a shell says it, should the signal not end us


def load(queue: Queue) -> ServeExecutor:
    """Find the program.

    Raises:
        HandlerUnusable: it does not exist or is not executable.
    """
    assert queue.command is not None
    argv = [argument.text for argument in parse_command(queue.command) if isinstance(argument, Text)]
    return ServeExecutor(queue, argv, find_program(argv[0]))


# -- lines -----------------------------------------------------------------------------------------------------


def hello(queue: Queue) -> bytes:
    """The first line that a command reads."""
    facts = {
        "jobsup": PROTOCOL,
        "worker": short_name(queue.name),
        "max_line_bytes": LINE_BYTES_MAX,
        "max_result_bytes": queue.max_result_bytes,
    }
    return _encode(facts) + b"\n"


def check_ready(line: bytes | None, boot_timeout_ms: int) -> None:
    """Whether a command's first line says that it is ready.

    Raises:
        ValueError: it does not, or there was none.
    """
    if line is None:
        raise ValueError(f"it did not write {READY} within {show(boot_timeout_ms)} (boot_timeout)")
    try:
        said = _decode_ready(line)
    except (ValueError, RecursionError):
        raise ValueError(f"its first line must be {READY}, and is {excerpt(line)}") from None
    if not said.ready:
        raise ValueError("it says that it is not ready")
    if said.jobsup != PROTOCOL:
        raise ValueError(f"it speaks version {said.jobsup} of the protocol, and this jobsup version {PROTOCOL}")


def line_of(job: Job, payload: bytes) -> bytes:
    """A job as a line. The payload is passed on as it came, but for the line breaks that JSON allows between values."""
    facts = {
        "id": job.id,
        "token": job.token,
        "queue": job.queue,
        "payload": msgspec.Raw(payload.translate(NO_BREAKS)),
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "priority": job.priority,
        "tags": job.tags,
        "key": job.key,
        "enqueued_at": _instant(job.enqueued_at),
        "due_at": _instant(job.due_at),
        "deadline": _instant(job.deadline),
        "previous_error": job.previous_error,
        "flow": None if job.flow is None else job.flow.as_dict(),
    }
    return _encode(facts) + b"\n"


NO_BREAKS = bytes.maketrans(b"\r\n", b"  ")


def _instant(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def answer_in(line: bytes) -> Answer:
    """The answer that a line is.

    Raises:
        ValueError: it is none; the message says why.
    """
    try:
        return _decode(line)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        raise ValueError(str(error) if is_utf8(line) else "it is not UTF-8") from None


def outcome_of(answer: Answer, job: Job, max_result_bytes: int) -> Outcome:
    """What an answer means; where it means nothing, the job has failed, and the command goes on."""
    given = [name for name in OUTCOMES if getattr(answer, name) is not UNSET]
    if len(given) != 1:
        has = f"has {' and '.join(given)}" if given else "says nothing of how the job ended"
        return Failed(f"the answer {has}; it takes one of {', '.join(OUTCOMES)}", type=INVALID_ANSWER)
    try:
        if given == ["result"]:
            return _done(answer, job, max_result_bytes)
        return _not_done(answer)
    except JobsupError as error:
        return Failed(error.message, type=type(error).__name__)
    except Exception as error:  # noqa: BLE001 - the executor boundary: what a command writes may be anything
        return Failed(f"the answer's {given[0]}: {error}", type=INVALID_ANSWER)


def _done(answer: Answer, job: Job, max_result_bytes: int) -> Outcome:
    for child in answer.enqueue:
        options = dict(child)
        queue = options.pop("queue", None)
        if not isinstance(queue, str):
            return Failed(f"a job to enqueue names no queue: {excerpt(_encode(child))}", type=INVALID_ANSWER)
        job.enqueue(queue, options.pop("payload", None), **options)
    return done(answer.result, max_result_bytes)


def _not_done(answer: Answer) -> Outcome:
    if not isinstance(answer.error, UnsetType):
        return _failed(answer.error if isinstance(answer.error, Error) else Error(answer.error))
    if not isinstance(answer.snooze, UnsetType):
        return Snooze(to_ms(answer.snooze) / 1000)
    if not isinstance(answer.cancel, UnsetType):
        return Cancel(answer.cancel)
    limited = answer.rate_limited
    assert not isinstance(limited, UnsetType)
    if not isinstance(limited, Limited):
        limited = Limited(limited)
    return RateLimited(to_ms(limited.delay) / 1000, limited.key_only)


def _failed(error: Error) -> Failed:
    return Failed(
        error.message or error.type or "the command gave no message",
        type=error.type[:TYPE_NAME_MAX] if error.type else None,
        traceback=error.traceback,
        final=error.final,
        delay_ms=None if error.retry_after is None else to_ms(error.retry_after),
    )


def how_ended(status: int | None) -> str:
    """How a command ended, for people."""
    assert status is not None
    return f"it ended with exit status {status}" if status >= 0 else f"it was ended by {signal_name(-status)}"


def excerpt(line: bytes) -> str:
    """The beginning of a line, as text."""
    cut = line[:EXCERPT_BYTES].decode("utf-8", "backslashreplace")
    return f"{cut} [...]" if len(line) > EXCERPT_BYTES else cut
