"""Idempotency keys as callers see them: whoever comes with a key again gets the first job and its result."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from supervisor.client import AsyncClient, Client
from supervisor.errors import InvalidFlow, InvalidPayload, NotUnique, QueueFull, UnknownJob, UsageError
from supervisor.store.driver import plain_text, sqlite3
from supervisor.store.open import read_only
from tests.service.test_client_protocol import Scratch
from tests.support.daemon import Daemon
from tests.support.waiting import opened, until

QUEUES = """
[defaults]
workers = 1
max_attempts = 1
[queues.charges]
handler = "jobs:run"
workers = 2
[queues.moved]
handler = "jobs:run"
[queues.parents]
handler = "jobs:follow"
[queues.brief]
handler = "jobs:run"
retention = { completed = "1s" }
[queues.single]
handler = "jobs:run"
unique = { by = ["id"] }
[queues.strict]
handler = "jobs:run"
unique = { by = ["id"], on_conflict = "refuse" }
[queues.small]
handler = "jobs:run"
max_size = 2
[queues.quiet]
handler = "jobs:run"
debounce = "1h"
unique = { by = ["id"] }
[queues.pulled]
pull = true
"""
MAIN = f'[daemon]\npython_path = ["../app"]\n[scopes.shop]\nconfig = "shop/queues.toml"\n{QUEUES}'
APP = {
    "jobs.py": """
import os

def run(job):
    payload = job.payload or {}
    if "fifo" in payload:
        os.close(os.open(payload["fifo"], os.O_RDONLY))
    if payload.get("fail"):
        raise ValueError("it broke")
    return {"id": job.id, "amount": payload.get("amount")}

def follow(job):
    for _ in range(2):
        job.enqueue("charges", {"amount": job.payload}, idempotency_key="of the parents")
    return job.id
