"""Positive controls of the model of lanes: faults planted in policies and lanes, which the machine must find."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from supervisor.policy.discipline import Discipline
from supervisor.policy.rank import Rank
from supervisor.policy.rate import Bucket
from supervisor.store import explain
from supervisor.store.sqlite import insertion, keys, lanes, leasing, operating, uniqueness
from supervisor.store.sqlite.cache import Cache, Lane
from supervisor.store.sqlite.transaction import Transaction
from tests.model.planted import Plant, must_find, statement
from tests.model.test_lanes import LanesMachine

CAMPAIGN = os.environ.get("JOBSUP_CAMPAIGN") == "full"


def replaced(owner: Any, name: str, fault: Callable[..., Any]) -> Plant:
    """Another function in the place of one; `fault` gets the right one first."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        right = getattr(owner, name)
        patch.setattr(owner, name, lambda *args, **named: fault(right, *args, **named))

    return plant


def nothing(_right: Any, *_args: Any, **_named: Any) -> None:
    """What a step does that was forgotten."""


def without_front(right: Any, tx: Any, queue: Any, job_id: int, lane: Any, priority: int, sequence: int) -> Rank:
    found = right(tx, queue, job_id, lane, priority, sequence)
    return Rank(0, found.pos) if found.band < -1000 else found


def one_too_many(right: Any, tx: Any, gate: Any, concurrency: int | None, rate: Any, cost: int) -> Any:
    return right(tx, gate, None if concurrency is None else concurrency + 1, rate, cost)


def no_refund(right: Any, tx: Any, lease: Any, held: Any, *, refund_at_ms: int | None = None) -> None:
    right(tx, lease, held)


def refund_always(right: Any, tx: Any, lease: Any, held: Any, *, refund_at_ms: int | None = None) -> None:
    right(tx, lease, held, refund_at_ms=lease.leased_at_ms)


def in_bursts(right: Any, rate: Any, bucket: Bucket, cost: int, now_ms: int) -> Bucket:
    return right(rate._replace(limit=9) if rate.algorithm == "leaky" else rate, bucket, cost, now_ms)


def cheap(right: Any, rate: Any, bucket: Bucket, _cost: int, now_ms: int) -> Bucket:
    return right(rate, bucket, 1, now_ms)


def forgets_when_set_back(right: Any, rate: Any, bucket: Bucket, now_ms: int) -> Bucket:
    kept = tuple(step for step in bucket.steps if step[0] <= now_ms + rate.period_ms)
    return right(rate, bucket._replace(steps=kept), now_ms)


def credit_for_absence(right: Any, tx: Any, lane: Any, head: Any) -> None:
    before = lane.vtime
    right(tx, lane, head)
    lane.vtime = min(before, lane.vtime)


def no_weights(_right: Any, _discipline: Discipline, _key: str) -> int:
    return 1


def by_arrival(right: Any, order: Any, vtime: int, head: Rank) -> Any:
    return right(order._replace(terms=("fifo",)), vtime, head)


def young_forever(right: Any, order: Any, priority: int, sequence: int) -> Rank:
    return right(order._replace(age_ms=None), priority, sequence)


def dead_are_skipped(_right: Any, *_args: Any) -> None:
    """What `after_dead` says is not done."""


def gone_is_free(right: Any, tx: Any, unique: Any, row: Any, standing: Any) -> Any:
    return right(tx, unique, row, standing) if row and row[0] in standing else None


def period_is_ignored(right: Any, until_ms: Any, states: Any, state: Any, now_ms: int) -> bool:
    return right(None, states or ["queued"], state, now_ms)


def newest_first(right: Any, tx: Any, queue: Any, jobs: int) -> int:
    queue.oldest_id = 3
    return right(tx, queue, jobs)


def room_for_one_more(right: Any, tx: Any, queue: Any) -> int:
    return right(tx, queue) - 1


