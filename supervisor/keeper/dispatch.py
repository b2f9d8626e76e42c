"""Who gets which jobs: leases for workers that have room, sent in chunks once they are committed."""

from __future__ import annotations

from supervisor.keeper.slots import KeeperSlot, Phase
from supervisor.keeper.state import OUT_BYTES_MAX, State
from supervisor.keeper.work import Work
from supervisor.observe.failpoint import hit
from supervisor.store.protocol import SOLO, Lease

LEASE_JOBS_MAX = 256
PASS_JOBS_MAX = 1_024


def lease_out(work: Work) -> None:
    """Lease jobs of every queue to workers that have room; shared evenly, those without work first."""
    state = work.state
    left = PASS_JOBS_MAX
    state.wants_lease = False
    for queue in state.spec.queues:
        waiting = work.tx.waiting(queue)
        if not waiting:
            continue
        left -= _lease_queue(work, queue, min(waiting, left))
        if left <= 0:
            state.wants_lease = True
            return


def _lease_queue(work: Work, queue: str, waiting: int) -> int:
    rooms = sorted(rooms_of(work.state, queue), key=lambda item: len(item[0].out))
    leased = 0
    for number, (slot, room) in enumerate(rooms):
        if leased >= waiting:
            break
        share = -(-(waiting - leased) // (len(rooms) - number))
        lease = work.tx.lease(
            queue, slot.owner, min(share, room, LEASE_JOBS_MAX), OUT_BYTES_MAX - slot.out_bytes, solo=not slot.out
        )
        if lease is None:
            break
        leased += len(lease.jobs)
        hand_out(work, slot, lease)
    return leased


def rooms_of(state: State, queue: str) -> list[tuple[KeeperSlot, int]]:
    """Workers that should be given more, with how many; one that holds half of its share is left alone."""
    ahead = state.look_ahead(queue)
    return [
        (slot, ahead - len(slot.out))
        for slot in state.ready_slots(queue)
        if slot.owner
        and not slot.solo
        and not slot.unsent
        and (not slot.out or len(slot.out) <= ahead // 2)
        and slot.out_bytes < OUT_BYTES_MAX
        and ahead > len(slot.out)
    ]


def hand_out(work: Work, slot: KeeperSlot, lease: Lease) -> None:
    """Send a lease once it is committed."""
    state = work.state
    work.leased.update(job.id for job in lease.jobs)

    def effect() -> None:
        hit("keeper.after_lease")
        slot.solo = any(job.mark == SOLO for job in lease.jobs)
        slot.hand_out(lease, state.mean_us.get(slot.pool, float("inf")), work.boot_ms)
        hit("keeper.after_chunk")

    work.afterwards(effect)


def send_unsent(state: State) -> None:
    """Try again where a socket was full."""
    for slot in state.slots.values():
        if slot.unsent and slot.phase is not Phase.JUDGED:
            slot.send()
