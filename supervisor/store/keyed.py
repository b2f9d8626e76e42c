"""Jobs by their key: the lanes of a key, and a page of their jobs, whatever else there is.

A page goes through a bounded number of rows, whatever the number of lanes, and never leaves out a job that lies before
its end: so the id it ends with is all that the next page has to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from supervisor.job import State
from supervisor.store.driver import plain_text
from supervisor.store.sqlite.statements import SQL

LANES_MAX = 16
"""Lanes whose jobs are read together while the keeper waits; a key that more queues have is looked for among all."""

ROWS_MAX = 1_000
"""Jobs that are looked at for a page of those of several lanes, or in one state: a millisecond."""

Row = tuple[int, State | None]
"""A job's id, and its state if that is final."""


def lanes_of(
    connection: Any, key: str, queue: str | None, lanes_max: int | None = None
) -> list[tuple[int, str]] | None:  # fmt: skip
    """The lanes of a key, each with its queue: of one queue or of all.

    None for jobs without a key, whose lanes are not those of a key, and where there are more than `lanes_max`.
    """
    if not key:
        return None
    if queue is None:
        rows = connection.execute(SQL.key_lanes, (key, -1 if lanes_max is None else lanes_max + 1)).fetchall()
    else:
        rows = connection.execute(SQL.key_lane, (key, queue)).fetchall()
    if lanes_max is not None and len(rows) > lanes_max:
        return None
    return [(lane, plain_text(name)) for lane, name in rows]


def page_after(connection: Any, lanes: Sequence[tuple[int, str]], job_id: int, rows_max: int) -> list[Row]:
    """The next jobs of these lanes, in ascending order; none only if there are none."""
    pages, size = _pages(connection, SQL.key_after, lanes, job_id, rows_max)
    end = min((page[-1][0] for page in pages if len(page) == size), default=None)
    return sorted(row for page in pages for row in page if end is None or row[0] <= end)


def page_before(connection: Any, lanes: Sequence[tuple[int, str]], job_id: int, rows_max: int) -> list[Row]:
    """The jobs of these lanes before this one, in descending order; none only if there are none."""
    pages, size = _pages(connection, SQL.key_before, lanes, job_id, rows_max)
    end = max((page[-1][0] for page in pages if len(page) == size), default=0)
    return sorted((row for page in pages for row in page if row[0] >= end), reverse=True)


def _pages(
    connection: Any, statement: str, lanes: Sequence[tuple[int, str]], job_id: int, rows_max: int
) -> tuple[list[list[Row]], int]:
    """Some jobs of each lane, and how many there may be of each: what lies behind the end of one is not known."""
    size = max(rows_max // max(len(lanes), 1), 1)
    found = [connection.execute(statement, (lane, job_id, size)).fetchall() for lane, _ in lanes]
    return [[(row[0], None if row[1] is None else State(plain_text(row[1]))) for row in page] for page in found], size
