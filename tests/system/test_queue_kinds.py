"""Every kind of queue and limit through TOML, a shell and real processes, as a user sees them."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.errors import NotUnique, QueueFull, UnknownQueue
from tests.support.daemon import Daemon
from tests.support.waiting import until

TOML = """
[daemon]
python_path = ["../app"]
[defaults]
backoff = { base = "1h", jitter = 0.0 }
[limits.api]
concurrency = 1
[queues.orders]
handler = "jobs:run"
ordered = true
[queues.skipping]
handler = "jobs:run"
ordered = true
after_dead = "skip"
max_attempts = 1
[queues.blocking]
handler = "jobs:run"
ordered = true
max_attempts = 1
[queues.burying]
handler = "jobs:run"
ordered = true
after_dead = "dead_letter"
max_attempts = 1
[queues."tenant_*"]
handler = "jobs:run"
concurrency = 1
[queues.critical]
limits = ["api"]
[queues.ordinary]
limits = ["api"]
[pools.both]
handler = "jobs:run"
sources = ["critical", "ordinary"]
[queues.weighted_a]
[queues.weighted_b]
[pools.weighted]
handler = "jobs:run"
workers = 1
sources = { weighted_a = 3, weighted_b = 1 }
demand = { max = 1 }
[queues.ranked]
handler = "jobs:run"
workers = 1
[queues.fair]
handler = "jobs:run"
workers = 1
order = "fair"
weights = { big = 2 }
demand = { max = 1 }
[queues.paced]
handler = "jobs:run"
rate = { limit = 2, period = "1h", algorithm = "window" }
[queues.slowed]
handler = "jobs:slow_down"
[queues.single]
handler = "jobs:run"
unique = { by = ["id"] }
[queues.strict]
handler = "jobs:run"
unique = { by = ["id"], while = ["queued", "running", "scheduled", "completed"], on_conflict = "refuse" }
[queues.quiet]
handler = "jobs:run"
debounce = "500ms"
unique = { by = ["id"] }
[queues.seldom]
handler = "jobs:run"
throttle = "1h"
unique = { by = ["id"] }
[queues.small]
handler = "jobs:run"
workers = 1
max_size = 3
[queues.patient]
handler = "jobs:run"
workers = 1
max_size = 2
when_full = "wait"
[queues.newest]
handler = "jobs:run"
max_size = 2
when_full = "drop_oldest"

[queues.limited_first]
concurrency = 5
[queues.limited_plain]
[pools.limiting]
handler = "jobs:run"
workers = 2
sources = ["limited_first", "limited_plain"]
[queues.hurried]
max_attempts = 1
[pools.hurrying]
handler = "jobs:run"
timeout = "200ms"
workers = 1
sources = ["hurried"]
"""
APP = {
    "jobs.py": """
import os
from supervisor.job import RateLimited

def run(job):
    payload = job.payload or {}
    if "gate" in payload:
        with open(payload["gate"]) as pipe:
            pipe.read()
    with open(os.path.join(os.path.dirname(__file__), "ledger"), "a") as ledger:
        ledger.write(f"{job.queue} {job.id}\\n")
    if payload.get("fail"):
        raise ValueError("it broke")
    return {"queue": job.queue, "key": job.key}

def slow_down(job):
    if job.payload and not os.path.exists(job.payload["mark"]):
        open(job.payload["mark"], "w").close()
        return RateLimited("1h" if job.payload.get("long") else "300ms")
    return "done"
"""
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("kinds"), TOML, app=APP) as running:
        yield running


class Gate:
    """A named pipe at which a job waits until the test opens it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / name
        os.mkfifo(self.path)

    def open(self) -> None:
        os.close(os.open(self.path, os.O_WRONLY))


def ran(daemon: Daemon, queue: str) -> list[int]:
    """Ids of the queue's jobs in the order in which they ran."""
    lines = (daemon.path / "app" / "ledger").read_text().splitlines()
    return [int(line.split()[1]) for line in lines if line.split()[0] == queue]


def sentence(daemon: Daemon, job_id: int) -> str:
    return str(daemon.ctl("explain", job_id).out.splitlines()[0])


def add(daemon: Daemon, queue: str, payload: Any, *options: object) -> int:
    return daemon.enqueue(queue, payload, *options)


