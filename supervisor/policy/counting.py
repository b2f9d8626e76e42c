"""What the end of a run counts as, in the statistics of its queue."""

from __future__ import annotations

from typing import NamedTuple

from supervisor.policy.settle import Bury, Decision, Release, Retry, Withdraw

COUNTS = (
    "enqueued", "started", "completed", "failed", "crashed", "retried", "dead", "cancelled", "interrupted",
)  # fmt: skip
"""Everything that is counted, in the order in which it is stored."""

_CHARGED = {"error": "failed", "timeout": "failed", "crash": "crashed", "interrupted": "interrupted"}


class Counted(NamedTuple):
    """Names of `COUNTS` that go up by one; `measured` says whether the run's duration counts: it came to its end."""

    names: tuple[str, ...]
    measured: bool


def counted(decision: Decision, kind: str | None) -> Counted:
    """What a decision about a run counts as; `kind` is that of the attempt's error, None without one.

    A snooze counts as nothing but a start; so would a completion, which is counted where it is stored, among many.
    """
    charged = tuple(filter(None, [_CHARGED.get(kind or "")]))
    match decision:
        case Retry():
            return Counted((*charged, "retried"), measured=True)
        case Bury():
            return Counted((*charged, "dead"), measured=charged != ("interrupted",))
        case Release():
            return Counted(("interrupted",), measured=False)
        case Withdraw():
            return Counted(("cancelled",), measured=False)
    return Counted((), measured=True)
