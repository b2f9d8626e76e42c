"""jobsctl edit: change what a job is, while it does not run."""

from __future__ import annotations

from typing import Any

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import DURATION, INSTANT, JOB_ID, QUEUE
from supervisor.job import PRIORITY_MAX, PRIORITY_MIN, VERSION_MAX

ATTEMPTS_MAX = 1_000


@jobsctl_command(
    examples=[
        'jobsctl edit 42 --payload \'{"to": "a@b.c"}\' && jobsctl retry 42',
        "jobsctl edit 42 --payload @letter.json --tag mended",
        "jobsctl edit 42 --delay 2h --priority 10",
        "jobsctl edit 42 --task welcome    # it was enqueued for a task that no code has",
    ]
)
@click.argument("job_id", metavar="ID", type=JOB_ID)
@click.option("--payload", metavar="JSON|@FILE|-", help="The new payload: JSON, a file's, or standard input's.")
@click.option("--queue", metavar="QUEUE", type=QUEUE, help="Move it to this queue, whose rules then hold.")
@click.option(
    "--priority", metavar="N", type=click.IntRange(PRIORITY_MIN, PRIORITY_MAX), help="-100 to 100, higher first."
)
@click.option("--delay", metavar="DURATION", type=DURATION, help="Run it no earlier than after this time.")
@click.option("--at", metavar="TIME", type=INSTANT, help="Run it no earlier than at this time (RFC 3339).")
@click.option("--timeout", metavar="DURATION", type=DURATION, help="How long a run may take.")
@click.option("--max-attempts", metavar="N", type=click.IntRange(1, ATTEMPTS_MAX), help="How often it may be tried.")
@click.option("--task", metavar="NAME", help="The task that runs it from now on.")
@click.option("--version", metavar="N", type=click.IntRange(1, VERSION_MAX), help="The version that its payload has.")
@click.option("--tag", metavar="TEXT", multiple=True, help="A tag to add; may be repeated.")
@click.option("--untag", metavar="TEXT", multiple=True, help="A tag to take away; may be repeated.")
@pass_invocation
def command(invocation: Invocation, /, job_id: int, payload: str | None, **given: Any) -> None:
    """Change a job that does not run, and print its id.

    What is not given stays as it is. A job that is queued, scheduled or blocked can be changed, and a final one
    before it is retried (that has no time to run at). With another priority, a queued job stands where a new one of
    that priority would. A running job is refused: its worker has it as it was.
    """
    from supervisor.cli.render import put_json, put_line

    fields = _fields(**given)
    if payload is not None:
        from supervisor.cli.commands.enqueue import read_payload
        from supervisor.wire.payload import parse

        fields["payload"] = parse(read_payload(payload))
    if not fields:
        raise click.UsageError("name something to change, such as --payload or --priority")
    with invocation.client() as client:
        reply = client.edit(job_id, **fields)
    if invocation.json:
        put_json(reply)
    else:
        put_line(str(job_id))


def _fields(
    queue: str | None, priority: int | None, delay: int | None, at: int | None, timeout: int | None,
    max_attempts: int | None, task: str | None, version: int | None, tag: tuple[str, ...], untag: tuple[str, ...],
) -> dict[str, Any]:  # fmt: skip
    """The options as the client takes them; only those that were given."""
    if delay is not None and at is not None:
        raise click.UsageError("--delay and --at exclude each other")
    from datetime import UTC, datetime, timedelta

    def span(ms: int | None) -> timedelta | None:
        return None if ms is None else timedelta(milliseconds=ms)

    when = None if at is None else datetime.fromtimestamp(at / 1000, UTC)
    fields = {
        "queue": queue, "priority": priority, "delay": span(delay), "at": when, "timeout": span(timeout),
        "max_attempts": max_attempts, "tags": list(tag) or None, "untag": list(untag) or None,
        "task": task, "version": version,
    }  # fmt: skip
    return {name: value for name, value in fields.items() if value is not None}
