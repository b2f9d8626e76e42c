"""What `jobsctl dead` does beyond listing, retrying and deleting at once: groups, replays, looking before acting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import JOB_ID, QUEUE

if TYPE_CHECKING:
    from supervisor.store.archive import Archive

PAGE = 500


@jobsctl_command(
    name="groups", examples=["jobsctl dead groups", "jobsctl dead groups --queue emails --json | jq -r .fingerprint"]
)
@click.option("--queue", metavar="QUEUE", type=QUEUE, help="Of this queue.")
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
        Column("type", "type"), Column("first_at", "first (UTC)", "instant", wide=True),
        Column("last_at", "last (UTC)", "instant"), Column("sample_id", "sample", "number"),
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


def preview(invocation: Invocation, limit: int | None, chosen: dict[str, Any]) -> None:
    """Print how many dead letters a filter means, and of which groups: what --dry-run does."""
    from supervisor.cli.progress import counting
    from supervisor.cli.render import Column, put_json, put_rows
    from supervisor.errors import NoDatabase

    rows: list[dict[str, Any]] = []
    try:
        with invocation.reader() as reader, counting("{} dead letters looked at") as told:
            rows = _by_group(reader, (job["id"] for job in reader.dead(**chosen, told=told)), limit)
    except NoDatabase:
        pass
    if invocation.json:
        put_json({"dry_run": True, "count": sum(row["count"] for row in rows), "groups": rows})
        return
    columns = [
        Column("count", "count", "number"), Column("fingerprint", "fingerprint"), Column("queue", "queue"),
        Column("type", "type"), Column("message", "message", "prose"),
    ]  # fmt: skip
    put_rows(rows, columns, as_json=False)


def _by_group(reader: Archive, ids: Iterable[int], limit: int | None) -> list[dict[str, Any]]:
    """How many of these are of each group; of more than `limit`, the oldest count, as a retry takes them."""
    found = sorted(ids)[:limit]
    counted: Counter[tuple[str | None, str | None]] = Counter()
    for begin in range(0, len(found), PAGE):
        part = found[begin : begin + PAGE]
        known = reader.fingerprints(part)
        counted.update(known.get(job_id, (None, None)) for job_id in part)
    groups_of = {(group["fingerprint"], group["queue"]): group for group in reader.groups()}
    rows = []
    for (mark, queue), count in counted.most_common():
        group = groups_of.get((mark or "", queue or ""), {})
        told = {name: group.get(name) for name in ("type", "message")}
        rows.append({"fingerprint": mark, "queue": queue, "count": count} | told)
    return rows
