"""Named members are hidden at any depth, and nothing else is touched."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.policy.redact import HIDDEN, redact

VALUE = {"password": "x", "card": {"number": [1, 2], "holder": "A"}, "list": [{"password": {"deep": 1}}, 3], "n": None}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], VALUE),
        (["absent", "absent.password"], VALUE),
        (["password"], {**VALUE, "password": HIDDEN, "list": [{"password": HIDDEN}, 3]}),
        (["card.number"], {**VALUE, "card": {"number": HIDDEN, "holder": "A"}}),
        (["number"], {**VALUE, "card": {"number": HIDDEN, "holder": "A"}}),
        (["holder.number"], VALUE),
        (["card"], {**VALUE, "card": HIDDEN}),
        (["card.*"], {**VALUE, "card": {"number": HIDDEN, "holder": HIDDEN}}),
        (["list.*.password"], {**VALUE, "list": [{"password": HIDDEN}, 3]}),
        (["list.1"], {**VALUE, "list": [{"password": {"deep": 1}}, HIDDEN]}),
        (["n", "list"], {**VALUE, "list": HIDDEN, "n": HIDDEN}),
        (["*"], dict.fromkeys(VALUE, HIDDEN)),
    ],
)
def test_names_hide_members(names: list[str], expected: Any) -> None:
    assert redact(VALUE, names) == expected


@pytest.mark.parametrize("value", [None, 5, "password", [], {}, True])
def test_what_has_no_members_stays(value: Any) -> None:
    assert redact(value, ["password", "*.x"]) == value


def test_the_original_is_not_touched() -> None:
    value = {"a": {"b": [1]}}
    assert redact(value, ["b"]) == {"a": {"b": HIDDEN}}
    assert value == {"a": {"b": [1]}}


def test_depth_is_no_danger() -> None:
    value: Any = {"password": 1}
    for _ in range(50_000):
        value = [value]
    found = redact(value, ["password"])
    for _ in range(50_000):
        (found,) = found
    assert found == {"password": HIDDEN}


def members(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [*value.items(), *(found for inner in value.values() for found in members(inner))]
    return [found for inner in value for found in members(inner)] if isinstance(value, list) else []


@given(JSON)
def test_no_member_of_that_name_is_ever_shown(value: Any) -> None:
    assert all(inner == HIDDEN for name, inner in members(redact(value, ["a"])) if name == "a")
    assert redact(value, ["no such name"]) == value
