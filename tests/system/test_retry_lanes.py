"""Retry control beside pools, ordered queues, bounded queues and patterns: each keeps what it promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon

TOML = """
[daemon]
python_path = ["../app"]
[defaults]
workers = 1
kill_grace = "300ms"
[pools.shared]
handler = "jobs:run"
sources = ["down", "up"]
[queues.down]
breaker = { failures = 1, cooldown = "1h", max_cooldown = "1h" }
[queues.up]
[queues.blocking]
handler = "jobs:run"
ordered = true
backoff = { base = "1h" }
on_dead = "full"
[queues.skipping]
handler = "jobs:run"
ordered = true
after_dead = "skip"
backoff = { base = "1h" }
[queues.burying]
handler = "jobs:run"
ordered = true
after_dead = "dead_letter"
max_attempts = 1
on_dead = "letters.of.burying"
[queues."letters.*"]
handler = "jobs:run"
[queues.debounced]
handler = "jobs:run"
debounce = "300ms"
ttl = "400ms"
[queues.full]
handler = "jobs:run"
max_size = 1
[queues."tenant.*"]
handler = "jobs:run"
breaker = { failures = 1, cooldown = "1h", max_cooldown = "1h" }
"""

APP = {
    "jobs.py": """
def run(job):
    if job.payload == "fail":
        raise ConnectionError("down")
"""
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("lanes"), TOML, app=APP) as running:
        yield running


def queue(daemon: Daemon, name: str) -> dict[str, Any]:
    found: dict[str, Any] = daemon.ctl("status", "--json").json["queues"][name]
    return found


def test_a_breaker_stops_its_queue_and_no_other_of_the_pool(daemon: Daemon) -> None:
    failed = daemon.enqueue("down", "fail")
    daemon.wait_for(lambda: queue(daemon, "down")["breaker"]["state"] == "open", what="an open breaker")
    waiting = daemon.enqueue("down")
    for _ in range(3):
        daemon.wait_state(daemon.enqueue("up"), "completed")
    assert daemon.job(waiting)["state"] == "queued"
    explained = daemon.ctl("explain", waiting, "--json").json
    assert explained["reasons"][0]["kind"] == "breaker"
    assert "the breaker of queue down is open, next probe at" in explained["sentence"]
    assert daemon.ctl("resume", "down").status == 0
    daemon.wait_state(waiting, "completed")
    assert daemon.ctl("cancel", failed).status == 0


def test_without_a_daemon_explain_says_what_the_files_say(tmp_path: Path) -> None:
    left = '[queues.gone]\nhandler = "jobs:run"\n'
    with Daemon(tmp_path, TOML + left, app=APP) as daemon:
        daemon.ctl("pause", "gone")
        daemon.enqueue("down", "fail")
        daemon.wait_for(lambda: queue(daemon, "down")["breaker"]["state"] == "open", what="an open breaker")
        waiting, orphan = daemon.enqueue("down"), daemon.enqueue("gone")
        daemon.stop()
        daemon.config.write_text(TOML)
        found = {job_id: daemon.ctl("explain", job_id, "--json").json["reasons"] for job_id in (waiting, orphan)}
    assert [reason["kind"] for reason in found[waiting]] == ["not_running", "breaker"]
    assert [reason["kind"] for reason in found[orphan]] == ["not_running", "orphaned", "paused"]


def test_each_queue_of_a_pattern_has_a_breaker_of_its_own(daemon: Daemon) -> None:
    daemon.enqueue("tenant.a", "fail")
    daemon.wait_for(lambda: queue(daemon, "tenant.a")["breaker"]["state"] == "open", what="an open breaker")
    daemon.wait_state(daemon.enqueue("tenant.b"), "completed")
    assert daemon.job(daemon.enqueue("tenant.a"))["state"] == "queued"


def test_a_job_that_is_dead_of_its_deadline_stays_in_the_way_where_order_counts(daemon: Daemon) -> None:
    first = daemon.enqueue("blocking", "fail", "--deadline", "700ms")
    second = daemon.enqueue("blocking")
    assert daemon.wait_state(first, "dead")["reason"] == "deadline"
    assert daemon.job(second)["state"] == "queued"
    assert daemon.ctl("dead", "delete", "--queue", "blocking").status == 0
    daemon.wait_state(second, "completed")


def test_it_lets_the_others_go_where_the_queue_says_so(daemon: Daemon) -> None:
    first = daemon.enqueue("skipping", "fail", "--deadline", "700ms")
    second = daemon.enqueue("skipping")
    daemon.wait_state(second, "completed")
    assert daemon.job(first)["state"] == "dead"


def test_an_expired_job_lets_those_behind_it_go(daemon: Daemon) -> None:
    assert daemon.ctl("pause", "skipping").status == 0
    first = daemon.enqueue("skipping", None, "--ttl", "100ms")
    second = daemon.enqueue("skipping")
    daemon.wait_state(first, "cancelled")
    assert daemon.ctl("resume", "skipping").status == 0
    daemon.wait_state(second, "completed")


def test_a_job_that_is_due_anew_has_its_time_to_live_anew(daemon: Daemon) -> None:
    assert daemon.ctl("pause", "debounced").status == 0
    with daemon.client() as client:
        job_id = client.enqueue("debounced", None)
        first = client.status(job_id)
        assert client.enqueue("debounced", None) == job_id
        second = client.status(job_id)
        assert second["due_at"] > first["due_at"]
        assert second["expires_at"] > first["expires_at"]
        ended = client.wait(job_id, timeout=10)
    assert (ended["state"], ended["reason"]) == ("cancelled", "expired")
    assert ended["finished_at"] >= second["expires_at"]


def test_a_callback_to_a_full_queue_is_dropped_and_holds_up_nothing(daemon: Daemon) -> None:
    assert daemon.ctl("pause", "full").status == 0
    waiting = daemon.enqueue("full")
    dead = daemon.wait_state(daemon.enqueue("blocking", "fail", "--max-attempts", "1"), "dead")
    said = f"the callback about job {dead['id']} to queue full was dropped: queue full holds 1 waiting job"
    daemon.wait_for(lambda: said in daemon.log, what="a line in the log")
    assert daemon.job(waiting)["state"] == "queued"
    assert daemon.ctl("dead", "delete", "--queue", "blocking").status == 0


def test_jobs_that_a_dead_one_takes_along_have_callbacks_too(daemon: Daemon) -> None:
    assert daemon.ctl("pause", "burying").status == 0
    ids = [daemon.enqueue("burying", "fail"), daemon.enqueue("burying")]
    assert daemon.ctl("resume", "burying").status == 0
    for job_id in ids:
        daemon.wait_state(job_id, "dead")

    def told() -> list[dict[str, Any]]:
        listed = daemon.ctl("list", "--queue", "letters.of.burying", "--json").lines
        return [daemon.job(job["id"])["payload"] for job in listed]

    daemon.wait_for(lambda: len(told()) == 2, what="two callbacks")
    assert {found["job"]["id"]: found["reason"] for found in told()} == {ids[0]: "max_attempts", ids[1]: "dead_key"}
