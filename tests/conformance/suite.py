"""What every store must do. A backend is what passes this, with two owners at work on one database.

A backend's test module subclasses `Conformance` and gives it a fixture `backend`. Each test leaves rows that
contradict nothing: `audited` asks the backend after every one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from supervisor.errors import StoreError, UnknownJob
from supervisor.job import IllegalTransition, State
from supervisor.policy.settle import History
from supervisor.store.protocol import (
    FRESH,
    SOLO,
    AttemptError,
    Completion,
    Group,
    Lease,
    NewJob,
    Owner,
    ScheduleRow,
    Store,
    Tx,
)
from tests.conformance.backend import Backend

NOW = 1_700_000_000_000
PLENTY = 1 << 40
ERROR = AttemptError("error", "it broke", b'{"type":"ValueError"}')
FAILED_ONCE = History(failures=1)


def put(store: Store, *jobs: NewJob | bytes, queue: str = "fifo", key: str | None = None, now: int = NOW) -> list[int]:
    """Insert jobs in one group of their own transaction; returns their ids."""
    with store.transaction(now) as tx:
        new = [job if isinstance(job, NewJob) else NewJob(job) for job in jobs]
        return list(tx.insert([Group(queue, new, key)])[0].ids)


def lease(
    store: Store, queue: str = "fifo", owner: int = 1, jobs: int = 100, size: int = PLENTY, now: int = NOW
) -> Lease | None:
    with store.transaction(now) as tx:
        return tx.lease(queue, owner, jobs, size)


def leased(store: Store, queue: str = "fifo", **options: Any) -> Lease:
    """A lease that must be given."""
    found = lease(store, queue, **options)
    assert found is not None
    return found


def ids_of(lease: Lease | None) -> list[int]:
    return [job.id for job in lease.jobs] if lease else []


def done(*ids: int) -> list[Completion]:
    return [Completion(job_id, NOW, NOW + 5, b'{"ok":true}') for job_id in ids]


def complete(store: Store, token: int, *ids: int) -> list[int]:
    with store.transaction(NOW) as tx:
        return tx.complete(token, done(*ids))


def fail(
    store: Store, token: int, job_id: int, due: int, history: History = FAILED_ONCE, *, solo: bool = False
) -> bool:
    with store.transaction(NOW) as tx:
        return tx.reschedule(token, job_id, due, history, ERROR, solo=solo)


def bury(store: Store, token: int, job_id: int, state: State = State.DEAD) -> bool:
    with store.transaction(NOW) as tx:
        return tx.finish(token, job_id, state, NOW, "max_attempts", FAILED_ONCE, ERROR)


def promote(store: Store, now: int, jobs_max: int = 1_000) -> int:
    with store.transaction(now) as tx:
        return tx.promote(jobs_max)


def asked(store: Store, question: Callable[[Tx], Any]) -> Any:
    """The answer of one verb in a transaction of its own."""
    with store.transaction(NOW) as tx:
        return question(tx)


def states(store: Store, *ids: int) -> list[State | None]:
    with store.transaction(NOW) as tx:
        standing = tx.standing(ids)
        return [standing[job_id].state if job_id in standing else None for job_id in ids]


def counts(store: Store, queue: str = "fifo") -> dict[str, int]:
    """The counts of a queue that are not zero."""
    with store.transaction(NOW) as tx:
        return {state.value: jobs for state, jobs in tx.counts().get(queue, {}).items() if jobs}


def a_schedule(name: str = "s", next_ms: int | None = NOW, **changes: Any) -> ScheduleRow:
    """A schedule that fires at `next_ms`, and was looked at until just before."""
    handled_ms = NOW - 1
    row = ScheduleRow(
        name, "file", False, handled_ms, next_ms, next_ms, None, None, None, None, None, None, None, None, 0, 0, 0, 0,
        b'{"name":"s"}',
    )  # fmt: skip
    return row._replace(**changes)


def fire(store: Store, name: str, due_ms: int, now: int = NOW) -> int | None:
    """What a keeper does about one due time: the job's id, or None if another one was there before."""
    with store.transaction(now) as tx:
        row = tx.schedule(name)
        assert row is not None
        if not tx.claim(name, due_ms, "run"):
            return None
        job_id = tx.insert([Group("fifo", [NewJob(b"1")])])[0].ids[0]
        tx.settle_claim(name, due_ms, "fired", job_id)
        tx.advance_schedule(
            row._replace(handled_ms=due_ms, next_ms=due_ms + 60_000, fires_ms=due_ms + 60_000, last_job_id=job_id)
        )
        return job_id


