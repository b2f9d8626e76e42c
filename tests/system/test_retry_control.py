"""Retry control as users meet it: TOML, the command line, Python and handlers, on a real daemon."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon, Site
from tests.support.waiting import opened

TOML = """
[daemon]
python_path = ["../app"]
[defaults]
workers = 1
kill_grace = "300ms"
backoff = { base = "10ms", max = "20ms" }
[queues.py]
handler = "jobs:run"
[queues.steps]
handler = "jobs:run"
backoff = { delays = ["1ms", "1h"], jitter = 0 }
[queues.fn]
handler = "jobs:run"
backoff = "jobs:delay"
max_attempts = 2
[queues.rules]
handler = "jobs:run"
[queues.rules.on_error]
"jobs.Timeout" = "dead"
"OSError" = "cancel"
"KeyError" = { snooze = "10ms" }
"ArithmeticError" = { backoff = ["1ms"], max_attempts = 7 }
"timeout" = "dead"
"crash" = "dead"
[queues.sh]
command = ["sh", "-c", "exit $(cat)"]
on_error = { "exit 65" = "dead", "exit 66" = "cancel" }
[queues.killed]
command = ["sh", "-c", "kill -9 $$"]
on_error = { "signal KILL" = "dead" }
[queues.short]
handler = "jobs:run"
ttl = "150ms"
[queues.calls]
handler = "jobs:run"
max_attempts = 2
on_failure = "failures"
on_dead = "deaths"
redact = ["password"]
[queues.failures]
handler = "jobs:run"
[queues.deaths]
handler = "jobs:run"
max_attempts = 1
on_dead = "failures"
[queues.small]
handler = "jobs:run"
max_attempts = 1
on_dead = "tiny"
[queues.tiny]
handler = "jobs:run"
max_payload = "250B"
[queues.broken]
handler = "jobs:run"
backoff = "jobs:no_such_function"
[queues.halted]
handler = "jobs:run"
breaker = { failures = 1, cooldown = "1h", max_cooldown = "1h" }
"""

APP = {
    "jobs.py": """
import os, time
from supervisor.job import Retry, Snooze

class Timeout(OSError):
    pass

def delay(job, error):
    if job.payload.get("delay") == "raise":
        raise RuntimeError("no idea")
    if job.payload.get("delay") == "nonsense":
        return "soon"
    assert isinstance(error, ValueError)
    return "5ms"

def run(job):
    told = job.payload if isinstance(job.payload, dict) else {}
    what = told.get("do")
    if "hold" in told:
        os.close(os.open(told["hold"], os.O_RDONLY))
    if what == "again" and job.attempt < 3:
        return Retry(told.get("delay"), "not yet")
    if what == "raise" or "job" in told and told["job"]["queue"] == "calls" and told["reason"] == "max_attempts":
        raise {"ValueError": ValueError, "Timeout": Timeout, "OSError": OSError, "KeyError": KeyError,
               "ZeroDivisionError": ZeroDivisionError}[told.get("of", "ValueError")]("it broke")
    if what == "die":
        os._exit(3)
    if what == "once" and not os.path.exists(told["mark"]):
        open(told["mark"], "w").close()
        return Snooze("400ms")
    if what == "sleep":
        time.sleep(60)
    return job.deadline.timestamp()
