"""The options of one job, as users give them, brought to the form in which they travel and are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from supervisor.errors import InvalidPayload
from supervisor.policy.duration import to_ms

NAMES = ("delay", "at", "priority", "timeout", "max_attempts", "tags", "key", "cost")


def to_wire(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a job on the wire for options by keyword; what is None is left out.

    Raises:
        InvalidPayload: an option does not exist, or its value has no meaning; the message names it.
    """
    fields: dict[str, Any] = {}
    for name, value in options.items():
        if name not in NAMES:
            raise InvalidPayload(f"{name} is no option of a job; there are {', '.join(NAMES)}")
        if value is not None:
            fields.update(_field(name, value))
    if "delay_ms" in fields and "due_at_ms" in fields:
        raise InvalidPayload("a job takes either delay or at, not both")
    return fields


def _field(name: str, value: Any) -> dict[str, Any]:
    try:
        if name == "delay":
            return {"delay_ms": to_ms(value)}
        if name == "at":
            return {"due_at_ms": instant_ms(value)}
        if name == "timeout":
            return {"timeout_ms": to_ms(value)}
        if name == "tags":
            return {"tags": _tags(value)}
    except (ValueError, TypeError) as error:
        raise InvalidPayload(f"{name}: {error}") from error
    return {name: value}


def _tags(value: Sequence[str]) -> list[str]:
    if isinstance(value, str):
        raise ValueError("a list of words, not one text")  # noqa: TRY004 - `_field` names the option
    return list(value)


def instant_ms(value: str | datetime) -> int:
    """Milliseconds since 1970 of an aware datetime or an RFC 3339 text.

    Raises:
        ValueError: it is no instant, or it has no time zone.
    """
    when = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    if when.tzinfo is None:
        raise ValueError("an instant needs a time zone, as in 2026-01-31T09:00:00Z")
    return round(when.timestamp() * 1000)
