"""Rows of applications' outboxes: each becomes one job, and is remembered until its relay says that it is gone.

*Invariant:* that a row is a job is stored in the transaction that inserts the job, the relay hears of it after the
commit, and it is forgotten only when the row is deleted. So a row that is sent twice is one job, whoever died between.
"""

from __future__ import annotations

import os
import selectors
import socket
import traceback
from collections.abc import Sequence
from typing import Any

import msgspec

from supervisor.config.spec import Outbox, Spec
from supervisor.errors import Denied, InvalidPayload, JobsupError, QueueFull
from supervisor.keeper.children import group_of, inner, known_queue
from supervisor.keeper.private import Private
from supervisor.keeper.state import State
from supervisor.keeper.work import INSERT_UNTIL_US, Work
from supervisor.observe.failpoint import hit
from supervisor.policy.options import to_wire
from supervisor.reading import read
from supervisor.store.protocol import Group, NewJob, Relayed
from supervisor.store.reader import instant
from supervisor.unix.clock import wall_ms
from supervisor.wire import control, messages
from supervisor.wire.control import Link, LinkClosed, memory_file, read_memory_file
from supervisor.wire.outbox import Row, Verdict, decode_rows, encode

ROWS_AT_ONCE = 32
FORGET_AT_ONCE = 512


class Batch:
    """Rows that a relay sent, with the verdicts so far; `full` are queues without room, whose rows wait in order."""

    def __init__(self, outbox: str, number: int, instance: str, rows: Sequence[Row]) -> None:
        self.outbox = outbox
        self.number = number
        self.instance = instance
        self.rows = rows
        self.verdicts: list[Verdict] = []
        self.full: set[str] = set()


