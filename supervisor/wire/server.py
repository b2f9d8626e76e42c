"""The public socket on the keeper's side: connections, their bounds, and whose request is next.

No policy and no store. It lives in the keeper's one loop: every key it registers has as `data` a callable that
takes the mask, and nothing here ever waits. What peers can make it hold is bounded, whatever they send.
"""

from __future__ import annotations

import operator
import os
import resource
import selectors
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType

from supervisor.errors import Busy
from supervisor.wire.connection import Connection, Peer
from supervisor.wire.framing import frame
from supervisor.wire.messages import failure
from supervisor.wire.turns import Turns

CONNECTIONS_MAX = 1024
RESERVED = 32
"""So many of them are kept for root and for the user of the service, who must be able to see what is going on."""

WAITING_BYTES_MAX = 64 * 1024 * 1024
"""Of requests that are not served yet, complete or not, over all connections: beyond it, reading stops."""

WAITING_BYTES_LOW = 48 * 1024 * 1024
"""Reading begins again here."""

UNREAD_BYTES_MAX = 64 * 1024 * 1024
"""Of replies that are not read yet, over all connections: beyond it, whoever leaves most unread is closed."""

FRAME_TIMEOUT_MS = 10_000
"""From connecting to the first complete frame, and from the first byte of any later frame to its last."""

RECEIVE_BYTES = 256 * 1024
ACCEPTS_PER_TURN = 64

ACCEPT_PAUSE_MS = 1_000
"""How long nobody is accepted after that failed, as it does when the process has no descriptors left."""

TOO_MANY = Busy("too many clients are connected already", hint="try again later")
TOO_SLOW = Busy(
    f"no complete frame came within {FRAME_TIMEOUT_MS // 1000} s", hint="connect when there is something to send"
)
NO_ROOM = Busy("more is being sent than there is room for", hint="try again later")

_CREDENTIALS = struct.Struct("3i")
_partial_bytes = operator.attrgetter("partial_bytes")
_unread_bytes = operator.attrgetter("unread_bytes")


