"""The blocking side of asking: ask, wait for the answer, over as many connections as threads ask at once."""

from __future__ import annotations

import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
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

IDLE_STREAMS_MAX = 8
RECEIVE_BYTES = 64 * 1024
EXIT_WAIT_S = 10
TAKE_BACK_MS = 1_000
"""So long at most a caller that is interrupted is held up, for what it was given to go back."""


class Stream:
    """One connection, used by one thread at a time; `keeper` is what was started for it, if no daemon runs.

    `exclusive`: there can be only one of its kind, as with a keeper of its own.
    """

    def __init__(self, sock: socket.socket, clock_ms: Clock, keeper: Keeper | None = None) -> None:
        self.keeper = keeper
        self.exclusive = keeper is not None
        self._answered = False
        self._sock = sock
        self._clock_ms = clock_ms
        self._decoder = Decoder()
        self._frames: deque[bytes] = deque()

    def alive(self) -> bool:
        """Whether the other side is still there: if anything is to be read unasked, it is a refusal or the end."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """End the connection, and wait for the end of a keeper that was started for it."""
        self._sock.close()
        if self.keeper:
            self.keeper.wait(EXIT_WAIT_S)

    def abandon(self) -> None:
        """Close this process's copy only: the connection belongs to the process that was forked from."""
        self._sock.close()
        if self.keeper:
            self.keeper.abandon()

    def cause(self) -> JobsupError | None:
        """Why the other side went away without a single answer, where that can be learned."""
        return None if self.keeper is None or self._answered else self.keeper.cause()

    def ask(
        self, request: bytes, request_id: int, deadline_ms: int, on_sent: Callable[[], None] | None = None
    ) -> dict[str, Any]:
        """The reply to a request, given as a frame; `on_sent` is called between the two.

        Raises:
            Failed: the connection ended, the server turned us away, or the deadline passed.
            JobsupError: the server refused the connection for good, or does not speak the protocol.
        """
        sent = self._send(request, deadline_ms)
        if on_sent is not None:
            on_sent()
        return self.hear(request_id, deadline_ms, sent=sent)

    def hear(self, request_id: int, deadline_ms: int, *, sent: bool = True) -> dict[str, Any]:
        """The reply to a request that has gone out.

        Raises:
            Failed, JobsupError: as `ask`.
        """
        for reply in self._replies(deadline_ms, sent):
            if reply.get("id") == request_id:
                self._answered = True
                return reply
            if reply.get("id") is None:
                refusal = error_of(reply)
                if isinstance(refusal, Busy):
                    raise Failed(refusal)
                raise refusal
        raise cut_off(sent=sent)

    def add(self, request: bytes) -> None:
        """Send another request behind the one that a thread waits for; its reply is passed over."""
        try:
            self._sock.send(request)
        except OSError:
            pass  # the connection has ended, and with it whatever waited on it

    def _send(self, request: bytes, deadline_ms: int) -> bool:
        """Whether all of it went out. A server that has turned us away has closed; its reasons can still be read."""
        rest = memoryview(request)
        try:
            while rest:
                self._sock.settimeout(self._seconds_to(deadline_ms))
                rest = rest[self._sock.send(rest) :]
        except TimeoutError:
            raise not_sent() from None
        except OSError:
            return False
        return True

    def _replies(self, deadline_ms: int, sent: bool) -> Iterator[dict[str, Any]]:
        while True:
            while self._frames:
                yield read_reply(self._frames.popleft())
            try:
                self._sock.settimeout(self._seconds_to(deadline_ms))
                data = self._sock.recv(RECEIVE_BYTES)
            except TimeoutError:
                raise not_answered(sent=sent) from None
            except OSError:
                return
            if not data:
                return
            self._frames.extend(self._decoder.feed(data))

    def _seconds_to(self, deadline_ms: int) -> float:
        """What is left, for a socket's time-out; never 0, which would mean something else."""
        return max(deadline_ms - self._clock_ms(), 1) / 1000


