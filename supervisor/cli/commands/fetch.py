"""jobsctl fetch: jobs of a queue with `pull = true`, for a program that is no worker of ours."""

from __future__ import annotations

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import DURATION, ONE_QUEUE
from supervisor.errors import EXIT_BUSY

ANSWER_S = 10.0
"""How much longer than the wait an answer may take."""


@jobsctl_command(
    examples=[
        "jobsctl fetch thumbnails --wait 1m --lease 5m",
        "jobsctl fetch thumbnails --jobs 10 --json | jq .payload",
    ]
)
@click.argument("queue", type=ONE_QUEUE)
@click.option("--jobs", metavar="N", type=click.IntRange(1, 256), default=1, show_default=True, help="At most so many.")
@click.option("--lease", metavar="DURATION", type=DURATION, help="Hold them so long; else for the queue's timeout.")
@click.option("--wait", metavar="DURATION", type=DURATION, default=0, help="Wait so long for the first; else not.")
@click.option("--consumer", metavar="NAME", help="Whose jobs they are; else the process that calls this is named.")
@pass_invocation
def command(invocation: Invocation, queue: str, jobs: int, lease: int | None, wait: int, consumer: str | None) -> int:
    """Take ready jobs of a queue with `pull = true`, and print them.

    They are yours until the lease is over: say extend, ack, fail or release before, with the token. Tab-separated, the
    columns are: id, token, payload (JSON in one line). Exit status 75: nothing came in time.
    """
    import json
    import os
    import sys

    from supervisor.cli.render import put_json

    found = invocation.ask_daemon(
        "fetch", timeout_s=wait / 1000 + ANSWER_S, queue=queue, jobs_max=jobs, lease_ms=lease, wait_ms=wait,
        consumer=consumer or f"pid {os.getppid()}", key=os.urandom(12).hex(),
    )["jobs"]  # fmt: skip
    for job in found:
        if invocation.json:
            put_json(job)
        else:
            sys.stdout.write(f"{job['id']}\t{job['token']}\t{json.dumps(job['payload'])}\n")
    sys.stdout.flush()
    return 0 if found else EXIT_BUSY
