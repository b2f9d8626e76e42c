"""What code knows of tasks, and what a job needs of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from supervisor.job import TASK_NAME_MAX, VERSION_MAX
from supervisor.policy.closest import did_you_mean

TASKS_MAX = 10_000


class Need(NamedTuple):
    """What runs a job: code that knows its task by this name and can read this version of its payload; 0: any."""

    task: str
    version: int


NO_TASK = ""
"""What a job needs that names no task: it was enqueued before its queue had tasks."""


def need_of(task: str | None, version: int | None) -> Need:
    """What a job needs that says this of itself."""
    return Need(task or NO_TASK, version or 0)


class Known(NamedTuple):
    """A task that code has published. It runs payloads from version `oldest` to `version`.

    `schema`: of a payload of its own version, as the text of a JSON Schema; None: anything goes.
    """

    name: str
    version: int = 1
    oldest: int = 1
    aliases: tuple[str, ...] = ()
    schema: str | None = None


ALIASES_MAX = 100
SCHEMA_BYTES_MAX = 64 * 1024
"""A longer schema is not published: its task is checked where it runs."""


def believable(known: Sequence[Known]) -> bool:
    """Whether this can be what code knows: it comes from a process that has run user code."""
    names = {one.name for one in known}
    return len(names) == len(known) <= TASKS_MAX and all(map(_believable, known))


def _believable(one: Known) -> bool:
    named = all(0 < len(name) <= TASK_NAME_MAX and name.isascii() and name.isprintable() for name in _names(one))
    sized = len(one.aliases) <= ALIASES_MAX and len((one.schema or "").encode()) <= SCHEMA_BYTES_MAX
    return named and sized and 1 <= one.oldest <= one.version <= VERSION_MAX


def _names(one: Known) -> tuple[str, ...]:
    return (one.name, *one.aliases)


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


def meant(task: str, tables: Iterable[Table]) -> str | None:
    """The hint about a task that is not known by its name; None if it is, or if no name is like it."""
    known = {name for table in tables for name in table}
    return None if task in known else did_you_mean(task, known)


def meets(table: Table, need: Need) -> bool:
    """Whether code that knows these tasks runs what needs this."""
    known = table.get(need.task)
    return known is not None and (not need.version or known.oldest <= need.version <= known.version)
