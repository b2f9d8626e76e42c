"""What becomes of the jobs of one call, by what the handler returned or raised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from supervisor.config.spec import Queue
from supervisor.job import Cancel, Dead, Done, Failed, Job, JobTimeout, Outcome, RateLimited, Retry, Snooze
from supervisor.unix.inheritance import HandlerUnusable
from supervisor.worker.executors import python
from supervisor.worker.executors.batch import BatchExecutor


class Pair(NamedTuple):
    first: int
    second: int


class OwnList(list[Any]):
    """A list by another name."""


def jobs(count: int) -> list[Job]:
    return [Job(id=number, queue="q", payload=number) for number in range(1, count + 1)]


def outcomes_of(handler: Callable[[list[Job]], Any], count: int = 2, **options: Any) -> list[Outcome]:
    found: list[Outcome] = []
    BatchExecutor(handler, 100, **options).run_batch(jobs(count), found)
    return found


def failure(outcome: Outcome) -> Failed:
    assert isinstance(outcome, Failed)
    return outcome


@pytest.mark.parametrize(
    ("entry", "outcome"),
    [
        (None, Done(None)),
        ({"a": 1}, Done(b'{"a":1}')),
        ([], Done(b"[]")),
        (Snooze("5m"), Snooze(300.0)),
        (RateLimited("1s", key_only=True), RateLimited(1.0, key_only=True)),
        (Cancel("why"), Cancel("why")),
        (Dead("why"), Failed("why", type="Dead", final=True)),
    ],
)
def test_an_entry_is_what_a_handler_of_one_job_could_return(entry: Any, outcome: Outcome) -> None:
    assert outcomes_of(lambda _: [entry, 1]) == [outcome, Done(b"1")]
    assert outcomes_of(lambda _: (entry,), 1) == [outcome]
    assert outcomes_of(lambda _: OwnList([1, entry])) == [Done(b"1"), outcome]


@pytest.mark.parametrize(
    ("entry", "type_", "said"),
    [
        (object(), "InvalidResult", "the result is not JSON"),
        (float("nan"), "InvalidResult", "NaN"),
        ("x" * 101, "ResultTooLarge", "max_result is 100"),
        (Done(b"1"), "InvalidResult", "Done is not for handlers"),
        (Failed("x"), "InvalidResult", "Failed is not for handlers"),
        (Snooze("soon"), "ValueError", "not a duration"),
        (Retry("1s", "again"), "Retry", "again"),
        (KeyError("k"), "KeyError", "KeyError: 'k'"),
        (SystemExit(3), "SystemExit", "3"),
    ],
)
def test_an_entry_that_fails_is_its_own_jobs_alone(entry: Any, type_: str, said: str) -> None:
    good, bad = outcomes_of(lambda _: [1, entry])
    assert good == Done(b"1")
    assert failure(bad).type == type_
    assert said in failure(bad).message


def test_a_returned_exception_fails_its_job_as_if_it_had_been_raised() -> None:
    def handler(_: list[Job]) -> list[Any]:
        try:
            raise LookupError("of one")
        except LookupError as error:
            return [error, ValueError("never raised"), JobTimeout("of its own")]

    caught, made, late = map(failure, outcomes_of(handler, 3))
    assert caught.classes == ("LookupError", "Exception", "BaseException")
    assert caught.traceback is not None
    assert "in handler" in caught.traceback
    assert made.traceback == "ValueError: never raised\n"
    assert (late.kind, late.type) == ("timeout", "JobTimeout")


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ([], "returned 0 outcomes"),
        ([1], "returned 1 outcomes; it must return a list with one outcome for each of its 2 jobs"),
        ([1, 2, 3], "returned 3 outcomes"),
        (Snooze("1m"), "returned a value of type Snooze"),
        (RateLimited("1m"), "returned a value of type RateLimited"),
        (Pair(1, 2), "returned a value of type Pair"),
        ({1: 2, 3: 4}, "returned a value of type dict"),
        ("ab", "returned a value of type str"),
        (iter([1, 2]), "returned a value of type list_iterator"),
        (0, "returned a value of type int"),
    ],
)
def test_what_says_nothing_about_each_job_is_a_failure_of_all(returned: Any, said: str) -> None:
    for outcome in outcomes_of(lambda _: returned):
        assert failure(outcome).type == "InvalidResult"
        assert said in failure(outcome).message


def test_none_completes_all() -> None:
    assert outcomes_of(lambda _: None, 3) == [Done(None)] * 3


def test_the_handler_may_take_its_list_apart() -> None:
    assert outcomes_of(lambda given: [given.pop().id for _ in range(len(given))]) == [Done(b"2"), Done(b"1")]


def test_what_is_raised_fails_all_each_with_its_own_backoff() -> None:
    def handler(_: list[Job]) -> None:
        raise ValueError("all of them")

    found = outcomes_of(handler, backoff=lambda job, _: job.id, backoff_name="m:f")
    assert [failure(outcome).backoff_ms for outcome in found] == [1_000, 2_000]
    assert {failure(outcome).message for outcome in found} == {"all of them"}
    (bad, *_), (told, *_) = outcomes_of(handler, backoff=lambda *_: "x", backoff_name="m:f"), outcomes_of(handler)
    assert "m:f gave no delay" in str(failure(bad).backoff_error)
    assert "test_batch_executor" in str(failure(told).traceback)


def test_a_returned_failure_has_its_backoff_too() -> None:
    (found,) = outcomes_of(lambda _: [ValueError("x")], 1, backoff=lambda *_: "3s", backoff_name="m:f")
    assert failure(found).backoff_ms == 3_000


def test_a_deadline_in_the_handler_is_a_timeout_of_all() -> None:
    def handler(_: list[Job]) -> None:
        raise JobTimeout("late")

    for outcome in outcomes_of(handler, backoff=lambda *_: "3s", backoff_name="m:f"):
        assert (failure(outcome).kind, failure(outcome).backoff_ms) == ("timeout", None)


def test_a_deadline_between_two_outcomes_leaves_the_first_as_it_is() -> None:
    class Cut(BatchExecutor):
        """As if the signal came while the second outcome is made."""

        def _outcome(self, returned: Any) -> Outcome:
            if returned == 2:
                raise JobTimeout("late")
            return super()._outcome(returned)

    found: list[Outcome] = []
    Cut(lambda _: [1, 2, 3], 100).run_batch(jobs(3), found)
    assert found[0] == Done(b"1")
    assert [failure(outcome).kind for outcome in found[1:]] == ["timeout", "timeout"]


def test_one_job_is_a_batch_of_one() -> None:
    assert BatchExecutor(lambda given: [len(given)], 100).run(jobs(1)[0], b"1") == Done(b"1")


def test_a_handler_that_cannot_be_used_says_why() -> None:
    with pytest.raises(HandlerUnusable, match="cannot be imported"):
        python.load(Queue(name="q", handler="no_such_module_here:f", batch_size=2), BatchExecutor)
