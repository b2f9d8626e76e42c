"""What a store is: domain verbs on a transaction, batches in, batches out.

SQL selects, Python decides: a verb never chooses between outcomes, it writes what a pure function decided. All
deciding state lives in rows; what a backend keeps in memory is a cache that it must be able to lose. A backend
is what passes tests/conformance, which runs with two owners at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from supervisor.job import State
from supervisor.policy.rank import Rank
from supervisor.policy.settle import History

RankOf = Callable[[str, int, int], Rank]
"""(queue, priority, sequence) -> rank, by the queue's order."""

FRESH, TRAILED, SOLO = 0, 1, 2
"""Marks of a ready job: never ran; has a trail to look up; has a trail and must be leased alone."""


class NewJob(NamedTuple):
    """A job to insert. `options` is JSON text with its own overrides and tags, None for none."""

    payload: bytes
    priority: int = 0
    due_at_ms: int | None = None
    options: bytes | None = None


class Group(NamedTuple):
    """Jobs that are inserted all or none; `key` makes a repeated group return the first one's ids."""

    queue: str
    jobs: Sequence[NewJob]
    key: str | None = None
    ids: Sequence[int] | None = None
    """Consecutive ids that were given out before the commit (from `reserve`); None: the store gives them."""


class Inserted(NamedTuple):
    """Where a group went. `states` is one state for all, or one each."""

    ids: Sequence[int]
    states: Sequence[State]
    repeated: bool = False


class LeasedJob(NamedTuple):
    """A job as it is handed out, with what its handler may want to know."""

    id: int
    attempt: int
    priority: int
    enqueued_at_ms: int
    due_at_ms: int | None
    options: bytes | None
    payload: bytes
    previous_error: bytes | None
    band: int
    pos: int
    mark: int


class Lease(NamedTuple):
    """One hand-out to an owner: every later write about these jobs is guarded by its token."""

    token: int
    owner: int
    lane: int
    jobs: Sequence[LeasedJob]


class Held(NamedTuple):
    """A job of an open lease, as the store needs it to take the job back."""

    band: int
    pos: int
    mark: int
    attempt: int


class OpenLease(NamedTuple):
    """An open lease: what was handed out minus what has ended."""

    token: int
    owner: int
    lane: int
    jobs: dict[int, Held]


class Facts(NamedTuple):
    """What decides about a job."""

    id: int
    queue: str
    priority: int
    options: bytes | None
    history: History
    cancel_at_ms: int | None


class Completion(NamedTuple):
    """A job that completed."""

    id: int
    started_at_ms: int
    finished_at_ms: int
    result: bytes | None = None


class AttemptError(NamedTuple):
    """What is kept of an attempt that did not complete. `detail` is a JSON object."""

    kind: str
    message: str
    detail: bytes | None = None


class Owner(NamedTuple):
    """Who holds leases: a slot's worker on a host, in one boot, under one master. `id` 0 is not stored yet."""

    host: str
    boot: str
    epoch: int
    slot: int
    incarnation: int
    pool: str
    directory: str
    pid: int
    start_time: int
    id: int = 0
    read_sequence: int = 0
    read_offset: int = 0


class Finished(NamedTuple):
    """A final job, as retention looks at it."""

    id: int
    queue: str
    state: State
    finished_at_ms: int


class Standing(NamedTuple):
    """Where a job stands. `state` is what its rows say."""

    id: int
    queue: str
    state: State
    history: History
    token: int | None = None
    owner: int | None = None


class ScheduleRow(NamedTuple):
    """A schedule and where it stands. `definition` is JSON that the store does not look into.

    *Invariant:* due times up to `handled_ms` are decided; it never goes back. `next_ms` fires at `fires_ms`, which is
    None while nothing is to fire. `waiting_ms` is a due time whose run waits for the end of `last_job_id`.
    """

    name: str
    origin: str
    paused: bool
    handled_ms: int
    next_ms: int | None
    fires_ms: int | None
    outage: bytes | None
    waiting_ms: int | None
    last_job_id: int | None
    last_due_ms: int | None
    last_fired_ms: int | None
    outcome: str | None
    outcome_ms: int | None
    reason: str | None
    fired: int
    skipped: int
    missed: int
    failed: int
    definition: bytes


class Claim(NamedTuple):
    """What was decided about one due time of a schedule."""

    due_ms: int
    outcome: str
    at_ms: int
    job_id: int | None


