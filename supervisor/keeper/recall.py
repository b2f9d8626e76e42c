"""No job waits behind a slow one while a worker of its queue is idle: what has not begun is taken back.

Three places hold what a busy worker has not begun: chunks not sent, chunks in its socket, and the rest of the
chunk in its hands. The first two the keeper simply reads. For the third it writes a limit into the slot's memory,
issues a memory barrier and looks at the worker's claim: a claim that has not moved names the one job that runs,
and the worker will see the limit before it begins another.
"""

from __future__ import annotations

from supervisor.keeper.settling import give_back, settle_to_end
from supervisor.keeper.slots import KeeperSlot
from supervisor.keeper.state import State
from supervisor.keeper.work import Work
from supervisor.observe.failpoint import hit
from supervisor.unix.barrier import membarrier
from supervisor.unix.memory import W_CLAIM, W_LIMIT

QUIET_MS = 10
"""How long a worker must have ended nothing before its jobs are given to an idle one."""

CLAIM_MAX = (1 << 64) - 1
"""A word that no worker writes: one more would not fit."""


def stuck_slots(state: State, now_ms: int, waiting: dict[str, int]) -> list[KeeperSlot]:
    """Workers that hold jobs they have not begun while others of their queue are idle.

    Also sets when to look again: when the next such worker will have been quiet for long enough.
    """
    state.recall_at_ms = None
    found: list[KeeperSlot] = []
    if not state.leasing:
        return found
    for queue in state.spec.queues:
        slots = state.ready_slots(queue)
        if waiting.get(queue) or not any(slot.idle for slot in slots):
            continue
        for slot in slots:
            if len(slot.out) < 2:
                continue
            at_ms = slot.quiet_since_ms + QUIET_MS
            if at_ms <= now_ms:
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
    if running is None or slot.ring.damaged:
        # The worker moved on meanwhile: it is not stuck. What was read goes back to it; what it had, it skips.
        work.afterwards(lambda: _restore(slot, chunks))
        slot.quiet_since_ms = work.boot_ms
        return 0
    hit("keeper.after_recall")
    quiet_since_ms, taken = slot.quiet_since_ms, 0
    for token in {held[0] for held in slot.out.values()}:
        ids = [job_id for job_id, held in slot.out.items() if held[0] == token and job_id != running]
        released = give_back(work, token, ids)
        work.ended(slot, released, token)
        taken += len(released)
    slot.quiet_since_ms = quiet_since_ms  # it is still stuck: what was taken back is for others
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


def _restore(slot: KeeperSlot, chunks: list) -> None:  # type: ignore[type-arg]
    slot.unsent.extendleft(reversed(chunks))
    slot.send()
