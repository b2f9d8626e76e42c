"""Circuits: opened by deaths, probed with growing delay, closed by proof."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor.tree.commands import CircuitChanged
from supervisor.tree.deadlines import next_deadline_ms
from supervisor.tree.events import Halt, Probe, Worked
from supervisor.tree.groups import settled
from supervisor.tree.model import CircuitState, Ending, Goal, Restart, Status
from tests.support.tree_drive import Drive, a_group, started, stopped


def tripped(names: str = "ab", **fields: object) -> Drive:
    """A drive whose child `a` has just opened the circuit."""
    drive = Drive(a_group(names, **{"intensity": 0, "tiers": False, "proven_ms": 10_000} | fields))
    drive.tick()
    drive.dies("a", reason="exit status 3")
    return drive


def test_an_open_circuit_says_why() -> None:
    assert CircuitChanged("g", CircuitState.OPEN, "exit status 3") in tripped().said


def test_children_that_run_go_on_under_an_open_circuit() -> None:
    drive = tripped()
    assert stopped(drive.said) == ""
    assert drive["b"].status is Status.READY
    assert drive["a"].goal is Goal.HELD


def test_in_a_coupled_group_an_open_circuit_stops_all() -> None:
    drive = tripped(strategy="one_for_all")
    assert stopped(drive.said) == "b"
    assert {child.goal for child in drive.tree.children} == {Goal.HELD}


def test_a_child_that_dies_under_an_open_circuit_is_held_too() -> None:
    drive = tripped()
    assert drive.dies("b") == []
    assert drive["b"].goal is Goal.HELD


def test_a_child_that_dies_excused_under_an_open_circuit_is_replaced() -> None:
    assert started(tripped().dies("b", excused=True)) == "b"


def test_an_open_circuit_is_probed_with_one_child() -> None:
    drive = tripped("abc")
    drive.dies("b")
    assert drive.sleep(4_999) == []
    probed = drive.sleep(1)
    assert started(probed) == "a"
    assert CircuitChanged("g", CircuitState.PROBING, "exit status 3") in probed
    assert drive["b"].status is Status.DOWN


def test_a_coupled_group_is_probed_as_a_whole() -> None:
    assert started(tripped(strategy="one_for_all").sleep(5_000)) == "ab"


def test_a_probe_that_fails_makes_the_next_wait_longer() -> None:
    drive = tripped()
    waits = []
    for _ in range(5):
        waits.append(drive.tree.group("g").until_ms - drive.now_ms)
        drive.sleep(waits[-1])
        assert drive.tree.group("g").circuit is CircuitState.PROBING
        drive.dies("a")
    assert waits == [5_000, 10_000, 20_000, 40_000, 60_000]


def test_a_probe_that_works_closes_the_circuit_at_once() -> None:
    drive = tripped()
    drive.dies("b")
    drive.sleep(5_000)
    led_to = drive.send(Worked("a", drive.run("a")))
    assert CircuitChanged("g", CircuitState.CLOSED, "") in led_to
    assert started(led_to) == "b"


def test_a_probe_that_lasts_closes_the_circuit() -> None:
    drive = tripped()
    drive.sleep(5_000)
    drive.sleep(9_999)
    assert drive.tree.group("g").circuit is CircuitState.PROBING
    drive.sleep(1)
    assert drive.tree.group("g").circuit is CircuitState.CLOSED
    assert drive.tree.group("g").deaths == ()


def test_what_was_running_before_the_probe_proves_nothing() -> None:
    drive = tripped()
    drive.obedient = False
    drive.sleep(5_000)
    drive.send(Worked("b", 1))
    assert drive.tree.group("g").circuit is CircuitState.PROBING


def test_work_of_an_earlier_process_proves_nothing() -> None:
    drive = tripped()
    drive.sleep(5_000)
    drive.send(Worked("a", 1))
    assert drive.tree.group("g").circuit is CircuitState.PROBING


def test_a_circuit_that_holds_nobody_closes_when_its_time_is_over() -> None:
    drive = tripped("ab")
    drive.tree = replace(drive.tree, children=drive.tree.children[1:])
    assert CircuitChanged("g", CircuitState.CLOSED, "") in drive.sleep(5_000)


def test_where_the_probe_ends_for_good_another_takes_its_place() -> None:
    drive = tripped("ab", child={"restart": Restart.TRANSIENT})
    drive.dies("b")
    drive.sleep(5_000)
    assert started(drive.dies("a", Ending.NORMAL)) == "b"
    drive.dies("b", Ending.NORMAL)
    assert drive.tree.group("g").circuit is CircuitState.CLOSED


def test_after_proof_the_next_opening_begins_with_the_first_delay() -> None:
    drive = tripped()
    drive.sleep(5_000)
    drive.dies("a")
    drive.sleep(10_000)
    drive.send(Worked("a", drive.run("a")))
    drive.dies("a")
    assert drive.tree.group("g").until_ms == drive.now_ms + 5_000


def test_an_open_circuit_can_be_probed_on_request() -> None:
    drive = tripped()
    assert started(drive.send(Probe("g"))) == "a"
    assert drive.send(Probe("g")) == []
    assert drive.send(Probe("nobody")) == []


def test_a_final_exit_opens_the_circuit_whatever_the_intensity() -> None:
    drive = Drive(a_group("a", intensity=100))
    drive.tick()
    drive.dies("a", final=True, reason="ImportError")
    assert drive.tree.group("g").reason == "ImportError"


def test_a_held_child_that_is_still_stopping_starts_again_when_the_probe_wants_it() -> None:
    drive = Drive(a_group("ab", intensity=0, strategy="one_for_all", tiers=False, child={"shutdown_ms": 60_000}))
    drive.tick()
    drive.obedient = False
    drive.dies("a")
    assert drive["b"].status is Status.STOPPING
    assert started(drive.sleep(5_000)) == ""
    assert started(drive.dies("b", Ending.ORDERED)) == "ab"


def test_a_held_child_that_runs_on_is_simply_wanted_again() -> None:
    drive = Drive(a_group("ab", intensity=0, strategy="one_for_all"))
    drive.tick()
    drive.obedient = False
    drive.dies("b", reason="first of all")
    assert stopped(drive.said) == "a"
    drive.dies("a", Ending.FAILED)
    assert drive["a"].goal is Goal.HELD
    assert drive["a"].status is Status.DOWN


def test_the_tree_asks_to_be_woken_for_the_probe_and_for_the_proof() -> None:
    drive = tripped("a")
    assert next_deadline_ms(drive.tree, drive.now_ms) == drive.now_ms + 5_000
    drive.sleep(5_000)
    assert next_deadline_ms(drive.tree, drive.now_ms) == drive.now_ms + 10_000


def test_start_up_is_over_when_all_is_ready_or_its_circuit_is_open() -> None:
    drive = Drive(a_group("ab", tiers=False), obedient=False)
    assert not settled(drive.tree)
    drive.tick()
    drive.ready("b")
    assert not settled(drive.tree)
    drive.dies("a", final=True)
    assert settled(drive.tree)


@pytest.mark.parametrize("moment", ["open", "probing"])
def test_a_halting_tree_probes_nothing(moment: str) -> None:
    drive = tripped()
    drive.obedient = False
    if moment == "probing":
        drive.sleep(5_000)
    drive.send(Halt())
    assert started(drive.sleep(60_000)) == ""


def test_a_probe_that_dies_fails_even_if_the_earlier_deaths_are_forgotten() -> None:
    drive = tripped("a", intensity=1, period_ms=1_000)
    drive.dies("a")
    drive.sleep(5_000)
    assert drive.tree.group("g").circuit is CircuitState.PROBING
    drive.dies("a")
    assert drive.tree.group("g").circuit is CircuitState.OPEN
