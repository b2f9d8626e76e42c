"""jobsctl ack."""

from __future__ import annotations

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import JOB_ID, TOKEN


@jobsctl_command(
    examples=["jobsctl ack 42 7", "jobsctl ack 42 7 '{\"width\": 640}'", "make-thumbnail | jobsctl ack 42 7 -"]
)
@click.argument("job_id", metavar="ID", type=JOB_ID)
@click.argument("token", type=TOKEN)
@click.argument("result", required=False)
@pass_invocation
def command(invocation: Invocation, job_id: int, token: int, result: str | None) -> None:
    """Say that a job that was fetched is done.

    RESULT is JSON, @FILE reads it from a file, - from standard input; without it the result is null. Said again, it
    changes nothing and is no error. Exit status 1: the lease does not hold the job any more; nothing was changed.
    """
    import json

    from supervisor.cli.commands.enqueue import read_payload
    from supervisor.cli.render import put_json
    from supervisor.wire.payload import parse

    value = None if result is None else json.loads(parse(read_payload(result), "the result"))
    reply = invocation.ask_daemon("ack", job=job_id, token=token, result=value)
    if invocation.json:
        put_json(reply)
