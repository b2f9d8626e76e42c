"""The spec as `jobsctl config show` prints it: every key, nothing inherited any more, paths absolute. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from supervisor.config.agree import COMMAND_ONLY, HANDLER_ONLY, POOL_ONLY, PULL_FOREIGN, idle, idle_demand
from supervisor.config.alert_keys import ALERTS
from supervisor.config.build import PLAIN_PATHS
from supervisor.config.expand import escape
from supervisor.config.keys import ACCESS, DAEMON, INTAKE, LOG, STATS, Section
from supervisor.config.queue_keys import ARRAYS, LIMIT, MAIN_ONLY, POOL, QUEUE, RETENTION, SCOPE
from supervisor.config.schedule_keys import SCHEDULE
from supervisor.config.scopes import alone
from supervisor.config.spec import Limit, Queue, Schedule, Spec


def as_toml_data(spec: Spec) -> dict[str, Any]:
    """What gives the same spec again when it is loaded: `${` is escaped where loading would look for it."""
    data = as_data(spec)
    daemon = data["daemon"]
    plain = {name: daemon[name] for name in PLAIN_PATHS if name in daemon}
    return {**{section: _escaped(table) for section, table in data.items()}, "daemon": _escaped(daemon) | plain}


def as_data(spec: Spec) -> dict[str, Any]:
    """Tables and values as they are meant; keys without a value are left out, as TOML has no null.

    The scopes of a main file are named, and not shown; of a scope, only what its file may have.
    """
    tables = _all(alone(spec))
    return {name: table for name, table in tables.items() if not (spec.scope and name in MAIN_ONLY)}


def _all(spec: Spec) -> dict[str, Any]:
    return {
        "daemon": _table(DAEMON, spec.daemon),
        "intake": _table(INTAKE, spec.intake),
        "log": _table(LOG, spec.log),
        "access": _table(ACCESS, spec.access),
        "stats": _table(STATS, spec.stats),
        **({"alerts": _table(ALERTS, spec.alerts)} if spec.alerts.configured else {}),
        **_named(spec),
        **({"outbox": [_table(ARRAYS["outbox"], each) for each in spec.outbox.values()]} if spec.outbox else {}),
        "queues": {name: _queue(queue, spec.limits) for name, queue in spec.queues.items()},
        **(
            {"schedules": {name: schedule_table(each) for name, each in spec.schedules.items()}}
            if spec.schedules
            else {}
        ),
    }


def _named(spec: Spec) -> dict[str, Any]:
    """The sections of which there are any number; those that are not written are left out."""
    tables = {
        "limits": {name: _table(LIMIT, limit) for name, limit in spec.limits.items()},
        "pools": {name: _pool(pool) for name, pool in spec.pools.items()},
        "scopes": {name: _table(SCOPE, scope) for name, scope in spec.scopes.items()},
    }
    return {name: table for name, table in tables.items() if table}


def _pool(pool: Queue) -> dict[str, Any]:
    table = _busy(POOL, pool)
    return {name: value for name, value in table.items() if name not in _foreign(pool)}


def _foreign(queue: Queue) -> set[str]:
    """The keys that go with the other thing to run."""
    foreign = set(HANDLER_ONLY if queue.handler is None else ()) | set(COMMAND_ONLY if queue.command is None else ())
    return foreign | set(() if queue.batch_size is not None else ("batch_wait",))


def schedule_table(schedule: Schedule) -> dict[str, Any]:
    """The keys that this schedule may have: a zone beside `every` is an error, and so is a null in TOML."""
    table = _table(SCHEDULE, schedule)
    return {name: value for name, value in table.items() if name != "timezone" or schedule.cron is not None}


def _queue(queue: Queue, limits: Mapping[str, Limit]) -> dict[str, Any]:
    """The keys that this queue may have: those for handlers, or commands, only are errors elsewhere."""
    foreign = _foreign(queue)
    if queue.handler is None and queue.command is None:
        foreign |= {*PULL_FOREIGN} if queue.pull else {*POOL_ONLY}
    if idle_demand(queue, limits):
        foreign.add("demand")
    return {name: value for name, value in _busy(QUEUE, queue).items() if name not in foreign}


def _busy(section: Section, queue: Queue) -> dict[str, Any]:
    """The keys that mean something in this queue, or pool; the others would be errors."""
    table = _table(section, queue)
    for (*above, name), _ in idle(queue):
        within = table
        for step in above:
            within = within.get(step, {})
        within.pop(name, None)
    return table


def _table(section: Section, value: msgspec.Struct) -> dict[str, Any]:
    table = {}
    for name, key in section.keys.items():
        kept = getattr(value, key.field)
        if isinstance(key.kind, Section):
            if kept is None:
                continue
            table[name] = _table(key.kind, kept)
        elif kept is not None or section in (RETENTION, STATS):
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
