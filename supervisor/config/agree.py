"""What single keys cannot know: whether the values of a spec go together. Pure.

Each function yields the key to blame and a sentence.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from supervisor.config.command import Field, parse_argument
from supervisor.config.locate import SOCKET_PATH_MAX_BYTES
from supervisor.config.problem import KeyPath, dotted, printable, quoted, shown, suggestion
from supervisor.config.sockets import socket_in
from supervisor.config.spec import Alerts, Daemon, Limit, Queue, Rate, Spec, is_pattern, matches
from supervisor.policy.duration import show

WORKERS_TOTAL_MAX = 2048
HANDLER_ONLY = ("preload", "after_fork", "batch_size")
COMMAND_ONLY = ("serve",)
POOL_ONLY = (
    "handler", "command", "serve", "batch_size", "batch_wait", "workers", "boot_timeout", "restart", "pass_env", "env",
    "cwd", "user", "network", "preload", "after_fork", "on_crash_loop", "recycle_jobs", "kill_grace", "scale",
)  # fmt: skip
"""Keys that mean nothing in a queue without workers of its own."""
PULL_FOREIGN = (*POOL_ONLY, "demand")
"""Keys that mean nothing where consumers fetch the jobs: they speak of workers."""
UNIQUE_FIELDS = {"unique": "unique", "throttle": "throttle_ms", "debounce": "debounce_ms"}
WINDOW_MIN_MS = 64
SCOPES_MAX = 64
SCHEDULES_TOTAL_MAX = 1_024

SERVES = ("a command that serves", "the type that its answers name")

Conflict = tuple[KeyPath, str]


def of_daemon(daemon: Daemon) -> Iterator[Conflict]:
    """Whether the daemon's places can be used together."""
    length = len(os.fsencode(daemon.socket))
    if length > SOCKET_PATH_MAX_BYTES:
        text = f"the socket {quoted(daemon.socket)} would have a path of {length} bytes; choose a shorter one, "
        yield ("run_dir",), f"{text}as the kernel takes {SOCKET_PATH_MAX_BYTES}"
    if daemon.database in (daemon.run_dir, daemon.socket):
        yield ("database",), "is the run_dir or the socket itself; choose another path"


def of_scopes(main: str, files: Mapping[str, str], run_dir: str) -> Iterator[tuple[str, str]]:
    """Whether scopes have files and sockets of their own: what is wrong, by scope. All paths are real ones."""
    if len(files) > SCOPES_MAX:
        yield next(iter(files)), f"is one of {len(files)} scopes; write at most {SCOPES_MAX}"
    known = {main: "the main file"}
    folders = {os.path.dirname(main): "the main file"}
    for name, file in files.items():
        socket, folder = socket_in(run_dir, name), os.path.dirname(file)
        if file in known:
            yield name, f"{quoted(file)} is {known[file]} already; a scope has a file of its own"
        elif folder in folders:
            text = f"{quoted(file)} stands in the folder of {folders[folder]}, with which it would share its queues.d"
            yield name, f"{text}; put it into a folder of its own"
        elif len(os.fsencode(socket)) > SOCKET_PATH_MAX_BYTES:
            text = f"the socket {quoted(socket)} would have a path of {len(os.fsencode(socket))} bytes"
            yield name, f"{text}; the kernel takes {SOCKET_PATH_MAX_BYTES}, so choose a shorter run_dir or name"
        known.setdefault(file, f"the file of scope {name}")
        folders.setdefault(folder, f"the file of scope {name}")


def of_whole(spec: Spec, queues_max: int) -> Iterator[Conflict]:
    """Whether the main file and its scopes together are no more than one daemon runs."""
    if len(spec.queues) > queues_max:
        yield ("scopes",), f"and this file have {len(spec.queues)} queues together; write at most {queues_max}"
    if len(spec.schedules) > SCHEDULES_TOTAL_MAX:
        text = f"and this file have {len(spec.schedules)} schedules together; write at most {SCHEDULES_TOTAL_MAX}"
        yield ("scopes",), text
    workers = sum(pool.workers_max for pool in spec.workplaces.values())
    if workers > WORKERS_TOTAL_MAX:
        yield ("scopes",), f"and this file have {workers} workers together; write at most {WORKERS_TOTAL_MAX}"


