"""What a pass of the keeper takes of the rows of an outbox, and what it says of names that are no queues."""

from __future__ import annotations

import difflib
import selectors
from types import SimpleNamespace
from typing import Any

import pytest

from supervisor.config.spec import Outbox, Queue, Spec
from supervisor.keeper.children import Hints, nearest
from supervisor.keeper.outboxes import Batch, Outboxes
from supervisor.wire.outbox import Row, Verdict


def spec_of(*queues: str) -> Spec:
    return Spec(
        queues={name: Queue(name=name, handler="m:f") for name in queues},
        outbox={"app": Outbox(name="app", database="/nowhere/app.db")},
    )


def a_pass(*, late: bool) -> Any:
    """A pass over a store in which nothing is remembered."""
    tx = SimpleNamespace(
        setting=lambda _: 1, relayed=lambda *_: {}, relayed_after=lambda *_: [], insert=lambda _: [],
        note_relayed=lambda *_: None,
    )  # fmt: skip
    return SimpleNamespace(
        tx=tx, now_ms=0, late=lambda _: late, afterwards=lambda _: None, on_failure=lambda _: None,
        inserted=lambda _: None,
    )  # fmt: skip


@pytest.mark.parametrize(("late", "taken"), [(True, [1, 2, 3]), (False, [40])])
def test_a_pass_that_is_late_refuses_one_row_and_no_more(late: bool, taken: list[int]) -> None:
    """Refusing one may take milliseconds, and every client waits for the pass."""
    state: Any = SimpleNamespace(spec=spec_of("q"))
    outboxes = Outboxes(state, selectors.DefaultSelector(), SimpleNamespace(also=lambda *_: None))  # type: ignore[arg-type]
    batch = Batch("app", 1, "instance", [Row(number, "nowhere", "1") for number in range(40)])
    outboxes._batches["app"] = batch
    found = []
    for _ in taken:
        outboxes.take(a_pass(late=late))
        found.append(len(batch.verdicts))
    assert found == taken
    hint = "queues: q; add one with: jobsctl queues add"
    assert set(batch.verdicts) == {Verdict(error=f"there is no queue nowhere; {hint}")}


def test_a_wrong_name_is_compared_once_as_long_as_the_configuration_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    real = difflib.get_close_matches

    def matches(name: str, *rest: Any, **options: Any) -> list[str]:
        compared.append(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(difflib, "get_close_matches", matches)
    spec = spec_of("mails", "shop/mails2")
    for _ in range(3):
        assert nearest(spec, "mailz") == "did you mean mails?"
        assert nearest(spec, "shop/mailz") == "did you mean mails2?"
        assert nearest(spec, "x" * 100_000) == "queues: mails; add one with: jobsctl queues add"
    assert compared == ["mailz", "mailz", "x" * 80]
    assert nearest(spec_of("mail"), "mailz") == "did you mean mail?"


def test_no_more_than_so_many_names_are_kept() -> None:
    hints, spec = Hints(room=2), spec_of("q1")
    for number in range(20):
        assert hints.about(spec, f"q1{number}") == "did you mean q1?"
        assert len(hints._found) <= 2
