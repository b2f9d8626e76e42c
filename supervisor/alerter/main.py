"""The alerter's loop: alerts come from the keeper, the command runs for each, and the keeper hears how it went.

It remembers which conditions were told, so that a new keeper tells neither the same again nor an end without a
beginning. What it has in hand when it is killed the keeper sends again: such an alert may be told twice.
"""

from __future__ import annotations

import os
import selectors
import signal
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from supervisor.alerter.attempt import Attempt
from supervisor.alerter.waiting import Line, Task
from supervisor.unix.clock import boot_ms, wall_ms
from supervisor.unix.inheritance import AlerterInheritance
from supervisor.unix.privileges import drop_capabilities
from supervisor.unix.reap import reap_orphans
from supervisor.unix.signals import Signals
from supervisor.unix.spawn import adopt_orphans
from supervisor.wire import control
from supervisor.wire.control import Link, LinkClosed, read_memory_file

PROGRESS_MS = 5_000
CONGESTED_MS = 10
AT_ONCE = 4
"""Commands that run side by side: one that hangs must not hold up what else is to be told."""
SENT_MAX = 1_000
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)


def run(given: AlerterInheritance) -> int:
    """The alerter's whole life; returns its exit status."""
    given.log.role = "alerter"
    parent = os.getppid()
    adopt_orphans()
    drop_capabilities()
    return Alerter(given, parent).serve()


