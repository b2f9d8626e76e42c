"""Handlers that take several jobs in one call: who is in a batch, what becomes of each, and who is charged."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.client import Client
from tests.support.daemon import Daemon
from tests.support.waiting import opened, until

TOML = """
[daemon]
python_path = ["../app"]
[defaults]
workers = 1
max_attempts = 1
kill_grace = "200ms"
backoff = { base = "1ms", factor = 1.0, jitter = 0.0 }
restart = { intensity = 100, period = "10s" }
[queues.q]
handler = "together:run"
batch_size = 10
batch_wait = "30s"
on_error = { "together.Wrong" = "dead" }
"""
APP = """
import json, os, signal, time
from pathlib import Path
from supervisor.job import Cancel, Dead, RateLimited, Retry, Snooze

HERE = Path(__file__).parent

class Wrong(Exception):
    pass

def note(**what):
    data = (json.dumps(what) + "\\n").encode()
    fd = os.open(HERE / "calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, data)
    os.close(fd)

def run(jobs):
    note(ids=[job.id for job in jobs], pid=os.getpid(), attempts=[job.attempt for job in jobs])
    given = [job.payload if isinstance(job.payload, dict) else {"do": job.payload} for job in jobs]
    for payload in given:
        if payload.get("all"):
            found = WHOLE[payload["all"]](jobs)
            if found is not NotImplemented:
                return found
    return [EACH[payload["do"]](job) for job, payload in zip(jobs, given)]

def hold(jobs):
    try:
        os.mkfifo(HERE / "hold")
    except FileExistsError:
        pass
    note(holding=os.getpid())
    with open(HERE / "hold"):
        pass
    return NotImplemented

def deaf(jobs):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM])
    time.sleep(60)

def raised(job):
    try:
        raise ValueError(f"job {job.id} is wrong")
    except ValueError as error:
        return error

def children(job):
    job.enqueue("others", {"of": job.id})
    return "with a child"

def failing_children(job):
    job.enqueue("others", {"of": job.id})
    return Wrong("its child is none")

def crash_if_alone(job):
    os.kill(os.getpid(), signal.SIGSEGV)

def resumed(job):
    seen = job.step("seen", lambda: job.id)
    return seen if job.attempt > 1 else Retry("1ms", "again")

WHOLE = {
    "raise": lambda jobs: (_ for _ in ()).throw(Wrong("the whole batch")),
    "short": lambda jobs: [1],
    "scalar": lambda jobs: 3,
    "snooze": lambda jobs: Snooze("1m"),
    "none": lambda jobs: None,
    "tuple": lambda jobs: tuple(job.id for job in jobs),
    "pops": lambda jobs: [jobs.pop() and "popped" for _ in range(len(jobs))],
    "hold": hold,
    "sleep": lambda jobs: time.sleep(60),
    "deaf": deaf,
}
EACH = {
    "value": lambda job: {"id": job.id},
    "null": lambda job: None,
    "snooze": lambda job: Snooze("1h"),
    "cancel": lambda job: Cancel("not wanted"),
    "dead": lambda job: Dead("of no use"),
    "retry": lambda job: Retry("1h", "later") ,
    "limited": lambda job: RateLimited("1h", key_only=True),
    "raised": raised,
    "ruled": lambda job: Wrong("a rule knows it"),
    "no_json": lambda job: object(),
    "huge": lambda job: "x" * 2_000_000,
    "bad_delay": lambda job: Snooze("soon"),
    "children": children,
    "failing_children": failing_children,
    "crash": crash_if_alone,
    "resumed": resumed,
    "attempt": lambda job: job.attempt,
}

def one(job):
    return job.payload
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    toml = TOML + '[queues.others]\nhandler = "together:one"\n'
    toml += '[queues.large]\nhandler = "together:run"\nbatch_size = 256\n'
    toml += '[queues.keyed]\nhandler = "together:run"\nbatch_size = 9\nbatch_wait = "1ms"\nkey_concurrency = 1\n'
    with Daemon(tmp_path_factory.mktemp("batches"), toml, app={"together.py": APP}) as running:
        yield running


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client[int]]:
    (daemon.app / "calls").unlink(missing_ok=True)
    with daemon.client() as found:
        yield found


