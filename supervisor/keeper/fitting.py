"""What a new job must look like for its queue: with a task where the queue runs tasks, and a payload that fits it.

What is checked is what code has published last. It is kept in rows, so that it is known before the foreman of a new
daemon is up, and without a daemon.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from supervisor.config.names import short_name
from supervisor.errors import InvalidPayload
from supervisor.keeper.published import Tasks
from supervisor.policy.tasks import Known, Table
from supervisor.wire.messages import NewJob

if TYPE_CHECKING:
    from supervisor.keeper.state import State

NAMED_MAX = 20


def runs_tasks(state: State, queue: str) -> bool:
    """Whether the handler of a queue is a module of tasks."""
    pool = state.pool_of(queue)
    return pool is not None and state.workplaces[pool].has_tasks


def runs_one_thing(state: State, queue: str) -> bool:
    """Whether a queue runs all its jobs by the same function or command: whatever waited for a task runs there."""
    return state.pool_of(queue) is not None and not runs_tasks(state, queue)


def fitted(state: State, name: str, jobs: Iterable[NewJob]) -> Iterable[NewJob]:
    """Jobs for a queue as it takes them: with a task if it runs tasks, of a version, with a payload that fits.

    Raises:
        InvalidPayload: a job names no task, or names one where there are none; or its payload does not fit it.
    """
    if runs_tasks(state, name):
        bytes_max = state.queue(name).max_payload_bytes
        tables = state.tasks.tables(state.pools_of(name))
        return [_fitted(state.tasks, tables, name, job, bytes_max) for job in jobs]
    for job in jobs:
        if job.task is not None or job.version is not None:
            raise InvalidPayload(
                f"queue {short_name(name)} has no tasks: all its jobs are run by the same function or command",
                hint="leave task and version out, or name a module as its handler",
            )
    return jobs


def _read(payload: bytes) -> Any:
    """A payload whose size is checked already; one that is no JSON is refused with the others that are none."""
    try:
        return json.loads(payload)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _fitted(tasks: Tasks, tables: Sequence[Table], name: str, job: NewJob, bytes_max: int) -> NewJob:
    """The job as the newest code takes it; or, if it names no version and other code runs beside it, as that does."""
    if job.task is None:
        raise InvalidPayload(f"queue {short_name(name)} runs tasks, and the job names none", hint=_tasks_known(tables))
    found = {known.version: known for table in tables if (known := table.get(job.task)) is not None}
    if not found:
        return job  # accepted: code that knows it may be on its way
    newest, *older = [found[version] for version in sorted(found, reverse=True)]
    refused = _misfit(tasks, newest, job, bytes_max)
    if refused is None:
        return msgspec.structs.replace(job, version=job.version or newest.version)
    fits = (known for known in older if job.version is None and _misfit(tasks, known, job, bytes_max) is None)
    known = next(fits, None)
    if known is None:
        raise refused
    return msgspec.structs.replace(job, version=known.version)


def _misfit(tasks: Tasks, known: Known, job: NewJob, bytes_max: int) -> InvalidPayload | None:
    """Why the payload does not fit; a payload of another version is checked where it is upgraded."""
    payload = bytes(job.payload)
    of_it = (job.version or known.version) == known.version
    checked = of_it and len(payload) <= bytes_max  # what is too large is refused with all that is
    check = tasks.check(known.schema) if checked and known.schema else None
    if check is None:
        return None
    try:
        check(_read(payload))
    except ValueError as error:
        said = f"the payload does not fit task {job.task}" + (
            f" in version {known.version}" if known.version > 1 else ""
        )
        return InvalidPayload(f"{said}: {error}", hint="jobsctl tasks shows what a task takes")
    return None


def _tasks_known(tables: Sequence[Table]) -> str:
    names = sorted({known.name for table in tables for known in table.values()})
    if not names:
        return "name one: jobsctl enqueue --task NAME, or task= in Python"
    listed = ", ".join(names[:NAMED_MAX]) + (", ..." if len(names) > NAMED_MAX else "")
    return f"name one with --task, or task= in Python: {listed}"
