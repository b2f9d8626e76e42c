"""What was enqueued, and assertions about it whose failures show what comes nearest."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

ANYTHING: Any = object()
"""What is not asked for: None is a payload."""
SHOWN_MAX = 3
PAYLOAD_CHARACTERS_MAX = 400


class Enqueued(NamedTuple):
    """A job as it was enqueued, and where it stands. `due_at` is RFC 3339 text, or None for at once.

    In `run_inline`, jobs have no id, and their state is `enqueued`.
    """

    queue: str
    payload: Any
    task: str | None = None
    key: str | None = None
    priority: int = 0
    tags: tuple[str, ...] = ()
    due_at: str | None = None
    state: str = "enqueued"
    id: int | None = None
    idempotency_key: str | None = None

    def __str__(self) -> str:
        facts = {"task": self.task, "key": self.key, "priority": self.priority, "tags": self.tags, "due": self.due_at}
        shown = "".join(f", {name} {value}" for name, value in facts.items() if value)
        number = "a job" if self.id is None else f"job {self.id}"
        return f"{number} of {self.queue} ({self.state}{shown}): {_text(self.payload)}"


def assert_enqueued(jobs: Iterable[Enqueued], queue: str, *, count: int | None = None, **wanted: Any) -> list[Enqueued]:
    """Assert that such a job is among these; they are returned.

    Args:
        jobs: where to look.
        queue: the queue's name.
        count: how many there are to be; None: one or more.
        wanted: `payload`, `task`, `key`, `priority`, `tags` (each of them is among the job's), `state`, `due_at`, `id`,
            `idempotency_key`; and `containing`: members that the payload has, among others. A payload is compared as
            the JSON that it is.

    Raises:
        AssertionError: it says what is there instead, and what differs in the nearest.
        TypeError: something else was asked for.
    """
    __tracebackhide__ = True
    listed = list(jobs)
    _check(wanted)
    found = [job for job in listed if job.queue == queue and not differences(job, wanted)]
    if (count is None and found) or (count is not None and len(found) == count):
        return found
    asked = "at least one job" if count is None else f"{count} job{'s' if count != 1 else ''}"
    lines = [f"{asked} of {_described(queue, wanted)} expected, {len(found)} found"]
    raise AssertionError("\n".join(lines + (_counted(found) if found else _nearest(listed, queue, wanted))))


def assert_not_enqueued(jobs: Iterable[Enqueued], queue: str, **wanted: Any) -> None:
    """Assert that no such job is among these; what can be asked for is that of `assert_enqueued`.

    Raises:
        AssertionError: there are; it shows them.
    """
    __tracebackhide__ = True
    _check(wanted)
    found = [job for job in jobs if job.queue == queue and not differences(job, wanted)]
    if found:
        raise AssertionError("\n".join([f"no job of {_described(queue, wanted)} expected", *_counted(found)]))


def differences(job: Enqueued, wanted: Mapping[str, Any]) -> list[str]:
    """What a job has otherwise than it is wanted, a line for each."""
    return [line for name, value in wanted.items() for line in _difference(job, name, value)]


def _difference(job: Enqueued, name: str, value: Any) -> Sequence[str]:
    if value is ANYTHING:
        return ()
    match name:
        case "payload":
            return _payload_differences(job.payload, value)
        case "containing":
            return _missing(job.payload, value)
        case "tags":
            lacking = [tag for tag in value if tag not in job.tags]
            return [f"tags: {lacking} missing, there are {list(job.tags)}"] if lacking else ()
    found = getattr(job, name)
    return () if found == value else [f"{name}: {found!r}, not {value!r}"]


def _payload_differences(found: Any, wanted: Any) -> list[str]:
    if wanted == found or _as_json(wanted) == found:
        return []
    wanted = _as_json(wanted)
    if not (isinstance(found, dict) and isinstance(wanted, dict)):
        return [f"payload: {_text(found)}, not {_text(wanted)}"]
    lines = [f"payload[{name!r}] is missing, {_text(wanted[name])} expected" for name in wanted.keys() - found.keys()]
    lines += [f"payload[{name!r}] is {_text(found[name])}, not expected" for name in found.keys() - wanted.keys()]
    return sorted(lines) + _unequal(found, wanted)


def _missing(found: Any, wanted: Mapping[str, Any]) -> list[str]:
    if not isinstance(found, dict):
        return [f"payload: {_text(found)} has no members"]
    lines = [f"payload[{name!r}] is missing, {_text(wanted[name])} expected" for name in wanted if name not in found]
    return lines + _unequal(found, wanted)


def _unequal(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    return [
        f"payload[{name!r}]: {_text(found[name])}, not {_text(value)}"
        for name, value in wanted.items()
        if name in found and found[name] != value and found[name] != _as_json(value)
    ]


def _as_json(value: Any) -> Any:
    """A value as it comes out of JSON: tuples are lists, and keys are texts. What JSON cannot hold stays as it is."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError, RecursionError):
        return value


NAMES = (*(name for name in Enqueued._fields if name != "queue"), "containing")


def _check(wanted: Mapping[str, Any]) -> None:
    for name in wanted:
        if name not in NAMES:
            raise TypeError(f"{name} is nothing that a job has; there are {', '.join(NAMES)}")


def _described(queue: str, wanted: Mapping[str, Any]) -> str:
    asked = [f"{name} {_text(value)}" for name, value in wanted.items() if value is not ANYTHING]
    return f"{queue} with {', '.join(asked)}" if asked else queue


def _counted(found: Sequence[Enqueued]) -> list[str]:
    left = len(found) - SHOWN_MAX
    return [f"  {job}" for job in found[:SHOWN_MAX]] + ([f"  and {left} more"] if left > 0 else [])


def _nearest(jobs: Sequence[Enqueued], queue: str, wanted: Mapping[str, Any]) -> list[str]:
    """The jobs that differ least, those of the queue first, each with what differs."""
    if not jobs:
        return ["nothing was enqueued at all"]

    def distance(job: Enqueued) -> tuple[bool, int, float]:
        likeness = difflib.SequenceMatcher(None, _text(job.payload), _text(wanted.get("payload"))).quick_ratio()
        return job.queue != queue, len(differences(job, wanted)), -likeness

    lines = ["nearest:"]
    for job in sorted(jobs, key=distance)[:SHOWN_MAX]:
        other = [] if job.queue == queue else [f"queue: {job.queue!r}, not {queue!r}"]
        lines += [f"  {job}", *(f"    {line}" for line in other + differences(job, wanted))]
    return lines


def _text(value: Any) -> str:
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = repr(value)
    return text if len(text) <= PAYLOAD_CHARACTERS_MAX else f"{text[:PAYLOAD_CHARACTERS_MAX]}..."
