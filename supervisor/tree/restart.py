"""When a child is started again, how soon, and which deaths count for the intensity.

A death counts unless the work explains it (`excused`): OTP knows only that a process died, while a worker that
finished jobs before it died, or that was ended for its job's deadline, says nothing about the pool's health.
"""

from __future__ import annotations

from collections.abc import Mapping

from supervisor.tree.model import Child, Death, Delays, Ending, Group, Restart

RESTARTS: Mapping[Restart, frozenset[Ending]] = {
    Restart.PERMANENT: frozenset(Ending),
    Restart.TRANSIENT: frozenset({Ending.FAILED, Ending.KILLED}),
    Restart.TEMPORARY: frozenset(),
}
"""After which endings a child is started again, by its restart type."""

EXPONENT_MAX = 64


def ending_of(exit_code: int | None, *, ordered: bool) -> Ending:
    """How a process ended; `exit_code` is None when a signal ended it, `ordered` whether we asked for it."""
    if ordered:
        return Ending.ORDERED
    if exit_code is None:
        return Ending.KILLED
    return Ending.FAILED if exit_code else Ending.NORMAL


def excused(*, finished_a_job: bool, ordered: bool) -> bool:
    """Whether a death counts for nothing: it finished a job since it was ready, or we ended it for its job.

    The third excuse, a verdict that charges a suspect which ran alone, is known only later: see `events.Pardon`.
    """
    return finished_a_job or ordered


def delay_ms(delays: Delays, nth: int, chance: float) -> int:
    """How long to wait the nth time, counted from 1; `chance`, from 0 up to 1, takes the jitter's part away."""
    span = min(delays.base_ms * delays.factor ** min(nth - 1, EXPONENT_MAX), delays.max_ms)
    return int(span * (1 - delays.jitter * chance))


def restart_delay_ms(delays: Delays, strikes: int, chance: float) -> int:
    """How long a restart waits: a first death costs nothing, each one after it longer."""
    return delay_ms(delays, strikes - 1, chance) if strikes > 1 else 0


def recent(deaths: tuple[Death, ...], now_ms: int, period_ms: int) -> tuple[Death, ...]:
    """Those deaths that are still within the period."""
    return tuple(death for death in deaths if death.at_ms > now_ms - period_ms)


def exceeded(group: Group) -> bool:
    """Whether the group's children have died more often than its intensity allows."""
    return len(group.deaths) > group.spec.intensity


def strikes_after(child: Child, group: Group, now_ms: int) -> int:
    """Counted deaths in a row, this one included; having been ready for long enough starts the row anew."""
    healthy = child.ready_ms is not None and now_ms - child.ready_ms >= group.spec.proven_ms
    return 1 if healthy else child.strikes + 1
