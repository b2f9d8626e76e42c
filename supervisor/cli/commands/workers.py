"""jobsctl workers: who works, on what, and how much memory it takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation


@jobsctl_command(examples=["jobsctl workers", "jobsctl workers --json | jq -s 'map(.rss_bytes) | add'"])
@pass_invocation
def command(invocation: Invocation) -> None:
    """List the workers of the daemon.

    Tab-separated, the columns are: queue, slot, pid, state, job_id, running_s, done, restarts, rss_bytes.
    """
    from supervisor.cli.render import Column, put_rows

    columns = [
        Column("queue", "queue"), Column("slot", "slot", "number"), Column("pid", "pid", "number"),
        Column("state", "state", "state"), Column("job_id", "job", "number"),
        Column("running_s", "running", "seconds"), Column("done", "done", "number"),
        Column("restarts", "restarts", "number"), Column("rss_bytes", "memory", "bytes"),
    ]  # fmt: skip
    found = invocation.ask_daemon("workers")["workers"]
    put_rows(_measured(found), columns, as_json=invocation.json)


def _measured(workers: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Add each worker's resident memory: the keeper's loop never asks for it."""
    import psutil

    for worker in workers:
        try:
            rss_bytes = psutil.Process(worker["pid"]).memory_info().rss if worker["pid"] else None
        except psutil.Error:
            rss_bytes = None
        yield worker | {"rss_bytes": rss_bytes}
