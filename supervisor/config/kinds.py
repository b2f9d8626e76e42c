"""The kinds of values that keys have: how each is read, written, described and put in a JSON Schema. Pure.

A kind reads what TOML gave and returns what the spec keeps, or raises ValueError with a sentence that says what
is wrong and what would be right. `show` is the way back. Booleans are never numbers, and no number is infinite.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from supervisor.config.expand import FromEnvironment
from supervisor.config.problem import shown, suggestion
from supervisor.policy import duration as durations

TEXT_MAX = 4096
LIST_MAX = 256
REFERENCE = {"type": "string", "pattern": r"\$\{"}
_BYTES = re.compile(r"([0-9]{1,15})(B|kB|KiB|MB|MiB|GB|GiB)")
_BYTE_UNITS = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "GB": 10**9, "MB": 10**6, "kB": 10**3, "B": 1}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class Kind(NamedTuple):
    """`says` completes "write ..."; `read` takes the value and the folder of its file."""

    says: str
    read: Callable[[Any, str], Any]
    schema: dict[str, Any]
    show: Callable[[Any], Any] = lambda value: value


def wrong(value: Any, says: str, why: str = "") -> ValueError:
    """The sentence for a value that is not what `says` describes."""
    return ValueError(f"{shown(value)} {why or f'is {_noun(value)}'}; write {says}")


def utf8(value: str, says: str) -> str:
    """Text that is Unicode: the command line and the environment may bring other bytes.

    Raises:
        ValueError: it is not.
    """
    if _SURROGATE.search(value):
        raise wrong(value, says, "is not UTF-8")
    return str(value)


def _noun(value: Any) -> str:
    nouns = {bool: "a boolean", int: "an integer", float: "a number", str: "text"}
    return next((noun for kind, noun in nouns.items() if isinstance(value, kind)), "not right here")


def _either(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that also lets an environment reference stand for the value."""
    return {"anyOf": [schema, REFERENCE]}


