"""The store against the model: any verbs, in any order, in transactions that commit, fail or die, by two owners."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from supervisor.errors import UnknownJob
from supervisor.job import IllegalTransition, State
from supervisor.policy.settle import History
from supervisor.policy.tasks import Need
from supervisor.store.open import open_store
from supervisor.store.protocol import SOLO, AttemptError, Completion, Group, NewJob, Owner, Tx
from supervisor.store.reader import Reader, connect_reader, instant
from supervisor.store.sqlite.transaction import Transaction
from tests.conformance.sqlite import SqliteBackend
from tests.model.model import Model, Refused, Unknown

CAMPAIGN = os.environ.get("JOBSUP_CAMPAIGN") == "full"
NOW = 1_700_000_000_000
ORDERS = {"fifo": "fifo", "lifo": "lifo", "priority": "priority", "other": "fifo"}

QUEUES = st.sampled_from(sorted(ORDERS))
KEYS = st.sampled_from([None, None, None, "a", "b", "c", "d"])
PICK = st.integers(0, 10_000)
PICKS = st.lists(PICK, min_size=1, max_size=6)
JOB = st.tuples(
    st.integers(0, 40).map(lambda size: b'"' + b"x" * size + b'"'),
    st.integers(-2, 2),
    st.sampled_from([None, None, None, -5, 0, 1, 50, 400]),
    st.sampled_from([None, b'{"tags":["t"]}']),
)
GROUP = st.tuples(QUEUES, st.lists(JOB, min_size=0, max_size=6), KEYS, st.booleans())
ENDING = st.sampled_from(["commit"] * 6 + ["stay"] * 3 + ["raise", "die"])
ENDS = {"bury": State.DEAD, "withdraw": State.CANCELLED, "call off": State.CANCELLED}
END = st.tuples(
    PICK,
    st.sampled_from(["complete", "complete", "retry", "retry", "release", "interrupt", "park", "park", *ENDS]),
    st.sampled_from([(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)]),
    st.sampled_from([("error", "it broke"), ("crash", "it died"), None]),
    st.sampled_from([1, -1, 0, 100, 3_000]),
    st.booleans(),
)
"""The end of a run: which job, how, what is charged, the error, how long it took or waits, whether alone henceforth."""
NEEDS = (Need("send", 1), Need("send", 2), Need("sum", 1))
READ_EVERY = 5
"""The reader's view is compared every so many steps, and at the end: it costs as much as all else."""

REVIVABLE = (State.SCHEDULED, State.COMPLETED, State.DEAD, State.CANCELLED)


class Boom(Exception):
    """What a transaction of a test is ended with."""


