"""Jobs gathered in the client and sent in groups, by a thread that runs only while there is something to send.

Gathering trades safety for speed: what is here and not yet sent dies with the process, unless it ends through
`close`, which the interpreter's ordinary exit calls, too.
"""

from __future__ import annotations

import atexit
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

from supervisor.errors import JobsupError, Unconfirmed, UsageError, WaitTimeout
from supervisor.wire.asking import FORK_AWARE, Clock
from supervisor.wire.sift import sift

BLOCK_AT = 4
"""So many groups' worth of jobs may wait; then whoever enqueues does the sending, and so is slowed down."""

LINGER_S = 10
"""How long the thread waits for more before it ends."""


class Receipt:
    """What a buffered client returns at once for a job; the id comes with the flush. Usable where an id is."""

    __slots__ = ("_buffer", "_outcome")

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._outcome: int | JobsupError | None = None

    @property
    def done(self) -> bool:
        """Whether it is known what became of the job."""
        return self._outcome is not None

    def id(self, timeout: float | None = None) -> int:
        """The job's id; hurries the flush and waits for it, at most `timeout` seconds.

        Raises:
            WaitTimeout: it was not known in time.
            JobsupError: the job was not enqueued, or nobody knows whether it was (Unconfirmed).
        """
        outcome = self._outcome if self.done else self._buffer.outcome_of(self, timeout)
        if outcome is None:
            raise WaitTimeout(f"the job was not flushed within {timeout} s")
        if isinstance(outcome, JobsupError):
            raise outcome
        return outcome

    def settle(self, outcome: int | JobsupError) -> None:
        """Say what became of the job; the first word counts."""
        if self._outcome is None:
            self._outcome = outcome

    @property
    def outcome(self) -> int | JobsupError | None:
        """The id, or why there is none; None while it is not known."""
        return self._outcome

    def __index__(self) -> int:
        return self.id()

    def __repr__(self) -> str:
        return f"<Receipt {'pending' if self._outcome is None else repr(self._outcome)}>"


class Unit(NamedTuple):
    """Jobs that were enqueued in one call, and go in all or none."""

    queue: str
    jobs: Sequence[str]
    receipts: Sequence[Receipt]


