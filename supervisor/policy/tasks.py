"""What code knows of tasks, and what a job needs of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

TASKS_MAX = 10_000


class Need(NamedTuple):
    """What runs a job: code that knows its task by this name and can read this version of its payload."""

    task: str
    version: int


class Known(NamedTuple):
    """A task that code has published. It runs payloads from version `oldest` to `version`.

    `schema`: of a payload of its own version, as the text of a JSON Schema; None: anything goes.
    """

    name: str
    version: int = 1
    oldest: int = 1
    aliases: tuple[str, ...] = ()
    schema: str | None = None


Table = Mapping[str, Known]
"""Tasks by their names and aliases."""


def table_of(known: Iterable[Known]) -> dict[str, Known]:
    """Tasks by all the names they go by; a name goes before an alias, and of aliases the first."""
    listed = list(known)
    found = {one.name: one for one in listed}
    for one in listed:
        for alias in one.aliases:
            found.setdefault(alias, one)
    return found


def meets(table: Table, need: Need) -> bool:
    """Whether code that knows these tasks runs what needs this."""
    known = table.get(need.task)
    return known is not None and known.oldest <= need.version <= known.version
