"""Telling people: looks at what can go wrong once a second, and gives messages to the alerter and to the alerts' queue.

No row is written for it but the job of an alert that goes to a queue, so it works while the database cannot be
written. What the alerter was given is kept until it has answered, and sent again to the next one.
"""

from __future__ import annotations

import os
import selectors
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from supervisor.errors import Busy, JobsupError, StoreError, WrongState
from supervisor.keeper.alert_text import alert_of, payload_of
from supervisor.keeper.children import known_queue, new_job
from supervisor.keeper.pending import PendingGroup
from supervisor.keeper.private import Private
from supervisor.keeper.state import State
from supervisor.policy.alerts import TEST, Message, Open
from supervisor.policy.duration import show
from supervisor.store.driver import sqlite3
from supervisor.store.protocol import Group, Inserted
from supervisor.store.reader import Reader, instant
from supervisor.unix.clock import boot_ms, wall_ms
from supervisor.wire import control, messages
from supervisor.wire.control import Link, LinkClosed, memory_file

LOOK_MS = 1_000
REST_LOOK_MS = 2_000
"""Disk and queues are looked at this often: a job that is too old by two seconds is old enough to be told of."""
UNHEARD_MS = 5_000
"""How long messages wait for an alerter that has not said what was told before."""
QUEUES_AT_ONCE = 200
OUTBOX_MAX = 100
"""How many messages may be under way on each way: were it one bound for both, one way that is stuck would stop both."""
UNANSWERED = f"{OUTBOX_MAX} alerts are on their way and not answered"
KNOWN_MAX = 1_000
TEST_SLACK_MS = 10_000
DISK_AGAIN = 1.1
"""So much more than the least must be free before a low disk counts as over."""

Answer = Callable[[dict[str, Any]], None]
Refuse = Callable[[JobsupError], None]


class Pending:
    """A message; `ways` are those on which it has neither arrived nor failed: "command", "queue"."""

    def __init__(
        self, message: Message, alert: dict[str, Any], ways: set[str], answer: Answer | None, until_ms: int
    ) -> None:
        self.message = message
        self.alert = alert
        self.data = msgspec.json.encode(alert)
        self.ways = ways
        self.arrived = False
        self.answer = answer
        self.until_ms = until_ms
        self.command: dict[str, Any] | None = None
        self.queue: dict[str, Any] | None = None


