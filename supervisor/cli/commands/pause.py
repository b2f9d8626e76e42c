"""jobsctl pause."""

from __future__ import annotations

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import QUEUE


@jobsctl_command(examples=["jobsctl pause emails"])
@click.argument("queue", type=QUEUE)
@pass_invocation
def command(invocation: Invocation, queue: str) -> None:
    """Hand out no more jobs of a queue.

    What is running ends. The queue goes on accepting jobs, and stays paused over restarts, until jobsctl resume.
    """
    reply = invocation.ask("pause", queue=queue)
    if invocation.json:
        from supervisor.cli.render import put_json

        put_json({"queue": queue, "paused": True} | reply)
