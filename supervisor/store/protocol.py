"""What a store is: domain verbs on a transaction, batches in, batches out.

SQL selects, Python decides: a verb never chooses between outcomes, it writes what a pure function decided. All
deciding state lives in rows; what a backend keeps in memory is a cache that it must be able to lose. A backend
is what passes tests/conformance, which runs with two owners at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from supervisor.errors import JobsupError
from supervisor.flow.rules import Counts, FlowState
from supervisor.job import State
from supervisor.policy.breaker import Breaker
from supervisor.policy.discipline import DisciplineOf
from supervisor.policy.settle import History
from supervisor.policy.tasks import Known, Need
from supervisor.store.history import Edit, NewReplay, Replay, Search

FRESH, TRAILED, SOLO = 0, 1, 2
"""Marks of a ready job: never ran; has a trail to look up; has a trail and must be leased alone. A mark below 0 is that
of a step that never ran, and is ready since that many ms: its trail says no more than its place."""


class NewJob(NamedTuple):
    """A job to insert. `options` is JSON text with its own overrides and tags, None for none.

    `unique`: what it has in common with jobs that count as the same; None: it may be there as often as it likes.
    """

    payload: bytes
    priority: int = 0
    due_at_ms: int | None = None
    options: bytes | None = None
    key: str = ""
    cost: int = 1
    unique: str | None = None
    expires_at_ms: int | None = None
    """When it is cancelled if no run of it was begun."""
    deadline_at_ms: int | None = None
    """When it is dead if it is not final."""
    idempotency_key: str | None = None
    """It goes in only if no job of its queue came with this key before; else it is that job."""


class Expiry(NamedTuple):
    """A time that is over: `ttl` if it is that of being started, else that of being done."""

    at_ms: int
    id: int
    ttl: bool


class Group(NamedTuple):
    """Jobs that are inserted all or none; `key` makes a repeated group return the first one's ids."""

    queue: str
    jobs: Sequence[NewJob]
    key: str | None = None
    ids: Sequence[int] | None = None
    """Consecutive ids that were given out before the commit (from `reserve`); None: the store gives them."""
    flow: int | None = None
    """The unfinished flow that the jobs belong to."""
    keyed: bool = False
    """Whether some of the jobs have an idempotency key; what looks at keys passes over groups without."""


class NewStep(NamedTuple):
    """A step of a flow to insert: a job, or, without one, a flow in the flow.

    `flow` is the place, among the steps, of the flow that it belongs to; -1 is the whole. `parents` are places among
    the steps, or names of steps that the flow has already, each with a `Policy`. `rules` is JSON: when, delay_ms,
    due_at_ms and ttl_ms, which count from its release; `callbacks` is that of a flow.
    """

    queue: str | None
    job: NewJob | None
    flow: int = -1
    name: str | None = None
    parents: Sequence[tuple[int | str, int]] = ()
    signals: Sequence[str] = ()
    rules: bytes | None = None
    callbacks: bytes | None = None


class NewFlow(NamedTuple):
    """Steps that are inserted all or none, parents before their children: a flow, or, with `into`, more of one.

    `open`: more may be added, and it does not end before it is closed. `callbacks` is JSON: by the name of each a
    queue, a payload, a priority and options.
    """

    steps: Sequence[NewStep]
    key: str | None = None
    name: str | None = None
    scope: str = ""
    context: bytes | None = None
    callbacks: bytes | None = None
    open: bool = False
    into: int | None = None

    @property
    def jobs(self) -> Sequence[NewStep]:
        """What it inserts, as a group has it."""
        return self.steps

    @property
    def queue(self) -> str:
        """It goes to many."""
        return ""

    @property
    def ids(self) -> None:
        """None are given out before its commit."""


class FlowEnd(NamedTuple):
    """A flow whose steps have all ended."""

    id: int
    name: str | None
    state: FlowState


OVERFED = "results_too_large"
"""Why a step is dead that would be told more of results than may be."""


class Retried(NamedTuple):
    """How many steps run again; the walk to what is left: flows, each in the one before, and how far each was gone."""

    steps: int
    walk: list[tuple[int, int]]


class FlowStanding(NamedTuple):
    """Where a flow stands."""

    id: int
    name: str | None
    scope: str
    state: FlowState
    open: bool
    counts: Counts
    parent: int | None


