"""Backoff: exponential, bounded, spread."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.policy.backoff import Backoff, delay_ms

STEADY = Backoff(1_000, 2.0, 3_600_000, 0.0)


def test_the_delay_doubles_up_to_its_maximum() -> None:
    assert [delay_ms(STEADY, n, 0.5) for n in range(1, 15)] == [
        1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 512_000, 1_024_000, 2_048_000, 3_600_000,
        3_600_000,
    ]  # fmt: skip


@pytest.mark.parametrize("failures", [100, 1_024, 1_025, 10**9])
def test_no_number_of_failures_overflows(failures: int) -> None:
    assert delay_ms(STEADY, failures, 0.5) == 3_600_000


def test_a_slow_factor_reaches_the_maximum_too() -> None:
    assert delay_ms(STEADY._replace(factor=1.01), 1_000, 0.5) == 3_600_000


def test_a_factor_of_one_stays_at_the_base() -> None:
    assert delay_ms(STEADY._replace(factor=1.0), 10**9, 0.5) == 1_000


@pytest.mark.parametrize("failures", [1, 2, 2_000])
def test_no_base_is_no_delay(failures: int) -> None:
    assert delay_ms(STEADY._replace(base_ms=0), failures, 0.5) == 0


def test_a_jitter_of_all_never_makes_a_delay_negative() -> None:
    assert delay_ms(STEADY._replace(jitter=1.0), 1, 0.0) == 0
    assert delay_ms(STEADY._replace(jitter=2.0), 1, 0.0) == 0


@given(
    st.integers(0, 10**6), st.floats(1.0, 10.0), st.integers(0, 10**8), st.floats(0.0, 1.0), st.integers(1, 500),
    st.floats(0.0, 1.0, exclude_max=True),
)  # fmt: skip
def test_the_delay_is_the_formula_give_or_take_the_jitter(
    base: int, factor: float, most: int, jitter: float, failures: int, chance: float
) -> None:
    exact: float = base
    for _ in range(failures - 1):
        exact = min(exact * factor, 1e300)
    exact = min(exact, most)
    found = delay_ms(Backoff(base, factor, most, jitter), failures, chance)
    assert exact * (1 - jitter) * (1 - 1e-9) - 1 <= found <= exact * (1 + jitter) * (1 + 1e-9) + 1


def test_a_linear_delay_grows_by_its_base_up_to_its_maximum() -> None:
    linear = STEADY._replace(shape="linear", max_ms=3_500)
    assert [delay_ms(linear, n, 0.5) for n in (1, 2, 3, 4, 10**9)] == [1_000, 2_000, 3_000, 3_500, 3_500]


def test_a_constant_delay_stays_and_is_bounded() -> None:
    constant = STEADY._replace(shape="constant")
    assert [delay_ms(constant, n, 0.5) for n in (1, 2, 10**9)] == [1_000, 1_000, 1_000]
    assert delay_ms(constant._replace(max_ms=10), 1, 0.5) == 10


def test_of_listed_delays_the_last_repeats() -> None:
    listed = STEADY._replace(delays_ms=(1, 20, 7_200_000), max_ms=5)
    assert [delay_ms(listed, n, 0.5) for n in (1, 2, 3, 4, 99)] == [1, 20, 7_200_000, 7_200_000, 7_200_000]


def test_listed_delays_are_spread_as_well() -> None:
    assert delay_ms(Backoff(jitter=0.5, delays_ms=(100,)), 1, 0.0) == 50
