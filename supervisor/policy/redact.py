"""Hiding named payload members wherever they would be rendered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

HIDDEN = "[redacted]"


def redact(value: Any, names: Sequence[str]) -> Any:
    """A copy of a JSON value with the named members hidden.

    `password` hides members of that name at any depth; `card.number` only below a member `card`; `*` stands for
    any one member or element. It does not recurse: a value may be as deep as its reader allowed.
    """
    if not names:
        return value
    patterns = [tuple(name.split(".")) for name in names]
    longest = max(map(len, patterns))
    copy: list[Any] = [value]
    left: list[tuple[Any, Any, tuple[str, ...]]] = [(copy, 0, ())]
    while left:
        place, key, path = left.pop()
        found = place[key]
        if any(_matches(pattern, path) for pattern in patterns):
            place[key] = HIDDEN
        elif isinstance(found, dict | list):
            place[key] = inner = found.copy()
            members = inner.keys() if isinstance(inner, dict) else range(len(inner))
            left += [(inner, member, (*path, str(member))[-longest:]) for member in members]
    return copy[0]


def _matches(pattern: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """Whether the path ends as the pattern says. The whole value has an empty path, which nothing matches."""
    tail = path[-len(pattern) :]
    return len(tail) == len(pattern) and all(part in ("*", name) for part, name in zip(pattern, tail, strict=True))
