"""How long the machine itself stood still: what a bound on waiting must allow for, measured in the same run.

A processor that others have, and a disk that syncs slowly, delay everything on the machine alike. A test that holds
a bound in milliseconds adds the worst of what was seen meanwhile by something that only sleeps and syncs.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

NAP_S = 0.005
NAPS_PER_SYNC = 4


class Stalls:
    """Measures from entering to leaving the block; `worst_ns` is the longest nap beyond its time, and sync."""

    def __init__(self, folder: Path) -> None:
        self.worst_ns = 0
        self._file = folder / "stalls"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _measure(self) -> None:
        fd = os.open(self._file, os.O_WRONLY | os.O_CREAT, 0o600)
        naps = 0
        while True:
            begun = time.monotonic_ns()
            over = self._over.wait(NAP_S)
            woken = time.monotonic_ns()
            naps += 1
            if naps % NAPS_PER_SYNC == 0:
                os.pwrite(fd, b"x" * 4096, 0)
                os.fdatasync(fd)
            late = woken - begun - int(NAP_S * 1e9) if not over else 0
            self.worst_ns = max(self.worst_ns, late + time.monotonic_ns() - woken)
            if over:
                os.close(fd)
                return
