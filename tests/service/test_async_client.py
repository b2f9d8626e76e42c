"""The client of event loops against a keeper: one connection for all, and what becomes of calls that are given up."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import pytest

import supervisor.async_client
import supervisor.client
from supervisor.client import AsyncClient, Client
from supervisor.errors import (
    Busy,
    InvalidPayload,
    JobsupError,
    NotRunning,
    PayloadTooLarge,
    ProtocolError,
    QueueFull,
    Unconfirmed,
    UnknownJob,
    UnknownQueue,
    UsageError,
    WaitTimeout,
    WrongState,
)
from supervisor.policy.options import NAMES
from supervisor.shapes import JobOptions
from supervisor.wire import messages
from supervisor.wire.async_channel import GIVEN_UP_MAX, UNDER_WAY_MAX
from supervisor.wire.framing import Decoder, frame
from tests.service.test_client_faults import in_child
from tests.support.fake_keeper import (
    ANOTHER_FIRST,
    BUSY,
    BUSY_AT_THE_DOOR,
    GARBAGE,
    KEEP_SILENT,
    LOSE_REPLY,
    LOSE_REQUEST,
    MAX_PAYLOAD_BYTES,
    NEITHER,
    NOT_JSON,
    OTHER_VERSION,
    REFUSED_AT_THE_DOOR,
    FakeKeeper,
    listen,
)
from tests.support.waiting import until_in_loop

T = TypeVar("T")


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[FakeKeeper]:
    with FakeKeeper(str(tmp_path / "s")) as keeper:
        yield keeper


Use = Callable[[AsyncClient], Coroutine[Any, Any, T]]
Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a test's coroutine in a loop of its own, with a client, and fails where the loop had to complain."""

    def run(use: Use[T], **options: Any) -> T:
        complaints: list[dict[str, Any]] = []

        async def main() -> T:
            asyncio.get_running_loop().set_exception_handler(lambda _, said: complaints.append(said))
            async with AsyncClient(socket=str(tmp_path / "s"), **{"timeout": 10, **options}) as client:
                return await use(client)

        found = asyncio.run(main(), debug=True)
        assert not complaints
        return found

    return run


# -- what it is ------------------------------------------------------------------------------------------------------


def test_it_has_the_calls_of_the_other_client_with_the_same_parameters() -> None:
    def calls(kind: type) -> dict[str, list[str]]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {name: [*inspect.signature(method).parameters] for name, method in methods if name[0] != "_"}

    plain, loops = calls(Client), calls(AsyncClient)
    assert set(loops) - set(plain) == {"enqueue_stream"}
    assert set(plain) - set(loops) == {"flush"}
    same = set(plain) & set(loops) - {"enqueue"}
    assert {name: plain[name] for name in same} == {name: loops[name] for name in same}
    spelled_out = set(plain["enqueue"]) - {"self", "queue", "payload", "request_key"}
    assert spelled_out == set(get_type_hints(JobOptions)) == set(NAMES)


def test_it_is_found_beside_the_other_client_and_nothing_else_is() -> None:
    assert supervisor.client.AsyncClient is supervisor.async_client.AsyncClient
    with pytest.raises(AttributeError, match="nonsense"):
        supervisor.client.nonsense  # type: ignore[attr-defined]  # noqa: B018


def test_every_call_does_what_it_does_elsewhere(run: Run, keeper: FakeKeeper) -> None:
    async def use(client: AsyncClient) -> None:
        assert await client.enqueue("emails", {"to": "a@b.c"}, delay="5m", tags=["x"]) == 1
        assert keeper.jobs[1]["delay_ms"] == 300_000
        assert await client.enqueue_many("emails", range(3), max_attempts=2) == [2, 3, 4]
        assert await client.enqueue_many("emails", []) == []
        assert (await client.insert("emails", [{"payload": 1, "max_attempts": 3}]))["ids"] == [5]
        assert (await client.status(1))["tags"] == ["x"]
        assert (await client.status())["daemon"]["running"] is True
        await client.cancel(1)
        await client.retry(1, force=True)
        assert keeper.jobs[1]["state"] == "queued"
        assert await client.request("hello")
        assert await client.request("pause", queue="emails")
        keeper.finish(2)
        assert (await client.wait(2))["state"] == "completed"

    run(use)


