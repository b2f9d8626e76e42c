"""What is missing between what is wanted and what is: deadlines that passed, stops, starts, the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from supervisor.policy.duration import show
from supervisor.tree.circuit import turn
from supervisor.tree.commands import Abandon, Command, Halted, Kill, Start, Stop
from supervisor.tree.deaths import gone
from supervisor.tree.events import Exited
from supervisor.tree.groups import may_start, may_stop
from supervisor.tree.model import Child, Ending, Phase, Status, Tree

Step = tuple[Tree, tuple[Command, ...]]


def settle(tree: Tree, now_ms: int) -> Step:
    """Order everything that can be ordered now. Doing it twice orders nothing more."""
    tree, expired = _expire(tree, now_ms)
    tree = turn(tree, now_ms)
    tree, stops = _stop_all(tree, now_ms)
    tree, starts = _start_all(tree, now_ms)
    tree, end = _finish(tree)
    return tree, (*expired, *stops, *starts, *end)


def _expire(tree: Tree, now_ms: int) -> Step:
    orders: tuple[Command, ...] = ()
    for name in [child.id for child in tree.children]:
        child = tree.child(name)
        assert child, "a child leaves the tree only by its own end"
        tree, order = _expire_child(tree, child, now_ms)
        orders += order
    return tree, orders


def _expire_child(tree: Tree, child: Child, now_ms: int) -> Step:
    if child.status is Status.READY:
        return _expire_progress(tree, child, now_ms)
    if child.deadline_ms is None or child.deadline_ms > now_ms:
        return tree, ()
    return MISSED[child.status](tree, child, now_ms)


def _expire_progress(tree: Tree, child: Child, now_ms: int) -> Step:
    limit_ms = child.spec.progress_ms
    if limit_ms is None or now_ms - child.progress_ms < limit_ms:
        return tree, ()
    return kill(tree, replace(child, overdue=True), now_ms, f"it showed no progress for {show(limit_ms)}")


def _miss_boot(tree: Tree, child: Child, now_ms: int) -> Step:
    reason = f"it was not ready within {show(child.spec.boot_timeout_ms)}"
    return kill(tree, replace(child, overdue=True), now_ms, reason)


def _miss_stop(tree: Tree, child: Child, now_ms: int) -> Step:
    return kill(tree, child, now_ms, "it did not stop within its grace")


def _miss_death(tree: Tree, child: Child, now_ms: int) -> Step:
    exited = Exited(child.id, child.run, Ending.ORDERED, excused=True, reason="did not die of SIGKILL")
    return gone(tree, child, exited, now_ms), (Abandon(child.id, child.run),)


MISSED: Mapping[Status, Callable[[Tree, Child, int], Step]] = {
    Status.STARTING: _miss_boot,
    Status.STOPPING: _miss_stop,
    Status.KILLING: _miss_death,
}
"""What a deadline that has passed means, by status."""


def _stop_all(tree: Tree, now_ms: int) -> Step:
    orders: list[Command] = []
    for child in reversed(tree.children):
        if may_stop(tree, child):
            tree, order = stop(tree, child, now_ms)
            orders.extend(order)
    return tree, tuple(orders)


def _start_all(tree: Tree, now_ms: int) -> Step:
    orders: list[Command] = []
    for child in tree.children:
        if may_start(tree, child, now_ms):
            tree = replace(tree, runs=tree.runs + 1)
            orders.append(Start(child.id, tree.runs))
            tree = tree.with_child(
                replace(
                    child,
                    status=Status.STARTING,
                    run=tree.runs,
                    starts=child.starts + 1,
                    deadline_ms=now_ms + child.spec.boot_timeout_ms,
                )
            )
    return tree, tuple(orders)


def _finish(tree: Tree) -> Step:
    if tree.phase is not Phase.HALTING or any(child.alive for child in tree.children):
        return tree, ()
    return replace(tree, phase=Phase.HALTED), (Halted(tree.status, tree.reason),)


def stop(tree: Tree, child: Child, now_ms: int) -> Step:
    """Ask the child to end within its grace; without a grace, kill it."""
    polite_ms = child.spec.shutdown_ms if tree.grace_ms is None else tree.grace_ms
    grace_ms = child.spec.urgent_ms if tree.urgent else polite_ms
    if grace_ms == 0:
        return kill(tree, child, now_ms, "stopped without grace")
    deadline_ms = now_ms + grace_ms
    if child.status is Status.STOPPING and child.deadline_ms is not None:
        deadline_ms = min(deadline_ms, child.deadline_ms)
    order = Stop(child.id, child.run, urgent=tree.urgent, booting=child.ready_ms is None)
    return tree.with_child(replace(child, status=Status.STOPPING, deadline_ms=deadline_ms)), (order,)


def kill(tree: Tree, child: Child, now_ms: int, reason: str) -> Step:
    """Kill the child; where its spec says so, it is given up if it does not die."""
    undead_ms = child.spec.undead_ms
    deadline_ms = None if undead_ms is None else now_ms + undead_ms
    killed = replace(child, status=Status.KILLING, deadline_ms=deadline_ms, reason=reason)
    return tree.with_child(killed), (Kill(child.id, child.run, reason),)
