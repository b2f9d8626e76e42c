"""jobsctl explain: why a job is not running now, or why a flow has not ended."""

from __future__ import annotations

from typing import Any

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import JOB_ID


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
    from supervisor.errors import NotRunning

    try:
        found = invocation.ask_at_once("explain", job=job_id)
    except NotRunning:
        found = _flow_offline(invocation, job_id) or _offline(invocation, job_id)
    if invocation.json:
        render.put_json(found)
        return
    render.put_line(found["sentence"])
    for reason in found["reasons"][1:]:
        render.put_line(f"  also: {reason['sentence']}")


def _flow_offline(invocation: Invocation, flow_id: int) -> dict[str, Any] | None:
    """How a flow stands by the rows, and that no daemon runs; None if there is none of that id."""
    from supervisor.errors import NoDatabase
    from supervisor.flow.standing import explanation
    from supervisor.policy.reason import Reason

    try:
        with invocation.reader() as reader:
            flow = reader.flow(flow_id)
    except NoDatabase:
        return None
    if flow is None:
        return None
    told = explanation(flow)
    if flow["state"] == "running":
        told["reasons"].append({"kind": "not_running", "sentence": Reason("not_running").sentence})
    return told


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
