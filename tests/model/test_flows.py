"""Flows under every verb in any order: what is true of their rows stays true, and nothing waits for what has ended.

A random program of flows, outcomes, signals, cancels, retries, deaths of the keeper and moves of the clock runs on the
real store. After some steps, and at rest, statements that share nothing with the store look at the rows
(tests/conformance/flow_audit.py), and rules of this file at what is left: whoever is blocked waits for something that
has not ended; each callback of a flow was made at most once, and exactly once where it is due; a token that is over
changes nothing.
"""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from supervisor.errors import JobsupError
from supervisor.flow.rules import FlowState
from supervisor.job import IllegalTransition, State
from supervisor.policy.settle import History
from supervisor.policy.tasks import Need
from supervisor.store.protocol import AttemptError, Completion, NewFlow, NewJob, NewStep
from tests.conformance.sqlite import SqliteBackend
from tests.support.campaign import Campaign

QUEUES = ("fifo", "lifo", "prio")
RUN_STEPS = 400
AUDIT_EVERY = 40
WHENS = ("context.x", "!context.x", "results.a", "sum(results)")
ERROR = AttemptError("error", "it broke")
NEED = Need("later", 1)


class World:
    """One database and what the program knows of it."""

    def __init__(self, backend: SqliteBackend, chance: random.Random) -> None:
        self.backend = backend
        self.store = backend.open()
        self.chance = chance
        self.now = 1_700_000_000_000
        self.flows: list[int] = []
        self.open: set[int] = set()
        self.leases: dict[int, list[int]] = {}
        self.over: list[tuple[int, int]] = []
        self.changed: Counter[str] = Counter()
        self.names = 0

    # -- what happens --------------------------------------------------------------------------------------------

    def step(self) -> None:
        kinds = {
            "start": 6, "graft": 4, "lease": 20, "settle": 30, "signal": 5, "cancel": 3, "revive": 3, "cancel_flow": 1,
            "retry": 3, "retry_from": 2, "close": 2, "go_on": 20, "time": 4, "die": 1, "expire": 1, "park": 2,
            "unblock": 2, "prune": 1, "stale": 3, "join": 2, "edit": 1,
        }  # fmt: skip
        kind = self.chance.choices(list(kinds), weights=list(kinds.values()))[0]
        if getattr(self, kind)():
            self.changed[kind] += 1

    def begin(self) -> Any:
        return self.store.transaction(self.now)

    def steps(self, first: str, known: list[str]) -> list[NewStep]:
        """Random steps; their parents are among themselves, those in `known`, or both."""
        count = self.chance.randint(0, 8)
        made: list[NewStep] = []
        names: dict[int, list[int]] = {-1: []}
        for at in range(count):
            flow = self.chance.choice(list(names))
            before = names[flow]
            parents: list[tuple[int | str, int]] = [
                (each, self.chance.choice([0, 0, 0, 1, 2]))
                for each in self.chance.sample(before, min(len(before), self.chance.randint(0, 3)))
            ]
            if flow == -1 and known and self.chance.random() < 0.3:
                parents.append((self.chance.choice(known), self.chance.choice([0, 1, 2])))
            named = f"{first}{at}"
            if self.chance.random() < 0.15 and at < count - 1:
                made.append(NewStep(None, None, flow, named, (), callbacks=self.callbacks()))
                names[at] = []
                before.append(at)
                continue
            rules: dict[str, Any] = {}
            if self.chance.random() < 0.15:
                rules["when"] = self.chance.choice(WHENS)
            if self.chance.random() < 0.1:
                rules["delay_ms"] = self.chance.randint(0, 2_000)
            signals = ("go",) if self.chance.random() < 0.1 else ()
            made.append(
                NewStep(self.chance.choice(QUEUES), NewJob(b"1", key=self.chance.choice(["", "", "k"])), flow, named,
                        parents, signals, json.dumps(rules).encode() if rules else None)
            )  # fmt: skip
            before.append(at)
        return [each for each in made if each.job is not None or self._has_steps(made, each)]

    def _has_steps(self, made: list[NewStep], nested: NewStep) -> bool:
        """A flow in the flow without steps is refused before it reaches the store: such a plan is not made."""
        place = made.index(nested)
        if any(each.flow == place for each in made):
            return True
        raise Again

    def callbacks(self) -> bytes | None:
        names = [name for name in ("on_success", "on_complete", "on_death") if self.chance.random() < 0.5]
        return json.dumps({name: {"queue": "told", "payload": 1} for name in names}).encode() if names else None

    def start(self) -> bool:
        try:
            steps = self.steps("s", [])
        except Again:
            return False
        opened = self.chance.random() < 0.2
        with self.begin() as tx:
            (answer,) = tx.insert(
                [NewFlow(steps, name="f", context=b'{"x":true}', callbacks=self.callbacks(), open=opened)]
            )
        self.flows.append(answer.ids[0])
        if opened:
            self.open.add(answer.ids[0])
        return True

    def graft(self) -> bool:
        if not self.flows:
            return False
        flow = self.chance.choice(self.flows)
        self.names += 1
        with self.backend.look() as db:
            known = [
                row[0]
                for row in db.execute("SELECT name FROM step WHERE flow = ? AND kind < 2 AND name IS NOT NULL", (flow,))
            ]
        try:
            steps = self.steps(f"g{self.names}-", known)
        except Again:
            return False
        with self.begin() as tx:
            (answer,) = tx.insert([NewFlow(steps, into=flow)])
        return answer.refused is None and bool(steps)

    def lease(self) -> bool:
        with self.begin() as tx:
            lease = tx.lease(self.chance.choice((*QUEUES, "told")), 1, self.chance.randint(1, 6), 1 << 40)
        if lease is None:
            return False
        self.leases[lease.token] = [job.id for job in lease.jobs]
        return True

    def held(self) -> tuple[int, int] | None:
        if not self.leases:
            return None
        token = self.chance.choice(list(self.leases))
        ids = self.leases[token]
        job = ids.pop(self.chance.randrange(len(ids)))
        if not ids:
            del self.leases[token]
        self.over.append((token, job))
        return token, job

    def settle(self) -> bool:
        held = self.held()
        if held is None:
            return False
        token, job = held
        what = self.chance.choices(("done", "dead", "cancelled", "later", "interrupted", "back"), (60, 12, 5, 8, 5, 5))[
            0
        ]
        with self.begin() as tx:
            match what:
                case "done":
                    result = self.chance.choice([None, b"1", b'{"a":1}'])
                    assert tx.complete(token, [Completion(job, self.now, self.now, result)]) == []
                case "dead" | "cancelled":
                    assert tx.finish(token, job, State(what), self.now, "test", History(failures=1), ERROR)
                case "later":
                    due = self.now + self.chance.randint(0, 2_000)
                    assert tx.reschedule(token, job, due, History(failures=1), ERROR, solo=False)
                case "interrupted":
                    assert tx.interrupt(token, job, History(interruptions=1), ERROR)
                case _:
                    assert tx.release(token, [job]) == [job]
            if self.chance.random() < 0.5:
                tx.progress_flows(self.chance.randint(1, 5))
        return True

    def join(self) -> bool:
        """A job completes, and what it enqueued belongs to its flow, in the same transaction."""
        held = self.held()
        if held is None:
            return False
        token, job = held
        from supervisor.store.protocol import Group

        with self.backend.look() as db:
            row = db.execute("SELECT flow FROM step WHERE id = ? AND kind = 0", (job,)).fetchone()
        with self.begin() as tx:
            tx.complete(token, [Completion(job, self.now, self.now)])
            if row is not None:
                tx.insert([Group("fifo", [NewJob(b"2")], flow=row[0])])
        return True

    def stale(self) -> bool:
        """A token that is over changes nothing."""
        if not self.over:
            return False
        token, job = self.chance.choice(self.over)
        if job in self.leases.get(token, ()):
            return False
        before = self.rows()
        with self.begin() as tx:
            assert tx.complete(token, [Completion(job, self.now, self.now)]) == [job]
            assert not tx.finish(token, job, State.DEAD, self.now, "stale", History(), ERROR)
            assert not tx.park(token, job, NEED)
        assert self.rows() == before
        return False

    def rows(self) -> Any:
        with self.backend.look() as db:
            return [
                db.execute(f"SELECT * FROM {table}").fetchall()
                for table in ("flow", "step", "edge", "outcome", "blocked")
            ]

    def signal(self) -> bool:
        flows = self.live()
        if not flows:
            return False
        with self.begin() as tx:
            return bool(tx.signal_flow(self.chance.choice(flows), self.chance.choice(["go", "go", "other"]), b"1"))

    def live(self) -> list[int]:
        with self.backend.look() as db:
            return [row[0] for row in db.execute("SELECT id FROM flow WHERE state = 'running'")]

    def some_job(self, states: str) -> int | None:
        with self.backend.look() as db:
            rows = db.execute(f"SELECT id FROM jobs WHERE state IN ({states})").fetchall()
        return self.chance.choice(rows)[0] if rows else None

    def cancel(self) -> bool:
        job = self.some_job("'blocked', 'queued', 'scheduled', 'running'")
        if job is None:
            return False
        with self.begin() as tx:
            tx.cancel(job)
        return True

    def revive(self) -> bool:
        job = self.some_job("'dead', 'cancelled', 'completed', 'scheduled'")
        if job is None:
            return False
        with self.begin() as tx:
            tx.revive(job)
        return True

    def edit(self) -> bool:
        job = self.some_job("'blocked'")
        if job is None:
            return False
        with self.begin() as tx:
            with self.backend.look() as db:
                (queue,) = db.execute("SELECT queue FROM jobs WHERE id = ?", (job,)).fetchone()
            return queue in QUEUES and bool(tx.move(queue, self.chance.choice(QUEUES), [job]))

    def cancel_flow(self) -> bool:
        flows = self.live()
        if not flows:
            return False
        flow = self.chance.choice(flows)
        with self.begin() as tx:
            tx.cancel_flow(flow)
        self.open.discard(flow)
        return True

    def retry(self) -> bool:
        flow = self.a_flow()
        if flow is None:
            return False
        before: int | None = None
        count = 0
        while True:
            with self.begin() as tx:
                standing = tx.flow(flow)
                if standing is None or standing.state is FlowState.CANCELLING:
                    return bool(count)
                more, before = tx.retry_steps(flow, before, self.chance.randint(1, 5))
            count += more
            if before is None:
                return bool(count)

    def retry_from(self) -> bool:
        flow = self.a_flow()
        if flow is None:
            return False
        with self.backend.look() as db:
            names = [
                row[0]
                for row in db.execute("SELECT name FROM step WHERE flow = ? AND kind < 2 AND name IS NOT NULL", (flow,))
            ]
        if not names:
            return False
        try:
            with self.begin() as tx:
                if tx.flow(flow).state is FlowState.CANCELLING:  # type: ignore[union-attr]
                    return False
                return bool(tx.retry_from(flow, self.chance.choice(names), 1_000))
        except JobsupError:
            return False

    def a_flow(self) -> int | None:
        with self.backend.look() as db:
            rows = db.execute("SELECT id FROM flow").fetchall()
        return self.chance.choice(rows)[0] if rows else None

    def close(self) -> bool:
        if not self.open:
            return False
        flow = self.chance.choice(sorted(self.open))
        self.open.discard(flow)
        with self.begin() as tx:
            if tx.flow(flow) is None:
                return False
            tx.close_flow(flow)
        return True

    def go_on(self) -> bool:
        with self.begin() as tx:
            tx.cancel_steps(self.chance.randint(1, 5))
            waited = tx.flows_wait
            tx.progress_flows(self.chance.randint(1, 20))
        return bool(waited)

    def time(self) -> bool:
        self.now += self.chance.randint(1, 1_500)
        with self.begin() as tx:
            return bool(tx.promote(self.chance.randint(1, 50)))

    def die(self) -> bool:
        """The keeper dies, in a transaction or between two."""
        if self.chance.random() < 0.5:
            try:
                with self.begin() as tx:
                    tx.progress_flows(self.chance.randint(1, 10))
                    raise Again
            except Again:
                pass
        self.backend.crash(self.store)
        self.store = self.backend.open()
        return True

    def expire(self) -> bool:
        job = self.some_job("'blocked', 'queued', 'scheduled'")
        if job is None:
            return False
        with self.begin() as tx:
            return bool(tx.expire([job], self.chance.choice([State.DEAD, State.CANCELLED]), "deadline"))

    def park(self) -> bool:
        held = self.held()
        if held is None:
            return False
        with self.begin() as tx:
            return bool(tx.park(*held, NEED))

    def unblock(self) -> bool:
        with self.begin() as tx:
            return bool(sum(tx.unblock(queue, NEED, 10) for queue in (*QUEUES, "told")))

    def prune(self) -> bool:
        if self.chance.random() < 0.7:
            return False
        state = self.chance.choice([FlowState.COMPLETED, FlowState.DEAD, FlowState.CANCELLED])
        pages = 0
        while True:  # a flow of which some steps are gone counts what is not there: it is looked at when all of it is
            with self.begin() as tx:
                if not tx.prune_flows(state, self.now - 3_000, self.chance.randint(1, 10)):
                    return bool(pages)
            pages += 1

    # -- what must be true ---------------------------------------------------------------------------------------

    def audit(self) -> None:
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
        for flow in sorted(self.open):
            with self.begin() as tx:
                if tx.flow(flow) is not None:
                    tx.close_flow(flow)
        self.open.clear()
        for _ in range(10_000):
            self.now += 5_000
            with self.begin() as tx:
                tx.promote(1_000)
                for queue in (*QUEUES, "told"):
                    tx.unblock(queue, NEED, 1_000)
                while tx.cancelling:
                    tx.cancel_steps(100)
                for token, ids in list(self.leases.items()):
                    tx.complete(token, [Completion(job, self.now, self.now) for job in ids])
                self.leases.clear()
                tx.progress_flows(10_000)
                found = [lease for queue in (*QUEUES, "told") if (lease := tx.lease(queue, 1, 100, 1 << 40))]
            for lease in found:
                self.leases[lease.token] = [job.id for job in lease.jobs]
            if not found and not self.leases and not self.waiting():
                break
        self.audit()
        with self.backend.look() as db:
            stuck = db.execute(
                "SELECT blocked.id FROM blocked WHERE NOT EXISTS ("
                "  SELECT 1 FROM edge JOIN step ON step.id = edge.parent LEFT JOIN signal ON signal.id = edge.parent "
                "  WHERE edge.child = blocked.id AND NOT edge.done AND (step.kind = 2 AND signal.at IS NULL "
                "    OR step.kind = 0 AND edge.parent NOT IN (SELECT id FROM outcome) "
                "    OR step.kind = 1 AND edge.parent IN (SELECT id FROM flow WHERE finished_at IS NULL)))"
            ).fetchall()
            for (job,) in stuck:
                edges = db.execute(
                    "SELECT edge.parent, edge.policy, edge.done, step.kind, step.flow, outcome.state, flow.state "
                    "FROM edge JOIN step ON step.id = edge.parent LEFT JOIN outcome ON outcome.id = edge.parent "
                    "LEFT JOIN flow ON flow.id = edge.parent WHERE edge.child = ?", (job,),
                ).fetchall()  # fmt: skip
                raise AssertionError(f"job {job} is blocked for ever, after {edges}")
            assert db.execute("SELECT count(*) FROM ended_step").fetchone() == (0,)

    def waiting(self) -> bool:
        with self.backend.look() as db:
            (count,) = db.execute(
                "SELECT (SELECT count(*) FROM ready) + (SELECT count(*) FROM scheduled) "
                "+ (SELECT count(*) FROM ended_step)"
            ).fetchone()
        return bool(count)