class Outboxes:
    """What relays have asked for and wait for, and what they last said of themselves."""

    def __init__(self, state: State, selector: selectors.BaseSelector, private: Private) -> None:
        self._state = state
        self._selector = selector
        self._links: dict[str, Link] = {}
        self._said: dict[str, control.OutboxState] = {}
        self._unreadable: dict[str, str] = {}
        """Why rows that relays sent could not be read."""
        self._batches: dict[str, Batch] = {}
        self._gone: list[tuple[str, int]] = []
        self._asked: dict[str, control.OutboxOpened] = {}
        self._instances: dict[str, str] = {}
        self._owner: int | None = None
        self._spec: Spec = state.spec
        private.also(control.RelayGiven, self._relay_given)
        private.also(control.RelayGone, lambda message, *_: self.drop_relay(message.outbox))

    # -- the relays --------------------------------------------------------------------------------------------

    def add_relay(self, outbox: str, sock: socket.socket) -> None:
        """Listen to the relay of an outbox. It hears who we are from the next pass, which can read it."""
        self.drop_relay(outbox)
        link = self._links[outbox] = Link(sock)
        self._selector.register(link, selectors.EVENT_READ, lambda _: self._receive(outbox, link))
        if self._owner is not None:
            link.send(control.OutboxOwner(self._owner))

    def drop_relay(self, outbox: str) -> None:
        """A relay is gone; the next one reads again what this one has not settled."""
        link = self._links.pop(outbox, None)
        if link:
            self._selector.unregister(link)
            link.close()
        for of in (self._said, self._unreadable, self._batches, self._asked, self._instances):
            of.pop(outbox, None)

    def _relay_given(self, given: control.RelayGiven, descriptors: list[int], _: Link) -> None:
        self.add_relay(given.outbox, socket.socket(fileno=descriptors.pop()))

    def _receive(self, outbox: str, link: Link) -> None:
        try:
            for message, descriptors in link.receive():
                match message:
                    case control.OutboxRows():
                        self._rows_sent(outbox, message, read_memory_file(descriptors.pop()))
                    case control.OutboxGone(instance, ids):
                        self._gone += [(instance, row) for row in ids]
                    case control.OutboxOpened():
                        self._opened(outbox, message)
                    case control.OutboxClosed():
                        self._closed(outbox)
                    case control.OutboxState():
                        self._stands(outbox, message)
        except LinkClosed:
            if self._links.get(outbox) is link:
                self.drop_relay(outbox)

    def _opened(self, outbox: str, message: control.OutboxOpened) -> None:
        """A copy has the instance of its original: rows of the two could not be told apart."""
        self._instances.pop(outbox, None)
        twin = next((name for name, instance in self._instances.items() if instance == message.instance), None)
        if twin is not None:
            self._send(outbox, control.OutboxTwin(message.instance, twin))
            return
        self._instances[outbox] = message.instance
        self._asked[outbox] = message

    def _closed(self, outbox: str) -> None:
        """Rows of it that are no jobs yet come again, of whatever outbox has the file then: one that had deleted them,
        and had us forget them, would find them doubled by the old message."""
        for of in (self._batches, self._asked, self._instances, self._unreadable):
            of.pop(outbox, None)

    def _rows_sent(self, outbox: str, message: control.OutboxRows, data: bytes) -> None:
        """Let rows wait for the next pass; those of an earlier message that are not answered come again in this one."""
        try:
            rows = decode_rows(data)
        except msgspec.MsgspecError as error:
            self._cannot_read(outbox, str(error))
            return
        self._unreadable.pop(outbox, None)
        if rows:
            self._batches[outbox] = Batch(outbox, message.number, message.instance, rows)

    def _cannot_read(self, outbox: str, error: str) -> None:
        """Say it once: the relay sends them again and again."""
        if self._unreadable.get(outbox) != error:
            self._unreadable[outbox] = error
            self._state.log.emit("outbox.unreadable", outbox=outbox, error=error)

    def _stands(self, outbox: str, said: control.OutboxState) -> None:
        self._said[outbox] = said
        if said.state == "idle":
            self._unreadable.pop(outbox, None)  # somebody has deleted them

    def turn(self) -> None:
        """Send what waited; tell relays that the configuration has changed."""
        for link in self._links.values():
            if link.congested:
                link.flush()
        if self._state.spec is not self._spec:
            self._spec = self._state.spec
            for link in self._links.values():
                link.send(control.OutboxAgain())

    @property
    def waiting(self) -> bool:
        """Whether a pass has something to do for a relay."""
        unknown = self._owner is None and bool(self._links)
        return bool(unknown or self._batches or self._gone or self._asked)

    # -- the pass ----------------------------------------------------------------------------------------------

    def take(self, work: Work) -> None:
        """Do for the relays what fits into a pass."""
        if self._owner is None and self._links:
            owner = work.tx.setting("database_id")
            work.afterwards(lambda: self._introduce(owner))
        self._forget(work)
        self._answer_known(work)
        for name in list(self._batches):
            self._take_batch(work, self._batches[name])
            if work.late(INSERT_UNTIL_US):
                return

    def _introduce(self, owner: int) -> None:
        self._owner = owner
        for link in self._links.values():
            link.send(control.OutboxOwner(owner))

    def _forget(self, work: Work) -> None:
        """Rows that are gone need not be remembered any more."""
        gone, self._gone = self._gone[:FORGET_AT_ONCE], self._gone[FORGET_AT_ONCE:]
        if not gone:
            return
        work.on_failure(lambda: setattr(self, "_gone", gone + self._gone))
        for instance in {instance for instance, _ in gone}:
            work.tx.forget_relayed(instance, [row for of, row in gone if of == instance])
        hit("keeper.forget_rows")

    def _answer_known(self, work: Work) -> None:
        """Tell relays which rows are remembered; not before what they said to be gone is forgotten."""
        if self._gone:
            return
        asked, self._asked = self._asked, {}
        work.on_failure(lambda: setattr(self, "_asked", asked | self._asked))
        for outbox, message in asked.items():
            ids = work.tx.relayed_after(message.instance, message.after, control.KNOWN_ROWS)
            known = control.OutboxKnown(message.instance, tuple(ids))
            work.afterwards(lambda outbox=outbox, known=known: self._send(outbox, known))  # type: ignore[misc]

    def _take_batch(self, work: Work, batch: Batch) -> None:
        """Make rows jobs, some at a time, while the pass has time; once all are, the relay hears what they are."""
        outbox = self._state.spec.outbox.get(batch.outbox)
        if outbox is None:
            del self._batches[batch.outbox]  # it has left the configuration, and its relay is told to go
            return
        before, full = len(batch.verdicts), set(batch.full)
        work.on_failure(lambda: self._undo(batch, before, full))
        while True:
            rows = batch.rows[len(batch.verdicts) :][:ROWS_AT_ONCE]
            batch.verdicts += self._take_rows(work, outbox, batch, rows)
            if len(batch.verdicts) == len(batch.rows):
                del self._batches[batch.outbox]
                work.afterwards(lambda: self._taken(batch))
                return
            if work.late(INSERT_UNTIL_US):
                return

    def _undo(self, batch: Batch, before: int, full: set[str]) -> None:
        del batch.verdicts[before:]
        batch.full = full
        if batch.outbox in self._links:
            self._batches.setdefault(batch.outbox, batch)

    def _take_rows(self, work: Work, outbox: Outbox, batch: Batch, rows: Sequence[Row]) -> list[Verdict]:
        """The verdicts on these rows; on the first of them, if refusing those took all the time there was."""
        known = work.tx.relayed(batch.instance, [row.id for row in rows])
        found: dict[int, Verdict] = {}
        new: list[tuple[Row, str, NewJob]] = []
        for seen, row in enumerate(rows, 1):
            digest = row.digest
            if row.id in known and known[row.id].digest == digest:
                found[row.id] = Verdict(known[row.id].job_id)
            elif row.queue in batch.full:
                found[row.id] = Verdict()
            else:
                job = self._job(outbox, row, work.now_ms)
                if isinstance(job, NewJob):
                    new.append((row, digest, job))
                else:
                    found[row.id] = Verdict(error=job)
                    if work.late(INSERT_UNTIL_US):
                        return self._insert(work, batch, rows[:seen], found, new)
        return self._insert(work, batch, rows, found, new)

    def _insert(
        self, work: Work, batch: Batch, rows: Sequence[Row], found: dict[int, Verdict],
        new: Sequence[tuple[Row, str, NewJob]],
    ) -> list[Verdict]:  # fmt: skip
        groups = self._groups(new)
        answers = work.tx.insert([_group([job for _, _, job in group], group[0][0].queue) for group in groups])
        made = []
        for group, answer in zip(groups, answers, strict=True):
            if answer.refused is None:
                for (row, digest, _), job_id in zip(group, answer.ids, strict=True):
                    found[row.id] = Verdict(job_id)
                    made.append(Relayed(row.id, digest, job_id))
            elif isinstance(answer.refused, QueueFull):
                batch.full.add(group[0][0].queue)
                found |= {row.id: Verdict() for row, *_ in group}
            else:
                found |= {row.id: Verdict(error=_words(answer.refused)) for row, *_ in group}
        work.tx.note_relayed(batch.instance, made)
        work.inserted(answers)
        hit("keeper.outbox")
        return [found[row.id] for row in rows]

    def _groups(self, new: Sequence[tuple[Row, str, NewJob]]) -> list[list[tuple[Row, str, NewJob]]]:
        """Rows of a queue that refuses nobody go in together, which is faster; all others each by itself."""
        together: dict[str, list[tuple[Row, str, NewJob]]] = {}
        for number, one in enumerate(new):
            discipline = self._state.discipline(one[0].queue)
            alone = discipline.unique is not None or discipline.max_size is not None
            together.setdefault(f"{number} alone" if alone else one[0].queue, []).append(one)
        return list(together.values())

    def _job(self, outbox: Outbox, row: Row, now_ms: int) -> NewJob | str:
        """The job that a row asks for, or why it cannot be one: whatever it is, it must not stop the others."""
        try:
            return job_of(self._state, outbox, row, now_ms)
        except JobsupError as error:
            return _words(error)
        except Exception:  # noqa: BLE001 - one row must not end the keeper for everyone
            self._state.log.emit("keeper.fault", traceback=traceback.format_exc())
            return "a fault in jobsup; its log has the traceback"

    def _taken(self, batch: Batch) -> None:
        hit("keeper.before_taken")
        try:
            fd = memory_file("outbox", encode(batch.verdicts))
        except OSError:
            return  # no descriptor or memory is left: the relay asks again
        try:
            self._send(batch.outbox, control.OutboxTaken(batch.number), fd)
        finally:
            os.close(fd)

    def _send(self, outbox: str, message: control.AnyMessage, *descriptors: int) -> None:
        link = self._links.get(outbox)
        if link:
            link.send(message, descriptors)

    # -- status ------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, dict[str, Any]]:
        """How each outbox of the configuration stands, by name."""
        return {name: shown(outbox, self._standing(name)) for name, outbox in self._state.spec.outbox.items()}

    def _standing(self, name: str) -> control.OutboxState | None:
        """What its relay said last, unless we know better."""
        said, error = self._said.get(name), self._unreadable.get(name)
        if said is None or error is None:
            return said
        return msgspec.structs.replace(said, state="failing", error=f"its rows cannot be read: {error}")


