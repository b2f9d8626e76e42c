"""The program goes on where the store ends: consumers that fetch, code that is deployed, by the keeper's own passes.

What the keeper does about a word, a loan or a version is its own code; what must come of it is computed by the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw

from supervisor.errors import JobsupError, StaleLease
from supervisor.job import State as JobState
from supervisor.keeper import consuming, lending, parking
from supervisor.keeper.fetches import NOTHING, Asked, Fetching
from supervisor.keeper.settling import Report, apply
from supervisor.keeper.state import State
from supervisor.keeper.work import Work
from supervisor.store.protocol import Lease
from supervisor.wire import messages
from supervisor.wire.connection import Peer
from tests.model import flow_code
from tests.model.flow_model import Job, Loan
from tests.model.flow_world import QUEUES, RESULTS, FlowWorld

TOML = """
[defaults]
max_attempts = 3
backoff = { base = "500ms", factor = 1.0, max = "500ms", jitter = 0.0 }
[queues]
fifo = { handler = "m:f" }
lifo = { handler = "m:f", order = "lifo" }
prio = { handler = "m:f", order = "priority" }
told = { handler = "m:f" }
pull = { pull = true, timeout = "4s" }
tasks = { handler = "app.tasks" }
side = {}
[pools]
before = { sources = ["side"], handler = "old.tasks" }
after = { sources = ["side"], handler = "new.tasks" }
"""
MAX_ATTEMPTS, BACKOFF_MS, TIMEOUT_MS, MAX_INTERRUPTIONS, GRACE_MS = 3, 500, 4_000, 20, 10_000
POOLS = ("tasks", "before", "after")
FETCHES_MAX = 3
LATE_MAX = 100


class Silence:
    """Nobody reads the log."""

    def emit(self, *_: Any, **__: Any) -> None:
        """Say nothing."""


class Line:
    """A consumer's connection."""

    def __init__(self) -> None:
        self.closed = False
        self.peer = Peer(42, 0, 0)

    def if_lost(self, call: Callable[[], None]) -> None:
        """It takes all answers at once."""


class Waiting:
    """A fetch and its answer. `leaves`: its consumer is gone when it is answered."""

    def __init__(self, request: messages.Fetch, over_ms: int, *, leaves: bool) -> None:
        self.line: Any = Line()
        self.request = request
        self.leaves = leaves
        self.told: list[Any] = []
        self.fetching = Fetching(self.line, request, "", self._tell, self.told.append, over_ms)

    def _tell(self, shown: dict[str, Any]) -> bool:
        self.told.append(shown)
        return True