def test_what_is_wrong_is_raised_as_what_it_is(run: Run, keeper: FakeKeeper) -> None:
    async def use(client: AsyncClient) -> None:
        with pytest.raises(UnknownQueue, match="no queue nix"):
            await client.enqueue("nix", 1)
        with pytest.raises(QueueFull):
            await client.enqueue("full", 1)
        with pytest.raises(PayloadTooLarge):
            await client.enqueue("emails", "x" * MAX_PAYLOAD_BYTES)
        with pytest.raises(InvalidPayload, match="unique is no option"):
            await client.enqueue("emails", 1, unique=True)  # type: ignore[call-arg]
        with pytest.raises(UnknownJob):
            await client.status(99)
        with pytest.raises(WrongState):
            await client.retry(await client.enqueue("emails", 1))
        with pytest.raises(UsageError):
            await client.request("cancel", ids=object())
        with pytest.raises(WaitTimeout):
            await client.wait(1, timeout="20ms")

    run(use)


def test_the_same_request_key_is_the_same_job(run: Run, keeper: FakeKeeper) -> None:
    async def use(client: AsyncClient) -> list[int]:
        return await asyncio.gather(*(client.enqueue("emails", 1, request_key="order-17") for _ in range(5)))

    assert run(use) == [1] * 5
    assert len(keeper.jobs) == 1


# -- many at once ----------------------------------------------------------------------------------------------------


def test_calls_share_one_connection_and_none_waits_for_another(run: Run, keeper: FakeKeeper) -> None:
    async def use(client: AsyncClient) -> None:
        slow = await client.enqueue("emails", "slow")
        waiting = asyncio.create_task(client.wait(slow))
        ids = await asyncio.gather(*(client.enqueue("emails", n) for n in range(300)))
        assert sorted(ids) == list(range(2, 302))
        assert [keeper.jobs[job_id]["payload"] for job_id in ids] == [b"%d" % n for n in range(300)]
        assert len(keeper.server) == 1
        assert not waiting.done()
        keeper.finish(slow)
        assert (await waiting)["state"] == "completed"

    threads = threading.active_count()
    run(use)
    assert threading.active_count() == threads


def test_large_and_small_requests_go_out_whole_and_in_order(run: Run, keeper: FakeKeeper) -> None:
    async def use(client: AsyncClient) -> list[int]:
        sizes = [900_000, 1, 500_000, 2, 3, 1_000_000, 4]
        return await asyncio.gather(*(client.enqueue("emails", "x" * size) for size in sizes * 3))

    assert run(use) == list(range(1, 22))


def test_more_than_one_connection_holds_take_another_and_leave_it_again(run: Run, keeper: FakeKeeper) -> None:
    async def use(client: AsyncClient) -> None:
        job_id = await client.enqueue("emails", 1)
        waits = [asyncio.create_task(client.wait(job_id)) for _ in range(UNDER_WAY_MAX + 20)]
        await until_in_loop(lambda: len(keeper.seen) == len(waits) + 1)
        assert len(keeper.server) == 2
        assert await client.enqueue("emails", 2) == 2
        keeper.finish(job_id)
        assert {job["state"] for job in await asyncio.gather(*waits)} == {"completed"}
        await until_in_loop(lambda: len(keeper.server) == 1)

    run(use)


# -- given up --------------------------------------------------------------------------------------------------------


def test_a_cancelled_call_leaves_the_connection_to_the_others(run: Run, keeper: FakeKeeper) -> None:
    async def use(client: AsyncClient) -> None:
        job_id = await client.enqueue("emails", 1)
        kept, dropped = asyncio.create_task(client.wait(job_id)), asyncio.create_task(client.wait(job_id))
        await until_in_loop(lambda: len(keeper.seen) == 3)
        dropped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dropped
        assert await client.enqueue("emails", 2) == 2
        keeper.finish(job_id)
        assert (await kept)["state"] == "completed"
        assert await client.enqueue("emails", 3) == 3
        assert len(keeper.server) == 1

    run(use)


