"""Being told of changes to files without looking at them, by inotify(7). A watch opens no file, so it drops no lock."""

from __future__ import annotations

import ctypes
import os
import struct

IN_MODIFY, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x2, 0x40, 0x80, 0x100, 0x200
NAMES = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO
"""What happens to the names in a folder."""
EVENT = struct.Struct("iIII")
READ_BYTES = 64 * 1024

_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """A descriptor that is readable when something that is watched has changed; then call `changed`."""

    def __init__(self) -> None:
        """Begin to watch nothing.

        Raises:
            OSError: this user has as many of them as the kernel allows.
        """
        self._fd = _check(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))

    def fileno(self) -> int:
        """For the selector."""
        return self._fd

    def add(self, path: str, mask: int) -> int | None:
        """Watch a file or folder, by the name that it has now; None where there is none, or it cannot be watched."""
        try:
            return _check(_libc.inotify_add_watch(self._fd, os.fsencode(path), mask))
        except OSError:
            return None

    def forget(self, watch: int) -> None:
        """Watch this no more."""
        _libc.inotify_rm_watch(self._fd, watch)

    def changed(self) -> list[tuple[int, str]]:
        """What has changed since the last call: the watch, and, of a folder's, the name."""
        found: list[tuple[int, str]] = []
        while True:
            try:
                data = os.read(self._fd, READ_BYTES)
            except BlockingIOError:
                return found
            at = 0
            while at < len(data):
                watch, _, _, length = EVENT.unpack_from(data, at)
                at += EVENT.size
                found.append((watch, os.fsdecode(data[at : at + length].rstrip(b"\0"))))
                at += length

    def close(self) -> None:
        """Watch nothing any more."""
        os.close(self._fd)


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
