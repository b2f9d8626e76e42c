"""Workers in this process: the real worker on a real slot, which runs a job when it is told to."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, cast

from supervisor.config.spec import Queue
from supervisor.job import (
    OUT_OF_TIME,
    Cancel,
    Course,
    Done,
    Failed,
    Job,
    JobTimeout,
    Outcome,
    RateLimited,
    Snooze,
    Unknown,
)
from supervisor.keeper.slots import Phase
from supervisor.policy.tasks import Known
from supervisor.testing.disturbances import Disturbance, Fail, Plans, TimeOut, WorkerDied, death_of
from supervisor.testing.handlers import Handler, Watch, executor_of, raising_to, surroundings
from supervisor.testing.keeper import InProcessKeeper
from supervisor.unix.chunk import decode_chunk
from supervisor.unix.clock import boot_id
from supervisor.unix.inheritance import BatchExecutor, Executor, WorkerInheritance
from supervisor.unix.slot import make_slot, open_directory
from supervisor.wire import control
from supervisor.worker.main import CHUNK_MESSAGE_MAX, Worker


class Run(NamedTuple):
    """One run of a job. `ended` is what came of the run; what becomes of the job then is the keeper's to decide.

    It is one of completed, failed, timed_out, snoozed, rate_limited, cancelled and blocked (no code knows its task);
    where the worker died, crashed or interrupted. `error` is what the handler raised.
    """

    job_id: int
    queue: str
    task: str | None
    attempt: int
    ended: str
    error: BaseException | None = None


WORDS: dict[type[Outcome], str] = {
    Done: "completed", Failed: "failed", Snooze: "snoozed", RateLimited: "rate_limited", Cancel: "cancelled",
    Unknown: "blocked",
}  # fmt: skip


def word_of(outcome: Outcome) -> str:
    """What an outcome is called."""
    timed_out = isinstance(outcome, Failed) and outcome.kind == "timeout"
    return "timed_out" if timed_out else WORDS[type(outcome)]


DEATHS = {"exit": "crashed", "timeout": "timed_out", "stop": "interrupted"}
"""What a run is called whose worker died, by the cause that its certificate names."""


class Stage(BatchExecutor):
    """The executor of a pool: calls its handler, unless a test has planned something else, and notes what came."""

    def __init__(
        self, queue: Queue, given: Handler | None, plans: Plans, runs: list[Run], keeper: InProcessKeeper
    ) -> None:
        self._queue = queue
        self._given = given
        self._plans = plans
        self._runs = runs
        self._clock = keeper.clock
        self._watch = Watch()
        self._executor: Executor | None = None
        self.deadlines: list[datetime] = []
        """Of the jobs that run now; a handler may run others while it waits for them."""

    @property
    def executor(self) -> Executor:
        """The queue's own, made when it is needed first: a test of one queue does not import the code of all."""
        if self._executor is None:
            with self._clock.lifted(), surroundings(self._queue):
                self._executor = executor_of(self._queue, self._watch, self._given)
                self._executor.prepare()
        return self._executor

    @property
    def known(self) -> tuple[Known, ...]:
        """The tasks that it runs."""
        return self.executor.known

    def prepare(self) -> None:
        """Nothing: that is done when the executor is made."""

    def defer(self) -> bool:
        """No signal interrupts here."""
        return False

    def interrupt(self) -> None:
        """No signal interrupts here."""

    @property
    def descriptor(self) -> None:
        """Nothing is waited for between jobs."""

    def attend(self) -> None:
        """Nothing happens between jobs."""

    @property
    def spent(self) -> bool:
        """Whether the queue's own can run no job any more."""
        return self._executor is not None and self._executor.spent

    def close(self) -> None:
        """End what the queue's own has started."""
        if self._executor is not None:
            self._executor.close()

    def run(self, job: Job, payload: bytes) -> Outcome:
        """Run a job.

        Raises:
            WorkerDied: that was planned.
            JobTimeout: likewise.
        """
        planned = self._plans.next_for(job)
        self._watch.raised = None
        try:
            outcome = self._perform(job, payload, planned)
        except WorkerDied as death:
            self._note(job, DEATHS[death.cause], None)
            raise
        except JobTimeout as error:
            self._note(job, "timed_out", error)
            raise
        self._note(job, word_of(outcome), self._watch.raised)
        return outcome

    def _perform(self, job: Job, payload: bytes, planned: Disturbance | None) -> Outcome:
        death = None if planned is None else death_of(planned)
        if death is not None and not getattr(planned, "after_handler", False):
            raise death
        if isinstance(planned, TimeOut):
            raise JobTimeout(OUT_OF_TIME)
        outcome = self._call(job, payload, planned)
        if death is not None:
            raise death
        return outcome

    def _call(self, job: Job, payload: bytes, planned: Disturbance | None) -> Outcome:
        executor: Executor
        if isinstance(planned, Fail):  # as the handler is not called, it need not be one that could be
            executor = raising_to(self._watch, _raiser(planned.exception()), self._queue)
        else:
            executor = self.executor
        self.deadlines.append(job.deadline)
        try:
            with self._clock.lifted(), surroundings(self._queue):
                outcome = executor.run(job, payload)
        finally:
            self.deadlines.pop()
        self._watch.let_through()
        return outcome

    def run_batch(self, jobs: Sequence[Job], outcomes: list[Outcome]) -> None:
        """Run jobs in one call. What ends the worker, or the time, of one of them does so for all.

        Raises:
            WorkerDied: that was planned for one of them.
            JobTimeout: likewise.
        """
        planned = {job.id: self._plans.next_for(job) for job in jobs}
        self._watch.raised = None
        try:
            found = self._perform_together(jobs, planned)
        except WorkerDied as death:
            self._note_all(jobs, DEATHS[death.cause], None)
            raise
        except JobTimeout as error:
            self._note_all(jobs, "timed_out", error)
            raise
        for job in jobs:
            outcome, failed_of = found[job.id]
            outcomes.append(outcome)
            self._note(job, word_of(outcome), failed_of)

    def _perform_together(
        self, jobs: Sequence[Job], planned: Mapping[int, Disturbance | None]
    ) -> dict[int, tuple[Outcome, BaseException | None]]:
        """The outcome of each job, and what it failed of; the handler is not given what is planned to fail."""
        deaths = [(what, death) for what in planned.values() if what is not None and (death := death_of(what))]
        for what, death in deaths:
            if not getattr(what, "after_handler", False):
                raise death
        if any(isinstance(what, TimeOut) for what in planned.values()):
            raise JobTimeout(OUT_OF_TIME)
        failing = {job_id: what for job_id, what in planned.items() if isinstance(what, Fail)}
        found = self._call_together([job for job in jobs if job.id not in failing])
        for job in jobs:
            if job.id in failing:
                error = failing[job.id].exception()
                outcome = raising_to(self._watch, _raiser(error), self._queue).run(job, b"")
                found[job.id] = outcome, error
        for _, death in deaths:
            raise death
        return found

    def _call_together(self, jobs: list[Job]) -> dict[int, tuple[Outcome, BaseException | None]]:
        outcomes: list[Outcome] = []
        if jobs:
            self.deadlines.append(jobs[0].deadline)
            try:
                with self._clock.lifted(), surroundings(self._queue):
                    cast("BatchExecutor", self.executor).run_batch(jobs, outcomes)
            finally:
                self.deadlines.pop()
            self._watch.let_through()
        errors = self._watch.errors(len(jobs))
        return {job.id: (outcome, error) for job, outcome, error in zip(jobs, outcomes, errors, strict=True)}

    def _note_all(self, jobs: Sequence[Job], ended: str, error: BaseException | None) -> None:
        for job in jobs:
            self._note(job, ended, error)

    def _note(self, job: Job, ended: str, error: BaseException | None) -> None:
        self._runs.append(Run(job.id, job.queue, job.task, job.attempt, ended, error))


