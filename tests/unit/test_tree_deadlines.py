"""Deadlines that OTP lacks or leaves to the child: boot, progress, grace, and what does not die."""

from __future__ import annotations

import pytest

from supervisor.tree.commands import Abandon, Kill, Start, Stop
from supervisor.tree.deadlines import next_deadline_ms
from supervisor.tree.events import Condemn, Halt, Progress, Ready, Recycle, Slept
from supervisor.tree.model import CircuitState, Ending, Phase, Restart, Status
from tests.support.tree_drive import Drive, a_group, abandoned, killed, started, stopped


def ready_drive(**child: object) -> Drive:
    drive = Drive(a_group("a", child=child))
    drive.tick()
    drive.obedient = False
    return drive


def test_a_child_that_is_not_ready_in_time_is_killed_and_opens_its_circuit_where_no_other_is_ready() -> None:
    """Were it only counted, an import that hangs for longer than the period would be tried for ever, and never said."""
    drive = Drive(a_group("a", intensity=5, child={"boot_timeout_ms": 500}), obedient=False)
    drive.tick()
    assert drive.sleep(499) == []
    assert drive.sleep(1) == [Kill("a", 1, "it was not ready within 500ms")]
    drive.dies("a", Ending.ORDERED, excused=True, reason="ended with signal 9")
    group = drive.tree.group("g")
    assert (group.circuit, group.reason) == (CircuitState.OPEN, "it was not ready within 500ms")


def beside_a_ready_one(**fields: object) -> Drive:
    drive = Drive(a_group("ab", tiers=False, **fields), obedient=False)
    drive.tick()
    drive.ready("b")
    drive.sleep(500)
    return drive


def test_beside_a_child_that_is_ready_one_that_is_not_in_time_counts_as_a_death() -> None:
    drive = beside_a_ready_one(intensity=0, child={"boot_timeout_ms": 500})
    drive.dies("a", Ending.ORDERED, excused=True)
    assert drive.tree.group("g").circuit is CircuitState.OPEN
    assert len(drive.tree.group("g").deaths) == 1


def test_a_transient_child_that_missed_its_boot_is_restarted_although_we_killed_it() -> None:
    drive = beside_a_ready_one(child={"boot_timeout_ms": 500, "restart": Restart.TRANSIENT})
    assert drive.dies("a", Ending.ORDERED) == [Start("a", 3)]


def test_a_ready_child_without_progress_is_killed() -> None:
    drive = ready_drive(progress_ms=1_000)
    drive.sleep(900)
    drive.send(Progress("a", 1))
    assert killed(drive.sleep(999)) == ""
    assert drive.sleep(1) == [Kill("a", 1, "it showed no progress for 1s")]


def test_progress_of_an_earlier_process_does_not_help() -> None:
    drive = ready_drive(progress_ms=1_000)
    drive.sleep(900)
    drive.send(Progress("a", 0))
    assert killed(drive.sleep(100)) == "a"


def test_a_child_that_ignores_its_stop_is_killed_when_its_grace_is_over() -> None:
    drive = ready_drive(shutdown_ms=2_000)
    assert stopped(drive.send(Halt())) == "a"
    assert drive.sleep(1_999) == []
    assert drive.sleep(1) == [Kill("a", 1, "it did not stop within its grace")]


def test_a_child_without_grace_is_killed_at_once() -> None:
    drive = ready_drive(shutdown_ms=0)
    assert killed(drive.send(Halt())) == "a"


def test_haste_shortens_the_grace_of_what_is_already_stopping() -> None:
    drive = ready_drive(shutdown_ms=60_000, urgent_ms=1_000)
    drive.send(Halt())
    assert Stop("a", 1, urgent=True) in drive.send(Halt(urgent=True))
    assert drive.send(Halt(urgent=True)) == []
    assert killed(drive.sleep(1_000)) == "a"


def test_haste_never_lengthens_a_grace() -> None:
    drive = ready_drive(shutdown_ms=500, urgent_ms=1_000)
    drive.send(Halt())
    drive.send(Halt(urgent=True))
    assert killed(drive.sleep(500)) == "a"


def test_haste_without_urgent_grace_kills_what_is_already_stopping() -> None:
    drive = ready_drive(shutdown_ms=60_000, urgent_ms=0)
    drive.send(Halt())
    assert killed(drive.send(Halt(urgent=True))) == "a"


def test_a_second_polite_halt_changes_nothing() -> None:
    drive = ready_drive()
    drive.send(Halt(reason="SIGTERM"))
    before = drive.tree
    assert drive.send(Halt(reason="SIGTERM again")) == []
    assert drive.tree == before


def test_what_does_not_die_is_given_up_and_replaced() -> None:
    drive = ready_drive(undead_ms=300)
    drive.send(Condemn("a", 1))
    assert drive.sleep(299) == []
    assert drive.sleep(1) == [Abandon("a", 1), Start("a", 2)]


def test_without_a_bound_what_does_not_die_is_waited_for() -> None:
    drive = ready_drive()
    drive.send(Condemn("a", 1))
    assert drive.sleep(10_000_000) == []
    assert drive["a"].status is Status.KILLING


