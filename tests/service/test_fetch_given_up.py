"""Fetches that nobody waits for any more, moment by moment: the other side says what a keeper would, when told to.

What was given in the last moment is released, once; what was not given never is.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.client import AsyncClient, Client
from supervisor.wire import async_channel
from supervisor.wire.framing import Decoder, frame
from tests.support.fake_keeper import listen
from tests.support.threads import beside

JOB = {"id": 1, "token": 7}
LENT = {"token": 7, "jobs": [JOB], "repeated": False}
NOTHING: dict[str, Any] = {"token": None, "jobs": [], "repeated": False}


class Other:
    """The other side of one connection, as a test plays it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(5)
        self._decoder = Decoder()
        self._frames: list[bytes] = []

    def next(self) -> dict[str, Any]:
        """The next request; empty once the client has closed its side."""
        while not self._frames:
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:  # it was closed with something unread
                data = b""
            if not data:
                return {}
            self._frames += self._decoder.feed(data)
        found: dict[str, Any] = json.loads(self._frames.pop(0))
        return found

    def answer(self, request: dict[str, Any], ok: dict[str, Any]) -> None:
        self.sock.sendall(frame(json.dumps({"v": 1, "id": request["id"], "ok": ok}).encode()))

    def withdrawal_of(self, fetch: dict[str, Any]) -> dict[str, Any]:
        """The next request, which takes the fetch back: the same one that waits for nothing."""
        found = self.next()
        assert (found["op"], found["key"], found["queue"]) == ("fetch", fetch["key"], fetch["queue"])
        assert found.get("wait_ms", 0) == 0
        assert found["id"] != fetch["id"]
        return found

    def released(self, token: int = 7) -> None:
        """The next request is the release of what was lent."""
        found = self.next()
        assert (found["op"], found["token"]) == ("release", token)
        self.answer(found, {"token": token, "done": [1]})


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with listen(str(tmp_path / "s")) as found:
        found.settimeout(5)
        yield found


def accepted(listener: socket.socket) -> Other:
    return Other(listener.accept()[0])


# -- in an event loop ------------------------------------------------------------------------------------------------

Scene = Callable[["AsyncClient", "asyncio.Task[Any]", Other, dict[str, Any]], Coroutine[Any, Any, None]]


def play(path: Path, listener: socket.socket, scene: Scene) -> None:
    """A fetch waits in an event loop that must have nothing to complain of; the scene is what becomes of it."""

    async def main() -> None:
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, said: complaints.append(said))
        client = AsyncClient(socket=str(path / "s"), timeout=5)
        task = asyncio.create_task(client.fetch("pull", wait="20s"))
        await asyncio.sleep(0.05)
        other = await asyncio.to_thread(accepted, listener)
        await scene(client, task, other, await asyncio.to_thread(other.next))
        await client.close()
        assert await asyncio.to_thread(other.next) == {}
        assert not complaints

    asyncio.run(main(), debug=True)


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("given", [LENT, NOTHING], ids=["lent", "nothing"])
def test_what_was_given_before_it_was_taken_back_is_released(
    tmp_path: Path, listener: socket.socket, given: dict[str, Any]
) -> None:
    async def scene(client: AsyncClient, task: asyncio.Task[Any], other: Other, fetch: dict[str, Any]) -> None:
        await cancelled(task)
        withdrawal = await asyncio.to_thread(other.withdrawal_of, fetch)
        other.answer(fetch, given)
        other.answer(withdrawal, given)
        if given is LENT:
            await asyncio.to_thread(other.released)
        closing = asyncio.create_task(client.close())
        assert await asyncio.to_thread(other.next) == {}
        await closing

    play(tmp_path, listener, scene)


def test_what_is_given_after_it_was_taken_back_is_released_all_the_same(
    tmp_path: Path, listener: socket.socket
) -> None:
    """As by a keeper that could not look at both while its store failed."""

    async def scene(client: AsyncClient, task: asyncio.Task[Any], other: Other, fetch: dict[str, Any]) -> None:
        await cancelled(task)
        other.answer(await asyncio.to_thread(other.withdrawal_of, fetch), NOTHING)
        await asyncio.sleep(0.05)
        other.answer(fetch, LENT)
        await asyncio.to_thread(other.released)

    play(tmp_path, listener, scene)


def test_what_its_withdrawal_is_given_anew_is_released_too(tmp_path: Path, listener: socket.socket) -> None:
    """The first lease was released before the withdrawal was looked at, which has then one of its own."""

    async def scene(client: AsyncClient, task: asyncio.Task[Any], other: Other, fetch: dict[str, Any]) -> None:
        await cancelled(task)
        withdrawal = await asyncio.to_thread(other.withdrawal_of, fetch)
        other.answer(fetch, LENT)
        await asyncio.to_thread(other.released)
        other.answer(withdrawal, {**LENT, "token": 8})
        await asyncio.to_thread(other.released, 8)

    play(tmp_path, listener, scene)


@pytest.mark.parametrize("cancelled_first", [True, False])
def test_what_came_in_the_very_moment_is_released(
    tmp_path: Path, listener: socket.socket, cancelled_first: bool
) -> None:
    """Before the caller has heard of it, or of being cancelled."""

    async def scene(client: AsyncClient, task: asyncio.Task[Any], other: Other, fetch: dict[str, Any]) -> None:
        other.answer(fetch, LENT)
        (link,) = client._channel._links
        if cancelled_first:
            task.cancel()
        assert link._read()
        await cancelled(task)
        await asyncio.to_thread(other.released)

    play(tmp_path, listener, scene)


