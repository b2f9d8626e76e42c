"""SQLite passes the suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.retry_verbs import RetryVerbs
from tests.conformance.sqlite import SqliteBackend
from tests.conformance.suite import Conformance


class TestSqlite(Conformance, RetryVerbs):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> SqliteBackend:
        return SqliteBackend(tmp_path / "jobs.db")
