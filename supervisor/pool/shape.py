"""What a foreman keeps alive, as a pure function of its queue: one_for_one, side by side."""

from __future__ import annotations

from supervisor.config.spec import Queue
from supervisor.tree.model import ChildSpec, CrashLoop, GroupSpec

STANDBY = 2
"""Workers that stand by, their imports done, where a fork cannot bring the imports along."""
RUN_ON_MS = 24 * 3_600_000
"""A worker that shall leave runs its job to the end; the job's own deadline is what bounds that."""
BOOT_MARGIN_MS = 1_000
"""An import that takes too long is told so in the worker, where the traceback is; this is for what cannot be told."""
UNDEAD_MS = 2_000
"""How long after SIGKILL a worker that is still there is given up, and its jobs run elsewhere."""


def shape(queue: Queue, *, preloaded: bool) -> tuple[GroupSpec, ...]:
    """The pool as a group of the tree."""
    count = queue.workers + (0 if preloaded else STANDBY)
    children = tuple(
        ChildSpec(
            f"{queue.name}/{number}",
            boot_timeout_ms=queue.boot_timeout_ms + BOOT_MARGIN_MS,
            shutdown_ms=RUN_ON_MS,
            undead_ms=UNDEAD_MS,
        )
        for number in range(count)
    )
    group = GroupSpec(
        queue.name,
        children,
        intensity=queue.restart.intensity,
        period_ms=queue.restart.period_ms,
        on_crash_loop=CrashLoop(queue.on_crash_loop),
    )
    return (group,)
