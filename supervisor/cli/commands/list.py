"""jobsctl list: jobs, newest first, straight from the database."""

from __future__ import annotations

from typing import Any

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import JOB_ID, search_options
from supervisor.job import State

SHOWN = (
    "id", "queue", "state", "priority", "attempt", "crashes", "enqueued_at", "due_at", "finished_at", "result", "error",
    "key", "task",
)  # fmt: skip


@jobsctl_command(
    examples=[
        "jobsctl list --queue emails --state dead",
        "jobsctl list --queue emails --key acme",
        "jobsctl list --queue mail --task welcome --state blocked",
        "jobsctl list --since 1h --text someone@example.com",
        "jobsctl list --state completed --by finished --since 2026-01-31T08:00:00Z --until 2026-01-31T09:00:00Z",
        "jobsctl list --limit 0 --json > jobs.jsonl",
        "jobsctl list --after 1200    # the page behind job 1200",
    ]
)
@search_options
@click.option("--limit", metavar="N", type=click.IntRange(min=0), default=50, show_default=True, help="0: all.")
@click.option("--after", metavar="ID", type=JOB_ID, help="Go on behind this job of an earlier page.")
@pass_invocation
def command(
    invocation: Invocation, /, queue: str | None, state: str | None, limit: int, after: int | None, **wanted: Any
) -> None:
    """List jobs, newest first; all options that are given must hold.

    They are read from the database, with or without a daemon; that needs the service's user, or root. --text finds
    what stands in the payload as it was sent, and in the last error; what is redacted is not found.
    Tab-separated, the columns are: id, queue, state, priority, attempt, crashes, enqueued_at, due_at, finished_at,
    result, error, key, task.
    """
    from supervisor.cli.progress import watched
    from supervisor.cli.render import Column, put_rows
    from supervisor.cli.searching import as_search
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
        Column("key", "key", wide=True), Column("task", "task"),
    ]  # fmt: skip
    try:
        with invocation.reader() as reader:
            jobs = watched(
                lambda told: reader.search(
                    as_search(**wanted), queue=queue, state=State(state) if state else None, limit=limit,
                    before_id=after, told=told,
                ),
                "{} jobs looked at", as_json=invocation.json,
            )  # fmt: skip
            put_rows(({name: job[name] for name in SHOWN} for job in jobs), columns, as_json=invocation.json)
    except NoDatabase:
        return
