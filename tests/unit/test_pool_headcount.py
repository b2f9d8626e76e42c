"""How many workers a foreman is to have: what it hears, when it decides, and what it says."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from supervisor.config.spec import Queue, Scale, WorkerRange
from supervisor.pool import headcount
from supervisor.pool.headcount import REFUSED_MS, SAY_EVERY_MS, SILENT_MS, Headcount, a_meter
from supervisor.pool.shape import STANDBY, fitted, shape, standby
from supervisor.tree.events import Exited, Reshape
from supervisor.tree.model import Child, Ending
from supervisor.unix.host import Facts, HostMeter
from supervisor.wire.control import PoolLoad, PoolScaled
from tests.support.tree_drive import Drive

QUEUE = Queue(name="q", handler="m:f", workers=WorkerRange(min=1, max=8), scale=Scale(down_after_ms=10_000))
STEP = PoolLoad(340, 1, 1_200.0, 1.0)
MIB = 1 << 20


class Meter:
    """A host meter that says what the test wants, and counts how often it was asked."""

    def __init__(self, facts: Facts | None = Facts(0.1, 4_096 * MIB, 0.5, 50 * MIB, 1, "a host")) -> None:  # noqa: B008
        self.given = facts
        self.asked = 0

    def facts(self, pids: list[int], _now_ms: int) -> Facts | None:
        assert pids == [71]
        self.asked += 1
        return self.given

    def sources(self) -> str:
        return "a host"


def a_headcount(queue: Queue = QUEUE, begin: int | None = None, meter: Any = None) -> Headcount:
    made = meter or Meter()
    return Headcount(queue, begin, 0, lambda: made)


def pids() -> list[int]:
    return [71]


@pytest.mark.parametrize(("begin", "target"), [(None, 1), (5, 5), (20, 8), (0, 1)])
def test_it_begins_with_the_least_or_where_an_earlier_foreman_was(begin: int | None, target: int) -> None:
    heads = a_headcount(begin=begin)
    assert (heads.target, heads.most, heads.next_ms) == (target, 8, None)


def test_a_fixed_number_asks_nobody_and_says_nothing() -> None:
    heads = Headcount(msgspec.structs.replace(QUEUE, workers=3), None, 0, lambda: pytest.fail("nothing to measure"))
    heads.hear(STEP, 10)
    assert heads.look(pids, 20) is None
    assert (heads.target, heads.most, heads.next_ms, heads.news("q", 30)) == (3, 3, None, None)


def test_a_load_leads_to_a_decision_that_is_said_at_once() -> None:
    heads = a_headcount()
    said = heads.news("q", 0)
    assert said == PoolScaled("q", 1, "the least, as it has just begun", "a host")
    assert heads.news("q", 0) is None
    heads.hear(STEP, 10)
    decision = heads.look(pids, 10)
    assert decision == (5, "340 jobs wait, 1.2 s each")
    assert heads.look(pids, 11) is None
    assert heads.news("q", 11) == PoolScaled("q", 5, "340 jobs wait, 1.2 s each", "a host")


def test_a_reason_alone_is_news_once_a_second() -> None:
    heads = a_headcount(begin=8)
    heads.news("q", 0)
    heads.hear(STEP, 10)
    assert heads.look(pids, 10) is None
    assert heads.news("q", SAY_EVERY_MS - 1) is None
    said = heads.news("q", SAY_EVERY_MS)
    assert said is not None
    assert said.reason == "340 jobs wait, 1.2 s each; 8 is the most"


def test_the_host_is_looked_at_only_if_it_could_grow() -> None:
    meter = Meter()
    heads = a_headcount(begin=8, meter=meter)
    heads.hear(STEP, 10)
    heads.look(pids, 10)
    heads.hear(PoolLoad(0, 8, 100.0, 8.0), 20)
    heads.look(pids, 20)
    assert meter.asked == 0
    growing = a_headcount(meter=meter)
    growing.hear(STEP, 10)
    growing.look(pids, 10)
    assert meter.asked == 1


def test_while_the_host_is_not_known_yet_nothing_grows() -> None:
    meter = Meter(None)
    heads = a_headcount(meter=meter)
    heads.hear(STEP, 10)
    assert heads.look(pids, 10) is None
    said = heads.news("q", 10)
    assert said is not None
    assert said.reason == "held at 1 although 340 jobs wait, 1.2 s each: the host is looked at first"
    meter.given = Meter().given
    heads.hear(STEP, 200)
    assert heads.look(pids, 200) is not None


def test_while_the_host_is_not_known_yet_a_pool_may_shrink_all_the_same() -> None:
    heads = a_headcount(begin=8, meter=Meter(None))
    heads.hear(PoolLoad(1, 1, 20.0, 1.0), 1_000)
    heads.look(pids, 1_000)
    heads._bounds = heads._bounds._replace(most=9)  # it could grow, so the host is asked
    heads.hear(PoolLoad(1, 1, 20.0, 1.0), 10_000)
    decision = heads.look(pids, 10_000)
    assert decision is not None
    assert decision.target == 2


@pytest.mark.parametrize(
    ("queue", "workers_cpu", "work", "target"),
    [
        (QUEUE, 0.9, 1.0, 1),  # each worker at a job uses nine tenths of a CPU
        (QUEUE, 0.9, 3.0, 5),  # three tenths: its jobs wait for something else
        (QUEUE, 0.0, 0.01, 1),  # nothing was done yet from which one could tell
        (msgspec.structs.replace(QUEUE, handler=None, command=("x",)), 0.0, 1.0, 1),  # its children are not seen
    ],
)
def test_a_full_host_holds_a_pool_whose_jobs_compute(
    queue: Queue, workers_cpu: float, work: float, target: int
) -> None:
    heads = a_headcount(queue, meter=Meter(Facts(0.99, None, workers_cpu, None, 1, "a host")))
    heads.hear(PoolLoad(340, 1, 1_200.0, work), 10)
    heads.look(pids, 10)
    assert heads.target == target


def test_after_the_quiet_period_it_shrinks_by_itself() -> None:
    heads = a_headcount(begin=8)
    heads.hear(PoolLoad(0, 0, 0.0, 0.0), 1_000)
    assert heads.look(pids, 1_000) is None
    assert heads.next_ms == 10_000
    assert heads.look(pids, 9_999) is None
    decision = heads.look(pids, 10_000)
    assert decision is not None
    assert (decision.target, heads.next_ms) == (1, None)


def test_a_keeper_that_falls_silent_under_load_leads_to_no_decision() -> None:
    heads = a_headcount(begin=8)
    heads.hear(PoolLoad(0, 2, 60_000.0, 2.0), 1_000)
    heads.look(pids, 1_000)
    assert heads.next_ms == 10_000
    assert SILENT_MS <= 10_000 - 1_000
    assert heads.look(pids, 10_000) is None
    assert (heads.target, heads.next_ms) == (8, None)


def test_a_new_keeper_hears_how_things_stand_and_begins_a_new_quiet_period() -> None:
    heads = a_headcount(begin=4)
    heads.hear(PoolLoad(0, 0, 0.0, 0.0), 1_000)
    heads.look(pids, 1_000)
    heads.news("q", 1_000)
    heads.begin_anew(9_000)
    said = heads.news("q", 9_000)
    assert said is not None
    assert said.target == 4
    heads.hear(PoolLoad(0, 0, 0.0, 0.0), 9_100)
    heads.look(pids, 9_100)
    assert heads.next_ms == 19_000


def test_other_bounds_count_at_once() -> None:
    heads = a_headcount(begin=6)
    heads.resize(msgspec.structs.replace(QUEUE, workers=WorkerRange(min=2, max=3)))
    assert heads.look(pids, 10) == (3, "the configuration says 2 to 3")
    heads.resize(msgspec.structs.replace(QUEUE, workers=5))
    assert heads.look(pids, 20) == (5, "the configuration says 5")
    assert heads.news("q", 5_000) is None


def test_a_number_by_hand_stands_until_the_load_may_decide_again() -> None:
    heads = a_headcount()
    heads.set_by_hand(6)
    decision = heads.look(pids, 10)
    assert decision == (6, "set by hand; jobsctl scale QUEUE auto ends that")
    said = heads.news("q", 10)
    assert said is not None
    assert (said.target, said.by_hand, heads.most) == (6, 6, 8)
    heads.hear(STEP, 20)
    assert heads.look(pids, 20) is None
    assert (heads.target, heads.next_ms) == (6, None)
    heads.set_by_hand(None)
    heads.hear(STEP, 300)
    assert heads.look(pids, 300) == (8, "340 jobs wait, 1.2 s each")


@pytest.mark.parametrize(("queue", "by_hand"), [(QUEUE, 9), (QUEUE, 0), (msgspec.structs.replace(QUEUE, workers=3), 5)])
def test_a_number_by_hand_that_the_configuration_no_longer_allows_is_forgotten(queue: Queue, by_hand: int) -> None:
    heads = Headcount(queue, None, 0, by_hand=by_hand)
    heads.look(pids, 10)
    assert heads.target == queue.workers_min


def test_a_reload_ends_what_was_set_by_hand() -> None:
    heads = Headcount(QUEUE, 5, 0, by_hand=5)
    heads.resize(msgspec.structs.replace(QUEUE, workers=WorkerRange(min=2, max=8)))
    assert heads.look(pids, 10) is None
    heads.hear(PoolLoad(0, 0, 0.0, 0.0), 20)
    heads.look(pids, 20)
    assert (heads.target, heads.next_ms) == (5, 10_000)


def test_after_a_refusal_it_goes_on_with_what_there_is_and_tries_again_later() -> None:
    meter = Meter()
    heads = a_headcount(meter=meter)
    heads.hear(STEP, 10)
    heads.look(pids, 10)
    assert heads.settle_for(2, "no worker can be forked: no", 20)
    assert heads.target == 2
    said = heads.news("q", 20)
    assert said is not None
    assert (said.target, said.reason) == (2, "no worker can be forked: no")
    heads.hear(STEP, 500)
    assert heads.look(pids, 500) is None
    said = heads.news("q", SAY_EVERY_MS + 20)
    assert said is not None
    assert said.reason == "held at 2 although 340 jobs wait, 1.2 s each: no worker can be forked: no"
    heads.hear(STEP, 20 + REFUSED_MS)
    assert heads.look(pids, 20 + REFUSED_MS) == (6, "340 jobs wait, 1.2 s each")


def test_who_has_less_than_the_least_or_follows_no_load_settles_for_nothing() -> None:
    assert not a_headcount().settle_for(0, "no", 20)
    assert not a_headcount(msgspec.structs.replace(QUEUE, workers=3)).settle_for(2, "no", 20)
    by_hand = a_headcount()
    by_hand.set_by_hand(4)
    assert not by_hand.settle_for(3, "no", 20)


def test_psutil_serves_where_it_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert a_meter().sources().startswith("cpu: psutil")
    monkeypatch.setitem(__import__("sys").modules, "psutil", None)
    assert "psutil" not in a_meter().sources()
    assert isinstance(headcount.a_meter(), HostMeter)


# --- the children of the tree ---------------------------------------------------------------------------------


def oldest_last(child: Child) -> tuple[int, int]:
    return 0, -child.run


def numbers(drive: Drive) -> list[str]:
    return [child.id for child in drive.tree.children if not child.leaving]


def fit(drive: Drive, wanted: int, most: int = 4) -> bool:
    found = fitted(drive.tree, wanted, most, oldest_last)
    if found is not None:
        drive.send(Reshape(shape(QUEUE, found)))
    return found is not None


@pytest.fixture
def drive() -> Drive:
    made = Drive(*shape(QUEUE, range(2)))
    made.tick()
    made.obedient = False
    return made


def test_who_stands_by_comes_on_top() -> None:
    assert (standby(preloaded=True), standby(preloaded=False)) == (0, STANDBY)


def test_more_are_added_and_fewer_leave(drive: Drive) -> None:
    assert not fit(drive, 2)
    assert fit(drive, 4)
    assert numbers(drive) == ["q/0", "q/1", "q/2", "q/3"]
    assert fit(drive, 1)
    assert numbers(drive) == ["q/0"]
    assert not fit(drive, 1)


def test_a_number_is_used_again_only_when_its_worker_is_gone(drive: Drive) -> None:
    fit(drive, 1)
    assert fit(drive, 3)
    assert numbers(drive) == ["q/0", "q/2", "q/3"]
    drive.send(Exited("q/1", drive.run("q/1"), Ending.ORDERED))
    assert fit(drive, 4)
    assert numbers(drive) == ["q/0", "q/2", "q/3", "q/1"]


def test_those_that_finish_their_last_job_count_for_the_most(drive: Drive) -> None:
    fit(drive, 4)
    fit(drive, 1)
    assert not fit(drive, 4), "three still finish their jobs"
    drive.send(Exited("q/3", drive.run("q/3"), Ending.ORDERED))
    assert fit(drive, 4)
    assert len(drive.tree.children) == 4
    assert len(numbers(drive)) == 2
