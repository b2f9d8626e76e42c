"""Runs a Python callable of a list of jobs: `handler = "package.module:function"` in a queue with `batch_size`.

Each job has an outcome of its own. What the handler returns says it: a list with one entry for each job, in their
order, and each entry is what a handler of one job could return, or an exception, as if that had raised it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from supervisor.job import Done, Failed, Job, JobTimeout, Outcome
from supervisor.worker.executors.python import PythonExecutor, failure_of, trace_of


class BatchExecutor(PythonExecutor):
    """Calls the handler with the jobs of a batch, and turns what comes of it into an outcome for each."""

    def run(self, job: Job, payload: bytes) -> Outcome:  # noqa: ARG002 - commands take it as text
        """Run a batch of one."""
        outcomes: list[Outcome] = []
        self.run_batch([job], outcomes)
        return outcomes[0]

    def run_batch(self, jobs: Sequence[Job], outcomes: list[Outcome]) -> None:
        """Run the jobs in one call; `outcomes` gets one for each, in their order.

        It is filled one by one: what is in it counts, should the deadline pass between two of them.
        Raises nothing, whatever the handler does, but for the deadline's own exception.
        """
        try:
            returned = self._handler(list(jobs))  # a list of its own: it may take it apart
            wrong = misfit(returned, len(jobs))
            if wrong is not None:
                outcomes.extend([wrong] * len(jobs))
                return
            entries = [None] * len(jobs) if returned is None else list(returned)
            for job, entry in zip(jobs, entries, strict=True):
                outcomes.append(Done(None) if entry is None else self._outcome_of(job, entry))
        except BaseException as error:  # noqa: BLE001 - the executor boundary: user code may raise anything
            failed = failure_of(error, trace_of(error))
            outcomes.extend(self._with_backoff(failed, job, error) for job in jobs[len(outcomes) :])

    def _outcome_of(self, job: Job, entry: Any) -> Outcome:
        """What one entry says; one that says nothing, such as a delay that is none, is its own job's failure."""
        if isinstance(entry, BaseException):
            return self._with_backoff(failure_of(entry, trace_of(entry, caught=True)), job, entry)
        try:
            return self._outcome(entry)
        except JobTimeout:
            raise
        except BaseException as error:  # noqa: BLE001 - the executor boundary: user code may raise anything
            return self._with_backoff(failure_of(error, trace_of(error)), job, error)


def misfit(returned: Any, jobs: int) -> Failed | None:
    """Why what a handler returned says nothing about each of so many jobs; None if it does.

    A tuple with names is none of ours: Snooze and its like are such, and would pass for two outcomes.
    """
    if returned is None:
        return None
    if not (isinstance(returned, list) or type(returned) is tuple):
        what = f"a value of type {type(returned).__name__}"
    elif len(returned) != jobs:
        what = f"{len(returned)} outcomes"
    else:
        return None
    asked = f"a list with one outcome for each of its {jobs} jobs, in their order, or None if all are done"
    return Failed(f"the handler of the batch returned {what}; it must return {asked}", type="InvalidResult")
