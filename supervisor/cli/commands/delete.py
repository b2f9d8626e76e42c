"""jobsctl delete: jobs by what they are."""

from __future__ import annotations

from typing import Any

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import INSTANT_OR_AGE, JOB_ID, JOB_KEY, ONE_QUEUE
from supervisor.job import State


@jobsctl_command(
    examples=[
        "jobsctl delete --queue emails --tag newsletter --before 30d --dry-run",
        "jobsctl delete --state cancelled --before 1h --by finished",
        "jobsctl delete --key acme --dry-run",
        "jobsctl delete 17 18",
    ]
)
@click.argument("ids", metavar="[ID]...", type=JOB_ID, nargs=-1)
@click.option("--queue", metavar="QUEUE", type=ONE_QUEUE, help="Of this queue.")
@click.option(
    "--state",
    type=click.Choice([state.value for state in State]),
    help="In this state; else in any final one.",
)
@click.option("--tag", metavar="TEXT", help="With this tag.")
@click.option("--task", metavar="NAME", help="Enqueued for this task.")
@click.option("--key", metavar="KEY", type=JOB_KEY, help="Of this key; '' for those without one.")
@click.option("--before", metavar="TIME|AGE", type=INSTANT_OR_AGE, help="Before then, such as 7d ago.")
@click.option("--after", metavar="TIME|AGE", type=INSTANT_OR_AGE, help="Then or later.")
@click.option(
    "--by",
    type=click.Choice(["enqueued", "finished"]),
    default="enqueued",
    show_default=True,
    help="The time that --before and --after speak of.",
)
@click.option("--text", metavar="TEXT", help="With this text in the payload, or in the last error.")
@click.option("--type", "error_type", metavar="CLASS", help="Whose last error is of this exception class.")
@click.option("--dry-run", is_flag=True, help="Delete nothing, and print how many it would be.")
@pass_invocation
def command(invocation: Invocation, /, ids: tuple[int, ...], dry_run: bool, **chosen: Any) -> None:  # fmt: skip
    """Delete jobs, with all that is known of them, and print how many.

    Everything that is given must hold; an empty filter is refused. Final jobs are meant, unless --state says
    otherwise; a running job is never deleted.
    """
    from supervisor.cli.render import put_json, put_line

    named = {name: value for name, value in chosen.items() if value is not None and name != "by"}
    if not named and not ids:
        raise click.UsageError("name the jobs that are meant: by id, --queue, --state, --task, --key or another option")
    if chosen["state"] == State.RUNNING.value:
        raise click.UsageError("running jobs cannot be deleted; cancel them first")
    if dry_run:
        reply = {"count": _count(invocation, ids, **chosen), "dry_run": True}
    else:
        names = {"before": "before_ms", "after": "after_ms", "error_type": "type"}
        fields = {names.get(name, name): value for name, value in named.items()}
        reply = invocation.ask("delete", by=chosen["by"], **fields, **({"ids": list(ids)} if ids else {}))
    if invocation.json:
        put_json(reply)
    else:
        put_line(str(reply["count"]))


def _count(
    invocation: Invocation, ids: tuple[int, ...], queue: str | None, state: str | None, tag: str | None,
    before: int | None, after: int | None, by: str, text: str | None, error_type: str | None,
    key: str | None, task: str | None,
) -> int:  # fmt: skip
    from supervisor.cli.progress import counting
    from supervisor.errors import NoDatabase
    from supervisor.job import FINAL
    from supervisor.store.history import Search

    if queue is not None:
        invocation.must_exist(queue)
    search = Search(after, before, by == "finished", tag, text, error_type, key, task)
    states = [State(state)] if state else sorted(FINAL)
    try:
        with invocation.reader() as reader, counting("{} jobs looked at") as told:
            found = (
                job
                for each in states
                for job in reader.search(search, queue=queue, state=each, told=told)
                if (not ids or job["id"] in ids) and (job["flow"] is None or State(job["state"]) not in FINAL)
            )
            return sum(1 for _ in found)
    except NoDatabase:
        return 0