class Inserted(NamedTuple):
    """Where a group went: ids and states in its order.

    `existing`: those of its jobs that were there already: their queue wants no two that count as the same, or one had
    come before with the same idempotency key;
    `refused`: why the group could not go in; nothing of it was changed.
    """

    ids: Sequence[int]
    states: Sequence[State]
    repeated: bool = False
    existing: Sequence[int] = ()
    refused: JobsupError | None = None


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
    lane: int = 0
    cost: int = 1
    key: str = ""
    own_bytes: int | None = None
    """Set if it is told more: so much of `payload` is its own; behind that comes what it is told, as JSON."""


class Lease(NamedTuple):
    """One hand-out to an owner: every later write about these jobs is guarded by its token."""

    token: int
    owner: int
    queue: str
    jobs: Sequence[LeasedJob]


class Held(NamedTuple):
    """A job of an open lease, as the store needs it to take the job back. `lane` 0: that of jobs without a key."""

    band: int
    pos: int
    mark: int
    attempt: int
    lane: int = 0
    cost: int = 1
    ready_at_ms: int = 0
    """Since when it could have run: its wait is known once it is known when it began."""


class OpenLease(NamedTuple):
    """An open lease: what was handed out minus what has ended."""

    token: int
    owner: int
    queue: str
    jobs: dict[int, Held]
    leased_at_ms: int = 0


NO_SLOT = -1
"""The slot of an owner that is no worker of ours: a consumer that fetches its jobs."""

HEARD, GRACED, CARRIED = 0, 1, 2
"""How far a loan was prolonged by us since its consumer was heard last: not at all; as no keeper was there to hear it;
for its whole time anew, as the host was restarted."""


class Loan(NamedTuple):
    """Until when a consumer holds a lease: nobody watches it, so its time runs out unless it says more.

    `until_boot_ms` is of the boot clock, and means something in `boot` only; `until_ms` is the same for people, of the
    wall clock. `key` is what the fetch was asked under. `prolonged` is one of the above.
    """

    consumer: str
    boot: str
    until_boot_ms: int
    lease_ms: int
    until_ms: int
    key: str | None = None
    prolonged: int = HEARD


class Facts(NamedTuple):
    """What decides about a job."""

    id: int
    queue: str
    priority: int
    options: bytes | None
    history: History
    cancel_at_ms: int | None
    key: str = ""


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


class Relayed(NamedTuple):
    """A row of an outbox that is a job: `id` is the row's, `digest` tells it from another row of that id."""

    id: int
    digest: str
    job_id: int


