"""What can be made to befall a run: it fails, runs out of time, its worker crashes, or it is interrupted."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from supervisor.job import Job


class Fail(NamedTuple):
    """The handler is not called; it is as if it had raised this: an exception, or a text for a RuntimeError."""

    error: BaseException | str = "made to fail by a test"

    def exception(self) -> BaseException:
        """What is raised."""
        return RuntimeError(self.error) if isinstance(self.error, str) else self.error


class TimeOut(NamedTuple):
    """The handler is not called; it is as if it had gone on beyond its time.

    `killed`: it did not hear of that, and its worker had to be killed. Either way it is charged as a failure. The clock
    does not move.
    """

    killed: bool = False


class Crash(NamedTuple):
    """The worker dies while it runs the job: of a signal (9), or with an exit code. Charged as a crash.

    `after_handler`: the handler runs first, its effects are done, and the worker dies before the outcome is kept.
    """

    signal: int | None = None
    exit_code: int | None = None
    after_handler: bool = False


class Interrupt(NamedTuple):
    """The worker is ended by a stop or a reload while it runs the job. Charged to nobody.

    `after_handler`: as of `Crash`.
    """

    after_handler: bool = False


Disturbance = Fail | TimeOut | Crash | Interrupt


class WorkerDied(BaseException):
    """Ends a worker that lives in this process. `cause` is that of a certificate; no Exception: nobody catches it."""

    def __init__(self, cause: str, signal: int | None = None, exit_code: int | None = None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.signal = signal
        self.exit_code = exit_code


def death_of(disturbance: Disturbance) -> WorkerDied | None:
    """How the worker dies of it; None: it does not."""
    match disturbance:
        case Crash(None, None):
            return WorkerDied("exit", signal=9)
        case Crash(signal, exit_code):
            return WorkerDied("exit", signal, exit_code)
        case TimeOut(killed=True):
            return WorkerDied("timeout", signal=9)
        case Interrupt():
            return WorkerDied("stop", signal=15)
    return None


class Plan(NamedTuple):
    """What befalls which run: the n-th of each job that is meant, from 1; None: every one."""

    what: Disturbance
    run: int | None
    queue: str | None
    job: int | None
    task: str | None

    def means(self, job: Job, run: int) -> bool:
        """Whether this run of the job is meant."""
        return (
            self.run in (None, run)
            and self.queue in (None, job.queue)
            and self.job in (None, job.id)
            and self.task in (None, job.task)
        )


class Plans:
    """What is to come; of several that mean the same run, the one that was made last counts."""

    def __init__(self) -> None:
        self._plans: list[Plan] = []
        self._runs: Counter[int] = Counter()

    def add(self, plan: Plan) -> None:
        """Plan something."""
        self._plans.append(plan)

    def next_for(self, job: Job) -> Disturbance | None:
        """A run of the job begins: what befalls it."""
        self._runs[job.id] += 1
        run = self._runs[job.id]
        return next((plan.what for plan in reversed(self._plans) if plan.means(job, run)), None)
