"""Rates: how many grants a limit allows in a time, by three algorithms; windows are measured at the grant.

- bucket: up to `limit` at once, refilled evenly over the period.
- leaky: evenly spaced, one each period / limit.
- window: at most `limit` in any stretch of time as long as the period. It is measured in steps of a 64th of the
  period, and a step counts until all of it has left the window: never too many, up to a 64th too few.

State is a small value that is stored. After the clock was set back it lies further ahead than the rule can put it:
`corrected` says so, and what it gives must be stored; then a limit is shut for about two periods at most.
"""

from __future__ import annotations

from typing import NamedTuple

BUCKET, LEAKY, WINDOW = "bucket", "leaky", "window"
ALGORITHMS = (BUCKET, LEAKY, WINDOW)
STEPS = 64
US = 1_000


class Rate(NamedTuple):
    """At most `limit` grants in `period_ms`, as the algorithm counts them."""

    limit: int
    period_ms: int
    algorithm: str = BUCKET

    @property
    def interval_us(self) -> int:
        """What one grant takes of the period, rounded up so that rounding never grants too much."""
        return -(-self.period_ms * US // self.limit)

    @property
    def burst(self) -> int:
        """How many grants may come at once."""
        return 1 if self.algorithm == LEAKY else self.limit


class Bucket(NamedTuple):
    """What is remembered of a limit. `full_us`: when a bucket will be full again.

    `steps`: (end in ms, grants) of a window; known by its end, a step means the same under a rate of another period.

    `shut_until_ms`: a handler has reported that whatever it calls wants no more until then.
    """

    full_us: int = 0
    steps: tuple[tuple[int, int], ...] = ()
    shut_until_ms: int = 0


def cost_of(rate: Rate, cost: int) -> int:
    """The tokens that a job takes: no more than there can be, or it would wait for ever."""
    return min(cost, rate.burst)


def corrected(rate: Rate, bucket: Bucket, now_ms: int) -> Bucket:
    """The state, or another if the clock was set back: with no more ahead of it than the rule can put there."""
    if rate.algorithm != WINDOW:
        furthest_us = now_ms * US + rate.limit * rate.interval_us
        return bucket if bucket.full_us <= furthest_us else bucket._replace(full_us=furthest_us)
    furthest_ms = now_ms + rate.period_ms
    if not bucket.steps or bucket.steps[-1][0] <= furthest_ms:
        return bucket
    kept = {end_ms: grants for end_ms, grants in bucket.steps if end_ms <= furthest_ms}
    ahead = sum(grants for end_ms, grants in bucket.steps if end_ms > furthest_ms)
    step = _step_end_ms(rate, now_ms)
    kept[step] = min(kept.get(step, 0) + ahead, rate.limit)
    return bucket._replace(steps=tuple(sorted(kept.items())))


def free_at_ms(rate: Rate, bucket: Bucket, cost: int, now_ms: int) -> int:
    """When a grant of this cost is possible; not after `now_ms` if it is now."""
    if bucket.shut_until_ms > now_ms:
        return bucket.shut_until_ms
    if rate.algorithm == WINDOW:
        return _window_free_at_ms(rate, bucket, cost_of(rate, cost), now_ms)
    full_us = corrected(rate, bucket, now_ms).full_us
    return -(-(full_us - (rate.burst - cost_of(rate, cost)) * rate.interval_us) // US)


def granted(rate: Rate, bucket: Bucket, cost: int, now_ms: int) -> Bucket:
    """The state after a grant; the caller has seen that it is possible."""
    known = corrected(rate, bucket, now_ms)
    if rate.algorithm != WINDOW:
        return known._replace(full_us=max(known.full_us, now_ms * US) + _spent_us(rate, cost))
    step = _step_end_ms(rate, now_ms)
    steps = dict(_in_window(rate, known, now_ms))
    steps[step] = steps.get(step, 0) + cost_of(rate, cost)
    return known._replace(steps=tuple(sorted(steps.items())))


def refunded(rate: Rate, bucket: Bucket, cost: int, granted_at_ms: int, now_ms: int) -> Bucket:
    """The state after a grant was handed back.

    Of a window, the step in which it was given has so many fewer. What a bucket has refilled since then is not given
    back: while it was full, nothing more could have gathered, and returning all of it would let too many through.
    """
    if rate.algorithm != WINDOW:
        refilled_us = max(now_ms - granted_at_ms, 0) * US
        return bucket._replace(full_us=bucket.full_us - max(_spent_us(rate, cost) - refilled_us, 0))
    step, count = _step_end_ms(rate, granted_at_ms), cost_of(rate, cost)
    kept = ((at, grants - count if at == step else grants) for at, grants in bucket.steps)
    return bucket._replace(steps=tuple((at, grants) for at, grants in kept if grants > 0))


def forgotten_at_ms(rate: Rate, bucket: Bucket) -> int:
    """When the state says nothing any more: it need not be kept longer."""
    if rate.algorithm == WINDOW:
        last = max((end_ms + rate.period_ms for end_ms, _ in bucket.steps), default=0)
        return max(last, bucket.shut_until_ms)
    return max(-(-bucket.full_us // US), bucket.shut_until_ms)


def _spent_us(rate: Rate, cost: int) -> int:
    """What a grant takes of the time; of evenly spaced ones a costly job keeps the next away for as long."""
    return min(cost, rate.limit) * rate.interval_us


def _in_window(rate: Rate, bucket: Bucket, now_ms: int) -> list[tuple[int, int]]:
    """The steps that have not left the window: all of a step has, a period after its end."""
    return [(end_ms, grants) for end_ms, grants in bucket.steps if end_ms + rate.period_ms > now_ms]


def _step_end_ms(rate: Rate, at_ms: int) -> int:
    """The end of the step in which an instant lies."""
    return -(-(at_ms * STEPS // rate.period_ms + 1) * rate.period_ms // STEPS)


def _window_free_at_ms(rate: Rate, bucket: Bucket, cost: int, now_ms: int) -> int:
    steps = _in_window(rate, corrected(rate, bucket, now_ms), now_ms)
    left = sum(grants for _, grants in steps)
    at_ms = now_ms
    for end_ms, grants in steps:
        if left + cost <= rate.limit:
            break
        left -= grants
        at_ms = end_ms + rate.period_ms
    return at_ms
