"""Who goes along with whom, and who waits for whom: strategies, starting order, stopping order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import dropwhile, islice

from supervisor.tree.model import Child, Goal, Group, Phase, Status, Strategy, Tree

Siblings = tuple[Child, ...]


def taken_along(tree: Tree, group: Group, dead: str) -> Siblings:
    """The siblings that the restart of this child stops and restarts, in starting order."""
    return ALONG[group.spec.strategy](tuple(tree.members(group.id)), dead)


def _nobody(_members: Siblings, _dead: str) -> Siblings:
    return ()


def _everybody(members: Siblings, dead: str) -> Siblings:
    return tuple(child for child in members if child.id != dead)


def _those_after(members: Siblings, dead: str) -> Siblings:
    return tuple(islice(dropwhile(lambda child: child.id != dead, members), 1, None))


ALONG: Mapping[Strategy, Callable[[Siblings, str], Siblings]] = {
    Strategy.ONE_FOR_ONE: _nobody,
    Strategy.ONE_FOR_ALL: _everybody,
    Strategy.REST_FOR_ONE: _those_after,
}


def may_start(tree: Tree, child: Child, now_ms: int) -> bool:
    """Whether the child is wanted, down, due, and everything it builds on is up."""
    return (
        tree.phase is Phase.RUNNING
        and child.goal is Goal.UP
        and child.status is Status.DOWN
        and child.due_ms <= now_ms
        and not _siblings_are_ending(tree, child)
        and all(_is_up(other) for other in tree.children if other.spec.tier < child.spec.tier)
    )


def may_stop(tree: Tree, child: Child) -> bool:
    """Whether the child runs, shall not, and nothing that builds on it is still ending."""
    return (
        child.running
        and child.goal is not Goal.UP
        and not any(
            other.alive and other.goal is not Goal.UP
            for other in tree.children
            if other.spec.tier > child.spec.tier
        )
    )  # fmt: skip


def _siblings_are_ending(tree: Tree, child: Child) -> bool:
    """Where deaths take siblings along, all of those are down before the first one starts."""
    return tree.group(child.group).coupled and any(
        other.alive and (other.goal is not Goal.UP or not other.running) for other in tree.members(child.group)
    )


def _is_up(child: Child) -> bool:
    return child.status is Status.READY if child.goal in (Goal.UP, Goal.CYCLE) else True


def settled(tree: Tree) -> bool:
    """Whether start-up is over: every child that is wanted is ready, and what is held has its circuit open."""
    return all(_is_up(child) for child in tree.children)
