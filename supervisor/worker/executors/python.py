"""Runs a Python callable of one argument: `handler = "package.module:function"`."""

from __future__ import annotations

import importlib
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import isfinite
from types import FrameType
from typing import Any

import msgspec

from supervisor.config.spec import Queue
from supervisor.job import Cancel, Dead, Done, Failed, Job, JobTimeout, Outcome, RateLimited, Retry, Snooze
from supervisor.policy.duration import show, to_ms
from supervisor.policy.tasks import Known
from supervisor.unix.inheritance import HandlerUnusable
from supervisor.wire.payload import DEPTH_MAX, too_deep

_encode = msgspec.json.encode
CLASSES_MAX = 16
CLASS_NAME_MAX = 200
Backoff = Callable[[Job, BaseException], Any]
"""What a queue names as its backoff's function: it returns a duration."""


class PythonExecutor:
    """Calls the handler and turns whatever comes of it into an outcome."""

    descriptor = None
    spent = False

    def __init__(
        self, handler: Callable[..., Any], max_result_bytes: int, after_fork: Callable[[], Any] | None = None,
        backoff: Backoff | None = None, backoff_name: str | None = None,
    ) -> None:  # fmt: skip
        self._handler = handler
        self._max_result_bytes = max_result_bytes
        self._after_fork = after_fork
        self._backoff = backoff
        self._backoff_name = backoff_name

    @property
    def known(self) -> tuple[Known, ...]:
        """One function is no task."""
        return ()

    def prepare(self) -> None:
        """Call what the queue names as `after_fork`: to open connections that must not be shared."""
        if self._after_fork:
            self._after_fork()

    def run(self, job: Job, payload: bytes) -> Outcome:  # noqa: ARG002 - commands take it as text
        """Run the job; never raises, whatever the handler does, but for the deadline's own exception."""
        try:
            returned = self._handler(job)
            if returned is None:
                return Done(None)
            return self._outcome(returned)
        except BaseException as error:  # noqa: BLE001 - the executor boundary: user code may raise anything
            return self._with_backoff(failure_of(error, trace_of(error)), job, error)

    def _with_backoff(self, failed: Failed, job: Job, error: BaseException) -> Failed:
        """The failure with the delay that the queue's function gives, if it has one; or with why it gave none."""
        if self._backoff is None or failed.kind == "timeout":
            return failed
        try:
            return failed._replace(backoff_ms=to_ms(self._backoff(job, error)))
        except BaseException as problem:  # noqa: BLE001 - user code; the job has failed already, of something else
            name, said = type(problem).__qualname__, message_of(problem)
            said = said if said.startswith(name) else f"{name}: {said}"
            return failed._replace(backoff_error=f"{self._backoff_name} gave no delay: {said}")

    def defer(self) -> bool:
        """The handler may be interrupted anywhere."""
        return False

    def interrupt(self) -> None:
        """Nothing to do: the exception that is raised in the handler is the interruption."""

    def attend(self) -> None:
        """Nothing happens beside jobs."""

    def close(self) -> None:
        """Nothing is left."""

    def _outcome(self, returned: Any) -> Outcome:
        match returned:
            case Snooze(delay):
                return Snooze(to_ms(delay) / 1000)
            case RateLimited(delay, key_only):
                return RateLimited(to_ms(delay) / 1000, bool(key_only))
            case Cancel(reason):
                return Cancel(_words(reason))
            case Retry() | Dead():
                return _given_up(returned)
            case Done() | Failed():
                name = type(returned).__name__
                return Failed(f"{name} is not for handlers: return a result, or raise", type="InvalidResult")
        return done(returned, self._max_result_bytes)


def failure_of(error: BaseException, trace: str) -> Failed:
    """The failure of a handler that raised this; a deadline's own exception is a time-out."""
    if isinstance(error, JobTimeout):
        return Failed(str(error), kind="timeout", type="JobTimeout", traceback=trace)
    return Failed(message_of(error), type=type(error).__qualname__, traceback=trace, classes=classes_of(error))


def done(returned: Any, max_result_bytes: int) -> Done | Failed:
    """The outcome of a job that gave a result: it is done, unless the result cannot be kept."""
    try:
        result = _encode(returned)
        nan = b"null" in result and holds_nan(returned)
    except Exception as error:  # noqa: BLE001 - any type's own encoding may raise anything
        return Failed(f"the result is not JSON: {error}", type="InvalidResult")
    if nan:
        return Failed("the result holds NaN or Infinity, which JSON does not have", type="InvalidResult")
    if too_deep(result):
        return Failed(f"the result is nested deeper than {DEPTH_MAX} levels", type="InvalidResult")
    if len(result) > max_result_bytes:
        return Failed(f"the result has {len(result)} bytes, max_result is {max_result_bytes}", type="ResultTooLarge")
    return Done(result)


