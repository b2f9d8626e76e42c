"""What becomes of a request when connections break, answers are lost, daemons restart, processes fork."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.client import Client
from supervisor.errors import Busy, ConfigError, JobsupError, NotRunning, ProtocolError, Unconfirmed, UsageError
from supervisor.unix.clock import boot_ms
from supervisor.wire import messages
from supervisor.wire.asking import HARMLESS_TWICE, RESEND_FOR_MS, Call, Failed, Names, error_of
from supervisor.wire.client import IDLE_STREAMS_MAX, Channel, Stream
from supervisor.wire.framing import Decoder, frame
from supervisor.wire.messages import failure
from tests.support.fake_keeper import (
    ANOTHER_FIRST,
    BUSY_AT_THE_DOOR,
    GARBAGE,
    KEEP_SILENT,
    LOSE_REPLY,
    LOSE_REQUEST,
    NEITHER,
    NOT_JSON,
    OTHER_VERSION,
    REFUSED_AT_THE_DOOR,
    FakeKeeper,
    listen,
)
from tests.support.waiting import until


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[FakeKeeper]:
    with FakeKeeper(str(tmp_path / "s")) as keeper:
        yield keeper


@pytest.fixture
def client(keeper: FakeKeeper, tmp_path: Path) -> Iterator[Client[int]]:
    with Client(socket=str(tmp_path / "s"), timeout=10) as client:
        yield client


def impatient(tmp_path: Path) -> Client[int]:
    return Client(socket=str(tmp_path / "s"), timeout="150ms")


@pytest.mark.parametrize("faults", [[LOSE_REPLY], [LOSE_REQUEST], [LOSE_REQUEST, LOSE_REPLY, LOSE_REPLY]])
def test_an_enqueue_whose_connection_breaks_is_sent_again_and_done_once(
    client: Client[int], keeper: FakeKeeper, faults: list[str]
) -> None:
    keeper.faults.extend(faults)
    assert client.enqueue("emails", 1) == 1
    assert len(keeper.jobs) == 1
    assert len({request.key for request in keeper.seen if isinstance(request, messages.Enqueue)}) == 1
    assert len(keeper.seen) == len(faults) + 1 - faults.count(LOSE_REQUEST)


MEMBERS: dict[str, dict[str, Any]] = {
    "pause": {"queue": "emails"},
    "flow": {"flow": 1},
    "flow_close": {"flow": 1},
    "flow_signal": {"flow": 1, "signal": "s"},
    "flow_start": {"key": "k", "steps": []},
    "resume": {"queue": "emails"},
    "explain": {"job": 1},
    "key": {"queue": "emails", "job_key": "k", "action": "free"},
    "cron_show": {"name": "nightly"},
    "cron_add": {"name": "nightly", "schedule": {"queue": "emails", "cron": "@daily"}},
    "cron_pause": {"name": "nightly"},
    "cron_resume": {"name": "nightly"},
    "fetch": {"queue": "emails"},
    "extend": {"token": 1},
    "ack": {"job": 1, "token": 1},
}


@pytest.mark.parametrize("op", sorted(HARMLESS_TWICE - {"enqueue", "wait", "job"}))
def test_what_is_harmless_twice_is_asked_again(client: Client[int], keeper: FakeKeeper, op: str) -> None:
    keeper.faults.append(LOSE_REPLY)
    assert client.request(op, **MEMBERS.get(op, {}))
    assert len(keeper.seen) == 2


def test_a_wait_outlives_its_connection(client: Client[int], keeper: FakeKeeper) -> None:
    job_id = client.enqueue("emails", 1)
    found: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: found.append(client.wait(job_id)))
    thread.start()
    until(lambda: len(keeper.seen) == 2)
    keeper.break_connections()
    until(lambda: len(keeper.seen) == 3)
    keeper.finish(job_id)
    thread.join(10)
    assert found[0]["state"] == "completed"


@pytest.mark.parametrize("fault", [LOSE_REPLY, LOSE_REQUEST])
@pytest.mark.parametrize(
    ("op", "members"),
    [
        ("cancel", {"ids": [1]}),
        ("retry", {"ids": [1]}),
        ("purge", {"queue": "emails", "state": "dead"}),
        ("move", {"old": "a", "new": "b"}),
        ("reload", {}),
        ("dead_delete", {"filter": {"queue": "a"}}),
    ],
)
def test_what_changes_something_is_not_repeated_and_not_known(
    client: Client[int], keeper: FakeKeeper, op: str, members: dict[str, Any], fault: str
) -> None:
    client.enqueue("emails", 1)
    keeper.faults.append(fault)
    with pytest.raises(Unconfirmed, match=f"{op} was sent, and its answer was lost"):
        client.request(op, **members)
    assert [request.__struct_config__.tag for request in keeper.seen].count(op) == (fault == LOSE_REPLY)


def test_an_enqueue_is_unconfirmed_only_when_the_time_is_over(keeper: FakeKeeper, tmp_path: Path) -> None:
    keeper.faults.extend([LOSE_REPLY] * 10_000)
    with impatient(tmp_path) as client, pytest.raises(Unconfirmed):
        client.enqueue("emails", 1)
    assert len(keeper.seen) > 2
    assert len(keeper.jobs) == 1


def test_an_answer_that_does_not_come_leaves_an_enqueue_unconfirmed_and_a_question_busy(
    keeper: FakeKeeper, tmp_path: Path
) -> None:
    with impatient(tmp_path) as client:
        keeper.faults.append(KEEP_SILENT)
        with pytest.raises(Unconfirmed, match="no answer came in time"):
            client.enqueue("emails", 1)
        keeper.faults.append(KEEP_SILENT)
        with pytest.raises(Busy, match="no answer came in time"):
            client.status()
        assert client.enqueue("emails", 2) == 2


def test_a_request_that_could_not_be_sent_whole_was_not_done(tmp_path: Path) -> None:
    """Nobody accepts: the request stays in the socket's buffer, and is too large for it."""
    with listen(str(tmp_path / "s")), impatient(tmp_path) as client, pytest.raises(Busy, match="could not be sent"):
        client.enqueue("emails", "x" * 10_000_000)


