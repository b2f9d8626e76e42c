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
@click.option("--dry-run", is_flag=True, help="Delete nothing, and print how many it would be.")
@pass_invocation
def command(invocation: Invocation, queue: str, state: str, dry_run: bool) -> None:
    """Delete the jobs of a queue in one state.

    They are deleted with all that is known of them; prints how many. Running jobs cannot be purged.
    """
    if dry_run:
        reply = {"count": _count(invocation, queue, state), "dry_run": True}
    else:
        reply = invocation.ask("purge", queue=queue, state=state)
    if invocation.json:
        from supervisor.cli.render import put_json

        put_json({"queue": queue, "state": state} | reply)
    else:
        click.echo(reply["count"])


def _count(invocation: Invocation, queue: str, state: str) -> int:
    """How many jobs it would be: as many as are kept count of."""
    from supervisor.errors import NoDatabase

    if state == State.RUNNING.value:
        raise click.UsageError("running jobs cannot be purged; cancel them first")
    invocation.must_exist(queue)
    try:
        with invocation.reader() as reader:
            return reader.counts().get(queue, {}).get(state, 0)
    except NoDatabase:
        return 0
