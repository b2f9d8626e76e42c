"""From what the configuration says of a queue to the rules by which its jobs are handed out. Pure."""

from __future__ import annotations

from supervisor.config import spec as config
from supervisor.config.spec import Queue, Spec
from supervisor.job import State
from supervisor.policy.discipline import PLAIN, Discipline, Limit, line_of
from supervisor.policy.rank import Order
from supervisor.policy.rate import Rate
from supervisor.policy.unique import REPLACE, Unique


def discipline_of(spec: Spec, name: str) -> Discipline:
    """The rules of a queue; of one that left the file, nobody leases anything."""
    queue = spec.queue(name)
    if queue is None:
        return PLAIN
    shared = [spec.limits[limit] for limit in queue.limits if limit in spec.limits]
    return Discipline(
        order=Order(queue.order, queue.ageing_ms),
        ordered=queue.ordered,
        after_dead=queue.after_dead,
        weights=queue.weights,
        limits=(*_own(f"queue:{name}", queue.concurrency, queue.rate), *_shared(shared, per_key=False)),
        key_limits=(
            *((line_of(name),) if queue.ordered else ()),
            *_own(f"key:{name}", queue.key_concurrency, queue.key_rate),
            *_shared(shared, per_key=True),
        ),
        max_size=queue.max_size,
        when_full=queue.when_full,
        unique=unique_of(queue),
        group=queue.name,
    )


def _own(name: str, concurrency: int | None, rate: config.Rate | None) -> tuple[Limit, ...]:
    return (Limit(name, concurrency, _rate(rate)),) if concurrency is not None or rate is not None else ()


def _shared(limits: list[config.Limit], *, per_key: bool) -> list[Limit]:
    return [
        Limit(f"limit:{limit.name}", limit.concurrency, _rate(limit.rate))
        for limit in limits
        if limit.per_key is per_key
    ]


def _rate(rate: config.Rate | None) -> Rate | None:
    return None if rate is None else Rate(rate.limit, rate.period_ms, rate.algorithm)


def unique_of(queue: Queue) -> Unique | None:
    """Which of the queue's jobs count as the same; throttle and debounce are two ways to say it shortly."""
    written = queue.unique or config.Unique()
    by, across = written.by, written.across_queues
    if queue.throttle_ms is not None:
        return Unique(by, (), queue.throttle_ms, across_queues=across)
    if queue.debounce_ms is not None:
        fields = ("payload", "due_at")
        return Unique(by, (State.SCHEDULED,), None, REPLACE, fields, across, queue.debounce_ms)
    if queue.unique is None:
        return None
    states = tuple(State(name) for name in written.states)
    return Unique(by, states, written.period_ms, written.on_conflict, written.replace, across)
