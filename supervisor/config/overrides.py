"""`--set section.key=value`: values from the command line, put over those of the files.

The value is TOML if it reads as TOML (4, true, ["a"]), else text as it stands, so that 5m and /run/x need no
quotes. A name with dots in it is quoted: --set 'queues."a.b".workers=4'. An array of tables is set as a whole:
--set 'outbox=[]'. Pure.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any, NamedTuple

from supervisor.config.problem import KeyPath, dotted, shown
from supervisor.config.queue_keys import ARRAYS
from supervisor.config.scan import DEPTH_MAX, scan

VALUE_MAX = 64 * 1024
_PART = r'(?:[A-Za-z0-9_-]+|"[^"\\]+")'
_OVERRIDE = re.compile(rf"\s*({_PART}(?:\.{_PART})*)\s*=(.*)", re.DOTALL)


class Override(NamedTuple):
    """One value for one key."""

    key: KeyPath
    value: Any


def parse_override(written: str) -> Override:
    """What one --set means.

    Raises:
        ValueError: it is not section.key=value.
    """
    found = _OVERRIDE.fullmatch(written) if len(written) <= VALUE_MAX else None
    key = tuple(part.strip('"') for part in re.findall(_PART, found[1])) if found else ()
    if not found or (len(key) == 1 and key[0] not in ARRAYS):
        raise ValueError(f"{shown(written)} is no setting; write section.key=value, such as defaults.workers=4")
    if len(key) > DEPTH_MAX:
        raise ValueError(f"a key of {len(key)} parts; none has that many")
    return Override(key, _value(found[2].strip()))


def _value(written: str) -> Any:
    text = f"value = {written}"
    if scan(text).too_deep:
        raise ValueError(f"a value nested deeper than {DEPTH_MAX} levels; write one that is not")
    try:
        read = tomllib.loads(text)
    except ValueError:
        return written
    return read["value"] if len(read) == 1 else written


def put(data: dict[str, Any], override: Override) -> None:
    """Put the value into the data, making the tables on the way.

    Raises:
        ValueError: what would be a table on the way is something else.
    """
    table = data
    for depth, part in enumerate(override.key[:-1], 1):
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ValueError(f"{dotted(override.key[:depth])} is no table; write a key of a section")  # noqa: TRY004
    table[override.key[-1]] = override.value
