"""What the keeper remembers of consumers: fetches that wait, when which loan is over, what is still to be heard."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple

from supervisor.errors import Busy, JobsupError
from supervisor.wire import messages
from supervisor.wire.connection import Connection

FETCHES_MAX = 10_000
LOOK_AGAIN_MS = 100
"""With as many, those of nobody are looked for no more often: it takes milliseconds, and who is refused asks again."""
SWEEP_MIN = 1_000
"""Fetches of nobody, and earlier ends of loans, are thrown out when all have doubled, and are more than this."""

Reply = Callable[[dict[str, Any]], None]
Told = Callable[[dict[str, Any]], bool]
"""As `Reply`; False if it was too large to be sent, which the client was told instead."""
Refuse = Callable[[JobsupError], None]

NOTHING: dict[str, Any] = {"token": None, "jobs": [], "lease_s": None, "until_at": None, "repeated": False}
"""The answer to a fetch in whose time nothing came."""


class Asked(NamedTuple):
    """Something that a consumer says of what it holds; `scope` is the one that it speaks in."""

    request: messages.Writing
    scope: str
    reply: Reply
    refuse: Refuse
    until_ms: int | None


class Fetching:
    """A fetch that is not answered yet; `over_ms`, on the boot clock, is when it is answered with nothing.

    `earlier` is the one under the same key whose place it took: what this one hears, that one hears as well.
    """

    __slots__ = ("answered", "connection", "earlier", "over_ms", "refuse", "reply", "request", "scope")

    def __init__(
        self, connection: Connection, request: messages.Fetch, scope: str, reply: Told, refuse: Refuse, over_ms: int
    ) -> None:  # fmt: skip
        self.connection = connection
        self.request = request
        self.scope = scope
        self.reply = reply
        self.refuse = refuse
        self.over_ms = over_ms
        self.answered = False
        self.earlier: Fetching | None = None

    @property
    def idle(self) -> bool:
        """Whether nobody waits for its answer any more."""
        return self.answered or (self.connection.closed and (self.earlier is None or self.earlier.idle))

    @property
    def name(self) -> str:
        """The consumer's name: as it says, else by its process."""
        return self.request.consumer or f"pid {self.connection.peer.pid}"

    def tell(self, shown: dict[str, Any]) -> list[Connection]:
        """Answer first the one whose place it took, then it; over which connections: none if nobody could be told."""
        self.answered = True
        told: list[Connection] = []
        if self.earlier is not None and not self.earlier.answered:
            told += self.earlier.tell(shown)
        if not self.connection.closed and self.reply(shown):
            told.append(self.connection)
        return told

    def turn_away(self, error: JobsupError) -> None:
        """Refuse it, and the one whose place it took."""
        self.answered = True
        self.refuse(error)
        if self.earlier is not None and not self.earlier.answered:
            self.earlier.turn_away(error)


