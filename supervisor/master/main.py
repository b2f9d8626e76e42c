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
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from supervisor.config import codec
from supervisor.config.diff import diff
from supervisor.config.spec import Spec
from supervisor.errors import EXIT_FAILED, JobsupError
from supervisor.master import listener
from supervisor.master.children import Processes
from supervisor.master.herald import Herald
from supervisor.master.processes import Foreman, KeeperProcess
from supervisor.master.reload import Reloader
from supervisor.master.shape import KEEPER, pool_child, queue_of, shape
from supervisor.master.slots import Bank
from supervisor.master.view import gist, nodes
from supervisor.observe.failpoint import hit
from supervisor.observe.log import Log
from supervisor.tree import commands as order
from supervisor.tree import events as on
from supervisor.tree.deadlines import next_deadline_ms
from supervisor.tree.model import Ending, Phase, Status, Tree, plant
from supervisor.tree.react import react
from supervisor.unix.clock import boot_id, boot_ms, wall_ms
from supervisor.unix.inheritance import FOREMAN_ESCALATED, FOREMAN_UNPRELOADABLE, FOREMAN_UNUSABLE, Roles
from supervisor.unix.limits import raise_file_limit
from supervisor.unix.signals import Signals
from supervisor.unix.spawn import adopt_orphans, set_name
from supervisor.unix.systemd import Notifier, inherited_sockets
from supervisor.version import VERSION
from supervisor.wire import control

FINAL_STATUSES = frozenset({2, 74, 75, 78})
"""A keeper that ends with one of these would do so again: the daemon ends with the same."""
UNUSABLE_STATUSES = frozenset({FOREMAN_UNUSABLE, FOREMAN_ESCALATED})
"""A foreman that ends with one of these trips its pool's circuit, or escalates where its queue says so."""
IDLE_MS = 60_000
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)
FINISH_MIN_MS = 1_000
"""What the keeper has to write what it accepted, even if the pools took the whole grace."""
SLEPT_MS = 5_000
"""Whoever comes so much later than the clock called was not running himself."""


def _names(queues: Sequence[str]) -> str:
    return ", ".join(queues) or "none"


def run(spec: Spec, roles: Roles, *, lock_fd: int, config: str, overrides: Sequence[str]) -> int:
    """The daemon, from start to exit status. The caller holds the writer lock."""
    master = Master(spec, roles, lock_fd, config, overrides)
    try:
        master.boot()
    except JobsupError:
        listener_path = spec.daemon.socket
        master.abandon(listener_path)
        raise
    return master.serve()


