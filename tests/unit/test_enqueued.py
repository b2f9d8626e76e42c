"""Assertions about what was enqueued: what they find, and what they say where they do not."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.testing import Enqueued, assert_enqueued, assert_not_enqueued

JOBS = [
    Enqueued("mail", {"to": "ada@x.org", "kind": "welcome"}, id=1, state="queued", tags=("a", "b")),
    Enqueued("mail", {"to": "bob@x.org", "kind": "bill", "sum": 7}, id=2, state="completed", key="bob", priority=3),
    Enqueued("sms", {"to": "ada@x.org", "kind": "welcome"}, id=3, task="send"),
    Enqueued("mail", None, id=4),
]


class Like:
    """Equal to what begins so."""

    def __init__(self, beginning: str) -> None:
        self.beginning = beginning

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and other.startswith(self.beginning)

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("queue", "wanted", "ids"),
    [
        ("mail", {}, [1, 2, 4]),
        ("mail", {"payload": None}, [4]),
        ("mail", {"payload": {"to": "ada@x.org", "kind": "welcome"}}, [1]),
        ("mail", {"containing": {"kind": "bill"}}, [2]),
        ("mail", {"containing": {"to": Like("ada")}}, [1]),
        ("mail", {"payload": {"to": Like("bob"), "kind": "bill", "sum": 7}}, [2]),
        ("mail", {"tags": ["b"]}, [1]),
        ("mail", {"key": "bob", "priority": 3, "state": "completed"}, [2]),
        ("sms", {"task": "send"}, [3]),
    ],
)
def test_jobs_are_found_by_what_they_have(queue: str, wanted: dict[str, Any], ids: list[int]) -> None:
    assert [job.id for job in assert_enqueued(JOBS, queue, count=len(ids), **wanted)] == ids
    assert [job.id for job in assert_enqueued(JOBS, queue, **wanted)] == ids
    with pytest.raises(AssertionError, match=f"job {ids[0]} of"):
        assert_not_enqueued(JOBS, queue, **wanted)


@pytest.mark.parametrize(
    ("queue", "wanted"),
    [("mails", {}), ("mail", {"payload": {"to": "ada@x.org"}}), ("mail", {"task": "send"}), ("sms", {"tags": ["a"]}),
     ("mail", {"containing": {"sum": 8}}), ("mail", {"state": "dead"})],
)  # fmt: skip
def test_what_is_not_there_is_not_found(queue: str, wanted: dict[str, Any]) -> None:
    assert_not_enqueued(JOBS, queue, **wanted)
    assert assert_enqueued(JOBS, queue, count=0, **wanted) == []
    with pytest.raises(AssertionError, match="at least one job of"):
        assert_enqueued(JOBS, queue, **wanted)


def test_a_payload_is_compared_as_the_json_that_it_is() -> None:
    jobs = [Enqueued("mail", {"1": [1, 2]})]
    assert assert_enqueued(jobs, "mail", payload={1: (1, 2)})


def said(*args: Any, **wanted: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        assert_enqueued(*args, **wanted)
    return str(caught.value)


def test_a_failure_shows_the_nearest_and_what_differs() -> None:
    assert said(JOBS, "mail", payload={"to": "bob@x.org", "kind": "bill", "sum": 8}) == (
        'at least one job of mail with payload {"to": "bob@x.org", "kind": "bill", "sum": 8} expected, 0 found\n'
        "nearest:\n"
        '  job 2 of mail (completed, key bob, priority 3): {"to": "bob@x.org", "kind": "bill", "sum": 7}\n'
        "    payload['sum']: 7, not 8\n"
        "  job 4 of mail (enqueued): null\n"
        '    payload: null, not {"to": "bob@x.org", "kind": "bill", "sum": 8}\n'
        '  job 1 of mail (queued, tags (\'a\', \'b\')): {"to": "ada@x.org", "kind": "welcome"}\n'
        "    payload['sum'] is missing, 8 expected\n"
        '    payload[\'to\']: "ada@x.org", not "bob@x.org"\n'
        '    payload[\'kind\']: "welcome", not "bill"'
    )


def test_a_job_in_another_queue_is_nearest_where_its_own_has_none() -> None:
    text = said(JOBS[2:3], "mail", payload={"to": "ada@x.org", "kind": "welcome"})
    assert "queue: 'sms', not 'mail'" in text


def test_a_wrong_count_shows_those_that_were_found() -> None:
    text = said(JOBS, "mail", count=1)
    assert text.splitlines()[0] == "1 job of mail expected, 3 found"
    assert "job 1 of mail" in text
    assert said([JOBS[3]] * 5, "mail", count=2).endswith("  and 2 more")


def test_where_nothing_was_enqueued_it_says_so() -> None:
    assert said([], "mail").endswith("nothing was enqueued at all")


def test_long_payloads_are_cut() -> None:
    assert len(said([Enqueued("mail", "x" * 100_000)], "mail", payload="y" * 100_000)) < 3000


def test_what_no_job_has_cannot_be_asked_for() -> None:
    with pytest.raises(TypeError, match="payloads is nothing that a job has"):
        assert_enqueued(JOBS, "mail", payloads={})
