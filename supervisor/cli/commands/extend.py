"""jobsctl extend."""

from __future__ import annotations

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import DURATION, TOKEN


@jobsctl_command(examples=["jobsctl extend 7 --lease 5m", "jobsctl extend 7 --json | jq .cancelled"])
@click.argument("token", type=TOKEN)
@click.option("--lease", metavar="DURATION", type=DURATION, help="Hold it so long from now; else as long as before.")
@pass_invocation
def command(invocation: Invocation, token: int, lease: int | None) -> None:
    """Hold the jobs of a lease longer.

    Prints the ids of those that were cancelled meanwhile: they are still yours, and end when you say what became of
    them. Exit status 1: the lease is over, and its jobs may be with another consumer.
    """
    from supervisor.cli.render import put_json, put_line

    reply = invocation.ask_daemon("extend", token=token, lease_ms=lease)
    if invocation.json:
        put_json(reply)
        return
    for job_id in reply["cancelled"]:
        put_line(str(job_id))
