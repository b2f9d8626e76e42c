"""What the keeper tells the foremen of autoscaled pools, and how seldom."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from supervisor.config.spec import Queue, Spec, WorkerRange
from supervisor.keeper.load import BUSY_MS, PRESSED_MS, Loads
from supervisor.keeper.slots import Phase
from supervisor.wire.control import PoolLoad

NOTHING = PoolLoad(0, 0, 0.0, 0.0)


def a_queue(name: str, workers: int | WorkerRange) -> Queue:
    return Queue(name=name, handler="m:f", workers=workers)


def a_spec(*queues: Queue) -> Spec:
    return Spec(queues={queue.name: queue for queue in queues})


def a_slot(jobs: int = 1, since_ms: int = 0, phase: Phase = Phase.READY) -> Any:
    idle = phase is Phase.READY and not jobs
    held = dict.fromkeys(range(jobs))
    unbegun = max(0, jobs - 1)
    return SimpleNamespace(out=held, unbegun=unbegun, phase=phase, quiet_since_ms=since_ms, idle=idle)


class State:
    """As much of the keeper's state as counts here."""

    def __init__(self) -> None:
        self.spec = a_spec(a_queue("q", WorkerRange(min=1, max=8)), a_queue("fixed", 2))
        self.said: list[PoolLoad] = []
        self.links: dict[str, Any] = {name: SimpleNamespace(send=self.said.append) for name in self.spec.queues}
        self.mean_us: dict[str, float] = {}
        self.slots: list[Any] = []

    def slots_of(self, pool: str) -> list[Any]:
        assert pool != "fixed", "a fixed pool costs nothing"
        return self.slots


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def loads(state: State) -> Loads:
    made = Loads(state)  # type: ignore[arg-type]
    made.tell(1_000)
    assert state.said == [NOTHING]
    assert made.next_ms is None
    state.said.clear()
    return made


def test_nothing_is_said_while_nothing_happens(state: State, loads: Loads) -> None:
    loads.passed({"q": 0, "fixed": 7}, 2_000)
    assert loads.next_ms is None
    loads.tell(2_000)
    assert state.said == []


def test_a_job_that_begins_is_told_at_once_and_then_once_a_second(state: State, loads: Loads) -> None:
    state.slots = [a_slot(since_ms=2_000)]
    loads.passed({"q": 0}, 2_000)
    assert loads.next_ms == 2_000
    loads.tell(2_000)
    assert state.said == [PoolLoad(0, 1, 0.0, 1.0)]
    assert loads.next_ms == 2_000 + BUSY_MS
    loads.tell(3_000)
    assert state.said[1:] == [PoolLoad(0, 1, 1_000.0, 1.0)]
    state.slots = []
    loads.worked_us["q"] += 1_500_000
    loads.passed({"q": 0}, 3_500)
    loads.tell(4_000)
    assert state.said[2:] == [NOTHING]
    assert loads.next_ms is None


def test_jobs_that_wait_are_told_five_times_a_second(state: State, loads: Loads) -> None:
    state.slots = [a_slot(jobs=3, since_ms=2_000)]
    loads.passed({"q": 40}, 2_000)
    loads.tell(2_000)
    assert state.said == [PoolLoad(42, 1, 0.0, 1.0)]
    loads.passed({"q": 41}, 2_010)
    assert loads.next_ms == 2_000 + PRESSED_MS
    loads.tell(2_100)
    assert len(state.said) == 1
    loads.tell(2_200)
    assert state.said[1] == PoolLoad(43, 1, 200.0, 1.0)


def test_jobs_that_begin_to_wait_are_told_soon_after_the_last_report(state: State, loads: Loads) -> None:
    state.slots = [a_slot(since_ms=2_000)]
    loads.passed({"q": 0}, 2_000)
    loads.tell(2_000)
    loads.passed({"q": 5}, 2_050)
    assert loads.next_ms == 2_000 + PRESSED_MS
    loads.passed({"q": 6}, 2_190)
    assert loads.next_ms == 2_000 + PRESSED_MS


def test_how_long_jobs_take_is_what_ended_ones_took_but_not_less_than_those_that_run(
    state: State, loads: Loads
) -> None:
    state.slots = [a_slot(since_ms=1_000), a_slot(since_ms=1_800), a_slot(phase=Phase.JUDGED)]
    loads.passed({"q": 1}, 2_000)
    loads.tell(2_000)
    assert state.said[-1].mean_ms == 1_000.0  # nothing has ended: the oldest tells the most
    state.mean_us["q"] = 50_000.0
    loads.tell(2_200)
    assert state.said[-1].mean_ms == 800.0
    state.mean_us["q"] = 3_000_000.0
    loads.tell(2_400)
    assert state.said[-1].mean_ms == 3_000.0
    state.slots = []
    loads.tell(2_600)
    assert (state.said[-1].busy, state.said[-1].mean_ms) == (0, 3_000.0)


def test_work_is_that_of_ended_and_of_running_jobs(state: State, loads: Loads) -> None:
    state.slots = [a_slot(since_ms=2_000), a_slot(since_ms=2_000)]
    loads.passed({"q": 0}, 2_000)
    loads.tell(2_000)
    state.slots = [a_slot(since_ms=2_500)]
    loads.worked_us["q"] += 500_000 + 250_000
    loads.tell(3_000)
    assert state.said[-1].work == pytest.approx(1.25)
    state.slots[0].quiet_since_ms = 3_900  # the job before it was taken back, and has ended nowhere
    loads.tell(4_000)
    assert state.said[-1].work == 0.0


def test_a_new_foreman_is_told_anew_and_nobody_where_there_is_none(state: State, loads: Loads) -> None:
    state.slots = [a_slot(since_ms=2_000)]
    link = state.links.pop("q")
    loads.passed({"q": 3}, 2_000)
    loads.tell(2_000)
    assert (state.said, loads.next_ms) == ([], None)
    state.links["q"] = link
    loads.begin_anew("q")
    loads.begin_anew("fixed")
    assert loads.next_ms == 0
    loads.tell(2_500)
    assert state.said == [PoolLoad(0, 1, 500.0, 1.0)]  # how many wait is known after the next pass
    loads.passed({"q": 3}, 2_501)
    loads.tell(2_700)
    assert state.said[-1].backlog == 3


def test_pools_follow_the_configuration(state: State, loads: Loads) -> None:
    state.spec = a_spec(a_queue("q", 4), a_queue("r", WorkerRange(min=1, max=2)))
    state.links["r"] = state.links["q"]
    loads.tell(2_000)
    assert (state.said, list(loads.worked_us)) == ([NOTHING], ["r"])
    state.spec = a_spec(a_queue("q", 4))
    loads.passed({"q": 9}, 2_100)
    assert (loads.next_ms, loads.worked_us) == (None, {})


def test_workers_that_got_nothing_beside_what_waits_are_told(state: State, loads: Loads) -> None:
    state.slots = [a_slot(since_ms=2_000), a_slot(jobs=0), a_slot(jobs=0, phase=Phase.STARTED)]
    loads.passed({"q": 7}, 2_000)
    loads.tell(2_000)
    assert state.said == [PoolLoad(7, 1, 0.0, 1.0, 1)]