class Lending:
    """Every fetch that waits, by queue and by when it is over, and when which loan ends: a cache of their rows."""

    def __init__(self) -> None:
        self.asked: deque[Asked] = deque()
        self.fresh: deque[Fetching] = deque()
        """Fetches that no pass has looked at yet."""
        self.undelivered: list[int] = []
        """Leases whose consumer was gone when it should have been told, or could not be told."""
        self.ending: set[int] = set()
        """Loans that are over, of which some jobs have ended, and others will in the passes that follow."""
        self._waiting: dict[str, dict[Fetching, None]] = {}
        self._keyed: dict[str, Fetching] = {}
        self._ends: list[tuple[int, int, Fetching]] = []
        self._count = 0
        self._sweep_at = SWEEP_MIN
        self._look_again_ms = 0
        self._hearers: dict[int, int] = {}
        """How many were told of a loan, without those who were gone before it had reached them."""
        self._until: dict[int, int] = {}
        self._deadlines: list[tuple[int, int]] = []

    @property
    def wanted(self) -> bool:
        """Whether something waits for nothing but a pass."""
        return bool(self.asked or self.fresh or self.undelivered)

    @property
    def next_ms(self) -> int | None:
        """When the next fetch is answered with nothing, or the next loan is over, on the boot clock."""
        times = [at for at in (self._ends[0][0] if self._ends else None, self.deadline_ms) if at is not None]
        return min(times, default=None)

    @property
    def deadline_ms(self) -> int | None:
        """When the next loan is over, on the boot clock."""
        while self._deadlines and self._until.get(self._deadlines[0][1]) != self._deadlines[0][0]:
            heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def add(self, fetch: Fetching, now_ms: int) -> None:
        """Let a fetch wait for the next pass, and then for jobs.

        Raises:
            Busy: very many wait already.
        """
        if len(self._ends) >= FETCHES_MAX and now_ms >= self._look_again_ms:
            self._sweep()
            self._look_again_ms = now_ms + LOOK_AGAIN_MS
        if len(self._ends) >= FETCHES_MAX:
            raise Busy(f"{FETCHES_MAX:,} fetches are waiting already", hint="try again later")
        self.fresh.append(fetch)
        self._count += 1
        heappush(self._ends, (fetch.over_ms, self._count, fetch))
        if len(self._ends) > self._sweep_at:
            self._sweep()

    def wait(self, fetch: Fetching, *, first: bool = False) -> None:
        """Let a fetch wait for jobs of its queue."""
        queue, key = fetch.request.queue, fetch.request.key
        if key is not None:
            self._keyed[key] = fetch
        waiting = self._waiting.setdefault(queue, {})
        if first:
            self._waiting[queue] = {fetch: None, **waiting}
        else:
            waiting[fetch] = None

    def leave(self, fetch: Fetching) -> None:
        """A fetch waits no more."""
        key = fetch.request.key
        if key is not None and self._keyed.get(key) is fetch:
            del self._keyed[key]
        waiting = self._waiting.get(fetch.request.queue, {})
        waiting.pop(fetch, None)
        if not waiting:
            self._waiting.pop(fetch.request.queue, None)

    def under(self, key: str) -> Fetching | None:
        """The fetch that waits under this key."""
        return self._keyed.get(key)

    def follow(self, fetch: Fetching, earlier: Fetching) -> Callable[[], None]:
        """Let a fetch wait in place of another under its key, behind the others; returns what undoes that."""
        self.leave(earlier)
        fetch.earlier = earlier
        self.wait(fetch)

        def undo() -> None:
            self.leave(fetch)
            fetch.earlier = None
            self.wait(earlier)

        return undo

    def queues(self) -> list[str]:
        """Queues whose jobs somebody waits for."""
        return list(self._waiting)

    def served(self, queue: str) -> None:
        """The others come first in the next pass."""
        if queue in self._waiting:
            self._waiting[queue] = self._waiting.pop(queue)

    def first(self, queue: str) -> Fetching | None:
        """Who has waited longest for jobs of a queue; those who are gone are left out."""
        for fetch in list(self._waiting.get(queue, ())):
            if not fetch.idle:
                return fetch
            self.leave(fetch)
        return None

    def fetches(self) -> Iterator[Fetching]:
        """Every fetch that waits."""
        for waiting in self._waiting.values():
            yield from (fetch for fetch in waiting if not fetch.idle)

    def end(self, now_ms: int) -> None:
        """Answer those whose time is over with nothing."""
        while self._ends and self._ends[0][0] <= now_ms:
            _, _, fetch = heappop(self._ends)
            if not fetch.answered:
                self.leave(fetch)
                fetch.tell(NOTHING)

    def expect(self, token: int, until_ms: int) -> None:
        """A loan ends then, if nothing more is heard."""
        self._until[token] = until_ms
        heappush(self._deadlines, (until_ms, token))
        if len(self._deadlines) > max(SWEEP_MIN, 2 * len(self._until)):
            self._deadlines = [(at_ms, each) for each, at_ms in self._until.items()]
            heapify(self._deadlines)

    def adopt(self, token: int, until_ms: int) -> None:
        """As `expect`, for a loan of an earlier keeper, which may have told somebody: it is not taken from him."""
        self.expect(token, until_ms)
        self._hearers.setdefault(token, 1)

    def told(self, token: int, connections: list[Connection]) -> None:
        """Somebody was told of a loan over these connections. One of which nobody hears in the end is nobody's.

        Whoever was told of it before, under the same key, has it for as long as it may have reached him.
        """
        self._hearers[token] = self._hearers.get(token, 0) + len(connections)
        self._look_at_hearers(token)
        for connection in connections:
            connection.if_lost(partial(self._lost, token))

    def _lost(self, token: int) -> None:
        if token in self._hearers:
            self._hearers[token] -= 1
            self._look_at_hearers(token)

    def _look_at_hearers(self, token: int) -> None:
        if not self._hearers[token]:
            self.undelivered.append(token)

    def forget(self, token: int) -> None:
        """A loan is no more."""
        self._hearers.pop(token, None)
        self._until.pop(token, None)
        self.ending.discard(token)

    def over(self, now_ms: int) -> int | None:
        """The token of a loan that is over by now."""
        deadline_ms = self.deadline_ms
        return self._deadlines[0][1] if deadline_ms is not None and deadline_ms <= now_ms else None

    def _sweep(self) -> None:
        for _, _, fetch in self._ends:
            if fetch.idle:
                self.leave(fetch)
        self._ends = [end for end in self._ends if not end[2].idle]
        heapify(self._ends)
        self._sweep_at = max(SWEEP_MIN, 2 * len(self._ends))
