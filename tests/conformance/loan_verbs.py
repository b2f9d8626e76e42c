"""What every store must do about leases that consumers hold. A backend's tests inherit this as well."""

from __future__ import annotations

import pytest

from supervisor.job import State
from supervisor.store.protocol import CARRIED, NO_SLOT, Loan, Owner, Store
from tests.conformance.backend import Backend
from tests.conformance.suite import NOW, asked, bury, complete, fail, leased, put

LOAN = Loan("cam", "boot", 5_000, 60_000, NOW + 60_000, "key-1")


def an_owner(store: Store, incarnation: int = -7) -> int:
    owner = Owner("host", "boot", 0, NO_SLOT, incarnation, "", "", 42, 0)
    found: int = asked(store, lambda tx: tx.own(owner))
    return found


def lent(store: Store, owner: int, *, jobs: int = 100, loan: Loan = LOAN) -> int:
    """A lease of these jobs that a consumer holds; its token."""
    with store.transaction(NOW) as tx:
        found = tx.lease("fifo", owner, jobs, 1 << 40)
        assert found is not None
        tx.lend(found.token, loan)
    return found.token


def loans(store: Store) -> dict[int, Loan]:
    found: dict[int, Loan] = asked(store, lambda tx: dict(tx.loans()))
    return found


def owners(store: Store) -> list[int]:
    found: list[int] = asked(store, lambda tx: [owner.id for owner in tx.owners()])
    return found


class LoanVerbs:
    def test_a_loan_is_known_to_every_owner_and_by_its_key(self, one: Store, two: Store) -> None:
        put(one, b"1")
        token = lent(one, an_owner(one))
        assert loans(two) == {token: LOAN}
        assert asked(two, lambda tx: tx.loan_by_key("key-1")) == token
        assert asked(two, lambda tx: tx.loan_by_key("key-2")) is None

    def test_a_loan_is_held_longer(self, one: Store, two: Store) -> None:
        put(one, b"1")
        token = lent(one, an_owner(one))
        longer = LOAN._replace(until_boot_ms=9_000, until_ms=NOW + 90_000, prolonged=CARRIED)
        asked(two, lambda tx: tx.lend(token, longer))
        assert loans(one) == {token: longer}

    def test_a_loan_survives_its_keeper(self, backend: Backend, one: Store) -> None:
        put(one, b"1")
        token = lent(one, an_owner(one))
        backend.crash(one)
        assert loans(backend.open()) == {token: LOAN}

    @pytest.mark.parametrize("way", ["complete", "fail", "bury", "release"])
    def test_a_loan_and_its_owner_go_with_the_last_job(self, one: Store, two: Store, way: str) -> None:
        put(one, b"1", b"2")
        token = lent(one, an_owner(one))
        complete(one, token, 1)
        assert list(loans(two)) == [token]
        assert owners(two) != []
        match way:
            case "complete":
                complete(one, token, 2)
            case "fail":
                fail(one, token, 2, NOW + 5)
            case "bury":
                bury(one, token, 2)
            case "release":
                asked(one, lambda tx: tx.release(token, [2]))
        assert (loans(one), loans(two), owners(two)) == ({}, {}, [])
        assert asked(two, lambda tx: tx.loan_by_key("key-1")) is None

    def test_an_owner_stays_while_it_has_another_loan(self, one: Store, two: Store) -> None:
        put(one, b"1", b"2")
        owner = an_owner(one)
        assert an_owner(two) == owner
        first, second = (lent(one, owner, jobs=1, loan=LOAN._replace(key=None)) for _ in range(2))
        complete(two, first, 1)
        assert (list(loans(one)), owners(one)) == ([second], [owner])
        complete(one, second, 2)
        assert owners(two) == []

    def test_leases_of_workers_have_no_loan_and_keep_their_owner(self, one: Store) -> None:
        put(one, b"1")
        owner = an_owner(one, incarnation=7)
        token = leased(one, owner=owner).token
        assert loans(one) == {}
        complete(one, token, 1)
        assert owners(one) == [owner]

    def test_what_ended_says_under_which_token(self, one: Store) -> None:
        put(one, b"1", b"2", b"3")
        token = lent(one, an_owner(one))
        complete(one, token, 1)
        bury(one, token, 2)
        found = [asked(one, lambda tx, job=job: tx.final_by(job)) for job in (1, 2, 3)]
        assert found == [(State.COMPLETED, token), (State.DEAD, token), None]
