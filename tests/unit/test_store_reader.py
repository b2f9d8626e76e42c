"""What is read from rows for people, on a reader's own connection and on the keeper's, must be the same and right."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from supervisor.errors import Denied, NoDatabase, StoreError
from supervisor.job import State
from supervisor.policy.settle import History
from supervisor.store import reader as reading
from supervisor.store.driver import sqlite3
from supervisor.store.protocol import AttemptError, Completion, Group, NewFlow, NewJob, NewStep, Owner, Tx
from supervisor.store.reader import DETAILS, Reader, connect_reader, instant
from supervisor.store.sqlite.store import SqliteStore
from tests.conformance.sqlite import SqliteBackend

NOW = 1_700_000_000_000
AT = "2023-11-14T22:13:20.000Z"
PLENTY = 1 << 40
QUEUES = {
    "q": SimpleNamespace(max_attempts=5, redact=("password",)),
    "lifo": SimpleNamespace(max_attempts=5, redact=()),
    "priority": SimpleNamespace(max_attempts=5, redact=()),
}
ERROR = AttemptError("error", "it broke", b'{"type":"ValueError","traceback":"line 1"}')


@pytest.fixture
def backend(tmp_path: Path) -> SqliteBackend:
    return SqliteBackend(tmp_path / "jobs.db", durability="relaxed")


@pytest.fixture
def store(backend: SqliteBackend) -> Iterator[SqliteStore]:
    opened = backend.open()
    with opened.transaction(NOW) as tx:
        tx.own(Owner("host", "boot", 1, 7, 1, "q", "/run/slots/7", 4321, 99))
    yield opened
    opened.close()


@pytest.fixture(params=["own connection", "the keeper's"])
def reader(request: pytest.FixtureRequest, store: SqliteStore) -> Iterator[Reader]:
    connection = connect_reader(store.path) if request.param == "own connection" else store.connection
    yield Reader(connection, QUEUES.get)
    if connection is not store.connection:
        connection.close()


def put(store: SqliteStore, *jobs: NewJob, queue: str = "q", now: int = NOW) -> list[int]:
    with store.transaction(now) as tx:
        return list(tx.insert([Group(queue, list(jobs) or [NewJob(b"null")])])[0].ids)


def lease(tx: Tx, queue: str = "q", jobs: int = 1) -> int:
    found = tx.lease(queue, 1, jobs, PLENTY)
    assert found is not None
    return found.token


def found_ids(reader: Reader, **wanted: Any) -> list[int]:
    return [job["id"] for job in reader.jobs(**wanted)]


# -- one job -------------------------------------------------------------------------------------------------------


def test_a_queued_job_is_shown_with_every_key(store: SqliteStore, reader: Reader) -> None:
    options = b'{"tags":["a","b"],"max_attempts":2}'
    put(store, NewJob(b'{"to":"x","password":"secret"}', 3, None, options), queue="q")
    assert reader.job(1) == {
        "id": 1, "queue": "q", "key": None, "flow": None, "progress": None, "task": None,
            "version": None, "idempotency_key": None,
        "state": "queued",
        "payload": {"to": "x", "password": "[redacted]"},
        "result": None,
        "priority": 3, "tags": ["a", "b"], "attempt": 0, "max_attempts": 2, "failures": 0, "crashes": 0,
        "interruptions": 0, "token": None, "worker": None, "consumer": None, "enqueued_at": AT, "due_at": None,
        "expires_at": None,
        "deadline_at": None, "started_at": None,
        "finished_at": None, "reason": None, "error": None, "kept": None, "errors": [],
    }  # fmt: skip


def test_what_a_job_has_kept_is_shown_until_it_completes(store: SqliteStore, reader: Reader) -> None:
    put(store)
    with store.transaction(NOW) as tx:
        token = lease(tx)
    for number, (name, value) in enumerate([("second", b"2"), ("first", b"1"), ("", b'{"row":5,"password":"x"}')]):
        with store.transaction(NOW + number) as tx:
            assert tx.checkpoint(token, 1, name, value)
    shown = reader.job(1)
    assert shown is not None
    assert shown["kept"] == {"steps": ["second", "first"], "cursor": {"row": 5, "password": "[redacted]"}}
    with store.transaction(NOW) as tx:
        tx.complete(token, [Completion(1, NOW, NOW)])
    shown = reader.job(1)
    assert shown is not None
    assert shown["kept"] is None


def test_what_a_job_of_a_scope_has_kept_hides_what_its_queue_hides(store: SqliteStore) -> None:
    put(store, queue="shop/q")
    with store.transaction(NOW) as tx:
        token = lease(tx, "shop/q")
        assert tx.checkpoint(token, 1, "", b'{"password":"x"}')
    reader = Reader(store.connection, QUEUES.get, "shop")
    shown = reader.job(1)
    assert shown is not None
    assert (shown["queue"], shown["kept"]) == ("q", {"steps": [], "cursor": {"password": "[redacted]"}})


def test_a_running_job_names_its_worker_and_token(store: SqliteStore, reader: Reader) -> None:
    put(store)
    with store.transaction(NOW) as tx:
        token = lease(tx)
    shown = reader.job(1)
    assert shown is not None
    assert (shown["state"], shown["attempt"], shown["token"]) == ("running", 1, token)
    assert shown["worker"] == {"slot": 7, "pid": 4321}


def test_a_completed_job_shows_its_result_and_its_times(store: SqliteStore, reader: Reader) -> None:
    put(store)
    with store.transaction(NOW) as tx:
        token = lease(tx)
        tx.complete(token, [Completion(1, NOW + 1, NOW + 1_001, b'{"password":"x","n":1}')])
    shown = reader.job(1)
    assert shown is not None
    assert (shown["state"], shown["attempt"], shown["token"], shown["worker"]) == ("completed", 1, token, None)
    assert shown["result"] == {"password": "[redacted]", "n": 1}
    assert (shown["started_at"], shown["finished_at"]) == ("2023-11-14T22:13:20.001Z", "2023-11-14T22:13:21.001Z")


def test_every_failed_attempt_is_kept_with_its_error(store: SqliteStore, reader: Reader) -> None:
    put(store)
    with store.transaction(NOW) as tx:
        tx.reschedule(lease(tx), 1, NOW, History(1), ERROR, solo=False)
        tx.promote(10)
        crash = AttemptError("crash", "it died", b'{"signal":"SIGSEGV"}')
        tx.reschedule(lease(tx), 1, NOW + 5, History(1, 1), crash, solo=True)
    shown = reader.job(1)
    assert shown is not None
    known = [{name: value for name, value in error.items() if value is not None} for error in shown["errors"]]
    assert known == [
        {"attempt": 1, "at": AT, "kind": "error", "message": "it broke", "type": "ValueError", "traceback": "line 1"},
        {"attempt": 2, "at": AT, "kind": "crash", "message": "it died", "signal": "SIGSEGV"},
    ]
    assert [set(DETAILS[error["kind"]]) <= error.keys() for error in shown["errors"]] == [True, True]
    assert (shown["state"], shown["attempt"], shown["failures"], shown["crashes"]) == ("scheduled", 2, 1, 1)
    assert (shown["due_at"], shown["error"]) == ("2023-11-14T22:13:20.005Z", "it died")


@pytest.mark.parametrize("state", [State.DEAD, State.CANCELLED])
def test_a_job_that_ended_badly_says_why(store: SqliteStore, reader: Reader, state: State) -> None:
    put(store)
    with store.transaction(NOW + 9) as tx:
        tx.finish(lease(tx), 1, state, NOW, "why", History(1), ERROR)
    shown = reader.job(1)
    assert shown is not None
    assert (shown["state"], shown["reason"], shown["error"]) == (state.value, "why", "it broke")
    assert shown["finished_at"] == "2023-11-14T22:13:20.009Z"
    assert len(shown["errors"]) == 1


def test_a_job_cancelled_before_it_ran_has_no_token(store: SqliteStore, reader: Reader) -> None:
    put(store)
    with store.transaction(NOW) as tx:
        tx.cancel(1)
    shown = reader.job(1)
    assert shown is not None
    assert (shown["state"], shown["attempt"], shown["token"], shown["started_at"]) == ("cancelled", 0, None, None)


def test_a_completed_retry_shows_no_error_and_keeps_the_history(store: SqliteStore, reader: Reader) -> None:
    put(store)
    with store.transaction(NOW) as tx:
        tx.reschedule(lease(tx), 1, NOW, History(1), ERROR, solo=False)
        tx.promote(10)
        tx.complete(lease(tx), [Completion(1, NOW, NOW)])
    shown = reader.job(1)
    assert shown is not None
    assert (shown["state"], shown["attempt"], shown["error"], len(shown["errors"])) == ("completed", 2, None, 1)


def test_a_job_of_a_queue_that_left_the_configuration_is_shown(store: SqliteStore, reader: Reader) -> None:
    put(store, NewJob(b'{"password":1}'), queue="fifo")
    shown = reader.job(1)
    assert shown is not None
    assert (shown["queue"], shown["max_attempts"], shown["payload"]) == ("fifo", None, {"password": 1})


@pytest.mark.parametrize("job_id", [0, -1, 2, 2**53, 2**70, -(2**70)])
def test_what_is_no_job_is_none(store: SqliteStore, reader: Reader, job_id: int) -> None:
    put(store)
    assert reader.job(job_id) is None


# -- where a job went, and came back -------------------------------------------------------------------------------


def through(tx: Tx, how: str) -> None:
    """Take job 1 of q, queued and alone, through some of its life."""
    if how in ("cancelled", "moved"):
        if how == "cancelled":
            tx.cancel(1)
        else:
            tx.move("q", "lifo", [1])
        return
    token = lease(tx)
    if how == "released":
        tx.release(token, [1])
    elif how == "interrupted":
        tx.interrupt(token, 1, History(0, 0, 1), ERROR)
    elif how in ("retried", "promoted", "hurried"):
        tx.reschedule(token, 1, NOW + 10, History(1), ERROR, solo=False)
    elif how in ("completed", "revived"):
        tx.complete(token, [Completion(1, NOW, NOW)])
    elif how == "asked to end":
        tx.cancel(1)
    elif how == "asked to end and released":
        tx.cancel(1)
        tx.release(token, [1])
    elif how == "dead":
        tx.finish(token, 1, State.DEAD, NOW, "why", History(1), ERROR)
    if how in ("revived", "hurried"):
        tx.revive(1)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("leased", State.RUNNING),
        ("asked to end", State.RUNNING),
        ("asked to end and released", State.QUEUED),
        ("released", State.QUEUED),
        ("interrupted", State.QUEUED),
        ("retried", State.SCHEDULED),
        ("promoted", State.QUEUED),
        ("hurried", State.QUEUED),
        ("revived", State.QUEUED),
        ("moved", State.QUEUED),
        ("completed", State.COMPLETED),
        ("dead", State.DEAD),
        ("cancelled", State.CANCELLED),
    ],
)
def test_the_state_is_derived_from_where_the_job_stands(
    store: SqliteStore, reader: Reader, how: str, expected: State
) -> None:
    put(store)
    with store.transaction(NOW) as tx:
        through(tx, how)
    if how == "promoted":
        with store.transaction(NOW + 10) as tx:
            tx.promote(10)
    shown = reader.job(1)
    assert shown is not None
    assert shown["state"] == expected
    assert (shown["due_at"] is not None) == (expected is State.SCHEDULED)
    for state in State:
        assert found_ids(reader, state=state) == ([1] if state is expected else [])
        assert found_ids(reader, state=state, queue=shown["queue"]) == ([1] if state is expected else [])
        assert found_ids(reader, state=state, queue="priority") == []
    assert {state for state, jobs in reader.counts()[shown["queue"]].items() if jobs} == {expected.value}


def test_a_job_that_came_back_is_not_shown_as_held_by_its_old_lease(store: SqliteStore, reader: Reader) -> None:
    put(store, NewJob(b"1"), NewJob(b"2"), NewJob(b"3"))
    with store.transaction(NOW) as tx:
        old = lease(tx, jobs=3)
        tx.reschedule(old, 1, NOW, History(1), ERROR, solo=False)
        tx.complete(old, [Completion(2, NOW, NOW)])
        tx.revive(2)
        tx.promote(1)
    assert [(job["id"], job["state"]) for job in reader.jobs()] == [(3, "running"), (2, "queued"), (1, "queued")]
    with store.transaction(NOW) as tx:
        new = lease(tx, jobs=1)
    shown = reader.job(2)
    assert shown is not None
    assert (shown["state"], shown["token"], shown["attempt"]) == ("running", new, 1)


def test_a_job_whose_owner_is_gone_is_still_running(store: SqliteStore, reader: Reader) -> None:
    put(store)
    with store.transaction(NOW) as tx:
        lease(tx)
        tx.disown(1)
    shown = reader.job(1)
    assert shown is not None
    assert (shown["state"], shown["worker"]) == ("running", None)


# -- listing -------------------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(store: SqliteStore) -> None:
    """Sixty jobs: by id modulo 6 queued, scheduled, running, completed, dead, cancelled; every third of lifo."""
    for number in range(60):
        later = NOW + 1_000 if number % 6 == 1 else None
        tag = b'{"tags":["even"]}' if number % 2 == 0 else None
        put(store, NewJob(b"null", 0, later, tag), queue="lifo" if number % 3 == 0 else "q")
        job_id = number + 1
        with store.transaction(NOW) as tx:
            if number % 6 == 5:
                tx.cancel(job_id)
            elif number % 6 in (2, 3, 4):
                taken = tx.lease("lifo" if number % 3 == 0 else "q", 1, 100, PLENTY)
                assert taken is not None
                tx.release(taken.token, [job.id for job in taken.jobs if job.id != job_id])
                if number % 6 == 3:
                    tx.complete(taken.token, [Completion(job_id, NOW, NOW, b"1")])
                if number % 6 == 4:
                    tx.finish(taken.token, job_id, State.DEAD, NOW, "why", History(1), ERROR)


ORDER = (State.QUEUED, State.SCHEDULED, State.RUNNING, State.COMPLETED, State.DEAD, State.CANCELLED)


@pytest.mark.usefixtures("mixed")
@pytest.mark.parametrize("queue", [None, "q", "lifo", "never seen"])
@pytest.mark.parametrize("state", [None, *State])
@pytest.mark.parametrize("tag", [None, "even"])
def test_filters_and_pages_find_what_is_meant_newest_first(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, queue: str | None, state: State | None, tag: str | None
) -> None:
    expected = [
        number + 1
        for number in reversed(range(60))
        if (state is None or ORDER[number % 6] is state)
        and (queue is None or queue == ("lifo" if number % 3 == 0 else "q"))
        and (tag is None or number % 2 == 0)
    ]
    wanted = {"queue": queue, "state": state, "tag": tag}
    assert found_ids(reader, **wanted, limit=0) == expected
    assert found_ids(reader, **wanted, limit=4) == expected[:4]
    if expected:
        assert found_ids(reader, **wanted, limit=3, before_id=expected[0]) == expected[1:4]
    for name, few in (("IDS_MAX", 7), ("TAGGED_MAX", 5), ("ROWS_MAX", 3)):
        monkeypatch.setattr(reading, name, few)
    assert found_ids(reader, **wanted, limit=0) == expected
    assert found_ids(reader, **wanted) == expected[:50]


@pytest.mark.usefixtures("mixed")
def test_a_listing_may_be_left_half_read(store: SqliteStore, reader: Reader) -> None:
    listing = reader.jobs(limit=0)
    assert next(listing)["id"] == 60
    with store.transaction(NOW) as tx:
        tx.count_stale(1)
    assert next(listing)["id"] == 59
    del listing
    assert reader.setting("stale") == 1


def test_a_job_that_changes_between_two_looks_is_not_shown_in_a_state_it_left(
    store: SqliteStore, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, NewJob(b"1"), NewJob(b"2"), NewJob(b"3"))
    look = Reader._ids

    def then_cancel(self: Reader, *asked: Any) -> list[int]:
        ids = look(self, *asked)
        if ids:
            with store.transaction(NOW) as tx:
                if not tx.standing([2])[2].state.final:
                    tx.cancel(2)
        return ids

    monkeypatch.setattr(Reader, "_ids", then_cancel)
    assert found_ids(reader, state=State.QUEUED, limit=3) == [3, 1]


def test_a_listing_reads_no_payloads(store: SqliteStore, reader: Reader) -> None:
    put(store, NewJob(b'"' + b"x" * 100_000 + b'"'))
    assert [job["payload"] for job in reader.jobs()] == [None]


# -- counts and the rest -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("mixed")
def test_counts_are_by_queue_and_state(reader: Reader) -> None:
    every = dict.fromkeys((state.value for state in State), 0)
    assert reader.counts() == {
        "lifo": {**every, "queued": 10, "completed": 10},
        "q": {**every, "scheduled": 10, "running": 10, "dead": 10, "cancelled": 10},
    }


@pytest.mark.parametrize("queue", ["fifo", "lifo", "priority"])
def test_the_oldest_waiting_job_is_found_in_every_order(store: SqliteStore, reader: Reader, queue: str) -> None:
    for age, priority in ((90, 1), (70, -3), (60, 5), (50, 1), (20, 5)):
        put(store, NewJob(b"1", priority), queue=queue, now=NOW - age)
        put(store, NewJob(b"1", 100, NOW + 10**6), queue=queue, now=NOW - 500)
    assert reader.oldest_queued_ms() == {queue: NOW - 90}
    with store.transaction(NOW) as tx:
        lease(tx, queue, 5)
    assert reader.oldest_queued_ms() == {}


def test_a_job_waits_since_it_could_have_run(store: SqliteStore, reader: Reader) -> None:
    put(store, NewJob(b"1", 0, NOW - 30), now=NOW - 500)
    with store.transaction(NOW) as tx:
        assert tx.promote(10) == 1
    assert (reader.oldest_queued_ms(), reader.waiting_since_ms(0, 9)) == ({"q": NOW - 500}, (0, {"q": NOW - 30}))
    with store.transaction(NOW) as tx:
        tx.reschedule(lease(tx), 1, NOW + 70, History(1), ERROR, solo=False)
    assert reader.waiting_since_ms(0, 9) == (0, {"q": None})
    with store.transaction(NOW + 100) as tx:
        assert tx.promote(10) == 1
    assert reader.waiting_since_ms(0, 9) == (0, {"q": NOW})


def test_what_waits_is_found_page_by_page(store: SqliteStore, reader: Reader) -> None:
    for number, queue in enumerate(("q", "lifo", "priority")):
        put(store, queue=queue, now=NOW + number)
    after, found = 0, {}
    for _ in range(9):
        after, page = reader.waiting_since_ms(after, 2)
        found |= page
        assert len(page) <= 2
        if not after:
            break
    assert found == {"q": NOW, "lifo": NOW + 1, "priority": NOW + 2}


def test_paused_queues_are_named(store: SqliteStore, reader: Reader) -> None:
    with store.transaction(NOW) as tx:
        tx.pause("q", paused=True)
        tx.pause("lifo", paused=False)
    assert reader.paused() == {"q"}


def test_numbers_are_read_and_unknown_ones_are_nought(store: SqliteStore, reader: Reader) -> None:
    with store.transaction(NOW) as tx:
        tx.count_stale(3)
    assert (reader.setting("stale"), reader.setting("no such")) == (3, 0)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, True),
        ({"kind": "ValueError"}, True),
        ({"kind": "Value"}, False),
        ({"text": "brok"}, True),
        ({"text": "line 1"}, True),
        ({"text": "line 2"}, False),
        ({"before_ms": NOW + 10}, True),
        ({"before_ms": NOW + 9}, False),
        ({"after_ms": NOW + 9}, True),
        ({"after_ms": NOW + 10}, False),
        ({"kind": "ValueError", "text": "brok", "before_ms": NOW + 10, "after_ms": NOW}, True),
    ],
)
def test_dead_letters_are_matched_by_their_last_error(
    store: SqliteStore, reader: Reader, wanted: dict[str, Any], expected: bool
) -> None:
    put(store)
    with store.transaction(NOW + 9) as tx:
        old = AttemptError("crash", "older", b'{"type":"Value","traceback":"line 2"}')
        tx.reschedule(lease(tx), 1, NOW, History(0, 1), old, solo=False)
        tx.promote(1)
        tx.finish(lease(tx), 1, State.DEAD, NOW, "why", History(1, 1), ERROR)
    every = {"kind": None, "text": None, "before_ms": None, "after_ms": None}
    assert reader.dead_matches(1, **(every | wanted)) is expected


def test_a_dead_letter_without_an_error_matches_no_text(store: SqliteStore, reader: Reader) -> None:
    put(store)
    with store.transaction(NOW) as tx:
        tx.finish(lease(tx), 1, State.DEAD, NOW, "unfinished", History(0, 0, 21), None)
    assert reader.dead_matches(1, kind=None, text=None, before_ms=None, after_ms=None)
    assert not reader.dead_matches(1, kind=None, text="x", before_ms=None, after_ms=None)


@pytest.mark.parametrize(
    ("ms", "expected"),
    [
        (None, None),
        (0, "1970-01-01T00:00:00.000Z"),
        (NOW, AT),
        (NOW + 123, "2023-11-14T22:13:20.123Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        (253_402_300_799_001, "9999-12-31T23:59:59.001Z"),
    ],
)
def test_instants_are_exact_to_the_millisecond(ms: int | None, expected: str | None) -> None:
    assert instant(ms) == expected


# -- connecting ----------------------------------------------------------------------------------------------------


def test_a_reader_can_write_nothing(store: SqliteStore) -> None:
    connection = connect_reader(store.path)
    for statement in ("DELETE FROM job", "PRAGMA user_version = 9", "CREATE TABLE x (y)"):
        with pytest.raises(sqlite3.OperationalError, match=r"readonly|read-only"):
            connection.execute(statement)
    connection.close()


def test_a_reader_between_snapshots_does_not_keep_the_wal_from_shrinking(store: SqliteStore) -> None:
    reader = Reader(connect_reader(store.path), QUEUES.get)
    put(store, *[NewJob(b"1")] * 100)
    assert len(list(reader.jobs(limit=10))) == 10
    reader.counts(), reader.job(1), reader.oldest_queued_ms(), reader.paused(), reader.setting("stale")
    assert store.checkpoint("TRUNCATE") == (0, 0)
    assert store.wal_bytes() == 0


def test_a_missing_database_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(NoDatabase, match="there is no database yet"):
        connect_reader(str(tmp_path / "jobs.db"))


def test_a_file_that_may_not_be_read_is_denied(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(Denied, match="not readable"):
        connect_reader(store.path)


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b""])
def test_what_is_no_database_of_ours_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "jobs.db").write_bytes(content)
    with pytest.raises(StoreError):
        connect_reader(str(tmp_path / "jobs.db"))


# -- flows -----------------------------------------------------------------------------------------------------------


def test_the_context_of_a_flow_hides_what_any_queue_of_its_scope_hides(store: SqliteStore) -> None:
    hidden = {"": ("password",), "shop": ("card.number",)}
    reader = Reader(store.connection, QUEUES.get, hidden_in=hidden.__getitem__)
    context = b'{"password":"p","card":{"number":1},"to":"x"}'
    with store.transaction(NOW) as tx:
        main, shop, bare = (
            tx.insert([NewFlow([NewStep("lifo", NewJob(b"1"))], scope=scope, context=told)])[0].ids[0]
            for scope, told in (("", context), ("shop", context), ("", None))
        )
    shown = {
        main: {"password": "[redacted]", "card": {"number": 1}, "to": "x"},
        shop: {"password": "p", "card": {"number": "[redacted]"}, "to": "x"},
        bare: None,
    }
    listed = reader.flows()["flows"]
    assert {flow["id"]: flow["context"] for flow in listed} == shown
    for flow_id, told in shown.items():
        for found in (reader.flow(flow_id), reader.flow_alone(flow_id), reader.job_or_flow(flow_id)):
            assert found is not None
            assert found["context"] == told


def test_numbers_with_large_exponents_are_read_as_soon_as_others(store: SqliteStore, reader: Reader) -> None:
    """A bound with much room: msgspec's own way with them takes two seconds."""
    (job,) = put(store, NewJob(b"[" + b"1e300," * 170_000 + b"0]"))
    began = time.process_time()
    shown = reader.job(job)
    assert time.process_time() - began < 1
    assert shown is not None
    assert shown["payload"][0] == 1e300
