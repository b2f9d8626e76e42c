"""Alerts that wait for the command: a bounded line, in which messages about one thing keep their order."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

WAITING_MAX = 100
TRIES = 2
RETRY_MS = 1_000


@dataclass(slots=True)
class Task:
    """One alert: `data` is its JSON; it is not tried before `not_before_ms`, on the boot clock."""

    number: int
    kind: str
    state: str
    queue: str | None
    since_ms: int
    data: bytes
    tries: int = 0
    not_before_ms: int = 0

    @property
    def about(self) -> tuple[str, str | None]:
        """What it is about: of two such alerts the later one is told later."""
        return self.kind, self.queue


class Line:
    """The line. Who comes when it is full is turned away, and the keeper hears of it."""

    def __init__(self) -> None:
        self._tasks: list[Task] = []

    def __len__(self) -> int:
        return len(self._tasks)

    def join(self, task: Task) -> bool:
        """Wait at the end; False if the line is full."""
        if len(self._tasks) >= WAITING_MAX:
            return False
        self._tasks.append(task)
        return True

    def again(self, task: Task, now_ms: int) -> bool:
        """Wait once more, first in line, after a try that failed; False if it has had its tries."""
        if task.tries >= TRIES:
            return False
        task.not_before_ms = now_ms + RETRY_MS
        self._tasks.insert(0, task)
        return True

    def next(self, busy: Collection[tuple[str, str | None]], now_ms: int) -> Task | None:
        """Take the first that may begin: not before its time, and not before an earlier one about the same thing."""
        passed = set(busy)
        for task in self._tasks:
            if task.about not in passed and task.not_before_ms <= now_ms:
                self._tasks.remove(task)
                return task
            passed.add(task.about)
        return None

    def next_ms(self, now_ms: int) -> int | None:
        """When one that waits for its second try may begin; None if none does."""
        return min((task.not_before_ms for task in self._tasks if task.not_before_ms > now_ms), default=None)
