"""One pass: what is written in one transaction, and what follows once it is committed.

*Invariant:* nothing that others can see changes before the commit: every such step is an effect in `afterwards`.
What the same pass must already see in the keeper's memory is changed at once, and put right by `on_failure`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from supervisor.errors import JobsupError
from supervisor.keeper.slots import KeeperSlot
from supervisor.keeper.state import State
from supervisor.store.protocol import AttemptError, Facts, Group, Inserted, Lease
from supervisor.store.sqlite.transaction import Transaction
from supervisor.unix.chunk import INLINE_BYTES_MAX, payload_file
from supervisor.unix.clock import boot_ns
from supervisor.unix.ring import RingDamaged
from supervisor.unix.slot import remove_file

SETTLE_UNTIL_US = 1_500
INSERT_UNTIL_US = 2_000
LEASE_UNTIL_US = 2_700
"""When a pass takes on no more of each kind. With its commit and what follows it, it stays within 5 ms: a request that
just missed it waits for the rest of this one and all of the next."""


class Work:
    """A transaction with its effects."""

    def __init__(self, state: State, tx: Transaction, now_ms: int, boot_ms: int) -> None:
        self.state = state
        self.tx = tx
        self.now_ms = now_ms
        self.boot_ms = boot_ms
        self.final: set[int] = set()
        self.leased: dict[int, list[Lease]] = {}
        """The leases of this transaction by slot; handed out when it is committed."""
        self._hurried = bool(state.intake)
        self._begun_ns = boot_ns()
        self._effects: list[Callable[[], Any]] = []
        self._undo: list[Callable[[], Any]] = []

    def afterwards(self, effect: Callable[[], Any]) -> None:
        """Do this once the transaction is committed."""
        self._effects.append(effect)

    def on_failure(self, undo: Callable[[], Any]) -> None:
        """Do this if the transaction fails."""
        self._undo.append(undo)

    def committed(self) -> None:
        """The transaction is on disk: let everyone know."""
        self.state.room_made |= bool(self.final or self.leased)
        for effect in self._effects:
            effect()
        self._forget()

    def failed(self) -> None:
        """The transaction was rolled back."""
        for undo in reversed(self._undo):
            undo()
        self._forget()

    def _forget(self) -> None:
        """Effects refer to this object and it to them: without this, all of a pass is left to the cycle collector."""
        self._effects.clear()
        self._undo.clear()

    def leased_ids(self) -> set[int]:
        """The jobs that this transaction leases."""
        return {job.id for leases in self.leased.values() for lease in leases for job in lease.jobs}

    def late(self, until_us: int) -> bool:
        """Whether this pass has lasted that long, or half as long if somebody waits for its commit."""
        return boot_ns() - self._begun_ns >= until_us * (500 if self._hurried else 1000)

    def ended(self, slot: KeeperSlot, ids: Iterable[int], token: int) -> None:
        """These jobs of a slot are no longer handed out under this token."""
        # Each once: a ring is written by a process that ran user code, and may say anything twice.
        listed = [job_id for job_id in dict.fromkeys(ids) if slot.holds(job_id, token)]
        before = slot.end(listed, self.boot_ms)
        self.on_failure(lambda: slot.undo_end(before))
        self.state.wants_lease = True
        self.final.update(listed)

        large = [job_id for job_id, (_, size) in before.out.items() if size >= INLINE_BYTES_MAX]

        def effect() -> None:
            self.state.settled_jobs += len(listed)
            for (
                job_id
            ) in large:  # its worker removes a file that it reads; not one of a job that it never had, or skips
                remove_file(slot.folder, payload_file(token, job_id))

        self.afterwards(effect)

    def ran(self, pool: str, run_us: int, jobs: int) -> None:
        """Learn how long jobs of a queue take."""
        self.afterwards(lambda: self.state.ran(pool, run_us, jobs))

    def stale(self, token: int, ids: Sequence[int]) -> None:
        """Reports that changed nothing: their lease is over."""
        if not ids:
            return
        self.tx.count_stale(len(ids))

        def effect() -> None:
            for job_id in ids:
                self.state.log.emit("keeper.stale", id=job_id, token=token)

        self.afterwards(effect)

    def damaged(self, slot: KeeperSlot, damage: RingDamaged) -> None:
        """A ring that holds no records any more: its worker must go; what it finished before counts."""
        state = self.state

        def effect() -> None:
            state.log.emit("keeper.ring_damaged", pid=slot.pid, pool=slot.pool, error=str(damage))
            state.recycle(slot, f"its outcome ring is damaged: {damage}")

        self.afterwards(effect)

    def retried(self, facts: Facts, due_at_ms: int, error: AttemptError | None) -> None:
        """A job failed and will be tried again."""
        delay_s = max(0, due_at_ms - self.now_ms) / 1000
        message = error.message if error else ""
        attempt = facts.history.attempt
        self.afterwards(
            lambda: self.state.log.emit(
                "job.retry", id=facts.id, queue=facts.queue, attempt=attempt, delay_s=delay_s, message=message
            )
        )

    def snoozed(self, facts: Facts, due_at_ms: int, error: AttemptError | None) -> None:
        """A job runs again later, without charge; an error is why, if a rule says so of it."""
        if error is not None:
            delay_s, message = max(0, due_at_ms - self.now_ms) / 1000, error.message
            self.afterwards(
                lambda: self.state.log.emit(
                    "job.snoozed", id=facts.id, queue=facts.queue, delay_s=delay_s, message=message
                )
            )

    def buried(self, facts: Facts, error: AttemptError | None, reason: str) -> None:
        """A job is dead."""
        message = error.message if error else reason
        attempt = facts.history.attempt

        def effect() -> None:
            self.state.log.emit("job.dead", id=facts.id, queue=facts.queue, attempt=attempt, message=message)
            self.state.alerts.dead(facts.queue, facts.id, message)

        self.afterwards(effect)

    def insert_children(self, groups: Sequence[Group]) -> None:
        """Insert what a completed job enqueued: with its completion, or not at all."""
        if groups:
            self.inserted(self.tx.insert(groups))

    def refused_children(self, groups: Sequence[Group]) -> JobsupError | None:
        """Why what a job enqueued cannot go in, all of it; nothing is changed."""
        return self.tx.refusal(groups) if groups else None

    def inserted(self, answers: Sequence[Inserted]) -> None:
        """Remember that there is something new to lease."""
        jobs = sum(len(answer.ids) for answer in answers if not answer.repeated)

        self.state.wants_lease = True

        def effect() -> None:
            self.state.committed_jobs += jobs

        self.afterwards(effect)
