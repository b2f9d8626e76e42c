"""Backoff, jitter, which deaths count, and pardons."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor.tree.events import Halt, NotStarted, Pardon
from supervisor.tree.model import CircuitState, CrashLoop, Delays, Ending, Phase, Status
from supervisor.tree.restart import delay_ms, ending_of, excused, restart_delay_ms
from tests.support.tree_drive import Drive, a_group, started


@pytest.mark.parametrize(("nth", "expected"), [(1, 100), (2, 200), (3, 400), (10, 30_000), (10**6, 30_000)])
def test_delays_grow_up_to_their_maximum(nth: int, expected: int) -> None:
    assert delay_ms(Delays(100, 2.0, 30_000, 0.5), nth, chance=0.0) == expected


def test_chance_takes_only_the_part_that_is_left_to_it() -> None:
    assert delay_ms(Delays(1_000, 2.0, 30_000, 0.25), 1, chance=0.999999) == 750


def test_the_first_death_costs_no_delay() -> None:
    delays = Delays(100, 2.0, 30_000, 0.0)
    assert [restart_delay_ms(delays, strikes, 0.5) for strikes in (1, 2, 3)] == [0, 100, 200]


@pytest.mark.parametrize(
    ("exit_code", "ordered", "ending"),
    [
        (0, False, "normal"),
        (1, False, "failed"),
        (None, False, "killed"),
        (0, True, "ordered"),
        (None, True, "ordered"),
    ],
)
def test_endings(exit_code: int | None, ordered: bool, ending: str) -> None:
    assert ending_of(exit_code, ordered=ordered) is Ending(ending)


def test_a_death_is_excused_by_finished_work_or_by_our_own_doing() -> None:
    table = {(work, ordered): excused(finished_a_job=work, ordered=ordered) for work in (0, 1) for ordered in (0, 1)}
    assert table == {(0, 0): False, (0, 1): True, (1, 0): True, (1, 1): True}


def test_excused_deaths_are_never_counted_and_never_delayed() -> None:
    drive = Drive(a_group("a", intensity=0))
    drive.tick()
    for _ in range(50):
        assert started(drive.dies("a", excused=True)) == "a"
    assert drive.tree.group("g").deaths == ()


def test_counted_deaths_in_a_row_wait_longer_each_time() -> None:
    drive = Drive(a_group("a", intensity=100))
    drive.tick()
    waits = []
    for _ in range(5):
        drive.dies("a")
        waits.append(drive["a"].due_ms - drive.now_ms)
        drive.sleep(waits[-1])
    assert waits == [0, 100, 200, 400, 800]


@pytest.mark.parametrize(("healthy_ms", "wait_ms"), [(9_999, 200), (10_000, 0)])
def test_having_been_ready_for_long_enough_starts_the_row_anew(healthy_ms: int, wait_ms: int) -> None:
    drive = Drive(a_group("a", intensity=100, proven_ms=10_000))
    drive.tick()
    drive.dies("a")
    drive.dies("a")
    drive.sleep(100)
    drive.sleep(healthy_ms)
    drive.dies("a")
    assert drive["a"].due_ms - drive.now_ms == wait_ms


def test_an_excused_death_starts_the_row_anew() -> None:
    drive = Drive(a_group("a", intensity=100))
    drive.tick()
    drive.dies("a")
    drive.dies("a", excused=True)
    drive.dies("a")
    assert drive["a"].due_ms == drive.now_ms


def test_siblings_that_go_along_wait_as_long_as_the_dead_one() -> None:
    drive = Drive(a_group("ab", strategy="one_for_all", intensity=100))
    drive.tick()
    drive.dies("b")
    assert started(drive.dies("b")) == ""
    assert started(drive.sleep(99)) == ""
    assert started(drive.sleep(1)) == "ab"


def test_a_sibling_that_waits_already_waits_at_least_as_long() -> None:
    drive = Drive(a_group("abc", strategy="rest_for_one", intensity=100, tiers=False))
    drive.tick()
    drive.dies("c")
    drive.dies("c")
    due_ms = drive["c"].due_ms
    drive.dies("b")
    assert drive["c"].due_ms == due_ms
    assert drive["c"].status is Status.DOWN
    assert started(drive.sleep(100)) == "c"


def test_a_pardoned_death_is_not_counted_and_its_delay_ends() -> None:
    drive = Drive(a_group("a", intensity=100))
    drive.tick()
    drive.dies("a")
    assert started(drive.dies("a")) == ""
    assert started(drive.send(Pardon("a", 2))) == "a"
    assert [death.run for death in drive.tree.group("g").deaths] == [1]
    assert drive["a"].strikes == 1


def test_a_pardon_closes_the_circuit_that_the_death_had_opened() -> None:
    drive = Drive(a_group("ab", intensity=1, tiers=False))
    drive.tick()
    drive.dies("a")
    run = drive.run("b")
    drive.dies("b")
    assert drive.tree.group("g").circuit is CircuitState.OPEN
    assert started(drive.send(Pardon("b", run))) == "b"
    assert drive.tree.group("g").circuit is CircuitState.CLOSED


def test_a_pardon_of_another_death_leaves_the_circuit_open() -> None:
    drive = Drive(a_group("ab", intensity=1, tiers=False))
    drive.tick()
    drive.dies("a")
    drive.dies("b")
    drive.send(Pardon("a", 1))
    assert drive.tree.group("g").circuit is CircuitState.OPEN


def test_the_circuit_closes_when_every_death_that_kept_it_open_is_pardoned() -> None:
    drive = Drive(a_group("ab", intensity=0, tiers=False))
    drive.tick()
    runs = {name: drive.run(name) for name in "ab"}
    drive.dies("a")
    drive.dies("b")
    drive.send(Pardon("a", runs["a"]))
    assert drive.tree.group("g").circuit is CircuitState.OPEN
    assert started(drive.send(Pardon("b", runs["b"]))) == "ab"


def test_a_pardon_that_comes_when_the_child_has_left_only_closes_the_circuit() -> None:
    both = a_group("ab", intensity=0, tiers=False)
    drive = Drive(both)
    drive.tick()
    drive.dies("a")
    group = drive.tree.group("g")
    drive.tree = replace(drive.tree, children=drive.tree.children[1:])
    drive.send(Pardon("a", 1))
    assert group.circuit is CircuitState.OPEN
    assert drive.tree.group("g").circuit is CircuitState.CLOSED


def test_a_pardon_of_what_was_not_counted_changes_nothing() -> None:
    drive = Drive(a_group("a"))
    drive.tick()
    drive.dies("a", excused=True)
    before = drive.tree
    for stale in (Pardon("a", 1), Pardon("nobody", 1)):
        assert drive.send(stale) == []
        assert drive.tree == before


def test_a_child_that_cannot_be_forked_is_tried_again_later() -> None:
    drive = Drive(a_group("a", intensity=100), obedient=False)
    drive.tick()
    assert started(drive.not_started("a")) == "a"
    assert started(drive.not_started("a")) == ""
    assert started(drive.sleep(100)) == "a"


def test_a_child_that_can_never_be_forked_opens_its_circuit_at_once() -> None:
    drive = Drive(a_group("a", intensity=100), obedient=False)
    drive.tick()
    drive.send(NotStarted("a", 1, "not permitted", final=True))
    assert drive.tree.group("g").circuit is CircuitState.OPEN


def test_a_dead_child_with_something_to_say_sets_the_status_of_a_halting_tree() -> None:
    drive = Drive(a_group("k", on_crash_loop=CrashLoop.ESCALATE))
    drive.tick()
    drive.obedient = False
    drive.send(Halt())
    drive.dies("k", final=True, status=74, reason="3 jobs could not be written")
    assert (drive.tree.status, drive.tree.reason) == (74, "3 jobs could not be written")


def test_what_a_pool_says_at_its_end_does_not_fail_an_orderly_stop() -> None:
    drive = Drive(a_group("a"))
    drive.tick()
    drive.obedient = False
    drive.send(Halt())
    drive.dies("a", final=True, status=1, reason="ImportError")
    assert drive.tree.phase is Phase.HALTED
    assert (drive.tree.status, drive.tree.reason) == (0, "")
