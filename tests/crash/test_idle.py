"""Ten pools of four idle workers use next to nothing, whether their number is fixed or follows the load."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.campaign import Campaign, size
from tests.support.field import Field, attempt
from tests.support.waiting import until

PERCENT_OF_A_CORE = 0.5
POOLS = {f"pool{number}": {"workers": 4 if number % 2 else {"min": 4, "max": 9}} for number in range(10)}


def used_ns(pids: list[int]) -> int:
    """Processor time that these processes have used, as the scheduler counts it."""
    texts = [attempt(Path(f"/proc/{pid}/schedstat").read_text) for pid in pids]
    return sum(int(text.split()[0]) for text in texts if text)


def percent(field: Field, seconds: float) -> float:
    """Per cent of one core that all processes of the daemon use over a time."""
    pids = field.survivors()
    begun, before = time.monotonic(), used_ns(pids)
    until(lambda: time.monotonic() >= begun + seconds, seconds + 10)
    return (used_ns(pids) - before) / ((time.monotonic() - begun) * 1e9) * 100


@pytest.mark.campaign
@pytest.mark.timeout(300)
def test_ten_idle_pools_use_half_a_per_cent_of_a_core(tmp_path: Path, campaign: Campaign) -> None:
    for _ in campaign.batches(short=1, full=1, batch=1):
        with Field(tmp_path, POOLS) as field:
            assert len(field.survivors()) == 1 + 1 + 10 + 40
            field.add([{"do": "nothing"}] * 10, "pool0")
            field.drain()
            used = percent(field, size(8, 60))
            assert used < PERCENT_OF_A_CORE
        campaign.passed(1, thousandths_of_a_per_cent=round(used * 1_000))


def test_control_a_job_that_uses_a_hundredth_of_a_core_is_found(tmp_path: Path) -> None:
    """Planted: a job that computes for 40 ms."""
    with Field(tmp_path, {"q": {"workers": 1}}) as field:
        field.add([{"do": "rest", "ms": 500}, {"do": "spin", "us": 40_000}])
        assert percent(field, 2) > PERCENT_OF_A_CORE
