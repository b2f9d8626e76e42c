"""jobsctl purge."""

from __future__ import annotations

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import QUEUE
from supervisor.job import State


@jobsctl_command(examples=["jobsctl purge emails --state completed"])
@click.argument("queue", type=QUEUE)
@click.option(
    "--state", required=True, type=click.Choice([state.value for state in State]), help="Which jobs to delete."
)
@pass_invocation
def command(invocation: Invocation, queue: str, state: str) -> None:
    """Delete the jobs of a queue in one state.

    They are deleted with all that is known of them; prints how many. Running jobs cannot be purged.
    """
    reply = invocation.ask("purge", queue=queue, state=state)
    if invocation.json:
        from supervisor.cli.render import put_json

        put_json({"queue": queue, "state": state} | reply)
    else:
        click.echo(reply["count"])
