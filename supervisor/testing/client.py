"""The client of a queue in this process: the real one, whose connection ends at a keeper that it turns itself."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterable
from typing import Any

from supervisor.client import Client
from supervisor.errors import Busy, WaitTimeout
from supervisor.job import Duration
from supervisor.shapes import JobStatus
from supervisor.testing.keeper import InProcessKeeper
from supervisor.wire.asking import Failed, Names, error_of
from supervisor.wire.calls import WAIT_SLICE_MS, Calls, Steps
from supervisor.wire.client import RECEIVE_BYTES, Channel, Stream

Proceed = Callable[[], bool]
"""Has something happen that a caller could be waiting for: a job runs, or the clock moves; False if nothing is left."""


class InProcessStream(Stream):
    """A connection whose other side moves only while somebody asks."""

    def __init__(self, sock: socket.socket, keeper: InProcessKeeper, proceed: Proceed) -> None:
        super().__init__(sock, keeper.clock.boot_ms)
        self._keeper = keeper
        self._proceed = proceed

    def ask(
        self, request: bytes, request_id: int, deadline_ms: int, on_sent: Callable[[], None] | None = None
    ) -> dict[str, Any]:
        """The reply to a request; while it must be waited for, jobs run and time passes.

        Raises:
            Failed: the deadline has passed, or nothing is left that could bring the answer.
            JobsupError: the keeper refused the connection.
        """
        del on_sent  # nobody closes the client meanwhile
        rest = memoryview(request)
        while True:
            rest = rest[self._sent(rest) :]
            self._keeper.rest()
            for reply in self._received():
                if reply.get("id") == request_id:
                    self._answered = True
                    return reply
                if reply.get("id") is None:
                    raise error_of(reply)
            if rest:
                continue
            if self._keeper.clock.boot_ms() >= deadline_ms or not self._proceed():
                self._pass_until(deadline_ms)
                raise Failed(Busy("no answer came in time: nothing is left to run, and nothing comes to be due"))

    def _pass_until(self, deadline_ms: int) -> None:
        """Nothing can bring the answer: the caller has waited in vain, and does not ask again at the same moment."""
        self._keeper.clock.move(max(0, deadline_ms - self._keeper.clock.boot_ms()))

    def _sent(self, rest: memoryview) -> int:
        try:
            return self._sock.send(rest) if rest else 0
        except BlockingIOError:
            return 0

    def _received(self) -> Iterable[dict[str, Any]]:
        try:
            while data := self._sock.recv(RECEIVE_BYTES):
                yield from map(json.loads, self._decoder.feed(data))
        except BlockingIOError:
            return


class HarnessCalls(Calls):
    """The calls of a client in virtual time."""

    def __init__(self, names: Names, keeper: InProcessKeeper, timeout: Duration) -> None:
        super().__init__(names, keeper.clock.boot_ms, timeout)
        self._keeper = keeper

    def wait(self, job: object, timeout: Duration | None) -> Steps[JobStatus]:
        """Without a time-out it ends where a daemon's would not: when nothing more is to come.

        Raises:
            WaitTimeout: it was not in time; or would never be, as its queue is paused, say.
        """
        while timeout is None:
            to_come = self._keeper.next_ms(schedules=False) is not None  # perhaps just when this slice is over
            try:
                return (yield from super().wait(job, WAIT_SLICE_MS / 1000))
            except WaitTimeout:
                if not to_come and self._keeper.next_ms(schedules=False) is None:
                    raise WaitTimeout(f"to wait for {job} would never end: nothing is left to come") from None
        return (yield from super().wait(job, timeout))


class HarnessClient(Client[int]):
    """A `Client` by type and behaviour, for application code that is given one. Its time is the virtual one.

    To wait for a job is to run what is due, and to let time pass, until it has ended.
    """

    def __init__(self, keeper: InProcessKeeper, proceed: Proceed, timeout: Duration = 30) -> None:
        super().__init__(socket="in this process", timeout=timeout)
        self._keeper = keeper
        self._proceed = proceed
        self._calls = HarnessCalls(self._names, keeper, timeout)
        self._channel = Channel(self._dial, keeper.clock.boot_ms, self._names)

    def close(self) -> None:
        """Nothing: an application may close the client that it was given, and the test goes on; the harness does it."""

    def end(self) -> None:
        """Close the connections."""
        super().close()

    def _dial(self) -> Stream:
        return InProcessStream(self._keeper.connect(), self._keeper, self._proceed)
