"""Asking the keeper, without input and output: what a request is, what its reply means, and whether it is asked again.

The rules that blocking clients and those of an event loop share. A question that was lost on the way is asked again
where asking twice is harmless: questions of the status class, and `enqueue`, whose key makes the keeper answer a
repetition with what it did the first time. One that was refused as busy is asked again in any case, as long as there
is time. What is imported here is paid by every `jobsctl enqueue`.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from supervisor.errors import (
    Busy,
    ConfigError,
    JobsupError,
    ProtocolError,
    QueueFull,
    Unconfirmed,
    UsageError,
    error_of_code,
)
from supervisor.version import PROTOCOL
from supervisor.wire.framing import frame

CHANGES_NOTHING = frozenset(
    {
        "hello",
        "job",
        "explain",
        "status",
        "wait",
        "workers",
        "tree",
        "cron_list",
        "cron_show",
        "flow",
        "flow_list",
        "consumers",
    }
)
HARMLESS_TWICE = CHANGES_NOTHING | {
    "enqueue",
    "flow_start",
    "flow_signal",
    "flow_close",
    "pause",
    "resume",
    "key",
    "cron_add",
    "cron_pause",
    "cron_resume",
    "fetch",
    "extend",
    "ack",
}

RESEND_FOR_MS = 9 * 60_000
"""The keeper remembers the key of a request for 10 minutes; a repetition that may come later is not sent."""

SAFE_AGAIN = "with a request_key of your own it can be repeated for 10 minutes; else look whether it was done"

FIRST_PAUSE_MS, LONGEST_PAUSE_MS = 5, 250

_write = json.JSONEncoder(allow_nan=False).encode

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


def not_sent() -> Failed:
    """The server took in less than the whole request while there was time."""
    return Failed(Busy("the request could not be sent in time: the daemon takes nothing in"))


def not_answered(*, sent: bool) -> Failed:
    """The time is over, and the request is not answered."""
    return Failed(Busy("no answer came in time"), sent=sent)


def cut_off(*, sent: bool) -> Failed:
    """The connection ended."""
    return Failed(Busy("the connection ended before the answer came"), sent=sent)


CLOSED = "the client is closed"
"""What a client says that is asked for more after its end."""


class Call:
    """What is asked: an operation, its members besides v, id and op as JSON text, and how long it may take.

    `withdrawal` is for a fetch that waits: the members of the same fetch that waits for nothing. Under its key it takes
    the place of the first, so that both are answered at once, with the same lease or with nothing.
    """

    __slots__ = ("members", "op", "timeout_ms", "withdrawal")

    def __init__(self, op: str, members: str, timeout_ms: int, withdrawal: str | None = None) -> None:
        self.op = op
        self.members = members
        self.timeout_ms = timeout_ms
        self.withdrawal = withdrawal


def framed(number: int, op: str, members: str) -> bytes:
    """A request as it goes out."""
    return frame(f'{{"v":{PROTOCOL},"id":{number},"op":"{op}"{members and ","}{members}}}'.encode())


class Question:
    """A call under way, through all its attempts: they carry the same bytes."""

    __slots__ = (
        "_asked_ms",
        "_began_ms",
        "_doubt",
        "_op",
        "_patience_ms",
        "_pause_ms",
        "deadline_ms",
        "frame",
        "number",
        "withdrawal",
    )

    def __init__(self, call: Call, number: int, now_ms: int, patience_ms: int | None) -> None:
        """`patience_ms` is how long nobody listening is put up with; None: as long as the call may take."""
        self.number = number
        self.frame = framed(number, call.op, call.members)
        self.withdrawal = call.withdrawal
        self.deadline_ms = now_ms + call.timeout_ms
        self._op = call.op
        self._began_ms = self._asked_ms = now_ms
        self._patience_ms = patience_ms
        self._pause_ms = FIRST_PAUSE_MS
        self._doubt = False

    def begin(self, now_ms: int) -> None:
        """Another attempt begins."""
        self._asked_ms = now_ms

    def withdrawn(self, number: int) -> bytes:
        """The request that takes this one back, which has a withdrawal."""
        return framed(number, self._op, self.withdrawal or "")

    def pause_ms(self, failed: Failed, now_ms: int) -> int:
        """How long to wait after an attempt that failed, before the next.

        Raises:
            Unconfirmed: there is none, and the request may have been carried out.
            JobsupError: there is none: what was wrong.
        """
        if failed.answered and now_ms - self._asked_ms > self.deadline_ms - now_ms:
            # It waited as long as it was told to: asked again, it could not answer in time, and say why.
            raise self._final(failed.error) from None
        if failed.sent and not self._doubt:
            self._doubt = self._op not in CHANGES_NOTHING
            self.deadline_ms = min(self.deadline_ms, now_ms + RESEND_FOR_MS)
        last_ms = self.deadline_ms
        if failed.absent and self._patience_ms is not None:
            last_ms = min(last_ms, self._began_ms + self._patience_ms)
        if now_ms >= last_ms or (self._doubt and self._op not in HARMLESS_TWICE):
            raise self._final(failed.error) from None
        pause_ms = min(self._pause_ms, last_ms - now_ms)
        self._pause_ms = min(self._pause_ms * 2, LONGEST_PAUSE_MS)
        return pause_ms

    def _final(self, error: JobsupError) -> JobsupError:
        """What to tell the caller when there is no other attempt."""
        if not self._doubt:
            return error
        message = f"{self._op} was sent, and its answer was lost: {error.message}"
        return Unconfirmed(message, hint=SAFE_AGAIN if self._op == "enqueue" else None)


def read_reply(body: bytes) -> dict[str, Any]:
    """The reply in a frame.

    Raises:
        ProtocolError: it is none.
    """
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        raise ProtocolError("the reply is not JSON: is this the socket of jobsupd?") from None
    if not isinstance(reply, dict) or reply.get("v") != PROTOCOL:
        raise ProtocolError(f"the reply is not one of version {PROTOCOL} of the protocol")
    return reply


def answer_of(reply: dict[str, Any]) -> dict[str, Any]:
    """What the keeper answers to a request.

    Raises:
        Failed: it was busy.
        JobsupError: its refusal, as the class of its code.
    """
    if isinstance(ok := reply.get("ok"), dict):
        return ok
    error = error_of(reply)
    if isinstance(error, Busy) and not isinstance(error, QueueFull):  # who may wait for room has waited there
        raise Failed(error, answered=True)
    raise error


def token_of(reply: dict[str, Any]) -> int | None:
    """The lease that a reply gives; None if it gives none."""
    ok = reply.get("ok")
    token = ok.get("token") if isinstance(ok, dict) else None
    return token if isinstance(token, int) else None


def error_of(reply: dict[str, Any]) -> JobsupError:
    """The error that a reply carries, as the class of its code."""
    said = reply.get("error")
    if isinstance(said, dict) and isinstance(said.get("code"), str) and isinstance(said.get("message"), str):
        kind, hint = error_of_code(said["code"]), said.get("hint")
        if kind is ConfigError:  # every problem is a line of its own
            return ConfigError(said["message"], hint=hint, problems=tuple(said["message"].splitlines()))
        return kind(said["message"], hint=hint)
    return ProtocolError("the reply is neither an answer nor an error")


def members_text(op: str, members: dict[str, Any]) -> str:
    """Members of a request as JSON text, without the braces.

    Raises:
        UsageError: one of them cannot be written as JSON.
    """
    try:
        return _write(members)[1:-1]
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"{op} cannot be asked with that: {error}") from None


class Names:
    """Numbers and keys for requests: numbers that this client has not used, keys that nobody has; also after forks."""

    def __init__(self) -> None:
        self.after_fork()
        FORK_AWARE.add(self)

    def after_fork(self) -> None:
        """Begin anew: the parent goes on with the old ones."""
        self._numbers = itertools.count(1)
        self._prefix = os.urandom(12).hex()

    def number(self) -> int:
        """A number for the `id` of a request."""
        return next(self._numbers)

    def key(self) -> str:
        """A key for a request that must not be carried out twice."""
        return f"{self._prefix}-{next(self._numbers)}"


FORK_AWARE: WeakSet[Any] = WeakSet()
"""Everything whose `after_fork` a forked child calls."""


def _forked() -> None:
    for each in FORK_AWARE:
        each.after_fork()


os.register_at_fork(after_in_child=_forked)
