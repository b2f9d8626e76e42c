"""Requests waiting to be served: one of each connection in turn, however much one of them sends."""

from __future__ import annotations

from collections import deque

from supervisor.wire.connection import Connection


class Turns:
    """Used like a deque of (connection, frame): `popleft`, `len`, truth.

    Requests of a connection keep their order. Those of a connection that has closed meanwhile still come: they
    were complete, and whoever sent them may be gone for reasons of its own.
    """

    __slots__ = ("_count", "_line")

    def __init__(self) -> None:
        self._line: deque[Connection] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, connection: Connection, frames: list[bytes]) -> None:
        """Let `frames` wait behind what this connection has waiting."""
        if not connection.inbox:
            self._line.append(connection)
        connection.inbox.extend(frames)
        self._count += len(frames)

    def popleft(self) -> tuple[Connection, bytes]:
        """The next request.

        Raises:
            IndexError: none is waiting.
        """
        line = self._line
        connection = line.popleft()
        self._count -= 1
        frame = connection.take()
        if connection.inbox:
            line.append(connection)
        return connection, frame
