"""A worker as its foreman sees it: a process on a slot, its deadline ladder, and how it ended."""

from __future__ import annotations

import os
import signal
import socket
from typing import NamedTuple

from supervisor.observe.failpoint import hit
from supervisor.pool.climb import Climb, Rung, climbed, due_ms
from supervisor.unix.memory import Memory
from supervisor.unix.session import kill_session
from supervisor.unix.slot import CERTIFICATE_FILE, STACKS_FILE, open_memory, read_file, write_file
from supervisor.unix.spawn import Spawned
from supervisor.wire.control import Certificate, SlotGiven, encode_message

STACKS_BYTES_MAX = 16 * 1024


class Place(NamedTuple):
    """A slot that nobody has used yet."""

    given: SlotGiven
    worker_end: socket.socket
    directory_fd: int


class Worker:
    """One worker of the pool. `run` is the tree's number of this start of `child`."""

    def __init__(self, child: str, run: int, place: Place, spawned: Spawned, ready_fd: int, now_ms: int) -> None:
        self.child = child
        self.run = run
        self.slot = place.given.slot
        self.incarnation = place.given.incarnation
        self.place = place
        self.pid = spawned.pid
        self.pidfd = spawned.pidfd
        self.ready_fd = ready_fd
        self.since_ms = now_ms
        self.start_time = 0
        self.ready = False
        self.announced = False
        self.stopping = False
        self.abandoned = False
        self.climb: Climb | None = None
        fd = open_memory(place.directory_fd)
        self.memory = Memory(fd)
        os.close(fd)

    # -- the ladder --------------------------------------------------------------------------------------------

    def look(self, kill_grace_ms: int, now_ms: int) -> Rung | None:
        """Look at the cells; returns the rung that was just reached, if one was."""
        self._find_overdue(now_ms)
        if self.climb is None:
            return None
        after = climbed(self.climb, kill_grace_ms, now_ms)
        if after.rung is self.climb.rung:
            return None
        self.climb = after
        self._reach(after.rung)
        return after.rung

    def _find_overdue(self, now_ms: int) -> None:
        """Begin to climb for a job past its deadline; come down when the job it was climbed for has ended."""
        cells = {(cell.id, cell.token): cell for cell in self.memory.cells()}
        if self.climb and (self.climb.job, self.climb.token) not in cells and self.climb.rung < Rung.TERM:
            self.climb = None
        if self.climb is None:
            for cell in cells.values():
                if cell.deadline_ms and cell.deadline_ms <= now_ms:
                    self.climb = Climb(cell.id, cell.token, cell.deadline_ms)
                    return

    def cancel(self, job: int, token: int, now_ms: int) -> None:
        """A client cancelled a job: climb for it, if it is the one that runs."""
        running = {(cell.id, cell.token) for cell in self.memory.cells()}
        if self.climb is None and (job, token) in running:
            self.climb = Climb(job, token, now_ms, "cancelled")

    def _reach(self, rung: Rung) -> None:
        if rung is Rung.SOFT:
            self.send(signal.SIGUSR2)
            self.send(signal.SIGUSR1)
        elif rung is Rung.TERM:
            self._signal_group(signal.SIGTERM)
        elif not hit("ladder.kill"):
            self.kill()

    def next_look_ms(self, kill_grace_ms: int, latest_ms: int) -> int:
        """When this worker must be looked at again, at the latest then."""
        times = [latest_ms]
        if self.climb:
            due = due_ms(self.climb, kill_grace_ms)
            if due is not None:
                times.append(due)
        times += [cell.deadline_ms for cell in self.memory.cells() if cell.deadline_ms and self.climb is None]
        return min(times)

    # -- signals -----------------------------------------------------------------------------------------------

    def send(self, number: signal.Signals) -> None:
        """Signal the worker itself."""
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            pass

    def _signal_group(self, number: signal.Signals) -> None:
        """Signal the worker's process group; it was not reaped yet, so the number is still its own."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass

    def kill(self) -> None:
        """End the worker and everything of its session."""
        self.send(signal.SIGKILL)
        kill_session(self.pid)

    def kill_leftovers(self) -> None:
        """End what a worker that was just reaped has left in its session.

        While the session has members its number is not given out again, so it is still the worker's.
        """
        kill_session(self.pid)

    @property
    def done(self) -> int:
        """Jobs that it has ended."""
        return self.memory.done

    # -- the end -----------------------------------------------------------------------------------------------

    def certificate(self, cause: str, now_ms: int, ended: Ended | None) -> Certificate:
        """How this worker ended; written into the slot first, so that it outlives the foreman."""
        hit("foreman.after_reap")
        stacks = self._stacks()
        certificate = Certificate(
            self.slot,
            self.incarnation,
            self.pid,
            cause,
            exit_code=ended.exit_code if ended else None,
            signal=ended.signal if ended else None,
            jobs=(self.climb.job,) if self.climb and cause in ("timeout", "cancelled") else (),
            gone=ended is not None,
            rss_peak_bytes=ended.rss_peak_bytes if ended else None,
            cpu_s=ended.cpu_s if ended else None,
            oom=ended.oom if ended else False,
            age_s=(now_ms - self.since_ms) / 1000,
            stacks=stacks,
        )
        try:
            write_file(self.place.directory_fd, CERTIFICATE_FILE, encode_message(certificate))
        except OSError:
            pass  # the keeper hears it anyway; only a foreman that dies this instant would have needed it
        hit("foreman.before_certificate")
        return certificate

    def _stacks(self) -> str | None:
        try:
            data = read_file(self.place.directory_fd, STACKS_FILE)
        except OSError:
            return None
        return data[-STACKS_BYTES_MAX:].decode("utf-8", "backslashreplace") or None

    def close(self) -> None:
        """Close what the foreman holds of it."""
        self.memory.close()
        for fd in (self.pidfd, self.ready_fd, self.place.directory_fd):
            os.close(fd)
        self.place.worker_end.close()


class Ended(NamedTuple):
    """What the kernel said about a process that has ended."""

    exit_code: int | None
    signal: int | None
    rss_peak_bytes: int
    cpu_s: float
    oom: bool = False


def reap(pid: int) -> Ended:
    """Reap a worker that has ended."""
    _, status, usage = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return Ended(
        code if code >= 0 else None,
        -code if code < 0 else None,
        usage.ru_maxrss * 1024,
        usage.ru_utime + usage.ru_stime,
    )
