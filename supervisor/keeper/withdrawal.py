"""Cancelled jobs that a worker has: what runs is interrupted by its foreman, what has not begun is taken back.

A cancel is a row; this is the memory of who must still hear of it. A new keeper finds the rows again at adoption.
"""

from __future__ import annotations

from collections.abc import Iterable

from supervisor.keeper import recall
from supervisor.keeper.slots import Phase
from supervisor.keeper.state import State
from supervisor.keeper.work import Work
from supervisor.store.protocol import OpenLease
from supervisor.wire.control import CancelRunning

AGAIN_MS = 10
"""A job that was on its way to its worker can be neither interrupted nor taken back yet."""


def ask(state: State, ids: Iterable[int]) -> None:
    """These were cancelled while a worker had them: it is to hear of it in the next pass. Follows the commit."""
    state.withdrawn.update(ids)
    state.withdraw_at_ms = 0


def withdraw(work: Work) -> None:
    """Interrupt or take back every cancelled job that is leased; what can be neither is looked at again soon."""
    state = work.state
    for job_id in list(state.withdrawn):
        lease = next((lease for lease in work.tx.open_leases().values() if job_id in lease.jobs), None)
        if lease is None or _told(state, job_id, lease):
            state.withdrawn.discard(job_id)
            continue
        slot = state.slot_of_owner(lease.owner)
        assert slot is not None, "of a worker without a slot all is told"
        recall.recall(work, slot)
    state.withdraw_at_ms = work.boot_ms + AGAIN_MS if state.withdrawn else None


def _told(state: State, job_id: int, lease: OpenLease) -> bool:
    """Whether nothing is left to be done here: its worker is gone, or its foreman was told that it runs."""
    slot = state.slot_of_owner(lease.owner)
    if slot is None or slot.phase is Phase.JUDGED:
        return True  # the verdict about its worker settles it
    if not any((cell.id, cell.token) == (job_id, lease.token) for cell in slot.memory.cells()):
        return False
    link = state.links.get(slot.pool)
    if link is None:
        return False
    link.send(CancelRunning(slot.number, job_id, lease.token))
    return True
