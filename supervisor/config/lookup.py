"""Which files make up the configuration. Without pathlib: clients come through here to find the socket."""

from __future__ import annotations

import os
from collections.abc import Mapping

from supervisor.errors import ConfigError

VARIABLE = "JOBSUP_CONFIG"
SOCKET_VARIABLE = "JOBSUP_SOCKET"
PLACES = ("etc/queues.toml", "/etc/jobsup/queues.toml")
DROP_INS = "queues.d"


def main_file(path: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> str:
    """The main file, absolute: the one named, else $JOBSUP_CONFIG, else the first of `PLACES` that exists.

    Raises:
        ConfigError: none was named and none exists. A named one is returned whether it exists or not.
    """
    if named := path or environ.get(VARIABLE):
        return os.path.abspath(named)
    for place in PLACES:
        if os.path.lexists(place):
            return os.path.abspath(place)
    socket = environ.get(SOCKET_VARIABLE)
    named_socket = f"; ${SOCKET_VARIABLE} is enough where a daemon listens, and names {socket}" if socket else ""
    raise ConfigError(
        f"no configuration: neither {PLACES[0]} nor {PLACES[1]} exists",
        hint=f"name a file with -c FILE or ${VARIABLE}{named_socket}",
    )


def drop_in_folder(main: str) -> str:
    """Where drop-ins of this main file stand."""
    return os.path.join(os.path.dirname(main), DROP_INS)


def drop_ins(main: str) -> list[str]:
    """The drop-ins of a main file, in the byte order of their names: only *.toml, no hidden files.

    Raises:
        OSError: the directory is there and cannot be read.
    """
    folder = drop_in_folder(main)
    try:
        names = os.listdir(os.fsencode(folder))
    except FileNotFoundError:
        return []
    wanted = sorted(name for name in names if name.endswith(b".toml") and not name.startswith(b"."))
    return [os.path.join(folder, os.fsdecode(name)) for name in wanted]
