"""What is made of a worker's end, and how long the keeper is told of it."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from supervisor.pool.burial import REPEAT_MS, Unanswered, cause_of, exited
from supervisor.pool.crew import Crew, spared, to_announce
from supervisor.pool.ladder import CANCELLED, Climb
from supervisor.pool.member import Member, without_our_frames
from supervisor.tree.commands import Start
from supervisor.tree.events import Reshape
from supervisor.tree.model import Ending, plant
from supervisor.unix.memory import Cell
from supervisor.unix.reap import End
from supervisor.wire.control import Certificate, Link
from tests.support.tree_drive import Drive, a_group

NORMAL, FAILED = End(0, None, 0, 0.0), End(3, None, 0, 0.0)
SEGV, TERM, KILL = (End(None, number, 0, 0.0) for number in (11, 15, 9))


def a_member(**fields: Any) -> Any:
    given = {"child": "a", "run": 1, "climb": None, "leaving": False, "done": 0, "unusable": None, "announced": False}
    return SimpleNamespace(**given | fields)


@pytest.mark.parametrize(
    ("fields", "end", "cause"),
    [
        ({}, NORMAL, "exit"),
        ({}, KILL, "exit"),
        ({"leaving": True}, NORMAL, "stop"),
        ({"leaving": True}, TERM, "stop"),
        ({"leaving": True}, KILL, "stop"),
        ({"leaving": True}, FAILED, "exit"),
        ({"leaving": True}, SEGV, "exit"),
        ({"climb": Climb((7, 1), 0, 1)}, SEGV, "exit"),
        ({"climb": Climb((7, 1), 0, 3), "leaving": True}, KILL, "timeout"),
        ({"climb": Climb((7, 1), 0, 3, CANCELLED), "leaving": True}, KILL, "cancelled"),
        ({"climb": Climb((7, 1), 0, 2), "leaving": True}, SEGV, "exit"),
    ],
)
def test_the_cause_of_an_end(fields: dict[str, Any], end: End, cause: str) -> None:
    assert cause_of(a_member(**fields), end) == cause


def test_a_ladder_is_climbed_for_all_jobs_of_one_call() -> None:
    cells = [Cell(0, 7, 1, 0, 5), Cell(0, 9, 1, 0, 5), Cell(0, 8, 1, 0, 5), Cell(1, 4, 1, 0, 5)]
    member: Any = SimpleNamespace(cells=lambda: cells)
    assert Member.beside(member, (9, 1)) == (9, 7, 8)
    assert Member.beside(member, (4, 1)) == (4,)
    assert Member.beside(member, (9, 2)) == (9,), "under another lease nobody was beside it"


def test_what_the_tree_hears_of_it() -> None:
    crashed = exited(a_member(), SEGV, "exit", 0.25)
    assert (crashed.ending, crashed.excused, crashed.final, crashed.chance) == (Ending.KILLED, False, False, 0.25)
    assert crashed.reason == "a worker ended with signal 11 (SIGSEGV)"
    assert exited(a_member(done=1), SEGV, "exit", 0.0).excused
    overdue = exited(a_member(), KILL, "timeout", 0.0)
    assert (overdue.ending, overdue.excused) == (Ending.ORDERED, True)
    unusable = exited(a_member(unusable=("no module", None)), FAILED, "exit", 0.0)
    assert (unusable.final, unusable.reason) == (True, "no module")


class Sent:
    """The keeper's end of a link."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link, self._other = Link(ours), Link(theirs)

    def slots(self) -> list[tuple[int, bool]]:
        return [(message.slot, message.gone) for message, _ in self._other.receive()]


def test_a_certificate_is_repeated_until_it_is_answered() -> None:
    sent = Sent()
    unanswered = Unanswered(sent.link)
    assert not unanswered
    assert unanswered.next_ms() is None
    unanswered.add(Certificate(5, 1, 99, "exit"), "a", 3)
    assert sent.slots() == [(5, True)]
    unanswered.repeat(1_000)
    unanswered.repeat(1_000 + REPEAT_MS - 1)
    assert sent.slots() == [(5, True)]
    unanswered.repeat(1_000 + REPEAT_MS)
    unanswered.repeat(1_000 + REPEAT_MS + 1, at_once=True)
    assert len(sent.slots()) == 2
    assert unanswered.answered(4, gone=True) is None
    assert unanswered.answered(5, gone=True) == ("a", 3)
    assert unanswered.answered(5, gone=True) is None
    unanswered.repeat(99_000)
    assert sent.slots() == []


