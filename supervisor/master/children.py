"""The master's children: how a keeper, an alerter and a foreman are forked, heard, told, and taken leave of."""

from __future__ import annotations

import os
import selectors
import signal
import socket
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from supervisor.config.sandbox import needs
from supervisor.config.spec import Queue
from supervisor.master.burials import Burials
from supervisor.master.endings import alerter_ended, foreman_ended, keeper_ended, relay_ended
from supervisor.master.processes import AlerterProcess, Foreman, KeeperProcess, Process, RelayProcess, wait_for
from supervisor.master.reload import Reloader
from supervisor.master.shape import ALERTER, KEEPER, outbox_of, pool_child, queue_of, relay_child
from supervisor.master.state import State
from supervisor.tree import events as on
from supervisor.tree.model import Status
from supervisor.unix.clock import boot_ms
from supervisor.unix.inheritance import (
    FOREMAN_UNPRELOADABLE,
    FOREMAN_UNUSABLE,
    AlerterInheritance,
    ForemanInheritance,
    KeeperInheritance,
    RelayInheritance,
)
from supervisor.unix.limits import set_file_limit
from supervisor.unix.slot import Slot, open_directory
from supervisor.unix.spawn import reap_strangers, spawn
from supervisor.wire import control
from supervisor.wire.control import Link, LinkClosed

REPLENISH_MS = 500
CONGESTED_MS = 10


