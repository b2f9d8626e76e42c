"""What a job may use up before it is given up: its own overrides, the rules of its queue, its times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from supervisor.config import spec
from supervisor.keeper.work import Work
from supervisor.policy.backoff import Backoff
from supervisor.policy.on_error import Rule
from supervisor.policy.settle import Budgets
from supervisor.store.protocol import Facts


def budgets_of(work: Work, facts: Facts) -> Budgets:
    """The budgets of a job; the time of its first run is looked up only where it matters."""
    queue = work.state.queue(facts.queue)
    options = msgspec.json.decode(facts.options) if facts.options else {}
    retry_for_ms = options.get("retry_for_ms", queue.retry_for_ms)
    until_ms = None if retry_for_ms is None else work.tx.first_due_ms(facts.id) + retry_for_ms
    return budgets(queue, options, until_ms)


def budgets(queue: spec.Queue, options: Mapping[str, Any], retry_until_ms: int | None = None) -> Budgets:
    """The budgets of a job with these options."""
    backoff = plain(queue.backoff)
    own = options.get("backoff_ms")
    return Budgets(
        queue.max_attempts,
        queue.max_crashes,
        queue.max_interruptions,
        backoff,
        {name: _rule(rule) for name, rule in queue.on_error.items()},
        options.get("max_attempts"),
        Backoff(jitter=backoff.jitter, delays_ms=tuple(own)) if own else None,
        retry_until_ms,
        options.get("deadline_at_ms"),
    )


def _rule(rule: spec.ErrorRule) -> Rule:
    return Rule(rule.action, rule.delay_ms, rule.max_attempts, plain(rule.backoff) if rule.backoff else None)


def plain(backoff: spec.Backoff) -> Backoff:
    """A backoff of the configuration as the policy takes it."""
    return Backoff(backoff.base_ms, backoff.factor, backoff.max_ms, backoff.jitter, backoff.shape, backoff.delays_ms)
