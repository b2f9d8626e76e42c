"""A new shape for a running tree, as a reload asks for it."""

from __future__ import annotations

from dataclasses import replace

from supervisor.tree.events import Exited, Halt, Probe, Reshape, Worked
from supervisor.tree.model import ChildSpec, CircuitState, Ending, Goal, GroupSpec, Restart, Status
from tests.support.tree_drive import Drive, started, stopped


def pool(name: str, **fields: object) -> GroupSpec:
    return GroupSpec(name, (ChildSpec(name, **fields),), intensity=0)  # type: ignore[arg-type]


def driven(*groups: GroupSpec) -> Drive:
    drive = Drive(*groups)
    drive.tick()
    return drive


def test_an_unchanged_shape_touches_nothing() -> None:
    drive = driven(pool("a"), pool("b"))
    before = drive.tree
    assert drive.send(Reshape((pool("a"), pool("b")))) == []
    assert drive.tree == before


def test_what_is_new_is_started_and_what_is_gone_is_stopped_and_dropped() -> None:
    drive = driven(pool("a"), pool("b"))
    led_to = drive.send(Reshape((pool("b"), pool("c"))))
    assert (stopped(led_to), started(led_to)) == ("a", "c")
    assert [child.id for child in drive.tree.children] == ["b", "c"]
    assert [group.id for group in drive.tree.groups] == ["b", "c"]
    assert drive["b"].starts == 1


def test_what_changed_is_stopped_and_started_with_its_new_spec() -> None:
    drive = driven(pool("a"), pool("b"))
    led_to = drive.send(Reshape((pool("a", version=1), pool("b"))))
    assert (stopped(led_to), started(led_to)) == ("a", "a")
    assert drive["a"].spec.version == 1
    assert (drive["a"].starts, drive["b"].starts) == (2, 1)


def test_a_changed_child_is_stopped_with_its_old_grace() -> None:
    drive = driven(pool("a", shutdown_ms=9_000))
    drive.obedient = False
    drive.send(Reshape((pool("a", shutdown_ms=1, version=1),)))
    assert drive["a"].deadline_ms == drive.now_ms + 9_000


def test_how_a_child_is_treated_changes_at_once_and_restarts_nothing() -> None:
    drive = driven(pool("a", shutdown_ms=9_000))
    drive.obedient = False
    assert drive.send(Reshape((pool("a", shutdown_ms=700),))) == []
    drive.send(Halt())
    assert drive["a"].deadline_ms == drive.now_ms + 700


def test_new_limits_of_a_group_leave_its_circuit_as_it_is() -> None:
    drive = driven(pool("a"))
    drive.dies("a")
    drive.send(Reshape((replace(pool("a"), intensity=3),)))
    assert drive.tree.group("a").circuit is CircuitState.OPEN
    assert drive.tree.group("a").spec.intensity == 3


def test_a_change_that_is_taken_back_before_the_child_has_ended_still_restarts_it() -> None:
    drive = driven(pool("a"))
    drive.obedient = False
    drive.send(Reshape((pool("a", version=1),)))
    drive.send(Reshape((pool("a"),)))
    assert started(drive.dies("a", Ending.ORDERED)) == "a"
    assert drive["a"].spec.version == 0


def test_a_child_that_comes_back_while_it_leaves_is_started_when_it_has_left() -> None:
    drive = driven(pool("a"), pool("b"))
    drive.obedient = False
    drive.send(Reshape((pool("b"),)))
    assert started(drive.send(Reshape((pool("b"), pool("a"))))) == ""
    assert started(drive.dies("a", Ending.ORDERED)) == "a"
    assert len(drive.tree.groups) == 2


def test_a_leaving_child_keeps_its_group_until_it_is_gone() -> None:
    drive = driven(pool("a"), pool("b"))
    drive.obedient = False
    drive.send(Reshape((pool("b"),)))
    assert [group.id for group in drive.tree.groups] == ["b", "a"]
    drive.dies("a", Ending.ORDERED)
    assert [group.id for group in drive.tree.groups] == ["b"]


def test_a_child_that_leaves_a_group_that_stays_does_not_take_the_group_along() -> None:
    both = GroupSpec("g", (ChildSpec("a"), ChildSpec("b")))
    drive = driven(both)
    drive.send(Reshape((replace(both, children=both.children[:1]),)))
    assert [child.id for child in drive.tree.children] == ["a"]
    assert [group.id for group in drive.tree.groups] == ["g"]


