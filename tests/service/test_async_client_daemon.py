"""The client of event loops against a real daemon: keepers that are killed under many calls, jobs as they are shown."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from supervisor import shapes
from supervisor.client import AsyncClient, Client
from supervisor.errors import NotRunning, Unconfirmed
from tests.support.daemon import Daemon
from tests.support.waiting import until, until_in_loop

TOML = """
[daemon]
python_path = ["../app"]
[queues.emails]
handler = "tasks:work"
workers = 2
[queues.paused]
handler = "tasks:work"
"""

APP = {
    "tasks.py": (
        "def work(job):\n"
        "    if job.payload == 'fail':\n"
        "        raise ValueError('told to')\n"
        "    return {'was': job.payload}\n"
    )
}

CALLS, ROUNDS = 100, 20


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("daemon"), TOML, app=APP) as daemon:
        daemon.ctl("pause", "paused")
        yield daemon


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon for one test: of keepers that die too often in a while, it ends."""
    with Daemon(tmp_path, TOML, app=APP) as daemon:
        daemon.ctl("pause", "paused")
        yield daemon


def keeper_pid(client: Client[int]) -> int:
    return next(int(node["pid"]) for node in client.request("tree")["tree"] if node["role"] == "keeper")


def payloads(client: Client[int], queue: str, since: int) -> Counter[Any]:
    """How many jobs have each payload, of those in a paused queue behind a given one."""
    newest = client.enqueue(queue, None)
    return Counter(client.status(job_id)["payload"] for job_id in range(since + 1, newest))


def test_jobs_go_from_the_client_to_their_results(daemon: Daemon) -> None:
    async def main() -> None:
        async with AsyncClient(daemon.config) as client:
            ids = await client.enqueue_many("emails", range(50))
            jobs = await asyncio.gather(*(client.wait(job_id, timeout=30) for job_id in ids))
            assert [job["result"] for job in jobs] == [{"was": n} for n in range(50)]
            outcomes = [outcome async for outcome in client.enqueue_stream("emails", _numbers(1_500))]
            assert len(set(outcomes)) == 1_500
            assert (await client.wait(outcomes[-1], timeout=30))["result"] == {"was": 1_499}

    asyncio.run(main())


async def _numbers(count: int) -> Any:
    for n in range(count):
        yield n


def sent(client: AsyncClient) -> bool:
    """Whether all that was asked has gone out, and so is under way."""
    links = client._channel._links
    return bool(links) and all(link._asked and not link._unsent for link in links)


def stopped_with_everything_sent(pid: int) -> Callable[[], None]:
    """The keeper takes nothing in while the calls are made: all of them wait in its socket when it is killed."""
    os.kill(pid, signal.SIGSTOP)
    return lambda: os.kill(pid, signal.SIGKILL)


