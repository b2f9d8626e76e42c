"""What every store must do about idempotency keys. A backend's tests inherit this as well."""

from __future__ import annotations

import pytest

from supervisor.errors import NotUnique, QueueFull
from supervisor.job import State
from supervisor.policy.discipline import DROP_OLDEST, Discipline
from supervisor.policy.unique import REPLACE, Unique
from supervisor.store.protocol import Group, Inserted, NewJob, Store
from tests.conformance.suite import NOW, asked, bury, complete, counts, ids_of, lease, leased, states
from tests.support.disciplines import by_name

RULES = {
    "same": Discipline(group="same", unique=Unique(("id",))),
    "strict": Discipline(group="strict", unique=Unique(("id",), on_conflict="refuse")),
    "newest": Discipline(group="newest", unique=Unique(("id",), on_conflict=REPLACE, replace=("payload", "tags"))),
    "for a time": Discipline(group="for a time", unique=Unique(("id",), period_ms=1_000)),
    "small": Discipline(group="small", max_size=2),
    "dropping": Discipline(group="dropping", max_size=1, when_full=DROP_OLDEST),
}


def job(key: str | None, payload: bytes = b"1", same: str | None = None) -> NewJob:
    """A job as the keeper makes it; `same` is what it has in common with those that count as the same."""
    options = None if key is None else b'{"idempotency_key":"%b"}' % key.encode()
    return NewJob(payload, options=options, unique=same, idempotency_key=key)


def enter(store: Store, *jobs: NewJob, queue: str = "fifo", key: str | None = None, now: int = NOW) -> Inserted:
    """Insert jobs in one group of their own transaction."""
    with store.transaction(now) as tx:
        return tx.insert([Group(queue, jobs, key, keyed=True)])[0]


def first(store: Store, key: str | None, queue: str = "fifo", **given: str) -> tuple[int, bool]:
    """The id of the job that a key means, and whether it was there already."""
    answer = enter(store, job(key, **given), queue=queue)  # type: ignore[arg-type]
    assert answer.refused is None
    return answer.ids[0], bool(answer.existing)


