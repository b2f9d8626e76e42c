"""One client of the keeper: reads its requests, writes its replies, never waits for it.

What it may cost is bounded on both sides. Too many requests not yet served: it is not read from until some
are. Too many replies not yet read: it is closed. The sums over all connections are the server's business.
"""

from __future__ import annotations

import select
import selectors
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from supervisor.errors import JobsupError, ProtocolError
from supervisor.wire.framing import Decoder, frame
from supervisor.wire.messages import failure

WAITING_BYTES_MAX = 1024 * 1024
"""Requests that wait to be served beyond this are left in the socket, until half of them are served."""

UNANSWERED_MAX = 1_000
"""Requests that were read and are not answered yet, such as waits: a peer with more of them is not read from."""

UNREAD_BYTES_MAX = 16 * 1024 * 1024
"""A peer that leaves more of its replies unread is closed."""

POSTED_BYTES_MAX = 1024 * 1024
"""Replies beyond this are not held back: only sending shows whether the peer takes any."""

REQUEST_OVERHEAD_BYTES = 128
"""What a waiting request costs beside its text; without it, a flood of tiny ones would slip below every bound."""

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

_encode = msgspec.json.Encoder().encode


class Peer(NamedTuple):
    """Who connected, as the kernel says it (SO_PEERCRED)."""

    pid: int
    uid: int
    gid: int


class House(Protocol):
    """What a connection needs from its server: shared things, the sums over all connections, and to be heard."""

    selector: selectors.BaseSelector
    buffer: memoryview
    full: bool
    deaf: bool
    pending_bytes: int
    unread_bytes: int

    def arrived(self, connection: Connection, frames: list[bytes]) -> None:
        """The connection has read: these frames are complete, and perhaps the beginning of another."""

    def served(self) -> None:
        """`pending_bytes` has fallen while `full`."""

    def posted(self, connection: Connection) -> None:
        """The connection holds back a reply."""

    def crowded(self) -> None:
        """Replies were left unread."""

    def gone(self, connection: Connection) -> None:
        """The connection is closed."""


