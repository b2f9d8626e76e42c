"""Every reason why a job is not running, as people are told it."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.policy.reason import SENTENCES, Reason

SLOTS = {"name": "queue:q", "key": "", "limit": 1, "jobs": [7]}
RATE = {"name": "limit:api", "key": "", "limit": 3, "period_ms": 1_000, "in_ms": 450}
BUSY = {"pool": "p", "workers": 1}

CASES: list[tuple[str, dict[str, Any], str]] = [
    ("final", {"state": "completed"}, "it is completed"),
    ("final", {"state": "dead", "reason": "max_crashes"}, "it is dead: max_crashes"),
    ("final", {"state": "dead", "reason": "max_attempts", "error": "no route\n  to host"},
     "it is dead: max_attempts; its last error: no route"),
    ("final", {"state": "completed", "error": "of an earlier attempt"}, "it is completed"),
    ("running", {"token": 3}, "it is running (lease 3)"),
    ("running", {"token": 3, "fraction": 0.25, "text": ""}, "it is running, 25% done (lease 3)"),
    ("running", {"token": 3, "fraction": 1.0, "text": "page 9\nof 9"}, "it is running, 100% done: page 9 (lease 3)"),
    ("consumer", {"consumer": "cam", "token": 3, "until_at_ms": 1, "in_ms": 61_500},
     "consumer cam has it for another 1m2s (lease 3)"),
    ("no_consumer", {"queue": "q"}, "no consumer is asking for jobs of queue q"),
    ("handed_out", {"token": 3}, "a worker has it and has not begun it (lease 3)"),
    ("due_later", {"in_ms": 9_999}, "it is due in 9s999ms"),
    ("due_later", {"in_ms": 10_001}, "it is due in 11s"),
    ("due_later", {"in_ms": -5}, "it is due in 0s"),
    ("due_later", {"in_ms": 60_000, "attempt": 2, "error": "it broke"},
     "it is due in 1m, attempt 2; its last error: it broke"),
    ("other_code", {"pool": "new", "task": "send"}, "it waits for a worker of pool new, whose code knows task send"),
    ("steps", {"count": 1, "steps": [{"id": 7, "name": "parse"}], "signals": []}, "it waits for parse (job 7)"),
    ("steps", {"count": 8, "steps": [{"id": 7, "name": None}], "signals": ["go"]},
     "it waits for job 7, signal go and 3 more"),
    ("no_code", {"task": "send", "version": 1},
     "no worker at hand knows task send; it runs as soon as code is loaded that does"),
    ("no_code", {"task": "send", "version": 3},
     "no worker at hand knows task send in version 3; it runs as soon as code is loaded that does"),
    ("no_code", {"task": "", "version": 1},
     "it names no task, and its queue runs tasks only: jobsctl edit --task names one"),
    ("orphaned", {"queue": "q"}, "queue q is not in the configuration; jobsctl move takes its jobs elsewhere"),
    ("paused", {"queue": "q"}, "queue q is paused; jobsctl resume q lets it go on"),
    ("breaker", {"queue": "q", "said": "open: it is down"}, "the breaker of queue q is open: it is down"),
    ("shut", {"key": "", "in_ms": 3_000}, "its handler has asked for no more for another 3s"),
    ("shut", {"key": "k", "in_ms": 3_000}, "its handler has asked for no more of key k for another 3s"),
    ("key_paused", {"queue": "q", "key": "a b"}, "key a b is paused; jobsctl keys q --resume 'a b' lets them go on"),
    ("key_paused", {"queue": "q", "key": ""},
     "jobs without a key are paused; jobsctl keys q --resume '' lets them go on"),
    ("held", {"queue": "q", "key": "a b", "job": 7, "state": "dead"},
     ("key a b waits for job 7, which is dead: retry or delete it, "
     "or let what comes after it run with jobsctl keys q --free 'a b'")),
    ("held", {"key": "k", "job": 7, "state": "scheduled", "in_ms": 20},
     "key k waits for job 7, which is tried again in 20ms"),
    ("held", {"key": "", "job": 7, "state": "running"},
     "the queue, which is ordered, waits for job 7, which is running"),
    ("doomed", {"job": 7}, "it goes to the dead letters with its key, as job 7 is dead"),
    ("behind_key", {"key": "k", "count": 1, "more": False}, "1 job of key k comes first"),
    ("behind_key", {"key": "k", "count": 1_000, "more": True}, "more than 1,000 jobs of key k come first"),
    ("slots", SLOTS, "the queue lets 1 run at once, and job 7 has that slot"),
    ("slots", SLOTS | {"limit": 6, "name": "limit:api", "jobs": [1, 2, 3, 4, 5, 6]},
     "limit api lets 6 run at once, and jobs 1, 2, 3, 4, 5, ... have all slots"),
    ("slots", SLOTS | {"name": "key:q", "key": "k"}, "the key lets 1 run at once, and job 7 has that slot"),
    ("rate", RATE, "limit api lets 3 begin in 1s; the next may begin in 450ms"),
    ("rate", RATE | {"key": "k"}, "limit api (key k) lets 3 begin in 1s; the next may begin in 450ms"),
    ("gathers", {"lacking": 37, "in_ms": 800}, "it waits up to 800ms for 37 more jobs of its batch"),
    ("gathers", {"lacking": 1, "in_ms": 61_500}, "it waits up to 1m2s for 1 more job of its batch"),
    ("running_batch", {"token": 5, "jobs": 2}, "it is running in one call with 1 other job (lease 5)"),
    ("running_batch", {"token": 5, "jobs": 256}, "it is running in one call with 255 others (lease 5)"),
    ("behind", {"count": 2, "more": False}, "2 jobs of the queue come first"),
    ("behind_lanes", {"count": 1}, "1 key has an earlier turn"),
    ("behind_lanes", {"count": 2}, "2 keys have an earlier turn"),
    ("not_running", {}, "no daemon runs"),
    ("circuit", {"pool": "p", "circuit": "open", "reason": "no module"}, "the circuit of pool p is open: no module"),
    ("no_worker", {"pool": "p"}, "no worker of pool p is ready"),
    ("no_worker", {"pool": "p", "reason": "boot"}, "no worker of pool p is ready: boot"),
    ("busy", BUSY, "the worker of pool p is busy"),
    ("busy", BUSY | {"workers": 4}, "all 4 workers of pool p are busy"),
    ("stopping", {}, "the daemon is stopping and hands out nothing more"),
    ("store", {"error": "disk full"}, "the database cannot be written: disk full"),
    ("next", {}, "it is next, and is being handed out"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "facts", "sentence"), CASES)
def test_a_reason_is_one_sentence_with_its_numbers(kind: str, facts: dict[str, Any], sentence: str) -> None:
    assert Reason(kind, facts).sentence == sentence


def test_every_kind_is_shown_here() -> None:
    assert {kind for kind, _, _ in CASES} == set(SENTENCES)
