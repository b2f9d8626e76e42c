"""jobsctl scale."""

from __future__ import annotations

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import QUEUE

AUTO = "auto"


@jobsctl_command(examples=["jobsctl scale emails 6", "jobsctl scale emails auto"])
@click.argument("queue", type=QUEUE)
@click.argument("workers", metavar="N|auto")
@pass_invocation
def command(invocation: Invocation, queue: str, workers: str) -> None:
    """Have N workers whatever the load is, or as many as it needs.

    For queues with workers = { min, max }, and within these. It holds until `auto`, until a reload says something else
    of the queue's workers, or until the daemon stops.
    """
    if workers != AUTO and not (workers.isascii() and workers.isdigit() and len(workers) < 5):
        raise click.BadParameter(f"{workers[:40]!r} is no number of workers; write one, or {AUTO}", param_hint="N|auto")
    reply = invocation.ask_daemon("scale", queue=queue, workers=None if workers == AUTO else int(workers))
    if invocation.json:
        from supervisor.cli.render import put_json

        put_json(reply)