def running(daemon: Daemon, job_id: int) -> dict[str, Any]:
    def begun() -> dict[str, Any] | None:
        job = daemon.job(job_id)
        return job if job["state"] == "running" and job["started_at"] else None

    return until(begun, what=f"job {job_id} to run")


# -- keys -----------------------------------------------------------------------------------------------------------


def test_a_failing_job_blocks_its_key_only_and_the_key_can_be_freed(daemon: Daemon) -> None:
    first = add(daemon, "orders", {"fail": True}, "--key", "acme")
    second = add(daemon, "orders", {}, "--key", "acme")
    other = add(daemon, "orders", {}, "--key", "beta")
    daemon.wait_state(other, "completed")
    daemon.wait_state(first, "scheduled")
    assert f"key acme waits for job {first}, which is tried again in" in sentence(daemon, second)
    (row,) = daemon.ctl("keys", "orders", "--json").lines
    assert (row["key"], row["held_by"], row["held_state"], row["waiting"]) == ("acme", first, "scheduled", 1)
    assert daemon.ctl("keys", "orders", "--free", "acme").status == 0
    assert daemon.wait_state(second, "completed")["result"] == {"queue": "orders", "key": "acme"}


def test_a_retry_keeps_the_head_of_its_line(daemon: Daemon) -> None:
    first = add(daemon, "orders", {"fail": True}, "--key", "line")
    rest = [add(daemon, "orders", {}, "--key", "line") for _ in range(3)]
    daemon.wait_state(first, "scheduled")
    daemon.ctl("retry", first)
    until(lambda: daemon.job(first)["failures"] == 1, what="the second failure")
    assert ran(daemon, "orders")[-2:] == [first, first]
    daemon.ctl("cancel", first)
    for job_id in rest:
        daemon.wait_state(job_id, "completed")
    assert ran(daemon, "orders")[-3:] == rest


def test_a_queue_without_keys_that_is_ordered_blocks_as_a_whole(daemon: Daemon) -> None:
    dead = add(daemon, "blocking", {"fail": True})
    behind = add(daemon, "blocking", {})
    daemon.wait_state(dead, "dead")
    assert f"the queue, which is ordered, waits for job {dead}, which is dead" in sentence(daemon, behind)
    assert daemon.job(behind)["state"] == "queued"
    daemon.ctl("dead", "delete", dead)
    daemon.wait_state(behind, "completed")


def test_what_a_dead_job_does_to_its_key_is_a_choice(daemon: Daemon) -> None:
    skipped, after = add(daemon, "skipping", {"fail": True}, "--key", "k"), add(daemon, "skipping", {}, "--key", "k")
    daemon.wait_state(after, "completed")
    assert daemon.job(skipped)["state"] == "dead"
    gate = Gate(daemon.path, "burying")
    first = add(daemon, "burying", {"gate": str(gate.path), "fail": True}, "--key", "k")
    along = [add(daemon, "burying", {}, "--key", "k") for _ in range(3)]
    gate.open()
    daemon.wait_state(first, "dead")
    for job_id in along:
        job = daemon.wait_state(job_id, "dead")
        assert f"job {first}, which came before it, is dead" in job["error"]
    later = add(daemon, "burying", {}, "--key", "k")
    daemon.wait_state(later, "completed")


def test_a_key_is_paused_and_goes_on(daemon: Daemon) -> None:
    assert daemon.ctl("keys", "ranked", "--pause", "slow").status == 0
    held, other = add(daemon, "ranked", {}, "--key", "slow"), add(daemon, "ranked", {})
    daemon.wait_state(other, "completed")
    assert "key slow is paused" in sentence(daemon, held)
    assert daemon.ctl("keys", "ranked", "--resume", "slow").status == 0
    daemon.wait_state(held, "completed")
    assert daemon.ctl("keys", "ranked", "--free", "nobody").status == 1


