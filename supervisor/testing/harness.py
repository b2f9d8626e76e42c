"""A whole queue in this process: the keeper's own decisions on a database of its own, under a virtual clock."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, SupportsIndex

from supervisor.client import Client
from supervisor.config.load import load_main
from supervisor.config.spec import Spec
from supervisor.errors import UnknownQueue, UsageError
from supervisor.job import OUT_OF_TIME, Duration, JobTimeout, State
from supervisor.policy.duration import to_ms
from supervisor.shapes import JobStatus
from supervisor.testing import enqueued
from supervisor.testing.client import HarnessClient
from supervisor.testing.clock import VirtualClock
from supervisor.testing.disturbances import Disturbance, Plan, Plans
from supervisor.testing.enqueued import Enqueued
from supervisor.testing.folder import placed
from supervisor.testing.handlers import Handler, importable
from supervisor.testing.keeper import InProcessKeeper
from supervisor.testing.workers import Crew, Run, Stage

AT_ONCE = ('daemon.durability="relaxed"', 'intake.acknowledge="committed"')
"""What put over a configuration has everything written when a call returns, and nothing waited for."""
RUNS_MAX = 10_000
UNFINISHED = tuple(state.value for state in State if not state.final)


class Harness:
    """Runs jobs of your own configuration in this process, when you say so, at the time that you say.

    Nothing runs but in `drain`, `advance`, and while `client.wait` or `client.fetch` waits. Use it from one thread, and
    close it.
    """

    def __init__(
        self, config: str | os.PathLike[str] | None = None, *, now: datetime | str | None = None, workers: int = 1,
        handlers: Mapping[str, Handler] | None = None, overrides: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Args:
            config: the configuration; None: looked up as `jobsctl` does.
            now: what the clock shows at first: a datetime with a time zone, or RFC 3339 text; None: the machine's time.
            workers: how many each pool has. With one, jobs run in exactly the order of their queue.
            handlers: what runs the jobs of a pool in the place of what the configuration names, by the pool's name.
            overrides: "section.key=value", put over the values of the configuration.

        Raises:
            ConfigError: the configuration cannot be used.
            HandlerUnusable: a module of tasks cannot be imported. Others are imported when their first job runs.
            UnknownQueue: `handlers` names no pool.
            ValueError: `now` is no instant.
        """  # fmt: skip
        self.clock = VirtualClock(now)
        self._closing = contextlib.ExitStack()
        try:
            self._open(config, overrides, workers, handlers or {})
        except BaseException:
            self._closing.close()
            raise

    def _open(
        self, config: str | os.PathLike[str] | None, overrides: Sequence[str], workers: int,
        handlers: Mapping[str, Handler],
    ) -> None:  # fmt: skip
        folder = Path(tempfile.mkdtemp(prefix="jobsup-"))
        self._closing.callback(shutil.rmtree, folder, ignore_errors=True)
        spec = load_main(config, (*overrides, *placed(folder), *AT_ONCE))
        self._closing.enter_context(importable([one for pool in spec.workplaces.values() for one in pool.python_path]))
        self._keeper = InProcessKeeper(spec, folder, self.clock)
        self._closing.callback(self._keeper.close)
        self._log = folder / "keeper.log"
        self._plans, self._runs, self._numbers = Plans(), list[Run](), itertools.count(1)
        for name in handlers.keys() - spec.workplaces.keys():
            raise UnknownQueue(f"there is no pool {name} to give a handler", hint=f"there are {_listed(spec)}")
        self._crews: list[Crew] = []
        for name, pool in spec.workplaces.items():
            stage = Stage(pool, handlers.get(name), self._plans, self._runs, self._keeper)
            crew = Crew(pool, stage, self._keeper, lambda: next(self._numbers))
            self._closing.callback(crew.close)
            self._crews.append(crew)
            crew.publish()
            for _ in range(workers):
                crew.hire()
        self._keeper.rest()
        client = HarnessClient(self._keeper, self._proceed)
        self._closing.callback(client.end)
        self.client: Client[int] = client
        """For the application under test, in the place of its own. Each enqueue is committed when it returns."""

    def close(self) -> None:
        """Delete the database and all else; tolerates being called again."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- time and work -----------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """What the virtual clock shows, in UTC."""
        return self.clock.now

    def drain(self, *, until_empty: bool = False, raising: bool = False, runs_max: int = RUNS_MAX) -> list[Run]:
        """Run jobs that are due, and those that they enqueue, until none is left; the runs, in their order.

        In a queue of batches a call takes what is there: `batch_wait` passes in `advance` only.

        Args:
            until_empty: then move the clock to when the next job is due, and go on, until every job is final or waits
                for something that time does not bring: a pause, or code. Schedules fire on the way.
            raising: raise what the first handler raised, after its failure was written.
            runs_max: what is too much: jobs that enqueue or snooze themselves for ever.

        Raises:
            AssertionError: there were more runs than that.
        """
        before = len(self._runs)
        with self._impatient():
            self._work(before, runs_max, raising=raising)
            while until_empty and self._unfinished() and self._jump(None, schedules=False):
                self._work(before, runs_max, raising=raising)
        return self._runs[before:]

    @contextlib.contextmanager
    def _impatient(self) -> Any:
        """In this block a batch is what is there: what waits does not wait for others."""
        gathering = self._keeper.state.gathering
        gathering.patient = False
        try:
            yield
        finally:
            gathering.patient = True

    def advance(
        self, duration: Duration, *, work: bool = True, raising: bool = False, runs_max: int = RUNS_MAX
    ) -> list[Run]:
        """Move the clock, through all that comes to be due on the way; the runs, in their order.

        Jobs run at their times, as on workers that are free; with `work=False` on none, so that what is due waits, and
        what may only be started for a time expires. Schedules fire, retention deletes.

        Raises:
            AssertionError: there were more runs than `runs_max`.
            UsageError: it is no duration.
        """
        until_ms = self.clock.boot_ms() + _milliseconds(duration)
        before = len(self._runs)
        while True:
            if work:
                self._work(before, runs_max, raising=raising)
            self._keeper.rest()
            if not self._jump(until_ms, schedules=True):
                break
        self.clock.move(max(0, until_ms - self.clock.boot_ms()))
        self._keeper.keep_house()
        if work:
            self._work(before, runs_max, raising=raising)
        return self._runs[before:]

    def spend(self, duration: Duration) -> None:
        """For handlers under test: let virtual time pass as if the work took so long.

        Raises:
            JobTimeout: the job's time is over before; the clock shows then when that was.
            UsageError: it is no duration.
        """
        ms = _milliseconds(duration)
        deadlines = [deadline for crew in self._crews for deadline in crew.stage.deadlines]
        if not deadlines:
            raise UsageError("spend is for a handler that runs; to move the clock there is advance")
        left_ms = round((min(deadlines) - self.now).total_seconds() * 1000)
        self.clock.move(max(0, min(ms, left_ms)))
        if ms >= left_ms:
            raise JobTimeout(OUT_OF_TIME)

    def _work(self, before: int, runs_max: int, *, raising: bool) -> None:
        seen = len(self._runs)
        with self._working():
            while self._step():
                if len(self._runs) - before > runs_max:
                    last = self._runs[-1]
                    raise AssertionError(
                        f"more than {runs_max} runs, the last of job {last.job_id} of {last.queue} ({last.ended}): "
                        "do jobs enqueue each other for ever? runs_max sets another bound"
                    )
                for run in self._runs[seen:] if raising else ():
                    if run.error is not None:
                        raise run.error
                seen = len(self._runs)

    def _step(self) -> bool:
        """Have one worker run what it is given; False: no worker is given anything."""
        for crew in self._crews:
            crew.let_work(True)
        self._keeper.state.mean_us.clear()  # jobs are handed out singly while nobody knows how long they take
        self._keeper.rest()
        return any(crew.step() for crew in self._crews)

    @contextlib.contextmanager
    def _working(self) -> Any:
        try:
            yield
        finally:
            for crew in self._crews:
                crew.let_work(False)

    def _proceed(self) -> bool:
        """Somebody waits for an answer: run a job, else move the clock to what is due next."""
        with self._working():
            return self._step() or self._jump(None, schedules=True)

    def _jump(self, until_ms: int | None, *, schedules: bool) -> bool:
        """Move the clock to what is due next, and no further than this; False: there is nothing."""
        at_ms = self._keeper.next_ms(schedules=schedules)
        if at_ms is None or (until_ms is not None and at_ms > until_ms):
            return False
        self.clock.move(at_ms - self.clock.boot_ms())
        self._keeper.keep_house()
        return True

    def _unfinished(self) -> bool:
        return any(counts[state] for counts in self._keeper.reader.counts().values() for state in UNFINISHED)

    # -- what befalls jobs -------------------------------------------------------------------------------------

    def plan(
        self, what: Disturbance, *, run: int | None = 1, queue: str | None = None, job: SupportsIndex | None = None,
        task: str | None = None,
    ) -> None:  # fmt: skip
        """Have something befall runs: `Fail`, `TimeOut`, `Crash` or `Interrupt`.

        Args:
            what: what happens.
            run: which run of each job, counted from 1 over all its attempts; None: every one.
            queue: of which queue; None: of any.
            job: of which job alone.
            task: of which task.

        Of several plans that mean the same run, the one that was made last counts.
        """
        self._plans.add(Plan(what, run, queue, None if job is None else job.__index__(), task))

    # -- what there is -----------------------------------------------------------------------------------------

    def job(self, job: SupportsIndex) -> JobStatus:
        """All about a job, as `Client.status` says it.

        Raises:
            UnknownJob: no job has that id.
        """
        return self.client.status(job)

    def counts(self, queue: str) -> dict[str, int]:
        """How many jobs of a queue are in each state.

        Raises:
            UnknownQueue: no such queue.
        """
        counts = self._keeper.reader.counts().get(queue)
        if counts is None and self._keeper.state.spec.queue(queue) is None:
            raise UnknownQueue(f"there is no queue {queue}", hint=f"there are {_listed(self._keeper.state.spec)}")
        return counts or dict.fromkeys((state.value for state in State), 0)

    @property
    def runs(self) -> list[Run]:
        """Every run so far, in order."""
        return list(self._runs)

    @property
    def enqueued(self) -> list[Enqueued]:
        """Every job that is there, in the order of ids, whoever enqueued it: client, handlers, schedules, callbacks."""
        self._keeper.rest()
        reader = self._keeper.whole
        found = (reader.job(listed["id"]) for listed in reader.jobs(limit=0))
        return [_enqueued(shown) for shown in found if shown is not None][::-1]

    @property
    def log(self) -> str:
        """What the keeper has logged, down to level debug."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def assert_enqueued(self, queue: str, *, count: int | None = None, **wanted: Any) -> list[Enqueued]:
        """Assert that such a job is there, in whatever state; see `supervisor.testing.assert_enqueued`.

        Raises:
            AssertionError: it shows what is there instead.
        """
        __tracebackhide__ = True
        return enqueued.assert_enqueued(self.enqueued, queue, count=count, **wanted)

    def assert_not_enqueued(self, queue: str, **wanted: Any) -> None:
        """Assert that no such job is there, in whatever state.

        Raises:
            AssertionError: it shows them.
        """
        __tracebackhide__ = True
        enqueued.assert_not_enqueued(self.enqueued, queue, **wanted)


def _listed(spec: Spec) -> str:
    return ", ".join(sorted(spec.workplaces))


def _enqueued(shown: Mapping[str, Any]) -> Enqueued:
    return Enqueued(
        shown["queue"], shown["payload"], shown["task"], shown["key"], shown["priority"], tuple(shown["tags"]),
        shown["due_at"], shown["state"], shown["id"], shown["idempotency_key"],
    )  # fmt: skip


def _milliseconds(duration: Duration) -> int:
    try:
        return to_ms(duration)
    except ValueError as error:
        raise UsageError(str(error)) from None
