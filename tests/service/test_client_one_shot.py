"""Without a daemon: the client starts a keeper of its own, and tells what became of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from supervisor.client import AsyncClient, Client
from supervisor.errors import (
    Busy,
    ConfigError,
    Denied,
    Internal,
    JobsupError,
    NotRunning,
    StoreError,
    StoreNewer,
    Unconfirmed,
)
from supervisor.wire import one_shot
from tests.service.test_client_faults import in_child
from tests.support.fake_keeper import FakeKeeper
from tests.support.waiting import alive, until, until_in_loop


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The fake keeper is started where the real one would be; returns the commands that were made for it."""
    made: list[list[str]] = []
    real = one_shot.command

    def command(config: str, overrides: Sequence[str], fd: int) -> list[str]:
        made.append(real(config, overrides, fd))
        return [word.replace("supervisor.cli.jobsupd", "tests.support.fake_keeper") for word in made[-1]]

    monkeypatch.setattr(one_shot, "command", command)
    return made


class Place:
    """A configuration whose first line says how the one-shot keeper behaves."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "queues.toml"
        self.output = folder / "jobs"
        (folder / "run").mkdir()
        self.socket = folder / "run" / "jobsup.sock"
        self.behave("serve")

    def behave(self, how: str) -> None:
        how = f"serve {self.output}" if how == "serve" else how
        self.config.write_text(f'# {how}\n[daemon]\nrun_dir = "run"\n')

    def client(self, timeout: str = "20s") -> Client[int]:
        return Client(self.config, timeout=timeout)

    def jobs(self) -> list[bytes]:
        return self.output.read_bytes().splitlines()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    os.environ.pop("JOBSUP_SOCKET", None)
    os.environ.pop("JOBSUP_WORKER", None)
    yield Place(tmp_path)


def test_without_a_daemon_one_keeper_serves_all_calls_and_ends_with_its_client(
    place: Place, stand_in: list[list[str]]
) -> None:
    with place.client() as client:
        assert client.enqueue("emails", 1) == 1
        assert client.enqueue_many("emails", [2, 3]) == [2, 3]
        assert client.status(2)["state"] == "queued"
    assert place.jobs() == [b"1", b"2", b"3"]
    assert len(stand_in) == 1


def test_the_command_is_found_by_module_and_never_in_the_working_directory() -> None:
    program = one_shot.command("/etc/q.toml", ["daemon.x=1", "a.b=2"], 7)
    assert program[1:4] == ["-P", "-m", "tests.support.fake_keeper"]
    assert program[4:] == [
        "--one-shot", "--fd", "7", "-c", "/etc/q.toml", "--set", "daemon.x=1", "--set", "a.b=2",
    ]  # fmt: skip


def test_overrides_reach_the_keeper(place: Place, stand_in: list[list[str]]) -> None:
    with Client(place.config, overrides=[f"daemon.run_dir={place.socket.parent}"]) as client:
        assert client.enqueue("emails", 1) == 1
    assert stand_in[0][-2:] == ["--set", f"daemon.run_dir={place.socket.parent}"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(2, ConfigError), (4, Denied), (74, StoreError), (78, StoreNewer), (1, Internal), (99, Internal)],
)
def test_a_keeper_that_cannot_work_says_why(place: Place, status: int, kind: type[JobsupError]) -> None:
    place.behave(f"exit {status} the database is on the moon")
    with place.client() as client, pytest.raises(kind, match="on the moon") as caught:
        client.enqueue("emails", 1)
    assert (type(caught.value), caught.value.message) == (kind, "the database is on the moon")


def test_a_keeper_that_says_nothing_is_named_by_its_status(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_shot, "command", lambda *_: [sys.executable, "-c", "raise SystemExit(1)"])
    with place.client() as client, pytest.raises(Internal, match="the one-shot keeper ended with status 1"):
        client.enqueue("emails", 1)


def test_all_that_a_keeper_says_is_passed_on_its_hint_apart(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "warning: x\\njobsupd: q.toml:1: a: wrong\\njobsupd: q.toml:2: b: wrong\\n  look there\\n"
    program = f"import sys; sys.stderr.write('{said}'); sys.exit(2)"
    monkeypatch.setattr(one_shot, "command", lambda *_: [sys.executable, "-c", program])
    with place.client() as client, pytest.raises(ConfigError) as caught:
        client.enqueue("emails", 1)
    assert caught.value.problems == ("q.toml:1: a: wrong", "q.toml:2: b: wrong")
    assert (caught.value.message, caught.value.hint) == ("q.toml:1: a: wrong", "look there")


def test_a_database_that_another_holds_is_waited_for(place: Place, stand_in: list[list[str]]) -> None:
    place.behave("exit 75 held by process 12")
    with place.client("3s") as client, pytest.raises(Busy, match="held by process 12"):
        client.cancel(1)
    assert len(stand_in) > 1
    with place.client() as client:
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(client.enqueue("emails", 1)))
        count = len(stand_in)
        thread.start()
        until(lambda: len(stand_in) > count)
        place.behave("serve")
        thread.join(20)
    assert found == [1]


def test_a_daemon_that_comes_up_meanwhile_is_used(place: Place, stand_in: list[list[str]]) -> None:
    place.behave("exit 75 held by process 12")
    with place.client() as client:
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(client.enqueue("emails", 1)))
        thread.start()
        until(lambda: stand_in)
        with FakeKeeper(str(place.socket)) as daemon:
            thread.join(20)
            assert found == [1]
            assert len(daemon.jobs) == 1


def test_a_daemon_that_runs_is_preferred(place: Place, stand_in: list[list[str]]) -> None:
    with FakeKeeper(str(place.socket)) as daemon, place.client() as client:
        client.enqueue("emails", 1)
        assert len(daemon.jobs) == 1
    assert not stand_in


def test_a_keeper_that_leaves_is_followed_by_another(place: Place, stand_in: list[list[str]]) -> None:
    with place.client() as client:
        client.enqueue("emails", 1)
        (stream,) = client._channel._streams
        assert stream.keeper is not None
        stream.keeper.process.terminate()
        stream.keeper.process.wait(10)
        assert client.enqueue("emails", 2) == 1
        stream.close()
        assert stream.cause() is None
    assert len(stand_in) == 2


def test_a_keeper_killed_before_it_answered_leaves_doubt(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    kill = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    monkeypatch.setattr(one_shot, "command", lambda *_: kill)
    with place.client("300ms") as client, pytest.raises(Unconfirmed, match="connection ended"):
        client.cancel(1)
    with place.client("300ms") as client, pytest.raises(Unconfirmed):
        client.enqueue("emails", 1)


def test_a_keeper_that_does_not_end_is_left_to_itself(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supervisor.wire.client.EXIT_WAIT_S", 0.05)
    with place.client() as client:
        client.enqueue("emails", 1)
        (stream,) = client._channel._streams
        assert stream.keeper is not None
        process = stream.keeper.process
        process.send_signal(19)
    assert process.returncode is None
    process.kill()
    process.wait(10)


def test_a_keeper_that_cannot_be_started_is_no_daemon(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_shot, "command", lambda *_: ["/nowhere/python"])
    before = len(os.listdir("/proc/self/fd"))
    with place.client() as client, pytest.raises(NotRunning, match="no keeper could be started"):
        client.enqueue("emails", 1)
    assert len(os.listdir("/proc/self/fd")) == before


def test_threads_share_the_one_keeper(place: Place, stand_in: list[list[str]]) -> None:
    with place.client() as client:
        ids: list[int] = []
        threads = [
            threading.Thread(target=lambda: ids.extend(client.enqueue("emails", n) for n in range(20)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert sorted(ids) == list(range(1, 81))
    assert len(stand_in) == 1


def test_a_forked_child_starts_a_keeper_of_its_own_and_leaves_the_parents_alone(
    place: Place, stand_in: list[list[str]]
) -> None:
    with place.client() as client:
        assert client.enqueue("emails", 1) == 1
        assert in_child(lambda: (client.enqueue("emails", "child"), client.close(), len(stand_in))) == "(1, None, 2)"
        assert client.enqueue("emails", 2) == 2
    assert sorted(place.jobs()) == [b'"child"', b"1", b"2"]


def test_a_keeper_outlives_no_client_even_one_that_is_killed(place: Place, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    program = (
        "import os,sys;from supervisor.wire import one_shot;from supervisor.client import Client\n"
        "real,fake=one_shot.command,'tests.support.fake_keeper'\n"
        "one_shot.command=lambda *a:[w.replace('supervisor.cli.jobsupd',fake) for w in real(*a)]\n"
        f"c=Client({str(place.config)!r});c.enqueue('emails',1);(s,)=c._channel._streams\n"
        f"open({str(pid_file)!r},'w').write(str(s.keeper.process.pid));os.kill(os.getpid(),9)"
    )
    root = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", program], check=False, timeout=60, env=os.environ | {"PYTHONPATH": root})
    pid = int(pid_file.read_text())
    until(lambda: not Path(f"/proc/{pid}").exists() or "Z (zombie)" in Path(f"/proc/{pid}/status").read_text())
    assert place.jobs() == [b"1"]


def test_where_only_a_socket_is_known_no_keeper_is_started(
    place: Place, stand_in: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(socket=str(place.socket), patience=0) as client, pytest.raises(NotRunning):
        client.enqueue("emails", 1)
    monkeypatch.setenv("JOBSUP_SOCKET", str(place.socket))
    with Client(patience=0) as client, pytest.raises(NotRunning):
        client.enqueue("emails", 1)
    assert not stand_in


def test_inside_a_handler_no_keeper_is_started(
    place: Place, stand_in: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBSUP_WORKER", "emails")
    with place.client("50ms") as client, pytest.raises(NotRunning):
        client.enqueue("emails", 1)
    assert not stand_in


def test_who_wants_only_the_daemon_hears_at_once_that_there_is_none(place: Place, stand_in: list[list[str]]) -> None:
    with Client(place.config, one_shot=False) as client, pytest.raises(NotRunning):
        client.request("workers")
    assert not stand_in


@pytest.mark.parametrize(("path", "found"), [("/a/site-packages/supervisor/wire/x.py", False), ("/a/b/s/w/x.py", True)])
def test_a_clone_is_put_on_the_keepers_path_and_an_installation_is_there(
    monkeypatch: pytest.MonkeyPatch, path: str, found: bool
) -> None:
    monkeypatch.setattr(one_shot, "__file__", path)
    monkeypatch.setenv("PYTHONPATH", "/mine")
    expected = "/a/b:/mine" if found else "/mine"
    assert one_shot._environment()["PYTHONPATH"] == expected


# -- from an event loop -----------------------------------------------------------------------------------------------


def client_of(place: Place, timeout: str = "20s") -> AsyncClient:
    return AsyncClient(place.config, timeout=timeout)


def keeper_of(client: AsyncClient) -> one_shot.Keeper:
    (link,) = client._channel._links
    assert link.keeper is not None
    return link.keeper


def test_from_a_loop_one_keeper_serves_all_calls_and_has_ended_with_its_client(
    place: Place,
    stand_in: list[list[str]],
) -> None:
    async def main() -> int:
        async with client_of(place) as client:
            ids = await asyncio.gather(*(client.enqueue("emails", n) for n in range(700)))
            assert sorted(ids) == list(range(1, 701))
            assert (await client.status(2))["state"] == "queued"
            return keeper_of(client).process.pid

    pid = asyncio.run(main())
    assert not alive(pid)
    assert len(place.jobs()) == 700
    assert len(stand_in) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [(2, ConfigError), (4, Denied), (74, StoreError), (78, StoreNewer), (1, Internal), (99, Internal)],
)
def test_from_a_loop_a_keeper_that_cannot_work_says_why_to_every_call(
    place: Place,
    status: int,
    kind: type[JobsupError],
) -> None:
    place.behave(f"exit {status} the database is on the moon")

    async def main() -> None:
        async with client_of(place) as client:
            calls = [client.enqueue("emails", n) for n in range(3)]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert {(type(outcome), str(outcome)) for outcome in outcomes} == {(kind, "the database is on the moon")}

    asyncio.run(main())


def test_from_a_loop_a_database_that_another_holds_is_waited_for(place: Place, stand_in: list[list[str]]) -> None:
    async def main() -> None:
        place.behave("exit 75 held by process 12")
        async with client_of(place, "3s") as client:
            with pytest.raises(Busy, match="held by process 12"):
                await client.cancel(1)
        assert len(stand_in) > 1
        async with client_of(place) as client:
            count = len(stand_in)
            enqueueing = asyncio.create_task(client.enqueue("emails", 1))
            await until_in_loop(lambda: len(stand_in) > count)
            place.behave("serve")
            assert await enqueueing == 1

    asyncio.run(main())


def test_from_a_loop_the_loop_goes_on_while_a_keeper_starts_and_ends(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper that is started does nothing for a second: so long a loop would be held up."""
    slow = [sys.executable, "-c", "import time; time.sleep(1); raise SystemExit(4)"]
    monkeypatch.setattr(one_shot, "command", lambda *_: slow)

    async def main() -> int:
        turns, done = 0, False

        async def ticking() -> None:
            nonlocal turns
            while not done:
                await asyncio.sleep(0.01)
                turns += 1

        ticker = asyncio.create_task(ticking())
        async with client_of(place) as client:
            with pytest.raises(Denied):
                await client.enqueue("emails", 1)
        done = True
        await ticker
        return turns

    assert asyncio.run(main()) > 20


