"""What the keeper holds in memory: a cache of what rows and slots say, and what waits for the next commit."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from supervisor.config.discipline import discipline_of
from supervisor.config.spec import Demand, Queue, Spec
from supervisor.errors import JobsupError
from supervisor.keeper.alerts import Alerts
from supervisor.keeper.archive_times import Archiving
from supervisor.keeper.fetches import Lending
from supervisor.keeper.load import Loads
from supervisor.keeper.pending import Operation, PendingGroup
from supervisor.keeper.published import Tasks
from supervisor.keeper.slots import KeeperSlot, Phase
from supervisor.keeper.timetable import Timetable
from supervisor.observe.log import Log
from supervisor.policy.batch import Gathered, Rule
from supervisor.policy.breaker import Breaker
from supervisor.policy.discipline import Discipline
from supervisor.store.sqlite.store import SqliteStore
from supervisor.wire.control import Certificate, Link, PoolScaled, PoolState, RecycleWorker

LOOK_AHEAD_US = 20_000
OUT_JOBS_MAX = 1_024
OUT_BYTES_MAX = 128 * 1024
UNKNOWN_MEAN_US = 1_000_000.0
NO_DEMAND = Demand()


def _nothing_to_send() -> None:
    """Before the public socket is served there are no replies."""


def _no_bell(_: KeeperSlot) -> None:
    """A slot that was never listened to has no bell to forget."""


class Standstill:
    """`queues` are those whose breaker has opened, and of which workers may still hold jobs that they have not begun.

    `at_ms`: when a breaker is to be looked at again. `taken`: the configuration whose breakers alone are known.
    """

    def __init__(self) -> None:
        self.queues: set[str] = set()
        self.at_ms: int | None = None
        self.taken: Spec | None = None


class Overdue:
    """`waiting` times are over, of jobs that workers hold, and are asked about in every pass.

    `behind`: there are others for which there was no time yet.
    """

    def __init__(self) -> None:
        self.waiting = 0
        self.behind = False


class Gathering:
    """What waits in queues of batches for more jobs, by pool and queue: a cache that a new keeper begins anew.

    `at_ms`: when the first batch that an idle worker could have is due. `patient`: whether batches wait at all.
    """

    def __init__(self) -> None:
        self.pools: dict[str, dict[str, Gathered]] = {}
        self.at_ms: int | None = None
        self.patient = True


class State:
    """Everything that the keeper's parts share."""

    chance: Callable[[], float] = random.SystemRandom().random
    """What the jitter of retries is drawn from, in [0, 1)."""

    def __init__(self, spec: Spec, store: SqliteStore, log: Log, boot_id: str, epoch: int) -> None:
        self.store = store
        self.log = log
        self.boot_id = boot_id
        self.epoch = epoch
        self.control: Link | None = None
        self.send_replies: Callable[[], None] = _nothing_to_send
        self.forget_bell: Callable[[KeeperSlot], None] = _no_bell
        self.slots: dict[int, KeeperSlot] = {}
        self._of_pool: dict[str, dict[int, KeeperSlot]] = {}
        self.unusable: dict[int, str] = {}
        self.links: dict[str, Link] = {}
        self.pools: dict[str, PoolState] = {}
        self.tree: list[dict[str, Any]] = []
        self.reload_error: str | None = None
        self.mean_us: dict[str, float] = {}
        self.loads = Loads(self)
        self.scaled: dict[str, PoolScaled] = {}

        self.intake: deque[PendingGroup] = deque()
        self.buffer: list[PendingGroup] = []
        self.buffered_jobs = 0
        self.flush_at_ms: int | None = None
        self.unfit: list[tuple[PendingGroup, JobsupError]] = []
        """Groups that wait for room in a bounded queue, with what their callers are told if there is none in time."""
        self.room_made = False
        self.block = range(0)
        self.operations: deque[Operation] = deque()
        self.certificates: dict[int, tuple[Certificate, Link]] = {}
        self.undertaking = False
        self.unowned: set[int] = set()
        self.rung: dict[int, int] = {}
        self.recall_at_ms: int | None = None
        self.withdrawn: set[int] = set()
        """Cancelled jobs that a worker has, and whose end is still to be brought about."""
        self.withdraw_at_ms: int | None = None
        self.breakers: dict[str, Breaker] = {}
        """The outage breakers that are not as they were made: a cache of their rows."""
        self.standstill = Standstill()
        self.overdue = Overdue()
        self.lending = Lending()
        self.timetable = Timetable()
        self.gathering, self.tasks = Gathering(), Tasks()
        self.wants_lease = True
        self.lease_first: str | None = None
        self.use(spec)

        self.alerts = Alerts(spec.alerts)
        self.leasing = True
        self.failing_since_ms: int | None = None
        self.failure: str | None = None
        self.archiving = Archiving()
        self.committed_jobs = self.settled_jobs = 0

    def use(self, spec: Spec) -> None:
        """Work by this configuration from now on."""
        self.spec = spec
        self.workplaces = spec.workplaces
        self.pools_of_table: dict[str, tuple[str, ...]] = {}
        for pool in self.workplaces:
            for table in spec.sources_of(pool):
                self.pools_of_table[table] = (*self.pools_of_table.get(table, ()), pool)
        self._disciplines: dict[str, Discipline] = {}
        self.store.govern(self.discipline)
        self.room_made = True  # whoever waits for room is looked at by the new rules
        self.wants_lease = True
        self._keep_gathering()
        self.tasks.look_again()  # a queue may run something else now

    def _keep_gathering(self) -> None:
        """Whoever waits for others goes on with that; how many there are is counted anew, by the new rules."""
        self.gathering.pools = {
            pool: {queue: found._replace(ready=0) for queue, found in queues.items() if pool in self.pools_of(queue)}
            for pool, queues in self.gathering.pools.items()
            if self.batch_rule(pool) is not None
        }

    def queue(self, name: str) -> Queue:
        """The queue's spec; defaults for one that left the file, whose jobs stay and may still be settled."""
        return self.spec.queue(name) or Queue(name=name, handler="left:the.file")

    def discipline(self, name: str) -> Discipline:
        """The rules by which jobs of a queue are handed out."""
        found = self._disciplines.get(name)
        if found is None:
            found = self._disciplines[name] = discipline_of(self.spec, name)
        return found

    def pool_of(self, queue: str) -> str | None:
        """The pool that draws from a queue, the first of several; None for one that left the file."""
        return next(iter(self.pools_of(queue)), None)

    def pools_of(self, queue: str) -> tuple[str, ...]:
        """The pools that draw from a queue: one, or several that run tasks."""
        return self.pools_of_table.get(self.discipline(queue).group, ())

    def demand(self, pool: str, queue: str) -> Demand:
        """How many jobs of a queue a worker is handed at once: as the queue says, else as its pool does."""
        own = self.queue(queue).demand
        return own if own != NO_DEMAND else self.workplaces[pool].demand

    def batch_rule(self, pool: str) -> Rule | None:
        """How many jobs a worker of a pool takes in one call, and how long it waits for them; None: one by one."""
        table = self.workplaces.get(pool)
        return None if table is None or table.batch_size is None else Rule(table.batch_size, table.batch_wait_ms)

    @property
    def gather_at_ms(self) -> int | None:
        """When a batch is due for an idle worker, however few jobs have come; None: none waits, or none is leased."""
        return self.gathering.at_ms if self.leasing else None

    def add_slot(self, slot: KeeperSlot) -> None:
        """Keep an open slot, until `drop_slot`."""
        self.slots[slot.number] = slot
        self._of_pool.setdefault(slot.pool, {})[slot.number] = slot

    def slots_of(self, pool: str) -> Iterable[KeeperSlot]:
        """The pool's slots, in the order they were made. Asked for every queue in every pass."""
        return self._of_pool.get(pool, {}).values()

    def ready_slots(self, pool: str) -> list[KeeperSlot]:
        """Slots whose workers can take jobs."""
        return [slot for slot in self.slots_of(pool) if slot.phase is Phase.READY]

    def certify(self, certificate: Certificate, certifier: Link) -> None:
        """Let a certificate wait for the next pass: one for each slot, for they are repeated until they are answered.

        The newest counts, since a worker that would not die may be gone now. Once we end workers ourselves the first
        counts: a foreman that sees them die before it knows why would call it a crash.
        """
        if not (self.undertaking and certificate.slot in self.certificates):
            self.certificates[certificate.slot] = certificate, certifier

    def slot_of_owner(self, owner: int) -> KeeperSlot | None:
        """The open slot behind a stored owner."""
        return next((slot for slot in self.slots.values() if slot.owner == owner), None)

    def drop_slot(self, slot: KeeperSlot) -> None:
        """Forget a slot whose worker is gone and judged."""
        self.forget_bell(slot)
        self.slots.pop(slot.number, None)
        self._of_pool.get(slot.pool, {}).pop(slot.number, None)
        self.unusable.pop(slot.number, None)
        self.rung.pop(slot.number, None)
        self.unowned.discard(slot.number)
        slot.close()

    def recycle(self, slot: KeeperSlot, reason: str) -> None:
        """Ask the foreman for another worker in the place of this one, and again when it announces this one."""
        if slot.phase is Phase.JUDGED or self.slots.get(slot.number) is not slot:
            return  # nobody's any more: another worker may have its number
        slot.phase = Phase.LEAVING
        self.unusable[slot.number] = reason
        link = self.links.get(slot.pool)
        if link:
            link.send(RecycleWorker(slot.number, reason))

    def ran(self, pool: str, run_us: int, jobs: int) -> None:
        """Learn how long jobs of a queue take: it decides how many are handed out at once."""
        if pool in self.loads.worked_us:
            self.loads.worked_us[pool] += run_us
        mean = run_us / jobs
        known = self.mean_us.get(pool)
        self.mean_us[pool] = mean if known is None else 0.8 * known + 0.2 * mean

    def look_ahead(self, pool: str) -> int:
        """How many jobs a worker may hold: the one it runs and about 20 ms of work; one where that is not known."""
        mean = self.mean_us.get(pool, UNKNOWN_MEAN_US)
        return min(OUT_JOBS_MAX, 1 + int(LOOK_AHEAD_US / max(mean, 1.0)))
