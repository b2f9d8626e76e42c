"""When schedules run: what expressions mean, what becomes of missed and overlapping runs, and how it is said.

Changes of a zone's clock have a test of their own: tests/model/test_zones.py.
"""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.policy import schedule_words
from supervisor.policy.schedule import (
    ALIASES,
    COUNTED_MAX,
    LAST_MS,
    LATE_MS,
    Cron,
    Every,
    Missed,
    Outage,
    Plan,
    decide,
    moment_of,
    names_times_of_day,
    overlapping,
    read_cron,
    spread_ms,
)

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE = 60_000
NOW = 1_700_000_040_000
"""A whole minute."""
MINUTELY = Plan("m", Every(MINUTE))


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def shown(due_ms: int | None, zone: ZoneInfo = BERLIN) -> str | None:
    return None if due_ms is None else schedule_words.when(due_ms, zone)


# -- expressions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "expression"),
    [
        *ALIASES.items(),
        ("@DAILY", "0 0 * * *"),
        ("  30  2 * * mon-fri ", "30 2 * * mon-fri"),
        ("*/10 * * * * *", "*/10 * * * * *"),
        ("0 0 L * *", "0 0 L * *"),
        ("0 0 LW * *", "0 0 LW * *"),
        ("0 0 * * 5L", "0 0 * * 5L"),
        ("0 0 * * 5#2", "0 0 * * 5#2"),
        ("0 0 29 2 *", "0 0 29 2 *"),
        ("0 0 31 2 MON", "0 0 31 2 MON"),
    ],
)
def test_an_expression_is_read(written: str, expression: str) -> None:
    assert read_cron(written) == expression


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("", "has 0 fields"),
        ("* * * *", "has 4 fields; write minute hour"),
        ("* * * * * * *", "has 7 fields"),
        ("@reboot", "there is no such alias; known are @yearly, @annually, @monthly"),
        ("60 * * * *", "its minute is not right; it takes 0-59"),
        ("* 24 * * *", "its hour is not right; it takes 0-23"),
        ("* 22-4 * * *", "its hour is not right; it takes 0-23, with lists, ranges (rising) and steps"),
        ("* * 0 * *", "its day-of-month is not right; it takes 1-31, L"),
        ("* * L-3 * *", "its day-of-month is not right"),
        ("* * * 13 *", "its month is not right; it takes 1-12 or JAN-DEC"),
        ("* * * * 8", "its day-of-week is not right; it takes 0-7 or SUN-SAT"),
        ("60 * * * * *", "its second is not right"),
        ("H * * * *", "its minute is not right"),
        ("* * ? * *", "its day-of-month is not right"),
        ("*/0 * * * *", "its minute is not right"),
        ("* * 31 2 *", "names a day that its months do not have, so it never comes"),
        ("0 0 31 4,6,9,11 *", "names a day that its months do not have"),
        ("0 0 */30 2 5L", "names a day that never comes"),
        ("1," * 200 + "1 * * * *", "is longer than 256 characters"),
    ],
)
def test_a_wrong_expression_is_refused_with_what_would_be_right(written: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_cron(written)
    assert str(caught.value).startswith(said)


@settings(max_examples=500)
@given(st.text(st.sampled_from("0123456789*/-,#LW @MONJA"), max_size=30) | st.text(max_size=30))
def test_no_text_raises_anything_else(written: str) -> None:
    try:
        expression = read_cron(written)
    except ValueError:
        return
    assert Cron(expression, UTC).after(NOW) is not None
    assert schedule_words.describe(expression)


@pytest.mark.parametrize(
    ("expression", "times_of_day"),
    [
        ("30 2 * * *", True), ("0-59 2 * * *", True), ("0 */2 * * *", False), ("*/5 2 * * *", False),
        ("0 30 2 * * *", False), ("0 * * * *", False),
    ],
)  # fmt: skip
def test_times_of_day_are_told_from_patterns_by_how_they_are_written(expression: str, times_of_day: bool) -> None:
    assert names_times_of_day(expression) == times_of_day


@pytest.mark.parametrize(
    ("expression", "after", "due"),
    [
        ("30 2 * * *", "2026-03-28T12:00+01:00", "2026-03-29T03:00:00+02:00"),
        ("0,30 2 * * *", "2026-03-29T03:00+02:00", "2026-03-30T02:00:00+02:00"),
        ("*/30 2 * * *", "2026-03-29T00:00+01:00", "2026-03-30T02:00:00+02:00"),
        ("30 2 * * *", "2026-10-25T02:00+02:00", "2026-10-25T02:30:00+02:00"),
        ("30 2 * * *", "2026-10-25T02:10+01:00", "2026-10-26T02:30:00+01:00"),
        ("30 * * * *", "2026-10-25T02:30+02:00", "2026-10-25T02:30:00+01:00"),
        ("*/5 9 29 2 *", "2026-01-01T00:00+01:00", "2028-02-29T09:00:00+01:00"),
        ("* * * * * *", "2026-01-01T00:00:00.500+01:00", "2026-01-01T00:00:01+01:00"),
    ],
)
def test_due_times_where_a_clock_changes(expression: str, after: str, due: str) -> None:
    assert shown(Cron(expression, BERLIN).after(ms(after))) == due


def test_half_an_hour_is_no_stumbling_block() -> None:
    lord_howe = ZoneInfo("Australia/Lord_Howe")
    times = Cron("*/15 3 * * *", lord_howe)
    assert shown(times.after(ms("2026-10-03T12:00Z")), lord_howe) == "2026-10-04T03:00:00+11:00"


def test_a_day_that_is_left_out_ends_with_its_times() -> None:
    apia = ZoneInfo("Pacific/Apia")
    assert moment_of(datetime(2011, 12, 30, 9, 30), apia) == datetime(2011, 12, 30, 10, tzinfo=UTC)  # noqa: DTZ001
    assert Cron("30 9 30 12 *", apia).after(ms("2011-12-01T00:00Z")) == ms("2011-12-30T10:00Z")


@pytest.mark.parametrize("expression", ["0 0 29 2 0#5", "*/5 0 */29 2 0#5"])
def test_what_does_not_come_for_fifty_years_is_not_waited_for(expression: str) -> None:
    """As no calendar is endless: a due time may be known, and the next one be too far away."""
    times = Cron(expression, BERLIN)
    at = times.after(ms("2090-01-01T00:00Z"))
    assert at is None or at > ms("2090-01-01T00:00Z")


def test_a_pattern_that_never_matches_is_never_due() -> None:
    assert Cron("*/5 0 */30 2 5L", BERLIN).after(NOW) is None
    assert Cron("0 0 */30 2 5L", BERLIN).after(NOW) is None


@pytest.mark.parametrize(
    ("expression", "distance_ms"),
    [("*/5 * * * *", 5 * MINUTE), ("0,5 0 1 1 *", 5 * MINUTE), ("0 0 * * *", 1440 * MINUTE), ("*/2 * * * * *", 2_000)],
)
def test_the_shortest_distance(expression: str, distance_ms: int) -> None:
    assert Cron(expression, UTC).distance_ms() == distance_ms


@pytest.mark.parametrize(
    ("every_ms", "anchor_ms", "after_ms", "due_ms"),
    [(1_000, 0, 0, 1_000), (1_000, 0, 999, 1_000), (1_000, 300, 0, 300), (1_000, 300, 300, 1_300), (7, 20, 1, 6)],
)
def test_intervals_keep_to_their_anchor(every_ms: int, anchor_ms: int, after_ms: int, due_ms: int) -> None:
    times = Every(every_ms, anchor_ms)
    assert times.after(after_ms) == due_ms
    assert times.distance_ms() == every_ms


# -- plans -----------------------------------------------------------------------------------------------------------


def test_start_and_end_belong_to_it() -> None:
    plan = MINUTELY._replace(start_ms=NOW, end_ms=NOW + MINUTE)
    assert plan.after(0) == NOW
    assert plan.after(NOW) == NOW + MINUTE
    assert plan.after(NOW + MINUTE) is None
    assert MINUTELY.after(LAST_MS + 1) is None
    assert Plan("d", Cron("0 0 */30 2 5L", UTC)).after(NOW) is None


def test_jitter_follows_from_name_and_due_time_alone() -> None:
    spread = [spread_ms("a", NOW + number * MINUTE, 10_000) for number in range(200)]
    assert spread == [spread_ms("a", NOW + number * MINUTE, 10_000) for number in range(200)]
    assert spread != [spread_ms("b", NOW + number * MINUTE, 10_000) for number in range(200)]
    assert 0 <= min(spread) < 1_000
    assert 9_000 < max(spread) <= 10_000
    assert spread_ms("a", NOW, 0) == 0


def test_a_due_time_fires_after_its_jitter_and_stays_what_it_is() -> None:
    plan = MINUTELY._replace(jitter_ms=59_999)
    fires_ms = plan.fires_ms(NOW)
    assert NOW < fires_ms < NOW + MINUTE
    assert decide(plan, NOW - MINUTE, None, fires_ms - 1, 16).run == ()
    assert decide(plan, NOW - MINUTE, None, fires_ms, 16).run == (NOW,)


@given(st.integers(0, 500), st.integers(0, 59_999), st.sampled_from([0, 30_000, 59_000]))
def test_the_newest_is_the_last_of_all(minutes: int, rest_ms: int, jitter_ms: int) -> None:
    plan = MINUTELY._replace(jitter_ms=jitter_ms)
    now_ms = NOW + minutes * MINUTE + rest_ms
    listed = list(plan.due(NOW, now_ms, 1_000))
    assert plan.newest(NOW, now_ms) == (listed[-1] if listed else None)


# -- what was missed -------------------------------------------------------------------------------------------------


def worked_off(plan: Plan, handled_ms: int, now_ms: int, page: int = 16) -> tuple[list[int], int, int, Outage | None]:
    """What runs, page by page; how many are missed, how far it is decided, and what is said of the outage."""
    run: list[int] = []
    missed, outage, ended = 0, None, None
    while True:
        found = decide(plan, handled_ms, outage, now_ms, page)
        run += found.run
        missed += found.missed
        ended = found.ended or ended
        if (found.handled_ms, found.outage) == (handled_ms, outage):
            return run, missed, handled_ms, ended
        handled_ms, outage = found.handled_ms, found.outage


def minutes(*numbers: int) -> list[int]:
    return [NOW + number * MINUTE for number in numbers]


def test_nothing_is_due_before_its_time_or_twice() -> None:
    assert decide(MINUTELY, NOW, None, NOW + MINUTE - 1, 16) == ((), 0, NOW, None, None)
    assert decide(MINUTELY, NOW, None, NOW + MINUTE, 16).run == (NOW + MINUTE,)
    assert decide(MINUTELY, NOW + MINUTE, None, NOW + MINUTE, 16).run == ()


@pytest.mark.parametrize("missed", ["skip", "once", "all"])
def test_what_is_noticed_soon_enough_runs_whatever_the_policy(missed: Missed) -> None:
    plan = Plan("s", Every(1_000), missed=missed)
    run, lost, handled_ms, ended = worked_off(plan, NOW, NOW + LATE_MS + 1_000)
    assert (len(run), lost, handled_ms, ended) == (31, 0, NOW + 31_000, None)


@pytest.mark.parametrize(
    ("missed", "late_ms", "run"),
    [
        ("skip", LATE_MS, minutes(10)),
        ("skip", LATE_MS + 1, []),
        ("once", LATE_MS + 1, minutes(10)),
        ("all", LATE_MS + 1, minutes(*range(1, 11))),
    ],
)
def test_an_outage_is_made_good_as_the_policy_says(missed: Missed, late_ms: int, run: list[int]) -> None:
    found = worked_off(MINUTELY._replace(missed=missed), NOW, NOW + 10 * MINUTE + late_ms)
    assert found[:3] == (run, 10 - len(run), NOW + 10 * MINUTE)
    assert found[3] is not None
    assert (found[3].seen, found[3].missed) == (10, 10 - len(run))


def test_a_window_limits_what_is_made_good() -> None:
    late = NOW + 10 * MINUTE + 45_000
    within = MINUTELY._replace(missed_within_ms=3 * MINUTE)
    assert worked_off(within._replace(missed="all"), NOW, late)[:2] == (minutes(8, 9, 10), 7)
    assert worked_off(within._replace(missed="once"), NOW, late)[:2] == (minutes(10), 9)
    tight = MINUTELY._replace(missed="once", missed_within_ms=44_999)
    assert worked_off(tight, NOW, late)[:2] == ([], 10)


@pytest.mark.parametrize("page", [1, 3, 16, 100])
def test_a_cap_takes_the_oldest_whatever_the_pages(page: int) -> None:
    plan = MINUTELY._replace(missed="all", missed_max=5)
    found = worked_off(plan, NOW, NOW + 60 * MINUTE + 45_000, page)
    assert found[:3] == (minutes(1, 2, 3, 4, 5), 55, NOW + 60 * MINUTE)


@pytest.mark.parametrize(
    ("missed", "within_ms", "runs"),
    [("skip", None, 0), ("once", None, 1), ("all", None, 100), ("all", 30 * MINUTE, 30)],
)
def test_an_outage_of_years_is_not_counted_to_its_end(missed: Missed, within_ms: int | None, runs: int) -> None:
    plan = MINUTELY._replace(missed=missed, missed_within_ms=within_ms)
    until = NOW + 5 * 525_600 * MINUTE
    run, lost, handled_ms, ended = worked_off(plan, NOW, until + 45_000)
    assert (len(run), handled_ms) == (runs, until)
    assert COUNTED_MAX - 100 <= lost <= COUNTED_MAX + 16
    assert ended is not None
    if missed != "skip":
        assert (run[-1] == until) == (runs in (1, 30))


def test_what_ended_meanwhile_ends_the_outage() -> None:
    """The definition may change between two pages: then nothing may be left to look at."""
    ended = MINUTELY._replace(end_ms=NOW)
    outage = Outage(NOW + 10 * MINUTE, NOW + 9 * MINUTE, 1)
    assert decide(ended, NOW, outage, NOW + 10 * MINUTE, 16).handled_ms == NOW + 9 * MINUTE


def test_a_clock_set_back_fires_nothing_again() -> None:
    _, _, handled_ms, _ = worked_off(MINUTELY, NOW, NOW + 3 * MINUTE)
    assert worked_off(MINUTELY, handled_ms, NOW + MINUTE)[0] == []
    assert worked_off(MINUTELY, handled_ms, NOW + 4 * MINUTE)[0] == minutes(4)


# -- what overlaps ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overlap", "unfinished", "waiting", "becomes"),
    [
        ("allow", True, False, "run"), ("skip", False, False, "run"), ("skip", True, False, "skip"),
        ("queue", False, False, "run"), ("queue", True, False, "wait"), ("queue", True, True, "skip"),
        ("queue", False, True, "skip"),
    ],
)  # fmt: skip
def test_what_overlaps_becomes_what_the_policy_says(
    overlap: str, unfinished: bool, waiting: bool, becomes: str
) -> None:
    assert overlapping(overlap, unfinished=unfinished, waiting=waiting) == becomes  # type: ignore[arg-type]


