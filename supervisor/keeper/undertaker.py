"""If the master dies: end its workers, read their rings, commit what is accepted, and go, within two seconds."""

from __future__ import annotations

from supervisor.keeper.private import Private
from supervisor.keeper.state import State
from supervisor.unix.session import end_leftover
from supervisor.wire.control import Certificate

WITHIN_MS = 1_000


def bury_all(state: State, private: Private) -> None:
    """Kill every recorded worker with its session, and certify each, as its reaper would have."""
    slots = [slot for slot in state.slots.values() if slot.pid]
    state.log.emit("keeper.undertaking", workers=len(slots))
    state.leasing = False
    state.undertaking = True
    assert state.control is not None
    for slot in slots:
        end_leftover(slot.pid, slot.start_time)
        certificate = Certificate(slot.number, slot.incarnation, slot.pid, "foreman")
        state.certify(certificate, state.control)
    private.finish_within_ms = WITHIN_MS
