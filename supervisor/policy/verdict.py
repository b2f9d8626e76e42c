"""What a worker's death is charged to, from the certificate of who reaped it."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum


class Charge(StrEnum):
    """Whose fault the end of a run was."""

    FAILURE = "failure"
    CRASH = "crash"
    INTERRUPTION = "interruption"
    SUSPICION = "suspicion"
    """It may be the fault of this job, or of another one of its call: an interruption, and it runs alone next."""
    CANCELLED = "cancelled"


CAUSES: dict[str, Charge] = {
    "exit": Charge.CRASH,
    "timeout": Charge.FAILURE,
    "cancelled": Charge.CANCELLED,
    "stop": Charge.INTERRUPTION,
    "foreman": Charge.INTERRUPTION,
}
"""Cause of a certificate -> what the jobs that were running are charged with."""


def charge(cause: str, job: int, climbed_for: Collection[int], *, alone: bool = True) -> Charge:
    """What a job that was running when its worker died is charged with.

    Where the ladder was climbed, only the jobs it was climbed for are charged; those beside them are innocent.
    An unknown cause, of a newer foreman, charges nobody. `alone`: no other job was in the same call.
    """
    charged = CAUSES.get(cause, Charge.INTERRUPTION)
    if charged in (Charge.FAILURE, Charge.CANCELLED) and job not in climbed_for:
        return Charge.INTERRUPTION
    if charged is Charge.CRASH and not alone:
        return Charge.SUSPICION
    return charged
