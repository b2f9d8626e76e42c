"""The spec as `jobsctl config show` prints it: every key, nothing inherited any more, paths absolute. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from supervisor.config.agree import HANDLER_ONLY
from supervisor.config.build import PLAIN_PATHS
from supervisor.config.expand import escape
from supervisor.config.keys import ACCESS, DAEMON, INTAKE, LOG, Section
from supervisor.config.queue_keys import QUEUE, RETENTION
from supervisor.config.schedule_keys import SCHEDULE
from supervisor.config.spec import Queue, Schedule, Spec


def as_toml_data(spec: Spec) -> dict[str, Any]:
    """What gives the same spec again when it is loaded: `${` is escaped where loading would look for it."""
    data = as_data(spec)
    daemon = data["daemon"]
    plain = {name: daemon[name] for name in PLAIN_PATHS if name in daemon}
    return {**{section: _escaped(table) for section, table in data.items()}, "daemon": _escaped(daemon) | plain}


def as_data(spec: Spec) -> dict[str, Any]:
    """Tables and values as they are meant; keys without a value are left out, as TOML has no null."""
    return {
        "daemon": _table(DAEMON, spec.daemon),
        "intake": _table(INTAKE, spec.intake),
        "log": _table(LOG, spec.log),
        "access": _table(ACCESS, spec.access),
        "queues": {name: _queue(queue) for name, queue in spec.queues.items()},
        **(
            {"schedules": {name: schedule_table(each) for name, each in spec.schedules.items()}}
            if spec.schedules
            else {}
        ),
    }


def schedule_table(schedule: Schedule) -> dict[str, Any]:
    """The keys that this schedule may have: a zone beside `every` is an error, and so is a null in TOML."""
    table = _table(SCHEDULE, schedule)
    return {name: value for name, value in table.items() if name != "timezone" or schedule.cron is not None}


def _queue(queue: Queue) -> dict[str, Any]:
    """The keys that this queue may have: those for handlers only are an error beside a command."""
    table = _table(QUEUE, queue)
    return {name: value for name, value in table.items() if queue.handler is not None or name not in HANDLER_ONLY}


def _table(section: Section, value: msgspec.Struct) -> dict[str, Any]:
    table = {}
    for name, key in section.keys.items():
        kept = getattr(value, key.field)
        if isinstance(key.kind, Section):
            table[name] = _table(key.kind, kept)
        elif kept is not None or section is RETENTION:
            table[name] = key.kind.show(kept)
    return table


def _escaped(value: Any) -> Any:
    """The value so written that loading does not look for environment values in it."""
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, (list, tuple)):
        return [_escaped(element) for element in value]
    if isinstance(value, dict):
        return {name: _escaped(element) for name, element in value.items()}
    return value
