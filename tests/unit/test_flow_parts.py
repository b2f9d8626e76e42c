"""The pure parts of flows: plans, conditions, what the end of a step does, how programs write them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.cli.commands.flow import _above
from supervisor.errors import InvalidFlow, InvalidPayload
from supervisor.flow import Flow, Step, condition, step
from supervisor.flow.condition import BadCondition
from supervisor.flow.plan import (
    CONDITIONS_MAX,
    EDGES_MAX,
    FREE_CONDITIONS_MAX,
    NEAR_MAX,
    NEAR_PAIRS_MAX,
    PARENTS_MAX,
    FlowInvalid,
    _near,
    plan,
)
from supervisor.flow.rules import Callback, Counts, FlowState, Policy, due, end_of, failed, tolerated
from supervisor.job import State
from supervisor.wire import messages
from supervisor.wire.flow_text import flow_text


def asked(*steps: dict[str, Any]) -> list[messages.Step]:
    return [msgspec.convert({"queue": None if "steps" in each else "q", **each}, messages.Step) for each in steps]


@given(st.data())
def test_a_plan_has_every_step_once_and_parents_first(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 12))
    order = data.draw(st.permutations(range(count)))
    steps: list[dict[str, Any]] = []
    for place, number in enumerate(order):
        before = [f"s{each}" for each in order[:place]]
        after = data.draw(st.lists(st.sampled_from(before), unique=True)) if before else []
        steps.append({"name": f"s{number}", "after": after})
    steps = data.draw(st.permutations(steps)) if steps else []
    planned = plan(asked(*steps))
    names = [each.asked.name for each in planned]
    assert sorted(names) == sorted(each["name"] for each in steps)
    for at, each in enumerate(planned):
        assert [planned[parent].asked.name for parent, _ in each.parents] == list(each.asked.after)  # type: ignore[index]
        assert all(parent < at for parent, _ in each.parents)  # type: ignore[operator]


def test_a_flow_in_a_flow_lets_its_first_steps_wait_for_what_it_comes_after() -> None:
    planned = plan(
        asked(
            {"name": "a"},
            {"name": "in", "after": ["a"], "steps": asked({"name": "x"}, {"name": "y", "after": ["x"]})},
            {"name": "b", "after": {"in": "ignore"}},
        )
    )
    named = {each.asked.name: each for each in planned}
    places = {each.asked.name: at for at, each in enumerate(planned)}
    assert named["x"].parents == ((places["a"], Policy.CANCEL),)
    assert named["y"].parents == ((places["x"], Policy.CANCEL),)
    assert named["b"].parents == ((places["in"], Policy.IGNORE),)
    assert named["in"].nested
    assert named["x"].flow == named["y"].flow == places["in"]
    assert named["b"].flow == -1


def test_a_step_may_come_after_as_many_as_a_flow_has() -> None:
    names = [{"name": f"s{number}"} for number in range(PARENTS_MAX - 1)]
    assert len(plan(asked(*names, {"after": [each["name"] for each in names]}))[-1].parents) == PARENTS_MAX - 1


@pytest.mark.parametrize(("parents", "said"), [(PARENTS_MAX + 1, "limit is 10,000"), (100_000, "after 100,000 steps")])
def test_more_edges_to_one_step_than_may_be_are_refused(parents: int, said: str) -> None:
    with pytest.raises(FlowInvalid, match=said):
        plan(asked({"after": [f"s{number}" for number in range(parents)]}))


def test_more_edges_than_may_be_are_refused() -> None:
    names = [{"name": f"s{number}"} for number in range(250)]
    many = [{"after": [each["name"] for each in names]} for _ in range(EDGES_MAX // 250)]
    assert sum(len(each.parents) for each in plan(asked(*names, *many))) == EDGES_MAX
    with pytest.raises(FlowInvalid, match="the flow has 25,001 edges, the limit is 25,000"):
        plan(asked(*names, *many, {"after": ["s0"]}))


def test_names_of_steps_that_are_there_stay_names() -> None:
    (planned,) = plan(asked({"after": ["there"]}), grafted=True)
    assert planned.parents == (("there", Policy.CANCEL),)
    with pytest.raises(FlowInvalid, match="there is no step there"):
        plan(asked({"after": ["there"]}))


def test_a_long_ring_is_found_and_shown_by_its_beginning() -> None:
    ring = [{"name": f"s{number}", "after": [f"s{(number + 1) % 3_000}"]} for number in range(3_000)]
    tail = {"name": "t", "after": ["s7"]}
    with pytest.raises(FlowInvalid, match=r"in a ring: s7 after s8 after s9 .* after \.\.\.$"):
        plan(asked(tail, *ring))


@pytest.mark.parametrize(("name", "meant"), [("stpe7", "step7"), ("a" * 99 + "b", "a" * 100), ("other", None)])
def test_a_name_that_is_missing_is_compared_with_few_that_are_there(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str | None
) -> None:
    compared: list[str] = []

    def matches(wanted: str, names: Iterable[str], most: int) -> list[str]:
        compared.extend(names)
        return get_close_matches(wanted, compared, most)

    monkeypatch.setattr(difflib, "get_close_matches", matches)
    names = dict.fromkeys(("step7", "a" * 100, *(f"{'y' * 95}{number}" for number in range(1_000))), 0)
    assert _near(name, names) == (None if meant is None else f"did you mean {meant}?")
    assert len(compared) <= NEAR_MAX
    assert sum(len(each) * len(name) for each in compared) <= 2 * NEAR_PAIRS_MAX


def test_the_conditions_of_a_request_are_bounded_in_all() -> None:
    long = "context.x || " * 70
    steps = [{"after": ["a"], "when": f"{long}context.n{number}"} for number in range(CONDITIONS_MAX // len(long) + 1)]
    plan(asked({"name": "a"}, *steps[:5], *steps[:1] * 1_000))  # the same one again costs nothing
    with pytest.raises(FlowInvalid, match="the conditions have"):
        plan(asked({"name": "in", "steps": asked({"name": "a"}, *steps)}))


def test_few_conditions_are_looked_at_while_a_flow_goes_in() -> None:
    free = [{"when": "context.x"}] * FREE_CONDITIONS_MAX
    later = [{"after": ["a"], "when": "context.x"}] * 500
    plan(asked({"name": "a"}, *free, *later, {"name": "in", "after": ["a"], "steps": asked(*free)}))
    with pytest.raises(FlowInvalid, match="101 steps that come after nothing have conditions, the limit is 100"):
        plan(asked(*free, {"name": "in", "steps": asked({"when": "context.y"})}))


def test_steps_are_drawn_below_the_last_of_their_flow_that_they_come_after_or_beside_a_flow() -> None:
    def drawn(step_id: int, flow: int, *after: int, kind: str = "job") -> dict[str, Any]:
        return {"id": step_id, "flow": flow, "after": list(after), "kind": kind}

    steps = [
        drawn(2, 1), drawn(3, 1, 2), drawn(4, 1, 2, 3, 9), drawn(5, 1, kind="flow"), drawn(6, 5, 3), drawn(7, 5, 6),
        drawn(8, 1, 5, 4), drawn(9, 1, kind="signal"), drawn(10, 1, 99),
    ]  # fmt: skip
    assert _above(steps) == {2: 1, 3: 2, 4: 3, 5: 3, 6: 5, 7: 6, 8: 3, 9: 1, 10: 1}


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("results.a.ok", True), ("results.a.no", False), ("results.a.text", False), ("results.a.list", False),
        ("results.a.map", False), ("results.a.zero", True), ("results.a.none", False), ("nothing.here", False),
        ("results.a.zero == `0` && context.x", True), ("!results.a.ok", False), ("length(results.a.list) > `3`", False),
        ("contains(keys(results), 'a')", True), ("states.a == 'completed'", True),
    ],
)  # fmt: skip
def test_a_condition_holds_as_jmespath_says(expression: str, wanted: bool) -> None:
    value = {"ok": True, "text": "", "list": [], "map": {}, "zero": 0, "none": None}
    facts = {"results": {"a": value}, "context": {"x": 1}, "states": {"a": "completed"}}
    condition.check(expression)
    assert condition.holds(expression, facts) is wanted


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "a b",
        "__import__('os')",
        "open('/etc/passwd')",
        "a.__class__()",
        "x" * 1_001,
        "(" * 60,
        "a[?b==`1`",
        "eval(@)",
    ],
)
def test_what_is_no_condition_is_refused(expression: str) -> None:
    with pytest.raises(BadCondition):
        condition.check(expression)


@given(st.text(max_size=60))
def test_no_expression_reaches_anything_but_its_facts_or_raises_anything_else(expression: str) -> None:
    try:
        condition.check(expression)
        assert condition.holds(expression, {"results": {}}) in (True, False)
    except BadCondition as error:
        assert str(error)


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("results.a.ok", {("results", "a")}),
        ('results."a b".x[0] && signals.go', {("results", "a b"), ("signals", "go")}),
        ("!(states.a == 'dead') || length(results.b) > `3`", {("states", "a"), ("results", "b")}),
        ("[results.a, {x: states.b}] | results.c", {("results", "a"), ("states", "b")}),
        ("results.a[?x == results.b].results.c", {("results", "a")}),
        ("max_by(results.a, &results.b)", {("results", "a")}),
        ("context.results.a || *.b || results", set()),
    ],
)
def test_a_condition_says_of_which_steps_and_signals_it_speaks(expression: str, wanted: set[tuple[str, str]]) -> None:
    assert condition.names_in(expression) == wanted


def test_a_name_that_no_text_can_hold_is_said_as_it_was_written() -> None:
    with pytest.raises(FlowInvalid, match=r"speaks of results\.\\ud800, but") as caught:
        plan(asked({"when": 'results."\\ud800"'}))
    assert str(caught.value).isprintable()


def test_a_condition_may_speak_of_what_the_flow_around_it_comes_after() -> None:
    inner = [{"when": "results.a"}, {"name": "b"}, {"after": ["b"], "when": "results.b"}]
    plan(asked({"name": "a"}, {"after": ["a"], "steps": asked(*inner)}))
    with pytest.raises(FlowInvalid, match=r"results\.a, but it does not come after a"):
        plan(asked({"name": "a"}, {"after": ["a"], "steps": asked(*inner, {"after": ["b"], "when": "results.a"})}))


def test_what_cannot_be_computed_says_why() -> None:
    with pytest.raises(BadCondition, match="invalid type"):
        condition.holds("sum(results)", {"results": {"a": 1}})
    assert not condition.holds("results.a.__class__.__mro__", {"results": {"a": 1}})


def test_what_the_ends_of_steps_make_of_a_flow() -> None:
    ended = Counts(5, 0, 0, 0, 1)
    assert end_of(ended, cancelling=False) is FlowState.COMPLETED
    assert end_of(ended._replace(cancelled=1), cancelling=False) is FlowState.CANCELLED
    assert end_of(ended._replace(dead=1, cancelled=1), cancelling=False) is FlowState.DEAD
    assert end_of(ended._replace(dead=1), cancelling=True) is FlowState.CANCELLED
    assert [state for state in FlowState if not state.final] == [FlowState.RUNNING, FlowState.CANCELLING]


def test_a_skipped_step_has_not_failed_and_a_failed_one_may_be_tolerated() -> None:
    assert failed(State.CANCELLED, skipped=False)
    assert not failed(State.CANCELLED, skipped=True)
    assert not failed(State.COMPLETED, skipped=False)
    assert not tolerated([])
    assert tolerated([Policy.IGNORE, Policy.CONTINUE])
    assert not tolerated([Policy.IGNORE, Policy.CANCEL])


def test_each_callback_is_due_once() -> None:
    assert due(Callback.COMPLETE, FlowState.DEAD, 0)
    assert not due(Callback.COMPLETE, FlowState.DEAD, Callback.COMPLETE)
    assert due(Callback.SUCCESS, FlowState.COMPLETED, Callback.COMPLETE)
    assert not due(Callback.SUCCESS, FlowState.DEAD, 0)
    assert not due(Callback.DEATH, FlowState.DEAD, 0)


def written(flow: Flow | Step) -> Any:
    return msgspec.json.decode(f"{{{flow_text((flow if isinstance(flow, Flow) else Flow(flow)).request())}}}")


def test_a_chain_is_written_in_a_line_and_names_what_others_name() -> None:
    a = step("q", 1, name="step-1")
    a.then(step("q", 2)).then(step("r", 3, delay="5m"), on_failure="ignore")
    assert written(a)["steps"] == [
        {"name": "step-1", "queue": "q", "payload": 1},
        {"name": "step-2", "after": ["step-1"], "queue": "q", "payload": 2},
        {"after": {"step-2": "ignore"}, "queue": "r", "payload": 3, "delay_ms": 300_000},
    ]


def test_a_flow_is_found_by_any_of_its_steps() -> None:
    a, b = step("q", name="a"), step("q", name="b")
    last = step("q", name="c").after(a, b)
    assert {each["name"] for each in written(last)["steps"]} == {"a", "b", "c"}
    assert len(Flow(a).add(b).members()) == 3


def test_flows_in_flows_and_callbacks_are_written() -> None:
    inner = Flow(step("q"), name="in", on_death=step("r", 1))
    inner.then(step("q", wait_for="go", when="a"))
    assert written(Flow(inner, context=1, on_success=step("r"))) == {
        "context": 1,
        "steps": [
            {"name": "in", "steps": [{"queue": "q", "payload": None}], "on_death": {"queue": "r", "payload": 1}},
            {"after": ["in"], "queue": "q", "payload": None, "when": "a", "wait_for": ["go"]},
        ],
        "on_success": {"queue": "r", "payload": None},
    }


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"steps": [1]}, "steps[0]: a step must be an object"),
        ({"steps": [{"name": "a", "steps": [{"steps": 1}]}]}, "step a: steps[0]: : steps must be a list"),
        ({"steps": [{"name": "a", "steps": [], "delay": 1}]}, "step a: a flow in a flow has no delay"),
        ({"on_death": 1}, "on_death: must be an object"),
        ({"context": float("nan")}, "context: cannot be written as JSON"),
    ],
)
def test_what_is_wrong_says_where(given_: Any, said: str) -> None:
    with pytest.raises(InvalidFlow) as refused:
        flow_text(given_)
    assert said.replace(": : ", ": ") in str(refused.value).replace(": : ", ": ")


def test_a_wrong_option_says_of_which_step() -> None:
    with pytest.raises(InvalidPayload, match="step a: delay"):
        flow_text({"steps": [{"name": "a", "queue": "q", "delay": "soon"}]})


def test_what_a_step_comes_after_may_be_said_where_it_is_made() -> None:
    one, two = step("q", name="one"), step("q", name="two")
    last = step("q", name="last", after={one: "ignore", two: "cancel"})
    flow = Flow(last, step("q", name="more", after=[one, "two"]))
    made = {each["name"]: each.get("after") for each in flow.request()["steps"]}
    assert made == {"one": None, "two": None, "last": {"one": "ignore", "two": "cancel"}, "more": ["one", "two"]}
    assert step("q", after="there").parents == [("there", "cancel")]
