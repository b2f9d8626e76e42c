"""The sockets of scopes, beside the main one: bound here, inherited by each keeper, come and gone with a reload."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

from supervisor.config.sockets import SCOPES_FOLDER, socket_in
from supervisor.errors import JobsupError, UsageError
from supervisor.master.listener import bind

ENDING = ".sock"
FOLDER_MODE = 0o750


class Doors:
    """The listening sockets by scope, in RUN_DIR/scopes. The run_dir is ours alone, so what else is there is old."""

    def __init__(self, run_dir: str) -> None:
        self._run_dir = run_dir
        self.sockets: dict[str, socket.socket] = {}

    def open(self, scopes: Iterable[str]) -> None:
        """At the start: a socket for each scope, and none that an earlier daemon left.

        Raises:
            UsageError, Busy: one cannot be bound.
        """
        wanted = list(scopes)
        self._sweep(wanted)
        for scope in wanted:
            self._open(scope)

    def change(self, scopes: Iterable[str]) -> tuple[list[str], list[str], tuple[str, ...]]:
        """While the daemon runs: what was opened, what was closed, and in words what could not be opened."""
        wanted = list(scopes)
        gone = [scope for scope in self.sockets if scope not in wanted]
        for scope in gone:
            self._close(scope)
        opened: list[str] = []
        problems: list[str] = []
        for scope in wanted:
            if scope in self.sockets:
                continue
            try:
                self._open(scope)
                opened.append(scope)
            except JobsupError as error:
                problems.append(f"scope {scope} has no socket: {error.message}; reload when that is mended")
        return opened, gone, tuple(problems)

    def close(self) -> None:
        """Let nobody in any more; tolerates being called again."""
        for scope in list(self.sockets):
            self._close(scope)

    def _open(self, scope: str) -> None:
        path = socket_in(self._run_dir, scope)
        folder = os.path.dirname(path)
        try:
            os.makedirs(folder, exist_ok=True)
            os.chmod(folder, FOLDER_MODE)  # whatever the umask: clients reach the sockets as they reach the main one
        except OSError as error:
            raise UsageError(f"{folder}: {error.strerror}") from error
        self.sockets[scope] = bind(path)

    def _close(self, scope: str) -> None:
        self.sockets.pop(scope).close()
        try:
            os.unlink(socket_in(self._run_dir, scope))
        except FileNotFoundError:
            pass

    def _sweep(self, wanted: Iterable[str]) -> None:
        """Remove the sockets of scopes that are no more; clients must hear that nobody is there, not wait."""
        folder = f"{self._run_dir}/{SCOPES_FOLDER}"
        kept = {f"{scope}{ENDING}" for scope in wanted}
        try:
            left = [name for name in os.listdir(folder) if name.endswith(ENDING) and name not in kept]
        except OSError:
            return
        for name in left:
            try:
                os.unlink(f"{folder}/{name}")
            except OSError:
                continue
