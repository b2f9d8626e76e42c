"""The relay's loop: rows go to the keeper in groups, what has become a job is deleted, and then the keeper forgets it.

One group is under way at a time. Whatever is killed whenever, a row is one job: it is deleted only after the commit
that made it a job, the keeper knows it until it is told that the row is gone, and what is not answered is sent again.
"""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from supervisor.observe.failpoint import hit
from supervisor.relay.lines import FIRST, Lines
from supervisor.relay.pauses import Pauses
from supervisor.relay.table import KEPT, Locked, Table, Unusable
from supervisor.relay.watch import Lookout
from supervisor.unix.clock import boot_ms, wall_ms
from supervisor.unix.inheritance import RelayInheritance
from supervisor.unix.privileges import drop_capabilities
from supervisor.unix.signals import Signals
from supervisor.wire import control
from supervisor.wire.control import Link, LinkClosed, memory_file, read_memory_file
from supervisor.wire.outbox import Row, Verdict, decode_verdicts, encode

PROGRESS_MS = 5_000
CONGESTED_MS = 10
STATE_EVERY_MS = 500
UNANSWERED_MS = 10_000
"""After so long a group is read and sent again: the keeper may have had no room for it."""
STOP_MAX_MS = 2_000
"""What a relay waits for at a stop, at most: nothing is lost by going."""
ERROR_MAX = 500
REFUSED_LINES_MAX = 3
KEPT_MAX = 8
"""Connections to files that have lost their names: with more, the relay starts anew, which ends them unclosed."""
EXIT_ANEW = 3
WRITTEN, MARKS, DELETES = range(3)
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Group(NamedTuple):
    """Rows under way. `queue` is the full one whose rows they are, if they were tried for it."""

    number: int
    rows: Sequence[Row]
    until_ms: int
    queue: str | None


def run(given: RelayInheritance) -> int:
    """The relay's whole life; returns its exit status."""
    given.log.role = f"relay {given.outbox.name}"
    parent = os.getppid()
    drop_capabilities()
    return Relay(given, parent).serve()


