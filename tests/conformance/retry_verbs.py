"""What every store must do about times that run out, and about breakers. A backend's tests inherit this as well."""

from __future__ import annotations

import json

import pytest

from supervisor.job import CHECKPOINTS_MAX, State
from supervisor.policy.breaker import CLOSED, Breaker, Phase
from supervisor.store.protocol import Expiry, NewJob, Store
from tests.conformance.suite import (
    NOW,
    asked,
    complete,
    counts,
    fail,
    ids_of,
    leased,
    promote,
    put,
    states,
)

OPEN = Breaker(Phase.OPEN, (), NOW, NOW + 30, 30, None, "it is down: ☃")
HALF_OPEN = OPEN._replace(phase=Phase.HALF_OPEN, probe=7)


def over(store: Store, now: int, jobs_max: int = 10) -> list[Expiry]:
    with store.transaction(now) as tx:
        return tx.expiring(jobs_max)


class RetryVerbs:
    """The verbs of retry control."""

    # -- time running out --------------------------------------------------------------------------------------

    def test_times_that_are_over_come_in_their_order(self, one: Store, two: Store) -> None:
        put(one, NewJob(b"1", expires_at_ms=NOW + 5, deadline_at_ms=NOW + 2), NewJob(b"2", expires_at_ms=NOW + 3))
        put(one, b"3")
        assert over(two, NOW + 1) == []
        assert over(two, NOW + 9, 2) == [Expiry(NOW + 2, 1, False), Expiry(NOW + 3, 2, True)]
        assert over(two, NOW + 9)[2:] == [Expiry(NOW + 5, 1, True)]
        assert asked(two, lambda tx: tx.next_expiry_ms()) == NOW + 2

    def test_jobs_without_such_times_are_not_asked_about(self, one: Store) -> None:
        put(one, b"1", NewJob(b"2", due_at_ms=NOW + 5))
        assert asked(one, lambda tx: tx.next_expiry_ms()) is None

    def test_a_repeated_group_brings_no_times(self, one: Store) -> None:
        put(one, NewJob(b"1", expires_at_ms=NOW + 1), key="k")
        put(one, NewJob(b"1", expires_at_ms=NOW + 2), key="k")
        assert [expiry.at_ms for expiry in over(one, NOW + 9)] == [NOW + 1]

    def test_a_time_is_forgotten_once(self, one: Store, two: Store) -> None:
        put(one, NewJob(b"1", expires_at_ms=NOW + 1, deadline_at_ms=NOW + 1))
        assert asked(one, lambda tx: tx.forget_expiries([Expiry(NOW + 1, 1, True)])) == 1
        assert asked(two, lambda tx: tx.forget_expiries([Expiry(NOW + 1, 1, True)])) == 0
        assert over(two, NOW + 1) == [Expiry(NOW + 1, 1, False)]

    @pytest.mark.parametrize(("state", "reason"), [(State.CANCELLED, "expired"), (State.DEAD, "deadline")])
    @pytest.mark.parametrize("later", [True, False])
    def test_a_job_that_waits_is_ended(self, one: Store, two: Store, state: State, reason: str, later: bool) -> None:
        put(one, NewJob(b"1", due_at_ms=NOW + 5 if later else None), b"2")
        assert asked(one, lambda tx: tx.expire([1], state, reason)) == [1]
        assert states(two, 1, 2) == [state, State.QUEUED]
        assert counts(two) == {"queued": 1, state.value: 1}
        assert promote(two, NOW + 9) == 0
        assert [job.id for job in leased(two).jobs] == [2]

    def test_a_job_that_waits_for_a_retry_is_ended(self, one: Store, two: Store) -> None:
        put(one, b"1")
        assert fail(one, leased(one).token, 1, NOW + 5)
        assert asked(two, lambda tx: tx.expire([1], State.DEAD, "deadline")) == [1]
        assert promote(one, NOW + 9) == 0
        assert counts(one) == {"dead": 1}

    def test_what_does_not_wait_is_not_ended(self, one: Store) -> None:
        put(one, b"1", b"2")
        token = leased(one, jobs=2).token
        complete(one, token, 2)
        put(one, b"3", b"4")
        assert asked(one, lambda tx: tx.expire([99, 4, 1, 2, 3, 4], State.DEAD, "deadline")) == [4, 3]
        assert states(one, 1, 2, 3, 4) == [State.RUNNING, State.COMPLETED, State.DEAD, State.DEAD]

    def test_a_revived_job_is_free_of_its_times(self, one: Store, two: Store) -> None:
        put(one, NewJob(b'"x"', 0, None, b'{"tags":["a"],"deadline_at_ms":5,"expires_at_ms":6,"max_attempts":2}'))
        asked(one, lambda tx: tx.cancel(1))
        with one.transaction(NOW + 7) as tx:
            tx.revive(1)
        facts = asked(two, lambda tx: tx.facts([1]))[1]
        assert b"deadline_at_ms" not in facts.options
        assert b"expires_at_ms" not in facts.options
        assert b'"max_attempts":2' in facts.options
        assert asked(two, lambda tx: tx.payload(1)) == b'"x"'

    def test_a_job_was_due_first_when_it_came_or_was_to_come_or_was_revived(self, one: Store, two: Store) -> None:
        put(one, b"1", NewJob(b"2", due_at_ms=NOW + 5))
        promote(one, NOW + 6)
        assert asked(two, lambda tx: [tx.first_due_ms(job_id) for job_id in (1, 2)]) == [NOW, NOW + 5]
        asked(one, lambda tx: tx.cancel(1))
        with one.transaction(NOW + 9) as tx:
            tx.revive(1)
        assert asked(two, lambda tx: tx.first_due_ms(1)) == NOW + 9

    def test_the_payload_of_a_job_is_found_whatever_became_of_it(self, one: Store) -> None:
        put(one, b'{"a":1}', b"2")
        complete(one, leased(one, jobs=1).token, 1)
        assert asked(one, lambda tx: tx.payload(1)) == b'{"a":1}'

    # -- breakers ----------------------------------------------------------------------------------------------

    def test_a_breaker_is_stored_as_it_stands(self, one: Store, two: Store) -> None:
        assert asked(one, lambda tx: tx.breakers()) == {}
        counting = Breaker(Phase.CLOSED, (NOW, NOW + 1), reason="x")
        for known in (counting, OPEN, HALF_OPEN):
            asked(one, lambda tx, known=known: tx.put_breaker("emails", known))
            assert asked(two, lambda tx: tx.breakers()) == {"emails": known}

    def test_a_breaker_that_is_as_it_was_made_takes_no_row(self, one: Store, two: Store) -> None:
        asked(one, lambda tx: (tx.put_breaker("a", OPEN), tx.put_breaker("b", OPEN)))
        asked(two, lambda tx: tx.put_breaker("a", CLOSED))
        assert asked(one, lambda tx: tx.breakers()) == {"b": OPEN}

    def test_a_job_keeps_so_many_steps_and_no_more(self, one: Store, two: Store) -> None:
        """Those that it has, and its cursor, change as often as they like."""
        put(one, b"1", b"2")
        token = leased(one).token
        with one.transaction(NOW) as tx:
            assert all(tx.checkpoint(token, 1, f"s{number}", b"1") for number in range(CHECKPOINTS_MAX - 1))
        with two.transaction(NOW) as tx:
            assert tx.checkpoint(token, 1, "s0", b"2")
            assert tx.checkpoint(token, 1, "last", b"1")
            assert not tx.checkpoint(token, 1, "more", b"1")
            assert tx.checkpoint(token, 1, "last", b"2")
            assert tx.checkpoint(token, 1, "", b"3")
            assert tx.checkpoint(token, 2, "more", b"1")
        assert not asked(one, lambda tx: tx.checkpoint(token, 1, "more", b"1"))
        assert fail(one, token, 1, NOW)
        promote(one, NOW)
        (job,) = leased(one).jobs
        told = json.loads(job.payload[job.own_bytes :])
        assert (len(told["steps"]), told["steps"]["s0"], told["cursor"]) == (CHECKPOINTS_MAX, 2, 3)

    def test_what_a_run_kept_counts_in_the_size_of_a_lease(self, one: Store) -> None:
        ids = put(one, *[b"1"] * 4)
        token = leased(one).token
        for job_id in ids:
            asked(one, lambda tx, job_id=job_id: tx.checkpoint(token, job_id, "s", b'"%s"' % (b"x" * 1_000)))
            assert fail(one, token, job_id, NOW)
        promote(one, NOW)
        assert [ids_of(leased(one, size=size)) for size in (2_500, 1)] == [ids[:2], ids[2:3]]

    def test_what_a_run_keeps_is_told_to_the_next_one_until_the_job_completes(self, one: Store, two: Store) -> None:
        put(one, b"1", b"2")
        token = leased(one).token
        assert asked(one, lambda tx: tx.checkpoint(token, 1, "charge", b'{"id":7}'))
        assert asked(two, lambda tx: tx.checkpoint(token, 1, "", b"3"))
        assert asked(two, lambda tx: tx.checkpoint(token, 1, "", b"4"))
        assert not asked(one, lambda tx: tx.checkpoint(token + 1, 1, "late", b"1"))
        assert fail(one, token, 1, NOW)
        assert not asked(one, lambda tx: tx.checkpoint(token, 1, "late", b"1"))
        promote(two, NOW)
        (job,) = leased(two).jobs
        assert json.loads(job.payload[job.own_bytes :]) == {"steps": {"charge": {"id": 7}}, "cursor": 4}
        assert job.payload[: job.own_bytes] == b"1"
        complete(one, token + 1, 1)
        asked(one, lambda tx: tx.revive(1))
        (again,) = leased(two).jobs
        assert (again.own_bytes, again.payload) == (None, b"1")
