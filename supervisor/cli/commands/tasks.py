"""jobsctl tasks: what the code of each queue can run, and what waits for code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import ONE_QUEUE


@jobsctl_command(examples=["jobsctl tasks", "jobsctl tasks mail", "jobsctl tasks mail --json"])
@click.argument("queue", type=ONE_QUEUE, required=False)
@pass_invocation
def command(invocation: Invocation, queue: str | None) -> None:
    """List the tasks that the code of each queue, or of one, knows, with what each takes from its payload.

    A task that jobs wait for, and no code knows in their version, is listed as not known. With --json, `schema` is
    that of the payload. Tab-separated, the columns are: pool, task, version, oldest, known, blocked, aliases, takes.
    """
    from supervisor.cli.render import Column, put_rows
    from supervisor.errors import NoDatabase

    if queue is not None:
        invocation.must_exist(queue)
    columns = [
        Column("pool", "queue"), Column("task", "task"), Column("version", "version", "number"),
        Column("oldest", "oldest", "number", wide=True), Column("known", "known"),
        Column("blocked", "blocked", "number"), Column("aliases", "aliases"), Column("takes", "takes"),
    ]  # fmt: skip
    pools_of = invocation.spec().pools_of
    pools = pools_of(queue) if queue else ()
    try:
        with invocation.reader() as reader:
            rows = list(_rows(reader, pools_of))
    except NoDatabase:
        return
    served = invocation.spec().workplaces  # what a pool that left the file has known is of no use to anybody
    wanted = (row for row in rows if row["pool"] in served or not row["known"])
    shown = (row for row in wanted if queue is None or row["pool"] in pools)
    put_rows((row if invocation.json else _in_words(row) for row in shown), columns, as_json=invocation.json)


def _rows(reader: Any, pools_of: Callable[[str], Sequence[str]]) -> Iterator[dict[str, Any]]:
    from supervisor.policy.tasks import Need, meets, table_of

    known = reader.tasks()
    for pool, tasks in known.items():
        for task in tasks:
            yield {
                "pool": pool, "task": task.name, "version": task.version, "oldest": task.oldest, "known": True,
                "blocked": 0, "aliases": list(task.aliases), "schema": _schema(task.schema),
            }  # fmt: skip
    for queue, name, version, jobs in reader.blocked_needs():
        pools = pools_of(queue) or (queue,)
        yield {
            "pool": pools[0], "task": name or None, "version": version or None, "oldest": None,
            "known": any(meets(table_of(known.get(pool, ())), Need(name, version)) for pool in pools),
            "blocked": jobs, "aliases": [], "schema": None,
        }  # fmt: skip


def _schema(text: str | None) -> Any:
    import json

    return None if text is None else json.loads(text)


def _in_words(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its lists and its schema as people read them."""
    return row | {"aliases": ", ".join(row["aliases"]), "takes": _takes(row["schema"]) if row["oldest"] else None}


def _takes(schema: Any) -> str:
    """The members of a payload, those that may be left out with a question mark."""
    if schema is None:
        return "anything"
    whole = schema.get("$defs", {}).get(schema.get("$ref", "").rpartition("/")[2], schema)
    required = set(whole.get("required", ()))
    return ", ".join(name + ("" if name in required else "?") for name in whole.get("properties", {}))
