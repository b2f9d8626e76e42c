"""Options of a job, as users give them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from supervisor.errors import InvalidPayload
from supervisor.policy.options import NAMES, to_wire


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        (dict.fromkeys(NAMES), {}),
        ({"delay": "5m"}, {"delay_ms": 300_000}),
        ({"delay": timedelta(seconds=1)}, {"delay_ms": 1_000}),
        ({"at": "1970-01-01T00:00:01Z"}, {"due_at_ms": 1_000}),
        ({"at": "1970-01-01T01:00:00+01:00"}, {"due_at_ms": 0}),
        ({"at": datetime(1970, 1, 1, 0, 0, 0, 1_500, UTC)}, {"due_at_ms": 2}),
        ({"at": datetime(1970, 1, 1, tzinfo=timezone(timedelta(hours=-1)))}, {"due_at_ms": 3_600_000}),
        ({"timeout": 1.5}, {"timeout_ms": 1_500}),
        ({"priority": -3, "max_attempts": 7}, {"priority": -3, "max_attempts": 7}),
        ({"tags": ("a", "b")}, {"tags": ["a", "b"]}),
        ({"backoff": "10s"}, {"backoff_ms": [10_000]}),
        ({"backoff": ["1s", 2, timedelta(minutes=1)]}, {"backoff_ms": [1_000, 2_000, 60_000]}),
        ({"retry_for": "1h", "ttl": 90}, {"retry_for_ms": 3_600_000, "ttl_ms": 90_000}),
        ({"expires": "1970-01-01T00:00:01Z"}, {"expires_at_ms": 1_000}),
        ({"deadline": "1h"}, {"deadline_ms": 3_600_000}),
        ({"deadline": 2.5}, {"deadline_ms": 2_500}),
        ({"deadline": "1970-01-01T00:00:01Z"}, {"deadline_at_ms": 1_000}),
        ({"deadline": datetime(1970, 1, 1, tzinfo=UTC)}, {"deadline_at_ms": 0}),
        ({"delay": None, "at": "1970-01-01T00:00:00Z"}, {"due_at_ms": 0}),
    ],
)
def test_options_are_brought_to_the_wires_form(options: dict[str, Any], expected: dict[str, Any]) -> None:
    assert to_wire(options) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dealy": 1}, "dealy is no option of a job; there are delay, at, priority, timeout, max_attempts, tags"),
        ({"delay": "5"}, "delay: 5 has no unit"),
        ({"delay": -1}, "delay: a duration is finite, not negative"),
        ({"delay": []}, "delay: a duration is text, seconds, or a timedelta, not list"),
        ({"timeout": "soon"}, "timeout: not a duration"),
        ({"at": "tomorrow"}, "at: "),
        ({"at": 5}, "at: "),
        ({"at": "2026-01-31T09:00:00"}, "at: an instant needs a time zone, as in 2026-01-31T09:00:00Z"),
        ({"at": datetime(2026, 1, 31)}, "at: an instant needs a time zone"),  # noqa: DTZ001 - that is the case
        ({"tags": "one"}, "tags: a list of words, not one text"),
        ({"tags": 5}, "tags: "),
        ({"backoff": ["1s", "x"]}, "backoff: not a duration"),
        ({"expires": "1h"}, "expires: "),
        ({"deadline": "soon"}, "deadline: not a duration"),
        ({"deadline": "2026-01-31T09:00:00"}, "deadline: an instant needs a time zone"),
        ({"ttl": 1, "expires": "1970-01-01T00:00:00Z"}, "a job takes either ttl or expires, not both"),
        ({"delay": 1, "at": "1970-01-01T00:00:00Z"}, "a job takes either delay or at, not both"),
    ],
)
def test_what_has_no_meaning_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidPayload) as refused:
        to_wire(options)
    assert refused.value.message.startswith(message)


def test_an_option_like_a_known_one_is_asked_for() -> None:
    for name, hint in (("dealy", "did you mean delay?"), ("colour", InvalidPayload.remedy)):
        with pytest.raises(InvalidPayload) as refused:
            to_wire({name: 1})
        assert refused.value.hint == hint
