"""A random program over flows, runs, what runs keep, code, and consumers, on the real store, with the model beside it.

Every verb is done to the store and to the model. After some of them, and at rest, the rows are compared.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from supervisor.config.spec import Spec
from supervisor.errors import JobsupError
from supervisor.flow.rules import FlowState
from supervisor.job import State
from supervisor.policy.settle import History
from supervisor.policy.tasks import Need
from supervisor.store.protocol import AttemptError, Completion, Group, Lease, NewFlow, NewJob, NewStep
from tests.conformance.sqlite import ONE_PLACE_EACH, SqliteBackend
from tests.model.flow_code import TASK_QUEUES
from tests.model.flow_model import WAITING, Condition, Flow, FlowModel, Job, Planned

QUEUES = ("fifo", "lifo", "prio")
"""What anybody's worker runs; the others need a consumer, or code."""
ALL_QUEUES = (*QUEUES, "told", "pull", *TASK_QUEUES)
STEP_QUEUES = (*QUEUES, *QUEUES, "pull", "pull", *TASK_QUEUES)
TASKS = ("digest", "report", "sum", "later")
ERROR = AttemptError("error", "it broke")
NEED = Need("later", 1)
RESULTS: tuple[tuple[bytes | None, Any], ...] = ((None, None), (b"1", 1), (b'{"a":1}', {"a": 1}))
LARGE = "x" * 600_000
"""A result of which a step is fed one, and not two, and that no condition may read."""
START = 1_700_000_000_000
HALTS = 0.1
"""So often whoever runs steps again dies in the middle."""


def truth(value: Any) -> bool:
    """What counts as true in a condition."""
    return value is not None and value is not False and value not in ("", [], {})


WHENS: Mapping[str, Callable[[dict[str, Any], str], bool]] = {
    "context.x": lambda told, _: truth((told["context"] or {}).get("x")),
    "!(context.x)": lambda told, _: not truth((told["context"] or {}).get("x")),
    'results."{0}"': lambda told, name: truth(told["results"].get(name)) and told["results"][name] != LARGE,
    "states.\"{0}\" == 'completed'": lambda told, name: told["states"].get(name) == "completed",
    "states.\"{0}\" != 'dead'": lambda told, name: told["states"].get(name) != "dead",
    "signals.go": lambda told, _: truth(told["signals"].get("go")),
    "sum(results)": lambda _told, _name: False,
}
"""Conditions, and what they mean."""


Parents = list[tuple[int | str, int]]
"""Places among the steps, or names of those that are there, each with a policy."""


class Shape(NamedTuple):
    """A step as it is planned: for the store, and what of it only the model reads."""

    step: NewStep
    when: Condition | None = None
    delay_ms: int | None = None
    need: tuple[str, int] = ("", 0)
    callbacks: Sequence[str] = ()


class Again(Exception):
    """This one came to nothing."""


