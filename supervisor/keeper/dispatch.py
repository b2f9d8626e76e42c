"""Who gets which jobs: leases for workers that have room, sent in chunks once they are committed."""

from __future__ import annotations

from typing import NamedTuple

from supervisor.config.spec import Demand
from supervisor.keeper import breaking, expiring, gathering, parking, sources
from supervisor.keeper.recall import QUIET_MS
from supervisor.keeper.slots import KeeperSlot, Phase
from supervisor.keeper.sources import Drawn
from supervisor.keeper.state import NO_DEMAND, OUT_BYTES_MAX, State
from supervisor.keeper.work import LEASE_UNTIL_US, Work
from supervisor.observe.failpoint import hit
from supervisor.policy.batch import Rule
from supervisor.store.protocol import SOLO, Lease

LEASE_JOBS_MAX = 256


class Room(NamedTuple):
    """What a worker could be given beside the `held` jobs that it has."""

    held: int
    jobs: int
    payload_bytes: int
    slot: KeeperSlot


def lease_out(work: Work) -> None:
    """Lease jobs to workers of every pool that have room; where the time ends, the next pool begins the next pass.

    The pool that took the rest of the time has had a lease: were it first again, one that is never done could
    leave the others nothing for ever.
    """
    state = work.state
    state.wants_lease = False
    state.gathering.at_ms = None
    pools = list(state.workplaces)
    first = pools.index(state.lease_first) if state.lease_first in pools else 0
    turns = pools[first:] + pools[:first]
    for pool, following in zip(turns, turns[1:] + turns[:1], strict=True):
        if not _lease_pool(work, pool):
            state.lease_first = following
            state.wants_lease = True
            return


def _lease_pool(work: Work, pool: str) -> bool:
    """Lease from the pool's queues as their turns come; False if the pass has no time for all of them."""
    rule = work.state.batch_rule(pool)
    if rule is not None:
        return _lease_batches(work, pool, rule)
    if work.state.tasks.apart.get(pool):
        rooms = rooms_of(work, pool, work.state.workplaces[pool].demand)
        parking.take_apart(work, pool, sum(room.jobs for room in rooms))
    while (drawn := sources.draw(work, pool, breaking.halted(work))) is not None:
        leased = _lease_queue(work, pool, drawn)
        if leased is None:
            return False
        if not leased:
            return True  # its turn is kept until a worker has room: whoever comes later does not take it
    return True


def _lease_queue(work: Work, pool: str, drawn: Drawn) -> bool | None:
    """Share a queue's jobs evenly, workers without work first.

    True: all that could be leased now is; False: no worker has room for more of it; None: the pass has no time left.
    """
    limited = bool(work.state.discipline(drawn.queue).limits)
    demand = work.state.demand(pool, drawn.queue)
    waiting, allowed = work.tx.waiting(drawn.queue), breaking.jobs_allowed(work, drawn.queue)
    rooms = sorted(rooms_of(work, pool, demand, idle=limited), key=lambda room: room.held)
    for number, room in enumerate(rooms):
        share = max(-(-waiting // (len(rooms) - number)), demand.min)
        jobs = 1 if limited else min(share, room.jobs, allowed or LEASE_JOBS_MAX)
        lease = work.tx.lease(drawn.queue, room.slot.owner, jobs, room.payload_bytes, solo=not room.held)
        if lease is None:
            work.state.wants_lease |= work.tx.gave_up
            return work.tx.waiting(drawn.queue) == 0
        sources.charge(work, pool, drawn, len(lease.jobs))
        hand_out(work, room.slot, parking.divert(work, pool, lease))
        waiting -= len(lease.jobs)
        if work.late(LEASE_UNTIL_US):
            return None
        if drawn.shared or waiting <= 0 or allowed is not None:
            return True
    return bool(rooms)


def _lease_batches(work: Work, pool: str, rule: Rule) -> bool:
    """Lease one batch to each idle worker, of queues whose batch is due; False if the pass has no time for all of them.

    No worker is given one ahead: what is in its hands alone is charged if it dies, and others may fill the next batch.
    """
    gathering.gather(work, pool, rule)
    rooms = rooms_of(work, pool, NO_DEMAND, idle=True)
    if not rooms:
        return True
    passed = gathering.waiting(work, pool, rule)
    waiting = set(passed)
    while rooms and (drawn := sources.draw(work, pool, breaking.halted(work) | passed)) is not None:
        lease = _lease_batch(work, rooms[-1], drawn.queue, rule)
        if lease is None:
            passed.add(drawn.queue)
            continue
        rooms.pop()
        sources.charge(work, pool, drawn, len(lease.jobs))
        if gathering.handed_out(work, pool, drawn.queue, rule, alone=_alone(lease)):
            passed.add(drawn.queue)
            waiting.add(drawn.queue)
        if work.late(LEASE_UNTIL_US):
            return False
    if rooms:
        gathering.note_next(work, pool, waiting, rule)
    return True


def _lease_batch(work: Work, room: Room, queue: str, rule: Rule) -> Lease | None:
    """Lease what can be had of a queue for one call, and send it once that is committed; None if it has nothing."""
    allowed = breaking.jobs_allowed(work, queue)
    jobs = rule.size if allowed is None else min(allowed, rule.size)
    lease = work.tx.lease(queue, room.slot.owner, jobs, room.payload_bytes)
    if lease is None:
        work.state.wants_lease |= work.tx.gave_up
    else:
        hand_out(work, room.slot, lease)
    return lease


def rooms_of(work: Work, pool: str, demand: Demand, *, idle: bool = False) -> list[Room]:
    """Workers that should be given more: those that hold at most half of their share, and are not stuck.

    `demand`: how many a worker shall be given; `idle`: those that hold anything are left out.
    """
    ahead = max(work.state.look_ahead(pool), demand.min)
    ahead = ahead if demand.max is None else min(ahead, demand.max)
    slots = [slot for slot in work.state.ready_slots(pool) if slot.owner and not (slot.unsent or slot.pinged)]
    rooms = [_room(work, slot, ahead, demand.min) for slot in slots]
    return [room for room in rooms if room.jobs > 0 and room.payload_bytes > 0 and not (idle and room.held)]


def _room(work: Work, slot: KeeperSlot, ahead: int, jobs_min: int) -> Room:
    leases = work.leased.get(slot.number, ())
    held = len(slot.out) + sum(len(lease.jobs) for lease in leases)
    used_bytes = slot.out_bytes + sum(len(job.payload) for lease in leases for job in lease.jobs)
    full = held > ahead // 2 or ahead - held < jobs_min or slot.solo or any(map(_alone, leases))
    stuck = bool(slot.out) and work.boot_ms - slot.quiet_since_ms >= QUIET_MS
    return Room(held, 0 if held and (full or stuck) else ahead - held, OUT_BYTES_MAX - used_bytes, slot)


def _alone(lease: Lease) -> bool:
    return any(job.mark == SOLO for job in lease.jobs)


def hand_out(work: Work, slot: KeeperSlot, lease: Lease) -> None:
    """Send a lease once it is committed."""
    state = work.state
    lease = expiring.without_late(work, lease)
    if not lease.jobs:
        return
    breaking.note_lease(work, lease)
    work.leased.setdefault(slot.number, []).append(lease)

    def effect() -> None:
        hit("keeper.after_lease")
        mean_us = state.mean_us.get(slot.pool, float("inf"))
        slot.hand_out(lease, state.queue(lease.queue), mean_us, work.boot_ms, state.batch_rule(slot.pool))
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
