"""Consumers that are no workers of ours: every verb from Python and from a shell, and what their silence does."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from supervisor.client import AsyncClient, Client
from supervisor.errors import (
    Busy,
    Denied,
    InvalidPayload,
    NotRunning,
    NotUnique,
    PayloadTooLarge,
    StaleLease,
    UnknownJob,
    UnknownQueue,
    UsageError,
    WrongState,
)
from supervisor.flow import Flow, step
from tests.support.daemon import Daemon, environment
from tests.support.load import RawClient
from tests.support.waiting import until

TOML = """
[daemon]
python_path = ["../app"]
[defaults]
backoff = { base = "1ms", jitter = 0.0 }
[queues.pull]
pull = true
max_attempts = 2
max_result = "1KiB"
on_error = { "Hopeless" = "dead" }
[queues.limited]
pull = true
concurrency = 2
key_concurrency = 1
[queues.ordered]
pull = true
ordered = true
[queues.fair]
pull = true
order = "fair"
[queues.urgent]
pull = true
order = "priority"
[queues.once]
pull = true
unique = { by = ["n"] }
[queues.fragile]
pull = true
breaker = { failures = 1, cooldown = "5m" }
[queues."tenant_*"]
pull = true
[queues.worked]
command = ["sh", "-c", "echo $JOBSUP_FLOW"]
workers = 1
"""

DEEP = "[" * 101 + "]" * 101
"""JSON that breaks a rule of payloads."""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("pull"), TOML) as running:
        yield running


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client[int]]:
    with daemon.client() as found:
        yield found


@pytest.fixture(autouse=True)
def emptied(daemon: Daemon) -> Iterator[None]:
    """What a test leaves behind is no other's."""
    yield
    with daemon.client() as client:
        for each in client.consumers():
            if each["token"] is not None:
                client.release(each["token"])
        for name, queue in client.status()["queues"].items():
            if queue["queued"] or queue["scheduled"]:
                for state in ("queued", "scheduled"):
                    client.request("purge", queue=name, state=state)


def one(client: Client[int], queue: str = "pull", **options: Any) -> dict[str, Any]:
    """A job that is fetched."""
    (job,) = client.fetch(queue, **options)
    return job


# -- the verbs ---------------------------------------------------------------------------------------------------


def test_a_job_is_fetched_and_done(client: Client[int]) -> None:
    job_id = client.enqueue("pull", {"path": "a.png"}, tags=["new"], key="acme")
    job = one(client, consumer="cam")
    shown = {name: job[name] for name in ("id", "queue", "payload", "attempt", "max_attempts", "tags", "key", "flow")}
    assert shown == {
        "id": job_id, "queue": "pull", "payload": {"path": "a.png"}, "attempt": 1, "max_attempts": 2, "tags": ["new"],
        "key": "acme", "flow": None,
    }  # fmt: skip
    held = client.status(job_id)
    assert (held["state"], held["worker"], held["consumer"]["name"]) == ("running", None, "cam")
    assert client.ack(job_id, job["token"], {"width": 640}) == {
        "id": job_id, "queue": "pull", "state": "completed", "repeated": False,
    }  # fmt: skip
    done = client.wait(job_id, 5)
    assert (done["result"], done["consumer"], done["attempt"]) == ({"width": 640}, None, 1)
    assert client.consumers() == []


def test_a_fetch_waits_for_jobs_and_is_told_when_nothing_comes(client: Client[int], daemon: Daemon) -> None:
    assert client.fetch("pull", wait=0) == []
    assert client.fetch("pull", wait="20ms") == []
    found: list[dict[str, Any]] = []
    with daemon.client() as other:
        waiting = threading.Thread(target=lambda: found.extend(other.fetch("pull", wait="30s", consumer="waiter")))
        waiting.start()
        until(lambda: [each["consumer"] for each in client.consumers()] == ["waiter"], 10)
        job_id = client.enqueue("pull", 1)
        waiting.join(10)
    assert [job["id"] for job in found] == [job_id]


def test_one_lease_has_several_jobs_under_one_token(client: Client[int]) -> None:
    ids = client.enqueue_many("pull", [1, 2, 3, 4])
    jobs = client.fetch("pull", 3)
    assert [job["id"] for job in jobs] == ids[:3]
    assert len({job["token"] for job in jobs}) == 1
    token = jobs[0]["token"]
    client.ack(ids[0], token)
    assert client.extend(token)["jobs"] == ids[1:3]
    assert client.fail(ids[1], token, "no")["state"] == "scheduled"
    assert client.release(token) == [ids[2]]
    with pytest.raises(StaleLease):
        client.extend(token)
    assert client.status(ids[2])["state"] == "queued"


def test_a_failure_is_charged_as_that_of_a_worker(client: Client[int]) -> None:
    job_id = client.enqueue("pull", 1)
    first = one(client)
    assert client.fail(job_id, first["token"], "no such image", type="NotFound")["state"] == "scheduled"
    again = one(client)
    assert (again["attempt"], again["previous_error"]) == (2, "no such image")
    assert again["token"] > first["token"]
    assert client.fail(job_id, again["token"], "still none", type="NotFound", traceback="at line 1") == {
        "id": job_id, "queue": "pull", "state": "dead",
    }  # fmt: skip
    dead = client.status(job_id)
    assert (dead["failures"], dead["reason"]) == (2, "max_attempts")
    assert [(each["kind"], each["type"], each["message"]) for each in dead["errors"]] == [
        ("error", "NotFound", "no such image"), ("error", "NotFound", "still none"),
    ]  # fmt: skip
    assert dead["errors"][1]["traceback"] == "at line 1"