class Server:
    """Accepts on `listeners`, and on the sockets of `scopes` by name; reads and writes when `selector` says so.

    `requests` holds what is to be served: (connection, frame) by `popleft`, one of each connection in turn.
    The loop calls `tick` when `next_deadline_ms` has come, and `flush` after it has posted replies.
    """

    def __init__(
        self, listeners: Iterable[socket.socket], selector: selectors.BaseSelector, boot_ms: Callable[[], int],
        scopes: Mapping[str, socket.socket] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        self.selector = selector
        self.buffer = memoryview(bytearray(RECEIVE_BYTES))
        self.requests = Turns()
        self.full = False
        self.deaf = False
        self.pending_bytes = 0
        self.unread_bytes = 0
        self._boot_ms = boot_ms
        self._connections: set[Connection] = set()
        self._unfinished: dict[Connection, int] = {}
        self._holding_back: list[Connection] = []
        self._listeners = dict.fromkeys(listeners, "") | {listener: scope for scope, listener in scopes.items()}
        self._files_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._accept_again_ms: int | None = None
        for listener in self._listeners:
            listener.setblocking(False)
        self._listen()

    def __len__(self) -> int:
        return len(self._connections)

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._connections))

    def adopt(self, sock: socket.socket, scope: str = "") -> Connection:
        """Serve a connection that was made elsewhere, such as one end of a socketpair."""
        connection = Connection(sock, _peer_of(sock), self, scope)
        self._connections.add(connection)
        self._unfinished[connection] = self._boot_ms() + FRAME_TIMEOUT_MS
        return connection

    def listen_also(self, scope: str, listener: socket.socket) -> None:
        """Accept at the socket of a scope as well, in the place of an earlier one."""
        self.stop_listening(scope)
        listener.setblocking(False)
        self._listeners[listener] = scope
        if self._accept_again_ms is None:
            self._watch(listener)

    def stop_listening(self, scope: str) -> None:
        """Accept nobody more at the socket of a scope."""
        for listener in [each for each, of in self._listeners.items() if scope and of == scope]:
            if self._accept_again_ms is None:
                self.selector.unregister(listener)
            del self._listeners[listener]
            listener.close()

    def next_deadline_ms(self) -> int | None:
        """When `tick` must be called next, on the boot clock; None: not before something happens."""
        first_ms = next(iter(self._unfinished.values()), None)
        times_ms = [at_ms for at_ms in (first_ms, self._accept_again_ms) if at_ms is not None]
        return min(times_ms, default=None)

    def tick(self, now_ms: int) -> None:
        """Close whoever took too long to complete a frame; accept again after a pause."""
        for connection in [c for c, deadline_ms in self._unfinished.items() if deadline_ms <= now_ms]:
            self._judge_slow(connection, now_ms)
        if self._accept_again_ms is not None and self._accept_again_ms <= now_ms:
            self._listen()

    def flush(self) -> None:
        """Send what was posted on any connection."""
        holding_back, self._holding_back = self._holding_back, []
        for connection in holding_back:
            connection.flush()

    def stop_accepting(self) -> None:
        """Accept no more, and close this process's copies of the listeners. Whoever is connected stays."""
        self._deafen()
        self._accept_again_ms = None
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def stop_reading(self) -> None:
        """Read no more from anybody; what was read is served. Else whoever keeps sending could keep us here."""
        self.deaf = True
        for connection in self._connections:
            connection.watch()

    def close(self) -> None:
        """Close everything; tolerates being called again."""
        self.stop_accepting()
        for connection in self:
            connection.close()

    def arrived(self, connection: Connection, frames: list[bytes]) -> None:
        """Let complete frames wait to be served, and the time of an incomplete one run."""
        if frames:
            self.requests.put(connection, frames)
            self._unfinished.pop(connection, None)
        if connection.partial_bytes and connection not in self._unfinished:
            self._unfinished[connection] = self._boot_ms() + FRAME_TIMEOUT_MS
        if self.pending_bytes > WAITING_BYTES_MAX:
            self._set_full(True)
            self.served()

    def served(self) -> None:
        """See whether there is room again. Where nothing waits to be served, nothing will make any: then we do."""
        while self.pending_bytes > WAITING_BYTES_LOW:
            if self.requests:
                return
            max(self._connections, key=_partial_bytes).refuse(NO_ROOM)
        self._set_full(False)

    def posted(self, connection: Connection) -> None:
        """Remember who must be flushed."""
        self._holding_back.append(connection)

    def crowded(self) -> None:
        """Close whoever leaves most unread, while all together leave too much."""
        while self.unread_bytes > UNREAD_BYTES_MAX:
            max(self._connections, key=_unread_bytes).close()

    def gone(self, connection: Connection) -> None:
        """Forget a connection that has closed."""
        self._connections.discard(connection)
        self._unfinished.pop(connection, None)

    def _judge_slow(self, connection: Connection, now_ms: int) -> None:
        """A frame took too long: the peer's fault, unless we did not read from it."""
        del self._unfinished[connection]
        if connection.reading:
            connection.refuse(TOO_SLOW)
        else:
            self._unfinished[connection] = now_ms + FRAME_TIMEOUT_MS

    def _set_full(self, full: bool) -> None:
        self.full = full
        for connection in self._connections:
            connection.watch()

    def _listen(self) -> None:
        self._accept_again_ms = None
        for listener in self._listeners:
            self._watch(listener)

    def _watch(self, listener: socket.socket) -> None:
        self.selector.register(listener, selectors.EVENT_READ, lambda _: self._accept(listener))

    def _deafen(self) -> None:
        if self._accept_again_ms is None:
            for listener in self._listeners:
                self.selector.unregister(listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError:
                self._deafen()
                self._accept_again_ms = self._boot_ms() + ACCEPT_PAUSE_MS
                return
            if self._has_place_for(sock):
                self.adopt(sock, self._listeners.get(listener, ""))
            else:
                _turn_away(sock)

    def _has_place_for(self, sock: socket.socket) -> bool:
        """No more than half of the files that we may have open are clients: slots and links need the rest."""
        taken, room = len(self._connections), min(CONNECTIONS_MAX, self._files_max // 2)
        if taken < room - RESERVED:
            return True
        return taken < room and _peer_of(sock).uid in (0, os.geteuid())


def _peer_of(sock: socket.socket) -> Peer:
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return Peer(*_CREDENTIALS.unpack(data))


def _turn_away(sock: socket.socket) -> None:
    with sock:
        sock.setblocking(False)
        try:
            sock.send(frame(failure(None, TOO_MANY)))
        except OSError:
            pass