class Channel:
    """Asks over as many connections as threads ask at once; keeps them; makes new ones when they break or after a fork.

    `dial` makes a connection, or raises `Failed`. `patience_ms` is how long nobody listening is put up with;
    None: as long as the call may take.
    """

    def __init__(
        self, dial: Callable[[], Stream], clock_ms: Clock, names: Names, patience_ms: int | None = None
    ) -> None:
        self._dial = dial
        self._clock_ms = clock_ms
        self._names = names
        self._patience_ms = patience_ms
        self._streams: set[Stream] = set()
        self._begin()
        FORK_AWARE.add(self)

    def _begin(self) -> None:
        self._closed = threading.Event()
        self._changed = threading.Condition()
        self._streams.clear()
        self._idle: list[Stream] = []
        self._fetching: dict[Stream, Question] = {}
        """Fetches that wait, and are taken back when the client is closed."""
        self._withdrawn: dict[Stream, int] = {}
        """Those that were, with the number of the request that does it."""

    def after_fork(self) -> None:
        """Begin anew: with locks that nobody holds, and no connection."""
        was_closed = self._closed.is_set()
        for stream in self._streams:
            stream.abandon()
        self._begin()
        if was_closed:
            self._closed.set()

    def ask(self, call: Call) -> dict[str, Any]:
        """What the keeper answers.

        Raises:
            Unconfirmed: it was sent, and the answer was lost.
            NotRunning, Busy: it was not carried out, for want of a daemon or of time.
            JobsupError: the keeper's refusal, as the class of its code.
        """
        question = Question(call, self._names.number(), self._clock_ms(), self._patience_ms)
        while True:
            question.begin(self._clock_ms())
            try:
                return self._ask_once(question)
            except Failed as failed:
                pause_ms = question.pause_ms(failed, self._clock_ms())
            self._closed.wait(pause_ms / 1000)

    def close(self) -> None:
        """Close every connection that is not in use; those in use as soon as they are answered.

        Fetches are answered at once: what they would be given later, nobody could acknowledge.
        """
        self._closed.set()
        with self._changed:
            for stream, question in self._fetching.items():
                self._withdrawn[stream] = self._withdraw(stream, question)
            self._fetching.clear()
            idle, self._idle = self._idle, []
            self._changed.notify_all()
        for stream in idle:
            self._drop(stream)

    def _ask_once(self, question: Question) -> dict[str, Any]:
        stream = self._take(question.deadline_ms)
        try:
            reply = self._ask_on(stream, question)
        except Failed as failed:
            self._drop(stream)
            if cause := stream.cause():
                if isinstance(cause, Busy):
                    raise Failed(cause) from None
                raise cause from failed
            raise
        except BaseException:
            self._drop(stream)
            raise
        self._give_back(stream)
        return answer_of(reply)

    def _ask_on(self, stream: Stream, question: Question) -> dict[str, Any]:
        if question.withdrawal is None:
            return stream.ask(question.frame, question.number, question.deadline_ms)
        try:
            on_sent = partial(self._note_fetch, stream, question)
            reply = stream.ask(question.frame, question.number, question.deadline_ms, on_sent)
        except (Failed, JobsupError):
            self._forget_fetch(stream)
            raise
        except BaseException:
            self._hand_back(stream, self._forget_fetch(stream) or self._withdraw(stream, question), None)
            raise
        withdrawal = self._forget_fetch(stream)
        if withdrawal is not None:
            self._hand_back(stream, withdrawal, token_of(reply))
        return reply

    def _note_fetch(self, stream: Stream, question: Question) -> None:
        """It has gone out: whoever closes the client takes it back, once."""
        with self._changed:
            if self._closed.is_set():
                self._withdrawn[stream] = self._withdraw(stream, question)
            else:
                self._fetching[stream] = question

    def _withdraw(self, stream: Stream, question: Question) -> int:
        """Have a fetch answered at once; the number of the request that does it."""
        number = self._names.number()
        stream.add(question.withdrawn(number))
        return number

    def _forget_fetch(self, stream: Stream) -> int | None:
        with self._changed:
            self._fetching.pop(stream, None)
            return self._withdrawn.pop(stream, None)

    def _hand_back(self, stream: Stream, number: int, known: int | None) -> None:
        """What a fetch that was taken back has been given by now goes back, but for the lease that its caller has."""
        until_ms = self._clock_ms() + TAKE_BACK_MS
        try:
            token = token_of(stream.hear(number, until_ms))
            if token is not None and token != known:
                number = self._names.number()
                stream.ask(framed(number, "release", f'"token":{token}'), number, until_ms)
        except (Failed, JobsupError):
            pass  # it ends with the connection, if it has not been answered

    def _take(self, deadline_ms: int) -> Stream:
        """A connection for one question: one that is idle, else a new one."""
        with self._changed:
            while True:
                if self._closed.is_set():
                    raise UsageError(CLOSED)
                if self._idle:
                    stream = self._idle.pop()
                    if stream.alive():
                        return stream
                    self._streams.discard(stream)
                    stream.close()
                elif not any(stream.exclusive for stream in self._streams):
                    stream = self._dial()
                    self._streams.add(stream)
                    return stream
                elif not self._changed.wait(max(deadline_ms - self._clock_ms(), 0) / 1000):
                    raise Failed(Busy("other threads kept the only connection busy"))

    def _give_back(self, stream: Stream) -> None:
        with self._changed:
            if not self._closed.is_set() and len(self._idle) < IDLE_STREAMS_MAX:
                self._idle.append(stream)
                self._changed.notify()
                return
        self._drop(stream)

    def _drop(self, stream: Stream) -> None:
        stream.close()
        with self._changed:
            self._streams.discard(stream)
            self._changed.notify()
