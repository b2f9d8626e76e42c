"""Flows, what runs keep, code and consumers under every verb in any order: all that happens is what the model computes.

A random program of flows, outcomes, checkpoints, signals, cancels, retries, deployments, consumers, deaths of the
keeper and moves of the clock runs on the real store and the keeper's own passes, and on a plain model
(flow_model.py). After some steps, and at rest, the rows are compared with the model; statements that share nothing with
the store look at what must always hold (tests/conformance/flow_audit.py). So no job runs before its parents; each
callback is made once; what is kept is kept under the lease of the run; no code is given what it cannot read; and a
token that is over changes nothing, in any table.
"""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from supervisor.config.spec import Spec
from supervisor.policy.tasks import Need
from supervisor.store.protocol import Completion
from supervisor.store.sqlite import flowing, graph
from tests.conformance.sqlite import SqliteBackend
from tests.model.flow_keeper import TOML, KeeperWorld
from tests.model.flow_world import ALL_QUEUES
from tests.support.campaign import Campaign
from tests.support.config_files import load_text

RUN_STEPS = 400
TRIES = 5
COMPARE_EVERY = 20
AUDIT_EVERY = 40
KINDS = {
    "start": 6, "graft": 4, "lease": 20, "settle": 30, "keep": 8, "signal": 5, "cancel": 3, "revive": 3,
    "cancel_flow": 1, "retry": 3, "retry_from": 2, "close": 2, "go_on": 20, "time": 4, "die": 0.5, "expire": 1,
    "park": 2, "unblock": 2, "prune": 1, "stale": 1, "join": 2, "edit": 1,
    "fetch": 6, "say": 14, "say_late": 1, "publish": 2, "work_tasks": 4, "work_side": 4,
}  # fmt: skip


class World(KeeperWorld):
    """The whole of it. `favoured` are kinds of steps that are taken more often."""

    def __init__(self, *args: Any, favoured: Mapping[str, float] = MappingProxyType({})) -> None:
        super().__init__(*args)
        self.weights = {**KINDS, **favoured}

    def step(self) -> None:
        """Something that changes the state, unless nothing that was tried could."""
        for kind in self.chance.choices(list(self.weights), weights=list(self.weights.values()), k=TRIES):
            if getattr(self, kind)():
                self.changed[kind] += 1
                return

    def audit(self) -> None:
        """What must always hold, whatever the model says."""
        assert self.backend.complaints() == []
        with self.backend.look() as db:
            calls = Counter(
                (flow["id"], flow["event"])
                for (payload,) in db.execute("SELECT payload FROM jobs WHERE queue = 'told'")
                for flow in [json.loads(payload)["flow"]]
            )
            assert set(calls.values()) <= {1}, calls
            told = dict(db.execute("SELECT id, told FROM flow"))
            rows = db.execute("SELECT id, state, callbacks FROM flow WHERE finished_at IS NOT NULL").fetchall()
        for flow, state, callbacks in rows:
            wanted = json.loads(callbacks) if callbacks else {}
            assert ("on_complete" in wanted) == ((flow, "complete") in calls)
            assert told[flow] & 2
            if state == "completed":
                assert ("on_success" in wanted) == ((flow, "success") in calls)

    def rest(self) -> None:
        """Let all that can happen happen; then whoever is blocked waits for a signal, for code, or for an open flow."""
        while self.close():
            pass
        for _ in range(10_000):
            self.model.now += 5_000
            with self.begin() as tx:
                assert tx.promote(1_000) == self.model.promote(1_000)
                self._unblock_all(tx)
                while tx.cancelling:
                    self.cancel_steps(tx, 100)
                self._complete_all(tx)
                tx.progress_flows(10_000)
                found = [self.leased(queue, tx.lease(queue, 1, 100, 1 << 40)) for queue in ALL_QUEUES]
            if not any(found) and not self.waiting():
                break
        assert not self.model.pending
        assert not self.model.untold()
        self.compare()
        self.audit()
        self.nobody_waits_for_ever()

    def _unblock_all(self, tx: Any) -> None:
        for queue, needs in tx.needs().items():
            for need in needs:
                parked = [job for job in self._parked() if (job.queue, job.parked) == (queue, tuple(need))]
                assert tx.unblock(queue, Need(*need), 1_000) == len(parked)
                for job in parked:
                    self.model.unpark(job)
        assert not self._parked()

    def _complete_all(self, tx: Any) -> None:
        for job in self.model.jobs("running"):
            assert job.token is not None
            assert tx.complete(job.token, [Completion(job.id, self.now, self.now)]) == []
            self.model.complete(job.token, job.id, None)
        self.model.forget_loans()

    def waiting(self) -> bool:
        return bool(self.model.jobs("queued", "scheduled", "running") or self.model.pending)

    def nobody_waits_for_ever(self) -> None:
        """Whoever is blocked waits for what has not ended."""
        with self.backend.look() as db:
            stuck = db.execute(
                "SELECT blocked.id FROM blocked WHERE NOT EXISTS ("
                "  SELECT 1 FROM told_edge AS edge JOIN step ON step.id = edge.parent "
                "  LEFT JOIN signal ON signal.id = edge.parent "
                "  WHERE edge.child = blocked.id AND NOT edge.done AND (step.kind = 2 AND signal.at IS NULL "
                "    OR step.kind = 0 AND edge.parent NOT IN (SELECT id FROM outcome) "
                "    OR step.kind = 1 AND edge.parent IN (SELECT id FROM flow WHERE finished_at IS NULL)))"
            ).fetchall()
            for (job,) in stuck:
                edges = db.execute(
                    "SELECT edge.parent, edge.policy, edge.done, step.kind, step.flow, outcome.state, flow.state "
                    "FROM told_edge AS edge JOIN step ON step.id = edge.parent "
                    "LEFT JOIN outcome ON outcome.id = edge.parent LEFT JOIN flow ON flow.id = edge.parent "
                    "WHERE edge.child = ?", (job,),
                ).fetchall()  # fmt: skip
                raise AssertionError(f"job {job} is blocked for ever, after {edges}")


