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


def keyed(store: Any, queue: str, *keys: str) -> list[int]:
    return put(store, *[NewJob(b"1", key=key) for key in keys], queue=queue)


def test_jobs_of_a_key_are_found_newest_first_in_one_queue_or_all(store: Any, archive: Archive) -> None:
    keyed(store, "fifo", "acme", "", "other", "acme")
    keyed(store, "lifo", "acme", "")
    given = leased(store, "fifo", jobs=1)
    with store.transaction(NOW) as tx:
        tx.complete(given.token, [Completion(1, NOW, NOW)])
    die(store, "x", queue="lifo", insert=False)

    def ids(key: str, **chosen: Any) -> list[int]:
        return [job["id"] for job in archive.search(Search(key=key), **chosen)]

    assert ids("acme") == [5, 4, 1]
    assert ids("acme", limit=2) == [5, 4]
    assert ids("acme", before_id=5) == [4, 1]
    assert ids("acme", queue="fifo") == [4, 1]
    assert ids("acme", queue="fifo", state=State.QUEUED) == [4]
    assert ids("acme", state=State.COMPLETED) == [1]
    assert ids("acme", state=State.RUNNING) == []
    assert (ids(""), ids("", queue="lifo")) == ([6, 2], [6])
    assert ids("nobody") == ids("acme", queue="nowhere") == []
    dead = [job["id"] for job in archive.search(state=State.DEAD)]
    assert [job["id"] for key in ("acme", "") for job in archive.dead(key=key)] == dead
    assert {job["key"] for job in archive.search(Search(key="acme"))} == {"acme"}


def test_a_look_for_a_key_goes_through_the_jobs_of_that_key_only(store: Any, archive: Archive) -> None:
    mine = []
    for number in range(40):
        mine += keyed(store, ("fifo", "lifo")[number % 3 == 0], "acme")
        keyed(store, "fifo", *["other"] * 5)
    found, cursor, looked_at = list[int](), None, 0
    while True:
        page = archive.look(Search(key="acme"), before_id=cursor, jobs_max=7)
        assert page.looked_at <= 7
        found, cursor, looked_at = found + page.ids, page.cursor, looked_at + page.looked_at
        if cursor is None:
            break
    assert found == mine[::-1]
    assert looked_at < 2 * len(mine)
    assert archive.look(Search(key="acme", text="2"), jobs_max=7).ids == []


def test_a_key_that_very_many_queues_have_is_found_among_all_jobs(
    store: Any, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = [keyed(store, queue, "acme", "other")[0] for queue in ("fifo", "lifo", "priority")]
    monkeypatch.setattr("supervisor.store.archive.LANES_READ_MAX", 2)
    page = archive.look(Search(key="acme"))
    assert (page.ids, page.looked_at) == (mine[::-1], 6)


@pytest.mark.parametrize(("scope", "expected"), [("shop", [3, 1]), ("blog", [2]), ("", [])])
def test_a_key_is_looked_for_in_its_own_scope(
    store: Any, backend: SqliteBackend, scope: str, expected: list[int]
) -> None:
    for queue in ("shop/fifo", "blog/fifo", "shop/lifo"):
        keyed(store, queue, "acme")
    connection = connect_reader(str(backend.path))
    archive = Archive(connection, {}.get, scope)
    assert [job["id"] for job in archive.search(Search(key="acme"))] == expected
    assert [job["id"] for job in archive.search(Search(key="acme"), queue="fifo")] == expected[-1:]
    assert archive.look(Search(key="acme")).looked_at == len(expected), "the jobs of others are not even looked at"
    connection.close()
