"""OTP's own rules: who is restarted, who goes along, in which order, and how often."""

from __future__ import annotations

import pytest

from supervisor.tree.commands import Halted, Halting, Start
from supervisor.tree.events import Exited, Halt, Ready, Recycle
from supervisor.tree.model import (
    ChildSpec,
    CircuitState,
    CrashLoop,
    Ending,
    GroupSpec,
    Restart,
    Status,
    Strategy,
    plant,
)
from tests.support.otp_cases import CASES, Case
from tests.support.tree_drive import Drive, a_group, killed, started, stopped


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_what_an_exit_leads_to(case: Case) -> None:
    children = tuple(
        ChildSpec(name, Restart(case.restart) if name == "b" else Restart.PERMANENT, tier=at)
        for at, name in enumerate("abc")
    )
    drive = Drive(GroupSpec("g", children, Strategy(case.strategy)))
    drive.tick()
    led_to = drive.dies("b", Ending(case.ending))
    assert (stopped(led_to), started(led_to)) == (case.stops, case.starts)
    assert (drive["b"].status is Status.READY) == ("b" in case.starts)


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_a_temporary_sibling_is_stopped_along_but_never_restarted(strategy: str) -> None:
    children = (ChildSpec("a", tier=0), ChildSpec("b", Restart.TEMPORARY, tier=1))
    drive = Drive(GroupSpec("g", children, Strategy(strategy)))
    drive.tick()
    led_to = drive.dies("a")
    assert (stopped(led_to), started(led_to)) == ("b", "a")


def test_children_start_one_after_another_in_the_order_given() -> None:
    drive = Drive(a_group(), obedient=False)
    assert started(drive.tick()) == "a"
    assert started(drive.ready("a")) == "b"
    assert started(drive.ready("b")) == "c"
    assert started(drive.ready("c")) == ""


def test_children_of_one_tier_start_side_by_side() -> None:
    drive = Drive(a_group(tiers=False), obedient=False)
    assert started(drive.tick()) == "abc"


def test_children_stop_one_after_another_in_reverse_order() -> None:
    drive = Drive(a_group())
    drive.tick()
    drive.obedient = False
    assert stopped(drive.send(Halt())) == "c"
    assert stopped(drive.dies("c", Ending.ORDERED)) == "b"
    assert stopped(drive.dies("b", Ending.ORDERED)) == "a"
    assert drive.dies("a", Ending.ORDERED) == [Halted(0, "")]


def test_siblings_that_go_along_are_all_down_before_the_first_starts() -> None:
    drive = Drive(a_group(strategy="one_for_all", tiers=False))
    drive.tick()
    drive.obedient = False
    assert stopped(drive.dies("b")) == "ca"
    assert started(drive.dies("c", Ending.ORDERED)) == ""
    assert started(drive.dies("a", Ending.ORDERED)) == "abc"


def test_a_sibling_that_is_being_recycled_is_not_asked_to_stop_twice() -> None:
    drive = Drive(a_group("ab", strategy="one_for_all"))
    drive.tick()
    drive.obedient = False
    assert stopped(drive.send(Recycle("b", drive.run("b")))) == "b"
    assert stopped(drive.dies("a")) == ""
    assert started(drive.dies("b", Ending.ORDERED)) == "a"


def test_as_many_deaths_as_the_intensity_allows_change_nothing() -> None:
    drive = Drive(a_group("a", intensity=3, period_ms=60_000))
    drive.tick()
    for _ in range(3):
        drive.dies("a")
        drive.sleep(1_000)
    assert drive.tree.group("g").circuit is CircuitState.CLOSED
    assert drive["a"].status is Status.READY


def test_one_death_more_than_the_intensity_allows_acts() -> None:
    drive = Drive(a_group("a", intensity=3, period_ms=60_000))
    drive.tick()
    for _ in range(4):
        drive.dies("a")
        drive.sleep(1_000)
    assert drive.tree.group("g").circuit is CircuitState.OPEN
    assert drive["a"].status is Status.DOWN


def test_no_death_is_allowed_when_the_intensity_is_zero() -> None:
    drive = Drive(a_group("a", intensity=0))
    drive.tick()
    drive.dies("a")
    assert drive.tree.group("g").circuit is CircuitState.OPEN


@pytest.mark.parametrize(("age_ms", "circuit"), [(9_999, CircuitState.OPEN), (10_000, CircuitState.CLOSED)])
def test_deaths_older_than_the_period_are_forgotten(age_ms: int, circuit: CircuitState) -> None:
    drive = Drive(a_group("a", intensity=1, period_ms=10_000))
    drive.tick()
    drive.dies("a")
    drive.sleep(age_ms)
    drive.dies("a")
    assert drive.tree.group("g").circuit is circuit


def test_the_deaths_of_all_children_of_a_group_add_up() -> None:
    drive = Drive(a_group("ab", intensity=1), a_group("z", id="other", intensity=1))
    drive.tick()
    drive.dies("a")
    drive.dies("z")
    assert drive.tree.group("g").circuit is CircuitState.CLOSED
    drive.dies("b")
    assert drive.tree.group("g").circuit is CircuitState.OPEN
    assert drive.tree.group("other").circuit is CircuitState.CLOSED


def test_escalation_stops_the_whole_tree_in_reverse_order_and_ends_it_with_1() -> None:
    keeper = a_group("k", id="keeper", intensity=0, on_crash_loop=CrashLoop.ESCALATE)
    pool = GroupSpec("pool", (ChildSpec("p", tier=1),))
    drive = Drive(keeper, pool)
    drive.tick()
    led_to = drive.dies("k", reason="died of signal 9", status=7)
    assert led_to[0] == Halting(1, "keeper: died of signal 9", urgent=False)
    assert stopped(led_to) == "p"
    assert led_to[-1] == Halted(1, "keeper: died of signal 9")
    assert started(led_to) == ""


def test_a_final_exit_escalates_with_its_own_status() -> None:
    drive = Drive(a_group("k", on_crash_loop=CrashLoop.ESCALATE))
    drive.tick()
    assert drive.dies("k", final=True, status=78, reason="newer")[-1] == Halted(78, "g: newer")


def test_two_children_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="unique"):
        plant((a_group("aa"),))


def test_a_group_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        plant(()).group("g")


def test_news_of_an_earlier_process_changes_nothing() -> None:
    drive = Drive(a_group("a"), obedient=False)
    drive.tick()
    drive.ready("a")
    drive.dies("a")
    before = drive.tree
    assert before.child("a").run == 2
    for stale in (Exited("a", 1, Ending.FAILED), Ready("a", 1), Ready("nobody", 1), Exited("nobody", 1, Ending.KILLED)):
        assert drive.send(stale) == []
        assert drive.tree == before


def test_a_start_under_way_is_not_ordered_again() -> None:
    drive = Drive(a_group("a"), obedient=False)
    assert drive.tick() == [Start("a", 1)]
    assert drive.tick() == []
    assert killed(drive.sleep(1_000)) == ""
