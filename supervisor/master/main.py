"""The master: forks, watches, signals, reaps, tells. No database, no threads, no user code, no bytes from outside.

Every decision about its children is the tree's (package `tree`); this loop owns the processes, obeys, and reports.
1. boot: lock, listener, signals, then the tree's first tick, which starts the keeper and then the foremen.
2. turn: what happened becomes events of the tree; its commands are carried out.
3. The slots of a foreman that died are certified by the master itself.
"""

from __future__ import annotations

import json
import os
import random
import selectors
import signal
from collections.abc import Callable, Sequence
from typing import Any

from supervisor.config import codec
from supervisor.config.diff import diff, in_force
from supervisor.config.spec import Spec
from supervisor.errors import JobsupError
from supervisor.master.children import Processes
from supervisor.master.herald import Herald
from supervisor.master.listener import Listener, prepare_run_dir
from supervisor.master.reload import Reloader
from supervisor.master.shape import ALERTER, ALERTER_VERSION, KEEPER, outbox_of, queue_of, relay_child, shape
from supervisor.master.state import State
from supervisor.master.view import gist, nodes
from supervisor.observe.failpoint import hit
from supervisor.observe.log import Log
from supervisor.tree import commands as order
from supervisor.tree import events as on
from supervisor.tree.deadlines import next_deadline_ms
from supervisor.tree.model import Phase, Status
from supervisor.tree.react import react
from supervisor.unix.clock import boot_ms, wall_ms
from supervisor.unix.inheritance import Roles
from supervisor.unix.signals import Signals
from supervisor.unix.spawn import adopt_orphans, set_name
from supervisor.unix.systemd import Notifier
from supervisor.version import VERSION
from supervisor.wire import control

IDLE_MS = 60_000
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)
FINISH_MIN_MS = 1_000
"""What the keeper has to write what it accepted, even if the pools took the whole grace."""
SLEPT_MS = 5_000
"""Whoever comes so much later than the clock called was not running himself."""


def _names(queues: Sequence[str]) -> str:
    return ", ".join(queues) or "none"


def run(spec: Spec, roles: Roles, *, lock_fd: int, config: str, overrides: Sequence[str]) -> int:
    """The daemon, from start to exit status. The caller holds the writer lock.

    Raises:
        JobsupError: the run_dir or the socket cannot be used.
    """
    log = Log(spec.log.target, spec.log.level, spec.log.format, wall_ms)
    for warning in spec.warnings:
        log.emit("config.warning", text=warning)
    adopt_orphans()
    set_name("jobsupd")
    run_dir_fd = prepare_run_dir(spec.daemon.run_dir)
    listener = Listener(spec.daemon.socket, os.environ)
    state = State(spec, roles, lock_fd, log, listener)
    try:
        state.doors.open(spec.scopes)
    except JobsupError:
        state.doors.close()
        listener.close()
        raise
    master = Master(state, config, overrides)
    log.emit("master.started", version=VERSION, queues=len(spec.queues), file=spec.files[0], pid=os.getpid())
    status = master.serve()
    os.close(run_dir_fd)
    return status