class KeeperWorld(FlowWorld):
    """A world with a keeper, consumers and code."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.boots = 1
        self.code: dict[str, str] = {}
        self.keys = 0
        self._wake()

    @property
    def boot_id(self) -> str:
        return f"boot {self.boots}"

    def _wake(self) -> None:
        """A keeper begins, and takes up what the rows know."""
        log: Any = Silence()
        self.state = State(self.spec, self.store, log, self.boot_id, 1)
        self.fetches: list[Waiting] = []
        self.undelivered: list[int] = []
        with self.work() as work:
            parking.adopt(work)
            consuming.adopt(work)
        self.model.adopted(self.boot_id, self.boot_ms, GRACE_MS)
        for pool, code in self.code.items():
            known = self.state.tasks.table(pool).keys()
            assert known == flow_code.RUNS[code].keys(), f"{pool} has published {code}, and {known} are known"

    @contextmanager
    def work(self) -> Iterator[Work]:
        """A pass, which takes the time it needs."""
        with self.begin() as tx:
            work = Work(self.state, tx, self.now, self.boot_ms)
            work.late = lambda _until_us: False  # type: ignore[method-assign]
            yield work
        work.committed()

    def die(self) -> bool:
        """With the keeper goes what it remembers; sometimes the next one dies soon, or the host is started anew."""
        super().die()
        if self.chance.random() < 0.2:
            self.boots += 1
            self.boot_ms = self.chance.randint(1_000, 2_000_000)
        self._wake()
        if self.chance.random() < 0.3:
            self.boot_ms += self.chance.randint(1, GRACE_MS)
            self.backend.crash(self.store)
            self.store = self.backend.open()
            self._wake()
        return True

    def time(self) -> bool:
        found = super().time()
        if self.chance.random() < 0.5:
            self.attend()
        return found

    # -- a pass --------------------------------------------------------------------------------------------------

    def attend(self, follow: Callable[[], None] = lambda: None) -> None:
        """What a pass does for consumers and code; `follow` lets the model do what was said."""
        with self.work() as work:
            consuming.hear(work)
            lending.take_back_undelivered(work)
            consuming.end_over(work)
            parking.keep_up(work)
            unparked = self._unparked(work)
            for each in self.fetches:
                if each.leaves:
                    work.afterwards(partial(setattr, each.line, "closed", True))
            lending.lend_out(work)
            lent = {token: list(work.tx.open_leases()[token].jobs) for token in work.tx.loans()}
        self.state.lending.end(self.boot_ms)
        follow()
        self._take_back()
        self._end_over()
        self._unpark(unparked, self._may_run)
        self._answered(lent)
        self.model.forget_loans()

    def _take_back(self) -> None:
        """What a consumer was never told of goes back."""
        for token in self.undelivered:
            for job_id in self.model.held(token):
                self._back(token, job_id)
        self.undelivered = []

    def _end_over(self) -> None:
        for token in self.model.over(self.boot_ms):
            spared = self.model.loans[token].spared
            for job_id in self.model.held(token):
                job = self.model.job(job_id)
                if spared == 2 and not job.wished:
                    self._interrupted(token, job)
                else:
                    self._failed(token, job)

    def _interrupted(self, token: int, job: Job) -> None:
        charged = (job.failures, job.interruptions + 1)
        self.over.append((token, job.id))
        if charged[1] > MAX_INTERRUPTIONS:
            self.model.finish(token, job.id, "dead", charged)
        else:
            self.model.back(token, job.id, charged)

    def _failed(self, token: int, job: Job, retry_ms: int | None = None, *, final: bool = False) -> None:
        """A failure: again later, or dead when there were as many as may be."""
        charged = (job.failures + 1, job.interruptions)
        self.over.append((token, job.id))
        if job.wished:
            self.model.finish(token, job.id, "cancelled")
        elif final or charged[0] >= MAX_ATTEMPTS:
            self.model.finish(token, job.id, "dead", charged)
        else:
            self.model.later(token, job.id, self.now + (BACKOFF_MS if retry_ms is None else retry_ms), charged)

    def _back(self, token: int, job_id: int, delay_ms: int | None = None) -> None:
        """Handed back; one that was cancelled meanwhile ends."""
        job = self.model.job(job_id)
        self.over.append((token, job_id))
        if job.wished:
            self.model.finish(token, job_id, "cancelled")
        elif delay_ms is None:
            self.model.back(token, job_id)
        else:
            self.model.later(token, job_id, self.now + delay_ms, (job.failures, job.interruptions))

    def _answered(self, lent: dict[int, list[int]]) -> None:
        """Every fetch that could be answered is, each with jobs that were free, and with what they must know."""
        for each in list(self.fetches):
            if each.leaves:
                self.fetches.remove(each)
                assert not each.told
            elif each.told:
                self.fetches.remove(each)
                self._told_of(each)
        for token in lent.keys() - self.model.loans.keys():
            self._lent(token, lent[token], TIMEOUT_MS, None)
            self.undelivered.append(token)
        if self.fetches:
            assert not self.model.queued("pull"), "a fetch waits, and there are jobs"

    def _told_of(self, each: Waiting) -> None:
        (answer,) = each.told
        if answer == NOTHING:
            assert each.fetching.over_ms <= self.boot_ms
            return
        ids = [job["id"] for job in answer["jobs"]]
        if answer["repeated"]:
            assert self.model.loans[answer["token"]].key == each.request.key
            assert sorted(ids) == self.model.held(answer["token"])
        else:
            asked_before = [loan.key for token, loan in self.model.loans.items() if self.model.held(token)]
            assert each.request.key is None or each.request.key not in asked_before, "asked again, it has other jobs"
            lease_ms = each.request.lease_ms or TIMEOUT_MS
            self._lent(answer["token"], ids, lease_ms, each.request.key)
        for shown in answer["jobs"]:
            job = self.model.job(shown["id"])
            assert (shown["token"], shown["attempt"]) == (answer["token"], 1 + job.failures)
            assert _plain(shown["flow"]) == (self.model.fed(job) if job.told else None)

    def _lent(self, token: int, ids: Sequence[int], lease_ms: int, key: str | None) -> None:
        self.model.lease("pull", token, ids)
        self.model.lend(token, Loan(self.boot_ms + lease_ms, lease_ms, key, self.boot_id))

    # -- consumers -----------------------------------------------------------------------------------------------

    def fetch(self) -> bool:
        """A consumer asks for jobs, or asks again under the key of a lease that it has."""
        idle = not self.model.queued("pull") and self.chance.random() < 0.8
        if idle or len(self.fetches) >= FETCHES_MAX:
            return False
        chance = self.chance
        keys = [loan.key for token, loan in self.model.loans.items() if loan.key and token not in self.undelivered]
        self.keys += 1
        key = chance.choice(keys) if keys and chance.random() < 0.2 else chance.choice([None, f"key {self.keys}"])
        leaves = key not in keys and chance.random() < 0.05
        lease_ms = None if leaves else chance.choice([None, 100, 1_000, 5_000])
        request = messages.Fetch(
            v=1, id=1, queue="pull", jobs_max=chance.randint(1, 4), lease_ms=lease_ms, consumer=chance.choice("ab"),
            key=None if leaves else key,
        )  # fmt: skip
        each = Waiting(request, self.boot_ms + chance.randint(1, 3_000), leaves=leaves)
        self.fetches.append(each)
        self.state.lending.add(each.fetching, self.boot_ms)
        before = len(self.model.loans)
        self.attend()
        return len(self.model.loans) > before

    def say(self) -> bool:
        """A consumer says something of what it holds."""
        if not self.model.loans:
            return False
        token = self.chance.choice(sorted(self.model.loans))
        job = self.model.job(self.chance.choice(self.model.held(token)))
        kind = self.chance.choices(("ack", "fail", "release", "extend"), (50, 15, 10, 25))[0]
        request, follow = getattr(self, f"_{kind}")(token, job)
        answer = self._ask(request)

        def heard() -> None:
            assert not isinstance(answer[0], JobsupError), answer
            follow(answer[0])

        self.attend(heard)
        return True

    def _ask(self, request: messages.Writing) -> list[Any]:
        told: list[Any] = []
        self.state.lending.asked.append(Asked(request, "", told.append, told.append, None))
        return told

    def _ack(self, token: int, job: Job) -> tuple[messages.Ack, Callable[[Any], None]]:
        raw, result = self.chance.choice(RESULTS)
        joins = job.told and self.chance.random() < 0.5
        child = messages.ChildJob(queue="fifo", payload=Raw(b"3"), joins=joins)
        children = (child,) if self.chance.random() < 0.2 else ()
        request = messages.Ack(v=1, id=1, job=job.id, token=token, result=Raw(raw or b"null"), enqueue=children)

        def follow(answer: Any) -> None:
            assert (answer["state"], answer["repeated"]) == ("completed", False)
            self.over.append((token, job.id))
            self.model.complete(token, job.id, result)
            assert len(self.born) == len(children)
            for born in self.born:
                self.model.enqueue(Job(born, job.flow if joins else None, queue="fifo", told=joins))

        return request, follow

    def _fail(self, token: int, job: Job) -> tuple[messages.Fail, Callable[[Any], None]]:
        retry_ms, final = self.chance.choice([None, 100, 2_000]), self.chance.random() < 0.2
        request = messages.Fail(v=1, id=1, job=job.id, token=token, message="no", retry_in_ms=retry_ms, final=final)

        def follow(answer: Any) -> None:
            self._failed(token, job, retry_ms, final=final)
            assert answer["state"] == job.state

        return request, follow

    def _release(self, token: int, job: Job) -> tuple[messages.Release, Callable[[Any], None]]:
        ids, delay_ms = self.chance.choice([None, (job.id,)]), self.chance.choice([None, None, 700])
        request = messages.Release(v=1, id=1, token=token, ids=ids, delay_ms=delay_ms)

        def follow(answer: Any) -> None:
            held = self.model.held(token) if ids is None else list(ids)
            assert sorted(answer["done"]) == held
            for job_id in held:
                self._back(token, job_id, delay_ms)

        return request, follow

    def _extend(self, token: int, _: Job) -> tuple[messages.Extend, Callable[[Any], None]]:
        lease_ms = self.chance.choice([None, 100, 3_000])

        def follow(answer: Any) -> None:
            loan, held = self.model.loans[token], self.model.held(token)
            loan.lease_ms, loan.spared = lease_ms or loan.lease_ms, 0
            loan.until = self.boot_ms + loan.lease_ms
            assert sorted(answer["jobs"]) == held
            assert sorted(answer["cancelled"]) == [job_id for job_id in held if self.model.job(job_id).wished]

        return messages.Extend(v=1, id=1, token=token, lease_ms=lease_ms), follow

    def say_late(self) -> bool:
        """Whoever is late changes nothing, and hears of it; an `ack` that completed the job is only repeated."""
        late = self._late_for_another() or self.late()
        if late is None or late[1] not in self.model.steps:
            return False
        token, job = late[0], self.model.job(late[1])
        words = [
            messages.Ack(v=1, id=1, job=job.id, token=token),
            messages.Fail(v=1, id=1, job=job.id, token=token, message=""),
            messages.Release(v=1, id=1, token=token, ids=(job.id,)),
            *([] if token in self.model.loans else [messages.Extend(v=1, id=1, token=token)]),
        ]
        before, answers = self.backend_rows(), [self._ask(word) for word in words]
        with self.work() as work:
            consuming.hear(work)
        assert self.backend_rows() == before
        repeated = job.state == "completed" and job.ended_by == token
        for at, (answer,) in enumerate(answers):
            if repeated and at == 0:
                assert answer["repeated"]
            else:
                assert isinstance(answer, StaleLease), answer
        return False

    def _late_for_another(self) -> tuple[int, int] | None:
        """A token of late whose job another consumer has now."""
        lent = {job_id for token in self.model.loans for job_id in self.model.held(token)}
        found = [each for each in self.over[-LATE_MAX:] if each[1] in lent and not self.model.holds(*each)]
        return self.chance.choice(found) if found else None

    # -- code ----------------------------------------------------------------------------------------------------

    def publish(self) -> bool:
        """Code is deployed, newer or older: what waited for it goes on, and nothing else."""
        pool, code = self.chance.choice(POOLS), self.chance.choice(flow_code.NAMES)
        self.code[pool] = code
        self.state.tasks.publish(pool, flow_code.published(code))
        self.attend()
        assert not [job for job in self._parked() if self._may_run(job)], f"{code} was published"
        return True

    def _parked(self) -> list[Job]:
        return [job for job in self.model.jobs("blocked") if job.parked is not None]

    def _may_run(self, job: Job) -> bool:
        """Whether a parked job may go on by itself; in a queue that has no tasks anything runs."""
        assert job.parked is not None
        if job.queue == "tasks":
            return "tasks" in self.code and flow_code.runs(self.code["tasks"], job.parked)
        return job.queue in (*QUEUES, "told")

    def _unparked(self, work: Work) -> list[int]:
        """Those that were parked and are ready now."""
        parked = [job.id for job in self._parked()]
        found = work.tx.standing(parked) if parked else {}
        return [job_id for job_id, one in found.items() if one.state is not JobState.BLOCKED]

    def _unpark(self, ids: Sequence[int], may_run: Callable[[Job], bool]) -> None:
        for job in map(self.model.job, ids):
            assert may_run(job), f"{job} goes on, and there is no code for it"
            self.model.unpark(job)

    def work_tasks(self) -> bool:
        """A worker of a queue of tasks takes some, perhaps one whose code is older than what is published."""
        code = self.code.get("tasks")
        if code is None or not self.model.queued("tasks"):
            return False
        if self.chance.random() < 0.3:
            code = self.chance.choice(flow_code.NAMES[: flow_code.NAMES.index(code) + 1])
        with self.work() as work:
            lease = work.tx.lease("tasks", 1, self.chance.randint(1, 5), 1 << 40)
            jobs = self.leased("tasks", lease)
        self._run(code, jobs)
        return bool(jobs)

    def work_side(self) -> bool:
        """A worker of one of two pools takes some: it gets only what its code runs, and that comes first."""
        pool = self.chance.choice(POOLS[1:])
        code = self.code.get(pool)
        if code is None:
            return False
        with self.work() as work:
            parking.keep_up(work)
            self._unpark(self._unparked(work), self._may_run)
            parking.take_apart(work, pool, 100)
            self._unpark(self._unparked(work), partial(_for_code, code))
            assert not [job for job in self._parked() if _for_code(code, job)], f"{pool} runs {code}"
            lease = work.tx.lease("side", 1, self.chance.randint(1, 5), 1 << 40)
            jobs = self._diverted(work, pool, code, lease)
        self._run(code, jobs)
        return bool(jobs)

    def _diverted(self, work: Work, pool: str, code: str, lease: Lease | None) -> list[Job]:
        leased = self.leased("side", lease)
        kept = {job.id for job in parking.divert(work, pool, lease).jobs} if lease is not None else set()
        for job in leased:
            assert (job.id in kept) == flow_code.runs(code, job.need), f"{job} was given to {code}"
            if job.id not in kept:
                self.over.append((job.token or 0, job.id))
                self.model.park(job.token or 0, job.id, job.need)
        return [job for job in leased if job.id in kept]

    def _run(self, code: str, jobs: Sequence[Job]) -> None:
        if not jobs:
            return
        with self.work() as work:
            facts = work.tx.facts([job.id for job in jobs])
            for job in jobs:
                token = job.token or 0
                outcome = flow_code.run(code, job.id, token, job.need)
                assert flow_code.shows(code, job.need, outcome), f"{job} under {code}: {outcome}"
                self.over.append((token, job.id))
                apply(work, facts[job.id], Report(job.id, token, self.now, 0, outcome))
                if flow_code.runs(code, job.need):
                    self.model.complete(token, job.id, {"trail": flow_code.trail(code, job.need)})
                else:
                    self.model.park(token, job.id, job.need)


def _for_code(code: str, job: Job) -> bool:
    return job.queue == "side" and job.parked is not None and flow_code.runs(code, job.parked)


def _plain(shown: Any) -> Any:
    """What a consumer reads of an answer."""
    return msgspec.json.decode(msgspec.json.encode(shown))
