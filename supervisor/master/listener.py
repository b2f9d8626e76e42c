"""The public socket: handed over by systemd, or bound here, where nobody else can reach it before it is closed off."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import MutableMapping

from supervisor.errors import Busy, UsageError
from supervisor.unix.lock import take_run_dir
from supervisor.unix.systemd import inherited_sockets

BACKLOG = 1_024
PATH_BYTES_MAX = 107
MODE = 0o660


class Listener:
    """The public socket while it is open: each keeper inherits it, so that clients wait in it while one restarts."""

    def __init__(self, path: str, environ: MutableMapping[str, str]) -> None:
        """Take what systemd hands over, else bind `path`.

        Raises:
            Busy, UsageError: see `bind`.
        """
        self.sockets = inherited_sockets(environ)
        self._bound: str | None = None
        if not self.sockets:
            self.sockets = [bind(path)]
            self._bound = path

    def close(self) -> None:
        """Stop letting clients in; a socket of systemd's stays, and its clients wait."""
        for sock in self.sockets:
            sock.close()
        self.sockets = []
        if self._bound:
            try:
                os.unlink(self._bound)
            except FileNotFoundError:
                pass
            self._bound = None


def prepare_run_dir(run_dir: str) -> int:
    """Make the folder of socket and slots, closed to others; returns what to hold so that no other daemon uses it.

    Raises:
        UsageError: it cannot be made or written.
        Busy: another daemon uses it.
    """
    try:
        os.makedirs(run_dir, mode=0o750, exist_ok=True)
    except OSError as error:
        raise UsageError(f"run_dir {run_dir}: {error.strerror}") from error
    if not os.access(run_dir, os.W_OK | os.X_OK):
        raise UsageError(f"run_dir {run_dir} is not writable for this user")
    return take_run_dir(run_dir)


def bind(path: str) -> socket.socket:
    """Bind and listen; a socket that nobody answers on any more is replaced.

    Raises:
        Busy: somebody answers on it.
        UsageError: the path is too long, cannot be bound, or names what is no socket.
    """
    if len(os.fsencode(path)) > PATH_BYTES_MAX:
        raise UsageError(
            f"the socket path {path} is longer than the {PATH_BYTES_MAX} bytes the kernel takes",
            hint="choose a shorter [daemon] run_dir",
        )
    if _answers(path):
        raise Busy(f"another process is listening on {path}", hint="stop it first, or choose another [daemon] run_dir")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        _clear_away(path)
        listener.bind(path)
    except OSError as error:
        listener.close()
        raise UsageError(f"{path}: {error.strerror}") from error
    finally:
        os.umask(mask)
    os.chmod(path, MODE)
    listener.listen(BACKLOG)
    return listener


def _clear_away(path: str) -> None:
    """Remove the socket that a killed daemon left. Anything else in its place is somebody's."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "is there already, and no socket")
    os.unlink(path)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True
