"""When a breaker opens: what workers of its queue hold and have not begun is taken back, before it can fail as well."""

from __future__ import annotations

from supervisor.keeper import recall
from supervisor.keeper.breaking import jobs_allowed
from supervisor.keeper.slots import KeeperSlot, Phase
from supervisor.keeper.work import Work


def take_back(work: Work) -> None:
    """Take back what workers hold of a queue whose breaker has opened, and have not begun."""
    state = work.state
    for queue in list(state.standstill.queues):
        if jobs_allowed(work, queue) is None:
            state.standstill.queues.discard(queue)  # the configuration was changed meanwhile
            continue
        slots = [slot for pool in state.pools_of(queue) or (queue,) for slot in state.slots_of(pool)]
        for slot in slots:
            if _holds_unbegun(work, slot, queue):
                recall.recall(work, slot)
        if not any(_holds_unbegun(work, slot, queue) for slot in slots):
            state.standstill.queues.discard(queue)


def _holds_unbegun(work: Work, slot: KeeperSlot, queue: str) -> bool:
    """Whether a worker has a job of the queue that it does not run."""
    if slot.phase not in (Phase.READY, Phase.LEAVING) or slot.pinged or not slot.out:
        return False
    leases, running = work.tx.open_leases(), {cell.id for cell in slot.memory.cells()}
    tokens = {token for token, _ in slot.out.values() if token in leases and leases[token].queue == queue}
    return any(token in tokens and job_id not in running for job_id, (token, _) in slot.out.items())
