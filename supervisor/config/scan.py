"""Where each key of a TOML text stands, and whether the text is safe to give to a parser.

tomllib names no line once it has parsed, not the key that was given twice, and spends seconds on one key of
20,000 dotted parts. So the text is read once by this scanner first: one pass, linear in its length, over any
text whatever. It judges nothing: what it makes of a text that is no TOML is of no use, and never an error.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import NamedTuple

from supervisor.config.problem import KeyPath

DEPTH_MAX = 8
"""Parts of a key and brackets around a value; the deepest key that means anything has four."""

_TOKEN = re.compile(
    r"""
    (?P<skip>   [ \t\r]+ | \#[^\n]*+ )
  | (?P<newline>\n )
  | (?P<text>   \"{3} (?: [^"\\]++ | \\[\s\S] | "{1,2}(?!") )*+ "{3,5}
              | '{3}  (?: [^']++ | '{1,2}(?!') )*+ '{3,5}
              | "(?!"") (?: [^"\\\n]++ | \\[^\n] )*+ "
              | '(?!'') [^'\n]*+ ' )
  | (?P<word>   [^\s\#"'\[\]{},.=]++ )
  | (?P<mark>   [\[\]{},.=] )
    """,
    re.VERBOSE,
)


class Token(NamedTuple):
    """One piece of the text; `kind` is newline, text, word, or mark."""

    kind: str
    text: str
    line: int


class Repeat(NamedTuple):
    """A key or a table that is defined a second time."""

    key: KeyPath
    first_line: int
    line: int


class Scan(NamedTuple):
    """What the scan found; `too_deep` is the line at which it gave up for depth."""

    lines: dict[KeyPath, int]
    repeats: list[Repeat]
    too_deep: int | None


def scan(text: str) -> Scan:
    """Lines of all keys and tables, those defined twice, and whether keys or brackets are nested too deep."""
    scanner = _Scanner()
    for token in _tokens(text):
        scanner.take(token)
        if scanner.too_deep:
            break
    return Scan(scanner.lines, scanner.repeats, scanner.too_deep)


def _tokens(text: str) -> Iterator[Token]:
    position, line = 0, 1
    while token := _TOKEN.match(text, position):
        kind = str(token.lastgroup)
        if kind != "skip":
            yield Token(kind, token[0], line)
        line += token[0].count("\n")
        position = token.end()


def _name(token: Token) -> str:
    """The key that a word or a quoted text names."""
    if token.kind == "word":
        return token.text
    if "\\" not in token.text:
        return token.text.strip(token.text[0])
    try:
        return str(tomllib.loads(f"name = {token.text}")["name"])
    except ValueError:
        return token.text


class _Scanner:
    """Follows statements, headers and brackets. `_state` is the method that takes the next token."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.repeats: list[Repeat] = []
        self.too_deep: int | None = None
        self._state = self._in_key
        self._parts: list[str] = []
        self._table: KeyPath = ()
        self._table_is_element = False
        self._elements: dict[KeyPath, int] = {}
        self._value: KeyPath = ()
        self._open: list[tuple[str, KeyPath]] = []

    def take(self, token: Token) -> None:
        self._state(token)
        if len(self._prefix) + len(self._parts) > DEPTH_MAX or len(self._open) > DEPTH_MAX:
            self.too_deep = token.line

    @property
    def _prefix(self) -> KeyPath:
        """The table that the key being read belongs to."""
        if self._state == self._in_header:
            return ()
        return self._open[-1][1] if self._open else self._table

    def _in_key(self, token: Token) -> None:
        if token.kind in ("word", "text"):
            self._parts.append(_name(token))
        elif token.text == "=":
            self._value = (*self._prefix, *self._parts)
            self._define(self._value, token.line)
            self._parts, self._state = [], self._in_value
        elif token.text == "[" and not self._open and not self._parts:
            self._table_is_element, self._state = False, self._in_header
        elif token.text == "}" and self._open:
            self._close("{")
        elif token.kind == "newline":
            self._parts = []

    def _in_header(self, token: Token) -> None:
        if token.kind in ("word", "text"):
            self._parts.append(_name(token))
        elif token.text == "[":
            self._table_is_element = True
        elif token.text == "]" or token.kind == "newline":
            if self._parts:
                self._table = tuple(self._parts)
                self._define(self._table, token.line)
                if self._table_is_element:
                    self._number(token.line)
            self._parts = []
            self._state = self._in_value if token.text == "]" else self._in_key

    def _number(self, line: int) -> None:
        """Element 2 of an array of tables stands under the key 2: each has keys of its own."""
        self._elements[self._table] = number = self._elements.get(self._table, 0) + 1
        self._table = (*self._table, str(number))
        self.lines[self._table] = line

    def _in_value(self, token: Token) -> None:
        if token.kind == "newline" and not self._open:
            self._state = self._in_key
        elif token.kind == "mark" and token.text in "[{":
            self._open.append((token.text, self._value))
            self._state = self._in_key if token.text == "{" else self._in_value
        elif token.text == "," and self._open and self._open[-1][0] == "{":
            self._state = self._in_key
        elif token.kind == "mark" and token.text in "]}":
            self._close("{" if token.text == "}" else "[")

    def _close(self, bracket: str) -> None:
        if self._open and self._open[-1][0] == bracket:
            self._value = self._open.pop()[1]
        self._parts, self._state = [], self._in_value

    def _define(self, key: KeyPath, line: int) -> None:
        if key not in self.lines:
            self.lines[key] = line
        elif not self._table_is_element and all(bracket == "{" for bracket, _ in self._open):
            self.repeats.append(Repeat(key, self.lines[key], line))
