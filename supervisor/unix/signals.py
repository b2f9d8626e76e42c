"""Signals as something to wait for: handlers only note which came; a pipe wakes the loop."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterable


class Signals:
    """Notes signals from now on. The wake-up is only a hint: `caught` says what came, however often it came."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._caught: set[int] = set()
        self._read, self._write = socket.socketpair()
        for end in (self._read, self._write):
            end.setblocking(False)
        signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: object) -> None:
        self._caught.add(number)

    def fileno(self) -> int:
        """For the selector: readable when a signal came."""
        return self._read.fileno()

    def caught(self) -> set[int]:
        """The signals that came since the last call."""
        try:
            while len(self._read.recv(4096)) == 4096:
                pass
        except BlockingIOError:
            pass
        caught, self._caught = self._caught, set()
        return caught
