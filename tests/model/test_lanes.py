"""Orders, keys, limits, uniqueness and bounded queues together against the plain model of `lanes_model`.

Any verbs, in any order, by two owners, in transactions that commit or fail, under a clock that goes on, jumps and goes
back, while the rules of queues change. After every step: what the model could lease now the store is ready to lease,
and the rows contradict nothing.
"""

from __future__ import annotations

import copy
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from supervisor.errors import NotUnique, QueueFull
from supervisor.job import State
from supervisor.policy.discipline import Discipline, Limit, line_of
from supervisor.policy.rank import Order
from supervisor.policy.rate import Rate
from supervisor.policy.settle import History
from supervisor.policy.tasks import Need
from supervisor.policy.unique import Unique, fingerprint
from supervisor.store.explain import Explainer
from supervisor.store.protocol import AttemptError, Completion, Group, NewJob
from supervisor.store.sqlite.statements import SQL
from tests.conformance.sqlite import SqliteBackend
from tests.model.lanes_model import WAITING, Job, Lanes
from tests.model.test_store import FAST, template

CAMPAIGN = os.environ.get("JOBSUP_CAMPAIGN") == "full"
NOW = 1_700_000_000_000
PLENTY = 1 << 40
QUEUES = ("a", "b", "c", "d")
KEYS = ("", "", "k1", "k2", "k3")

SHARED = (Limit("limit:both", concurrency=2), Limit("limit:rate", rate=Rate(3, 1000, "window")))
SHARED_BY_KEY = (Limit("limit:per", concurrency=1), Limit("limit:perrate", rate=Rate(2, 500)))
RATES = st.builds(
    Rate, st.integers(1, 4), st.sampled_from([100, 640, 1000, 5000]), st.sampled_from(["bucket", "leaky", "window"])
)
ORDERS = st.sampled_from(
    [("fifo",), ("lifo",), ("priority",), ("fair",), ("priority", "fair"), ("fair", "priority"), ("fair", "lifo")]
)


@st.composite
def disciplines(draw: Any, queue: str) -> Discipline:
    terms = draw(ORDERS)
    ordered = "lifo" not in terms and draw(st.booleans())
    ageing = draw(st.sampled_from([None, 50])) if terms == ("priority",) else None
    own = draw(st.sampled_from(["none", "none", "concurrency", "rate", "both"]))
    keyed = draw(st.sampled_from(["none", "none", "concurrency", "rate"]))
    limits = (Limit(f"queue:{queue}", draw(st.integers(1, 4)) if own != "rate" else None,
                    draw(RATES) if own != "concurrency" else None),) if own != "none" else ()  # fmt: skip
    per_key = (Limit(f"key:{queue}", draw(st.integers(1, 2)) if keyed == "concurrency" else None,
                     draw(RATES) if keyed == "rate" else None),) if keyed != "none" else ()  # fmt: skip
    shared = tuple(limit for limit in SHARED if draw(st.integers(0, 3)) == 0)
    shared_by_key = tuple(limit for limit in SHARED_BY_KEY if draw(st.integers(0, 3)) == 0)
    unique = draw(
        st.sampled_from(
            [None, None, None, Unique(("same",)), Unique(("same",), (), 400), Unique(("same",), on_conflict="refuse"),
             Unique(("same",), on_conflict="replace", replace=("priority", "due_at")),
             Unique(("same",), (State.SCHEDULED,), None, "replace", ("due_at",))]
        )
    )  # fmt: skip
    return Discipline(
        order=Order(terms, ageing),
        ordered=ordered,
        after_dead=draw(st.sampled_from(["block", "skip", "dead_letter"])),
        weights=draw(st.sampled_from([{}, {"k1": 3, "k2": 2}])),
        limits=(*limits, *shared),
        key_limits=(*((line_of(queue),) if ordered else ()), *per_key, *shared_by_key),
        max_size=draw(st.sampled_from([None, None, None, 6])),
        when_full=draw(st.sampled_from(["refuse", "drop_oldest"])),
        unique=unique,
        group=queue,
    )


