"""What `status` shows without a daemon: the counts of the file, in the shape that a daemon answers with. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from supervisor.config.spec import Outbox
from supervisor.job import State
from supervisor.store.breaker_view import sentence


def absent(holder_pid: int | None) -> dict[str, Any]:
    """What is known of a daemon that does not answer; one that holds the database is starting, or hangs."""
    unknown = dict.fromkeys(("uptime_s", "version", "reload_error", "store", "stale", "wal_bytes"))
    return {"running": holder_pid is not None, "pid": holder_pid, **unknown}


def overview(
    queues: Collection[str], counts: Mapping[str, Mapping[str, int]], oldest_ms: Mapping[str, int],
    paused: Collection[str], now_ms: int, breakers: Mapping[str, dict[str, Any] | None],
    spoken_of: Callable[[str], bool],
) -> dict[str, Any]:  # fmt: skip
    """Every queue of the configuration, then those that only the database knows; a pattern may speak of these, too."""
    others = sorted(set(counts) - set(queues))
    return {
        name: _queue(counts.get(name, {}), oldest_ms.get(name), now_ms)
        | {
            "paused": name in paused,
            "orphaned": not spoken_of(name),
            "reason": sentence(breakers.get(name)) if spoken_of(name) else ORPHANED,
        }
        | {"breaker": breakers.get(name)}
        for name in (*queues, *others)
        if name in queues or any(counts[name].values())
    }


def outboxes_at_rest(outboxes: Mapping[str, Outbox]) -> dict[str, dict[str, Any]]:
    """Outboxes without a daemon: their rows wait, and nobody counts them."""
    unknown = dict.fromkeys(("error", "waiting", "refused", "moved", "oldest_s", "last_moved_at"))
    return {
        name: {"database": outbox.database, "state": "unknown", **unknown, "full": [], "refusals": []}
        for name, outbox in outboxes.items()
    }


ORPHANED = "not in the configuration; jobsctl move takes its jobs to another queue"


def _queue(counts: Mapping[str, int], oldest_ms: int | None, now_ms: int) -> dict[str, Any]:
    jobs: dict[str, Any] = {state.value: counts.get(state.value, 0) for state in State}
    age_s = None if oldest_ms is None else max(0, now_ms - oldest_ms) / 1000
    return jobs | {"oldest_queued_s": age_s, "workers": 0, "workers_min": None, "workers_max": None,
                   "workers_target": None, "scale_reason": None, "scale_source": None, "paused": False, "circuit": None,
                   "reason": None, "detail": None, "preloaded": None, "orphaned": False, "breaker": None, "batch": None,
                   "pull": None, "consumers": None}  # fmt: skip