class Alerter:
    """One loop around one wait. It ends when the keeper has said its last, the grace is over, or the master is gone."""

    def __init__(self, given: AlerterInheritance, parent: int) -> None:
        self._alerts = given.alerts
        self._log = given.log
        self._parent = parent
        self._master = Link(given.control)
        self._keeper = Link(given.link)
        self._signals = Signals(SIGNALS)
        self._line = Line()
        self._running: dict[int, Attempt] = {}
        self._open: dict[tuple[str, str | None], int] = {}
        self._sent: deque[int] = deque(maxlen=SENT_MAX)
        self._last_at_ms: int | None = None
        self._error: str | None = None
        self._progress_at_ms = 0
        self._stop_at_ms: int | None = None
        self._finishing = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._master, selectors.EVENT_READ, self._hear_master)
        self._selector.register(self._keeper, selectors.EVENT_READ, self._hear_keeper)
        self._selector.register(self._signals, selectors.EVENT_READ, lambda: None)

    # -- the loop ----------------------------------------------------------------------------------------------

    def serve(self) -> int:
        """Turn until it is over; whatever still runs then is killed."""
        self._master.send(control.Ready())
        while not self._over(boot_ms()):
            for key, _ in self._selector.select(self._timeout_s()):
                if self._selector.get_map().get(key.fd) is key:  # an earlier one of this wait may have closed it
                    key.data()
            self._turn(boot_ms())
        for attempt in list(self._running.values()):
            attempt.kill()
        return 0

    def _turn(self, now_ms: int) -> None:
        self._take_signals()
        for attempt in self._running.values():
            if now_ms >= attempt.until_ms and not attempt.overdue:
                attempt.overdue = True
                attempt.kill()
        self._begin(now_ms)
        if now_ms >= self._progress_at_ms:
            self._progress_at_ms = now_ms + PROGRESS_MS
            self._master.send(control.Progress())
        self._master.flush()
        self._keeper.flush()

    def _timeout_s(self) -> float:
        now_ms = boot_ms()
        moments = [self._progress_at_ms]
        moments += [attempt.until_ms for attempt in self._running.values() if not attempt.overdue]
        moments += [self._stop_at_ms] if self._stop_at_ms is not None else []
        retry_ms = self._line.next_ms(now_ms)
        moments += [retry_ms] if retry_ms is not None else []
        moments += [now_ms + CONGESTED_MS] if self._master.congested or self._keeper.congested else []
        return max(0, min(moments) - now_ms) / 1000

    def _over(self, now_ms: int) -> bool:
        if self._stop_at_ms is None:
            return False
        idle = not self._running and not len(self._line)
        return now_ms >= self._stop_at_ms or (self._finishing and idle and not self._keeper.congested)

    def _take_signals(self) -> None:
        caught = self._signals.caught()
        if os.getppid() != self._parent:
            self._stop_at_ms = 0  # nothing of ours outlives the master
        if signal.SIGTERM in caught and self._stop_at_ms is None:
            self._stop_at_ms = 0
        if signal.SIGUSR1 in caught:
            self._log.reopen()
        if signal.SIGCHLD in caught:
            reap_orphans({attempt.pid for attempt in self._running.values()})

    # -- commands ----------------------------------------------------------------------------------------------

    def _begin(self, now_ms: int) -> None:
        while len(self._running) < AT_ONCE:
            task = self._line.next({attempt.task.about for attempt in self._running.values()}, now_ms)
            if task is None:
                return
            task.tries += 1
            try:
                attempt = Attempt(self._alerts, task, os.environ, now_ms + self._alerts.timeout_ms)
            except (OSError, ValueError) as error:
                self._failed(task, f"it cannot be started: {error}")
                continue
            self._running[attempt.pidfd] = attempt
            self._selector.register(attempt.pidfd, selectors.EVENT_READ, lambda one=attempt: self._ended(one))
            self._selector.register(attempt.output_fd, selectors.EVENT_READ, lambda one=attempt: self._read(one))

    def _read(self, attempt: Attempt) -> None:
        if not attempt.read():
            self._selector.unregister(attempt.output_fd)

    def _ended(self, attempt: Attempt) -> None:
        for fd in (attempt.pidfd, attempt.output_fd):
            if self._selector.get_map().get(fd):
                self._selector.unregister(fd)
        del self._running[attempt.pidfd]
        error = attempt.end()
        if error is None:
            self._told(attempt.task, None)
        else:
            self._failed(attempt.task, error)

    def _failed(self, task: Task, error: str) -> None:
        assert self._alerts.command is not None
        error = f"{self._alerts.command[0]}: {error}"
        if self._line.again(task, boot_ms()):
            self._log.emit("alert.retry", error=error)
        else:
            self._told(task, error)

    def _told(self, task: Task, error: str | None) -> None:
        self._error = error
        if error is None:
            self._last_at_ms = wall_ms()
        self._note(task, told=error is None)
        self._keeper.send(control.Told(task.number, error))

    def _note(self, task: Task, *, told: bool) -> None:
        """Remember which conditions people believe to hold. One that is on its way counts; one that failed does not."""
        if task.state == "open" and told:
            self._open[task.about] = task.since_ms
        elif task.state == "open" or (task.state == "recovered" and told):
            self._open.pop(task.about, None)
        elif task.state == "recovered":
            self._open[task.about] = task.since_ms

    # -- who talks to us ---------------------------------------------------------------------------------------

    def _hear_master(self) -> None:
        self._hear(self._master, self._from_master)

    def _hear_keeper(self) -> None:
        self._hear(self._keeper, self._from_keeper)

    def _hear(self, link: Link, handlers: Mapping[type, Callable[[Alerter, Any, list[int]], None]]) -> None:
        try:
            for message, descriptors in link.receive():
                handler = handlers.get(type(message))
                if handler:
                    handler(self, message, descriptors)
        except LinkClosed:
            self._selector.unregister(link)
            self._stop_at_ms = 0  # the master holds the other end of both: it is gone

    def _asked_to_stop(self, message: control.Stop, _descriptors: list[int]) -> None:
        """Go on until the keeper has said its last, at most for the grace."""
        self._stop_at_ms = boot_ms() + message.grace_ms

    def _greeted(self, _message: control.Hello, _descriptors: list[int]) -> None:
        listed = tuple((kind, queue, since_ms) for (kind, queue), since_ms in self._open.items())
        self._keeper.send(control.AlertsKnown(listed, tuple(self._sent), self._last_at_ms, self._error))

    def _reminded(self, known: control.AlertsKnown, _descriptors: list[int]) -> None:
        self._open = {(kind, queue): since_ms for kind, queue, since_ms in known.open}
        self._sent = deque(known.sent_ms, maxlen=SENT_MAX)
        self._last_at_ms, self._error = known.last_at_ms, known.error

    def _tell(self, message: control.Tell, descriptors: list[int]) -> None:
        data = read_memory_file(descriptors.pop())
        task = Task(message.number, message.kind, message.state, message.queue, message.since_ms, data)
        self._sent.append(boot_ms())
        if self._line.join(task):
            self._note(task, told=True)
        else:
            self._told(task, "too many alerts wait for the command")

    def _finish(self, _message: control.Finish, _descriptors: list[int]) -> None:
        self._finishing = True

    _from_master: Mapping[type, Callable[[Alerter, Any, list[int]], None]] = {
        control.Stop: _asked_to_stop,
        control.Finish: _finish,
    }
    _from_keeper: Mapping[type, Callable[[Alerter, Any, list[int]], None]] = {
        control.Hello: _greeted,
        control.AlertsKnown: _reminded,
        control.Tell: _tell,
        control.Finish: _finish,
    }