class Master:
    """The root of the processes."""

    def __init__(self, spec: Spec, roles: Roles, lock_fd: int, config: str, overrides: Sequence[str]) -> None:
        self.spec = spec
        self.roles = roles
        self.lock_fd = lock_fd
        self.selector = selectors.DefaultSelector()
        self.log = Log(spec.log.target, spec.log.level, spec.log.format, wall_ms)
        self.versions: dict[str, int] = {}
        self.tree: Tree = plant(shape(spec, self.versions))
        self.events: deque[on.Event] = deque()
        self.reload_error: str | None = None
        self.epoch = boot_ms()
        self.status = 0
        self._halting_ms = 0
        self._keeper_seen_ms = self.epoch
        self._listeners: list[socket.socket] = []
        self._bound: str | None = None
        self.files_before = 0
        self.herald = Herald(Notifier(os.environ), self.log)
        self.reloader = Reloader(self.selector, config, tuple(overrides), self._reloaded)
        self._signals: Signals
        self.bank: Bank
        self.processes: Processes

    # -- boot --------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Everything before the first child.

        Raises:
            JobsupError: the run_dir or the socket cannot be used.
        """
        for warning in self.spec.warnings:
            self.log.emit("config.warning", text=warning)
        adopt_orphans()
        set_name("jobsupd")
        self.files_before = raise_file_limit()
        self.run_dir_fd = listener.prepare_run_dir(self.spec.daemon.run_dir)
        self._listeners = inherited_sockets(os.environ)
        if not self._listeners:
            self._listeners = [listener.bind(self.spec.daemon.socket)]
            self._bound = self.spec.daemon.socket
        self.lifeline = os.pipe2(os.O_CLOEXEC)
        self.bank = Bank(self.spec.daemon.run_dir, boot_id())
        self.processes = Processes(self)
        self._signals = Signals(SIGNALS)
        self.selector.register(self._signals, selectors.EVENT_READ, lambda _: None)
        self.log.emit(
            "master.started", version=VERSION, queues=len(self.spec.queues), file=self.spec.files[0], pid=os.getpid()
        )
        self.events.append(on.Tick())

    def abandon(self, path: str) -> None:
        """Leave nothing behind of a boot that failed."""
        if self._bound == path:
            os.unlink(path)

    # -- the loop ----------------------------------------------------------------------------------------------

    def serve(self) -> int:
        """Turn until the tree has stopped."""
        self._obey_events()
        while self.tree.phase is not Phase.HALTED:
            timeout_s, began_ms = self._timeout_s(), boot_ms()
            for key, mask in self.selector.select(timeout_s):
                if self.selector.get_map().get(key.fd) is key:  # an earlier one of this wait may have closed it
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
        if self.tree.phase is Phase.RUNNING:
            self.reloader.look_after(now_ms)
        self.processes.flush()
        self.events.append(on.Tick())
        self.herald.turn(now_ms, now_ms if self._keeper_is_booting() else self._keeper_seen_ms)

    def _keeper_is_booting(self) -> bool:
        keeper = self.tree.child(KEEPER)
        return keeper is None or keeper.status is not Status.READY

    def _wake_up(self, waited_ms: int, timeout_s: float) -> None:
        """After a suspend or a stop of ours: the clock of all deadlines went on, while nobody could show progress."""
        if waited_ms >= timeout_s * 1000 + SLEPT_MS:
            self._keeper_seen_ms += waited_ms
            self.events.appendleft(on.Slept(waited_ms))
            self.log.emit("master.slept", seconds=waited_ms / 1000)

    def _timeout_s(self) -> float:
        now_ms = boot_ms()
        moments = (
            now_ms + IDLE_MS,
            next_deadline_ms(self.tree, now_ms),
            self.herald.next_ms(),
            self.reloader.next_ms,
            self.processes.next_ms(now_ms),
        )
        return max(0, min(moment for moment in moments if moment is not None) - now_ms) / 1000

    def _obey_events(self) -> None:
        before = gist(self.tree)
        while self.events:
            self.tree, orders = react(self.tree, self.events.popleft(), boot_ms())
            for one in orders:
                self._handlers[type(one)](self, one)
        if gist(self.tree) != before:
            self.tell()

    def tell(self) -> None:
        """Let systemd and the keeper know how the processes stand."""
        if self.processes.keeper:
            self.processes.keeper.tell_tree(nodes(self))
        workers = sum(queue.workers for queue in self.spec.queues.values())
        self.herald.stand(self.tree, workers, self.reload_error)

    # -- orders of the tree ------------------------------------------------------------------------------------

    def _start(self, what: order.Start) -> None:
        try:
            self.processes.start(what.child, what.run)
        except OSError as error:
            reason = f"{what.child} cannot be started: {error}" if error.errno else str(error)
            final = isinstance(error, PermissionError)
            self.events.append(on.NotStarted(what.child, what.run, reason, random.random(), final))  # noqa: S311 - jitter
        hit("master.after_fork")

    def _stop(self, what: order.Stop) -> None:
        grace_ms = 0 if what.urgent else self.spec.daemon.shutdown_grace_ms
        if what.child == KEEPER:
            self.processes.stop_keeper(max(FINISH_MIN_MS, self._halting_ms + grace_ms + FINISH_MIN_MS - boot_ms()))
        else:
            self.processes.stop_foreman(what.child, grace_ms, booting=what.booting)

    def _kill(self, what: order.Kill) -> None:
        self.log.emit("master.killing", role=what.child, reason=what.reason)
        self.processes.kill(what.child)

    def _abandon(self, what: order.Abandon) -> None:
        self.processes.forget(what.child)

    def _circuit(self, what: order.CircuitChanged) -> None:
        queue = queue_of(what.group)
        if queue is not None:
            self.log.emit("pool.circuit", pool=queue, circuit=what.circuit.value, reason=what.reason)
            self.processes.tell_circuit(queue, what.circuit.value, what.reason)

    def _halting(self, what: order.Halting) -> None:
        self._halting_ms = boot_ms()
        grace_ms = 0 if what.urgent else self.spec.daemon.shutdown_grace_ms
        sooner = "; SIGQUIT does not wait" if grace_ms else ""
        self.log.emit("master.stopping", reason=what.reason, grace_s=grace_ms / 1000, sooner=sooner)
        self.herald.stopping(grace_ms)
        if what.status:
            self.log.emit("master.escalated", reason=what.reason)
        if self.processes.keeper:
            self.processes.keeper.link.send(control.Drain())

    def _halted(self, what: order.Halted) -> None:
        self.status = self.status or what.status

    _handlers: dict[type, Callable[[Master, Any], None]] = {  # noqa: RUF012 - a table, never changed
        order.Start: _start,
        order.Stop: _stop,
        order.Kill: _kill,
        order.Abandon: _abandon,
        order.CircuitChanged: _circuit,
        order.Halting: _halting,
        order.Halted: _halted,
    }

    # -- news of children --------------------------------------------------------------------------------------

    def keeper_died(self, keeper: KeeperProcess, status: int, how: str) -> None:
        """The keeper is gone: slots make it replaceable under running pools."""
        ordered = keeper.stopping or self.tree.phase is not Phase.RUNNING
        ending = Ending.ORDERED if ordered and status == 0 else Ending.FAILED
        final = status in FINAL_STATUSES
        if ending is not Ending.ORDERED:
            then = "nothing can be done about it here" if final else "the stop goes on" if ordered else "pools run on"
            self.log.emit("master.role_died", role=KEEPER, pid=keeper.pid, status=how, then=then)
        if final:
            self.close_listener()  # nobody will serve it: clients must not wait in it while jobs finish
        if ordered and status:
            self.status = max(status, EXIT_FAILED)  # killed at its last work, it may have left some undone
        self.events.append(
            on.Exited(
                KEEPER, keeper.run, ending, final=final, reason=f"the keeper ended with {how}",
                status=status if final else 1, chance=random.random(),  # noqa: S311 - jitter
            )
        )  # fmt: skip

    def foreman_died(self, foreman: Foreman, status: int, how: str) -> None:
        """A foreman is gone, and so are its workers by now."""
        name = pool_child(foreman.queue.name)
        restarting = status == FOREMAN_UNPRELOADABLE
        final = status in UNUSABLE_STATUSES
        ending = Ending.ORDERED if foreman.stopping else Ending.NORMAL if status == 0 else Ending.FAILED
        reason = (foreman.reason if final else None) or f"the foreman ended with {how}"
        if ending is not Ending.ORDERED and not restarting:
            self.log.emit("master.role_died", role=name, pid=foreman.pid, status=how, then=reason)
        self.events.append(
            on.Exited(
                name, foreman.run, ending, excused=restarting, final=final, reason=reason,
                chance=random.random(),  # noqa: S311 - jitter
            )
        )  # fmt: skip

    def keeper_turned(self, keeper: KeeperProcess) -> None:
        """The keeper's loop turns."""
        self._keeper_seen_ms = boot_ms()
        self.events.append(on.Progress(KEEPER, keeper.run))

    # -- signals -----------------------------------------------------------------------------------------------

    def _take_signals(self) -> None:
        signals = self._signals.caught()
        if signal.SIGQUIT in signals:
            self.events.append(on.Halt(reason="SIGQUIT", urgent=True))
        elif signals & {signal.SIGTERM, signal.SIGINT}:
            self.events.append(on.Halt(reason="SIGTERM" if signal.SIGTERM in signals else "SIGINT"))
        if signal.SIGHUP in signals:
            self.reloader.ask(0)
        if signal.SIGUSR1 in signals:
            self.log.reopen()
            self.processes.signal_ready(signal.SIGUSR1)
        if signal.SIGUSR2 in signals:
            self.log.emit("master.state", state=json.dumps(nodes(self)))

    # -- reload ------------------------------------------------------------------------------------------------

    def _reloaded(self, found: Spec | tuple[str, ...], request: int) -> None:
        if isinstance(found, Spec):
            self._apply(found, request)
        else:
            self._refuse(found, request)

    def _refuse(self, problems: tuple[str, ...], request: int) -> None:
        """A bad file changes nothing, and status says so."""
        self.reload_error = problems[0]
        self.log.emit("reload.refused", problem="; ".join(problems))
        keeper = self.processes.keeper
        if keeper:
            keeper.link.send(control.SpecChanged(error="; ".join(problems)))
            keeper.link.send(control.ReloadDone(request, problems=problems))
        self.tell()

    def _apply(self, new: Spec, request: int) -> None:
        """Changed pools drain and restart, unchanged ones are not touched."""
        changes = diff(self.spec, new)
        for name in changes.changed:
            self.versions[name] = self.versions.get(name, 0) + 1
            self.processes.unpreloaded.pop(name, None)
        warnings = new.warnings + tuple(f"{key} takes effect after a restart" for key in changes.restart_needed)
        self.spec = new
        self.reload_error = None
        keeper = self.processes.keeper
        if keeper:
            keeper.tell_spec(codec.encode(new))
            keeper.link.send(
                control.ReloadDone(
                    request, added=changes.added, removed=changes.removed, changed=changes.changed, warnings=warnings
                )
            )
        self.log.emit(
            "reload.done",
            added=_names(changes.added),
            removed=_names(changes.removed),
            changed=_names(changes.changed),
        )
        self.events.append(on.Reshape(shape(new, self.versions)))
        self.events.extend(on.Probe(group.id) for group in self.tree.groups)
        self.processes.ask_to_probe()

    # -- the end -----------------------------------------------------------------------------------------------

    def close_listener(self) -> None:
        """Stop letting clients in; a socket of systemd's stays, and its clients wait."""
        for sock in self._listeners:
            sock.close()
        self._listeners = []
        if self._bound:
            try:
                os.unlink(self._bound)
            except FileNotFoundError:
                pass
            self._bound = None

    @property
    def listeners(self) -> list[socket.socket]:
        """The public socket, for each keeper."""
        return self._listeners

    def _end(self) -> int:
        self.close_listener()
        self.processes.discard()
        self.log.emit("master.stopped")
        hit("master.before_exit")
        return self.status or self.tree.status
