"""Where the relay is in its table: which rows come next, and which wait because their queues are full. Pure.

Rows go in the order of their ids. A row whose queue is full stays, and so do those of the same queue behind it, while
others pass; after a while the queue is tried again with its first row.
"""

from __future__ import annotations

FIRST = -(2**63)
TRY_AGAIN_MS, TRY_AGAIN_MAX_MS = 100, 2_000


class Full:
    """A queue that has no room: its first row that waits, and when it is tried again."""

    def __init__(self, row: int, now_ms: int) -> None:
        self.row = row
        self.pause_ms = TRY_AGAIN_MS
        self.again_ms = now_ms + self.pause_ms


class Lines:
    """No row up to `position` is to be sent but those whose queues are full, as far as they were there when it was
    read: the application may give ids itself, and clear errors."""

    def __init__(self) -> None:
        self.position = FIRST
        self.full: dict[str, Full] = {}

    def due(self, now_ms: int) -> str | None:
        """A queue that is to be tried again now."""
        return next((queue for queue, full in self.full.items() if now_ms >= full.again_ms), None)

    def next_ms(self) -> int | None:
        """When the next queue is to be tried again."""
        return min((full.again_ms for full in self.full.values()), default=None)

    def end_at(self, last: int | None) -> None:
        """Up to the last id that there is, nothing behind the position is to be sent."""
        if last is not None:
            self.position = max(self.position, last)

    def has_room(self, queue: str) -> None:
        """All rows of a queue that waited have been taken."""
        self.full.pop(queue, None)

    def waits(self, queue: str, row: int, now_ms: int, *, tried: bool) -> None:
        """A row was not taken, as its queue is full; `tried`: it was asked for as the first of those that wait."""
        known = self.full.get(queue)
        if known is None:
            self.full[queue] = Full(row, now_ms)
        elif not tried:
            known.row = min(known.row, row)
        elif row == known.row:
            known.pause_ms = min(2 * known.pause_ms, TRY_AGAIN_MAX_MS)
            known.again_ms = now_ms + known.pause_ms
        else:
            known.row, known.pause_ms, known.again_ms = row, TRY_AGAIN_MS, now_ms + TRY_AGAIN_MS

    def went_on(self, queue: str, row: int, now_ms: int) -> None:
        """Rows of a queue that waited were taken up to this one: go on behind it at once."""
        known = self.full[queue]
        known.row, known.pause_ms, known.again_ms = row + 1, TRY_AGAIN_MS, now_ms
