"""jobsctl keys: the keys of a queue that wait, what for, and letting them go on."""

from __future__ import annotations

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import ONE_QUEUE

SHOWN = ("key", "waiting", "held_by", "held_state", "due_at", "paused", "buried", "limit")
NOTHING = {"pause": "is paused already", "resume": "is not paused", "free": "is not held by any job"}
"""Why an action has changed nothing."""


@jobsctl_command(
    examples=[
        "jobsctl keys emails",
        "jobsctl keys emails --all --json",
        "jobsctl keys emails --pause acme",
        "jobsctl keys emails --free acme    # what comes after the dead job runs",
    ]
)
@click.argument("queue", type=ONE_QUEUE)
@click.option("--all", "everything", is_flag=True, help="Also those that nothing keeps waiting.")
@click.option("--limit", metavar="N", type=click.IntRange(min=0), default=50, show_default=True, help="0: all.")
@click.option("--pause", metavar="KEY", help="Hand out no more jobs of this key.")
@click.option("--resume", metavar="KEY", help="Undo --pause.")
@click.option("--free", metavar="KEY", help="Let a key go on though a job holds it, dead or to be tried again.")
@pass_invocation
def command(
    invocation: Invocation, queue: str, everything: bool, limit: int, pause: str | None, resume: str | None,
    free: str | None,
) -> None:  # fmt: skip
    """List the keys of a queue that wait, and for what; or pause, resume or free one.

    A key waits because it is paused, because a job of an ordered queue holds it (one that is tried again later, or is
    dead), or because its limit has no room. An empty KEY means the jobs without a key. Tab-separated, the columns are:
    key, waiting, held_by, held_state, due_at, paused, buried, limit.
    """
    asked = {"pause": pause, "resume": resume, "free": free}
    chosen = [(action, key) for action, key in asked.items() if key is not None]
    if len(chosen) > 1:
        raise click.UsageError("--pause, --resume and --free exclude each other")
    if chosen:
        action, key = chosen[0]
        reply = invocation.ask("key", queue=queue, job_key=key, action=action)
        from supervisor.cli.render import note, put_json

        if invocation.json:
            put_json(reply)
        elif reply.get("changed") is False:
            named = f"key {key}" if key else "what has no key"
            note(f"nothing is changed: {named} of queue {queue} {NOTHING[action]}")
        return
    _list(invocation, queue, limit, everything=everything)


def _list(invocation: Invocation, queue: str, limit: int, *, everything: bool) -> None:
    from supervisor.cli.render import Column, put_rows
    from supervisor.errors import NoDatabase

    invocation.must_exist(queue)
    columns = [
        Column("key", "key"), Column("waiting", "waiting", "number"), Column("held_by", "held by", "number"),
        Column("held_state", "state", "state"), Column("due_at", "due (UTC)", "instant"), Column("paused", "paused"),
        Column("buried", "buried", wide=True), Column("limit", "limit", wide=True),
    ]  # fmt: skip
    try:
        with invocation.reader() as reader:
            keys = reader.keys(queue, everything=everything, limit=limit)
            put_rows(({name: key[name] for name in SHOWN} for key in keys), columns, as_json=invocation.json)
    except NoDatabase:
        return
