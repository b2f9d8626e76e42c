"""jobsctl list: jobs, newest first, straight from the database."""

from __future__ import annotations

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import JOB_ID, QUEUE
from supervisor.job import State

SHOWN = (
    "id", "queue", "state", "priority", "attempt", "crashes", "enqueued_at", "due_at", "finished_at", "result", "error",
)  # fmt: skip


@jobsctl_command(
    examples=[
        "jobsctl list --queue emails --state dead",
        "jobsctl list --limit 0 --json > jobs.jsonl",
        "jobsctl list --after 1200    # the page behind job 1200",
    ]
)
@click.option("--queue", metavar="QUEUE", type=QUEUE, help="Only jobs of this queue.")
@click.option("--state", type=click.Choice([state.value for state in State]), help="Only jobs in this state.")
@click.option("--tag", metavar="TEXT", help="Only jobs with this tag.")
@click.option("--limit", metavar="N", type=click.IntRange(min=0), default=50, show_default=True, help="0: all.")
@click.option("--after", metavar="ID", type=JOB_ID, help="Go on behind this job of an earlier page.")
@pass_invocation
def command(
    invocation: Invocation, queue: str | None, state: str | None, tag: str | None, limit: int, after: int | None
) -> None:
    """List jobs, newest first.

    They are read from the database, with or without a daemon; that needs the service's user, or root.
    Tab-separated, the columns are: id, queue, state, priority, attempt, crashes, enqueued_at, due_at, finished_at,
    result, error.
    """
    from supervisor.cli.render import Column, put_rows
    from supervisor.errors import NoDatabase

    if queue is not None:
        invocation.must_exist(queue)
    columns = [
        Column("id", "id", "number"), Column("queue", "queue"), Column("state", "state", "state"),
        Column("priority", "priority", "number", wide=True), Column("attempt", "attempt", "number"),
        Column("crashes", "crashes", "number", wide=True),
        Column("enqueued_at", "enqueued (UTC)", "instant", wide=True),
        Column("due_at", "due (UTC)", "instant", wide=True), Column("finished_at", "finished (UTC)", "instant"),
        Column("result", "result", "prose"), Column("error", "error", "prose"),
    ]  # fmt: skip
    try:
        with invocation.reader() as reader:
            jobs = reader.jobs(
                queue=queue, state=State(state) if state else None, tag=tag, limit=limit, before_id=after
            )
            put_rows(({name: job[name] for name in SHOWN} for job in jobs), columns, as_json=invocation.json)
    except NoDatabase:
        return
