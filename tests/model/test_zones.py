"""Schedules around every change of every zone's clock, compared with a computation that shares nothing with them.

The oracle walks the minutes of real time, asks the zone for the wall time of each, and matches the fields of an
expression by rules of its own. It knows no cron library and nothing of the policy but what docs/schedules.md says.

By default a few zones are walked; with JOBSUP_CAMPAIGN=full all of them, from 1990 to 2037. Changes of the same shape
are walked once: the same offsets, at the same wall time, weekday and date of months as long.
"""

from __future__ import annotations

import calendar
from collections.abc import Hashable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import pytest

from supervisor.config.zones import zone as zone_named
from supervisor.policy.schedule import LATE_MS, Cron, Every, Outage, Plan, decide, read_cron
from tests.support.campaign import FULL, Campaign

FIRST, LAST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2038, 1, 1, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
WALKED = timedelta(hours=60)
COMPARED = timedelta(hours=36)
DOWN = timedelta(hours=5)
EVERY = timedelta(minutes=15)
ODD_ZONES = (
    "Africa/Cairo", "Africa/Casablanca", "America/Asuncion", "America/Havana", "America/Sao_Paulo", "America/St_Johns",
    "Antarctica/Casey", "Antarctica/Troll", "Antarctica/Vostok", "Asia/Gaza", "Asia/Pyongyang", "Asia/Tehran",
    "Australia/Lord_Howe", "Europe/Dublin", "Europe/London", "Pacific/Apia", "Pacific/Kwajalein", "UTC",
)  # fmt: skip
SHORT_YEARS = (1993, 2011, 2026)


class Change(NamedTuple):
    """A change of a zone's clock: the first moment of the new offset, and both offsets."""

    at: datetime
    before: timedelta
    after: timedelta


def shape(change: Change) -> Hashable:
    """All of a change that the fields of an expression can tell apart."""
    wall = (change.at + change.before).replace(tzinfo=None)
    before = wall.replace(day=1) - DAY
    lengths = tuple(calendar.monthrange(month.year, month.month)[1] for month in (before, wall))
    return change.before, change.after, wall.time(), wall.weekday(), wall.month, wall.day, lengths


def offset(zone: ZoneInfo, at: datetime) -> timedelta:
    found = at.astimezone(zone).utcoffset()
    assert found is not None
    return found


def changes(zone: ZoneInfo) -> Iterator[Change]:
    """Every change of the offset, found by looking once a day and halving."""
    low = FIRST
    while low < LAST:
        high = low + DAY
        if offset(zone, low) != offset(zone, high):
            yield halved(zone, low, high)
        low = high


def halved(zone: ZoneInfo, low: datetime, high: datetime) -> Change:
    before = offset(zone, low)
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) // 2
        middle = middle.replace(microsecond=0)
        low, high = (middle, high) if offset(zone, middle) == before else (low, middle)
    return Change(high, before, offset(zone, high))


# -- the oracle ----------------------------------------------------------------------------------------------------


def numbers(field: str, low: int, high: int) -> set[int]:
    """What a field of numbers, lists, ranges and steps names."""
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = ("*", "", "") if span == "*" else span.partition("-")
        begin = low if first == "*" else int(first)
        end = high if first == "*" or (step and not last) else int(last or first)
        found |= set(range(begin, end + 1, int(step or 1)))
    return found


class Fields:
    """An expression, taken apart by the rules of docs/schedules.md."""

    def __init__(self, expression: str) -> None:
        parts = expression.split()
        self.times_of_day = len(parts) == 5 and parts[0][0] != "*" and parts[1][0] != "*"
        second = parts.pop(0) if len(parts) == 6 else "0"
        self.seconds = sorted(numbers(second, 0, 59))
        self.minutes, self.hours = numbers(parts[0], 0, 59), numbers(parts[1], 0, 23)
        self.day, self.weekday = parts[2], parts[4]
        self.months = numbers(parts[3], 1, 12)

    def names_day(self, wall: datetime) -> bool:
        """Whether the expression names the day of this wall time."""
        both = self.day.startswith("*") or self.weekday.startswith("*")
        found = (self._day_of_month(wall), self._day_of_week(wall))
        return wall.month in self.months and (all(found) if both else any(found))

    def _day_of_month(self, wall: datetime) -> bool:
        if self.day == "L":
            return wall.day == calendar.monthrange(wall.year, wall.month)[1]
        return wall.day in numbers(self.day, 1, 31)

    def _day_of_week(self, wall: datetime) -> bool:
        sunday_is_0 = (wall.weekday() + 1) % 7
        if self.weekday.endswith("L"):
            return sunday_is_0 == int(self.weekday[:-1]) and (wall + 7 * DAY).month != wall.month
        if "#" in self.weekday:
            which, number = map(int, self.weekday.split("#"))
            return sunday_is_0 == which and (wall.day - 1) // 7 + 1 == number
        return sunday_is_0 in {day % 7 for day in numbers(self.weekday, 0, 7)}


