"""The foreman: imports the application once, then forks, watches, times and buries the workers of its pool.

1. boot: rights, network, import; an unusable handler ends it with a status that opens the pool's circuit.
2. Every decision about its workers is the tree's; every job past its deadline goes up the ladder.
3. A worker that ended is reaped, its session killed, its certificate repeated until the keeper answers it.
"""

from __future__ import annotations

import os
import random
import selectors
import signal
import socket
from collections import deque
from typing import Any

from supervisor.config.spec import Queue
from supervisor.observe.failpoint import hit
from supervisor.pool.preload import preload, take_on
from supervisor.pool.worker import Ended, Place, Worker, reap
from supervisor.tree import commands as order
from supervisor.tree import events as on
from supervisor.tree.deadlines import next_deadline_ms
from supervisor.tree.model import ChildSpec, CircuitState, CrashLoop, Ending, GroupSpec, Phase, Tree, plant
from supervisor.tree.react import react
from supervisor.unix.clock import boot_ms
from supervisor.unix.inheritance import (
    FOREMAN_UNPRELOADABLE,
    FOREMAN_UNUSABLE,
    Executor,
    ForemanInheritance,
    HandlerUnusable,
    WorkerInheritance,
)
from supervisor.unix.lock import process_start
from supervisor.unix.slot import SPARE_SLOTS
from supervisor.unix.spawn import adopt_orphans, die_with, reap_strangers, spawn
from supervisor.wire import control
from supervisor.wire.control import Link, LinkClosed

REPEAT_MS = 200
LOOK_MS = 1_000
IDLE_LOOK_MS = 10_000
UNDEAD_MS = 5_000
FAREWELL_MS = 1_500
FOREVER_MS = 1 << 40
OOM_SCORE = "500"
WORKERS = "workers"


def run(given: ForemanInheritance) -> int:
    """A foreman's whole life; returns its exit status."""
    foreman = Foreman(given)
    try:
        foreman.boot()
    except HandlerUnusable as unusable:
        foreman.tell(control.PoolState(given.queue.name, "open", unusable.message, unusable.detail))
        return FOREMAN_UNUSABLE
    if foreman.leftover:
        foreman.tell(control.PoolState(given.queue.name, "closed", foreman.leftover, preloaded=False))
        return FOREMAN_UNPRELOADABLE
    return foreman.serve()


