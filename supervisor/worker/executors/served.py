"""A command that stays alive: lines to it, lines from it, what it says beside them, and how it ends.

1. There is one wait, on everything that it can do: answer, say something on stderr, take more of what is written, end.
2. It leads a process group of its own, which ends with it.
3. What it says on stderr is passed on as it comes: a command that waits for a reader answers nobody.
4. How much of a line it has read is known from its pipe, also when it is dead: so nobody is blamed who never began.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Sequence

from supervisor.unix.clock import boot_ms

READ_BYTES = 64 * 1024
LINE_BYTES_MAX = 16 * 1024 * 1024
"""The longest line that is read from a command, as the longest frame of the socket."""
TAIL_BYTES = 4096
CLOSED_ONLY = 0
"""Of a pipe that is written to: wake only when its reader is gone."""
CLOSING_MS = 1_000
"""How long a command that has closed its stdin or stdout may take to end: most close them by ending."""


class Ended(Exception):
    """The command has ended, and everything that it wrote was read."""


class Unreadable(Exception):
    """What it wrote, or that it closed a stream, makes what it writes later meaningless; the message says why."""


class Served:
    """A running command. `status` is how it ended, as `subprocess` gives it; None while it lives.

    Raises:
        OSError, ValueError: it cannot be started.
    """

    def __init__(self, argv: Sequence[str], program: str) -> None:
        self._process = process = _start(argv, program)
        assert process.stdin
        assert process.stdout
        assert process.stderr
        self._stdin, self._stdout, self._stderr = (
            stream.fileno() for stream in (process.stdin, process.stdout, process.stderr)
        )
        self._exit = os.pidfd_open(process.pid)
        self._alarm = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.epoll()
        for fd in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(fd, False)
        for fd in (self._stdout, self._stderr, self._exit, self._alarm):
            self._poll.register(fd, select.EPOLLIN)
        self._wanted = CLOSED_ONLY
        self._poll.register(self._stdin, self._wanted)
        self._unsent = memoryview(b"")
        self._sent_bytes = 0
        self._read = bytearray()
        self._searched = 0
        self._tail = b""
        self._closed: str | None = None
        self._closing_at_ms = 0
        self.ordered = False
        """Whether we told it to end, in whatever way."""

    # -- lines -------------------------------------------------------------------------------------------------

    def send(self, line: bytes) -> None:
        """Give it a line, as much as its pipe takes now; `next_line` goes on with the rest."""
        assert not self._unsent
        self._unsent, self._sent_bytes = memoryview(line), 0
        self._write()

    def next_line(self, until_ms: int | None = None) -> bytes | None:
        """The next line that it writes; None at `until_ms` (CLOCK_BOOTTIME), or when `interrupt` was called.

        Raises:
            Ended: there is none to come.
            Unreadable: it is too long, or the command has closed a stream and goes on.
        """
        while True:
            line = self._cut()
            if line is not None:
                self._drain(self._stderr)  # what it said before it wrote the line belongs to the line
                return line
            if self.status is not None:
                raise Ended
            if self._closed and boot_ms() >= self._closing_at_ms:
                raise Unreadable(f"the command has closed its {self._closed}")
            if not self.look(until_ms) or (until_ms is not None and boot_ms() >= until_ms):
                return None

    def look(self, until_ms: int | None = 0) -> bool:
        """Take what it does until then, or wait for it for ever; False if it did nothing, or was interrupted."""
        ready = dict(self._poll.poll(self._wait_s(until_ms)))
        if ready.get(self._stdin, 0) & select.EPOLLERR:
            self._lose_stdin()
        elif self._stdin in ready:
            self._write()
        for fd in (self._stderr, self._stdout):
            if fd in ready and not self._take(fd):
                self._poll.unregister(fd)
        if self._exit in ready and self.status is None:
            self._reap()
        if self._alarm in ready:
            os.eventfd_read(self._alarm)
            return False
        return bool(ready) or bool(self._closed)

    @property
    def descriptor(self) -> int:
        """Readable when there is something to look at."""
        return self._poll.fileno()

    @property
    def closed(self) -> bool:
        """Whether it has closed its stdin or stdout: it is ending, or of no use."""
        return self._closed is not None

    @property
    def begun(self) -> bool:
        """Whether it has read anything of the line that was sent last."""
        return _unread(self._stdin) < self._sent_bytes

    @property
    def all_sent(self) -> bool:
        """Whether the line that was sent last is out of our hands."""
        return not self._unsent

    def strays(self) -> bytes:
        """What it has written that was not asked for; blank lines are nothing, and are not kept."""
        stray = bytes(self._read.strip())
        if not stray:
            self._read.clear()
            self._searched = 0
        return stray

    def _wait_s(self, until_ms: int | None) -> float | None:
        if self._closed:
            until_ms = self._closing_at_ms if until_ms is None else min(until_ms, self._closing_at_ms)
        return None if until_ms is None else max(0, until_ms - boot_ms()) / 1000

    def _write(self) -> None:
        """Write what its pipe takes, until nothing is left or nothing more is taken."""
        try:
            while self._unsent:
                written = os.write(self._stdin, self._unsent)
                self._sent_bytes += written
                self._unsent = self._unsent[written:]
            wanted = CLOSED_ONLY
        except BlockingIOError:
            wanted = select.EPOLLOUT
        except BrokenPipeError:
            return  # what waits for it is told so as well
        if wanted != self._wanted:
            self._wanted = wanted
            self._poll.modify(self._stdin, wanted)

    def _lose_stdin(self) -> None:
        """Nobody can read there any more."""
        self._poll.unregister(self._stdin)
        self._unsent = memoryview(b"")
        self._close_with("stdin")

    def _close_with(self, name: str) -> None:
        if not self._closed:
            self._closed, self._closing_at_ms = name, boot_ms() + CLOSING_MS

    def _take(self, fd: int) -> bool:
        """Read once; False at the end of the stream."""
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return True
        if fd == self._stderr:
            self._tail = (self._tail + data)[-TAIL_BYTES:]
            _pass_on(data)
        elif data:
            self._read += data
        else:
            self._close_with("stdout")
        return bool(data)

    def _cut(self) -> bytes | None:
        """The first line of what was read; blank ones are nothing."""
        while (end := self._read.find(b"\n", self._searched)) >= 0:
            line = bytes(self._read[:end])
            del self._read[: end + 1]
            self._searched = 0
            if line.strip():
                return line
        self._searched = len(self._read)
        if len(self._read) > LINE_BYTES_MAX:
            raise Unreadable(f"the command wrote a line of more than {LINE_BYTES_MAX} bytes")
        return None

    # -- what it says beside -----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Take what it did so far: what it says from now on belongs to the next line, and so does an interruption."""
        self.look()
        self._tail = b""
        try:
            os.eventfd_read(self._alarm)
        except BlockingIOError:
            pass

    def tail(self) -> str | None:
        """The end of what it said on stderr since `begin`; None if that is nothing."""
        return self._tail.decode("utf-8", "backslashreplace") or None

    def _drain(self, fd: int) -> None:
        """Read what is in a pipe by now, and not what others, who have it open too, go on writing."""
        left = _unread(fd)
        while left > 0 and self._take(fd):
            left -= READ_BYTES

    # -- its end -----------------------------------------------------------------------------------------------

    @property
    def status(self) -> int | None:
        """How it ended, if it has: an exit status, or the number of a signal, negative."""
        return self._process.returncode

    def interrupt(self) -> None:
        """Have `next_line` return at once; may be called in a signal handler."""
        os.eventfd_write(self._alarm, 1)

    def terminate(self) -> None:
        """Ask it to end: SIGTERM to its group."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it with its group, now."""
        self._signal(signal.SIGKILL)
        self._reap()

    def leave(self, grace_ms: int) -> None:
        """Close its stdin, and wait for its end; half of the grace later it gets SIGTERM, at its end SIGKILL."""
        now_ms = boot_ms()
        assert self._process.stdin
        self._process.stdin.close()
        for until_ms, then in ((now_ms + grace_ms // 2, self.terminate), (now_ms + grace_ms, self.kill)):
            while self.status is None and boot_ms() < until_ms:
                self._closed = None
                self.look(until_ms)
                self._read.clear()
            if self.status is None:
                then()

    def _signal(self, number: signal.Signals) -> None:
        """Signal its group. It is not reaped yet, so the number is still its own."""
        if self.status is None:
            self.ordered = True
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                pass

    def _reap(self) -> None:
        """End what it left behind in its group, read the last that it wrote, and take its status."""
        if self.status is not None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        for fd in (self._stderr, self._stdout):
            self._drain(fd)
        self._process.wait()


def _start(argv: Sequence[str], program: str) -> subprocess.Popen[bytes]:
    """Start a command with the signals that every program expects: what we ignore, it would ignore as well."""
    ours = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return subprocess.Popen(
            argv,
            executable=program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            process_group=0,
            restore_signals=True,
        )
    finally:
        signal.signal(signal.SIGINT, ours)


def _unread(fd: int) -> int:
    """How many bytes wait in a pipe, whichever end of it this is, and whether its other end still lives or not."""
    (found,) = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4))
    return int(found)


def _pass_on(data: bytes) -> None:
    """Write to our own stderr what the command wrote to its: it is logged, and kept if we end now."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(2, view) :]
    except OSError:
        pass  # nobody listens any more