def walk(zone: ZoneInfo, change: Change) -> list[tuple[datetime, datetime]]:
    """Every minute of real time around a change, with its wall time."""
    begin = (change.at - WALKED).replace(second=0)
    moments = [begin + number * MINUTE for number in range(2 * WALKED // MINUTE)]
    return [(moment, moment.astimezone(zone).replace(tzinfo=None, fold=0)) for moment in moments]


def expected(fields: Fields, walked: list[tuple[datetime, datetime]], change: Change) -> list[datetime]:
    """When it runs, from COMPARED before the change until COMPARED after it."""
    found = set(_times_of_day(fields, walked) if fields.times_of_day else _pattern(fields, walked))
    return sorted(at for at in found if change.at - COMPARED < at <= change.at + COMPARED)


def _pattern(fields: Fields, walked: list[tuple[datetime, datetime]]) -> Iterator[datetime]:
    """Each real moment whose wall time matches."""
    for moment, wall in walked:
        if wall.minute in fields.minutes and wall.hour in fields.hours and fields.names_day(wall):
            for second in fields.seconds:
                yield moment + timedelta(seconds=second)


def _times_of_day(fields: Fields, walked: list[tuple[datetime, datetime]]) -> Iterator[datetime]:
    """Each wall time that is named, once: the first moment that has it, or the first one past the gap it lies in."""
    first_at: dict[datetime, datetime] = {}
    for moment, wall in walked:
        first_at.setdefault(wall, moment)
    wall, end = walked[0][1], walked[-1][1]
    while wall < end:
        if wall.minute in fields.minutes and wall.hour in fields.hours and fields.names_day(wall):
            yield first_at.get(wall) or next(moment for moment, passed in walked if passed > wall)
        wall += MINUTE


# -- what is compared ------------------------------------------------------------------------------------------------


def expressions(change: Change) -> list[str]:
    """Schedules in and near the wall times that are passed over, or come twice."""
    walls = sorted(change.at.replace(tzinfo=None) + by for by in (change.before, change.after))
    low, high = walls
    middle = (low + (high - low) / 2).replace(second=0, microsecond=0)
    soon = low - 30 * MINUTE
    weekday = (middle.weekday() + 1) % 7
    return [
        "0 * * * *",
        f"{middle.minute} * * * *",
        "*/15 * * * *",
        f"*/10 {middle.hour} * * *",
        f"*/30 * {middle.day} * *",
        f"{middle.minute} {middle.hour} * * *",
        f"{low.minute} {low.hour} * * *",
        f"{high.minute} {high.hour} * * *",
        f"{soon.minute} {soon.hour} * * *",
        f"0,15,45 {low.hour},{high.hour} * * *",
        f"{middle.minute} {middle.hour} * * {weekday}",
        f"{middle.minute} {middle.hour} L * *",
        f"{middle.minute} {middle.hour} * * {weekday}L",
        f"{middle.minute} {middle.hour} {low.day} * {weekday}#1",
        "5-55/25 0-23/2 * * *",
        "30 */20 * * * *",
        f"15,45 {middle.minute} {middle.hour} * * *",
    ]


def ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def fired(plan: Plan, after: datetime, until: datetime) -> list[int]:
    """The due times that the policy gives, each from the one before it alone."""
    found, at = [], ms(after)
    while (due := plan.after(at)) is not None and due <= ms(until):
        assert due > at
        found.append(due)
        at = due
    return found


def made_good(plan: Plan, handled_ms: int, now_ms: int) -> tuple[list[int], int, int]:
    """What runs when a daemon comes back, how much is missed, and how far all is decided; page by page."""
    run: list[int] = []
    missed = 0
    outage: Outage | None = None
    while True:
        decision = decide(plan, handled_ms, outage, now_ms, 16)
        run += decision.run
        missed += decision.missed
        if (decision.handled_ms, decision.outage) == (handled_ms, outage):
            return run, missed, handled_ms
        handled_ms, outage = decision.handled_ms, decision.outage


def check_change(name: str, change: Change, zone: ZoneInfo) -> int:
    """Compare every schedule around one change; how many."""
    walked = walk(zone, change)
    plans = [(text, Cron(read_cron(text), zone_named(name))) for text in expressions(change)]
    begin, end = change.at - COMPARED, change.at + COMPARED
    for text, times in plans:
        due = list(map(ms, expected(Fields(text), walked, change)))
        assert fired(Plan("s", times), begin, end) == due, (name, change, text)
        check_down(Plan("s", times), due, change, f"{name} {change} {text}")
    every = Plan("s", Every(EVERY // timedelta(milliseconds=1)))
    first = ms(begin) - ms(begin) % 900_000 + 900_000
    due = list(range(first, ms(end) + 1, 900_000))
    assert fired(every, begin, end) == due, (name, change)
    check_down(every, due, change, f"{name} {change} every")
    return len(plans) + 1


def check_down(plan: Plan, due: list[int], change: Change, what: str) -> None:
    """The daemon was down over the change: each policy gives what it says, and nothing is given again."""
    left, back = ms(change.at - DOWN), ms(change.at + DOWN)
    went_by = [at for at in due if left < at <= back]
    late = [at for at in went_by if back - at > LATE_MS]
    if not late:
        return
    newest = went_by[-1:]
    answers = {
        "skip": [at for at in newest if back - at <= LATE_MS],
        "once": newest,
        "all": went_by[: plan.missed_max],
    }
    for missed, wanted in answers.items():
        run, lost, handled = made_good(plan._replace(missed=missed), left, back)
        assert (run, lost) == (wanted, len(went_by) - len(wanted)), (what, missed)
        assert made_good(plan._replace(missed=missed), handled, back)[0] == [], (what, missed)


def chosen_zones() -> list[str]:
    return sorted(available_timezones()) if FULL else list(ODD_ZONES)


@pytest.mark.campaign
@pytest.mark.timeout(3_600)
def test_schedules_around_every_change_of_every_zone() -> None:
    campaign = Campaign("zones")
    known: set[Hashable] = set()
    zones, transitions, schedules = chosen_zones(), 0, 0
    for name in zones:
        zone = ZoneInfo(name)
        for change in changes(zone):
            if not FULL and change.at.year not in SHORT_YEARS:
                continue
            transitions += 1
            if shape(change) not in known:
                known.add(shape(change))
                schedules += check_change(name, change, zone)
    campaign.passed(len(known), zones=len(zones), transitions=transitions, schedules=schedules)
    print(f"{len(zones)} zones, {transitions} transitions ({len(known)} shapes), {schedules} schedules compared")
    assert schedules >= 17 * len(known) > 0


@pytest.mark.parametrize("name", ODD_ZONES if not FULL else sorted(available_timezones()))
def test_no_zone_changes_its_clock_twice_within_a_day(name: str) -> None:
    """The policy looks for changes once a day; here the looks are closer together."""
    zone = ZoneInfo(name)
    step = timedelta(hours=3)
    looks = [offset(zone, FIRST + number * step) for number in range((LAST - FIRST) // step)]
    places = [number for number, (sooner, later) in enumerate(pairwise(looks)) if sooner != later]
    assert all(later - sooner > DAY // step for sooner, later in pairwise(places))


def test_the_oracle_knows_what_the_documentation_says() -> None:
    """Berlin, spring 2026: 02:30 runs once, at 03:00; a pattern of hour 2 not at all. In autumn: once, and in both."""
    berlin = ZoneInfo("Europe/Berlin")
    spring, autumn = (change for change in changes(berlin) if change.at.year == 2026)
    cases = [
        (spring, "30 2 * * *", ["2026-03-28T01:30", "2026-03-29T01:00"]),
        (spring, "*/30 2 * * *", ["2026-03-28T01:00", "2026-03-28T01:30"]),
        (autumn, "30 2 * * *", ["2026-10-24T00:30", "2026-10-25T00:30"]),
        (autumn, "*/30 2 25 * *", ["2026-10-25T00:00", "2026-10-25T00:30", "2026-10-25T01:00", "2026-10-25T01:30"]),
    ]
    for change, text, times in cases:
        found = expected(Fields(text), walk(berlin, change), change)
        shown = [f"{at:%Y-%m-%dT%H:%M}" for at in found if at <= change.at + timedelta(hours=12)]
        assert shown == times, text
