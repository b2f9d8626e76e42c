"""Lanes in the store: cases that the model of lanes found."""

from __future__ import annotations

from pathlib import Path

from supervisor.policy.discipline import PLAIN, Discipline, Limit
from supervisor.policy.rate import Rate
from supervisor.store.explain import Explainer
from supervisor.store.protocol import Group, Lease, NewJob
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
