"""How a flow stands, in sentences."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.flow.standing import explanation, next_steps


def flow(
    *steps: Any, state: str = "running", opened: bool = False, name: str | None = None, more: bool = False
) -> dict[str, Any]:
    jobs = [each for each in steps if each["kind"] == "job"]
    left = sum(each["state"] not in ("completed", "dead") for each in jobs)
    return {"id": 1, "name": name, "state": state, "open": opened, "steps": list(steps), "more": more,
            "jobs": {"all": len(jobs), "unfinished": left}}  # fmt: skip


def job(number: int, state: str, *after: int, waits: int = 0, name: str | None = None) -> dict[str, Any]:
    return {"id": number, "kind": "job", "name": name, "state": state, "after": list(after), "waits": waits}


def signal(number: int, name: str, state: str = "waiting") -> dict[str, Any]:
    return {"id": number, "kind": "signal", "name": name, "state": state, "after": [], "waits": 0}


BEGUN = "flow 1: running, "


@pytest.mark.parametrize(
    ("found", "told", "also"),
    [
        (flow(job(2, "completed"), state="completed"), "flow 1: completed, 1 of 1 jobs have ended", []),
        (
            flow(job(2, "running", name="a"), name="f"),
            "flow 1 (f): running, 0 of 1 jobs have ended; a (job 2) is running", [],
        ),
        (
            flow(*(job(each, "queued") for each in range(2, 7)), job(7, "blocked", 2, waits=1)),
            BEGUN + "0 of 6 jobs have ended; job 2, job 3, job 4 and 2 more are queued", [],
        ),
        (
            flow(job(2, "scheduled"), job(3, "running")),
            BEGUN + "0 of 2 jobs have ended; job 3 is running", ["job 2 is scheduled"],
        ),
        (
            flow(job(2, "completed"), signal(3, "go"), signal(4, "on", "came"), job(5, "blocked", 2, 3, 4, waits=1)),
            BEGUN + "1 of 2 jobs have ended; job 5 waits for signal go: jobsctl flow signal 1 go", [],
        ),
        (
            flow(job(2, "blocked"), signal(3, "go"), job(5, "blocked", 2, 3, waits=2)),
            BEGUN + "0 of 2 jobs have ended; job 2 waits for code that knows the task", [],
        ),
        (flow(opened=True), BEGUN + "0 of 0 jobs have ended; it is open, and ends after jobsctl flow close 1", []),
        (flow(job(2, "blocked", 9, waits=1)), BEGUN + "0 of 1 jobs have ended", []),
    ],
)  # fmt: skip
def test_it_says_what_goes_on_first_and_then_what_is_waited_for(
    found: dict[str, Any], told: str, also: list[str]
) -> None:
    answer = explanation(found)
    assert answer["sentence"] == told
    assert [each["sentence"] for each in answer["reasons"][1:]] == also
    assert (answer["reasons"][0]["ended"], answer["reasons"][0]["jobs"]) == (
        found["jobs"]["all"] - found["jobs"]["unfinished"], found["jobs"]["all"]
    )  # fmt: skip


def test_reasons_have_kinds_and_numbers() -> None:
    found = flow(
        job(2, "queued", name="a"),
        job(3, "blocked"),
        signal(4, "go"),
        job(5, "blocked", 4, waits=1),
        opened=True,
        more=True,
    )
    reasons = explanation(found)["reasons"]
    assert [each["kind"] for each in reasons] == ["goes_on", "signals", "no_code", "open", "more"]
    assert (reasons[0]["steps"], reasons[0]["count"], reasons[0]["state"]) == ([{"id": 2, "name": "a"}], 1, "queued")
    assert reasons[1]["signals"] == ["go"]
    assert "more steps than the 4 that" in reasons[-1]["sentence"]


def test_the_steps_that_wait_for_no_other_are_next() -> None:
    found = flow(
        job(2, "completed"), job(3, "running"), job(4, "blocked"), job(5, "blocked", 3, waits=1), signal(6, "go")
    )
    assert next_steps(found) == [3, 4]