class Buffer:
    """Gathers units and sends them when there are `jobs_max` or `bytes_max` of them, or after `interval_ms`.

    `send` enqueues a group into one queue, all or none, and returns the ids. Failures are kept for `flush`
    and `close` to raise: whoever never looks at receipts still hears of them.
    """

    def __init__(
        self,
        send: Callable[[str, Sequence[str]], Sequence[int]],
        clock_ms: Clock,
        *,
        jobs_max: int,
        bytes_max: int,
        interval_ms: int,
    ) -> None:
        self._send = send
        self._clock_ms = clock_ms
        self._jobs_max = jobs_max
        self._bytes_max = bytes_max
        self._interval_ms = interval_ms
        self._closed = False
        self._begin()
        FORK_AWARE.add(self)
        atexit.register(self.close)

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._thread: threading.Thread | None = None
        self._waiting: deque[Unit] = deque()
        self._flying: list[Unit] = []
        self._failed: list[tuple[int, JobsupError]] = []
        self._jobs = 0
        self._bytes = 0
        self._oldest_ms = 0
        self._hurried = False

    def after_fork(self) -> None:
        """Begin anew, empty: what waited is the parent's to send, and only the parent hears of it."""
        waiting = [*self._flying, *self._waiting]
        self._begin()
        for unit in waiting:
            for receipt in unit.receipts:
                receipt.settle(Unconfirmed("the parent process enqueues this job; only it learns the id"))

    def add(self, queue: str, jobs: Sequence[str]) -> list[Receipt]:
        """Take in jobs, as JSON text, that go in all or none.

        Raises:
            UsageError: the buffer is closed.
        """
        unit = Unit(queue, jobs, [Receipt(self) for _ in jobs])
        with self._changed:
            if self._closed:
                raise UsageError("the client is closed")
            if not self._waiting:
                self._oldest_ms = self._clock_ms()
            self._waiting.append(unit)
            self._jobs += len(jobs)
            self._bytes += sum(map(len, jobs))
            self._attend()
            blocked = self._jobs >= BLOCK_AT * self._jobs_max or self._bytes >= BLOCK_AT * self._bytes_max
        if blocked:
            self._send_all()
        return list(unit.receipts)

    def flush(self) -> None:
        """Send everything and wait for the answers, also of what is being sent already.

        Raises:
            JobsupError: of the class of the first failure since the last flush; it says how many jobs it was.
        """
        self._send_all()
        with self._changed:
            failed, self._failed = self._failed, []
        if failed:
            jobs, first = sum(jobs for jobs, _ in failed), failed[0][1]
            raise type(first)(f"{jobs} buffered jobs failed; the first: {first.message}", hint=first.hint)

    def close(self) -> None:
        """Flush, and take in no more; tolerates being called again.

        Raises:
            JobsupError: as `flush`.
        """
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        atexit.unregister(self.close)
        try:
            self.flush()
        finally:
            if thread := self._thread:
                thread.join()

    def outcome_of(self, receipt: Receipt, timeout: float | None) -> int | JobsupError | None:
        """What became of a job; hurries the flush and waits for it, at most `timeout` seconds, then None."""
        with self._changed:
            self._hurried = True
            attended = self._attend()
        if not attended:
            self._send_all()
        with self._changed:
            self._changed.wait_for(lambda: receipt.done, timeout)
        return receipt.outcome

    def _attend(self) -> bool:
        """See to it that the thread runs and looks; False where no thread can start, as when Python is ending."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="jobsup-flush", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._thread = thread
        if self._jobs == 1 or self._due():
            self._changed.notify_all()
        return True

    def _run(self) -> None:
        try:
            while self._wait_until_due():
                self._send_all()
        finally:
            with self._changed:
                if self._thread is threading.current_thread():
                    self._thread = None  # it was cut short: whoever comes next starts another

    def _wait_until_due(self) -> bool:
        """False when the thread shall end: nothing waits, and nothing came for a while or will come any more."""
        with self._changed:
            while not self._due():
                if self._waiting:
                    rest_ms = self._oldest_ms + self._interval_ms - self._clock_ms()
                    self._changed.wait(max(rest_ms, 1) / 1000)
                elif self._closed or not self._changed.wait(LINGER_S):
                    self._thread = None
                    return False
            return True

    def _due(self) -> bool:
        return bool(self._waiting) and (
            self._hurried
            or self._closed
            or self._jobs >= self._jobs_max
            or self._bytes >= self._bytes_max
            or self._clock_ms() - self._oldest_ms >= self._interval_ms
        )

    def _send_all(self) -> None:
        with self._sending:
            while batch := self._take():
                by_queue: dict[str, list[Unit]] = {}
                for unit in batch:
                    by_queue.setdefault(unit.queue, []).append(unit)
                try:
                    for queue in tuple(by_queue):
                        self._deliver(queue, by_queue.pop(queue))
                finally:
                    self._put_back([unit for units in by_queue.values() for unit in units])

    def _take(self) -> list[Unit]:
        """The next batch: what has waited longest, within the limits, but at least one unit."""
        batch: list[Unit] = []
        jobs = size_bytes = 0
        with self._changed:
            while self._waiting and not (batch and (jobs >= self._jobs_max or size_bytes >= self._bytes_max)):
                unit = self._waiting.popleft()
                batch.append(unit)
                jobs += len(unit.jobs)
                size_bytes += sum(map(len, unit.jobs))
            self._jobs -= jobs
            self._bytes -= size_bytes
            self._hurried = self._hurried and bool(self._waiting)
            self._flying = batch
        return batch

    def _put_back(self, units: Sequence[Unit]) -> None:
        """These were taken, and what came before them in the batch was cut short: they are the first of the next."""
        with self._changed:
            self._flying = []
            self._waiting.extendleft(reversed(units))
            self._jobs += sum(len(unit.jobs) for unit in units)
            self._bytes += sum(len(job) for unit in units for job in unit.jobs)

    def _deliver(self, queue: str, units: Sequence[Unit]) -> None:
        outcomes: Sequence[Sequence[int] | JobsupError]
        outcomes = [Unconfirmed("the flush was cut short")] * len(units)
        try:
            outcomes = sift(units, partial(self._send_units, queue))
        finally:
            with self._changed:
                for unit, outcome in zip(units, outcomes, strict=True):
                    self._settle(unit, outcome)
                self._changed.notify_all()

    def _send_units(self, queue: str, units: Sequence[Unit]) -> list[Sequence[int]]:
        ids = iter(self._send(queue, [job for unit in units for job in unit.jobs]))
        return [list(islice(ids, len(unit.jobs))) for unit in units]

    def _settle(self, unit: Unit, outcome: Sequence[int] | JobsupError) -> None:
        each: Sequence[int | JobsupError]
        if isinstance(outcome, JobsupError):
            self._failed.append((len(unit.jobs), outcome))
            each = [outcome] * len(unit.jobs)
        else:
            each = outcome
        for receipt, said in zip(unit.receipts, each, strict=True):
            receipt.settle(said)
