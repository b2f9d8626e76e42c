"""When the chores about jobs that have been are due, and how far they are."""

from __future__ import annotations

from supervisor.job import State as JobState


class Archiving:
    """When each chore is due, on the boot clock, and how far it is: a cache, which a new keeper begins anew."""

    def __init__(self) -> None:
        self.replay_at_ms = 0
        self.trim_at_ms = 0
        self.thin_at_ms = 0
        self.letters_at_ms = 0
        self.looked_at: dict[int, int] = {}
        self.trimmed_to: dict[tuple[str, JobState], int] = {}
        self.anew_at_ms = 0

    def next_ms(self) -> int:
        """When the first of them is due."""
        return min(self.replay_at_ms, self.trim_at_ms, self.thin_at_ms, self.letters_at_ms)