class Foreman:
    """One pool."""

    def __init__(self, given: ForemanInheritance) -> None:
        self._given = given
        self._queue: Queue = given.queue
        self._master = Link(given.control)
        self._keeper = Link(given.link)
        self._selector = selectors.DefaultSelector()
        self._executor: Executor | None = None
        self._unpreloaded: str | None = None
        self._kept_fds: set[int] = set()
        self._places: deque[Place] = deque()
        self._waiting: deque[order.Start] = deque()
        self._workers: dict[str, Worker] = {}
        self._certificates: dict[int, control.Certificate] = {}
        self._abandoned: list[Worker] = []
        self._runs: dict[int, tuple[str, int]] = {}
        self._repeat_at_ms = 0
        self._events: deque[on.Event] = deque()
        self._tree: Tree
        self._stop_at_ms: int | None = None
        self._leave_at_ms: int | None = None
        self._deserted = False
        self._terminated = False
        self._restarts = 0
        self._turns = 0
        self._look_at_ms = 0

    # -- boot --------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Everything before the first worker.

        Raises:
            HandlerUnusable: rights, network or handler are not there.
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        adopt_orphans()
        parent = os.getppid()
        take_on(self._queue)
        die_with(parent, signal.SIGTERM)
        self._unpreloaded = self._given.unpreloaded or ("preload" if self._queue.preload == "never" else None)
        done = preload(self._given)
        self._executor, self._kept_fds = done.executor, set(done.kept)
        self.leftover = done.leftover
        self._watch()
        count = self._queue.workers + (SPARE_SLOTS if self._unpreloaded else 0)
        self._tree = plant((shape(self._queue, count),))
        self.tell(control.PoolState(self._queue.name, "closed", None, None, preloaded=not self._unpreloaded))
        self._master.send(control.Ready())

    def _watch(self) -> None:
        read, write = socket.socketpair()
        self._bell_read, self._bell_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        for end in (read, write):
            end.setblocking(False)
        self._wake = (read, write)
        signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        self._selector.register(read, selectors.EVENT_READ, lambda: read.recv(4096))
        self._selector.register(self._bell_read, selectors.EVENT_READ, self._rung)
        self._selector.register(self._master, selectors.EVENT_READ, self._master_said)
        self._selector.register(self._keeper, selectors.EVENT_READ, self._keeper_said)

    def _on_term(self, *_: object) -> None:
        self._terminated = True

    def _rung(self) -> None:
        os.read(self._bell_read, 4096)
        self._look_at_ms = 0

    # -- the loop ----------------------------------------------------------------------------------------------

    def serve(self) -> int:
        """Turn until the workers are gone and certified."""
        self._events.append(on.Tick())
        self._obey()
        while not self._over():
            for key, _ in self._selector.select(self._timeout_s()):
                key.data()
            self._turn()
        return 0

    def _turn(self) -> None:
        self._turns += 1
        now_ms = boot_ms()
        if self._deserted or self._terminated:
            self._end_all()
        if self._stop_at_ms is not None and now_ms >= self._stop_at_ms:
            self._stop_at_ms = None
            self._events.append(on.Halt(urgent=True))
        self._look(now_ms)
        reap_strangers({worker.pid for worker in (*self._workers.values(), *self._abandoned)})
        self._events.append(on.Tick())
        self._obey()
        self._flush(now_ms)

    def _over(self) -> bool:
        if self._deserted:
            return True
        if self._tree.phase is not Phase.HALTED:
            return False
        if self._leave_at_ms is None:
            self._leave_at_ms = boot_ms() + FAREWELL_MS
        return not self._certificates or boot_ms() >= self._leave_at_ms

    def _timeout_s(self) -> float:
        now_ms = boot_ms()
        times = [self._look_at_ms]
        for at in (next_deadline_ms(self._tree, now_ms), self._stop_at_ms, self._leave_at_ms):
            if at is not None:
                times.append(at)
        if self._certificates or self._master.congested or self._keeper.congested:
            times.append(now_ms + REPEAT_MS // 4)
        return max(0, min(times) - now_ms) / 1000

    def _obey(self) -> None:
        while self._events:
            self._tree, orders = react(self._tree, self._events.popleft(), boot_ms())
            for one in orders:
                HANDLERS[type(one)](self, one)

    def tell(self, message: Any) -> None:
        """Say something to both keeper and master."""
        self._keeper.send(message)
        self._master.send(message)

    def _flush(self, now_ms: int) -> None:
        """Send what waited, and repeat certificates that were not answered."""
        self._keeper.flush()
        self._master.flush()
        if self._certificates and now_ms >= self._repeat_at_ms:
            self._repeat_at_ms = now_ms + REPEAT_MS
            for certificate in self._certificates.values():
                self._keeper.send(certificate)

    # -- orders of the tree ------------------------------------------------------------------------------------

    def start(self, what: order.Start) -> None:
        """Fork a worker on a spare slot, or as soon as there is one."""
        if not self._places:
            self._waiting.append(what)
            return
        place = self._places.popleft()
        try:
            self._fork(what, place)
        except OSError as error:
            self._places.appendleft(place)
            reason = f"no worker can be forked: {error}"
            self._events.append(on.NotStarted(what.child, what.run, reason, random.random()))  # noqa: S311 - jitter

    def _fork(self, what: order.Start, place: Place) -> None:
        ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
        given = WorkerInheritance(
            self._queue, place.given.slot, place.worker_end, place.directory_fd, ready_write, self._bell_write,
            self._executor, self._given.load,
        )  # fmt: skip
        keep = {place.worker_end.fileno(), place.directory_fd, ready_write, self._bell_write, *self._kept_fds}
        try:
            spawned = spawn(
                lambda: work(given, self._given), name=f"{self._queue.name}/{what.child}", keep=keep,
                death_signal=signal.SIGKILL,
            )  # fmt: skip
        except OSError:
            os.close(ready_read)
            raise
        finally:
            os.close(ready_write)
        hit("foreman.after_fork")
        worker = Worker(what.child, what.run, place, spawned, ready_read, boot_ms())
        worker.start_time = process_start(worker.pid)
        worker.memory.watch_until_ms = self._look_at_ms
        self._workers[what.child] = worker
        if what.run > len(self._tree.children):
            self._restarts += 1
        self._selector.register(worker.pidfd, selectors.EVENT_READ, lambda: self._ended(worker))
        self._selector.register(ready_read, selectors.EVENT_READ, lambda: self._ready(worker))
        self._introduce(worker)

    def _introduce(self, worker: Worker) -> None:
        self.tell(control.Started(worker.slot, worker.pid, worker.start_time, self._restarts))

    def stop(self, what: order.Stop) -> None:
        """Let a worker finish its current job and hand back the rest."""
        worker = self._workers.get(what.child)
        if worker:
            worker.stopping = True
            self._keeper.send(control.Stopping((worker.slot,)))
            worker.send(signal.SIGKILL if what.booting or what.urgent else signal.SIGTERM)

    def kill(self, what: order.Kill) -> None:
        """End a worker that was asked in vain, or that never became ready."""
        worker = self._workers.get(what.child)
        if worker:
            worker.stopping = True
            worker.kill()

    def abandon(self, what: order.Abandon) -> None:
        """A worker that does not die, even of SIGKILL: its jobs go on elsewhere, and it is watched to its end."""
        worker = self._workers.pop(what.child, None)
        if worker:
            worker.abandoned = True
            self._abandoned.append(worker)
            self._certify(worker, None)

    def circuit(self, what: order.CircuitChanged) -> None:
        """Say how the pool stands."""
        reason = what.reason if what.circuit is not CircuitState.CLOSED else None
        state = control.PoolState(
            self._queue.name, what.circuit.value, reason, None, preloaded=not self._unpreloaded,
            restarts=self._restarts,
        )  # fmt: skip
        self.tell(state)

    def ignore(self, _what: object) -> None:
        """The beginning and the end of the halt are read from the tree."""

    # -- news of workers ---------------------------------------------------------------------------------------

    def _ready(self, worker: Worker) -> None:
        said = os.read(worker.ready_fd, 16)
        self._selector.unregister(worker.ready_fd)
        if said:
            worker.ready = True
            self._events.append(on.Ready(worker.child, worker.run))
            self._announce()

    def _announce(self) -> None:
        """Let the keeper use as many workers as the pool has; more of them, ready, stand by."""
        announced = sum(worker.announced for worker in self._workers.values())
        for worker in self._workers.values():
            if announced >= self._queue.workers:
                return
            if worker.ready and not worker.announced and not worker.stopping:
                worker.announced = True
                announced += 1
                self.tell(control.WorkerReady(worker.slot))

    def _ended(self, worker: Worker) -> None:
        """A worker is gone: its session with it, its certificate to the keeper, and the tree decides about another."""
        ended = reap(worker.pid)
        self._unwatch(worker)
        worker.kill_leftovers()
        self._certify(worker, ended)
        if worker.abandoned:
            self._abandoned.remove(worker)
        else:
            self._workers.pop(worker.child, None)
            self._events.append(self._death(worker, ended))
        worker.close()
        self._announce()

    def _unwatch(self, worker: Worker) -> None:
        for fd in (worker.pidfd, worker.ready_fd):
            try:
                self._selector.unregister(fd)
            except KeyError:
                pass

    def _certify(self, worker: Worker, ended: Ended | None) -> None:
        certificate = worker.certificate(self._cause(worker), boot_ms(), ended)
        self._runs[worker.slot] = (worker.child, worker.run)
        self._certificates[worker.slot] = certificate
        self._keeper.send(certificate)

    def _cause(self, worker: Worker) -> str:
        if worker.climb and worker.climb.rung > 0:
            return worker.climb.cause
        return "stop" if worker.stopping else "exit"

    def _death(self, worker: Worker, ended: Ended) -> on.Exited:
        ordered = worker.stopping or (worker.climb is not None and worker.climb.rung > 1)
        ending = (
            Ending.ORDERED
            if ordered
            else Ending.NORMAL
            if ended.exit_code == 0
            else Ending.KILLED
            if ended.signal is not None
            else Ending.FAILED
        )
        how = f"signal {ended.signal}" if ended.signal is not None else f"status {ended.exit_code}"
        return on.Exited(
            worker.child, worker.run, ending, excused=worker.done > 0, reason=f"a worker ended with {how}",
            chance=random.random(),  # noqa: S311 - jitter
        )  # fmt: skip

    # -- deadlines ---------------------------------------------------------------------------------------------

    def _look(self, now_ms: int) -> None:
        """Look at the cells of every worker; say in their memory when we look again."""
        grace_ms = self._queue.kill_grace_ms
        busy = False
        for worker in (*self._workers.values(), *self._abandoned):
            worker.look(grace_ms, now_ms)
            busy = busy or bool(worker.memory.cells())
        latest_ms = now_ms + (LOOK_MS if busy else IDLE_LOOK_MS)
        times = [worker.next_look_ms(grace_ms, latest_ms) for worker in self._workers.values()]
        self._look_at_ms = max(now_ms + 1, min(times, default=latest_ms))
        for worker in self._workers.values():
            worker.memory.watch_until_ms = self._look_at_ms

    # -- master and keeper -------------------------------------------------------------------------------------

    def _master_said(self) -> None:
        try:
            for message, fds in self._master.receive():
                match message:
                    case control.SlotGiven():
                        worker_end = socket.socket(fileno=fds[0])
                        self._places.append(Place(message, worker_end, fds[1]))
                        if self._waiting:
                            self.start(self._waiting.popleft())
                    case control.Stop(grace_ms):
                        self._stop(grace_ms)
        except LinkClosed:
            self._selector.unregister(self._master)
            self._deserted = True

    def _stop(self, grace_ms: int) -> None:
        self._events.append(on.Halt(urgent=grace_ms == 0))
        if grace_ms:
            self._stop_at_ms = boot_ms() + grace_ms

    def _keeper_said(self) -> None:
        try:
            for message, fds in self._keeper.receive():
                for fd in fds:
                    os.close(fd)
                self._hear_keeper(message)
        except LinkClosed:
            self._selector.unregister(self._keeper)

    def _hear_keeper(self, message: Any) -> None:
        match message:
            case control.Hello():
                self._repeat_at_ms = 0
                for worker in self._workers.values():
                    self._introduce(worker)
                    if worker.announced:
                        self._keeper.send(control.WorkerReady(worker.slot))
                state = self._tree.group(WORKERS)
                circuit = order.CircuitChanged(WORKERS, state.circuit, state.reason)
                self.circuit(circuit)
            case control.Answered(slot, pardon):
                self._certificates.pop(slot, None)
                child, run = self._runs.pop(slot, ("", 0))
                if pardon:
                    self._events.append(on.Pardon(child, run))
            case control.CancelRunning(slot, job, token):
                for worker in self._workers.values():
                    if worker.slot == slot:
                        worker.cancel(job, token, boot_ms())
                        self._look_at_ms = 0
            case control.RecycleWorker(slot):
                for worker in self._workers.values():
                    if worker.slot == slot:
                        self._events.append(on.Recycle(worker.child, worker.run))
            case control.ProbeAsked():
                self._events.append(on.Probe(WORKERS))

    def _end_all(self) -> None:
        """The master is gone, or wants us gone now: nothing of ours outlives us."""
        for worker in (*self._workers.values(), *self._abandoned):
            worker.kill()
        self._deserted = True


HANDLERS: dict[type, Any] = {
    order.Start: Foreman.start,
    order.Stop: Foreman.stop,
    order.Kill: Foreman.kill,
    order.Abandon: Foreman.abandon,
    order.CircuitChanged: Foreman.circuit,
    order.Halting: Foreman.ignore,
    order.Halted: Foreman.ignore,
}


def shape(queue: Queue, count: int) -> GroupSpec:
    """The pool's workers, as a pure function of its queue."""
    children = tuple(
        ChildSpec(
            str(number), boot_timeout_ms=queue.boot_timeout_ms, shutdown_ms=FOREVER_MS, urgent_ms=0,
            undead_ms=UNDEAD_MS,
        )
        for number in range(count)
    )  # fmt: skip
    return GroupSpec(
        WORKERS,
        children,
        intensity=queue.restart.intensity,
        period_ms=queue.restart.period_ms,
        on_crash_loop=CrashLoop.BACKOFF,
    )


def work(given: WorkerInheritance, foreman: ForemanInheritance) -> int:
    """A worker's body: what the kernel should end first when memory is short, then the worker itself."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(OOM_SCORE)
    except OSError:
        pass
    return foreman.worker(given)
