"""jobsctl retry."""

from __future__ import annotations

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import JOB_ID


@jobsctl_command(examples=["jobsctl retry 42", "jobsctl retry --force 42    # although it has completed"])
@click.argument("ids", metavar="ID...", type=JOB_ID, nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Run completed jobs again as well.")
@pass_invocation
def command(invocation: Invocation, ids: tuple[int, ...], force: bool) -> int:
    """Run final jobs again.

    They keep their ids and get fresh budgets; the ids are printed. A job that waits for its next attempt is made
    ready at once.
    """
    from supervisor.cli.done import conclude

    return conclude(invocation, invocation.ask("retry", ids=list(ids), force=force), len(ids))
