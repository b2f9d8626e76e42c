"""OTP's rules with real processes, real exits and real signals."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from supervisor.tree.events import Halt
from supervisor.tree.model import (
    ChildSpec,
    CircuitState,
    CrashLoop,
    Delays,
    GroupSpec,
    Phase,
    Restart,
    Status,
    Strategy,
)
from tests.support.otp_cases import CASES, Case
from tests.support.real_tree import EXIT_0, EXIT_1, RealTree

AT_ONCE = Delays(0, 1.0, 0, 0.0)
SIGNALS = {"normal": EXIT_0, "failed": EXIT_1, "killed": signal.SIGKILL}


def end(real: RealTree, child: str, ending: str) -> None:
    """End a child in one of the four ways, and let everything come to rest."""
    del real.did[:]
    if ending == "ordered":
        gone = real.running[child].pid
        real.order(child, signal.SIGTERM)
    else:
        gone = real.strike(child, SIGNALS[ending])
    real.settle(gone)


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_what_an_exit_leads_to(case: Case) -> None:
    children = tuple(
        ChildSpec(name, Restart(case.restart) if name == "b" else Restart.PERMANENT, tier=at)
        for at, name in enumerate("abc")
    )
    with RealTree(GroupSpec("g", children, Strategy(case.strategy))) as real:
        real.settle()
        assert real.did == ["+a", "+b", "+c"]
        before = {name: running.pid for name, running in real.running.items()}
        end(real, "b", case.ending)
        assert real.did == [f"-{name}" for name in case.stops] + [f"+{name}" for name in case.starts]
        alive = {child.id for child in real.tree.children if child.status is Status.READY}
        assert set(real.running) == alive == {"a", "c", *case.starts}
        untouched = set("ac") - set(case.stops)
        assert {name: real.running[name].pid for name in untouched} == {name: before[name] for name in untouched}


def one(**fields: object) -> GroupSpec:
    group = GroupSpec("g", (ChildSpec("a", tier=1),), intensity=3, period_ms=60_000, restart_delays=AT_ONCE)
    return replace(group, **fields)  # type: ignore[arg-type]


def test_as_many_deaths_as_the_intensity_allows_stay_and_one_more_opens_the_circuit() -> None:
    with RealTree(one()) as real:
        real.settle()
        for _ in range(3):
            end(real, "a", "killed")
            assert real.did == ["+a"]
        assert real.tree.group("g").circuit is CircuitState.CLOSED
        gone = real.strike("a", signal.SIGKILL)
        while gone in {running.pid for running in real.running.values()}:
            real.turn()
        assert real.tree.group("g").circuit is CircuitState.OPEN
        assert "SIGKILL" in real.tree.group("g").reason
        assert not real.running


def test_one_more_escalates_where_the_group_says_so_and_the_rest_stops_in_reverse() -> None:
    others = GroupSpec("others", (ChildSpec("b", tier=2), ChildSpec("c", tier=3)))
    with RealTree(one(intensity=1, on_crash_loop=CrashLoop.ESCALATE), others) as real:
        real.settle()
        end(real, "a", "failed")
        assert real.tree.phase is Phase.RUNNING
        end(real, "a", "failed")
        assert real.tree.phase is Phase.HALTED
        assert real.tree.status == 1
        assert real.did == ["-c", "-b"]
        assert not real.running


def test_deaths_that_are_older_than_the_period_are_forgotten() -> None:
    with RealTree(one(intensity=1, period_ms=300)) as real:
        real.settle()
        for _ in range(4):
            end(real, "a", "killed")
            assert real.tree.group("g").circuit is CircuitState.CLOSED
            oldest = real.tree.group("g").deaths[0].at_ms
            while real.tree.group("g").deaths[0].at_ms == oldest and oldest + 300 > _now():
                real.turn()


def _now() -> int:
    from supervisor.unix.clock import boot_ms

    return boot_ms()


def test_a_halt_stops_everything_in_reverse_order() -> None:
    children = tuple(ChildSpec(name, tier=at) for at, name in enumerate("abc"))
    with RealTree(GroupSpec("g", children)) as real:
        real.settle()
        del real.did[:]
        real.tell(Halt())
        real.settle()
        assert real.did == ["-c", "-b", "-a"]
        assert real.tree.phase is Phase.HALTED