def of_written(written: Mapping[str, Any], *, drawn: bool = False) -> Iterator[Conflict]:
    """Whether a queue has the keys that it needs; `written` is its own table, its values may still be wrong.

    `drawn`: a pool draws from it, and says what is run.
    """
    if written.get("pull") is True:
        yield from _of_pull(written, drawn=drawn)
        return
    if drawn:
        for name in POOL_ONLY:
            if name in written:
                yield (
                    (name,),
                    "stands in the pool that draws from this queue; remove it here, or from the pool's sources",
                )
        return
    if "handler" not in written and "command" not in written:
        text = 'says neither what to call nor what to run; write handler = "module:function" or command = [...]'
        yield (), f"{text}, or pull = true if consumers fetch its jobs"
    yield from _what_runs(written)


def _of_pull(written: Mapping[str, Any], *, drawn: bool) -> Iterator[Conflict]:
    """Whether nothing else would run the jobs that consumers fetch."""
    if drawn:
        yield ("pull",), "means that consumers fetch its jobs, and a pool draws from this queue; keep one of them"
    for name in PULL_FOREIGN:
        if name in written:
            yield (
                (name,),
                "speaks of workers, and consumers fetch the jobs of this queue (pull = true); keep one of them",
            )
    if _names_function(written.get("backoff")):
        yield ("backoff",), "names a function, which handlers only have; write a table or an array of durations"
    rules = written.get("on_error")
    for name in rules if isinstance(rules, dict) else ():
        if name == "crash" or name.startswith(("exit ", "signal ")):
            text = f'"{printable(name)}" is how a process of ours ends; for consumers write the type that they give'
            yield ("on_error",), f'{text}, or "timeout"'


def of_pool(written: Mapping[str, Any]) -> Iterator[Conflict]:
    """Whether a pool says what it runs, and for whom."""
    if "sources" not in written:
        yield (), "draws from no queue; write sources = { NAME = WEIGHT, ... } or [NAME, ...]"
    if "handler" not in written and "command" not in written:
        yield (), 'says neither what to call nor what to run; write handler = "module:function" or command = [...]'
    yield from _what_runs(written)


def _what_runs(written: Mapping[str, Any]) -> Iterator[Conflict]:
    if "handler" in written and "command" in written:
        yield ("command",), "stands beside handler; keep one of them"
    if "handler" not in written:
        for name in HANDLER_ONLY:
            if name in written:
                yield (name,), "means something for a handler only; remove it from a queue with a command"
        if _names_function(written.get("backoff")):
            yield ("backoff",), "names a function, which handlers only have; write a table or an array of durations"
    yield from _what_serves(written)
    yield from _of_batches(written)
    yield from _rules_of_written(written)


def _of_batches(written: Mapping[str, Any]) -> Iterator[Conflict]:
    """Whether one function takes the jobs of a batch."""
    handler = written.get("handler")
    if "batch_size" in written and isinstance(handler, str) and ":" not in handler:
        text = f"means that one function takes several jobs, and {printable(handler)} is a module of tasks"
        yield ("batch_size",), f'{text}; write handler = "module:function", or remove it'
    if "batch_wait" in written and "batch_size" not in written:
        yield ("batch_wait",), "means something beside batch_size only; write batch_size = 100, or remove it"


def _what_serves(written: Mapping[str, Any]) -> Iterator[Conflict]:
    """Whether a command that is started before there is a job can be started."""
    if "serve" in written and "command" not in written:
        yield ("serve",), 'means something for a command only; write command = ["program", "argument"], or remove it'
    if written.get("serve") is not True:
        return
    fields = list(_fields_in(written.get("command")))
    if fields:
        text = f"{printable(', '.join(fields))}: a command that serves is started before there is a payload to fill it"
        yield ("command",), f"{text}; remove the field, as payloads come as lines, or remove serve"


def _fields_in(command: Any) -> Iterator[str]:
    """The arguments of a command that a payload would fill; what is wrong with others is said elsewhere."""
    for argument in command if isinstance(command, list) else ():
        try:
            if isinstance(argument, str) and isinstance(parse_argument(argument), Field):
                yield argument
        except ValueError:
            continue


def _names_function(written: Any) -> bool:
    return isinstance(written, str) or (isinstance(written, dict) and "function" in written)


