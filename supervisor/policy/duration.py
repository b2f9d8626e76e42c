"""Durations as people write them, and as the program keeps them: whole milliseconds.

"1h30m", "5ms", "0.5s": a number and a unit, larger units first, each at most once. A bare number is refused
in text, because nobody can tell whether `timeout = 5` means seconds or milliseconds; Python callers may also
give seconds as a number, or a timedelta.
"""

from __future__ import annotations

import re
from datetime import timedelta

UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
"""Units, largest first, with their length in milliseconds."""

MAX_MS = 36_500 * UNITS_MS["d"]
"""A hundred years: sums of two stay exact in every language's JSON."""

SHAPE = "a number and ms, s, m, h or d, such as 5ms, 30s or 1h30m"
_TEXT_MAX = 64
_PART = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,6}))?(ms|s|m|h|d)")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")


def parse_ms(text: str) -> int:
    """The milliseconds that a text like "1h30m" means.

    Raises:
        ValueError: with a sentence that says what would be right.
    """
    if _NUMBER.fullmatch(text):
        raise ValueError(f"{text[:_TEXT_MAX]} has no unit; write {SHAPE}")
    total_ms, position, smallest_ms = 0, 0, MAX_MS
    while position < len(text) <= _TEXT_MAX and (part := _PART.match(text, position)):
        unit_ms = UNITS_MS[part[3]]
        if unit_ms >= smallest_ms:
            raise ValueError("write larger units first, each at most once, such as 1h30m")
        total_ms += _part_ms(part[1], part[2] or "", unit_ms)
        position, smallest_ms = part.end(), unit_ms
    if not text or position < len(text):
        raise ValueError(f"not a duration; write {SHAPE}")
    return _limited(total_ms)


def _part_ms(whole: str, fraction: str, unit_ms: int) -> int:
    """One number with its unit; in integers, so that 0.1d is exact."""
    scale: int = 10 ** len(fraction)
    value_ms, rest = divmod(int(whole + fraction) * unit_ms, scale)
    if rest:
        raise ValueError("finer than a millisecond; write whole milliseconds, such as 5ms")
    return value_ms


def to_ms(duration: str | float | timedelta) -> int:
    """Milliseconds of what Python callers may give: text, seconds, or a timedelta; rounded to the nearest.

    Raises:
        ValueError: it is negative, not finite, longer than a hundred years, or no duration at all.
    """
    if isinstance(duration, str):
        return parse_ms(duration)
    if isinstance(duration, timedelta):
        return _limited(round(duration / timedelta(milliseconds=1)))
    if isinstance(duration, bool) or not isinstance(duration, (int, float)):
        raise ValueError(f"a duration is text, seconds, or a timedelta, not {type(duration).__name__}")  # noqa: TRY004
    if not 0 <= duration <= MAX_MS // 1000:
        raise ValueError("a duration is finite, not negative, and at most 36500d")
    return round(duration * 1000)


def _limited(ms: int) -> int:
    if not 0 <= ms <= MAX_MS:
        raise ValueError("a duration is not negative, and at most 36500d")
    return ms


def show(ms: int) -> str:
    """The shortest text that `parse_ms` reads back as the same: 5400000 is "1h30m"."""
    parts = []
    for unit, unit_ms in UNITS_MS.items():
        count, ms = divmod(ms, unit_ms)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
