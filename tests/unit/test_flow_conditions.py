"""Conditions of bounded work: what JMESPath says of what fits, and an end to what does not, before it is done."""

from __future__ import annotations

import tracemalloc
from typing import Any

import jmespath
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jmespath.exceptions import JMESPathError

from supervisor.flow import condition
from supervisor.flow.condition import READ_BYTES_MAX, BadCondition
from supervisor.flow.evaluation import WORK_MAX, Evaluation, TooMuchWork

LIBRARY = (JMESPathError, ArithmeticError, TypeError, ValueError)
MADE_BYTES_MAX = 8 * 1024 * 1024

# -- the same as the library ---------------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, 1.5, -2.0]) | st.sampled_from("abé")
data = st.recursive(
    scalars | st.sampled_from(["", "12", "1e3", 'a"b', "abc"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=25,
)
leaves = st.sampled_from(
    ["a", "b", "c", "@", "*", "[*]", "[]", "[0]", "[-1]", "[9]", "[::2]", "[1:]", "[::-1]", "`0`", "`1`", "`2`", "'a'",
     "`null`", "`true`", "`false`", "`[1, true, [null]]`", "`{\"a\": 1.0}`", "''", '"c"'],
)  # fmt: skip


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    two = st.tuples(inner, inner)
    one_of = ["abs", "avg", "ceil", "floor", "keys", "length", "max", "min", "not_null", "reverse", "sort", "sum",
              "to_array", "to_number", "to_string", "type", "values"]  # fmt: skip
    return st.one_of(
        st.tuples(inner, st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "||", "&&", "|"]), inner).map(" ".join),
        st.tuples(inner, st.sampled_from(["a", "b", "*", "[a, b]", "{x: a, y: @}"])).map(".".join),
        st.tuples(inner, st.sampled_from(["[*]", "[]", "[0]", "[-2]", "[1:3]", "[::-1]"])).map("".join),
        inner.map("({})".format), inner.map("!{}".format),
        two.map(lambda pair: "{}[?{}]".format(*pair)), two.map(lambda pair: "[{}, {}]".format(*pair)),
        two.map(lambda pair: "{{a: {}, b: {}}}".format(*pair)),
        st.tuples(st.sampled_from(one_of), inner).map(lambda call: "{}({})".format(*call)),
        st.tuples(st.sampled_from(["contains", "ends_with", "starts_with", "join", "merge", "not_null"]), two).map(
            lambda call: f"{call[0]}({', '.join(call[1])})"
        ),
        st.tuples(st.sampled_from(["sort_by", "max_by", "min_by"]), two).map(
            lambda call: "{}({}, &{})".format(call[0], *call[1])
        ),
        two.map(lambda pair: "map(&{}, {})".format(*pair)),
    )  # fmt: skip


expressions = st.recursive(leaves, _grown, max_leaves=12)


def outcome(compute: Any) -> tuple[str, Any]:
    """What came of it, told apart as JSON is: 1 is not true."""
    try:
        return "found", repr(compute())
    except TooMuchWork:
        return "too much", None
    except LIBRARY as error:
        return "error", type(error).__name__


@given(expressions, data)
def test_what_fits_is_what_the_library_says(expression: str, value: Any) -> None:
    try:
        tree = jmespath.compile(expression).parsed
    except LIBRARY:
        return
    ours = outcome(lambda: Evaluation().visit(tree, value))
    theirs = outcome(lambda: jmespath.search(expression, value))
    if "_Expression" not in str(theirs):
        assert ours in (theirs, ("too much", None))


@given(expressions, data)
def test_a_condition_holds_where_the_library_finds_something(expression: str, value: Any) -> None:
    facts = {"a": value, "b": {"a": [1, "a"]}}
    try:
        condition.check(expression)
        holds = condition.holds(expression, {"a": msgspec.Raw(msgspec.json.encode(value)), "b": facts["b"]})
    except BadCondition:
        return
    found = jmespath.search(expression, facts)
    assert holds is not (found is None or found is False or found in ("", [], {}))


# -- bombs ---------------------------------------------------------------------------------------------------------

