"""The one place that chooses the SQLite library: pysqlite3, which carries a fixed SQLite, else Python's own.

sqlite-utils chooses by the same rule, so one process never holds two copies of SQLite on one file (closing a
file through one copy would drop the locks that the other one holds).
"""

from __future__ import annotations

from typing import Any

try:
    from pysqlite3 import dbapi2 as sqlite3
except ImportError:  # no wheel for this machine
    import sqlite3

__all__ = ["WAL_RESET_SAFE", "plain_text", "sqlite3", "sqlite_version"]

sqlite_version: tuple[int, ...] = tuple(sqlite3.sqlite_version_info)

WAL_RESET_SAFE = sqlite_version >= (3, 51, 3) or (sqlite_version[:2] in ((3, 44), (3, 50)) and sqlite_version[2] >= 6)
"""Whether this SQLite has the fix for the WAL-reset fault; without it, one connection must write and checkpoint.

That is how jobsup works anyway: the keeper is the only writer and the only one that checkpoints.
"""


def plain_text(value: Any) -> Any:
    """A value of a row, text as text: a connection may give it as bytes."""
    return value.decode() if isinstance(value, bytes) else value
