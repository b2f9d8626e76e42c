"""jobsctl fail."""

from __future__ import annotations

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import DURATION, JOB_ID, TOKEN


@jobsctl_command(
    examples=[
        'jobsctl fail 42 7 "no such image" --type NotFound',
        'jobsctl fail 42 7 "the disk is full" --retry-in 10m',
        'jobsctl fail 42 7 "this will never work" --final',
    ]
)
@click.argument("job_id", metavar="ID", type=JOB_ID)
@click.argument("token", type=TOKEN)
@click.argument("message")
@click.option("--type", "kind", metavar="TEXT", help="The kind of the error: on_error and dead groups go by it.")
@click.option("--retry-in", metavar="DURATION", type=DURATION, help="Try it again after this; else as the queue says.")
@click.option("--final", is_flag=True, help="It is of no use to try it again: it is dead.")
@pass_invocation
def command(
    invocation: Invocation, job_id: int, token: int, message: str, kind: str | None, retry_in: int | None, *,
    final: bool,
) -> None:  # fmt: skip
    """Say that a job that was fetched has failed; print the state that it has now.

    It is tried again as its queue says, or dead. Exit status 1: the lease does not hold it any more; nothing was
    changed.
    """
    from supervisor.cli.render import put_json, put_line
    from supervisor.wire.job_text import error_text

    said = error_text(message)
    reply = invocation.ask_daemon(
        "fail", job=job_id, token=token, message=said, type=kind, retry_in_ms=retry_in, final=final
    )
    if invocation.json:
        put_json(reply)
    else:
        put_line(reply["state"])
