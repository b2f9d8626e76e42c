"""The options of one job, as users give them, brought to the form in which they travel and are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from supervisor.errors import InvalidPayload
from supervisor.policy.closest import did_you_mean
from supervisor.policy.duration import to_ms

NAMES = (
    "delay", "at", "priority", "timeout", "max_attempts", "tags", "backoff", "retry_for", "ttl", "expires", "deadline",
    "key", "cost", "task", "version", "idempotency_key",
)  # fmt: skip
EXCLUDING = (
    ("delay_ms", "due_at_ms", "delay or at"),
    ("ttl_ms", "expires_at_ms", "ttl or expires"),
)
"""Fields of which a job takes one, and how users call them."""

DURATIONS = ("delay", "timeout", "retry_for", "ttl")


def to_wire(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a job on the wire for options by keyword; what is None is left out.

    Raises:
        InvalidPayload: an option does not exist, or its value has no meaning; the message names it.
    """
    fields: dict[str, Any] = {}
    for name, value in options.items():
        if name not in NAMES:
            known = f"there are {', '.join(NAMES)}"
            raise InvalidPayload(f"{name} is no option of a job; {known}", hint=did_you_mean(str(name), NAMES))
        if value is not None:
            fields.update(_field(name, value))
    for one, other, called in EXCLUDING:
        if one in fields and other in fields:
            raise InvalidPayload(f"a job takes either {called}, not both")
    return fields


def _field(name: str, value: Any) -> dict[str, Any]:
    try:
        if name in DURATIONS:
            return {f"{name}_ms": to_ms(value)}
        if name in READERS:
            return READERS[name](value)
    except (ValueError, TypeError) as error:
        raise InvalidPayload(f"{name}: {error}") from error
    return {name: value}


def _deadline(value: Any) -> dict[str, Any]:
    """An instant, or how long from now."""
    if isinstance(value, datetime) or (isinstance(value, str) and "-" in value):
        return {"deadline_at_ms": instant_ms(value)}
    return {"deadline_ms": to_ms(value)}


def _delays(value: Any) -> list[int]:
    """One delay for every retry, or a list of them, of which the last repeats."""
    if isinstance(value, (list, tuple)):
        return [to_ms(delay) for delay in value]
    return [to_ms(value)]


def _tags(value: Sequence[str]) -> list[str]:
    if isinstance(value, str):
        raise ValueError("a list of words, not one text")  # noqa: TRY004 - `_field` names the option
    return list(value)


READERS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "at": lambda value: {"due_at_ms": instant_ms(value)},
    "expires": lambda value: {"expires_at_ms": instant_ms(value)},
    "deadline": _deadline,
    "backoff": lambda value: {"backoff_ms": _delays(value)},
    "tags": lambda value: {"tags": _tags(value)},
}
"""What each option that is no duration becomes."""


def instant_ms(value: str | datetime) -> int:
    """Milliseconds since 1970 of an aware datetime or an RFC 3339 text.

    Raises:
        ValueError: it is no instant, or it has no time zone.
    """
    when = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    if when.tzinfo is None:
        raise ValueError("an instant needs a time zone, as in 2026-01-31T09:00:00Z")
    return round(when.timestamp() * 1000)
