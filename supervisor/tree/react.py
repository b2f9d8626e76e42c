"""The reactor: `react(tree, event, now_ms) -> (tree, commands)`. Pure; the only way in which a tree changes.

An event changes what is wanted (goals) or what is known (statuses); then `settle` orders whatever is missing
between the two. An order is noted in the child's status, so it is given once. News of an earlier process of a
child, told apart by its run, changes nothing.

*Invariant:* a child is started only while it is down, so it never has two processes, and only while the tree
runs; when the tree halts, children stop in reverse order and nothing starts any more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from supervisor.tree import events as on
from supervisor.tree.circuit import halting, untrip
from supervisor.tree.commands import CircuitChanged, Command, Halting
from supervisor.tree.deaths import gone
from supervisor.tree.model import Child, CircuitState, Ending, Goal, Phase, Status, Tree
from supervisor.tree.reshape import reshape
from supervisor.tree.settle import Step, kill, settle, stop


def react(tree: Tree, event: on.Event, now_ms: int) -> Step:
    """The tree after the event, and what is to be done, in order."""
    after, first = HANDLERS[type(event)](tree, event, now_ms)
    after, then = settle(after, now_ms)
    return after, (*_turning_points(tree, after), *first, *then)


def _turning_points(before: Tree, after: Tree) -> list[Command]:
    """What an onlooker wants to know: circuits that changed, and the beginning of the end."""
    old = {group.id: group.circuit for group in before.groups}
    points: list[Command] = [
        CircuitChanged(group.id, group.circuit, group.reason)
        for group in after.groups
        if group.circuit is not old.get(group.id, CircuitState.CLOSED)
    ]
    if before.phase is Phase.RUNNING and after.phase is not Phase.RUNNING:
        points.append(Halting(after.status, after.reason, after.urgent))
    return points


def _current(tree: Tree, name: str, run: int) -> Child | None:
    """The child, if the news is of the process that it has now."""
    child = tree.child(name)
    return child if child and child.alive and child.run == run else None


def _ready(tree: Tree, event: on.Ready, now_ms: int) -> Step:
    child = _current(tree, event.child, event.run)
    return (tree.with_child(WHEN_READY[child.status](child, now_ms)) if child else tree), ()


def _is_up(child: Child, now_ms: int) -> Child:
    return replace(child, status=Status.READY, ready_ms=now_ms, progress_ms=now_ms, deadline_ms=None)


def _is_up_too_late(child: Child, now_ms: int) -> Child:
    """It was asked to stop while it booted, and is listening only now."""
    return replace(child, ready_ms=now_ms)


def _is_up_already(child: Child, _now_ms: int) -> Child:
    return child


WHEN_READY: Mapping[Status, Callable[[Child, int], Child]] = {
    Status.STARTING: _is_up,
    Status.READY: _is_up_already,
    Status.STOPPING: _is_up_too_late,
    Status.KILLING: _is_up_already,
}


def _progress(tree: Tree, event: on.Progress, now_ms: int) -> Step:
    child = _current(tree, event.child, event.run)
    return (tree.with_child(replace(child, progress_ms=now_ms)) if child else tree), ()


def _worked(tree: Tree, event: on.Worked, _now_ms: int) -> Step:
    child = _current(tree, event.child, event.run)
    return (tree.with_child(replace(child, worked=True)) if child else tree), ()


def _exited(tree: Tree, event: on.Exited, now_ms: int) -> Step:
    child = _current(tree, event.child, event.run)
    return (gone(tree, child, event, now_ms) if child else tree), ()


def _not_started(tree: Tree, event: on.NotStarted, now_ms: int) -> Step:
    exited = on.Exited(
        event.child, event.run, Ending.FAILED, final=event.final, reason=event.reason, chance=event.chance
    )
    return _exited(tree, exited, now_ms)


def _pardon(tree: Tree, event: on.Pardon, now_ms: int) -> Step:
    """Take a counted death back, with everything that it led to."""
    pardoned = (event.child, event.run)
    for group in tree.groups:
        deaths = tuple(death for death in group.deaths if (death.child, death.run) != pardoned)
        if deaths != group.deaths:
            tree = _without_strike(tree, event.child, now_ms)
            tree = untrip(tree, replace(group, deaths=deaths), pardoned)
    return tree, ()


def _without_strike(tree: Tree, name: str, now_ms: int) -> Tree:
    child = tree.child(name)
    if not child:
        return tree
    return tree.with_child(replace(child, strikes=max(child.strikes - 1, 0), due_ms=min(child.due_ms, now_ms)))


def _condemn(tree: Tree, event: on.Condemn, now_ms: int) -> Step:
    child = _current(tree, event.child, event.run)
    if not child or child.status is Status.KILLING:
        return tree, ()
    return kill(tree, child, now_ms, event.reason)


def _recycle(tree: Tree, event: on.Recycle, now_ms: int) -> Step:
    child = _current(tree, event.child, event.run)
    if not child or child.goal is not Goal.UP:
        return tree, ()
    return tree.with_child(replace(child, goal=Goal.CYCLE, due_ms=now_ms)), ()


def _probe(tree: Tree, event: on.Probe, now_ms: int) -> Step:
    for group in tree.groups:
        if group.id == event.group and group.circuit is CircuitState.OPEN:
            tree = tree.with_group(replace(group, until_ms=now_ms))
    return tree, ()


def _reshape(tree: Tree, event: on.Reshape, now_ms: int) -> Step:
    return (reshape(tree, event, now_ms) if tree.phase is Phase.RUNNING else tree), ()


def _halt(tree: Tree, event: on.Halt, now_ms: int) -> Step:
    """Stop everything. A second request changes nothing, unless it is urgent and the first was not."""
    if tree.phase is Phase.HALTED:
        return tree, ()
    hurry = event.urgent and not tree.urgent
    if tree.phase is Phase.RUNNING:
        tree = replace(tree, grace_ms=event.grace_ms)
    tree = halting(tree, event.status, event.reason, urgent=event.urgent)
    orders: tuple[Command, ...] = ()
    for child in reversed(tree.children):
        if hurry and child.status is Status.STOPPING:
            tree, order = stop(tree, child, now_ms)
            orders += order
    return tree, orders


def _slept(tree: Tree, event: on.Slept, _now_ms: int) -> Step:
    """What was due while we slept is due as much later: the children may have slept with us."""
    for child in tree.children:
        deadline_ms = None if child.deadline_ms is None else child.deadline_ms + event.ms
        tree = tree.with_child(replace(child, progress_ms=child.progress_ms + event.ms, deadline_ms=deadline_ms))
    return tree, ()


def _tick(tree: Tree, _event: on.Tick, _now_ms: int) -> Step:
    return tree, ()


HANDLERS: Mapping[type, Callable[[Tree, Any, int], Step]] = {
    on.Ready: _ready,
    on.Progress: _progress,
    on.Worked: _worked,
    on.Exited: _exited,
    on.NotStarted: _not_started,
    on.Pardon: _pardon,
    on.Condemn: _condemn,
    on.Recycle: _recycle,
    on.Probe: _probe,
    on.Reshape: _reshape,
    on.Halt: _halt,
    on.Slept: _slept,
    on.Tick: _tick,
}
