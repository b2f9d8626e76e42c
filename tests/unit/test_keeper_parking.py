"""What becomes of jobs that wait for code where two pools draw from their queue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from supervisor.job import State as JobState
from supervisor.keeper import parking
from supervisor.keeper.state import State
from supervisor.keeper.work import Work
from supervisor.policy.tasks import Known, Need
from supervisor.store.open import open_store
from supervisor.store.protocol import Group, NewJob
from tests.support.config_files import load_text

TOML = """
[queues.side]
[pools.old]
sources = ["side"]
handler = "old.tasks"
[pools.new]
sources = ["side"]
handler = "new.tasks"
"""
NOW = 1_700_000_000_000


class Silence:
    """Nobody reads the log."""

    def emit(self, *_: Any, **__: Any) -> None:
        """Say nothing."""


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    log: Any = Silence()
    store = open_store(str(tmp_path / "jobs.db"), "relaxed", create=True, migrate=True)
    yield State(load_text(tmp_path / "etc", TOML), store, log, "boot", 1)
    store.close()


@contextmanager
def a_pass(state: State) -> Iterator[Work]:
    with state.store.transaction(NOW) as tx:
        work = Work(state, tx, NOW, 1_000)
        yield work
    work.committed()


def offered(state: State, pool: str) -> list[int]:
    """What a worker of a pool is handed, by one pass."""
    with a_pass(state) as work:
        parking.keep_up(work)
        parking.take_apart(work, pool, 10)
        lease = work.tx.lease("side", 1, 10, 1 << 20)
        return [] if lease is None else [job.id for job in parking.divert(work, pool, lease).jobs]


def test_code_that_is_taken_back_is_not_offered_again_and_again_what_it_ran_before(state: State) -> None:
    options = b'{"task":"send","version":2}'
    with a_pass(state) as work:
        ((job_id,), *_) = work.tx.insert([Group("side", [NewJob(b"{}", options=options)])])[0]
    state.tasks.publish("old", (Known("send", 1),))
    state.tasks.publish("new", (Known("send", 1),))
    assert offered(state, "old") == []
    state.tasks.publish("new", (Known("send", 2),))
    assert offered(state, "old") == []
    state.tasks.publish("new", (Known("send", 1),))
    for _ in range(2):
        assert offered(state, "new") == []
        with a_pass(state) as work:
            parking.take_apart(work, "new", 10)
            assert work.tx.standing([job_id])[job_id].state is JobState.BLOCKED
            assert work.tx.needs() == {"side": [Need("send", 2)]}
    state.tasks.publish("new", (Known("send", 2),))
    assert offered(state, "new") == [job_id]
