"""The boundary of scopes, by itself: what a sentence becomes, and what an operation sees."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.config.spec import Access, ScopeTable, Spec
from supervisor.errors import ConfigError, Denied, NotRunning, UnknownQueue
from supervisor.job import State
from supervisor.keeper import scope
from supervisor.keeper.scope import Boundary, Scope, View, Within
from supervisor.policy.settle import History
from supervisor.policy.unique import Unique, fingerprint
from supervisor.store.protocol import Standing
from supervisor.wire import messages

SHOP, MAIN = Scope("shop", None), Scope("", None)  # type: ignore[arg-type] # neither is asked for a job here


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("queue shop/emails is paused", "queue emails is paused"),
        ("shop/emails, shop/tenant_* and (shop/x)", "emails, tenant_* and (x)"),
        ("the file /srv/shop/emails is not there", "the file /srv/shop/emails is not there"),
        ("workshop/emails, my-shop/emails, a.shop/emails", "workshop/emails, my-shop/emails, a.shop/emails"),
        ("blog/emails", "blog/emails"),
        ("shop/ itself", "shop/ itself"),
        ("", ""),
        (None, None),
    ],
)
def test_a_sentence_has_the_names_that_the_scope_knows(text: str | None, told: str | None) -> None:
    assert SHOP.said(text) == told
    assert MAIN.said(text) == text


def test_a_refusal_stays_what_it_is() -> None:
    error = ConfigError("shop/emails is wrong", hint="look at shop/emails", problems=("a", "b"))
    told = SHOP.error(error)
    assert isinstance(told, ConfigError)
    assert (told.message, told.hint, told.problems) == ("emails is wrong", "look at emails", ("a", "b"))
    assert error.message == "shop/emails is wrong"
    assert MAIN.error(error) is error


def test_names_go_in_and_what_has_a_slash_does_not() -> None:
    assert (SHOP.inner("emails"), MAIN.inner("emails")) == ("shop/emails", "emails")
    for each in (SHOP, MAIN):
        with pytest.raises(UnknownQueue):
            each.inner("shop/emails")
    assert [SHOP.owns(name) for name in ("shop/emails", "emails", "shop/blog/emails")] == [True, False, False]
    assert [MAIN.owns(name) for name in ("shop/emails", "emails")] == [False, True]


class FakeConnection:
    """A connection, as far as the boundary looks at it."""

    def __init__(self, scope: str) -> None:
        self.scope = scope


STATUS = messages.Status(v=1, id=1)
WITH, WITHOUT = Spec(scopes={"shop": ScopeTable(name="shop")}), Spec()


@pytest.mark.parametrize(("name", "spec", "done"), [("shop", WITH, False), ("", WITH, False), ("", WITHOUT, True)])
def test_a_new_operation_is_done_where_there_are_no_scopes_until_somebody_says_how(
    monkeypatch: pytest.MonkeyPatch, name: str, spec: Spec, *, done: bool
) -> None:
    left = {kind: passage for kind, passage in scope.PASSAGES.items() if kind is not messages.Status}
    monkeypatch.setattr(scope, "PASSAGES", left)
    connection: Any = FakeConnection(name)
    boundary = Boundary(None)  # type: ignore[arg-type]
    if done:
        assert boundary.enter(connection, STATUS, spec) == (connection, STATUS)
        return
    with pytest.raises(Denied, match="status is not done where there are scopes"):
        boundary.enter(connection, STATUS, spec)


@pytest.mark.parametrize(("name", "done"), [("shop", False), ("", True)])
def test_what_is_of_the_daemon_is_done_over_the_main_socket(name: str, *, done: bool) -> None:
    connection: Any = FakeConnection(name)
    reload, boundary = messages.Reload(v=1, id=1), Boundary(None)  # type: ignore[arg-type]
    if done:
        assert boundary.enter(connection, reload, WITH) == (connection, reload)
        return
    with pytest.raises(Denied, match="over the main socket only"):
        boundary.enter(connection, reload, WITH)


class FakeTransaction:
    """Where some jobs stand."""

    def standing(self, ids: Any) -> dict[int, Standing]:
        queues = {1: "emails", 2: "shop/emails", 3: "blog/emails"}
        return {i: Standing(i, queues[i], State.DEAD, History(1, 0, 0)) for i in ids}

    def revive(self, job_id: int) -> int:
        return job_id


class FakeOperation:
    until_ms: int | None = None
    refused: object = None

    def step(self, tx: Any, now_ms: int) -> Any:
        return list(tx.standing([1, 2, 3])), tx.revive(now_ms)

    def refuse(self, error: object) -> None:
        self.refused = error


@pytest.mark.parametrize(("mine", "seen"), [(SHOP, [2]), (MAIN, [1])])
def test_an_operation_sees_the_jobs_of_its_scope(mine: Scope, seen: list[int]) -> None:
    operation = FakeOperation()
    within = Within(operation, mine)  # type: ignore[arg-type]
    assert within.step(FakeTransaction(), 7) == (seen, 7)  # type: ignore[arg-type, comparison-overlap]
    within.until_ms = 5
    assert (operation.until_ms, within.until_ms) == (5, 5)
    within.refuse("why")  # type: ignore[arg-type]
    assert operation.refused == "why"
    assert list(View(FakeTransaction(), mine).standing([3])) == []  # type: ignore[arg-type]


def test_who_may_is_said_by_the_scope_of_the_socket() -> None:
    connection: Any = FakeConnection("")
    mine = Access(admin=("user:root",))
    spec = Spec(scopes={"shop": ScopeTable(name="shop", access=mine)})
    boundary = Boundary(None)  # type: ignore[arg-type]
    assert boundary.access(spec, connection) == Access()
    connection.scope = "shop"
    assert boundary.access(spec, connection) is mine
    connection.scope = "gone"
    with pytest.raises(NotRunning, match="scope gone is not in the configuration any more"):
        boundary.access(spec, connection)


def test_jobs_of_two_scopes_never_count_as_the_same() -> None:
    across, within = Unique(across_queues=True), Unique()
    found = {
        fingerprint(unique, queue, "k", {"a": 1})
        for unique in (across, within)
        for queue in ("emails", "shop/emails", "blog/emails")
    }
    assert len(found) == 6
    same = {fingerprint(across, queue, "k", {"a": 1}) for queue in ("shop/emails", "shop/letters")}
    assert len(same) == 1
