"""How the processes stand, for status: all but the workers, of which the foremen know."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from supervisor.master.processes import Foreman, Process
from supervisor.master.shape import ALERTER, KEEPER, queue_of
from supervisor.tree.model import Child, CircuitState, Group, Phase, Status, Tree

ROOT = "jobsupd"
ROLES = {KEEPER: "keeper", ALERTER: "alerter"}
"""Of children that are no foremen."""
STATES = {
    Status.DOWN: "backoff",
    Status.STARTING: "starting",
    Status.READY: "ready",
    Status.STOPPING: "stopping",
    Status.KILLING: "stopping",
}


def gist(tree: Tree) -> tuple[object, ...]:
    """What of a tree others are told; that a loop has turned once more is not news."""
    children = tuple((child.id, child.status, child.run) for child in tree.children)
    return children, tuple((group.id, group.circuit, group.reason) for group in tree.groups), tree.phase


def nodes(
    tree: Tree, epoch_ms: int, singles: Mapping[str, Process | None], foremen: Mapping[str, Foreman]
) -> list[dict[str, Any]]:
    """One node for each process; `singles` are those that are no foremen, by name.

    `since_ms`, like the master's `epoch_ms`, is the start on the boot clock.
    """
    state = "ready" if tree.phase is Phase.RUNNING else "stopping"
    root = _node(ROOT, None, "master", os.getpid(), state, epoch_ms, 0, None, None)
    return [root, *(_child_node(tree, child, singles, foremen) for child in tree.children)]


def _child_node(
    tree: Tree, child: Child, singles: Mapping[str, Process | None], foremen: Mapping[str, Foreman]
) -> dict[str, Any]:
    queue = queue_of(child.id)
    foreman = foremen.get(queue or "")
    process = foreman if queue else singles.get(child.id)
    group = tree.group(child.group)
    failed = group.circuit is CircuitState.OPEN and child.status is Status.DOWN
    return _node(
        f"{ROOT}/{child.id}",
        ROOT,
        _role(child.id),
        process.pid if process else None,
        "failed" if failed else STATES[child.status],
        process.since_ms if process else None,
        max(child.starts - 1, 0),
        _circuit(group, foreman),
        queue,
    )


def _role(child: str) -> str:
    return ROLES.get(child, "foreman" if queue_of(child) else "relay")


def _circuit(group: Group, foreman: Foreman | None) -> str:
    """Of the pool as a whole: the master's over its foreman, else the foreman's over its workers."""
    if group.circuit is CircuitState.CLOSED and foreman and foreman.state:
        return foreman.state.circuit
    return group.circuit.value


def _node(
    path: str, parent: str | None, role: str, pid: int | None, state: str, since_ms: int | None, restarts: int,
    circuit: str | None, queue: str | None,
) -> dict[str, Any]:  # fmt: skip
    return {
        "path": path,
        "parent": parent,
        "role": role,
        "pid": pid,
        "state": state,
        "since_ms": since_ms,
        "restarts": restarts,
        "circuit": circuit,
        "queue": queue,
        "slot": None,
    }