def test_what_frees_or_resumes_nothing_says_so(daemon: Daemon) -> None:
    assert daemon.ctl("keys", "ranked", "--pause", "idle", "--json").json["changed"] is True
    for action, why in (("pause", "is paused already"), ("free", "is not held by any job")):
        ran = daemon.ctl("keys", "ranked", f"--{action}", "idle")
        assert (ran.status, ran.err.strip()) == (0, f"jobsctl: nothing is changed: key idle of queue ranked {why}")
        assert daemon.ctl("keys", "ranked", f"--{action}", "idle", "--json").json["changed"] is False
    held = add(daemon, "orders", {"fail": True}, "--key", "idle")
    daemon.wait_state(held, "scheduled")
    ran = daemon.ctl("keys", "orders", "--free", "idle")
    assert (ran.status, ran.err) == (0, "")
    assert daemon.ctl("keys", "orders", "--free", "idle", "--json").json["changed"] is False
    assert daemon.ctl("keys", "ranked", "--resume", "idle", "--json").json["changed"] is True


@pytest.mark.parametrize(
    "words", [("enqueue", "orders", "{}", "--key"), ("list", "--key"), ("dead", "retry", "--key"),
              ("keys", "orders", "--pause"), ("keys", "orders", "--free")], ids=" ".join)  # fmt: skip
def test_a_key_of_ten_kilobytes_is_refused(daemon: Daemon, words: tuple[str, ...]) -> None:
    newest = daemon.ctl("list", "--limit", 1, "--json").out
    ran = daemon.ctl(*words, "k" * 10_000)
    assert ran.status == 2
    assert "at most 200 printable characters" in ran.err
    assert len(ran.err) < 500
    assert daemon.ctl("list", "--limit", 1, "--json").out == newest


# -- order ----------------------------------------------------------------------------------------------------------


def test_keys_take_turns_by_their_weights(daemon: Daemon) -> None:
    gate = Gate(daemon.path, "fair")
    head = add(daemon, "fair", {"gate": str(gate.path)}, "--key", "first")
    running(daemon, head)
    big = [add(daemon, "fair", {}, "--key", "big") for _ in range(8)]
    small = [add(daemon, "fair", {}, "--key", "small") for _ in range(4)]
    gate.open()
    daemon.wait_state(big[-1], "completed")
    daemon.wait_state(small[-1], "completed")
    order = ["b" if job_id in big else "s" for job_id in ran(daemon, "fair") if job_id != head]
    assert order[:6].count("s") == 2
    assert order.count("b") == 8


def test_a_new_order_ranks_what_waits_anew(daemon: Daemon) -> None:
    gate = Gate(daemon.path, "ranked")
    head = add(daemon, "ranked", {"gate": str(gate.path)})
    running(daemon, head)
    waiting = [add(daemon, "ranked", {}) for _ in range(5)]
    toml = (daemon.path / "etc" / "queues.toml").read_text()
    daemon.configure(toml.replace("[queues.ranked]\n", '[queues.ranked]\norder = "lifo"\n'))
    try:
        assert daemon.ctl("reload", "--json").json["retuned"] == ["ranked"]
        until(lambda: daemon.ctl("status", "--json").json["queues"]["ranked"]["reranked"] is None, what="new ranks")
        gate.open()
        for job_id in waiting:
            daemon.wait_state(job_id, "completed")
        assert ran(daemon, "ranked")[-5:] == waiting[::-1]
    finally:
        daemon.configure(toml)
        daemon.ctl("reload")


# -- queues that appear, pools --------------------------------------------------------------------------------------


def test_a_queue_of_a_pattern_is_there_from_its_first_job_on(daemon: Daemon) -> None:
    assert "tenant_acme" not in daemon.ctl("status", "--json").json["queues"]
    gate = Gate(daemon.path, "tenant")
    slow = add(daemon, "tenant_acme", {"gate": str(gate.path)})
    behind = add(daemon, "tenant_acme", {})
    other = add(daemon, "tenant_zoo", {})
    assert daemon.wait_state(other, "completed")["result"]["queue"] == "tenant_zoo"
    running(daemon, slow)
    assert "the queue lets 1 run at once" in sentence(daemon, behind)
    daemon.ctl("pause", "tenant_acme")
    gate.open()
    daemon.wait_state(slow, "completed")
    assert sentence(daemon, behind).endswith("jobsctl resume tenant_acme lets it go on")
    daemon.ctl("resume", "tenant_acme")
    daemon.wait_state(behind, "completed")
    assert daemon.ctl("status", "--json").json["queues"]["tenant_acme"]["pool"] == "tenant_*"
    assert daemon.ctl("enqueue", "tenan", "{}").status == 3


