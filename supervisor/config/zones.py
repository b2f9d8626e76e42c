"""Time zones by their names in the IANA database: those of this host, else those that came with the package tzdata."""

from __future__ import annotations

import re
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo, available_timezones

from supervisor.config.problem import shown, suggestion

_NAME = re.compile(r"[A-Za-z0-9_+-]{1,32}(?:/[A-Za-z0-9_+-]{1,32}){0,3}")


def zone(name: str) -> tzinfo:
    """The zone of that name.

    Raises:
        ValueError: there is none; the sentence names one that is meant perhaps.
    """
    if name == "UTC":
        return UTC
    try:
        if not _NAME.fullmatch(name):
            raise KeyError(name)  # noqa: TRY301 - neither a path nor anything else is looked for
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{shown(name)} is no time zone; {_close(name)}") from None


def _close(name: str) -> str:
    names = available_timezones()
    near = suggestion(name, names)
    return near if near.startswith("did you mean") else "write a name such as Europe/Berlin or UTC"