@pytest.mark.parametrize(
    ("how", "state", "reason"),
    [({"final": True}, "dead", "rejected"), ({"type": "Hopeless"}, "dead", "on_error"),
     ({"retry_in": "1h"}, "scheduled", None)],
)  # fmt: skip
def test_a_failure_may_say_what_becomes_of_the_job(
    client: Client[int], how: dict[str, Any], state: str, reason: str | None
) -> None:
    job_id = client.enqueue("pull", 1)
    assert client.fail(job_id, one(client)["token"], "no", **how)["state"] == state
    assert client.status(job_id)["reason"] == reason


def test_as_many_jobs_as_a_fetch_may_ask_for_fit_into_its_reply_whatever_they_failed_with(client: Client[int]) -> None:
    """A reply that cannot be sent would be a lease of which nobody knows, and a charge for each job at its end."""
    client.enqueue_many("pull", list(range(256)))
    for job in client.fetch("pull", 256):
        client.fail(job["id"], job["token"], "\x01" * 16_000, retry_in=0)
    again: list[dict[str, Any]] = []
    while len(again) < 256 and (jobs := client.fetch("pull", 256, wait="5s")):
        again += jobs
    assert [(job["attempt"], job["previous_error"]) for job in again] == [(2, "\x01" * 1_024)] * 256


def test_what_is_released_is_charged_to_nobody_and_keeps_its_place(client: Client[int]) -> None:
    first, second = client.enqueue_many("pull", [1, 2])
    token = one(client)["token"]
    assert client.release(token, [first]) == [first]
    assert [job["id"] for job in client.fetch("pull", 2)] == [first, second]
    assert client.status(first)["failures"] == 0


def test_what_is_released_for_later_comes_later(client: Client[int]) -> None:
    job_id = client.enqueue("pull", 1)
    assert client.release(one(client)["token"], delay="1h") == [job_id]
    shown = client.status(job_id)
    assert (shown["state"], shown["failures"], shown["interruptions"]) == ("scheduled", 0, 0)


def test_an_ack_that_is_repeated_changes_nothing(client: Client[int]) -> None:
    job_id = client.enqueue("pull", 1)
    token = one(client)["token"]
    assert not client.ack(job_id, token, "first")["repeated"]
    assert client.ack(job_id, token, "second")["repeated"]
    assert client.status(job_id)["result"] == "first"
    with pytest.raises(StaleLease):
        client.ack(job_id, token + 1)


def test_what_is_said_of_a_lease_right_behind_its_last_ack_is_stale(daemon: Daemon, client: Client[int]) -> None:
    """All of it is heard in one pass, in which the lease is still there, without jobs."""
    job_id = client.enqueue("pull", 1)
    token = one(client)["token"]
    ack = {"op": "ack", "job": job_id, "token": token}
    said = [ack, {"op": "extend", "token": token}, {"op": "release", "token": token}, ack]
    bodies = [json.dumps({"v": 1, "id": number, **each}).encode() for number, each in enumerate(said)]
    with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rb") as replies:
        sock.connect(str(daemon.socket))
        sock.sendall(b"".join(struct.pack(">I", len(body)) + body for body in bodies))
        answers = [json.loads(replies.read(*struct.unpack(">I", replies.read(4)))) for _ in said]
    codes = {each["id"]: each["error"]["code"] if "error" in each else each["ok"]["repeated"] for each in answers}
    assert codes == {0: False, 1: "stale", 2: "stale", 3: True}


def test_a_fetch_that_is_repeated_under_its_key_gives_the_same_jobs(client: Client[int]) -> None:
    first, _ = client.enqueue_many("pull", [1, 2])
    given = {"queue": "pull", "key": "once-1"}
    found = client.request("fetch", **given)
    again = client.request("fetch", **given)
    assert [job["id"] for job in found["jobs"]] == [job["id"] for job in again["jobs"]] == [first]
    assert (found["token"], found["repeated"], again["repeated"]) == (again["token"], False, True)
    client.ack(first, found["token"])
    assert client.request("fetch", **given)["jobs"][0]["id"] != first


def test_a_fetch_that_is_repeated_while_it_waits_is_one_fetch(daemon: Daemon, client: Client[int]) -> None:
    """One lease, whichever connection it is asked for on; both hear of it, and the next job is nobody's."""
    given = {"queue": "pull", "key": "twice", "wait_ms": 20_000}
    with ThreadPoolExecutor(3) as pool:
        asked = []
        for _ in range(3):
            asked.append(pool.submit(client.request, "fetch", **given))
            time.sleep(0.1)
        assert asked[0].result(10)["jobs"] == []
        assert len([each for each in client.consumers() if each["state"] == "waiting"]) == 1
        first, second = client.enqueue_many("pull", [1, 2])
        found = [each.result(10) for each in asked[1:]]
    assert [[job["id"] for job in each["jobs"]] for each in found] == [[first], [first]]
    assert len({each["token"] for each in found}) == 1
    assert client.status(second)["state"] == "queued"


def test_a_repetition_that_does_not_wait_ends_the_wait_of_the_first(client: Client[int]) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.request, "fetch", queue="pull", key="no-more", wait_ms=20_000)
        until(client.consumers, 10)
        assert client.request("fetch", queue="pull", key="no-more")["jobs"] == []
        assert asked.result(5)["jobs"] == []


