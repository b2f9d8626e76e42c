"""The keeper: owns the database, serves the public socket, leases jobs to workers and settles what they report.

One loop around one wait. A turn reads what has arrived, then does one pass: everything that gathered goes into one
transaction, and whoever waits is told after its commit. While one commit syncs, the next group gathers.
"""

from __future__ import annotations

import gc
import os
import select
import selectors
import signal
import socket
from types import MappingProxyType
from typing import Any

from supervisor.errors import EXIT_IO, JobsupError, StoreError
from supervisor.keeper import adoption, dispatch, housekeeping
from supervisor.keeper.alerting import Alerting
from supervisor.keeper.fetches import Asked
from supervisor.keeper.intake import refuse_overdue, refuse_unfit
from supervisor.keeper.outboxes import Outboxes
from supervisor.keeper.passes import FAILURE_PAUSE_MS, Passes
from supervisor.keeper.pending import Operation, PendingGroup
from supervisor.keeper.private import Private
from supervisor.keeper.service import Service
from supervisor.keeper.slots import KeeperSlot
from supervisor.keeper.state import State
from supervisor.keeper.undertaker import bury_all
from supervisor.keeper.work import Work
from supervisor.observe.failpoint import hit
from supervisor.observe.log import Log
from supervisor.store.driver import sqlite_version
from supervisor.store.open import open_store
from supervisor.store.reader import Reader
from supervisor.unix.clock import boot_ms, wall_ms
from supervisor.unix.inheritance import KeeperInheritance
from supervisor.wire.control import Progress, Ready
from supervisor.wire.server import Server

GATHER_MS = 1
PROGRESS_EVERY_MS = 1_000
FINISH_PAUSE_MS = 50
COLLECTOR_THRESHOLDS = (20_000, 20, 50)
ONE_SHOT_QUIET_MS = 1_000
"""A one-shot keeper whose client asks nothing for so long gives the database free; the client starts another."""


def run(given: KeeperInheritance) -> int:
    """The keeper of a daemon, from fork to exit status."""
    log = Log(given.spec.log.target, given.spec.log.level, given.spec.log.format, wall_ms)
    log.role = "keeper"
    try:
        store = open_store(given.spec.daemon.database, given.spec.daemon.durability, create=True, migrate=True)
    except JobsupError as error:
        log.emit("keeper.unopened", error=f"{error.message}{f' ({error.hint})' if error.hint else ''}")
        return error.exit_status
    state = State(given.spec, store, log, given.boot_id, given.epoch)
    state.reload_error = given.reload_error
    keeper = Keeper(state)
    try:
        keeper.take_up(given)
    except StoreError as error:
        log.emit("keeper.unopened", error=error.message)
        return EXIT_IO
    _calm_collector()
    return keeper.serve()


