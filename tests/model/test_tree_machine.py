"""The tree against a world of processes that die, hang and obey at random.

The world keeps its own books (who is alive, which deaths happened when) and judges every command against them;
it computes nothing with the tree's code. `JOBSUP_TREE_RUNS` raises the number of runs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from supervisor.tree import commands as do
from supervisor.tree import events as on
from supervisor.tree.deadlines import next_deadline_ms
from supervisor.tree.model import (
    ChildSpec,
    CircuitState,
    CrashLoop,
    Delays,
    Ending,
    Goal,
    GroupSpec,
    Phase,
    Restart,
    Status,
    Strategy,
    plant,
)
from supervisor.tree.react import react

PERIOD_MS = 10_000
RESTARTED_AFTER = {
    Restart.PERMANENT: set(Ending),
    Restart.TRANSIENT: {Ending.FAILED, Ending.KILLED},
    Restart.TEMPORARY: set(),
}
CHANCE = st.floats(0, 1, exclude_max=True)


@dataclass
class Process:
    """A process of the world, as the world knows it."""

    child: str
    run: int
    ready: bool = False
    stopping: bool = False
    urgent: bool = False
    killed: bool = False
    killed_at: int = 0


@st.composite
def groups(draw: st.DrawFn) -> tuple[GroupSpec, ...]:
    """One to three groups of one to three children, of every kind."""
    made = []
    for at in range(draw(st.integers(1, 3))):
        stacked = draw(st.booleans())
        base = draw(st.integers(0, 1))
        children = tuple(
            ChildSpec(
                f"{at}{name}",
                restart=draw(st.sampled_from(Restart)),
                tier=base + (index if stacked else 0),
                boot_timeout_ms=1_000,
                shutdown_ms=draw(st.sampled_from([0, 2_000])),
                urgent_ms=draw(st.sampled_from([0, 500])),
                progress_ms=draw(st.sampled_from([None, 5_000])),
                undead_ms=draw(st.sampled_from([None, 700])),
                version=draw(st.integers(0, 1)),
            )
            for index, name in enumerate("abc"[: draw(st.integers(1, 3))])
        )
        made.append(
            GroupSpec(
                f"g{at}",
                children,
                draw(st.sampled_from(Strategy)),
                intensity=draw(st.integers(0, 3)),
                period_ms=PERIOD_MS,
                on_crash_loop=draw(st.sampled_from([CrashLoop.BACKOFF, CrashLoop.BACKOFF, CrashLoop.ESCALATE])),
                restart_delays=Delays(100, 2.0, 2_000, 0.5),
                probe_delays=Delays(1_000, 2.0, 8_000, 0.5),
                proven_ms=3_000,
            )
        )
    return tuple(made)


class World(RuleBasedStateMachine):
    """Everything that can happen to a tree, in any order."""

    @initialize(shape=groups())
    def begin(self, shape: tuple[GroupSpec, ...]) -> None:
        self.tree = plant(shape)
        self.now = 1_000
        self.alive: dict[str, Process] = {}
        self.undead: list[Process] = []
        self.stopped_tree = False
        self.halt_seen = False
        self.counted: dict[tuple[str, int], tuple[str, int]] = {}
        self.last_run: dict[str, int] = {}
        self.tell(on.Tick())

    broken = True
    """Set while a command is judged, so that what was found is not hidden by what follows from it."""

    # --- the world carries out commands, and judges them

    def tell(self, event: on.Event) -> None:
        self.broken = True
        before = self.deaths()
        self.tree, commands = react(self.tree, event, self.now)
        self.counted |= {who: (self.deaths()[who], self.now) for who in self.deaths().keys() - before.keys()}
        self.proof = not isinstance(event, on.Pardon)
        for command in commands:
            getattr(self, f"do_{type(command).__name__.lower()}")(command)
        again, nothing = react(self.tree, on.Tick(), self.now)
        assert nothing == (), f"ordered twice: {nothing}"
        assert again == self.tree
        self.broken = False

    def deaths(self) -> dict[tuple[str, int], str]:
        return {(death.child, death.run): group.id for group in self.tree.groups for death in group.deaths}

    def do_start(self, command: do.Start) -> None:
        assert not self.halt_seen, "started while halting"
        assert command.child not in self.alive, "two processes for one child"
        assert command.run > self.last_run.get(command.child, 0), "a run number was used twice"
        self.last_run[command.child] = command.run
        spec = self.tree.child(command.child).spec
        for other in self.tree.children:
            if other.spec.tier < spec.tier and other.goal in (Goal.UP, Goal.CYCLE):
                assert other.id in self.alive, f"{command.child} started before {other.id}"
                assert self.alive[other.id].ready, f"{command.child} started before {other.id} was ready"
        self.alive[command.child] = Process(command.child, command.run)

    def do_stop(self, command: do.Stop) -> None:
        process = self.current(command)
        assert not process.killed, "asked to stop what was killed"
        assert not process.stopping or (command.urgent and not process.urgent), "asked to stop twice"
        assert command.booting == (not process.ready)
        self.in_reverse(process)
        process.stopping, process.urgent = True, command.urgent

    def do_kill(self, command: do.Kill) -> None:
        process = self.current(command)
        assert not process.killed, "killed twice"
        process.killed, process.killed_at = True, self.now

    def do_abandon(self, command: do.Abandon) -> None:
        process = self.current(command)
        assert process.killed, "given up without having been killed"
        assert self.now - process.killed_at >= 700, "given up too soon"
        self.undead.append(self.alive.pop(command.child))

    def do_circuitchanged(self, command: do.CircuitChanged) -> None:
        assert self.tree.group(command.group).circuit is command.circuit
        if command.circuit is CircuitState.CLOSED and self.proof:
            self.counted = {who: at for who, at in self.counted.items() if at[0] != command.group}

    def do_halting(self, command: do.Halting) -> None:
        assert not self.halt_seen, "began to halt twice"
        self.halt_seen = True

    def do_halted(self, command: do.Halted) -> None:
        assert self.halt_seen, "halted without halting"
        assert not self.alive, "halted while something was alive"
        assert not self.stopped_tree, "halted twice"
        self.stopped_tree = True

    def current(self, command: do.Stop | do.Kill | do.Abandon) -> Process:
        process = self.alive[command.child]
        assert process.run == command.run
        return process

    def in_reverse(self, process: Process) -> None:
        if self.halt_seen and not process.stopping:
            tier = {child.id: child.spec.tier for child in self.tree.children}
            above = [other for other in self.alive if tier[other] > tier[process.child]]
            assert not above, f"{process.child} asked to stop before {above} were gone"

    # --- what can happen

    def pick(self, data: st.DataObject) -> Process:
        return self.alive[data.draw(st.sampled_from(sorted(self.alive)))]

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def a_child_is_ready(self, data: st.DataObject) -> None:
        process = self.pick(data)
        if not process.killed:
            process.ready = True
        self.tell(on.Ready(process.child, process.run))

    @rule()
    def all_children_are_ready(self) -> None:
        for process in list(self.alive.values()):
            if not process.killed and process.child in self.alive:
                process.ready = True
                self.tell(on.Ready(process.child, process.run))

    @precondition(lambda self: self.alive)
    @rule(
        data=st.data(),
        ending=st.sampled_from(Ending),
        excused=st.booleans(),
        final=st.sampled_from([False, False, False, True]),
        chance=CHANCE,
    )
    def a_child_ends(self, data: st.DataObject, ending: Ending, excused: bool, final: bool, chance: float) -> None:
        process = self.pick(data)
        del self.alive[process.child]
        child = self.tree.child(process.child)
        wanted = child.goal is Goal.UP and not final and not self.stillborn(process)
        faulty = child.overdue or not excused
        restarts = (Ending.FAILED if child.overdue else ending) in RESTARTED_AFTER[child.spec.restart]
        self.tell(on.Exited(process.child, process.run, ending, excused, final, "gone", 7, chance))
        assert ((process.child, process.run) in self.counted) == (wanted and faulty and restarts)

    def stillborn(self, process: Process) -> bool:
        """Killed for not being ready in time while no other of its group was up: no matter of counting."""
        group = self.tree.child(process.child).group
        others = [self.alive[child.id] for child in self.tree.members(group) if child.id in self.alive]
        up = [other for other in others if other.ready and not (other.killed or other.stopping)]
        return self.tree.child(process.child).overdue and not process.ready and not up

    @precondition(lambda self: any(not process.ready for process in self.alive.values()))
    @rule(data=st.data(), chance=CHANCE)
    def a_child_cannot_be_forked(self, data: st.DataObject, chance: float) -> None:
        process = data.draw(st.sampled_from([one for one in self.alive.values() if not one.ready]))
        del self.alive[process.child]
        self.tell(on.NotStarted(process.child, process.run, "no room", chance))

    @rule(ms=st.sampled_from([1, 99, 500, 1_000, 3_000, 20_000]))
    def time_passes(self, ms: int) -> None:
        until = self.now + ms
        while (wake := next_deadline_ms(self.tree, self.now)) is not None and wake <= until:
            self.now = wake
            self.tell(on.Tick())
        self.now = until
        self.tell(on.Tick())

    @rule(ms=st.sampled_from([1_000, 60_000]))
    def the_machine_sleeps(self, ms: int) -> None:
        self.now += ms
        before = {child.id: child.status for child in self.tree.children}
        self.tell(on.Slept(ms))
        blamed = [child.id for child in self.tree.children if child.status is Status.KILLING is not before[child.id]]
        assert not blamed, "killed for the time asleep"

    @rule(data=st.data(), late=st.booleans())
    def news_of_an_earlier_process(self, data: st.DataObject, late: bool) -> None:
        name = data.draw(st.sampled_from([child.id for child in self.tree.children] or ["nobody"]))
        stale = self.last_run.get(name, 1) - 1
        before = self.tree
        self.tell(on.Ready(name, stale) if late else on.Exited(name, stale, Ending.KILLED))
        assert self.tree == before

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), kind=st.sampled_from([on.Condemn, on.Recycle, on.Progress, on.Worked]))
    def something_befalls_a_child(self, data: st.DataObject, kind: type) -> None:
        process = self.pick(data)
        self.tell(kind(process.child, process.run))

    @precondition(lambda self: self.counted)
    @rule(data=st.data())
    def a_death_is_pardoned(self, data: st.DataObject) -> None:
        name, run = data.draw(st.sampled_from(sorted(self.counted)))
        del self.counted[name, run]
        self.tell(on.Pardon(name, run))

    @rule(data=st.data())
    def a_probe_is_asked_for(self, data: st.DataObject) -> None:
        self.tell(on.Probe(data.draw(st.sampled_from([group.id for group in self.tree.groups] or ["nobody"]))))

    @rule(shape=groups())
    def a_new_shape(self, shape: tuple[GroupSpec, ...]) -> None:
        self.reshape(shape)

    @precondition(lambda self: not self.halt_seen)
    @rule(data=st.data())
    def a_new_shape_without_one_child(self, data: st.DataObject) -> None:
        shape = tuple(group.spec for group in self.tree.groups if not self.leaving(group.id))
        gone = data.draw(st.sampled_from([spec.id for group in shape for spec in group.children] or ["nobody"]))
        shape = tuple(
            replace(group, children=tuple(spec for spec in group.children if spec.id != gone)) for group in shape
        )
        self.reshape(shape)

    def reshape(self, shape: tuple[GroupSpec, ...]) -> None:
        self.tell(on.Reshape(shape))
        self.counted.clear()

    def leaving(self, group: str) -> bool:
        return any(child.leaving for child in self.tree.members(group))

    @precondition(lambda self: not self.stopped_tree)
    @rule(urgent=st.booleans(), rarely=st.integers(0, 9))
    def a_halt(self, urgent: bool, rarely: int) -> None:
        if rarely == 0:
            self.tell(on.Halt(0, "asked", urgent))

    # --- what always holds

    @invariant()
    def the_tree_knows_who_is_alive(self) -> None:
        assert {child.id: child.run for child in self.tree.children if child.alive} == {
            process.child: process.run for process in self.alive.values()
        }

    @invariant()
    def statuses_agree_with_the_world(self) -> None:
        for child in self.tree.children:
            if child.status is Status.READY:
                assert self.alive[child.id].ready
            if child.status is Status.KILLING:
                assert self.alive[child.id].killed
            if child.status is Status.STOPPING:
                assert self.alive[child.id].stopping

    @invariant()
    def a_closed_circuit_has_seen_no_more_deaths_than_its_intensity(self) -> None:
        for group in self.tree.groups:
            recent = [at for name, at in self.counted.values() if name == group.id and at > self.now - PERIOD_MS]
            if group.circuit is CircuitState.CLOSED and self.tree.phase is Phase.RUNNING:
                assert len(recent) <= group.spec.intensity

    @invariant()
    def nothing_is_held_under_a_closed_circuit(self) -> None:
        for child in self.tree.children:
            if child.goal is Goal.HELD and not child.leaving:
                assert self.tree.group(child.group).circuit is not CircuitState.CLOSED

    @invariant()
    def a_halting_tree_wants_nothing(self) -> None:
        if self.tree.phase is not Phase.RUNNING:
            assert all(child.goal is Goal.DOWN for child in self.tree.children)

    def teardown(self) -> None:
        """Liveness: in a world where everything obeys, all that is wanted comes up, or everything comes down."""
        if self.broken:
            return
        for _ in range(100):
            self.everything_obeys()
            wake = next_deadline_ms(self.tree, self.now) or self.now
            self.now = min(max(wake, self.now), self.now + 900)
            self.tell(on.Tick())
        self.everything_obeys()
        if self.tree.phase is Phase.RUNNING:
            assert all(group.circuit is CircuitState.CLOSED for group in self.tree.groups)
            assert all(child.status is Status.READY for child in self.tree.children if child.goal is Goal.UP)
            assert all(child.goal in (Goal.UP, Goal.DOWN) for child in self.tree.children)
            assert not any(child.leaving for child in self.tree.children)
        else:
            assert self.stopped_tree

    def everything_obeys(self) -> None:
        """Every process is ready and makes progress, or ends as it was asked to, and so do those that follow."""
        for _ in range(4):
            for process in list(self.alive.values()):
                if self.alive.get(process.child) is process:
                    self.obey(process)

    def obey(self, process: Process) -> None:
        if process.stopping or process.killed:
            del self.alive[process.child]
            self.tell(on.Exited(process.child, process.run, Ending.ORDERED, excused=True))
        else:
            process.ready = True
            self.tell(on.Ready(process.child, process.run))
            self.tell(on.Progress(process.child, process.run))


TestWorld = World.TestCase
TestWorld.settings = settings(
    max_examples=int(os.environ.get("JOBSUP_TREE_RUNS", "100")),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