def test_giving_up_ends_a_halt() -> None:
    drive = ready_drive(shutdown_ms=0, undead_ms=300)
    drive.send(Halt())
    assert abandoned(drive.sleep(300)) == "a"
    assert drive.tree.phase is Phase.HALTED


def test_a_condemned_child_is_killed_once_and_replaced_without_being_counted() -> None:
    drive = Drive(a_group("a", intensity=0), obedient=False)
    drive.tick()
    drive.ready("a")
    assert drive.send(Condemn("a", 1, "past its job's deadline")) == [Kill("a", 1, "past its job's deadline")]
    assert drive.send(Condemn("a", 1)) == []
    assert started(drive.dies("a", Ending.ORDERED, excused=True)) == "a"


def test_a_recycled_child_ends_politely_and_starts_again_uncounted() -> None:
    drive = Drive(a_group("a", intensity=0), obedient=False)
    drive.tick()
    drive.ready("a")
    assert drive.send(Recycle("a", 1)) == [Stop("a", 1)]
    assert drive.send(Recycle("a", 1)) == []
    assert drive.dies("a", Ending.FAILED) == [Start("a", 2)]
    assert drive.tree.group("g").deaths == ()


def test_what_is_asked_to_stop_while_it_boots_is_told_so() -> None:
    drive = Drive(a_group("a"), obedient=False)
    drive.tick()
    assert Stop("a", 1, booting=True) in drive.send(Halt())
    drive.ready("a")
    assert drive["a"].status is Status.STOPPING


@pytest.mark.parametrize("status", ["starting", "stopping"])
def test_the_tree_asks_to_be_woken_at_the_next_deadline(status: str) -> None:
    drive = Drive(a_group("a", child={"boot_timeout_ms": 700, "shutdown_ms": 700}), obedient=False)
    drive.tick()
    if status == "stopping":
        drive.ready("a")
        drive.send(Halt())
    assert next_deadline_ms(drive.tree, drive.now_ms) == drive.now_ms + 700


def test_a_tree_at_rest_needs_no_waking() -> None:
    drive = ready_drive()
    assert next_deadline_ms(drive.tree, drive.now_ms) is None


def test_nothing_is_started_when_the_tree_is_halting() -> None:
    drive = Drive(a_group("ab"), obedient=False)
    drive.tick()
    drive.send(Halt())
    assert started(drive.send(Ready("a", 1))) == ""
    assert started(drive.dies("a", Ending.ORDERED)) == ""
    assert drive.tree.phase is Phase.HALTED
    assert drive.send(Halt(urgent=True)) == []


def test_saying_ready_twice_changes_nothing() -> None:
    drive = ready_drive(progress_ms=1_000)
    drive.sleep(500)
    before = drive.tree
    assert drive.ready("a") == []
    assert drive.tree == before


def test_a_halt_can_bring_its_own_grace() -> None:
    drive = ready_drive(shutdown_ms=60_000)
    drive.send(Halt(grace_ms=700))
    assert drive.sleep(699) == []
    assert killed(drive.sleep(1)) == "a"


def test_the_time_that_we_slept_is_held_against_nobody() -> None:
    drive = ready_drive(progress_ms=1_000)
    drive.sleep(900)
    drive.now_ms += 3_600_000
    assert drive.send(Slept(3_600_000)) == []
    assert killed(drive.sleep(99)) == ""
    assert killed(drive.sleep(1)) == "a"


def test_a_grace_is_as_much_longer_as_we_slept() -> None:
    drive = ready_drive(shutdown_ms=2_000)
    drive.send(Halt())
    drive.now_ms += 3_600_000
    drive.send(Slept(3_600_000))
    assert drive.sleep(1_999) == []
    assert killed(drive.sleep(1)) == "a"


def test_giving_up_on_a_condemned_child_is_not_counted() -> None:
    drive = Drive(a_group("a", intensity=0, child={"undead_ms": 300}), obedient=False)
    drive.tick()
    drive.ready("a")
    drive.send(Condemn("a", 1))
    drive.sleep(300)
    assert drive.tree.group("g").circuit is CircuitState.CLOSED


def test_the_grace_of_the_first_halt_stays() -> None:
    drive = ready_drive(shutdown_ms=60_000)
    drive.send(Halt(grace_ms=700))
    drive.send(Halt(grace_ms=90_000))
    assert drive.tree.grace_ms == 700


def test_a_halting_tree_recycles_nothing() -> None:
    drive = ready_drive()
    drive.send(Halt())
    drive.send(Recycle("a", 1))
    assert started(drive.dies("a", Ending.ORDERED)) == ""
    assert drive.tree.phase is Phase.HALTED


def test_the_first_status_of_a_halt_that_is_not_0_stays() -> None:
    drive = ready_drive()
    for status in (0, 74, 75):
        drive.send(Halt(status=status))
    drive.dies("a", Ending.FAILED, final=True, status=78)
    assert drive.tree.status == 74