def test_a_full_backlog_is_waited_out(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(0)
    waiting = []
    for _ in range(3):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        waiting.append(sock)
        try:
            sock.connect(path)
        except BlockingIOError:
            break
    with impatient(tmp_path) as client, pytest.raises(Busy, match="too many clients"):
        client.status()
    for sock in [*waiting, listener]:
        sock.close()


def test_turned_away_at_the_door_comes_again(client: Client[int], keeper: FakeKeeper, tmp_path: Path) -> None:
    keeper.faults.extend([BUSY_AT_THE_DOOR] * 3)
    assert client.enqueue("emails", 1) == 1
    assert len(keeper.jobs) == 1
    keeper.faults.extend([BUSY_AT_THE_DOOR] * 10_000)
    with impatient(tmp_path) as other, pytest.raises(Busy, match="told to be busy"):
        other.request("cancel", ids=[1])


def test_turned_away_for_good_is_not_tried_again(client: Client[int], keeper: FakeKeeper) -> None:
    keeper.faults.append(REFUSED_AT_THE_DOOR)
    with pytest.raises(ProtocolError, match="told to refuse"):
        client.enqueue("emails", 1)
    assert len(keeper.seen) == 1


def test_the_reasons_of_a_server_that_has_closed_already_are_read() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.send(frame(failure(None, Busy("full house"))))
    stream = Stream(ours, boot_ms)
    assert not stream.alive()
    with pytest.raises(Failed, match="full house") as caught:
        stream.ask(frame(b"{}"), 1, boot_ms() + 10_000)
    assert not caught.value.sent
    stream.close()


@pytest.mark.parametrize("fault", [GARBAGE, NOT_JSON, OTHER_VERSION, NEITHER])
def test_an_answer_that_is_none_is_a_breach_of_the_protocol(
    client: Client[int], keeper: FakeKeeper, fault: str
) -> None:
    keeper.faults.append(fault)
    with pytest.raises(ProtocolError):
        client.status()
    assert client.status()


def test_each_line_of_a_configuration_error_is_a_problem() -> None:
    error = error_of({"error": {"code": "config", "message": "a:1: x\na:2: y", "hint": "h"}})
    assert isinstance(error, ConfigError)
    assert (error.problems, error.hint) == (("a:1: x", "a:2: y"), "h")


def test_a_code_of_the_future_is_an_error_all_the_same() -> None:
    error = error_of({"error": {"code": "of the future", "message": "m"}})
    assert (type(error), error.message) == (JobsupError, "m")
    assert isinstance(error_of({"error": {"code": 5, "message": "m"}}), ProtocolError)


def test_answers_to_others_are_passed_over(client: Client[int], keeper: FakeKeeper) -> None:
    keeper.faults.append(ANOTHER_FIRST)
    assert client.status()["daemon"] == {"running": True}


def test_a_connection_that_broke_while_idle_is_replaced_before_anything_is_sent(
    client: Client[int], keeper: FakeKeeper
) -> None:
    client.enqueue("emails", 1)
    keeper.break_connections()
    client.cancel(1)
    assert keeper.jobs[1]["state"] == "cancelled"


def test_a_daemon_that_restarts_is_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with Client(socket=path, timeout=10) as client:
        with FakeKeeper(path):
            assert client.enqueue("emails", 1) == 1
        os.unlink(path)
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(client.enqueue("emails", 2)))
        thread.start()
        with FakeKeeper(path):
            thread.join(10)
        assert found == [1]


