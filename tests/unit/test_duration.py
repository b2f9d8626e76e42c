"""Durations: text, numbers and timedeltas in, whole milliseconds out, and back."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.policy.duration import MAX_MS, parse_ms, show, to_ms


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        ("5ms", 5),
        ("0s", 0),
        ("30s", 30_000),
        ("5m", 300_000),
        ("1h30m", 5_400_000),
        ("7d", 604_800_000),
        ("1d2h3m4s5ms", 93_784_005),
        ("0.5s", 500),
        ("0.1d", 8_640_000),
        ("1.5h", 5_400_000),
        ("36500d", MAX_MS),
    ],
)
def test_text_means_milliseconds(text: str, expected_ms: int) -> None:
    assert parse_ms(text) == expected_ms


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "not a duration"),
        ("5", "5 has no unit"),
        ("1.5", "1.5 has no unit"),
        ("-5s", "not a duration"),
        ("5 s", "not a duration"),
        (" 5s", "not a duration"),
        ("5s ", "not a duration"),
        ("5S", "not a duration"),
        ("5w", "not a duration"),
        ("s", "not a duration"),
        ("1e3s", "not a duration"),
        ("٥s", "not a duration"),
        ("inf", "not a duration"),
        ("30m1h", "larger units first"),
        ("1s1s", "larger units first"),
        ("0.0001s", "finer than a millisecond"),
        ("0.5ms", "finer than a millisecond"),
        ("36501d", "at most 36500d"),
        ("999999999999999d", "at most 36500d"),
        ("9" * 16 + "s", "not a duration"),
        ("0s" * 40, "not a duration"),
    ],
)
def test_other_text_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_ms(text)


@pytest.mark.parametrize(
    ("duration", "expected_ms"),
    [
        ("5m", 300_000),
        (5, 5_000),
        (0, 0),
        (0.25, 250),
        (0.0004, 0),
        (timedelta(hours=1, microseconds=600), 3_600_001),
        (timedelta(0), 0),
        (MAX_MS // 1000, MAX_MS),
    ],
)
def test_python_callers_give_text_seconds_or_a_timedelta(duration: str | float | timedelta, expected_ms: int) -> None:
    assert to_ms(duration) == expected_ms


@pytest.mark.parametrize(
    "duration",
    [
        True,
        False,
        -1,
        -0.001,
        float("nan"),
        float("inf"),
        float("-inf"),
        2**70,
        10**400,
        MAX_MS // 1000 + 1,
        timedelta(seconds=-1),
        timedelta.max,
        None,
        b"5s",
        [5],
    ],
)
def test_what_is_no_duration_is_refused(duration: object) -> None:
    with pytest.raises(ValueError, match="a duration is"):
        to_ms(duration)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ms", "text"), [(0, "0s"), (1, "1ms"), (1500, "1s500ms"), (5_400_000, "1h30m"), (604_800_000, "7d")]
)
def test_milliseconds_are_shown_in_the_largest_units(ms: int, text: str) -> None:
    assert show(ms) == text


@given(st.integers(0, MAX_MS))
def test_what_is_shown_reads_back_as_the_same(ms: int) -> None:
    assert parse_ms(show(ms)) == ms


@given(st.text(alphabet="0123456789.msdh -+e_", max_size=80) | st.text(max_size=80))
def test_any_text_is_a_duration_in_range_or_refused(text: str) -> None:
    try:
        assert 0 <= parse_ms(text) <= MAX_MS
    except ValueError as refusal:
        assert str(refusal)
