"""What a worker's death is charged to, from the certificate of who reaped it."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum


class Charge(StrEnum):
    """Whose fault the end of a run was."""

    FAILURE = "failure"
    CRASH = "crash"
    INTERRUPTION = "interruption"
    CANCELLED = "cancelled"


CAUSES: dict[str, Charge] = {
    "exit": Charge.CRASH,
    "timeout": Charge.FAILURE,
    "cancelled": Charge.CANCELLED,
    "stop": Charge.INTERRUPTION,
    "foreman": Charge.INTERRUPTION,
}
"""Cause of a certificate -> what the jobs that were running are charged with."""


def charge(cause: str, job: int, climbed_for: Collection[int]) -> Charge:
    """What a job that was running when its worker died is charged with.

    Where the ladder was climbed, only the jobs it was climbed for are charged; those beside them are innocent.
    An unknown cause, of a newer foreman, charges nobody.
    """
    charged = CAUSES.get(cause, Charge.INTERRUPTION)
    if charged in (Charge.FAILURE, Charge.CANCELLED) and job not in climbed_for:
        return Charge.INTERRUPTION
    return charged
