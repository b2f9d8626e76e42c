"""Searches look at a bounded number of jobs at a time, and go on where they stood."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from supervisor.job import State
from supervisor.store.archive import SCANNED, Archive
from supervisor.store.history import Search
from supervisor.store.protocol import Completion, NewJob
from supervisor.store.reader import connect_reader
from tests.conformance.history import die
from tests.conformance.sqlite import SqliteBackend
from tests.conformance.suite import NOW, leased, put


@pytest.fixture
def backend(tmp_path: Path) -> SqliteBackend:
    return SqliteBackend(tmp_path / "jobs.db", durability="relaxed")


@pytest.fixture
def store(backend: SqliteBackend) -> Iterator[Any]:
    opened = backend.open()
    yield opened
    opened.close()


@pytest.fixture
def archive(store: Any, backend: SqliteBackend) -> Iterator[Archive]:
    connection = connect_reader(str(backend.path))
    yield Archive(connection, {"lifo": SimpleNamespace(redact=("secret",), max_attempts=5)}.get)
    connection.close()


def test_a_look_goes_through_no_more_than_it_may_and_says_where_to_go_on(store: Any, archive: Archive) -> None:
    put(store, *[NewJob(b"%d" % number) for number in range(1, 26)])
    search = Search(text="7")
    pages, cursor = [], None
    while True:
        page = archive.look(search, before_id=cursor, jobs_max=10)
        assert page.looked_at <= 10
        pages.append((page.ids, page.cursor))
        cursor = page.cursor
        if cursor is None:
            break
    assert pages == [([17], 16), ([7], 6), ([], None)]


def test_a_search_ends_with_its_limit_and_is_gone_on_with_behind_an_id(store: Any, archive: Archive) -> None:
    put(store, *[NewJob(b"%d" % number, options=b'{"tags":["a"]}') for number in range(30)])
    tagged = Search(tag="a")
    first = [job["id"] for job in archive.search(tagged, limit=4)]
    assert first == [30, 29, 28, 27]
    assert [job["id"] for job in archive.search(tagged, limit=2, before_id=first[-1])] == [26, 25]
    assert len(list(archive.search())) == 30


def test_a_search_looks_no_further_than_its_time(store: Any, archive: Archive) -> None:
    """At the first look in which every job is older, all before them are."""
    for begin in range(3):
        put(store, *[b"1"] * SCANNED, now=NOW + begin * 1_000)
    told: list[int] = []
    found = list(archive.search(Search(since_ms=NOW + 2_000), told=told.append))
    assert len(found) == SCANNED
    assert told[-1] == 2 * SCANNED, "the third look was not needed"


def test_states_queues_and_errors_are_looked_for_where_they_stand(store: Any, archive: Archive) -> None:
    put(store, b"1", NewJob(b"2", due_at_ms=NOW + 1_000))
    die(store, "no user 3", "no disk", queue="lifo")
    given = leased(store)
    with store.transaction(NOW) as tx:
        tx.complete(given.token, [Completion(1, NOW, NOW)])

    def ids(**chosen: Any) -> list[int]:
        return [job["id"] for job in archive.search(**chosen)]

    assert ids(state=State.COMPLETED) == [1]
    assert ids(state=State.SCHEDULED) == [2]
    assert ids(state=State.DEAD) == ids(queue="lifo") == [4, 3]
    assert ids(state=State.BLOCKED) == []
    (mark,) = {group["fingerprint"] for group in archive.groups() if group["message"] == "no disk"}
    assert len(ids(fingerprint=mark)) == 1
    assert ids(fingerprint=mark, queue="fifo") == []
    assert [job["id"] for job in archive.dead(fingerprint=mark, text="disk")] == ids(fingerprint=mark)
    assert list(archive.dead(kind="KeyError")) == []
    assert len(list(archive.dead(ids=[3]))) == 1


def test_what_is_redacted_is_neither_found_nor_exported(store: Any, archive: Archive) -> None:
    put(store, b'{"secret":"alpha","to":"beta"}', queue="lifo")
    assert list(archive.search(Search(text="alpha"))) == []
    assert [job["id"] for job in archive.search(Search(text="beta"))] == [1]
    assert archive.bodies([1]) == {1: {"secret": "[redacted]", "to": "beta"}}


def test_a_group_without_letters_is_not_shown(store: Any, archive: Archive) -> None:
    (job,) = die(store, "x")
    assert [group["count"] for group in archive.groups("fifo")] == [1]
    assert archive.groups("lifo") == []
    with store.transaction(NOW) as tx:
        tx.remove([job])
    assert archive.groups() == []