class Connection:
    """Made by the server; the keeper gets it with each request.

    `scope` is that of the socket it came through; empty for the main one.
    `on_close`, if set, is called once when the connection ends, whoever ended it.
    """

    __slots__ = (
        "_answered_bytes", "_choked", "_decoder", "_ended", "_house", "_promised", "_sock", "_unanswered", "_unread",
        "_waiting_bytes", "_watched", "closed", "inbox", "on_close", "partial_bytes", "peer", "scope",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, peer: Peer, house: House, scope: str = "") -> None:
        sock.setblocking(False)
        self.peer = peer
        self.scope = scope
        self.closed = False
        self.on_close: Callable[[], None] | None = None
        self.inbox: deque[bytes] = deque()
        self.partial_bytes = 0
        self._sock = sock
        self._house = house
        self._decoder = Decoder()
        self._waiting_bytes = 0
        self._unanswered = 0
        self._unread = bytearray()
        self._answered_bytes = 0
        self._promised: deque[tuple[int, Callable[[], None]]] = deque()
        """Up to which byte of all answers the peer must take them, and what is done if it does not."""
        self._choked = False
        self._ended = False
        self._watched = 0
        self.watch()

    @property
    def unread_bytes(self) -> int:
        """How much of the replies the peer has not taken yet."""
        return len(self._unread)

    @property
    def reading(self) -> bool:
        """Whether what the peer sends is being read at present."""
        shut = self.closed or self._ended or self._choked or self._house.full or self._house.deaf
        return not shut and self._unanswered < UNANSWERED_MAX

    def send(self, message: Mapping[str, Any] | bytes) -> None:
        """Answer one request: what the socket takes goes at once, the rest when it takes more. Never waits.

        Sending to a closed connection does nothing. Answer each request exactly once: a peer that sends no
        more (a half-closed socket) is closed when all it asked is answered.

        Raises:
            PayloadTooLarge: the reply does not fit into a frame. Nothing was sent; send this error instead.
        """
        self._answer(message)
        self.flush()

    def post(self, message: Mapping[str, Any] | bytes) -> None:
        """As `send`, but held back until `flush` or `Server.flush`: many replies, one system call.

        Raises:
            PayloadTooLarge: as `send`.
        """
        if not self._unread:
            self._house.posted(self)
        self._answer(message)
        if len(self._unread) > POSTED_BYTES_MAX:
            self.flush()
        self._house.crowded()

    def flush(self) -> None:
        """Send what is held back, as far as the socket takes it now."""
        if not self._unread or self.closed:
            return
        try:
            sent = self._sock.send(self._unread)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        del self._unread[:sent]
        self._house.unread_bytes -= sent
        while self._promised and self._promised[0][0] <= self._answered_bytes - len(self._unread):
            self._promised.popleft()
        if len(self._unread) > UNREAD_BYTES_MAX:
            self.close()
        elif self._unread:
            self._house.crowded()
        else:
            self._leave_if_answered()
        self.watch()

    def if_lost(self, call: Callable[[], None]) -> None:
        """What is to be done should the connection end before the peer's socket has taken all answers given so far."""
        if self.closed:
            call()
        elif self._unread:
            self._promised.append((self._answered_bytes, call))

    def refuse(self, error: JobsupError) -> None:
        """Tell the peer why, if it still reads, and close: there is no going on with it."""
        if self.closed:
            return
        try:
            self._sock.send(self._unread + frame(failure(None, error)))
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        """End the connection; tolerates being called again. Requests of it that wait are not forgotten."""
        if self.closed:
            return
        self.closed = True
        self._watch_for(0)
        self._sock.close()
        self._house.pending_bytes -= self.partial_bytes
        self._house.unread_bytes -= len(self._unread)
        self.partial_bytes = 0
        self._decoder = Decoder()
        self._unread.clear()
        self._house.gone(self)
        promised, self._promised = self._promised, deque()
        for _, call in promised:
            call()
        if self.on_close:
            self.on_close()

    def take(self) -> bytes:
        """The next request of this connection, which leaves its inbox to be served."""
        frame = self.inbox.popleft()
        cost_bytes = len(frame) + REQUEST_OVERHEAD_BYTES
        self._waiting_bytes -= cost_bytes
        self._house.pending_bytes -= cost_bytes
        if self._choked and self._waiting_bytes <= WAITING_BYTES_MAX // 2:
            self._choked = False
            self.watch()
        if self._house.full:
            self._house.served()
        return frame

    def _answer(self, message: Mapping[str, Any] | bytes) -> None:
        data = frame(message if isinstance(message, bytes) else _encode(message))
        if not self.closed:
            self._unanswered -= 1
            self._unread += data
            self._answered_bytes += len(data)
            self._house.unread_bytes += len(data)

    def watch(self) -> None:
        """Tell the selector what this connection waits for, as things are now."""
        if not self.closed:
            self._watch_for((READ if self.reading else 0) | (WRITE if self._unread else 0))

    def _watch_for(self, wanted: int) -> None:
        selector, watched = self._house.selector, self._watched
        if wanted == watched:
            return
        self._watched = wanted
        if not wanted:
            selector.unregister(self._sock)
        elif not watched:
            selector.register(self._sock, wanted, self._ready)
        else:
            selector.modify(self._sock, wanted, self._ready)

    def _ready(self, mask: int) -> None:
        """The selector's call."""
        if mask & WRITE:
            self.flush()
        if mask & READ and self.reading:
            self._read()

    def _read(self) -> None:
        buffer = self._house.buffer
        try:
            count = self._sock.recv_into(buffer)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not count:
            self._end()
            return
        try:
            frames = self._decoder.feed(bytes(buffer[:count]))
        except ProtocolError as error:
            self.refuse(error)
            return
        self._take_in(frames)

    def _take_in(self, frames: list[bytes]) -> None:
        cost_bytes = sum(map(len, frames)) + len(frames) * REQUEST_OVERHEAD_BYTES
        partial_bytes = self._decoder.pending_bytes
        self._unanswered += len(frames)
        self._waiting_bytes += cost_bytes
        self._house.pending_bytes += cost_bytes + partial_bytes - self.partial_bytes
        self.partial_bytes = partial_bytes
        self._house.arrived(self, frames)
        if self._waiting_bytes > WAITING_BYTES_MAX:
            self._choked = True
        if not self.reading:
            self.watch()

    def _end(self) -> None:
        """The peer sends no more. It may still read: only one that is wholly gone, or all answered, is closed."""
        if self.partial_bytes:
            self.refuse(ProtocolError("the connection ended inside a frame"))
        elif self._hung_up():
            self.close()
        else:
            self._ended = True
            self._leave_if_answered()
            self.watch()

    def _hung_up(self) -> bool:
        poll = select.poll()
        poll.register(self._sock, 0)
        return bool(poll.poll(0))

    def _leave_if_answered(self) -> None:
        if self._ended and not self._unanswered and not self._unread:
            self.close()