def notes(daemon: Daemon) -> list[dict[str, Any]]:
    file = daemon.app / "calls"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def calls(daemon: Daemon) -> list[list[int]]:
    return [note["ids"] for note in notes(daemon) if "ids" in note]


def filled(*payloads: Any, size: int = 10) -> list[Any]:
    """As many payloads as make a batch full."""
    return [*payloads, *["value"] * (size - len(payloads))]


def ended(client: Client[int], ids: list[int]) -> list[Any]:
    return [client.wait(job, 30) for job in ids]


def held(daemon: Daemon) -> int:
    """The pid of the worker that holds a batch."""
    found = daemon.wait_for(lambda: [note["holding"] for note in notes(daemon) if "holding" in note], what="a hold")
    return int(found[-1])


def let_go(daemon: Daemon) -> None:
    until(lambda: opened(daemon.app / "hold"), what="a batch that holds")


def test_each_job_of_a_batch_has_the_outcome_that_its_entry_says(daemon: Daemon, client: Client[int]) -> None:
    done = filled("null", "cancel", "dead", "raised", "ruled", "no_json", "huge", "bad_delay")
    ids = client.enqueue_many("q", done)
    found = ended(client, ids)
    assert calls(daemon) == [ids]
    assert [job["state"] for job in found] == ["completed", "cancelled", *["dead"] * 6, "completed", "completed"]
    assert [job["failures"] for job in found] == [0, 0, 1, 1, 1, 1, 1, 1, 0, 0]
    assert [job["result"] for job in found[-2:]] == [{"id": ids[-2]}, {"id": ids[-1]}]
    errors = [job["errors"][0]["message"] if job["errors"] else None for job in found]
    assert errors[1:4] == ["not wanted", "of no use", f"job {ids[3]} is wrong"]
    assert errors[4] == "a rule knows it"
    assert "not JSON" in errors[5]
    assert "max_result" in errors[6]
    assert found[3]["errors"][0]["type"] == "ValueError"
    assert "in raised" in found[3]["errors"][0]["traceback"]
    assert found[7]["errors"][0]["type"] == "ValueError"


def test_jobs_that_wait_longer_are_charged_to_nobody(daemon: Daemon, client: Client[int]) -> None:
    ids = client.enqueue_many("q", filled("snooze", "retry", size=9))
    ids.insert(2, client.enqueue("q", "limited", key="slow"))
    ended(client, ids[3:])
    snoozed, again, limited = (client.status(job) for job in ids[:3])
    assert (snoozed["state"], snoozed["failures"]) == ("scheduled", 0)
    assert (again["state"], again["failures"]) == ("dead", 1)
    assert (limited["state"], limited["failures"]) == ("scheduled", 0)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("short", "returned 1 outcomes; it must return a list with one outcome for each of its 10 jobs"),
        ("scalar", "returned a value of type int"),
        ("snooze", "returned a value of type Snooze"),
    ],
)
def test_what_says_nothing_about_each_job_fails_all_of_them(
    daemon: Daemon, client: Client[int], how: str, said: str
) -> None:
    ids = client.enqueue_many("q", filled({"all": how, "do": "value"}))
    for job in ended(client, ids):
        assert (job["state"], job["failures"]) == ("dead", 1)
        assert job["errors"][0]["type"] == "InvalidResult"
        assert said in job["errors"][0]["message"]


def test_a_batch_that_raises_fails_all_of_its_jobs_by_their_rules(daemon: Daemon, client: Client[int]) -> None:
    ids = client.enqueue_many("q", filled({"all": "raise", "do": "value"}))
    for job in ended(client, ids):
        assert (job["state"], job["reason"], job["failures"]) == ("dead", "on_error", 1)
        assert job["errors"][0]["message"] == "the whole batch"


@pytest.mark.parametrize(("how", "results"), [("none", None), ("tuple", "ids"), ("pops", "popped")])
def test_none_and_tuples_and_lists_that_are_taken_apart_will_do(
    daemon: Daemon, client: Client[int], how: str, results: str | None
) -> None:
    ids = client.enqueue_many("q", filled({"all": how, "do": "value"}))
    assert [job["result"] for job in ended(client, ids)] == (ids if results == "ids" else [results] * 10)


