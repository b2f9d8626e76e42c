"""What the executor of Python handlers says of a failure, beside its message: classes, delays, what became of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from supervisor.job import Dead, Done, Failed, Job, JobTimeout, Retry
from supervisor.worker.executors.python import CLASS_NAME_MAX, CLASSES_MAX, PythonExecutor, classes_of

JOB = Job(id=1, queue="q", payload={"n": 1}, attempt=3)


class Derived(ConnectionError):
    """An error of our own."""


def ran(handler: Callable[[Job], Any], backoff: Callable[..., Any] | None = None) -> Failed:
    outcome = PythonExecutor(handler, 1_000, None, backoff, "m:delay").run(JOB, b"{}")
    assert isinstance(outcome, Failed)
    return outcome


def raising(error: BaseException) -> Callable[[Job], Any]:
    def handler(_: Job) -> Any:
        raise error

    return handler


def test_an_exception_is_known_by_all_its_classes() -> None:
    assert ran(raising(Derived("x"))).classes == (
        f"{__name__}.Derived", "ConnectionError", "OSError", "Exception", "BaseException",
    )  # fmt: skip


def test_however_deep_and_long_named_a_class_is_what_is_sent_is_bounded() -> None:
    kind: type[Exception] = Exception
    for number in range(50):
        kind = type("x" * 10_000 + str(number), (kind,), {})
    names = classes_of(kind())
    assert len(names) == CLASSES_MAX
    assert max(map(len, names)) == CLASS_NAME_MAX


@pytest.mark.parametrize(
    ("returned", "delay_ms", "message"),
    [
        (Retry(), None, "the handler asked for another attempt"),
        (Retry("30s", "busy"), 30_000, "busy"),
        (Retry(0), 0, "the handler asked for another attempt"),
        (Retry(reason=ValueError("their fault")), None, "their fault"),  # type: ignore[arg-type]
    ],
)
def test_a_retry_that_is_returned_is_a_failure_with_its_delay(
    returned: Retry, delay_ms: int | None, message: str
) -> None:
    failed = ran(lambda _: returned)
    assert (failed.delay_ms, failed.message, failed.type, failed.final) == (delay_ms, message, "Retry", False)
    assert failed.classes == ("supervisor.job.Retry",)


def test_a_retry_without_a_meaning_is_the_handlers_failure() -> None:
    failed = ran(lambda _: Retry("soon"))
    assert (failed.type, failed.delay_ms) == ("ValueError", None)


@pytest.mark.parametrize("value", [Retry("1s"), Dead("x")])
def test_values_cannot_be_raised(value: Any) -> None:
    assert ran(raising(value)).type == "TypeError"


@pytest.mark.parametrize(("delay", "expected"), [("5s", 5_000), (0.25, 250), (0, 0)])
def test_a_function_gives_the_delay(delay: Any, expected: int) -> None:
    asked: list[Any] = []

    def backoff(job: Job, error: BaseException) -> Any:
        asked.append((job, error))
        return delay

    error = ValueError("x")
    failed = ran(raising(error), backoff)
    assert (failed.backoff_ms, failed.backoff_error, asked) == (expected, None, [(JOB, error)])


@pytest.mark.parametrize(
    ("backoff", "said"),
    [
        (lambda *_: None, "ValueError: a duration is text, seconds, or a timedelta, not NoneType"),
        (lambda *_: -1, "ValueError: a duration is finite, not negative"),
        (lambda *_: {}["x"], "KeyError: 'x'"),
        (lambda: 1, "TypeError: "),
        (lambda *_: raising(SystemExit(3))(JOB), "SystemExit: 3"),
        (lambda *_: raising(JobTimeout("too late"))(JOB), "JobTimeout: too late"),
    ],
)
def test_a_function_that_fails_leaves_the_failure_as_it_was(backoff: Callable[..., Any], said: str) -> None:
    failed = ran(raising(ValueError("the reason")), backoff)
    assert (failed.message, failed.type, failed.backoff_ms) == ("the reason", "ValueError", None)
    assert (failed.backoff_error or "").startswith(f"m:delay gave no delay: {said}")


def test_a_function_is_asked_about_exceptions_only() -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("it was asked")

    assert ran(lambda _: Retry("1s"), never).backoff_error is None
    assert ran(raising(JobTimeout("late")), never).backoff_error is None
    assert PythonExecutor(lambda _: None, 10, None, never, "m:delay").run(JOB, b"{}") == Done(None)
