"""What is wrong with a configuration, where, and what would be right: collected, not raised one by one.

Names and values come from a file that anyone may have written, so they are shown with control and bidi
characters escaped, and cut. Imports nothing but the errors: `jobsctl enqueue` comes through here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from supervisor.errors import ConfigError

PROBLEMS_MAX = 100
_SHOWN_MAX = 80
_BARE = re.compile(r"[A-Za-z0-9_-]+")

KeyPath = tuple[str, ...]
FILE: KeyPath = ("file",)
"""Stands for the key where a problem is with the file as a whole."""


class Place(NamedTuple):
    """Where something was written; the file `--set` stands for the command line, the line for the nth option."""

    file: str
    line: int = 1

    def __str__(self) -> str:
        return f"{printable(self.file)}:{self.line}"


class Finding(NamedTuple):
    """One problem or warning."""

    place: Place
    key: KeyPath
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {dotted(self.key)}: {self.text}"


class Report:
    """The problems and warnings found so far, each as `FILE:LINE: KEY: what is wrong, and what would be right`."""

    def __init__(self) -> None:
        self._problems: dict[Finding, None] = {}
        self._warnings: dict[Finding, None] = {}
        self._unlisted = 0

    def problem(self, place: Place, key: KeyPath, text: str) -> None:
        """Note a problem; beyond `PROBLEMS_MAX` they are only counted."""
        if self.full:
            self._unlisted += 1
        else:
            self._problems[Finding(place, key, text)] = None

    def warn(self, place: Place, key: KeyPath, text: str) -> None:
        """Note what is allowed and probably not meant."""
        self._warnings[Finding(place, key, text)] = None

    @property
    def full(self) -> bool:
        """Whether further problems would only be counted, so that working out a suggestion is of no use."""
        return len(self._problems) >= PROBLEMS_MAX

    @property
    def count(self) -> int:
        """How many problems there are, listed or not."""
        return len(self._problems) + self._unlisted

    @property
    def problems(self) -> tuple[str, ...]:
        """All problems, file by file in the order of lines; the last line may say how many are not listed."""
        more = (f"{self._unlisted} more problems are not listed",) if self._unlisted else ()
        return (*_in_order(self._problems), *more)

    @property
    def warnings(self) -> tuple[str, ...]:
        """All warnings, file by file in the order of lines."""
        return _in_order(self._warnings)

    def raise_problems(self) -> None:
        """Raise ConfigError if there are any problems."""
        if self.problems:
            more = f" (and {self.count - 1} more)" if self.count > 1 else ""
            raise ConfigError(
                self.problems[0] + more, hint="jobsupd --check lists every problem", problems=self.problems
            )


def _in_order(findings: Iterable[Finding]) -> tuple[str, ...]:
    noted = tuple(findings)
    files = list(dict.fromkeys(finding.place.file for finding in noted))
    return tuple(map(str, sorted(noted, key=lambda each: (files.index(each.place.file), each.place.line))))


def printable(text: str) -> str:
    """The text with everything that a terminal would obey written as an escape, and cut."""
    cut = text if len(text) <= 4 * _SHOWN_MAX else text[: 4 * _SHOWN_MAX] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)


def quoted(path: str) -> str:
    """A path in quotes, whole: its end says more than its beginning."""
    return f'"{printable(path)}"'


def dotted(key: KeyPath) -> str:
    """A key as TOML writes it: parts joined by dots, quoted where they must be."""
    return ".".join(part if _BARE.fullmatch(part) and len(part) <= _SHOWN_MAX else shown(part) for part in key)


def shown(value: Any) -> str:
    """A value as TOML writes it, cut and made harmless; never fails, whatever the size of a number."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        cut = value if len(value) <= _SHOWN_MAX else value[:_SHOWN_MAX] + "..."
        return printable(json.dumps(cut, ensure_ascii=False))
    if isinstance(value, (int, float)):
        huge = isinstance(value, int) and value.bit_length() > 64
        return "a huge number" if huge else str(value)
    if isinstance(value, (list, dict)):
        return "an array" if isinstance(value, list) else "a table"
    return "a date or time"


def suggestion(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` if a known name is close, else the known names."""
    from supervisor.policy.closest import closest

    names = sorted(known)
    if close := closest(name, names):
        return f"did you mean {printable(close)}?"
    return f"known are {', '.join(map(printable, names))}"
