"""A new shape for a running tree: what is new is added, what is gone leaves, what changed is restarted."""

from __future__ import annotations

from dataclasses import replace

from supervisor.tree.circuit import released
from supervisor.tree.events import Reshape
from supervisor.tree.model import Child, ChildSpec, Goal, Group, GroupSpec, Tree


def reshape(tree: Tree, event: Reshape, now_ms: int) -> Tree:
    """The tree that is wanted from now on. A child with an unchanged spec keeps its process."""
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
    """An unchanged group keeps its circuit and its deaths; a changed one is judged afresh."""
    return next((group for group in tree.groups if group.spec == spec), Group(spec))


def _adapted(tree: Tree, group: Group, spec: ChildSpec, now_ms: int) -> Child:
    child = tree.child(spec.id)
    if not child:
        return Child(spec, group.id, due_ms=now_ms)
    if group not in tree.groups:
        child = released(child)
    child = replace(child, group=group.id)
    if child.spec == spec and not child.leaving:
        return replace(child, successor=None)
    if not child.alive:
        return Child(spec, group.id, starts=child.starts, due_ms=now_ms)
    return replace(child, goal=Goal.CYCLE, successor=spec, leaving=False, strikes=0, due_ms=now_ms)
