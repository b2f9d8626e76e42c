"""What every store must do about jobs that wait for code. A backend's tests inherit this as well."""

from __future__ import annotations

import pytest

from supervisor.job import IllegalTransition, State
from supervisor.policy.discipline import Discipline
from supervisor.policy.rank import Order
from supervisor.policy.settle import History
from supervisor.policy.tasks import Known, Need
from supervisor.store.history import Edit
from supervisor.store.protocol import NewJob, Store
from tests.conformance.backend import Backend
from tests.conformance.suite import (
    FAILED_ONCE,
    NOW,
    asked,
    counts,
    fail,
    ids_of,
    lease,
    leased,
    promote,
    put,
    states,
)

SEND, SEND_2, SUM = Need("send", 1), Need("send", 2), Need("sum", 1)


def park(store: Store, token: int, job_id: int, need: Need = SEND) -> bool:
    return asked(store, lambda tx: tx.park(token, job_id, need)) is True


def unblock(store: Store, need: Need = SEND, jobs_max: int = 100, queue: str = "fifo") -> int:
    found: int = asked(store, lambda tx: tx.unblock(queue, need, jobs_max))
    return found


class TaskVerbs:
    """The verbs of tasks."""

    def test_a_parked_job_waits_outside_of_its_queue_with_nothing_charged(self, one: Store, two: Store) -> None:
        put(one, b"1", b"2")
        token = leased(one).token
        assert park(one, token, 1)
        assert states(two, 1, 2) == [State.BLOCKED, State.RUNNING]
        assert counts(two) == {"blocked": 1, "running": 1}
        assert lease(two) is None
        assert asked(two, lambda tx: tx.standing([1])[1].history) == History()
        assert asked(two, lambda tx: tx.needs()) == {"fifo": [SEND]}

    def test_only_the_lease_that_holds_a_job_parks_it(self, one: Store, two: Store) -> None:
        put(one, b"1")
        token = leased(one).token
        assert not park(two, token + 1, 1)
        assert not park(two, token, 2)
        assert park(two, token, 1)
        assert not park(one, token, 1)
        assert counts(one) == {"blocked": 1}

    def test_code_lets_go_on_what_waits_for_it_and_nothing_else(self, one: Store, two: Store) -> None:
        put(one, *[str(number).encode() for number in range(6)])
        token = leased(one).token
        for job_id, need in ((1, SEND), (2, SUM), (3, SEND_2), (4, SEND), (5, SEND)):
            park(one, token, job_id, need)
        assert unblock(two, SEND, 2) == 2
        assert states(one, 1, 2, 3, 4, 5) == [State.QUEUED, State.BLOCKED, State.BLOCKED, State.QUEUED, State.BLOCKED]
        assert unblock(two, SEND, 2) == 1
        assert unblock(two, SEND, 2) == 0
        assert ids_of(lease(one)) == [1, 4, 5]
        assert asked(one, lambda tx: tx.needs()) == {"fifo": [SEND_2, SUM]}

    def test_nothing_waits_in_a_queue_that_never_was(self, one: Store) -> None:
        assert unblock(one, queue="never") == 0

    def test_what_was_parked_counts_as_newly_arrived(self, one: Store, two: Store) -> None:
        put(one, b"1", b"2")
        token = leased(one, jobs=1).token
        park(one, token, 1)
        unblock(two)
        assert ids_of(lease(one)) == [2, 1]

    def test_what_it_was_charged_with_and_that_it_runs_alone_is_kept(self, one: Store) -> None:
        put(one, b"1", b"2")
        crashed = History(failures=1, crashes=1)
        fail(one, leased(one, jobs=1).token, 1, NOW + 1, crashed, solo=True)
        promote(one, NOW + 1)
        token = leased(one, jobs=1, now=NOW + 1).token  # 2 came first
        assert park(one, leased(one, now=NOW + 1).token, 1)
        assert unblock(one) == 1
        again = leased(one, now=NOW + 1)
        assert ids_of(again) == [1]
        assert again.jobs[0].attempt == 3
        assert asked(one, lambda tx: tx.standing([1])[1].history) == crashed
        assert token

    def test_a_parked_job_can_be_cancelled_expired_moved_and_edited(self, one: Store, two: Store) -> None:
        put(one, b"1", NewJob(b"2", expires_at_ms=NOW + 1), b"3", b"4")
        token = leased(one).token
        for job_id in (1, 2, 3, 4):
            park(one, token, job_id)
        assert asked(two, lambda tx: tx.cancel(1)) is State.CANCELLED
        assert asked(two, lambda tx: tx.expire([2], State.DEAD, "expired")) == [2]
        assert asked(two, lambda tx: tx.move("fifo", "lifo", [3])) == 1
        assert asked(two, lambda tx: tx.edit(4, Edit(b"44", 0, None, None))) is State.BLOCKED
        assert states(one, 1, 2, 3, 4) == [State.CANCELLED, State.DEAD, State.BLOCKED, State.BLOCKED]
        assert asked(one, lambda tx: tx.needs()) == {"fifo": [SEND], "lifo": [SEND]}
        assert unblock(one, queue="lifo") == 1
        assert ids_of(lease(two, "lifo")) == [3]
        unblock(one)
        assert leased(two).jobs[0].payload == b"44"

    def test_it_cannot_be_made_ready_or_given_a_time_by_hand(self, one: Store) -> None:
        put(one, b"1")
        park(one, leased(one).token, 1)
        with pytest.raises(IllegalTransition):
            asked(one, lambda tx: tx.revive(1))
        with pytest.raises(IllegalTransition):
            asked(one, lambda tx: tx.edit(1, Edit(None, 0, None, NOW + 5)))
        assert counts(one) == {"blocked": 1}

    def test_where_order_counts_a_parked_job_holds_its_line(self, backend: Backend, one: Store) -> None:
        one.govern(lambda queue: Discipline(order=Order(("fifo",)), group=queue, ordered=True))
        put(one, NewJob(b"1", key="a"), NewJob(b"2", key="a"), NewJob(b"3", key="b"))
        token = leased(one, jobs=1).token
        assert park(one, token, 1)
        assert ids_of(lease(one)) == [3]
        assert lease(one) is None
        assert unblock(one) == 1
        assert ids_of(lease(one)) == [1, 2]

    def test_a_retry_that_is_parked_keeps_its_error(self, one: Store) -> None:
        put(one, b"1")
        fail(one, leased(one).token, 1, NOW + 1)
        promote(one, NOW + 1)
        park(one, leased(one, now=NOW + 1).token, 1)
        unblock(one)
        assert leased(one, now=NOW + 1).jobs[0].previous_error == b"it broke"
        assert asked(one, lambda tx: tx.standing([1])[1].history) == FAILED_ONCE

    def test_what_a_pool_knows_is_what_it_published_last(self, one: Store, two: Store) -> None:
        known = Known("send", 3, 2, ("mail", "post"), '{"type":"object"}')
        asked(one, lambda tx: tx.publish("a", [known, Known("sum")]))
        asked(one, lambda tx: tx.publish("b", [Known("sum", 2)]))
        assert asked(two, lambda tx: tx.tasks()) == {"a": [known, Known("sum")], "b": [Known("sum", 2)]}
        asked(two, lambda tx: tx.publish("a", [Known("sum", 5)]))
        assert asked(one, lambda tx: tx.tasks()) == {"a": [Known("sum", 5)], "b": [Known("sum", 2)]}
