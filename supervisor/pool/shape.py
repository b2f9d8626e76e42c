"""What a foreman keeps alive, as a pure function of its queue: one_for_one, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from supervisor.config.spec import Queue
from supervisor.tree.model import Child, ChildSpec, CrashLoop, GroupSpec, Tree

STANDBY = 2
"""Workers that stand by, their imports done, where a fork cannot bring the imports along."""
RUN_ON_MS = 24 * 3_600_000
"""A worker that shall leave runs its job to the end; the job's own deadline is what bounds that."""
BOOT_MARGIN_MS = 1_000
"""An import that takes too long is told so in the worker, where the traceback is; this is for what cannot be told."""
UNDEAD_MS = 2_000
"""How long after SIGKILL a worker that is still there is given up, and its jobs run elsewhere."""


def standby(*, preloaded: bool) -> int:
    """How many workers more than wanted there are, for a fork to be ready."""
    return 0 if preloaded else STANDBY


def shape(queue: Queue, numbers: Iterable[int]) -> tuple[GroupSpec, ...]:
    """The pool as a group of the tree: a child for each number."""
    children = tuple(
        ChildSpec(
            f"{queue.name}/{number}",
            boot_timeout_ms=queue.boot_timeout_ms + BOOT_MARGIN_MS,
            shutdown_ms=RUN_ON_MS,
            undead_ms=UNDEAD_MS,
        )
        for number in numbers
    )
    group = GroupSpec(
        queue.name,
        children,
        intensity=queue.restart.intensity,
        period_ms=queue.restart.period_ms,
        on_crash_loop=CrashLoop(queue.on_crash_loop),
    )
    return (group,)


def fitted(tree: Tree, wanted: int, most: int, spared: Callable[[Child], tuple[int, int]]) -> list[int] | None:
    """The numbers of the children to have so that `wanted` stay; None if it is so already.

    Those that only finish their last job count for `most`, and their numbers are not used again before they are gone:
    a child of that number would have to wait for them. `spared` orders those that could go, the first to go first.
    """
    staying = [child for child in tree.children if not child.leaving]
    if wanted < len(staying):
        going = {child.id for child in sorted(staying, key=spared)[: len(staying) - wanted]}
        return [_number(child) for child in staying if child.id not in going]
    leaving = len(tree.children) - len(staying)
    more = min(wanted, most - leaving) - len(staying)
    if more <= 0:
        return None
    taken = {_number(child) for child in tree.children}
    free = [number for number in range(len(taken) + more) if number not in taken]
    return [*map(_number, staying), *free[:more]]


def _number(child: Child) -> int:
    return int(child.id.rpartition("/")[2])