WIDE = f"[{','.join('@' * 16)}][]"
QUOTED = "to_string([" * 12 + "context" + "])" * 12
SEEN = {
    "lists of lists": "context|" + "|".join([WIDE] * 6),
    "lists of lists, without pipes": "context" + f".[{','.join('@' * 9)}]" * 5,
    "projections of lists": "context" + "[].[@, @, @, @, @, @, @, @]" * 5,
    "objects of objects": "context|" + "|".join(["{a: @, b: @, c: @, d: @, e: @, f: @, g: @}"] * 5),
    "what is mapped": "map(&[@, @, @, @, @, @, @, @, @], " * 4 + "context" + ")" * 4,
    "texts in texts": "to_string([" * 15 + "context" + "])" * 15,
    "pairs of pairs": "context" + "|[@,@][]" * 16,
    "parts in parts": "a" + ".*" * 120,
    "one or another": "a" + "||a" * 120,
}  # fmt: skip


@pytest.mark.parametrize("name", SEEN)
def test_a_bomb_that_can_be_seen_is_refused_before_anything_is_computed(name: str) -> None:
    assert len(SEEN[name]) <= condition.EXPRESSION_MAX
    with pytest.raises(BadCondition, match=r"times of what it reads|nested too deeply"):
        condition.check(SEEN[name])
    with pytest.raises(BadCondition):
        condition.holds(SEEN[name], {"context": [1]})  # it may have been accepted by an earlier version


MANY = list(range(9_000))
ALIKE = ["x" * 9_000 + each for each in "abc"]
KEYS = {f"k{number}": 1 for number in range(900)}
LIKE_KEYS = dict([*list(KEYS.items())[:-1], ("k", 1)])
FULL: dict[str, tuple[str, Any]] = {
    "doubling": ("context" + "|[@,@][]" * 12, [1]),
    "doubling without lists of lists": ("context" + "|[@,@]" * 11 + "|to_string(@)", [1]),
    "a filter over much": ("length(context[?@ > `0`]) > `0`", MANY),
    "a filter in a filter": ("context[?length([?@ > `1`]) > `0`]", [list(range(90))] * 90),
    "projections in projections": ("context[*][*][*].[@, @]", [[[1] * 20] * 20] * 10),
    "quoting": (QUOTED, '"' * 2_000),
    "long numbers": ("to_string(context" + "|[@,@,@,@][]" * 3 + ")", [int("9" * 4_000)] * 14),
    "texts that are long numbers": ("map(&to_number(@), context" + "|[@,@,@,@][]" * 3 + ")", ["9" * 4_000] * 14),
    "sorting": ("sort(context)", MANY[::-1]),
    "sorting texts that begin alike": ("sort(context" + "|[@,@,@,@][]" * 3 + ")", ALIKE),
    "sorting by texts": ("sort_by(context" + "|[@,@,@,@][]" * 3 + ", &@)", ALIKE),
    "the largest by texts": ("max_by(context" + "|[@,@,@,@][]" * 4 + ", &@)", ALIKE),
    "the largest of much": ("max(context)", MANY),
    "the least by something of much": ("min_by(context, &@)", MANY),
    "joining by a long text": ("join(context[0], context[1])", ["x" * 30_000, ["y"] * 900]),
    "reversing again and again": ("context" + "|reverse(@)" * 20, "x" * 60_000),
    "merging again and again": ("context" + "|merge(@, @)" * 12, KEYS),
    "looking for a text": ("contains(context[0], context[1])", ["a" * 29_000, "a" * 48 + "b" + "a" * 49]),
    "looking for an object": ("contains(context.a, context.b)", {"a": [KEYS] * 6, "b": LIKE_KEYS}),
    "comparing what was doubled": (
        "(context" + "|[@,@]" * 11 + ") == (context" + "|[@,@]" * 11 + ")", [1]),
    "slices": ("context" + "|[::-1]" * 9, MANY[:900]),
    "flattening": ("context" + "[]" * 9, [[1]] * 2_000),
}  # fmt: skip


@pytest.mark.parametrize("name", FULL)
def test_a_bomb_in_the_data_is_stopped_before_it_goes_off(name: str) -> None:
    expression, context = FULL[name]
    condition.check(expression)
    tree = jmespath.compile(expression).parsed
    evaluation, value = Evaluation(), {"context": context}
    tracemalloc.start()
    try:
        with pytest.raises(TooMuchWork):
            evaluation.visit(tree, value)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert evaluation.work <= WORK_MAX
    assert most < MADE_BYTES_MAX
    with pytest.raises(BadCondition, match="too much work"):
        condition.holds(expression, {"context": msgspec.Raw(msgspec.json.encode(context))})