def test_threads_share_a_client_without_waiting_for_each_other(client: Client[int], keeper: FakeKeeper) -> None:
    slow = client.enqueue("emails", 1)
    waiter = threading.Thread(target=lambda: client.wait(slow))
    waiter.start()
    ids: list[int] = []

    def work() -> None:
        ids.extend(client.enqueue("emails", n) for n in range(100))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(ids) == list(range(2, 802))
    assert len(keeper.server) <= 9
    keeper.finish(slow)
    waiter.join(10)


def test_no_more_connections_are_kept_than_are_of_use(client: Client[int], keeper: FakeKeeper) -> None:
    job_id = client.enqueue("emails", 1)
    threads = [threading.Thread(target=lambda: client.wait(job_id)) for _ in range(IDLE_STREAMS_MAX + 5)]
    for thread in threads:
        thread.start()
    until(lambda: len(keeper.seen) == len(threads) + 1)
    keeper.finish(job_id)
    for thread in threads:
        thread.join(10)
    until(lambda: len(keeper.server) == IDLE_STREAMS_MAX)


def test_closing_lets_the_answer_under_way_arrive(client: Client[int], keeper: FakeKeeper) -> None:
    job_id = client.enqueue("emails", 1)
    found: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: found.append(client.wait(job_id)))
    thread.start()
    until(lambda: len(keeper.seen) == 2)
    client.close()
    keeper.finish(job_id)
    thread.join(10)
    assert found[0]["state"] == "completed"
    until(lambda: len(keeper.server) == 0)


