"""Unique jobs: which count as the same, and how long one keeps others out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.policy.unique import MemberMissing, Unique, fingerprint, in_the_way, lacks

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.text(max_size=3)
WHOLE = Unique()


@given(JSON, JSON, KEYS, KEYS)
def test_without_members_the_whole_payload_and_the_key_are_compared(a: Any, b: Any, one: str, other: str) -> None:
    same = fingerprint(WHOLE, "q", one, a) == fingerprint(WHOLE, "q", other, b)
    assert same == (one == other and as_text(a) == as_text(b))


def as_text(value: Any) -> Any:
    """A value in which 1, 1.0 and true differ, as they do in JSON, and the order of members does not count."""
    if isinstance(value, dict):
        return {name: as_text(each) for name, each in value.items()}
    return [as_text(each) for each in value] if isinstance(value, list) else repr(value)


def test_members_may_be_written_in_any_order() -> None:
    assert fingerprint(WHOLE, "q", "", {"a": 1, "b": 2}) == fingerprint(WHOLE, "q", "", {"b": 2, "a": 1})


@given(JSON, JSON)
def test_only_the_members_that_are_named_count(value: Any, other: Any) -> None:
    by = Unique(("user.id",))
    one, same = {"user": {"id": value}, "at": 1}, {"at": other, "user": {"id": value, "name": "x"}}
    assert fingerprint(by, "q", "k", one) == fingerprint(by, "q", "l", same)
    different = {"user": {"id": other}}
    assert (fingerprint(by, "q", "", different) == fingerprint(by, "q", "", one)) == (as_text(value) == as_text(other))


def test_members_of_different_names_are_never_mixed_up() -> None:
    payload = {"a": 1, "b": 1}
    found = {fingerprint(Unique(by), "q", "1", payload) for by in [("a",), ("b",), ("a", "b"), ("key",), ()]}
    assert len(found) == 5


def test_key_stands_for_the_key_of_the_job() -> None:
    by = Unique(("key",))
    assert fingerprint(by, "q", "k", {"key": 1}) == fingerprint(by, "q", "k", {"key": 2})
    assert fingerprint(by, "q", "k", None) != fingerprint(by, "q", "l", None)


def test_queues_are_told_apart_unless_they_are_not_to_be() -> None:
    across = Unique(across_queues=True)
    assert fingerprint(across, "q", "", 1) == fingerprint(across, "r", "", 1)
    assert fingerprint(WHOLE, "q", "", 1) != fingerprint(WHOLE, "r", "", 1) != fingerprint(across, "r", "", 1)


@pytest.mark.parametrize("payload", [None, [], "text", {}, {"user": 1}, {"user": {}}, {"user": ["id"]}])
def test_a_payload_without_the_member_is_refused_with_its_name(payload: Any) -> None:
    with pytest.raises(MemberMissing, match=r"the payload has no member user\.id"):
        fingerprint(Unique(("user.id",)), "q", "", payload)


@pytest.mark.parametrize(
    ("by", "payload", "missing"),
    [
        ((), None, None), (("key",), None, None), (("key", "a"), {"a": None}, None), (("a", "b.c"), {"a": 1}, "b.c"),
        (("a", "b.c"), {"b": {"c": 1}}, "a"), (("a.b",), {"a": [1]}, "a.b"),
    ],
)  # fmt: skip
def test_what_a_payload_lacks_is_the_first_member_that_it_does_not_have(
    by: tuple[str, ...], payload: Any, missing: str | None
) -> None:
    assert lacks(Unique(by), payload) == missing


@pytest.mark.parametrize(("now_ms", "kept_out"), [(999, True), (1_000, False), (2_000, False)])
@pytest.mark.parametrize("state", [None, "queued", "dead"])
def test_for_a_time_it_keeps_others_out_whatever_becomes_of_it(now_ms: int, kept_out: bool, state: str | None) -> None:
    assert in_the_way(1_000, None, state, now_ms) is kept_out
    assert in_the_way(1_000, ["queued"], state, now_ms) is kept_out


@pytest.mark.parametrize(("state", "kept_out"), [("queued", True), ("running", True), ("dead", False), (None, False)])
def test_in_some_states_it_keeps_others_out(state: str | None, kept_out: bool) -> None:
    assert in_the_way(None, ["queued", "running"], state, 0) is kept_out


def test_a_row_that_names_neither_keeps_nobody_out() -> None:
    assert not in_the_way(None, None, "queued", 0)