def _calm_collector() -> None:
    """Look for cycles rarely, and not among what was there before the first job: each look took 20 ms, for everyone."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


class Keeper:
    """The loop. With a master it serves slots; alone, as a one-shot, only the client that started it."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.selector = selectors.DefaultSelector()
        self.private = Private(state, self.selector)
        self.chores = housekeeping.Chores(boot_ms())
        self.chores.archiving = state.archiving
        housekeeping.watch_clock(state, self.chores, wall_ms(), boot_ms())
        self.outboxes = Outboxes(state, self.selector, self.private)
        self.passes = Passes(state, self.chores, self._tell_waiters, self.outboxes.take)
        self.reader = Reader(state.store.connection, state.spec.queue, hidden_in=state.spec.hidden_in)
        self.alerting = Alerting(state, self.selector, self.private, self.reader)
        self.server: Server
        self.service: Service
        self.orphaned = False
        self.stopping = False
        self._progress_at_ms = 0
        self._finish_until_ms: int | None = None
        state.forget_bell = self._forget_bell

    # -- boot --------------------------------------------------------------------------------------------------

    def take_up(self, given: KeeperInheritance) -> None:
        """Take up what the master handed down: listeners, links, slots; adopt what the rows say of them."""
        self.listen(given.listeners, given.scopes)
        self._watch_signals()
        self.selector.register(given.lifeline, selectors.EVENT_READ, self._master_gone)
        for handed in given.slots:
            self.private.add_slot(handed)
        state = self.state
        for slot in state.slots.values():
            state.rung[slot.number] = boot_ms()
        adopted = self._adopt(given)
        if not given.slots:
            adoption.sweep_directories(given.spec.daemon.run_dir)
        self.private.add_master(given.control)
        for pool, link in given.links.items():
            self.private.add_foreman(pool, link)
        if given.alerter:
            self.alerting.add_alerter(given.alerter)
        for outbox, sock in given.relays.items():
            self.outboxes.add_relay(outbox, sock)
        counts = self.reader.counts()
        jobs = sum(sum(of.values()) - of["completed"] - of["dead"] - of["cancelled"] for of in counts.values())
        state.log.emit("keeper.ready", sqlite=".".join(map(str, sqlite_version)), jobs=jobs, adopted=adopted)
        assert state.control is not None
        state.control.send(Ready())

    def _adopt(self, given: KeeperInheritance) -> int:
        """Adopt leases; returns how many. A successor waits for a store that cannot commit, as its workers do.

        Raises:
            StoreError: the first keeper of a daemon cannot begin.
        """
        while not (self.orphaned or self.stopping):
            work: Work | None = None
            try:
                with self.state.store.transaction(wall_ms()) as tx:
                    work = self.passes.work(tx)
                    adopted = adoption.adopt(work)
            except StoreError as error:
                if work:
                    work.failed()
                if not given.slots:
                    raise
                self.passes.failed(boot_ms(), str(error))
                self.orphaned = bool(select.select([given.lifeline], [], [], FAILURE_PAUSE_MS / 1000)[0])
            else:
                work.committed()
                return adopted
        return 0

    def listen(self, listeners: Any, scopes: Any = MappingProxyType({})) -> None:
        """Serve the public socket, and those of scopes by name."""
        self.server = Server(listeners, self.selector, boot_ms, scopes)
        self.private.server = self.server
        self.state.send_replies = self.server.flush
        self.service = Service(self.state, self.server, self.private, self.reader, self.alerting, self.outboxes)

    def _watch_signals(self) -> None:
        read, write = socket.socketpair()
        for end in (read, write):
            end.setblocking(False)
        self._wake = (read, write)
        signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_stop)
        for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGQUIT):
            signal.signal(ignored, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, lambda *_: self.state.log.reopen())
        self.selector.register(read, selectors.EVENT_READ, lambda _: read.recv(512))

    def _on_stop(self, *_: object) -> None:
        self.stopping = True

    def _master_gone(self, _: int) -> None:
        self.orphaned = True

    def _forget_bell(self, slot: KeeperSlot) -> None:
        try:
            self.selector.unregister(slot.sock or -1)
        except (KeyError, ValueError):
            pass

    # -- the loop ----------------------------------------------------------------------------------------------

    def serve(self) -> int:
        """Turn until the master says to finish, or is gone; returns the exit status."""
        while not self._done():
            self._hear(self._timeout_s())
            self.turn()
        if self.orphaned:
            bury_all(self.state, self.private)
        return self.finish()

    def serve_one(self, sock: socket.socket, scope: str = "") -> None:
        """Turn until the one client is gone or asks no more, or a daemon wants the database."""
        self.listen(())
        self._watch_signals()
        connection = self.server.adopt(sock, scope)
        quiet_at_ms = boot_ms() + ONE_SHOT_QUIET_MS
        while not self.stopping and (self._unwritten() or not (connection.closed or boot_ms() >= quiet_at_ms)):
            self._hear(min(self._timeout_s(), ONE_SHOT_QUIET_MS / 4000))
            if self.server.requests:
                quiet_at_ms = boot_ms() + ONE_SHOT_QUIET_MS
            self.turn()

    def _hear(self, timeout_s: float) -> None:
        """Wait for something to arrive, and take it; what an earlier arrival has closed is passed over."""
        for key, mask in self.selector.select(timeout_s):
            if self.selector.get_map().get(key.fd) is key:
                key.data(mask)

    def _done(self) -> bool:
        return self.orphaned or self.stopping or self.private.finish_within_ms is not None

    def turn(self) -> None:
        """Read, pass, and look after what is due."""
        now_ms = boot_ms()
        self.reader.queue_of, self.reader.hidden_in = self.state.spec.queue, self.state.spec.hidden_in
        self.server.tick(now_ms)
        self.service.read_requests()
        self.private.flush()
        self._refuse_overdue()
        if self.state.unfit:
            refuse_unfit(self.state, now_ms)
        if self._pass_due(now_ms):
            self.passes.attempt(now_ms)
            self._refuse_overdue()  # a try that fails has taken its time
        self.service.waits.end(now_ms)
        self.state.lending.end(now_ms)
        self.server.flush()
        dispatch.send_unsent(self.state)
        self.alerting.turn(now_ms)
        self.outboxes.turn()
        self.state.loads.tell(now_ms)
        self._look_after(now_ms)

    def _refuse_overdue(self) -> None:
        if self.state.failure is not None:
            refuse_overdue(self.state, boot_ms(), self.state.failure)

    def _timeout_s(self) -> float:
        state = self.state
        if self.service.hurried:
            return 0
        if self.server.requests or self._wanted():
            return 0 if state.failure is None else self._failing_s()
        times = [self.chores.next_ms(idle=not state.rung), self._progress_at_ms]
        times += [at + GATHER_MS for at in state.rung.values()]
        due = [state.flush_at_ms, state.recall_at_ms, state.withdraw_at_ms, state.standstill.at_ms, state.loads.next_ms]
        due += [state.tasks.unblock_at_ms, state.lending.next_ms, state.gather_at_ms]
        due += [self.alerting.next_ms(boot_ms()), state.timetable.wake_ms(leasing=state.leasing)]
        due += [pending.until_ms for pending, _ in state.unfit]
        for at in (*due, self.server.next_deadline_ms(), self.service.waits.next_ms):
            if at is not None:
                times.append(at)
        if state.failure is not None:
            return min(self._failing_s(), max(0, self._progress_at_ms - boot_ms()) / 1000)
        if any(slot.unsent for slot in state.slots.values()):
            times.append(boot_ms() + GATHER_MS)
        return max(0, min(times) - boot_ms()) / 1000

    def _failing_s(self) -> float:
        """How long to wait while the store cannot commit: for the next try, or until somebody must be told why."""
        waiting: list[PendingGroup | Operation | Asked] = [
            *self.state.intake, *self.state.operations, *self.state.lending.asked
        ]  # fmt: skip
        overdue = (one.until_ms for one in waiting if one.until_ms is not None)
        return max(0, min([self.passes.retry_at_ms, *overdue]) - boot_ms()) / 1000

    def _pass_due(self, now_ms: int) -> bool:
        """Whether to write now: outcomes wait a millisecond for company unless a worker runs dry or someone waits."""
        state = self.state
        if state.failure is not None:
            return now_ms >= self.passes.retry_at_ms
        if self._wanted():
            return True
        schedules_ms = state.timetable.wake_ms(leasing=state.leasing)
        due = (
            state.flush_at_ms, state.recall_at_ms, state.withdraw_at_ms, state.standstill.at_ms, schedules_ms,
            state.tasks.unblock_at_ms, state.lending.deadline_ms, state.gather_at_ms,
        )  # fmt: skip
        if any(at is not None and now_ms >= at for at in due):
            return True
        if housekeeping.chores_due(self.chores, now_ms):
            return True
        return any(now_ms - at >= GATHER_MS or self._dry(number) for number, at in state.rung.items())

    def _wanted(self) -> bool:
        """Whether something waits for nothing but a pass."""
        state = self.state
        leases = state.wants_lease and state.leasing
        asked = state.intake or state.operations or state.lending.wanted or self.outboxes.waiting
        return bool(leases or asked or state.certificates or state.unowned)

    def _dry(self, number: int) -> bool:
        """Whether a worker whose bell rang has nothing left to do."""
        slot = self.state.slots.get(number)
        return slot is None or len(slot.out) <= 1 or slot.ring.waiting() >= len(slot.out)

    def _tell_waiters(self, work: Work, operating: bool) -> None:
        """An operation may have ended any job; everything else says which ones it ended."""
        waits = self.service.waits
        waits.tell(waits.jobs if operating else work.final, self.reader.ended_among, self.reader.job_or_flow)
        self.state.timetable.hear(work.final, everything=operating, boot_ms=boot_ms())
        self.service.handle_postponed()

    def _look_after(self, now_ms: int) -> None:
        state = self.state
        if now_ms >= self._progress_at_ms:
            self._progress_at_ms = now_ms + PROGRESS_EVERY_MS
            if state.control:
                state.control.send(Progress())
        if now_ms >= self.chores.identity_at_ms:
            self.chores.identity_at_ms = now_ms + housekeeping.IDENTITY_EVERY_MS
            self._check_identity()
            housekeeping.watch_clock(state, self.chores, wall_ms(), now_ms)
        idle = not state.rung and not state.intake
        housekeeping.checkpoint(state, self.chores, now_ms, idle=idle)

    def _check_identity(self) -> None:
        """A database that was deleted or replaced under us must not be written on silently."""
        what = self.state.store.lost()
        if what:
            self.state.log.emit("keeper.store_lost", path=self.state.store.path, what=what)
            self.service.refuse_all(f"the database was {what} while in use")
            self._leave_file(what)
            os._exit(EXIT_IO)

    def _leave_file(self, what: str) -> None:
        """Write what is finished or promised into the file that we hold, as it may still have a name somewhere."""
        state = self.state
        state.leasing = False
        if not self.passes.attempt(boot_ms(), flush=True) and state.buffered_jobs:
            state.log.emit("keeper.unwritten", count=state.buffered_jobs, error=f"the database was {what}")
        state.store.fold()
        self.server.flush()

    # -- the end -----------------------------------------------------------------------------------------------

    def finish(self) -> int:
        """Serve what is accepted, commit everything buffered, settle the rings, checkpoint."""
        hit("keeper.finish")
        state = self.state
        state.leasing = False
        self.server.stop_accepting()
        within_ms = self.private.finish_within_ms or 5_000
        until_ms = boot_ms() + within_ms
        before = state.committed_jobs
        while True:
            self._hear(0)
            self.server.stop_reading()
            self.service.read_requests()
            for slot in state.slots.values():
                state.rung.setdefault(slot.number, boot_ms())
            written = self.passes.attempt(boot_ms(), flush=True)
            if written and not self._unwritten():
                break
            if boot_ms() >= until_ms:
                return self._give_up()
            if not written:
                self.selector.select(FINISH_PAUSE_MS / 1000)
        self.service.refuse_all("the daemon is stopping")
        self.service.waits.end(1 << 62)
        state.lending.end(1 << 62)
        self.server.flush()
        state.store.close()
        state.log.emit("keeper.finished", committed=state.committed_jobs - before, settled=state.settled_jobs)
        return 0

    def _unwritten(self) -> bool:
        state = self.state
        asked = state.intake or state.buffer or state.operations or state.lending.asked
        return bool(self.server.requests or asked or state.certificates)

    def _give_up(self) -> int:
        state = self.state
        count = state.buffered_jobs
        self.service.refuse_all("the database could not be written before the end")
        self.server.flush()
        if count:
            state.log.emit("keeper.unwritten", count=count, error=state.failure)
            return EXIT_IO
        return 0 if state.failure is None else EXIT_IO