def test_calls_that_are_cancelled_at_any_moment_cost_the_others_nothing(run: Run, keeper: FakeKeeper) -> None:
    async def use(client: AsyncClient) -> None:
        for turns in range(40):
            tasks = [asyncio.create_task(client.enqueue("emails", [turns, n])) for n in range(6)]
            for _ in range(turns % 8):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            for n, outcome in enumerate(done):
                if isinstance(outcome, int):
                    assert json.loads(keeper.jobs[outcome]["payload"]) == [turns, n]
                else:
                    assert isinstance(outcome, asyncio.CancelledError)
                    assert n % 2 == 0
        assert len(keeper.server) == 1

    run(use)


def test_what_has_begun_to_go_out_goes_out_whole_and_what_has_not_does_not(tmp_path: Path) -> None:
    """The server takes nothing in at first: of the first call a part is in the socket, of the second nothing."""
    path = str(tmp_path / "s")

    async def main(listener: socket.socket) -> list[str]:
        async with AsyncClient(socket=path, timeout=60) as client:
            first = asyncio.create_task(client.enqueue("emails", "x" * 3_000_000))
            second = asyncio.create_task(client.enqueue("emails", "second"))
            third = asyncio.create_task(client.enqueue("emails", "third"))
            loop = asyncio.get_running_loop()
            server, _ = await loop.sock_accept(listener)
            server.setblocking(False)
            first.cancel()
            second.cancel()
            await asyncio.wait((first, second))
            decoder, seen = Decoder(), []
            while len(seen) < 2:
                seen += decoder.feed(await loop.sock_recv(server, 65536))
            number = json.loads(seen[1])["id"]
            server.send(frame(b'{"v":1,"id":%d,"ok":{"ids":[7]}}' % number))
            assert await third == 7
            server.close()
        return [json.loads(body)["jobs"][0]["payload"] for body in seen]

    with listen(path) as listener:
        listener.setblocking(False)
        assert asyncio.run(main(listener)) == ["x" * 3_000_000, "third"]


def test_too_many_calls_that_were_given_up_end_their_connection(run: Run, keeper: FakeKeeper) -> None:
    async def use(client: AsyncClient) -> None:
        job_id = await client.enqueue("emails", 1)
        waits = [asyncio.create_task(client.wait(job_id)) for _ in range(GIVEN_UP_MAX)]
        await until_in_loop(lambda: len(keeper.seen) == len(waits) + 1)
        for task in waits:
            task.cancel()
        await asyncio.wait(waits)
        await until_in_loop(lambda: len(keeper.server) == 0)
        assert await client.enqueue("emails", 2) == 2

    run(use)


def test_replies_that_came_late_wear_no_connection_out(run: Run, keeper: FakeKeeper) -> None:
    async def use(client: AsyncClient) -> None:
        for _ in range(2):
            job_id = await client.enqueue("emails", 1)
            seen = len(keeper.seen)
            waits = [asyncio.create_task(client.wait(job_id)) for _ in range(GIVEN_UP_MAX - 10)]
            await until_in_loop(lambda seen=seen: len(keeper.seen) == seen + GIVEN_UP_MAX - 10)
            (first,) = keeper.server
            for task in waits:
                task.cancel()
            await asyncio.wait(waits)
            keeper.finish(job_id)
        assert await client.enqueue("emails", 2) == 3
        assert list(keeper.server) == [first]

    run(use)


def test_an_answer_that_does_not_come_leaves_an_enqueue_unconfirmed_and_a_question_busy(
    run: Run, keeper: FakeKeeper
) -> None:
    async def use(client: AsyncClient) -> None:
        keeper.faults.extend([KEEP_SILENT, KEEP_SILENT])
        outcomes = await asyncio.gather(client.enqueue("emails", 1), client.status(), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Unconfirmed, Busy]
        assert await client.enqueue("emails", 2) == 2
        assert len(keeper.server) == 1

    run(use, timeout="200ms")


def test_what_was_not_sent_in_time_was_not_done_and_what_was_sent_in_part_may_be(tmp_path: Path) -> None:
    async def main() -> list[type]:
        async with AsyncClient(socket=str(tmp_path / "s"), timeout="200ms") as client:
            calls = [client.enqueue("emails", "x" * 3_000_000), client.enqueue("emails", 2)]
            return [type(outcome) for outcome in await asyncio.gather(*calls, return_exceptions=True)]

    with listen(str(tmp_path / "s")):
        assert asyncio.run(main()) == [Unconfirmed, Busy]