class Again(Exception):
    """This one came to nothing."""


def a_run(backend: SqliteBackend, seed: str) -> Counter[str]:
    world = World(backend, random.Random(seed))
    try:
        for number in range(RUN_STEPS):
            try:
                world.step()
            except IllegalTransition as error:
                raise AssertionError(f"{seed}, step {number}: {error}") from error
            if number % AUDIT_EVERY == AUDIT_EVERY - 1:
                world.audit()
        world.rest()
    except Exception as error:
        raise AssertionError(f"seed {seed!r}, after {sum(world.changed.values())} changes") from error
    finally:
        world.store.close()
    return world.changed


@pytest.mark.campaign
@pytest.mark.timeout(20_000)
def test_flows_under_every_verb_in_any_order(tmp_path: Path, campaign: Campaign) -> None:
    empty = tmp_path / "empty.db"
    SqliteBackend(empty, durability="relaxed").open().close()
    number = 0
    for changes in campaign.batches(short=6_000, full=1_000_000, batch=20_000):
        done: Counter[str] = Counter()
        while sum(done.values()) < changes:
            path = tmp_path / "run.db"
            done += a_run(
                SqliteBackend(path, template=empty, durability="relaxed"), f"{campaign.chance.random()} {number}"
            )
            number += 1
            for file in tmp_path.glob("run.db*"):
                file.unlink()
        campaign.passed(sum(done.values()), **done)
    shutil.rmtree(tmp_path, ignore_errors=True)