class Tx(Protocol):
    """Verbs on one transaction; nothing is visible to others, or certain, before it commits.

    An error of a verb must leave the transaction's block, unless the verb's text says that nothing was changed.
    """

    def insert(self, groups: Sequence[Group], rank_of: RankOf) -> list[Inserted]:
        """Insert groups; a group whose key is known is not inserted again."""

    def known_request(self, key: str) -> Inserted | None:
        """Where a group with this key went before; None if there was none."""

    def reserve(self, count: int) -> range:
        """Ids that will not be given to anyone else, for groups acknowledged before their commit."""

    def lease(self, queue: str, owner: int, jobs_max: int, bytes_max: int, *, solo: bool = True) -> Lease | None:
        """Hand out the first jobs of a queue; None if it is empty or paused.

        A job marked solo comes alone; with `solo` false nothing is handed out while such a job is next.
        """

    def leased_jobs(self, token: int) -> Lease | None:
        """An open lease with the bodies of what it still holds, to send it anew; None if it holds nothing."""

    def waiting(self, queue: str) -> int:
        """Jobs of a queue that are ready and could be leased now: 0 while it is paused."""

    def open_leases(self) -> Mapping[int, OpenLease]:
        """Every open lease by token."""

    def facts(self, ids: Iterable[int]) -> dict[int, Facts]:
        """What decides about these jobs; ids that do not exist are left out."""

    def complete(self, token: int, done: Sequence[Completion]) -> list[int]:
        """Record completions; returns the ids that were not in the open lease, for which nothing changed."""

    def finish(
        self, token: int, job_id: int, state: State, started_at_ms: int | None, reason: str | None,
        history: History, error: AttemptError | None,
    ) -> bool:  # fmt: skip
        """Record any other end of a leased job; False if the lease does not hold it."""

    def reschedule(
        self, token: int, job_id: int, due_at_ms: int, history: History, error: AttemptError | None, *, solo: bool
    ) -> bool:
        """Give a leased job a new time; False if the lease does not hold it."""

    def release(self, token: int, ids: Iterable[int]) -> list[int]:
        """Hand unstarted jobs back to the place they had; returns those that the lease held."""

    def interrupt(self, token: int, job_id: int, history: History, error: AttemptError) -> bool:
        """Hand a started job back to the place it had and count the interruption."""

    def promote(self, jobs_max: int, rank_of: RankOf) -> int:
        """Make due jobs ready, in the order of their times; returns how many."""

    def next_due_ms(self) -> int | None:
        """When the next scheduled job is due."""

    def own(self, owner: Owner) -> int:
        """Store an owner, or what changed of it; returns its id."""

    def owners(self) -> list[Owner]:
        """Every stored owner."""

    def advance(self, owner: int, sequence: int, offset: int) -> None:
        """Record how far an owner's ring has been read, together with what was read."""

    def disown(self, owner: int) -> None:
        """Forget an owner that holds no lease any more."""

    def standing(self, ids: Iterable[int]) -> dict[int, Standing]:
        """Where these jobs stand."""

    def cancel(self, job_id: int) -> State:
        """Cancel a job that is not final: at once, or, if it is running, when its run ends; returns the state.

        The wish stays with a running job, whatever becomes of its run, until it is final or revived.

        Raises:
            UnknownJob: there is none of that id.
            IllegalTransition: it is final; nothing was changed.
        """

    def revive(self, job_id: int, rank_of: RankOf) -> None:
        """Make a final or scheduled job ready anew, with fresh budgets.

        Raises:
            UnknownJob: there is none of that id.
            IllegalTransition: it is queued or running; nothing was changed.
        """

    def pause(self, queue: str, *, paused: bool) -> None:
        """Stop or resume leasing of a queue."""

    def paused(self, queue: str) -> bool:
        """Whether the queue is paused."""

    def move(self, old: str, new: str, ids: Sequence[int], rank_of: RankOf) -> int:
        """Move jobs that are not running to another queue; returns how many could be moved."""

    def ids_of(self, queue: str, after_id: int, jobs_max: int) -> list[int]:
        """Ids of a queue's jobs in ascending order."""

    def finished_after(self, job_id: int, jobs_max: int) -> list[Finished]:
        """Final jobs in the order of their ids."""

    def dead_after(self, job_id: int, jobs_max: int) -> list[Finished]:
        """Dead jobs in the order of their ids; the cost does not grow with what completed."""

    def remove(self, ids: Sequence[int]) -> int:
        """Delete final jobs with all that is known of them; returns how many."""

    def forget_requests(self, before_ms: int, rows_max: int) -> int:
        """Forget the keys of old groups."""

    def count_stale(self, count: int) -> None:
        """Count reports that changed nothing because their lease was over."""

    def schedule(self, name: str) -> ScheduleRow | None:
        """A schedule; None if there is none of that name."""

    def schedules(self, after: str, rows_max: int) -> list[ScheduleRow]:
        """Schedules in the order of their names."""

    def schedules_count(self) -> int:
        """How many schedules there are."""

    def define_schedule(self, row: ScheduleRow) -> None:
        """Store a schedule with all that is known of it, in the place of one of the same name."""

    def advance_schedule(self, row: ScheduleRow) -> None:
        """Store where a schedule stands now; what it is and whether it is paused stays."""

    def remove_schedule(self, name: str) -> None:
        """Forget a schedule. The last due time that was decided is remembered under its name for 30 days."""

    def due_schedules(self, rows_max: int) -> list[ScheduleRow]:
        """Schedules with something to fire by now, the longest due first."""

    def next_fire_ms(self) -> int | None:
        """When the next schedule fires."""

    def claim(self, name: str, due_ms: int, outcome: str) -> bool:
        """Decide about a due time; False, and nothing is changed, if that one or a later one was decided before."""

    def settle_claim(self, name: str, due_ms: int, outcome: str, job_id: int | None) -> None:
        """Say what became of a due time that was claimed; of a schedule's claims the newest 20 are kept."""

    def claims(self, name: str, rows_max: int) -> list[Claim]:
        """What was decided of a schedule's due times, the latest first."""

    def setting(self, name: str) -> int:
        """A stored number: `stale`, `prune_after`."""

    def set_setting(self, name: str, value: int) -> None:
        """Store a number."""

    def counts(self) -> dict[str, dict[State, int]]:
        """Jobs by queue and state; maintained, never counted."""


class Store(Protocol):
    """One writer's handle on the database."""

    def transaction(self, now_ms: int) -> AbstractContextManager[Tx]:
        """Begin, and commit at the end of the block, or roll back if it raises.

        Raises:
            StoreError: it could not be begun or committed; nothing of it is stored.
        """

    def close(self) -> None:
        """Checkpoint and close."""
