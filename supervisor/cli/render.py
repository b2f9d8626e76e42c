"""What jobsctl prints: JSON, tables on a terminal, tab-separated lines everywhere else.

Invariant: whatever comes from users' data goes through the sanitiser on its way to a terminal or pipe, and reaches
rich as plain text only, never as markup. JSON is ASCII, so it carries control characters as escapes and loses none.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from supervisor.observe.sanitise import sanitise

GAP, PROSE_MIN = 2, 8
PROSE_WANTED = 30
"""Columns that a terminal may do without go before what is written in prose has less room than this."""


class Column(NamedTuple):
    """A column of a table: the member it shows, and on a terminal its heading and how it is written."""

    key: str
    heading: str
    kind: str = "text"
    """`text`, `number`, `seconds`, `duration`, `bytes`, `instant`, `state`, or `prose`: cut where there is no room."""
    wide: bool = False
    """Whether a terminal that is too narrow does without it, the last one first. On a pipe every column is there."""


def put_json(value: object) -> None:
    """Print one JSON value on one line."""
    sys.stdout.write(json.dumps(value) + "\n")


def put_line(text: str) -> None:
    """Print one line of text that holds nothing of users' data, or is sanitised here if it does."""
    sys.stdout.write(sanitise(text) + "\n")


def note(text: str, detail: str = "") -> None:
    """Say something on stderr that is no result, with lines of its own below it, such as a traceback."""
    sys.stderr.write(f"jobsctl: {sanitise(text)}\n")
    for line in sanitise(detail, multiline=True).splitlines():
        sys.stderr.write(f"    {line}\n")


def put_rows(rows: Iterable[Mapping[str, Any]], columns: Sequence[Column], *, as_json: bool) -> None:
    """Print a list: JSON line by line as it comes, else a table or tab-separated lines in the order of `columns`."""
    if as_json:
        for row in rows:
            put_json(row)
    elif sys.stdout.isatty():
        _put_table(list(rows), columns)
    else:
        for row in rows:
            sys.stdout.write("\t".join(plain(row.get(column.key)) for column in columns) + "\n")


def put_fields(fields: Mapping[str, Any]) -> None:
    """Print one object for people: a name and a value per line, aligned on a terminal, else separated by a tab."""
    terminal = sys.stdout.isatty()
    width = max(map(len, fields), default=0) + 2
    for name, value in fields.items():
        shown = sanitise(name)
        start = shown.ljust(width) if terminal else shown + "\t"
        sys.stdout.write(f"{start}{plain(value)}\n")


def put_block(title: str, text: str) -> None:
    """Print text with lines of its own, such as a traceback, indented under a title."""
    sys.stdout.write(f"{sanitise(title)}\n")
    for line in sanitise(text, multiline=True).splitlines():
        sys.stdout.write(f"    {line}\n")


