"""Circuits: a group whose children die too often is given time, tried again with one child, and believed again.

While a circuit is open, children that run go on: they are not what is failing. Only in a coupled group, whose
children need each other, all are stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from supervisor.tree.events import Exited
from supervisor.tree.model import Child, CircuitState, CrashLoop, Goal, Group, Phase, Status, Tree
from supervisor.tree.restart import delay_ms, exceeded


def trip(tree: Tree, child: Child, event: Exited, now_ms: int) -> Tree:
    """Open the circuit of the child that just died, or end the tree where the group is to escalate."""
    group = tree.group(child.group)
    if group.spec.on_crash_loop is CrashLoop.ESCALATE:
        status = event.status if event.final else 1
        return halting(
            tree.with_child(replace(child, goal=Goal.DOWN)), status, f"{group.id}: {event.reason}", urgent=False
        )
    probes = group.probes + 1
    opened = replace(
        group,
        circuit=CircuitState.OPEN,
        probes=probes,
        until_ms=now_ms + delay_ms(group.spec.probe_delays, probes, event.chance),
        reason=event.reason,
        tripped_by=(event.child, event.run),
    )
    tree = tree.with_group(opened).with_child(child)
    for member in tuple(tree.members(group.id)):
        if member.goal is not Goal.DOWN and (opened.coupled or not member.alive):
            tree = tree.with_child(replace(member, goal=Goal.HELD))
    return tree


def untrip(tree: Tree, group: Group, pardoned: tuple[str, int]) -> Tree:
    """The tree with the group as it stands after a pardon: closed, if that death alone had opened its circuit."""
    if group.tripped_by != pardoned:
        return tree.with_group(group)
    if exceeded(group):
        latest = group.deaths[-1]
        return tree.with_group(replace(group, tripped_by=(latest.child, latest.run)))
    return close(tree.with_group(group), group.id)


def close(tree: Tree, name: str) -> Tree:
    """Believe the group again: nothing is held any more, nothing is counted against it."""
    closed = replace(tree.group(name), circuit=CircuitState.CLOSED, probes=0, reason="", tripped_by=None)
    tree = tree.with_group(closed)
    for member in tuple(tree.members(name)):
        tree = tree.with_child(released(member))
    return tree


def released(child: Child) -> Child:
    """The child, no longer held; one that is already being stopped starts again afterwards."""
    if child.goal is not Goal.HELD:
        return child
    return replace(child, goal=Goal.CYCLE if child.alive and not child.running else Goal.UP)


def turn(tree: Tree, now_ms: int) -> Tree:
    """Let time act on the circuits: open ones are probed when their time has come, probes prove themselves."""
    for group in tree.groups if tree.phase is Phase.RUNNING else ():
        tree = TURNS[group.circuit](tree, group, now_ms)
    return tree


def _turn_closed(tree: Tree, _group: Group, _now_ms: int) -> Tree:
    return tree


def _turn_open(tree: Tree, group: Group, now_ms: int) -> Tree:
    if group.until_ms > now_ms:
        return tree
    tree = _probe(tree, group, now_ms)
    return _turn_probing(tree, tree.group(group.id), now_ms)


def _turn_probing(tree: Tree, group: Group, now_ms: int) -> Tree:
    """Close when a probe has proved itself; where the probe ended for good, another takes its place."""
    members = tuple(tree.members(group.id))
    if any(_proven(group, child, now_ms) for child in members):
        return close(tree.with_group(replace(group, deaths=())), group.id)
    if any(_on_probe(group, child) for child in members):
        return tree
    held = any(child.goal is Goal.HELD for child in members)
    return _probe(tree, group, now_ms) if held else close(tree, group.id)


TURNS: Mapping[CircuitState, Callable[[Tree, Group, int], Tree]] = {
    CircuitState.CLOSED: _turn_closed,
    CircuitState.OPEN: _turn_open,
    CircuitState.PROBING: _turn_probing,
}


def _probe(tree: Tree, group: Group, now_ms: int) -> Tree:
    tree = tree.with_group(replace(group, circuit=CircuitState.PROBING, until_ms=now_ms))
    held = [child for child in tree.members(group.id) if child.goal is Goal.HELD]
    for child in held if group.coupled else held[:1]:
        tree = tree.with_child(released(replace(child, due_ms=now_ms)))
    return tree


def _on_probe(group: Group, child: Child) -> bool:
    """Whether this child is, or will be, a process that can prove something."""
    wanted = child.goal in (Goal.UP, Goal.CYCLE)
    return wanted and (child.ready_ms is None or child.ready_ms >= group.until_ms)


def _proven(group: Group, child: Child, now_ms: int) -> bool:
    """Whether this child became ready after the probe began, and has worked or lasted since."""
    return (
        child.status is Status.READY
        and child.ready_ms is not None
        and child.ready_ms >= group.until_ms
        and (child.worked or now_ms - child.ready_ms >= group.spec.proven_ms)
    )


def halting(tree: Tree, status: int, reason: str, *, urgent: bool) -> Tree:
    """Want everything gone. The first reason and the first status that is not 0 stay."""
    children = tuple(replace(child, goal=Goal.DOWN) for child in tree.children)
    return replace(
        tree,
        children=children,
        phase=Phase.HALTING,
        urgent=tree.urgent or urgent,
        status=tree.status or status,
        reason=tree.reason or reason,
    )