def test_from_a_loop_a_daemon_that_comes_up_meanwhile_is_used(place: Place, stand_in: list[list[str]]) -> None:
    async def main() -> None:
        place.behave("exit 75 held by process 12")
        async with client_of(place) as client:
            enqueueing = asyncio.create_task(client.enqueue("emails", 1))
            await until_in_loop(lambda: stand_in)
            with FakeKeeper(str(place.socket)) as daemon:
                assert await enqueueing == 1
                assert len(daemon.jobs) == 1

    asyncio.run(main())


def test_from_a_loop_a_keeper_that_leaves_is_followed_by_another(place: Place, stand_in: list[list[str]]) -> None:
    async def main() -> None:
        async with client_of(place) as client:
            await client.enqueue("emails", 1)
            keeper_of(client).process.terminate()
            assert await client.enqueue("emails", 2) == 1

    asyncio.run(main())
    assert len(stand_in) == 2


def test_from_a_loop_a_keeper_killed_before_it_answered_leaves_doubt(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    monkeypatch.setattr(one_shot, "command", lambda *_: kill)

    async def main() -> None:
        async with client_of(place, "300ms") as client:
            with pytest.raises(Unconfirmed, match="connection ended"):
                await client.cancel(1)
            with pytest.raises(Unconfirmed):
                await client.enqueue("emails", 1)

    asyncio.run(main())


def test_from_a_loop_a_keeper_that_does_not_end_is_left_to_itself(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supervisor.wire.async_channel.EXIT_WAIT_S", 0.05)

    async def main() -> one_shot.Keeper:
        async with client_of(place) as client:
            await client.enqueue("emails", 1)
            keeper = keeper_of(client)
            keeper.process.send_signal(19)
        return keeper

    process = asyncio.run(main()).process
    assert process.returncode is None
    process.kill()
    process.wait(10)


def test_from_a_loop_a_keeper_that_cannot_be_started_is_no_daemon(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_shot, "command", lambda *_: ["/nowhere/python"])

    async def main() -> None:
        async with client_of(place) as client:
            before = len(os.listdir("/proc/self/fd"))
            with pytest.raises(NotRunning, match="no keeper could be started"):
                await client.enqueue("emails", 1)
            assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(main())


def test_from_a_loop_a_client_whose_loop_ended_leaves_no_keeper_behind(place: Place, stand_in: list[list[str]]) -> None:
    client = client_of(place)
    assert asyncio.run(client.enqueue("emails", 1)) == 1
    first = keeper_of(client).process.pid
    assert asyncio.run(client.enqueue("emails", 2)) == 1
    assert not alive(first)
    second = keeper_of(client).process.pid
    asyncio.run(client.close())
    assert not alive(second)
    assert sorted(place.jobs()) == [b"1", b"2"]


def test_from_a_loop_a_forked_child_starts_a_keeper_of_its_own_and_leaves_the_parents_alone(
    place: Place,
    stand_in: list[list[str]],
) -> None:
    client = client_of(place)
    assert asyncio.run(client.enqueue("emails", 1)) == 1

    async def child() -> int:
        job_id = await client.enqueue("emails", "child")
        await client.close()
        return job_id

    assert in_child(lambda: (asyncio.run(child()), len(stand_in))) == "(1, 2)"
    assert alive(keeper_of(client).process.pid)
    asyncio.run(client.close())
    assert sorted(place.jobs()) == [b'"child"', b"1"]


def test_from_a_loop_without_a_keeper_being_allowed_there_is_no_daemon(place: Place, stand_in: list[list[str]]) -> None:
    async def main() -> None:
        async with AsyncClient(place.config, one_shot=False) as client:
            with pytest.raises(NotRunning):
                await client.request("workers")

    asyncio.run(main())
    assert not stand_in
