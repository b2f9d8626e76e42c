"""What the clock does to a job whose time is over."""

from __future__ import annotations

import pytest

from supervisor.job import FINAL, State
from supervisor.policy.expiry import Fate, fate


@pytest.mark.parametrize(
    ("state", "ttl", "started", "expected"),
    [
        (State.QUEUED, True, False, Fate.EXPIRE),
        (State.SCHEDULED, True, False, Fate.EXPIRE),
        (State.QUEUED, True, True, Fate.FORGET),
        (State.RUNNING, True, True, Fate.FORGET),
        (State.RUNNING, True, False, Fate.TAKE_BACK),
        (State.QUEUED, False, False, Fate.BURY),
        (State.SCHEDULED, False, True, Fate.BURY),
        (State.RUNNING, False, True, Fate.WAIT),
        (State.RUNNING, False, False, Fate.TAKE_BACK),
    ],
)
def test_a_time_that_is_over(state: State, ttl: bool, started: bool, expected: Fate) -> None:
    assert fate(state, ttl=ttl, started=started) is expected


@pytest.mark.parametrize("state", sorted(FINAL))
@pytest.mark.parametrize("ttl", [True, False])
def test_nothing_happens_to_what_is_final(state: State, ttl: bool) -> None:
    assert {fate(state, ttl=ttl, started=started) for started in (True, False)} == {Fate.FORGET}
