"""jobsctl consumers: who has fetched jobs, until when, and who waits for some."""

from __future__ import annotations

from typing import Any

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation


@jobsctl_command(examples=["jobsctl consumers", "jobsctl consumers --json | jq 'select(.state == \"working\")'"])
@pass_invocation
def command(invocation: Invocation) -> None:
    """List the consumers of queues with `pull = true`: a line for each lease, and for each fetch that waits.

    Without a daemon the leases are read from the database. Tab-separated, the columns are: queue, consumer, pid, state
    (working or waiting), token, jobs (how many), since_at, until_at.
    """
    from supervisor.cli.render import Column, put_json, put_rows

    columns = [
        Column("queue", "queue"), Column("consumer", "consumer"), Column("pid", "pid", "number", wide=True),
        Column("state", "state", "state"), Column("token", "token", "number", wide=True),
        Column("jobs", "jobs", "number"),
        Column("since_at", "since (UTC)", "instant"), Column("until_at", "until (UTC)", "instant"),
    ]  # fmt: skip
    found = _consumers(invocation)
    if invocation.json:
        for each in found:
            put_json(each)
    else:
        put_rows((each | {"jobs": len(each["jobs"])} for each in found), columns, as_json=False)


def _consumers(invocation: Invocation) -> list[dict[str, Any]]:
    from supervisor.errors import NoDatabase, NotRunning

    try:
        return list(invocation.ask_at_once("consumers")["consumers"])
    except NotRunning:
        pass
    try:
        with invocation.reader() as reader:
            return reader.consumers()
    except NoDatabase:
        return []
