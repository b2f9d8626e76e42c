"""jobsctl dead: the dead-letter queue: jobs that used up their attempts, or that their handler gave up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from supervisor.cli.group import group
from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import FINGERPRINT, INSTANT_OR_AGE, JOB_ID, JOB_KEY, ONE_QUEUE, PACE

if TYPE_CHECKING:
    from supervisor.store.archive import Archive

SHOWN = ("id", "queue", "attempt", "crashes", "finished_at", "type", "error", "fingerprint", "key")


@group("dead")
def command() -> None:
    """List, group, retry or delete dead letters, and follow their replays."""


def _filter(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which dead letters are meant; all that are given must hold."""
    for option in (
        click.option("--fingerprint", metavar="F", type=FINGERPRINT, help="Of this group of `jobsctl dead groups`."),
        click.option("--text", metavar="TEXT", help="Whose last error or traceback contains this text."),
        click.option("--after", metavar="TIME|AGE", type=INSTANT_OR_AGE, help="That died then or later."),
        click.option(
            "--before", metavar="TIME|AGE", type=INSTANT_OR_AGE, help="That died before then, such as 7d ago."
        ),
        click.option("--type", "kind", metavar="CLASS", help="Whose last error is of this exception class."),
        click.option("--key", metavar="KEY", type=JOB_KEY, help="Of this key; '' for those without one."),
        click.option("--queue", metavar="QUEUE", type=ONE_QUEUE, help="Of this queue."),
        click.argument("ids", metavar="[ID]...", type=JOB_ID, nargs=-1),
    ):
        function = option(function)
    return function


@jobsctl_command(
    name="list",
    examples=["jobsctl dead list --queue emails", "jobsctl dead list --type ConnectionError --after 1h --json"],
)
@_filter
@click.option("--limit", metavar="N", type=click.IntRange(min=0), default=50, show_default=True, help="0: all.")
@pass_invocation
def show(invocation: Invocation, /, limit: int, **chosen: Any) -> None:
    """List dead letters, newest first; without a filter, all of them.

    Tab-separated, the columns are: id, queue, attempt, crashes, finished_at, type, error, fingerprint, key.
    """
    from itertools import islice

    from supervisor.cli.progress import watched
    from supervisor.cli.render import Column, put_rows
    from supervisor.errors import NoDatabase

    columns = [
        Column("id", "id", "number"), Column("queue", "queue"), Column("attempt", "attempt", "number"),
        Column("crashes", "crashes", "number", wide=True), Column("finished_at", "finished (UTC)", "instant"),
        Column("type", "type"), Column("error", "error", "prose"), Column("fingerprint", "fingerprint", wide=True),
        Column("key", "key", wide=True),
    ]  # fmt: skip
    if chosen["queue"] is not None:
        invocation.must_exist(chosen["queue"])
    try:
        with invocation.reader() as reader:
            found = watched(
                lambda told: islice(_shown(reader, reader.dead(**chosen, told=told)), limit or None),
                "{} dead letters looked at",
                as_json=invocation.json,
            )
            put_rows(found, columns, as_json=invocation.json)
    except NoDatabase:
        return


