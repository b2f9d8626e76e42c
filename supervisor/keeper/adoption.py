"""What a new keeper finds: leases of workers that live, of workers that died unseen, and of boots that are over."""

from __future__ import annotations

import shutil
import socket

from supervisor.keeper import breaking, consuming, parking, withdrawal
from supervisor.keeper.settling import settle_to_end
from supervisor.keeper.slots import KeeperSlot, Phase
from supervisor.keeper.state import State
from supervisor.keeper.verdicts import judge_rest
from supervisor.keeper.work import Work
from supervisor.observe.failpoint import hit
from supervisor.policy.batch import Rule
from supervisor.store.protocol import NO_SLOT, Lease, Owner
from supervisor.unix.memory import MEMBERS_MAX, W_CLAIM, W_LIMIT, Cell
from supervisor.unix.ring import Position
from supervisor.unix.session import end_leftover
from supervisor.unix.slot import slots_root
from supervisor.wire.control import Certificate

SERIALS_APART = 4_096
"""More than a slot can hold unread: chunks of the old keeper and of the new one never share a serial."""


def adopt(work: Work) -> int:
    """Take up every stored owner; returns how many leases go on. Nothing is leased before this is committed."""
    hit("keeper.adopt")
    state = work.state
    breaking.adopt(work)
    parking.adopt(work)
    consuming.adopt(work)
    living = {slot.incarnation: slot for slot in state.slots.values()}
    adopted = 0
    for owner in work.tx.owners():
        if owner.slot == NO_SLOT:  # of a consumer: it has its leases until their time is over
            continue
        slot = living.get(owner.incarnation)
        if slot is not None:
            adopted += _take_up(work, slot, owner)
        else:
            bury_owner(work, owner)
    return adopted


def _take_up(work: Work, slot: KeeperSlot, owner: Owner) -> int:
    """A worker that lives: settle what it finished meanwhile, and send the rest of its leases anew."""
    slot.owner, slot.pid, slot.start_time = owner.id, owner.pid, owner.start_time
    slot.phase = Phase.STARTED
    slot.memory.take_its_word()
    slot.ring.resume(Position(owner.read_sequence, owner.read_offset))
    slot.serial = max(slot.memory.word(W_CLAIM), slot.memory.word(W_LIMIT)) // 65_536 + SERIALS_APART
    settle_to_end(work, slot)
    # The old keeper may have died between its commit and giving the space back: the worker may wait for just that.
    work.afterwards(slot.ring.free)
    leases = [
        lease
        for token, held in sorted(work.tx.open_leases().items())
        if held.owner == owner.id and (lease := work.tx.leased_jobs(token)) is not None
    ]
    ids = [job.id for lease in leases for job in lease.jobs]
    state = work.state
    cancelled = [facts.id for facts in work.tx.facts(ids).values() if facts.cancel_at_ms is not None]
    if cancelled:
        withdrawal.ask(state, cancelled)
    work.afterwards(lambda: _send_anew(work, slot, leases))
    return len(leases)


def _send_anew(work: Work, slot: KeeperSlot, leases: list[Lease]) -> None:
    """The worker skips what it has had under the same token."""
    state = work.state
    rule, mean_us = state.batch_rule(slot.pool), state.mean_us.get(slot.pool, 100.0)
    if rule is None and slot.memory.batches:  # its batch runs on, although the configuration knows of none any more
        rule = Rule(MEMBERS_MAX + 1)
    for lease in leases:
        slot.resent.add(lease.token)
        slot.hand_out(lease, state.queue(lease.queue), mean_us, work.boot_ms, rule)


def bury_owner(work: Work, owner: Owner) -> None:
    """A worker of an earlier master: make sure that it is gone, read its ring, give back the rest.

    Of another boot, or without its memory, nobody knows what was running: all of it counts as interrupted.
    """
    state = work.state
    certificate = Certificate(owner.slot, owner.incarnation, owner.pid, "foreman")
    slot = _find(state, owner)
    if slot is None:
        cells = [
            Cell(0, job_id, lease.token, work.boot_ms, 0)
            for lease in work.tx.open_leases().values()
            if lease.owner == owner.id
            for job_id in lease.jobs
        ]
        judge_rest(work, owner.id, None, cells, certificate)
    else:
        settle_to_end(work, slot)
        judge_rest(work, owner.id, slot, slot.memory.cells(), certificate)
        work.afterwards(lambda: _remove(slot))
        work.on_failure(slot.close)
    work.tx.disown(owner.id)


def _find(state: State, owner: Owner) -> KeeperSlot | None:
    """The slot of a dead owner, if this is the boot it lived in and its memory is what it was."""
    if owner.host == socket.gethostname() and owner.boot == state.boot_id and owner.pid:
        end_leftover(owner.pid, owner.start_time)
    if owner.boot != state.boot_id:
        return None
    try:
        slot = KeeperSlot(owner.slot, owner.pool, owner.incarnation, owner.directory, None, None)
    except OSError:
        return None
    _, _, incarnation, boot = slot.memory.identity()
    if incarnation != owner.incarnation or boot != state.boot_id:
        slot.close()
        return None
    slot.owner, slot.pid = owner.id, owner.pid
    slot.ring.resume(Position(owner.read_sequence, owner.read_offset))
    slot.memory.take_its_word()
    return slot


def _remove(slot: KeeperSlot) -> None:
    slot.close()
    shutil.rmtree(slot.directory, ignore_errors=True)


def sweep_directories(run_dir: str) -> None:
    """Delete the directories of slots whose owners are all judged: before the first slot of a new master is made."""
    shutil.rmtree(slots_root(run_dir), ignore_errors=True)
