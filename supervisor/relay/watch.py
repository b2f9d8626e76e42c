"""When to look at the outbox: the kernel tells of writes to its files, and that is where the wait begins.

The bytes of a commit are written before others can see it, and nothing tells of that: so a write is followed by looks
at growing distances. Between writes there is one look an interval, for file systems that tell nothing.
"""

from __future__ import annotations

import os

from supervisor.unix.inotify import IN_MODIFY, NAMES, Watch

ECHO_MS = 1
GAP_MS = 5
"""Looks that find nothing keep this distance, however much the application writes elsewhere in its database."""


class Lookout:
    """`look_ms` is when to look next."""

    def __init__(self, path: str, interval_ms: int, now_ms: int) -> None:
        self._folder, self._name = os.path.split(path)
        self._path = path
        self._interval_ms = interval_ms
        self._echo_ms = interval_ms
        self._at_ms = now_ms
        self._looked_ms = now_ms - GAP_MS
        self._watch_of_folder: int | None = None
        self.watch: Watch | None = None
        self.error: str | None = None
        """Why nothing is watched."""
        try:
            self.watch = Watch()
            self._begin()
        except OSError as error:
            self.error = error.strerror

    @property
    def look_ms(self) -> int:
        """When to look next, on the boot clock."""
        return max(self._at_ms, self._looked_ms + GAP_MS)

    def _begin(self) -> None:
        """Watch the names in the folder, and what the names of our files mean now; known watches stay as they are."""
        assert self.watch is not None
        self._watch_of_folder = self.watch.add(self._folder, NAMES)
        for suffix in ("", "-wal"):
            self.watch.add(self._path + suffix, IN_MODIFY)

    def hear(self, now_ms: int) -> bool:
        """Take what the kernel has told; whether it concerns our files."""
        assert self.watch is not None
        changed = self.watch.changed()
        ours = [where for where, name in changed if where != self._watch_of_folder or name.startswith(self._name)]
        if any(where == self._watch_of_folder for where in ours):
            self._begin()
        if ours:
            self._echo_ms, self._at_ms = ECHO_MS, min(self._at_ms, now_ms)
        return bool(ours)

    def looked(self, now_ms: int) -> None:
        """There was nothing new: look again after a growing distance."""
        self._looked_ms = now_ms
        self._at_ms = now_ms + min(self._echo_ms, self._interval_ms)
        self._echo_ms = min(2 * self._echo_ms, self._interval_ms)
        if self.watch and self._watch_of_folder is None:
            self._begin()  # the folder was not there

    def soon(self, now_ms: int) -> None:
        """Look again at once."""
        self._at_ms, self._looked_ms = now_ms, now_ms - GAP_MS
