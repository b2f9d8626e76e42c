"""Lanes in the store: cases that the model of lanes found."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.job import State
from supervisor.policy.discipline import PLAIN, Discipline, Limit
from supervisor.policy.rate import Rate
from supervisor.policy.settle import History
from supervisor.store.explain import Explainer
from supervisor.store.protocol import AttemptError, Completion, Group, Lease, NewJob
from supervisor.store.sqlite import adding, leasing
from supervisor.store.sqlite.store import SqliteStore
from tests.conformance.sqlite import SqliteBackend

NOW = 1_700_000_000_000


def opened(path: Path, rules: Discipline) -> SqliteStore:
    backend = SqliteBackend(path / "jobs.db", durability="relaxed")
    backend.discipline_of = lambda _: rules
    return backend.open()


def test_a_key_that_was_not_read_comes_before_jobs_without_a_key(tmp_path: Path) -> None:
    """The first key cannot pay for its next job; the second follows, though as many keys were read as jobs wanted."""
    store = opened(tmp_path, Discipline(group="q", key_limits=(Limit("key:q", rate=Rate(2, 60_000, "bucket")),)))
    dear = NewJob(b"1", key="first", options=b'{"cost":2}', cost=2)
    with store.transaction(NOW) as tx:
        tx.insert([Group("q", [NewJob(b"1", key="first"), dear, NewJob(b"1", key="second"), NewJob(b"1")])])
        found = [tx.lease("q", 1, 1, 1_000) for _ in range(4)]
        assert [[job.key for job in lease.jobs] if lease else [] for lease in found] == [
            ["first"],
            ["second"],
            [""],
            [],
        ]
    store.close()


def test_jobs_without_a_key_can_be_paused_where_there_are_no_keys(tmp_path: Path) -> None:
    store = opened(tmp_path, PLAIN)
    with store.transaction(NOW) as tx:
        tx.insert([Group("q", [NewJob(b"1")])])
        assert tx.free_key("q", "", paused=True)
        assert tx.lease("q", 1, 1, 1_000) is None
    with store.transaction(NOW) as tx:
        assert tx.free_key("q", "", paused=False)
        assert tx.lease("q", 1, 1, 1_000) is not None
    store.close()


def test_a_deleted_job_holds_no_key_whatever_the_order_was_in_between(tmp_path: Path) -> None:
    rules = Discipline(group="q", ordered=True)
    store = opened(tmp_path, rules)
    with store.transaction(NOW) as tx:
        tx.insert([Group("q", [NewJob(b"1", key="k"), NewJob(b"2", key="k")])])
        first = tx.lease("q", 1, 1, 1_000)
        assert first is not None
        died = first.jobs[0].id
        assert tx.finish(first.token, died, State.DEAD, NOW, "failures", History(1), AttemptError("error", "it broke"))
    store.govern(lambda _: PLAIN)
    with store.transaction(NOW) as tx:
        assert tx.remove([died]) == 1
    store.govern(lambda _: rules)
    with store.transaction(NOW) as tx:
        assert tx.lease("q", 1, 1, 1_000) is not None
    store.close()


def test_a_queue_that_drops_its_oldest_finds_it_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adding, "LOOKED_AT_MAX", 50)
    monkeypatch.setattr(adding, "OLDEST_EVERY", 10)
    rules = Discipline(group="q", max_size=2, when_full="drop_oldest")
    store = opened(tmp_path, rules)
    for _ in range(100):
        with store.transaction(NOW) as tx:
            tx.insert([Group("q", [NewJob(b"1")])])
            found = tx.lease("q", 1, 1, 1_000)
            assert found is not None
            assert tx.complete(found.token, [Completion(found.jobs[0].id, NOW, NOW, None)]) == []
    for number in range(40):
        store.govern(lambda _: rules)  # as after a restart: what is remembered is what is stored
        with store.transaction(NOW) as tx:
            (done,) = tx.insert([Group("q", [NewJob(b"1")])])
            assert done.refused is None or number < 5  # 100 ended ones are looked through once, 50 at a time
    with store.transaction(NOW) as tx:
        found = tx.lease("q", 1, 2, 1_000)
        assert found is not None
        newest = [job.id for job in found.jobs]
        assert newest == sorted(newest)[-2:]
        assert tx.waiting("q") == 0
    store.close()


def test_limits_are_forgotten_in_the_transaction_that_spends_them(tmp_path: Path) -> None:
    store = opened(tmp_path, Discipline(group="q", key_limits=(Limit("key:q", rate=Rate(100, 1_000)),)))
    with store.transaction(NOW) as tx:
        tx.insert([Group("q", [NewJob(b"1", key="k"), NewJob(b"1", key="k")])])
        found = tx.lease("q", 1, 2, 1_000)
        assert found is not None
    with store.transaction(NOW + 500) as tx:
        assert tx.release(found.token, [found.jobs[1].id]) == [found.jobs[1].id]
        assert tx.forget_buckets(100) == 1
    store.close()


def test_what_waits_for_a_time_is_remembered_once(tmp_path: Path) -> None:
    store = opened(tmp_path, PLAIN)
    with store.transaction(NOW) as tx:
        tx.insert([Group("q", [NewJob(b"1", key="k")])])
        tx.shut("q", "k", NOW + 60_000)
    due = set()
    for _ in range(50):
        with store.transaction(NOW) as tx:
            tx.insert([Group("q", [NewJob(b"1", key="k")])])
            tx.wake()
            due.add(tx.asleep_until_ms)
            assert len(tx._cache.naps) == 1
    assert due == {NOW + 60_000}
    with store.transaction(NOW + 60_000) as tx:
        tx.wake()
        assert tx.asleep_until_ms is None
        assert tx.lease("q", 1, 1, 1_000) is not None
    store.close()


def test_a_lease_that_stops_at_keys_without_room_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leasing, "PARKED_MAX", 4)
    store = opened(tmp_path, Discipline(group="q", key_limits=(Limit("key:q", rate=Rate(2, 60_000)),)))
    with store.transaction(NOW) as tx:
        dear = b'{"cost":2}'
        keys = [f"k{number}" for number in range(10)]
        tx.insert([Group("q", [NewJob(b"1", key=key) for key in keys])])
        assert len(tx.lease("q", 1, 10, 1_000).jobs) == 10  # type: ignore[union-attr]
        tx.insert([Group("q", [NewJob(b"1", options=dear, key=key, cost=2) for key in keys])])
        tx.insert([Group("q", [NewJob(b"1", key="free")])])
        tries = 0
        while (found := tx.lease("q", 1, 1, 1_000)) is None:
            assert tx.gave_up
            tries += 1
        assert [job.key for job in found.jobs] == ["free"]
        assert tries == 2
        assert tx.lease("q", 1, 1, 1_000) is None
        assert not tx.gave_up
    store.close()


def test_a_job_that_has_two_slots_is_listed_once(tmp_path: Path) -> None:
    twice = Discipline(group="q", limits=(Limit("limit:dup", 4), Limit("limit:dup", 4)))
    store = opened(tmp_path, twice)
    with store.transaction(NOW) as tx:
        (inserted,) = tx.insert([Group("q", [NewJob(b"1")] * 3)])
        leased = [tx.lease("q", 1, 1, 1_000) for _ in range(3)]
    have = [job.id for lease in leases_of(leased) for job in lease.jobs]
    found = Explainer(store.connection, lambda _: twice, NOW).explain(inserted.ids[-1])
    assert found is not None
    slots = [reason for reason in found.reasons if reason.kind == "slots"]
    assert [reason.facts["jobs"] for reason in slots] == [have, have]
    assert f"and jobs {have[0]}, {have[1]} have all slots" in slots[0].sentence
    store.close()


def leases_of(found: list[Lease | None]) -> list[Lease]:
    return [lease for lease in found if lease is not None]
