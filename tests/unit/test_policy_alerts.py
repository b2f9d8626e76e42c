"""What is told of many events: few messages, whose counts add up; conditions begin and end once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.policy.alerts import (
    CONDITIONS,
    DETAIL_MAX,
    GATHER_MS,
    KINDS,
    MINUTE_MS,
    MORE,
    RETRY_MS,
    SAMPLES_MAX,
    TEST,
    Desk,
    Message,
    Open,
    summary,
)

GROUP_MS = 10_000
WALL = 1_000_000


def a_desk(limit: int = 10) -> Desk:
    return Desk(GROUP_MS, limit)


def died(desk: Desk, now_ms: int, job: int = 1, queue: str = "q", **facts: Any) -> None:
    desk.happened("dead", queue, WALL + now_ms, now_ms, job=job, **facts)


def look(desk: Desk, now_ms: int, detail: str | None, kind: str = "circuit", queue: str | None = "q") -> None:
    desk.look(kind, queue, detail, WALL + now_ms, now_ms)


def gist(messages: list[Message]) -> list[tuple[str, str, str | None, int, int]]:
    return [(one.kind, one.state, one.queue, one.events, one.more) for one in messages]


# --- events -------------------------------------------------------------------------------------------------


def test_events_of_a_second_become_one_message() -> None:
    desk = a_desk()
    for number in range(8):
        died(desk, number * 100, job=number + 1, detail=f"error {number}")
    assert desk.next_ms(0) == GATHER_MS
    assert desk.due(GATHER_MS - 1) == []
    (message,) = desk.due(GATHER_MS)
    assert message == Message("dead", "event", "q", 8, (1, 2, 3, 4, 5), WALL, WALL + 700, "error 7")
    assert len(message.ids) == SAMPLES_MAX
    assert desk.next_ms(GATHER_MS) is None


def test_after_a_message_the_next_events_are_gathered_for_the_group() -> None:
    desk = a_desk()
    died(desk, 0)
    assert len(desk.due(1_000)) == 1
    died(desk, 1_500)
    died(desk, 9_000)
    assert desk.next_ms(9_000) == 11_000
    assert desk.due(10_999) == []
    assert gist(desk.due(11_000)) == [("dead", "event", "q", 2, 0)]
    died(desk, 40_000)
    assert desk.next_ms(40_000) == 41_000


def test_kinds_and_queues_are_told_apart() -> None:
    desk = a_desk()
    died(desk, 0, queue="a")
    died(desk, 1, queue="b")
    desk.happened("missed", "a", WALL, 2, detail="nightly", count=3)
    desk.happened("reload", None, WALL, 3)
    assert gist(desk.due(2_000)) == [
        ("dead", "event", "a", 1, 0),
        ("dead", "event", "b", 1, 0),
        ("missed", "event", "a", 3, 0),
        ("reload", "event", None, 1, 0),
    ]


def test_what_is_beyond_the_limit_is_counted_and_told_in_the_next_message() -> None:
    desk = a_desk(limit=2)
    for number in range(5):
        died(desk, number, queue=f"q{number}")
    assert gist(desk.due(2_000)) == [("dead", "event", "q0", 1, 0), ("dead", "event", "q1", 1, 0)]
    assert desk.suppressed == 3
    died(desk, 62_000, queue="q9")
    (message,) = desk.due(63_000)
    assert gist([message]) == [("dead", "event", "q9", 1, 3)]
    assert message.left_out == {"dead": 3}


def test_what_was_left_out_is_told_by_itself_if_nothing_else_happens() -> None:
    desk = a_desk(limit=1)
    for number in range(4):
        died(desk, number, queue=f"q{number}")
    assert len(desk.due(2_000)) == 1
    assert desk.next_ms(2_000) == 2_000 + MINUTE_MS
    assert desk.due(2_000 + MINUTE_MS - 1) == []
    assert gist(desk.due(2_000 + MINUTE_MS)) == [(MORE, "event", None, 0, 3)]
    assert desk.next_ms(200_000) is None


def test_what_was_left_out_waits_for_company_as_long_as_the_group() -> None:
    desk = Desk(90_000, 1)
    died(desk, 0, queue="a")
    died(desk, 0, queue="b")
    desk.due(1_000)
    assert desk.next_ms(1_000) == 91_000
    assert desk.due(90_999) == []
    assert gist(desk.due(91_000)) == [(MORE, "event", None, 0, 1)]


def test_details_are_cut() -> None:
    desk = a_desk()
    died(desk, 0, detail="x" * 10_000)
    assert desk.due(1_000)[0].detail == "x" * DETAIL_MAX


def test_in_a_hurry_everything_is_told_at_once() -> None:
    desk = a_desk(limit=10)
    look(desk, 0, "down", queue="steady")
    desk.due(1_000)
    died(desk, 1_000)
    look(desk, 1_000, "broken")
    desk.hurry(1_001)
    assert [one.kind for one in desk.due(1_001)] == ["circuit", "dead"]


@given(
    limit=st.integers(1, 12),
    steps=st.lists(
        st.tuples(st.integers(0, 4_000), st.sampled_from("abcd"), st.integers(1, 50), st.booleans()), max_size=80
    ),
)
def test_counts_add_up_and_no_minute_has_too_many(limit: int, steps: list[tuple[int, str, int, bool]]) -> None:
    desk = a_desk(limit)
    now_ms, total, told, failed = 0, 0, 0, 0
    sent: list[int] = []

    def tell() -> None:
        nonlocal told, failed
        for message in desk.due(now_ms):
            sent.append(now_ms)
            if failing and message.kind != MORE:
                failed += 1
                desk.returned(message, now_ms)
            else:
                told += message.events + message.more

    failing = False
    for wait_ms, queue, count, fails in steps:
        failing = fails
        now_ms += wait_ms
        desk.happened("dead", queue, now_ms, now_ms, count=count)
        total += count
        tell()
    failing = False
    while (next_ms := desk.next_ms(now_ms)) is not None:
        now_ms = max(now_ms + 1, next_ms)
        tell()
    assert told == total
    for at in sent:
        assert sum(1 for other in sent if at - MINUTE_MS < other <= at) <= limit


def test_ten_thousand_deaths_in_a_minute_are_at_most_ten_messages() -> None:
    desk = a_desk(limit=10)
    messages: list[Message] = []
    for number in range(10_000):
        now_ms = number * 6
        died(desk, now_ms, job=number, queue=f"q{number % 3}")
        messages += desk.due(now_ms)
    assert len(messages) <= 10
    now_ms = 60_000
    while (next_ms := desk.next_ms(now_ms)) is not None:
        now_ms = max(now_ms + 1, next_ms)
        messages += desk.due(now_ms)
    assert sum(one.events + one.more for one in messages) == 10_000


# --- conditions ---------------------------------------------------------------------------------------------


def test_a_condition_is_told_when_it_begins_and_when_it_ends() -> None:
    desk = a_desk()
    look(desk, 0, "first reason")
    look(desk, 500, "newer reason")
    assert desk.due(999) == []
    (began,) = desk.due(1_000)
    assert began == Message("circuit", "open", "q", 1, (), WALL, WALL, "newer reason")
    assert desk.open() == [Open("circuit", "q", WALL)]
    look(desk, 60_000, "newer reason")
    assert desk.next_ms(60_000) is None
    look(desk, 90_000, None)
    (ended,) = desk.due(91_000)
    assert ended == Message("circuit", "recovered", "q", 1, (), WALL, WALL + 90_000, "newer reason")
    assert desk.open() == []


def test_what_does_not_hold_is_nothing() -> None:
    desk = a_desk()
    look(desk, 0, None)
    assert desk.next_ms(0) is None


def test_a_condition_that_is_over_before_it_was_told_is_nothing() -> None:
    desk = a_desk()
    look(desk, 0, "for a moment")
    look(desk, 900, None)
    assert desk.due(5_000) == []
    look(desk, 6_000, "again")
    (message,) = desk.due(7_000)
    assert message.first_at_ms == WALL + 6_000


def test_a_flapping_condition_is_told_once_in_a_group_and_only_if_it_changed() -> None:
    desk = a_desk()
    look(desk, 0, "x")
    told = desk.due(1_000)
    for now_ms in range(1_100, 20_000, 100):
        look(desk, now_ms, None if now_ms // 100 % 2 else "x")
        told += desk.due(now_ms)
    assert [one.state for one in told] == ["open"]
    look(desk, 20_000, None)
    assert [one.state for one in desk.due(21_000)] == ["recovered"]
    look(desk, 21_500, "x")
    assert desk.next_ms(21_500) == 31_000
    assert [one.state for one in desk.due(31_000)] == ["open"]


def test_conditions_wait_for_room_while_events_are_left_out() -> None:
    desk = a_desk(limit=5)
    for number in range(10):
        died(desk, 0, queue=f"q{number}")
    assert len(desk.due(1_000)) == 4, "one place in five is kept for conditions"
    look(desk, 2_000, "full", "disk", None)
    look(desk, 2_100, "down", "store", None)
    assert [one.kind for one in desk.due(4_000)] == ["disk"]
    assert desk.next_ms(4_000) == 61_000
    assert desk.due(60_999) == []
    assert next(one.kind for one in desk.due(61_000)) == "store"


def test_conditions_that_left_the_configuration_are_forgotten() -> None:
    desk = a_desk()
    for queue in ("a", "b"):
        look(desk, 0, "x", queue=queue)
    look(desk, 0, "x", "disk", None)
    look(desk, 0, "x", "store", None)
    desk.keep({"a"}.__contains__, {"circuit", "store"})
    assert {(one.kind, one.queue) for one in desk.due(1_000)} == {("circuit", "a"), ("store", None)}


# --- what could not be told ---------------------------------------------------------------------------------


def test_a_condition_that_reached_nobody_is_told_again_while_it_holds() -> None:
    desk = a_desk()
    look(desk, 0, "x")
    (message,) = desk.due(1_000)
    desk.returned(message, 2_000)
    assert desk.open() == []
    assert desk.next_ms(2_000) == 2_000 + RETRY_MS
    assert gist(desk.due(2_000 + RETRY_MS)) == gist([message])


def test_a_condition_that_reached_nobody_and_is_over_is_told_no_more() -> None:
    desk = a_desk()
    look(desk, 0, "x")
    (message,) = desk.due(1_000)
    look(desk, 1_500, None)
    desk.returned(message, 2_000)
    assert desk.due(200_000) == []
    desk.returned(message, 200_000)
    assert desk.next_ms(200_000) is None


def test_an_end_that_reached_nobody_is_told_again() -> None:
    desk = a_desk()
    look(desk, 0, "x")
    desk.due(1_000)
    look(desk, 20_000, None)
    (ended,) = desk.due(21_000)
    desk.due(40_000)
    desk.returned(ended, 50_000)
    assert desk.open() == [Open("circuit", "q", WALL)]
    (again,) = desk.due(50_000 + RETRY_MS)
    assert (again.state, again.first_at_ms, again.last_at_ms) == ("recovered", WALL, WALL + 20_000)


def test_an_end_that_reached_nobody_is_nothing_if_it_holds_again() -> None:
    desk = a_desk()
    look(desk, 0, "x")
    desk.due(1_000)
    look(desk, 20_000, None)
    (ended,) = desk.due(21_000)
    look(desk, 21_500, "y")
    desk.returned(ended, 22_000)
    assert desk.due(500_000) == []
    assert desk.open() == [Open("circuit", "q", WALL + 21_500)]


def test_events_that_reached_nobody_are_counted_in_the_next_message() -> None:
    desk = a_desk()
    died(desk, 0)
    died(desk, 1)
    (message,) = desk.due(1_000)
    desk.returned(message, 2_000)
    assert desk.next_ms(2_000) == 2_000 + RETRY_MS
    (rest,) = desk.due(2_000 + RETRY_MS)
    assert gist([rest]) == [(MORE, "event", None, 0, 2)]
    desk.returned(rest, 70_000)
    died(desk, 71_000)
    assert gist(desk.due(72_000)) == [("dead", "event", "q", 1, 2)]


# --- successors ---------------------------------------------------------------------------------------------


def test_a_successor_tells_neither_the_same_again_nor_too_much() -> None:
    before = a_desk(limit=3)
    look(before, 0, "x", queue="holds")
    look(before, 0, "x", queue="ended")
    look(before, 0, "x", queue="unseen")
    before.due(1_000)
    desk = a_desk(limit=3)
    look(desk, 2_000, "x", queue="holds")
    look(desk, 2_000, "x", queue="ended")
    look(desk, 2_100, None, queue="ended")
    desk.recall(before.open(), before.sent_ms)
    assert desk.due(3_200) == [], "there were three messages in this minute"
    (message,) = desk.due(61_000)
    assert (message.state, message.queue, message.first_at_ms) == ("recovered", "ended", WALL)
    assert {one.queue for one in desk.open()} == {"holds", "unseen"}


# --- words --------------------------------------------------------------------------------------------------


def a_message(kind: str, state: Any = "event", **facts: Any) -> Message:
    queue = None if kind in ("disk", "store", "reload", MORE, TEST) else "emails"
    known = {"queue": queue, "events": 1, "ids": (7,), "first_at_ms": 0, "last_at_ms": 3_661_234, "detail": "why"}
    return Message(kind, state, **(known | facts))


@pytest.mark.parametrize("kind", [*KINDS, MORE, TEST])
def test_there_are_words_for_every_kind(kind: str) -> None:
    states = ("open", "recovered") if kind in CONDITIONS else ("event",)
    for state in states:
        text = summary(a_message(kind, state))
        assert text[0].isalpha()
        assert "{" not in text
        assert ("emails" in text) == (kind not in ("disk", "store", "reload", MORE, TEST))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (a_message("dead"), "job 7 of emails is dead: why"),
        (a_message("dead", events=1_234, ids=(7, 8)), "1,234 jobs of emails are dead, such as 7, 8: why"),
        (a_message("dead", left_out={"dead": 9_000, "missed": 983}), "job 7 of emails is dead: why; and 9,983 more"),
        (a_message("circuit", "recovered"), "the pool of emails works again, after 1h1m1s"),
        (a_message("store", "recovered", last_at_ms=-5), "the database can be written again, after 0s"),
        (
            a_message(MORE, left_out={"missed": 1, "dead": 9_983}),
            "events were left out of earlier messages: 9,983 dead, 1 missed",
        ),
        (
            a_message("reload", events=8),
            "8 times, the last time: a reload was refused, the old configuration stays: why",
        ),
        (a_message("dead", detail="{detail} {0}"), "job 7 of emails is dead: {detail} {0}"),
    ],
)
def test_what_people_read(message: Message, expected: str) -> None:
    assert summary(message) == expected
