"""Tasks as their authors write them: what is marked, what is refused at import, what a payload becomes."""

from __future__ import annotations

import functools
import json
import types
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import pytest

from supervisor.job import Dead, Job
from supervisor.task import Task, task, tasks_of


def job_of(payload: Any, *, name: str = "t", version: int | None = 1) -> Job:
    return Job(id=7, queue="q", payload=payload, task=name, version=version)


@dataclass
class Address:
    street: str


def test_a_task_is_still_its_function() -> None:
    @task
    def double(number: int) -> int:
        """Twice as much."""
        return 2 * number

    assert isinstance(double, Task)
    assert double(4) == 8
    assert double.__doc__ == "Twice as much."
    assert (double.name, double.version, double.oldest, double.aliases) == ("double", 1, 1, ())
    assert repr(double) == "<task double, version 1>"


def test_members_of_the_payload_are_its_arguments_by_their_annotations() -> None:
    @task
    def at(when: datetime, count: int, tags: list[str]) -> Any:
        return when, count, tags

    ran = at.run(job_of({"when": "2026-01-31T09:00:00Z", "count": 3, "tags": ["a"]}))
    assert (ran[0].year, ran[0].hour, ran[1:]) == (2026, 9, (3, ["a"]))


def test_the_job_comes_first_if_the_first_parameter_asks_for_it() -> None:
    @task
    def with_job(job: Job, x: int = 5, *, y: str | None = None) -> Any:
        return job.id, x, y

    assert with_job.run(job_of({})) == (7, 5, None)
    assert with_job.run(job_of({"x": 1, "y": "z"})) == (7, 1, "z")


def test_a_task_that_wants_nothing_takes_any_payload() -> None:
    @task
    def tick() -> str:
        return "tock"

    @task
    def whole(job: Job) -> Any:
        return job.payload

    assert tick.run(job_of(None)) == "tock"
    assert whole.run(job_of([1, 2])) == [1, 2]
    assert (tick.schema(), whole.schema()) == (None, None)


def test_defaults_are_those_of_the_function_even_if_json_cannot_hold_them() -> None:
    nothing = object()

    @task
    def keeps(x: Any = nothing, y: list[int] = [1, 2]) -> Any:  # noqa: B006 - such defaults exist
        return x, y

    assert keeps.run(job_of({})) == (nothing, [1, 2])
    assert keeps.run(job_of({"x": None})) == (None, [1, 2])


@pytest.mark.parametrize(
    "payload, said",
    [
        ({}, "missing required field `to`"),
        ({"to": 5}, "Expected `str`, got `int` - at `$.to`"),
        ({"to": "a", "how": "loud"}, "Invalid enum value 'loud' - at `$.how`"),
        ({"to": "a", "cc": "b"}, "unknown field `cc`"),
        (["a"], "Expected `object`, got `array`"),
        (None, "Expected `object`, got `null`"),
    ],
)
def test_a_payload_that_does_not_fit_is_given_up_and_says_where(payload: Any, said: str) -> None:
    @task
    def send(to: str, how: Literal["quiet", "bold"] = "quiet") -> None:
        raise AssertionError("it must not run")

    ran = send.run(job_of(payload))
    assert isinstance(ran, Dead)
    assert ran.reason.startswith("the payload does not fit task send: ")
    assert said in ran.reason


def test_its_schema_says_what_it_takes() -> None:
    @task(name="mail.send")
    def send(to: str, where: Address | None = None, n: int = 3) -> None:
        """Nothing."""

    assert send.schema() is not None
    whole = json.loads(send.schema() or "")
    found = whole["$defs"][whole["$ref"].rpartition("/")[2]]
    assert (found["required"], sorted(found["properties"])) == (["to"], ["n", "to", "where"])
    assert found["additionalProperties"] is False


def test_a_schema_that_is_too_long_is_not_published() -> None:
    long: Any = Literal[tuple(f"value {number:08d}" for number in range(6_000))]

    def choose(which: str) -> None:
        """Nothing."""

    choose.__annotations__["which"] = long
    assert task(choose).known.schema is None


def test_keys_of_objects_may_be_more_than_texts() -> None:
    @task
    def ints(x: dict[int, str]) -> Any:
        return x

    assert ints.run(job_of({"x": {"1": "a"}})) == {1: "a"}


# -- versions ----------------------------------------------------------------------------------------------------------


def versioned() -> Task:
    @task(version=4)
    def report(day: str, format: str) -> Any:  # noqa: A002
        return day, format

    @report.upgrade(2)
    def _(payload: Any) -> Any:
        return {"day": payload["date"], "format": "html"}

    @report.upgrade(3)
    def _(payload: Any) -> Any:
        return payload | {"format": payload["format"].upper()}

    return report


