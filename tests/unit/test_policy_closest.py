"""Which name somebody may have meant."""

from __future__ import annotations

from supervisor.policy.closest import FEW, closest, closest_of_few, did_you_mean

KNOWN = ["approved", "declined", "paid"]


def test_the_name_that_is_most_like_it_is_meant() -> None:
    assert closest("aproved", KNOWN) == "approved"
    assert closest("xyz", KNOWN) is None
    assert did_you_mean("payd", KNOWN) == "did you mean paid?"
    assert did_you_mean("xyz", KNOWN) is None


def test_of_many_a_few_are_compared_that_begin_alike() -> None:
    assert closest_of_few("aproved", KNOWN) == "approved"
    assert closest_of_few("bpproved", KNOWN) is None, "it begins otherwise"
    many = [f"a{number}" for number in range(FEW)]
    assert closest_of_few("approve", [*many, "approved"]) is None, "it comes after those that are compared"
