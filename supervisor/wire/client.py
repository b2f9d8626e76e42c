"""The caller's side of the public protocol: ask, wait for the answer, and know what became of the question.

What is imported here is paid by every `jobsctl enqueue`: nothing but the standard library's json, socket, os and
threading. A question that was lost on the way is asked again where asking twice is harmless: questions of the
status class, and `enqueue`, whose key makes the keeper answer a repetition with what it did the first time. One
that was refused as busy is asked again in any case, as long as there is time.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakSet

from supervisor.errors import (
    Busy,
    ConfigError,
    Denied,
    JobsupError,
    NotRunning,
    ProtocolError,
    QueueFull,
    Unconfirmed,
    UsageError,
    error_of_code,
)
from supervisor.version import PROTOCOL
from supervisor.wire.framing import Decoder, frame

CHANGES_NOTHING = frozenset(
    {"hello", "job", "explain", "status", "wait", "workers", "tree", "cron_list", "cron_show", "consumers"}
)
HARMLESS_TWICE = CHANGES_NOTHING | {
    "enqueue", "pause", "resume", "key", "cron_add", "cron_pause", "cron_resume", "fetch", "extend", "ack",
}  # fmt: skip

RESEND_FOR_MS = 9 * 60_000
"""The keeper remembers the key of a request for 10 minutes; a repetition that may come later is not sent."""

FIRST_PAUSE_MS, LONGEST_PAUSE_MS = 5, 250
IDLE_STREAMS_MAX = 8
RECEIVE_BYTES = 64 * 1024

Clock = Callable[[], int]
"""Milliseconds on a clock that never jumps."""


class Failed(Exception):
    """One attempt came to nothing; another may succeed.

    `error` is what to raise if there is no other; `sent`: the request left whole and may have been carried out;
    `absent`: nobody listens; `answered`: the keeper itself has said so, perhaps after it had waited.
    """

    def __init__(self, error: JobsupError, *, sent: bool = False, absent: bool = False, answered: bool = False) -> None:
        super().__init__(error.message)
        self.error = error
        self.sent = sent
        self.absent = absent
        self.answered = answered


class Stream:
    """One connection, used by one thread at a time. `exclusive`: there can be only one of its kind."""

    exclusive = False

    def __init__(self, sock: socket.socket, clock_ms: Clock) -> None:
        self.answered = False
        self._sock = sock
        self._clock_ms = clock_ms
        self._decoder = Decoder()

    def alive(self) -> bool:
        """Whether the other side is still there: if anything is to be read unasked, it is a refusal or the end."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """End the connection."""
        self._sock.close()

    def abandon(self) -> None:
        """Close this process's copy only: the connection belongs to the process that was forked from."""
        self._sock.close()

    def cause(self) -> JobsupError | None:
        """Why the other side went away, where that can be learned."""
        return None

    def ask(self, request: bytes, request_id: int, deadline_ms: int) -> dict[str, Any]:
        """The reply to a request, given as a frame.

        Raises:
            Failed: the connection ended, the server turned us away, or the deadline passed.
            JobsupError: the server refused the connection for good, or does not speak the protocol.
        """
        sent = self._send(request, deadline_ms)
        for reply in self._replies(deadline_ms, sent):
            if reply.get("id") == request_id:
                self.answered = True
                return reply
            if reply.get("id") is None:
                refusal = error_of(reply)
                if isinstance(refusal, Busy):
                    raise Failed(refusal)
                raise refusal
        raise Failed(Busy("the connection ended before the answer came"), sent=sent)

    def _send(self, request: bytes, deadline_ms: int) -> bool:
        """Whether all of it went out. A server that has turned us away has closed; its reasons can still be read."""
        rest = memoryview(request)
        try:
            while rest:
                self._sock.settimeout(self._seconds_to(deadline_ms))
                rest = rest[self._sock.send(rest) :]
        except TimeoutError:
            raise Failed(Busy("the request could not be sent in time: the daemon takes nothing in")) from None
        except OSError:
            return False
        return True

    def _replies(self, deadline_ms: int, sent: bool) -> Iterator[dict[str, Any]]:
        while True:
            try:
                self._sock.settimeout(self._seconds_to(deadline_ms))
                data = self._sock.recv(RECEIVE_BYTES)
            except TimeoutError:
                raise Failed(Busy("no answer came in time"), sent=sent) from None
            except OSError:
                return
            if not data:
                return
            yield from map(_read, self._decoder.feed(data))

    def _seconds_to(self, deadline_ms: int) -> float:
        """What is left, for a socket's time-out; never 0, which would mean something else."""
        return max(deadline_ms - self._clock_ms(), 1) / 1000


def _read(body: bytes) -> dict[str, Any]:
    try:
        reply = json.loads(body)
    except ValueError:
        raise ProtocolError("the reply is not JSON: is this the socket of jobsupd?") from None
    if not isinstance(reply, dict) or reply.get("v") != PROTOCOL:
        raise ProtocolError(f"the reply is not one of version {PROTOCOL} of the protocol")
    return reply


def error_of(reply: dict[str, Any]) -> JobsupError:
    """The error that a reply carries, as the class of its code."""
    said = reply.get("error")
    if isinstance(said, dict) and isinstance(said.get("code"), str) and isinstance(said.get("message"), str):
        kind, hint = error_of_code(said["code"]), said.get("hint")
        if kind is ConfigError:  # every problem is a line of its own
            return ConfigError(said["message"], hint=hint, problems=tuple(said["message"].splitlines()))
        return kind(said["message"], hint=hint)
    return ProtocolError("the reply is neither an answer nor an error")


