"""jobsctl outbox: tables of applications whose rows become jobs."""

from __future__ import annotations

from typing import Any

from supervisor.cli.group import group
from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation


@group("outbox")
def command() -> None:
    """Look at outboxes, and make one."""


@jobsctl_command(name="sql", examples=["jobsctl outbox sql | sqlite3 /srv/app/app.db"])
@pass_invocation
def sql(invocation: Invocation) -> None:
    """Print the SQL that makes an outbox.

    It is for the database of the application, and changes nothing that is there already.
    """
    import sys

    from supervisor.cli import render
    from supervisor.relay.table import SCHEMA

    text = SCHEMA.read_text()
    if invocation.json:
        render.put_json({"sql": text})
    else:
        sys.stdout.write(text)


@jobsctl_command(
    name="list", examples=["jobsctl outbox list", "jobsctl outbox list --json | jq '.refusals[] | [.id, .error]'"]
)
@pass_invocation
def listing(invocation: Invocation) -> None:
    """List the outboxes, and the rows that cannot become jobs.

    Tab-separated, the columns are: name, state, waiting, refused, moved, age of the oldest row in seconds, time of the
    last move, database, error. The state is `idle`, `moving`, `waiting` (a queue is full), `locked`, `failing` or
    `unknown`; counts of rows end at 10,000. With --json each outbox has its first 20 `refusals`.
    """
    import sys

    from supervisor.cli import render

    columns = [
        render.Column("name", "outbox"),
        render.Column("state", "state"),
        render.Column("waiting", "waiting", "number"),
        render.Column("refused", "refused", "number"),
        render.Column("moved", "moved", "number"),
        render.Column("oldest_s", "oldest", "seconds"),
        render.Column("last_moved_at", "last move", wide=True),
        render.Column("database", "database", wide=True),
        render.Column("error", "error", "prose", wide=True),
    ]
    found = _outboxes(invocation)
    render.put_rows(found, columns, as_json=invocation.json)
    if sys.stdout.isatty() and not invocation.json:
        _put_remarks(found)


def _outboxes(invocation: Invocation) -> list[dict[str, Any]]:
    """From the daemon, or, without one, what the configuration says."""
    from supervisor.cli.overview import outboxes_at_rest
    from supervisor.errors import NotRunning

    try:
        found = invocation.ask_at_once("status")["outboxes"]
    except NotRunning:
        found = outboxes_at_rest(invocation.spec().outbox)
    return [{"name": name, **outbox} for name, outbox in found.items()]


def _put_remarks(found: list[dict[str, Any]]) -> None:
    """What a table has no room for."""
    from supervisor.cli import render

    for outbox in found:
        if outbox["error"]:
            render.put_line(f"{outbox['name']}: {outbox['error']}")
        for queue in outbox["full"]:
            render.put_line(f"{outbox['name']}: queue {queue} is full, its rows wait")
        for refusal in outbox["refusals"]:
            render.put_line(f"{outbox['name']}: row {refusal['id']} for {refusal['queue']}: {refusal['error']}")


command.add_command(sql)
command.add_command(listing)