def a_run(backend: SqliteBackend, seed: str, spec: Spec, **favoured: float) -> Counter[str]:
    """One program, to its rest; what it has changed, by kind."""
    world = World(backend, random.Random(seed), spec, favoured=favoured)
    number = 0
    try:
        for number in range(RUN_STEPS):
            world.step()
            if number % COMPARE_EVERY == COMPARE_EVERY - 1:
                world.compare()
            if number % AUDIT_EVERY == AUDIT_EVERY - 1:
                world.audit()
        world.rest()
    except Exception as error:
        said = f"seed {seed!r}, step {number}, after {sum(world.changed.values())} changes: {error}"
        raise AssertionError(said) from error
    finally:
        world.store.close()
    return world.changed


def bounds(patch: pytest.MonkeyPatch, chance: random.Random) -> None:
    """How much is remembered of flows: as it is, or so little that each bound is met all the time."""
    few = chance.random() < 0.5
    for (module, name), (small, usual) in BOUNDS.items():
        patch.setattr(module, name, chance.randint(1, small) if few else usual)


BOUNDS = {
    (flowing, "KNOWN_EDGES_AT_ONCE"): (6, flowing.KNOWN_EDGES_AT_ONCE),
    (graph, "NODES_MAX"): (120, graph.NODES_MAX),
    (graph, "RESULT_MAX"): (8, graph.RESULT_MAX),
    (graph, "HEARD_BYTES_MAX"): (40, graph.HEARD_BYTES_MAX),
    (graph, "CONTEXT_MAX"): (12, graph.CONTEXT_MAX),
}


def a_spec(folder: Path) -> Spec:
    """The queues of the program, and the pools of its code."""
    return load_text(folder / "etc", TOML)


@pytest.mark.campaign
@pytest.mark.timeout(20_000)
def test_flows_under_every_verb_in_any_order(
    tmp_path: Path, campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty, spec = tmp_path / "empty.db", a_spec(tmp_path)
    SqliteBackend(empty, durability="relaxed").open().close()
    number = 0
    for changes in campaign.batches(short=4_000, full=1_000_000, batch=20_000):
        done: Counter[str] = Counter()
        while sum(done.values()) < changes:
            path = tmp_path / "run.db"
            backend = SqliteBackend(path, template=empty, durability="relaxed")
            seed = f"{campaign.chance.random()} {number}"
            bounds(monkeypatch, random.Random(seed))
            done += a_run(backend, seed, spec)
            number += 1
            for file in tmp_path.glob("run.db*"):
                file.unlink()
        campaign.passed(sum(done.values()), **done)
    shutil.rmtree(tmp_path, ignore_errors=True)