class Master:
    """The root of the processes."""

    def __init__(self, state: State, config: str, overrides: Sequence[str]) -> None:
        self.state = state
        self._halting_ms = 0
        self._herald = Herald(Notifier(os.environ), state.log)
        self._reloader = Reloader(state.selector, config, tuple(overrides), self._reloaded)
        self.processes = Processes(state, self._reloader)
        self._signals = Signals(SIGNALS)
        state.selector.register(self._signals, selectors.EVENT_READ, lambda _: None)
        state.events.append(on.Tick())

    # -- the loop ----------------------------------------------------------------------------------------------

    def serve(self) -> int:
        """Turn until the tree has stopped."""
        self._obey_events()
        while self.state.tree.phase is not Phase.HALTED:
            timeout_s, began_ms = self._timeout_s(), boot_ms()
            for key, mask in self.state.selector.select(timeout_s):
                if self.state.selector.get_map().get(key.fd) is key:  # an earlier one of this wait may have closed it
                    key.data(mask)
            self._wake_up(boot_ms() - began_ms, timeout_s)
            self.turn()
            self._obey_events()
        return self._end()

    def turn(self) -> None:
        """Signals, the dead, the clock, and whoever watches us."""
        now_ms = boot_ms()
        self._take_signals()
        self.processes.reap()
        if self.state.tree.phase is Phase.RUNNING:
            self._reloader.look_after(now_ms)
        self.processes.flush()
        self.state.events.append(on.Tick())
        self._herald.turn(now_ms, now_ms if self._keeper_is_booting() else self.state.keeper_seen_ms)

    def _keeper_is_booting(self) -> bool:
        keeper = self.state.tree.child(KEEPER)
        return keeper is None or keeper.status is not Status.READY

    def _wake_up(self, waited_ms: int, timeout_s: float) -> None:
        """After a suspend or a stop of ours: the clock of all deadlines went on, while nobody could show progress."""
        if waited_ms >= timeout_s * 1000 + SLEPT_MS:
            self.state.keeper_seen_ms += waited_ms
            self.state.events.appendleft(on.Slept(waited_ms))
            self.state.log.emit("master.slept", seconds=waited_ms / 1000)

    def _timeout_s(self) -> float:
        now_ms = boot_ms()
        moments = (
            now_ms + IDLE_MS,
            next_deadline_ms(self.state.tree, now_ms),
            self._herald.next_ms(),
            self._reloader.next_ms,
            self.processes.next_ms(now_ms),
        )
        return max(0, min(moment for moment in moments if moment is not None) - now_ms) / 1000

    def _obey_events(self) -> None:
        before = gist(self.state.tree)
        while self.state.events:
            self.state.tree, orders = react(self.state.tree, self.state.events.popleft(), boot_ms())
            for one in orders:
                self._handlers[type(one)](self, one)
        if self.state.untold or gist(self.state.tree) != before:
            self.tell()

    def tell(self) -> None:
        """Let systemd and the keeper know how the processes stand."""
        self.state.untold = False
        if self.processes.keeper:
            self.processes.keeper.tell_tree(self._nodes())
        workers = sum(pool.workers_max for pool in self.state.spec.workplaces.values())
        self._herald.stand(self.state.tree, workers, self.state.reload_error)

    def _nodes(self) -> list[dict[str, Any]]:
        relays = {relay_child(name): relay for name, relay in self.processes.relays.items()}
        singles = {KEEPER: self.processes.keeper, ALERTER: self.processes.alerter, **relays}
        return nodes(self.state.tree, self.state.epoch, singles, self.processes.foremen)

    # -- orders of the tree ------------------------------------------------------------------------------------

    def _start(self, what: order.Start) -> None:
        try:
            self.processes.start(what.child, what.run)
        except OSError as error:
            reason = f"{what.child} cannot be started: {error}" if error.errno else str(error)
            final = isinstance(error, PermissionError)
            self.state.events.append(on.NotStarted(what.child, what.run, reason, random.random(), final))  # noqa: S311 - jitter
        hit("master.after_fork")

    def _stop(self, what: order.Stop) -> None:
        grace_ms = 0 if what.urgent else self.state.spec.daemon.shutdown_grace_ms
        if what.child == KEEPER:
            self.processes.stop_keeper(max(FINISH_MIN_MS, self._halting_ms + grace_ms + FINISH_MIN_MS - boot_ms()))
        elif what.child == ALERTER:
            self.processes.stop_alerter(grace_ms, halting=self.state.tree.phase is not Phase.RUNNING)
        elif outbox_of(what.child):
            self.processes.stop_relay(what.child, grace_ms)
        else:
            self.processes.stop_foreman(what.child, grace_ms, booting=what.booting)

    def _kill(self, what: order.Kill) -> None:
        self.state.log.emit("master.killing", role=what.child, reason=what.reason)
        self.processes.kill(what.child)

    def _abandon(self, what: order.Abandon) -> None:
        self.processes.forget(what.child)

    def _circuit(self, what: order.CircuitChanged) -> None:
        queue = queue_of(what.group)
        if queue is not None:
            self.state.log.emit("pool.circuit", pool=queue, circuit=what.circuit.value, reason=what.reason)
            self.processes.tell_circuit(queue, what.circuit.value, what.reason)

    def _halting(self, what: order.Halting) -> None:
        self._halting_ms = boot_ms()
        grace_ms = 0 if what.urgent else self.state.spec.daemon.shutdown_grace_ms
        sooner = "; SIGQUIT (Ctrl-\\) does not wait" if grace_ms else ""
        self.state.log.emit("master.stopping", reason=what.reason, grace_s=grace_ms / 1000, sooner=sooner)
        self._herald.stopping(grace_ms)
        if what.status:
            self.state.log.emit("master.escalated", reason=what.reason)
        if self.processes.keeper:
            self.processes.keeper.link.send(control.Drain())

    def _halted(self, what: order.Halted) -> None:
        self.state.status = self.state.status or what.status

    _handlers: dict[type, Callable[[Master, Any], None]] = {  # noqa: RUF012 - a table, never changed
        order.Start: _start,
        order.Stop: _stop,
        order.Kill: _kill,
        order.Abandon: _abandon,
        order.CircuitChanged: _circuit,
        order.Halting: _halting,
        order.Halted: _halted,
    }

    # -- signals -----------------------------------------------------------------------------------------------

    def _take_signals(self) -> None:
        signals = self._signals.caught()
        if signal.SIGQUIT in signals:
            self.state.events.append(on.Halt(reason="SIGQUIT", urgent=True))
        elif signals & {signal.SIGTERM, signal.SIGINT}:
            self.state.events.append(on.Halt(reason="SIGTERM" if signal.SIGTERM in signals else "SIGINT"))
        if signal.SIGHUP in signals:
            self._reloader.ask(0)
        if signal.SIGUSR1 in signals:
            self.state.log.reopen()
            self.processes.signal_ready(signal.SIGUSR1)
        if signal.SIGUSR2 in signals:
            self.state.log.emit("master.state", state=json.dumps(self._nodes()))

    # -- reload ------------------------------------------------------------------------------------------------

    def _reloaded(self, found: Spec | tuple[str, ...], request: int) -> None:
        if isinstance(found, Spec):
            self._apply(found, request)
        else:
            self._refuse(found, request)

    def _refuse(self, problems: tuple[str, ...], request: int) -> None:
        """A bad file changes nothing, and status says so."""
        self.state.reload_error = problems[0]
        self.state.log.emit("reload.refused", problem="; ".join(problems))
        keeper = self.processes.keeper
        if keeper:
            keeper.link.send(control.SpecChanged(error="; ".join(problems)))
            keeper.link.send(control.ReloadDone(request, problems=problems))
        self.tell()

    def _apply(self, new: Spec, request: int) -> None:
        """Changed pools drain and restart, unchanged ones are not touched."""
        changes = diff(self.state.spec, new)
        new = in_force(self.state.spec, new)
        for name in changes.changed:
            self.state.versions[name] = self.state.versions.get(name, 0) + 1
            self.processes.unpreloaded.pop(name, None)
        if new.alerts != self.state.spec.alerts:
            self.state.versions[ALERTER_VERSION] = self.state.versions.get(ALERTER_VERSION, 0) + 1
        for name in [name for name, outbox in new.outbox.items() if outbox != self.state.spec.outbox.get(name)]:
            self.state.versions[relay_child(name)] = self.state.versions.get(relay_child(name), 0) + 1
        warnings = new.warnings + tuple(f"{key} takes effect after a restart" for key in changes.restart_needed)
        self.state.spec = new
        self.state.reload_error = None
        keeper = self.processes.keeper
        if keeper:
            keeper.tell_spec(codec.encode(new))
        warnings += self.processes.change_doors(new.scopes)
        done = {what: getattr(changes, what) for what in control.RELOADED}
        if keeper:
            keeper.link.send(control.ReloadDone(request, warnings=warnings, **done))
        self.state.log.emit("reload.done", **{what: _names(names) for what, names in done.items()})
        self.processes.resize({name: pool for name, pool in new.workplaces.items() if name in changes.retuned})
        self.state.events.append(on.Reshape(shape(new, self.state.versions)))
        self.state.events.extend(on.Probe(group.id) for group in self.state.tree.groups)
        self.processes.ask_to_probe()

    # -- the end -----------------------------------------------------------------------------------------------

    def _end(self) -> int:
        self.state.listener.close()
        self.state.doors.close()
        self.processes.discard()
        self.state.log.emit("master.stopped")
        hit("master.before_exit")
        return self.state.status or self.state.tree.status
