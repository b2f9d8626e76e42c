"""The passes of the keeper: what each writes, in which order, and what becomes of one that cannot be committed."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from supervisor.errors import StoreError
from supervisor.keeper import (
    archiving,
    breaking,
    consuming,
    dispatch,
    expiring,
    flows,
    gathering,
    housekeeping,
    lending,
    parking,
    recall,
    sources,
    standstill,
    timetable,
)
from supervisor.keeper.housekeeping import Chores
from supervisor.keeper.intake import insert
from supervisor.keeper.settling import settle_slot
from supervisor.keeper.slots import KeeperSlot, Phase
from supervisor.keeper.state import State
from supervisor.keeper.verdicts import give_verdict
from supervisor.keeper.withdrawal import withdraw
from supervisor.keeper.work import SETTLE_UNTIL_US, Work
from supervisor.store.driver import sqlite3
from supervisor.store.protocol import Owner
from supervisor.store.sqlite.store import BUSY_TIMEOUT_MS, FAILING_TIMEOUT_MS
from supervisor.unix.clock import boot_ms, wall_ms

RECORDS_AT_ONCE = 256
OPERATION_STEPS_PER_PASS = 1
FAILURE_PAUSE_MS = 100
SAY_FAILING_EVERY_MS = 10_000


class Passes:
    """`told` is called after each commit, with what was written, and whether an operation was part of it.

    `relay` takes rows of outboxes into the transaction.
    """

    def __init__(
        self, state: State, chores: Chores, told: Callable[[Work, bool], None], relay: Callable[[Work], None]
    ) -> None:
        self._state = state
        self._chores = chores
        self._told = told
        self._relay = relay
        self.retry_at_ms = 0
        """While the store cannot commit: when to try again."""
        self._say_failing_at_ms = 0
        self._failing_said = False

    def attempt(self, now_ms: int, *, flush: bool = False) -> bool:
        """Do a pass; if the store cannot commit, nothing happened, and it is tried again soon.

        While it is failing, outcomes are tried by themselves first: they may still fit where new jobs do not.
        """
        if self._state.failing_since_ms is not None and not self._commit(now_ms, flush=False, intake=False):
            return False
        if not self._commit(now_ms, flush=flush, intake=True):
            return False
        self._store_works(now_ms)
        return True

    def _commit(self, now_ms: int, *, flush: bool, intake: bool) -> bool:
        state = self._state
        work: Work | None = None
        waiting: dict[str, bool] = {}
        backlogs: dict[str, int] = {}
        operating = intake and bool(state.operations)
        try:
            with state.store.transaction(wall_ms()) as tx:
                work = self.work(tx)
                self._write(work, now_ms, flush=flush, intake=intake)
                waiting = self._waiting(work)
                backlogs = {pool: sources.backlog(work, pool) for pool in state.loads.pools}
        except (StoreError, OSError, sqlite3.Error) as error:
            if work:
                work.failed()
            self.failed(now_ms, str(error))
            return False
        except BaseException:
            if work:
                work.failed()
            raise
        work.committed()
        housekeeping.note_written(state, self._chores, now_ms)
        self._told(work, operating)
        recall.stuck_slots(state, now_ms, waiting)
        state.loads.passed(backlogs, now_ms)
        return True

    def _waiting(self, work: Work) -> dict[str, bool]:
        """Pools for which something waits that could be leased, as far as is known; not what waits for more of it."""
        halted, pools = breaking.halted(work), self._state.workplaces
        return {pool: sources.draw(work, pool, halted | gathering.not_due(work, pool)) is not None for pool in pools}

    def work(self, tx: Any) -> Work:
        return Work(self._state, tx, wall_ms(), boot_ms())

    def _write(self, work: Work, now_ms: int, *, flush: bool, intake: bool) -> None:
        """Verdicts and outcomes first, then what comes in, then what goes out, then chores."""
        state = self._state
        self._judge(work)
        self._own(work)
        self._settle(work)
        consuming.hear(work)
        lending.take_back_undelivered(work)
        if state.failing_since_ms is None:
            consuming.end_over(work)
        else:
            consuming.adopt(work)  # nobody could be heard, as while there is no keeper
        if intake:
            insert(work, flush=flush)
            self._relay(work)
            self._operate(work)
        parking.keep_up(work)
        housekeeping.promote(work, self._chores)
        housekeeping.wake(work, self._chores)
        if intake:
            timetable.keep_time(work)
        if state.leasing:
            breaking.forget(work)
            self._recall(work, now_ms)
        withdraw(work)
        standstill.take_back(work)
        expiring.expire(work, self._chores)
        flows.go_on(work)
        if state.leasing:
            dispatch.lease_out(work)
        if intake:
            lending.lend_out(work)
        housekeeping.prune(work, self._chores)
        flows.prune(work, self._chores)
        housekeeping.forget_requests(work, self._chores)
        housekeeping.tidy_lanes(work, self._chores)
        archiving.look_after(work)
        housekeeping.note_scheduled(work, self._chores)
        housekeeping.note_naps(work, self._chores)
        breaking.note_next(work)

    def _own(self, work: Work) -> None:
        """Store the owners of new workers, before anything is leased to them; not of those that are dead already."""
        state = self._state
        for number in list(state.unowned):
            slot = state.slots[number]
            if slot.phase is Phase.JUDGED:
                state.unowned.discard(number)
                continue
            owner = work.tx.own(
                Owner(
                    host=socket.gethostname(), boot=state.boot_id, epoch=state.epoch, slot=slot.number,
                    incarnation=slot.incarnation, pool=slot.pool, directory=slot.directory, pid=slot.pid,
                    start_time=slot.start_time,
                )
            )  # fmt: skip
            work.afterwards(partial(self._owned, slot, owner))

    def _owned(self, slot: KeeperSlot, owner: int) -> None:
        slot.owner = owner
        self._state.unowned.discard(slot.number)
        self._state.wants_lease = True

    def _judge(self, work: Work) -> None:
        state = self._state
        given = dict(state.certificates)
        state.certificates.clear()
        work.on_failure(lambda: state.certificates.update(given | state.certificates))
        for certificate, link in given.values():
            give_verdict(work, certificate, link)

    def _settle(self, work: Work) -> None:
        """Settle what rings hold. Of one that was read to its end the rest comes with the next pass: to run after a
        worker that goes on would cost more for each of a few records than for each of many."""
        state = self._state
        rung, left = dict(state.rung), dict(state.rung)
        going_on: dict[int, int] = {}
        while left and not work.late(SETTLE_UNTIL_US):
            number, at = next(iter(left.items()))
            del left[number]
            slot = state.slots.get(number)
            if slot is None or not slot.owner or slot.phase is Phase.JUDGED:
                continue  # the ring of a judged slot was read to its end, and it may be closed after this pass
            before, there = slot.ring.position, slot.ring.waiting()
            settle_slot(work, slot, RECORDS_AT_ONCE)
            taken = slot.ring.position.sequence - before.sequence
            if taken and slot.ring.waiting():
                (left if taken < there else going_on)[number] = at
        state.rung.clear()
        state.rung.update(left | going_on)
        work.on_failure(lambda: state.rung.update(rung))

    def _operate(self, work: Work) -> None:
        state = self._state
        for _ in range(min(OPERATION_STEPS_PER_PASS, len(state.operations))):
            operation = state.operations[0]
            effect = operation.step(work.tx, work.now_ms)

            def follow(operation: Any = operation, effect: Any = effect) -> None:
                state.operations.remove(operation)
                if not effect():
                    state.operations.append(operation)

            work.afterwards(follow)

    def _recall(self, work: Work, now_ms: int) -> None:
        state = self._state
        for slot in recall.stuck_slots(state, now_ms, self._waiting(work)):
            recall.recall(work, slot)

    def failed(self, now_ms: int, error: str) -> None:
        """The store cannot commit: callers wait, and it is tried again soon."""
        state = self._state
        if state.failing_since_ms is None:
            state.failing_since_ms = now_ms
            self._say_failing(now_ms, error)
        state.failure = error
        state.alerts.store_failed(error)
        state.store.wait_for_locks(FAILING_TIMEOUT_MS)
        self.retry_at_ms = boot_ms() + FAILURE_PAUSE_MS  # from now: the try itself took its time

    def _say_failing(self, now_ms: int, error: str) -> None:
        """One line in ten seconds: between the jobs that do not fit come passes with nothing to write, which work."""
        if now_ms >= self._say_failing_at_ms:
            self._say_failing_at_ms = now_ms + SAY_FAILING_EVERY_MS
            self._failing_said = True
            self._state.log.emit("keeper.store_failing", error=error)

    def _store_works(self, now_ms: int) -> None:
        state = self._state
        if state.failing_since_ms is not None:
            if self._failing_said:
                self._failing_said = False
                state.log.emit("keeper.store_recovered", seconds=(now_ms - state.failing_since_ms) / 1000)
            state.failing_since_ms = None
            state.failure = None
            state.store.wait_for_locks(BUSY_TIMEOUT_MS)
            state.wants_lease = True
