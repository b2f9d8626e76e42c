"""The scanner: where keys stand, in any text whatever, in time that grows with its length."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from supervisor.config.parse import parse
from supervisor.config.problem import KeyPath, Place, Report, shown
from supervisor.config.scan import Repeat, scan

TEXT = """\
title = "a # no comment [x]"   # [comment]
'quo.ted' = '''
[not.a.table]
key = 1
'''
"esc\\u0061ped" = "\\" = [" # "
[queues.a]
workers = 4
list = [ 1, [ "]", 'x=1' ], # [deep]
  { inner = 1, "o.k" = [ {z = 2} ] },
]
[ queues . "b.c" ]
backoff = { base = "1s", max.of = 2 }
text = \"\"\"
x = "1" \"\" \\\"\"\" [y]
\"\"\"\"\"
after.text = 1979-05-27T07:32:00Z
[[list.of]]
x = 1
[[list.of]]
x = 2
"""

LINES = {
    ("title",): 1,
    ("quo.ted",): 2,
    ("escaped",): 6,
    ("queues", "a"): 7,
    ("queues", "a", "workers"): 8,
    ("queues", "a", "list"): 9,
    ("queues", "a", "list", "inner"): 10,
    ("queues", "a", "list", "o.k"): 10,
    ("queues", "a", "list", "o.k", "z"): 10,
    ("queues", "b.c"): 12,
    ("queues", "b.c", "backoff"): 13,
    ("queues", "b.c", "backoff", "base"): 13,
    ("queues", "b.c", "backoff", "max", "of"): 13,
    ("queues", "b.c", "text"): 14,
    ("queues", "b.c", "after", "text"): 17,
    ("list", "of"): 18,
    ("list", "of", "1"): 18,
    ("list", "of", "1", "x"): 19,
    ("list", "of", "2"): 20,
    ("list", "of", "2", "x"): 21,
}


def test_every_key_has_its_line() -> None:
    tomllib.loads(TEXT)
    found = scan(TEXT)
    assert found.lines == LINES
    assert (found.repeats, found.too_deep) == ([], None)


def test_empty_tables_and_escapes_that_mean_nothing_are_passed_over() -> None:
    found = scan('a = {}\nb = { c = {} }\n"\\q" = 1\nd = [{}, {}]\n')
    assert found.lines == {("a",): 1, ("b",): 2, ("b", "c"): 2, ('"\\q"',): 3, ("d",): 4}


def test_what_is_defined_twice_is_found() -> None:
    text = "a = 1\n[t]\nb = 1\nb = 2\n[t]\nc = { d = 1, d = 2 }\n'a'.x = 1\n[u]\n['t']\n"
    assert scan(text).repeats == [
        Repeat(("t", "b"), 3, 4),
        Repeat(("t",), 2, 5),
        Repeat(("t", "c", "d"), 6, 6),
        Repeat(("t",), 2, 9),
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a.b.c.d.e.f.g.h = 1", None),
        ("\na.b.c.d.e.f.g.h.i = 1", 2),
        ("[a.b.c.d.e.f.g.h]\n", None),
        ("[a.b.c.d.e.f.g.h.i]\n", 1),
        ("[a.b.c.d]\ne.f.g.h = 1", None),
        ("[a.b.c.d]\ne.f.g.h.i = 1", 2),
        ("[a.b]\nc = {d = {e = {f.g = {h = 1}}}}", None),
        ("[a.b]\nc = {d = {e = {f.g = {h.i = 1}}}}", 2),
        ("a = [[[[[[[[1]]]]]]]]", None),
        ("a = [\n[[[[[[[[1]]]]]]]]]", 2),
        ("a = [[1], [2], [3], [4], [5], [6], [7], [8], [9], [10]]", None),
    ],
)
def test_depth_is_counted_over_tables_keys_and_brackets(text: str, line: int | None) -> None:
    assert scan(text).too_deep == line


HOSTILE = {
    "dots": ".".join("a" * 100_000),
    "quotes that never end": '"""\\"' * 50_000,
    "a text that never ends": 'a = """' + '\\"""' * 60_000,
    "apostrophes": "'" * 200_000,
    "brackets in turn": "a = " + "[]," * 40_000,
    "short keys": "a=1\n" * 30_000,
    "escaped keys": '"\\u0041"=1\n' * 10_000,
    "one long escaped key": '"' + "\\u0041" * 40_000 + '" = 1',
    "lines": "\n" * 120_000,
    "comments": "#\n" * 60_000,
    "spaces": " " * 250_000,
    "one word": "a" * 250_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_takes_no_longer_than_its_length(name: str) -> None:
    before = time.process_time()
    scan(HOSTILE[name])
    assert time.process_time() - before < 4


@given(st.text(alphabet="ab.=[]{},\"'#\\ \n1", max_size=60))
def test_any_text_is_scanned_and_a_valid_one_is_scanned_right(text: str) -> None:
    found = scan(text)
    try:
        data = tomllib.loads(text)
    except ValueError:
        return
    if not found.too_deep:
        assert set(paths(data)) == {key[:length] for key in found.lines for length in range(1, len(key) + 1)}
        assert found.repeats == []


keys = st.text(max_size=6)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=20)
tables = st.recursive(
    st.dictionaries(keys, scalars.filter(lambda value: value is not None), max_size=4),
    lambda below: st.dictionaries(keys, below | st.lists(st.integers() | st.text(max_size=5), max_size=3), max_size=4),
    max_leaves=12,
)


