"""What single keys cannot know: whether the values of a spec go together. Pure.

Each function yields the key to blame and a sentence.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from supervisor.config.locate import SOCKET_PATH_MAX_BYTES
from supervisor.config.problem import KeyPath, printable, quoted, suggestion
from supervisor.config.spec import Daemon, Queue
from supervisor.policy.duration import show

WORKERS_TOTAL_MAX = 2048
HANDLER_ONLY = ("preload", "after_fork")

Conflict = tuple[KeyPath, str]


def of_daemon(daemon: Daemon) -> Iterator[Conflict]:
    """Whether the daemon's places can be used together."""
    length = len(os.fsencode(daemon.socket))
    if length > SOCKET_PATH_MAX_BYTES:
        text = f"the socket {quoted(daemon.socket)} would have a path of {length} bytes; choose a shorter one, "
        yield ("run_dir",), f"{text}as the kernel takes {SOCKET_PATH_MAX_BYTES}"
    if daemon.database in (daemon.run_dir, daemon.socket):
        yield ("database",), "is the run_dir or the socket itself; choose another path"


def of_written(written: Mapping[str, Any]) -> Iterator[Conflict]:
    """Whether a queue has the keys that it needs; `written` is its own table, its values may still be wrong."""
    if "handler" not in written and "command" not in written:
        yield (), 'says neither what to call nor what to run; write handler = "module:function" or command = [...]'
    if "handler" in written and "command" in written:
        yield ("command",), "stands beside handler; keep one of them"
    if "handler" not in written:
        for name in HANDLER_ONLY:
            if name in written:
                yield (name,), "means something for a handler only; remove it from a queue with a command"
        if _names_function(written.get("backoff")):
            yield ("backoff",), "names a function, which handlers only have; write a table or an array of durations"
    yield from _rules_of_written(written)


def _names_function(written: Any) -> bool:
    return isinstance(written, str) or (isinstance(written, dict) and "function" in written)


def without_function(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of [defaults] as a queue with a command inherits them: its backoff is that without the function."""
    backoff = defaults.get("backoff")
    if not isinstance(backoff, dict) or "function" not in backoff:
        return dict(defaults)
    return {**defaults, "backoff": {**backoff, "function": None}}


def _rules_of_written(written: Mapping[str, Any]) -> Iterator[Conflict]:
    """Rules that can never apply: an exit status, or a signal, is how a command ends."""
    rules = written.get("on_error")
    if "handler" in written and isinstance(rules, dict):
        for name in rules:
            if name.startswith(("exit ", "signal ")):
                text = f'"{printable(name)}" is how a command ends; for a handler write the class of an exception'
                yield ("on_error",), f'{text}, "timeout" or "crash"'


def of_inherited(queue: Queue) -> Iterator[Conflict]:
    """Whether those keys go together that may come from [defaults]."""
    if queue.backoff.max_ms < queue.backoff.base_ms:
        text = (
            f"{show(queue.backoff.max_ms)} is below base, {show(queue.backoff.base_ms)}; raise one or lower the other"
        )
        yield ("backoff", "max"), text
    breaker = queue.breaker
    if breaker is not None and breaker.max_cooldown_ms < breaker.cooldown_ms:
        text = f"{show(breaker.max_cooldown_ms)} is below cooldown, {show(breaker.cooldown_ms)}"
        yield ("breaker", "max_cooldown"), f"{text}; raise one or lower the other"


def of_targets(queues: Mapping[str, Queue], own: Mapping[str, Any]) -> Iterator[Conflict]:
    """Whether callbacks go to queues that exist; `own` are the tables of all queues as they were written."""
    for name, queue in queues.items():
        for key, target in (("on_failure", queue.on_failure), ("on_dead", queue.on_dead)):
            if target is not None and target not in own:
                yield ("queues", name, key), f"there is no queue {target}; {suggestion(target, own)}"
            elif target == name and key in own[name]:
                yield ("queues", name, key), "is the queue itself; name another one"


def of_all(queues: Iterable[Queue]) -> Iterator[Conflict]:
    """Whether all queues together fit on one host."""
    workers = sum(queue.workers for queue in queues)
    if workers > WORKERS_TOTAL_MAX:
        yield ("queues",), f"have {workers} workers together; write at most {WORKERS_TOTAL_MAX}"
