"""Operations on jobs that exist, in steps that each fit into a pass: cancel, retry, move, purge, dead letters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from supervisor.errors import JobsupError, NotUnique, UsageError, WrongState
from supervisor.job import IllegalTransition
from supervisor.job import State as JobState
from supervisor.keeper import breaking, withdrawal
from supervisor.keeper.state import State
from supervisor.keeper.strangers import unknown_job
from supervisor.policy.breaker import CLOSED
from supervisor.store.history import Search
from supervisor.store.reader import Reader
from supervisor.store.sqlite.transaction import Transaction
from supervisor.wire import messages

STEP_JOBS = 100
"""Jobs in one step: a pass with one of it stays within its time."""
Reply = Callable[[dict[str, Any]], None]
Refuse = Callable[[JobsupError], None]


class ById(ABC):
    """An operation on listed jobs: each is done or refused by itself."""

    until_ms: int | None = None
    of_flows: str
    """The command of jobsctl flow that does it to a flow."""

    def __init__(self, state: State, ids: Sequence[int], reply: Reply, refuse: Refuse) -> None:
        self.state = state
        self.ids = list(ids)
        self.reply = reply
        self.refuse = refuse
        self.done: list[int] = []
        self.problems: list[dict[str, Any]] = []

    def step(self, tx: Transaction, now_ms: int) -> Callable[[], bool]:  # noqa: ARG002 - the interface of operations
        """Do the next jobs."""
        ids = self.ids[:STEP_JOBS]
        done: list[int] = []
        problems: list[dict[str, Any]] = []
        follow: list[Callable[[], None]] = []
        standing = tx.standing(ids)
        for job_id in ids:
            try:
                if job_id not in standing:
                    raise unknown_job(tx, job_id, instead=self.of_flows)
                after = self.act(tx, job_id)
                if after:
                    follow.append(after)
                done.append(job_id)
            except JobsupError as error:
                problems.append(_problem(job_id, error))

        def effect() -> bool:
            self.ids = self.ids[len(ids) :]
            self.done += done
            self.problems += problems
            for after in follow:
                after()
            self.state.wants_lease = True
            if not self.ids:
                self.reply({"done": self.done, "failed": self.problems})
            return not self.ids

        return effect

    @abstractmethod
    def act(self, tx: Transaction, job_id: int) -> Callable[[], None] | None:
        """Do it to one job; what is returned follows the commit."""


def _problem(job_id: int, error: JobsupError) -> dict[str, Any]:
    """What is answered of a job that was refused; what is to be done in general, its code says."""
    said = {"id": job_id, "code": error.code, "message": error.message}
    return said if error.hint == error.remedy else said | {"hint": error.hint}


class Cancel(ById):
    """Cancel what has not finished; what runs is asked to end."""

    of_flows = "cancel"

    def act(self, tx: Transaction, job_id: int) -> Callable[[], None] | None:
        """Cancel one job."""
        try:
            state = tx.cancel(job_id)
        except IllegalTransition:
            raise WrongState(
                f"job {job_id} is {tx.standing([job_id])[job_id].state}: only unfinished jobs can be cancelled"
            ) from None
        return partial(withdrawal.ask, self.state, [job_id]) if state is JobState.RUNNING else None


class Retry(ById):
    """Run final jobs again, and scheduled ones now; completed ones only by force."""

    of_flows = "retry"

    def __init__(self, state: State, ids: Sequence[int], reply: Reply, refuse: Refuse, *, force: bool) -> None:
        super().__init__(state, ids, reply, refuse)
        self.force = force

    def act(self, tx: Transaction, job_id: int) -> Callable[[], None] | None:
        """Revive one job."""
        standing = tx.standing([job_id])[job_id]
        if standing.state is JobState.COMPLETED and not self.force:
            raise WrongState(f"job {job_id} is completed; it runs again only with --force", hint="add --force")
        try:
            tx.revive(job_id)
        except IllegalTransition:
            raise WrongState(f"job {job_id} is {standing.state}: it will run by itself") from None
        return None


class Sweep(ABC):
    """An operation on all jobs that some filter finds, in the order of their ids."""

    until_ms: int | None = None

    def __init__(self, state: State, reply: Reply, refuse: Refuse) -> None:
        self.state = state
        self.reply = reply
        self.refuse = refuse
        self.after_id = 0
        self.end_id: int | None = None
        """The first id that was given out after this was asked for: such jobs are not meant."""
        self.count = 0

    def step(self, tx: Transaction, now_ms: int) -> Callable[[], bool]:  # noqa: ARG002 - the interface of operations
        """Do the next page."""
        if self.end_id is None:
            self.end_id = tx.reserve(0).start
        ids = [job_id for job_id in self.page(tx) if job_id < self.end_id]
        count = self.act(tx, ids) if ids else 0

        def effect() -> bool:
            self.after_id = ids[-1] if ids else self.after_id
            self.count += count
            self.state.wants_lease = True
            if not ids:
                self.reply({"count": self.count})
            return not ids

        return effect

    @abstractmethod
    def page(self, tx: Transaction) -> list[int]:
        """The next ids to look at."""

    @abstractmethod
    def act(self, tx: Transaction, ids: list[int]) -> int:
        """Do it to those that the filter means; returns how many."""


class Move(Sweep):
    """Move the jobs of one queue to another; what runs stays where it is."""

    def __init__(self, state: State, old: str, new: str, reply: Reply, refuse: Refuse) -> None:
        super().__init__(state, reply, refuse)
        self.old = old
        self.new = new

    def page(self, tx: Transaction) -> list[int]:
        """Jobs of the old queue."""
        return tx.ids_of(self.old, self.after_id, STEP_JOBS)

    def act(self, tx: Transaction, ids: list[int]) -> int:
        """Move them; where they go there may be code that they wait for."""
        self.state.tasks.look_again()
        return tx.move(self.old, self.new, ids)


class Purge(Sweep):
    """Delete the jobs of a queue that are in one state."""

    def __init__(self, state: State, queue: str, wanted: JobState, reply: Reply, refuse: Refuse) -> None:
        super().__init__(state, reply, refuse)
        if wanted is JobState.RUNNING:
            raise UsageError("running jobs cannot be purged", hint="cancel them first")
        self.queue = queue
        self.wanted = wanted

    def page(self, tx: Transaction) -> list[int]:
        """Jobs of the queue."""
        return tx.ids_of(self.queue, self.after_id, STEP_JOBS)

    def act(self, tx: Transaction, ids: list[int]) -> int:
        """Delete those in the state."""
        meant = [job_id for job_id, standing in tx.standing(ids).items() if standing.state is self.wanted]
        if not self.wanted.final:
            for job_id in meant:
                tx.cancel(job_id)
        return tx.remove(meant)


class DeadFilter:
    """Which dead letters a client means."""

    def __init__(self, chosen: messages.Filter, reader: Reader) -> None:
        self.chosen = chosen
        self.reader = reader
        self.wanted = set(chosen.ids) if chosen.ids else None

    def page(self, tx: Transaction, after_id: int, jobs_max: int) -> list[int]:
        """The next dead jobs to look at."""
        if self.chosen.fingerprint is not None:
            return tx.letters_after(self.chosen.fingerprint, self.chosen.queue, after_id, jobs_max)
        if self.chosen.key is not None:
            found = tx.ids_of_key(self.chosen.key, self.chosen.queue, after_id, jobs_max, JobState.DEAD)
            if found is not None:
                return found
        return [job.id for job in tx.dead_after(after_id, jobs_max)]

    def meant(self, tx: Transaction, ids: list[int]) -> Iterator[int]:
        """Those of these that are dead and pass."""
        if self.chosen.key is not None:
            ids = tx.meant(ids, Search(key=self.chosen.key))
        for job_id, standing in tx.standing(ids).items():
            if standing.state is not JobState.DEAD or (self.wanted is not None and job_id not in self.wanted):
                continue
            if self.chosen.queue is not None and standing.queue != self.chosen.queue:
                continue
            if self._details_match(job_id):
                yield job_id

    def _details_match(self, job_id: int) -> bool:
        chosen = self.chosen
        if (chosen.type, chosen.text, chosen.before_ms, chosen.after_ms) == (None,) * 4:
            return True
        return self.reader.dead_matches(
            job_id, kind=chosen.type, text=chosen.text, before_ms=chosen.before_ms, after_ms=chosen.after_ms
        )


class DeadLetters(Sweep):
    """Run dead letters again, or delete them: those that a filter means, the oldest first, at most `limit`."""

    def __init__(
        self, state: State, chosen: messages.Filter, reader: Reader, reply: Reply, refuse: Refuse, *, delete: bool,
        limit: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(state, reply, refuse)
        self.filter = DeadFilter(chosen, reader)
        self.delete = delete
        self.limit = limit

    def page(self, tx: Transaction) -> list[int]:
        """Dead jobs, until there were enough."""
        if self.limit is not None and self.count >= self.limit:
            return []
        return self.filter.page(tx, self.after_id, STEP_JOBS)

    def act(self, tx: Transaction, ids: list[int]) -> int:
        """Do it to the dead ones that the filter means."""
        meant = list(self.filter.meant(tx, ids))
        if self.limit is not None:
            meant = meant[: self.limit - self.count]
        if self.delete:
            return tx.remove(meant)
        return sum(_revived(tx, job_id) for job_id in meant)


def _revived(tx: Transaction, job_id: int) -> bool:
    """Run a job again, unless another one that counts as the same is there."""
    try:
        tx.revive(job_id)
    except NotUnique:
        return False
    return True


class Switch:
    """Pause or resume a queue."""

    until_ms: int | None = None

    def __init__(self, state: State, queue: str, reply: Reply, refuse: Refuse, *, paused: bool) -> None:
        self.state = state
        self.queue = queue
        self.reply = reply
        self.refuse = refuse
        self.paused = paused

    def step(self, tx: Transaction, now_ms: int) -> Callable[[], bool]:  # noqa: ARG002 - the interface of operations
        """Do it."""
        tx.pause(self.queue, paused=self.paused)
        if not self.paused:
            tx.put_breaker(self.queue, CLOSED)

        def effect() -> bool:
            self.state.wants_lease = True
            if not self.paused:
                breaking.reset(self.state, self.queue)
            self.reply({"queue": self.queue, "paused": self.paused})
            return True

        return effect


class Key:
    """Pause or resume a key of a queue, or let it go on whatever holds it."""

    until_ms: int | None = None

    def __init__(self, state: State, queue: str, key: str, action: str, reply: Reply, refuse: Refuse) -> None:
        self.state = state
        self.queue = queue
        self.key = key
        self.action = action
        self.reply = reply
        self.refuse = refuse

    def step(self, tx: Transaction, now_ms: int) -> Callable[[], bool]:  # noqa: ARG002 - the interface of operations
        """Do it."""
        before = tx.key_stops(self.queue, self.key)
        known = tx.free_key(self.queue, self.key, paused=None if self.action == "free" else self.action == "pause")
        changed = tx.key_stops(self.queue, self.key) != before

        def effect() -> bool:
            self.state.wants_lease = True
            if known:
                self.reply({"queue": self.queue, "key": self.key or None, "action": self.action, "changed": changed})
            else:
                self.refuse(
                    WrongState(f"queue {self.queue} has no jobs of key {self.key}", hint="jobsctl keys lists them")
                )
            return True

        return effect
