"""jobsctl tree: every process of the daemon, and whose child it is."""

from __future__ import annotations

import sys
from typing import Any

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation


@jobsctl_command(examples=["jobsctl tree", "jobsctl tree --json | jq -r 'select(.role == \"worker\") | .pid'"])
@pass_invocation
def command(invocation: Invocation) -> None:
    """Show the processes of the daemon as the tree in which they are started, watched and stopped.

    Tab-separated, the columns are: path, role, pid, state, uptime_s, restarts, circuit.
    """
    from supervisor.cli.render import Column, put_rows

    found = invocation.ask_daemon("tree")["tree"]
    if sys.stdout.isatty() and not invocation.json:
        found = [_indented(node) for node in found]
    columns = [
        Column("path", "process"), Column("role", "role"), Column("pid", "pid", "number"),
        Column("state", "state", "state"), Column("uptime_s", "up", "seconds"),
        Column("restarts", "restarts", "number"), Column("circuit", "circuit", "state"),
    ]  # fmt: skip
    put_rows(found, columns, as_json=invocation.json)


def _indented(node: dict[str, Any]) -> dict[str, Any]:
    """A node whose path is its last part, moved right by its depth; queue names hold no slash."""
    depth = len(_ancestors(node["path"]))
    name = node["path"].removeprefix(f"{node['parent']}/") if node.get("parent") else node["path"]
    return node | {"path": "  " * depth + name}


def _ancestors(path: str) -> list[str]:
    """jobsupd/pool emails/emails/0 is three deep: the worker's own name is emails/0."""
    return path.split("/")[1:3] if path.count("/") > 1 else path.split("/")[1:]
