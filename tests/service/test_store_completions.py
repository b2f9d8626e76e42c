"""Completions are written in two ways, by what they left; what is read afterwards does not show which."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.job import State
from supervisor.policy.settle import History
from supervisor.store.open import open_store
from supervisor.store.protocol import AttemptError, Completion, Group, NewJob, Owner
from supervisor.store.reader import Reader, instant
from supervisor.store.sqlite.settling import PLAIN_RUN_MS
from supervisor.store.sqlite.store import SqliteStore

NOW = 1_700_000_000_000
FAR = 2_500_000_000_000
"""A time in 2049: start and run time still fit into one number."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = open_store(str(tmp_path / "jobs.db"), "full", create=True, migrate=True)
    yield opened
    opened.close()


def leased(store: SqliteStore, jobs: int) -> int:
    """The token of a lease of new jobs, 1 to `jobs`."""
    with store.transaction(NOW) as tx:
        tx.insert([Group("q", [NewJob(b"{}")] * jobs)])
        owner = tx.own(Owner("host", "boot", 1, 1, 7, "q", "/nowhere", 1, 1))
        found = tx.lease("q", owner, jobs, 1 << 30)
    assert found is not None
    return found.token


@pytest.mark.parametrize("start", [0, NOW, FAR])
@pytest.mark.parametrize("run_ms", [0, 1, PLAIN_RUN_MS - 1, PLAIN_RUN_MS, 30 * 86_400_000, -5])
@pytest.mark.parametrize("result", [None, b'{"x":1}'])
def test_start_end_and_result_are_what_they_were(
    store: SqliteStore, start: int, run_ms: int, result: bytes | None
) -> None:
    token = leased(store, 1)
    with store.transaction(NOW) as tx:
        assert tx.complete(token, [Completion(1, start, start + run_ms, result)]) == []
    shown = Reader(store.connection, {}.get).job(1)
    assert shown is not None
    assert (shown["state"], shown["attempt"], shown["token"]) == ("completed", 1, token)
    assert (shown["started_at"], shown["finished_at"]) == (instant(start), instant(start + run_ms))
    assert shown["result"] == (None if result is None else {"x": 1})


def test_a_batch_of_both_kinds_is_counted_and_ends_the_lease(store: SqliteStore) -> None:
    token = leased(store, 4)
    done = [Completion(1, NOW, NOW), Completion(2, NOW, NOW, b"1"), Completion(1, NOW, NOW), Completion(9, NOW, NOW)]
    with store.transaction(NOW) as tx:
        assert tx.complete(token, done) == [1, 9]
    with store.transaction(NOW) as tx:
        assert set(tx.open_leases()[token].jobs) == {3, 4}
        assert tx.complete(token, [Completion(3, NOW, NOW), Completion(4, NOW, NOW)]) == []
    with store.transaction(NOW) as tx:
        assert token not in tx.open_leases()
        assert tx.counts()["q"][State.COMPLETED] == 4


def test_a_later_attempt_without_a_result_keeps_its_number(store: SqliteStore) -> None:
    token = leased(store, 1)
    error = AttemptError("error", "it broke")
    with store.transaction(NOW) as tx:
        assert tx.reschedule(token, 1, NOW + 1, History(failures=1), error, solo=False)
    with store.transaction(NOW + 1) as tx:
        assert tx.promote(10) == 1
        again = tx.lease("q", tx.owners()[0].id, 1, 1 << 30)
    assert again is not None
    with store.transaction(NOW + 2) as tx:
        assert tx.complete(again.token, [Completion(1, NOW + 1, NOW + 2)]) == []
    shown = Reader(store.connection, {}.get).job(1)
    assert shown is not None
    assert (shown["state"], shown["attempt"], shown["failures"]) == ("completed", 2, 1)
