"""A new shape for a running tree: what is new is added, what is gone leaves, what has a new version is restarted.

How a child is treated (its grace, its deadlines) changes at once and restarts nothing: that is the supervisor's
affair, and the child's process does not know of it.
"""

from __future__ import annotations

from dataclasses import replace

from supervisor.tree.circuit import released
from supervisor.tree.events import Reshape
from supervisor.tree.model import Child, ChildSpec, CircuitState, Goal, Group, GroupSpec, Tree


def reshape(tree: Tree, event: Reshape, now_ms: int) -> Tree:
    """The tree that is wanted from now on. A child with an unchanged version keeps its process."""
    groups = tuple(_regrouped(tree, spec) for spec in event.groups)
    kept = tuple(
        _adapted(tree, group, spec, now_ms) for group in groups for spec in group.spec.children
    )  # fmt: skip
    wanted = {child.id for child in kept}
    leaving = tuple(
        replace(child, goal=Goal.DOWN, leaving=True)
        for child in tree.children
        if child.alive and child.id not in wanted
    )
    homes = {child.group for child in leaving} - {group.id for group in groups}
    staying = tuple(group for group in tree.groups if group.id in homes)
    return replace(tree, groups=groups + staying, children=kept + leaving)


def _regrouped(tree: Tree, spec: GroupSpec) -> Group:
    """A group keeps its circuit and its deaths if some of its children stay, and none of these changes.

    Else it is judged afresh. More children or fewer say nothing about what made others die.
    """
    same = next((group for group in tree.groups if group.id == spec.id), None)
    return replace(same, spec=spec) if same and _some_stay_and_none_changes(same.spec, spec) else Group(spec)


def _some_stay_and_none_changes(old: GroupSpec, new: GroupSpec) -> bool:
    before = {child.id: child.version for child in old.children}
    kept = [child for child in new.children if child.id in before]
    return bool(kept) and all(before[child.id] == child.version for child in kept)


def _adapted(tree: Tree, group: Group, spec: ChildSpec, now_ms: int) -> Child:
    child = tree.child(spec.id)
    if not child:
        goal = Goal.UP if group.circuit is CircuitState.CLOSED else Goal.HELD
        return Child(spec, group.id, goal=goal, due_ms=now_ms)
    if group.circuit is CircuitState.CLOSED:
        child = released(child)
    child = replace(child, group=group.id)
    if child.spec.version == spec.version and not child.leaving:
        return replace(child, spec=spec, successor=None)
    if not child.alive:
        return Child(spec, group.id, starts=child.starts, due_ms=now_ms)
    return replace(child, goal=Goal.CYCLE, successor=spec, leaving=False, strikes=0, due_ms=now_ms)
