"""jobsctl tree: every process of the daemon, and whose child it is."""

from __future__ import annotations

import sys
from typing import Any

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation


@jobsctl_command(examples=["jobsctl tree", "jobsctl tree --json | jq -r 'select(.role == \"worker\") | .pid'"])
@pass_invocation
def command(invocation: Invocation) -> None:
    """Show the daemon's processes.

    They are shown as the tree in which they are started, watched and stopped. Tab-separated, the columns are: path,
    role, pid, state, uptime_s, restarts, circuit.
    """
    from supervisor.cli.render import Column, put_rows

    found = _in_order(invocation.ask_daemon("tree")["tree"])
    if sys.stdout.isatty() and not invocation.json:
        found = _indented(found)
    columns = [
        Column("path", "process"), Column("role", "role"), Column("pid", "pid", "number"),
        Column("state", "state", "state"), Column("uptime_s", "up", "seconds"),
        Column("restarts", "restarts", "number"), Column("circuit", "circuit", "state"),
    ]  # fmt: skip
    put_rows(found, columns, as_json=invocation.json)


def _in_order(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every node before its children, and these before its next sibling."""
    known = {node["path"] for node in nodes}
    children: dict[str | None, list[dict[str, Any]]] = {}
    for node in nodes:
        children.setdefault(node["parent"] if node["parent"] in known else None, []).append(node)
    ordered: list[dict[str, Any]] = []
    waiting = children.get(None, [])[::-1]
    while waiting:
        node = waiting.pop()
        ordered.append(node)
        waiting += children.get(node["path"], [])[::-1]
    return ordered


def _indented(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The nodes, each path without that of its parent, and moved right by its depth."""
    depth: dict[str, int] = {}
    shown = []
    for node in nodes:
        parent = node["parent"]
        depth[node["path"]] = depth[parent] + 1 if parent in depth else 0
        name = node["path"].removeprefix(f"{parent}/")
        shown.append(node | {"path": "  " * depth[node["path"]] + name})
    return shown