def test_the_answer_to_the_first_certificate_of_an_undead_worker_does_not_answer_the_second() -> None:
    sent = Sent()
    unanswered = Unanswered(sent.link)
    unanswered.add(Certificate(5, 1, 99, "timeout", gone=False), "a", 3)
    unanswered.add(Certificate(5, 1, 99, "timeout", gone=True), "a", 3)
    assert sent.slots() == [(5, False), (5, True)]
    assert unanswered.answered(5, gone=False) is None
    assert unanswered
    assert unanswered.answered(5, gone=True) == ("a", 3)


def test_nothing_is_repeated_to_a_keeper_that_does_not_read_and_nobody_spins() -> None:
    sent = Sent()
    unanswered = Unanswered(sent.link)
    unanswered.add(Certificate(5, 1, 99, "exit", stacks="x" * 50_000), "a", 3)
    now_ms = 1_000
    while not sent.link.congested:
        now_ms += REPEAT_MS
        unanswered.repeat(now_ms)
    now_ms += REPEAT_MS
    unanswered.repeat(now_ms)
    assert unanswered.next_ms() == now_ms + REPEAT_MS


# --- the crew -----------------------------------------------------------------------------------------------


def test_as_many_workers_are_announced_as_the_queue_wants_the_oldest_first() -> None:
    drive = Drive(a_group("abcd", tiers=False), obedient=False)
    drive.tick()
    crew = Crew()
    for name in "dcba":
        crew.add(a_member(child=name, run=drive.run(name)))
    assert to_announce(crew, drive.tree, 2) == []
    for name in "bcd":
        drive.ready(name)
    chosen = to_announce(crew, drive.tree, 2)
    assert [member.child for member in chosen] == ["b", "c"]
    for member in chosen:
        member.announced = True
    drive.ready("a")
    assert to_announce(crew, drive.tree, 2) == []
    crew.remove(chosen[0])
    assert [member.child for member in to_announce(crew, drive.tree, 2)] == ["a"]


def test_who_only_finishes_a_last_job_takes_nobodys_place() -> None:
    drive = Drive(a_group("abc", tiers=False), obedient=False)
    drive.tick()
    crew = Crew()
    for name in "abc":
        crew.add(a_member(child=name, run=drive.run(name), announced=name != "c"))
        drive.ready(name)
    assert to_announce(crew, drive.tree, 2) == []
    drive.send(Reshape((a_group("bc", tiers=False),)))
    assert drive["a"].leaving
    assert [member.child for member in to_announce(crew, drive.tree, 2)] == ["c"]


def test_idle_workers_go_before_busy_ones_and_new_ones_before_old_ones() -> None:
    drive = Drive(a_group("abcde", tiers=False), obedient=False)
    drive.tick()
    crew = Crew()
    for name in "abcd":
        busy = [object()] if name in "ad" else []
        crew.add(a_member(child=name, run=drive.run(name), announced=name != "c", cells=lambda busy=busy: busy))
    order = [child.id for child in sorted(drive.tree.children, key=spared(crew, standing_by=False))]
    assert "".join(order) == "ebcda"  # not forked yet; idle; not ready yet; busy
    order = [child.id for child in sorted(drive.tree.children, key=spared(crew, standing_by=True))]
    assert "".join(order) == "ebdac"  # who stands by stays, as many as ever


def test_a_worker_that_is_given_up_is_watched_and_no_longer_counted() -> None:
    crew = Crew()
    member = a_member(slot=5, pid=99)
    crew.add(member)
    assert crew.on_slot(5) is member
    crew.give_up(member)
    assert (list(crew), crew.undead, crew.pids()) == ([], [member], frozenset({99}))
    crew.remove(member)
    assert crew.pids() == frozenset()


def test_a_start_that_waits_for_a_slot_can_be_taken_back() -> None:
    crew = Crew()
    crew.waiting.extend([Start("a", 1), Start("b", 2)])
    assert crew.drop_waiting("a")
    assert not crew.drop_waiting("a")
    assert list(crew.waiting) == [Start("b", 2)]


def test_a_stack_is_shown_down_to_the_frame_that_every_worker_has() -> None:
    text = (
        "Fatal Python error: Segmentation fault\n\nCurrent thread 0x1 (most recent call first):\n"
        '  File "/app/tasks.py", line 3 in run\n  File "/x/supervisor/pool/fork.py", line 9 in _live\n'
        '  File "/x/supervisor/master/main.py", line 9 in serve\nThread 0x2 (most recent call first):\n'
        '  File "/app/other.py", line 4 in loop\n'
    )
    shown = without_our_frames(text)
    assert "tasks.py" in shown
    assert "other.py" in shown
    assert "supervisor" not in shown


def test_an_empty_tree_announces_nobody() -> None:
    crew = Crew()
    crew.add(a_member())
    assert to_announce(crew, plant(()), 5) == []