class StoreMachine(RuleBasedStateMachine):
    """Two owners' handles, one open transaction at most, and a model that is copied at its begin.

    Every verb runs in the open transaction, or begins one; `ending` then commits it, leaves it open, makes it
    raise, or kills its owner. What ends otherwise than by a commit is forgotten by the model too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="jobsup-model-", dir=FAST))
        self.backend = SqliteBackend(self.folder / "jobs.db", template=template(), durability="relaxed")
        self.stores = [self.backend.open(), self.backend.open()]
        self.reader_connection = connect_reader(str(self.backend.path))
        self.reader = Reader(self.reader_connection, {}.get)
        self.model = Model(dict(ORDERS), now=NOW)
        self.before: Model | None = None
        self.context: AbstractContextManager[Transaction] | None = None
        self.tx: Any = None
        self.at = 0
        self.tokens: list[int] = []
        self.reserved: list[list[int]] = []
        self.incarnation = 0
        self.looks = 0

    def teardown(self) -> None:
        if self.context:
            self.end("commit")
            self.agree()
        self.reader_agrees()
        self.reader_connection.close()
        for store in self.stores:
            store.close()
        shutil.rmtree(self.folder)

    # -- transactions ------------------------------------------------------------------------------------------

    def begin(self, at: int) -> Tx:
        if self.context is None:
            self.at = at
            self.before = copy.deepcopy(self.model)
            self.context = self.stores[at].transaction(self.model.now)
            self.tx = self.context.__enter__()
        return self.tx

    def end(self, ending: str) -> None:
        if ending == "stay" or self.context is None:
            return
        context, self.context, self.tx = self.context, None, None
        if ending == "commit":
            context.__exit__(None, None, None)
            self.before = None
            return
        assert self.before is not None
        now, self.model, self.before = self.model.now, self.before, None
        self.model.now = now
        if ending == "die":
            self.backend.crash(self.stores[self.at])
        assert not context.__exit__(Boom, Boom(), None), "the transaction swallowed an error"
        if ending == "die":
            self.stores[self.at] = self.backend.open()

    def token(self, pick: int) -> int:
        """Mostly the token of an open lease, sometimes one that is closed, or was never given."""
        open_tokens = sorted(self.model.open_leases())
        if open_tokens and pick % 8 != 7:
            return open_tokens[pick % len(open_tokens)]
        return self.tokens[pick % len(self.tokens)] if self.tokens and pick % 5 != 4 else 900_000

    def ids(self, picks: list[int], among: list[int] | None = None) -> list[int]:
        """Mostly ids among those that matter, sometimes any other, sometimes one that does not exist."""
        every = sorted(self.model.jobs)
        found = []
        for pick in picks:
            pool = among if among and pick % 9 != 8 else every
            found.append(pool[pick % len(pool)] if pool and pick % 17 != 16 else pick + 1)
        return found

    def queue(self, pick: int) -> str:
        """Mostly a queue in which jobs wait, sometimes any."""
        waiting = [queue for queue in ORDERS if self.model.ready(queue)]
        pool = waiting if waiting and pick % 9 != 8 else sorted(ORDERS)
        return pool[pick % len(pool)]

    def something_runs(self) -> bool:
        return any(job.state is State.RUNNING for job in self.model.jobs.values())

    def something_ended(self) -> bool:
        return any(self.model.final())

    def held(self, token: int) -> list[int]:
        return [job.id for job in self.model.held(token)]

    # -- rules: coming -----------------------------------------------------------------------------------------

    @initialize(groups=st.lists(GROUP, min_size=2, max_size=5))
    def first_jobs(self, groups: list[Any]) -> None:
        self.insert(0, groups, "commit")

    @rule(at=st.integers(0, 1), groups=st.lists(GROUP, max_size=4), ending=ENDING)
    def insert(self, at: int, groups: list[Any], ending: str) -> None:
        tx, new, expected = self.begin(at), [], []
        for queue, drawn, key, from_reserve in groups:
            jobs = [(body, prio, None if due is None else self.model.now + due, own) for body, prio, due, own in drawn]
            ids = self.take_reserved(len(jobs)) if from_reserve else None
            new.append(Group(queue, [NewJob(*job) for job in jobs], key, ids))
            expected.append(self.model.insert(queue, jobs, key, ids))
        got = tx.insert(new)
        assert [(list(one.ids), list(one.states), one.repeated) for one in got] == expected
        self.end(ending)

    def take_reserved(self, count: int) -> list[int] | None:
        for index, ids in enumerate(self.reserved):
            if len(ids) >= count > 0:
                self.reserved[index] = ids[count:]
                return ids[:count]
        return None

    @rule(at=st.integers(0, 1), count=st.integers(1, 5))
    def reserve(self, at: int, count: int) -> None:
        if self.context:
            return  # what was reserved counts only once it is committed
        ids = self.model.reserve(count)
        with self.stores[at].transaction(self.model.now) as tx:
            assert list(tx.reserve(count)) == ids
        self.reserved.append(ids)

    @rule(step=st.sampled_from([-200, 0, 1, 10, 100, 500, 2 * 86_400_000]))
    def let_time_pass(self, step: int) -> None:
        if self.context is None:
            self.model.now += step

    @rule(at=st.integers(0, 1), later=st.sampled_from([100, 0, 5_000]), jobs_max=st.integers(1, 8), ending=ENDING)
    def promote(self, at: int, later: int, jobs_max: int, ending: str) -> None:
        self.let_time_pass(later)
        assert self.begin(at).promote(jobs_max) == self.model.promote(jobs_max)
        self.end(ending)

    # -- rules: leasing and settling ---------------------------------------------------------------------------

    @rule(
        at=st.integers(0, 1), pick=PICK, owner=st.integers(1, 3), jobs_max=st.integers(1, 6),
        bytes_max=st.sampled_from([10_000, 60, 1]), solo=st.sampled_from([True, True, False]), ending=ENDING,
    )  # fmt: skip
    def lease(self, at: int, pick: int, owner: int, jobs_max: int, bytes_max: int, solo: bool, ending: str) -> None:
        queue = self.queue(pick)
        got = self.begin(at).lease(queue, owner, jobs_max, bytes_max, solo=solo)
        token = got.token if got else 0
        assert not got or token > max(self.model.leases, default=0)
        expected = self.model.lease(queue, owner, token, jobs_max, bytes_max, solo)
        assert [self.shown(job) for job in (got.jobs if got else [])] == [self.expected(job) for job in expected]
        if got:
            assert got.owner == owner
            self.tokens.append(token)
        self.end(ending)

    def shown(self, job: Any) -> tuple[Any, ...]:
        return (
            job.id, job.attempt, job.priority, job.enqueued_at_ms, job.due_at_ms, job.options, job.payload,
            job.previous_error, job.mark == SOLO,
        )  # fmt: skip

    def expected(self, job: Any) -> tuple[Any, ...]:
        error = job.last_error.encode() if job.last_error else None
        return (
            job.id, job.attempt, job.priority, job.enqueued_at, job.due_at, job.options, job.payload, error, job.solo,
        )  # fmt: skip

    @rule(at=st.integers(0, 1), pick=PICK, size=st.integers(1, 6), ends=st.lists(END, min_size=1, max_size=6))
    def work(self, at: int, pick: int, size: int, ends: list[Any]) -> None:
        """A lease and the ends of some of its jobs, by both owners in turn."""
        self.lease(at, pick, 1, size, 10_000, True, "commit")
        token = self.tokens[-1] if self.tokens else 0
        for turn, end in enumerate(ends):
            held = self.held(token)
            if held:
                self.settle(turn % 2, token, [held[end[0] % len(held)]], end, "commit")

    @precondition(something_runs)
    @rule(at=st.integers(0, 1), pick=PICK, picks=PICKS, end=END, ending=ENDING)
    def report(self, at: int, pick: int, picks: list[int], end: Any, ending: str) -> None:
        """Reports about jobs, mostly of an open lease, sometimes stale in any way."""
        token = self.token(pick)
        self.settle(at, token, self.ids(picks, self.held(token)), end, ending)

    def settle(self, at: int, token: int, ids: list[int], end: Any, ending: str) -> None:
        tx, model = self.begin(at), self.model
        _, how, charge, error, delay, solo = end
        if how == "complete":
            finished, result = model.now + 1, b"1" if error else None
            done = [Completion(job_id, finished - delay, finished, result) for job_id in ids]
            assert tx.complete(token, done) == model.complete(token, ids, finished)
        elif how == "release":
            assert tx.release(token, ids) == model.release(token, ids)
        for job_id in ids:
            spent = self.charged(job_id, charge)
            history, blame = History(*spent), AttemptError(*error) if error else None
            if how == "call off":
                assert outcome(lambda i=job_id: tx.cancel(i)) == outcome(lambda i=job_id: model.cancel(i))
            if how in ENDS:
                got = tx.finish(token, job_id, ENDS[how], NOW, "why", history, blame)
                assert got == model.finish(token, job_id, ENDS[how], spent, error)
            elif how == "retry":
                got = tx.reschedule(token, job_id, model.now + delay, history, blame, solo=solo)
                assert got == model.reschedule(token, job_id, model.now + delay, spent, error, solo)
            elif how == "park":
                need = NEEDS[delay % len(NEEDS)]
                assert tx.park(token, job_id, need) == model.park(token, job_id, need)
            elif how == "interrupt":
                blame, error = AttemptError("interrupted", "shutdown"), ("interrupted", "shutdown")
                assert tx.interrupt(token, job_id, history, blame) == model.interrupt(token, job_id, spent, error)
        self.end(ending)

    def charged(self, job_id: int, charge: tuple[int, int, int]) -> tuple[int, int, int]:
        spent = self.model.jobs[job_id].spent if job_id in self.model.jobs else (0, 0, 0)
        failures, crashes, interruptions = (old + new for old, new in zip(spent, charge, strict=True))
        return failures, crashes, interruptions

    @precondition(lambda self: self.model.needs())
    @rule(at=st.integers(0, 1), pick=PICK, jobs_max=st.integers(1, 3), ending=ENDING)
    def unblock(self, at: int, pick: int, jobs_max: int, ending: str) -> None:
        """Code arrives that knows what some jobs wait for."""
        needs = [(queue, need) for queue, wanted in sorted(self.model.needs().items()) for need in sorted(wanted)]
        queue, need = needs[pick % len(needs)] if pick % 9 != 8 else ("fifo", NEEDS[pick % len(NEEDS)])
        assert self.begin(at).unblock(queue, Need(*need), jobs_max) == self.model.unblock(queue, need, jobs_max)
        self.end(ending)

    # -- rules: operating --------------------------------------------------------------------------------------

    @rule(at=st.integers(0, 1), what=st.sampled_from(["revive", "cancel", "pause", "resume"]), pick=PICK, ending=ENDING)
    def operate(self, at: int, what: str, pick: int, ending: str) -> None:
        tx, model = self.begin(at), self.model
        if what == "revive":
            (job_id,) = self.ids([pick], [job.id for job in model.jobs.values() if job.state in REVIVABLE])
            assert outcome(lambda: tx.revive(job_id)) == outcome(lambda: model.revive(job_id))
        elif what == "cancel":
            (job_id,) = self.ids([pick], [job.id for job in model.jobs.values() if not job.state.final])
            assert outcome(lambda: tx.cancel(job_id)) == outcome(lambda: model.cancel(job_id))
        else:
            queue = self.queue(pick)
            tx.pause(queue, paused=what == "pause")
            (model.paused.add if what == "pause" else model.paused.discard)(queue)
        self.end(ending)

    @rule(at=st.integers(0, 1), old=PICK, new=QUEUES, picks=PICKS, ending=ENDING)
    def move(self, at: int, old: int, new: str, picks: list[int], ending: str) -> None:
        tx, queue = self.begin(at), self.queue(old)
        ids = self.ids(picks, [job.id for job in self.model.jobs.values() if job.queue == queue])
        assert tx.move(queue, new, ids) == self.model.move(queue, new, ids)
        self.end(ending)

    @precondition(something_ended)
    @rule(at=st.integers(0, 1), picks=PICKS, ending=ENDING)
    def remove(self, at: int, picks: list[int], ending: str) -> None:
        tx, ids = self.begin(at), self.ids(picks, [job.id for job in self.model.final()])
        assert tx.remove(ids) == self.model.remove(ids)
        self.end(ending)

    @rule(at=st.integers(0, 1), what=st.sampled_from(["forget", "count", "own", "advance", "disown"]), pick=PICK,
          ending=ENDING)  # fmt: skip
    def keep_house(self, at: int, what: str, pick: int, ending: str) -> None:
        tx, model, owners = self.begin(at), self.model, sorted(self.model.owners)
        if what == "forget":
            before, rows_max = model.now - pick % 300 + 100, pick % 3 + 1
            assert tx.forget_requests(before, rows_max) == model.forget_requests(before, rows_max)
        elif what == "count":
            tx.count_stale(pick)
            tx.set_setting("prune_after", pick)
            model.settings = {"stale": model.settings["stale"] + pick, "prune_after": pick}
        elif what == "own" or not owners:
            self.incarnation += 1
            owner = Owner("host", "boot", 1, pick, self.incarnation, "fifo", f"slots/{pick}", 1, 2)
            model.owners[tx.own(owner)] = [owner, 0, 0]
        elif what == "advance":
            tx.advance(owners[pick % len(owners)], pick, pick * 8)
            model.owners[owners[pick % len(owners)]][1:] = [pick, pick * 8]
        else:
            tx.disown(owners[pick % len(owners)])
            del model.owners[owners[pick % len(owners)]]
        self.end(ending)

    @rule(ending=ENDING)
    def finish_transaction(self, ending: str) -> None:
        self.end(ending)

    # -- what must always hold ---------------------------------------------------------------------------------

    @invariant()
    def agree(self) -> None:
        """Everything that can be asked is answered as the model does, within a transaction and outside of one."""
        if self.context:
            self.answers_agree(self.tx)
            return
        assert self.backend.complaints() == []
        self.places_agree()
        self.looks += 1
        if self.looks % READ_EVERY == 0:
            self.reader_agrees()
        for store in self.stores:
            with store.transaction(self.model.now) as tx:
                self.answers_agree(tx)

    def places_agree(self) -> None:
        """No job lost, none in two places, none held by two leases; by rows, not by verbs."""
        expected = {
            job.id: [f"lease {job.holder}" if job.state is State.RUNNING else job.state.value]
            for job in self.model.jobs.values()
        }
        assert self.backend.places() == expected

    def reader_agrees(self) -> None:
        """What people are shown, on a connection of its own."""
        jobs = sorted(self.model.jobs.values(), key=lambda job: job.id, reverse=True)
        shown = [
            (one["id"], one["queue"], one["state"], one["attempt"], one["error"], instant_of(one))
            for one in self.reader.jobs(limit=0)
        ]
        assert shown == [
            (
                job.id,
                job.queue,
                job.state.value,
                job.shown_attempt,
                None if job.state is State.COMPLETED else job.last_error,
                instant(job.time) if job.state.final or job.state is State.SCHEDULED else None,
            )
            for job in jobs
        ]
        for state in State:
            ids = [job["id"] for job in self.reader.jobs(state=state, limit=0)]
            assert ids == [job.id for job in jobs if job.state is state]
        for job in jobs[:3]:
            whole = self.reader.job(job.id)
            assert whole is not None
            assert [(error["attempt"], error["kind"]) for error in whole["errors"]] == job.errors

    def answers_agree(self, tx: Tx) -> None:
        model = self.model
        ids = [*sorted(model.jobs), model.next_id, 0]
        standing = {i: (one.queue, one.state, one.history, one.token) for i, one in tx.standing(ids).items()}
        jobs = model.jobs.values()
        assert standing == {job.id: (job.queue, job.state, History(*job.spent), job.holder) for job in jobs}
        facts = {i: (one.queue, one.priority, one.options, one.cancel_at_ms) for i, one in tx.facts(ids).items()}
        assert facts == {job.id: (job.queue, job.priority, job.options, job.cancel_at) for job in jobs}
        counts = {(queue, state): n for queue, row in tx.counts().items() for state, n in row.items() if n}
        assert counts == model.counts()
        for queue in ORDERS:
            assert tx.paused(queue) == (queue in model.paused)
            assert tx.waiting(queue) == (0 if queue in model.paused else len(model.ready(queue)))
            assert tx.ids_of(queue, 0, 1_000) == sorted(job.id for job in jobs if job.queue == queue)
        assert {queue: set(needs) for queue, needs in tx.needs().items()} == model.needs()
        self.leases_agree(tx)
        assert tx.next_due_ms() == model.next_due()
        finished, _ = tx.finished_after(0, 1_000, 2**62)
        assert [(one.id, one.queue, one.state, one.finished_at_ms) for one in finished] == [
            (job.id, job.queue, job.state, job.time) for job in model.final()
        ]
        assert {name: tx.setting(name) for name in model.settings} == model.settings
        owners = {one.id: (one.incarnation, one.read_sequence, one.read_offset) for one in tx.owners()}
        assert owners == {i: (one.incarnation, seq, offset) for i, (one, seq, offset) in model.owners.items()}

    def leases_agree(self, tx: Tx) -> None:
        model = self.model
        held = {token: (lease.owner, sorted(lease.jobs)) for token, lease in tx.open_leases().items() if lease.jobs}
        expected = model.open_leases()
        assert held == {token: (model.leases[token].owner, sorted(ids)) for token, ids in expected.items()}
        for token, ids in expected.items():
            again = tx.leased_jobs(token)
            assert again is not None
            assert [self.shown(job) for job in again.jobs] == [self.expected(model.jobs[i]) for i in ids]


def instant_of(shown: dict[str, Any]) -> Any:
    """When a job ended, or else when it is due."""
    return shown["finished_at"] or shown["due_at"]


def outcome(act: Callable[[], Any]) -> Any:
    """What a verb returned, or how it refused, in words common to the store and the model."""
    try:
        return act()
    except (IllegalTransition, Refused):
        return "refused"
    except (UnknownJob, Unknown):
        return "unknown"


FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where the databases of the examples lie: memory, if there is some, since none of them tests the disk."""

_template: list[Path] = []


def template() -> Path:
    """An empty database, migrated once."""
    if not _template:
        path = Path(tempfile.mkdtemp(prefix="jobsup-template-", dir=FAST)) / "empty.db"
        open_store(str(path), "relaxed", create=True, migrate=True).close()
        _template.append(path)
    return _template[0]


@pytest.fixture(scope="module", autouse=True)
def _tidy() -> Iterator[None]:
    yield
    while _template:
        shutil.rmtree(_template.pop().parent)


SIZE = settings(
    max_examples=2_000 if CAMPAIGN else 60,
    stateful_step_count=80 if CAMPAIGN else 40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.campaign
@pytest.mark.timeout(7_200 if CAMPAIGN else 120)
def test_the_store_does_what_the_model_does() -> None:
    run_state_machine_as_test(StoreMachine, settings=SIZE)