def without_function(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of [defaults] as a queue with a command inherits them: its backoff is that without the function."""
    backoff = defaults.get("backoff")
    if not isinstance(backoff, dict) or "function" not in backoff:
        return dict(defaults)
    return {**defaults, "backoff": {**backoff, "function": None}}


def _rules_of_written(written: Mapping[str, Any]) -> Iterator[Conflict]:
    """Rules that can never apply: an exit status, or a signal, is how a command ends that is started for each job."""
    rules = written.get("on_error")
    if not isinstance(rules, dict) or not ("handler" in written or written.get("serve") is True):
        return
    lasting, named = ("a handler", "the class of an exception") if "handler" in written else SERVES
    for name in rules:
        if name.startswith(("exit ", "signal ")):
            text = f'"{printable(name)}" is how a command ends; for {lasting} write {named}, "timeout" or "crash"'
            yield ("on_error",), text


def _of_breaker(queue: Queue) -> Iterator[Conflict]:
    breaker = queue.breaker
    if breaker is not None and breaker.max_cooldown_ms < breaker.cooldown_ms:
        text = f"{show(breaker.max_cooldown_ms)} is below cooldown, {show(breaker.cooldown_ms)}"
        yield ("breaker", "max_cooldown"), f"{text}; raise one or lower the other"


def idle(queue: Queue) -> Iterator[Conflict]:
    """Keys that mean nothing in this queue, or pool, as another one is not there or says it otherwise."""
    if isinstance(queue.workers, int):
        text = "means something only between two numbers of workers; write workers = { min = 1, max = 8 }, or remove it"
        yield ("scale",), text
    if queue.batch_size is not None:
        text = "means nothing beside batch_size, which says how many jobs a worker is handed; keep one of them"
        yield ("demand",), text
    if queue.max_size is None:
        yield ("when_full",), "means something for a queue that can be full; write max_size, or remove it"
    if not queue.ordered:
        yield ("after_dead",), "means something where order counts; write ordered = true, or remove it"
    brief = next((name for name in ("throttle", "debounce") if getattr(queue, UNIQUE_FIELDS[name]) is not None), None)
    if brief is not None:
        for name in ("while", "period", "on_conflict", "replace"):
            yield ("unique", name), f"does not go with {brief}, which says it already; keep one of them"
    elif queue.unique is not None:
        if queue.unique.period_ms is not None:
            text = "does not go with period, which holds whatever state a job is in; keep one of them"
            yield ("unique", "while"), text
        if queue.unique.on_conflict != "replace":
            text = 'names fields to replace, and nothing is replaced; write on_conflict = "replace", or remove it'
            yield ("unique", "replace"), text


def of_idle(written: Mapping[str, Any], queue: Queue) -> Iterator[Conflict]:
    """Keys of a queue's own table, or a pool's, that mean nothing there."""
    for key, text in idle(queue):
        if _stands(written, key):
            yield key, text


def of_limited(queues: Mapping[str, Queue], limits: Mapping[str, Limit], own: Mapping[str, Any]) -> Iterator[Conflict]:
    """Queues whose own table (`own`) demands what their limits do not let through."""
    for name, queue in queues.items():
        text = idle_demand(queue, limits)
        if text is not None and _stands(own[name], ("demand",)):
            yield ("queues", name, "demand"), text


def idle_demand(queue: Queue, limits: Mapping[str, Limit]) -> str | None:
    """What is wrong with a demand for several jobs where a limit of the queue lets one be handed out at a time."""
    if queue.demand.min == 1 and queue.demand.max in (None, 1):
        return None
    why = [name for name in ("concurrency", "rate") if getattr(queue, name) is not None]
    why += [dotted(("limits", name)) for name in queue.limits if name in limits and not limits[name].per_key]
    if not why:
        return None
    return f"means nothing beside {why[0]}, by which a worker is handed one job at a time; remove it"


def _stands(written: Any, key: KeyPath) -> bool:
    return isinstance(written, dict) and key[0] in written and (len(key) == 1 or _stands(written[key[0]], key[1:]))


def of_inherited(queue: Queue) -> Iterator[Conflict]:
    """Whether those keys go together that may come from [defaults]."""
    if queue.backoff.max_ms < queue.backoff.base_ms:
        text = (
            f"{show(queue.backoff.max_ms)} is below base, {show(queue.backoff.base_ms)}; raise one or lower the other"
        )
        yield ("backoff", "max"), text
    yield from _of_breaker(queue)
    if queue.ageing_ms is not None and "priority" not in queue.order:
        yield ("ageing",), 'means something where priorities count; write order = "priority", or leave it out'
    if queue.ageing_ms is not None and "fair" in queue.order:
        yield ("ageing",), "does not go with fair, where each key's turn comes anyway; keep one of them"
    if queue.ageing_ms is not None and "lifo" in queue.order:
        yield ("ageing",), "does not go with lifo, where whoever has waited longest comes last; keep one of them"
    if queue.weights and "fair" not in queue.order:
        yield ("weights",), 'mean something where keys take turns; write order = "fair", or leave them out'
    if queue.ordered and "lifo" in queue.order:
        yield (
            ("ordered",),
            "means that jobs run in the order in which they came, and lifo the contrary; keep one of them",
        )
    yield from of_demand(queue)
    if queue.unique is not None and len(set(queue.unique.by)) < len(queue.unique.by):
        yield ("unique", "by"), "names a member twice; write each once"
    yield from _of_limits(queue)
    same = [name for name in ("unique", "throttle", "debounce") if getattr(queue, UNIQUE_FIELDS[name]) is not None]
    if len(same) > 1 and same not in (["unique", "throttle"], ["unique", "debounce"]):
        yield (same[-1],), f"does not go with {same[-2]}; keep one of them"
    for kind in ("rate", "key_rate"):
        yield from _of_rate(kind, getattr(queue, kind))


def _of_limits(queue: Queue) -> Iterator[Conflict]:
    """Whether each shared limit is named once: every job would have to pass it, and pay for it, more than once."""
    again = sorted({name for name in queue.limits if queue.limits.count(name) > 1})
    if again:
        yield ("limits",), f"names {', '.join(again)} more than once; name each limit once"


def of_demand(queue: Queue) -> Iterator[Conflict]:
    """Whether a worker can be handed as many jobs as it shall be."""
    if queue.demand.max is not None and queue.demand.max < queue.demand.min:
        yield ("demand", "max"), f"{queue.demand.max} is below min, {queue.demand.min}; raise one or lower the other"


def of_alerts(written: Mapping[str, Any], alerts: Alerts, queues: Collection[str]) -> Iterator[Conflict]:
    """Whether alerts reach anybody; `written` is the table itself, some of whose values may have been left out."""
    if "command" not in written and "queue" not in written:
        yield (), 'says neither what to run nor which queue takes the alerts; write command = [...] or queue = "NAME"'
    if "queue" not in written:
        for name in ("url", "payload"):
            if name in written:
                yield (name,), "means something beside `queue` only; name the queue, or remove it"
    elif "url" not in written and "payload" not in written:
        yield ("queue",), 'is told nothing to do; write url = "https://..." for a webhook, or payload = {...}'
    taker = alerts.queue
    if taker is not None and not any(matches(each, taker) if is_pattern(each) else each == taker for each in queues):
        yield ("queue",), f"names {shown(taker)}, which is no queue; {suggestion(taker, queues)}"


NAMES_NONE = "what it would get names none; name a queue with one function, or with a command"


def of_tasks(spec: Spec) -> Iterator[Conflict]:
    """Whether what makes jobs of its own names a task where the queue runs tasks; an alert and a callback name none."""

    def runs_tasks(name: str | None) -> bool:
        pool = None if name is None else spec.pool_of(name)
        return pool is not None and spec.workplaces[pool].has_tasks

    if runs_tasks(spec.alerts.queue):
        yield ("alerts", "queue"), f"{spec.alerts.queue} runs tasks, and {NAMES_NONE}"
    for name, queue in spec.queues.items():
        for key, target in (("on_failure", queue.on_failure), ("on_dead", queue.on_dead)):
            if runs_tasks(target):
                yield ("queues", name, key), f"{target} runs tasks, and {NAMES_NONE}"
    for name, schedule in spec.schedules.items():
        table = spec.queue(schedule.queue)
        drawn = table is not None and table.handler is None and table.command is None and not table.pull
        if drawn and schedule.task is None and runs_tasks(schedule.queue):
            yield ("schedules", name), f'says no task, and queue {schedule.queue} runs tasks; write task = "NAME"'
        elif drawn and schedule.task is not None and not runs_tasks(schedule.queue):
            yield ("schedules", name, "task"), f"means nothing in queue {schedule.queue}, which has no tasks; remove it"


def of_targets(queues: Mapping[str, Queue], own: Mapping[str, Any]) -> Iterator[Conflict]:
    """Whether callbacks go to queues that exist; `own` are the tables of all queues as they were written."""
    for name, queue in queues.items():
        for key, target in (("on_failure", queue.on_failure), ("on_dead", queue.on_dead)):
            if target is not None and not _speaks_of(target, own):
                yield ("queues", name, key), f"there is no queue {target}; {suggestion(target, own)}"
            elif target == name and key in own[name]:
                yield ("queues", name, key), "is the queue itself; name another one"


def _speaks_of(target: str, names: Iterable[str]) -> bool:
    """Whether a table of a queue, or a pattern, speaks of this queue."""
    return any(name == target or (is_pattern(name) and matches(name, target)) for name in names)


def of_limit(limit: Limit) -> Iterator[Conflict]:
    """Whether a shared limit limits anything, in a way that can be measured."""
    if limit.concurrency is None and limit.rate is None:
        yield (), "limits nothing; write concurrency, rate, or both"
    yield from _of_rate("rate", limit.rate)


def _of_rate(name: str, rate: Rate | None) -> Iterator[Conflict]:
    """Whether a rate can be measured in milliseconds."""
    if rate is not None and rate.algorithm == "window" and rate.period_ms < WINDOW_MIN_MS:
        yield (name, "period"), "is too short to be measured as a window; write 64ms or more, or another algorithm"
    if rate is not None and rate.algorithm == "leaky" and rate.limit > rate.period_ms:
        text = f"{rate.limit} in {show(rate.period_ms)} cannot be spaced, as times are whole milliseconds"
        yield (name, "limit"), f"{text}; write at most {rate.period_ms}, or another algorithm"


def of_tables(
    queues: Mapping[str, Queue], limits: Collection[str], pools: Mapping[str, Queue], written: Collection[str]
) -> Iterator[Conflict]:
    """Whether queues, limits and pools go together.

    `limits`, `written`: all limits and all queues of the files by name, those with problems included.
    """
    workers = sum(queue.workers_max for queue in (*queues.values(), *pools.values()) if queue.handler or queue.command)
    if workers > WORKERS_TOTAL_MAX:
        yield ("queues",), f"have {workers} workers together; write at most {WORKERS_TOTAL_MAX}"
    yield from _overlaps(written)
    for name, queue in queues.items():
        for limit in queue.limits:
            if limit not in limits:
                yield ("queues", name, "limits"), _missing("limits", limit, limits)
    yield from _of_sources(pools, written)


def _of_sources(pools: Mapping[str, Queue], written: Collection[str]) -> Iterator[Conflict]:
    """Whether every pool draws from queues, and every queue has one pool, or several that run tasks."""
    drawn: dict[str, str] = {}
    for name, pool in pools.items():
        if name in written:
            yield ("pools", name), "has the name of a queue; choose another, as workers are named after their pool"
        for source in pool.sources:
            if source in pools:
                yield ("pools", name, "sources"), f"{source} is a pool, and pools draw from queues; name its queues"
            elif source not in written:
                yield ("pools", name, "sources"), _missing("queues", source, written)
            elif source in drawn and not (pool.has_tasks and pools[drawn[source]].has_tasks):
                text = f"{source} is drawn from by pool {drawn[source]} already; it has one, or several of tasks"
                yield ("pools", name, "sources"), text
            drawn.setdefault(source, name)


def _missing(section: str, name: str, known: Collection[str]) -> str:
    return f"there is no [{dotted((section, name))}]; {suggestion(name, known) if known else 'write one'}"


def _overlaps(names: Collection[str]) -> Iterator[Conflict]:
    """Two patterns that stand for the same queue: nobody could tell which of them holds."""
    patterns = sorted(name for name in names if is_pattern(name))
    for position, name in enumerate(patterns):
        for other in patterns[:position]:
            if name.startswith(other[:-1]):
                text = f'overlaps [queues."{other}"], as queues that begin with {name[:-1] or "anything"} match both'
                yield ("queues", name), f"{text}; let one begin differently"
