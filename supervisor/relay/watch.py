"""When to look at the outbox: the kernel tells of writes to its files, and that is where the wait begins.

The bytes of a commit are written before others can see it, and nothing tells of that: so a write is followed by looks
at growing distances. Between writes there is one look an interval, for file systems that tell nothing.
"""

from __future__ import annotations

import os

from supervisor.unix.inotify import IN_MODIFY, NAMES, Watch

ECHO_MS = 1
GAP_MS, GAP_MAX_MS = 2, 64
IN_VAIN_MAX = 8
"""Looks keep a distance, which grows after so many that found commits without rows: the application writes elsewhere in
its database. It is forgotten when nothing has been written for a while."""


class Lookout:
    """`look_ms` is when to look next."""

    def __init__(self, path: str, interval_ms: int, now_ms: int) -> None:
        self._folder, self._name = os.path.split(path)
        self._path = path
        self._interval_ms = interval_ms
        self._echo_ms = interval_ms
        self._at_ms = now_ms
        self._gap_ms, self._heard, self._in_vain = GAP_MS, False, 0
        self._looked_ms = now_ms - GAP_MS
        self._watch_of_folder: int | None = None
        self._watches: set[int] = set()
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
        return max(self._at_ms, self._looked_ms + self._gap_ms)

    def deaf(self, now_ms: int) -> bool:
        """Whether a look is due soon anyway: until then, what the kernel tells can wait."""
        return self._heard and now_ms < self.look_ms

    def follow(self, path: str) -> None:
        """From now on the database is this file: a symbolic link leads elsewhere."""
        if path == self._path:
            return
        self._folder, self._name = os.path.split(path)
        self._path = path
        if self.watch:
            for watch in self._watches:
                self.watch.forget(watch)
            self._watches.clear()
            self._begin()

    def _begin(self) -> None:
        """Watch the names in the folder, and what the names of our files mean now; known watches stay as they are."""
        assert self.watch is not None
        self._watch_of_folder = self.watch.add(self._folder, NAMES)
        files = [self.watch.add(self._path + suffix, IN_MODIFY) for suffix in ("", "-wal")]
        self._watches |= {watch for watch in (self._watch_of_folder, *files) if watch is not None}

    def hear(self, now_ms: int) -> bool:
        """Take what the kernel has told; whether it concerns our files."""
        assert self.watch is not None
        changed = self.watch.changed()
        if any(where == self._watch_of_folder and not name for where, name in changed):
            self._watch_of_folder = None  # the folder itself is gone
        ours = [where for where, name in changed if where != self._watch_of_folder or name.startswith(self._name)]
        if any(where == self._watch_of_folder for where in ours):
            self._begin()
        if ours:
            self._echo_ms, self._at_ms, self._heard = ECHO_MS, min(self._at_ms, now_ms), True
        return bool(ours)

    def looked(self, now_ms: int, *, changed: bool = False) -> None:
        """There were no rows, whether the file has `changed` or not: look again after a growing distance."""
        if changed:
            self._in_vain += 1
            self._gap_ms = min(2 * self._gap_ms, GAP_MAX_MS) if self._in_vain > IN_VAIN_MAX else GAP_MS
        elif self._echo_ms > GAP_MAX_MS:
            self._gap_ms, self._in_vain = GAP_MS, 0
        self._looked_ms, self._heard = now_ms, False
        self._at_ms = now_ms + min(self._echo_ms, self._interval_ms)
        self._echo_ms = min(2 * self._echo_ms, self._interval_ms)
        if self.watch and self._watch_of_folder is None:
            self._begin()  # the folder was not there

    def soon(self, now_ms: int) -> None:
        """There was something: look again at once."""
        self._gap_ms, self._in_vain = GAP_MS, 0
        self._at_ms, self._looked_ms = now_ms, now_ms - GAP_MS
