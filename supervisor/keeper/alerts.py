"""Where the keeper's parts say what people should be told of; what becomes of it is decided by the policy.

Everything here is cheap, and does nothing where `[alerts]` is not in the configuration or has the kind switched off.
"""

from __future__ import annotations

from collections.abc import Callable

from supervisor.config import spec
from supervisor.observe.sanitise import sanitise
from supervisor.policy.alerts import DETAIL_MAX, Desk
from supervisor.unix.clock import boot_ms, wall_ms

STORE_PROVEN_MS = 1_000
"""A store that fails for so long is failing; a lock that somebody held for a moment is nothing to tell of."""
STORE_CALM_MS = 10_000
"""One that fails now and then, as a full disk does, works again when it has not failed for so long."""


class Alerts:
    """What is to be told. Times are those of the call: whoever calls tells what has just been committed, or seen."""

    def __init__(self, wanted: spec.Alerts) -> None:
        self.desk = Desk(wanted.group_ms, wanted.limit)
        self.on: frozenset[str] = frozenset()
        self._undead: set[int] = set()
        self._store_error = ""
        self._store_failing: tuple[int, int] | None = None
        """When the store failed first and last."""
        self.use(wanted)

    def use(self, wanted: spec.Alerts) -> None:
        """Work by this section from now on."""
        self.on = frozenset(wanted.on) if wanted.configured else frozenset()
        self.desk.group_ms, self.desk.limit = wanted.group_ms, wanted.limit

    # -- events ------------------------------------------------------------------------------------------------

    def dead(self, queue: str, job_id: int, message: str) -> None:
        """A job has died."""
        self._happened("dead", queue, message, job_id)

    def missed(self, queue: str, detail: str, count: int = 1) -> None:
        """So many runs of a schedule that enqueues into this queue were missed; `detail` names it and says why."""
        self._happened("missed", queue, detail, count=count)

    def reload_refused(self, problem: str) -> None:
        """A configuration could not be used."""
        self._happened("reload", None, problem)

    def undead(self, queue: str, slot: int, pid: int, *, gone: bool) -> None:
        """A worker was killed and is still there, or is gone at last; said again and again until it is answered."""
        if gone:
            self._undead.discard(slot)
        elif slot not in self._undead:
            self._undead.add(slot)
            self._happened("undead", queue, f"process {pid} was killed and is still there; its slot is given up")

    def _happened(self, kind: str, queue: str | None, detail: str, job: int | None = None, count: int = 1) -> None:
        if kind in self.on:
            self.desk.happened(kind, queue, wall_ms(), boot_ms(), job=job, detail=_short(detail), count=count)

    # -- conditions --------------------------------------------------------------------------------------------

    def breaker(self, queue: str, reason: str | None) -> None:
        """How the breaker of a queue stands: why it is open, or None if it is closed.

        To be said at each change, and by a new keeper once of every queue that has a breaker.
        """
        self.look("breaker", queue, reason)

    def look(self, kind: str, queue: str | None, detail: str | None) -> None:
        """How a condition stands; None if it does not hold. What is not looked at stays as it was."""
        if kind in self.on:
            self.desk.look(kind, queue, None if detail is None else _short(detail), wall_ms(), boot_ms())

    def store_failed(self, error: str) -> None:
        """A pass could not be committed."""
        now_ms = boot_ms()
        first_ms, last_ms = self._store_failing or (now_ms, now_ms)
        self._store_failing = (now_ms if now_ms - last_ms >= STORE_CALM_MS else first_ms), now_ms
        self._store_error = error

    def look_at_store(self, *, failing: bool) -> None:
        """Whether the store works; `failing`: the last pass could not be committed."""
        if self._store_failing is None:
            self.look("store", None, None)
            return
        now_ms = boot_ms()
        first_ms, last_ms = self._store_failing
        if failing:
            last_ms = now_ms
        elif now_ms - last_ms >= STORE_CALM_MS:
            self._store_failing = None
            self.look("store", None, None)
            return
        if last_ms - first_ms >= STORE_PROVEN_MS:
            self.look("store", None, self._store_error)

    def keep(self, known: Callable[[str], bool]) -> None:
        """Forget conditions of what left the configuration."""
        self.desk.keep(known, self.on)


def _short(detail: str) -> str:
    """What of a text is told, in one line: what a job's exception says may be a megabyte."""
    return sanitise(detail[:DETAIL_MAX])
