"""Hiding named payload members wherever they would be rendered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

HIDDEN = "[redacted]"


def redact(value: Any, names: Sequence[str]) -> Any:
    """A copy of a JSON value with the named members hidden.

    `password` hides members of that name at any depth; `card.number` only below a member `card`; `*` stands for
    any one member or element.
    """
    if not names:
        return value
    return _hide(value, [tuple(name.split(".")) for name in names], [])


def _hide(value: Any, patterns: list[tuple[str, ...]], path: list[str]) -> Any:
    if path and any(_matches(pattern, path) for pattern in patterns):
        return HIDDEN
    if isinstance(value, dict):
        return {name: _hide(member, patterns, [*path, name]) for name, member in value.items()}
    if isinstance(value, list):
        return [_hide(element, patterns, [*path, str(index)]) for index, element in enumerate(value)]
    return value


def _matches(pattern: tuple[str, ...], path: list[str]) -> bool:
    tail = path[-len(pattern) :]
    return len(tail) == len(pattern) and all(part in ("*", name) for part, name in zip(pattern, tail, strict=True))
