"""Stores that a test opens."""

from __future__ import annotations

from collections.abc import Iterator

from supervisor.store.sqlite.store import SqliteStore
from tests.conformance.sqlite import SqliteBackend


def audited(backend: SqliteBackend) -> Iterator[SqliteStore]:
    """A store whose rows are looked at once it is closed: nothing is wrong with them, whatever the test did."""
    opened = backend.open()
    yield opened
    opened.close()
    assert backend.complaints() == []
