"""Scopes put together and taken apart: everything of a scope stands in the whole under its internal name. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from supervisor.config.names import internal_name, scope_of
from supervisor.config.spec import Spec

TABLES = ("limits", "queues", "pools", "schedules")
"""Fields of a spec that hold named tables, of each scope its own."""

REFERRING = ("name", "limits", "sources", "queue", "on_failure", "on_dead")
"""Fields of such tables that hold names of tables: a name, several names, or values by name."""

Table = TypeVar("Table", bound=msgspec.Struct)


def joined(main: Spec, parts: Mapping[str, Spec]) -> Spec:
    """The whole that one daemon runs: the main file with its scopes, whose specs are given as their files say them."""
    wholes = [main, *(internal(part) for part in parts.values())]
    tables = {field: _together(getattr(whole, field) for whole in wholes) for field in TABLES}
    scopes = {
        name: msgspec.structs.replace(table, access=parts[name].access)
        for name, table in main.scopes.items()
        if name in parts
    }
    return msgspec.structs.replace(
        main,
        scopes=scopes,
        files=tuple(dict.fromkeys(file for whole in wholes for file in whole.files)),
        warnings=tuple(dict.fromkeys(text for whole in wholes for text in whole.warnings)),
        **tables,
    )


def internal(part: Spec) -> Spec:
    """The spec of a scope with everything under its internal name; handlers find their own file again."""
    if not part.scope:
        return part
    tables = {field: _all_renamed(getattr(part, field), part.scope) for field in TABLES}
    for field in ("queues", "pools"):
        tables[field] = {name: _at_home(table, part.files[0]) for name, table in tables[field].items()}
    return msgspec.structs.replace(part, **tables)


def alone(whole: Spec) -> Spec:
    """The main file without its scopes."""
    own = {
        field: {name: table for name, table in getattr(whole, field).items() if not scope_of(name)} for field in TABLES
    }
    return msgspec.structs.replace(whole, **own)


def _all_renamed(tables: Mapping[str, Any], scope: str) -> dict[str, Any]:
    return {internal_name(scope, name): renamed(table, scope) for name, table in tables.items()}


def renamed(table: Table, scope: str) -> Table:
    """A named table under its internal name, with every name in it."""
    fields = {field: _named(getattr(table, field), scope) for field in REFERRING if field in table.__struct_fields__}
    return msgspec.structs.replace(table, **fields)


def _named(value: Any, scope: str) -> Any:
    if value is None or isinstance(value, str):
        return value and internal_name(scope, value)
    if isinstance(value, dict):
        return {internal_name(scope, name): each for name, each in value.items()}
    return tuple(internal_name(scope, name) for name in value)


def _at_home(queue: Any, file: str) -> Any:
    return msgspec.structs.replace(queue, env={"JOBSUP_CONFIG": file, **queue.env})


def _together(tables: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for table in tables:
        found.update(table)
    return found
