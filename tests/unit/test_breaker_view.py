"""How a breaker is shown: its state, why, when it is probed, and the sentences that say so."""

from __future__ import annotations

from supervisor.config.spec import Breaker as Configured
from supervisor.policy.breaker import Breaker, Phase, probing
from supervisor.policy.reason import Reason
from supervisor.store.breaker_view import sentence, shown

NOW = 1_700_000_000_000
AT = "2023-11-14T22:13:20.000Z"
OPEN = Breaker(Phase.OPEN, (), NOW, NOW + 30_000, 30_000, None, "it is down")


def test_a_queue_without_a_breaker_shows_none() -> None:
    assert shown(None, OPEN, NOW) is None
    assert sentence(None) is None


def test_a_closed_one_shows_what_counts() -> None:
    assert shown(Configured(), None, NOW) == {
        "state": "closed", "reason": None, "failures": 0, "opened_at": None, "next_probe_at": None, "probe": None,
    }  # fmt: skip
    counting = shown(Configured(), Breaker(failed_at_ms=(NOW, NOW), reason="x"), NOW)
    assert counting is not None
    assert (counting["state"], counting["failures"], counting["reason"]) == ("closed", 2, "x")
    assert sentence(counting) is None


def test_an_open_one_says_when_it_is_probed() -> None:
    found = shown(Configured(), OPEN, NOW)
    assert found is not None
    assert (found["state"], found["opened_at"], found["next_probe_at"]) == ("open", AT, "2023-11-14T22:13:50.000Z")
    assert sentence(found) == "breaker open, next probe at 2023-11-14T22:13:50.000Z: it is down"


def test_one_whose_cooldown_is_over_is_half_open_with_or_without_its_probe() -> None:
    waiting = shown(Configured(), OPEN, NOW + 30_000)
    assert waiting is not None
    assert (waiting["state"], waiting["probe"], waiting["next_probe_at"]) == ("half_open", None, None)
    assert sentence(waiting) == "breaker half-open, the next job is the probe: it is down"
    probed = shown(Configured(), probing(OPEN, 7), NOW)
    assert probed is not None
    assert sentence(probed) == "breaker half-open, job 7 is the probe: it is down"


def test_a_job_behind_it_says_so() -> None:
    said = "half-open, job 7 is the probe: it is down"
    assert Reason("breaker", {"queue": "q", "said": said}).sentence == (
        "the breaker of queue q is half-open, job 7 is the probe: it is down"
    )
