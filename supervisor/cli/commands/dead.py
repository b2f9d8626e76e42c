"""jobsctl dead: the dead-letter queue: jobs that used up their attempts, or that their handler gave up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import INSTANT_OR_AGE, JOB_ID, QUEUE

if TYPE_CHECKING:
    from supervisor.store.reader import Reader

SHOWN = ("id", "queue", "attempt", "crashes", "finished_at", "type", "error")


@click.group("dead", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """List, retry or delete dead letters."""


def _filter(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which dead letters are meant; all that are given must hold."""
    for option in (
        click.option("--text", metavar="TEXT", help="Whose last error or traceback contains this text."),
        click.option("--after", metavar="TIME|AGE", type=INSTANT_OR_AGE, help="That died then or later."),
        click.option(
            "--before", metavar="TIME|AGE", type=INSTANT_OR_AGE, help="That died before then, such as 7d ago."
        ),
        click.option("--type", "kind", metavar="CLASS", help="Whose last error is of this exception class."),
        click.option("--queue", metavar="QUEUE", type=QUEUE, help="Of this queue."),
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

    Tab-separated, the columns are: id, queue, attempt, crashes, finished_at, type, error.
    """
    from itertools import islice

    from supervisor.cli.render import Column, put_rows
    from supervisor.errors import NoDatabase

    columns = [
        Column("id", "id", "number"), Column("queue", "queue"), Column("attempt", "attempt", "number"),
        Column("crashes", "crashes", "number", wide=True), Column("finished_at", "finished (UTC)", "instant"),
        Column("type", "type"), Column("error", "error", "prose"),
    ]  # fmt: skip
    if chosen["queue"] is not None:
        invocation.must_exist(chosen["queue"])
    try:
        with invocation.reader() as reader:
            found = _meant(reader, **chosen)
            put_rows(islice(found, limit or None), columns, as_json=invocation.json)
    except NoDatabase:
        return


def _meant(
    reader: Reader, ids: tuple[int, ...], queue: str | None, kind: str | None, before: int | None, after: int | None,
    text: str | None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """The dead letters that the filter means, as they are shown."""
    from supervisor.job import State

    for job in reader.jobs(queue=queue, state=State.DEAD, limit=0):
        if ids and job["id"] not in ids:
            continue
        if reader.dead_matches(job["id"], kind=kind, text=text, before_ms=before, after_ms=after):
            whole = reader.job(job["id"])
            last = whole["errors"][-1] if whole and whole["errors"] else {}
            yield {name: job.get(name) for name in SHOWN} | {"type": last.get("type")}


@jobsctl_command(
    name="retry", examples=["jobsctl dead retry --queue emails --type ConnectionError", "jobsctl dead retry --all"]
)
@_filter
@click.option("--all", "everything", is_flag=True, help="All dead letters; an empty filter is refused.")
@pass_invocation
def retry(invocation: Invocation, /, everything: bool, **chosen: Any) -> None:
    """Run dead letters again, and print how many.

    They keep their ids and get fresh budgets.
    """
    _act(invocation, "dead_retry", _as_request(everything, **chosen))


@jobsctl_command(
    name="delete",
    examples=["jobsctl dead delete --before 30d", "jobsctl dead delete 17 18", "jobsctl dead delete --all"],
)
@_filter
@click.option("--all", "everything", is_flag=True, help="All dead letters; an empty filter is refused.")
@pass_invocation
def delete(invocation: Invocation, /, everything: bool, **chosen: Any) -> None:
    """Delete dead letters, and print how many.

    All that is known of them goes with them.
    """
    _act(invocation, "dead_delete", _as_request(everything, **chosen))


def _act(invocation: Invocation, op: str, chosen: dict[str, Any]) -> None:
    from supervisor.cli.render import put_json, put_line

    reply = invocation.ask(op, filter=chosen)
    if invocation.json:
        put_json(reply)
    else:
        put_line(str(reply["count"]))


def _as_request(
    everything: bool, ids: tuple[int, ...], queue: str | None, kind: str | None, before: int | None,
    after: int | None, text: str | None,
) -> dict[str, Any]:  # fmt: skip
    """The filter as the protocol has it; --all is said as "since 1970", because an empty one is refused there too."""
    given = {
        "ids": list(ids) or None,
        "queue": queue,
        "type": kind,
        "before_ms": before,
        "after_ms": after,
        "text": text,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    if not chosen and not everything:
        raise click.UsageError("name the dead letters that are meant, or say --all")
    return chosen or {"after_ms": 0}


for each in (show, retry, delete):
    command.add_command(each)
