"""When a schedule runs: its due times, what becomes of those that were missed, and of those that overlap. Pure.

Times are whole milliseconds since 1970, in UTC. A due time is nominal: jitter moves when it fires, never what it is.

What a wall time means where a zone changes its offset:

- A cron expression of five fields whose minute and hour both begin with something else than `*` names times of day.
  Each runs once: one that the zone passes over runs at the first moment after the gap (several of them once), one that
  comes twice runs the first time.
- Every other cron expression names a pattern: it runs at each real moment whose wall time matches, so in both passes
  of an hour that comes twice, and not at all in an hour that does not come.
- `every` counts elapsed time from its anchor, and knows no zone.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice, pairwise
from typing import Literal, NamedTuple, Protocol
from zlib import crc32

from cronsim import CronSim, CronSimError

LATE_MS = 30_000
"""A due time that is noticed no later than this is on time: a keeper that was replaced misses nothing."""
COUNTED_MAX = 1_000
"""So many due times of one outage are looked at one by one; of more, only those that may still run."""
LAST_MS = 200_000_000_000_000
"""Beyond the year 8300 nothing is due: calendars end in the year 9999."""

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
EXPRESSION_MAX = 256
RANGES = {
    "second": "0-59",
    "minute": "0-59",
    "hour": "0-23",
    "day-of-month": "1-31, L for the last day, or LW for the last weekday",
    "month": "1-12 or JAN-DEC",
    "day-of-week": "0-7 or SUN-SAT, 5L for the last Friday, 5#2 for the second one",
}
"""What each field of a cron expression takes, beside `*`, lists, ranges and steps."""

Missed = Literal["skip", "once", "all"]
Overlap = Literal["allow", "skip", "queue"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
_REFERENCE = datetime(2023, 12, 31)  # noqa: DTZ001 - a wall time of no zone: before a leap year
_DISTANCES = 100


def read_cron(written: str) -> str:
    """The cron expression of five or six fields that a text means; six begin with seconds.

    Raises:
        ValueError: with a sentence that says what would be right.
    """
    expression = " ".join(written.split())
    if expression.startswith("@"):
        if expression.lower() not in ALIASES:
            raise ValueError(f"there is no such alias; known are {', '.join(ALIASES)}")
        return ALIASES[expression.lower()]
    if len(expression) > EXPRESSION_MAX:
        raise ValueError(f"is longer than {EXPRESSION_MAX} characters")
    fields = len(expression.split())
    if fields not in (5, 6):
        raise ValueError(f"has {fields} fields; write minute hour day-of-month month day-of-week, seconds before them")
    try:
        first = next(CronSim(expression, _REFERENCE), None)
    except CronSimError as error:
        raise ValueError(_explained(expression, str(error).removeprefix("Bad "))) from None
    if first is None:
        raise ValueError("names a day that never comes; correct day-of-month, month or day-of-week")
    return expression


def _explained(expression: str, field: str) -> str:
    """Which field is wrong, and what it takes; or that each is right and no such day exists."""
    wrong = f"its {field} is not right; it takes {RANGES[field]}, with lists, ranges (rising) and steps"
    if field != "day-of-month":
        return wrong
    *before, _month, weekday = expression.split()
    try:
        CronSim(" ".join((*before, "*", weekday)), _REFERENCE)
    except CronSimError:
        return wrong
    return "names a day that its months do not have, so it never comes; correct day-of-month or month"


def names_times_of_day(expression: str) -> bool:
    """Whether an expression names times of day, and not a pattern."""
    fields = expression.split()
    return len(fields) == 5 and not fields[0].startswith("*") and not fields[1].startswith("*")


class Times(Protocol):
    """Due times, without end."""

    def after(self, at_ms: int) -> int | None:
        """The first due time later than this; None if none comes."""

    def distance_ms(self) -> int:
        """The shortest time between two due times."""


class Every(NamedTuple):
    """Due times at the anchor and each interval after and before it."""

    every_ms: int
    anchor_ms: int = 0

    def after(self, at_ms: int) -> int:
        """The first due time later than this."""
        return at_ms + self.every_ms - (at_ms - self.anchor_ms) % self.every_ms

    def distance_ms(self) -> int:
        """The interval."""
        return self.every_ms


class Cron(NamedTuple):
    """Due times of a cron expression (as `read_cron` gives it) in a time zone.

    The library is only asked about wall times of no zone, where it knows the calendar. With a zone it steps by hours of
    real time, and passes over times where a clock moves by half an hour.
    """

    expression: str
    zone: tzinfo

    def after(self, at_ms: int) -> int | None:
        """The first due time later than this; None if none comes within 50 years."""
        at = _EPOCH + timedelta(seconds=at_ms // 1000)
        found = self._time_of_day_after(at) if names_times_of_day(self.expression) else self._match_after(at)
        return None if found is None else (found - _EPOCH) // timedelta(milliseconds=1)

    def distance_ms(self) -> int:
        """The shortest time between two of the first hundred due times, on a clock that nobody changes."""
        listed = islice(CronSim(self.expression, _REFERENCE), _DISTANCES)
        return min(later - sooner for sooner, later in pairwise(listed)) // timedelta(milliseconds=1)

    def _time_of_day_after(self, at: datetime) -> datetime | None:
        """Wall times in their order; the moments that they mean never go back."""
        for wall in CronSim(self.expression, at.astimezone(self.zone).replace(tzinfo=None)):
            moment = moment_of(wall, self.zone)
            if moment > at:
                return moment
        return None

    def _match_after(self, at: datetime) -> datetime | None:
        """The next match while the offset holds, else what matches from its change on."""
        since = at
        while True:
            offset = _offset(self.zone, since)
            wall = next(CronSim(self.expression, (at + offset).replace(tzinfo=None)), None)
            if wall is None:
                return None
            moment = wall.replace(tzinfo=UTC) - offset
            change = _change(self.zone, since, moment)
            if change is None:
                return moment
            since, at = change, change - _SECOND


def _offset(zone: tzinfo, moment: datetime) -> timedelta:
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


def _change(zone: tzinfo, since: datetime, until: datetime) -> datetime | None:
    """When the offset of `since` first changes, up to and at `until`; no zone does so twice within a day."""
    offset, low = _offset(zone, since), since
    while low < until:
        high = min(low + _DAY, until)
        if _offset(zone, high) != offset:
            return _bisect(zone, low, high)
        low = high
    return None


def _bisect(zone: tzinfo, low: datetime, high: datetime) -> datetime:
    """The first second whose offset is not that of `low`, which is later than `low` and not later than `high`."""
    offset = _offset(zone, low)
    while high - low > _SECOND:
        middle = low + (high - low) // _SECOND // 2 * _SECOND
        low, high = (middle, high) if _offset(zone, middle) == offset else (low, middle)
    return high


def moment_of(wall: datetime, zone: tzinfo) -> datetime:
    """The moment that a time of day means: the first of two, or the end of the gap that it lies in."""
    first = wall.replace(tzinfo=zone, fold=0)
    moment = first.astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None, fold=0) == wall:
        return moment
    after = wall.replace(tzinfo=zone, fold=1).utcoffset()
    assert after is not None
    return _bisect(zone, wall.replace(tzinfo=UTC) - after, moment)


class Plan(NamedTuple):
    """All that decides about a schedule's runs."""

    name: str
    times: Times
    start_ms: int | None = None
    end_ms: int | None = None
    jitter_ms: int = 0
    missed: Missed = "skip"
    missed_within_ms: int | None = None
    missed_max: int = 100
    overlap: Overlap = "allow"

    def after(self, at_ms: int) -> int | None:
        """The first due time later than this, from `start` to `end`, both of them included."""
        if self.start_ms is not None:
            at_ms = max(at_ms, self.start_ms - 1)
        if at_ms > LAST_MS:
            return None
        due_ms = self.times.after(at_ms)
        return None if due_ms is None or (self.end_ms is not None and due_ms > self.end_ms) else due_ms

    def fires_ms(self, due_ms: int) -> int:
        """When a due time fires: its part of the jitter later, which is the same for whoever computes it."""
        return due_ms + spread_ms(self.name, due_ms, self.jitter_ms)

    def due(self, after_ms: int, now_ms: int, limit: int) -> Iterator[int]:
        """The due times later than `after_ms` that have fired by now, the oldest first, no more than so many."""
        for _ in range(limit):
            due_ms = self.after(after_ms)
            if due_ms is None or self.fires_ms(due_ms) > now_ms:
                return
            yield due_ms
            after_ms = due_ms

    def newest(self, after_ms: int, now_ms: int) -> int | None:
        """The last due time later than `after_ms` that has fired by now, found without a look at those before it."""
        found, low, high = None, after_ms, now_ms
        middle = low
        while low < high:
            due_ms = self.after(middle)
            if due_ms is not None and self.fires_ms(due_ms) <= now_ms:
                found = low = due_ms
            else:
                high = middle
            middle = (low + high) // 2
        return found