def plain(value: Any) -> str:
    """A value as one field of a line: nothing for null, JSON for what has parts, text made harmless."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return sanitise(value)
    return sanitise(json.dumps(value, ensure_ascii=False))


def seconds(value: float | None) -> str:
    """A length of time for people: 3.2s, 5m12s, 2h03m, 4d07h."""
    if value is None:
        return ""
    if value < 60:
        return f"{value:.1f}s" if value < 10 else f"{value:.0f}s"
    whole = int(value)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600:02}h"


def duration(value: float | None) -> str:
    """A short length of time for people: 12ms, else as `seconds`."""
    return f"{value * 1000:.0f}ms" if value is not None and value < 1 else seconds(value)


def size(value: int | None) -> str:
    """A size for people: 812 B, 3.4 KiB, 12.0 MiB."""
    if value is None:
        return ""
    amount, unit = float(value), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024 or unit == "TiB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def put_tree(lines: Sequence[tuple[int, Sequence[tuple[str, str]]]]) -> None:
    """Print a tree on a terminal: each line with its depth and its parts, which are texts and the kinds of cells."""
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    branches: list[Tree] = []
    for depth, parts in lines:
        styled = [(plain(text), STYLES.get(text, "") if kind == "state" else kind) for text, kind in parts]
        label = Text("  ").join([Text(*part) for part in styled])
        del branches[depth:]
        branches.append(branches[-1].add(label) if branches else Tree(label))
    if branches:
        Console(highlight=False, markup=False, emoji=False).print(branches[0])


STYLES = {
    "completed": "green", "running": "cyan", "busy": "cyan", "ready": "green", "dead": "red", "failed": "red",
    "open": "red", "cancelled": "dim", "backoff": "yellow", "scheduled": "yellow", "problem": "red",
    "warning": "yellow", "received": "green", "skipped": "yellow", "cancelling": "yellow",
}  # fmt: skip


def _put_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False)
    shown, cells = _fitting(rows, columns, console.width)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for column, width in zip(shown, _widths(shown, cells, console.width), strict=True):
        table.add_column(
            column.heading, width=width, no_wrap=True, overflow="ellipsis",
            justify="right" if column.kind in ("number", "seconds", "duration", "bytes") else "left",
        )  # fmt: skip
    for row_cells in cells:
        table.add_row(*(Text(*cell) for cell in row_cells))
    console.print(table)


def _fitting(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], room: int
) -> tuple[list[Column], list[list[tuple[str, str]]]]:
    """The columns for which there is room, and the cells; times are shortened before a cell is cut."""
    shown, short = list(columns), False
    cells = {column: [_cell(row.get(column.key), column.kind) for row in rows] for column in columns}
    while True:
        wide = [column for column in shown if column.wide]
        prose = PROSE_WANTED if wide else PROSE_MIN
        if sum(_need(column, cells[column], prose) + GAP for column in shown) - GAP <= room:
            break
        if wide:
            shown.remove(wide[-1])
        elif not short:
            short = True
            cells |= {each: [_short(row.get(each.key)) for row in rows] for each in shown if each.kind == "instant"}
        else:
            break
    return shown, [[cells[column][number] for column in shown] for number in range(len(rows))]


def _need(column: Column, cells: Sequence[tuple[str, str]], prose: int) -> int:
    """How wide a column must be at least; so wide is enough for prose."""
    from rich.cells import cell_len

    widest = max(cell_len(text) for text in (column.heading, *(cell[0] for cell in cells)))
    return min(widest, prose) if column.kind == "prose" else widest


def _short(value: Any) -> tuple[str, str]:
    """A time of this year without the year, another one without the time of its day."""
    text, style = _cell(value, "instant")
    return text[5:] if text.startswith(f"{datetime.now(UTC):%Y}-") else text[:10], style


def _widths(columns: Sequence[Column], cells: Sequence[Sequence[tuple[str, str]]], room: int) -> list[int]:
    """How wide each column is: as its cells need, but prose shares what the others leave, the shortest first."""
    from rich.cells import cell_len

    widths = [
        max(cell_len(text) for text in (column.heading, *(row[number][0] for row in cells)))
        for number, column in enumerate(columns)
    ]
    prose = sorted((number for number, column in enumerate(columns) if column.kind == "prose"), key=widths.__getitem__)
    left = room - GAP * (len(columns) - 1) - sum(width for number, width in enumerate(widths) if number not in prose)
    for done, number in enumerate(prose):
        widths[number] = min(widths[number], max(PROSE_MIN, left // (len(prose) - done)))
        left -= widths[number]
    return widths


def _cell(value: Any, kind: str) -> tuple[str, str]:
    """A cell's text and style on a terminal."""
    if value is None:
        return "-", "dim"
    if kind == "seconds":
        return seconds(value), ""
    if kind == "duration":
        return duration(value), ""
    if kind == "bytes":
        return size(value), ""
    if kind == "instant":
        return plain(value)[:19].replace("T", " "), ""
    text = plain(value)
    return text, STYLES.get(text, "") if kind == "state" else ""
