"""Schedules of the configuration: how their tables are read, whether their values go together, what plan they make."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from supervisor.config.build import Scope, construct, read_section
from supervisor.config.discipline import unique_of
from supervisor.config.keys import Section
from supervisor.config.layers import Layers
from supervisor.config.problem import KeyPath, dotted, shown, suggestion
from supervisor.config.schedule_keys import NOT_OF_SCHEDULES, SCHEDULE
from supervisor.config.spec import Queue, Schedule, Spec, is_pattern, matches
from supervisor.config.special import QUEUE_NAME
from supervisor.config.zones import zone
from supervisor.policy.duration import show
from supervisor.policy.schedule import Cron, Every, Plan, Times, read_cron
from supervisor.policy.unique import lacks

SCHEDULES_MAX = 1_024

Conflict = tuple[KeyPath, str]


def read_schedules(layers: Layers, queues: Mapping[str, Queue], scope: Scope) -> dict[str, Schedule]:
    """Every schedule whose own keys are right; what is wrong with any of them is noted."""
    if len(layers.schedules) > SCHEDULES_MAX:
        scope.problem(("schedules",), f"are {len(layers.schedules)}; write at most {SCHEDULES_MAX}")
        return {}
    found = {}
    for name, document in layers.schedules.items():
        inner = scope._replace(document=document)
        if schedule := _read_schedule(name, document.data["schedules"][name], layers, queues, inner):
            found[name] = schedule
    return found


def _read_schedule(
    name: str, written: Any, layers: Layers, queues: Mapping[str, Queue], scope: Scope
) -> Schedule | None:
    """The schedule, or None if something is wrong with it. What is right is compared all the same."""
    prefix = ("schedules", name)
    before = scope.report.count
    try:
        QUEUE_NAME.read(name, "")
    except ValueError as error:
        scope.problem(prefix, str(error))
    fields = read_section(SCHEDULE, written, prefix, scope)
    if isinstance(written, dict):
        for key, text in of_written(written):
            scope.problem((*prefix, *key), text)
    queue = _queue(fields.get("queue"), queues)
    if "queue" in fields and queue is None and not _named(fields["queue"], layers.queues):
        known = suggestion(fields["queue"], layers.queues) if layers.queues else "write a [queues.NAME]"
        scope.problem((*prefix, "queue"), f"there is no queue {shown(fields['queue'])}; {known}")
    schedule: Schedule = construct(SCHEDULE, {"name": name, "queue": "", **fields})
    for key, text in of_schedule(schedule, queue):
        scope.problem((*prefix, *key), text)
    return schedule if scope.report.count == before else None


def _queue(name: str | None, queues: Mapping[str, Queue]) -> Queue | None:
    """The queue that a schedule's jobs go to, as the keeper's `known_queue` will find it."""
    return None if name is None else Spec(queues=dict(queues)).queue(name)


def _named(name: str, tables: Collection[str]) -> bool:
    """Whether a table of a queue, or a pattern, speaks of this queue, whatever is wrong with it."""
    return any(name == table or (is_pattern(table) and matches(table, name)) for table in tables)


def from_values(name: str, values: Mapping[str, Any], queue: Queue | None) -> Schedule:
    """The schedule that a client adds, with the keys that its table would have in TOML; no environment values.

    Raises:
        ValueError: with every problem, each as `KEY: what is wrong, and what would be right`.
    """
    problems: list[str] = []
    fields: dict[str, Any] = {}
    try:
        QUEUE_NAME.read(name, "")
    except ValueError as error:
        problems.append(f"name: {error}")
    for key, value in values.items():
        known = SCHEDULE.keys.get(key)
        if known is None or isinstance(known.kind, Section):
            said = NOT_OF_SCHEDULES.get(key) or f"unknown key; {suggestion(key, SCHEDULE.keys)}"
            problems.append(f"{dotted((key,))}: {said}")
            continue
        try:
            fields[known.field] = known.kind.read(value, "")
        except ValueError as error:
            problems.append(f"{key}: {error}")
    schedule: Schedule = construct(SCHEDULE, {"name": name, "queue": "", **fields})
    found = (*of_written(values), *of_schedule(schedule, queue))
    problems += [f"{dotted(key)}: {text}" if key else text for key, text in found]
    if problems:
        raise ValueError("; ".join(problems))
    return schedule


def of_written(written: Mapping[str, Any]) -> Iterator[Conflict]:
    """Whether a schedule has the keys that it needs; `written` is its table, its values may still be wrong."""
    if "queue" not in written:
        yield (), 'does not say where its jobs go; write queue = "NAME"'
    if "cron" not in written and "every" not in written:
        yield (), 'does not say when it runs; write cron = "30 2 * * *" or every = "15m"'
    if "cron" in written and "every" in written:
        yield ("every",), "stands beside cron; keep one of them"
    if "every" in written and "timezone" in written:
        yield ("timezone",), "means something for cron only, as every counts elapsed time; remove it"


def of_schedule(schedule: Schedule, queue: Queue | None) -> Iterator[Conflict]:
    """Whether the values of a schedule go together, and with its queue, if that is known."""
    if schedule.start_ms is not None and schedule.end_ms is not None and schedule.end_ms < schedule.start_ms:
        yield ("end",), "is before start; exchange them, or remove one"
    timed = schedule.cron is not None or schedule.every_ms is not None
    if timed and schedule.jitter_ms and schedule.jitter_ms >= (distance_ms := times_of(schedule).distance_ms()):
        text = f"{show(schedule.jitter_ms)} reaches the next run, {show(distance_ms)} later; write less than that"
        yield ("jitter",), text
    if schedule.missed_within_ms is not None and schedule.missed == "skip":
        yield ("missed_within",), 'means something for missed = "once" or "all" only; remove it, or set missed'
    if queue is None:
        return
    own = queue.handler is not None or queue.command is not None or queue.pull
    if queue.has_tasks and schedule.task is None:
        yield (), f'says no task, and queue {queue.name} runs tasks; write task = "NAME"'
    elif own and schedule.task is not None and not queue.has_tasks:
        yield ("task",), f"means nothing in queue {queue.name}, which has no tasks; remove it"
    size = len((schedule.payload or "null").encode())
    if size > queue.max_payload_bytes:
        text = f"is {size:,} bytes as JSON; queue {queue.name} takes at most {queue.max_payload_bytes:,} (max_payload)"
        yield ("payload",), text
    unique = unique_of(queue)
    member = None if unique is None else lacks(unique, json.loads(schedule.payload or "null"))
    if member is not None:
        yield ("payload",), f"has no member {member}, by which jobs of queue {queue.name} are unique; add it"
    if schedule.priority and "priority" not in queue.order:
        yield (
            ("priority",),
            f"queue {queue.name} does not order by it (its order is {', '.join(queue.order)}); remove it",
        )


def times_of(schedule: Schedule) -> Times:
    """When it is due.

    Raises:
        ValueError: its zone is not known on this host, or its expression not to this version.
    """
    if schedule.every_ms is not None:
        return Every(schedule.every_ms, schedule.start_ms or 0)
    return Cron(read_cron(schedule.cron or ""), zone(schedule.timezone))


def plan_of(schedule: Schedule) -> Plan:
    """All that decides about its runs.

    Raises:
        ValueError: as `times_of`.
    """
    return Plan(
        schedule.name, times_of(schedule), schedule.start_ms, schedule.end_ms, schedule.jitter_ms,
        schedule.missed, schedule.missed_within_ms, schedule.missed_max, schedule.overlap,
    )  # fmt: skip
