"""jobsctl resume."""

from __future__ import annotations

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import QUEUE


@jobsctl_command(examples=["jobsctl resume emails"])
@click.argument("queue", type=QUEUE)
@pass_invocation
def command(invocation: Invocation, queue: str) -> None:
    """Hand out jobs of a queue again.

    If the queue's pool has given up restarting its workers, it tries again at once. If the queue's breaker is open,
    it is closed.
    """
    reply = invocation.ask("resume", queue=queue)
    if invocation.json:
        from supervisor.cli.render import put_json

        put_json({"queue": queue, "paused": False} | reply)