# -- in words --------------------------------------------------------------------------------------------------------


def test_expressions_have_words() -> None:
    assert schedule_words.describe("30 2 * * MON") == "At 02:30 on Monday"
    assert schedule_words.rhythm(cron=None, every_ms=90_000, timezone="UTC") == "every 1m30s"
    assert schedule_words.rhythm(cron="0 * * * *", every_ms=None, timezone="UTC") == (
        "At the start of every hour (0 * * * *, UTC)"
    )


@pytest.mark.parametrize(
    ("rest", "next_ms", "fires_ms", "said"),
    [
        ("it is paused", NOW, NOW, "x does not run: it is paused"),
        (None, None, None, "x does not run any more: no due time is left"),
        (None, NOW + MINUTE, NOW + MINUTE, "x runs next at 2023-11-14T23:15:00+01:00, in 1m"),
        (None, NOW + MINUTE, NOW + 65_000, "x runs next at 2023-11-14T23:15:00+01:00, 5s later by its jitter, in 1m5s"),
        (None, NOW, NOW, "x runs next at 2023-11-14T23:14:00+01:00, now"),
    ],
)  # fmt: skip
def test_the_next_run_has_a_sentence(rest: str | None, next_ms: int | None, fires_ms: int | None, said: str) -> None:
    assert schedule_words.next_run("x", rest, next_ms, fires_ms, NOW, BERLIN) == said


@pytest.mark.parametrize(
    ("outcome", "facts", "said"),
    [
        (None, {}, "nothing has been due yet"),
        ("fired", {"state": "completed"}, "last it ran for D: job 7, which is completed"),
        ("fired", {"state": None}, "last it ran for D: job 7, which is gone by now"),
        ("skipped", {"reason": "job 7 has not ended"}, "the last due time did not run, as job 7 has not ended"),
        ("missed", {}, "the last due time was missed and not made up for"),
        ("waiting", {}, "the last due time waits for the end of the job before it"),
        ("failed", {"reason": "there is no queue k"}, "the last due time could not run: there is no queue k"),
    ],
)
def test_what_happened_last_has_a_sentence(outcome: str | None, facts: dict[str, str | None], said: str) -> None:
    shown = {"due": "D", "job": 7, "state": None, "reason": None, **facts}
    assert schedule_words.last_run(outcome, shown) == said
