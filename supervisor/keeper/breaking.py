"""The outage breakers: what each is told, what it lets through, and how it is shown.

A breaker's row is written in the transaction of what it heard, so it survives every kill; `State.breakers` is a cache.
Only a completed job says that what was down is back. A failure that counts says that it is down. All else (a snooze, a
failure of another kind, a crash, an interruption) says nothing: then the next job is the probe.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from supervisor.config.spec import Queue
from supervisor.job import Failed, Outcome
from supervisor.keeper.state import State
from supervisor.keeper.work import Work
from supervisor.policy import breaker as policy
from supervisor.policy.breaker import CLOSED, Breaker, Settings
from supervisor.policy.on_error import CRASH, RETRY, named, rule_for
from supervisor.store.protocol import Facts, Lease

AGAIN_MS = 10
"""What is on its way to a worker cannot be taken back yet: it is looked at again."""

FORGET_AT_ONCE = 100
"""Breakers that left the configuration and are forgotten in one transaction."""

REASON_MAX = 500
Stage = policy.Phase


def adopt(work: Work) -> None:
    """What a new keeper finds; of a queue that may hand out nothing, workers may hold jobs."""
    state = work.state
    state.breakers = work.tx.breakers()
    state.standstill.queues = {queue for queue, known in state.breakers.items() if known.phase is Stage.OPEN}
    for queue, known in state.breakers.items():
        stands = known.phase is not Stage.CLOSED and state.queue(queue).breaker is not None
        why = known.reason or "jobs failed" if stands else None
        work.afterwards(partial(state.alerts.breaker, queue, why))


def forget(work: Work) -> None:
    """Drop breakers of queues that have none in this configuration, as if each had closed; once for each configuration.

    One that was written again begins anew, as what it knew may be long past.
    """
    state = work.state
    if state.standstill.taken is state.spec:
        return
    gone = [queue for queue in state.breakers if state.queue(queue).breaker is None]
    for queue in gone[:FORGET_AT_ONCE]:
        _put(work, queue, CLOSED)
    if len(gone) <= FORGET_AT_ONCE:
        work.afterwards(partial(setattr, state.standstill, "taken", state.spec))
    else:  # there is another pass at once
        work.afterwards(partial(setattr, state, "wants_lease", True))


def jobs_allowed(work: Work, queue: str) -> int | None:
    """How many jobs of a queue may be handed out now; None for any number."""
    known = work.state.breakers.get(queue)
    if known is None or work.state.queue(queue).breaker is None:
        return None
    anchored = policy.anchored(known, work.now_ms)
    if anchored != known:
        _put(work, queue, known := anchored, said=False)
    runs = known.probe is not None and any(known.probe in lease.jobs for lease in work.tx.open_leases().values())
    return policy.allowed(known, work.now_ms, probe_runs=runs)


def halted(work: Work) -> set[str]:
    """The queues of which nothing may be handed out now."""
    return {queue for queue in list(work.state.breakers) if jobs_allowed(work, queue) == 0}


def note_lease(work: Work, lease: Lease) -> None:
    """Jobs of a queue were handed out: where the breaker let one through, that is the probe."""
    queue = lease.queue
    known = work.state.breakers.get(queue)
    if known is None or known.phase is Stage.CLOSED or work.state.queue(queue).breaker is None:
        return
    probe = lease.jobs[0].id
    _put(work, queue, policy.probing(known, probe))
    work.afterwards(lambda: work.state.log.emit("breaker.probe", queue=queue, id=probe))


def completed(work: Work, queue: str, ids: Sequence[int]) -> None:
    """Jobs of a queue have completed."""
    known = work.state.breakers.get(queue)
    if known is not None:
        for job_id in ids:
            known = policy.passed(known, job_id)
        _put(work, queue, known)


def failed(work: Work, facts: Facts, outcome: Outcome) -> bool:
    """A run of a job has ended; whether that is a failure which is not charged, since the breaker is not closed."""
    queue = work.state.spec.queue(facts.queue)
    if queue is None or queue.breaker is None or not isinstance(outcome, Failed) or not counts(queue, outcome):
        return False
    known = work.state.breakers.get(facts.queue, CLOSED)
    asked = queue.breaker
    settings = Settings(asked.failures, asked.period_ms, asked.cooldown_ms, asked.max_cooldown_ms)
    reason = f"{outcome.type}: {outcome.message}" if outcome.type else outcome.message
    _put(work, facts.queue, policy.failed(known, settings, facts.id, reason[:REASON_MAX], work.now_ms))
    return known.phase is not Stage.CLOSED


def counts(queue: Queue, outcome: Failed) -> bool:
    """Whether a failure may mean an outage: one that `breaker.on` names, or else any that is retried; no crash."""
    if outcome.final or queue.breaker is None:
        return False
    if outcome.kind == CRASH:
        return CRASH in queue.breaker.on
    if queue.breaker.on:
        return named(queue.breaker.on, outcome)
    rule = rule_for(queue.on_error, outcome)
    return rule is None or rule.action == RETRY


def _put(work: Work, queue: str, after: Breaker, *, said: bool = True) -> None:
    """Store how a breaker stands now, and say so where it matters."""
    state = work.state
    before = state.breakers.get(queue, CLOSED)
    if after == before:
        return
    work.on_failure(partial(_set, state, queue, before))
    _set(state, queue, after)
    work.tx.put_breaker(queue, after)
    if not said:
        return
    if after.phase is Stage.OPEN:
        state.standstill.queues.add(queue)
        cooldown_s = after.cooldown_ms / 1000
        work.afterwards(
            lambda: state.log.emit("breaker.open", queue=queue, cooldown_s=cooldown_s, reason=after.reason or "")
        )
        work.afterwards(lambda: state.alerts.breaker(queue, after.reason or "jobs failed"))
    elif after.phase is Stage.CLOSED and before.phase is not Stage.CLOSED:
        state.wants_lease = True
        work.afterwards(lambda: state.log.emit("breaker.closed", queue=queue))
        work.afterwards(lambda: state.alerts.breaker(queue, None))


def _set(state: State, queue: str, known: Breaker) -> None:
    if known == CLOSED:
        state.breakers.pop(queue, None)
    else:
        state.breakers[queue] = known
    if known.phase is not Stage.OPEN:
        state.standstill.queues.discard(queue)


def reset(work_state: State, queue: str) -> None:
    """Somebody closed the breaker: its row is gone."""
    if queue in work_state.breakers:
        was_open = work_state.breakers[queue].phase is not Stage.CLOSED
        _set(work_state, queue, CLOSED)
        work_state.wants_lease = True
        if was_open:
            work_state.log.emit("breaker.closed", queue=queue)
            work_state.alerts.breaker(queue, None)


def note_next(work: Work) -> None:
    """Remember when a breaker is to be looked at again: for a probe, or to take back what could not be yet."""
    state = work.state
    waits = [policy.wait_ms(known, work.now_ms) for known in state.breakers.values()]
    due = [wait_ms for wait_ms in waits if wait_ms]
    if state.standstill.queues:
        due.append(AGAIN_MS)
    state.standstill.at_ms = work.boot_ms + min(due) if due else None