def integer(low: int, high: int) -> Kind:
    """An integer within bounds."""
    says = f"an integer from {low} to {high}"

    def read(value: Any, _folder: str) -> int:
        if isinstance(value, FromEnvironment) and re.fullmatch(r"-?[0-9]{1,18}", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong(value, says)
        if not low <= value <= high:
            raise wrong(value, says, "is out of range")
        return value

    return Kind(says, read, _either({"type": "integer", "minimum": low, "maximum": high}))


def number(low: float, high: float) -> Kind:
    """A finite number within bounds."""
    says = f"a number from {low:g} to {high:g}"

    def read(value: Any, _folder: str) -> float:
        if isinstance(value, FromEnvironment) and re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", value):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise wrong(value, says)
        if isinstance(value, float) and not math.isfinite(value):
            raise wrong(value, says, "is not finite")
        if not low <= value <= high:
            raise wrong(value, says, "is out of range")
        return float(value)

    return Kind(says, read, _either({"type": "number", "minimum": low, "maximum": high}))


def boolean() -> Kind:
    """true or false."""
    says = "true or false"

    def read(value: Any, _folder: str) -> bool:
        if isinstance(value, FromEnvironment) and value in ("true", "false"):
            return value == "true"
        if not isinstance(value, bool):
            raise wrong(value, says, "is text, not a boolean" if isinstance(value, str) else "")
        return value

    return Kind(says, read, _either({"type": "boolean"}))


def duration(low_ms: int, high_ms: int) -> Kind:
    """A duration within bounds, kept in milliseconds."""
    low, high = durations.show(low_ms), durations.show(high_ms)
    says = f'a duration from "{low}" to "{high}"'

    def read(value: Any, _folder: str) -> int:
        if not isinstance(value, str):
            numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
            raise wrong(value, says, "has no unit" if numeric else "")
        try:
            ms = durations.parse_ms(value)
        except ValueError as error:
            raise ValueError(f"{shown(value)}: {error}") from None
        if not low_ms <= ms <= high_ms:
            raise wrong(value, says, "is out of range")
        return ms

    schema = {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$|\$\{"}
    return Kind(says, read, schema, durations.show)


def size(low: int, high: int) -> Kind:
    """A number of bytes within bounds."""
    says = f'a size from "{show_size(low)}" to "{show_size(high)}"'

    def read(value: Any, _folder: str) -> int:
        if not isinstance(value, str):
            numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
            raise wrong(value, says, "has no unit" if numeric else "")
        written = _BYTES.fullmatch(value)
        if not written:
            raise wrong(value, says, "is not a size")
        size_bytes = int(written[1]) * _BYTE_UNITS[written[2]]
        if not low <= size_bytes <= high:
            raise wrong(value, says, "is out of range")
        return size_bytes

    return Kind(says, read, {"type": "string", "pattern": r"^[0-9]+(B|kB|KiB|MB|MiB|GB|GiB)$|\$\{"}, show_size)


def show_size(size_bytes: int) -> str:
    """The shortest text that means so many bytes."""
    unit = next(unit for unit, length in _BYTE_UNITS.items() if size_bytes % length == 0 and size_bytes >= length)
    return f"{size_bytes // _BYTE_UNITS[unit]}{unit}"


def choice(*words: str) -> Kind:
    """One of a few words."""
    says = " or ".join(f'"{word}"' for word in words)

    def read(value: Any, _folder: str) -> str:
        if not isinstance(value, str):
            raise wrong(value, says)
        if value not in words:
            raise ValueError(f"{shown(value)} is not known here; {suggestion(value, words)}")
        return str(value)

    return Kind(says, read, {"anyOf": [{"enum": list(words)}, REFERENCE]})


def text(says: str, pattern: str = r".+", high: int = TEXT_MAX) -> Kind:
    """Text of one line that matches the pattern as a whole."""
    shape = re.compile(pattern)

    def read(value: Any, _folder: str) -> str:
        if not isinstance(value, str):
            raise wrong(value, says)
        if len(value) > high:
            raise wrong(value, says, f"is longer than {high} characters")
        if _CONTROL.search(value):
            raise wrong(value, says, "holds a control character")
        if not shape.fullmatch(utf8(value, says)):
            raise wrong(value, says, "is not right here")
        return str(value)

    return Kind(says, read, {"anyOf": [{"type": "string", "pattern": f"^(?:{pattern})$"}, REFERENCE]})


def path(says: str = "a path, absolute or relative to this file") -> Kind:
    """A path; relative to the folder of the file it is written in."""
    plain = text(says)

    def read(value: Any, folder: str) -> str:
        written = plain.read(value, folder)
        if written.startswith("~"):
            raise wrong(written, says, "begins with ~, which only shells replace")
        return os.path.normpath(os.path.join(folder, written))

    return Kind(says, read, {"type": "string", "minLength": 1})


def listed(element: Kind, low: int = 0) -> Kind:
    """An array of elements of one kind; the problems of all its elements are named at once."""
    says = f"an array, each element {element.says}"

    def read(value: Any, folder: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise wrong(value, says)
        if not low <= len(value) <= LIST_MAX:
            raise ValueError(f"has {len(value)} elements; write {low} to {LIST_MAX}")
        found, problems = [], []
        for position, written in enumerate(value, 1):
            try:
                found.append(element.read(written, folder))
            except ValueError as error:
                problems.append(f"element {position}: {error}")
        if problems:
            raise ValueError("; ".join(problems[:10]))
        return tuple(found)

    def show(value: Any) -> list[Any]:
        return [element.show(each) for each in value]

    return Kind(says, read, {"type": "array", "items": element.schema, "minItems": low, "maxItems": LIST_MAX}, show)


def or_word(word: str, meaning: Any, kind: Kind) -> Kind:
    """A kind that also takes a word, which the spec keeps as `meaning`."""
    says = f'"{word}" or {kind.says}'

    def read(value: Any, folder: str) -> Any:
        if value == word and isinstance(value, str):
            return meaning
        try:
            return kind.read(value, folder)
        except ValueError as error:
            raise ValueError(str(error).replace(kind.says, says)) from None

    def show(value: Any) -> Any:
        return word if value == meaning else kind.show(value)

    return Kind(says, read, {"anyOf": [{"const": word}, kind.schema]}, show)
