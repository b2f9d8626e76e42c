"""What changes between two specs, in the words of a reload: which pools are touched and which are not. Pure.

*Invariant:* a queue counts as changed only if something its pool's processes read differs; what the keeper
alone reads takes effect without touching a worker, and another number of workers without touching those that stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import msgspec

from supervisor.config.spec import Daemon, Log, Queue, Spec

KEEPER_ONLY = frozenset(
    {
        "order",
        "ageing_ms",
        "weights",
        "ordered",
        "after_dead",
        "concurrency",
        "key_concurrency",
        "rate",
        "key_rate",
        "limits",
        "max_size",
        "when_full",
        "unique",
        "throttle_ms",
        "debounce_ms",
        "demand",
        "batch_wait_ms",
        "sources",
        "strict",
        "max_attempts",
        "max_crashes",
        "max_interruptions",
        "backoff",
        "retention",
        "max_payload_bytes",
        "redact",
        "oldest_max_ms",
        "on_error",
        "retry_for_ms",
        "ttl_ms",
        "on_failure",
        "on_dead",
        "breaker",
    }
)
"""Fields of a queue that no process of its pool acts on."""

TOLD = frozenset({"workers", "scale"})
"""Fields that a running foreman is told of: it has more workers, or lets some finish, and the others stay."""

RETUNED = KEEPER_ONLY | TOLD
"""Fields that take effect without a restart of the pool."""

SECTIONS = ("daemon", "intake", "log", "access", "stats", "alerts", "flow_retention")
CALLED = {"flow_retention": "defaults.retention"}
"""What the file calls a section of the spec where it is another name."""
NAMED = ("limits", "schedules", "scopes", "outbox")
"""Tables of a spec beside those of queues and pools."""

RESTART_ONLY = {"daemon": ("database", "run_dir", "durability"), "log": ("target", "level", "format")}
"""Keys by section that are fixed while the daemon runs."""


class Changes(NamedTuple):
    """Names of queues and pools, in the order of the new spec (removed: of the old one), and keys as "section.key"."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    retuned: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    """Other tables that differ: sections, and members of those that have names, as "section.name"."""
    restart_needed: tuple[str, ...] = ()


def diff(old: Spec, new: Spec) -> Changes:
    """What a reload from `old` to `new` does. `old` is what is in force, which may differ from what was read last."""
    before, after = {**old.queues, **old.pools}, {**new.queues, **new.pools}
    both = [name for name in after if name in before]
    differing = {name: differences(before[name], after[name]) for name in both}
    touched = {name for name in both if _touches_pool(before[name], after[name], differing[name])}
    return Changes(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(name for name in both if name in touched),
        retuned=tuple(name for name in both if differing[name] and name not in touched),
        settings=tuple(_settings(old, new)),
        restart_needed=(*_fixed("daemon", old.daemon, new.daemon), *_fixed("log", old.log, new.log)),
    )


def _settings(old: Spec, new: Spec) -> Iterator[str]:
    """Tables other than those of queues and pools that read otherwise, as far as a reload takes them over."""
    taken = in_force(old, new)
    for section in SECTIONS:
        if getattr(old, section) != getattr(taken, section):
            yield CALLED.get(section, section)
    for section in NAMED:
        before, after = getattr(old, section), getattr(taken, section)
        yield from (f"{section}.{name}" for name in {**after, **before} if before.get(name) != after.get(name))


def _touches_pool(old: Queue, new: Queue, differing: frozenset[str]) -> bool:
    """Whether a process of the pool acts on what differs: of the backoff, its function runs in the workers."""
    return bool(differing - RETUNED) or old.backoff.function != new.backoff.function


def in_force(running: Spec, new: Spec) -> Spec:
    """What a reload from `running` to `new` leads to: the new spec, with what is fixed while the daemon runs as it is.

    Every process that is forked later works by it: a keeper must not open another database than the one whose lock is
    held, however the file reads by then.
    """
    return msgspec.structs.replace(
        new, daemon=_with_fixed("daemon", running.daemon, new.daemon), log=_with_fixed("log", running.log, new.log)
    )


T = TypeVar("T", Daemon, Log)


def _with_fixed(section: str, running: T, new: T) -> T:
    fixed = {key: getattr(running, key) for key in RESTART_ONLY[section]}
    return msgspec.structs.replace(new, **fixed)


def differences(old: Queue, new: Queue) -> frozenset[str]:
    """The fields in which two queues differ."""
    fields = msgspec.structs.fields(Queue)
    return frozenset(field.name for field in fields if getattr(old, field.name) != getattr(new, field.name))


def _fixed(section: str, old: Daemon | Log, new: Daemon | Log) -> tuple[str, ...]:
    return tuple(f"{section}.{key}" for key in RESTART_ONLY[section] if getattr(old, key) != getattr(new, key))