class IdempotencyVerbs:
    """What insertion and deletion do about keys."""

    @pytest.fixture(autouse=True)
    def ruled(self, stores: list[Store]) -> None:
        for store in stores:
            store.govern(lambda queue: RULES.get(queue) or by_name(queue))

    def test_a_job_with_a_key_that_is_there_is_the_first_one_to_every_owner(self, one: Store, two: Store) -> None:
        assert first(one, "k") == (1, False)
        answer = enter(two, job("k", b'"another payload"'))
        assert (answer.ids, answer.states, answer.existing, answer.repeated) == ((1,), (State.QUEUED,), [1], False)
        assert first(one, "l") == (2, False)
        assert asked(one, lambda tx: tx.payload(1)) == b"1"
        assert counts(one) == {"queued": 2}

    def test_it_is_found_in_whatever_state_it_is(self, one: Store, two: Store) -> None:
        first(one, "k")
        token = leased(one).token
        assert enter(two, job("k")).states == (State.RUNNING,)
        complete(one, token, 1)
        assert enter(two, job("k")).states == (State.COMPLETED,)
        first(one, "dies")
        bury(one, leased(one).token, 2)
        assert enter(two, job("dies")).states == (State.DEAD,)

    def test_keys_are_those_of_one_queue_and_not_those_of_requests(self, one: Store) -> None:
        assert [first(one, "k"), first(one, "k", "fifo.b")] == [(1, False), (2, False)]
        assert enter(one, job("other"), key="k").ids == (3,)
        assert enter(one, job("more"), key="k").repeated

    def test_the_second_of_a_group_is_the_first_and_those_without_a_key_are_each_a_job(self, one: Store) -> None:
        answer = enter(one, job("a"), job(None), job("a", b"2"), job("b"), job(None), job("b"))
        assert answer.ids == (1, 2, 1, 3, 4, 3)
        assert sorted(answer.existing) == [1, 3]
        assert set(answer.states) == {State.QUEUED}
        assert ids_of(lease(one)) == [1, 2, 3, 4]

    def test_groups_of_one_transaction_know_each_other(self, one: Store) -> None:
        with one.transaction(NOW) as tx:
            answers = tx.insert([Group("fifo", [job("k")], keyed=True), Group("fifo", [job("k")], keyed=True)])
            again = tx.insert([Group("fifo", [job("k"), job("l")], keyed=True)])
        assert [answer.ids for answer in (*answers, *again)] == [(1,), (1,), (1, 2)]

    def test_what_is_rolled_back_was_never_there(self, one: Store, two: Store) -> None:
        with pytest.raises(ZeroDivisionError), one.transaction(NOW) as tx:
            tx.insert([Group("fifo", [job("k")], keyed=True)])
            raise ZeroDivisionError
        assert first(two, "k", payload=b"2")[1] is False  # type: ignore[arg-type]
        assert first(one, "k")[1] is True

    def test_a_repeated_request_is_answered_with_the_same_ids(self, one: Store, two: Store) -> None:
        enter(one, job("k"))
        assert list(enter(one, job(None), job("k"), job("l"), key="request").ids) == [2, 1, 3]
        answer = enter(two, job(None), job("k"), job("l"), key="request")
        assert (list(answer.ids), answer.repeated) == ([2, 1, 3], True)

    def test_a_key_goes_with_its_job_and_is_free_again(self, one: Store, two: Store) -> None:
        enter(one, job("k"), job("l"))
        complete(one, leased(one).token, 1, 2)
        assert asked(two, lambda tx: tx.remove([1])) == 1
        assert [first(one, "k"), first(one, "l")] == [(3, False), (2, True)]
        assert first(two, "k") == (3, True)

    def test_a_job_that_is_moved_keeps_its_key_where_it_was_enqueued(self, one: Store, two: Store) -> None:
        first(one, "k")
        assert asked(one, lambda tx: tx.move("fifo", "fifo.b", [1])) == 1
        assert first(two, "k") == (1, True)
        assert first(two, "k", "fifo.b") == (2, False)

    def test_a_final_job_that_runs_again_keeps_its_key(self, one: Store, two: Store) -> None:
        first(one, "k")
        bury(one, leased(one).token, 1)
        asked(two, lambda tx: tx.revive(1))
        assert (first(one, "k"), states(one, 1)) == ((1, True), [State.QUEUED])

    # -- beside other rules ----------------------------------------------------------------------------------------

    def test_what_counts_as_the_same_belongs_to_the_key_that_was_given_it(self, one: Store) -> None:
        assert first(one, "k", "same", same="h") == (1, False)
        assert first(one, "l", "same", same="h") == (1, True)
        complete(one, leased(one, "same").token, 1)
        assert [first(one, key, "same", same="h") for key in ("k", "l", "m")] == [(1, True), (1, True), (2, False)]
        assert asked(one, lambda tx: tx.remove([1])) == 1
        assert first(one, "k", "same", same="h") == (2, True)

    def test_the_key_is_looked_at_before_what_counts_as_the_same(self, one: Store) -> None:
        assert first(one, "k", "strict", same="h") == (1, False)
        assert first(one, "k", "strict", same="another") == (1, True)
        assert isinstance(enter(one, job("l", same="h"), queue="strict").refused, NotUnique)
        assert first(one, "l", "strict", same="free") == (2, False)

    def test_both_rules_hold_in_one_group(self, one: Store) -> None:
        answer = enter(
            one, job("a", same="h"), job("a", same="i"), job("b", same="h"), job("c", same="i"), queue="same"
        )
        assert answer.ids == (1, 1, 1, 2)
        assert answer.existing == [1, 1]
        assert first(one, "b", "same", same="j") == (1, True)

    def test_a_job_whose_values_are_replaced_keeps_the_key_that_it_came_with(self, one: Store) -> None:
        first(one, "k", "newest", same="h")
        assert enter(one, job("l", b"2", "h"), queue="newest").ids == (1,)
        enter(one, job("k", b"3", "h"), queue="newest")
        assert asked(one, lambda tx: tx.payload(1)) == b"2"
        (found,) = leased(one, "newest").jobs
        assert found.options == b'{"idempotency_key":"k"}'

    def test_no_key_is_bound_to_a_job_that_a_rule_remembers_and_nobody_has(self, one: Store) -> None:
        first(one, "k", "for a time", same="h")
        complete(one, leased(one, "for a time").token, 1)
        asked(one, lambda tx: tx.remove([1]))
        assert first(one, "l", "for a time", same="h") == (1, True)
        assert enter(one, job("l", same="h"), queue="for a time", now=NOW + 2_000).ids == (2,)

    def test_a_repetition_needs_no_room(self, one: Store) -> None:
        enter(one, job("a"), job("b"), queue="small")
        assert first(one, "a", "small") == (1, True)
        assert isinstance(enter(one, job("c"), queue="small").refused, QueueFull)
        refused = enter(one, job("a"), job("c"), queue="small").refused
        assert isinstance(refused, QueueFull)
        group = Group("small", [job("a"), job("b")], keyed=True)
        assert asked(one, lambda tx: tx.refusal([group, group])) is None
        assert asked(one, lambda tx: tx.refusal([group, Group("small", [job(None)])])) is not None

    def test_what_comes_twice_in_what_a_handler_enqueues_needs_room_once(self, one: Store) -> None:
        groups = [Group("small", [job(key)], keyed=True) for key in ("a", "b", "a", "b")]
        assert asked(one, lambda tx: tx.refusal(groups)) is None
        with one.transaction(NOW) as tx:
            assert [answer.ids[0] for answer in tx.insert(groups)] == [1, 2, 1, 2]

    def test_a_job_that_was_dropped_for_a_newer_one_is_still_the_first_with_its_key(self, one: Store) -> None:
        enter(one, job("a"), queue="dropping")
        enter(one, job("b"), queue="dropping")
        answer = enter(one, job("a"), queue="dropping")
        assert (answer.ids, answer.states) == ((1,), (State.CANCELLED,))