def test_what_is_said_of_a_wrong_value_does_not_have_the_value_in_it() -> None:
    with pytest.raises(BadCondition, match=r"sum\(\) takes array-number.*invalid type") as refused:
        condition.holds("sum(context" + "|[@,@]" * 12 + ")", {"context": "x" * 1_000})
    assert len(str(refused.value)) < 200


def test_an_expression_reads_no_more_than_it_may() -> None:
    large = msgspec.Raw(b"[" + b",".join([b"0"] * 500_000) + b"]")
    facts = {"results": {"p": large, "q": msgspec.Raw(b'{"ok":true}')}, "context": None}
    for expression in ("results.p[0]", "length(results.p[?@ > `0`])", "results", "*.p", "@", "max(results.p)"):
        with pytest.raises(BadCondition, match=r"what it reads has 1,000,0\d\d bytes, the limit is 65,536"):
            condition.holds(expression, facts)
    assert condition.holds("results.q.ok && !(context.p)", facts)
    just = msgspec.Raw(b'"' + b"x" * (READ_BYTES_MAX - len('{"context":""}')) + b'"')
    assert condition.holds("length(context) > `65000`", {"context": just})


def test_what_was_computed_once_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"context": list(range(2_000)), "step": "one"}
    heavy = "length(context[?@ > `1`]) > `0`"
    with pytest.raises(BadCondition, match="too much work"):
        condition.holds(heavy, facts)
    assert condition.holds("context[1]", facts)
    monkeypatch.setattr(Evaluation, "visit", None)
    with pytest.raises(BadCondition, match="too much work"):
        condition.holds(heavy, facts | {"step": "two"})
    assert condition.holds("context[1]", facts | {"step": "two"})


def test_numbers_of_any_kind_are_read() -> None:
    facts = {"context": msgspec.Raw(b"[1e300, 1e999, 123456789012345678901234567890, 1.0]")}
    assert condition.holds("context[0] > `1e299` && context[1] > context[0] && context[3] == `1`", facts)
    with pytest.raises(BadCondition):
        condition.holds("context", {"context": msgspec.Raw(b"9" * 60_000)})


@pytest.mark.parametrize("error", [MemoryError, KeyError, AttributeError, RecursionError, NotImplementedError])
def test_nothing_that_goes_wrong_escapes(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(Evaluation, "visit", fails)
    with pytest.raises(BadCondition):
        condition.holds(f"context.{error.__name__}", {})
    monkeypatch.setattr(condition, "_read", fails)
    with pytest.raises(BadCondition):
        condition.holds("context.other", {})


def test_deep_facts_and_literals_end_in_a_word() -> None:
    deep = b"[" * 20_000 + b"]" * 20_000
    with pytest.raises(BadCondition, match="nested too deeply"):
        condition.holds("context", {"context": msgspec.Raw(deep)})
    literal = "`" + "[" * 24 + "1" + "]" * 24 + "`"
    assert condition.holds(f"{literal} == {literal}", {})
    with pytest.raises(BadCondition, match="brackets"):
        condition.check("`" + "[" * 400 + "]" * 400 + "`")


def test_what_was_read_is_not_kept_without_bound() -> None:
    for number in range(200):
        condition.holds(f"context.n{number}", {"context": number})
    assert condition._judged.cache_info().currsize <= condition.JUDGED
    assert condition._parsed.cache_info().currsize <= condition.KEPT
    assert not jmespath.parser.Parser._CACHE


@pytest.mark.parametrize("quoted", ["\\ud800", "\\u0000", "\\u001b[31m"])
def test_what_is_said_of_an_expression_can_be_stored_and_shown(quoted: str) -> None:
    for expression in (f'abs(`"{quoted}"`)', f'"{quoted}', f'`"{quoted}"`.x(`1`)', f'sum(["{quoted}"])'):
        with pytest.raises(BadCondition) as caught:
            condition.holds(expression, {})
        assert str(caught.value).isprintable()
