"""SQLite passes the suite."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from supervisor.policy.histogram import bounds
from tests.conformance.flow_verbs import FlowVerbs
from tests.conformance.history import HistoryConformance
from tests.conformance.idempotency_verbs import IdempotencyVerbs
from tests.conformance.loan_verbs import LoanVerbs
from tests.conformance.outbox_verbs import OutboxVerbs
from tests.conformance.retry_verbs import RetryVerbs
from tests.conformance.sqlite import SqliteBackend
from tests.conformance.suite import Conformance
from tests.conformance.task_verbs import TaskVerbs


class TestSqlite(Conformance, RetryVerbs, TaskVerbs, FlowVerbs, LoanVerbs, OutboxVerbs, IdempotencyVerbs):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> SqliteBackend:
        return SqliteBackend(tmp_path / "jobs.db")


COUNTS = "enqueued, started, completed, failed, crashed, retried, dead, cancelled, interrupted"


class TestSqliteHistory(HistoryConformance):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> SqliteBackend:
        return SqliteBackend(tmp_path / "jobs.db")

    def groups(self, backend: Any) -> dict[tuple[str, str], int]:
        with backend.look() as db:
            rows = db.execute("SELECT queue, message, jobs FROM letter_group").fetchall()
            return {(queue, message): jobs for queue, message, jobs in rows}

    def figures(self, backend: Any) -> dict[tuple[str, int], dict[str, Any]]:
        found = {}
        with backend.look() as db:
            for queue, minute, run, wait, *counts in db.execute(f"SELECT queue, minute, run, wait, {COUNTS} FROM stat"):
                named = dict(zip(COUNTS.split(", "), counts, strict=True))
                named |= {"runs": sum(json.loads(run)), "waits": sum(json.loads(wait))}
                found[queue, minute] = {name: value for name, value in named.items() if value}
        return found

    def waits(self, backend: Any) -> list[int]:
        """Each wait is in a bucket that begins no more than a quarter below it."""
        found: list[int] = []
        with backend.look() as db:
            for (wait,) in db.execute("SELECT wait FROM stat"):
                for bucket, jobs in enumerate(json.loads(wait)):
                    found += [bounds(bucket)[0]] * jobs
        return sorted(found)
