"""Clients that wait for jobs to end: answered when they do, or when the time of the wait is over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from typing import Any

from supervisor.errors import JobsupError, UnknownJob, WaitTimeout
from supervisor.job import FINAL
from supervisor.wire.connection import Connection
from supervisor.wire.messages import Wait

FINAL_VALUES = frozenset(state.value for state in FINAL)
SWEEP_MIN = 1_000
"""Waits that are over, or whose client is gone, are thrown out when all have doubled, and are more than this."""


class Waiter:
    """A client that waits for a job, or for a flow: `called`. `answered` once it was told, or is gone."""

    __slots__ = ("answered", "called", "connection", "request")

    def __init__(self, connection: Connection, request: Wait, called: str) -> None:
        self.connection = connection
        self.request = request
        self.called = f"{called} {request.job}"
        self.answered = False


class Waits:
    """Every wait, by job and by when it is over. `reply` and `refuse` answer one request of a connection."""

    def __init__(
        self,
        reply: Callable[[Connection, int, dict[str, Any]], None],
        refuse: Callable[[Connection, int, JobsupError], None],
    ) -> None:
        self._reply = reply
        self._refuse = refuse
        self._of_job: dict[int, list[Waiter]] = defaultdict(list)
        self._ends: list[tuple[int, int, Waiter]] = []
        self._count = 0
        self._sweep_at = SWEEP_MIN

    @property
    def jobs(self) -> set[int]:
        """The jobs that somebody waits for."""
        return set(self._of_job)

    def add(self, connection: Connection, request: Wait, now_ms: int, called: str = "job") -> None:
        """Let a client wait for a job or a flow that has not ended; `now_ms` is of the boot clock."""
        waiter = Waiter(connection, request, called)
        self._of_job[request.job].append(waiter)
        self._count += 1
        heappush(self._ends, (now_ms + request.timeout_ms, self._count, waiter))
        if len(self._ends) > self._sweep_at:
            self._sweep()

    def tell(
        self, ended: Iterable[int], finals: Callable[[set[int]], Iterable[int]],
        look: Callable[[int], dict[str, Any] | None],
    ) -> None:  # fmt: skip
        """Answer those who wait for jobs of which a run has just ended, if it was the last.

        `finals` picks those that are final or gone, all at once; `look` shows one of them.
        """
        waited = self._of_job.keys() & set(ended)
        for job_id in finals(waited) if waited else ():
            shown = look(job_id)
            if shown is None or shown["state"] in FINAL_VALUES:
                for waiter in self._of_job.pop(job_id):
                    self._answer(waiter, shown)

    def end(self, now_ms: int) -> None:
        """Tell those whose time is over."""
        while self._ends and self._ends[0][0] <= now_ms:
            _, _, waiter = heappop(self._ends)
            if waiter.answered:
                continue
            self._forget(waiter)
            # Not in which time: a long wait is asked for in slices, and this may be the last of them.
            self._refuse(waiter.connection, waiter.request.id, WaitTimeout(f"{waiter.called} did not end in time"))

    @property
    def next_ms(self) -> int | None:
        """When the next wait is over, on the boot clock."""
        return self._ends[0][0] if self._ends else None

    def _answer(self, waiter: Waiter, shown: dict[str, Any] | None) -> None:
        waiter.answered = True
        request = waiter.request
        if shown is None:
            self._refuse(waiter.connection, request.id, UnknownJob(f"{waiter.called} was deleted before it ended"))
        else:
            self._reply(waiter.connection, request.id, shown)

    def _forget(self, waiter: Waiter) -> None:
        waiters = self._of_job[waiter.request.job]
        waiters.remove(waiter)
        if not waiters:
            del self._of_job[waiter.request.job]

    def _sweep(self) -> None:
        for _, _, waiter in self._ends:
            if waiter.connection.closed and not waiter.answered:
                waiter.answered = True
                self._forget(waiter)
        self._ends = [end for end in self._ends if not end[2].answered]
        heapify(self._ends)
        self._sweep_at = max(SWEEP_MIN, 2 * len(self._ends))
