"""Where the daemon listens, found without the cost of validating the configuration: tomllib and nothing more."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping

from supervisor.config.lookup import SOCKET_VARIABLE, main_file
from supervisor.config.parse import Document, parse
from supervisor.config.problem import Report
from supervisor.config.sockets import SCOPE_OF, socket_in
from supervisor.config.source import read
from supervisor.errors import ConfigError

_KEYS = {
    name: re.compile(rb"""^[ \t]*%b[ \t]*=[ \t]*["']([^"'\n]+)["']""" % name.encode(), re.MULTILINE)
    for name in ("run_dir", SCOPE_OF)
}
SOCKET_PATH_MAX_BYTES = 107
"""What the kernel takes: sun_path has 108 bytes, one of them the closing NUL."""


def socket_path(config: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> str:
    """$JOBSUP_SOCKET, unless a file is named, else the socket in the run_dir of the file that `main_file` finds.

    For the file of a scope it is the socket of that scope, in the run_dir of the main file that it names. Drop-ins
    are not read: they hold queues only.

    Raises:
        ConfigError: there is no file, or it cannot be used.
    """
    if config is None and (named := environ.get(SOCKET_VARIABLE)):
        return named
    main = main_file(config, environ)
    report = Report()
    content = read(main, report)
    document = parse(main, content, report) if content is not None else None
    if content is not None and report.count and (left := _socket_of_a_draft(main, content)):
        return left
    report.raise_problems()
    assert document is not None
    return _socket_of(document)


def _socket_of(document: Document) -> str:
    """The socket of a file that was read.

    Raises:
        ConfigError: it is the file of a scope, and the main file that it names does not have it.
    """
    daemon, scope = document.data.get("daemon"), ""
    if isinstance(daemon, dict) and SCOPE_OF in daemon:
        from supervisor.config.membership import membership

        report = Report()
        member = membership(document, report)
        report.raise_problems()
        assert member is not None
        document, scope = member
        daemon = document.data.get("daemon")
    run_dir = daemon.get("run_dir") if isinstance(daemon, dict) else None
    return socket_in(run_dir_of(document.path, run_dir), scope)


def _socket_of_a_draft(main: str, content: bytes) -> str | None:
    """Where the daemon listens although the file is no TOML at present: somebody is editing it, and others enqueue.

    Only a socket that is there counts; the file's rights were found good before its text was looked at.
    """
    found = {name: match[1].decode(errors="replace") for name, key in _KEYS.items() if (match := key.search(content))}
    try:
        path = _socket_of(Document(main, {"daemon": found}, {}))
        return path if stat.S_ISSOCK(os.stat(path).st_mode) else None
    except (OSError, ValueError, ConfigError):
        return None


def run_dir_of(main: str, run_dir: object) -> str:
    """The run_dir that a value in the main file means; its default if it is not set."""
    if isinstance(run_dir, str):
        return os.path.normpath(os.path.join(os.path.dirname(main), run_dir))
    return default_paths(main)[1]


def default_paths(main: str) -> tuple[str, str]:
    """Database and run_dir of a file that does not set them: the system's for one below /etc, else beside it."""
    if main.startswith("/etc/"):
        return "/var/lib/jobsup/jobs.db", "/run/jobsup"
    parent = os.path.normpath(os.path.join(os.path.dirname(main), ".."))
    return os.path.join(parent, "var", "jobs.db"), os.path.join(parent, "run")
