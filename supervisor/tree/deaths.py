"""What the end of a process leads to: nothing, a restart now, a restart later, or an open circuit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from supervisor.tree.circuit import trip
from supervisor.tree.events import Exited
from supervisor.tree.groups import taken_along
from supervisor.tree.model import Child, CircuitState, CrashLoop, Death, Ending, Goal, Phase, Restart, Status, Tree
from supervisor.tree.restart import RESTARTS, exceeded, recent, restart_delay_ms, strikes_after


def gone(tree: Tree, child: Child, event: Exited, now_ms: int) -> Tree:
    """The tree without this process."""
    return AFTER[child.goal](tree, child, event, now_ms)


def _down(child: Child, goal: Goal, reason: str) -> Child:
    return replace(
        child,
        spec=child.successor or child.spec,
        successor=None,
        goal=goal,
        status=Status.DOWN,
        deadline_ms=None,
        ready_ms=None,
        worked=False,
        overdue=False,
        reason=reason or child.reason,
    )


def _died(tree: Tree, child: Child, event: Exited, now_ms: int) -> Tree:
    """It ended by itself, or was killed for a fault: the restart types and the intensity decide."""
    if child.overdue:
        event = replace(event, reason=child.reason)
    down = _down(child, Goal.UP, event.reason)
    if (Ending.FAILED if child.overdue else event.ending) not in RESTARTS[child.spec.restart]:
        return tree.with_child(replace(down, goal=Goal.DOWN))
    if event.final or _stillborn(tree, child):
        return trip(tree, down, event, now_ms)
    if event.excused and not child.overdue:
        return _restarted(tree, replace(down, strikes=0), now_ms)
    return _counted(tree, child, down, event, now_ms)


def _stillborn(tree: Tree, child: Child) -> bool:
    """Whether it had all its time to boot, and nothing of its group shows that this would ever be enough.

    Counting such deaths leads nowhere: where booting takes longer than the period, there is never more than one in it.
    """
    others = (member for member in tree.members(child.group) if member.id != child.id)
    return child.overdue and child.ready_ms is None and not any(member.status is Status.READY for member in others)


def _counted(tree: Tree, child: Child, down: Child, event: Exited, now_ms: int) -> Tree:
    group = tree.group(child.group)
    deaths = recent(group.deaths, now_ms, group.spec.period_ms)
    group = replace(group, deaths=(*deaths, Death(now_ms, child.id, child.run)))
    tree = tree.with_group(group)
    down = replace(down, strikes=strikes_after(child, group, now_ms))
    if group.circuit is CircuitState.OPEN:
        return tree.with_child(replace(down, goal=Goal.HELD))
    if group.circuit is CircuitState.PROBING or exceeded(group):
        return trip(tree, down, event, now_ms)
    return _restarted(tree, down, now_ms + restart_delay_ms(group.spec.restart_delays, down.strikes, event.chance))


def _restarted(tree: Tree, down: Child, due_ms: int) -> Tree:
    """It will be started again at that time, with those that its death takes along."""
    tree = tree.with_child(replace(down, due_ms=due_ms))
    for sibling in taken_along(tree, tree.group(down.group), down.id):
        tree = tree.with_child(_taken(sibling, due_ms))
    return tree


def _taken(sibling: Child, due_ms: int) -> Child:
    """A sibling that goes along: a temporary one is only stopped, one that is down just waits as well."""
    if sibling.goal is not Goal.UP:
        return sibling
    if sibling.spec.restart is Restart.TEMPORARY:
        return replace(sibling, goal=Goal.DOWN)
    goal = Goal.CYCLE if sibling.alive else Goal.UP
    return replace(sibling, goal=goal, due_ms=max(sibling.due_ms, due_ms))


def _cycled(tree: Tree, child: Child, event: Exited, _now_ms: int) -> Tree:
    """It ended as it was asked to, and starts again; nothing is counted."""
    return tree.with_child(_down(child, Goal.UP, event.reason))


def _held(tree: Tree, child: Child, event: Exited, _now_ms: int) -> Tree:
    return tree.with_child(_down(child, Goal.HELD, event.reason))


def _left(tree: Tree, child: Child, event: Exited, _now_ms: int) -> Tree:
    """It is not wanted any more. While the tree halts, what it had to say at its end becomes the tree's status.

    But not what a member of a group says whose end the tree would have survived: a pool that a stop met while it was
    probed with a handler that cannot be imported does not make an orderly stop a failed one.
    """
    escalates = tree.group(child.group).spec.on_crash_loop is CrashLoop.ESCALATE
    if tree.phase is Phase.HALTING and event.final and escalates:
        tree = replace(tree, status=tree.status or event.status, reason=tree.reason or event.reason)
    if not child.leaving:
        return tree.with_child(_down(child, Goal.DOWN, event.reason))
    children = tuple(other for other in tree.children if other.id != child.id)
    homes = {other.group for other in children}
    groups = tuple(group for group in tree.groups if group.id in homes or group.id != child.group)
    return replace(tree, children=children, groups=groups)


AFTER: Mapping[Goal, Callable[[Tree, Child, Exited, int], Tree]] = {
    Goal.UP: _died,
    Goal.CYCLE: _cycled,
    Goal.HELD: _held,
    Goal.DOWN: _left,
}
