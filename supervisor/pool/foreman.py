"""The foreman: one pool, one loop, one wait.

1. A turn waits for workers, keeper, master, signals or the next deadline, and turns what happened into events.
2. The tree decides about workers (`shape`, package `tree`), the ladder about jobs past their deadlines (`watch`).
3. What they order is carried out here. Whatever becomes of a worker is certified to the keeper (`burial`).
"""

from __future__ import annotations

import os
import random
import select
import selectors
import signal
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from supervisor.observe.failpoint import hit
from supervisor.pool.burial import EXIT, STOP, MemoryShortage, cause_of, certify, exited
from supervisor.pool.crew import Crew, spared, to_announce
from supervisor.pool.fork import Kit, Place, fork_worker
from supervisor.pool.headcount import Headcount
from supervisor.pool.ladder import Step
from supervisor.pool.member import Member
from supervisor.pool.preload import Preloaded
from supervisor.pool.shape import fitted, shape, standby
from supervisor.pool.voice import Voice
from supervisor.pool.watch import Watch
from supervisor.tree import commands as do
from supervisor.tree import events as on
from supervisor.tree.deadlines import next_deadline_ms
from supervisor.tree.groups import settled
from supervisor.tree.model import CircuitState, Ending, Phase, Status, plant
from supervisor.tree.react import react
from supervisor.unix.clock import boot_ms
from supervisor.unix.inheritance import FOREMAN_ESCALATED, ForemanInheritance
from supervisor.unix.reap import children, reap, reap_orphans
from supervisor.unix.signals import Signals
from supervisor.wire import control
from supervisor.wire.control import Link, LinkClosed

FAREWELL_MS = 500
"""How long an ending foreman waits for answers; the slots tell the keeper as well."""
OUTPUT_BYTES_PER_S = 256 * 1024
"""What one worker may write into the log: a handler that prints without end must not fill the disk."""
SWEEPS = 100
SWEEP_S = 0.005
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)