def in_child(work: Callable[[], object]) -> str:
    """What `work` returns in a forked child, as text."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(writer, str(work()).encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        said = file.read().decode()
    os.waitpid(pid, 0)
    return said


def test_a_forked_child_makes_connections_and_keys_of_its_own(client: Client[int], keeper: FakeKeeper) -> None:
    assert client.enqueue("emails", 0) == 1
    assert in_child(lambda: [client.enqueue("emails", n) for n in range(3)]) == "[2, 3, 4]"
    assert client.enqueue("emails", 4) == 5
    keys = [request.key for request in keeper.seen if isinstance(request, messages.Enqueue)]
    assert len(set(keys)) == 5
    assert len({key.split("-")[0] for key in keys}) == 2


def test_a_fork_in_the_midst_of_other_threads_requests_hurts_neither_side(
    client: Client[int], keeper: FakeKeeper
) -> None:
    stop = threading.Event()
    ids: list[int] = []

    def work() -> None:
        while not stop.is_set():
            ids.append(client.enqueue("emails", "parent"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    said = [in_child(lambda: client.enqueue("emails", "child")) for _ in range(20)]
    stop.set()
    for thread in threads:
        thread.join(10)
    assert all(each.isdigit() for each in said), said
    assert len({*ids, *map(int, said)}) == len(ids) + 20 == len(keeper.jobs)


def test_a_connection_of_the_parent_does_not_live_on_in_the_child(client: Client[int], keeper: FakeKeeper) -> None:
    client.enqueue("emails", 1)
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    client.close()
    until(lambda: len(keeper.server) == 0)
    os.close(writer)
    os.close(reader)
    os.waitpid(pid, 0)


class Script:
    """Streams that do what they are told, at a time that is told."""

    def __init__(self, *acts: Callable[[], dict[str, Any]]) -> None:
        self.now_ms = 0
        self.acts = list(acts)
        self.asked: list[bytes] = []
        self.open = 0

    def dial(self) -> Stream:
        script = self

        class Scripted(Stream):
            def __init__(self) -> None:
                self.keeper, self.exclusive = None, False
                script.open += 1

            def ask(self, request: bytes, request_id: int, deadline_ms: int) -> dict[str, Any]:
                script.asked += Decoder().feed(request)
                return script.acts.pop(0)()

            def close(self) -> None:
                script.open -= 1

            def alive(self) -> bool:
                return True

        return Scripted()

    def channel(self, **more: Any) -> Channel:
        return Channel(self.dial, lambda: self.now_ms, Names(), **more)

    def fail(self, *, sent: bool, after_ms: int = 0) -> Callable[[], dict[str, Any]]:
        def act() -> dict[str, Any]:
            self.now_ms += after_ms
            raise Failed(Busy("it broke"), sent=sent)

        return act


def test_a_key_that_may_be_forgotten_is_not_sent_again() -> None:
    script = Script()
    script.acts = [script.fail(sent=True), script.fail(sent=True, after_ms=RESEND_FOR_MS), lambda: {"ok": {}}]
    with pytest.raises(Unconfirmed):
        script.channel().ask(Call("enqueue", "", 24 * 3_600_000))
    assert len(script.asked) == 2


def test_what_was_never_sent_whole_may_be_sent_again_and_is_never_unconfirmed() -> None:
    script = Script()
    script.acts = [script.fail(sent=False), script.fail(sent=False), lambda: {"ok": {"done": [1]}}]
    assert script.channel().ask(Call("cancel", '"ids":[1]', 1000)) == {"done": [1]}
    assert set(script.asked) == {b'{"v":1,"id":1,"op":"cancel","ids":[1]}'}
    script.acts = [script.fail(sent=False, after_ms=2000)]
    with pytest.raises(Busy, match="it broke"):
        script.channel().ask(Call("cancel", "", 1000))


def test_a_doubt_stays_when_later_attempts_do_not_even_reach_the_daemon() -> None:
    script = Script()
    script.acts = [script.fail(sent=True), script.fail(sent=False, after_ms=2000)]
    with pytest.raises(Unconfirmed):
        script.channel().ask(Call("enqueue", "", 1000))
    script.now_ms = 0
    script.acts = [script.fail(sent=True), script.fail(sent=False, after_ms=2000)]
    with pytest.raises(Busy):
        script.channel().ask(Call("status", "", 1000))


def test_patience_ends_before_the_time_only_where_nobody_listens() -> None:
    script = Script()

    def dial() -> Stream:
        script.now_ms += 40
        raise Failed(NotRunning("nobody"), absent=True)

    channel = Channel(dial, lambda: script.now_ms, Names(), patience_ms=100)
    with pytest.raises(NotRunning):
        channel.ask(Call("status", "", 100_000))
    assert 100 <= script.now_ms <= 160


def test_an_interrupted_question_takes_its_connection_with_it() -> None:
    def interrupt() -> dict[str, Any]:
        raise KeyboardInterrupt

    script = Script(interrupt, lambda: {"ok": {}})
    channel = script.channel()
    with pytest.raises(KeyboardInterrupt):
        channel.ask(Call("status", "", 1000))
    assert script.open == 0
    channel.ask(Call("status", "", 1000))
    assert script.open == 1
    channel.close()
    assert script.open == 0


def test_an_only_connection_is_waited_for_and_then_shared() -> None:
    script = Script()
    entered, leave = threading.Event(), threading.Event()

    def slowly() -> dict[str, Any]:
        entered.set()
        assert leave.wait(10)
        return {"ok": {"n": 1}}

    script.acts = [slowly, lambda: {"ok": {"n": 2}}]
    plain = script.dial

    def exclusive() -> Stream:
        stream = plain()
        stream.exclusive = True
        return stream

    channel = Channel(exclusive, lambda: script.now_ms, Names())
    found: list[Any] = []
    first = threading.Thread(target=lambda: found.append(channel.ask(Call("status", "", 1000))))
    first.start()
    assert entered.wait(10)
    with pytest.raises(Busy, match="only connection"):
        channel.ask(Call("status", "", 0))
    second = threading.Thread(target=lambda: found.append(channel.ask(Call("status", "", 10_000))))
    second.start()
    leave.set()
    first.join(10)
    second.join(10)
    assert found == [{"n": 1}, {"n": 2}]
    assert script.open == 1


def test_closing_wakes_whoever_waits_for_a_connection() -> None:
    script = Script()
    entered, leave = threading.Event(), threading.Event()

    def slowly() -> dict[str, Any]:
        entered.set()
        assert leave.wait(10)
        return {"ok": {}}

    script.acts = [slowly]
    plain = script.dial

    def exclusive() -> Stream:
        stream = plain()
        stream.exclusive = True
        return stream

    channel = Channel(exclusive, lambda: script.now_ms, Names())
    first = threading.Thread(target=lambda: channel.ask(Call("status", "", 1000)))
    first.start()
    assert entered.wait(10)
    raised: list[JobsupError] = []

    def ask() -> None:
        try:
            channel.ask(Call("status", "", 60_000))
        except UsageError as error:
            raised.append(error)

    second = threading.Thread(target=ask)
    second.start()
    channel.close()
    second.join(10)
    leave.set()
    first.join(10)
    assert len(raised) == 1
    assert script.open == 0