def test_an_old_payload_goes_through_each_upgrade_in_turn() -> None:
    report = versioned()
    assert report.run(job_of({"date": "mon"}, version=2)) == ("mon", "HTML")
    assert report.run(job_of({"day": "mon", "format": "pdf"}, version=3)) == ("mon", "PDF")
    assert report.run(job_of({"day": "mon", "format": "pdf"}, version=4)) == ("mon", "pdf")


def test_the_oldest_version_is_the_one_from_which_upgrades_lead_on() -> None:
    assert versioned().oldest == 2

    @task(version=5)
    def gap() -> None:
        """Nothing."""

    gap.upgrade(2)(dict)
    assert gap.oldest == 5


def test_a_job_of_no_version_is_of_the_one_at_hand() -> None:
    assert versioned().run(job_of({"day": "mon", "format": "pdf"}, version=None)) == ("mon", "pdf")


def test_the_job_that_a_handler_sees_has_the_upgraded_payload() -> None:
    @task(version=2)
    def see(job: Job) -> Any:
        return job.payload, job.version, job.id

    see.upgrade(1)(lambda payload: payload + 1)
    assert see.run(job_of(1, version=1)) == (2, 2, 7)


@pytest.mark.parametrize(
    "mark, said",
    [
        (lambda: versioned().upgrade(4), "nothing to upgrade from 4"),
        (lambda: versioned().upgrade(0), "nothing to upgrade from 0"),
        (lambda: versioned().upgrade(2), "two upgrades from version 2"),
        (lambda: task(name="with blank")(lambda: None), "'with blank' is no name of a task"),
        (lambda: task(name="x" * 201)(lambda: None), "is no name of a task"),
        (lambda: task(aliases=[""])(lambda: None), "is no name of a task"),
        (lambda: task(name="x", aliases=map(str, range(101)))(lambda: None), "task x has 101 aliases"),
        (lambda: task(functools.partial(print)), "'' is no name of a task"),
        (lambda: task(version=0)(lambda: None), "0 is no version of a task"),
        (lambda: task(version=True)(lambda: None), "True is no version of a task"),
    ],
)
def test_what_is_no_name_and_no_version_is_refused(mark: Callable[[], Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        mark()


def test_aliases_are_a_list() -> None:
    with pytest.raises(TypeError, match="aliases of task f: a list of names, not one text"):
        task(name="f", aliases="old")(lambda: None)


def test_parameters_that_json_cannot_fill_are_refused_at_import() -> None:
    def many(*args: int) -> None:
        """Nothing."""

    def anything(**kwargs: int) -> None:
        """Nothing."""

    def sealed(x: int, /) -> None:
        """Nothing."""

    for function in (many, anything, sealed):
        with pytest.raises(TypeError, match="cannot be filled from a JSON object"):
            task(function)

    def odd(x: Callable[[], None]) -> None:
        """Nothing."""

    with pytest.raises(TypeError, match="task odd: JSON cannot hold what x is annotated with, "):
        task(odd)


def test_annotations_that_mean_nothing_are_refused_and_that_of_the_job_is_not_asked_for() -> None:
    def lost(job: Nowhere, x: Somewhere) -> None:  # type: ignore[name-defined]  # noqa: F821
        """Nothing."""

    with pytest.raises(TypeError, match="task lost: the annotation of x means nothing: name 'Somewhere' is not"):
        task(lost)

    def fine(job: Nowhere, x) -> Any:  # type: ignore  # noqa: F821
        return x

    assert task(fine).run(job_of({"x": [1]})) == [1]


def test_async_functions_are_refused() -> None:
    async def slow() -> None:
        """Nothing."""

    with pytest.raises(TypeError, match="task slow is an async function"):
        task(slow)


# -- modules -----------------------------------------------------------------------------------------------------------


def module_of(**names: Any) -> types.ModuleType:
    module = types.ModuleType("made")
    vars(module).update(names)
    return module


def test_a_module_has_the_tasks_that_its_names_stand_for() -> None:
    one = task(name="one", aliases=["uno"])(lambda: None)
    other = task(name="other")(lambda: None)
    assert tasks_of(module_of(a=one, b=other, again=one, number=5)) == {"one": one, "uno": one, "other": other}


def test_a_module_without_tasks_and_two_tasks_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="module made has no tasks: mark functions with @task"):
        tasks_of(module_of(f=len))
    one, other = task(name="same")(lambda: None), task(name="x", aliases=["same"])(lambda: None)
    with pytest.raises(ValueError, match="module made has two tasks of the name same"):
        tasks_of(module_of(a=one, b=other))
