"""What every store must remember of rows of outboxes. A backend's tests inherit this as well."""

from __future__ import annotations

import pytest

from supervisor.store.protocol import Group, NewJob, Relayed, Store
from tests.conformance.backend import Backend
from tests.conformance.suite import NOW, asked, counts


def relay(store: Store, instance: str, *rows: int, digest: str = "d") -> dict[int, int]:
    """What a keeper does with rows: those that are not known become jobs; row -> job."""
    with store.transaction(NOW) as tx:
        known = tx.relayed(instance, rows)
        fresh = [row for row in rows if row not in known or known[row].digest != digest]
        made = tx.insert([Group("fifo", [NewJob(b"1")]) for _ in fresh])
        new = [Relayed(row, digest, answer.ids[0]) for row, answer in zip(fresh, made, strict=True)]
        tx.note_relayed(instance, new)
        return {row.id: row.job_id for row in (*known.values(), *new)}


class OutboxVerbs:
    """The verbs of outboxes."""

    def test_a_row_is_one_job_whoever_asks_again(self, one: Store, two: Store) -> None:
        assert relay(one, "a", 1, 2, 5) == {1: 1, 2: 2, 5: 3}
        assert relay(two, "a", 2, 5, 7) == {2: 2, 5: 3, 7: 4}
        assert counts(one) == {"queued": 4}

    def test_rows_of_another_instance_are_others(self, one: Store, two: Store) -> None:
        assert relay(one, "a", 1) == {1: 1}
        assert relay(two, "b", 1) == {1: 2}
        assert asked(one, lambda tx: tx.relayed_after("a", 0, 10)) == [1]

    def test_another_row_of_the_same_id_is_another_job(self, one: Store, two: Store) -> None:
        relay(one, "a", 1)
        assert relay(two, "a", 1, digest="other") == {1: 2}
        assert asked(one, lambda tx: tx.relayed("a", [1])) == {1: Relayed(1, "other", 2)}

    def test_rows_are_forgotten_once_they_are_gone(self, one: Store, two: Store) -> None:
        relay(one, "a", 1, 2, 3)
        assert asked(two, lambda tx: tx.forget_relayed("a", [1, 3, 9])) == 2
        assert asked(two, lambda tx: tx.forget_relayed("a", [1])) == 0
        assert asked(one, lambda tx: tx.relayed("a", [1, 2, 3]).keys()) == {2}
        assert counts(one) == {"queued": 3}, "the jobs stay"

    def test_what_is_remembered_is_paged_in_order(self, one: Store) -> None:
        relay(one, "a", 8, -3, 2**62, 4)
        assert asked(one, lambda tx: tx.relayed_after("a", -(2**63), 3)) == [-3, 4, 8]
        assert asked(one, lambda tx: tx.relayed_after("a", 8, 3)) == [2**62]

    def test_a_row_is_remembered_with_its_job_or_neither_is_there(self, one: Store, two: Store) -> None:
        with pytest.raises(ZeroDivisionError), one.transaction(NOW) as tx:
            (made,) = tx.insert([Group("fifo", [NewJob(b"1")])])
            tx.note_relayed("a", [Relayed(1, "d", made.ids[0])])
            raise ZeroDivisionError
        assert asked(two, lambda tx: tx.relayed("a", [1])) == {}
        assert counts(two) == {}

    def test_nothing_is_forgotten_by_a_death_or_a_clock(self, one: Store, backend: Backend) -> None:
        relay(one, "a", 1)
        backend.crash(one)
        later = backend.open()
        with later.transaction(NOW + 400 * 86_400_000) as tx:
            tx.forget_requests(NOW + 399 * 86_400_000, 1_000)
            assert tx.relayed("a", [1]) == {1: Relayed(1, "d", 1)}
        with later.transaction(NOW - 86_400_000) as tx:
            assert tx.relayed("a", [1]) == {1: Relayed(1, "d", 1)}

    def test_a_database_has_a_number_of_its_own(self, one: Store, two: Store) -> None:
        number = asked(one, lambda tx: tx.setting("database_id"))
        assert number > 0
        assert asked(two, lambda tx: tx.setting("database_id")) == number
