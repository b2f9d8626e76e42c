"""Who gets which jobs: leases for workers that have room, sent in chunks once they are committed."""

from __future__ import annotations

from typing import NamedTuple

from supervisor.keeper import breaking, expiring
from supervisor.keeper.recall import QUIET_MS
from supervisor.keeper.slots import KeeperSlot, Phase
from supervisor.keeper.state import OUT_BYTES_MAX, State
from supervisor.keeper.work import LEASE_UNTIL_US, Work
from supervisor.observe.failpoint import hit
from supervisor.store.protocol import SOLO, Lease

LEASE_JOBS_MAX = 256


class Room(NamedTuple):
    """What a worker could be given beside the `held` jobs that it has."""

    held: int
    jobs: int
    payload_bytes: int
    slot: KeeperSlot


def lease_out(work: Work) -> None:
    """Lease jobs of every queue to workers that have room; where the time ends, the next queue begins the next pass.

    The queue that took the rest of the time has had a lease: were it first again, one that is never empty could
    leave the others nothing for ever.
    """
    state = work.state
    state.wants_lease = False
    queues = list(state.spec.queues)
    first = queues.index(state.lease_first) if state.lease_first in queues else 0
    turns = queues[first:] + queues[:first]
    for queue, following in zip(turns, turns[1:] + turns[:1], strict=True):
        if not _lease_queue(work, queue):
            state.lease_first = following
            state.wants_lease = True
            return


def _lease_queue(work: Work, queue: str) -> bool:
    """Share a queue's jobs evenly, workers without work first; False if the pass has no time for all of them."""
    allowed = breaking.jobs_allowed(work, queue)
    while allowed != 0 and (waiting := work.tx.waiting(queue)):
        rooms = sorted(rooms_of(work, queue), key=lambda room: room.held)
        if not rooms:
            return True
        for number, room in enumerate(rooms):
            share = -(-waiting // (len(rooms) - number))
            jobs = min(share, room.jobs, LEASE_JOBS_MAX, allowed or LEASE_JOBS_MAX)
            lease = work.tx.lease(queue, room.slot.owner, jobs, room.payload_bytes, solo=not room.held)
            if lease is None:
                return True
            hand_out(work, room.slot, lease)
            waiting -= len(lease.jobs)
            allowed = breaking.jobs_allowed(work, queue)
            if not waiting or allowed == 0:
                return True
            if work.late(LEASE_UNTIL_US):
                return False
    return True


def rooms_of(work: Work, queue: str) -> list[Room]:
    """Workers that should be given more: those that hold at most half of their share, and are not stuck."""
    ahead = work.state.look_ahead(queue)
    slots = [slot for slot in work.state.ready_slots(queue) if slot.owner and not (slot.unsent or slot.pinged)]
    rooms = [_room(work, slot, ahead) for slot in slots]
    return [room for room in rooms if room.jobs > 0 and room.payload_bytes > 0]


def _room(work: Work, slot: KeeperSlot, ahead: int) -> Room:
    leases = work.leased.get(slot.number, ())
    held = len(slot.out) + sum(len(lease.jobs) for lease in leases)
    used_bytes = slot.out_bytes + sum(len(job.payload) for lease in leases for job in lease.jobs)
    full = held > ahead // 2 or slot.solo or any(map(_alone, leases))
    stuck = bool(slot.out) and work.boot_ms - slot.quiet_since_ms >= QUIET_MS
    return Room(held, 0 if held and (full or stuck) else ahead - held, OUT_BYTES_MAX - used_bytes, slot)


def _alone(lease: Lease) -> bool:
    return any(job.mark == SOLO for job in lease.jobs)


def hand_out(work: Work, slot: KeeperSlot, lease: Lease) -> None:
    """Send a lease once it is committed."""
    state = work.state
    lease = expiring.without_late(work, lease)
    if state.breakers:
        breaking.note_lease(work, work.tx.queue_of_lane(lease.lane), lease)
    work.leased.setdefault(slot.number, []).append(lease)

    def effect() -> None:
        hit("keeper.after_lease")
        max_attempts = state.queue(slot.pool).max_attempts
        slot.hand_out(lease, max_attempts, state.mean_us.get(slot.pool, float("inf")), work.boot_ms)
        hit("keeper.after_chunk")

    work.afterwards(effect)


def send_unsent(state: State) -> None:
    """Try again where a socket was full, and say once what keeps a chunk from being sent."""
    for slot in state.slots.values():
        if slot.unsent and slot.phase is not Phase.JUDGED:
            slot.send()
            if slot.no_room and not slot.no_room_said:
                slot.no_room_said = True
                state.log.emit("keeper.no_room", pool=slot.pool, error=slot.no_room)