# -- connections that break ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("faults", [[LOSE_REPLY], [LOSE_REQUEST], [LOSE_REQUEST, LOSE_REPLY, LOSE_REPLY], [BUSY] * 3])
def test_an_enqueue_whose_connection_breaks_is_sent_again_and_done_once(
    run: Run, keeper: FakeKeeper, faults: list[str]
) -> None:
    async def use(client: AsyncClient) -> int:
        keeper.faults.extend(faults)
        return await client.enqueue("emails", 1)

    assert run(use) == 1
    assert len(keeper.jobs) == 1
    assert len({request.key for request in keeper.seen if isinstance(request, messages.Enqueue)}) == 1


@pytest.mark.parametrize("fault", [LOSE_REPLY, LOSE_REQUEST])
def test_a_break_under_many_calls_costs_each_at_most_a_repetition(run: Run, keeper: FakeKeeper, fault: str) -> None:
    async def use(client: AsyncClient) -> list[int]:
        keeper.faults.extend(([None] * 30 + [fault]) * 3)
        return await asyncio.gather(*(client.enqueue("emails", n) for n in range(100)))

    ids = run(use)
    assert [keeper.jobs[job_id]["payload"] for job_id in ids] == [b"%d" % n for n in range(100)]
    assert len(keeper.jobs) == 100


@pytest.mark.parametrize("fault", [LOSE_REPLY, LOSE_REQUEST])
def test_what_changes_something_is_not_repeated_and_not_known(run: Run, keeper: FakeKeeper, fault: str) -> None:
    async def use(client: AsyncClient) -> None:
        await client.enqueue("emails", 1)
        keeper.faults.append(fault)
        with pytest.raises(Unconfirmed, match="cancel was sent, and its answer was lost"):
            await client.cancel(1)

    run(use)


def test_a_connection_that_broke_while_idle_is_replaced_before_anything_is_sent(run: Run, keeper: FakeKeeper) -> None:
    async def use(client: AsyncClient) -> None:
        await client.enqueue("emails", 1)
        keeper.break_connections()  # and the loop has had no turn to notice
        await client.cancel(1)
        assert keeper.jobs[1]["state"] == "cancelled"

    run(use)


def test_a_wait_outlives_its_connection(run: Run, keeper: FakeKeeper) -> None:
    async def use(client: AsyncClient) -> None:
        waiting = asyncio.create_task(client.wait(await client.enqueue("emails", 1)))
        await until_in_loop(lambda: len(keeper.seen) == 2)
        keeper.break_connections()
        await until_in_loop(lambda: len(keeper.seen) == 3)
        keeper.finish(1)
        assert (await waiting)["state"] == "completed"

    run(use)


def test_turned_away_at_the_door_comes_again_unless_it_is_for_good(run: Run, keeper: FakeKeeper) -> None:
    async def use(client: AsyncClient) -> None:
        keeper.faults.extend([BUSY_AT_THE_DOOR] * 3)
        with pytest.raises(UnknownJob):  # nothing was done before: so it is asked again, though it changes something
            await client.cancel(1)
        keeper.break_connections()
        keeper.faults.append(REFUSED_AT_THE_DOOR)
        with pytest.raises(ProtocolError, match="told to refuse"):
            await client.enqueue("emails", 1)
        assert await client.enqueue("emails", 1) == 1

    run(use)


@pytest.mark.parametrize("fault", [GARBAGE, NOT_JSON, OTHER_VERSION, NEITHER])
def test_an_answer_that_is_none_is_a_breach_of_the_protocol(run: Run, keeper: FakeKeeper, fault: str) -> None:
    async def use(client: AsyncClient) -> None:
        keeper.faults.append(fault)
        with pytest.raises(ProtocolError):
            await client.status()
        assert await client.status()

    run(use)


def test_answers_to_others_are_passed_over(run: Run, keeper: FakeKeeper) -> None:
    async def use(client: AsyncClient) -> None:
        keeper.faults.append(ANOTHER_FIRST)
        assert (await client.status())["daemon"]["running"] is True

    run(use)


