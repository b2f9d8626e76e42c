"""What the disk alone takes to keep a promise."""

from __future__ import annotations

import os
import time
from pathlib import Path

PAGE = b"\0" * 4096


class Disk:
    """A file that grows by a page at a time, each synced, as a write-ahead log does."""

    def __init__(self, folder: Path) -> None:
        self._fd = os.open(folder / "synced", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

    def sync_ms(self) -> float:
        """How long it takes until one more page is on disk."""
        os.write(self._fd, PAGE)
        begun = time.perf_counter()
        os.fdatasync(self._fd)
        return (time.perf_counter() - begun) * 1000

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