def spread_ms(name: str, due_ms: int, jitter_ms: int) -> int:
    """How much later than due a run is, from 0 to `jitter_ms`, by nothing but the schedule's name and the due time."""
    return crc32(f"{name} {due_ms}".encode()) * (jitter_ms + 1) >> 32


class Outage(NamedTuple):
    """Due times that were noticed too late: what lies up to `until_ms` is made good, or not, a page at a time."""

    noticed_ms: int
    until_ms: int
    left: int
    """How many more of them may run."""
    seen: int = 0
    missed: int = 0


class Decision(NamedTuple):
    """What becomes of due times: which run now, how many are passed over, and how far all are decided."""

    run: tuple[int, ...]
    missed: int
    handled_ms: int
    outage: Outage | None
    ended: Outage | None = None
    """The outage that this decision is the last of."""


def decide(plan: Plan, handled_ms: int, outage: Outage | None, now_ms: int, page: int) -> Decision:
    """What becomes of the next due times after `handled_ms`, at most `page` of them.

    A due time at or before `handled_ms` is never looked at again, whatever the clock says. If the oldest of those that
    fired by now did so no more than `LATE_MS` ago, all of them are on time and run. Else there was an outage (the
    daemon was down, or the clock was set forward), and the schedule's `missed` says which of them run.
    """
    if outage is None:
        due = tuple(plan.due(handled_ms, now_ms, page))
        if not due or now_ms - plan.fires_ms(due[0]) <= LATE_MS:
            return Decision(due, 0, due[-1] if due else handled_ms, None)
        until_ms = plan.newest(handled_ms, now_ms)
        assert until_ms is not None
        outage = Outage(now_ms, until_ms, plan.missed_max if plan.missed == "all" else 1)
    return _make_good(plan, handled_ms, outage, page)


