"""Asking from event loops: one connection, shared by all calls of a loop, with as many under way as they make.

Requests go out in the order of their calls, replies come back in any. A call that is given up leaves the connection to
the others: what has begun to go out goes out whole, and its reply is dropped. A fetch that is given up is taken back,
and what it was given meanwhile is released. No thread is used, and nothing waits but on the loop.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from supervisor.errors import Busy, JobsupError, UsageError
from supervisor.wire.asking import (
    CLOSED,
    FORK_AWARE,
    Call,
    Clock,
    Failed,
    Names,
    Question,
    answer_of,
    cut_off,
    error_of,
    framed,
    not_answered,
    not_sent,
    read_reply,
    token_of,
)
from supervisor.wire.framing import Decoder

if TYPE_CHECKING:
    from supervisor.wire.one_shot import Keeper

UNDER_WAY_MAX = 500
"""Requests under way on one connection; the keeper reads no more than 1,000. Beyond it, there is another."""

GIVEN_UP_MAX = 250
"""Replies that nobody waits for any more, such as those of waits: with so many to come a connection is left to end."""

RECEIVE_BYTES = 256 * 1024
SENT_TOGETHER = 64
"""Requests that one system call hands over."""

EXIT_WAIT_S = 10
TAKE_BACK_S = 1
"""So long at most the end of a client is held up, for what nobody waits for any more to go back."""


class Asked:
    """One request on a connection: where it stands, and whether its reply is still wanted.

    `question` is what a caller asks; without one it is an affair of the connection itself, which `heed` is for.
    `settled` is the lease of a fetch that its caller has, or that was handed back.
    """

    __slots__ = ("_size", "future", "heed", "number", "question", "rest", "settled", "wanted")

    def __init__(
        self, number: int, frame: bytes, future: asyncio.Future[dict[str, Any]], *, question: Question | None = None,
        heed: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:  # fmt: skip
        self.number = number
        self.rest = memoryview(frame)
        self.future = future
        self.question = question
        self.heed = heed
        self.wanted = True
        self.settled: int | None = None
        self._size = len(frame)

    @property
    def fetches(self) -> bool:
        """Whether it is a fetch that can be taken back."""
        return self.question is not None and self.question.withdrawal is not None

    @property
    def untouched(self) -> bool:
        """Whether not a byte of it has gone out."""
        return len(self.rest) == self._size

    def fail(self, error: Exception) -> None:
        """Tell whoever still waits for it."""
        if self.question is not None and self.wanted and not self.future.done():
            self.future.set_exception(error)


class Link:
    """One connection of one event loop; `keeper` is what was started for it, if no daemon runs.

    `on_quiet` is called when no call waits on it any more, `ended` is done when it has ended and, with it, its keeper.
    """

    def __init__(
        self, sock: socket.socket, clock_ms: Clock, names: Names, on_quiet: Callable[[Link], None],
        keeper: Keeper | None,
    ) -> None:  # fmt: skip
        sock.setblocking(False)
        self.keeper = keeper
        self.open = True
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._sock = sock
        self._clock_ms = clock_ms
        self._names = names
        self._on_quiet = on_quiet
        self._decoder = Decoder()
        self._answered = False
        self._count = 0
        self._asked: dict[int, Asked] = {}
        self._given_up = 0
        self._own = 0
        self._unsent: deque[Asked] = deque()
        self._flushing = False
        self._loop.add_reader(sock, self._read)

    @property
    def quiet(self) -> bool:
        """Whether nobody waits for a reply, and nothing is being taken back."""
        return len(self._asked) == self._given_up

    @property
    def taking_back(self) -> bool:
        """Whether something is being taken back, and nobody waits for anything else."""
        return 0 < self._own == len(self._asked) - self._given_up

    @property
    def mute(self) -> bool:
        """Whether a keeper that was started for it has not answered yet."""
        return self.keeper is not None and not self._answered

    @property
    def worn(self) -> bool:
        """Whether too many replies are to come that nobody waits for."""
        return self._given_up >= GIVEN_UP_MAX

    @property
    def has_room(self) -> bool:
        """Whether another request may be sent. There is no second one-shot keeper, and it has every answer at once."""
        return self.open and (self.keeper is not None or (len(self._asked) < UNDER_WAY_MAX and not self.worn))

    async def ask(self, question: Question) -> dict[str, Any]:
        """The reply to a request.

        Raises:
            Failed: the connection ended, the server turned us away, or the deadline passed.
            JobsupError: the server refused the connection for good, or does not speak the protocol.
        """
        asked = Asked(question.number, question.frame, self._loop.create_future(), question=question)
        self._count += 1
        self._asked[asked.number] = asked
        self._unsent.append(asked)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)
        left_s = max(question.deadline_ms - self._clock_ms(), 1) / 1000
        timer = self._loop.call_later(left_s, self._expire, asked)
        try:
            return await asked.future
        except asyncio.CancelledError:
            self._miss(asked)
            raise
        finally:
            timer.cancel()
            self._leave(asked)

    def cause(self) -> JobsupError | None:
        """Why the other side went away without a single answer, where that can be learned."""
        return self.keeper.cause() if self.keeper and self.mute else None

    def close(self, failure: JobsupError | None = None) -> None:
        """End the connection; whoever waits on it hears that it was cut off, or why. Tolerates being called again."""
        if not self.open:
            return
        self.open = False
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        at_the_door = self._count == 1 and not self._answered
        for asked in self._asked.values():
            asked.fail(_fate(asked, failure, at_the_door=at_the_door))
        self._asked.clear()
        self._unsent.clear()
        self._given_up = self._own = 0
        self._await_keeper()

    def recall(self) -> None:
        """Let every fetch that waits be answered at once."""
        for asked in [each for each in self._asked.values() if each.fetches and each.wanted]:
            self._take_back(asked)

    def abandon(self) -> None:
        """Close this process's copy only, and leave the loop alone: both belong to the process that was forked from."""
        self.open = False
        self._sock.close()
        if self.keeper:
            self.keeper.abandon()

    def forsake(self) -> None:
        """End the connection of a loop that is over."""
        self.open = False
        self._sock.close()
        if self.keeper:
            self.keeper.wait(EXIT_WAIT_S)

    def _expire(self, asked: Asked) -> None:
        """The time is over. What has begun to go out will go out whole."""
        asked.fail(not_sent() if asked.untouched else not_answered(sent=True))

    def _leave(self, asked: Asked) -> None:
        """Its caller waits no more: it has the reply, or has given it up. What has not begun to go out need not."""
        if asked.future.done() and not asked.future.cancelled():
            asked.future.exception()  # or the loop would complain of one that nobody looked at
        if asked.number in self._asked:
            if asked.untouched:
                self._unsent.remove(asked)
                del self._asked[asked.number]
            else:
                asked.wanted = False
                self._given_up += 1
                if asked.fetches:
                    self._take_back(asked)
        if self.open and self.quiet:
            self._on_quiet(self)

    def _miss(self, asked: Asked) -> None:
        """Its caller is gone. The reply may have come in the same moment."""
        if asked.future.done() and not asked.future.cancelled() and not asked.future.exception():
            asked.settled = None
            self._hand_back(asked, asked.future.result())

    def _take_back(self, asked: Asked) -> None:
        assert asked.question is not None
        number = self._names.number()
        self._ask_for_itself(number, asked.question.withdrawn(number), partial(self._hand_back, asked))

    def _hand_back(self, asked: Asked, reply: dict[str, Any]) -> None:
        """Release, once, what a fetch was given that nobody waits for, or beside what its caller has.

        Its own answer comes first, then that of its withdrawal: mostly the same, but another one where the first was
        answered with nothing, or released, just before the withdrawal was looked at.
        """
        token = token_of(reply) if asked.fetches else None
        if token is not None and token != asked.settled:
            asked.settled = token
            number = self._names.number()
            self._ask_for_itself(number, framed(number, "release", f'"token":{token}'), _pass_over)

    def _ask_for_itself(self, number: int, frame: bytes, heed: Callable[[dict[str, Any]], None]) -> None:
        """Ask without a caller, and at once, as the loop may be about to end. One-shot keepers lend nothing."""
        if self.open and self.keeper is None and not self._loop.is_closed():
            asked = self._asked[number] = Asked(number, frame, self._loop.create_future(), heed=heed)
            self._own += 1
            self._unsent.append(asked)
            self._flush()

    def _flush(self) -> None:
        """Send what waits, as far as the socket takes it now."""
        self._flushing = False
        try:
            while self.open and self._unsent:
                self._sent(self._sock.sendmsg([asked.rest for asked in islice(self._unsent, SENT_TOGETHER)]))
        except BlockingIOError:
            self._flushing = True
            self._loop.add_writer(self._sock, self._writable)
        except OSError:
            self._read_to_the_end()

    def _sent(self, count: int) -> None:
        while count:
            first = self._unsent[0]
            taken = min(count, len(first.rest))
            first.rest = first.rest[taken:]
            count -= taken
            if not first.rest:
                self._unsent.popleft()

    def _writable(self) -> None:
        self._loop.remove_writer(self._sock)
        self._flush()

    def _read_to_the_end(self) -> None:
        """The server has closed its side. What it said before can still be read, such as why."""
        while self.open and self._read():
            pass
        self.close()

    def _read(self) -> bool:
        """Take in what there is, if there is anything."""
        try:
            data = self._sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.close()
            return False
        try:
            for reply in self._replies(data):
                self._take_in(reply)
        except JobsupError as error:
            self.close(error)
        return True

    def _replies(self, data: bytes) -> Iterator[dict[str, Any]]:
        return map(read_reply, self._decoder.feed(data))

    def _take_in(self, reply: dict[str, Any]) -> None:
        number = reply.get("id")
        if number is None:
            raise error_of(reply)
        asked = self._asked.pop(number, None) if isinstance(number, int) else None
        if asked is None:
            return
        self._answered = True
        if asked.heed is not None:
            self._own -= 1
            asked.heed(reply)
            if self.open and self.quiet:
                self._on_quiet(self)
        elif not asked.wanted:
            self._given_up -= 1
            self._hand_back(asked, reply)
        elif not asked.future.done():
            asked.settled = token_of(reply) if asked.fetches else None
            asked.future.set_result(reply)
        else:
            self._hand_back(asked, reply)  # its caller was cancelled just now, and has not run since

    def _await_keeper(self) -> None:
        """`ended` when the keeper's process has, which the end of its connection brings about."""
        if self.keeper is None or self.keeper.process.poll() is not None:
            self._end()
            return
        pidfd = os.pidfd_open(self.keeper.process.pid)

        def over() -> None:
            timer.cancel()
            self._loop.remove_reader(pidfd)
            os.close(pidfd)
            self._end()

        self._loop.add_reader(pidfd, over)
        timer = self._loop.call_later(EXIT_WAIT_S, over)

    def _end(self) -> None:
        if self.keeper:
            self.keeper.process.poll()
            self.keeper.hear()
        if not self.ended.done():
            self.ended.set_result(None)


