"""A worker as its foreman sees it: a process on a slot, what it says, and the ladder it may be on.

*Invariant:* the slot's memory is read by offset, never mapped: a job that cuts the file short harms only itself.
"""

from __future__ import annotations

import json
import os
import signal
from collections import deque

import msgspec

from supervisor.policy.tasks import Known
from supervisor.pool.fork import UNUSABLE, UP, Forked, Place
from supervisor.pool.ladder import Climb
from supervisor.unix.memory import W_DONE, W_TARGET, W_TARGET_TOKEN, W_WATCH, Cell, MemoryFile
from supervisor.unix.session import kill_session
from supervisor.unix.slot import STACKS_FILE, TASKS_FILE, open_memory, read_file

READ_BYTES = 64 * 1024
OUTPUT_BYTES_MAX = 4 * 1024
STACKS_BYTES_MAX = 64 * 1024
OUR_BOTTOM = "/supervisor/pool/fork.py"
FATAL = b"Fatal Python error:"
"""What Python writes above the stacks at a fatal signal; a dump at a deadline begins with the stacks."""


class Member:
    """One worker of the crew. `child` and `run` are its name and number in the tree."""

    def __init__(
        self, child: str, run: int, place: Place, forked: Forked, now_ms: int, *, batches: bool = False
    ) -> None:  # fmt: skip
        self.child = child
        self.run = run
        self.slot = place.given.slot
        self.incarnation = place.given.incarnation
        self.pid, self.pidfd, self.start_time, self.ready_fd, self.output_fd = forked
        self.folder = place.folder
        self.memory = MemoryFile(open_memory(place.folder), batches=batches)
        self.started_ms = now_ms
        self.announced = False
        self.leaving = False
        """Whether we told it to go, politely or not."""
        self.condemned = False
        """Whether it is being killed for a job past its deadline."""
        self.climb: Climb | None = None
        self.asked: set[tuple[int, int]] = set()
        """Running jobs, as (id, token), that a client cancelled."""
        self.said_bytes = 0
        self.said_until_ms = 0
        """What it wrote for the log within this second, and when the second is over."""
        self._heard: deque[tuple[int, bytes]] = deque()
        """What it wrote of late, each piece with when it was read, on the boot clock."""
        self._stacks_from = 0
        self._said = b""
        self._line = b""

    # -- what it says ------------------------------------------------------------------------------------------

    def hear(self) -> bool:
        """Read its ready pipe; whether the worker has just said that it is up."""
        before = self._said
        try:
            self._said += os.read(self.ready_fd, READ_BYTES)
        except BlockingIOError:
            pass
        return self._said.startswith(UP) and not before

    @property
    def unusable(self) -> tuple[str, str | None] | None:
        """Why it cannot do its work, as message and traceback, if it said so."""
        if not self._said.startswith(UNUSABLE):
            return None
        try:
            message, detail = json.loads(self._said[1:])
        except ValueError:
            return "the handler cannot be used", None
        return message, detail

    @property
    def known(self) -> tuple[Known, ...]:
        """The tasks that its code knows, as it left them in the slot; it has imported by itself."""
        try:
            return msgspec.json.decode(read_file(self.folder, TASKS_FILE), type=tuple[Known, ...])
        except (OSError, msgspec.MsgspecError):
            return ()

    def hear_output(self, now_ms: int) -> bool:
        """Read what it wrote to its standard streams and keep the tail; False if there will be no more."""
        try:
            data = os.read(self.output_fd, READ_BYTES)
        except BlockingIOError:
            return True
        self._heard.append((now_ms, data[-OUTPUT_BYTES_MAX:]))
        while sum(len(piece) for _, piece in self._heard) - len(self._heard[0][1]) >= OUTPUT_BYTES_MAX:
            self._heard.popleft()
        self._line += data
        return bool(data)

    @property
    def last_output(self) -> str:
        """The end of what it wrote, without what was read before the job that runs began: that is of earlier jobs."""
        begun_ms = min((cell.started_ms for cell in self.cells()), default=0)
        heard = b"".join(piece for at_ms, piece in self._heard if at_ms >= begun_ms)
        return heard[-OUTPUT_BYTES_MAX:].decode("utf-8", "backslashreplace")

    def take_lines(self) -> list[str]:
        """The lines that are whole; one that is too long is given in pieces."""
        *lines, self._line = self._line.split(b"\n")
        while len(self._line) > OUTPUT_BYTES_MAX:
            lines.append(self._line[:OUTPUT_BYTES_MAX])
            self._line = self._line[OUTPUT_BYTES_MAX:]
        return [line.decode("utf-8", "backslashreplace") for line in lines if line]

    @property
    def stacks(self) -> str | None:
        """Its stacks, as a fatal signal, or the dump at the deadline that it did not survive, left them in the slot."""
        try:
            data = read_file(self.folder, STACKS_FILE)[self._stacks_from :]
        except OSError:
            return None
        if not (self.climb and any(self.climb.job == (cell.id, cell.token) for cell in self.cells())):
            data = data[data.find(FATAL) :] if FATAL in data else b""
        return without_our_frames(as_text(data)) or None

    def pass_over_stacks(self) -> None:
        """What is in the file of stacks by now is about jobs that it has survived."""
        try:
            self._stacks_from = os.stat(STACKS_FILE, dir_fd=self.folder, follow_symlinks=False).st_size
        except OSError:
            pass  # without a file there is nothing to pass over

    # -- its memory --------------------------------------------------------------------------------------------

    def cells(self) -> list[Cell]:
        """The jobs that it says are in flight."""
        return self.memory.cells()

    @property
    def done(self) -> int:
        """Jobs that it has ended."""
        return self.memory.word(W_DONE)

    def is_at(self, job: tuple[int, int]) -> bool:
        """Whether this job, (id, token), is still running."""
        return any((cell.id, cell.token) == job and cell.deadline_ms for cell in self.cells())

    def beside(self, job: tuple[int, int]) -> tuple[int, ...]:
        """The jobs that run in one call with this one, (id, token), itself first."""
        cells = self.cells()
        numbers = {cell.number for cell in cells if (cell.id, cell.token) == job}
        return (job[0], *(cell.id for cell in cells if cell.number in numbers and cell.id != job[0]))

    def aim(self, job: tuple[int, int]) -> None:
        """Say which job, (id, token), the next signal is about."""
        self.memory.set_word(W_TARGET_TOKEN, job[1])
        self.memory.set_word(W_TARGET, job[0])

    def watch_until(self, moment_ms: int) -> None:
        """Say when we look at the cells next: a job that must end sooner rings our bell."""
        self.memory.set_word(W_WATCH, moment_ms)

    # -- signals -----------------------------------------------------------------------------------------------

    def send(self, number: int) -> None:
        """Signal the worker itself; one that has ended just now feels nothing."""
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            pass

    def send_group(self, number: int) -> None:
        """Signal its process group. It is not reaped yet, so the number is still its own."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass

    def kill(self) -> None:
        """End it with everything of its session."""
        self.send(signal.SIGKILL)
        kill_session(self.pid)

    def close(self) -> None:
        """Close what we hold of it, its slot's directory included."""
        self.memory.close()
        for fd in (self.pidfd, self.ready_fd, self.output_fd, self.folder):
            os.close(fd)


def as_text(data: bytes) -> str:
    """What the file of stacks holds, cut to what fits into a message: bytes that are no text take four characters."""
    return data[:STACKS_BYTES_MAX].decode("utf-8", "backslashreplace")[:STACKS_BYTES_MAX]


def without_our_frames(stacks: str) -> str:
    """Stacks without what every worker has at the bottom: the frames of the processes that it was forked from."""
    kept = []
    below = False
    for line in stacks.splitlines():
        below = line.startswith("  ") and (below or OUR_BOTTOM in line)
        if not below:
            kept.append(line)
    return "\n".join(kept)
