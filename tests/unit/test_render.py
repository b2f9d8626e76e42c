"""What jobsctl prints, on a terminal and on a pipe, whatever users' data holds."""

from __future__ import annotations

import io
import json
import re
import sys
from datetime import UTC, datetime

import pytest

from supervisor.cli import failure, render
from supervisor.errors import Busy, ConfigError, NoDatabase, NotRunning, StoreError, StoreNewer, UnknownJob
from tests.support.terminal import STYLE

COLUMNS = [render.Column("name", "name"), render.Column("age", "age", "seconds"), render.Column("n", "n", "number")]
HOSTILE = "\x1b[31mred\x1b[0m \x9b2J \u202egnp.exe\u202c [bold]markup[/bold] :smile: tab\tline\nend\x7f"
FORBIDDEN = [*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), "\u202e", "\u202c", "\u2066", "\u2028"]


class Terminal(io.StringIO):
    """A stdout that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A wide terminal that knows no colours, so that every escape in its output is one that got through."""
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setenv("TERM", "dumb")
    return out


def test_a_pipe_gets_tab_separated_lines_without_a_heading(capsys: pytest.CaptureFixture[str]) -> None:
    render.put_rows([{"name": "a", "age": 1.5, "n": None}, {"name": "b", "age": None, "n": 2}], COLUMNS, as_json=False)
    assert capsys.readouterr().out == "a\t1.5\t\nb\t\t2\n"


def test_json_lists_are_one_object_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"name": HOSTILE}, {"name": None}]
    render.put_rows(rows, COLUMNS, as_json=True)
    out = capsys.readouterr().out
    assert [json.loads(line) for line in out.splitlines()] == rows
    assert not [character for character in out if character in FORBIDDEN and character != "\n"]


def test_a_terminal_gets_a_table_with_headings(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    render.put_rows([{"name": "a", "age": 3725, "n": 7}], COLUMNS, as_json=False)
    assert "name" in terminal.getvalue()
    assert "1h02m" in terminal.getvalue()


@pytest.mark.parametrize(
    ("width", "headings", "time"),
    [(80, "id  at  first  second  why", "2001-02-03 04:05:06"), (70, "id  at  first  why", "2001-02-03 04:05:06"),
     (33, "id  at  why", "2001-02-03 04:05:06"), (32, "id  at  why", "2001-02-03")],
)  # fmt: skip
def test_a_narrow_terminal_does_without_columns_from_the_last_and_then_without_parts_of_times(
    width: int, headings: str, time: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = a_terminal(monkeypatch)
    monkeypatch.setenv("TERM", "xterm")  # the width of a dumb one is 80 to rich, whatever COLUMNS says
    monkeypatch.setenv("COLUMNS", str(width))
    columns = [render.Column("id", "id", "number"), render.Column("at", "at", "instant"),
               render.Column("a", "first", wide=True), render.Column("b", "second", wide=True),
               render.Column("why", "why", "prose")]  # fmt: skip
    row = {"id": 1, "at": "2001-02-03T04:05:06.789Z", "a": "1234567", "b": "12345678", "why": "because it is so " * 9}
    render.put_rows([row], columns, as_json=False)
    heading, _, cells, *_ = STYLE.sub("", terminal.getvalue()).splitlines()
    assert heading.split() == headings.split()
    assert time in cells
    assert ("04:05:06" in cells) == (len(time) > 10)
    this_year = f"{datetime.now(UTC):%Y}-01-02T03:04:05Z"
    monkeypatch.setattr(sys, "stdout", again := Terminal())
    render.put_rows([row | {"at": this_year}], columns, as_json=False)
    assert "01-02 03:04:05" in again.getvalue()


@pytest.mark.parametrize("on_terminal", [True, False])
def test_nothing_of_users_data_is_obeyed(on_terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    out = a_terminal(monkeypatch) if on_terminal else io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    render.put_rows([{"name": HOSTILE, "n": [HOSTILE]}], COLUMNS, as_json=False)
    render.put_fields({"payload": {"x": HOSTILE}, HOSTILE: 1})
    render.put_block(HOSTILE, HOSTILE)
    text = out.getvalue()
    allowed = "\n\t"
    assert not [character for character in text if character in FORBIDDEN and character not in allowed]
    assert "[bold]markup[/bold]" in text, "markup is shown, not obeyed"
    assert ":smile:" in text
    assert r"\x1b[31mred" in text


def test_a_row_stays_one_line_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    render.put_rows([{"name": "a\tb\nc"}], COLUMNS, as_json=False)
    assert capsys.readouterr().out == "a\\x09b\\x0ac\t\t\n"


def test_long_rows_are_not_cut_on_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    render.put_rows([{"name": "x" * 500}], COLUMNS, as_json=False)
    assert capsys.readouterr().out.startswith("x" * 500)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, ""), (0.04, "0.0s"), (9.96, "10.0s"), (59, "59s"), (61, "1m01s"), (7384, "2h03m"), (371_000, "4d07h")],
)
def test_lengths_of_time_are_shown_for_people(value: float | None, shown: str) -> None:
    assert render.seconds(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(None, ""), (812, "812 B"), (3482, "3.4 KiB"), (5 << 50, "5120.0 TiB")])
def test_sizes_are_shown_for_people(value: int | None, shown: str) -> None:
    assert render.size(value) == shown


def test_an_error_is_a_sentence_and_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    status = failure.report(UnknownJob("there is no job 7", hint="look again"), as_json=False)
    captured = capsys.readouterr()
    assert (status, captured.out, captured.err) == (3, "", "jobsctl: there is no job 7\n  look again\n")


def test_with_json_an_error_is_an_object_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    failure.report(Busy("later \x1b[0m"), as_json=True)
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"error": {"code": "busy", "message": "later \x1b[0m", "hint": Busy.remedy}}
    assert captured.err == f"jobsctl: later \\x1b[0m\n  {Busy.remedy}\n"


def test_every_problem_of_a_configuration_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    error = ConfigError("a (and 1 more)", problems=("a", "b"))
    assert failure.report(error, as_json=True) == 2
    captured = capsys.readouterr()
    assert captured.err == f"jobsctl: a\njobsctl: b\n  {ConfigError.remedy}\n"
    assert json.loads(captured.out)["error"]["problems"] == ["a", "b"]


@pytest.mark.parametrize(
    ("error", "status"), [(StoreError("x"), 1), (StoreNewer("x"), 1), (NoDatabase("x"), 4), (NotRunning("x"), 4)]
)
def test_jobsctl_ends_with_its_own_statuses(error: StoreError, status: int) -> None:
    assert failure.status_of(error) == status


PROSE = [render.Column("id", "id", "number"), render.Column("wide", "wide", wide=True),
         render.Column("at", "at", "instant"), render.Column("said", "said", "prose"),
         render.Column("more", "more", "prose")]  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 129, 200])
def test_on_a_terminal_a_row_is_one_line_and_only_prose_is_cut(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    terminal = a_terminal(monkeypatch)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    row = {"id": 2**53 - 1, "wide": "seen", "at": "2030-01-31T08:00:00.000Z", "said": "x" * 500, "more": "short"}
    render.put_rows([row, row], PROSE, as_json=False)
    heading, _, first, second = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()).splitlines()
    assert first == second
    assert len(first) <= width
    assert str(2**53 - 1) in first
    assert "2030-01-31 08:00:00" in first
    assert "short" in first
    assert "x…" in first
    assert ("wide" in heading, "seen" in first) == ((width > 80,) * 2)
