"""The parts of the master that decide or speak: its shape, what systemd hears, what a reading came to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supervisor.config import codec
from supervisor.config.spec import Daemon, Queue, Restart, Spec
from supervisor.master.herald import EXTEND_MS, STALLED_KEEPER_MS, Herald, status_line
from supervisor.master.reload import result
from supervisor.master.shape import KEEPER, pool_child, queue_of, shape
from supervisor.master.slots import Bank
from supervisor.tree.events import Exited, Ready, Tick
from supervisor.tree.model import CrashLoop, Ending, Tree, plant
from supervisor.tree.react import react
from supervisor.unix.slot import SPARE_SLOTS

A, B = Queue(name="a", handler="m:f"), Queue(name="b", handler="m:f", on_crash_loop="escalate")
SPEC = Spec(daemon=Daemon(shutdown_grace_ms=7_000), queues={"a": A, "b": B})


# --- shape --------------------------------------------------------------------------------------------------


def test_the_keeper_comes_first_and_the_pools_side_by_side() -> None:
    keeper, a, b = shape(SPEC, {"b": 2})
    assert [group.id for group in (keeper, a, b)] == [KEEPER, "pool a", "pool b"]
    assert [group.children[0].tier for group in (keeper, a, b)] == [0, 1, 1]
    assert [group.children[0].version for group in (keeper, a, b)] == [0, 0, 2]
    assert [group.on_crash_loop for group in (keeper, a, b)] == [
        CrashLoop.ESCALATE,
        CrashLoop.BACKOFF,
        CrashLoop.ESCALATE,
    ]


def test_a_foreman_has_the_grace_and_a_margin_and_the_keeper_is_never_given_up() -> None:
    keeper, a, _ = (group.children[0] for group in shape(SPEC, {}))
    assert 7_000 < a.shutdown_ms < 9_000
    assert keeper.undead_ms is None
    assert keeper.progress_ms
    assert a.progress_ms


def test_the_limits_of_a_pool_are_those_of_its_queue() -> None:
    queue = Queue(name="q", handler="m:f", restart=Restart(intensity=9, period_ms=70_000))
    _, group = shape(Spec(queues={"q": queue}), {})
    assert (group.intensity, group.period_ms) == (9, 70_000)


@pytest.mark.parametrize(("child", "queue"), [(pool_child("keeper"), "keeper"), (KEEPER, None)])
def test_names_of_children_are_told_apart(child: str, queue: str | None) -> None:
    assert queue_of(child) == queue


# --- herald -------------------------------------------------------------------------------------------------


class Heard:
    """Stands where systemd listens."""

    def __init__(self, watchdog_ms: int | None = None) -> None:
        self.watchdog_ms = watchdog_ms
        self.said: list[str] = []

    def say(self, *lines: str) -> None:
        self.said += lines

    def alive(self) -> None:
        self.say("WATCHDOG=1")

    def take(self) -> list[str]:
        said, self.said = self.said, []
        return said


class Lines:
    """Stands where the log is."""

    def emit(self, name: str, **facts: Any) -> None:
        self.last = (name, facts)


def heralded(watchdog_ms: int | None = None) -> tuple[Herald, Heard]:
    heard = Heard(watchdog_ms)
    return Herald(heard, Lines()), heard  # type: ignore[arg-type]


def started() -> Tree:
    tree, _ = react(plant(shape(SPEC, {})), Tick(), 0)
    return tree


def tell(tree: Tree, *events: Any) -> Tree:
    for event in events:
        tree, _ = react(tree, event, 0)
    return tree


def run_of(tree: Tree, name: str) -> int:
    child = tree.child(name)
    assert child is not None
    return child.run


def test_ready_is_said_once_every_pool_is_up_or_shows_why_not() -> None:
    herald, heard = heralded()
    tree = tell(started(), Ready(KEEPER, 1))
    herald.stand(tree, 4, None)
    assert heard.take() == []
    tree = tell(tree, Ready("pool b", run_of(tree, "pool b")))
    herald.stand(tree, 4, None)
    assert heard.take() == []
    tree = tell(tree, Exited("pool a", run_of(tree, "pool a"), Ending.FAILED, final=True, reason="no module"))
    herald.stand(tree, 4, None)
    assert heard.take() == ["READY=1", "STATUS=2 queues, circuit open: pool a"]
    herald.stand(tree, 4, "line 3")
    assert heard.take() == ["STATUS=2 queues, circuit open: pool a, reload refused: line 3"]


def test_time_is_asked_for_until_ready_and_for_the_stop() -> None:
    herald, heard = heralded()
    herald.turn(1_000, 1_000)
    herald.turn(1_000 + EXTEND_MS // 2 - 1, 1_000)
    assert heard.take() == [f"EXTEND_TIMEOUT_USEC={EXTEND_MS * 1_000}"]
    assert herald.next_ms() == 1_000 + EXTEND_MS // 2
    herald.stopping(7_000)
    assert heard.take() == ["STOPPING=1", f"EXTEND_TIMEOUT_USEC={17_000 * 1_000}"]
    herald.turn(99_000, 99_000)
    assert heard.take() == []
    assert herald.next_ms() is None


def test_the_watchdog_is_fed_only_while_the_keeper_turns() -> None:
    herald, heard = heralded(watchdog_ms=2_000)
    herald.stopping(0)
    heard.take()
    for now_ms, seen_ms, fed in [
        (1_000, 1_000, True),
        (2_999, 2_999, False),
        (3_000, 3_000, True),
        (5_000, 5_000 - STALLED_KEEPER_MS + 1, True),
        (7_000, 7_000 - STALLED_KEEPER_MS, False),
        (9_000, 9_000, True),
    ]:
        herald.turn(now_ms, seen_ms)
        assert heard.take() == (["WATCHDOG=1"] if fed else []), now_ms
    assert herald.next_ms() == 11_000


def test_the_status_line_counts_queues_and_not_the_keeper() -> None:
    assert status_line(plant(shape(SPEC, {})), None) == "2 queues"


# --- reload -------------------------------------------------------------------------------------------------


def test_what_a_reading_came_to() -> None:
    assert result(b"+" + codec.encode(SPEC)) == SPEC
    assert result(b'-["a problem", "another"]') == ("a problem", "another")


@pytest.mark.parametrize("data", [b"", b"+", b"-", b"+" + codec.encode(SPEC)[:-5], b'-["half'])
def test_a_reading_that_broke_off_is_a_problem_and_no_fault_of_ours(data: bytes) -> None:
    (problem,) = result(data)  # type: ignore[misc]
    assert "took more than" in problem


def test_a_foreman_has_slots_for_the_workers_that_it_wants_and_two_spare_ones(tmp_path: Path) -> None:
    bank = Bank(str(tmp_path), "b" * 32)
    pid = iter(range(1, 100))

    def given(wanted: int) -> int:
        """Make what is missing, and fork as far as wanted."""
        missing = bank.missing("a", 1, wanted)
        for _ in range(missing):
            bank.make(A, 1)
        for place in [place for place in bank.of("a", 1) if not place.pid][:-SPARE_SLOTS]:
            bank.started(place.slot.number, next(pid), 0)
        return missing

    try:
        assert given(3) == 5
        assert given(3) == 0
        assert given(8) == 5
        assert given(1) == 0, "fewer workers give no slot back: theirs are closed when they are judged"
        for place in [place for place in bank.of("a", 1) if place.pid][1:]:
            bank.close(place.slot.number)
        assert (given(1), len(bank.of("a", 1))) == (0, 3)
        assert bank.missing("a", 2, 1) == 3, "another foreman begins with slots of its own"
    finally:
        for number in list(bank.places):
            bank.close(number)
