"""From the bytes of one file to TOML data with the line of every key; or to problems that name line and key."""

from __future__ import annotations

import os
import re
import tomllib
from typing import Any, NamedTuple

from supervisor.config.problem import FILE, KeyPath, Place, Report, printable
from supervisor.config.scan import DEPTH_MAX, Scan, scan

_AT_LINE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_TWICE = ("Cannot overwrite a value", "Cannot declare", "Duplicate inline table key")


class Document(NamedTuple):
    """One file that was parsed: its path, its data, and where its keys stand."""

    path: str
    data: dict[str, Any]
    places: dict[KeyPath, Place]

    @property
    def folder(self) -> str:
        """What paths in this document are relative to."""
        return os.path.dirname(self.path)

    def place(self, key: KeyPath) -> Place:
        """Where the key was written, or the first key within it, or else the nearest table around it."""
        if found := self.places.get(key):
            return found
        within = [place for known, place in self.places.items() if known[: len(key)] == key]
        if within:
            return min(within, key=lambda place: place.line)
        return self.place(key[:-1]) if len(key) > 1 else Place(self.path)


def parse(path: str, content: bytes, report: Report) -> Document | None:
    """The document, or None if there are problems."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        report.problem(
            Place(path, line), FILE, f"byte {content[error.start]:#04x} is not UTF-8; save the file as UTF-8"
        )
        return None
    if text.startswith("\ufeff"):
        report.problem(Place(path), FILE, "begins with a byte order mark; save it as UTF-8 without one")
        return None
    found = scan(text)
    if found.too_deep:
        report.problem(
            Place(path, found.too_deep), FILE, f"nested deeper than {DEPTH_MAX} levels; no key has that many parts"
        )
        return None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        _explain(path, text, str(error), found, report)
        return None
    except ValueError:  # an integer of more digits than Python converts
        number = re.search(r"[0-9][0-9_]{2000}", text)
        line = text.count("\n", 0, number.start()) + 1 if number else 1
        report.problem(Place(path, line), FILE, "a number has thousands of digits; write one that something can mean")
        return None
    return Document(path, data, {key: Place(path, line) for key, line in found.lines.items()})


def _explain(path: str, text: str, message: str, found: Scan, report: Report) -> None:
    """Note why the text is no TOML; for what is defined twice, name every such key."""
    at = _AT_LINE.search(message)
    what = printable(message[: at.start()] if at else message)
    if what.startswith(_TWICE) and found.repeats:
        for repeat in found.repeats:
            once = f"is defined a second time, first on line {repeat.first_line}; keep one of them"
            report.problem(Place(path, repeat.line), repeat.key, once)
        return
    line, where = _position(at, text)
    key = next((key for key, key_line in found.lines.items() if key_line == line), FILE)
    report.problem(Place(path, line), key, f"no valid TOML{where}: {what[:1].lower()}{what[1:]}; {_remedy(what)}")


def _position(at: re.Match[str] | None, text: str) -> tuple[int, str]:
    """Line and words for where tomllib stopped."""
    if at and at[1]:
        return int(at[1]), f" at column {at[2]}"
    return text.count("\n") + 1, " at the end of the file"


_REMEDIES = {
    "Invalid value": 'write text in quotes, such as "5m", and true or false in lower case',
    "Expected '=' after a key": "write key = value",
    "Expected newline or end of document": "write one key a line, and text in quotes",
    "Unterminated": "close the quotes on the same line",
    "Illegal character": "close the quotes on the same line, and write control characters as escapes",
    "Unclosed": "close the bracket",
    "Expected ']'": "close the bracket",
    "Cannot": "write each table and each key once",
}


def _remedy(what: str) -> str:
    """What would be right, for the mistakes that are made most."""
    known = (remedy for beginning, remedy in _REMEDIES.items() if what.startswith(beginning))
    return next(known, "write [table] headers in brackets, and one key = value a line")