def _raiser(error: BaseException) -> Callable[[Job], Any]:
    def handler(_: Job) -> Any:
        raise error

    return handler


class InProcessWorker(Worker):
    """A worker without a process and without signals: `step` runs what is in its socket."""

    def __init__(self, given: WorkerInheritance, keeper: InProcessKeeper) -> None:
        super().__init__(given)
        assert given.executor is not None
        self._executor = given.executor
        self._may_be_spent = True
        self._keeper = keeper
        self.busy = False

    @property
    def over(self) -> bool:
        """Whether it takes no more jobs: it has run as many as it may, or one has spoilt it."""
        return self._stopping or self._recycled()

    def step(self) -> bool:
        """Run the chunk that was sent; False if there is none.

        Raises:
            WorkerDied: in the middle of a job.
            BaseException: what a handler raised that is meant for the test.
        """
        try:
            data = self._sock.recv(CHUNK_MESSAGE_MAX, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        self.busy = True
        try:
            self._run_chunk(decode_chunk(data))
        finally:
            self.busy = False
        return True

    def _take_signals(self) -> None:
        """Signals are the test's."""

    def _course_of(self, told: Mapping[str, Any], job: Job) -> Course:
        """What a handler says of its progress, it says in virtual time."""
        course = super()._course_of(told, job)
        tell = course.tell

        def tell_in_time(fraction: float, text: str) -> None:
            with self._keeper.clock.ruling():
                tell(fraction, text)

        course.tell = tell_in_time
        return course

    def _await_room(self, length: int) -> None:
        """A ring without room: the keeper reads it, as it would meanwhile."""
        while not self._ring.has_room(length):
            self._unrung += 1
            self._ring_bell()
            self._keeper.rest()

    def close(self) -> None:
        """Close this end of the slot."""
        self._sock.close()
        os.close(self._folder)
        self._memory.close()


class Crew:
    """The workers of one pool, and what its foreman does: announce them, certify their deaths, replace them."""

    def __init__(self, pool: Queue, stage: Stage, keeper: InProcessKeeper, numbers: Callable[[], int]) -> None:
        self.stage = stage
        self._pool = pool
        self._keeper = keeper
        self._numbers = numbers
        self._link = keeper.foreman(pool.name)
        self._workers: dict[int, InProcessWorker] = {}
        self._folders: dict[int, str] = {}

    def publish(self) -> None:
        """Say which tasks the code of the pool knows, as a foreman does after its import."""
        if self._pool.has_tasks:
            self._keeper.state.tasks.publish(self._pool.name, self.stage.known)

    def hire(self) -> None:
        """One more worker, which is given nothing before `let_work`."""
        number = self._numbers()
        slot = make_slot(self._keeper.state.spec.daemon.run_dir, number, self._pool.name, boot_id())
        given = WorkerInheritance(
            self._pool, slot.worker_end.dup(), open_directory(slot.directory), -1, -1, self.stage, _nothing_to_load
        )
        self._workers[number] = InProcessWorker(given, self._keeper)
        self._folders[number] = slot.directory
        self._keeper.private.add_slot(slot)
        self._link.send(control.Started(number, 0, 0, 0))
        self._keeper.rest()

    def let_work(self, working: bool) -> None:
        """Have the workers take jobs, or be as if each was busy with something else."""
        phase = Phase.READY if working else Phase.STARTED
        for number in self._workers:
            slot = self._keeper.state.slots[number]
            slot.phase = phase
        self._keeper.state.wants_lease |= working

    def step(self) -> bool:
        """Have the first worker that was sent something run it; False: none was."""
        for number, worker in list(self._workers.items()):
            if worker.busy:
                continue
            try:
                with self._keeper.clock.ruling():
                    stepped = worker.step()
            except WorkerDied as death:
                self._bury(number, death)
                return True
            except BaseException:
                self._bury(number, WorkerDied("stop"))
                raise
            if stepped:
                self._keeper.rest()
                if worker.over:
                    self._bury(number, WorkerDied("exit", exit_code=0))
                return True
        return False

    def _bury(self, number: int, death: WorkerDied) -> None:
        """Certify a death, wait for the verdict, and hire a replacement that works at once."""
        slot = self._keeper.state.slots[number]
        jobs = tuple(cell.id for cell in slot.memory.cells()) if death.cause == "timeout" else ()
        certificate = control.Certificate(
            number, slot.incarnation, 0, death.cause, exit_code=death.exit_code, signal=death.signal, jobs=jobs
        )
        self._link.send(certificate)
        self._keeper.rest()
        self._dismiss(number)
        self.hire()
        self.let_work(True)

    def _dismiss(self, number: int) -> None:
        self._workers.pop(number).close()
        shutil.rmtree(self._folders.pop(number), ignore_errors=True)

    def close(self) -> None:
        """Dismiss all."""
        for number in list(self._workers):
            self._dismiss(number)


def _nothing_to_load(_: Queue) -> Executor:
    raise RuntimeError("a worker in this process is given its executor")
