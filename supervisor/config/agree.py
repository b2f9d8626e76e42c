"""What single keys cannot know: whether the values of a spec go together. Pure.

Each function yields the key to blame and a sentence.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from supervisor.config.locate import SOCKET_PATH_MAX_BYTES
from supervisor.config.problem import KeyPath, quoted, shown, suggestion
from supervisor.config.spec import Alerts, Daemon, Queue
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


def of_inherited(queue: Queue) -> Iterator[Conflict]:
    """Whether those keys go together that may come from [defaults]."""
    if queue.backoff.max_ms < queue.backoff.base_ms:
        text = (
            f"{show(queue.backoff.max_ms)} is below base, {show(queue.backoff.base_ms)}; raise one or lower the other"
        )
        yield ("backoff", "max"), text


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
    if alerts.queue is not None and alerts.queue not in queues:
        yield ("queue",), f"names {shown(alerts.queue)}, which is no queue; {suggestion(alerts.queue, queues)}"


def of_all(queues: Iterable[Queue]) -> Iterator[Conflict]:
    """Whether all queues together fit on one host."""
    workers = sum(queue.workers for queue in queues)
    if workers > WORKERS_TOTAL_MAX:
        yield ("queues",), f"have {workers} workers together; write at most {WORKERS_TOTAL_MAX}"
