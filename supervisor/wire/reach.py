"""Where a client reaches a keeper: the daemon's socket, or a one-shot keeper where no daemon listens."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from supervisor.errors import Busy, ConfigError, Denied, NotRunning
from supervisor.wire.asking import Failed

if TYPE_CHECKING:
    from supervisor.wire.one_shot import Keeper


class Reach:
    """`config` is the configuration for a one-shot keeper; None: none may be started."""

    def __init__(self, path: str, config: str | None, overrides: Sequence[str]) -> None:
        self.path = path
        self._config = config
        self._overrides = overrides

    @classmethod
    def find(
        cls, config: str | os.PathLike[str] | None, named: str | None, overrides: Sequence[str], *, one_shot: bool
    ) -> Reach:
        """By what a client was told, else by the environment and the configuration in its usual places.

        Raises:
            ConfigError: there is no configuration, or it cannot be used.
        """
        path, main = _places(config, named, tuple(overrides), os.environ)
        alone = one_shot and "JOBSUP_WORKER" not in os.environ
        return cls(path, main if alone else None, tuple(overrides))

    def open(self) -> tuple[socket.socket, Keeper | None]:
        """A connection, and the keeper at its other end if it was started for it. Does not wait for either.

        Raises:
            Failed: nobody listens (`absent`), or too many are waiting to be accepted.
            JobsupError: the socket may not be opened, or no keeper can be started.
        """
        try:
            return connect(self.path), None
        except Failed as failed:
            if not failed.absent or self._config is None:
                raise
        from supervisor.wire import one_shot

        return one_shot.start(self._config, self._overrides)


def connect(path: str) -> socket.socket:
    """A connection to the daemon that listens at `path`.

    Raises:
        Failed: nobody listens there (`absent`), too many wait to be accepted, or we can have no socket.
        Denied: the socket may not be opened.
        ConfigError: the path is none that a socket can have.
    """
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise Failed(no_descriptor(error)) from None
    try:
        sock.setblocking(False)
        sock.connect(path)
    except PermissionError:
        sock.close()
        raise Denied(f"{path} may not be opened by this user") from None
    except BlockingIOError:
        sock.close()
        raise Failed(Busy(f"too many clients are waiting at {path}")) from None
    except OSError as error:
        sock.close()
        if error.errno is None or error.errno == errno.ENAMETOOLONG:
            raise ConfigError(f"{path} is too long for the path of a socket") from None
        raise Failed(NotRunning(f"no daemon listens at {path}", hint="start jobsupd"), absent=True) from None
    return sock


def no_descriptor(error: OSError) -> Busy:
    """The refusal where the system gives this process no descriptor: it may have one to spare in a moment."""
    hint = "close files and sockets that are not needed any more, or raise the limit: ulimit -n"
    return Busy(f"no connection to a daemon can be opened: {error.strerror}", hint=hint)


def _places(
    config: str | os.PathLike[str] | None, named: str | None, overrides: tuple[str, ...], environ: Mapping[str, str]
) -> tuple[str, str | None]:
    """The path of the socket, and the configuration for a one-shot keeper: None where only a socket is known."""
    known = named or (environ.get("JOBSUP_SOCKET") if config is None and not overrides else None)
    if known and config is None:
        return known, None
    from supervisor.config.locate import socket_path
    from supervisor.config.lookup import main_file

    main = main_file(config, environ)
    if known:
        return known, main
    if not overrides:
        return socket_path(main, environ), main
    from supervisor.config.load import load

    return load(main, overrides, environ).socket, main
