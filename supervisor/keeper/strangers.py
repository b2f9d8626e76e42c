"""Refusals of ids: jobs and flows have ids of one sequence, so one that is nobody's may be that of the other kind."""

from __future__ import annotations

from typing import Any

import msgspec

from supervisor.config.names import scope_of
from supervisor.errors import UnknownFlow, UnknownJob
from supervisor.store.reader import Reader
from supervisor.store.sqlite.transaction import Transaction


def unknown_job(tx: Transaction, job_id: int, *, instead: str) -> UnknownJob:
    """The refusal of an id that no job has; `instead` is what is asked of a flow, as jobsctl knows it."""
    if tx.flow(job_id) is None:
        return UnknownJob(f"there is no job {job_id}")
    return UnknownJob(f"{job_id} is a flow, and no job", hint=f"for a flow: jobsctl flow {instead} {job_id}")


def unknown_flow(tx: Transaction, flow_id: int) -> UnknownFlow:
    """The refusal of an id that no flow has; it may be that of a job."""
    if not tx.standing([flow_id]):
        return _no_flow(flow_id)
    options = tx.facts([flow_id])[flow_id].options
    return _job(flow_id, msgspec.json.decode(options).get("flow") if options else None)


def unshown_flow(reader: Reader, flow_id: int, scope: str) -> UnknownFlow:
    """The same of one that is only looked at; what is of another scope is as if it were not there."""
    queue = reader.queue_of_job(flow_id)
    shown = reader.job(flow_id) if queue is not None and scope_of(queue) == scope else None
    return _no_flow(flow_id) if shown is None else _job(flow_id, shown["flow"])


def _no_flow(flow_id: int) -> UnknownFlow:
    return UnknownFlow(f"there is no flow {flow_id}", hint="jobsctl flow list names those that there are")


def _job(job_id: int, flow: Any) -> UnknownFlow:
    """Where a flow is meant; `flow` is the one whose step the job is, if it is a step."""
    if flow is None:
        return UnknownFlow(f"{job_id} is a job, and no flow", hint=f"jobsctl status {job_id} says how it stands")
    hint = f"jobsctl flow show {flow} says how that stands"
    return UnknownFlow(f"{job_id} is a step of flow {flow}, and no flow", hint=hint)
