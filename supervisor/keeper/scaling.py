"""Whether a pool may have the number of workers that somebody asks for."""

from __future__ import annotations

from supervisor.config.spec import Queue
from supervisor.errors import UsageError, WrongState


def check(queue: Queue, workers: int | None) -> None:
    """Whether the pool may have so many workers; None is the load's own number.

    Raises:
        WrongState: the number of its workers is fixed.
        UsageError: it is out of the bounds.
    """
    least, most = queue.workers_min, queue.workers_max
    if not queue.autoscaled:
        hint = "edit workers in the configuration, then jobsctl reload: it restarts nothing"
        raise WrongState(
            f"queue {queue.name} has {most} {'worker' if most == 1 else 'workers'}, whatever the load is", hint=hint
        )
    if workers is not None and not least <= workers <= most:
        raise UsageError(f"queue {queue.name} may have {least} to {most} workers, not {workers}")