def test_two_leaving_children_of_one_group_keep_it_until_both_are_gone() -> None:
    drive = driven(GroupSpec("g", (ChildSpec("a"), ChildSpec("b"))), pool("z"))
    drive.obedient = False
    drive.send(Reshape((pool("z"),)))
    drive.dies("a", Ending.ORDERED)
    assert [group.id for group in drive.tree.groups] == ["z", "g"]
    drive.dies("b", Ending.ORDERED)
    assert [group.id for group in drive.tree.groups] == ["z"]


def test_more_children_or_fewer_leave_the_circuit_and_its_deaths_as_they_are() -> None:
    both = GroupSpec("g", (ChildSpec("a"), ChildSpec("b")), intensity=0)
    drive = driven(both)
    drive.dies("a")
    assert started(drive.send(Reshape((replace(both, children=(*both.children, ChildSpec("c"))),)))) == ""
    assert drive.tree.group("g").circuit is CircuitState.OPEN
    assert drive["c"].goal is Goal.HELD
    drive.send(Reshape((replace(both, children=both.children[:1]),)))
    assert (drive.tree.group("g").circuit, drive["a"].goal) == (CircuitState.OPEN, Goal.HELD)


def test_a_held_newcomer_starts_when_the_circuit_closes() -> None:
    both = GroupSpec("g", (ChildSpec("a"), ChildSpec("b")), intensity=0)
    drive = driven(both)
    drive.dies("a")
    drive.send(Reshape((replace(both, children=(*both.children, ChildSpec("c"))),)))
    assert started(drive.send(Probe("g"))) == "a"
    assert started(drive.send(Worked("a", drive.run("a")))) == "c"
    assert drive.tree.group("g").circuit is CircuitState.CLOSED


def test_a_group_of_none_of_its_children_is_judged_afresh() -> None:
    both = GroupSpec("g", (ChildSpec("a"), ChildSpec("b")), intensity=0)
    drive = driven(both)
    drive.dies("a")
    assert started(drive.send(Reshape((replace(both, children=(ChildSpec("c"),)),)))) == "c"
    assert drive.tree.group("g").circuit is CircuitState.CLOSED


def test_an_unchanged_group_keeps_its_open_circuit() -> None:
    drive = driven(pool("a"), pool("b"))
    drive.dies("a")
    drive.send(Reshape((pool("a"), pool("b"), pool("c"))))
    assert drive.tree.group("a").circuit is CircuitState.OPEN
    assert drive["a"].status is Status.DOWN


def test_a_changed_child_that_is_down_starts_with_a_clean_sheet() -> None:
    drive = driven(pool("a"), pool("b"))
    drive.dies("a")
    assert started(drive.send(Reshape((pool("a", version=1), pool("b"))))) == "a"
    assert drive.tree.group("a").circuit is CircuitState.CLOSED
    assert drive["a"].starts == 2


def test_a_changed_group_releases_what_it_held() -> None:
    both = GroupSpec("g", (ChildSpec("a"), ChildSpec("b")), intensity=0)
    drive = driven(both)
    drive.dies("a")
    changed = replace(both, children=(both.children[0], replace(both.children[1], version=1)))
    assert started(drive.send(Reshape((changed,)))) == "ab"
    assert drive["a"].starts == 2


def test_a_child_that_ended_for_good_stays_down_unless_it_changed() -> None:
    drive = driven(pool("a", restart=Restart.TEMPORARY))
    drive.dies("a", Ending.NORMAL)
    assert started(drive.send(Reshape((pool("a", restart=Restart.TEMPORARY),)))) == ""
    assert started(drive.send(Reshape((pool("a", restart=Restart.TEMPORARY, version=1),)))) == "a"


def test_a_halting_tree_takes_no_new_shape() -> None:
    drive = driven(pool("a"))
    drive.obedient = False
    drive.send(Halt())
    assert drive.send(Reshape((pool("a"), pool("b")))) == []
    assert drive.tree.child("b") is None


def test_the_exit_of_what_has_left_changes_nothing() -> None:
    drive = driven(pool("a"))
    drive.send(Reshape(()))
    assert drive.tree.children == ()
    assert drive.send(Exited("a", 1, Ending.FAILED)) == []


def test_a_child_that_is_down_leaves_at_once() -> None:
    drive = driven(pool("a"), pool("b"))
    drive.dies("a")
    drive.send(Reshape((pool("b"),)))
    assert [child.id for child in drive.tree.children] == ["b"]
    assert [group.id for group in drive.tree.groups] == ["b"]