def test_children_come_with_their_own_job_or_not_at_all(daemon: Daemon, client: Client[int]) -> None:
    ids = client.enqueue_many("q", filled("children", "failing_children", "children"))
    ended(client, ids)
    daemon.wait_for(lambda: client.status()["queues"]["others"]["completed"] == 2, what="the children")
    made = [row["result"] for row in daemon.ctl("list", "--queue", "others", "--json").lines]
    assert sorted(child["of"] for child in made) == [ids[0], ids[2]]


def test_steps_are_kept_for_each_job(daemon: Daemon, client: Client[int]) -> None:
    ids = client.enqueue_many("q", filled(*["resumed"] * 10), max_attempts=2)
    assert [job["result"] for job in ended(client, ids)] == ids


def test_a_batch_that_is_not_full_waits_and_says_so(daemon: Daemon, client: Client[int]) -> None:
    ids = client.enqueue_many("q", filled(size=7))
    said = client.explain(ids[-1])
    assert said["reasons"][0]["kind"] == "gathers"
    assert said["reasons"][0]["lacking"] == 3
    assert "for 3 more jobs of its batch" in said["sentence"]
    shown = client.status()["queues"]["q"]["batch"]
    assert (shown["size"], shown["wait_s"], shown["gathered"]) == (10, 30.0, 7)
    assert 0 < shown["due_in_s"] <= 30
    assert calls(daemon) == []
    ids += client.enqueue_many("q", filled(size=3))
    ended(client, ids)
    assert calls(daemon) == [ids]


def test_no_batch_is_larger_than_it_may_be_and_the_next_is_gathered_meanwhile(
    daemon: Daemon, client: Client[int]
) -> None:
    first = client.enqueue_many("q", filled({"all": "hold", "do": "value"}))
    held(daemon)
    later = client.enqueue_many("q", filled(size=15))
    assert client.status()["queues"]["q"]["running"] == 10
    said = client.explain(first[3])
    assert said["reasons"][0]["kind"] == "running_batch"
    assert "in one call with 9 others" in said["sentence"]
    let_go(daemon)
    ended(client, [*first, *later[:10]])
    assert client.status(later[-1])["state"] == "queued"
    ended(client, [*later, *client.enqueue_many("q", filled(size=5))])
    assert [len(ids) for ids in calls(daemon)] == [10, 10, 10]


def test_a_cancel_waits_for_the_end_of_the_batch_and_interrupts_nobody(daemon: Daemon, client: Client[int]) -> None:
    ids = client.enqueue_many("q", filled({"all": "hold", "do": "value"}, "raised", "value"))
    pid = held(daemon)
    for job in ids[:3]:
        client.cancel(job)
    assert [client.status(job)["state"] for job in ids] == ["running"] * 10
    let_go(daemon)
    assert [job["state"] for job in ended(client, ids)] == ["completed", "cancelled", *["completed"] * 8]
    again = client.enqueue_many("q", filled())
    ended(client, again)
    assert notes(daemon)[-1]["pid"] == pid, "the worker was told to go"
    assert client.status(ids[1])["failures"] == 0


def test_jobs_that_a_client_cancels_before_their_batch_is_full_are_not_in_it(
    daemon: Daemon, client: Client[int]
) -> None:
    ids = client.enqueue_many("q", filled(size=3))
    client.cancel(ids[1])
    assert client.status()["queues"]["q"]["batch"]["gathered"] == 2
    more = client.enqueue_many("q", filled(size=8))
    ended(client, more)
    assert calls(daemon) == [[ids[0], ids[2], *more]]


def test_jobs_of_another_time_limit_are_in_another_call(daemon: Daemon, client: Client[int]) -> None:
    plain = client.enqueue_many("q", filled(size=6))
    brief = client.enqueue_many("q", filled(size=2), timeout="7s")
    hurried = client.enqueue("q", "value", deadline="20s")
    unhurried = client.enqueue("q", "value", deadline="1d")
    ended(client, [*plain, *brief, hurried, unhurried])
    assert calls(daemon) == [[*plain, unhurried], brief, [hurried]]


def test_a_deadline_that_comes_close_while_others_run_cuts_nobody_off(daemon: Daemon, client: Client[int]) -> None:
    first = client.enqueue_many("q", filled({"all": "hold", "do": "value"}, size=7))
    brief = client.enqueue_many("q", ["value"] * 2, timeout="5s")
    hurried = client.enqueue("q", "value", timeout="5s", deadline="7s")  # it has more time than that when it is sent
    held(daemon)
    time.sleep(2.5)
    let_go(daemon)
    assert [job["state"] for job in ended(client, [*first, *brief, hurried])] == ["completed"] * 10
    assert calls(daemon) == [first, brief, [hurried]]


