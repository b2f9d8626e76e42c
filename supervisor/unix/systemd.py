"""The protocol with systemd: readiness, status, watchdog, and sockets that it hands over. Without systemd: nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

FIRST_FD = 3


class Notifier:
    """Tells systemd how we stand. Takes its variables out of the environment: no child of ours speaks for us."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        address = environ.pop("NOTIFY_SOCKET", None)
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        watchdog_us = environ.pop("WATCHDOG_USEC", "")
        watchdog_pid = environ.pop("WATCHDOG_PID", "")
        ours = not watchdog_pid or watchdog_pid == str(os.getpid())
        self.watchdog_ms = int(watchdog_us) // 2_000 if watchdog_us.isdigit() and ours else None
        """How often `alive` is to be called; None if nobody watches."""

    def say(self, *lines: str) -> None:
        """Send state lines, as READY=1 or STATUS=text. Never raises, never blocks."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            pass

    def alive(self) -> None:
        """A whole turn of the main loop was done, and the keeper's loop turns, too."""
        self.say("WATCHDOG=1")


def inherited_sockets(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """The listening sockets that systemd handed over (LISTEN_FDS); ours to use, never to unlink."""
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    sockets = []
    for fd in range(FIRST_FD, FIRST_FD + int(count)):
        os.set_inheritable(fd, False)
        sockets.append(socket.socket(fileno=fd))
    return sockets
