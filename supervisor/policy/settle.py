"""What becomes of a job when a run of it has ended: one pure function of its record, its budgets and the outcome.

Three budgets, never mixed: `failures` (the handler's own), `crashes` (its worker died under it) and
`interruptions` (we ended it: shutdown, reload, reboot, an innocent beside a culprit).
"""

from __future__ import annotations

from typing import NamedTuple

from supervisor.job import Cancel, Done, Failed, Outcome, RateLimited, Snooze
from supervisor.policy.backoff import Backoff, delay_ms
from supervisor.policy.duration import to_ms


class Budgets(NamedTuple):
    """What the queue, or the job itself, allows."""

    max_attempts: int = 5
    max_crashes: int = 3
    max_interruptions: int = 20
    backoff: Backoff = Backoff()


class History(NamedTuple):
    """What the runs of a job so far were charged to."""

    failures: int = 0
    crashes: int = 0
    interruptions: int = 0

    @property
    def attempt(self) -> int:
        """The number of the attempt that comes next, or runs now."""
        return self.failures + self.crashes + 1


class Complete(NamedTuple):
    """The job is done; `result` is JSON text or None."""

    result: bytes | None


class Retry(NamedTuple):
    """The job is due again at `due_at_ms`; `solo` if it shall be leased alone from then on."""

    due_at_ms: int
    history: History
    solo: bool = False


class Later(NamedTuple):
    """The job asked to be run later; nothing is charged."""

    due_at_ms: int


class Release(NamedTuple):
    """The job goes back to its place in the queue; an interruption is counted."""

    history: History


class Bury(NamedTuple):
    """The job is dead; `history` says of what."""

    history: History
    reason: str


class Withdraw(NamedTuple):
    """The job is cancelled."""

    reason: str


Decision = Complete | Retry | Later | Release | Bury | Withdraw


def settle(history: History, budgets: Budgets, outcome: Outcome, now_ms: int, chance: float) -> Decision:
    """What a reported outcome does to the job. `chance` in [0, 1) is for the jitter."""
    match outcome:
        case Done(result):
            return Complete(result)
        case Snooze(delay) | RateLimited(delay):
            return Later(now_ms + to_ms(delay))
        case Cancel(reason):
            return Withdraw(reason)
        case failed:
            return after_failure(history, budgets, failed, now_ms, chance)


def after_failure(history: History, budgets: Budgets, failed: Failed, now_ms: int, chance: float) -> Retry | Bury:
    """A failed attempt: again after the backoff, or dead when the attempts are used up or retrying is of no use."""
    charged = history._replace(failures=history.failures + 1)
    if failed.final:
        return Bury(charged, "rejected")
    if charged.failures >= budgets.max_attempts:
        return Bury(charged, "max_attempts")
    return Retry(now_ms + delay_ms(budgets.backoff, charged.failures, chance), charged, solo=charged.crashes > 0)


def after_crash(history: History, budgets: Budgets, now_ms: int, chance: float) -> Retry | Bury:
    """The worker died while it ran this job: a suspect from now on, which is leased alone."""
    charged = history._replace(crashes=history.crashes + 1)
    if charged.crashes >= budgets.max_crashes:
        return Bury(charged, "max_crashes")
    return Retry(now_ms + delay_ms(budgets.backoff, charged.crashes, chance), charged, solo=True)


def after_interruption(history: History, budgets: Budgets) -> Release | Bury:
    """We ended the run: the attempt is given back, but not for ever."""
    charged = history._replace(interruptions=history.interruptions + 1)
    if charged.interruptions > budgets.max_interruptions:
        return Bury(charged, "unfinished")
    return Release(charged)
