"""The JSON Schema of the configuration, for editors: made of the same tables that loading walks. Pure.

It knows less than `jobsupd --check` (bounds of durations, what goes together), and never more. Draft 7, which
the TOML language servers understand.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from supervisor.config.keys import Key, Section, default
from supervisor.config.queue_keys import ARRAYS, NAMED, QUEUE, TOP
from supervisor.config.schedule_keys import SCHEDULE


def schema() -> dict[str, Any]:
    """The whole schema."""
    sections = {name: _object(section) for name, section in TOP.items()}
    queues = {
        "type": "object",
        "description": "One table for each queue.",
        "propertyNames": {"pattern": "^(?:[a-z0-9][a-z0-9_.-]{0,62}|(?:[a-z0-9][a-z0-9_.-]{0,61})?[*])$"},
        "additionalProperties": _object(QUEUE),
    }
    named = {
        name: {
            "type": "object",
            "propertyNames": {"pattern": "^[a-z0-9][a-z0-9_.-]{0,62}$"},
            "additionalProperties": _object(section),
        }
        for name, section in NAMED.items()
    }
    schedules = {
        "type": "object",
        "description": "One table for each schedule.",
        "propertyNames": {"pattern": "^[a-z0-9][a-z0-9_.-]{0,62}$"},
        "additionalProperties": _object(SCHEDULE),
    }
    arrays = {name: {"type": "array", "items": _object(section)} for name, section in ARRAYS.items()}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "jobsup",
        "description": "Queues of jobsup: queues.toml and queues.d/*.toml.",
        "type": "object",
        "properties": {**sections, **named, "queues": queues, "schedules": schedules, **arrays},
        "additionalProperties": False,
    }


def text() -> str:
    """The schema as it stands in etc/queues.schema.json."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _object(section: Section) -> dict[str, Any]:
    return {
        "type": "object",
        "description": section.meaning,
        "properties": {name: _property(section, key) for name, key in section.keys.items()},
        "additionalProperties": False,
    }


def _property(section: Section, key: Key) -> dict[str, Any]:
    if isinstance(key.kind, Section):
        table = _object(key.kind)
        return {"anyOf": [table, key.kind.short.schema]} if key.kind.short else table
    described = {"description": key.meaning, **key.kind.schema}
    value = default(section, key)
    if key.default is None and value is not msgspec.NODEFAULT and value is not None:
        described["default"] = key.kind.show(value)
    return described