class FlowWorld:
    """One database, and the model of it."""

    def __init__(self, backend: SqliteBackend, chance: random.Random, spec: Spec) -> None:
        self.backend = backend
        self.spec = spec
        self.store = backend.open()
        self.chance = chance
        self.model = FlowModel(START)
        self.boot_ms = 1_000_000
        self.over: list[tuple[int, int]] = []
        self.changed: Counter[str] = Counter()
        self.names = 0
        self.seen = 0
        self.results = RESULTS if chance.random() < 0.8 else ((json.dumps(LARGE).encode(), LARGE),)
        self.born: list[int] = []
        """Jobs that came with the last transaction, callbacks left out."""

    @property
    def now(self) -> int:
        return self.model.now

    @contextmanager
    def begin(self) -> Iterator[Any]:
        """A transaction. The model hears what it tells as it does, and of its callbacks before it is committed."""
        self.born = []
        with self.store.transaction(self.now) as tx:
            tx._tell = partial(self._told, tx, tx._tell)
            yield tx
            self._name_calls(tx)
            assert sorted(tx.overfed) == sorted(self.model.overfed)
            self.model.overfed = []

    def _told(self, tx: Any, tell: Callable[[dict[int, bool]], int], batch: dict[int, bool]) -> int:
        spent = tell(batch)
        self.model.tell(batch)
        self._name_calls(tx)
        return spent

    def _name_calls(self, tx: Any) -> None:
        """Each callback that the store made is one that the model has made, and tells what the model says."""
        rows = tx._db.execute(
            "SELECT job.id, name, payload FROM job JOIN queue ON queue.id = job.queue WHERE job.id > ? ORDER BY job.id",
            (self.seen,),
        ).fetchall()
        for job_id, queue, payload in rows:
            if queue == b"told":
                flow = json.loads(payload)["flow"]
                assert (flow["id"], flow["event"]) in self.model.calls, f"{flow} was called, and was not to be"
                assert flow == self.model.called(flow["id"], flow["event"], job_id)
            else:
                self.born.append(job_id)
            self.seen = job_id
        assert not self.model.calls, f"{self.model.calls} were not called"

    # -- flows come in -------------------------------------------------------------------------------------------

    def shapes(self, first: str, known: Sequence[str]) -> list[Shape]:
        """Random steps; their parents are among themselves, those in `known`, or both."""
        made: list[Shape] = []
        names: dict[int, list[int]] = {-1: []}
        around: dict[int, Parents] = {-1: []}
        count = self.chance.randint(0, 8)
        for at in range(count):
            flow = self.chance.choice(list(names))
            nested = self.chance.random() < 0.15 and at < count - 1
            parents = self._parents(names[flow], known if flow == -1 else ()) or around[flow]
            made.append(self._nested(flow, f"{first}{at}") if nested else self._shape(flow, first, at, parents))
            names[flow].append(at)
            if nested:
                names[at], around[at] = [], parents
        if any(not places for at, places in names.items() if at >= 0):
            raise Again  # a flow in the flow without steps is refused before it reaches the store
        return made

    def _nested(self, flow: int, name: str) -> Shape:
        names, made = self.callbacks()
        return Shape(NewStep(None, None, flow, name, (), callbacks=made), callbacks=names)

    def _parents(self, before: Sequence[int], known: Sequence[str]) -> Parents:
        """What a step comes after; the first steps of a flow in the flow come after what that does."""
        chance = self.chance
        parents: Parents = [
            (each, chance.choice([0, 0, 0, 1, 2]))
            for each in chance.sample(before, min(len(before), chance.randint(0, 3)))
        ]
        if known and chance.random() < 0.3:
            parents.append((chance.choice(known), chance.choice([0, 1, 2])))
        return parents

    def _shape(self, flow: int, first: str, at: int, parents: Parents) -> Shape:
        chance = self.chance
        rules, when = self._rules([each if isinstance(each, str) else f"{first}{each}" for each, _ in parents])
        queue, signals = chance.choice(STEP_QUEUES), ("go",) if chance.random() < 0.1 else ()
        job, need = self.a_job(queue)
        kept = json.dumps(rules).encode() if rules else None
        step = NewStep(queue, job, flow, f"{first}{at}", parents, signals, kept)
        return Shape(step, when, rules.get("delay_ms"), need)

    def _rules(self, parents: Sequence[str]) -> tuple[dict[str, Any], Condition | None]:
        rules: dict[str, Any] = {}
        when = None
        if self.chance.random() < 0.2:
            text, name = self.chance.choice(list(WHENS)), self.chance.choice(parents or ["s0"])
            rules["when"], when = text.format(name), partial(_condition, text, name)
        if self.chance.random() < 0.1:
            rules["delay_ms"] = self.chance.randint(0, 2_000)
        return rules, when

    def a_job(self, queue: str) -> tuple[NewJob, tuple[str, int]]:
        """A job for a queue, and what it needs; one for code names a task, and perhaps the version of its payload."""
        if queue not in TASK_QUEUES:
            return NewJob(b"1", key=self.chance.choice(["", "", "k"])), ("", 0)
        task, version = self.chance.choice(TASKS), self.chance.choice([0, 1, 2, 3])
        own = {"task": task} | ({"version": version} if version else {})
        return NewJob(b'{"trail":[]}', options=json.dumps(own).encode()), (task, version)

    def callbacks(self) -> tuple[list[str], bytes | None]:
        names = [name for name in ("on_success", "on_complete", "on_death") if self.chance.random() < 0.5]
        made = {name: {"queue": "told", "payload": 1} for name in names}
        return names, json.dumps(made).encode() if made else None

    def start(self) -> bool:
        try:
            shapes = self.shapes("s", [])
        except Again:
            return False
        opened = self.chance.random() < 0.2
        names, made = self.callbacks()
        new = NewFlow([each.step for each in shapes], name="f", context=b'{"x":true}', callbacks=made, open=opened)
        with self.begin() as tx:
            (answer,) = tx.insert([new])
            flow_id, *ids = answer.ids
            flow = Flow(flow_id, open=opened, callbacks=names, context={"x": True}, title="f", root=flow_id)
            self.model.add_flow(flow)
            self._plant(tx, flow, shapes, ids)
        return True

    def graft(self) -> bool:
        """More of a flow; only one that has not ended takes it."""
        flows = [flow for flow in self.model.flows() if flow.flow is None]
        if not flows:
            return False
        flow = self.chance.choice(flows)
        self.names += 1
        try:
            shapes = self.shapes(f"g{self.names}-", self.model.names(flow.id))
        except Again:
            return False
        with self.begin() as tx:
            (answer,) = tx.insert([NewFlow([each.step for each in shapes], into=flow.id)])
            assert (answer.refused is None) == (flow.state == "running")
            if answer.refused is None:
                self._plant(tx, flow, shapes, answer.ids[1:])
        return answer.refused is None and bool(shapes)

    def _plant(self, tx: Any, flow: Flow, shapes: Sequence[Shape], ids: Sequence[int]) -> None:
        planned = [self._planned(each, job_id, flow, ids) for each, job_id in zip(shapes, ids, strict=True)]
        known = [self.model.named(flow.id, ref) for each in shapes for ref, _ in each.step.parents if type(ref) is str]
        self.model.plant(flow, planned, _signals(tx))
        self.model.tell_again(known)

    def _planned(self, shape: Shape, job_id: int, flow: Flow, ids: Sequence[int]) -> Planned:
        step = shape.step
        parents = [
            (ids[ref] if isinstance(ref, int) else self.model.named(flow.id, ref), policy)
            for ref, policy in step.parents
        ]
        return Planned(
            job_id, flow.id if step.flow < 0 else ids[step.flow], step.name, step.queue, parents, step.signals,
            shape.when, shape.delay_ms, shape.need, shape.callbacks,
        )  # fmt: skip

    # -- runs ----------------------------------------------------------------------------------------------------

    def lease(self) -> bool:
        queues = (*QUEUES, "told")
        queue = self.chance.choice([each for each in queues if self.model.queued(each)] or queues)
        with self.begin() as tx:
            lease = tx.lease(queue, 1, self.chance.randint(1, 6), 1 << 40)
            self.leased(queue, lease)
        return lease is not None

    def leased(self, queue: str, lease: Lease | None) -> list[Job]:
        """What was handed out waited for nothing, and knows what it must."""
        if lease is None:
            assert not self.model.queued(queue), f"nothing was handed out of {queue}"
            return []
        jobs = self.model.lease(queue, lease.token, [job.id for job in lease.jobs])
        for sent, job in zip(lease.jobs, jobs, strict=True):
            story = sent.payload[sent.own_bytes :] if sent.own_bytes is not None else b""
            told, expected = json.loads(story) if story else {}, self.model.story(job)
            assert told == expected, f"job {job.id} is told {told}, not {expected}"
            assert sent.attempt == 1 + job.failures
        return jobs

    def held(self) -> Job | None:
        """A job that a worker has, which is over once that is done with it."""
        held = [job for job in self.model.jobs("running") if job.token not in self.model.loans]
        if not held:
            return None
        job = self.chance.choice(held)
        assert job.token is not None
        self.over.append((job.token, job.id))
        return job

    def settle(self) -> bool:
        job = self.held()
        if job is None:
            return False
        what = self.chance.choices(("done", "dead", "cancelled", "later", "interrupted", "back"), (60, 12, 5, 8, 5, 5))
        with self.begin() as tx:
            self._settle(tx, job, what[0])
            if self.chance.random() < 0.5:
                tx.progress_flows(self.chance.randint(1, 5))
        return True

    def _settle(self, tx: Any, job: Job, what: str) -> None:
        token, model = job.token or 0, self.model
        match what:
            case "done":
                raw, result = self.chance.choice(self.results)
                assert tx.complete(token, [Completion(job.id, self.now, self.now, raw)]) == []
                model.complete(token, job.id, result)
            case "dead" | "cancelled":
                assert tx.finish(token, job.id, State(what), self.now, "test", History(failures=1), ERROR)
                model.finish(token, job.id, what, (1, 0))
            case "later":
                due = self.now + self.chance.randint(0, 2_000)
                assert tx.reschedule(token, job.id, due, History(failures=1), ERROR, solo=False)
                model.later(token, job.id, due, (1, 0))
            case "back" if job.kept_under != token:  # what keeps something has begun
                assert tx.release(token, [job.id]) == [job.id]
                model.back(token, job.id)
            case _:
                assert tx.interrupt(token, job.id, History(interruptions=1), ERROR)
                model.back(token, job.id, (0, 1))

    def keep(self) -> bool:
        """A run keeps a value, as the next runs are told."""
        held = [job for job in self.model.jobs("running") if job.token not in self.model.loans]
        if not held:
            return False
        job, name, value = self.chance.choice(held), self.chance.choice(["", "a", "b"]), self.chance.randint(0, 9)
        assert job.token is not None
        with self.begin() as tx:
            assert tx.checkpoint(job.token, job.id, name, str(value).encode())
        self.model.keep(job.token, job.id, name, value)
        return True

    def join(self) -> bool:
        """A job completes, and what it enqueued belongs to its flow, in the same transaction."""
        job = self.held()
        if job is None:
            return False
        with self.begin() as tx:
            assert job.token is not None
            tx.complete(job.token, [Completion(job.id, self.now, self.now)])
            self.model.complete(job.token, job.id, None)
            if job.flow is not None:
                (answer,) = tx.insert([Group("fifo", [NewJob(b"2")], flow=job.flow)])
                self.model.enqueue(Job(answer.ids[0], job.flow, queue="fifo"))
        return True

    def park(self) -> bool:
        job = self.held()
        if job is None:
            return False
        assert job.token is not None
        with self.begin() as tx:
            assert tx.park(job.token, job.id, NEED)
        self.model.park(job.token, job.id, NEED)
        return True

    def unblock(self) -> bool:
        waiting = [job.queue for job in self.model.jobs("blocked") if job.parked == NEED and job.queue in QUEUES]
        queue, count = self.chance.choice(waiting or QUEUES), self.chance.randint(1, 10)
        parked = sorted(job.id for job in self.model.jobs("blocked") if job.queue == queue and job.parked == NEED)
        with self.begin() as tx:
            assert tx.unblock(queue, NEED, count) == len(parked[:count])
        for job_id in parked[:count]:
            self.model.unpark(self.model.job(job_id))
        return bool(parked)

    def stale(self) -> bool:
        """A token that is over changes nothing, whatever is said under it."""
        late = self.late()
        if late is None:
            return False
        token, job = late
        before = self.backend_rows()
        with self.begin() as tx:
            assert tx.complete(token, [Completion(job, self.now, self.now)]) == [job]
            assert not tx.finish(token, job, State.DEAD, self.now, "stale", History(), ERROR)
            assert not tx.reschedule(token, job, self.now, History(), ERROR, solo=False)
            assert not tx.interrupt(token, job, History(), ERROR)
            assert not tx.checkpoint(token, job, "late", b"1")
            assert not tx.park(token, job, NEED)
            assert tx.release(token, [job]) == []
        assert self.backend_rows() == before
        return False

    def late(self) -> tuple[int, int] | None:
        """A token and a job that it does not hold any more."""
        if not self.over:
            return None
        token, job = self.chance.choice(self.over)
        return None if self.model.holds(token, job) else (token, job)

    def backend_rows(self) -> dict[str, list[Any]]:
        """Every row of every table but the numbers of `meta`, where what was stale is counted."""
        with self.backend.look() as db:
            tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {name: db.execute(f"SELECT * FROM {name}").fetchall() for name in tables if name != "meta"}

    # -- from outside --------------------------------------------------------------------------------------------

    def some(self, *states: str) -> Job | None:
        jobs = self.model.jobs(*states)
        return self.chance.choice(jobs) if jobs else None

    def some_flow(self, *states: str) -> Flow | None:
        flows = self.model.flows(*states)
        return self.chance.choice(flows) if flows else None

    def signal(self) -> bool:
        flow, name = self.some_flow("running"), self.chance.choice(["go", "go", "other"])
        if flow is None:
            return False
        with self.begin() as tx:
            first = tx.signal_flow(flow.id, name, b"1")
            assert first == self.model.signal(flow.id, name, 1, _signals(tx)[flow.root, name])
        return bool(first)

    def cancel(self) -> bool:
        job = self.some("running", *WAITING)
        if job is None:
            return False
        with self.begin() as tx:
            tx.cancel(job.id)
        self.model.cancel(job.id)
        return True

    def revive(self) -> bool:
        job = self.some("dead", "cancelled", "completed", "scheduled")
        if job is None:
            return False
        with self.begin() as tx:
            tx.revive(job.id)
        self.model.revive(job.id)
        return True

    def edit(self) -> bool:
        job, queue = self.some("blocked"), self.chance.choice(QUEUES)
        if job is None or job.queue not in QUEUES:
            return False
        with self.begin() as tx:
            assert tx.move(job.queue, queue, [job.id]) == 1
        job.queue = queue
        return True

    def cancel_flow(self) -> bool:
        flow = self.some_flow("running")
        if flow is None:
            return False
        with self.begin() as tx:
            tx.cancel_flow(flow.id)
            self.model.cancel_flow(flow.id)
        return True

    def retry(self) -> bool:
        flow = self.some_flow()
        if flow is None or flow.state == "cancelling":
            return False
        walk, count = [(flow.id, 0)], 0
        while walk and (not count or self.chance.random() > HALTS):
            gone = tuple(after for _, after in walk)
            with self.begin() as tx:
                found, walk = tx.retry_steps(walk, self.chance.randint(1, 5))
                assert found == self.model.retry(flow.id, gone, tuple(after for _, after in walk))
            count += found
        return bool(count)

    def retry_from(self) -> bool:
        flow = self.some_flow()
        names = self.model.names(flow.id) if flow is not None and flow.state != "cancelling" else []
        if flow is None or not names:
            return False
        name = self.chance.choice(names)
        with self.begin() as tx:
            try:
                jobs = tx.steps_from(flow.id, name, 1_000)
            except JobsupError:
                jobs = None
        assert jobs == self.model.steps_from(flow.id, name)
        count, first = 0, True
        while jobs and (first or self.chance.random() > HALTS):
            page, jobs = jobs[:5], jobs[5:]
            with self.begin() as tx:
                found = tx.retry_jobs(page, first=first)
                assert found == self.model.retry_jobs(page, first=first)
            count, first = count + found, False
        return bool(count)

    def close(self) -> bool:
        flows = [flow for flow in self.model.flows() if flow.open]
        if not flows:
            return False
        flow = self.chance.choice(flows)
        with self.begin() as tx:
            tx.close_flow(flow.id)
            self.model.close(flow.id)
        return True

    def expire(self) -> bool:
        job, state = self.some(*WAITING), self.chance.choice([State.DEAD, State.CANCELLED])
        if job is None:
            return False
        with self.begin() as tx:
            assert tx.expire([job.id], state, "deadline") == [job.id]
        self.model.expire(job.id, state.value)
        return True

    def prune(self) -> bool:
        if self.chance.random() < 0.7:
            return False
        state = self.chance.choice([FlowState.COMPLETED, FlowState.DEAD, FlowState.CANCELLED])
        pages = 0
        while True:  # a flow of which some steps are gone counts what is not there: it is looked at when all of it is
            with self.begin() as tx:
                if not tx.prune_flows(state, self.now - 3_000, self.chance.randint(1, 10)):
                    break
            pages += 1
        self.model.prune(state.value, self.now - 3_000)
        return bool(pages)

    # -- going on ------------------------------------------------------------------------------------------------

    def go_on(self) -> bool:
        if not self.model.pending and self.chance.random() < 0.8:
            return False  # mostly it has something to do
        with self.begin() as tx:
            waited = tx.flows_wait
            self.cancel_steps(tx, self.chance.randint(1, 5))
            tx.progress_flows(self.chance.randint(1, 20))
        return bool(waited)

    def cancel_steps(self, tx: Any, jobs_max: int) -> None:
        """Which jobs of flows that are cancelled come first is the store's own; in the end it is all of them."""
        before = [job.id for job in self.model.uncancelled() if job.state != "running"]
        inside = [flow.id for flow in self.model.flows("running") if self.model.is_cancelled(flow.id)]
        running = tx.cancel_steps(jobs_max)
        ended = [i for i, one in tx.standing(before).items() if one.state is State.CANCELLED] if before else []
        self.model.cancelled_steps([i for i in inside if tx.flow(i).state is not FlowState.RUNNING], ended, running)
        if not tx.cancelling:
            left = [job for job in self.model.uncancelled() if not job.asked]
            assert not left, f"a flow was cancelled, and {left} were not"

    def time(self) -> bool:
        passed = self.chance.randint(1, 1_500)
        self.boot_ms += passed
        self.model.now += passed if self.chance.random() < 0.9 else self.chance.randint(0, 3_000)
        count = self.chance.randint(1, 50)
        with self.begin() as tx:
            found = tx.promote(count)
            assert found == self.model.promote(count)
        return bool(found)

    def die(self) -> bool:
        """The keeper dies, in a transaction or between two."""
        if self.chance.random() < 0.5:
            try:
                with self.store.transaction(self.now) as tx:
                    tx.progress_flows(self.chance.randint(1, 10))
                    raise Again
            except Again:
                pass
        self.backend.crash(self.store)
        self.store = self.backend.open()
        return True

    # -- what must be true ---------------------------------------------------------------------------------------

    def compare(self) -> None:
        """The rows say what the model does."""
        with self.backend.look() as db:
            found = {name: read(db) for name, read in READ.items()}
        for name, expected in self.model.rows().items():
            assert found[name] == expected, _difference(name, found[name], expected)


