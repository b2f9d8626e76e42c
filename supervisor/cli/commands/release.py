"""jobsctl release."""

from __future__ import annotations

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import DURATION, JOB_ID, TOKEN


@jobsctl_command(examples=["jobsctl release 7", "jobsctl release 7 42 43", "jobsctl release 7 --delay 5m"])
@click.argument("token", type=TOKEN)
@click.argument("ids", metavar="[ID]...", type=JOB_ID, nargs=-1)
@click.option("--delay", metavar="DURATION", type=DURATION, help="Let them run so much later; else at once.")
@pass_invocation
def command(invocation: Invocation, token: int, ids: tuple[int, ...], delay: int | None) -> None:
    """Hand jobs back that were fetched and not begun, all of a lease or those named.

    Nothing is charged. Prints their ids. Exit status 1: the lease does not hold one of them any more; nothing was
    changed.
    """
    from supervisor.cli.render import put_json, put_line

    reply = invocation.ask_daemon("release", token=token, ids=list(ids) or None, delay_ms=delay)
    if invocation.json:
        put_json(reply)
        return
    for job_id in reply["done"]:
        put_line(str(job_id))
