"""What the processes say about themselves, as values. Log lines are made of these in log.py, nowhere else."""

from __future__ import annotations

from typing import Any, NamedTuple


class Event(NamedTuple):
    """One thing that happened. `name` is a key of `WORDING`; `facts` fill its sentence."""

    name: str
    facts: dict[str, Any]


def event(name: str, **facts: Any) -> Event:
    """An event; its name must be worded in `observe.log`."""
    return Event(name, facts)
