"""No statement walks over a table that grows with the jobs: SQLite's own plans say so, whatever the machine's speed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.store.protocol import NewJob
from supervisor.store.sqlite.statements import SQL
from supervisor.store.sqlite.store import SqliteStore
from tests.conformance.sqlite import SqliteBackend
from tests.conformance.suite import put

GROWING = {
    "job",
    "ready",
    "scheduled",
    "outcome",
    "trail",
    "attempt",
    "request",
    "letter",
    "replayed",
    "stat",
    "step",
    "edge",
}
WALKS = {
    "read_stats": "one row for each queue and minute, then hour: three thousand for each queue in three weeks",
    "read_scheduled": "an operator's listing: no index orders what is scheduled by id, and none is worth its cost",
    "request_forget": "the oldest keys, bounded by its limit",
}
SORTS = {
    "edges_policies": "three policies",
    "explain_waits": "the steps before one",
    "fed_bytes": "the steps of one pass",
    "read_steps": "the steps of one flow",
    "read_blocked_needs": "tasks that are waited for",
    "explain_leased": "what is leased",
    "outcome_tokens": "the few tokens of one batch",
    "read_oldest": "queues times priorities",
    "read_kept": "what one job has kept",
    "read_page": "one page",
    "read_running": "what is leased",
    "read_scheduled": "see above",
    "read_waiting": "queues times priorities",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteStore]:
    opened = SqliteBackend(tmp_path_factory.mktemp("plans") / "jobs.db", durability="relaxed").open()
    yield opened
    opened.close()


def plan(store: SqliteStore, name: str) -> list[str]:
    """What SQLite would do, a line each."""
    text = getattr(SQL, name)
    names = re.findall(r":(\w+)", text)
    numbers = [int(number) for number in re.findall(r"\?(\d+)", text)]
    blanks: Any = dict.fromkeys(names) if names else [None] * (max(numbers) if numbers else text.count("?"))
    return [row[3].decode() for row in store.connection.execute(f"EXPLAIN QUERY PLAN {text}", blanks)]


def walked(lines: list[str]) -> set[str]:
    found = (re.match(r"SCAN (\w+)(?! VIRTUAL)\b(?! VIRTUAL)", line) for line in lines)
    return {match[1] for match in found if match} & GROWING


@pytest.mark.parametrize("name", sorted(vars(SQL)))
def test_a_statement_goes_by_an_index(store: SqliteStore, name: str) -> None:
    lines = plan(store, name)
    assert bool(walked(lines)) == (name in WALKS), lines
    assert any("TEMP B-TREE" in line for line in lines) == (name in SORTS), lines
    assert not any("AUTOMATIC" in line for line in lines), lines


@pytest.mark.parametrize("name", ["read_ended", "ended_after"])
def test_what_ended_badly_is_found_without_looking_at_what_completed(store: SqliteStore, name: str) -> None:
    assert any("outcome_not_completed" in line for line in plan(store, name))


@pytest.mark.parametrize("name", ["ids_of_queue", "read_queue", "read_queued_of"])
def test_the_jobs_of_a_queue_are_found_without_looking_at_others(store: SqliteStore, name: str) -> None:
    assert any("job_of_queue" in line for line in plan(store, name))


@pytest.mark.parametrize(
    ("name", "found_by"),
    [
        ("key_lane", "sqlite_autoindex_lane_1 (queue=? AND key=?)"), ("key_lanes", "lane_of_key (key=?)"),
        ("key_after", "job_of_key (lane=? AND rowid>?)"), ("key_before", "job_of_key (lane=? AND rowid<?)"),
    ],
)  # fmt: skip
def test_the_jobs_of_a_key_are_found_without_looking_at_others(store: SqliteStore, name: str, found_by: str) -> None:
    lines = plan(store, name)
    assert any(line.endswith(found_by) for line in lines), lines


def test_a_step_is_found_by_its_name_without_looking_at_others_of_its_flow(store: SqliteStore) -> None:
    assert any("(flow=? AND kind=? AND name=?)" in step for step in plan(store, "step_named"))


def test_a_job_without_a_key_stands_in_no_index_of_keys(tmp_path: Path) -> None:
    """Whatever queues and keys came before: a queue that begins after them has its number from beyond theirs."""
    store = SqliteBackend(tmp_path / "jobs.db").open()
    for queue in ("fifo", "lifo", "priority"):
        put(store, b"1", NewJob(b"2", key="acme"), NewJob(b"3", key="other"), NewJob(b"4", key="acme"), queue=queue)
    rows = store.connection.execute("SELECT id FROM job INDEXED BY job_of_key WHERE lane > queue").fetchall()
    assert sorted(row[0] for row in rows) == [2, 3, 4, 6, 7, 8, 10, 11, 12]
    store.close()


def test_the_oldest_waiting_jobs_are_found_at_the_ends_of_their_line(store: SqliteStore) -> None:
    searches = [line for line in plan(store, "read_oldest") if line.startswith("SEARCH ready ")]
    assert searches[-1].endswith("(lane=? AND band=? AND pos=?)"), searches


def test_a_missing_index_would_be_noticed(tmp_path: Path) -> None:
    poor = SqliteBackend(tmp_path / "jobs.db").open()
    poor.connection.execute("ALTER TABLE scheduled RENAME TO other")
    poor.connection.execute("CREATE TABLE scheduled (due_at INTEGER NOT NULL, id INTEGER NOT NULL)")
    assert walked(plan(poor, "due")) == {"scheduled"}
    poor.close()