def test_a_batch_that_runs_out_of_time_hears_of_it_and_all_of_it_is_charged(
    daemon: Daemon, client: Client[int]
) -> None:
    ids = client.enqueue_many("q", filled({"all": "sleep", "do": "value"}), timeout="200ms")
    pid = daemon.wait_for(lambda: notes(daemon), what="a call")[0]["pid"]
    for job in ended(client, ids):
        assert (job["state"], job["failures"], job["errors"][0]["kind"]) == ("dead", 1, "timeout")
    ended(client, client.enqueue_many("q", filled()))
    assert notes(daemon)[-1]["pid"] == pid


def test_a_batch_that_hears_nothing_is_killed_and_all_of_it_is_charged(daemon: Daemon, client: Client[int]) -> None:
    ids = client.enqueue_many("q", filled({"all": "deaf", "do": "value"}), timeout="200ms")
    for job in ended(client, ids):
        assert (job["state"], job["failures"], job["crashes"], job["interruptions"]) == ("dead", 1, 0, 0)
        assert job["errors"][0]["kind"] == "timeout"
        assert "in deaf" in job["errors"][0]["traceback"]


@pytest.mark.parametrize("how", ["sleep", "deaf"])
def test_whoever_runs_out_of_time_does_so_alone_the_next_time(daemon: Daemon, client: Client[int], how: str) -> None:
    late = {"all": how, "do": "value"}
    ids = client.enqueue_many("q", filled("value", late, size=9), timeout="200ms", max_attempts=3)
    ids.append(client.enqueue("q", "value", timeout="200ms", max_attempts=3))
    found = ended(client, ids)
    assert [job["state"] for job in found] == ["completed", "dead", *["completed"] * 8]
    assert [job["failures"] for job in found] == [1, 3, *[1] * 8]
    first, *alone = calls(daemon)
    assert first == ids
    assert [len(call) for call in alone] == [1] * 11


def test_a_poison_job_of_a_batch_is_found_and_dies_alone(daemon: Daemon, client: Client[int]) -> None:
    ids = client.enqueue_many("q", filled("value", "crash"))
    found = ended(client, ids)
    assert [job["state"] for job in found] == ["completed", "dead", *["completed"] * 8]
    assert [(job["failures"], job["crashes"], job["interruptions"]) for job in found] == [
        (0, 3 if job == ids[1] else 0, 1) for job in ids
    ]
    assert found[1]["reason"] == "max_crashes"
    first, *alone = calls(daemon)
    assert first == ids
    assert all(len(call) == 1 for call in alone), "a suspect was with others"
    said = found[0]["errors"][0]
    assert said["kind"] == "interrupted"
    assert said["message"] == (
        "the worker was killed by signal 11 while it ran this job and 9 more in one call; it runs alone from now on"
    )


def test_what_was_recorded_before_a_kill_counts_and_the_rest_is_charged_to_nobody(tmp_path: Path) -> None:
    """Also where one is left: all had returned, and the last is no more to blame than the others."""
    env = {"JOBSUP_FAILPOINTS": "worker.after_record=kill@9", "JOBSUP_FAILPOINT_DIR": str(tmp_path / "struck")}
    with Daemon(tmp_path, TOML, app={"together.py": APP}, env=env) as daemon, daemon.client() as client:
        ids = client.enqueue_many("q", filled())
        found = ended(client, ids)
        assert [job["state"] for job in found] == ["completed"] * 10
        assert [(job["crashes"], job["interruptions"]) for job in found] == [(0, 0)] * 9 + [(0, 1)]
        assert calls(daemon) == [ids, ids[9:]]


def test_a_job_that_died_alone_once_and_fails_then_is_no_suspect_any_more(daemon: Daemon, client: Client[int]) -> None:
    ids = client.enqueue_many("q", filled({"all": "hold", "do": "value"}, "resumed"), max_attempts=2)
    os.kill(held(daemon), signal.SIGKILL)
    daemon.wait_for(lambda: len(calls(daemon)) > 1, what="a run alone")
    let_go(daemon)
    ended(client, [ids[0], *ids[2:]])
    more = client.enqueue_many("q", filled(size=9))
    assert [job["state"] for job in ended(client, [ids[1], *more])] == ["completed"] * 10
    assert sorted(calls(daemon)[-1]) == sorted([ids[1], *more])


