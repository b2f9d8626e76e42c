"""The clocks of a daemon under test, to be set at will while it runs."""

from __future__ import annotations

import mmap
from pathlib import Path

from tests.support.daemon import ROOT

SECOND_NS = 1_000_000_000


class Clock:
    """`wall_s` and `boot_s` are how far the clocks go wrong, in seconds; `env` makes a daemon go by them."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(16))
        with path.open("r+b") as file:
            self._offsets_ns = memoryview(mmap.mmap(file.fileno(), 16)).cast("q")
        self.env = {"CLOCK_OFFSETS": str(path), "PYTHONPATH": f"{ROOT / 'tests' / 'support' / 'clock_shift'}:{ROOT}"}

    @property
    def wall_s(self) -> float:
        """The wall clock: people and the network set it."""
        return self._offsets_ns[0] / SECOND_NS

    @wall_s.setter
    def wall_s(self, seconds: float) -> None:
        self._offsets_ns[0] = int(seconds * SECOND_NS)

    @property
    def boot_s(self) -> float:
        """The boot clock: a suspend moves it forward, another boot has another one."""
        return self._offsets_ns[1] / SECOND_NS

    @boot_s.setter
    def boot_s(self, seconds: float) -> None:
        self._offsets_ns[1] = int(seconds * SECOND_NS)