class Relay:
    """One loop around one wait."""

    def __init__(self, given: RelayInheritance, parent: int) -> None:
        self._outbox = given.outbox
        self._log = given.log
        self._parent = parent
        self._master, self._keeper = Link(given.control), Link(given.link)
        self._signals = Signals(SIGNALS)
        self._lookout = Lookout(os.path.realpath(given.outbox.database), given.outbox.interval_ms, boot_ms())
        self._owner: int | None = None
        self._table: Table | None = None
        self._fresh = False
        """Whether the table was opened, and not read yet."""
        self._acquainted = False
        """Whether the keeper and we agree on which rows are jobs and gone."""
        self._number = boot_ms() * 1_000
        self._forget()
        self._state = control.OutboxState()
        self._told: control.OutboxState | None = None
        self._stale, self._tell_at_ms, self._count_at_ms, self._moving_at_ms = True, 0, 0, 0
        self._pauses = Pauses()
        self._unwritten = WRITTEN
        """What could not be written to the table: only a write of that kind ends that, or that there is none to do."""
        self._again: int | None = FIRST
        """Behind which refused row to go on, while all of them are tried again."""
        self._progress_at_ms = 0
        self._stop_at_ms: int | None = None
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._master, selectors.EVENT_READ, lambda: self._hear(self._master))
        self._selector.register(self._keeper, selectors.EVENT_READ, lambda: self._hear(self._keeper))
        self._selector.register(self._signals, selectors.EVENT_READ, lambda: None)
        self._listening = False
        if not self._lookout.watch:
            self._log.emit("outbox.unwatched", outbox=self._outbox.name, error=self._lookout.error)

    def _forget(self) -> None:
        """Nothing is under way, and nothing was read: what was sent may have arrived or not."""
        self._group: Group | None = None
        self._answer: tuple[Verdict, ...] | None = None
        self._lines = Lines()
        self._version: int | None = None
        self._changed = False
        self._dirty, self._sweep_at_ms = True, 0

    # -- the loop ----------------------------------------------------------------------------------------------

    def serve(self) -> int:
        """Turn until it is over. Nothing is closed at the end: see `table`."""
        self._master.send(control.Ready())
        while not self._over(boot_ms()):
            self._listen(boot_ms())
            for key, _ in self._selector.select(self._timeout_s()):
                if self._selector.get_map().get(key.fd) is key:
                    key.data()
            self._turn(boot_ms())
            if len(KEPT) > KEPT_MAX:
                return EXIT_ANEW
        return 0

    def _turn(self, now_ms: int) -> None:
        self._take_signals()
        if now_ms >= self._progress_at_ms:
            self._progress_at_ms = now_ms + PROGRESS_MS
            self._master.send(control.Progress())
        if self._owner is not None and now_ms >= self._pauses.until_ms:
            self._work(now_ms)
        self._tell(now_ms)
        self._master.flush()
        self._keeper.flush()

    def _listen(self, now_ms: int) -> None:
        """Hear of writes, unless a look is due soon anyway: an application may write a thousand times a second."""
        watch, wanted = self._lookout.watch, not (self._pauses.deaf(now_ms) or self._lookout.deaf(now_ms))
        if watch and wanted and not self._listening:
            self._selector.register(watch, selectors.EVENT_READ, self._hear_of_writes)
        elif watch and self._listening and not wanted:
            self._selector.unregister(watch)
        self._listening = wanted

    def _hear_of_writes(self) -> None:
        """What was wrong may be right by now, however long the pause."""
        if self._lookout.hear(boot_ms()):
            self._pauses.changed()

    def _timeout_s(self) -> float:
        now_ms = boot_ms()
        moments = [self._progress_at_ms, *([self._stop_at_ms] if self._stop_at_ms is not None else [])]
        moments += [self._tell_at_ms] if self._stale and self._owner is not None else []
        moments += [now_ms + CONGESTED_MS] if self._master.congested or self._keeper.congested else []
        if self._owner is not None:
            moments.append(max(self._pauses.until_ms, self._due_ms()))
        return max(0, min(moments) - now_ms) / 1000

    def _due_ms(self) -> int:
        """When there is something to do with the table."""
        if self._group:
            return 0 if self._answer is not None else self._group.until_ms
        if self._table and self._stop_at_ms is not None:
            return 1 << 62
        moments = [self._lookout.look_ms]
        if self._acquainted:
            full_ms = self._lines.next_ms()
            moments += [full_ms] if full_ms is not None else []
            moments += [self._sweep_at_ms] if full_ms is not None and self._dirty else []
            moments += [self._count_at_ms] if self._stale else []
        return min(moments)

    def _over(self, now_ms: int) -> bool:
        return self._stop_at_ms is not None and (now_ms >= self._stop_at_ms or self._group is None)

    def _take_signals(self) -> None:
        caught = self._signals.caught()
        if os.getppid() != self._parent or (signal.SIGTERM in caught and self._stop_at_ms is None):
            self._stop_at_ms = 0
        if signal.SIGUSR1 in caught:
            self._log.reopen()

    # -- the table ---------------------------------------------------------------------------------------------

    def _work(self, now_ms: int) -> None:
        """Do what is due with the table; what is wrong with it is said, and tried again."""
        try:
            self._step(now_ms)
        except Locked as error:
            self._locked_out(str(error))
        except Unusable as error:
            self._close()
            if self._unwritten:
                self._again = FIRST  # refused rows may be among those that were not written
            self._fail(str(error)[:ERROR_MAX])
            self._lookout.looked(now_ms)

    def _write(self, table: Table, done: Sequence[Row], marks: Sequence[tuple[Row, str | None]]) -> list[int]:
        """Settle rows; a failure is remembered as one of writing, which rows that can be read do not end."""
        if not (done or marks):
            return []
        before, kind = self._unwritten, DELETES if done else MARKS
        self._unwritten = max(before, kind)
        gone = table.settle(done, marks)
        self._unwritten = WRITTEN if kind >= before else before
        return gone

    def _works(self) -> None:
        """The table does what failed before: only that, and no successful opening, ends what was wrong."""
        if self._unwritten:
            return
        self._pauses.over()
        if self._state.error is not None:
            self._state = msgspec.structs.replace(self._state, state="idle", error=None)
            self._stale = True
        if self._fresh:
            self._fresh = False
            self._log.emit("outbox.opened", outbox=self._outbox.name, database=self._outbox.database)

    def _fail(self, error: str) -> None:
        if self._state.error != error:
            self._log.emit("outbox.unusable", outbox=self._outbox.name, error=error)
        self._state = msgspec.structs.replace(self._state, state="failing", error=error)
        self._stale = True
        self._pauses.failed(boot_ms(), self._outbox.interval_ms)

    def _locked_out(self, error: str) -> None:
        if self._pauses.locked(boot_ms()):
            self._state = msgspec.structs.replace(self._state, state="locked", error=error[:ERROR_MAX])
            self._stale = True

    def _step(self, now_ms: int) -> None:
        if self._group and self._answer is not None:
            self._settle(self._group, self._answer)
        elif self._group:
            if now_ms >= self._group.until_ms:
                self._forget()
        elif now_ms >= self._due_ms():
            if self._table and self._table.replaced:
                self._close()
            if self._table is None:
                self._open()
                self._lookout.looked(now_ms)
            elif self._acquainted:
                self._look(self._table, now_ms)
            else:
                self._lookout.looked(now_ms)

    def _open(self) -> None:
        assert self._owner is not None
        self._forget()
        self._acquainted = False
        self._table = Table(self._outbox.database, self._owner)
        self._lookout.follow(self._table.path)
        self._fresh = self._stale = True
        self._keeper.send(control.OutboxOpened(self._table.instance, FIRST))

    def _close(self) -> None:
        """Close the file, and say so: another outbox may be this file from now on."""
        if self._table:
            self._table.leave()
            self._keeper.send(control.OutboxClosed())
        self._table, self._acquainted = None, False
        self._forget()

    def _look(self, table: Table, now_ms: int) -> None:
        """Send the next rows, if there are any."""
        version = table.version()
        self._changed = version != self._version
        if self._changed:
            self._version, self._dirty, self._stale = version, True, True
        queue = self._lines.due(now_ms)
        if queue is not None:
            self._send_of_queue(table, queue, now_ms)
        elif self._dirty:
            self._send_next(table, now_ms)
        elif self._again is not None:
            self._send_refused(table, now_ms)
        else:
            self._rest(table, now_ms)
        self._works()

    def _rest(self, table: Table, now_ms: int) -> None:
        """Nothing is to be done until something changes."""
        self._lookout.looked(now_ms, changed=self._changed)
        if self._again is None:
            self._unwritten = WRITTEN  # the rows that could not be written are gone, or need it no more
        self._state = self._standing(table)

    def _send_next(self, table: Table, now_ms: int) -> None:
        """Rows behind the last; when there are none, all once more: an error may have been cleared.

        All are read over and over only where none waits for a full queue, so that each is one to send.
        """
        full = list(self._lines.full)
        found = table.page(self._lines.position, full)
        if not found:
            self._lines.end_at(table.last)
            if not full or now_ms >= self._sweep_at_ms:
                found = table.page(FIRST, full)
                self._sweep_at_ms = now_ms + max(self._outbox.interval_ms, 20 * (boot_ms() - now_ms))
                self._dirty = bool(found)
        if found:
            self._send(table, found, now_ms)
            self._lines.position = found[-1][0].id
        else:
            self._rest(table, now_ms)

    def _send_of_queue(self, table: Table, queue: str, now_ms: int) -> None:
        found = table.page_of_queue(self._lines.full[queue].row - 1, queue)
        if found:
            self._send(table, found, now_ms, queue=queue)
        else:
            self._lines.has_room(queue)
            self._dirty = True

    def _send_refused(self, table: Table, now_ms: int) -> None:
        assert self._again is not None
        found = table.page_refused(self._again)
        if found:
            self._send(table, found, now_ms)
        self._again = found[-1][0].id if found else None

    def _send(
        self, table: Table, found: Sequence[tuple[Row, str | None]], now_ms: int, *, queue: str | None = None
    ) -> None:
        """Hand rows to the keeper; what is no row for anybody is refused here."""
        refused = _news([(row, wrong) for row, wrong in found if wrong is not None])
        self._write(table, (), refused)
        self._say(refused)
        good = [row for row, wrong in found if wrong is None]
        if not good:
            self._lookout.soon(now_ms)
            return
        if now_ms >= self._moving_at_ms:
            self._moving_at_ms = now_ms + STATE_EVERY_MS
            self._state, self._stale = self._counted(table, "moving"), True
        table.sync()
        hit("relay.after_read")
        self._number += 1
        self._group = Group(self._number, good, now_ms + UNANSWERED_MS, queue)
        fd = memory_file("outbox", encode(good))
        try:
            self._keeper.send(control.OutboxRows(self._number, table.instance), [fd])
        finally:
            os.close(fd)

    # -- what became of rows -----------------------------------------------------------------------------------

    def _settle(self, group: Group, answer: Sequence[Verdict]) -> None:
        """Delete what is a job, mark what cannot be one, leave what waits; then the keeper may forget the first."""
        assert self._table is not None
        now_ms = boot_ms()
        if self._table.replaced:
            self._close()  # the rows may stand in the new file, too
            self._lookout.soon(now_ms)
            return
        judged = list(zip(group.rows, answer, strict=True))
        done = [row for row, verdict in judged if verdict.job is not None]
        waiting = [row for row, verdict in judged if verdict.job is None and verdict.error is None]
        refused = _news([(row, verdict.error) for row, verdict in judged if verdict.error is not None])
        marks: list[tuple[Row, str | None]] = [(row, None) for row in waiting if row.error is not None]
        hit("relay.before_delete")
        gone = self._write(self._table, done, [*marks, *refused])
        hit("relay.after_delete")
        if gone and not self._table.replaced:
            self._keeper.send(control.OutboxGone(self._table.instance, tuple(gone)))
        if gone:
            moved = self._state.moved + len(gone)
            self._state = msgspec.structs.replace(
                self._state, state="moving", error=None, moved=moved, moved_at_ms=wall_ms()
            )
        self._works()
        self._say(refused)
        self._line_up(group, waiting, now_ms)
        self._group = self._answer = None
        self._stale = True
        self._lookout.soon(now_ms)

    def _say(self, news: Sequence[tuple[Row, str]]) -> None:
        for row, error in news[:REFUSED_LINES_MAX]:
            self._log.emit("outbox.refused", outbox=self._outbox.name, id=row.id, queue=row.queue, error=error)
        if len(news) > REFUSED_LINES_MAX:
            self._log.emit("outbox.refused_more", outbox=self._outbox.name, count=len(news) - REFUSED_LINES_MAX)

    def _line_up(self, group: Group, waiting: Sequence[Row], now_ms: int) -> None:
        """Which queues are full, from their first rows that wait; one that was tried and took all goes on."""
        first: dict[str, int] = {}
        for row in waiting:
            first.setdefault(row.queue, row.id)
        for queue, row_id in first.items():
            self._lines.waits(queue, row_id, now_ms, tried=queue == group.queue)
        if group.queue is not None and group.queue not in first and group.queue in self._lines.full:
            self._lines.went_on(group.queue, group.rows[-1].id, now_ms)

    def _standing(self, table: Table) -> control.OutboxState:
        """How the outbox stands, while nothing is under way."""
        if not self._stale or boot_ms() < self._count_at_ms:
            return self._state
        self._count_at_ms = boot_ms() + STATE_EVERY_MS
        return self._counted(table, "waiting" if self._lines.full else "idle")

    def _counted(self, table: Table, state: str) -> control.OutboxState:
        waiting, refused = table.counts()
        full = tuple(sorted(self._lines.full))[:20]
        error = self._state.error if self._unwritten else None
        return control.OutboxState(
            self._state.state if error else state, error, waiting, refused, self._state.moved,
            table.oldest_ms(), self._state.moved_at_ms, full, table.refusals() if refused else (),
        )  # fmt: skip

    def _tell(self, now_ms: int) -> None:
        """Let the keeper know how the outbox stands: what is new at once, what goes on now and then."""
        if self._owner is None or not self._stale:
            return
        turned = self._told is None or (self._told.state, self._told.error) != (self._state.state, self._state.error)
        if not turned and now_ms < self._tell_at_ms:
            return
        if self._state != self._told:
            self._told = self._state
            self._keeper.send(self._state)
        self._stale = self._state.state == "moving"
        self._tell_at_ms = now_ms + STATE_EVERY_MS

    # -- who talks to us ---------------------------------------------------------------------------------------

    def _hear(self, link: Link) -> None:
        try:
            for message, descriptors in link.receive():
                handler = self._handlers.get(type(message))
                if handler:
                    handler(self, message, descriptors)
        except LinkClosed:
            self._selector.unregister(link)
            self._stop_at_ms = 0  # the master holds the other end of both: it is gone

    def _asked_to_stop(self, message: control.Stop, _descriptors: list[int]) -> None:
        self._stop_at_ms = boot_ms() + min(message.grace_ms, STOP_MAX_MS)

    def _greeted(self, message: control.OutboxOwner, _descriptors: list[int]) -> None:
        """A keeper is new: what the last one was sent and did not answer, this one may never have seen."""
        if self._owner is not None and self._owner != message.owner:
            self._close()
        self._owner, self._told, self._stale = message.owner, None, True
        self._forget()
        self._acquainted = False
        self._again = FIRST
        if self._table:
            self._keeper.send(control.OutboxOpened(self._table.instance, FIRST))

    def _known(self, message: control.OutboxKnown, _descriptors: list[int]) -> None:
        """Tell which of the rows that are remembered are gone: whoever deleted them was killed before he said so."""
        if self._table is None or message.instance != self._table.instance or self._acquainted:
            return
        try:
            gone = self._table.gone(message.ids)
        except Locked as error:
            self._close()
            self._locked_out(str(error))
            return
        except Unusable as error:
            self._close()
            self._fail(str(error))
            return
        for at in range(0, len(gone), control.KNOWN_ROWS):
            self._keeper.send(control.OutboxGone(message.instance, tuple(gone[at : at + control.KNOWN_ROWS])))
        if len(message.ids) == control.KNOWN_ROWS:
            self._keeper.send(control.OutboxOpened(message.instance, message.ids[-1]))
        else:
            self._acquainted = True
            self._lookout.soon(boot_ms())

    def _refused(self, message: control.OutboxTwin, _descriptors: list[int]) -> None:
        """Two outboxes of one jobsup with the same number: the keeper could not tell their rows apart."""
        if self._table is None or message.instance != self._table.instance:
            return
        self._close()
        self._fail(
            f"it has the instance of outbox {message.outbox}, as a copy of its file has; if it is to be an outbox of "
            "its own, set instance in jobsup_outbox_instance to lower(hex(randomblob(16)))"
        )

    def _taken(self, message: control.OutboxTaken, descriptors: list[int]) -> None:
        data = read_memory_file(descriptors.pop())
        if self._group and message.number == self._group.number:
            self._answer = decode_verdicts(data)

    def _try_again(self, _message: control.OutboxAgain, _descriptors: list[int]) -> None:
        self._again = FIRST
        self._lookout.soon(boot_ms())

    _handlers: dict[type, Callable[[Relay, Any, list[int]], None]] = {  # noqa: RUF012 - a table, never changed
        control.Stop: _asked_to_stop,
        control.OutboxOwner: _greeted,
        control.OutboxKnown: _known,
        control.OutboxTwin: _refused,
        control.OutboxTaken: _taken,
        control.OutboxAgain: _try_again,
    }


def _news(refused: Sequence[tuple[Row, str]]) -> list[tuple[Row, str]]:
    """Errors that do not stand beside their rows already: the others are neither written nor logged again."""
    shortened = [(row, error[:ERROR_MAX]) for row, error in refused]
    return [(row, error) for row, error in shortened if row.error != error]