def test_a_new_keeper_takes_up_a_running_batch(daemon: Daemon, client: Client[int]) -> None:
    ids = client.enqueue_many("q", filled({"all": "hold", "do": "value"}, "raised"))
    held(daemon)
    kill_keeper(daemon, client)
    daemon.wait_for(lambda: client.explain(ids[5])["reasons"][0]["kind"] == "running_batch", what="a new keeper")
    let_go(daemon)
    assert [job["state"] for job in ended(client, ids)] == ["completed", "dead", *["completed"] * 8]
    assert calls(daemon) == [ids]


def test_a_batch_that_outlives_its_queues_batches_is_taken_up_whole(tmp_path: Path) -> None:
    """What its worker runs is not for the others, whatever the configuration of the new keeper says."""
    toml = TOML + '[queues.plain]\nhandler = "together:one"\n'
    with Daemon(tmp_path, toml, app={"together.py": APP}) as daemon, daemon.client() as client:
        ids = client.enqueue_many("q", filled({"all": "hold", "do": "value"}))
        held(daemon)
        plain = toml.replace("batch_size = 10\n", "").replace('batch_wait = "30s"\n', "")
        daemon.configure(plain.replace(":run", ":one"))
        assert daemon.ctl("reload").status == 0
        kill_keeper(daemon, client)
        daemon.wait_for(lambda: client.explain(ids[5])["reasons"][0]["kind"] == "running_batch", what="a new keeper")
        time.sleep(0.5)  # for as long as it takes to see that its worker has ended nothing, and others are idle
        assert [client.status(job)["state"] for job in ids] == ["running"] * 10
        let_go(daemon)
        found = ended(client, ids)
        assert [(job["state"], job["result"]) for job in found] == [("completed", {"id": job}) for job in ids]
        assert [job["interruptions"] for job in found] == [0] * 10
        assert calls(daemon) == [ids]


def kill_keeper(daemon: Daemon, client: Client[int]) -> None:
    (keeper,) = [node for node in client.request("tree")["tree"] if node["role"] == "keeper"]
    os.kill(keeper["pid"], signal.SIGKILL)


def test_a_stopped_worker_keeps_nobody_waiting(tmp_path: Path) -> None:
    toml = TOML.replace("workers = 1", "workers = 2").replace('"30s"', '"0ms"')
    with Daemon(tmp_path, toml, app={"together.py": APP}) as daemon, daemon.client() as client:
        pids = [worker["pid"] for worker in client.request("workers")["workers"]]
        os.kill(pids[0], signal.SIGSTOP)
        os.kill(pids[1], signal.SIGSTOP)
        ids = client.enqueue_many("q", filled(size=4))
        daemon.wait_for(lambda: client.status()["queues"]["q"]["running"] == 4, what="a lease")
        os.kill(pids[1], signal.SIGCONT)
        assert [job["state"] for job in ended(client, ids)] == ["completed"] * 4
        os.kill(pids[0], signal.SIGCONT)
        ended(client, client.enqueue_many("q", filled(size=20)))
        assert sorted(job for call in calls(daemon) for job in call)[:4] == ids
        assert sum(map(len, calls(daemon))) == 24


@pytest.mark.parametrize("woken", [0, 1])
def test_what_gathers_beside_a_stopped_worker_keeps_its_batch_from_nobody(tmp_path: Path, woken: int) -> None:
    """Whichever of two stopped workers has the batch, the other one has it once it is awake."""
    toml = TOML.replace("workers = 1", "workers = 2")
    with Daemon(tmp_path, toml, app={"together.py": APP}) as daemon, daemon.client() as client:
        pids = [worker["pid"] for worker in client.request("workers")["workers"]]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        ids = client.enqueue_many("q", filled(size=11))  # the last one waits for more
        daemon.wait_for(lambda: client.status()["queues"]["q"]["running"] == 10, what="a lease")
        os.kill(pids[woken], signal.SIGCONT)
        assert [client.wait(job, 10)["state"] for job in ids[:10]] == ["completed"] * 10
        os.kill(pids[1 - woken], signal.SIGCONT)
        ended(client, [*ids, *client.enqueue_many("q", filled(size=9))])
        assert calls(daemon)[0] == ids[:10]
        assert sum(map(len, calls(daemon))) == 20