class Tx(Protocol):
    """Verbs on one transaction; nothing is visible to others, or certain, before it commits.

    An error of a verb must leave the transaction's block, unless the verb's text says that nothing was changed.
    """

    gave_up: bool
    """Whether the last lease stopped at keys without room before it found anything: more may be had at once."""

    def insert(self, groups: Sequence[Group]) -> list[Inserted]:
        """Insert groups, each all or none; one whose key is known is not inserted again."""

    def refusal(self, groups: Sequence[Group]) -> JobsupError | None:
        """Why these groups cannot all be inserted, for want of room or because they are there already."""

    def known_request(self, key: str) -> Inserted | None:
        """Where a group with this key went before; None if there was none."""

    def reserve(self, count: int) -> range:
        """Ids that will not be given to anyone else, for groups acknowledged before their commit."""

    def lease(self, queue: str, owner: int, jobs_max: int, bytes_max: int, *, solo: bool = True) -> Lease | None:
        """Hand out the first jobs of a queue that its limits let through; None if there are none, or it is paused.

        A job marked solo comes alone; with `solo` false nothing is handed out while such a job is next.
        """

    def next_of(self, group: str, passed: Collection[str] = ()) -> str | None:
        """A queue of the group in which something may be leased, none of those passed; who was served comes last."""

    def active_of(self, group: str) -> dict[str, int]:
        """The queues of a group in which something may be leased, as far as is known; who was served comes last.

        With how many jobs of each are ready.
        """

    def solo_next(self, queue: str) -> bool:
        """Whether the job that comes first of a queue must be leased alone."""

    def others_of(self, group: str) -> bool:
        """Whether more than one queue of the group has something."""

    def queues_of(self, group: str) -> list[str]:
        """The queues of a group that exist."""

    def backlog(self, group: str) -> int:
        """Jobs that could be leased of a group's queues, as far as is known; of many queues, those that come first."""

    def source_times(self, pool: str) -> Mapping[str, int]:
        """The virtual time that each source of a pool has used; that of the pool itself under no name."""

    def charge_source(self, pool: str, source: str, vtime: int, clock: int) -> None:
        """Note the virtual time of a source, and that of its pool."""

    def wake(self) -> None:
        """Look again at what waited for a limit until now."""

    @property
    def asleep_until_ms(self) -> int | None:
        """When to do so next; None if nothing waits for a time. Leases, and the commit, find out what has to wait."""

    def clock_set(self, step_ms: int) -> None:
        """The clock was set by so much: what was remembered by it means what it meant before, as far as it can."""

    def shut(self, queue: str, key: str, until_ms: int) -> None:
        """Hand out nothing of a queue, or of one key of it, before this time."""

    def rerank(self, jobs_max: int) -> bool:
        """Rank some waiting jobs anew, of queues whose order has changed; whether there are more."""

    def bury_doomed(self, jobs_max: int) -> list[int]:
        """Dead letters of what waited behind a dead job that takes its key along; returns which jobs."""

    def free_key(self, queue: str, key: str, *, paused: bool | None = None) -> bool:
        """Let a key go on whatever held it, or pause or resume it; False if there is no such key."""

    def key_stops(self, queue: str, key: str) -> tuple[bool, int | None, int | None]:
        """What stops a key: whether it is paused, the job that holds it, the dead job that takes it along."""

    def leased_jobs(self, token: int) -> Lease | None:
        """An open lease with the bodies of what it still holds, to send it anew; None if it holds nothing."""

    def lend(self, token: int, loan: Loan) -> None:
        """Hold an open lease until a time, or until another than before; what is over is for the keeper to end."""

    def loans(self) -> Mapping[int, Loan]:
        """Every loan by the token of its lease. A loan goes with its lease, and its owner with the last loan of it."""

    def loan_by_key(self, key: str) -> int | None:
        """The open lease that was asked for under this key."""

    def final_by(self, job_id: int) -> tuple[State, int] | None:
        """The state of a final job, and the token under which it ended; None while it is not final."""

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

    def interrupt(
        self, token: int, job_id: int, history: History, error: AttemptError, *, solo: bool = False
    ) -> bool:  # fmt: skip
        """Hand a started job back to the place it had and count the interruption; `solo`: it is leased alone then."""

    def checkpoint(self, token: int, job_id: int, name: str, value: bytes) -> bool:
        """Keep a value of a leased job for its later runs, until it completes.

        False if the lease does not hold it, or if it keeps as many steps as it may; the empty name is no step.
        """

    def park(self, token: int, job_id: int, need: Need) -> bool:
        """Let a leased job wait for code that can run it, with nothing charged; False if the lease does not hold it."""

    overfed: list[int]
    """Steps that have died in this transaction, as they would be told too much; whoever tells of them empties it."""

    def progress_flows(self, steps_max: int) -> list[FlowEnd]:
        """Tell what ended to what comes after it, so many edges and steps at most; returns the flows that have ended.

        The callbacks of flows are inserted with it.
        """

    told_ends: set[int]
    """What `progress_flows` has told on in this transaction."""

    @property
    def flows_wait(self) -> bool:
        """Whether something has ended that is not told to all that comes after it."""

    def flow(self, flow_id: int) -> FlowStanding | None:
        """Where a flow stands; None if there is none of that id."""

    def signal_flow(self, flow_id: int, name: str, payload: bytes) -> bool:
        """Note that a signal came; False if it had come before, and nothing is changed.

        Raises:
            WrongState: the flow has as many different signals as it may.
        """

    def signals_awaited(self, flow_id: int) -> list[str]:
        """The signals that steps of a flow come after, whether they came or not."""

    def close_flow(self, flow_id: int) -> None:
        """Let a flow end once its steps have: no more are added from outside."""

    def cancel_flow(self, flow_id: int) -> None:
        """Let no step of a flow begin any more; what becomes of its jobs is for `cancel_steps`."""

    def cancel_steps(self, jobs_max: int) -> list[int]:
        """Cancel some jobs of flows that are being cancelled; returns those that run, which are to be interrupted."""

    @property
    def cancelling(self) -> bool:
        """Whether there may be more of them."""

    def retry_steps(self, walk: Sequence[tuple[int, int]], steps_max: int) -> Retried:
        """Let some dead and cancelled steps run again, of those next on a walk; one through a flow begins as [(id, 0)].

        Those stay as they are that another job is in the way of, or that a failed step before them would cancel anew.
        """

    def steps_from(self, flow_id: int, step: str, steps_max: int) -> list[int]:
        """The jobs that run again if a step does: its own, and all that comes after it, in the order of their ids.

        Raises:
            UnknownFlow: the flow has no step of that name.
            WrongState: one of them has not ended, or there are more.
            NotUnique: another job is in the way of one.
        """

    def retry_jobs(self, ids: Sequence[int], *, first: bool) -> int:
        """Let these jobs of flows run again, as far as they have ended, in the order of their ids; how many.

        `first`: the first one runs whatever has failed before it, as it was asked for.
        """

    def prune_flows(self, state: FlowState, before_ms: int, jobs_max: int) -> int:
        """Delete jobs of flows that ended in this state before this time, and flows of which all are; how many."""

    def needs(self) -> dict[str, list[Need]]:
        """What code the blocked jobs of each queue wait for."""

    def unblock(self, queue: str, need: Need, jobs_max: int, *, first: bool = False) -> int:
        """Make jobs ready that wait for this, the oldest first; returns how many. `first`: before all others."""

    def publish(self, pool: str, known: Sequence[Known]) -> None:
        """Store what tasks the code of a pool knows, in the place of what it knew."""

    def tasks(self) -> dict[str, list[Known]]:
        """What tasks the code of each pool knows, as it was published last."""

    def promote(self, jobs_max: int) -> int:
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

    def expiring(self, jobs_max: int) -> list[Expiry]:
        """Times to live and deadlines that are over, in their order."""

    def next_expiry_ms(self) -> int | None:
        """When the next one is over."""

    def forget_expiries(self, expiries: Sequence[Expiry]) -> int:
        """Ask no more about these jobs at those times; returns of how many that was not so already."""

    def expire(self, ids: Sequence[int], state: State, reason: str) -> list[int]:
        """End jobs that wait: `cancelled` or `dead`; returns those that waited, in the order given."""

    def payload(self, job_id: int) -> bytes:
        """The payload of a job that exists."""

    def first_due_ms(self, job_id: int) -> int:
        """When a job was due first: when it was enqueued, unless it was for later; or when it was revived last."""

    def breakers(self) -> dict[str, Breaker]:
        """The outage breakers that are not as they were made, by queue."""

    def put_breaker(self, queue: str, breaker: Breaker) -> None:
        """Store how a breaker stands."""

    def revive(self, job_id: int) -> None:
        """Make a final or scheduled job ready anew, with fresh budgets: its time to live and deadline are forgotten.

        Raises:
            UnknownJob: there is none of that id.
            IllegalTransition: it is queued or running; nothing was changed.
            NotUnique: another job that counts as the same is there; nothing was changed.
        """

    def rival(
        self, job_id: int, *, queue: str | None = None, payload: bytes | None = None, task: str | None = None
    ) -> int | None:
        """The other job that keeps this one out, if it waits anew here, with this payload, for this task; or None."""

    def pause(self, queue: str, *, paused: bool) -> None:
        """Stop or resume leasing of a queue."""

    def paused(self, queue: str) -> bool:
        """Whether the queue is paused."""

    def move(
        self, old: str, new: str, ids: Sequence[int], *, payload: bytes | None = None, task: str | None = None
    ) -> int:
        """Move jobs that are not running to another queue; returns how many could be moved: none that is there already.

        `payload`, `task`: what they are about to become.
        """

    def ids_of(self, queue: str, after_id: int, jobs_max: int) -> list[int]:
        """Ids of a queue's jobs in ascending order."""

    def finished_after(self, job_id: int, jobs_max: int, before_ms: int) -> tuple[list[Finished], int]:
        """Of so many final jobs in the order of their ids: those that ended before this time, and the id of the last.

        The id is 0 if there were none to look at. What is too young costs nearly nothing.
        """

    def dead_after(self, job_id: int, jobs_max: int) -> list[Finished]:
        """Dead jobs in the order of their ids; the cost does not grow with what completed."""

    def remove(self, ids: Sequence[int]) -> int:
        """Delete final jobs with all that is known of them; returns how many. Steps of flows go with those only."""

    def without_steps(self, ids: Sequence[int]) -> Sequence[int]:
        """Those of these jobs that belong to no flow."""

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

    def relayed(self, instance: str, ids: Sequence[int]) -> dict[int, Relayed]:
        """Those of these rows of an outbox that are jobs already, by their ids."""

    def note_relayed(self, instance: str, rows: Sequence[Relayed]) -> None:
        """Remember which jobs these rows are; of a row that is another one by now, the newer job."""

    def forget_relayed(self, instance: str, ids: Sequence[int]) -> int:
        """Forget rows that are gone; returns how many of them were known."""

    def relayed_after(self, instance: str, row: int, rows_max: int) -> list[int]:
        """Rows of an outbox that are remembered, in the order of their ids."""

    def setting(self, name: str) -> int:
        """A stored number: `stale`, `prune_after`, `database_id`."""

    def set_setting(self, name: str, value: int) -> None:
        """Store a number."""

    def counts(self) -> dict[str, dict[State, int]]:
        """Jobs by queue and state; maintained, never counted."""