class Alerting:
    """The chore. Without `[alerts]` a turn of it is one comparison."""

    def __init__(self, state: State, selector: selectors.BaseSelector, private: Private, reader: Reader) -> None:
        self._state = state
        self._selector = selector
        self._reader = reader
        self._desk = state.alerts.desk
        self._spec = state.spec
        self._link: Link | None = None
        self._heard = False
        """Whether the alerter at hand has said what was told before us, or been told by us."""
        self._recalled = False
        self._wait_until_ms = boot_ms() + UNHEARD_MS
        self._outbox: dict[int, Pending] = {}
        self._number = boot_ms() * 1_000
        """Of the newest message; a successor goes on with higher ones."""
        self._look_at_ms = self._rest_at_ms = 0
        self._disk_low = False
        self._after = 0
        """The queue after which the next page begins."""
        self._empty_ms: dict[str, int] = {}
        """When each queue was last seen without a queued job, on the boot clock."""
        self._finished = False
        self._last_at_ms: int | None = None
        self._errors: dict[str, str] = {}
        """Why the newest message did not arrive, by its way."""
        self._sent = self._failed = 0
        private.also(control.AlerterGiven, self._alerter_given)
        private.also(control.AlerterGone, lambda *_: self.drop_alerter())

    # -- the alerter -------------------------------------------------------------------------------------------

    def add_alerter(self, sock: socket.socket) -> None:
        """Listen to a new alerter."""
        self.drop_alerter()
        link = self._link = Link(sock)
        self._selector.register(link, selectors.EVENT_READ, lambda _: self._receive(link))
        link.send(control.Hello())

    def drop_alerter(self) -> None:
        """The alerter is gone; the next one gets what this one has not answered."""
        self._heard = False
        self._wait_until_ms = boot_ms() + UNHEARD_MS
        if self._link:
            self._selector.unregister(self._link)
            self._link.close()
            self._link = None

    def _alerter_given(self, _message: control.AlerterGiven, descriptors: list[int], _: Link) -> None:
        self.add_alerter(socket.socket(fileno=descriptors.pop()))

    def _receive(self, link: Link) -> None:
        try:
            for message, _ in link.receive():
                match message:
                    case control.AlertsKnown():
                        self._acquainted(link, message)
                    case control.Told(number, error):
                        self._told(number, error)
        except LinkClosed:
            if link is self._link:
                self.drop_alerter()

    def _acquainted(self, link: Link, known: control.AlertsKnown) -> None:
        """An alerter is there. The first one knows what our predecessor told; later ones are told what we did."""
        if self._recalled:
            listed = tuple(tuple(one) for one in self._desk.open()[:KNOWN_MAX])
            error = self._errors.get("command")
            link.send(control.AlertsKnown(listed, self._desk.sent_ms, self._last_at_ms, error))  # type: ignore[arg-type]
        else:
            self._recalled = True
            self._desk.recall((Open(*one) for one in known.open), known.sent_ms)
            self._state.alerts.keep(self._known)
            self._last_at_ms = known.last_at_ms
            if known.error is not None:
                self._errors["command"] = known.error
        self._heard = True
        for number, pending in list(self._outbox.items()):
            if "command" in pending.ways:
                self._hand_over(number, pending)

    def _hand_over(self, number: int, pending: Pending) -> None:
        assert self._link is not None
        message = pending.message
        tell = control.Tell(number, message.kind, message.state, message.queue, message.first_at_ms)
        try:
            fd = memory_file("alert", pending.data)
            try:
                self._link.send(tell, [fd])
            finally:
                os.close(fd)
        except OSError as error:  # no descriptor or memory is left, which must not end the keeper
            self._told(number, f"it could not be handed to the alerter: {error}")

    # -- the loop ----------------------------------------------------------------------------------------------

    def turn(self, now_ms: int) -> None:
        """Look at what is due, and send what is due."""
        state = self._state
        if state.spec is not self._spec:
            self._respecify()
        if not self._active:
            return
        if self._link and self._link.congested:
            self._link.flush()
        if now_ms >= self._look_at_ms:
            self._look_at_ms = now_ms + LOOK_MS
            self._look(now_ms)
        self._give_up_tests(now_ms)
        if not state.leasing and not self._finished and not any(slot.pid for slot in state.slots.values()):
            self._finish(now_ms)
        elif not self._must_wait(now_ms):
            due_ms = self._desk.next_ms(now_ms)
            for message in self._desk.due(now_ms) if due_ms is not None and due_ms <= now_ms else ():
                self._send(message)

    @property
    def _active(self) -> bool:
        """Whether there is anybody to be told, or anything under way; a one-shot keeper tells nobody."""
        return self._state.control is not None and (self._spec.alerts.configured or bool(self._outbox))

    def _respecify(self) -> None:
        """The configuration was read again. What waited for a command that is no longer there waits in vain."""
        self._spec = self._state.spec
        self._state.alerts.use(self._spec.alerts)
        self._state.alerts.keep(self._known)
        if self._spec.alerts.command is None:
            self._errors.pop("command", None)
            for number in list(self._outbox):
                self._told(number, "[alerts] has no command any more")

    def _known(self, name: str) -> bool:
        """Whether the configuration has a queue or pool of that name."""
        return self._spec.queue(name) is not None or name in self._spec.pools

    def next_ms(self, now_ms: int) -> int | None:
        """When `turn` has something to do; None for never."""
        if not self._active:
            return None
        due_ms = self._desk.next_ms(now_ms)
        if due_ms is not None and self._must_wait(now_ms):
            due_ms = max(due_ms, self._wait_until_ms)
        return self._look_at_ms if due_ms is None else min(due_ms, self._look_at_ms)

    def _must_wait(self, now_ms: int) -> bool:
        """Whether an alerter is to come that may know what was told already."""
        return self._spec.alerts.command is not None and not self._heard and now_ms < self._wait_until_ms

    def _finish(self, now_ms: int) -> None:
        """The daemon stops, and the last worker is gone: say what is left, and that there will be no more."""
        self._finished = True
        self._desk.hurry(now_ms)
        for message in self._desk.due(now_ms):
            self._send(message)
        if self._link:
            self._link.send(control.Finish(0))

    # -- looking -----------------------------------------------------------------------------------------------

    def _look(self, now_ms: int) -> None:
        state, alerts = self._state, self._state.alerts
        if not alerts.on:
            return
        alerts.look_at_store(failing=state.failure is not None)
        self._look_at_circuits()
        if now_ms >= self._rest_at_ms:
            self._rest_at_ms = now_ms + REST_LOOK_MS
            self._look_at_disk()
            if "oldest" in alerts.on:
                self._look_at_queues(now_ms)

    def _look_at_circuits(self) -> None:
        """As the master sees them: it knows of those over a foreman and of those over its workers."""
        for node in self._state.tree:
            queue = node["queue"]
            if node["role"] == "foreman" and queue in self._spec.workplaces:
                pool = self._state.pools.get(queue)
                why = (pool.reason if pool else None) or "its workers end too often"
                self._state.alerts.look("circuit", queue, None if node["circuit"] == "closed" else why)

    def _look_at_disk(self) -> None:
        path = self._spec.daemon.database
        try:
            facts = os.statvfs(os.path.dirname(path))
        except OSError:
            return
        free, total = facts.f_bavail * facts.f_frsize, facts.f_blocks * facts.f_frsize
        size_bytes, per_cent = self._spec.alerts.disk_min
        least = size_bytes or total * per_cent // 100
        self._disk_low = free < least * (DISK_AGAIN if self._disk_low else 1)
        text = f"{size_text(free)} free of {size_text(total)} where {path} is, less than {size_text(least)}"
        self._state.alerts.look("disk", None, text if self._disk_low else None)

    def _look_at_queues(self, now_ms: int) -> None:
        """The next page of queues: there may be thousands."""
        try:
            self._after, page = self._reader.waiting_since_ms(self._after, QUEUES_AT_ONCE)
            paused = self._reader.paused()
        except (StoreError, sqlite3.Error):
            return  # another condition tells of it
        self._rest_at_ms = now_ms if self._after else self._rest_at_ms
        for name, since_ms in page.items():
            if since_ms is None:
                self._empty_ms[name] = now_ms
            self._look_at_queue(name, since_ms, now_ms, paused=name in paused)

    def _look_at_queue(self, name: str, since_ms: int | None, now_ms: int, *, paused: bool) -> None:
        """A job that was retried waits no longer than its queue has had queued jobs all the time."""
        queue = self._spec.queue(name)
        if queue is None:
            return
        max_ms = self._spec.alerts.oldest_max_ms if queue.oldest_max_ms is None else queue.oldest_max_ms
        waited_ms = 0 if since_ms is None else wall_ms() - since_ms
        if name in self._empty_ms:
            waited_ms = min(waited_ms, now_ms - self._empty_ms[name])
        text = None
        if max_ms and waited_ms > max_ms:
            halted = " (the queue is paused)" if paused else ""
            text = f"the oldest is queued for {show(waited_ms // 1000 * 1000)}, more than {show(max_ms)}{halted}"
        self._state.alerts.look("oldest", name, text)

    # -- sending -----------------------------------------------------------------------------------------------

    def test(self, answer: Answer, refuse: Refuse) -> None:
        """Send one message through the whole way, whatever the limits say; the answer says how it went."""
        wanted = self._spec.alerts
        if not wanted.configured:
            raise WrongState("there is no [alerts] in the configuration", hint="docs/alerts.md has an example")
        now_ms = wall_ms()
        message = Message(TEST, "event", None, 1, (), now_ms, now_ms, "")
        if self._ways_of(message) <= self._full():
            refuse(Busy(f"{OUTBOX_MAX} alerts are on their way already", hint="jobsctl status says why"))
            return
        self._send(message, answer, boot_ms() + 2 * wanted.timeout_ms + TEST_SLACK_MS)

    def _send(self, message: Message, answer: Answer | None = None, until_ms: int = 0) -> None:
        ways, full = self._ways_of(message), self._full()
        if not ways:
            return
        if ways <= full:
            self._errors["outbox"] = UNANSWERED
            self._desk.returned(message, boot_ms())
            return
        self._errors.pop("outbox", None)
        self._number += 1
        number = self._number
        pending = self._outbox[number] = Pending(message, alert_of(message), ways, answer, until_ms)
        if "command" in full:
            self._told(number, UNANSWERED)
        elif "command" in ways and self._heard:
            self._hand_over(number, pending)
        if "queue" in ways & full:
            self._refused(number, pending, self._spec.alerts.queue, UNANSWERED)
        elif "queue" in ways:
            self._enqueue(number, pending)

    def _ways_of(self, message: Message) -> set[str]:
        wanted = self._spec.alerts
        ours = message.kind == "dead" and message.queue == wanted.queue
        ways = {"command"} if wanted.command is not None else set()
        if wanted.queue is not None and not ours:  # or each alert that cannot be delivered would cause another
            ways.add("queue")
        return ways

    def _full(self) -> set[str]:
        """The ways on which as much is under way as may be."""
        counts = Counter(way for pending in self._outbox.values() for way in pending.ways)
        return {way for way, count in counts.items() if count >= OUTBOX_MAX}

    def _enqueue(self, number: int, pending: Pending) -> None:
        state, wanted = self._state, self._spec.alerts
        assert wanted.queue is not None
        name = wanted.queue

        def inserted(found: Inserted, _acknowledged: str) -> None:
            pending.queue = {"name": name, "job": found.ids[0], "error": None}
            self._arrived(number, "queue", None)

        def refused(error: JobsupError) -> None:
            self._refused(number, pending, name, error.message)

        try:
            payload = msgspec.json.encode(payload_of(wanted, pending.alert))
            job = new_job(known_queue(state.spec, name), messages.NewJob(msgspec.Raw(payload)), wall_ms())
        except JobsupError as error:
            refused(error)
            return
        group = Group(name, [job], f"alert-{state.boot_id[:8]}-{number}")
        state.intake.append(PendingGroup(group, len(payload), inserted, refused, None))

    def _refused(self, number: int, pending: Pending, name: str | None, error: str) -> None:
        pending.queue = {"name": name, "job": None, "error": error}
        self._arrived(number, "queue", f"queue {name}: {error}")

    def _told(self, number: int, error: str | None) -> None:
        pending = self._outbox.get(number)
        if pending is not None and "command" in pending.ways:
            pending.command = {"told": error is None, "error": error}
            self._arrived(number, "command", error)

    def _arrived(self, number: int, way: str, error: str | None) -> None:
        """One way of a message is over; once all are, it has been told, or it has to be told again later."""
        pending = self._outbox.get(number)
        if pending is None:
            return
        text = pending.alert["summary"]
        if error is None:
            self._errors.pop(way, None)
            self._last_at_ms = wall_ms()
            pending.arrived = True
            self._state.log.emit("alert.sent", how=way, summary=text)
        else:
            self._errors[way] = error
            self._state.log.emit("alert.failed", error=error, summary=text)
        pending.ways.discard(way)
        if not pending.ways:
            self._over(number, pending)

    def _over(self, number: int, pending: Pending) -> None:
        del self._outbox[number]
        if pending.arrived:
            self._sent += 1
        else:
            self._failed += 1
        if pending.answer:
            pending.answer({"summary": pending.alert["summary"], "command": pending.command, "queue": pending.queue})
        elif not pending.arrived:
            self._desk.returned(pending.message, boot_ms())

    def _give_up_tests(self, now_ms: int) -> None:
        """Whoever waits for a test is told in time, even if the alerter or the database does not answer."""
        for number, pending in list(self._outbox.items()):
            if pending.until_ms and now_ms >= pending.until_ms:
                if "command" in pending.ways:
                    pending.command = {"told": False, "error": "the alerter did not answer"}
                if "queue" in pending.ways:
                    name = self._spec.alerts.queue
                    pending.queue = {"name": name, "job": None, "error": "the database did not take it"}
                self._over(number, pending)

    # -- status ------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any] | None:
        """How alerts stand; None where nobody is told."""
        wanted = self._spec.alerts
        if not wanted.configured or self._state.control is None:
            return None
        error = self._errors.get("command") or self._errors.get("outbox") or self._errors.get("queue")
        if wanted.command is not None and not self._heard and boot_ms() >= self._wait_until_ms:
            error = "the alerter does not run; the log of jobsupd says why"
        return {
            "command": None if wanted.command is None else wanted.command[0],
            "queue": wanted.queue,
            "last_sent_at": instant(self._last_at_ms),
            "error": error,
            "sent": self._sent,
            "failed": self._failed,
            "waiting": len(self._outbox),
            "suppressed": self._desk.suppressed,
            "open": [
                {"kind": kind, "queue": queue, "since_at": instant(since_ms)}
                for kind, queue, since_ms in self._desk.open()
            ],
        }


def size_text(size_bytes: float) -> str:
    """A size for people."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