def shown(outbox: Outbox, said: control.OutboxState | None) -> dict[str, Any]:
    """An outbox for people; `said` is None where no relay has spoken."""
    unknown = control.OutboxState("unknown", "its relay does not run; the log of jobsupd says why")
    found = said or unknown
    oldest_s = None if found.oldest_at_ms is None else max(0, wall_ms() - found.oldest_at_ms) / 1000
    return {
        "database": outbox.database,
        "state": found.state,
        "error": found.error,
        "waiting": found.waiting if said else None,
        "refused": found.refused if said else None,
        "moved": found.moved if said else None,
        "oldest_s": oldest_s if found.waiting else None,
        "last_moved_at": instant(found.moved_at_ms),
        "full": list(found.full),
        "refusals": [{"id": row, "queue": queue, "error": error} for row, queue, error in found.refusals],
    }


def job_of(state: State, outbox: Outbox, row: Row, now_ms: int) -> NewJob:
    """The job that a row asks for.

    Raises:
        UnknownQueue, Denied, InvalidPayload, PayloadTooLarge: it cannot be one.
    """
    name = inner("", row.queue)
    queue = known_queue(state.spec, name)
    if outbox.queues and name not in outbox.queues:
        raise Denied(f"outbox {outbox.name} has no rows for {name}", hint=f"its queues: {', '.join(outbox.queues)}")
    payload = row.payload.encode()
    messages.check_payload(payload, queue.max_payload_bytes, name)
    try:
        options = to_wire(msgspec.convert(read(row.options), dict[str, Any])) if row.options else {}
        asked = msgspec.convert({"payload": msgspec.Raw(payload), **options}, messages.NewJob)
    except (msgspec.MsgspecError, RecursionError, OverflowError) as error:
        raise InvalidPayload(f"options: {error}", hint="options is a JSON object of options of a job") from error
    (job,) = group_of(state, name, [asked], now_ms).jobs
    return job


def _group(jobs: Sequence[NewJob], name: str) -> Group:
    """Jobs of a queue in the order of their rows; of those with an idempotency key, only the first is new."""
    return Group(name, jobs, keyed=any(job.idempotency_key is not None for job in jobs))


def _words(error: JobsupError) -> str:
    return f"{error.message}; {error.hint}" if error.hint else error.message