def test_a_strict_pool_empties_the_first_queue_first_and_a_limit_is_shared_by_name(daemon: Daemon) -> None:
    gate = Gate(daemon.path, "pool")
    head = add(daemon, "ordinary", {"gate": str(gate.path)})
    running(daemon, head)
    later, urgent = add(daemon, "ordinary", {}), add(daemon, "critical", {})
    assert f"limit api lets 1 run at once, and job {head} has that slot" in sentence(daemon, urgent)
    gate.open()
    daemon.wait_state(later, "completed")
    lines = [line.split()[0] for line in (daemon.path / "app" / "ledger").read_text().splitlines()]
    assert [name for name in lines if name in ("ordinary", "critical")] == ["ordinary", "critical", "ordinary"]
    assert daemon.job(urgent)["result"]["queue"] == "critical"


def test_a_pool_draws_by_weight(daemon: Daemon) -> None:
    gate = Gate(daemon.path, "weighted")
    head = add(daemon, "weighted_b", {"gate": str(gate.path)})
    running(daemon, head)
    many = [add(daemon, name, {}) for name in ("weighted_a", "weighted_b") for _ in range(8)]
    gate.open()
    for job_id in many:
        daemon.wait_state(job_id, "completed")
    lines = [line.split()[0] for line in (daemon.path / "app" / "ledger").read_text().splitlines()]
    order = [name for name in lines if name.startswith("weighted_")][1:]
    assert order[:8].count("weighted_a") == 7  # the other had its first turn before they came


def test_a_source_with_a_limit_keeps_its_turn(daemon: Daemon) -> None:
    with daemon.client() as client:
        client.request("pause", queue="limited_first")
        client.request("pause", queue="limited_plain")
        first = client.enqueue_many("limited_first", [{} for _ in range(30)])
        plain = client.enqueue_many("limited_plain", [{} for _ in range(500)])
        client.request("resume", queue="limited_first")
        client.request("resume", queue="limited_plain")
        for job_id in (first[-1], plain[-1]):
            assert client.wait(job_id, timeout=60)["state"] == "completed"
    lines = [line.split()[0] for line in (daemon.path / "app" / "ledger").read_text().splitlines()]
    order = [name for name in lines if name.startswith("limited_")]
    last = len(order) - order[::-1].index("limited_first")
    assert order[:last].count("limited_plain") <= 200  # what workers had ahead; all 500, if its turn were lost


def test_a_job_has_the_time_of_its_pool_where_its_queue_says_none(daemon: Daemon) -> None:
    gate = Gate(daemon.path, "endless")
    job = daemon.wait_state(add(daemon, "hurried", {"gate": str(gate.path)}), "dead")
    assert "timeout" in daemon.job(job["id"])["errors"][0]["kind"]


# -- limits ---------------------------------------------------------------------------------------------------------


def test_a_rate_is_kept_and_says_when_the_next_may_begin(daemon: Daemon) -> None:
    done = [add(daemon, "paced", {}) for _ in range(2)]
    for job_id in done:
        daemon.wait_state(job_id, "completed")
    third = add(daemon, "paced", {})
    found = daemon.ctl("explain", third, "--json").json
    assert (found["state"], found["reasons"][0]["kind"]) == ("queued", "rate")
    assert (found["reasons"][0]["limit"], found["reasons"][0]["period_s"]) == (2, 3600.0)
    assert 3000 < found["reasons"][0]["in_s"] <= 3700


@pytest.mark.parametrize("algorithm", ["bucket", "leaky", "window"])
def test_a_rate_lets_the_next_begin_when_it_may_though_nothing_else_happens(tmp_path: Path, algorithm: str) -> None:
    rate = f'rate = {{ limit = 10, period = "500ms", algorithm = "{algorithm}" }}'
    toml = f'[daemon]\npython_path = ["../app"]\n[queues.q]\nhandler = "jobs:run"\n{rate}\n'
    with Daemon(tmp_path, toml, app=APP) as daemon, daemon.client() as client:
        last = client.enqueue_many("q", [{}] * 60)[-1]
        assert client.wait(last, timeout=20)["state"] == "completed"


