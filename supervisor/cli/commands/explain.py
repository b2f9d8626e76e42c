"""jobsctl explain: why a job is not running now, or why a flow has not ended."""

from __future__ import annotations

from typing import Any

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import JOB_ID

STEPS_MAX = 3
"""Of a flow's steps that go on, so many are explained one by one."""


@jobsctl_command(examples=["jobsctl explain 42", "jobsctl explain 42 --json | jq -r '.reasons[].kind'"])
@click.argument("job_id", metavar="ID", type=JOB_ID)
@pass_invocation
def command(invocation: Invocation, job_id: int) -> None:
    """Say why a job is not running now, or why a flow has not ended.

    One sentence says what must change first; the reasons behind it follow, in the order in which they would show.
    Of a flow they are what of it goes on, and the signals and the code that its steps wait for.
    Without a daemon, what the database says is told, and that no daemon runs.
    """
    from supervisor.cli import render
    from supervisor.errors import UnknownJob

    try:
        found = _of_job(invocation, job_id)
    except UnknownJob:
        of_flow = _of_flow(invocation, job_id)
        if of_flow is None:
            raise
        found = of_flow
    if invocation.json:
        render.put_json(found)
        return
    render.put_line(found["sentence"])
    for reason in found["reasons"][1:]:
        render.put_line(f"  also: {reason['sentence']}")


def _of_job(invocation: Invocation, job_id: int) -> dict[str, Any]:
    from supervisor.errors import NotRunning

    try:
        return invocation.ask_at_once("explain", job=job_id)
    except NotRunning:
        return _offline(invocation, job_id)


def _of_flow(invocation: Invocation, flow_id: int) -> dict[str, Any] | None:
    """The same of a flow; None if there is none of that id."""
    from supervisor.cli.flow_words import next_steps, others, standing
    from supervisor.errors import NotRunning, UnknownFlow

    flow: dict[str, Any] | None
    try:
        flow = invocation.ask_at_once("flow", flow=flow_id)
    except UnknownFlow:
        return None
    except NotRunning:
        flow = _flow_offline(invocation, flow_id)
    if flow is None:
        return None
    said = [standing(flow), *others(flow)]
    steps = [_of_job(invocation, step) for step in next_steps(flow)[:STEPS_MAX]]
    told = [{"kind": "flow", "sentence": sentence} for sentence in said]
    told += [{"kind": "step", "job": step["id"], "sentence": step["sentence"]} for step in steps]
    return {"id": flow_id, "queue": None, "key": None, "state": flow["state"], "sentence": said[0], "reasons": told}


def _flow_offline(invocation: Invocation, flow_id: int) -> dict[str, Any] | None:
    from supervisor.errors import NoDatabase

    try:
        with invocation.reader() as reader:
            return reader.flow(flow_id)
    except NoDatabase:
        return None


def _offline(invocation: Invocation, job_id: int) -> dict[str, Any]:
    from functools import partial

    from supervisor.config.discipline import discipline_of
    from supervisor.config.names import short_name
    from supervisor.config.scopes import internal
    from supervisor.errors import NoDatabase, UnknownJob
    from supervisor.keeper.reasons import shown, without_keeper
    from supervisor.unix.clock import wall_ms

    spec = internal(invocation.spec())
    try:
        with invocation.reader() as reader:
            found = reader.explain(job_id, partial(discipline_of, spec), wall_ms())
            if found is None:
                raise reader.unknown_job(job_id)
            breakers = reader.breakers()
    except NoDatabase:
        raise UnknownJob(f"there is no job {job_id}", hint="no job was ever enqueued here") from None
    return shown(job_id, found, without_keeper(spec, found, breakers.get(short_name(found.queue))))