JOB = st.tuples(
    st.sampled_from(KEYS),
    st.integers(-2, 2),
    st.sampled_from([None, None, None, 0, 30, 300]),
    st.sampled_from([1, 1, 1, 2]),
    st.integers(0, 3),
)
GROUP = st.tuples(st.sampled_from(QUEUES), st.lists(JOB, min_size=1, max_size=5))
PICK = st.integers(0, 10_000)
ENDING = st.sampled_from(["commit"] * 12 + ["raise", "raise", "die"])
HOWS = ("complete", "complete", "complete", "fail", "fail", "die", "release", "interrupt", "park")
NEED = Need("t", 1)

SWITCHES = (
    "pause",
    "resume",
    "resume",
    "pause key",
    "resume key",
    "resume key",
    "free key",
    "free key",
    "shut",
    "shut key",
)
NAMES = dict.fromkeys(SWITCHES, "switch")
counted: Counter[str] = Counter()
"""How often each rule changed something, over all runs of this process."""


HOMES = "SELECT name, b FROM lane JOIN queue ON queue.id = queue WHERE key = '' AND a IS NULL"
VTIMES = "SELECT name, key, vtime FROM lane JOIN queue ON queue.id = queue WHERE key <> ''"


def text(value: str | bytes) -> str:
    """A text of a row."""
    return value if isinstance(value, str) else value.decode()


def told(said: tuple[str, Any]) -> tuple[Any, ...]:
    """A reason with those of its facts that the model knows, too."""
    kind, facts = said
    match kind:
        case "held" | "doomed":
            return kind, facts["job"]
        case "behind" | "behind_key":
            return kind, facts["count"]
        case "slots":
            return kind, facts["name"], sorted(facts["jobs"])
        case "rate":
            return kind, facts["name"]
    return (kind,)


class Boom(Exception):
    """What a transaction of a test is ended with."""


class LanesMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="jobsup-lanes-", dir=FAST))
        self.backend = SqliteBackend(self.folder / "jobs.db", template=template(), durability="relaxed")
        self.model = Lanes({}, NOW)
        self.owner = 0

    @initialize(rules=st.tuples(*map(disciplines, QUEUES)), groups=st.lists(GROUP, min_size=1, max_size=6))
    def begin(self, rules: tuple[Discipline, ...], groups: list[Any]) -> None:
        self.model.rules = dict(zip(QUEUES, rules, strict=True))
        self.backend.discipline_of = lambda queue: self.model.rules[queue]
        self.stores = [self.backend.open(), self.backend.open()]
        for group in groups:
            self.insert(0, *group, "commit")

    def teardown(self) -> None:
        if hasattr(self, "stores"):
            self.check_awake(True)
            for store in self.stores:
                store.close()
            assert self.backend.complaints() == []
        shutil.rmtree(self.folder)

    # -- transactions ------------------------------------------------------------------------------------------

    def do(self, at: int, ending: str, verb: Any, *, rule_name: str, detail: str = "", waking: bool = True) -> Any:
        """Run a verb on the model and the store; a transaction that fails, or whose owner dies, has changed neither.

        `waking`: what waits for a time is looked at first.
        """
        before = copy.deepcopy(self.model) if ending != "commit" else None
        try:
            with self.stores[at].transaction(self.model.now) as tx:
                if waking:
                    tx.wake()
                    self.follow(self.stores[at])
                changed = verb(tx)
                if ending == "die":
                    self.backend.crash(self.stores[at])
                if ending != "commit":
                    raise Boom
        except Boom:
            assert before is not None
            self.model.__dict__.update(before.__dict__ | {"now": self.model.now})
            if ending == "die":
                self.stores[at] = self.backend.open()
            counted[f"transactions that {ending}"] += 1
            changed = False
        else:
            self.model.settle_lines()
            for queue, present in self.stores[at].connection.execute(HOMES):
                self.model.follow_home(text(queue), present=bool(present))
        if changed:
            counted[rule_name] += 1
            if detail:
                counted[detail] += 1
        self.check_awake()

    def follow(self, store: Any) -> None:
        """Let the model know which keys have lost their credit at a limit."""
        self.model.settle_lines()
        for queue, key, vtime in store.connection.execute(VTIMES):
            if self.model.rules[text(queue)].order.fair:
                self.model.follow(text(queue), text(key), vtime)

    def check_awake(self, thorough: bool = False) -> None:
        """Whatever the model could lease now, the store is ready to lease."""
        if not thorough and counted["steps"] % 3:
            counted["steps"] += 1
            return
        counted["steps"] += 1
        with self.stores[counted["steps"] % 2].transaction(self.model.now) as tx:
            tx.wake()
            for queue in QUEUES:
                if self.model.leasable(queue):
                    assert tx.next_of(queue) == queue, f"{queue} sleeps: {self.model.rules[queue]}"

    def pick(self, pick: int, *states: State) -> Job | None:
        found = [job for job in self.model.jobs.values() if job.state in states]
        return found[pick % len(found)] if found else None

    def check_reason(self, job: Job) -> None:
        """What is said to keep a job waiting does, all of it, with the right numbers; nothing else does."""
        store = self.stores[0]
        with store.transaction(self.model.now) as tx:
            tx.wake()
            self.follow(store)
        found = Explainer(store.connection, lambda queue: self.model.rules[queue], self.model.now).explain(job.id)
        assert found is not None
        assert (found.queue, found.key, found.state) == (job.queue, job.key, job.state)
        said = [(reason.kind, reason.facts) for reason in found.reasons]
        for kind, _ in said:
            counted[f"because {kind}"] += 1
        if job.state is State.SCHEDULED:
            assert said[0][0] == "due_later"
            assert said[0][1]["due_at_ms"] == job.due
            return
        if job.state is State.BLOCKED:
            assert [kind for kind, _ in said] == ["no_code"]
            return
        expected = self.model.reasons(job)
        assert [each for each in map(told, said) if each[0] != "behind_lanes"] == expected
        if not expected:
            ahead = sum(facts["count"] for kind, facts in said if kind == "behind_lanes")
            assert ahead == self.model.lanes_ahead(job), "another count of lanes comes first"

    @rule(pick=PICK)
    def explain(self, pick: int) -> None:
        job = self.pick(pick, State.QUEUED, State.QUEUED, State.SCHEDULED, State.BLOCKED)
        if job is not None:
            self.check_reason(job)

    # -- rules -------------------------------------------------------------------------------------------------

    @rule(at=st.integers(0, 1), group=GROUP, ending=ENDING)
    def enqueue(self, at: int, group: Any, ending: str) -> None:
        self.insert(at, *group, ending)

    def insert(self, at: int, queue: str, drawn: list[Any], ending: str) -> None:
        self.do(at, ending, lambda tx: len(self.put(tx, queue, drawn)), rule_name="enqueue")

    def put(self, tx: Any, queue: str, drawn: list[Any]) -> list[int]:
        """Insert a group; its ids, none if it is refused."""
        unique, now = self.model.rules[queue].unique, self.model.now
        new = [
            (key, priority, None if due is None else now + due, cost, f"{queue}/{same}")
            for key, priority, due, cost, same in drawn
        ]
        expected = self.model.insert(queue, new)
        jobs = [
            NewJob(
                b'{"same":%d}' % same, priority, due, b'{"cost":%d}' % cost if cost > 1 else None, key, cost,
                fingerprint(unique, queue, key, {"same": same}) if unique else None,
            )
            for (key, priority, due, cost, _), (*_, same) in zip(new, drawn, strict=True)
        ]  # fmt: skip
        (got,) = tx.insert([Group(queue, jobs)])
        if isinstance(expected, str):
            assert isinstance(got.refused, {"queue_full": QueueFull, "not_unique": NotUnique}[expected])
            counted[expected] += 1
            return []
        assert got.refused is None
        assert list(got.ids) == expected
        stands = [self.model.jobs[i].state if i in self.model.jobs else State.COMPLETED for i in expected]
        assert list(got.states) == stands
        counted["unique conflicts"] += len(got.existing)
        return expected

    @rule(
        at=st.integers(0, 1), name=st.sampled_from(["s1", "s2"]), back=st.sampled_from([0, 0, 0, 1, 3]),
        queue=st.sampled_from(QUEUES), job=JOB, ending=ENDING,
    )  # fmt: skip
    def fire(self, at: int, name: str, back: int, queue: str, job: Any, ending: str) -> None:
        """A due time of a schedule, which both owners may try, again and again: it makes one job, or none."""
        due = (self.model.now // 100 - back) * 100

        def verb(tx: Any) -> Any:
            won = tx.claim(name, due, "run")
            assert won == (due > self.model.fired.get(name, -1))
            if not won:
                return False
            self.model.fired[name] = due
            ids = self.put(tx, queue, [job])
            tx.settle_claim(name, due, "fired" if ids else "failed", ids[0] if ids else None)
            return True

        self.do(at, ending, verb, rule_name="fire")

    @rule(at=st.integers(0, 1), pick=PICK, jobs_max=st.integers(1, 6), ending=ENDING)
    def lease(self, at: int, pick: int, jobs_max: int, ending: str) -> None:
        able = [queue for queue in QUEUES if self.model.leasable(queue)]
        queue = able[pick % len(able)] if able and pick % 7 else QUEUES[pick % len(QUEUES)]

        def verb(tx: Any) -> Any:
            got = tx.lease(queue, 1, jobs_max, PLENTY)
            expected = self.model.lease(queue, got.token if got else 0, jobs_max)
            ids = [job.id for job in got.jobs] if got else []
            assert ids == [job.id for job in expected], f"{queue}: {self.model.rules[queue]}"
            return len(ids)

        self.do(at, ending, verb, rule_name="lease")

    @precondition(lambda self: self.pick(0, State.RUNNING))
    @rule(at=st.integers(0, 1), ends=st.lists(st.tuples(PICK, st.sampled_from(HOWS), st.sampled_from([0, 20, 200])),
                                              min_size=1, max_size=4), ending=ENDING)  # fmt: skip
    def settle(self, at: int, ends: list[Any], ending: str) -> None:
        def verb(tx: Any) -> Any:
            done = 0
            for pick, how, delay in ends:
                job = self.pick(pick, State.RUNNING)
                if job is not None:
                    self.end(tx, job, how, delay)
                    counted[how] += 1
                    done += 1
            return done

        self.do(at, ending, verb, rule_name="settle")

    def end(self, tx: Any, job: Job, how: str, delay: int) -> None:
        token, now, error = job.holder, self.model.now, AttemptError("error", "it broke")
        if how == "complete":
            assert tx.complete(token, [Completion(job.id, now, now + 1)]) == []
            self.model.complete(job)
        elif how == "fail":
            assert tx.reschedule(token, job.id, now + delay, History(1), error, solo=False)
            self.model.fail(job, now + delay)
        elif how == "die":
            assert tx.finish(token, job.id, State.DEAD, now, "why", History(1), error)
            self.model.die(job)
        elif how == "park":
            assert tx.park(token, job.id, NEED)
            self.model.park(job)
        elif how == "release":
            assert tx.release(token, [job.id]) == [job.id]
            self.model.release(job)
        else:
            assert tx.interrupt(token, job.id, History(0, 0, 1), error)
            self.model.interrupt(job)

    @rule(at=st.integers(0, 1), step=st.sampled_from([1, 10, 40, 200, 1000, -300, 6_000]), jobs_max=st.integers(1, 6))
    def time(self, at: int, step: int, jobs_max: int) -> None:
        """The clock goes on, or is set; then what is due becomes ready."""
        if step < 0:
            self.model.set_clock(step)
        else:
            self.model.now += step

        def verb(tx: Any) -> Any:
            if step < 0:
                tx.clock_set(step)
                tx.wake()
            expected = self.model.promote(jobs_max)
            assert tx.promote(jobs_max) == expected
            return expected or True

        self.do(at, "commit", verb, rule_name="time", waking=step > 0)

    @rule(
        at=st.integers(0, 1),
        what=st.sampled_from(["cancel", "revive", "remove", "bury", "unblock", "unblock"]),
        pick=PICK,
        ending=ENDING,
    )
    def operate(self, at: int, what: str, pick: int, ending: str) -> None:
        def verb(tx: Any) -> Any:
            if what == "bury":
                size, at_key = pick % 3 + 1, self.doomed(self.stores[at])
                ids = tx.bury_doomed(size)
                assert ids == self.model.bury(at_key, size)
                counted["buried with their key"] += len(ids)
                return bool(ids)
            if what == "unblock":
                blocked = sorted({job.queue for job in self.model.jobs.values() if job.state is State.BLOCKED})
                queue = blocked[pick % len(blocked)] if blocked else QUEUES[0]
                count = tx.unblock(queue, NEED, pick % 3 + 1) if blocked else 0
                assert count == (self.model.unblock(queue, pick % 3 + 1) if blocked else 0)
                return count
            final = (State.DEAD, State.CANCELLED, State.COMPLETED)
            wanted = {"cancel": WAITING, "revive": (*final, State.SCHEDULED), "remove": final}
            job = self.pick(pick, *wanted[what])
            if job is None:
                return False
            if what == "cancel":
                assert tx.cancel(job.id) is State.CANCELLED
                self.model.withdraw(job)
            elif what == "revive":
                if not job.waits and self.model.rival(job) is not None:
                    with pytest.raises(NotUnique):
                        tx.revive(job.id)
                    counted["revivals that were not unique"] += 1
                    return False
                tx.revive(job.id)
                self.model.revive(job)
            else:
                assert tx.remove([job.id]) == 1
                self.model.remove(job)
            return True

        self.do(at, ending, verb, rule_name=NAMES.get(what, "operate"), detail=what)

    def doomed(self, store: Any) -> tuple[str, str] | None:
        """The line that is buried next: of several, the store may take any."""
        row = store.connection.execute(SQL.lane_doomed).fetchone()
        if row is None:
            return None
        queue, key = store.connection.execute(
            "SELECT name, key FROM lane JOIN queue ON queue.id = queue WHERE lane.id = ?", row
        ).fetchone()
        return text(queue), text(key)

    @rule(
        at=st.integers(0, 1), what=st.sampled_from(SWITCHES), queue=st.sampled_from(QUEUES),
        key=st.sampled_from(KEYS), pick=PICK, ending=ENDING,
    )  # fmt: skip
    def switch(self, at: int, what: str, queue: str, key: str, pick: int, ending: str) -> None:
        queue, key = self.meant(what, queue, key, pick)

        def verb(tx: Any) -> Any:
            model, line = self.model, self.model.line(queue, key)
            before = (queue in model.paused, line.paused, line.held, line.doom)
            match what:
                case "pause" | "resume":
                    tx.pause(queue, paused=what == "pause")
                    (model.paused.add if what == "pause" else model.paused.discard)(queue)
                case "pause key" | "resume key":
                    if tx.free_key(queue, key, paused=what == "pause key"):
                        line.paused = what == "pause key"
                case "free key":
                    if tx.free_key(queue, key):
                        line.held = line.doom = None
                case "shut":
                    tx.shut(queue, "", model.now + 150)
                    model.shut[queue] = max(model.shut.get(queue, 0), model.now + 150)
                    return True
                case "shut key":
                    tx.shut(queue, key, model.now + 150)
                    if key:
                        line.shut_until = max(line.shut_until, model.now + 150)
                    else:
                        model.shut[queue] = max(model.shut.get(queue, 0), model.now + 150)
                    return True
            return before != (queue in model.paused, line.paused, line.held, line.doom)

        self.do(at, ending, verb, rule_name=NAMES.get(what, "operate"), detail=what)

    @rule(at=st.integers(0, 1), pick=PICK, queue=st.sampled_from(QUEUES), key=st.sampled_from(KEYS))
    def toggle(self, at: int, pick: int, queue: str, key: str) -> None:
        """Stop something, or let something go on that was stopped: so that little stands still for long."""
        stopped = [("resume", name, "") for name in sorted(self.model.paused)]
        stopped += [("resume key", *at_key) for at_key, line in self.model.lines.items() if line.paused]
        stopped += [("free key", *at_key) for at_key, line in self.model.lines.items() if line.held or line.doom]
        if stopped:
            self.switch(at, *stopped[pick % len(stopped)], 0, "commit")
        else:
            self.switch(at, ("pause", "pause key", "shut", "shut key")[pick % 4], queue, key, 0, "commit")

    def meant(self, what: str, queue: str, key: str, pick: int) -> tuple[str, str]:
        """What is to be undone is mostly something that was done."""
        found: list[tuple[str, str]] = []
        if what == "resume":
            found = [(name, "") for name in sorted(self.model.paused)]
        elif what == "resume key":
            found = [at for at, line in self.model.lines.items() if line.paused]
        elif what == "free key":
            found = [at for at, line in self.model.lines.items() if line.held or line.doom]
        return found[pick % len(found)] if found and pick % 9 else (queue, key)

    @rule(at=st.integers(0, 1), picks=st.lists(st.tuples(PICK, st.sampled_from(HOWS)), min_size=1, max_size=5))
    def work(self, at: int, picks: list[Any]) -> None:
        """What workers do all day: take what comes next, and end it, by both owners in turn."""
        self.lease(at, picks[0][0], len(picks), "commit")
        self.settle(1 - at, [(pick, how, 20) for pick, how in picks], "commit")

    @rule(data=st.data(), queue=st.sampled_from(QUEUES), size=st.integers(1, 20))
    def reload(self, data: Any, queue: str, size: int) -> None:
        """The rules of a queue change; its jobs are ranked anew in slices."""
        if size % 4:
            return
        self.model.rules[queue] = data.draw(disciplines(queue))
        self.model.correct_buckets()
        for store in self.stores:
            store.govern(lambda name: self.model.rules[name])
        more = True
        while more:
            with self.stores[0].transaction(self.model.now) as tx:
                more = tx.rerank(size)
        self.do(0, "commit", lambda _: True, rule_name="reload")


def test_lanes_agree_with_the_model() -> None:
    """The short form; the campaign runs until a million steps have changed something, and prints each rule's count."""
    examples, steps, wanted = (200, 120, 1_000_000) if CAMPAIGN else (25, 50, 500)
    counted.clear()
    while True:
        run_state_machine_as_test(
            LanesMachine,
            settings=settings(
                max_examples=examples, stateful_step_count=steps, deadline=None, print_blob=True, database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )  # fmt: skip
        changed = sum(counted[name] for name in RULES)
        print({name: f"{counted[name]} ({100 * counted[name] / changed:.1f} %)" for name in RULES}, file=sys.stderr)
        if changed >= wanted:
            break
    print(f"{changed} steps changed something; {dict(counted)}", file=sys.stderr)


RULES = ("enqueue", "fire", "lease", "settle", "time", "operate", "switch", "reload")
pytestmark = pytest.mark.timeout(20_000 if CAMPAIGN else 300)
