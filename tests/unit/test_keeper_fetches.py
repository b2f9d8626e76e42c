"""What the keeper remembers of consumers: who is first, who is over, who is gone, and how many there may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from supervisor.errors import Busy, JobsupError
from supervisor.keeper import fetches
from supervisor.keeper.fetches import NOTHING, Fetching, Lending
from supervisor.wire import messages
from supervisor.wire.connection import Peer


class FakeConnection:
    """A connection, as far as a fetch looks at it; what is promised to be done should it end is in `lost`."""

    def __init__(self) -> None:
        self.closed = False
        self.peer = Peer(42, 0, 0)
        self.lost: list[Callable[[], None]] = []

    def if_lost(self, call: Callable[[], None]) -> None:
        self.lost.append(call)

    def end(self) -> None:
        """Before what it was told last has reached anybody."""
        self.lost.pop()()


def a_fetch(
    queue: str = "q", over_ms: int = 1_000, consumer: str | None = None, key: str | None = None
) -> tuple[Fetching, list[Any]]:
    told: list[Any] = []
    request = messages.Fetch(v=1, id=1, queue=queue, consumer=consumer, key=key)

    def reply(shown: Any) -> bool:
        told.append(shown)
        return True

    def refuse(error: JobsupError) -> None:
        told.append(error)

    connection: Any = FakeConnection()
    return Fetching(connection, request, "", reply, refuse, over_ms), told


def waiting(lending: Lending, *fetches_: Fetching) -> None:
    """As a pass does with those that are fresh."""
    for fetch in fetches_:
        lending.add(fetch, 0)
        lending.wait(fetch)
    lending.fresh.clear()


def test_whoever_has_waited_longest_is_first_and_whoever_is_gone_is_passed_over() -> None:
    lending = Lending()
    (gone, _), (second, _), (third, _) = a_fetch(), a_fetch(), a_fetch()
    waiting(lending, gone, second, third)
    gone.connection.closed = True
    assert lending.first("q") is second
    lending.leave(second)
    assert lending.first("q") is third
    lending.wait(second, first=True)
    assert lending.first("q") is second
    assert lending.first("other") is None


def test_a_fetch_whose_time_is_over_is_answered_with_nothing_once() -> None:
    lending = Lending()
    (early, told), (late, untold) = a_fetch(over_ms=100), a_fetch(over_ms=200)
    waiting(lending, early, late)
    assert lending.next_ms == 100
    lending.end(150)
    lending.end(150)
    assert (told, untold) == ([NOTHING], [])
    assert lending.next_ms == 200
    assert list(lending.fetches()) == [late]


def test_queues_take_turns() -> None:
    lending = Lending()
    waiting(lending, a_fetch("a")[0], a_fetch("b")[0])
    assert lending.queues() == ["a", "b"]
    lending.served("a")
    assert lending.queues() == ["b", "a"]


def test_a_consumer_is_named_by_itself_or_by_its_process() -> None:
    assert a_fetch(consumer="cam")[0].name == "cam"
    assert a_fetch()[0].name == "pid 42"


def test_the_newest_deadline_of_a_loan_counts() -> None:
    lending = Lending()
    lending.expect(1, 100)
    lending.expect(1, 300)
    lending.expect(2, 200)
    assert (lending.deadline_ms, lending.over(150), lending.over(200)) == (200, None, 2)
    lending.forget(2)
    assert (lending.deadline_ms, lending.next_ms) == (300, 300)
    lending.forget(1)
    assert lending.deadline_ms is None


def test_earlier_ends_of_a_loan_that_is_extended_again_and_again_do_not_pile_up() -> None:
    """The end of another one comes before all of them, and keeps them from coming up."""
    lending = Lending()
    lending.expect(1, 1_000)
    for extended in range(10_000):
        lending.expect(2, 2_000 + extended)
    assert lending.deadline_ms == 1_000
    assert len(lending._deadlines) <= fetches.SWEEP_MIN
    lending.forget(1)
    assert (lending.deadline_ms, lending.over(20_000)) == (11_999, 2)


def test_those_who_are_gone_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetches, "SWEEP_MIN", 10)
    lending = Lending()
    lending._sweep_at = 10
    for _ in range(500):
        fetch, _ = a_fetch(over_ms=10**9)
        waiting(lending, fetch)
        fetch.connection.closed = True
    assert len(lending._ends) <= 20
    assert sum(map(len, lending._waiting.values())) <= 20


def test_no_more_may_wait_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetches, "FETCHES_MAX", 3)
    lending = Lending()
    kept = [a_fetch()[0] for _ in range(3)]
    waiting(lending, *kept)
    with pytest.raises(Busy):
        lending.add(a_fetch()[0], 0)
    kept[0].connection.closed = True
    lending.add(a_fetch()[0], fetches.LOOK_AGAIN_MS)


def test_who_is_refused_again_and_again_does_not_let_all_be_looked_at_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetches, "FETCHES_MAX", 3)
    lending = Lending()
    waiting(lending, *[a_fetch()[0] for _ in range(3)])
    looked: list[int] = []
    monkeypatch.setattr(lending, "_sweep", lambda: looked.append(1))
    for now_ms in range(1_000):
        with pytest.raises(Busy):
            lending.add(a_fetch()[0], now_ms)
    assert len(looked) == 1_000 // fetches.LOOK_AGAIN_MS


# -- who hears of a loan ---------------------------------------------------------------------------------------------


def hearing(*tokens_told: int, adopted: bool = False) -> tuple[Lending, list[Any]]:
    """A loan of which so many were told, each by a call of his own, and their connections."""
    lending, connections = Lending(), list[Any]()
    if adopted:
        lending.adopt(1, 1_000)
    for count in tokens_told:
        told: list[Any] = [FakeConnection() for _ in range(count)]
        lending.told(1, told)
        connections += told
    return lending, connections


def test_a_loan_of_which_nobody_was_told_is_nobodys() -> None:
    assert hearing(0)[0].undelivered == [1]


@pytest.mark.parametrize("calls", [(1,), (2,), (1, 1), (1, 0, 1)])
def test_a_loan_is_nobodys_when_the_last_who_was_told_is_gone(calls: tuple[int, ...]) -> None:
    lending, connections = hearing(*calls)
    for connection in connections:
        assert lending.undelivered == []
        connection.end()
    assert lending.undelivered == [1]


@pytest.mark.parametrize("adopted", [False, True])
def test_whoever_got_a_loan_keeps_it_when_others_who_were_told_are_gone(adopted: bool) -> None:
    lending, (_got_it, *others) = hearing(*(() if adopted else (1,)), 1, 1, 0, adopted=adopted)
    for connection in others:
        connection.end()
    assert lending.undelivered == []


def test_a_loan_that_is_over_is_not_taken_back() -> None:
    lending, (connection,) = hearing(1)
    lending.forget(1)
    connection.end()
    assert lending.undelivered == []


# -- under one key ---------------------------------------------------------------------------------------------------

LENT = {"token": 1}


def following() -> tuple[Lending, Fetching, list[Any], Fetching, list[Any]]:
    """A fetch that took the place of another."""
    lending = Lending()
    (first, told_first), (second, told_second) = a_fetch(key="k", over_ms=200), a_fetch(key="k", over_ms=100)
    waiting(lending, first, a_fetch()[0])
    assert lending.under("k") is first
    lending.add(second, 0)
    lending.follow(second, first)
    lending.fresh.clear()
    return lending, first, told_first, second, told_second


def test_a_fetch_that_follows_another_has_its_place_alone_and_both_hear_the_same() -> None:
    lending, first, told_first, second, told_second = following()
    assert lending.under("k") is second
    assert first not in list(lending.fetches())
    assert second.tell(LENT)
    assert (told_first, told_second) == ([LENT], [LENT])
    assert first.answered
    lending.leave(second)
    assert lending.under("k") is None


def test_the_earlier_one_is_answered_first() -> None:
    """Over one connection, whoever has withdrawn a fetch knows what it was given when the withdrawal is answered."""
    _, first, _, second, _ = following()
    order: list[str] = []
    first.reply, second.reply = (lambda _: bool(order.append("first"))), (lambda _: bool(order.append("second")))
    assert second.tell(LENT) == [], "neither was sent"
    assert order == ["first", "second"]


def test_when_the_time_of_one_that_follows_is_over_so_is_that_of_the_other() -> None:
    lending, _, told_first, _, told_second = following()
    lending.end(150)
    lending.end(300)
    assert (told_first, told_second) == ([NOTHING], [NOTHING])
    assert lending.under("k") is None


def test_an_earlier_fetch_that_is_over_is_answered_by_itself() -> None:
    _, first, told_first, second, told_second = following()
    first.answered = True
    assert second.tell(LENT)
    assert (told_first, told_second) == ([], [LENT])


def test_a_pass_that_fails_leaves_the_earlier_fetch_in_line() -> None:
    lending = Lending()
    (first, _), (second, _) = a_fetch(key="k"), a_fetch(key="k")
    waiting(lending, first)
    lending.follow(second, first)()
    assert (lending.under("k"), second.earlier) == (first, None)
    assert list(lending.fetches()) == [first]


def test_one_of_the_two_may_be_gone() -> None:
    _, first, told_first, second, told_second = following()
    second.connection.closed = True
    assert not second.idle
    assert second.tell(LENT)
    assert (told_first, told_second) == ([LENT], [])
    _, first, told_first, second, told_second = following()
    first.connection.closed = second.connection.closed = True
    assert second.idle
    assert not second.tell(LENT)
    assert (told_first, told_second) == ([], [])


def test_both_are_turned_away() -> None:
    _, _, told_first, second, told_second = following()
    second.turn_away(Busy("no"))
    assert [str(told[0]) for told in (told_first, told_second)] == ["no", "no"]