def _pass_over(_reply: dict[str, Any]) -> None:
    """There is nothing to be done about it."""


def _fate(asked: Asked, failure: JobsupError | None, *, at_the_door: bool) -> Exception:
    """What a caller hears whose connection ended, each an error of its own.

    Who was refused at the door was not read from. Later the keeper may have begun what it had received whole.
    """
    sent = not asked.rest
    if failure is None:
        return cut_off(sent=sent)
    error = type(failure)(failure.message, hint=failure.hint)
    return Failed(error, sent=sent and not at_the_door) if isinstance(error, Busy) else error


class AsyncChannel:
    """Asks on behalf of one event loop; makes new connections when they break, and for the loop that follows it.

    `dial` makes a connection, or raises `Failed`. `patience_ms` is how long nobody listening is put up with;
    None: as long as the call may take.
    """

    def __init__(
        self,
        dial: Callable[[], tuple[socket.socket, Keeper | None]],
        clock_ms: Clock,
        names: Names,
        patience_ms: int | None = None,
    ) -> None:
        self._dial = dial
        self._clock_ms = clock_ms
        self._names = names
        self._patience_ms = patience_ms
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._links: list[Link] = []
        FORK_AWARE.add(self)

    def after_fork(self) -> None:
        """Begin anew, without a connection: loop and connections are the parent's."""
        for link in self._links:
            link.abandon()
        self._links = []
        self._loop = None

    async def ask(self, call: Call) -> dict[str, Any]:
        """What the keeper answers.

        Raises:
            Unconfirmed: it was sent, and the answer was lost.
            NotRunning, Busy: it was not carried out, for want of a daemon or of time.
            UsageError: the client is closed, or of another event loop.
            JobsupError: the keeper's refusal, as the class of its code.
        """
        question = Question(call, self._names.number(), self._clock_ms(), self._patience_ms)
        while True:
            question.begin(self._clock_ms())
            try:
                return await self._ask_once(question)
            except Failed as failed:
                pause_ms = question.pause_ms(failed, self._clock_ms())
            await asyncio.sleep(pause_ms / 1000)

    async def close(self) -> None:
        """Close every connection that nobody waits on, the others as soon as they are answered.

        Fetches are answered at once: what they would be given later, nobody could acknowledge. Waits for the end of
        one-shot keepers, so that the database is free afterwards, and for what is being taken back.
        """
        self._closed = True
        self._enter_loop()
        for link in self._links:
            link.recall()
        taking_back = [link.ended for link in self._links if link.taking_back]
        if taking_back:
            await asyncio.wait(taking_back, timeout=TAKE_BACK_S)
        for link in self._links:
            if link.quiet or link.taking_back:
                link.close()
        await asyncio.gather(*(link.ended for link in self._links if not link.open))

    async def _ask_once(self, question: Question) -> dict[str, Any]:
        link = await self._take(question.deadline_ms)
        try:
            reply = await link.ask(question)
        except Failed as failed:
            if link.mute and link.quiet:
                link.close()  # only its end can say why a keeper does not answer
            if not link.open:
                await self._ended(link)
            if cause := link.cause():
                if isinstance(cause, Busy):
                    raise Failed(cause) from None
                raise cause from failed
            raise
        return answer_of(reply)

    async def _take(self, deadline_ms: int) -> Link:
        """A connection with room for a request; a new one where there is none, once an earlier keeper has gone."""
        self._enter_loop()
        while ending := next((link for link in self._links if not link.open), None):
            if not await self._ended(ending, max(deadline_ms - self._clock_ms(), 0) / 1000):
                raise Failed(Busy("the one-shot keeper of an earlier call has not ended yet"))
        if self._closed:
            raise UsageError(CLOSED)
        found = next((link for link in self._links if link.has_room), None)
        return found or self._open()

    def _open(self) -> Link:
        sock, keeper = self._dial()
        link = Link(sock, self._clock_ms, self._names, self._on_quiet, keeper)
        self._links.append(link)
        return link

    async def _ended(self, link: Link, timeout_s: float | None = None) -> bool:
        """Whether it has ended in time, keeper and all, which takes `EXIT_WAIT_S` at most; then it is forgotten."""
        done, _ = await asyncio.wait((link.ended,), timeout=timeout_s)
        if done and link in self._links:
            self._links.remove(link)
        return bool(done)

    def _enter_loop(self) -> None:
        """Work for the loop that runs now. Of one that is over, nothing is left but to close its connections."""
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is not None and not self._loop.is_closed():
            raise UsageError(
                "an AsyncClient serves one event loop", hint="make one in each loop; threads share a Client"
            )
        for link in self._links:
            link.forsake()
        self._links = []
        self._loop = loop

    def _on_quiet(self, link: Link) -> None:
        """Nobody waits on this connection: it is kept, unless there is another, or it is worn, or this is the end."""
        others = any(other.has_room for other in self._links if other is not link)
        if self._closed or link.worn or others:
            link.close()
