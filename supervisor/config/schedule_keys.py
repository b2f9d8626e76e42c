"""The keys of a schedule, as data; see `keys` for what walks these tables."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from supervisor.config import zones
from supervisor.config.keys import Key, Section
from supervisor.config.kinds import Kind, boolean, choice, duration, integer, listed, text, wrong
from supervisor.config.problem import shown
from supervisor.config.spec import DAY_MS, Schedule
from supervisor.job import PRIORITY_MAX, PRIORITY_MIN, TAG_LENGTH_MAX, TASK_NAME_MAX
from supervisor.policy.options import instant_ms
from supervisor.policy.schedule import EXPRESSION_MAX, LAST_MS, read_cron

PAYLOAD_MAX_BYTES = 64 * 1024
EVERY_MIN_MS, EVERY_MAX_MS = 1_000, 3_660 * DAY_MS
JITTER_MAX_MS = 30 * DAY_MS
MISSED_MAX = 10_000
TAGS_MAX = 30
"""Two less than a job may have: each job of a schedule is given one for the schedule and one for the due time."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANT = "an instant with its offset, such as 2030-01-31T08:00:00Z"
_NOT_STORED = re.compile(r"[\x00\ud800-\udfff]")


def _read_cron(value: Any, _folder: str) -> str:
    says = 'a cron expression, such as "30 2 * * MON-FRI", or an alias, such as "@daily"'
    if not isinstance(value, str):
        raise wrong(value, says)
    if len(value) > EXPRESSION_MAX:
        raise wrong(value, says, f"is longer than {EXPRESSION_MAX} characters")
    try:
        read_cron(value)
    except ValueError as error:
        raise ValueError(f"{shown(value)} {error}") from None
    return " ".join(value.split())


CRON = Kind(
    "five fields (minute hour day-of-month month day-of-week), or six with seconds in front, or an alias: "
    "@hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually",
    _read_cron,
    {"type": "string", "minLength": 1},
)


def _read_zone(value: Any, _folder: str) -> str:
    if not isinstance(value, str):
        raise wrong(value, "a name such as Europe/Berlin or UTC")
    zones.zone(value)
    return str(value)


ZONE = Kind("a name of the IANA time zone database, such as Europe/Berlin", _read_zone, {"type": "string"})


def _read_instant(value: Any, _folder: str) -> int:
    if not isinstance(value, (str, datetime)):
        raise wrong(value, _INSTANT)
    try:
        ms = instant_ms(value)
    except ValueError as error:
        raise ValueError(f"{shown(value)}: {error}; write {_INSTANT}") from None
    if not 0 <= ms <= LAST_MS:
        raise wrong(value, _INSTANT, "is before 1970, or too far away")
    return ms


def show_instant(ms: int) -> str:
    """An instant as RFC 3339 in UTC with milliseconds."""
    when = _EPOCH + timedelta(milliseconds=ms)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


INSTANT = Kind(_INSTANT, _read_instant, {"type": "string"}, show_instant)


def _read_payload(value: Any, _folder: str) -> str:
    _check_payload(value)
    written = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    size = len(written.encode())
    if size > PAYLOAD_MAX_BYTES:
        raise ValueError(f"is {size:,} bytes as JSON; a schedule's payload has at most {PAYLOAD_MAX_BYTES:,}")
    return written


def _check_payload(value: Any) -> None:
    """Refuse what JSON, or a reader of the job, cannot hold."""
    if isinstance(value, str):
        if _NOT_STORED.search(value):
            raise ValueError("holds a NUL or half a character, which not every reader can hold; leave it out")
    elif isinstance(value, dict):
        for name, inner in value.items():
            _check_payload(name)
            _check_payload(inner)
    elif isinstance(value, list):
        for inner in value:
            _check_payload(inner)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("holds inf or nan, which JSON does not have; write a number")
    elif value is not None and not isinstance(value, (bool, int)):
        raise ValueError("holds a date or time, which JSON does not have; write it as text in quotes")


PAYLOAD = Kind("what the payload of its jobs is: any value but a date or time", _read_payload, {}, json.loads)
TASK = text("the name of a task", r"[!-~]+", TASK_NAME_MAX)
TAG = text("a tag", r"\S(.*\S)?", TAG_LENGTH_MAX)


def _read_tags(value: Any, folder: str) -> tuple[str, ...]:
    tags: tuple[str, ...] = listed(TAG).read(value, folder)
    if len(set(tags)) < len(tags):
        raise ValueError("has a tag twice; write each once")
    if len(tags) > TAGS_MAX:
        raise ValueError(f"has {len(tags)} tags; write at most {TAGS_MAX}")
    return tags


SCHEDULE = Section(
    Schedule,
    "A timetable that enqueues jobs: see [schedules.md](schedules.md). Names are those that queues may have.",
    {
        "queue": Key("queue", text("the name of a queue"), "the queue that its jobs go to", "must be given"),
        "cron": Key("cron", CRON, "the times of its runs; this or `every`", "-"),
        "every": Key(
            "every_ms",
            duration(EVERY_MIN_MS, EVERY_MAX_MS),
            "the time between two runs, counted from `start`, else from 1970; this or `cron`",
            "-",
        ),
        "timezone": Key("timezone", ZONE, "the zone whose clock `cron` means"),
        "task": Key("task", TASK, "which task of the queue runs its jobs, where its handler is a module of tasks", "-"),
        "payload": Key("payload", PAYLOAD, "what its jobs get; at most 64 KiB as JSON", "null"),
        "jitter": Key(
            "jitter_ms",
            duration(0, JITTER_MAX_MS),
            "each run is later by up to this, always by the same for the same due time",
        ),
        "start": Key("start_ms", INSTANT, "no run is due before", "no limit"),
        "end": Key("end_ms", INSTANT, "no run is due after", "no limit"),
        "missed": Key(
            "missed",
            choice("skip", "once", "all"),
            "what becomes of runs whose time went by unnoticed for more than 30s: none, the last, or each runs late",
        ),
        "missed_within": Key(
            "missed_within_ms",
            duration(1, EVERY_MAX_MS),
            "`once` and `all`: how late a run may be to be made up for",
            "no limit",
        ),
        "missed_max": Key("missed_max", integer(1, MISSED_MAX), "`all`: how many are made up for, the oldest first"),
        "overlap": Key(
            "overlap",
            choice("allow", "skip", "queue"),
            "when a run is due while the job of the one before has not ended: it runs as well, not at all, or "
            "afterwards (at most one waits)",
        ),
        "priority": Key(
            "priority",
            integer(PRIORITY_MIN, PRIORITY_MAX),
            "priority of its jobs; for queues that order by it",
            "that of the queue",
        ),
        "tags": Key(
            "tags",
            Kind(listed(TAG).says, _read_tags, {**listed(TAG).schema, "maxItems": TAGS_MAX}, list),
            "tags of its jobs, beside `schedule:NAME` and `due:INSTANT`",
        ),
        "paused": Key("paused", boolean(), "whether it is at rest: nothing is due"),
    },
)
SCHEDULE_ONLY = frozenset({"cron", "every", "timezone", "overlap", "missed", "jitter"})
"""Keys that people write into a queue when they mean a schedule."""
NOT_OF_SCHEDULES = {
    "idempotency_key": "is for jobs that are enqueued: a schedule makes one job for each due time by itself; remove it"
}
"""What a job may have and a schedule cannot give it, each with the reason."""