HOSTILE = [
    b'{"v":1,"id":[1],"ok":{}}', b'{"v":1,"id":{"a":1},"ok":{}}', b'{"v":1,"id":1e9,"ok":{}}', b'{"v":1,"ok":{}}',
    b'{"v":1,"id":"1","ok":{}}', b"[" * 200_000, b"null", b"\xff\xfe", b'{"v":1,"id":1,"error":7}',
]  # fmt: skip


@pytest.mark.parametrize("said", HOSTILE, ids=lambda said: str(said[:30]))
def test_whatever_the_other_side_says_no_call_hangs_and_the_loop_is_unharmed(tmp_path: Path, said: bytes) -> None:
    """The server says it, then closes; every call ends with an error of ours."""

    async def main(listener: socket.socket) -> list[Any]:
        complaints: list[Any] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        async with AsyncClient(socket=path, timeout=60) as client:
            calls = [asyncio.create_task(client.cancel(n)) for n in range(1, 4)]
            server, _ = await loop.sock_accept(listener)
            while not await loop.sock_recv(server, 65536):
                pass
            await loop.sock_sendall(server, frame(said))
            server.close()
            outcomes = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 20)
        assert not complaints
        return outcomes

    path = str(tmp_path / "s")
    with listen(path) as listener:
        listener.setblocking(False)
        assert all(isinstance(outcome, ProtocolError | Unconfirmed) for outcome in asyncio.run(main(listener)))


def test_where_nobody_listens_there_is_no_daemon(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncClient(socket=str(tmp_path / "s"), patience=0) as client:
            with pytest.raises(NotRunning, match="no daemon listens"):
                await client.enqueue("emails", 1)
        async with AsyncClient(socket=str(tmp_path / "s"), timeout="50ms") as client:
            with pytest.raises(NotRunning):
                await client.enqueue("emails", 1)

    asyncio.run(main())


def test_a_daemon_that_restarts_is_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "s")

    async def main() -> int:
        async with AsyncClient(socket=path, timeout=10) as client:
            with FakeKeeper(path):
                assert await client.enqueue("emails", 1) == 1
            os.unlink(path)
            again = asyncio.create_task(client.enqueue("emails", 2))
            await asyncio.sleep(0)
            with FakeKeeper(path):
                return await again

    assert asyncio.run(main()) == 1


# -- ends, loops and forks -------------------------------------------------------------------------------------------


def test_closing_lets_the_answers_under_way_arrive(run: Run, keeper: FakeKeeper) -> None:
    async def use(client: AsyncClient) -> None:
        waiting = asyncio.create_task(client.wait(await client.enqueue("emails", 1)))
        await until_in_loop(lambda: len(keeper.seen) == 2)
        await client.close()
        with pytest.raises(UsageError, match="closed"):
            await client.enqueue("emails", 2)
        keeper.finish(1)
        assert (await waiting)["state"] == "completed"
        await until_in_loop(lambda: len(keeper.server) == 0)
        await client.close()

    run(use)


def test_a_client_goes_on_in_the_loop_that_follows_and_not_in_two_at_once(keeper: FakeKeeper, tmp_path: Path) -> None:
    client = AsyncClient(socket=str(tmp_path / "s"))
    assert asyncio.run(client.enqueue("emails", 1)) == 1
    assert asyncio.run(client.enqueue("emails", 2)) == 2

    async def main() -> int:
        await client.enqueue("emails", 3)
        raised: list[BaseException] = []

        def elsewhere() -> None:
            try:
                asyncio.run(client.enqueue("emails", 4))
            except UsageError as error:
                raised.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        await until_in_loop(lambda: not thread.is_alive())
        assert "one event loop" in str(raised[0])
        await client.close()
        return len(keeper.jobs)

    assert asyncio.run(main()) == 3