def test_a_handler_that_is_told_to_slow_down_shuts_its_queue_and_is_not_charged(daemon: Daemon, tmp_path: Path) -> None:
    job_id = add(daemon, "slowed", {"mark": str(tmp_path / "mark")})
    job = daemon.wait_state(job_id, "completed")
    assert (job["failures"], job["attempt"]) == (0, 1)
    limited = add(daemon, "slowed", {"mark": str(tmp_path / "other"), "long": True})
    daemon.wait_state(limited, "scheduled")
    behind = add(daemon, "slowed", None)
    assert "its handler has asked for no more for another" in sentence(daemon, behind)


# -- unique, bounded ------------------------------------------------------------------------------------------------


def test_a_second_job_that_counts_as_the_same_is_the_first(daemon: Daemon) -> None:
    gate = Gate(daemon.path, "single")
    first = json.loads(daemon.ctl("enqueue", "single", json.dumps({"id": 1, "gate": str(gate.path)}), "--json").out)
    again = json.loads(daemon.ctl("enqueue", "single", '{"id": 1, "other": true}', "--json").out)
    assert (first["existing"], again["existing"], again["id"]) == (False, True, first["id"])
    gate.open()
    daemon.wait_state(first["id"], "completed")
    assert add(daemon, "single", {"id": 1}) > first["id"]
    refused = daemon.ctl("enqueue", "single", '{"name": 1}')
    assert (refused.status, "has no member id" in refused.err) == (2, True)


def test_a_refusal_outlives_the_job(daemon: Daemon) -> None:
    first = add(daemon, "strict", {"id": 7})
    daemon.wait_state(first, "completed")
    with daemon.client() as client:
        with pytest.raises(NotUnique, match=f"job {first} is there already"):
            client.enqueue("strict", {"id": 7})
        with pytest.raises(NotUnique):
            client.enqueue_many("strict", [{"id": 8}, {"id": 7}])
        client.request("purge", queue="strict", state="completed")
        with pytest.raises(NotUnique):
            client.enqueue("strict", {"id": 7})
        client.enqueue("strict", {"id": 8})


def test_throttle_takes_one_in_its_time_and_debounce_the_last(daemon: Daemon) -> None:
    with daemon.client() as client:
        ids = {client.enqueue("seldom", {"id": 1, "n": n}) for n in range(5)}
        assert len(ids) == 1
        quiet = {client.enqueue("quiet", {"id": 1, "n": n}) for n in range(5)}
        assert len(quiet) == 1
        job = client.wait(quiet.pop(), timeout=15)
    assert job["payload"] == {"id": 1, "n": 4}


def test_a_full_queue_refuses_waits_or_drops(daemon: Daemon) -> None:
    gate = Gate(daemon.path, "small")
    head = add(daemon, "small", {"gate": str(gate.path)})
    running(daemon, head)
    for _ in range(3):
        add(daemon, "small", {})
    with (
        daemon.client(timeout=1) as client,
        pytest.raises(QueueFull, match=r"holds 3 waiting jobs and takes at most 3"),
    ):
        client.enqueue("small", {})
    refused = daemon.ctl("enqueue", "small", "{}", "--json")
    assert (refused.status, refused.json["error"]["code"]) == (75, "queue_full")
    gate.open()
    until(lambda: daemon.ctl("status", "--json").json["queues"]["small"]["queued"] == 0, what="an empty queue")

    daemon.ctl("pause", "newest")
    old, kept = add(daemon, "newest", {}), [add(daemon, "newest", {}) for _ in range(2)]
    assert daemon.job(old)["state"] == "cancelled"
    assert daemon.job(old)["reason"] == "dropped: the queue was full"
    assert [daemon.job(job_id)["state"] for job_id in kept] == ["queued", "queued"]


def test_enqueueing_waits_for_room_as_long_as_its_caller_does(daemon: Daemon) -> None:
    gate = Gate(daemon.path, "patient")
    head = add(daemon, "patient", {"gate": str(gate.path)})
    running(daemon, head)
    for _ in range(2):
        add(daemon, "patient", {})
    with daemon.client(timeout=0.5) as client, pytest.raises(QueueFull):
        client.enqueue("patient", {})
    answers: list[int] = []

    def patiently() -> None:
        with daemon.client(timeout=30) as client:
            answers.append(client.enqueue("patient", {}))

    thread = threading.Thread(target=patiently)
    thread.start()
    gate.open()
    thread.join(20)
    daemon.wait_state(answers[0], "completed")