"""
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    made = Daemon(tmp_path_factory.mktemp("keys"), MAIN, app=APP)
    scope = made.config.parent / "shop" / "queues.toml"
    scope.parent.mkdir()
    scope.write_text(f'[daemon]\nscope_of = "../queues.toml"\n{QUEUES}')
    with made:
        yield made


@pytest.fixture(scope="module")
def client(daemon: Daemon) -> Iterator[Client[int]]:
    with daemon.client(timeout="10s") as client:
        for queue in ("strict", "small", "quiet"):
            client.request("pause", queue=queue)
        yield client


def again(client: Client[int], key: str, queue: str = "charges", payload: Any = None) -> dict[str, Any]:
    """All that is answered to a job with this key."""
    return dict(client.insert(queue, [{"payload": payload, "idempotency_key": key}]))


def jobs_with(daemon: Daemon, start: str) -> dict[str, list[int]]:
    """The ids of the jobs in the file, by those of their keys that begin so."""
    found: dict[str, list[int]] = {}
    with closing(sqlite3.connect(read_only(str(daemon.database)), uri=True)) as db:
        rows = db.execute("SELECT id, options ->> 'idempotency_key' FROM jobs WHERE options IS NOT NULL").fetchall()
    for job_id, key in rows:
        if plain_text(key or b"").startswith(start):
            found.setdefault(plain_text(key), []).append(job_id)
    return found


# -- over the life of a job ------------------------------------------------------------------------------------------


def test_a_repetition_before_while_and_after_the_run_is_the_first_job(client: Client[int], tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    first = client.enqueue("charges", {"amount": 5}, idempotency_key="later", delay="1h")
    answer = again(client, "later", payload={"amount": 6})
    assert (answer["ids"], answer["existing"], answer["states"]) == ([first], [first], ["scheduled"])
    assert (answer["repeated"], answer["acknowledged"]) == (False, "committed")
    assert client.status(first)["payload"] == {"amount": 5}

    running = client.enqueue("charges", {"amount": 5, "fifo": str(fifo)}, idempotency_key="held")
    until(lambda: again(client, "held")["states"] == ["running"])
    until(lambda: opened(fifo))
    assert client.wait(client.enqueue("charges", idempotency_key="held"), 10)["result"] == {"id": running, "amount": 5}
    assert again(client, "held")["states"] == ["completed"]
    assert client.status(running)["idempotency_key"] == "held"


def test_a_dead_job_is_the_first_and_runs_again_under_its_key(client: Client[int]) -> None:
    first = client.enqueue("charges", {"fail": True}, idempotency_key="dies")
    assert client.wait(first, 10)["state"] == "dead"
    assert again(client, "dies")["states"] == ["dead"]
    client.edit(first, payload={"amount": 1})
    client.retry(first)
    assert client.wait(again(client, "dies")["ids"][0], 10)["result"] == {"id": first, "amount": 1}
    assert client.status(first)["idempotency_key"] == "dies"


def test_a_key_is_free_when_its_job_is_deleted_or_purged(client: Client[int]) -> None:
    first = client.enqueue("charges", idempotency_key="deleted")
    client.wait(first, 10)
    client.request("delete", ids=[first])
    second = again(client, "deleted")
    assert (second["existing"], second["ids"][0] > first) == ([], True)
    client.wait(second["ids"][0], 10)
    client.request("purge", queue="charges", state="completed")
    assert again(client, "deleted")["existing"] == []


def test_a_key_is_free_when_retention_has_removed_its_job(client: Client[int]) -> None:
    first = client.enqueue("brief", idempotency_key="old")
    client.wait(first, 10)
    assert again(client, "old", "brief")["ids"] == [first]

    def gone() -> bool:
        try:
            return not client.status(first)
        except UnknownJob:
            return True

    until(gone, 10)
    assert again(client, "old", "brief")["existing"] == []


def test_a_moved_job_keeps_its_key_in_the_queue_that_it_was_enqueued_to(client: Client[int]) -> None:
    first = client.enqueue("charges", idempotency_key="travels", delay="1h")
    client.edit(first, queue="moved")
    assert again(client, "travels")["ids"] == [first]
    assert again(client, "travels", "moved")["existing"] == []


# -- ways in -----------------------------------------------------------------------------------------------------


def test_the_second_of_a_group_is_the_first(client: Client[int]) -> None:
    jobs = [{"payload": {"amount": n}, "idempotency_key": key} for n, key in enumerate(["g1", "g2", "g1"])]
    answer = client.insert("charges", [*jobs, {"payload": None}])
    one, two, three, four = answer["ids"]
    assert (one == three, len({one, two, four}), answer["existing"]) == (True, 3, [one])
    assert client.wait(one, 10)["result"] == {"id": one, "amount": 0}
    keys = ["g2", None, "g3"]
    ids = client.enqueue_many("charges", [None] * 3, idempotency_keys=keys)
    assert (ids[0], len({*ids, one})) == (two, 4)


def test_buffered_and_asynchronous_clients_have_keys(client: Client[int], daemon: Daemon) -> None:
    first = client.enqueue("charges", idempotency_key="every client")
    with Client(daemon.config, buffered=True) as buffered:
        receipts = [buffered.enqueue("charges", n, idempotency_key="every client") for n in range(3)]
    assert [receipt.id() for receipt in receipts] == [first] * 3

    async def asks() -> list[int]:
        async with AsyncClient(daemon.config) as client:
            one = await client.enqueue("charges", idempotency_key="every client")
            return [one, *await client.enqueue_many("charges", [1], idempotency_keys=["every client"])]

    assert asyncio.run(asks()) == [first] * 2


def test_what_handlers_and_consumers_enqueue_has_keys(client: Client[int]) -> None:
    for n in range(2):
        assert client.wait(client.enqueue("parents", n), 10)["state"] == "completed"
    (first,) = again(client, "of the parents")["existing"]
    assert client.wait(first, 10)["result"] == {"id": first, "amount": 0}
    client.enqueue("pulled")
    (fetched,) = client.fetch("pulled")
    joining = {"queue": "charges", "idempotency_key": "of the parents", "joins": True}
    with pytest.raises(InvalidPayload, match="cannot have an idempotency_key"):
        client.ack(fetched["id"], fetched["token"], enqueue=[joining])
    client.ack(fetched["id"], fetched["token"], enqueue=[{"queue": "charges", "idempotency_key": "of the parents"}])
    assert client.status(fetched["id"])["state"] == "completed"
    assert again(client, "of the parents")["existing"] == [first]


def test_the_command_line_says_that_it_was_there_and_waits_for_its_result(client: Client[int], daemon: Daemon) -> None:
    given = ("charges", '{"amount": 9}', "--idempotency-key", "order-7")
    first = int(daemon.ctl("enqueue", *given).out)
    client.wait(first, 10)
    assert daemon.ctl("enqueue", *given, "--json").json == {
        "id": first, "queue": "charges", "state": "completed", "acknowledged": "committed", "existing": True
    }  # fmt: skip
    assert daemon.ctl("wait", first, "--json").json["result"] == {"id": first, "amount": 9}


def test_scopes_do_not_see_each_others_keys(client: Client[int], daemon: Daemon) -> None:
    with Client(daemon.config.parent / "shop" / "queues.toml") as shop:
        ids = [each.enqueue("charges", idempotency_key="of both") for each in (client, shop, client, shop)]
        assert ids[:2] == ids[2:]
        assert ids[0] != ids[1]
        assert shop.status(ids[1])["idempotency_key"] == "of both"


def test_clients_that_race_with_one_key_get_one_job(daemon: Daemon) -> None:
    found: list[list[int]] = []
    start = threading.Barrier(6)

    def race() -> None:
        with daemon.client(timeout="20s") as client:
            start.wait()
            found.append([client.enqueue("charges", idempotency_key=f"race {n}") for n in range(20)])

    threads = [threading.Thread(target=race) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert all(ids == found[0] for ids in found)
    assert sorted(jobs_with(daemon, "race ").values()) == sorted([job_id] for job_id in found[0])


# -- beside other rules ----------------------------------------------------------------------------------------------


def test_the_key_comes_before_the_rules_of_the_queue(client: Client[int]) -> None:
    first = client.enqueue("single", {"id": 1}, idempotency_key="a")
    assert again(client, "a", "single", {"id": 2})["ids"] == [first]
    assert client.wait(first, 10)["state"] == "completed"
    strict = client.enqueue("strict", {"id": 1}, idempotency_key="a")
    assert again(client, "a", "strict", {"id": 1})["ids"] == [strict]
    with pytest.raises(NotUnique):
        client.enqueue("strict", {"id": 1}, idempotency_key="b")
    quiet = client.enqueue("quiet", {"id": 1, "n": 1}, idempotency_key="a")
    due = client.status(quiet)["due_at"]
    assert again(client, "a", "quiet", {"id": 1, "n": 2})["ids"] == [quiet]
    assert (client.status(quiet)["payload"]["n"], client.status(quiet)["due_at"]) == (1, due)


def test_a_repetition_needs_no_room_in_a_full_queue(client: Client[int]) -> None:
    first = client.enqueue("small", idempotency_key="a")
    client.enqueue("small")
    with pytest.raises(QueueFull):
        client.enqueue("small", idempotency_key="b")
    assert again(client, "a", "small")["ids"] == [first]


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", "x" * 201, "a\nb", "\u202e", 7])
def test_a_key_that_is_none_is_refused(client: Client[int], key: Any) -> None:
    with pytest.raises(InvalidPayload, match="idempotency_key"):
        client.insert("charges", [{"payload": 1, "idempotency_key": key}])


def test_one_key_for_many_jobs_is_refused(client: Client[int], daemon: Daemon) -> None:
    for call in (client.enqueue_many, client.enqueue_each):
        with pytest.raises(UsageError, match="names one job"):
            call("charges", [1, 2], idempotency_key="k")
    with pytest.raises(UsageError, match="1 are given for 2"):
        client.enqueue_many("charges", [1, 2], idempotency_keys=["k"])
    ran = daemon.ctl("enqueue", "charges", "--jsonl", "-", "--idempotency-key", "k", stdin="1\n")
    assert (ran.status, "names one job" in ran.err) == (2, True)
    assert jobs_with(daemon, "k") == {}


def test_steps_callbacks_and_schedules_have_no_keys_and_it_is_said_what_they_have(client: Client[int]) -> None:
    step = {"queue": "charges", "name": "a", "idempotency_key": "k"}
    plain = {"queue": "charges"}
    for steps, callback in ([[step], None], [[{"steps": [plain, step]}], None], [[plain], step | {"name": None}]):
        given = {} if callback is None else {"on_complete": {**plain, "idempotency_key": "k"}}
        with pytest.raises(InvalidFlow, match="cannot have an idempotency_key") as refused:
            client.request("flow_start", key=os.urandom(8).hex(), steps=steps, **given)
        assert "request_key" in (refused.value.hint or "")
    with pytest.raises(UsageError, match="one job for each due time by itself"):
        client.schedule("nightly", "charges", every="1h", idempotency_key="k")


# -- when things break -----------------------------------------------------------------------------------------------

ARMED = ("keeper.after_accept=kill@6", "keeper.before_reply=kill@6", "store.before_commit=kill@14",
         "store.after_commit=kill@14")  # fmt: skip
BUFFERED = '[daemon]\npython_path = ["../app"]\n[intake]\nacknowledge = "buffered"\nflush_interval = "5ms"\n'


def insist(scratch: Scratch, queue: str, key: str) -> dict[str, Any]:
    """The answer to a job with this key, asked for under another request key whenever the connection breaks."""
    while True:
        try:
            request = os.urandom(8).hex()
            job = {"payload": {"amount": 1}, "idempotency_key": key}
            return scratch.ask("enqueue", queue=queue, key=request, jobs=[job])["ok"]  # type: ignore[no-any-return]
        except OSError:
            until(lambda: _connected(scratch))


def _connected(scratch: Scratch) -> bool:
    try:
        scratch.connect()
    except OSError:
        return False
    return True


def test_a_killed_keeper_makes_no_second_job_and_loses_none_that_was_answered(tmp_path: Path) -> None:
    """Also where answers are buffered: whether a key is new shows in the commit, so such groups wait for it."""
    env = {"JOBSUP_FAILPOINTS": ",".join(ARMED), "JOBSUP_FAILPOINT_DIR": str(tmp_path / "strikes")}
    with Daemon(tmp_path, BUFFERED + QUEUES, app=APP, env=env) as daemon:
        scratch = Scratch(str(daemon.socket), "insistent")
        answers = {f"order {n}": insist(scratch, "charges", f"order {n}") for n in range(40)}
        assert {answer["acknowledged"] for answer in answers.values()} == {"committed"}
        struck = (tmp_path / "strikes" / "hits").read_text().split()[::2]
        assert sorted(struck) == sorted(point.partition("=")[0] for point in ARMED)
        plain = scratch.ask("enqueue", queue="charges", key="plain", jobs=[{"payload": None}])["ok"]
        assert plain["acknowledged"] == "buffered"
        with daemon.client() as client:
            for answer in answers.values():
                assert client.wait(answer["ids"][0], 10)["state"] == "completed"
        assert jobs_with(daemon, "order ") == {key: answer["ids"] for key, answer in answers.items()}
        for key, answer in answers.items():
            assert insist(scratch, "charges", key)["existing"] == answer["ids"]
