"""Ten thousand jobs of each order leave in exactly the model's order, retries and all."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.policy.settle import History
from supervisor.store.protocol import AttemptError, Completion, Group, NewJob
from supervisor.store.sqlite.store import SqliteStore
from tests.conformance.sqlite import SqliteBackend
from tests.model.model import Model

NOW = 1_700_000_000_000
JOBS = 10_000
PLENTY = 1 << 40
ERROR = ("error", "it broke")


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[list[SqliteStore]]:
    backend = SqliteBackend(tmp_path / "jobs.db", durability="relaxed")
    opened = [backend.open(), backend.open()]
    yield opened
    for store in opened:
        store.close()
    assert backend.complaints() == []


@pytest.mark.parametrize("order", ["fifo", "lifo", "priority"])
def test_a_queue_drains_in_the_models_order(stores: list[SqliteStore], order: str) -> None:
    chance = random.Random(order)
    model = Model({order: order}, now=NOW)
    for _ in range(0, JOBS, 500):
        drawn = [(b"null", chance.randint(-3, 3), chance.choice([None, None, NOW + 1]), None) for _ in range(500)]
        with chance.choice(stores).transaction(NOW) as tx:
            tx.insert([Group(order, [NewJob(*job) for job in drawn])])
        model.insert(order, drawn, None, None)
    drained, retried = 0, 0
    while drained < JOBS:
        model.now += 1
        store, size = chance.choice(stores), chance.randint(1, 256)
        with store.transaction(model.now) as tx:
            assert tx.promote(50) == model.promote(50)
            lease = tx.lease(order, 1, size, PLENTY)
        if lease is None:
            assert model.ready(order) == []
            continue
        ids = [job.id for job in lease.jobs]
        assert ids == [job.id for job in model.lease(order, 1, lease.token, size, PLENTY, True)]
        left = [job_id for job_id in ids if chance.random() < 0.1]
        back = [job_id for job_id in ids if job_id not in left and chance.random() < 0.02]
        done = [job_id for job_id in ids if job_id not in left and job_id not in back]
        with chance.choice(stores).transaction(model.now) as tx:
            for job_id in left:
                spent = (model.jobs[job_id].spent[0] + 1, 0, 0)
                due = model.now + chance.randint(0, 20)
                tx.reschedule(lease.token, job_id, due, History(*spent), AttemptError(*ERROR), solo=False)
                model.reschedule(lease.token, job_id, due, spent, ERROR, False)
            assert tx.release(lease.token, back) == model.release(lease.token, back)
            completed = [Completion(job_id, model.now, model.now) for job_id in done]
            assert tx.complete(lease.token, completed) == model.complete(lease.token, done, model.now)
        drained, retried = drained + len(done), retried + len(left)
    assert retried > JOBS // 20
    assert model.counts() == {(order, job.state): JOBS for job in list(model.jobs.values())[:1]}
