"""Queues of batches whose ready jobs wait for others: since when, and when the first of them is due.

It is a cache: a new keeper begins the wait anew; a new configuration does not, where the queue stays. The wait begins
when the first job of a batch is seen ready, whether a worker is idle then or not: one that becomes idle later need not
wait again.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from supervisor.keeper import breaking
from supervisor.keeper.state import State
from supervisor.keeper.work import Work
from supervisor.policy.batch import Gathered, Rule, due_at_ms


def gather(work: Work, pool: str, rule: Rule) -> None:
    """Note since when each queue of a pool gathers; whether a worker is idle or not, in every pass."""
    gathering = work.state.gathering
    before = gathering.pools.get(pool, {})
    found: dict[str, Gathered] = {}
    for source in work.state.spec.sources_of(pool):
        for queue, ready in work.tx.active_of(source).items():
            known = before.get(queue)
            if known is None or known.ready != ready:
                known = _gathered(work, queue, known, ready, rule)
            found[queue] = known
    gathering.pools[pool] = found
    work.on_failure(partial(gathering.pools.__setitem__, pool, before))


def waiting(work: Work, pool: str, rule: Rule) -> set[str]:
    """The queues of a pool whose batch is not due yet, as was noted last."""
    found = work.state.gathering.pools.get(pool, {})
    return {queue for queue, gathered in found.items() if _waits(work, queue, gathered, rule)}


def _gathered(work: Work, queue: str, before: Gathered | None, ready: int, rule: Rule) -> Gathered:
    """What waits in a queue now. Which job comes first is looked up only when their number has changed."""
    alone = ready < rule.size and work.tx.solo_next(queue)
    return Gathered(work.boot_ms if before is None else before.since_ms, ready, alone)


def _waits(work: Work, queue: str, gathered: Gathered, rule: Rule) -> bool:
    """Whether a queue waits for more jobs; where its breaker lets through but a few, nobody waits for others."""
    patient = work.state.gathering.patient and due_at_ms(gathered, rule) > work.boot_ms
    return patient and breaking.jobs_allowed(work, queue) is None


def not_due(work: Work, pool: str) -> set[str]:
    """Queues that wait for more jobs beside an idle worker, as was noted last; none where no other worker is busy."""
    state, rule = work.state, work.state.batch_rule(pool)
    if rule is None:
        return set()
    slots = state.slots_of(pool)
    if not (any(slot.idle for slot in slots) and any(slot.out for slot in slots)):
        return set()
    return waiting(work, pool, rule)


def handed_out(work: Work, pool: str, queue: str, rule: Rule, *, alone: bool) -> bool:
    """A batch was leased: what is left gathers for the next one; returns whether that waits.

    Beside a job that had to run alone nobody else was taken: the others have waited since they came.
    """
    of_pool = work.state.gathering.pools[pool]
    before = of_pool.pop(queue, Gathered(work.boot_ms, 0))
    ready = work.tx.waiting(queue)
    if not ready:
        return False
    since_ms = before.since_ms if alone else work.boot_ms
    of_pool[queue] = Gathered(since_ms, ready, ready < rule.size and work.tx.solo_next(queue))
    return _waits(work, queue, of_pool[queue], rule)


def note_next(work: Work, pool: str, waiting: set[str], rule: Rule) -> None:
    """A worker of the pool is idle: remember when the first queue that waits has waited long enough."""
    gathering = work.state.gathering
    moments = [due_at_ms(gathering.pools[pool][queue], rule) for queue in waiting if queue in gathering.pools[pool]]
    later = [at for at in (gathering.at_ms, *moments) if at is not None and at > work.boot_ms]
    gathering.at_ms = min(later, default=None)


def gathered_of(state: State, queue: str) -> tuple[Gathered, Rule] | None:
    """What waits in a queue for more jobs of its batch; None if nothing does."""
    pool = state.pool_of(queue)
    rule = None if pool is None else state.batch_rule(pool)
    found = state.gathering.pools.get(pool, {}).get(queue) if pool else None
    return None if rule is None or found is None else (found, rule)


def batches_due_ms(state: State) -> Iterator[int]:
    """When each batch that waits is due, whether a worker is idle or not."""
    for pool, queues in state.gathering.pools.items():
        rule = state.batch_rule(pool)
        if rule is not None:
            yield from (due_at_ms(gathered, rule) for gathered in queues.values())
