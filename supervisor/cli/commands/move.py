"""jobsctl move."""

from __future__ import annotations

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import QUEUE


@jobsctl_command(examples=["jobsctl move letters emails"])
@click.argument("old", type=QUEUE)
@click.argument("new", type=QUEUE)
@pass_invocation
def command(invocation: Invocation, old: str, new: str) -> None:
    """Move jobs from one queue to another.

    Prints how many. OLD may have left the configuration: its jobs stay, shown as orphaned, until they are moved.
    All go with their history, those that have ended too; running jobs are not moved.
    """
    reply = invocation.ask("move", old=old, new=new)
    if invocation.json:
        from supervisor.cli.render import put_json

        put_json({"old": old, "new": new} | reply)
    else:
        click.echo(reply["count"])
