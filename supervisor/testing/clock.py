"""A clock that stands still until it is moved: both clocks of jobsup, for a keeper and workers in this process."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import UTC, datetime

from supervisor.unix.clock import told, wall_ms

BOOTED_MS = 3_600_000
"""What the boot clock shows at first: the machine has been up for an hour."""
NS = 1_000_000


class VirtualClock:
    """Moves only forward, and both clocks by the same. `wall_ns` and `boot_ns` are what they show."""

    def __init__(self, now: datetime | str | None = None) -> None:
        """Args:
            now: what it shows at first: a datetime with a time zone, or RFC 3339 text; None: what the machine's shows.

        Raises:
            ValueError: it is no instant, or has no time zone.
        """  # fmt: skip
        self.wall_ns = (wall_ms() if now is None else _ms_of(now)) * NS
        self.boot_ns = BOOTED_MS * NS

    @property
    def wall_ms(self) -> int:
        """Milliseconds since 1970, UTC."""
        return self.wall_ns // NS

    @property
    def now(self) -> datetime:
        """What it shows, in UTC."""
        return datetime.fromtimestamp(self.wall_ms / 1000, UTC)

    def boot_ms(self) -> int:
        """Milliseconds since the machine that it plays has booted."""
        return self.boot_ns // NS

    def move(self, ms: int) -> None:
        """Move both clocks forward by so many milliseconds.

        Raises:
            ValueError: that would be back.
        """
        if ms < 0:
            raise ValueError(f"the clock moves forward only, not by {ms} ms")
        self.wall_ns += ms * NS
        self.boot_ns += ms * NS

    def ruling(self) -> AbstractContextManager[None]:
        """In this block, jobsup's own code on this thread goes by this clock."""
        return told(self)

    @staticmethod
    def lifted() -> AbstractContextManager[None]:
        """In this block, it goes by the machine's clocks again: there is code of others."""
        return told(None)


def _ms_of(now: datetime | str) -> int:
    instant = datetime.fromisoformat(now) if isinstance(now, str) else now
    if instant.tzinfo is None:
        raise ValueError(f"{instant.isoformat()} has no time zone; write it as {instant.isoformat()}Z")
    return round(instant.timestamp() * 1000)
