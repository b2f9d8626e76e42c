"""No job waits behind a slow one while a worker of its queue is idle: what has not begun is taken back.

Three places hold what a busy worker has not begun: chunks not sent, chunks in its socket, and the rest of the
chunk in its hands. The first two the keeper simply reads. For the third it writes a limit into the slot's memory,
issues a memory barrier and looks at the worker's claim: a claim that has not moved names the one job that runs,
and the worker will see the limit before it begins another.
"""

from __future__ import annotations

from supervisor.keeper.settling import give_back, settle_to_end
from supervisor.keeper.slots import KeeperSlot, Phase
from supervisor.keeper.state import State
from supervisor.keeper.work import Work
from supervisor.observe.failpoint import hit
from supervisor.unix.barrier import membarrier
from supervisor.unix.chunk import Chunk
from supervisor.unix.memory import W_CLAIM, W_LIMIT

QUIET_MS = 10
"""How long a worker must have ended nothing before its jobs are given to an idle one."""

UNTAKEN_MS = 50
"""How long a worker that runs nothing may leave what it was sent. On a busy machine it takes a while to wake up."""

CLAIM_MAX = (1 << 64) - 1
"""A word that no worker writes: one more would not fit."""


def stuck_slots(state: State, now_ms: int, waiting: dict[str, bool]) -> list[KeeperSlot]:
    """Workers that hold jobs they have not begun while others of their pool are idle, and nothing else waits for them.

    Also sets when to look again: when the next such worker will have been quiet for long enough.
    """
    state.recall_at_ms = None
    found: list[KeeperSlot] = []
    if not state.leasing:
        return found
    for pool in state.workplaces:
        slots = [slot for slot in state.slots_of(pool) if slot.phase in (Phase.READY, Phase.LEAVING)]
        if waiting.get(pool) or not any(slot.idle for slot in slots):
            continue
        for slot in slots:
            if slot.pinged or not slot.out:
                continue
            at_once = len(slot.out) == 1 or slot.batch > 0  # it runs all that it has, or has not taken it
            at_ms = slot.quiet_since_ms + (UNTAKEN_MS if at_once else QUIET_MS)
            if at_ms <= now_ms:
                if at_once and len(slot.memory.cells()) >= len(slot.out):
                    continue
                found.append(slot)
                at_ms = now_ms + QUIET_MS  # should the caller only ask: then its jobs must not be forgotten
            if state.recall_at_ms is None or at_ms < state.recall_at_ms:
                state.recall_at_ms = at_ms
    return found


def recall(work: Work, slot: KeeperSlot) -> int:
    """Take back what the worker has not begun; returns how many jobs."""
    chunks = slot.take_back()
    work.on_failure(lambda: _restore(slot, chunks))
    running = running_job(slot)
    # What it finished before it began this job is in the ring by now, and must not be given to anyone again.
    settle_to_end(work, slot)
    if slot.ring.damaged or (running is None and work.boot_ms - slot.quiet_since_ms < UNTAKEN_MS):
        # The worker has just moved on, or not woken up yet. What was read goes back to it; what it had, it skips.
        work.afterwards(lambda: _restore(slot, chunks))
        return 0
    if running is None:
        return _recall_unread(work, slot, chunks)
    hit("keeper.after_recall")
    quiet_since_ms, taken = slot.quiet_since_ms, 0
    for token in {held[0] for held in slot.out.values()}:
        ids = [job_id for job_id, held in slot.out.items() if held[0] == token and job_id != running]
        released = give_back(work, token, ids)
        work.ended(slot, released, token)
        taken += len(released)
    slot.quiet_since_ms = quiet_since_ms  # it is still stuck: what was taken back is for others
    return taken


def _recall_unread(work: Work, slot: KeeperSlot, chunks: list[Chunk]) -> int:
    """Take back only what the worker cannot have: it runs nothing and takes nothing, stopped as it may be.

    It is given nothing more until it has shown that it takes what it is sent. What was sent anew after a change of
    keepers goes back to it: the same jobs may be in its hands.
    """
    mine = [chunk for chunk in chunks if chunk.token not in slot.resent]
    others = [chunk for chunk in chunks if chunk.token in slot.resent]
    taken = 0
    for chunk in mine:
        released = give_back(work, chunk.token, [job.id for job in chunk.jobs])
        work.ended(slot, released, chunk.token)
        taken += len(released)
    slot.pinged = True
    work.on_failure(lambda: setattr(slot, "pinged", False))
    work.afterwards(lambda: _restore(slot, others))
    work.afterwards(slot.ping)
    slot.quiet_since_ms = work.boot_ms
    return taken


def running_job(slot: KeeperSlot) -> int | None:
    """The one job that the worker may be running, with every later one of its chunk barred; None if it moved on."""
    claim = slot.memory.word(W_CLAIM)
    if claim >= CLAIM_MAX:
        return None
    slot.memory.set_word(W_LIMIT, claim + 1)
    if not membarrier():
        return None
    if slot.memory.word(W_CLAIM) != claim:
        return None
    cells = slot.memory.cells()
    if len(cells) != 1 or slot.memory.word(W_CLAIM) != claim:
        return None
    return cells[0].id


def _restore(slot: KeeperSlot, chunks: list[Chunk]) -> None:
    slot.unsent.extendleft(reversed(chunks))
    slot.send()