class Foreman:
    """A pool's foreman, once its import is done."""

    def __init__(self, given: ForemanInheritance, preloaded: Preloaded, parent: int) -> None:
        self._queue = given.queue
        self._log = given.log
        self._parent = parent
        unpreloaded = _why_unpreloaded(given, preloaded)
        self._voice = Voice(given.queue, Link(given.control), Link(given.link), unpreloaded)
        self._bell, bell_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._kit = Kit(given, preloaded.executor, preloaded.kept, bell_fd)
        self._signals = Signals(SIGNALS)
        self._crew = Crew()
        self._watch = Watch(given.queue.kill_grace_ms)
        self._shortage = MemoryShortage()
        self._headcount = Headcount(given.queue, given.workers, boot_ms(), by_hand=given.by_hand)
        self._standby = standby(preloaded=unpreloaded is None)
        self._tree = plant(shape(given.queue, range(self._headcount.target + self._standby)))
        self._events: deque[on.Event] = deque()
        self._detail: str | None = None
        self._orphaned = False
        self._up_said = False
        self._leave_at_ms: int | None = None
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._voice.master, selectors.EVENT_READ, self._hear_master)
        self._selector.register(self._voice.keeper, selectors.EVENT_READ, self._hear_keeper)
        self._selector.register(self._bell, selectors.EVENT_READ, self._hear_bell)
        self._selector.register(self._signals, selectors.EVENT_READ, lambda: None)

    # -- the loop ----------------------------------------------------------------------------------------------

    def serve(self) -> int:
        """Turn until the pool has stopped; returns the exit status."""
        self._voice.state(self._tree, None)
        if self._kit.executor is not None:
            self._voice.publish(self._kit.executor.known)
        self._turn()
        while not self._over():
            for key, _ in self._selector.select(self._timeout_s()):
                if self._selector.get_map().get(key.fd) is key:  # an earlier one of this wait may have closed it
                    key.data()
            self._turn()
        self._sweep()
        return FOREMAN_ESCALATED if self._tree.status else 0

    def _turn(self) -> None:
        self._take_signals()
        self._scale(boot_ms())
        self._obey(on.Tick())
        self._look(boot_ms())
        for member in to_announce(self._crew, self._tree, self._headcount.target):
            self._voice.announce(member)
        self._say_up()
        self._voice.turn(boot_ms())

    def _obey(self, *events: on.Event) -> None:
        """Tell the tree what happened and do what it orders, and what that leads to."""
        self._events.extend(events)
        while self._events:
            self._tree, orders = react(self._tree, self._events.popleft(), boot_ms())
            for order in orders:
                self._orders[type(order)](self, order)

    def _timeout_s(self) -> float:
        now_ms = boot_ms()
        moments = (
            next_deadline_ms(self._tree, now_ms),
            self._leave_at_ms,
            self._watch.at_ms,
            self._voice.next_ms(now_ms),
            self._headcount.next_ms if self._may_scale() else None,
        )
        return max(0, min(moment for moment in moments if moment is not None) - now_ms) / 1000

    def _say_up(self) -> None:
        """The pool is up when its workers are, or when one has shown that they will not be: status then says why."""
        up = settled(self._tree) or any(child.starts > 1 for child in self._tree.children)
        if up and not self._up_said:
            self._up_said = True
            self._voice.master.send(control.Ready())
            wanted, ready = self._headcount.target, sum(child.status is Status.READY for child in self._tree.children)
            self._log.emit("pool.ready", pool=self._queue.name, ready=min(ready, wanted), workers=wanted)

    def _scale(self, now_ms: int) -> None:
        """Have as many workers as are wanted by now; while the circuit is not closed, that is not asked."""
        before = self._headcount.target
        if self._may_scale():
            moved = self._headcount.look(lambda: [member.pid for member in self._crew], now_ms)
            if moved:
                self._log.emit(
                    "pool.scaled", pool=self._queue.name, before=before, after=moved.target, reason=moved.reason
                )
        news = self._headcount.news(self._queue.name, now_ms)
        if news:
            self._voice.say(news)
        numbers = self._fitted()
        if numbers is not None and self._tree.phase is Phase.RUNNING:
            self._obey(on.Reshape(shape(self._queue, numbers)))

    def _fitted(self) -> list[int] | None:
        """The numbers of the children that the tree must get, if it has not as many as are wanted."""
        wanted, most = self._headcount.target + self._standby, self._headcount.most + self._standby
        return fitted(self._tree, wanted, most, spared(self._crew, standing_by=self._standby > 0))

    def _may_scale(self) -> bool:
        return self._tree.phase is Phase.RUNNING and self._tree.groups[0].circuit is CircuitState.CLOSED

    def _over(self) -> bool:
        if self._tree.phase is not Phase.HALTED:
            return False
        now_ms = boot_ms()
        self._leave_at_ms = self._leave_at_ms or now_ms + FAREWELL_MS
        return self._orphaned or not self._voice.unanswered or now_ms >= self._leave_at_ms

    def _sweep(self) -> None:
        """End what jobs left behind: whatever still is, or becomes, a child of ours."""
        for _ in range(SWEEPS):
            left = children()
            if not left:
                return
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            select.select([], [], [], SWEEP_S)
            reap_orphans(())

    # -- orders of the tree ------------------------------------------------------------------------------------

    def _start(self, order: do.Start) -> None:
        if not self._crew.places:
            self._crew.waiting.append(order)
            return
        place = self._crew.places.popleft()
        try:
            forked = fork_worker(self._kit, place, order.child)
        except OSError as error:
            self._crew.places.appendleft(place)
            reason = f"no worker can be forked: {error.strerror}"
            if self._settles_for_less(reason):
                return
            self._events.append(on.NotStarted(order.child, order.run, reason, _chance()))
            return
        hit("foreman.after_fork")
        os.close(place.worker_end)
        batches = self._queue.batch_size is not None
        member = Member(order.child, order.run, place, forked, boot_ms(), batches=batches)
        self._crew.add(member)
        self._selector.register(member.pidfd, selectors.EVENT_READ, lambda: self._bury(member))
        self._selector.register(member.ready_fd, selectors.EVENT_READ, lambda: self._hear_worker(member))
        self._selector.register(member.output_fd, selectors.EVENT_READ, lambda: self._read_output(member))
        self._voice.introduce(member, self._tree)

    def _settles_for_less(self, reason: str) -> bool:
        """Whether the pool goes on with the workers that it has, for a while: then whoever was to start is dropped."""
        before, now_ms = self._headcount.target, boot_ms()
        if not self._headcount.settle_for(len(list(self._crew)) - self._standby, reason, now_ms):
            return False
        if self._headcount.target != before:
            self._log.emit(
                "pool.scaled", pool=self._queue.name, before=before, after=self._headcount.target, reason=reason
            )
        numbers = self._fitted()
        if numbers is not None:
            self._events.append(on.Reshape(shape(self._queue, numbers)))
        return True

    def _stop(self, order: do.Stop) -> None:
        member = self._crew.get(order.child)
        if not member:
            self._never_was(order.child, order.run)
            return
        member.leaving = True
        self._voice.keeper.send(control.Stopping((member.slot,)))
        member.send(signal.SIGTERM)

    def _kill(self, order: do.Kill) -> None:
        member = self._crew.get(order.child)
        if not member:
            self._never_was(order.child, order.run)
            return
        member.leaving = True
        if not (member.condemned and hit("ladder.kill")):
            member.kill()

    def _never_was(self, child: str, run: int) -> None:
        """It still waited for a slot."""
        self._crew.drop_waiting(child)
        self._events.append(on.Exited(child, run, Ending.ORDERED, excused=True))

    def _abandon(self, order: do.Abandon) -> None:
        member = self._crew.get(order.child)
        if member:
            self._crew.give_up(member)
            cause = member.climb.cause if member.climb and member.condemned else STOP
            self._voice.unanswered.add(certify(member, cause, None, boot_ms()), member.child, member.run)

    def _circuit(self, _order: do.CircuitChanged) -> None:
        self._watch.soon()
        self._voice.state(self._tree, self._detail)

    def _halting(self, order: do.Halting) -> None:
        self._voice.keeper.send(control.Stopping(tuple(member.slot for member in self._crew)))
        if order.status:
            self._voice.say(control.PoolState(self._queue.name, "open", order.reason, self._detail))

    _orders: Mapping[type, Callable[[Foreman, Any], None]] = {
        do.Start: _start,
        do.Stop: _stop,
        do.Kill: _kill,
        do.Abandon: _abandon,
        do.CircuitChanged: _circuit,
        do.Halting: _halting,
        do.Halted: lambda _foreman, _order: None,
    }

    # -- workers -----------------------------------------------------------------------------------------------

    def _hear_worker(self, member: Member) -> None:
        self._selector.unregister(member.ready_fd)
        if member.hear():
            if self._queue.has_tasks and self._kit.executor is None:
                self._voice.publish(member.known)
            self._watch.soon()
            self._obey(on.Ready(member.child, member.run))

    def _read_output(self, member: Member) -> None:
        if not member.hear_output(boot_ms()):
            self._selector.unregister(member.output_fd)
        now_ms = boot_ms()
        if now_ms >= member.said_until_ms:
            member.said_until_ms, member.said_bytes = now_ms + 1_000, 0
        for line in member.take_lines():
            before, member.said_bytes = member.said_bytes, member.said_bytes + len(line)
            if member.said_bytes <= OUTPUT_BYTES_PER_S:
                self._log.emit("worker.output", pool=self._queue.name, pid=member.pid, line=line)
            elif before <= OUTPUT_BYTES_PER_S:
                self._log.emit("worker.output_dropped", pool=self._queue.name, pid=member.pid)

    def _bury(self, member: Member) -> None:
        """A worker has ended: its session goes with it, then it is reaped, certified, and the tree decides the rest.

        The session is ended first, while the dead leader still holds its number.
        """
        member.kill()
        self._read_last_words(member)
        end = reap(member.pid)
        assert end is not None, "a readable pidfd means that the process has ended"
        hit("foreman.after_reap")
        cause = cause_of(member, end)
        oom = self._shortage.explains(end, cause)
        event = exited(member, end, cause, _chance())
        self._voice.unanswered.add(certify(member, cause, end, boot_ms(), oom=oom), member.child, member.run)
        unusable = member.unusable
        self._detail = unusable[1] if unusable else member.stacks or member.last_output
        if cause == EXIT:
            self._log.emit("pool.worker_died", pool=self._queue.name, pid=member.pid, slot=member.slot, status=str(end))
        self._crew.remove(member)
        member.close()
        self._obey(event)

    def _read_last_words(self, member: Member) -> None:
        if self._selector.get_map().get(member.output_fd):
            self._read_output(member)
        member.hear()
        for fd in (member.pidfd, member.ready_fd, member.output_fd):
            if self._selector.get_map().get(fd):
                self._selector.unregister(fd)

    # -- deadlines ---------------------------------------------------------------------------------------------

    def _look(self, now_ms: int) -> None:
        probing = self._tree.groups[0].circuit is CircuitState.PROBING
        for member, step in self._watch.look(self._crew, now_ms, probing=probing):
            climb = member.climb
            if climb is None or not (step is Step.KILL or member.is_at(climb.job)):
                member.climb = None  # it has ended just now: what would be done is the next job's no more
                continue
            member.aim(climb.job)
            self._steps[step](self, member)
            self._log.emit("pool.ladder", pool=self._queue.name, job=climb.job[0], pid=member.pid, step=step.value)
        if probing:
            self._obey(*(on.Worked(member.child, member.run) for member in self._crew if member.done))

    def _dump(self, member: Member) -> None:
        member.pass_over_stacks()
        member.send(signal.SIGUSR2)

    def _interrupt(self, member: Member) -> None:
        member.send(signal.SIGUSR1)

    def _terminate(self, member: Member) -> None:
        member.leaving = True
        member.send_group(signal.SIGTERM)
        self._obey(on.Recycle(member.child, member.run))

    def _condemn(self, member: Member) -> None:
        member.condemned = True
        self._obey(on.Condemn(member.child, member.run))

    _steps: Mapping[Step, Callable[[Foreman, Member], None]] = {
        Step.DUMP: _dump,
        Step.SOFT: _interrupt,
        Step.TERM: _terminate,
        Step.KILL: _condemn,
    }

    # -- who talks to us ---------------------------------------------------------------------------------------

    def _take_signals(self) -> None:
        caught = self._signals.caught()
        if os.getppid() != self._parent:
            self._orphan()
        if signal.SIGTERM in caught:
            self._hear_master()  # a stop that was asked for in words brings its own grace, and goes before
            self._obey(on.Halt(reason="SIGTERM", grace_ms=self._queue.kill_grace_ms))
        if signal.SIGUSR1 in caught:
            self._log.reopen()
        if signal.SIGCHLD in caught:
            reap_orphans(self._crew.pids())

    def _orphan(self) -> None:
        """The master is gone: nothing of ours outlives it, and nobody is there to answer."""
        if not self._orphaned:
            self._orphaned = True
            self._obey(on.Halt(reason="the master is gone", urgent=True))

    def _hear_bell(self) -> None:
        os.read(self._bell, 4096)
        self._watch.soon()

    def _hear_master(self) -> None:
        try:
            for message, descriptors in self._voice.master.receive():
                self._from_master.get(type(message), _ignore)(self, message, descriptors)
        except LinkClosed:
            if self._selector.get_map().get(self._voice.master):
                self._selector.unregister(self._voice.master)
            self._orphan()

    def _hear_keeper(self) -> None:
        try:
            for message, descriptors in self._voice.keeper.receive():
                self._from_keeper.get(type(message), _ignore)(self, message, descriptors)
        except LinkClosed:
            self._selector.unregister(self._voice.keeper)

    def _slot_given(self, message: control.SlotGiven, descriptors: list[int]) -> None:
        worker_end, folder = descriptors
        descriptors.clear()
        self._crew.places.append(Place(message, worker_end, folder))
        if self._crew.waiting:
            self._start(self._crew.waiting.popleft())

    def _asked_to_stop(self, message: control.Stop, _descriptors: list[int]) -> None:
        self._obey(on.Halt(reason="stop", urgent=message.grace_ms == 0, grace_ms=message.grace_ms))

    def _asked_to_probe(self, _message: control.ProbeAsked, _descriptors: list[int]) -> None:
        self._obey(on.Probe(self._queue.name))

    def _resized(self, message: control.Resized, _descriptors: list[int]) -> None:
        self._queue = msgspec.structs.replace(self._queue, workers=message.workers, scale=message.scale)
        self._headcount.resize(self._queue)

    def _loaded(self, message: control.PoolLoad, _descriptors: list[int]) -> None:
        self._headcount.hear(message, boot_ms())

    def _asked_to_scale(self, message: control.ScaleAsked, _descriptors: list[int]) -> None:
        self._headcount.set_by_hand(message.workers)

    def _greeted(self, _message: control.Hello, _descriptors: list[int]) -> None:
        self._headcount.begin_anew(boot_ms())
        self._voice.again(self._crew, self._tree, self._detail, boot_ms())

    def _answered(self, message: control.Answered, _descriptors: list[int]) -> None:
        judged = self._voice.unanswered.answered(message.slot, gone=message.gone)
        if judged and message.pardoned:
            self._obey(on.Pardon(*judged))

    def _cancel(self, message: control.CancelRunning, _descriptors: list[int]) -> None:
        member = self._crew.on_slot(message.slot)
        if member:
            member.asked.add((message.id, message.token))
            self._watch.soon()

    def _recycle(self, message: control.RecycleWorker, _descriptors: list[int]) -> None:
        member = self._crew.on_slot(message.slot)
        if member:
            self._obey(on.Recycle(member.child, member.run))

    _from_master: Mapping[type, Callable[[Foreman, Any, list[int]], None]] = {
        control.SlotGiven: _slot_given,
        control.Stop: _asked_to_stop,
        control.ProbeAsked: _asked_to_probe,
        control.Resized: _resized,
    }
    _from_keeper: Mapping[type, Callable[[Foreman, Any, list[int]], None]] = {
        control.Hello: _greeted,
        control.Answered: _answered,
        control.CancelRunning: _cancel,
        control.RecycleWorker: _recycle,
        control.ProbeAsked: _asked_to_probe,
        control.PoolLoad: _loaded,
        control.ScaleAsked: _asked_to_scale,
    }


def _ignore(_foreman: Foreman, _message: object, _descriptors: list[int]) -> None:
    pass


def _chance() -> float:
    return random.random()  # noqa: S311 - jitter


def _why_unpreloaded(given: ForemanInheritance, preloaded: Preloaded) -> str | None:
    if preloaded.executor is not None:
        return None
    return given.unpreloaded or "preload = false"