def test_who_has_a_lease_keeps_it_when_another_who_asked_under_its_key_is_gone(
    daemon: Daemon, client: Client[int]
) -> None:
    """The first one has read nothing of its answer, which is more than its socket holds, when it is killed."""
    client.enqueue_many("pull", ["a" * 500_000] * 4)
    question = json.dumps({"v": 1, "id": 1, "op": "fetch", "queue": "pull", "jobs_max": 4, "key": "twice"})
    with socket.socket(socket.AF_UNIX) as first:
        first.connect(str(daemon.socket))
        first.sendall(struct.pack(">I", len(question)) + question.encode())
        until(lambda: select.select([first], [], [], 0)[0], 10, "the beginning of the answer")
        again = client.request("fetch", queue="pull", jobs_max=4, key="twice")
        assert (again["repeated"], len(again["jobs"])) == (True, 4)
    for _ in range(2):  # it is noticed no later than the first of these is read, and the second comes after that
        assert len(client.extend(again["token"])["jobs"]) == 4
    for job in again["jobs"]:
        assert client.ack(job["id"], job["token"])["state"] == "completed"


def test_a_key_is_of_one_queue(client: Client[int]) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.request, "fetch", queue="pull", key="mine", wait_ms=20_000)
        until(client.consumers, 10)
        for wait_ms in (0, 20_000):
            with pytest.raises(WrongState, match="fetch from another queue"):
                client.request("fetch", queue="fair", key="mine", wait_ms=wait_ms)
        job_id = client.enqueue("pull", 1)
        assert asked.result(10)["jobs"][0]["id"] == job_id
    with pytest.raises(WrongState, match="fetch from another queue"):
        client.request("fetch", queue="fair", key="mine")


def test_jobs_are_enqueued_with_the_completion_or_not_at_all(client: Client[int]) -> None:
    job_id = client.enqueue("pull", 1)
    token = one(client)["token"]
    with pytest.raises(UnknownQueue):
        client.ack(job_id, token, enqueue=[{"queue": "urgent", "payload": 1}, {"queue": "nix"}])
    client.enqueue("once", {"n": 1})
    with pytest.raises(InvalidPayload):
        client.ack(job_id, token, enqueue=[{"queue": "pull", "priority": 3}])
    assert client.extend(token)["jobs"] == [job_id]
    counts = client.status()["queues"]
    assert (counts["urgent"]["queued"], counts["pull"]["running"]) == (0, 1)
    client.ack(job_id, token, enqueue=[{"queue": "urgent", "payload": {"for": job_id}, "priority": 7, "tags": ["t"]}])
    child = one(client, "urgent")
    assert (child["payload"], child["priority"], child["tags"]) == ({"for": job_id}, 7, ["t"])


def test_a_child_that_is_refused_leaves_the_job_with_its_consumer(tmp_path: Path) -> None:
    toml = '[queues.pull]\npull = true\n[queues.once]\npull = true\nunique = { on_conflict = "refuse" }\n'
    with Daemon(tmp_path, toml) as daemon, daemon.client() as client:
        client.enqueue("once", 1)
        job_id = client.enqueue("pull", 1)
        token = one(client)["token"]
        with pytest.raises(NotUnique):
            client.ack(job_id, token, enqueue=[{"queue": "once", "payload": 1}])
        assert client.ack(job_id, token)["state"] == "completed"


def test_a_long_error_is_told_by_its_beginning_and_its_end(client: Client[int], daemon: Daemon) -> None:
    """Were it refused, its consumer could not say why the job has failed, and the job would be charged a time-out."""
    long = f"first{'x' * 20_000}\udcfflast"
    first, second = client.enqueue_many("pull", [1, 2])
    token = client.fetch("pull", 2)[0]["token"]
    client.fail(first, token, long, traceback=long, final=True)
    assert daemon.ctl("fail", second, token, long, "--final").out == "dead\n"
    (told,), (other,) = client.status(first)["errors"], client.status(second)["errors"]
    for text in (told["message"], told["traceback"], other["message"]):
        assert len(text) == 16_384
        assert text.startswith("firstx")
        assert text.endswith("x\\udcfflast")


@pytest.mark.parametrize(
    ("result", "error"),
    [
        ("x" * 2_000, PayloadTooLarge), ("\0", InvalidPayload), (float("nan"), InvalidPayload),
        (json.loads(DEEP), InvalidPayload), (object(), InvalidPayload), ("\ud800", InvalidPayload),
    ],
)  # fmt: skip
def test_a_result_that_cannot_be_stored_leaves_the_job_with_its_consumer(
    client: Client[int], result: Any, error: type[Exception]
) -> None:
    job_id = client.enqueue("pull", 1)
    token = one(client)["token"]
    with pytest.raises(error, match=r"^the result "):
        client.ack(job_id, token, result)
    assert client.ack(job_id, token, "fits")["state"] == "completed"


def test_a_result_is_called_a_result_whoever_refuses_it(client: Client[int], daemon: Daemon) -> None:
    job_id = client.enqueue("pull", 1)
    token = one(client)["token"]
    with pytest.raises(InvalidPayload, match=r"^the result is nested deeper than 100 levels"):
        client.request("ack", job=job_id, token=token, result=json.loads(DEEP))
    assert daemon.ctl("ack", job_id, token, DEEP).err.startswith("jobsctl: the result is nested deeper")
    assert daemon.ctl("ack", job_id, token, "{").err.startswith("jobsctl: the result is not JSON")


def test_who_holds_a_cancelled_job_hears_of_it(client: Client[int]) -> None:
    first, second = client.enqueue_many("pull", [1, 2])
    token = client.fetch("pull", 2)[0]["token"]
    client.cancel(first)
    assert client.extend(token)["cancelled"] == [first]
    assert client.fail(first, token, "it was stopped")["state"] == "cancelled"
    client.cancel(second)
    client.release(token)
    assert client.status(second)["state"] == "cancelled"