ASKED_AGAIN = "the handler asked for another attempt"
ASKED_CLASS = "supervisor.job.Retry"


def _given_up(returned: Retry | Dead) -> Failed:
    """The failure that a handler returned as a value."""
    if isinstance(returned, Dead):
        return Failed(_words(returned.reason), type="Dead", final=True)
    delay_ms = None if returned.delay is None else to_ms(returned.delay)
    return Failed(_words(returned.reason) or ASKED_AGAIN, type="Retry", classes=(ASKED_CLASS,), delay_ms=delay_ms)


def classes_of(error: BaseException) -> tuple[str, ...]:
    """The classes of an exception by name, the most derived first; those of builtins without their module."""
    return tuple(map(_class_name, type(error).__mro__[:-1][:CLASSES_MAX]))


def _class_name(kind: type) -> str:
    module, name = str(kind.__module__), str(kind.__qualname__)
    return (name if module == "builtins" else f"{module}.{name}")[:CLASS_NAME_MAX]


def holds_nan(value: Any) -> bool:
    """Whether a value that can be encoded has a float in it that JSON cannot hold: msgspec writes null for it."""
    left = [msgspec.to_builtins(value)]
    while left:
        one = left.pop()
        if isinstance(one, float) and not isfinite(one):
            return True
        if isinstance(one, dict):
            left.extend(one.values())
        elif isinstance(one, (list, tuple, set, frozenset)):
            left.extend(one)
    return False


def load(queue: Queue, executor: type[PythonExecutor] = PythonExecutor) -> PythonExecutor:
    """Import the handler, for this kind of executor.

    Raises:
        HandlerUnusable: it cannot be imported or is not callable; with the traceback.
    """
    assert queue.handler is not None
    with within(queue.boot_timeout_ms):
        return executor(resolve(queue.handler), *beside(queue))


def beside(queue: Queue) -> tuple[int, Callable[[], Any] | None, Backoff | None, str | None]:
    """What an executor has beside its handler, the functions imported.

    Raises:
        HandlerUnusable: one cannot be imported or is not callable; with the traceback.
    """
    after_fork = resolve(queue.after_fork) if queue.after_fork else None
    function = queue.backoff.function
    return queue.max_result_bytes, after_fork, resolve(function) if function else None, function


class ImportOverdue(BaseException):
    """The import of a handler takes longer than it may. No Exception: imports that try and go on must not catch it."""


@contextmanager
def within(limit_ms: int) -> Iterator[None]:
    """Raise ImportOverdue where the block is when its time is over: so the traceback shows what it waits for.

    An import that holds the interpreter, or takes SIGALRM for itself, is ended from outside, without a traceback.
    """

    def overdue(_signal: int, _frame: FrameType | None) -> None:
        raise ImportOverdue(f"it did not end within {show(limit_ms)} (boot_timeout)")

    before = signal.signal(signal.SIGALRM, overdue)
    signal.setitimer(signal.ITIMER_REAL, limit_ms / 1000)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def resolve(name: str) -> Callable[..., Any]:
    """The object that `package.module:name.inner` names.

    Raises:
        HandlerUnusable: it cannot be imported or is not callable.
    """
    module_name, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in path.split("."):
            found = getattr(found, part)
    except BaseException as error:
        raise HandlerUnusable(f"{name} cannot be imported: {message_of(error)}", trace_of(error)) from error
    if not callable(found):
        raise HandlerUnusable(f"{name} is not callable: it is of type {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def _words(reason: Any) -> str:
    """A reason as text: handlers also give the exception itself."""
    if isinstance(reason, BaseException):
        return message_of(reason)
    return reason if isinstance(reason, str) else repr(reason)


def message_of(error: BaseException) -> str:
    """What an exception says, or its name where it says nothing; its own __str__ may fail.

    A KeyError says its key and no more, which is no sentence where the class is not shown beside it.
    """
    try:
        name = type(error).__qualname__
        return f"{name}: {error}" if isinstance(error, KeyError) else str(error) or name
    except JobTimeout:
        raise
    except BaseException:  # noqa: BLE001 - user code
        return type(error).__qualname__


def trace_of(error: BaseException, *, caught: bool = False) -> str:
    """The traceback from the handler on: our own frames say nothing to its author.

    `caught`: the handler has caught it, so that no frame of ours is above its own.
    """
    try:
        frames = error.__traceback__
        if frames is not None and not caught:
            frames = frames.tb_next
        return "".join(traceback.format_exception(type(error), error, frames))
    except JobTimeout:
        raise
    except BaseException:  # noqa: BLE001 - formatting calls user code
        return type(error).__qualname__