def _condition(text: str, name: str, told: dict[str, Any]) -> bool:
    return WHENS[text](told, name)


def _signals(tx: Any) -> dict[tuple[int, str], int]:
    rows = tx._db.execute("SELECT flow, name, id FROM step WHERE kind = 2").fetchall()
    return {(flow, name.decode()): signal for flow, name, signal in rows}


def _difference(name: str, found: dict[Any, Any], expected: dict[Any, Any]) -> str:
    keys = [key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key)]
    shown = [f"{key}: {found.get(key)!r}, not {expected.get(key)!r}" for key in sorted(keys, key=str)[:5]]
    return f"{name}: the rows say " + "; ".join(shown)


def _by_first(statement: str) -> Callable[[Any], dict[Any, Any]]:
    return lambda db: {row[0]: row[1] if len(row) == 2 else row[1:] for row in db.execute(statement).fetchall()}


def _by_two(statement: str) -> Callable[[Any], dict[Any, Any]]:
    return lambda db: {row[:2]: row[2] for row in db.execute(statement).fetchall()}


def _states(db: Any) -> dict[int, tuple[str, str]]:
    """Queue and state of every job, by where its id stands; what stands nowhere else is in a lease."""
    places = dict(db.execute(ONE_PLACE_EACH).fetchall())
    rows = db.execute("SELECT job.id, queue.name FROM job JOIN queue ON queue.id = job.queue").fetchall()
    return {job_id: (queue, places.get(job_id, "running")) for job_id, queue in rows}


READ: Mapping[str, Callable[[Any], dict[Any, Any]]] = {
    "jobs": _states,
    "charged": _by_first("SELECT id, failures, interruptions FROM trail WHERE failures + interruptions > 0"),
    "due": _by_first("SELECT id, due_at FROM scheduled"),
    "parked": _by_first("SELECT id, task, version FROM blocked WHERE waits = 0"),
    "flows": _by_first("SELECT id, state, open, told, finished_at FROM flow"),
    "steps": _by_first("SELECT id, flow, name, skipped, tolerated FROM step"),
    "waits": _by_two("SELECT parent, child, done FROM told_edge"),
    "pending": _by_first("SELECT id, counted FROM ended_step WHERE counted = 0"),
    "kept": _by_two("SELECT id, name, CAST(value AS INTEGER) FROM checkpoint"),
    "held": _by_first(
        "SELECT job.value ->> 0, token FROM lease, json_each(lease.jobs) AS job "
        "WHERE job.value ->> 0 NOT IN (SELECT id FROM outcome)"
    ),
    "loans": _by_first("SELECT token, until_boot, lease_ms, key, prolonged FROM loan"),
}
"""How each of these is read, by statements that share nothing with the store."""