def test_closing_waits_for_what_is_taken_back_and_not_for_ever(
    tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(async_channel, "TAKE_BACK_S", 0.3)

    async def scene(client: AsyncClient, task: asyncio.Task[Any], other: Other, fetch: dict[str, Any]) -> None:
        await cancelled(task)
        await asyncio.to_thread(other.withdrawal_of, fetch)
        before = asyncio.get_running_loop().time()
        await client.close()
        assert 0.2 < asyncio.get_running_loop().time() - before < 3

    play(tmp_path, listener, scene)


def test_a_connection_that_ends_has_nothing_to_take_back(tmp_path: Path, listener: socket.socket) -> None:
    async def scene(client: AsyncClient, task: asyncio.Task[Any], other: Other, fetch: dict[str, Any]) -> None:
        await cancelled(task)
        await asyncio.to_thread(other.withdrawal_of, fetch)
        other.sock.shutdown(socket.SHUT_WR)
        assert await asyncio.to_thread(other.next) == {}

    play(tmp_path, listener, scene)


@pytest.mark.parametrize(("given", "anew"), [(LENT, LENT), (NOTHING, NOTHING), (NOTHING, LENT)])
def test_closing_has_a_fetch_answered_with_what_there_is(
    tmp_path: Path, listener: socket.socket, given: dict[str, Any], anew: dict[str, Any]
) -> None:
    async def scene(client: AsyncClient, task: asyncio.Task[Any], other: Other, fetch: dict[str, Any]) -> None:
        await client.close()
        withdrawal = await asyncio.to_thread(other.withdrawal_of, fetch)
        other.answer(fetch, given)
        other.answer(withdrawal, anew)
        if anew != given:
            await asyncio.to_thread(other.released)
        assert await task == given["jobs"]

    play(tmp_path, listener, scene)


def test_a_fetch_of_its_callers_own_is_left_alone(tmp_path: Path, listener: socket.socket) -> None:
    """Whoever asks in the words of the protocol, under a key of his own, may ask again under it."""

    async def main() -> None:
        client = AsyncClient(socket=str(tmp_path / "s"), timeout=5)
        task = asyncio.create_task(client.request("fetch", queue="pull", key="mine", wait_ms=4_000))
        await asyncio.sleep(0.05)
        other = await asyncio.to_thread(accepted, listener)
        await asyncio.to_thread(other.next)
        await cancelled(task)
        await client.close()
        assert await asyncio.to_thread(other.next) == {}

    asyncio.run(main())


# -- in threads ------------------------------------------------------------------------------------------------------


class Interrupted(BaseException):
    """As KeyboardInterrupt, which pytest would take for its own."""


@pytest.fixture
def interruptible() -> Iterator[None]:
    def interrupt(_signal: int, _frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("given", [LENT, NOTHING], ids=["lent", "nothing"])
def test_whoever_is_interrupted_hands_back_what_was_on_its_way(
    tmp_path: Path, listener: socket.socket, given: dict[str, Any]
) -> None:
    def work() -> None:
        other = accepted(listener)
        fetch = other.next()
        os.kill(os.getpid(), signal.SIGUSR1)
        withdrawal = other.withdrawal_of(fetch)
        other.answer(fetch, given)
        other.answer(withdrawal, given)
        if given is LENT:
            other.released()
        assert other.next() == {}

    thread, failed = beside(work)
    with Client(socket=str(tmp_path / "s"), timeout=5) as client, pytest.raises(Interrupted):
        client.fetch("pull", wait="20s")
    thread.join(10)
    assert failed == []


@pytest.mark.usefixtures("interruptible")
def test_whoever_is_interrupted_is_not_held_up_by_a_keeper_that_is(tmp_path: Path, listener: socket.socket) -> None:
    def work() -> None:
        other = accepted(listener)
        fetch = other.next()
        os.kill(os.getpid(), signal.SIGUSR1)
        other.withdrawal_of(fetch)
        assert other.next() == {}

    thread, failed = beside(work)
    with Client(socket=str(tmp_path / "s"), timeout=5) as client, pytest.raises(Interrupted):
        client.fetch("pull", wait="20s")
    thread.join(10)
    assert failed == []


@pytest.mark.parametrize(("given", "anew"), [(LENT, LENT), (NOTHING, NOTHING), (NOTHING, LENT)])
def test_a_thread_that_fetches_when_the_client_is_closed_has_what_there_is(
    tmp_path: Path, listener: socket.socket, given: dict[str, Any], anew: dict[str, Any]
) -> None:
    """Its time may be over in the same moment: what the withdrawal is given then is nobody's."""
    client = Client(socket=str(tmp_path / "s"), timeout=5)
    found: list[Any] = []
    thread, failed = beside(lambda: found.extend(client.fetch("pull", wait="20s")))
    other = accepted(listener)
    fetch = other.next()
    client.close()
    withdrawal = other.withdrawal_of(fetch)
    other.answer(fetch, given)
    other.answer(withdrawal, anew)
    if anew != given:
        other.released()
    assert other.next() == {}
    thread.join(10)
    assert (found, failed) == (given["jobs"], [])
