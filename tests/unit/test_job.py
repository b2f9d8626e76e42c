"""The noun: its states, its table of what can happen, and what a handler holds in its hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supervisor.job import (
    FINAL,
    JOINS,
    TRANSITIONS,
    Child,
    Course,
    Event,
    FlowOfJob,
    IllegalTransition,
    Job,
    State,
    after,
)
from tests.support.states_diagram import page


@pytest.mark.parametrize("state", [None, *State])
@pytest.mark.parametrize("event", Event)
def test_what_is_not_in_the_table_does_not_happen(state: State | None, event: Event) -> None:
    if event in TRANSITIONS[state]:
        assert after(state, event) is TRANSITIONS[state][event]
    else:
        with pytest.raises(IllegalTransition, match=f"a job that is {state or 'not there yet'} cannot {event}"):
            after(state, event)


def test_every_state_has_a_row() -> None:
    assert set(TRANSITIONS) == {None, *State}


def test_every_event_happens_somewhere() -> None:
    assert {event for row in TRANSITIONS.values() for event in row} == set(Event)


def test_a_final_job_only_comes_back_when_somebody_revives_it() -> None:
    assert {state for state in State if state.final} == FINAL
    leaving = {state: {event for event, then in TRANSITIONS[state].items() if then is not state} for state in FINAL}
    revived = {Event.REVIVE, Event.REVIVE_BLOCKED}
    assert leaving == dict.fromkeys(FINAL, revived) | {State.DEAD: revived | {Event.REVIVE_LATER}}


def test_every_state_can_be_reached_and_left() -> None:
    reached: set[State] = set()
    left = [None]
    while left:
        new = set(TRANSITIONS[left.pop()].values()) - reached
        reached |= new
        left += sorted(new)  # type: ignore[arg-type]
    assert reached == set(State)
    assert all(TRANSITIONS[state] for state in reached)


def test_states_and_events_are_their_words() -> None:
    assert f"{State.QUEUED} {Event.ENQUEUE_LATER}" == "queued enqueue later"


def test_the_page_of_states_is_what_the_table_makes() -> None:
    """If not: python -m tests.support.states_diagram > docs/states.md"""
    assert (Path(__file__).parents[2] / "docs" / "states.md").read_text() == page()


# -- Job -----------------------------------------------------------------------------------------------------------


def test_a_job_is_frozen() -> None:
    job = Job(id=1, queue="q", payload={})
    for act in (lambda: setattr(job, "id", 2), lambda: setattr(job, "new", 1), lambda: delattr(job, "payload")):
        with pytest.raises(AttributeError, match="a job is frozen"):
            act()
    assert job.id == 1


def test_a_job_says_what_it_is() -> None:
    assert (
        repr(Job(id=7, queue="emails", payload=None, attempt=2, max_attempts=3)) == "<Job 7 of emails, attempt 2 of 3>"
    )


def test_a_job_has_what_it_was_given() -> None:
    given: dict[str, Any] = {
        "id": 3, "queue": "q", "payload": [1], "attempt": 2, "max_attempts": 9, "token": 5, "priority": -1,
        "tags": ("a",), "enqueued_at": 1, "due_at": 2, "deadline": 3.5, "previous_error": "it broke",
    }  # fmt: skip
    job = Job(**given)
    assert {name: getattr(job, name) for name in given} == given


def test_a_job_passes_on_what_its_handler_enqueues() -> None:
    children: list[Child] = []
    job = Job(id=1, queue="q", payload=None, enqueue=children.append)
    job.enqueue("receipts", {"for": 1}, delay="5m")
    job.enqueue("pings")
    assert children == [Child("receipts", {"for": 1}, {"delay": "5m"}), Child("pings", None, {})]


def test_a_job_of_no_worker_enqueues_nothing() -> None:
    with pytest.raises(RuntimeError, match="only while a worker runs the job"):
        Job(id=1, queue="q", payload=None).enqueue("other")


def test_a_job_with_another_payload_is_the_same_in_everything_else() -> None:
    children: list[Child] = []
    job = Job(id=3, queue="q", payload=1, attempt=2, tags=("a",), key="k", task="t", version=1, enqueue=children.append)
    other = job.with_payload({"x": 2}, 5)
    assert (other.payload, other.version) == ({"x": 2}, 5)
    same = [name for name in Job.__slots__ if name not in ("payload", "version")]
    assert [getattr(other, name) for name in same] == [getattr(job, name) for name in same]
    assert (job.payload, job.version) == (1, 1)
    other.enqueue("q", 7)
    assert children == [Child("q", 7, {})]


def a_job(**more: Any) -> Job:
    return Job(id=1, queue="q", payload=None, **more)


def test_what_only_a_worker_gives_is_missing_elsewhere() -> None:
    job = a_job(flow=FlowOfJob(id=7))
    for call in (lambda: job.step("a", lambda: 1), lambda: job.save(1), lambda: job.progress(0.5)):
        with pytest.raises(RuntimeError, match="only while a worker runs the job"):
            call()
    assert job.cursor is None
    assert job.flow is not None
    with pytest.raises(RuntimeError, match=r"job\.flow\.enqueue works only"):
        job.flow.enqueue("q")


def test_a_step_that_was_kept_is_not_done_again() -> None:
    kept: list[tuple[str, Any]] = []
    told: list[tuple[float, str]] = []

    def keep(name: str, value: Any) -> Any:
        kept.append((name, value))
        return value

    job = a_job(
        course=lambda job: Course(keep, lambda at, text: told.append((at, text)), {"old": job.id}, "there"),
    )
    assert job.cursor == "there"
    assert job.step("old", lambda: pytest.fail("it was done before")) == 1
    with pytest.raises(ZeroDivisionError):
        job.step("new", lambda: 1 // 0)
    assert job.step("new", lambda: 2) == 2
    for name in ("old", "new"):
        with pytest.raises(ValueError, match=f"this run has had a step {name} already"):
            job.step(name, lambda: pytest.fail("nobody asked for it"))
    job.save("here")
    assert job.cursor == "here"
    job.progress(1, "done")
    with pytest.raises(ValueError, match="between 0 and 1"):
        job.progress(1.1)
    with pytest.raises(ValueError, match="a step needs a name"):
        job.step("", lambda: 4)
    assert kept == [("new", 2), ("", "here")]
    assert told == [(1.0, "done")]
    assert Course(keep, lambda *_: None).steps == {}


def test_a_job_of_a_flow_knows_it_and_adds_to_it() -> None:
    added: list[Child] = []
    flow = FlowOfJob(id=7, name="f", step="s", context=1, results={"a": 2}, add=added.append)
    assert flow.as_dict() == {
        "id": 7, "name": "f", "step": "s", "context": 1, "results": {"a": 2}, "states": {}, "signals": {},
    }  # fmt: skip
    flow.enqueue("q", 3, priority=1)
    assert added == [Child("q", 3, {"priority": 1, JOINS: True})]