class Processes:
    """All of the master's children, by what they are."""

    def __init__(self, state: State, reloader: Reloader) -> None:
        self._state = state
        self._reloader = reloader
        self._selector = state.selector
        self.keeper: KeeperProcess | None = None
        self.foremen: dict[str, Foreman] = {}
        self.alerter: AlerterProcess | None = None
        self.relays: dict[str, RelayProcess] = {}
        self.unpreloaded: dict[str, str] = {}
        self.details: dict[str, str | None] = {}
        """The traceback with which a pool's last import failed."""
        self.targets: dict[str, int] = {}
        """How many workers a foreman last said that its pool is to have, where their number follows the load."""
        self.by_hand: dict[str, int | None] = {}
        """Those numbers that somebody asked for whatever the load is."""
        self._short: set[str] = set()
        self._burials = Burials()
        self._replenish_at_ms = 0

    def next_ms(self, now_ms: int) -> int | None:
        """When something is to be sent, or to be tried, again."""
        moments = [now_ms + CONGESTED_MS for process in self._all() if process.link.congested]
        moments += [self._replenish_at_ms] if self._short else []
        burials_ms = self._burials.next_ms
        moments += [burials_ms] if self.keeper and burials_ms is not None else []
        return min(moments, default=None)

    def _all(self) -> list[Process]:
        return [one for one in (self.keeper, self.alerter, *self.relays.values(), *self.foremen.values()) if one]

    # -- starting ----------------------------------------------------------------------------------------------

    def start(self, child: str, run: int) -> None:
        """Fork a child of the tree.

        Raises:
            OSError: there is no room for another process, descriptor or slot.
        """
        if child == KEEPER:
            self._start_keeper(run)
        elif child == ALERTER:
            self._start_alerter(run)
        elif outbox := outbox_of(child):
            self._start_relay(outbox, run)
        else:
            queue = self._state.spec.workplaces[queue_of(child) or ""]
            self._start_foreman(queue, run)

    def _start_keeper(self, run: int) -> None:
        state = self._state
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        slots = state.bank.slots
        links = {name: foreman.keeper_end for name, foreman in self.foremen.items()}
        alerter = self.alerter.keeper_end if self.alerter else None
        relays = {name: relay.keeper_end for name, relay in self.relays.items()}
        given = KeeperInheritance(
            spec=state.spec, listeners=state.listener.sockets, control=theirs,
            lifeline=state.lifeline[0], slots=slots, links=links, boot_id=state.boot_id, epoch=state.epoch,
            reload_error=state.reload_error, alerter=alerter, scopes=state.doors.sockets, relays=relays,
        )  # fmt: skip
        keep = [
            state.lock_fd, theirs.fileno(), state.lifeline[0], *state.log.keep_fds(),
            *(sock.fileno() for sock in state.listener.sockets), *(sock.fileno() for sock in links.values()),
            *(sock.fileno() for sock in state.doors.sockets.values()),
            *([alerter.fileno()] if alerter else ()), *(sock.fileno() for sock in relays.values()),
            *(end.fileno() for slot in slots for end in (slot.keeper_end, slot.worker_end)),
        ]  # fmt: skip
        spawned = spawn(lambda: state.roles.keeper(given), name="jobsupd:keeper", keep=keep, death_signal=None)
        theirs.close()
        self.keeper = KeeperProcess(run, spawned, Link(ours))
        self._watch(self.keeper, self._keeper_said, self._keeper_gone)

    def _start_foreman(self, queue: Queue, run: int) -> None:
        state = self._state
        slots = self._make_slots(queue, run)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        keeper_end, foreman_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        given = ForemanInheritance(
            queue,
            theirs,
            foreman_end,
            state.roles.worker,
            state.roles.load,
            state.log,
            unpreloaded=self.unpreloaded.get(queue.name),
            workers=self.targets.get(queue.name),
            by_hand=self.by_hand.get(queue.name),
        )
        keep = [theirs.fileno(), foreman_end.fileno(), *state.log.keep_fds()]

        def body() -> int:
            set_file_limit(state.files_before)
            return state.roles.foreman(given)

        try:
            spawned = spawn(body, name=f"jobsupd:{queue.name}", keep=keep, death_signal=signal.SIGTERM)
        except OSError:
            for slot in slots:
                state.bank.close(slot.number)
            raise
        theirs.close()
        foreman_end.close()
        foreman = Foreman(run, spawned, Link(ours), queue, keeper_end)
        self.foremen[queue.name] = foreman
        self._watch(foreman, self._foreman_said, self._foreman_gone)
        if self.keeper:
            self.keeper.link.send(control.LinkGiven(queue.name), [keeper_end.fileno()])
        try:
            for slot in slots:
                self._give_slot(foreman, slot)
        except OSError:
            self._short.add(queue.name)  # it runs, with fewer slots; what is missing follows

    def _start_alerter(self, run: int) -> None:
        state = self._state
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        keeper_end, alerter_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        given = AlerterInheritance(state.spec.alerts, theirs, alerter_end, state.log)
        keep = [theirs.fileno(), alerter_end.fileno(), *state.log.keep_fds()]

        def body() -> int:
            set_file_limit(state.files_before)
            return state.roles.alerter(given)

        spawned = spawn(body, name="jobsupd:alerter", keep=keep, death_signal=signal.SIGTERM)
        theirs.close()
        alerter_end.close()
        self.alerter = AlerterProcess(run, spawned, Link(ours), keeper_end)
        self._watch(self.alerter, self._alerter_said, self._alerter_gone)
        if self.keeper:
            self.keeper.link.send(control.AlerterGiven(), [keeper_end.fileno()])

    def _start_relay(self, outbox: str, run: int) -> None:
        state = self._state
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        keeper_end, relay_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        given = RelayInheritance(state.spec.outbox[outbox], theirs, relay_end, state.log)
        keep = [theirs.fileno(), relay_end.fileno(), *state.log.keep_fds()]

        def body() -> int:
            set_file_limit(state.files_before)
            return state.roles.relay(given)

        spawned = spawn(body, name=f"jobsupd:{outbox}", keep=keep, death_signal=signal.SIGTERM)
        theirs.close()
        relay_end.close()
        relay = self.relays[outbox] = RelayProcess(run, spawned, Link(ours), outbox, keeper_end)
        self._watch(relay, self._relay_said, self._relay_gone)
        if self.keeper:
            self.keeper.link.send(control.RelayGiven(outbox), [keeper_end.fileno()])

    def _watch(self, process: Any, said: Any, gone: Any) -> None:
        self._selector.register(process.link, selectors.EVENT_READ, lambda _: said(process))
        self._selector.register(process.pidfd, selectors.EVENT_READ, lambda _: gone(process))

    def _unwatch(self, process: Process) -> None:
        for what in (process.link, process.pidfd):
            if self._selector.get_map().get(what):
                self._selector.unregister(what)

    def _make_slots(self, queue: Queue, run: int) -> list[Slot]:
        """The slots of a new foreman, before it is forked: where there is no room for them, nothing was begun.

        Raises:
            OSError: there is no room, or the pool's user may not own them; then none is left.
        """
        bank = self._state.bank
        made: list[Slot] = []
        try:
            made.extend(bank.make(queue, run) for _ in range(bank.missing(queue.name, run, self._wanted(queue))))
        except OSError as error:
            for slot in made:
                bank.close(slot.number)
            need = next((need for need in needs(queue) if need.key == "user"), None)
            if isinstance(error, PermissionError) and need:
                raise PermissionError(f"queue {queue.name} {need.sentence}") from error
            raise
        return made

    def _wanted(self, queue: Queue) -> int:
        """How many workers the pool is to have. A foreman has run user code: it is believed within the bounds."""
        return min(max(self.targets.get(queue.name, 0), queue.workers_min), queue.workers_max)

    def resize(self, queues: Mapping[str, Queue]) -> None:
        """Tell foremen that go on how many workers the configuration says now."""
        for foreman in self.foremen.values():
            queue = queues.get(foreman.queue.name)
            if queue and (queue.workers, queue.scale) != (foreman.queue.workers, foreman.queue.scale):
                foreman.queue = msgspec.structs.replace(foreman.queue, workers=queue.workers, scale=queue.scale)
                self.by_hand.pop(queue.name, None)
                foreman.link.send(control.Resized(queue.workers, queue.scale))
                self._replenish(foreman)

    def _replenish(self, foreman: Foreman) -> None:
        """Keep spare slots with a foreman; where there is no room for more, try again soon."""
        self._short.discard(foreman.queue.name)
        if foreman.stopping:
            return
        bank = self._state.bank
        try:
            for _ in range(bank.missing(foreman.queue.name, foreman.run, self._wanted(foreman.queue))):
                self._give_slot(foreman, bank.make(foreman.queue, foreman.run))
        except OSError as error:
            if foreman.short_of is None:
                self._state.log.emit("master.no_slots", pool=foreman.queue.name, error=str(error))
            foreman.short_of = str(error)
            self._short.add(foreman.queue.name)
        else:
            foreman.short_of = None

    def _give_slot(self, foreman: Foreman, slot: Slot) -> None:
        """Hand a slot out: to the keeper first, which must know it before anyone starts on it."""
        try:
            directory = open_directory(slot.directory)
        except OSError:
            self._state.bank.close(slot.number)
            raise
        given = control.SlotGiven(slot.number, slot.pool, slot.incarnation, slot.directory)
        if self.keeper:
            self.keeper.link.send(given, [slot.keeper_end.fileno(), slot.worker_end.fileno()])
        foreman.link.send(given, [slot.worker_end.fileno(), directory])
        os.close(directory)

    # -- news --------------------------------------------------------------------------------------------------

    def _messages(self, process: Process) -> list[Any]:
        """What a child has said; none of it comes with descriptors."""
        found = []
        try:
            for message, _ in process.link.receive():
                found.append(message)
        except LinkClosed:
            if self._selector.get_map().get(process.link):
                self._selector.unregister(process.link)
        return found

    def _keeper_said(self, keeper: KeeperProcess) -> None:
        state = self._state
        for message in self._messages(keeper):
            match message:
                case control.Ready():
                    state.events.append(on.Ready(KEEPER, keeper.run))
                    self._keeper_turned(keeper)
                    self._burials.soon()
                case control.Progress():
                    self._keeper_turned(keeper)
                case control.SlotClosed(slot):
                    self._burials.answered(slot)
                    state.bank.close(slot)
                case control.Answered(slot):
                    self._burials.answered(slot)
                case control.ReloadAsked(request):
                    self._reloader.ask(request)
                case control.ProbeAsked(pool):
                    state.events.append(on.Probe(pool_child(pool)))

    def _keeper_turned(self, keeper: KeeperProcess) -> None:
        """Its loop turns."""
        self._state.keeper_seen_ms = boot_ms()
        self._state.events.append(on.Progress(KEEPER, keeper.run))

    def _foreman_said(self, foreman: Foreman) -> None:
        state = self._state
        for message in self._messages(foreman):
            match message:
                case control.Ready():
                    state.events.append(on.Ready(pool_child(foreman.queue.name), foreman.run))
                case control.Progress():
                    state.events.append(on.Progress(pool_child(foreman.queue.name), foreman.run))
                case control.Started(slot, pid, start_time, _):
                    state.bank.started(slot, pid, start_time)
                    self._replenish(foreman)
                case control.PoolState():
                    foreman.state = message
                    state.untold = True
                case control.PoolScaled(_, target):
                    self.targets[foreman.queue.name] = target
                    self.by_hand[foreman.queue.name] = message.by_hand
                    self._replenish(foreman)

    def _alerter_said(self, alerter: AlerterProcess) -> None:
        self._hear(ALERTER, alerter)

    def _relay_said(self, relay: RelayProcess) -> None:
        self._hear(relay_child(relay.outbox), relay)

    def _hear(self, child: str, process: AlerterProcess | RelayProcess) -> None:
        """That it works is all that it has to say."""
        for message in self._messages(process):
            match message:
                case control.Ready():
                    self._state.events.append(on.Ready(child, process.run))
                case control.Progress():
                    self._state.events.append(on.Progress(child, process.run))

    # -- scopes ------------------------------------------------------------------------------------------------

    def change_doors(self, scopes: Iterable[str]) -> tuple[str, ...]:
        """After a reload: sockets for the scopes that are new, none for those that are gone; what could not be had."""
        doors = self._state.doors
        opened, gone, problems = doors.change(scopes)
        if self.keeper:
            for scope in gone:
                self.keeper.link.send(control.ScopeGone(scope))
            for scope in opened:
                self.keeper.link.send(control.ScopeGiven(scope), [doors.sockets[scope].fileno()])
        return problems

    # -- stopping ----------------------------------------------------------------------------------------------

    def stop_keeper(self, within_ms: int) -> None:
        """The pools are gone: let the keeper write what it has accepted, and end."""
        if self.keeper:
            self.keeper.stopping = True
            self._state.listener.close()
            self._state.doors.close()
            self.keeper.link.send(control.Finish(within_ms))

    def stop_alerter(self, grace_ms: int, *, halting: bool) -> None:
        """Ask the alerter to end: after the keeper's last word if the daemon stops, else after what it has in hand."""
        if self.alerter:
            self.alerter.stopping = True
            self.alerter.link.send(control.Stop(grace_ms))
            if not halting or not self.keeper:
                self.alerter.link.send(control.Finish(grace_ms))

    def stop_relay(self, child: str, grace_ms: int) -> None:
        """Ask a relay to end, once what it has in hand is answered."""
        relay = self.relays.get(outbox_of(child) or "")
        if relay:
            relay.stopping = True
            relay.link.send(control.Stop(grace_ms))

    def stop_foreman(self, child: str, grace_ms: int, *, booting: bool) -> None:
        """Ask a foreman to end with its workers. One that still imports hears only signals."""
        foreman = self.foremen.get(queue_of(child) or "")
        if foreman:
            foreman.stopping = True
            foreman.link.send(control.Stop(grace_ms))
            if booting:
                signal.pidfd_send_signal(foreman.pidfd, signal.SIGTERM)

    def kill(self, child: str) -> None:
        """End a child that was asked in vain, or that never became ready."""
        process = self._process(child)
        if process:
            signal.pidfd_send_signal(process.pidfd, signal.SIGKILL)

    def _process(self, child: str) -> Process | None:
        relays = {relay_child(name): relay for name, relay in self.relays.items()}
        singles: dict[str, Process | None] = {KEEPER: self.keeper, ALERTER: self.alerter, **relays}
        return singles[child] if child in singles else self.foremen.get(queue_of(child) or "")

    def forget(self, child: str) -> None:
        """Go on without a child that does not die."""
        foreman = self.foremen.pop(queue_of(child) or "", None)
        if foreman:
            self._unwatch(foreman)
        elif child == ALERTER and self.alerter:
            self._unwatch(self.alerter)
            self.alerter = None
        elif relay := self.relays.pop(outbox_of(child) or "", None):
            self._unwatch(relay)

    def signal_ready(self, number: int) -> None:
        """Pass a signal on to every child that has said it is up: before that, it would end of it."""
        tree = self._state.tree
        ready = {child.run for child in tree.children if child.status is Status.READY}
        for process in self._all():
            if process.run in ready:
                signal.pidfd_send_signal(process.pidfd, number)

    # -- the dead ----------------------------------------------------------------------------------------------

    def _keeper_gone(self, keeper: KeeperProcess) -> None:
        self._keeper_said(keeper)
        status, how = wait_for(keeper.pidfd)
        self._take_leave(keeper)
        self.keeper = None
        if self.alerter and self.alerter.stopping:
            self.alerter.link.send(control.Finish(0))  # nobody else will say that there is no more to come
        keeper_ended(self._state, keeper, status, how)

    def _foreman_gone(self, foreman: Foreman) -> None:
        """Its workers die with it; the tree hears of it when the last of them is certified."""
        self._foreman_said(foreman)
        status, how = wait_for(foreman.pidfd)
        self._take_leave(foreman)
        foreman.keeper_end.close()
        name = foreman.queue.name
        if self.foremen.get(name) is foreman:
            del self.foremen[name]
        if self.keeper:
            self.keeper.link.send(control.LinkGone(name))
        for place in self._state.bank.of(name, foreman.run):
            self._burials.bury(place)
        if status == FOREMAN_UNPRELOADABLE:
            self.unpreloaded[name] = foreman.reason or "its import left behind what must not be forked"
        if status == FOREMAN_UNUSABLE and foreman.state:
            self.details[name] = foreman.state.detail
        foreman_ended(self._state, foreman, status, how)

    def _alerter_gone(self, alerter: AlerterProcess) -> None:
        """Its command dies with it; what it had in hand the keeper has still, and tells the next one."""
        self._alerter_said(alerter)
        status, how = wait_for(alerter.pidfd)
        self._take_leave(alerter)
        alerter.keeper_end.close()
        if self.alerter is alerter:
            self.alerter = None
        if self.keeper:
            self.keeper.link.send(control.AlerterGone())
        alerter_ended(self._state, alerter, status, how)

    def _relay_gone(self, relay: RelayProcess) -> None:
        self._relay_said(relay)
        status, how = wait_for(relay.pidfd)
        self._take_leave(relay)
        relay.keeper_end.close()
        if self.relays.get(relay.outbox) is relay:
            del self.relays[relay.outbox]
        if self.keeper:
            self.keeper.link.send(control.RelayGone(relay.outbox))
        relay_ended(self._state, relay, status, how)

    def _take_leave(self, process: Process) -> None:
        self._unwatch(process)
        process.link.close()
        os.close(process.pidfd)

    def reap(self) -> None:
        """Reap what was left to us by descendants that died; children we watch are left to their watchers."""
        reading = self._reloader.pid
        reap_strangers({process.pid for process in self._all()} | ({reading} if reading else set()))

    def flush(self) -> None:
        """Send what waited, and repeat what was not answered."""
        for process in self._all():
            process.link.flush()
        now_ms = boot_ms()
        if self._short and now_ms >= self._replenish_at_ms:
            self._replenish_at_ms = now_ms + REPLENISH_MS
            for foreman in [self.foremen[name] for name in self._short if name in self.foremen]:
                self._replenish(foreman)
        if self.keeper:
            self._burials.send(self.keeper.link, now_ms)

    def ask_to_probe(self) -> None:
        """Someone has looked after the configuration: pools whose circuits are open are worth another try."""
        for foreman in self.foremen.values():
            foreman.link.send(control.ProbeAsked(foreman.queue.name))

    def tell_circuit(self, queue: str, circuit: str, reason: str) -> None:
        """Let status show why a pool does not run."""
        if not reason:
            self.details.pop(queue, None)
        if self.keeper:
            self.keeper.link.send(control.PoolState(queue, circuit, reason or None, self.details.get(queue)))

    def discard(self) -> None:
        """At the very end: delete the slots that were judged; others stay for the next keeper to read."""
        for number in [number for number, place in self._state.bank.places.items() if not place.pid]:
            self._state.bank.close(number)
