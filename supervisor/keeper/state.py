"""What the keeper holds in memory: a cache of what rows and slots say, and what waits for the next commit."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from supervisor.config.spec import Queue, Spec
from supervisor.keeper.slots import KeeperSlot, Phase
from supervisor.keeper.tasks import Operation, PendingGroup
from supervisor.keeper.timetable import Timetable
from supervisor.observe.log import Log
from supervisor.policy.backoff import Backoff
from supervisor.policy.rank import Rank, rank
from supervisor.policy.settle import Budgets
from supervisor.store.sqlite.store import SqliteStore
from supervisor.wire.control import Certificate, Link, PoolState, RecycleWorker

LOOK_AHEAD_US = 20_000
OUT_JOBS_MAX = 1_024
OUT_BYTES_MAX = 128 * 1024
UNKNOWN_MEAN_US = 1_000_000.0


def _nothing_to_send() -> None:
    """Before the public socket is served there are no replies."""


def _no_bell(_: KeeperSlot) -> None:
    """A slot that was never listened to has no bell to forget."""


class State:
    """Everything that the keeper's parts share."""

    def __init__(self, spec: Spec, store: SqliteStore, log: Log, boot_id: str, epoch: int) -> None:
        self.spec = spec
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

        self.intake: deque[PendingGroup] = deque()
        self.buffer: list[PendingGroup] = []
        self.buffered_jobs = 0
        self.flush_at_ms: int | None = None
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
        self.timetable = Timetable()
        self.wants_lease = True
        self.lease_first: str | None = None

        self.leasing = True
        self.failing_since_ms: int | None = None
        self.failure: str | None = None
        self.committed_jobs = 0
        self.settled_jobs = 0

    def queue(self, name: str) -> Queue:
        """The queue's spec; defaults for one that left the file, whose jobs stay and may still be settled."""
        return self.spec.queues.get(name) or Queue(name=name, handler="left:the.file")

    def budgets(self, name: str, options: Mapping[str, Any]) -> Budgets:
        """What a job of the queue may use up; its own overrides first."""
        queue = self.queue(name)
        backoff = queue.backoff
        return Budgets(
            options.get("max_attempts") or queue.max_attempts,
            queue.max_crashes,
            queue.max_interruptions,
            Backoff(backoff.base_ms, backoff.factor, backoff.max_ms, backoff.jitter),
        )

    def rank_of(self, queue: str, priority: int, sequence: int) -> Rank:
        """The rank of a job that becomes ready, by the order of its queue."""
        spec = self.spec.queues.get(queue)
        return rank(spec.order if spec else "fifo", priority, sequence)

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
        mean = run_us / jobs
        known = self.mean_us.get(pool)
        self.mean_us[pool] = mean if known is None else 0.8 * known + 0.2 * mean

    def look_ahead(self, pool: str) -> int:
        """How many jobs a worker may hold: the one it runs and about 20 ms of work; one where that is not known."""
        mean = self.mean_us.get(pool, UNKNOWN_MEAN_US)
        return min(OUT_JOBS_MAX, 1 + int(LOOK_AHEAD_US / max(mean, 1.0)))
