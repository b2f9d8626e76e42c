"""Keys and values that belong to later versions of the design: they are errors that say so, never ignored.

When a version begins to understand one, its line is deleted here and a key appears in `keys`.
"""

from __future__ import annotations

from typing import Any

SECTIONS = {
    "alerts": "alerts",
    "breakers": "outage breakers",
    "flows": "flows",
    "limits": "shared limits",
    "metrics": "metrics",
    "outbox": "the transactional outbox",
    "pools": "pools that draw from several queues",
    "rates": "shared rates",
    "scopes": "access scopes",
    "store": "other stores",
    "tracing": "tracing",
    "wasm": "WASM handlers",
    "web": "the web interface",
}
DAEMON_KEYS = {"cluster": "several hosts", "host": "several hosts", "generations": "generations on reload"}
QUEUE_KEYS = {
    "aging": "ageing of priorities",
    "ageing": "ageing of priorities",
    "aliases": "tasks",
    "autoscale": "autoscaling",
    "batch": "batches",
    "breaker": "outage breakers",
    "concurrency": "limits",
    "cost": "rates",
    "debounce": "unique jobs",
    "demand": "demand-driven pools",
    "expires": "time to live",
    "fair": "fair order",
    "key": "keys",
    "limit": "limits",
    "limits": "limits",
    "max_rss": "recycling by memory",
    "max_size": "bounded queues",
    "on_dead": "callbacks",
    "on_failure": "callbacks",
    "ordered": "strict order",
    "pool": "shared pools",
    "rate": "rates",
    "rates": "rates",
    "retry": "retry policies",
    "retry_for": "retry policies",
    "retry_on": "retry policies",
    "schema": "payload schemas",
    "serve": "commands that stay alive",
    "sources": "pools that draw from several queues",
    "tasks": "tasks",
    "throttle": "unique jobs",
    "ttl": "time to live",
    "unique": "unique jobs",
    "wasm": "WASM handlers",
    "weights": "fair order",
}
ORDERS = {"fair", "ordered", "weighted", "deadline", "aged", "random"}


def key(section: str, name: str) -> str | None:
    """What a key that does not exist yet will be for; `section` is "" at the top, else daemon or queues."""
    known = {"": SECTIONS, "daemon": DAEMON_KEYS, "queues": QUEUE_KEYS, "defaults": QUEUE_KEYS}.get(section, {})
    return known.get(name)


def value(name: str, written: Any) -> str | None:
    """What a value that an existing key does not take yet will be for."""
    if name == "workers" and isinstance(written, dict):
        return "autoscaling between { min, max }"
    if name == "order" and (isinstance(written, (list, dict)) or (isinstance(written, str) and written in ORDERS)):
        return "fair and composite orders"
    if name == "backoff" and isinstance(written, (str, list)):
        return "other shapes of backoff"
    return None


def sentence(purpose: str) -> str:
    """The error for a key or value of a later version."""
    return f"belongs to a later version of jobsup ({purpose}); this one cannot do it, so remove it"
