"""Operations on many jobs: what they mean, and where they end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from supervisor.job import State
from supervisor.keeper.operations import STEP_JOBS, Purge
from supervisor.keeper.state import State as KeeperState
from supervisor.store.open import open_store
from supervisor.store.protocol import Group, NewJob
from supervisor.store.sqlite.store import SqliteStore

NOW = 1_700_000_000_000


def put(store: SqliteStore, count: int) -> list[int]:
    with store.transaction(NOW) as tx:
        (inserted,) = tx.insert([Group("q", [NewJob(b"1")] * count, None)])
    return list(inserted.ids)


def stepped(store: SqliteStore, operation: Purge) -> Callable[[], bool]:
    """One step, committed; its effect says whether it was the last."""
    with store.transaction(NOW) as tx:
        return operation.step(tx, NOW)


def test_a_purge_means_what_was_there_when_it_was_asked_for(tmp_path: Path) -> None:
    """It takes many steps: a job that was enqueued and acknowledged meanwhile is not meant."""
    store = open_store(str(tmp_path / "jobs.db"), "full", create=True, migrate=True)
    put(store, 3 * STEP_JOBS)
    replies: list[dict[str, Any]] = []
    state = cast("KeeperState", type("Told", (), {"wants_lease": False})())
    purge = Purge(state, "q", State.QUEUED, replies.append, lambda error: None)
    assert not stepped(store, purge)()
    later = put(store, 2 * STEP_JOBS)
    while not stepped(store, purge)():
        pass
    assert replies == [{"count": 3 * STEP_JOBS}]
    with store.transaction(NOW) as tx:
        assert sorted(tx.standing(later)) == later
    store.close()