def _shown(reader: Archive, found: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Dead letters as they are listed."""
    for job in found:
        whole = reader.job(job["id"])
        last = whole["errors"][-1] if whole and whole["errors"] else {}
        mark, _ = reader.fingerprints([job["id"]]).get(job["id"], (None, None))
        yield {name: job.get(name) for name in SHOWN} | {"type": last.get("type"), "fingerprint": mark}


@jobsctl_command(
    name="retry",
    examples=[
        "jobsctl dead retry --queue emails --type ConnectionError",
        "jobsctl dead retry --fingerprint 0f3a5c7e9b1d2f40 --dry-run",
        "jobsctl dead retry --queue emails --key acme",
        "jobsctl dead retry --queue emails --after 1d --canary 3 --pace 10/s --stop-on-failure",
        "jobsctl dead retry --all",
    ],
)
@_filter
@click.option("--all", "everything", is_flag=True, help="All dead letters; an empty filter is refused.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="At most so many, the oldest first.")
@click.option("--pace", metavar="N/TIME", type=PACE, help="So many in so much time, evenly: 10/s, 100/1m.")
@click.option(
    "--canary", metavar="N", type=click.IntRange(min=1), help="First so many; the others once these have completed."
)
@click.option("--stop-on-failure", is_flag=True, help="Release no more once one of them has failed.")
@click.option("--dry-run", is_flag=True, help="Change nothing; print how many are meant, by group.")
@pass_invocation
def retry(
    invocation: Invocation, /, everything: bool, limit: int | None, pace: tuple[int, int] | None, canary: int | None,
    stop_on_failure: bool, dry_run: bool, **chosen: Any,
) -> None:  # fmt: skip
    """Run dead letters again, and print how many.

    They keep their ids and get fresh budgets. With --pace, --canary or --stop-on-failure they go out as a replay: its
    number is printed at once, the daemon carries it out, and it survives restarts; `jobsctl dead replays` shows how
    far it is. Tab-separated, the columns of --dry-run are: count, fingerprint, queue, type, message.
    """
    wanted = _as_request(everything, **chosen)
    if dry_run:
        from supervisor.cli.letters import preview

        preview(invocation, limit, chosen)
        return
    how = {
        "limit": limit, "pace_jobs": pace and pace[0], "pace_ms": pace and pace[1], "canary": canary,
        "stop_on_failure": stop_on_failure or None,
    }  # fmt: skip
    _act(invocation, "dead_retry", wanted, **{name: value for name, value in how.items() if value is not None})


@jobsctl_command(
    name="groups", examples=["jobsctl dead groups", "jobsctl dead groups --queue emails --json | jq -r .fingerprint"]
)
@click.option("--queue", metavar="QUEUE", type=ONE_QUEUE, help="Of this queue.")
@pass_invocation
def groups(invocation: Invocation, queue: str | None) -> None:
    """Show dead letters by error, the most frequent first.

    Errors are the same where class, message and the innermost frames of the handler are, without numbers, quoted
    text, paths and line numbers. Tab-separated, the columns are: fingerprint, queue, count, type, first_at, last_at,
    sample_id, message.
    """
    from supervisor.cli.render import Column, put_rows
    from supervisor.errors import NoDatabase

    columns = [
        Column("fingerprint", "fingerprint"), Column("queue", "queue"), Column("count", "count", "number"),
        Column("type", "type", wide=True), Column("first_at", "first (UTC)", "instant", wide=True),
        Column("last_at", "last (UTC)", "instant"), Column("sample_id", "sample", "number", wide=True),
        Column("message", "message", "prose"),
    ]  # fmt: skip
    if queue is not None:
        invocation.must_exist(queue)
    try:
        with invocation.reader() as reader:
            put_rows(reader.groups(queue), columns, as_json=invocation.json)
    except NoDatabase:
        return


@jobsctl_command(name="replays", examples=["jobsctl dead replays", "jobsctl dead replays --json | jq .reason"])
@click.option("--limit", metavar="N", type=click.IntRange(min=0), default=20, show_default=True, help="0: all.")
@pass_invocation
def replays(invocation: Invocation, limit: int) -> None:
    """List replays of dead letters, newest first, with how far each is and why one stopped.

    Tab-separated, the columns are: id, state, matched, released, completed, failed, pending, pace, canary,
    created_at, ended_at, reason.
    """
    from supervisor.cli.render import Column, put_rows
    from supervisor.errors import NoDatabase

    columns = [
        Column("id", "id", "number"), Column("state", "state", "state"), Column("matched", "matched", "number"),
        Column("released", "released", "number"), Column("completed", "completed", "number"),
        Column("failed", "failed", "number"), Column("pending", "pending", "number"),
        Column("pace", "pace", wide=True), Column("canary", "canary", "number", wide=True),
        Column("created_at", "begun (UTC)", "instant", wide=True),
        Column("ended_at", "ended (UTC)", "instant", wide=True),
        Column("reason", "reason", "prose"),
    ]  # fmt: skip
    try:
        with invocation.reader() as reader:
            put_rows(reader.replays(limit), columns, as_json=invocation.json)
    except NoDatabase:
        return


@jobsctl_command(name="stop", examples=["jobsctl dead stop 3"])
@click.argument("replay", metavar="REPLAY", type=JOB_ID)
@pass_invocation
def stop(invocation: Invocation, replay: int) -> None:
    """End a replay, and print how many jobs it had released.

    What it had not released stays dead. Jobs that it made due within the next second still run.
    """
    from supervisor.cli.render import put_json, put_line

    reply = invocation.ask("dead_stop", replay=replay)
    if invocation.json:
        put_json(reply)
    else:
        put_line(str(reply["released"]))


@jobsctl_command(
    name="delete",
    examples=["jobsctl dead delete --before 30d", "jobsctl dead delete 17 18", "jobsctl dead delete --all"],
)
@_filter
@click.option("--all", "everything", is_flag=True, help="All dead letters; an empty filter is refused.")
@click.option("--dry-run", is_flag=True, help="Delete nothing; print how many are meant, by group.")
@pass_invocation
def delete(invocation: Invocation, /, everything: bool, dry_run: bool, **chosen: Any) -> None:
    """Delete dead letters, and print how many.

    All that is known of them goes with them. Tab-separated, the columns of --dry-run are: count, fingerprint, queue,
    type, message.
    """
    wanted = _as_request(everything, **chosen)
    if dry_run:
        from supervisor.cli.letters import preview

        preview(invocation, None, chosen)
        return
    _act(invocation, "dead_delete", wanted)


def _act(invocation: Invocation, op: str, chosen: dict[str, Any], **how: Any) -> None:
    from supervisor.cli.render import put_json, put_line

    reply = invocation.ask(op, filter=chosen, **how)
    if invocation.json:
        put_json(reply)
    else:
        put_line(str(reply.get("count", reply.get("replay"))))


def _as_request(
    everything: bool, ids: tuple[int, ...], queue: str | None, kind: str | None, before: int | None,
    after: int | None, text: str | None, fingerprint: str | None, key: str | None,
) -> dict[str, Any]:  # fmt: skip
    """The filter as the protocol has it; --all is said as "since 1970", because an empty one is refused there too."""
    given = {
        "ids": list(ids) or None,
        "queue": queue,
        "type": kind,
        "before_ms": before,
        "after_ms": after,
        "text": text,
        "fingerprint": fingerprint,
        "key": key,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    if not chosen and not everything:
        raise click.UsageError("name the dead letters that are meant, or say --all")
    return chosen or {"after_ms": 0}


for each in (show, groups, retry, replays, stop, delete):
    command.add_command(each)