def connect(path: str, clock_ms: Clock) -> Stream:
    """A stream to the daemon that listens at `path`.

    Raises:
        Failed: nobody listens there (`absent`), or too many are waiting to be accepted.
        Denied: the socket may not be opened.
        ConfigError: the path is none that a socket can have.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.connect(path)
    except PermissionError:
        sock.close()
        raise Denied(f"{path} may not be opened by this user") from None
    except BlockingIOError:
        sock.close()
        raise Failed(Busy(f"too many clients are waiting at {path}")) from None
    except OSError as error:
        sock.close()
        if error.errno is None or error.errno == errno.ENAMETOOLONG:
            raise ConfigError(f"{path} is too long for the path of a socket") from None
        raise Failed(NotRunning(f"no daemon listens at {path}", hint="start jobsupd"), absent=True) from None
    return Stream(sock, clock_ms)


class Channel:
    """Asks over as many connections as threads ask at once; keeps them; makes new ones when they break or after a fork.

    `dial` makes a connection, or raises `Failed`. `patience_ms` is how long nobody listening is put up with;
    None: as long as the call may take.
    """

    def __init__(self, dial: Callable[[], Stream], clock_ms: Clock, patience_ms: int | None = None) -> None:
        self._dial = dial
        self._clock_ms = clock_ms
        self._patience_ms = patience_ms
        self._streams: set[Stream] = set()
        self._begin()
        FORK_AWARE.add(self)

    def _begin(self) -> None:
        self._closed = threading.Event()
        self._changed = threading.Condition()
        self._streams.clear()
        self._idle: list[Stream] = []
        self._numbers = itertools.count(1)
        self._key = os.urandom(12).hex()

    def after_fork(self) -> None:
        """Begin anew: with locks that nobody holds, no connection, and keys that no other process uses."""
        was_closed = self._closed.is_set()
        for stream in self._streams:
            stream.abandon()
        self._begin()
        if was_closed:
            self._closed.set()

    def new_key(self) -> str:
        """A key for a request, never used before by anyone."""
        return f"{self._key}-{next(self._numbers)}"

    def request(self, op: str, timeout_ms: int, /, **members: Any) -> dict[str, Any]:
        """`ask` with members as values.

        Raises:
            UsageError: one of them cannot be written as JSON.
        """
        try:
            text = json.dumps(members, allow_nan=False)[1:-1]
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(f"{op} cannot be asked with that: {error}") from None
        return self.ask(op, text, timeout_ms)

    def ask(self, op: str, members: str, timeout_ms: int) -> dict[str, Any]:
        """What the keeper answers; `members` are those of the request besides v, id and op, as JSON text.

        Raises:
            Unconfirmed: it was sent, and the answer was lost.
            NotRunning, Busy: it was not carried out, for want of a daemon or of time.
            JobsupError: the keeper's refusal, as the class of its code.
        """
        number = next(self._numbers)
        text = f'{{"v":{PROTOCOL},"id":{number},"op":"{op}"{"," if members else ""}{members}}}'
        request = frame(text.encode())
        began_ms = self._clock_ms()
        deadline_ms, pause_ms, doubt = began_ms + timeout_ms, FIRST_PAUSE_MS, False
        while True:
            asked_ms = self._clock_ms()
            try:
                return self._ask_once(request, number, deadline_ms)
            except Failed as failed:
                now_ms = self._clock_ms()
                if failed.answered and now_ms - asked_ms > deadline_ms - now_ms:
                    # It waited as long as it was told to: asked again, it could not answer in time, and say why.
                    raise _final(op, failed.error, doubt=doubt) from None
                if failed.sent and not doubt:
                    doubt = op not in CHANGES_NOTHING
                    deadline_ms = min(deadline_ms, now_ms + RESEND_FOR_MS)
                last_ms = deadline_ms
                if failed.absent and self._patience_ms is not None:
                    last_ms = min(deadline_ms, began_ms + self._patience_ms)
                if now_ms >= last_ms or (doubt and op not in HARMLESS_TWICE):
                    raise _final(op, failed.error, doubt=doubt) from None
                self._closed.wait(min(pause_ms, last_ms - now_ms) / 1000)
                pause_ms = min(pause_ms * 2, LONGEST_PAUSE_MS)

    def close(self) -> None:
        """Close every connection that is not in use; those in use as soon as they are answered."""
        self._closed.set()
        with self._changed:
            idle, self._idle = self._idle, []
            self._changed.notify_all()
        for stream in idle:
            self._drop(stream)

    def _ask_once(self, request: bytes, number: int, deadline_ms: int) -> dict[str, Any]:
        stream = self._take(deadline_ms)
        try:
            reply = stream.ask(request, number, deadline_ms)
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
        if isinstance(ok := reply.get("ok"), dict):
            return ok
        error = error_of(reply)
        if isinstance(error, Busy) and not isinstance(error, QueueFull):  # who may wait for room has waited there
            raise Failed(error, answered=True)
        raise error

    def _take(self, deadline_ms: int) -> Stream:
        """A connection for one question: one that is idle, else a new one."""
        with self._changed:
            while True:
                if self._closed.is_set():
                    raise UsageError("the client is closed")
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


def _final(op: str, error: JobsupError, *, doubt: bool) -> JobsupError:
    """What to tell the caller when there is no other attempt."""
    if not doubt:
        return error
    return Unconfirmed(
        f"{op} was sent, and its answer was lost: {error.message}",
        hint="look whether it was done before doing it again",
    )


FORK_AWARE: WeakSet[Any] = WeakSet()
"""Everything whose `after_fork` a forked child calls."""


def _forked() -> None:
    for each in FORK_AWARE:
        each.after_fork()


os.register_at_fork(after_in_child=_forked)