class HistoryTx(Tx, Protocol):
    """Verbs about jobs that have been, on the same transaction; tests/conformance/history.py says what they must do."""

    def letters_after(self, mark: str, queue: str | None, job_id: int, jobs_max: int) -> list[int]:
        """Dead jobs with this fingerprint in the order of their ids; the cost does not grow with how many there are."""

    def fingerprint_of(self, job_id: int) -> str | None:
        """The fingerprint of a dead job's error; None if it is not dead."""

    def begin_replay(self, new: NewReplay) -> int:
        """Store a replay of what is dead now; returns its id."""

    def open_replays(self) -> list[Replay]:
        """Replays that are not over."""

    def replay(self, replay_id: int) -> Replay | None:
        """A replay; None if there is none of that id."""

    def set_replay(self, replay: Replay) -> None:
        """Store how far a replay is."""

    def choose(self, replay_id: int, ids: Sequence[int]) -> None:
        """Remember that a replay means these dead jobs."""

    def replayed_after(self, replay_id: int, released: int, job_id: int, jobs_max: int) -> list[int]:
        """Jobs of a replay in the order of their ids: chosen ones (0), or released ones (1)."""

    def drop_replayed(self, replay_id: int, released: int, ids: Sequence[int]) -> None:
        """Forget jobs of a replay."""

    def release_replayed(self, replay_id: int, job_id: int, due_at_ms: int) -> bool:
        """Make a chosen job run again when it is due; False if it is not dead any more, or not unique."""

    def forget_replays(self, before_ms: int, rows_max: int) -> int:
        """Forget replays that ended before this time; returns how many."""

    def edit(self, job_id: int, change: Edit) -> State:
        """Change a job that does not run; the state that it has then.

        Raises:
            UnknownJob: there is none of that id.
            IllegalTransition: it is running, or is final and shall be due later; nothing was changed.
            NotUnique: another job counts as the same by the new payload or task; nothing was changed.
        """

    def payload_of(self, job_id: int) -> bytes | None:
        """A job's payload; None if there is no such job."""

    def meant(
        self, ids: Sequence[int], search: Search, hidden: Callable[[str], Sequence[str]] | None = None
    ) -> list[int]:
        """Those of these jobs that a search means; `hidden` gives the redacted members of a queue."""

    def ids_of_key(
        self, key: str, queue: str | None, job_id: int, jobs_max: int, state: State | None = None
    ) -> list[int] | None:
        """Ids of the jobs of a key in ascending order, of one queue or of all, and empty only behind the last.

        With a final `state`, of those in it; and then the last id that was looked at may be in another. None where the
        jobs of the key must be looked for among all: those without a key, or with a key that very many queues have.
        """

    def ids_after(self, job_id: int, jobs_max: int) -> list[int]:
        """Ids of jobs of all queues in ascending order."""

    def kept(self, queue: str, state: State) -> int:
        """How many jobs of a queue are in a state; maintained, never counted."""

    def final_after(self, queue: str, job_id: int, jobs_max: int) -> list[tuple[int, State | None]]:
        """Jobs of a queue in the order of their ids, with the state of those that are final."""

    def count_run(
        self, queue: str, token: int, job_id: int, started_ms: int | None, names: Sequence[str], *, measured: bool
    ) -> None:
        """Count the end of a run that does not complete, before it is written; nothing if no lease holds the job."""

    def thin_statistics(self, before_ms: int, hours_max: int) -> bool:
        """Make hours of minutes that lie before this time; whether there may be more."""

    def forget_statistics(self, before_ms: int, rows_max: int) -> int:
        """Delete statistics of before this time; returns how many rows."""


class Store(Protocol):
    """One writer's handle on the database."""

    def govern(self, discipline_of: DisciplineOf) -> None:
        """By which rules the jobs of each queue are handed out, from the next transaction on."""

    def transaction(self, now_ms: int) -> AbstractContextManager[Tx]:
        """Begin, and commit at the end of the block, or roll back if it raises.

        Raises:
            StoreError: it could not be begun or committed; nothing of it is stored.
        """

    def close(self) -> None:
        """Checkpoint and close."""