def _make_good(plan: Plan, handled_ms: int, outage: Outage, page: int) -> Decision:
    if outage.seen >= COUNTED_MAX:
        handled_ms = max(handled_ms, _next_that_may_run(plan, outage) - 1)
    run = []
    left = outage.left
    due = [due_ms for due_ms in plan.due(handled_ms, outage.noticed_ms, page) if due_ms <= outage.until_ms]
    for due_ms in due:
        if left and _runs(plan, due_ms, outage):
            run.append(due_ms)
            left -= 1
    missed = len(due) - len(run)
    after = outage._replace(left=left, seen=outage.seen + len(due), missed=outage.missed + missed)
    if not due or due[-1] == outage.until_ms:
        return Decision(tuple(run), missed, outage.until_ms, None, after)
    return Decision(tuple(run), missed, due[-1], after)


def _next_that_may_run(plan: Plan, outage: Outage) -> int:
    """Where to go on in an outage whose due times are too many to be counted."""
    if plan.missed != "all" or not outage.left:
        return outage.until_ms
    return 0 if plan.missed_within_ms is None else outage.noticed_ms - plan.missed_within_ms


def _runs(plan: Plan, due_ms: int, outage: Outage) -> bool:
    """Whether a due time of an outage runs all the same."""
    if plan.missed == "skip":
        return due_ms == outage.until_ms and outage.noticed_ms - plan.fires_ms(due_ms) <= LATE_MS
    if plan.missed_within_ms is not None and due_ms < outage.noticed_ms - plan.missed_within_ms:
        return False
    return plan.missed == "all" or due_ms == outage.until_ms


def overlapping(overlap: Overlap, *, unfinished: bool, waiting: bool) -> Literal["run", "wait", "skip"]:
    """What becomes of a run while the one before it may not have ended; `waiting`: another one waits for that."""
    if overlap == "allow" or not (unfinished or waiting):
        return "run"
    return "wait" if overlap == "queue" and not waiting else "skip"