def test_a_reload_keeps_what_batches_have_waited(tmp_path: Path) -> None:
    with Daemon(tmp_path, TOML, app={"together.py": APP}) as daemon, daemon.client() as client:
        ids = client.enqueue_many("q", filled(size=4))
        time.sleep(2)
        daemon.configure(TOML.replace('"30s"', '"20s"'))
        assert daemon.ctl("reload").status == 0
        daemon.wait_for(lambda: client.status()["queues"]["q"]["batch"]["gathered"] == 4, what="a pass")
        assert client.status()["queues"]["q"]["batch"]["due_in_s"] <= 18
        assert calls(daemon) == []
        daemon.configure(TOML.replace('"30s"', '"1s"'))
        assert daemon.ctl("reload").status == 0
        ended(client, ids)
        assert calls(daemon) == [ids]


def test_a_reload_changes_how_many_come_and_how_long_they_wait(tmp_path: Path) -> None:
    with Daemon(tmp_path, TOML, app={"together.py": APP}) as daemon, daemon.client() as client:
        ids = client.enqueue_many("q", filled(size=4))
        pid = client.request("workers")["workers"][0]["pid"]
        daemon.configure(TOML.replace('"30s"', '"1ms"'))
        assert daemon.ctl("reload").status == 0
        ended(client, ids)
        assert notes(daemon)[-1]["pid"] == pid, "what the keeper alone acts on has changed the workers"
        daemon.configure(TOML.replace("batch_size = 10", "batch_size = 3"))
        assert daemon.ctl("reload").status == 0
        ended(client, client.enqueue_many("q", filled(size=9)))
        assert [len(call) for call in calls(daemon)] == [4, 3, 3, 3]
        plain = TOML.replace("batch_size = 10\n", "").replace('batch_wait = "30s"\n', "").replace(":run", ":one")
        daemon.configure(plain)
        assert daemon.ctl("reload").status == 0
        assert [job["state"] for job in ended(client, client.enqueue_many("q", filled(size=9)))] == ["completed"] * 9


def test_a_batch_of_large_jobs_ends_at_the_limit_of_a_message(daemon: Daemon, client: Client[int]) -> None:
    payloads = [{"do": "attempt", "pad": "x" * size} for size in (10_000,) * 20 + (60_000,) * 4]
    assert [job["result"] for job in ended(client, client.enqueue_many("large", payloads))] == [1] * 24
    assert len(calls(daemon)) > 2
    assert sum(map(len, calls(daemon))) == 24


def test_the_largest_batch_there_is(daemon: Daemon, client: Client[int]) -> None:
    ids = client.enqueue_many("large", ["value"] * 300)
    ended(client, ids)
    assert calls(daemon) == [ids[:256], ids[256:]]


def test_queues_of_a_pattern_and_of_a_pool_gather_by_themselves(tmp_path: Path) -> None:
    toml = TOML + (
        '[queues."t_*"]\nhandler = "together:run"\nbatch_size = 3\nbatch_wait = "30s"\n'
        '[queues.a]\n[queues.b]\n[pools.p]\nhandler = "together:run"\nbatch_size = 2\nbatch_wait = "30s"\n'
        "sources = { a = 1, b = 1 }\n"
    )
    with Daemon(tmp_path, toml, app={"together.py": APP}) as daemon, daemon.client() as client:
        ids = {name: client.enqueue_many(name, ["value"]) for name in ("t_1", "t_2", "a", "b")}
        for name, size in (("t_2", 2), ("b", 1), ("t_1", 2), ("a", 1)):
            ids[name] += client.enqueue_many(name, ["value"] * size)
            ended(client, ids[name])
        assert calls(daemon) == [ids["t_2"], ids["b"], ids["t_1"], ids["a"]]


def test_limits_of_keys_hold_within_a_batch(daemon: Daemon, client: Client[int]) -> None:
    ids = [client.enqueue("keyed", "value", key=key) for key in "aabbc"]
    ended(client, ids)
    key_of = dict(zip(ids, "aabbc", strict=True))
    assert all(len({key_of[job] for job in call}) == len(call) for call in calls(daemon))
