"""Looking at the cells of the workers: whose job is past its deadline, and when to look again.

A worker whose job must end before the next look rings the foreman's bell. First the promise of the next look is
written, then the cells are read, with a barrier in between: a job that begins meanwhile has either seen the
promise, and rings, or is seen.
"""

from __future__ import annotations

from collections.abc import Iterator

from supervisor.pool.crew import Crew
from supervisor.pool.ladder import Step, next_look_ms, overdue, steps
from supervisor.pool.member import Member
from supervisor.unix.barrier import membarrier

LOOK_MS = 10_000
"""How often cells are looked at when nobody rings and no deadline is near."""
PROBE_LOOK_MS = 100
"""The same while the circuit is probed: the first finished job closes it."""


class Watch:
    """The deadlines of one pool. `at_ms` is when the cells are looked at next."""

    def __init__(self, kill_grace_ms: int) -> None:
        self._kill_grace_ms = kill_grace_ms
        self.at_ms = 0

    def soon(self) -> None:
        """Look at the next turn."""
        self.at_ms = 0

    def look(self, crew: Crew, now_ms: int, *, probing: bool) -> Iterator[tuple[Member, Step]]:
        """Every step of a ladder that is due now, in order; nothing if it is not yet time to look."""
        if now_ms < self.at_ms:
            return
        latest_ms = now_ms + (PROBE_LOOK_MS if probing else LOOK_MS)
        for member in crew:
            member.watch_until(latest_ms)
        membarrier()
        self.at_ms = latest_ms
        for member in crew:
            yield from self._look_at(member, now_ms)
        for member in crew:
            member.watch_until(self.at_ms)

    def _look_at(self, member: Member, now_ms: int) -> Iterator[tuple[Member, Step]]:
        cells = member.cells()
        due: tuple[Step, ...] = ()
        member.asked.intersection_update({(cell.id, cell.token) for cell in cells})
        member.climb = overdue(member.climb, cells, member.asked, now_ms)
        if member.climb:
            member.climb, due = steps(member.climb, self._kill_grace_ms, now_ms)
        self.at_ms = next_look_ms(member.climb, cells, self._kill_grace_ms, self.at_ms)
        return ((member, step) for step in due)
