"""What is remembered of flows: the same as what is read of them, and nothing that anything depends on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.errors import StoreError
from supervisor.flow.rules import Policy
from supervisor.job import State
from supervisor.policy.settle import History
from supervisor.store.protocol import Completion, Lease, NewFlow, NewJob, NewStep
from supervisor.store.sqlite import graph
from supervisor.store.sqlite.store import SqliteStore
from tests.conformance.sqlite import SqliteBackend
from tests.support.stores import audited

NOW = 1_700_000_000_000
LARGE = b'"' + b"x" * graph.RESULT_MAX + b'"'


@pytest.fixture
def backend(tmp_path: Path) -> SqliteBackend:
    return SqliteBackend(tmp_path / "jobs.db")


@pytest.fixture
def store(backend: SqliteBackend) -> Iterator[SqliteStore]:
    yield from audited(backend)


def step(name: str | None, *after: int, **more: Any) -> NewStep:
    return NewStep("q", NewJob(b"null"), name=name, parents=[(each, Policy.IGNORE) for each in after], **more)


STEPS = [
    step("plain"), step('"quoted"\n\u00e9'), step(None), step("large"), step("fails"),
    step("alone", 0), step("two", 0, 1), step("nameless", 0, 2), step("much", 0, 3), step("tolerant", 0, 4),
    NewStep(None, None, name="inner"), step("in it", 5, flow=10), step("late", 6, 5, 7, 8, 9),
]  # fmt: skip
RESULTS = {"plain": b'{"a": 1}', '"quoted"\n\u00e9': b"null", "large": LARGE, "alone": b'"\\u2603"', "two": None}


def named(lease: Lease) -> dict[str | None, int]:
    return {told(lease, job.id)["step"]: job.id for job in lease.jobs}


def told(lease: Lease, job_id: int) -> dict[str, Any]:
    (job,) = (each for each in lease.jobs if each.id == job_id)
    assert job.own_bytes == len(b"null")
    found: dict[str, Any] = json.loads(job.payload[job.own_bytes :])["flow"]
    return found


def drained(store: SqliteStore, between: Callable[[], None], context: bytes | None) -> list[dict[str, Any]]:
    """What each step is told, in the order of their ids; `between` is called after each transaction."""
    stories: dict[int, dict[str, Any]] = {}
    with store.transaction(NOW) as tx:
        (flow,) = tx.insert([NewFlow(STEPS, name="f", context=context)])
    while True:
        between()
        with store.transaction(NOW) as tx:
            lease = tx.lease("q", 1, 100, 1 << 30)
        if lease is None:
            break
        stories |= {job.id: told(lease, job.id) for job in lease.jobs}
        between()
        with store.transaction(NOW) as tx:
            end(tx, lease)
        between()
        with store.transaction(NOW) as tx:
            while tx.flows_wait:
                tx.progress_flows(100)
    for story in stories.values():
        assert story.pop("id") - flow.ids[0] in (0, 11)
    return [stories[job_id] for job_id in sorted(stories)]


def end(tx: Any, lease: Lease) -> None:
    for name, job_id in named(lease).items():
        if name == "fails":
            tx.finish(lease.token, job_id, State.DEAD, NOW, "no", History(0, 0, 0), None)
        else:
            tx.complete(lease.token, [Completion(job_id, NOW, NOW, RESULTS.get(str(name)))])


@pytest.mark.parametrize("context", [None, b'{"of": "all"}', b'"%b"' % (b"y" * graph.CONTEXT_MAX)])
def test_what_is_remembered_is_what_is_read(store: SqliteStore, context: bytes | None) -> None:
    govern = store.govern
    discipline_of = store._discipline_of
    remembered = drained(store, lambda: None, context)
    read = drained(store, lambda: govern(discipline_of), context)
    assert remembered == read
    assert len(read) == sum(each.job is not None for each in STEPS)
    late = read[-1]
    assert late["results"]["alone"] == "\u2603"
    assert late["states"] == dict.fromkeys(("alone", "two", "nameless", "much", "tolerant"), "completed")


def test_what_has_no_room_is_read(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "NODES_MAX", len(STEPS) - 1)
    assert len(drained(store, lambda: None, None)) == sum(each.job is not None for each in STEPS)
    assert store._cache is not None
    assert len(store._cache.graph) == 0


def test_what_is_old_makes_room(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "NODES_MAX", 3)
    for at_ms, remembered in ((0, 2), (graph.OLD_MS - 1, 2), (graph.OLD_MS, 2)):
        with store.transaction(NOW + at_ms) as tx:
            (flow,) = tx.insert([NewFlow([step("a"), step("b", 0)])])
        assert store._cache is not None
        assert len(store._cache.graph) == remembered
        assert (store._cache.graph.get(flow.ids[1]) is not None) == (at_ms != graph.OLD_MS - 1)


def test_much_that_is_told_is_read(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = drained(store, lambda: None, None)
    monkeypatch.setattr(graph, "HEARD_BYTES_MAX", 3)
    assert drained(store, lambda: None, None) == expected


def test_nothing_is_left_of_a_flow_that_ended(store: SqliteStore) -> None:
    drained(store, lambda: None, None)
    assert store._cache is not None
    assert len(store._cache.graph) == 0


@pytest.mark.parametrize("waits", [1, 2])
def test_what_is_remembered_wrongly_changes_nothing_and_is_read_then(store: SqliteStore, waits: int) -> None:
    with store.transaction(NOW) as tx:
        (flow,) = tx.insert([NewFlow([step("a"), step("b", 0), step("c")])])
        lease = tx.lease("q", 1, 1, 1 << 30)
        assert lease is not None
    assert store._cache is not None
    first, third = (store._cache.graph.get(flow.ids[each]) for each in (1, 3))
    assert first is not None and third is not None
    first.after.append(flow.ids[3])
    third.waits, third.place = waits, (1, 0)

    def go_on() -> Lease | None:
        with store.transaction(NOW) as tx:
            tx.complete(lease.token, [Completion(flow.ids[1], NOW, NOW, None)])
            while tx.flows_wait:
                tx.progress_flows(100)
            return tx.lease("q", 1, 9, 1 << 30)

    with pytest.raises(StoreError, match="are not what is remembered of them"):
        go_on()
    following = go_on()
    assert following is not None
    assert [told(following, job.id)["step"] for job in following.jobs] == ["c", "b"]
