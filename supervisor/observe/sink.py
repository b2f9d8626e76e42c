"""Where log lines go, without ever waiting for who reads them.

*Invariant:* no process waits for its log. A pipe or a terminal that nobody drains loses lines; were they waited for,
whoever runs `jobsupd | less` could hold up every commit, and a stop for ever.
"""

from __future__ import annotations

import os
import select
import socket
import stat

from supervisor.errors import UsageError

STDERR = 2
JOURNAL_SOCKET = "/run/systemd/journal/socket"


class Sink:
    """A stream of lines. What does not fit now raises, and is lost."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        mode = os.fstat(fd).st_mode
        self._sock = socket.socket(fileno=os.dup(fd)) if stat.S_ISSOCK(mode) else None
        self._waits = not stat.S_ISREG(mode) and os.get_blocking(fd)
        self.line_bytes_max = select.PIPE_BUF if stat.S_ISFIFO(mode) else None
        """Up to so many bytes are written whole or not at all; None for no such limit."""

    def write(self, data: bytes) -> None:
        """Write one line.

        Raises:
            OSError: not now (BlockingIOError), or not at all.
        """
        if self._sock:
            self._sock.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        elif self._waits and not _takes_more(self._fd):
            raise BlockingIOError
        else:
            os.write(self._fd, data)

    def close(self) -> None:
        """Close what is ours; the standard streams stay."""
        if self._sock:
            self._sock.close()
        if self._fd > STDERR:
            os.close(self._fd)

    @property
    def fds(self) -> tuple[int, ...]:
        """What a child must keep to write here as well."""
        return (self._fd, *((self._sock.fileno(),) if self._sock else ()))


class Journal:
    """The journal's own socket, which takes fields beside the line."""

    line_bytes_max: int | None = None

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._sock.setblocking(False)

    def write(self, data: bytes) -> None:
        """Send one entry.

        Raises:
            OSError: there is no journal, or it does not keep up.
        """
        self._sock.sendto(data, JOURNAL_SOCKET)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    @property
    def fds(self) -> tuple[int, ...]:
        """What a child must keep to write here as well."""
        return (STDERR, self._sock.fileno())


def stderr_sink() -> Sink:
    """Standard error. A pipe or terminal is opened anew: others who have it open shall go on waiting for it."""
    if stat.S_ISFIFO(mode := os.fstat(STDERR).st_mode) or stat.S_ISCHR(mode):
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            return Sink(os.open(f"/proc/self/fd/{STDERR}", flags))
        except OSError:
            pass  # another user's: then it is asked each time whether it takes more
    return Sink(STDERR)


def file_sink(path: str) -> Sink:
    """A file, made if it is not there.

    Raises:
        UsageError: it cannot be opened, or is neither a file nor a device.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o640)
    except OSError as error:
        raise UsageError(f"log.target {path}: {error.strerror}", hint="name a file in a folder that exists") from error
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISCHR(mode)):
        os.close(fd)
        raise UsageError(f"log.target {path} is neither a file nor a device")
    return Sink(fd)


def _takes_more(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return any(events & select.POLLOUT for _, events in poll.poll(0))