def running(pid: int) -> Callable[[], None]:
    """The keeper is at work when it is killed: some calls are answered, some committed, some read, some not."""
    return lambda: os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("prepare", "answered"),
    [(stopped_with_everything_sent, 0), (running, 1), (running, 3 * CALLS // 2), (running, 8 * CALLS)],
)
def test_a_keeper_killed_under_a_hundred_calls_makes_each_job_once_or_says_that_it_does_not_know(
    victim: Daemon, prepare: Callable[[int], Callable[[], None]], answered: int
) -> None:
    """Each call has a payload of its own; the queue is paused, so that every job that was made is still there."""
    outcomes: dict[int, int | Unconfirmed] = {}

    async def several(client: AsyncClient, begin: int) -> None:
        for n in range(begin, begin + ROUNDS):
            try:
                outcomes[n] = await client.enqueue("paused", n)
            except Unconfirmed as error:
                outcomes[n] = error

    async def main(kill: Callable[[], None]) -> None:
        async with AsyncClient(victim.config, timeout=20) as client:
            calls = [asyncio.create_task(several(client, ROUNDS * n)) for n in range(CALLS)]
            await until_in_loop(lambda: len(outcomes) >= answered and sent(client))
            kill()
            assert not any(call.done() for call in calls)
            await asyncio.gather(*calls)

    with Client(victim.config) as plain:
        before, pid = plain.enqueue("paused", None), keeper_pid(plain)
        asyncio.run(main(prepare(pid)))
        until(lambda: keeper_pid(plain) != pid)
        made = payloads(plain, "paused", before)
        assert set(made.values()) == {1}, "a job was made twice"
        ids = {n: outcome for n, outcome in outcomes.items() if isinstance(outcome, int)}
        assert {n: plain.status(job_id)["payload"] for n, job_id in ids.items()} == {n: n for n in ids}
        assert sorted(outcomes) == list(range(CALLS * ROUNDS))
        assert set(ids) <= set(made), "a job that was answered for is not there"
        assert len(ids) > CALLS * ROUNDS // 2, "a new keeper answers what the old one did not"


def test_waits_outlive_the_keeper_and_are_answered_when_the_job_ends(victim: Daemon) -> None:
    async def main() -> None:
        async with AsyncClient(victim.config) as client:
            ids = [await client.enqueue("emails", n, delay="2s") for n in range(20)]
            waits = [asyncio.create_task(client.wait(job_id, timeout=60)) for job_id in ids]
            with Client(victim.config) as plain:
                os.kill(keeper_pid(plain), signal.SIGKILL)
            assert [job["result"] for job in await asyncio.gather(*waits)] == [{"was": n} for n in range(20)]

    asyncio.run(main())


def test_calls_that_are_given_up_while_keepers_are_killed_spoil_nothing(victim: Daemon) -> None:
    """A third of the calls is cancelled at some moment of each round; what the others say holds."""

    async def main() -> None:
        async with AsyncClient(victim.config, timeout=20) as client:
            for turn in range(3):
                with Client(victim.config) as plain:
                    pid = keeper_pid(plain)
                calls = [asyncio.create_task(client.enqueue("paused", [turn, n])) for n in range(60)]
                for _ in range(turn * 3):
                    await asyncio.sleep(0)
                for call in calls[::3]:
                    call.cancel()
                os.kill(pid, signal.SIGKILL)
                outcomes = await asyncio.gather(*calls, return_exceptions=True)
                for n, outcome in enumerate(outcomes):
                    if isinstance(outcome, int):
                        assert (await client.status(outcome))["payload"] == [turn, n]
                    else:
                        assert isinstance(outcome, asyncio.CancelledError if n % 3 == 0 else Unconfirmed)

    asyncio.run(main())


def test_without_a_daemon_jobs_are_written_down_and_run_by_the_next(tmp_path: Path) -> None:
    async def alone(config: Path) -> list[int]:
        async with AsyncClient(config) as client:
            ids = await client.enqueue_many("emails", range(3))
            with pytest.raises(NotRunning, match="no daemon runs"):
                await client.wait(ids[0], timeout=10)
            return ids

    async def together(config: Path, ids: list[int]) -> list[Any]:
        async with AsyncClient(config) as client:
            return [(await client.wait(job_id, timeout=10))["result"] for job_id in ids]

    with Daemon(tmp_path, TOML, app=APP) as daemon:
        assert daemon.stop() == 0
        ids = asyncio.run(alone(daemon.config))
        daemon.start()
        assert asyncio.run(together(daemon.config, ids)) == [{"was": n} for n in range(3)]


def members(shape: type) -> set[str]:
    return set(get_type_hints(shape))


def test_answers_have_the_shapes_that_type_checkers_are_told(daemon: Daemon) -> None:
    with Client(daemon.config) as client:
        job_id = client.enqueue("emails", "fail", max_attempts=1)
        job, overview = client.wait(job_id, timeout=30), client.status()
        assert set(job) == members(shapes.JobStatus)
        assert members(shapes.Attempt) <= set(job["errors"][0])
        assert set(overview) == members(shapes.Overview)
        assert set(overview["daemon"]) == members(shapes.DaemonStatus)
        assert set(overview["queues"]["emails"]) == members(shapes.QueueStatus)
        assert set(client.explain(job_id)) == members(shapes.Explanation)
        waiting = client.insert("paused", [{"payload": 1}])
        assert set(waiting) == members(shapes.Inserted)
        assert set(client.edit(waiting["ids"][0], tags=["x"])) == members(shapes.Edited)
        assert set(client.schedule("nightly", "emails", cron="@daily")) == members(shapes.ScheduleStatus)
        (listed,) = client.schedules()
        assert set(listed) == members(shapes.ScheduleStatus) - {"recent"}
        client.unschedule("nightly")
