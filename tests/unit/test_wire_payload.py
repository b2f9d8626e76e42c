"""What a payload may be: the same for clients, which encode it, and for the keeper, which checks it."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import InvalidPayload, PayloadTooLarge
from supervisor.wire import payload as payloads
from supervisor.wire.messages import check_payload
from supervisor.wire.payload import Encoded, encode, parse
from tests.support.payloads import ACCEPTED, NESTED, REFUSED

MIB = 1024 * 1024


def ids_of(cases: list[bytes]) -> list[str]:
    return [f"{number}-{raw[:16]!r}" for number, raw in enumerate(cases)]


@pytest.mark.parametrize("raw", ACCEPTED, ids=ids_of(ACCEPTED))
def test_json_that_every_reader_can_hold_is_taken_byte_for_byte(raw: bytes) -> None:
    check_payload(raw, MIB, "emails")
    assert parse(raw).encode() == raw
    assert encode(parse(raw)) == raw.decode()


@pytest.mark.parametrize(("raw", "sentence"), REFUSED, ids=ids_of([raw for raw, _ in REFUSED]))
def test_what_some_reader_could_not_hold_is_refused_with_the_reason(raw: bytes, sentence: str) -> None:
    with pytest.raises(InvalidPayload, match=sentence) as refusal:
        check_payload(raw, MIB, "emails")
    assert refusal.value.code == "invalid_payload"


@pytest.mark.parametrize(("raw", "sentence"), REFUSED, ids=ids_of([raw for raw, _ in REFUSED]))
def test_text_from_outside_is_never_known_to_be_json_when_it_is_not(raw: bytes, sentence: str) -> None:
    """Python forgives half surrogate pairs and huge exponents in text: the keeper refuses them."""
    if sentence in ("surrogate", "1.8e308"):
        parse(raw)
    else:
        with pytest.raises(InvalidPayload):
            parse(raw)


def test_a_refusal_says_what_to_send_instead() -> None:
    for value in (float("nan"), [float("inf")], {1, 2}, "\0", 10**500):
        with pytest.raises(InvalidPayload) as refused:
            encode(value)
        assert refused.value.hint != InvalidPayload.remedy, refused.value
    for raw in (b"NaN", b'"\\u0000"', b"[" * 101 + b"]" * 101):
        with pytest.raises(InvalidPayload) as refused:
            check_payload(raw, MIB, "emails")
        assert refused.value.hint == payloads.HINTS[refused.value.message]


def test_text_that_is_no_unicode_is_refused() -> None:
    assert parse('{"a": "\u00e9"}') == '{"a": "\u00e9"}'
    with pytest.raises(InvalidPayload, match="surrogate"):
        parse('"\udcff"')


def test_a_payload_of_the_largest_size_is_taken_and_one_byte_more_is_not() -> None:
    raw = b'"' + b"x" * (MIB - 2) + b'"'
    check_payload(raw, MIB, "emails")
    with pytest.raises(PayloadTooLarge, match=r"1,048,577 bytes; queue emails takes at most 1,048,576 \(max_payload\)"):
        check_payload(raw[:-1] + b'x"', MIB, "emails")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**100), 2**100) | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
        lambda inner: st.lists(inner) | st.dictionaries(
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), inner),
    )
)  # fmt: skip
def test_what_python_encodes_the_keeper_takes(value: object) -> None:
    text = encode(value)
    check_payload(text.encode(), MIB, "emails")
    assert json.loads(text) == value


def loop() -> list[object]:
    inside: list[object] = []
    inside.append(inside)
    return inside


def deep(levels: int) -> list[object]:
    value: list[object] = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: float("nan"), "NaN or Infinity"),
        (lambda: {"a": [float("-inf")]}, "NaN or Infinity"),
        (lambda: datetime(2030, 1, 1), "datetime is not JSON"),  # noqa: DTZ001
        (lambda: b"bytes", "bytes is not JSON"),
        (lambda: {("a", "b"): 1}, "keys must be"),
        (loop, "Circular"),
        (lambda: deep(101), "100 levels"),
        (lambda: deep(100_000), "100 levels"),
        (lambda: "\ud800", "surrogate"),
        (lambda: {"\udfff": 1}, "surrogate"),
        (lambda: "a\0b", "NUL"),
        (lambda: 10**400, "400 digits"),
        (lambda: 10**5000, "digits"),
    ],
)
def test_the_client_refuses_what_it_cannot_write_as_json(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(InvalidPayload, match=sentence):
        encode(make())


def test_a_hundred_levels_are_fine() -> None:
    assert encode(deep(100)) == NESTED


def test_encoded_text_is_compact_and_not_escaped() -> None:
    assert encode({"to": ["\u00e9", 1]}) == '{"to":["\u00e9",1]}'
    assert encode(Encoded("[ 1 ]")) == "[ 1 ]"


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 400 + b"]" * 400,
        b"[" + b",".join([b"[" * 105 + b"]" * 105] * 4000) + b"]",
        b"[" + b",".join([b"1" * 400] * 2500) + b"]",
        b'"' + b"\\\\" * (MIB // 2 - 1) + b'"',
        b"[" + b'"\\"",' * (MIB // 5 - 10) + b"0]",
        b"[" + b"[],{}," * (MIB // 6 - 10) + b"0]",
        b'"' + b"\\\\u0000" * (MIB // 8) + b'"',
        b"[" + b"1e300," * (MIB // 6 - 10) + b"0]",
    ],
    ids=["deep", "many deep", "digits", "backslashes", "quotes", "brackets", "almost NUL", "exponents"],
)
def test_checking_takes_no_longer_for_being_meant_badly(raw: bytes) -> None:
    """A bound with much room, above a linear look at 1 MiB and far below anything quadratic."""
    gc.collect()
    gc.disable()  # it would look through all that the tests before have left
    try:
        began = time.process_time()
        check_payload(raw, 2 * MIB, "emails")
    except InvalidPayload:
        pass
    finally:
        gc.enable()
    assert time.process_time() - began < 1


def test_the_corpus_is_large() -> None:
    assert len(ACCEPTED) + len(REFUSED) > 200


def test_every_reason_has_its_own_sentence() -> None:
    said = [value for name, value in vars(payloads).items() if name.isupper() and isinstance(value, str)]
    assert len(said) == len(set(said)) == 7
