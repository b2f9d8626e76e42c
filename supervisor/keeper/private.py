"""What master and foremen say to the keeper, each message handled by the function of its type."""

from __future__ import annotations

import json
import selectors
import socket
from collections.abc import Callable
from typing import Any

import msgspec

from supervisor.config import codec
from supervisor.errors import NotRunning
from supervisor.keeper.slots import KeeperSlot, Phase
from supervisor.keeper.state import State
from supervisor.policy.tasks import Known, believable
from supervisor.unix.clock import boot_ms
from supervisor.unix.slot import Slot
from supervisor.wire import control
from supervisor.wire.control import Link, LinkClosed, read_memory_file
from supervisor.wire.server import Server


class Private:
    """The links to the master and to the foremen."""

    def __init__(self, state: State, selector: selectors.BaseSelector) -> None:
        self.state = state
        self.selector = selector
        self.server: Server | None = None
        self.finish_within_ms: int | None = None
        self._early_ready: set[int] = set()
        self._early: dict[int, control.Started] = {}
        self.reloads: dict[int, Callable[[control.ReloadDone], None]] = {}
        self._handlers: dict[type, Callable[[Any, list[int], Link], None]] = {
            control.SlotGiven: self._slot_given,
            control.LinkGiven: self._link_given,
            control.LinkGone: self._link_gone,
            control.SpecChanged: self._spec_changed,
            control.ScopeGiven: self._scope_given,
            control.ScopeGone: self._scope_gone,
            control.TreeChanged: self._tree_changed,
            control.ReloadDone: self._reload_done,
            control.Drain: self._drain,
            control.Finish: self._finish,
            control.Started: self._started,
            control.WorkerReady: self._worker_ready,
            control.PoolState: self._pool_state,
            control.PoolScaled: self._pool_scaled,
            control.Stopping: self._stopping,
            control.TasksKnown: self._tasks_known,
            control.Certificate: self._certificate,
        }

    def also(self, kind: type, handler: Callable[[Any, list[int], Link], None]) -> None:
        """Let somebody else hear the messages of a type that nobody here hears."""
        self._handlers[kind] = handler

    def add_master(self, sock: socket.socket) -> None:
        """Listen to the master."""
        link = Link(sock)
        self.state.control = link
        self.selector.register(link, selectors.EVENT_READ, lambda _: self._receive(link))

    def add_foreman(self, pool: str, sock: socket.socket) -> None:
        """Listen to a pool's foreman, and ask it to say again what a new keeper must know."""
        self.drop_foreman(pool)
        link = Link(sock)
        self.state.links[pool] = link
        self.selector.register(link, selectors.EVENT_READ, lambda _: self._receive(link, pool))
        link.send(control.Hello())
        self.state.loads.begin_anew(pool)

    def drop_foreman(self, pool: str) -> None:
        """Close the link of a foreman that is gone."""
        link = self.state.links.pop(pool, None)
        if link:
            self.selector.unregister(link)
            link.close()

    def add_slot(self, given: Slot) -> None:
        """Take up a slot and listen to its bell. One whose files a job has deleted is of no use: its worker must go."""
        try:
            slot = KeeperSlot(
                given.number, given.pool, given.incarnation, given.directory, given.keeper_end, given.worker_end
            )
        except OSError as error:
            given.keeper_end.close()
            given.worker_end.close()
            self.state.unusable[given.number] = f"its slot cannot be opened: {error.strerror}"
            return
        self.state.add_slot(slot)
        self.selector.register(given.keeper_end, selectors.EVENT_READ, lambda _: self._bell(slot))

    def flush(self) -> None:
        """Send what waited for room."""
        links = [*self.state.links.values(), *((self.state.control,) if self.state.control else ())]
        for link in links:
            if link.congested:
                link.flush()

    def _bell(self, slot: KeeperSlot) -> None:
        if not slot.hear() and slot.sock is not None:
            self.selector.unregister(slot.sock)
            self.state.recycle(slot, "its bell cannot be heard any more")
        self.state.rung.setdefault(slot.number, boot_ms())
        if slot.pinged:
            slot.pinged = False
            self.state.wants_lease = True

    def _receive(self, link: Link, pool: str | None = None) -> None:
        try:
            for message, descriptors in link.receive():
                handler = self._handlers.get(type(message))
                if handler:
                    handler(message, descriptors, link)
        except LinkClosed:
            if pool is not None and self.state.links.get(pool) is link:
                self.drop_foreman(pool)
            elif pool is None:
                self.selector.unregister(link)

    # -- the master --------------------------------------------------------------------------------------------

    def _slot_given(self, given: control.SlotGiven, descriptors: list[int], _: Link) -> None:
        keeper_end, worker_end = (socket.socket(fileno=fd) for fd in descriptors)
        descriptors.clear()
        keeper_end.setblocking(False)
        self.add_slot(Slot(given.slot, given.pool, given.incarnation, keeper_end, worker_end, given.directory))
        self._catch_up(given.slot, self.state.links.get(given.pool))

    def _catch_up(self, number: int, link: Link | None) -> None:
        """Hear what a foreman said of a slot before the master's own word of it arrived."""
        if link is None:
            return  # it is gone, and with it who it spoke of
        if number in self._early:
            self._started(self._early.pop(number), [], link)
        if number in self._early_ready:
            self._early_ready.discard(number)
            self._worker_ready(control.WorkerReady(number), [], link)

    def _link_given(self, given: control.LinkGiven, descriptors: list[int], _: Link) -> None:
        sock = socket.socket(fileno=descriptors.pop())
        self.add_foreman(given.pool, sock)

    def _link_gone(self, gone: control.LinkGone, _d: list[int], _: Link) -> None:
        self.drop_foreman(gone.pool)
        self.state.pools.pop(gone.pool, None)
        self.state.scaled.pop(gone.pool, None)

    def _spec_changed(self, changed: control.SpecChanged, descriptors: list[int], _: Link) -> None:
        self.state.reload_error = changed.error
        if changed.error:
            self.state.alerts.reload_refused(changed.error)
        if descriptors:
            self.state.use(codec.decode(read_memory_file(descriptors.pop())))

    def _scope_given(self, given: control.ScopeGiven, descriptors: list[int], _: Link) -> None:
        listener = socket.socket(fileno=descriptors.pop())
        if self.server:
            self.server.listen_also(given.scope, listener)

    def _scope_gone(self, gone: control.ScopeGone, _d: list[int], _: Link) -> None:
        """A scope has left the configuration: its clients are told, and go."""
        if self.server:
            self.server.stop_listening(gone.scope)
            for connection in self.server:
                if connection.scope == gone.scope:
                    connection.refuse(NotRunning(f"scope {gone.scope} is not in the configuration any more"))

    def _tree_changed(self, _m: control.TreeChanged, descriptors: list[int], _: Link) -> None:
        self.state.tree = json.loads(read_memory_file(descriptors.pop()))

    def _reload_done(self, done: control.ReloadDone, _d: list[int], _: Link) -> None:
        answer = self.reloads.pop(done.request, None)
        if answer:
            answer(done)

    def _drain(self, _m: control.Drain, _d: list[int], _: Link) -> None:
        self.state.leasing = False

    def _finish(self, finish: control.Finish, _d: list[int], _: Link) -> None:
        self.finish_within_ms = finish.within_ms

    # -- foremen -----------------------------------------------------------------------------------------------

    def _started(self, started: control.Started, _d: list[int], link: Link) -> None:
        slot = self.state.slots.get(started.slot)
        if started.slot in self.state.unusable:
            # Its foreman has not ended it yet, or was not there to be asked.
            link.send(control.RecycleWorker(started.slot, self.state.unusable[started.slot]))
            return
        if slot is None:
            # The master gave us the slot before anyone could start on it, but on another link.
            self._early[started.slot] = started
            return
        if slot.phase not in (Phase.GIVEN, Phase.STARTED):
            return
        slot.phase = Phase.STARTED
        slot.pid, slot.start_time, slot.restarts = started.pid, started.start_time, started.restarts
        slot.started_at_ms = boot_ms()
        self.state.unowned.add(slot.number)

    def _worker_ready(self, ready: control.WorkerReady, _d: list[int], _: Link) -> None:
        slot = self.state.slots.get(ready.slot)
        if slot is None:
            self._early_ready.add(ready.slot)
        elif slot.phase is Phase.STARTED:
            slot.phase = Phase.READY
            self.state.wants_lease = True

    def _pool_state(self, said: control.PoolState, _d: list[int], _: Link) -> None:
        self.state.pools[said.pool] = said

    def _pool_scaled(self, said: control.PoolScaled, _d: list[int], _: Link) -> None:
        self.state.scaled[said.pool] = said

    def _tasks_known(self, said: control.TasksKnown, descriptors: list[int], _: Link) -> None:
        """What code knows; a list that is none comes from a process that ran user code, and is passed over."""
        try:
            known = msgspec.json.decode(read_memory_file(descriptors.pop()), type=tuple[Known, ...])
        except (msgspec.MsgspecError, LookupError, OSError):
            return
        if believable(known):
            self.state.tasks.publish(said.pool, known)

    def _stopping(self, stopping: control.Stopping, _d: list[int], _: Link) -> None:
        for number in stopping.slots:
            slot = self.state.slots.get(number)
            if slot and slot.phase in (Phase.STARTED, Phase.READY):
                slot.phase = Phase.LEAVING

    def _certificate(self, certificate: control.Certificate, _d: list[int], link: Link) -> None:
        self.state.certify(certificate, link)
        slot = self.state.slots.get(certificate.slot)
        if slot:
            self.state.alerts.undead(slot.pool, slot.number, certificate.pid, gone=certificate.gone)
