"""jobsctl cancel."""

from __future__ import annotations

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import JOB_ID


@jobsctl_command(examples=["jobsctl cancel 42", "jobsctl cancel 42 43 44 --json"])
@click.argument("ids", metavar="ID...", type=JOB_ID, nargs=-1, required=True)
@pass_invocation
def command(invocation: Invocation, ids: tuple[int, ...]) -> int:
    """Cancel jobs that have not finished.

    Prints the ids of those that were cancelled. A running job is asked to stop, and is cancelled when its run has
    ended. Exit status 1: it was final already.
    """
    from supervisor.cli.done import conclude

    return conclude(invocation, invocation.ask("cancel", ids=list(ids)), len(ids))
