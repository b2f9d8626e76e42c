"""When the jobs of a queue of batches are handed out, and which of them one call may take together. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """A batch has at most `size` jobs; one that is not full waits for `wait_ms` after its first job was ready."""

    size: int
    wait_ms: int = 0


class Gathered(NamedTuple):
    """What waits in a queue: since when (boot clock, ms), how many jobs are ready, whether the first must run alone."""

    since_ms: int
    ready: int
    alone: bool = False


def due_at_ms(gathered: Gathered, rule: Rule) -> int:
    """When what waits is handed out, whatever comes until then; on the boot clock.

    A job that must run alone is a batch of its own, for which nobody waits.
    """
    if gathered.alone or gathered.ready >= rule.size:
        return gathered.since_ms
    return gathered.since_ms + rule.wait_ms


def lacking(gathered: Gathered, rule: Rule) -> int:
    """How many jobs a batch still has room for."""
    return max(0, rule.size - gathered.ready)


def limit_of(options: Mapping[str, Any], of_queue_ms: int, now_ms: int) -> tuple[int, int]:
    """The time limit of a job: only jobs of the same one share a call, as a call has one that holds for all of them.

    A deadline is part of it only where it comes before the time-out is over. `now_ms` is on the wall clock.
    """
    timeout_ms: int = options.get("timeout_ms") or of_queue_ms
    deadline_ms: int | None = options.get("deadline_at_ms")
    if deadline_ms is not None and deadline_ms - now_ms < timeout_ms:
        return 0, deadline_ms
    return timeout_ms, 0
