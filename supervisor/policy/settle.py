"""What becomes of a job when a run of it has ended: one pure function of its record, its budgets and the outcome.

Three budgets, never mixed: `failures` (the handler's own), `crashes` (its worker died under it) and
`interruptions` (we ended it: shutdown, reload, reboot, an innocent beside a culprit).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from supervisor.job import Cancel, Done, Failed, Outcome, RateLimited, Snooze, Unknown
from supervisor.policy import on_error
from supervisor.policy.backoff import Backoff, delay_ms
from supervisor.policy.duration import to_ms
from supervisor.policy.on_error import CRASH, Rule, rule_for
from supervisor.policy.tasks import Need


class Budgets(NamedTuple):
    """What the queue, or the job itself, allows.

    `own_attempts` and `own_backoff` are what the job brought: they go before every rule of its queue. After
    `retry_until_ms` there is no retry, and from `deadline_ms` on nothing more at all (both wall-clock ms).
    """

    max_attempts: int = 5
    max_crashes: int = 3
    max_interruptions: int = 20
    backoff: Backoff = Backoff()
    rules: Mapping[str, Rule] = {}
    own_attempts: int | None = None
    own_backoff: Backoff | None = None
    retry_until_ms: int | None = None
    deadline_ms: int | None = None


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
    """The job asked to be run later, or a rule says so; nothing is charged."""

    due_at_ms: int


class Release(NamedTuple):
    """The job goes back to its place in the queue; an interruption is counted. `solo`: it is leased alone then."""

    history: History
    solo: bool = False


class Bury(NamedTuple):
    """The job is dead; `history` says of what."""

    history: History
    reason: str


class Withdraw(NamedTuple):
    """The job is cancelled."""

    reason: str


class Park(NamedTuple):
    """The job waits for code that knows its task; nothing is charged."""

    need: Need


Decision = Complete | Retry | Later | Release | Bury | Withdraw | Park


def settle(history: History, budgets: Budgets, outcome: Outcome, now_ms: int, chance: float) -> Decision:
    """What a reported outcome does to the job. `chance` in [0, 1) is for the jitter."""
    match outcome:
        case Done(result):
            return Complete(result)
        case Snooze(delay) | RateLimited(delay):
            return _later(history, budgets, now_ms + to_ms(delay))
        case Cancel(reason):
            return Withdraw(reason)
        case Unknown(task, version):
            return Park(Need(task, version))
        case failed:
            return after_failure(history, budgets, failed, now_ms, chance)


def after_failure(
    history: History, budgets: Budgets, failed: Failed, now_ms: int, chance: float
) -> Retry | Later | Bury | Withdraw:
    """A failed attempt: again after the backoff, or dead when the attempts are used up or retrying is of no use.

    The delay is what the handler asked for, else the job's own backoff, else that of the rule for this error, else
    what the queue's function said, else the queue's backoff.
    """
    charged = history._replace(failures=history.failures + 1)
    if failed.final:
        return Bury(charged, "rejected")
    if budgets.deadline_ms is not None and now_ms >= budgets.deadline_ms:
        return Bury(charged, "deadline")
    rule = rule_for(budgets.rules, failed)
    if rule and rule.action != on_error.RETRY:
        return _ruled(rule, history, charged, budgets, now_ms)
    if charged.failures >= _allowed(budgets.own_attempts, rule, budgets.max_attempts):
        return Bury(charged, "max_attempts")
    wait_ms = failed.delay_ms
    if wait_ms is None and budgets.own_backoff is None and (rule is None or rule.backoff is None):
        wait_ms = failed.backoff_ms
    if wait_ms is None:
        wait_ms = delay_ms(_backoff(budgets, rule), charged.failures, chance)
    return _again(charged, budgets, now_ms + wait_ms, solo=charged.crashes > 0)


def after_crash(history: History, budgets: Budgets, now_ms: int, chance: float) -> Retry | Bury | Withdraw:
    """The worker died while it ran this job: a suspect from now on, which is leased alone."""
    charged = history._replace(crashes=history.crashes + 1)
    rule = budgets.rules.get(CRASH)
    if rule and rule.action == on_error.DEAD:
        return Bury(charged, "on_error")
    if rule and rule.action == on_error.CANCEL:
        return Withdraw("on_error")
    if charged.crashes >= _allowed(None, rule, budgets.max_crashes):
        return Bury(charged, "max_crashes")
    due_at_ms = now_ms + delay_ms(_backoff(budgets, rule), charged.crashes, chance)
    return _again(charged, budgets, due_at_ms, solo=True)


def after_interruption(history: History, budgets: Budgets, *, solo: bool = False) -> Release | Bury:
    """We ended the run: the attempt is given back, but not for ever.

    `solo`: its worker died by itself, in a call with other jobs: the next death shall name the culprit.
    """
    charged = history._replace(interruptions=history.interruptions + 1)
    if charged.interruptions > budgets.max_interruptions:
        return Bury(charged, "unfinished")
    return Release(charged, solo)


def after_outage(history: History, budgets: Budgets, now_ms: int) -> Later | Bury:
    """A failure while the breaker of the queue was not closed: nothing is charged, the job waits anew."""
    return _later(history, budgets, now_ms)


def alone(decision: Decision) -> Decision:
    """The same decision about a job that ran out of time in a queue of batches: if it runs again, it runs alone."""
    return decision._replace(solo=True) if isinstance(decision, Retry) else decision


def _ruled(rule: Rule, history: History, charged: History, budgets: Budgets, now_ms: int) -> Later | Bury | Withdraw:
    """What a rule does that is no retry. A snooze is free, yet no way around `retry_for`."""
    if rule.action == on_error.DEAD:
        return Bury(charged, "on_error")
    if rule.action == on_error.CANCEL:
        return Withdraw("on_error")
    due_at_ms = now_ms + rule.delay_ms
    if budgets.retry_until_ms is not None and due_at_ms > budgets.retry_until_ms:
        return Bury(charged, "retry_for")
    return _later(history, budgets, due_at_ms)


def _allowed(own: int | None, rule: Rule | None, of_queue: int) -> int:
    """How often: as the job says, else as the rule says, else as the queue says."""
    if own is not None:
        return own
    return of_queue if rule is None or rule.max_attempts is None else rule.max_attempts


def _backoff(budgets: Budgets, rule: Rule | None) -> Backoff:
    return budgets.own_backoff or (rule.backoff if rule else None) or budgets.backoff


def _again(charged: History, budgets: Budgets, due_at_ms: int, *, solo: bool) -> Retry | Bury:
    """A retry then, unless it would come too late."""
    if budgets.deadline_ms is not None and due_at_ms >= budgets.deadline_ms:
        return Bury(charged, "deadline")
    if budgets.retry_until_ms is not None and due_at_ms > budgets.retry_until_ms:
        return Bury(charged, "retry_for")
    return Retry(due_at_ms, charged, solo)


def _later(history: History, budgets: Budgets, due_at_ms: int) -> Later | Bury:
    """A snooze until then, unless the job's deadline has passed by then."""
    if budgets.deadline_ms is not None and due_at_ms >= budgets.deadline_ms:
        return Bury(history, "deadline")
    return Later(due_at_ms)
