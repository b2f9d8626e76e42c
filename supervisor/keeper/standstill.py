"""When a breaker opens: what workers of its queue hold and have not begun is taken back, before it can fail as well."""

from __future__ import annotations

from supervisor.keeper import recall
from supervisor.keeper.breaking import jobs_allowed
from supervisor.keeper.slots import KeeperSlot, Phase
from supervisor.keeper.work import Work


def take_back(work: Work) -> None:
    """Take back what workers of a queue whose breaker has opened have not begun."""
    state = work.state
    for queue in list(state.taking_back):
        if jobs_allowed(work, queue) is None:
            state.taking_back.discard(queue)  # the configuration was changed meanwhile
            continue
        for slot in state.slots_of(queue):
            if _holds_unbegun(slot):
                recall.recall(work, slot)
        if not any(map(_holds_unbegun, state.slots_of(queue))):
            state.taking_back.discard(queue)


def _holds_unbegun(slot: KeeperSlot) -> bool:
    if slot.phase not in (Phase.READY, Phase.LEAVING) or slot.pinged or not slot.out:
        return False
    return len(slot.out) > 1 or not slot.memory.cells()