def test_without_a_daemon_nobody_waits_for_room(tmp_path: Path) -> None:
    """Nothing would make it."""
    toml = '[daemon]\npython_path = ["../app"]\n[queues.q]\nhandler = "jobs:run"\nmax_size = 1\nwhen_full = "wait"\n'
    with Daemon(tmp_path, toml, app=APP) as daemon:
        daemon.ctl("pause", "q")
        add(daemon, "q", {})
        daemon.stop()
        ran = daemon.ctl("enqueue", "q", "{}", "--json")
        assert (ran.status, ran.lines[0]["error"]["code"]) == (75, "queue_full")
        with daemon.client(timeout=20) as client, pytest.raises(QueueFull):
            client.enqueue("q", {})


def test_as_many_go_in_as_there_is_room_for(tmp_path: Path) -> None:
    """Each for itself, by the client; line by line, from a file."""
    toml = '[daemon]\npython_path = ["../app"]\n' + "".join(
        f'[queues.{name}]\nhandler = "jobs:run"\nmax_size = 10\nwhen_full = "{how}"\n'
        for name, how in (("refuses", "refuse"), ("waits", "wait"))
    )
    with Daemon(tmp_path, toml, app=APP) as daemon, daemon.client(timeout=2) as client:
        for name in ("refuses", "waits"):
            daemon.ctl("pause", name)
            answers = client.enqueue_each(name, [{"n": n} for n in range(14)])
            assert [type(answer) for answer in answers] == [int] * 10 + [QueueFull] * 4
            assert client.status()["queues"][name]["queued"] == 10
            daemon.ctl("purge", name, "--state", "queued")
        lines = "".join(f'{{"n": {n}}}\n' for n in range(20))
        ran = daemon.ctl("enqueue", "refuses", "--jsonl", "-", "--json", stdin=lines)
        assert (ran.status, ran.lines[0]["accepted"], ran.lines[0]["last_line"]) == (75, 10, 10)
        assert ran.lines[0]["error"]["code"] == "queue_full"
        daemon.ctl("resume", "refuses")
        until(lambda: client.status()["queues"]["refuses"]["completed"] == 10, 10, "there is room again")
        ran = daemon.ctl("enqueue", "refuses", "--jsonl", "-", "--resume", 10, "--json", stdin=lines)
        assert (ran.status, ran.lines[0]["accepted"]) == (0, 10)
        daemon.ctl("resume", "waits")
        ran = daemon.ctl("enqueue", "waits", "--jsonl", "-", "--json", stdin=lines)
        assert (ran.status, ran.lines[0]["accepted"]) == (0, 20)


def test_what_reads_a_queue_takes_no_pattern(daemon: Daemon) -> None:
    """It would find nothing, and that says something else."""
    for words in (("list", "--queue"), ("dead", "list", "--queue"), ("stats",), ("keys",), ("delete", "--queue")):
        ran = daemon.ctl(*words, "tenant_*")
        assert (ran.status, "is a pattern; name a queue that it stands for" in ran.err) == (2, True), words


def test_whoever_waits_for_room_in_a_queue_that_leaves_the_file_is_told_at_once(tmp_path: Path) -> None:
    kept = '[daemon]\npython_path = ["../app"]\n[queues.kept]\nhandler = "jobs:run"\n'
    gone = '[queues.gone]\nhandler = "jobs:run"\nmax_size = 1\nwhen_full = "wait"\n'
    with Daemon(tmp_path, kept + gone, app=APP) as daemon:
        daemon.ctl("pause", "gone")
        add(daemon, "gone", {})
        refused: list[UnknownQueue] = []

        def patiently() -> None:
            with daemon.client(timeout=60) as client, pytest.raises(UnknownQueue) as told:
                client.enqueue("gone", {})
            refused.append(told.value)

        thread = threading.Thread(target=patiently)
        thread.start()
        daemon.config.write_text(kept)
        daemon.ctl("reload")
        thread.join(20)
        assert len(refused) == 1


def test_a_queue_that_is_not_there_yet_has_the_workers_of_its_pattern(daemon: Daemon) -> None:
    refused = daemon.ctl("scale", "tenant_unseen", "3", "--json")
    assert (refused.status, refused.json["error"]["code"]) != (1, "internal")
    assert "tenant_*" in refused.json["error"]["message"]
