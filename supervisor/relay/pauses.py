"""When the relay tries its table again after it could not be used: pauses that grow until it works. Pure."""

from __future__ import annotations

PAUSE_MS, LOCKED_MAX_MS = 20, 1_000
LOCKED_SHOWN_MS = 1_000
CHANGED_MS = 1_000
"""How long after a failure a change of the file may make us try again: it may change a thousand times a second."""


class Pauses:
    """`until_ms`, on the boot clock, is when the next try may be; `changed_until_ms` when, should the file change."""

    def __init__(self) -> None:
        self.until_ms = 0
        self.changed_until_ms = 0
        self._next_ms = PAUSE_MS
        self._locked_since_ms: int | None = None

    def failed(self, now_ms: int, max_ms: int) -> None:
        """Something is wrong with the table, which a change of the file may mend."""
        self._wait(now_ms, max_ms)
        self.changed_until_ms = min(self.until_ms, now_ms + CHANGED_MS)

    def locked(self, now_ms: int) -> bool:
        """Another program holds a lock; whether it has for so long that people should know."""
        self._wait(now_ms, LOCKED_MAX_MS)
        self.changed_until_ms = self.until_ms
        if self._locked_since_ms is None:
            self._locked_since_ms = now_ms
        return now_ms - self._locked_since_ms >= LOCKED_SHOWN_MS

    def changed(self) -> None:
        """The file has changed."""
        self.until_ms = min(self.until_ms, self.changed_until_ms)

    def over(self) -> None:
        """The table works: the next pause is a short one."""
        self._next_ms, self._locked_since_ms = PAUSE_MS, None

    def deaf(self, now_ms: int) -> bool:
        """Whether no change of the file could bring the next try forward."""
        return now_ms < self.until_ms <= self.changed_until_ms

    def _wait(self, now_ms: int, max_ms: int) -> None:
        self.until_ms = now_ms + min(self._next_ms, max_ms)
        self._next_ms = min(2 * self._next_ms, max_ms)