class Conformance:
    """The suite; every test runs on a fresh database with two owners' handles on it."""

    @pytest.fixture
    def backend(self) -> Backend:
        raise LookupError("a backend's test module gives this fixture")

    @pytest.fixture
    def stores(self, backend: Backend) -> Iterator[list[Store]]:
        opened = [backend.open(), backend.open()]
        yield opened
        for store in opened:
            store.close()

    @pytest.fixture
    def one(self, stores: list[Store]) -> Store:
        return stores[0]

    @pytest.fixture
    def two(self, stores: list[Store]) -> Store:
        return stores[1]

    @pytest.fixture(autouse=True)
    def audited(self, backend: Backend, stores: list[Store]) -> Iterator[None]:
        yield
        assert backend.complaints() == []

    # -- inserting ---------------------------------------------------------------------------------------------

    def test_ids_begin_at_one_and_grow_by_one(self, one: Store, two: Store) -> None:
        assert put(one, b"1", b"2") == [1, 2]
        assert put(two, b"3") == [3]
        assert put(one, b"4") == [4]

    def test_a_new_job_is_queued_and_one_due_later_is_scheduled(self, one: Store) -> None:
        with one.transaction(NOW) as tx:
            jobs = [NewJob(b"0"), NewJob(b"1", due_at_ms=NOW + 1), NewJob(b"2", due_at_ms=NOW)]
            (inserted,) = tx.insert([Group("fifo", jobs)])
        assert (list(inserted.ids), inserted.repeated) == ([1, 2, 3], False)
        assert list(inserted.states) == [State.QUEUED, State.SCHEDULED, State.QUEUED]
        assert states(one, 1, 2, 3) == [State.QUEUED, State.SCHEDULED, State.QUEUED]
        assert counts(one) == {"queued": 2, "scheduled": 1}

    def test_a_leased_job_carries_all_that_was_given_with_it(self, one: Store, two: Store) -> None:
        put(one, NewJob(b'{"a":"\xc3\xa9"}', 7, None, b'{"tags":["x"]}'), queue="priority")
        (job,) = leased(two, "priority", now=NOW + 9).jobs
        assert (job.payload, job.priority, job.options) == (b'{"a":"\xc3\xa9"}', 7, b'{"tags":["x"]}')
        assert (job.attempt, job.enqueued_at_ms, job.due_at_ms, job.previous_error) == (1, NOW, None, None)
        assert job.mark == FRESH

    def test_payloads_come_back_byte_for_byte(self, one: Store) -> None:
        payloads = [b"", b"null", b'"\\u0000\\ud800"', '"\u202e☃😀"'.encode(), b'"' + b"x" * 200_000 + b'"', b'"\x00"']
        put(one, *payloads)
        assert [job.payload for job in leased(one).jobs] == payloads

    def test_groups_of_one_call_are_independent(self, one: Store) -> None:
        with one.transaction(NOW) as tx:
            groups = [Group("fifo", [NewJob(b"1")]), Group("lifo", []), Group("lifo", [NewJob(b"2"), NewJob(b"3")])]
            answers = tx.insert(groups)
        assert [list(answer.ids) for answer in answers] == [[1], [], [2, 3]]
        assert counts(one, "lifo") == {"queued": 2}

    def test_reserved_ids_are_nobody_elses(self, one: Store, two: Store) -> None:
        reserved = asked(one, lambda tx: tx.reserve(5))
        assert list(reserved) == [1, 2, 3, 4, 5]
        assert put(two, b"other") == [6]
        with one.transaction(NOW) as tx:
            (answer,) = tx.insert([Group("fifo", [NewJob(b"mine")] * 2, "k", ids=reserved[:2])])
        assert list(answer.ids) == [1, 2]
        assert put(one, b"next") == [7]
        assert ids_of(lease(two)) == [6, 1, 2, 7]

    # -- request keys ------------------------------------------------------------------------------------------

    def test_a_repeated_group_returns_the_first_ids_and_inserts_nothing(self, one: Store, two: Store) -> None:
        first = put(one, b"1", b"2", key="k")
        with two.transaction(NOW) as tx:
            (again,) = tx.insert([Group("fifo", [NewJob(b"1"), NewJob(b"2")], "k")])
        assert (list(again.ids), again.repeated) == (first, True)
        assert counts(one) == {"queued": 2}

    def test_a_key_repeated_within_one_call_inserts_once(self, one: Store) -> None:
        with one.transaction(NOW) as tx:
            groups = [Group("fifo", [NewJob(b"1")], key) for key in ("a", "b", "a", None, None, "a")]
            answers = tx.insert(groups)
        assert [(list(answer.ids), answer.repeated) for answer in answers] == [
            ([1], False), ([2], False), ([1], True), ([3], False), ([4], False), ([1], True),
        ]  # fmt: skip
        assert counts(one) == {"queued": 4}

    def test_a_key_repeated_in_a_later_call_of_the_transaction_inserts_once(self, one: Store) -> None:
        with one.transaction(NOW) as tx:
            tx.insert([Group("fifo", [NewJob(b"1")], "k")])
            (again,) = tx.insert([Group("fifo", [NewJob(b"1")], "k")])
        assert (list(again.ids), again.repeated) == ([1], True)

    def test_a_key_of_a_transaction_that_was_rolled_back_is_unknown(self, one: Store, two: Store) -> None:
        with pytest.raises(ZeroDivisionError), one.transaction(NOW) as tx:
            tx.insert([Group("fifo", [NewJob(b"1")], "k")])
            raise ZeroDivisionError
        with two.transaction(NOW) as tx:
            (answer,) = tx.insert([Group("fifo", [NewJob(b"1")], "k")])
        assert not answer.repeated

    def test_a_repeated_group_says_where_its_jobs_stand_now(self, one: Store) -> None:
        first = put(one, b"1", b"2", b"3", key="k")
        token = leased(one, jobs=2).token
        complete(one, token, first[0])
        with one.transaction(NOW) as tx:
            (again,) = tx.insert([Group("fifo", [], "k")])
        assert list(again.states) == [State.COMPLETED, State.RUNNING, State.QUEUED]

    def test_an_empty_group_may_have_a_key(self, one: Store) -> None:
        for repeated in (False, True):
            with one.transaction(NOW) as tx:
                (answer,) = tx.insert([Group("fifo", [], "k")])
            assert (list(answer.ids), answer.repeated) == ([], repeated)

    def test_a_key_outlives_the_jobs_that_retention_removed(self, one: Store) -> None:
        first = put(one, b"1", key="k")
        complete(one, leased(one).token, *first)
        assert asked(one, lambda tx: tx.remove(first)) == 1
        with one.transaction(NOW) as tx:
            (again,) = tx.insert([Group("fifo", [NewJob(b"1")], "k")])
        assert (list(again.ids), again.repeated) == (first, True)

    def test_old_keys_are_forgotten_a_few_at_a_time(self, one: Store, two: Store) -> None:
        for index in range(4):
            put(one, b"1", key=f"k{index}", now=NOW + index)
        assert asked(two, lambda tx: tx.forget_requests(NOW + 3, 2)) == 2
        assert asked(two, lambda tx: tx.forget_requests(NOW + 3, 2)) == 1
        assert asked(two, lambda tx: tx.forget_requests(NOW + 3, 2)) == 0
        assert put(one, b"1", key="k3") == [4]
        assert put(one, b"1", key="k0") == [5]

    def test_keys_from_before_a_clock_was_set_right_do_not_stay_for_ever(self, one: Store) -> None:
        far = NOW + 80 * 365 * 86_400_000
        for index in range(3):
            put(one, b"1", key=f"future {index}", now=far)
        put(one, b"1", key="present")
        with one.transaction(NOW + 1_000) as tx:
            assert tx.forget_requests(NOW + 500, 100) == 4

    # -- leasing: order ----------------------------------------------------------------------------------------

    def test_fifo_is_the_order_of_arrival(self, one: Store, two: Store) -> None:
        first, second = put(one, b"1", b"2"), put(two, b"3")
        assert ids_of(lease(one)) == [*first, *second]

    def test_lifo_is_the_newest_first(self, one: Store, two: Store) -> None:
        put(one, b"1", b"2", queue="lifo")
        put(two, b"3", queue="lifo")
        assert ids_of(lease(one, "lifo", jobs=2)) == [3, 2]
        put(two, b"4", queue="lifo")
        assert ids_of(lease(one, "lifo")) == [4, 1]

    def test_priority_is_higher_first_and_then_the_order_of_arrival(self, one: Store) -> None:
        put(one, *(NewJob(b"0", priority) for priority in (0, 5, -100, 5, 100, 0)), queue="priority")
        assert ids_of(lease(one, "priority")) == [5, 2, 4, 1, 6, 3]

    def test_a_lease_takes_no_more_than_asked(self, one: Store, two: Store) -> None:
        put(one, *[b"1"] * 5)
        assert ids_of(lease(one, jobs=2)) == [1, 2]
        assert ids_of(lease(two, jobs=2)) == [3, 4]
        assert ids_of(lease(one, jobs=2)) == [5]
        assert lease(two, jobs=2) is None

    def test_a_lease_is_bounded_by_bytes_but_never_empty(self, one: Store) -> None:
        put(one, b"x" * 50, b"x" * 50, b"x", b"x" * 500, b"x")
        assert ids_of(lease(one, size=100)) == [1, 2]
        assert ids_of(lease(one, size=100)) == [3]
        assert ids_of(lease(one, size=100)) == [4]
        assert ids_of(lease(one, size=0)) == [5]

    def test_tokens_grow_over_all_owners(self, one: Store, two: Store) -> None:
        put(one, *[b"1"] * 4)
        tokens = [leased(store, owner=owner, jobs=1).token for store, owner in ((one, 1), (two, 2), (one, 1), (two, 2))]
        assert tokens == sorted(set(tokens))

    def test_an_unknown_and_an_empty_queue_give_no_lease(self, one: Store) -> None:
        assert lease(one, "never seen") is None
        asked(one, lambda tx: tx.pause("fifo", paused=False))
        assert lease(one) is None

    def test_a_paused_queue_gives_no_lease_to_any_owner(self, one: Store, two: Store) -> None:
        put(one, b"1")
        asked(one, lambda tx: tx.pause("fifo", paused=True))
        assert lease(two) is None
        assert asked(two, lambda tx: tx.paused("fifo")) is True
        asked(two, lambda tx: tx.pause("fifo", paused=False))
        assert ids_of(lease(one)) == [1]

    def test_a_queue_may_be_paused_before_its_first_job(self, one: Store) -> None:
        asked(one, lambda tx: tx.pause("fifo", paused=True))
        put(one, b"1")
        assert lease(one) is None

    def test_queues_do_not_mix(self, one: Store) -> None:
        put(one, b"1")
        put(one, b"2", queue="fifo.b")
        assert ids_of(lease(one, "fifo.b")) == [2]

    def test_an_open_lease_can_be_read_again_with_its_bodies(self, one: Store, two: Store) -> None:
        put(one, NewJob(b"1", 3, None, b"{}"), b"2", b"3", queue="priority")
        given = leased(one, "priority", owner=4)
        complete(one, given.token, 2)
        again = asked(two, lambda tx: tx.leased_jobs(given.token))
        assert again == given._replace(jobs=[job for job in given.jobs if job.id != 2])
        assert asked(two, lambda tx: tx.leased_jobs(given.token + 1)) is None

    # -- settling ----------------------------------------------------------------------------------------------

    def test_a_completed_job_is_completed_for_every_owner(self, one: Store, two: Store) -> None:
        put(one, b"1", b"2")
        token = leased(one).token
        assert complete(one, token, 1) == []
        assert states(two, 1, 2) == [State.COMPLETED, State.RUNNING]
        assert counts(two) == {"completed": 1, "running": 1}

    def test_the_last_end_closes_the_lease(self, one: Store, two: Store) -> None:
        put(one, b"1", b"2")
        token = leased(one).token
        complete(two, token, 1)
        assert list(asked(one, lambda tx: dict(tx.open_leases()))) == [token]
        complete(one, token, 2)
        assert asked(two, lambda tx: dict(tx.open_leases())) == {}

    def test_open_leases_name_their_owner_and_what_they_hold(self, one: Store, two: Store) -> None:
        put(one, *[b"1"] * 3)
        token = leased(one, owner=9).token
        complete(one, token, 2)
        found = asked(two, lambda tx: tx.open_leases()[token])
        assert (found.owner, sorted(found.jobs)) == (9, [1, 3])
        assert {held.attempt for held in found.jobs.values()} == {1}

    @pytest.mark.parametrize("state", [State.DEAD, State.CANCELLED, State.COMPLETED])
    def test_any_final_state_ends_a_leased_job(self, one: Store, two: Store, state: State) -> None:
        put(one, b"1")
        token = leased(one).token
        assert bury(one, token, 1, state)
        assert states(two, 1) == [state]
        assert counts(two) == {state.value: 1}
        assert asked(two, lambda tx: tx.facts([1])[1].history) == FAILED_ONCE

    def test_a_job_that_never_failed_can_be_withdrawn(self, one: Store) -> None:
        put(one, b"1")
        token = leased(one).token
        with one.transaction(NOW) as tx:
            assert tx.finish(token, 1, State.CANCELLED, None, "cancelled", History(), None)
        assert states(one, 1) == [State.CANCELLED]

    def test_an_error_is_remembered_even_if_nothing_was_charged(self, one: Store) -> None:
        put(one, b"1")
        token = leased(one).token
        with one.transaction(NOW) as tx:
            tx.finish(token, 1, State.CANCELLED, NOW, "cancelled", History(), AttemptError("cancelled", "by a client"))
            tx.revive(1)
        assert leased(one).jobs[0].previous_error == b"by a client"

    def test_a_rescheduled_job_waits_for_its_time_and_remembers(self, one: Store, two: Store) -> None:
        put(one, b"1")
        assert fail(one, leased(one).token, 1, NOW + 100)
        assert states(two, 1) == [State.SCHEDULED]
        assert promote(two, NOW + 99) == 0
        assert lease(two) is None
        assert promote(two, NOW + 100) == 1
        (job,) = leased(two).jobs
        assert (job.attempt, job.previous_error) == (2, b"it broke")

    def test_a_retry_counts_as_newly_arrived(self, one: Store, two: Store) -> None:
        put(one, b"1", b"2")
        fail(one, leased(one, jobs=1).token, 1, NOW + 1)
        put(two, b"3")
        promote(one, NOW + 1)
        assert ids_of(lease(two)) == [2, 3, 1]

    def test_retries_keep_their_priority_and_lose_their_turn(self, one: Store) -> None:
        put(one, NewJob(b"1", 5), NewJob(b"2", 5), NewJob(b"3", 1), queue="priority")
        fail(one, leased(one, "priority", jobs=1).token, 1, NOW + 1)
        promote(one, NOW + 1)
        assert ids_of(lease(one, "priority")) == [2, 1, 3]

    def test_a_retry_of_a_lifo_queue_comes_first(self, one: Store) -> None:
        put(one, b"1", b"2", queue="lifo")
        fail(one, leased(one, "lifo", jobs=1).token, 2, NOW + 1)
        put(one, b"3", queue="lifo")
        promote(one, NOW + 1)
        assert ids_of(lease(one, "lifo")) == [2, 3, 1]

    def test_a_released_job_has_the_place_it_had(self, one: Store, two: Store) -> None:
        put(one, *[b"1"] * 4)
        first, second = leased(one, jobs=2), leased(two, jobs=1)
        with two.transaction(NOW) as tx:
            assert tx.release(first.token, [2, 99, 4, 2]) == [2]
            assert tx.release(second.token, [3]) == [3]
        assert ids_of(lease(one)) == [2, 3, 4]
        assert complete(one, first.token, 1) == []

    @pytest.mark.parametrize("queue", ["lifo", "priority"])
    def test_released_jobs_keep_their_rank_in_every_order(self, one: Store, queue: str) -> None:
        put(one, *(NewJob(b"1", index % 3) for index in range(6)), queue=queue)
        order = ids_of(lease(one, queue))
        with one.transaction(NOW) as tx:
            (token,) = tx.open_leases()
            tx.release(token, reversed(order))
        assert ids_of(lease(one, queue)) == order

    def test_an_interrupted_job_has_the_place_it_had_and_counts_it(self, one: Store, two: Store) -> None:
        put(one, b"1", b"2")
        token = leased(one, jobs=1).token
        with one.transaction(NOW) as tx:
            assert tx.interrupt(token, 1, History(interruptions=1), AttemptError("interrupted", "shutdown"))
        assert ids_of(lease(two)) == [1, 2]
        facts = asked(two, lambda tx: tx.facts([1])[1])
        assert facts.history == History(interruptions=1)

    def test_an_interrupted_retry_keeps_the_rank_of_the_retry(self, one: Store) -> None:
        put(one, b"1", b"2", b"3")
        fail(one, leased(one, jobs=1).token, 1, NOW + 1)
        promote(one, NOW + 1)
        given = leased(one)
        assert ids_of(given) == [2, 3, 1]
        with one.transaction(NOW) as tx:
            tx.interrupt(given.token, 1, History(1, 0, 1), AttemptError("interrupted", "reload"))
            tx.release(given.token, [2, 3])
        again = leased(one)
        assert ids_of(again) == [2, 3, 1]
        assert again.jobs[2].attempt == 2

    # -- solo --------------------------------------------------------------------------------------------------

    def test_a_solo_job_is_leased_alone_wherever_it_stands(self, one: Store, two: Store) -> None:
        put(one, b"1", b"2")
        fail(one, leased(one, jobs=1).token, 1, NOW + 1, History(crashes=1), solo=True)
        put(one, b"3")
        promote(one, NOW + 1)
        put(one, b"4")
        assert ids_of(lease(two)) == [2, 3]
        alone = leased(two)
        assert ([job.id for job in alone.jobs], alone.jobs[0].mark) == ([1], SOLO)
        assert ids_of(lease(two)) == [4]

    def test_solo_survives_release_interruption_snooze_and_move(self, one: Store, two: Store) -> None:
        put(one, b"1", b"2", b"3")
        fail(one, leased(one, jobs=1).token, 1, NOW + 1, History(crashes=1), solo=True)
        with one.transaction(NOW) as tx:
            tx.cancel(2)
        promote(one, NOW + 1)
        assert ids_of(lease(one)) == [3]
        with one.transaction(NOW) as tx:
            given = tx.lease("fifo", 1, 100, PLENTY)
            assert ids_of(given) == [1]
            tx.release(given.token, [1])
        put(one, b"4")
        given = leased(two)
        assert ids_of(given) == [1]
        with two.transaction(NOW) as tx:
            tx.interrupt(given.token, 1, History(0, 1, 1), AttemptError("interrupted", "shutdown"))
        given = leased(one)
        assert ids_of(given) == [1]
        with one.transaction(NOW) as tx:
            tx.reschedule(given.token, 1, NOW + 1, History(0, 1, 1), None, solo=True)
        promote(one, NOW + 1)
        assert asked(one, lambda tx: tx.move("fifo", "fifo.b", [1, 4])) == 2
        assert ids_of(lease(one, "fifo.b")) == [1]
        assert ids_of(lease(one, "fifo.b")) == [4]

    def test_an_interrupted_job_may_be_leased_alone_from_then_on(self, one: Store, two: Store) -> None:
        put(one, b"1", b"2", b"3")
        token = leased(one, jobs=2).token
        with one.transaction(NOW) as tx:
            for job_id in (1, 2):
                assert tx.interrupt(token, job_id, History(interruptions=1), ERROR, solo=True)
            assert not tx.interrupt(token, 1, History(interruptions=2), ERROR, solo=True)
        assert asked(two, lambda tx: tx.solo_next("fifo"))
        assert [ids_of(lease(two)), ids_of(lease(one)), ids_of(lease(two))] == [[1], [2], [3]]
        assert not asked(one, lambda tx: tx.solo_next("fifo"))

    @pytest.mark.parametrize("queue", ["fifo", "fair"])
    def test_who_must_come_alone_is_told_of_the_first_job_only(self, one: Store, queue: str) -> None:
        assert not asked(one, lambda tx: tx.solo_next(queue)), "a queue that nobody knows"
        put(one, b"1", b"2", queue=queue)
        given = leased(one, queue, jobs=1)
        fail(one, given.token, 1, NOW + 1, History(crashes=1), solo=True)
        promote(one, NOW + 1)
        assert not asked(one, lambda tx: tx.solo_next(queue))
        assert ids_of(lease(one, queue)) == [2]
        assert asked(one, lambda tx: tx.solo_next(queue))
        assert ids_of(lease(one, queue)) == [1]
        assert not asked(one, lambda tx: tx.solo_next(queue)), "none is left"

    def test_the_queues_that_have_something_are_told_with_how_much(self, one: Store) -> None:
        assert asked(one, lambda tx: tx.active_of("fifo")) == {}
        put(one, b"1")
        put(one, b"2")
        assert asked(one, lambda tx: tx.active_of("fifo")) == {"fifo": 2}
        assert ids_of(lease(one, jobs=1)) == [1]
        assert asked(one, lambda tx: tx.active_of("fifo")) == {"fifo": 1}
        assert ids_of(lease(one)) == [2]
        assert lease(one) is None
        assert asked(one, lambda tx: tx.active_of("fifo")) == {}

    def test_a_revived_suspect_is_no_suspect_any_more(self, one: Store) -> None:
        put(one, b"1")
        fail(one, leased(one).token, 1, NOW + 1, History(crashes=1), solo=True)
        asked(one, lambda tx: tx.revive(1))
        put(one, b"2")
        assert ids_of(lease(one)) == [1, 2]

    def test_who_may_not_lease_a_solo_job_leases_nothing_while_it_is_next(self, one: Store, two: Store) -> None:
        put(one, b"1")
        fail(one, leased(one).token, 1, NOW + 1, History(crashes=1), solo=True)
        promote(one, NOW + 1)
        put(one, b"2")
        assert asked(two, lambda tx: tx.lease("fifo", 2, 100, PLENTY, solo=False)) is None
        assert counts(two) == {"queued": 2}
        assert ids_of(asked(two, lambda tx: tx.lease("fifo", 2, 100, PLENTY, solo=True))) == [1]
        assert ids_of(asked(two, lambda tx: tx.lease("fifo", 2, 100, PLENTY, solo=False))) == [2]

    def test_how_many_wait_is_known_to_every_owner(self, one: Store, two: Store) -> None:
        def waiting(store: Store) -> int:
            with store.transaction(NOW) as tx:
                return tx.waiting("fifo")

        assert waiting(one) == 0
        put(one, *[b"1"] * 3, NewJob(b"4", due_at_ms=NOW + 1))
        assert (waiting(one), waiting(two)) == (3, 3)
        leased(two, jobs=2)
        assert (waiting(one), waiting(two)) == (1, 1)
        with pytest.raises(ZeroDivisionError), one.transaction(NOW) as tx:
            tx.insert([Group("fifo", [NewJob(b"5")])])
            assert tx.waiting("fifo") == 2
            raise ZeroDivisionError
        assert (waiting(one), waiting(two)) == (1, 1)
        asked(two, lambda tx: tx.pause("fifo", paused=True))
        assert (waiting(one), waiting(two)) == (0, 0)

    # -- stale reports -----------------------------------------------------------------------------------------

    @pytest.mark.parametrize("how", ["never given", "closed", "another's", "ended", "released"])
    def test_a_stale_report_changes_nothing(self, one: Store, two: Store, backend: Backend, how: str) -> None:
        put(one, b"1", b"2", b"3")
        mine, other = leased(one, jobs=2), leased(two, jobs=1)
        token, job_id = mine.token, 1
        if how == "never given":
            token = 1_000
        if how == "closed":
            complete(two, other.token, 3)
            token, job_id = other.token, 3
        if how == "another's":
            token = other.token
        if how == "ended":
            complete(one, mine.token, 1)
        if how == "released":
            asked(one, lambda tx: tx.release(mine.token, [1]))
        before = (backend.places(), counts(one), asked(two, lambda tx: tx.facts([1, 2, 3])))
        for store in (one, two):
            assert complete(store, token, job_id) == [job_id]
            assert not bury(store, token, job_id)
            assert not fail(store, token, job_id, NOW + 1)
            with store.transaction(NOW) as tx:
                assert not tx.interrupt(token, job_id, History(interruptions=1), ERROR)
                assert tx.release(token, [job_id]) == []
        assert (backend.places(), counts(one), asked(two, lambda tx: tx.facts([1, 2, 3]))) == before

    def test_a_stopped_worker_that_wakes_up_changes_nothing(self, one: Store, two: Store) -> None:
        put(one, b"1")
        old = leased(one, owner=1)
        fail(one, old.token, 1, NOW + 1)
        promote(one, NOW + 1)
        new = leased(two, owner=2)
        assert complete(one, old.token, 1) == [1]
        assert states(two, 1) == [State.RUNNING]
        assert complete(two, new.token, 1) == []
        assert complete(one, old.token, 1) == [1]

    def test_only_the_stale_of_a_batch_are_refused(self, one: Store) -> None:
        put(one, *[b"1"] * 4)
        token = leased(one, jobs=3).token
        complete(one, token, 2)
        assert complete(one, token, 1, 2, 4, 3, 3, 77) == [2, 4, 3, 77]
        assert counts(one) == {"completed": 3, "queued": 1}

    def test_stale_reports_are_counted_over_all_owners(self, one: Store, two: Store) -> None:
        asked(one, lambda tx: tx.count_stale(2))
        asked(two, lambda tx: tx.count_stale(3))
        assert asked(one, lambda tx: tx.setting("stale")) == 5

    # -- leases that once held a job ---------------------------------------------------------------------------

    @pytest.mark.parametrize("end", ["complete", "bury", "fail", "release", "interrupt"])
    def test_what_left_a_lease_is_not_held_by_it_after_a_reload(
        self, one: Store, two: Store, backend: Backend, end: str
    ) -> None:
        put(one, *[b"1"] * 3)
        token = leased(one).token
        with one.transaction(NOW) as tx:
            if end == "complete":
                tx.complete(token, done(2))
            if end == "bury":
                tx.finish(token, 2, State.DEAD, NOW, "rejected", FAILED_ONCE, ERROR)
            if end == "fail":
                tx.reschedule(token, 2, NOW + 1, FAILED_ONCE, ERROR, solo=False)
            if end == "release":
                tx.release(token, [2])
            if end == "interrupt":
                tx.interrupt(token, 2, History(interruptions=1), ERROR)
        assert sorted(asked(two, lambda tx: tx.open_leases()[token].jobs)) == [1, 3]
        third = backend.open()
        assert sorted(asked(third, lambda tx: tx.open_leases()[token].jobs)) == [1, 3]
        third.close()

    def test_a_revived_job_is_not_held_by_the_lease_that_finished_it(
        self, one: Store, two: Store, backend: Backend
    ) -> None:
        put(one, b"1", b"2")
        old = leased(one).token
        complete(one, old, 1)
        asked(two, lambda tx: tx.revive(1))
        assert states(one, 1, 2) == [State.QUEUED, State.RUNNING]
        third = backend.open()
        assert sorted(asked(third, lambda tx: tx.open_leases()[old].jobs)) == [2]
        new = leased(third)
        third.close()
        assert ids_of(new) == [1]
        assert complete(one, old, 1) == [1]
        assert states(one, 1) == [State.RUNNING]

    def test_a_removed_job_is_not_held_by_the_lease_that_finished_it(
        self, one: Store, two: Store, backend: Backend
    ) -> None:
        put(one, b"1", b"2")
        token = leased(one).token
        complete(one, token, 1)
        assert asked(two, lambda tx: tx.remove([1])) == 1
        third = backend.open()
        assert sorted(asked(third, lambda tx: tx.open_leases()[token].jobs)) == [2]
        third.close()
        with one.transaction(NOW) as tx:
            assert tx.release(token, [1, 2]) == [2]
        assert counts(one) == {"queued": 1}

    def test_a_job_retried_under_the_same_open_lease_is_held_once(self, one: Store, two: Store) -> None:
        put(one, b"1", b"2")
        old = leased(one).token
        fail(one, old, 1, NOW + 1)
        promote(two, NOW + 1)
        new = leased(two).token
        held = asked(one, lambda tx: {token: sorted(lease.jobs) for token, lease in tx.open_leases().items()})
        assert held == {old: [2], new: [1]}
        complete(two, new, 1)
        complete(one, old, 2)
        assert asked(one, lambda tx: dict(tx.open_leases())) == {}

    # -- time --------------------------------------------------------------------------------------------------

    def test_due_jobs_become_ready_in_the_order_of_their_times(self, one: Store, two: Store) -> None:
        put(one, *(NewJob(b"1", due_at_ms=NOW + due) for due in (30, 10, 20, 10)))
        assert asked(two, lambda tx: tx.next_due_ms()) == NOW + 10
        assert promote(two, NOW + 29) == 3
        assert asked(one, lambda tx: tx.next_due_ms()) == NOW + 30
        assert ids_of(lease(one)) == [2, 4, 3]

    def test_a_promoted_job_comes_after_those_that_waited(self, one: Store) -> None:
        put(one, NewJob(b"1", due_at_ms=NOW + 1))
        put(one, b"2")
        promote(one, NOW + 5)
        (first, second) = leased(one).jobs
        assert (first.id, second.id, second.attempt, second.due_at_ms) == (2, 1, 1, NOW + 1)

    def test_promotion_is_bounded(self, one: Store) -> None:
        put(one, *(NewJob(b"1", due_at_ms=NOW + due) for due in range(1, 6)))
        assert [promote(one, NOW + 9, 2) for _ in range(4)] == [2, 2, 1, 0]
        assert asked(one, lambda tx: tx.next_due_ms()) is None

    def test_a_clock_set_back_promotes_nothing_and_loses_nothing(self, one: Store) -> None:
        put(one, NewJob(b"1", due_at_ms=NOW + 10))
        assert promote(one, NOW - 10**9) == 0
        assert states(one, 1) == [State.SCHEDULED]
        assert promote(one, NOW + 10) == 1

    # -- cancelling and reviving -------------------------------------------------------------------------------

    def test_a_waiting_job_is_cancelled_at_once(self, one: Store, two: Store) -> None:
        put(one, b"1", NewJob(b"2", due_at_ms=NOW + 1))
        assert asked(one, lambda tx: [tx.cancel(1), tx.cancel(2)]) == [State.CANCELLED, State.CANCELLED]
        assert promote(two, NOW + 1) == 0
        assert lease(two) is None
        assert counts(two) == {"cancelled": 2}

    def test_a_running_job_is_cancelled_when_its_run_ends(self, one: Store, two: Store) -> None:
        put(one, b"1")
        given = leased(one)
        with two.transaction(NOW + 3) as tx:
            assert tx.cancel(1) == State.RUNNING
        facts = asked(one, lambda tx: tx.facts([1])[1])
        assert facts.cancel_at_ms == NOW + 3
        assert bury(one, given.token, 1, State.CANCELLED)
        assert states(two, 1) == [State.CANCELLED]

    @pytest.mark.parametrize("how", ["release", "interrupt", "fail"])
    def test_a_wish_to_cancel_is_not_forgotten_when_the_job_comes_back(self, one: Store, two: Store, how: str) -> None:
        put(one, b"1")
        given = leased(one)
        with two.transaction(NOW + 3) as tx:
            tx.cancel(1)
        with one.transaction(NOW) as tx:
            if how == "release":
                tx.release(given.token, [1])
            if how == "interrupt":
                tx.interrupt(given.token, 1, History(interruptions=1), ERROR)
            if how == "fail":
                tx.reschedule(given.token, 1, NOW, FAILED_ONCE, ERROR, solo=False)
        promote(one, NOW)
        assert asked(two, lambda tx: tx.facts([1])[1].cancel_at_ms) == NOW + 3
        leased(two)
        assert states(two, 1) == [State.RUNNING]

    def test_a_revived_job_is_not_to_be_cancelled_any_more(self, one: Store) -> None:
        put(one, b"1")
        given = leased(one)
        asked(one, lambda tx: tx.cancel(1))
        bury(one, given.token, 1, State.CANCELLED)
        asked(one, lambda tx: tx.revive(1))
        assert asked(one, lambda tx: tx.facts([1])[1].cancel_at_ms) is None

    def test_a_final_job_cannot_be_cancelled(self, one: Store, backend: Backend) -> None:
        put(one, b"1")
        complete(one, leased(one).token, 1)
        before = backend.places()
        with one.transaction(NOW) as tx, pytest.raises(IllegalTransition):
            tx.cancel(1)
        assert backend.places() == before

    @pytest.mark.parametrize("where", ["moved", "promoted", "interrupted", "released", "revived", "snoozed", "retried"])
    def test_a_waiting_job_is_found_for_cancelling_wherever_it_came_from(
        self, one: Store, two: Store, where: str
    ) -> None:
        put(one, NewJob(b"1", due_at_ms=NOW + 1 if where == "promoted" else None), b"2")
        with one.transaction(NOW + 1) as tx:
            if where == "promoted":
                tx.promote(10)
            elif where == "moved":
                tx.move("fifo", "lifo", [1])
            else:
                given = tx.lease("fifo", 1, 1, PLENTY)
                if where == "interrupted":
                    tx.interrupt(given.token, 1, History(interruptions=1), ERROR)
                if where == "released":
                    tx.release(given.token, [1])
                if where == "revived":
                    tx.complete(given.token, done(1))
                    tx.revive(1)
                if where == "snoozed":
                    tx.reschedule(given.token, 1, NOW + 50, History(), None, solo=False)
                if where == "retried":
                    tx.reschedule(given.token, 1, NOW + 1, FAILED_ONCE, ERROR, solo=False)
                    tx.promote(10)
        assert asked(two, lambda tx: tx.cancel(1)) == State.CANCELLED
        assert promote(two, NOW + 10**6) == 0
        assert ids_of(lease(two)) == [2]
        assert lease(two, "lifo") is None

    @pytest.mark.parametrize("end", [State.COMPLETED, State.DEAD, State.CANCELLED, State.SCHEDULED])
    def test_a_final_or_scheduled_job_is_revived_with_fresh_budgets(self, one: Store, two: Store, end: State) -> None:
        put(one, b"1", b"2")
        given = leased(one, jobs=1)
        if end is State.SCHEDULED:
            fail(one, given.token, 1, NOW + 10**6, History(2, 1, 3), solo=True)
        else:
            bury(one, given.token, 1, end)
        asked(two, lambda tx: tx.revive(1))
        assert counts(one) == {"queued": 2}
        again = leased(one)
        assert [(job.id, job.attempt, job.mark == SOLO) for job in again.jobs] == [(2, 1, False), (1, 1, False)]
        assert asked(one, lambda tx: tx.facts([1])[1].history) == History()
        assert complete(two, again.token, 1, 2) == []

    def test_a_job_that_never_ran_can_be_hurried(self, one: Store) -> None:
        put(one, NewJob(b"1", due_at_ms=NOW + 10**6))
        asked(one, lambda tx: tx.revive(1))
        assert ids_of(lease(one)) == [1]
        assert asked(one, lambda tx: tx.next_due_ms()) is None

    def test_a_queued_or_running_job_cannot_be_revived(self, one: Store) -> None:
        put(one, b"1", b"2")
        leased(one, jobs=1)
        for job_id in (1, 2):
            with one.transaction(NOW) as tx, pytest.raises(IllegalTransition):
                tx.revive(job_id)
        assert counts(one) == {"queued": 1, "running": 1}

    @pytest.mark.parametrize("job_id", [0, -1, 2, 2**53, 2**70])
    def test_what_is_no_job_is_said_to_be_none(self, one: Store, job_id: int) -> None:
        put(one, b"1")
        with one.transaction(NOW) as tx:
            assert tx.standing([job_id, 1]).keys() == {1}
            assert tx.facts([job_id, 1]).keys() == {1}
            with pytest.raises(UnknownJob):
                tx.cancel(job_id)
            with pytest.raises(UnknownJob):
                tx.revive(job_id)
            assert tx.remove([job_id]) == 0
            assert tx.move("fifo", "lifo", [job_id]) == 0

    # -- moving ------------------------------------------------------------------------------------------------

    def test_waiting_jobs_move_and_arrive_newly_in_the_order_of_the_list(self, one: Store, two: Store) -> None:
        put(one, *[b"1"] * 4)
        put(one, b"5", queue="fifo.b")
        assert asked(two, lambda tx: tx.move("fifo", "fifo.b", [3, 1, 3])) == 2
        assert ids_of(lease(one, "fifo.b")) == [5, 3, 1]
        assert ids_of(lease(one)) == [2, 4]

    def test_a_moved_job_is_ranked_by_its_new_queue(self, one: Store) -> None:
        put(one, NewJob(b"1", 1), NewJob(b"2", 9), NewJob(b"3", 5))
        asked(one, lambda tx: tx.move("fifo", "priority", [1, 2, 3]))
        assert ids_of(lease(one, "priority")) == [2, 3, 1]

    def test_running_jobs_do_not_move(self, one: Store) -> None:
        put(one, b"1", b"2")
        token = leased(one, jobs=1).token
        assert asked(one, lambda tx: tx.move("fifo", "lifo", [1, 2])) == 1
        assert complete(one, token, 1) == []
        assert (counts(one), counts(one, "lifo")) == ({"completed": 1}, {"queued": 1})

    def test_scheduled_and_final_jobs_move_with_their_counts(self, one: Store, two: Store) -> None:
        put(one, b"1", NewJob(b"2", due_at_ms=NOW + 5), b"3")
        token = leased(one, jobs=1).token
        bury(one, token, 1)
        fail(one, leased(one, jobs=1).token, 3, NOW + 3)
        assert asked(two, lambda tx: tx.move("fifo", "lifo", [1, 2, 3])) == 3
        assert (counts(one), counts(one, "lifo")) == ({}, {"dead": 1, "scheduled": 2})
        promote(one, NOW + 5)
        assert ids_of(lease(one, "lifo")) == [2, 3]

    def test_a_final_job_moves_while_the_lease_that_finished_it_is_open(
        self, one: Store, two: Store, backend: Backend
    ) -> None:
        put(one, b"1", b"2")
        token = leased(one).token
        complete(one, token, 1)
        asked(one, lambda tx: tx.move("fifo", "lifo", [1]))
        asked(two, lambda tx: tx.revive(1))
        third = backend.open()
        assert ids_of(lease(third, "lifo")) == [1]
        third.close()
        assert complete(one, token, 2, 1) == [1]

    def test_jobs_of_another_queue_do_not_move(self, one: Store) -> None:
        put(one, b"1", queue="lifo")
        assert asked(one, lambda tx: tx.move("fifo", "fifo.b", [1])) == 0
        assert counts(one, "lifo") == {"queued": 1}

    def test_the_ids_of_a_queue_are_listed_in_pages(self, one: Store) -> None:
        put(one, *[b"1"] * 3)
        put(one, b"4", queue="lifo")
        put(one, b"5")
        pages = []
        with one.transaction(NOW) as tx:
            while page := tx.ids_of("fifo", pages[-1] if pages else 0, 2):
                pages.extend(page)
            assert tx.ids_of("never seen", 0, 2) == []
        assert pages == [1, 2, 3, 5]

    # -- removing ----------------------------------------------------------------------------------------------

    def test_only_final_jobs_are_removed_and_ids_are_never_used_again(self, one: Store, two: Store) -> None:
        put(one, b"1", b"2", NewJob(b"3", due_at_ms=NOW + 1), b"4")
        token = leased(one, jobs=2).token
        bury(one, token, 1)
        assert asked(two, lambda tx: tx.remove([1, 2, 3, 4, 1])) == 1
        assert states(one, 1, 2, 3, 4) == [None, State.RUNNING, State.SCHEDULED, State.QUEUED]
        assert put(one, b"5") == [5]
        asked(one, lambda tx: [tx.cancel(5), tx.remove([5])])
        assert put(two, b"6") == [6]

    def test_a_store_that_lost_all_its_jobs_still_gives_new_ids(self, one: Store, backend: Backend) -> None:
        put(one, b"1", b"2")
        complete(one, leased(one).token, 1, 2)
        asked(one, lambda tx: tx.remove([1, 2]))
        third = backend.open()
        assert put(third, b"3") == [3]
        third.close()

    def test_final_jobs_are_listed_in_pages(self, one: Store, two: Store) -> None:
        put(one, *[b"1"] * 4)
        given = leased(one)
        complete(one, given.token, 4, 1)
        bury(one, given.token, 2)
        first, last = asked(two, lambda tx: tx.finished_after(0, 2, NOW + 6))
        assert last == 2
        assert [(job.id, job.queue, job.state, job.finished_at_ms) for job in first] == [
            (1, "fifo", State.COMPLETED, NOW + 5),
            (2, "fifo", State.DEAD, NOW),
        ]
        second, last = asked(two, lambda tx: tx.finished_after(2, 2, NOW + 6))
        assert ([job.id for job in second], last) == ([4], 4)
        assert asked(two, lambda tx: tx.finished_after(4, 2, NOW + 6)) == ([], 0)

    def test_final_jobs_that_are_too_young_are_passed_over(self, one: Store, two: Store) -> None:
        put(one, *[b"1"] * 3)
        given = leased(one)
        complete(one, given.token, 1, 3)
        bury(one, given.token, 2)
        page, last = asked(two, lambda tx: tx.finished_after(0, 9, NOW + 5))
        assert ([job.id for job in page], last) == ([2], 3)

    def test_dead_jobs_are_listed_in_pages(self, one: Store, two: Store) -> None:
        put(one, *[b"1"] * 6)
        given = leased(one)
        for job_id in (2, 4, 5):
            bury(one, given.token, job_id)
        bury(one, given.token, 3, State.CANCELLED)
        complete(one, given.token, 1)
        first = asked(two, lambda tx: tx.dead_after(0, 2))
        assert [(job.id, job.state) for job in first] == [(2, State.DEAD), (4, State.DEAD)]
        assert [job.id for job in asked(two, lambda tx: tx.dead_after(4, 2))] == [5]

    # -- owners and settings -----------------------------------------------------------------------------------

    def test_an_owner_is_stored_with_how_far_its_ring_was_read(self, one: Store, two: Store) -> None:
        owner = Owner("host", "boot", 1, 7, 42, "fifo", "/run/slots/7", 100, 200)
        stored = asked(one, lambda tx: tx.own(owner))
        asked(two, lambda tx: tx.advance(stored, 17, 4096))
        again = asked(two, lambda tx: tx.own(owner._replace(pid=101, start_time=201)))
        assert again == stored
        assert asked(one, lambda tx: tx.owners()) == [
            owner._replace(id=stored, pid=101, start_time=201, read_sequence=17, read_offset=4096)
        ]
        asked(one, lambda tx: tx.disown(stored))
        assert asked(two, lambda tx: tx.owners()) == []

    def test_an_owners_id_is_never_given_to_another(self, one: Store, two: Store) -> None:
        owner = Owner("host", "boot", 1, 7, 42, "fifo", "/run/slots/7", 100, 200)
        first = asked(one, lambda tx: tx.own(owner))
        asked(one, lambda tx: tx.disown(first))
        assert asked(two, lambda tx: tx.own(owner._replace(incarnation=43))) > first

    def test_the_read_position_is_stored_with_what_was_read_or_not_at_all(self, one: Store, two: Store) -> None:
        put(one, b"1")
        owner = asked(one, lambda tx: tx.own(Owner("h", "b", 1, 1, 1, "fifo", "d", 1, 1)))
        token = leased(one, owner=owner).token
        with pytest.raises(ZeroDivisionError), one.transaction(NOW) as tx:
            tx.complete(token, done(1))
            tx.advance(owner, 1, 64)
            raise ZeroDivisionError
        assert asked(two, lambda tx: tx.owners()[0].read_sequence) == 0
        assert states(two, 1) == [State.RUNNING]

    def test_settings_are_stored(self, one: Store, two: Store) -> None:
        assert asked(one, lambda tx: tx.setting("prune_after")) == 0
        asked(one, lambda tx: tx.set_setting("prune_after", 5))
        assert asked(two, lambda tx: tx.setting("prune_after")) == 5

    # -- schedules ---------------------------------------------------------------------------------------------

    def test_a_schedule_comes_back_as_it_was_stored(self, one: Store, two: Store) -> None:
        full = a_schedule(
            paused=True, outage=b"[1,2,3,4,5]", waiting_ms=5, last_job_id=7, last_due_ms=8, last_fired_ms=9,
            outcome="fired", outcome_ms=10, reason="why", fired=1, skipped=2, missed=3, failed=4,
        )  # fmt: skip
        asked(one, lambda tx: tx.define_schedule(full))
        assert asked(two, lambda tx: tx.schedule("s")) == full
        assert asked(two, lambda tx: tx.schedule("t")) is None
        again = a_schedule(origin="runtime", definition=b"{}", handled_ms=NOW)
        asked(two, lambda tx: tx.define_schedule(again))
        assert asked(one, lambda tx: tx.schedule("s")) == again
        assert asked(one, lambda tx: tx.schedules_count()) == 1

    def test_advancing_a_schedule_leaves_what_it_is(self, one: Store, two: Store) -> None:
        asked(one, lambda tx: tx.define_schedule(a_schedule()))
        moved = a_schedule(next_ms=NOW + 5, fired=1, handled_ms=NOW, outcome="fired", paused=True, definition=b"x")
        asked(one, lambda tx: tx.advance_schedule(moved))
        assert asked(two, lambda tx: tx.schedule("s")) == moved._replace(paused=False, definition=b'{"name":"s"}')

    def test_how_far_a_schedule_is_decided_never_goes_back(self, one: Store, two: Store) -> None:
        asked(one, lambda tx: tx.define_schedule(a_schedule(handled_ms=NOW)))
        asked(two, lambda tx: tx.advance_schedule(a_schedule(handled_ms=NOW - 5)))
        found = asked(one, lambda tx: tx.schedule("s"))
        assert found is not None
        assert found.handled_ms == NOW

    def test_schedules_are_listed_in_pages(self, one: Store, two: Store) -> None:
        with one.transaction(NOW) as tx:
            for name in ("b", "a", "c"):
                tx.define_schedule(a_schedule(name))
        assert [row.name for row in asked(two, lambda tx: tx.schedules("", 2))] == ["a", "b"]
        assert [row.name for row in asked(two, lambda tx: tx.schedules("b", 2))] == ["c"]

    def test_what_is_due_is_found_in_the_order_of_its_time(self, one: Store, two: Store) -> None:
        with one.transaction(NOW) as tx:
            tx.define_schedule(a_schedule("later", NOW + 1))
            tx.define_schedule(a_schedule("now", NOW))
            tx.define_schedule(a_schedule("past", NOW - 1))
            tx.define_schedule(a_schedule("never", None))
        assert asked(two, lambda tx: [row.name for row in tx.due_schedules(9)]) == ["past", "now"]
        assert asked(two, lambda tx: [row.name for row in tx.due_schedules(1)]) == ["past"]
        assert asked(two, lambda tx: tx.next_fire_ms()) == NOW - 1
        for name in ("past", "now", "later"):
            asked(one, lambda tx, name=name: tx.remove_schedule(name))
        assert asked(two, lambda tx: tx.next_fire_ms()) is None

    def test_two_owners_racing_for_a_due_time_make_one_job(self, one: Store, two: Store) -> None:
        asked(one, lambda tx: tx.define_schedule(a_schedule()))
        seen = [asked(store, lambda tx: [row.name for row in tx.due_schedules(9)]) for store in (one, two)]
        assert seen == [["s"], ["s"]], "both of them mean to"
        assert [fire(one, "s", NOW), fire(two, "s", NOW), fire(one, "s", NOW)] == [1, None, None]
        assert [fire(two, "s", NOW + 60_000), fire(one, "s", NOW + 60_000)] == [2, None]
        assert counts(two) == {"queued": 2}
        assert [claim[:2] for claim in asked(two, lambda tx: tx.claims("s", 9))] == [
            (NOW + 60_000, "fired"),
            (NOW, "fired"),
        ]

    def test_owners_who_take_turns_and_die_make_one_job_for_each_due_time(
        self, one: Store, two: Store, backend: Backend
    ) -> None:
        asked(one, lambda tx: tx.define_schedule(a_schedule()))
        for turn in range(30):
            due_ms = NOW + turn * 60_000
            victim = backend.open()
            with pytest.raises(StoreError), victim.transaction(NOW) as tx:
                assert tx.claim("s", due_ms, "run")
                tx.insert([Group("fifo", [NewJob(b"1")])])
                backend.crash(victim)
            made = [fire(store, "s", due_ms) for store in ((one, two), (two, one))[turn % 2]]
            assert made == [turn + 1, None]

    def test_a_due_time_stays_claimed_however_soon_its_job_is_gone(self, one: Store, two: Store) -> None:
        asked(one, lambda tx: tx.define_schedule(a_schedule()))
        assert fire(one, "s", NOW) == 1
        complete(one, leased(one).token, 1)
        assert asked(one, lambda tx: tx.remove([1])) == 1
        assert fire(two, "s", NOW) is None
        assert fire(two, "s", NOW - 60_000) is None, "nor does an earlier one open again"

    def test_claims_are_bounded_and_still_close_what_is_past(self, one: Store, two: Store) -> None:
        asked(one, lambda tx: tx.define_schedule(a_schedule()))
        for turn in range(50):
            assert fire(one, "s", NOW + turn * 60_000) == turn + 1
        kept = asked(two, lambda tx: tx.claims("s", 100))
        assert len(kept) == 20
        assert kept[0].due_ms == NOW + 49 * 60_000
        assert [fire(two, "s", NOW + turn * 60_000) for turn in range(50)] == [None] * 50

    def test_a_schedule_that_comes_again_under_its_name_opens_no_past_due_time(self, one: Store, two: Store) -> None:
        asked(one, lambda tx: tx.define_schedule(a_schedule()))
        for turn in range(3):
            fire(one, "s", NOW + turn * 60_000)
        asked(one, lambda tx: tx.remove_schedule("s"))
        assert asked(two, lambda tx: tx.schedule("s")) is None
        asked(two, lambda tx: tx.define_schedule(a_schedule()))
        assert [fire(store, "s", NOW + 120_000) for store in (one, two)] == [None, None]
        assert len(asked(two, lambda tx: tx.claims("s", 9))) == 1

    def test_names_of_removed_schedules_are_forgotten_after_a_month(self, one: Store, two: Store) -> None:
        for name in ("gone", "kept", "other"):
            asked(one, lambda tx, name=name: tx.define_schedule(a_schedule(name)))
            fire(one, name, NOW)
        asked(one, lambda tx: tx.remove_schedule("gone"))
        with two.transaction(NOW + 31 * 86_400_000) as tx:
            tx.remove_schedule("other")
            assert [len(tx.claims(name, 9)) for name in ("gone", "kept", "other")] == [0, 1, 0]

    def test_claims_of_a_transaction_that_was_rolled_back_are_free(self, one: Store, two: Store) -> None:
        asked(one, lambda tx: tx.define_schedule(a_schedule()))
        with pytest.raises(ZeroDivisionError), one.transaction(NOW) as tx:
            assert tx.claim("s", NOW, "run")
            raise ZeroDivisionError
        assert fire(two, "s", NOW) == 1

    # -- transactions ------------------------------------------------------------------------------------------

    def test_nothing_of_a_transaction_that_raises_is_stored(self, one: Store, two: Store, backend: Backend) -> None:
        put(one, *[b"1"] * 5, NewJob(b"6", due_at_ms=NOW + 1))
        token = leased(one, jobs=3).token
        complete(one, token, 3)
        before = (backend.places(), counts(two), asked(two, lambda tx: dict(tx.open_leases())))
        with pytest.raises(ZeroDivisionError), one.transaction(NOW + 1) as tx:
            everything(tx, token)
            raise ZeroDivisionError
        for store in (one, two):
            assert (backend.places(), counts(store), asked(store, lambda tx: dict(tx.open_leases()))) == before

    def test_the_same_verbs_work_after_a_transaction_that_raised(self, one: Store, two: Store) -> None:
        put(one, *[b"1"] * 5, NewJob(b"6", due_at_ms=NOW + 1))
        token = leased(one, jobs=3).token
        complete(one, token, 3)
        with pytest.raises(ZeroDivisionError), one.transaction(NOW + 1) as tx:
            everything(tx, token)
            raise ZeroDivisionError
        with one.transaction(NOW + 1) as tx:
            everything(tx, token)
        assert counts(two) == {"queued": 4, "running": 1, "cancelled": 1}
        assert counts(two, "fifo.b") == {"queued": 1}
        assert put(two, b"8") == [8]

    def test_a_transaction_sees_its_own_writes(self, one: Store) -> None:
        with one.transaction(NOW) as tx:
            tx.insert([Group("fifo", [NewJob(b"1"), NewJob(b"2")])])
            given = tx.lease("fifo", 1, 1, PLENTY)
            tx.complete(given.token, done(1))
            assert [tx.standing([1, 2])[job_id].state for job_id in (1, 2)] == [State.COMPLETED, State.QUEUED]
            assert {state: jobs for state, jobs in tx.counts()["fifo"].items() if jobs} == {
                State.COMPLETED: 1,
                State.QUEUED: 1,
            }

    def test_a_killed_owner_leaves_what_it_committed_and_nothing_else(
        self, one: Store, two: Store, backend: Backend
    ) -> None:
        victim = backend.open()
        put(victim, b"1", b"2")
        token = leased(victim, jobs=1).token
        with pytest.raises(StoreError), victim.transaction(NOW) as tx:
            tx.complete(token, done(1))
            tx.insert([Group("fifo", [NewJob(b"3")])])
            backend.crash(victim)
        assert states(two, 1, 2, 3) == [State.RUNNING, State.QUEUED, None]
        assert put(one, b"3") == [3]
        assert complete(two, token, 1) == []

    def test_while_one_owner_writes_the_other_is_told_to_wait(self, one: Store, two: Store) -> None:
        with one.transaction(NOW) as tx:
            tx.insert([Group("fifo", [NewJob(b"1")])])
            with pytest.raises(StoreError), two.transaction(NOW):
                pass
        assert put(two, b"2") == [2]

    def test_owners_who_take_turns_drain_a_queue_exactly_once(self, one: Store, two: Store) -> None:
        put(one, *[b"1"] * 60)
        taken: list[int] = []
        turn: Sequence[Store] = (one, two)
        for index in range(60):
            store, other = turn[index % 2], turn[(index + 1) % 2]
            given = lease(store, jobs=index % 4 + 1)
            if given is None:
                break
            complete(other, given.token, *ids_of(given))
            taken.extend(ids_of(given))
        assert taken == list(range(1, 61))
        assert counts(two) == {"completed": 60}


def everything(tx: Tx, token: int) -> None:
    """Every verb that writes, on jobs 1 to 6 where 1 and 2 are held by the lease, 3 was completed, 6 is scheduled."""
    tx.insert([Group("fifo", [NewJob(b"7")], "key")])
    tx.lease("fifo", 2, 1, PLENTY)
    tx.release(token, [1])
    tx.reschedule(token, 2, NOW + 1, FAILED_ONCE, ERROR, solo=True)
    tx.promote(10)
    tx.cancel(5)
    tx.revive(3)
    tx.move("fifo", "fifo.b", [6])
    tx.count_stale(1)
    tx.set_setting("prune_after", 9)
    tx.pause("fifo", paused=False)
    tx.own(Owner("h", "b", 1, 1, 1, "fifo", "d", 1, 1))
    tx.forget_requests(NOW + 10, 10)
    tx.define_schedule(a_schedule("everything"))
    tx.claim("everything", NOW, "run")
    tx.settle_claim("everything", NOW, "skipped", None)
    tx.advance_schedule(a_schedule("everything", NOW + 1))
    tx.remove_schedule("everything")
