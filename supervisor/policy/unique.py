"""Unique jobs: which jobs count as the same, for how long, and what a second one does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from supervisor.job import State

EXISTING, REPLACE = "existing", "replace"
ON_CONFLICT = (EXISTING, "refuse", REPLACE)
REPLACEABLE = ("payload", "priority", "due_at", "tags")
UNFINISHED = (State.BLOCKED, State.SCHEDULED, State.QUEUED, State.RUNNING)


class MemberMissing(ValueError):
    """The payload has no member by which jobs are told apart."""


class Unique(NamedTuple):
    """`by`: members of the payload ("user.id"), `key` for the job's key; empty: the whole payload.

    A job is in the way for `period_ms` from its enqueueing, or while it is in one of `states`, whichever is given.
    """

    by: tuple[str, ...] = ()
    states: tuple[State, ...] = UNFINISHED
    period_ms: int | None = None
    on_conflict: str = EXISTING
    replace: tuple[str, ...] = ()
    across_queues: bool = False
    debounce_ms: int | None = None


def fingerprint(unique: Unique, queue: str, key: str, payload: Any, task: str | None = None) -> str:
    """What two jobs have in common if they count as the same: jobs of different tasks never do.

    Raises:
        MemberMissing: a member named in `by` is not in the payload.
    """
    within = queue.rpartition("/")[0] or None if unique.across_queues else queue  # all queues of one scope, or this one
    parts: list[Any] = [within, list(unique.by)]
    parts += [key if name == "key" else _member(payload, name) for name in unique.by] or [key, payload]
    parts += [] if task is None else [{"task": task}]
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def lacks(unique: Unique, payload: Any) -> str | None:
    """The first member named in `by` that a payload does not have; None if it has all of them."""
    for name in unique.by:
        if name != "key" and not _has(payload, name):
            return name
    return None


def _member(payload: Any, name: str) -> Any:
    found = payload
    for part in name.split("."):
        if not isinstance(found, dict) or part not in found:
            raise MemberMissing(f"the payload has no member {name}, by which jobs of this queue are unique")
        found = found[part]
    return found


def _has(payload: Any, name: str) -> bool:
    try:
        _member(payload, name)
    except MemberMissing:
        return False
    return True


def in_the_way(until_ms: int | None, states: Sequence[str] | None, state: str | None, now_ms: int) -> bool:
    """Whether a job, known by its row, keeps another out. `state` is where it stands, or ended before it was deleted.

    A row speaks by the rule under which it was written.
    """
    if until_ms is not None:
        return now_ms < until_ms
    return states is not None and state in states
