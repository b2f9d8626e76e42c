"""Keys and values that belong to later versions of the design: they are errors that say so, never ignored.

When a version begins to understand one, its line is deleted here and a key appears in `keys`.
"""

from __future__ import annotations

from typing import Any

SECTIONS = {
    "breakers": "breakers shared by queues",
    "flows": "flows",
    "metrics": "metrics",
    "store": "other stores",
    "tracing": "tracing",
    "wasm": "WASM handlers",
    "web": "the web interface",
}
DAEMON_KEYS = {"cluster": "several hosts", "host": "several hosts", "generations": "generations on reload"}
QUEUE_KEYS = {
    "aliases": "tasks",
    "max_rss": "recycling by memory",
    "schema": "payload schemas",
    "tasks": "tasks",
    "wasm": "WASM handlers",
}
ORDERS = {"deadline", "random"}


def key(section: str, name: str) -> str | None:
    """What a key that does not exist yet will be for; `section` is "" at the top, else daemon or queues."""
    known = {"": SECTIONS, "daemon": DAEMON_KEYS, "queues": QUEUE_KEYS, "defaults": QUEUE_KEYS}.get(section, {})
    return known.get(name)


def value(name: str, written: Any) -> str | None:
    """What a value that an existing key does not take yet will be for."""
    if name == "order" and isinstance(written, str) and written in ORDERS:
        return "orders by deadline or at random"
    return None


def sentence(purpose: str) -> str:
    """The error for a key or value of a later version."""
    return f"belongs to a later version of jobsup ({purpose}); this one cannot do it, so remove it"