@given(tables)
def test_keys_of_any_file_are_found_on_their_lines(data: dict[str, Any]) -> None:
    text = tomli_w.dumps(data)
    found = scan(text)
    if found.too_deep:
        return
    for key, line in found.lines.items():
        written = text.split("\n")[line - 1]
        assert key[-1] in written or "\\" in written
    assert set(paths(data)) == {key[:length] for key in found.lines for length in range(1, len(key) + 1)}


def paths(value: Any, prefix: KeyPath = ()) -> Iterator[KeyPath]:
    """All keys in the data, tables in arrays included."""
    if isinstance(value, dict):
        for name, below in value.items():
            yield (*prefix, name)
            yield from paths(below, (*prefix, name))
    elif isinstance(value, list):
        for element in value:
            yield from paths(element, prefix)


SYNTAX = [
    (
        "a = 5m\n",
        "1: a: no valid TOML at column 6: expected newline or end of document after a statement; write one key",
    ),
    ("a = five\n", '1: a: no valid TOML at column 5: invalid value; write text in quotes, such as "5m"'),
    ("\na\n", "2: file: no valid TOML at column 2: expected '=' after a key in a key/value pair; write key = value"),
    ('a = "x\n', "1: a: no valid TOML at column 7: illegal character '\\n'; close the quotes on the same line"),
    ('x = 1\na = "x', "2: a: no valid TOML at the end of the file: unterminated string; close the quotes"),
    ("a = [1, 2", "1: a: no valid TOML at the end of the file: unclosed array; close the bracket"),
    (
        "a = 1\n[a.b]\n",
        "2: a.b: no valid TOML at column 5: cannot overwrite a value; write each table and each key once",
    ),
    (
        "a.b = 1\n[a]\n",
        "2: a: no valid TOML at column 3: cannot declare ('a',) twice; write each table and each key once",
    ),
    ("[]\n", "1: file: no valid TOML at column 2: invalid initial character for a key part; write [table]"),
    ("\x00", "1: file: no valid TOML at column 1: invalid statement; write [table]"),
    ("a = 1\x1b[2J\n", "1: a: no valid TOML at column 6"),
    ("a = 1\nb = 1\nb = 2\na = 3\n", "3: b: is defined a second time, first on line 2; keep one of them"),
    ("n = 1\nx = " + "1" * 5_000, "2: file: a number has thousands of digits"),
    ("x = [" + "1" * 2_000 + "_1" * 2_500 + "]", "1: file: a number has thousands of digits"),
]


@pytest.mark.parametrize(("text", "problem"), SYNTAX, ids=[shown(text)[:30] for text, _ in SYNTAX])
def test_what_is_no_toml_is_said_with_line_key_and_remedy(text: str, problem: str) -> None:
    report = Report()
    assert parse("f", text.encode(), report) is None
    assert report.problems[0].startswith(f"f:{problem}")
    assert report.problems[0].isprintable()


def test_every_repeat_is_said() -> None:
    report = Report()
    parse("f", b"a = 1\nb = 1\nb = 2\na = 3\n", report)
    assert [problem.split(": ")[1] for problem in report.problems] == ["b", "a"]


def test_a_key_without_a_line_has_that_of_what_is_in_it_or_around_it(tmp_path: Path) -> None:
    document = parse("f", b"\n[a.b]\nc = 1\nd.e = 2\n", Report())
    assert document is not None
    places = {key: document.place(key) for key in [("a",), ("a", "b"), ("a", "b", "d"), ("a", "b", "x"), ("z",)]}
    assert places == {
        ("a",): Place("f", 2),
        ("a", "b"): Place("f", 2),
        ("a", "b", "d"): Place("f", 4),
        ("a", "b", "x"): Place("f", 2),
        ("z",): Place("f", 1),
    }
