"""The rules of a queue: what makes it plain, and what keys weigh."""

from __future__ import annotations

import pytest

from supervisor.policy.discipline import PLAIN, Discipline, Limit, line_of
from supervisor.policy.rank import FAIR, LIFO, PRIORITY, Order
from supervisor.policy.unique import Unique


@pytest.mark.parametrize(
    ("rules", "plain"),
    [
        (Discipline(), True),
        (Discipline(order=Order((LIFO,))), True),
        (Discipline(order=Order((PRIORITY,), 60_000)), True),
        (Discipline(max_size=1, unique=Unique()), True),
        (Discipline(limits=(Limit("l", 1),)), False),
        (Discipline(key_limits=(Limit("l", 1),)), False),
        (Discipline(order=Order((PRIORITY, FAIR))), False),
        (Discipline(ordered=True, key_limits=(line_of("q"),)), False),
    ],
)
def test_a_queue_is_plain_if_order_alone_decides_what_is_leased(rules: Discipline, plain: bool) -> None:
    assert rules.plain is plain


def test_an_unknown_queue_is_plain() -> None:
    assert PLAIN.plain


def test_a_key_weighs_one_unless_it_is_said() -> None:
    rules = Discipline(weights={"acme": 3})
    assert [rules.weight(key) for key in ("acme", "other", "")] == [3, 1, 1]


def test_an_ordered_queue_runs_one_job_of_each_key_and_one_of_those_without() -> None:
    assert line_of("q") == Limit("line:q", concurrency=1, rate=None, keyless=True)
    assert line_of("q").name != line_of("r").name
