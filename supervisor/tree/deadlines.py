"""When a tree wants to be looked at next."""

from __future__ import annotations

from supervisor.tree.model import Child, CircuitState, Goal, Group, Status, Tree


def next_deadline_ms(tree: Tree, now_ms: int) -> int | None:
    """When the tree wants its next `Tick`; None if only an event can change it."""
    moments = [moment for child in tree.children for moment in _of_child(child)]
    moments += [moment for group in tree.groups for moment in _of_group(tree, group)]
    return min((moment for moment in moments if moment > now_ms), default=None)


def _of_child(child: Child) -> list[int]:
    moments = [child.deadline_ms] if child.deadline_ms is not None else []
    if child.status is Status.DOWN and child.goal is Goal.UP:
        moments.append(child.due_ms)
    if child.status is Status.READY and child.spec.progress_ms is not None:
        moments.append(child.progress_ms + child.spec.progress_ms)
    return moments


def _of_group(tree: Tree, group: Group) -> list[int]:
    if group.circuit is CircuitState.OPEN:
        return [group.until_ms]
    if group.circuit is CircuitState.PROBING:
        ready = [child.ready_ms for child in tree.members(group.id) if child.ready_ms is not None]
        return [since + group.spec.proven_ms for since in ready]
    return []