"""
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("retry"), TOML, app=APP) as running:
        yield running


def messages(job: dict[str, Any]) -> list[str]:
    return [error["message"] for error in job["errors"]]


def in_queue(daemon: Daemon, queue: str) -> list[dict[str, Any]]:
    """All jobs of a queue, with everything about them, oldest first."""
    ids = [job["id"] for job in daemon.ctl("list", "--queue", queue, "--json").lines]
    return [daemon.job(job_id) for job_id in sorted(ids)]


# -- backoff and outcomes ------------------------------------------------------------------------------------------


def test_a_handler_asks_for_another_attempt(daemon: Daemon) -> None:
    job = daemon.wait_state(daemon.enqueue("py", {"do": "again"}), "completed")
    assert (job["attempt"], job["failures"], messages(job)) == (3, 2, ["not yet", "not yet"])
    assert {error["type"] for error in job["errors"]} == {"Retry"}


def test_the_delay_that_a_handler_asks_for_counts(daemon: Daemon) -> None:
    job = daemon.wait_state(daemon.enqueue("py", {"do": "again", "delay": "1h"}), "scheduled")
    due, failed = (datetime.fromisoformat(at) for at in (job["due_at"], job["errors"][0]["at"]))
    assert timedelta(minutes=59) < due - failed < timedelta(minutes=61)


def test_listed_delays_are_taken_one_by_one(daemon: Daemon) -> None:
    job_id = daemon.enqueue("steps", {"do": "raise"})
    job = daemon.wait_for(lambda: (found := daemon.job(job_id))["failures"] == 2 and found, what="two failures")
    due, failed = (datetime.fromisoformat(at) for at in (job["due_at"], job["errors"][1]["at"]))
    assert abs((due - failed) - timedelta(hours=1)) < timedelta(milliseconds=5)


def test_a_function_gives_the_delay_or_the_error_says_why_it_did_not(daemon: Daemon) -> None:
    good = daemon.wait_state(daemon.enqueue("fn", {"do": "raise"}), "dead")
    assert good["errors"][0].get("backoff_error") is None
    raised = daemon.wait_state(daemon.enqueue("fn", {"do": "raise", "delay": "raise"}), "dead")
    assert raised["errors"][0]["backoff_error"] == "jobs:delay gave no delay: RuntimeError: no idea"
    assert messages(raised) == ["it broke"] * 2
    nonsense = daemon.wait_state(daemon.enqueue("fn", {"do": "raise", "delay": "nonsense"}), "dead")
    assert nonsense["errors"][0]["backoff_error"].startswith("jobs:delay gave no delay: ValueError: not a duration")


def test_a_function_that_is_not_there_is_a_reason_in_status(daemon: Daemon) -> None:
    def reason() -> str | None:
        found: str | None = daemon.ctl("status", "--json").json["queues"]["broken"]["reason"]
        return found

    assert "jobs:no_such_function cannot be imported" in daemon.wait_for(lambda: reason() or "", what="a reason")


# -- rules for errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "state", "reason", "charged"),
    [
        ({"do": "raise", "of": "Timeout"}, "dead", "on_error", (1, 0)),
        ({"do": "raise", "of": "OSError"}, "cancelled", "on_error", (0, 0)),
        ({"do": "raise", "of": "ZeroDivisionError"}, "dead", "max_attempts", (7, 0)),
        ({"do": "die"}, "dead", "on_error", (0, 1)),
    ],
)
def test_an_error_is_dealt_with_as_its_class_says(
    daemon: Daemon, payload: dict[str, Any], state: str, reason: str, charged: tuple[int, int]
) -> None:
    job = daemon.wait_state(daemon.enqueue("rules", payload), state)
    assert (job["reason"], (job["failures"], job["crashes"])) == (reason, charged)


def test_a_time_out_has_a_rule_as_well(daemon: Daemon) -> None:
    job = daemon.wait_state(daemon.enqueue("rules", {"do": "sleep"}, "--timeout", "100ms"), "dead")
    assert (job["reason"], job["failures"]) == ("on_error", 1)


def test_a_snooze_by_rule_charges_nothing(daemon: Daemon) -> None:
    job_id = daemon.enqueue("rules", {"do": "raise", "of": "KeyError"})
    said = f"job {job_id} of rules runs again in 0.01 s, without charge (on_error): KeyError"
    daemon.wait_for(lambda: daemon.log.count(said) > 2, what="three snoozes")
    job = daemon.job(job_id)
    assert (job["failures"], job["errors"]) == (0, [])
    assert daemon.ctl("cancel", job_id).status == 0


@pytest.mark.parametrize(
    ("queue", "payload", "state"), [("sh", 65, "dead"), ("sh", 66, "cancelled"), ("killed", None, "dead")]
)
def test_a_command_is_dealt_with_by_how_it_ends(daemon: Daemon, queue: str, payload: Any, state: str) -> None:
    job = daemon.wait_state(daemon.enqueue(queue, payload), state)
    assert job["reason"] == "on_error"


# -- what a job brings itself --------------------------------------------------------------------------------------


def test_a_job_brings_its_backoff_and_how_long_it_is_retried(daemon: Daemon) -> None:
    job = daemon.wait_state(daemon.enqueue("py", {"do": "raise"}, "--backoff", "1ms,1h", "--retry-for", "30m"), "dead")
    assert (job["reason"], job["failures"]) == ("retry_for", 2)


def test_a_revived_job_has_its_time_for_retries_anew(daemon: Daemon) -> None:
    job_id = daemon.enqueue("py", {"do": "raise"}, "--backoff", "300ms", "--retry-for", "500ms")
    first = daemon.wait_state(job_id, "dead")
    assert daemon.ctl("retry", job_id).status == 0
    daemon.wait_for(lambda: len(daemon.job(job_id)["errors"]) > len(first["errors"]), what="another failure")
    again = daemon.wait_state(job_id, "dead")
    assert (first["failures"], again["failures"], again["reason"]) == (2, 2, "retry_for")


def test_a_run_is_cut_at_the_deadline_and_the_job_is_dead(daemon: Daemon) -> None:
    job = daemon.wait_state(daemon.enqueue("py", {"do": "sleep"}, "--deadline", "300ms"), "dead")
    assert (job["reason"], [error["kind"] for error in job["errors"]]) == ("deadline", ["timeout"])
    late = datetime.fromisoformat(job["finished_at"]) - datetime.fromisoformat(job["deadline_at"])
    assert timedelta() <= late < timedelta(seconds=5)


def test_a_job_that_waits_beyond_its_deadline_is_dead(daemon: Daemon) -> None:
    soon = (datetime.now(UTC) + timedelta(milliseconds=300)).isoformat()
    job = daemon.wait_state(daemon.enqueue("py", None, "--delay", "1h", "--deadline", soon), "dead")
    assert (job["reason"], job["started_at"], job["errors"]) == ("deadline", None, [])
    assert job["finished_at"] >= job["deadline_at"]


def test_a_handler_sees_the_nearer_of_its_deadlines(daemon: Daemon) -> None:
    job = daemon.wait_state(daemon.enqueue("py", None, "--deadline", "10s"), "completed")
    assert abs(job["result"] - datetime.fromisoformat(job["deadline_at"]).timestamp()) < 0.05


def test_a_job_that_is_not_started_in_time_expires(daemon: Daemon, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    running = daemon.enqueue("short", {"hold": str(gate)})
    daemon.wait_for(lambda: daemon.job(running)["started_at"] or daemon.job(running)["state"] == "running")
    with daemon.client() as client:
        late = client.enqueue("short", None)
        patient = client.enqueue("short", None, ttl="1h")
        dated = client.enqueue("short", None, expires=datetime.now(UTC) + timedelta(milliseconds=100))
        for job_id in (late, dated):
            found = client.wait(job_id, timeout=10)
            assert (found["state"], found["reason"], found["attempt"]) == ("cancelled", "expired", 0)
            assert found["expires_at"] <= found["finished_at"]
        daemon.wait_for(lambda: opened(gate), what="the run at its gate")
        assert client.wait(running, timeout=10)["state"] == "completed"
        assert client.wait(patient, timeout=10)["state"] == "completed"


def test_a_job_that_was_started_once_does_not_expire(daemon: Daemon, tmp_path: Path) -> None:
    job_id = daemon.enqueue("short", {"do": "once", "mark": str(tmp_path / "mark")})
    job = daemon.wait_state(job_id, "completed", "cancelled")
    assert job["state"] == "completed"
    assert job["finished_at"] > job["expires_at"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--ttl", "1s", "--expires", "2030-01-01T00:00:00Z"), "--ttl and --expires exclude each other"),
        (("--backoff", "1s,soon"), "not a duration"),
        (("--deadline", "tomorrow"), "not a duration"),
        (("--deadline", "2030-01-01T00:00:00"), "does not say its offset"),
    ],
)
def test_options_without_a_meaning_are_usage_errors(daemon: Daemon, options: tuple[str, ...], message: str) -> None:
    ran = daemon.ctl("enqueue", "py", "null", *options)
    assert ran.status == 2
    assert message in ran.err


# -- callbacks -----------------------------------------------------------------------------------------------------


def test_failures_and_deaths_call_other_queues_and_callbacks_call_nobody(daemon: Daemon) -> None:
    payload = {"do": "raise", "password": "secret"}
    job_id = daemon.enqueue("calls", payload, "--tag", "blue")
    daemon.wait_state(job_id, "dead")
    (death,) = daemon.wait_for(lambda: in_queue(daemon, "deaths"), what="a callback")
    daemon.wait_state(death["id"], "dead")
    told = death["payload"]
    assert told["job"] == {
        "id": job_id, "queue": "calls", "payload": {"do": "raise", "password": "[redacted]"}, "attempt": 2,
        "failures": 2, "crashes": 0, "tags": ["blue"],
    }  # fmt: skip
    assert told["error"] == {"kind": "error", "type": "ValueError", "message": "it broke"}
    assert told["reason"] == "max_attempts"
    failures = [job["payload"] for job in in_queue(daemon, "failures")]
    assert [(found["reason"], found["job"]["failures"]) for found in failures] == [("retry", 1), ("max_attempts", 2)]


def test_a_callback_that_is_too_large_is_shortened_and_then_dropped(daemon: Daemon) -> None:
    dead = daemon.wait_state(daemon.enqueue("small", {"do": "raise", "more": "x" * 1_000}), "dead")
    told = daemon.wait_for(lambda: in_queue(daemon, "tiny"), what="a callback")[-1]["payload"]
    assert (told["job"]["id"], told["job"]["payload"], told["job"]["payload_omitted"]) == (dead["id"], None, True)
    many = [option for number in range(10) for option in ("--tag", f"{number}" * 40)]
    dropped = daemon.wait_state(daemon.enqueue("small", {"do": "raise"}, *many), "dead")
    said = f"the callback about job {dropped['id']} to queue tiny was dropped: the payload is"
    daemon.wait_for(lambda: said in daemon.log, what="a line in the log")


def test_a_cancel_is_no_death(daemon: Daemon) -> None:
    before = len(in_queue(daemon, "deaths"))
    job_id = daemon.enqueue("calls", None, "--delay", "1h")
    assert daemon.ctl("cancel", job_id).status == 0
    assert len(in_queue(daemon, "deaths")) == before


# -- the breaker ---------------------------------------------------------------------------------------------------


def test_status_shows_a_breaker_and_resume_closes_it(daemon: Daemon) -> None:
    daemon.enqueue("halted", {"do": "raise"})

    def queue() -> dict[str, Any]:
        found: dict[str, Any] = daemon.ctl("status", "--json").json["queues"]["halted"]
        return found

    shown = daemon.wait_for(lambda: queue()["breaker"]["state"] == "open" and queue(), what="an open breaker")
    assert shown["reason"].startswith("breaker open, next probe at ")
    assert shown["breaker"]["reason"] == "ValueError: it broke"
    waiting = daemon.enqueue("halted", None)
    assert daemon.ctl("resume", "halted").status == 0
    daemon.wait_state(waiting, "completed")
    assert daemon.ctl("status", "--json").json["queues"]["py"]["breaker"] is None


def test_without_a_daemon_a_breaker_is_read_from_the_file(tmp_path: Path) -> None:
    toml = TOML.split("[queues.py]", maxsplit=1)[0] + "[queues.halted]" + TOML.split("[queues.halted]")[1]
    with Daemon(tmp_path, toml, app=APP) as running:
        running.enqueue("halted", {"do": "raise"})

        def opened_breaker() -> bool:
            return bool(running.ctl("status", "--json").json["queues"]["halted"]["breaker"]["state"] == "open")

        running.wait_for(opened_breaker, what="an open breaker")
        assert running.stop() == 0
        site = Site(tmp_path, toml)
        assert site.ctl("status", "--json").json["queues"]["halted"]["breaker"]["state"] == "open"
        assert site.ctl("resume", "halted").status == 0
        assert site.ctl("status", "--json").json["queues"]["halted"]["breaker"]["state"] == "closed"
