"""What the code of each pool knows: tasks as foremen published them, and what checks payloads by their schemas."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from supervisor.policy.tasks import Known, Need, Table, table_of

SAID_MAX = 300
OUT_OF_REACH = ("pattern", "uniqueItems")
NAMING = ("properties", "$defs")
VALUES = ("enum", "const", "default", "examples")

Check = Callable[[Any], None]
"""Raises ValueError if a payload does not fit."""


class Tasks:
    """What the code of each pool knows; and which pools have just published. Shared by the keeper's parts."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Known, ...]] = {}
        self._tables: dict[str, Table] = {}
        self._checks: dict[str, Check | None] = {}
        self.news: dict[str, tuple[Known, ...]] = {}
        """Published, and not in the rows yet."""
        self.said: set[tuple[str, Need]] = set()
        """What was logged that jobs of a queue wait for; once for each, until its code arrives."""
        self.apart: dict[str, set[tuple[str, Need]]] = {}
        """By pool: what blocked jobs of queues need that it runs and another pool of the queue may not."""
        self.unblock_at_ms: int | None = 0
        """When to look for parked jobs that can run now; a new keeper does at once."""

    def learn(self, known: Mapping[str, Sequence[Known]]) -> None:
        """Take over what the rows say."""
        for pool, listed in known.items():
            self._know(pool, tuple(listed))

    def publish(self, pool: str, known: tuple[Known, ...]) -> None:
        """Hear from a foreman what the code of its pool knows."""
        if known != self._known.get(pool, ()):
            self.news[pool] = known
            self._checks.clear()
            self._know(pool, known)
        self.look_again()

    def look_again(self) -> None:
        """Look in the next pass whether parked jobs can run now."""
        self.unblock_at_ms = 0

    def _know(self, pool: str, known: tuple[Known, ...]) -> None:
        self._known[pool] = known
        self._tables[pool] = table_of(known)

    def table(self, pool: str | None) -> Table:
        """The tasks of a pool by all of their names; none of what is no pool."""
        return {} if pool is None else self._tables.get(pool, {})

    def tables(self, pools: Sequence[str]) -> list[Table]:
        """The tasks of several pools."""
        return [self.table(pool) for pool in pools]

    def check(self, schema: str) -> Check | None:
        """What raises if a payload does not fit; None for a schema that nobody can read."""
        if schema not in self._checks:
            self._checks[schema] = check_of(schema)
        return self._checks[schema]


def check_of(schema: str) -> Check | None:
    """What raises ValueError if a value does not fit a schema. Nothing is fetched for it, whatever it refers to.

    It comes from a process that has run user code: one that cannot be read checks nothing. What it says names no value:
    that may be long, or hidden from whoever reads the error.
    """
    import jsonschema_rs

    def nothing(_: str) -> Any:
        raise ValueError("a schema must not refer to anything outside of it")

    try:
        checked = within_reach(json.loads(schema))
        validator = jsonschema_rs.validator_for(checked, mask="this", validate_formats=True, retriever=nothing)
    except (ValueError, RecursionError):
        return None

    def check(value: Any) -> None:
        error = next(validator.iter_errors(value), None)
        if error is not None:
            where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path)
            raise ValueError(_clipped(error.message) + (f", at {_clipped(where.lstrip('.'))}" if where else ""))

    return check


def _clipped(text: str) -> str:
    return text if len(text) <= SAID_MAX else text[:SAID_MAX] + "..."


def within_reach(schema: Any) -> Any:
    """A schema without what is told otherwise there than by the code itself, which has the last word.

    Patterns are of another dialect; a list may fill a set; a number may fill a Decimal.
    """
    if isinstance(schema, list):
        return [within_reach(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: _part(name, value) for name, value in schema.items() if name not in OUT_OF_REACH}
    return kept | {"type": ["string", "number"]} if kept.get("format") == "decimal" else kept


def _part(name: str, value: Any) -> Any:
    """One member of a schema: a schema, or many by names that are the code's own, or values."""
    if name in NAMING and isinstance(value, dict):
        return {own: within_reach(one) for own, one in value.items()}
    return value if name in VALUES else within_reach(value)
