"""What a new job must look like for its queue: with a task where the queue runs tasks, and a payload that fits it.

What is checked is what code has published last. It is kept in rows, so that it is known before the foreman of a new
daemon is up, and without a daemon.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from supervisor.config.names import short_name
from supervisor.errors import InvalidPayload
from supervisor.keeper.published import Tasks
from supervisor.policy.tasks import Table
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
        table = state.tasks.table(state.pool_of(name))
        return [_fitted(state.tasks, table, name, job, bytes_max) for job in jobs]
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


def _fitted(tasks: Tasks, table: Table, name: str, job: NewJob, bytes_max: int) -> NewJob:
    if job.task is None:
        raise InvalidPayload(f"queue {short_name(name)} runs tasks, and the job names none", hint=_tasks_known(table))
    known = table.get(job.task)
    if known is None:
        return job  # accepted: code that knows it may be on its way
    version = job.version or known.version
    payload = bytes(job.payload)
    newest = version == known.version and len(payload) <= bytes_max  # what is too large is refused with all that is
    check = tasks.check(known.schema) if newest and known.schema else None
    if check is not None:
        try:
            check(_read(payload))
        except ValueError as error:
            said = f"the payload does not fit task {job.task}" + (f" in version {version}" if version > 1 else "")
            raise InvalidPayload(f"{said}: {error}", hint="jobsctl tasks shows what a task takes") from None
    return msgspec.structs.replace(job, version=version)


def _tasks_known(table: Table) -> str:
    names = sorted({known.name for known in table.values()})
    if not names:
        return "name one: jobsctl enqueue --task NAME, or task= in Python"
    listed = ", ".join(names[:NAMED_MAX]) + (", ..." if len(names) > NAMED_MAX else "")
    return f"name one with --task, or task= in Python: {listed}"
