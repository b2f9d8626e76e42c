"""From what was written to what is meant: every key read by its kind, every problem noted, defaults inherited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from supervisor.config import later
from supervisor.config.expand import expand, refers
from supervisor.config.keys import DAEMON, Section
from supervisor.config.parse import Document
from supervisor.config.problem import KeyPath, Report, dotted, suggestion
from supervisor.config.queue_keys import ARRAYS, DEFAULTS, NAMED, OWN_KEYS, QUEUE, TOP
from supervisor.config.schedule_keys import NOT_OF_SCHEDULES, SCHEDULE_ONLY

PLAIN_PATHS = ("database", "run_dir", "python_path", "scope_of")
"""Paths of [daemon] that take no environment values."""

Fields = dict[str, Any]


class Scope(NamedTuple):
    """What reading a table needs besides the table."""

    document: Document
    environ: Mapping[str, str]
    report: Report

    def problem(self, key: KeyPath, text: str) -> None:
        """Note a problem with a key of this document."""
        self.report.problem(self.document.place(key), key, text)


def read_section(section: Section, written: Any, prefix: KeyPath, scope: Scope) -> Fields:
    """The fields of the spec that a table sets; what is wrong with it is noted and left out."""
    if not isinstance(written, dict):
        scope.problem(prefix, f"is no table; write it as [{dotted(prefix)}] with keys below")
        return {}
    fields: Fields = {}
    for name, value in written.items():
        path = (*prefix, name)
        if name not in section.keys:
            scope.problem(path, "" if scope.report.full else _unknown(section, prefix[0], name))
        elif purpose := later.value(name, value):
            scope.problem(path, later.sentence(purpose))
        else:
            _read_key(section, path, value, fields, scope)
    return fields


def _read_key(section: Section, path: KeyPath, value: Any, fields: Fields, scope: Scope) -> None:
    key = section.keys[path[-1]]
    if isinstance(key.kind, Section) and (key.kind.short is None or isinstance(value, dict)):
        fields[key.field] = read_section(key.kind, value, path, scope)
        return
    kind = key.kind.short if isinstance(key.kind, Section) else key.kind
    assert kind is not None
    try:
        if section is DAEMON and path[-1] in PLAIN_PATHS:
            _refuse_references(value)
        else:
            value = expand(value, scope.environ)
        fields[key.field] = kind.read(value, scope.document.folder)
    except ValueError as error:
        scope.problem(path, str(error))


def _refuse_references(value: Any) -> None:
    if any(refers(each) for each in (value if isinstance(value, list) else [value])):
        raise ValueError("paths of [daemon] take no environment values, as clients must find them; write the path out")


def _unknown(section: Section, area: str, name: str) -> str:
    """The sentence for a key that is not in the section."""
    if purpose := later.key(area, name):
        return later.sentence(purpose)
    if area == "schedules" and name in NOT_OF_SCHEDULES:
        return NOT_OF_SCHEDULES[name]
    if name in SCHEDULE_ONLY and section in (QUEUE, DEFAULTS):
        return "is a key of a schedule; write a [schedules.NAME] with it and the name of this queue"
    if section is DEFAULTS and name in OWN_KEYS:
        return "is not inherited; write it in each [queues.NAME]"
    return f"unknown key; {suggestion(name, section.keys)}"


def unknown_section(name: str) -> str:
    """The sentence for a table at the top that is no section."""
    if purpose := later.key("", name):
        return later.sentence(purpose)
    return f"unknown section; {suggestion(name, (*TOP, *NAMED, 'queues', 'schedules', *ARRAYS))}"


def inherit(defaults: Fields, own: Fields) -> Fields:
    """The fields of a queue over those of [defaults]; tables within are joined key by key."""
    joined = {**defaults, **own}
    for name, value in own.items():
        if isinstance(value, dict) and isinstance(defaults.get(name), dict):
            joined[name] = {**defaults[name], **value}
    return joined


def construct(section: Section, fields: Fields) -> Any:
    """The value of the spec that these fields make; what is not set takes the default of its class."""
    nested = {key.field: key.kind for key in section.keys.values() if isinstance(key.kind, Section)}
    return section.type(
        **{
            name: construct(nested[name], value) if name in nested and value is not None else value
            for name, value in fields.items()
        }
    )
