"""Standard streams as programs expect them: open, and able to write whatever text there is."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def open_standard_streams() -> None:
    """Open the null device in place of each standard stream that is closed, as daemons do.

    Else the next file that is opened, the database's lock, say, gets its number, and whoever writes to "stderr" writes
    into that. Characters that the locale cannot write are escaped.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
    sys.stdin = sys.stdin or _stream(0, "r")
    sys.stdout = sys.stdout or _stream(1, "w")
    sys.stderr = sys.stderr or _stream(2, "w")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _stream(fd: int, mode: str) -> TextIO:
    return open(fd, mode, encoding="utf-8", closefd=False)  # type: ignore[return-value]