def test_a_cancelled_job_that_is_done_all_the_same_is_done(client: Client[int]) -> None:
    job_id = client.enqueue("pull", 1)
    token = one(client)["token"]
    client.cancel(job_id)
    assert client.ack(job_id, token)["state"] == "completed"


@pytest.mark.parametrize(
    ("op", "members", "error"),
    [
        ("fetch", {"queue": "nix"}, UnknownQueue), ("fetch", {"queue": "worked"}, WrongState),
        ("fetch", {"queue": "tenant_*"}, UnknownQueue), ("fetch", {"queue": "pull", "jobs_max": 0}, UsageError),
        ("fetch", {"queue": "pull", "consumer": "a\x1b"}, UsageError), ("extend", {"token": 2**40}, StaleLease),
        ("fetch", {"queue": "pull", "lease_ms": 0}, UsageError), ("release", {"token": 2**40}, StaleLease),
        ("ack", {"job": 2**40, "token": 1}, UnknownJob), ("fail", {"job": 1, "token": 1}, UsageError),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused(
    client: Client[int], op: str, members: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        client.request(op, **members)


def test_the_lease_of_a_worker_is_no_consumers(client: Client[int], daemon: Daemon, tmp_path: Path) -> None:
    toml = TOML + f'[queues.held]\ncommand = ["sh", "-c", "read line < {tmp_path}/hold"]\n'
    os.mkfifo(tmp_path / "hold")
    with Daemon(tmp_path / "d", toml) as own, own.client() as asking:
        job_id = asking.enqueue("held", 1)
        running = own.wait_state(job_id, "running")
        for act in (
            lambda: asking.ack(job_id, running["token"]),
            lambda: asking.fail(job_id, running["token"], "no"),
            lambda: asking.extend(running["token"]),
            lambda: asking.release(running["token"]),
        ):
            with pytest.raises(StaleLease):
                act()


def test_a_client_of_an_event_loop_has_the_same_verbs(daemon: Daemon, client: Client[int]) -> None:
    ids = client.enqueue_many("pull", [1, 2, 3])

    async def work() -> list[Any]:
        async with AsyncClient(str(daemon.config)) as own:
            jobs = await own.fetch("pull", 3, lease="1m", consumer="loop")
            token = jobs[0]["token"]
            held = await own.extend(token, "2m")
            names = [each["consumer"] for each in await own.consumers()]
            done = await own.ack(ids[0], token, "done", enqueue=[{"queue": "urgent", "payload": "child"}])
            failed = await own.fail(ids[1], token, "no", type="No", retry_in="1h")
            released = await own.release(token, [ids[2]], delay="1h")
            waiting = asyncio.create_task(own.fetch("pull", wait="30s"))
            await own.enqueue("pull", 4)
            return [held["jobs"], names, done["state"], failed["state"], released, (await waiting)[0]["payload"]]

    assert asyncio.run(work()) == [ids, ["loop"], "completed", "scheduled", [ids[2]], 4]
    assert one(client, "urgent")["payload"] == "child"


# -- the policies of every queue -----------------------------------------------------------------------------------


def test_limits_and_keys_hold(client: Client[int]) -> None:
    for key in ("a", "a", "b", "c"):
        client.enqueue("limited", key, key=key)
    jobs = client.fetch("limited", 10)
    assert [job["payload"] for job in jobs] == ["a", "b"]
    assert client.fetch("limited", 10, wait=0) == []
    client.ack(jobs[0]["id"], jobs[0]["token"])
    assert [job["payload"] for job in client.fetch("limited", 10)] == ["a"]


def test_a_fetch_that_waits_for_a_limit_is_answered_when_it_has_room(client: Client[int], daemon: Daemon) -> None:
    client.enqueue("limited", 1, key="a")
    job = one(client, "limited")
    client.enqueue("limited", 2, key="a")
    found: list[dict[str, Any]] = []
    with daemon.client() as other:
        waiting = threading.Thread(target=lambda: found.extend(other.fetch("limited")))
        waiting.start()
        until(lambda: [each for each in client.consumers() if each["state"] == "waiting"], 10)
        client.ack(job["id"], job["token"])
        waiting.join(10)
    assert [job["payload"] for job in found] == [2]


def test_order_holds_across_failures(client: Client[int]) -> None:
    first, second = (client.enqueue("ordered", number, key="k") for number in (1, 2))
    job = one(client, "ordered")
    assert client.fetch("ordered", wait=0) == []
    client.fail(first, job["token"], "no", retry_in="1ms")
    assert [one(client, "ordered")["id"]] == [first]
    assert client.status(second)["state"] == "queued"


def test_priorities_and_turns_hold(client: Client[int]) -> None:
    for priority in (0, 5, 10):
        client.enqueue("urgent", priority, priority=priority)
    assert [job["payload"] for job in client.fetch("urgent", 3)] == [10, 5, 0]
    for key in ("a", "a", "a", "b"):
        client.enqueue("fair", key, key=key)
    assert [job["payload"] for job in client.fetch("fair", 4)] == ["a", "b", "a", "a"]


def test_a_paused_queue_hands_out_nothing_and_pausing_ends_no_lease(client: Client[int]) -> None:
    client.enqueue_many("pull", [1, 2])
    job = one(client)
    client.request("pause", queue="pull")
    try:
        assert client.fetch("pull", wait=0) == []
        assert client.ack(job["id"], job["token"])["state"] == "completed"
    finally:
        client.request("resume", queue="pull")
    assert one(client)["payload"] == 2


def test_a_breaker_opens_and_hands_out_nothing(client: Client[int]) -> None:
    first, _ = client.enqueue_many("fragile", [1, 2])
    client.fail(first, one(client, "fragile")["token"], "down", retry_in="1h")
    assert client.fetch("fragile", wait=0) == []
    assert client.status()["queues"]["fragile"]["breaker"]["state"] == "open"


def test_queues_of_a_pattern_are_fetched_by_their_names(client: Client[int]) -> None:
    assert client.fetch("tenant_a", wait=0) == []
    client.enqueue("tenant_b", 2)
    client.enqueue("tenant_a", 1)
    assert one(client, "tenant_a")["payload"] == 1


def test_a_step_is_told_of_its_flow_and_the_flow_goes_on(client: Client[int]) -> None:
    first, last = step("pull", name="first"), step("worked", name="last")
    first.then(last)
    flow = client.flows.start(Flow(first, name="mixed", context={"x": 1}))
    job = one(client)
    assert (job["flow"]["step"], job["flow"]["context"], job["payload"]) == ("first", {"x": 1}, None)
    client.ack(job["id"], job["token"], 42, enqueue=[{"queue": "pull", "payload": "joined", "joins": True}])
    joined = one(client)
    assert joined["payload"] == "joined"
    assert client.flows.show(flow)["state"] == "running"
    client.ack(joined["id"], joined["token"])
    assert client.flows.wait(flow, 30)["state"] == "completed"
    (shown,) = [each for each in client.flows.show(flow)["steps"] if each["name"] == "last"]
    assert client.status(shown["id"])["result"]["results"] == {"first": 42}


def test_a_deadline_takes_the_job_from_its_consumer(client: Client[int]) -> None:
    job_id = client.enqueue("pull", 1, deadline="100ms")
    token = one(client, lease="1h")["token"]
    dead = client.wait(job_id, 10)
    assert (dead["state"], dead["reason"], dead["errors"][-1]["kind"]) == ("dead", "deadline", "timeout")
    with pytest.raises(StaleLease):
        client.ack(job_id, token)


# -- what is seen --------------------------------------------------------------------------------------------------


def test_what_consumers_do_is_seen(client: Client[int], daemon: Daemon) -> None:
    job_id = client.enqueue("pull", 1)
    behind = client.enqueue("pull", 2)
    for waiting in (job_id, behind):
        assert "no consumer is asking for jobs of queue pull" in client.explain(waiting)["sentence"]
    client.cancel(behind)
    token = one(client, consumer="cam 1", lease="1h")["token"]
    explained = client.explain(job_id)
    assert explained["sentence"].startswith(f"job {job_id} of pull: consumer cam 1 has it for another 1h")
    assert explained["reasons"][0]["token"] == token
    (row,) = daemon.ctl("consumers").rows
    assert [row[0], row[1], *row[3:6]] == ["pull", "cam 1", "working", str(token), "1"]
    shown = client.status()["queues"]["pull"]
    assert (shown["pull"], shown["consumers"], shown["workers"], shown["orphaned"]) == (True, 1, 0, False)
    assert client.status()["queues"]["worked"]["consumers"] is None
    assert daemon.job(job_id)["consumer"]["name"] == "cam 1"


# -- a shell -------------------------------------------------------------------------------------------------------

LOOP = r"""
set -e
tab=$(printf '\t')
while line=$(jobsctl fetch pull --jobs 2 --lease 1m --wait 10ms); do
  printf '%s\n' "$line" | while IFS=$tab read -r id token payload; do
    jobsctl extend "$token" --lease 2m
    case $payload in
      1) printf '{"did": %s}' "$payload" | jobsctl ack "$id" "$token" - ;;
      2) jobsctl fail "$id" "$token" "no such image" --type NotFound --final ;;
      3) jobsctl fail "$id" "$token" "later" --retry-in 1h ;;
      4) jobsctl release "$token" "$id" --delay 1h ;;
      *) jobsctl ack "$id" "$token" ;;
    esac
  done
done
"""


def test_a_loop_in_a_shell_does_it_all(daemon: Daemon, client: Client[int], tmp_path: Path) -> None:
    ids = client.enqueue_many("pull", [1, 2, 3, 4, {"a": "tab\tand\nline"}])
    program = tmp_path / "jobsctl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m supervisor.cli.jobsctl -c {daemon.config} "$@"\n')
    program.chmod(0o755)
    env = environment({"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    done = subprocess.run(["sh", "-c", LOOP], env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.split() == ["dead", "scheduled", str(ids[3])], done.stderr
    shown = [client.status(job_id) for job_id in ids]
    assert [job["state"] for job in shown] == ["completed", "dead", "scheduled", "scheduled", "completed"]
    assert shown[0]["result"] == {"did": 1}
    assert [job["failures"] for job in shown] == [0, 1, 1, 0, 0]


def test_every_verb_speaks_json(daemon: Daemon, client: Client[int]) -> None:
    first, second, third = client.enqueue_many("pull", [1, 2, 3])
    jobs = daemon.ctl("fetch", "pull", "--jobs", 3, "--consumer", "sh", "--json").lines
    assert [job["id"] for job in jobs] == [first, second, third]
    token = jobs[0]["token"]
    assert daemon.ctl("consumers", "--json").json["jobs"] == [first, second, third]
    client.cancel(second)
    assert daemon.ctl("extend", token, "--json").json["cancelled"] == [second]
    assert daemon.ctl("extend", token).out == f"{second}\n"
    assert daemon.ctl("ack", first, token, '{"a": 1}', "--json").json["state"] == "completed"
    assert daemon.ctl("fail", second, token, "no", "--json").json["state"] == "cancelled"
    assert daemon.ctl("release", token, "--json").json == {"token": token, "done": [third]}
    late = daemon.ctl("ack", third, token, "--json")
    assert (late.status, late.json["error"]["code"]) == (1, "stale")
    nothing = daemon.ctl("fetch", "fair", "--json")
    assert (nothing.status, nothing.out, nothing.err) == (75, "", "")


# -- silence -------------------------------------------------------------------------------------------------------


def test_a_lease_that_runs_out_is_a_failure_and_its_consumer_is_too_late(client: Client[int]) -> None:
    job_id = client.enqueue("pull", 1)
    late = one(client, lease="50ms")
    again = one(client, lease="1h")
    assert (again["id"], again["attempt"]) == (job_id, 2)
    for act in (
        lambda: client.ack(job_id, late["token"], "late"),
        lambda: client.fail(job_id, late["token"], "late"),
        lambda: client.extend(late["token"]),
        lambda: client.release(late["token"]),
    ):
        with pytest.raises(StaleLease):
            act()
    shown = client.status(job_id)
    assert (shown["state"], shown["token"], shown["failures"]) == ("running", again["token"], 1)
    assert [(each["kind"], each["attempt"]) for each in shown["errors"]] == [("timeout", 1)]
    assert client.ack(job_id, again["token"])["state"] == "completed"


def test_a_lease_that_is_extended_does_not_run_out(client: Client[int]) -> None:
    slow, quick = client.enqueue_many("pull", [1, 2])
    held = one(client, lease="100ms")
    client.extend(held["token"], "1h")
    assert one(client, lease="100ms")["id"] == quick
    until(lambda: client.status(quick)["failures"] == 1, 10)  # a later lease has run out meanwhile
    assert client.status(slow)["token"] == held["token"]
    assert client.ack(slow, held["token"])["state"] == "completed"


CONSUMER = """
import sys
from supervisor.client import Client
with Client(socket=sys.argv[1]) as client:
    (job,) = client.fetch("pull", lease=sys.argv[2], consumer="other")
    print(job["id"], job["token"], flush=True)
    sys.stdin.readline()
    try:
        print(client.ack(job["id"], job["token"], "late")["state"])
    except Exception as error:
        print(type(error).__name__)
"""


def consumer(daemon: Daemon, lease: str) -> subprocess.Popen[str]:
    """A consumer in a process of its own, which holds one job until it is told to go on."""
    return subprocess.Popen(
        [sys.executable, "-c", CONSUMER, str(daemon.socket), lease], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, env=environment(),
    )  # fmt: skip


def told(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_consumer_that_was_stopped_past_its_lease_changes_nothing(daemon: Daemon, client: Client[int]) -> None:
    job_id = client.enqueue("pull", 1)
    with consumer(daemon, "300ms") as process:
        assert told(process).split()[0] == str(job_id)
        process.send_signal(signal.SIGSTOP)
        again = one(client, lease="1h")
        assert again["id"] == job_id
        process.send_signal(signal.SIGCONT)
        process.communicate("\n")
    shown = client.status(job_id)
    assert (shown["token"], shown["state"], shown["result"]) == (again["token"], "running", None)


def test_a_consumer_that_is_killed_loses_its_jobs_at_the_end_of_its_lease(daemon: Daemon, client: Client[int]) -> None:
    job_id = client.enqueue("pull", 1)
    with consumer(daemon, "1s") as process:
        assert told(process)
        process.kill()
    assert client.status(job_id)["state"] == "running"
    again = one(client)
    assert (again["id"], again["attempt"]) == (job_id, 2)


def test_a_connection_that_closes_ends_no_lease(daemon: Daemon, client: Client[int]) -> None:
    job_id = client.enqueue("pull", 1)
    with daemon.client() as other:
        token = one(other)["token"]
    assert client.ack(job_id, token)["state"] == "completed"


def test_a_consumer_that_is_killed_while_it_waits_gets_nothing(daemon: Daemon, client: Client[int]) -> None:
    with consumer(daemon, "1h") as process:
        until(lambda: [each["consumer"] for each in client.consumers()] == ["other"], 10)
        process.kill()
        process.wait()
        job_id = client.enqueue("pull", 1)
        assert one(client)["id"] == job_id


def test_a_keeper_that_is_killed_leaves_consumers_what_they_have(tmp_path: Path) -> None:
    with Daemon(tmp_path, TOML) as daemon, daemon.client() as client:
        first, second = client.enqueue_many("pull", [1, 2])
        job = one(client, lease="1h", consumer="cam")
        found: list[dict[str, Any]] = []
        with daemon.client() as other:
            waiting = threading.Thread(target=lambda: found.extend(other.fetch("urgent", wait="60s")))
            waiting.start()
            until(lambda: [each for each in client.consumers() if each["state"] == "waiting"], 10)
            kill_keeper(daemon, client)
            assert client.extend(job["token"])["jobs"] == [first]
            client.enqueue("urgent", 3)
            waiting.join(30)
        assert [each["payload"] for each in found] == [3]
        assert client.consumers()[0]["consumer"] == "cam"
        assert one(client)["id"] == second
        assert client.ack(first, job["token"], "kept")["state"] == "completed"


def test_a_daemon_that_is_killed_and_started_again_leaves_consumers_what_they_have(tmp_path: Path) -> None:
    with Daemon(tmp_path, TOML) as daemon:
        with daemon.client() as client:
            job_id = client.enqueue("pull", 1)
            job = one(client, lease="1h", consumer="cam")
        daemon.kill()
        daemon.sweep()
        assert daemon.ctl("consumers", "--json").json["consumer"] == "cam"
        assert daemon.job(job_id)["consumer"]["name"] == "cam"
        assert daemon.ctl("ack", job_id, job["token"]).status == 4
        daemon.start()
        with daemon.client() as client:
            assert client.fetch("pull", wait=0) == []
            assert client.ack(job_id, job["token"])["state"] == "completed"
            assert client.consumers() == []


def kill_keeper(daemon: Daemon, client: Client[int]) -> None:
    """SIGKILL, and wait for the next one."""
    (pid,) = [node["pid"] for node in client.request("tree")["tree"] if node["role"] == "keeper"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: [n["pid"] for n in client.request("tree")["tree"] if n["role"] == "keeper"] != [pid], 15)


# -- who waits no more ---------------------------------------------------------------------------------------------


def nobody_waits(client: Client[int]) -> None:
    """Nor is anything lent to somebody who is gone."""
    until(lambda: client.consumers() == [], 5)
    job_id = client.enqueue("pull", 1)
    assert client.status(job_id)["state"] == "queued"
    assert one(client)["id"] == job_id


def test_a_fetch_that_is_cancelled_in_an_event_loop_takes_nothing(daemon: Daemon, client: Client[int]) -> None:
    async def main() -> None:
        async with AsyncClient(socket=str(daemon.socket)) as loops:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(loops.fetch("pull", wait="20s"), 0.2)
            job_id = await loops.enqueue("pull", 1)
            (job,) = await loops.fetch("pull", wait="5s")
            assert job["id"] == job_id
            await loops.ack(job_id, job["token"])
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(loops.fetch("pull", wait="20s"), 0.2)

    asyncio.run(main())
    nobody_waits(client)


def test_fetches_that_are_cancelled_while_jobs_come_lose_none(daemon: Daemon, client: Client[int]) -> None:
    """Whichever moment it is: what was on its way is handed back, and has its first attempt before it."""

    async def main() -> list[int]:
        taken: list[int] = []
        async with AsyncClient(socket=str(daemon.socket)) as loops:
            for number in range(60):
                fetch = asyncio.create_task(loops.fetch("pull", wait="20s", lease="1h"))
                enqueue = asyncio.create_task(loops.enqueue("pull", number))
                await asyncio.sleep(number % 12 / 2_000)
                fetch.cancel()
                found = await asyncio.gather(fetch, return_exceptions=True)
                jobs = found[0] if isinstance(found[0], list) else []
                for job in jobs:
                    taken.append(job["id"])
                    await loops.ack(job["id"], job["token"])
                await enqueue
        return taken

    taken = asyncio.run(main())
    until(lambda: client.consumers() == [], 5)
    rest = client.fetch("pull", 100, wait=0)
    assert {job["attempt"] for job in rest} <= {1}
    assert len(taken) + len(rest) == 60


def test_a_client_of_an_event_loop_that_is_closed_ends_its_fetches(daemon: Daemon, client: Client[int]) -> None:
    async def main() -> None:
        loops = AsyncClient(socket=str(daemon.socket))
        fetch = asyncio.create_task(loops.fetch("pull", wait="20s"))
        while not await loops.consumers():
            await asyncio.sleep(0.01)
        await loops.close()
        assert await asyncio.wait_for(fetch, 5) == []

    asyncio.run(main())
    nobody_waits(client)


def test_a_client_that_is_closed_ends_the_fetches_of_its_threads(daemon: Daemon, client: Client[int]) -> None:
    with ThreadPoolExecutor(2) as pool:
        with daemon.client() as other:
            asked = [pool.submit(other.fetch, "pull", wait=wait) for wait in ("20s", "90s")]
            until(lambda: len(client.consumers()) == 2, 10)
        assert [each.result(5) for each in asked] == [[], []]
    with pytest.raises(UsageError, match="closed"):
        other.fetch("pull")
    nobody_waits(client)


class Interrupted(BaseException):
    """As KeyboardInterrupt, which pytest would take for its own."""


def test_a_fetch_that_is_interrupted_takes_nothing(client: Client[int]) -> None:
    def interrupt(_signal: int, _frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(Interrupted):
            client.fetch("pull", wait="20s")
    finally:
        signal.signal(signal.SIGALRM, before)
    nobody_waits(client)


# -- many ----------------------------------------------------------------------------------------------------------

GREEDY = """
import sys
from supervisor.client import Client
with Client(socket=sys.argv[1]) as client:
    while jobs := client.fetch("pull", 7, wait="300ms", consumer=sys.argv[2]):
        for job in jobs:
            client.ack(job["id"], job["token"])
            print(job["id"], flush=True)
"""


def test_two_consumers_never_get_the_same_job(daemon: Daemon, client: Client[int]) -> None:
    ids = client.enqueue_many("pull", list(range(600)))
    command = [sys.executable, "-c", GREEDY, str(daemon.socket)]
    processes = [
        subprocess.Popen([*command, f"c{number}"], stdout=subprocess.PIPE, text=True, env=environment())
        for number in range(3)
    ]
    outputs = [process.communicate(timeout=60)[0].split() for process in processes]
    assert sorted(int(each) for lines in outputs for each in lines) == ids
    assert all(process.returncode == 0 for process in processes)


# -- the configuration ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [("pull", WrongState, "has workers of its own"), ("other", UnknownQueue, "there is no queue pull")],
)
def test_a_reload_turns_consumers_away_and_ends_no_lease(
    tmp_path: Path, name: str, error: type[Exception], said: str
) -> None:
    with Daemon(tmp_path, "[queues.pull]\npull = true\n") as daemon, daemon.client() as client:
        job_id = client.enqueue("pull", 1)
        job = one(client, lease="1h")
        raised: list[Exception] = []

        def wait() -> None:
            with daemon.client() as other:
                try:
                    other.fetch("pull", wait="60s")
                except (WrongState, UnknownQueue) as refused:
                    raised.append(refused)

        waiting = threading.Thread(target=wait)
        waiting.start()
        until(lambda: [each for each in client.consumers() if each["state"] == "waiting"], 10)
        daemon.configure(f'[queues.{name}]\ncommand = ["true"]\n')
        assert daemon.ctl("reload").status == 0
        waiting.join(20)
        (refused,) = raised
        assert isinstance(refused, error)
        assert said in str(refused)
        assert client.extend(job["token"])["jobs"] == [job_id]
        assert client.ack(job_id, job["token"])["state"] == "completed"
        assert client.wait(client.enqueue(name, 2), 20)["state"] == "completed"


def test_a_reload_makes_a_queue_that_is_pulled_at_once(tmp_path: Path) -> None:
    with Daemon(tmp_path, '[queues.a]\ncommand = ["true"]\n') as daemon, daemon.client() as client:
        daemon.configure('[queues.a]\ncommand = ["true"]\n[queues.pull]\npull = true\n')
        assert daemon.ctl("reload", timeout=8).rows == [["added", "pull"]]
        client.enqueue("pull", 1)
        assert one(client)["payload"] == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_who_may_not_consume_or_not_enqueue_is_refused(tmp_path: Path) -> None:
    toml = '[access]\nconsume = ["user:65534"]\nenqueue = ["user:root"]\n[queues.pull]\npull = true\n'
    with Daemon(tmp_path, toml) as daemon, daemon.client() as client:
        os.chmod(daemon.run_dir, 0o755)
        os.chmod(daemon.socket, 0o666)
        job_id = client.enqueue("pull", 1)
        asked = [("fetch", {"queue": "pull", "lease_ms": 3_600_000})]
        assert as_user(65533, daemon.run_dir, asked) == ["denied"]
        assert as_user(65534, daemon.run_dir, asked) == [None]
        (held,) = client.consumers()
        ack = {"job": job_id, "token": held["token"]}
        along = {**ack, "enqueue": [{"queue": "pull"}]}
        assert as_user(65534, daemon.run_dir, [("ack", along), ("ack", ack)]) == ["denied", None]


def as_user(uid: int, run_dir: Path, asked: list[tuple[str, dict[str, Any]]]) -> list[str | None]:
    """The codes of the refusals that another user gets, None where it is answered."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.chdir(run_dir)
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            other = RawClient("jobsup.sock")
            answers = [other.ask(op, **members) for op, members in asked]
            codes = [answer["error"]["code"] if "error" in answer else None for answer in answers]
            os.write(write, json.dumps(codes).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    found: list[str | None] = json.loads(said)
    return found


def test_without_a_daemon_nothing_is_lent(tmp_path: Path) -> None:
    with Daemon(tmp_path, TOML) as daemon:
        daemon.stop()
        with daemon.client() as client:
            client.enqueue("pull", 1)
            with pytest.raises(NotRunning):
                client.fetch("pull", wait=0)
        assert daemon.ctl("fetch", "pull").status == 4


def test_scopes_do_not_see_each_others_leases(tmp_path: Path) -> None:
    shop = tmp_path / "etc" / "shop" / "queues.toml"
    shop.parent.mkdir(parents=True)
    shop.write_text('[daemon]\nscope_of = "../queues.toml"\n[queues.pull]\npull = true\n')
    toml = '[queues.pull]\npull = true\n[scopes.shop]\nconfig = "shop/queues.toml"\n'
    with Daemon(tmp_path, toml) as daemon:  # noqa: SIM117 - the daemon first
        with daemon.client() as main, Client(str(shop)) as inside:
            ours, theirs = main.enqueue("pull", "main"), inside.enqueue("pull", "shop")
            own, other = one(main), one(inside, consumer="shopper")
            assert (own["payload"], other["payload"], other["queue"]) == ("main", "shop", "pull")
            for client, job, token in ((main, theirs, other["token"]), (inside, ours, own["token"])):
                with pytest.raises(UnknownJob):
                    client.ack(job, token)
                for act in (client.extend, client.release):
                    with pytest.raises(StaleLease):
                        act(token)
            assert [(each["queue"], each["consumer"]) for each in inside.consumers()] == [("pull", "shopper")]
            assert inside.ack(theirs, other["token"])["queue"] == "pull"
            assert "pull" in json.dumps(inside.explain(inside.enqueue("pull", 2)))


def test_errors_have_their_codes() -> None:
    assert (StaleLease.code, StaleLease.exit_status, Denied.code) == ("stale", 1, "denied")


def test_a_lease_does_not_run_out_while_nobody_can_be_heard(tmp_path: Path) -> None:
    """The database is locked for longer than the lease: what its consumer says then could not be written."""
    with Daemon(tmp_path, TOML, app={}) as daemon, daemon.client(timeout="20s") as client:
        client.enqueue("pull", {"n": 1})
        (job,) = client.fetch("pull", lease="1s", wait="10s")
        holder = sqlite3.connect(daemon.database, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with daemon.client(timeout="2s") as impatient, pytest.raises(Busy, match="locked"):
            impatient.extend(job["token"], "1m")  # waits for longer than the lease lasts
        holder.execute("ROLLBACK")
        holder.close()
        assert client.extend(job["token"], "1m")["jobs"] == [job["id"]]
        assert client.ack(job["id"], job["token"])["state"] == "completed"