def test_a_forked_child_makes_a_connection_and_keys_of_its_own(run: Run, keeper: FakeKeeper) -> None:
    async def use(client: AsyncClient) -> None:
        waiting = asyncio.create_task(client.wait(await client.enqueue("emails", 0)))
        await until_in_loop(lambda: len(keeper.seen) == 2)

        async def three() -> list[int]:
            return [await client.enqueue("emails", n) for n in range(3)]

        def in_a_loop_of_its_own() -> object:
            asyncio._set_running_loop(None)
            asyncio.set_event_loop(None)
            return asyncio.run(three())

        assert in_child(in_a_loop_of_its_own) == "[2, 3, 4]"
        assert await client.enqueue("emails", 4) == 5
        keeper.finish(1)
        assert (await waiting)["state"] == "completed"

    run(use)
    keys = [request.key for request in keeper.seen if isinstance(request, messages.Enqueue)]
    assert len({key.split("-")[0] for key in keys}) == 2


# -- streams ---------------------------------------------------------------------------------------------------------


async def numbers(count: int) -> AsyncIterator[int]:
    for n in range(count):
        yield n


def test_async_iterables_are_enqueued_all_or_none_or_each_for_itself(run: Run, keeper: FakeKeeper) -> None:
    async def use(client: AsyncClient) -> None:
        assert await client.enqueue_many("emails", numbers(3)) == [1, 2, 3]
        outcomes = await client.enqueue_each("emails", numbers(3))
        assert outcomes == [4, 5, 6]
        mixed = await client.enqueue_each("emails", [1, float("nan"), "x" * MAX_PAYLOAD_BYTES, 2])
        assert [type(outcome) for outcome in mixed] == [int, InvalidPayload, PayloadTooLarge, int]

    run(use)


def test_a_stream_is_sent_in_groups_and_answered_in_order(run: Run, keeper: FakeKeeper) -> None:
    async def use(client: AsyncClient) -> list[int | JobsupError]:
        return [outcome async for outcome in client.enqueue_stream("emails", numbers(2_000), tags=["s"])]

    assert run(use) == list(range(1, 2_001))
    assert [job["payload"] for job in keeper.jobs.values()] == [b"%d" % n for n in range(2_000)]
    assert len(keeper.seen) < 20


def test_a_slow_stream_waits_for_nothing(run: Run, keeper: FakeKeeper) -> None:
    """Each payload comes only when the one before it is answered."""

    async def use(client: AsyncClient) -> None:
        answered = asyncio.Event()

        async def source() -> AsyncIterator[int]:
            for n in range(5):
                answered.clear()
                yield n
                await answered.wait()

        found = []
        async for outcome in client.enqueue_stream("emails", source()):
            found.append(outcome)
            answered.set()
        assert found == [1, 2, 3, 4, 5]

    run(use)


def test_what_a_streams_source_raises_comes_behind_what_it_gave(run: Run, keeper: FakeKeeper) -> None:
    async def use(client: AsyncClient) -> None:
        async def source() -> AsyncIterator[Any]:
            yield 1
            yield float("nan")
            raise RuntimeError("the source is dry")

        found: list[Any] = []
        with pytest.raises(RuntimeError, match="dry"):
            async for outcome in client.enqueue_stream("emails", source()):
                found.append(outcome)
        assert [type(outcome) for outcome in found] == [int, InvalidPayload]

    run(use)


def test_a_source_that_waited_for_something_cancelled_ends_its_stream(run: Run, keeper: FakeKeeper) -> None:
    async def use(client: AsyncClient) -> None:
        async def source() -> AsyncIterator[Any]:
            yield 1
            cancelled = asyncio.get_running_loop().create_future()
            cancelled.cancel()
            yield await cancelled

        found: list[Any] = []

        async def read() -> None:
            async for outcome in client.enqueue_stream("emails", source()):
                found.append(outcome)

        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(read(), 10)
        assert len(found) == 1

    run(use)


def test_a_stream_that_is_left_stops_its_source_and_reads_no_further_ahead_than_it_must(
    run: Run, keeper: FakeKeeper
) -> None:
    async def use(client: AsyncClient) -> int:
        given, closed = 0, asyncio.Event()

        async def endless() -> AsyncIterator[int]:
            nonlocal given
            try:
                while True:
                    given += 1
                    yield given
            finally:
                closed.set()

        stream = client.enqueue_stream("emails", endless())
        assert await anext(stream) == 1
        await stream.aclose()
        await asyncio.wait_for(closed.wait(), 10)
        return given

    assert run(use) <= 1_100
    assert len(keeper.jobs) <= 500
