"""Unique jobs that wait anew, in the store: retried, replayed, moved, edited and replaced ones stay unique."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from supervisor.errors import NotUnique
from supervisor.job import State
from supervisor.policy.discipline import PLAIN, Discipline
from supervisor.policy.settle import History
from supervisor.policy.tasks import Need
from supervisor.policy.unique import REPLACE, Unique, fingerprint
from supervisor.store.history import Edit
from supervisor.store.protocol import AttemptError, Group, NewJob
from supervisor.store.sqlite.store import SqliteStore
from tests.conformance.sqlite import SqliteBackend

NOW = 1_700_000_000_000
BY = ("id",)
REPLACING = Unique(BY, on_conflict=REPLACE, replace=("payload", "due_at"))
DEBOUNCED = Unique(BY, (State.SCHEDULED,), None, REPLACE, ("payload", "due_at"), debounce_ms=500)
RULES = {
    "u": Discipline(group="u", unique=Unique(BY)),
    "r": Discipline(group="r", unique=REPLACING, ordered=True),
    "d": Discipline(group="d", unique=DEBOUNCED),
    "plain": PLAIN._replace(group="plain"),
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    backend = SqliteBackend(tmp_path / "jobs.db", durability="relaxed")
    backend.discipline_of = RULES.__getitem__
    opened = backend.open()
    yield opened
    opened.close()


def put(tx: Any, queue: str, number: int, *, due: int | None = None, key: str = "") -> tuple[int, bool]:
    """The id of the job for a number, and whether it was there already."""
    unique = RULES[queue].unique
    hash_ = fingerprint(unique, queue, key, {"id": number}) if unique else None
    (done,) = tx.insert([Group(queue, [NewJob(msgspec.json.encode({"id": number}), 0, due, None, key, 1, hash_)])])
    assert done.refused is None
    return done.ids[0], bool(done.existing)


def run(tx: Any, queue: str) -> int:
    """The token of a lease of one job."""
    found = tx.lease(queue, 1, 1, 1_000)
    assert found is not None
    return int(found.token)


def die(tx: Any, queue: str, job_id: int) -> None:
    error = AttemptError("error", "it broke")
    assert tx.finish(run(tx, queue), job_id, State.DEAD, NOW, "failures", History(1), error)


def test_a_job_runs_again_only_if_no_other_counts_as_the_same(store: SqliteStore) -> None:
    with store.transaction(NOW) as tx:
        first, _ = put(tx, "u", 1)
        die(tx, "u", first)
        second, existing = put(tx, "u", 1)
        assert not existing
        with pytest.raises(NotUnique, match=f"job {second} is there already, and queue u wants no second"):
            tx.revive(first)
        assert tx.standing([first])[first].state is State.DEAD
        tx.cancel(second)
        tx.revive(first)
        assert put(tx, "u", 1) == (first, True)


def test_a_replay_leaves_out_what_is_there_already(store: SqliteStore) -> None:
    with store.transaction(NOW) as tx:
        first, _ = put(tx, "u", 1)
        die(tx, "u", first)
        put(tx, "u", 1)
        assert not tx.release_replayed(1, first, NOW)
        assert tx.standing([first])[first].state is State.DEAD


def test_an_edited_job_counts_for_what_it_is_now(store: SqliteStore) -> None:
    with store.transaction(NOW) as tx:
        job, other = put(tx, "u", 1)[0], put(tx, "u", 2)[0]
        assert tx.rival(job, payload=b'{"id":2}') == other
        with pytest.raises(NotUnique):
            tx.edit(job, Edit(b'{"id":2}', 0, None))
        tx.edit(job, Edit(b'{"id":77}', 0, None))
        assert put(tx, "u", 77) == (job, True)
        new, existing = put(tx, "u", 1)
        assert (new not in (job, other), existing) == (True, False)


def test_an_edited_job_counts_for_the_task_that_it_has_now(store: SqliteStore) -> None:
    with store.transaction(NOW) as tx:
        job, other = put(tx, "u", 1)[0], put(tx, "u", 2)[0]
        need = Need("greet", 0)
        assert tx.rival(job, payload=b'{"id":2}', task="greet") is None
        tx.edit(job, Edit(b'{"id":2}', 0, b'{"task":"greet"}', need=need))
        assert tx.rival(other, task="greet") == job
        with pytest.raises(NotUnique):
            tx.edit(other, Edit(None, 0, b'{"task":"greet"}', need=need))
        assert put(tx, "u", 1)[1] is False


def test_an_edited_dead_job_counts_when_it_runs_again(store: SqliteStore) -> None:
    with store.transaction(NOW) as tx:
        job, _ = put(tx, "u", 1)
        die(tx, "u", job)
        tx.edit(job, Edit(b'{"id":3}', 0, None))
        assert not put(tx, "u", 3)[1]
        with pytest.raises(NotUnique):
            tx.revive(job)


def test_a_job_moves_only_to_where_it_is_not_yet(store: SqliteStore) -> None:
    with store.transaction(NOW) as tx:
        here, _ = put(tx, "u", 1)
        same, other = put(tx, "plain", 1)[0], put(tx, "plain", 2)[0]
        assert tx.move("plain", "u", [same, other]) == 1
        standing = tx.standing([here, same, other])
        assert {job_id: found.queue for job_id, found in standing.items()} == {here: "u", same: "plain", other: "u"}
        assert put(tx, "u", 2) == (other, True)
        assert tx.move("plain", "u", [same], payload=b'{"id":5}') == 1


def test_a_job_without_the_member_is_in_nobodys_way(store: SqliteStore) -> None:
    with store.transaction(NOW) as tx:
        (done,) = tx.insert([Group("plain", [NewJob(b"[]")])])
        assert tx.move("plain", "u", done.ids) == 1
        assert tx.rival(done.ids[0]) is None


def test_what_has_begun_is_not_replaced(store: SqliteStore) -> None:
    with store.transaction(NOW) as tx:
        job, _ = put(tx, "r", 1)
        assert tx.reschedule(run(tx, "r"), job, NOW + 500, History(1), AttemptError("error", "it broke"), solo=False)
        assert put(tx, "r", 1, due=NOW + 9_000) == (job, True)
        assert tx.standing([job])[job].state is State.SCHEDULED
    with store.transaction(NOW + 500) as tx:
        assert tx.promote(10) == 1


def test_a_replaced_job_that_held_its_key_comes_first_and_holds_it_no_more(store: SqliteStore) -> None:
    with store.transaction(NOW) as tx:
        job, _ = put(tx, "r", 1, key="k")
        assert tx.reschedule(run(tx, "r"), job, NOW + 500, History(), None, solo=False)  # a snooze
        behind, _ = put(tx, "r", 2, key="k")
        assert tx.lease("r", 1, 1, 1_000) is None
        assert put(tx, "r", 1, key="k") == (job, True)
        first = tx.lease("r", 1, 2, 1_000)
        assert [each.id for each in first.jobs][:1] == [job]
        assert behind in [each.id for each in first.jobs] or tx.lease("r", 1, 1, 1_000) is not None


def test_a_debounced_job_that_has_begun_does_not_swallow_what_is_new(store: SqliteStore) -> None:
    with store.transaction(NOW) as tx:
        job, _ = put(tx, "d", 1, due=NOW + 500)
        assert put(tx, "d", 1, due=NOW + 700) == (job, True)
    with store.transaction(NOW + 700) as tx:
        assert tx.promote(10) == 1
        error = AttemptError("error", "it broke")
        assert tx.reschedule(run(tx, "d"), job, NOW + 9_000, History(1), error, solo=False)
        new, existing = put(tx, "d", 1, due=NOW + 1_200)
        assert (new != job, existing) == (True, False)
        assert put(tx, "d", 1, due=NOW + 1_300) == (new, True)