def one_lane_first(right: Any, tx: Any, queue: Any, lanes_max: int) -> Any:
    return list(right(tx, queue, 1))[:1]


def never_where_nothing_is_ordered(right: Any, lane: Lane, *, ordered: bool) -> bool:
    return right(lane, ordered=ordered) if ordered or lane.key else False


FAULTS: dict[str, Plant] = {
    "a limit that lets one too many through": replaced(lanes.Lanes, "_free_at_ms", one_too_many),
    "tokens that are not given back": replaced(lanes.Lanes, "_free", no_refund),
    "tokens that are given back for what has run": replaced(lanes.Lanes, "_free", refund_always),
    "costs that are ignored": replaced(lanes, "granted", cheap),
    "credit for time away": replaced(lanes.Lanes, "_give_turn", credit_for_absence),
    "weights that are ignored": replaced(Discipline, "weight", no_weights),
    "turns by arrival where they should be fair": replaced(leasing, "turn", by_arrival),
    "priorities that do not age": replaced(insertion, "rank", young_forever),
    "a dead job that does not block": replaced(Transaction, "_bar", dead_are_skipped),
    "a failing job that does not hold its line": statement("lane_put", "held = ?5", "held = NULL"),
    "a limit that wakes nobody": replaced(lanes.Lanes, "_open", nothing),
    "a time that wakes nobody": replaced(Cache, "nap", nothing),
    "a pause that a queue forgets": statement("queue_put", "paused = ?2", "paused = 0 * ?2"),
    "a job that is unique only while it is kept": replaced(uniqueness.Uniqueness, "_blocker", gone_is_free),
    "a period that is ignored": replaced(uniqueness, "in_the_way", period_is_ignored),
    "a claim that nobody makes": replaced(uniqueness.Uniqueness, "_claim", nothing),
    "keys that never come to their turn": replaced(leasing.Leasing, "first_lanes", one_lane_first),
    "slots that are counted wrongly when a keeper comes anew": statement("lease_open", "ORDER BY", "AND 0 ORDER BY"),
}  # fmt: skip

RARE: dict[str, Plant] = {
    "a new order that ranks nobody anew": replaced(keys.Keys, "_rerank_one", nothing),
    "a leaky rate that comes in bursts": replaced(lanes, "granted", in_bursts),
    "a retry that loses the head of its line": replaced(insertion.Insertion, "_rank_of_due", without_front),
    "a window that forgets when the clock is set back": replaced(lanes, "corrected", forgets_when_set_back),
    "a new order that leaves lanes where they were": replaced(keys.Keys, "_rerank_lanes", lambda right, tx, queue, *_: (
        setattr(queue, "rerank_after", None), setattr(queue, "rerank_until", None),
        tx._cache.reranking.discard(queue.name))),
    "a pause that a key forgets": statement("lane_put", "paused = ?4", "paused = 0 * ?4"),
    "a bounded queue that holds one more": replaced(insertion.Insertion, "_waiting", room_for_one_more),
    "the wrong job dropped from a full queue": replaced(insertion.Insertion, "_drop_oldest", newest_first),
    "jobs without a key that cannot be paused": replaced(Lane, "shut", never_where_nothing_is_ordered),
    "a job that lets go of nothing when it is cancelled": replaced(operating.Operating, "_let_go", nothing),
    "a reason that is not told": replaced(explain.Explainer, "_shut", lambda *_args: iter(())),
}  # fmt: skip
"""Faults that take the machine ten seconds and more to find."""


@pytest.mark.parametrize("fault", [*FAULTS, *(RARE if CAMPAIGN else ())])
@pytest.mark.campaign
@pytest.mark.timeout(3_600 if CAMPAIGN else 180)
def test_the_machine_finds(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (FAULTS | RARE)[fault](monkeypatch)
    must_find(LanesMachine, examples=20_000 if CAMPAIGN else 3_000, steps=60)
