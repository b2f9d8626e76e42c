"""Which scope a file is the file of: it names its main file, and the main file names it.

Clients come through here to find the socket: nothing but tomllib is needed.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from supervisor.config.parse import Document, parse
from supervisor.config.problem import Report, quoted
from supervisor.config.sockets import SCOPE_OF
from supervisor.config.source import read

_KEY = ("daemon", SCOPE_OF)


class Membership(NamedTuple):
    """The main file, and the name that it gives to the scope."""

    main: Document
    name: str


def is_scope(document: Document) -> bool:
    """Whether a file says that it is the file of a scope."""
    return isinstance(_daemon(document).get(SCOPE_OF), str)


def main_of(document: Document) -> str:
    """The main file that the file of a scope names."""
    return os.path.normpath(os.path.join(document.folder, _daemon(document)[SCOPE_OF]))


def membership(document: Document, report: Report) -> Membership | None:
    """The scope whose file this is; None if there is a problem with it, which is noted."""
    place = document.place(_KEY)
    if not is_scope(document):
        report.problem(place, _KEY, "is no text; write the path of the main file")
        return None
    path = main_of(document)
    if same_file(path, document.path):
        report.problem(place, _KEY, "is this file itself; name the main file, or remove the key if this is it")
        return None
    content = read(path, report)
    main = parse(path, content, report) if content is not None else None
    if main is None:
        return None
    if is_scope(main):
        report.problem(place, _KEY, f"{quoted(path)} is the file of a scope itself; name the main file")
        return None
    names = [name for name, config in tables_of(main).items() if same_file(config, document.path)]
    if not names:
        text = f"{quoted(path)} has no [scopes.NAME] with this file as its config; write one there"
        report.problem(place, _KEY, text)
        return None
    return Membership(main, names[0])


def tables_of(main: Document) -> dict[str, str]:
    """The files of a main file's scopes, by name, as far as they are written as they should be."""
    tables = main.data.get("scopes")
    written = {name: table.get("config") for name, table in tables.items() if isinstance(table, dict)} if isinstance(
        tables, dict) else {}  # fmt: skip
    return {
        name: os.path.normpath(os.path.join(main.folder, config))
        for name, config in written.items()
        if isinstance(config, str)
    }


def same_file(one: str, other: str) -> bool:
    """Whether two paths lead to the same place, whatever links are on the way."""
    return os.path.realpath(one) == os.path.realpath(other)


def _daemon(document: Document) -> dict[str, Any]:
    daemon = document.data.get("daemon")
    return daemon if isinstance(daemon, dict) else {}
