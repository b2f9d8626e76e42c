"""The server: whose request is next, and that nothing a peer does can make it wait, grow or end."""

from __future__ import annotations

import array
import errno
import json
import os
import random
import resource
import selectors
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.errors import PayloadTooLarge, WrongState
from supervisor.wire import connection as connection_module
from supervisor.wire import server as server_module
from supervisor.wire.connection import Connection
from supervisor.wire.framing import FRAME_BYTES_MAX, Decoder, frame
from supervisor.wire.messages import reply
from supervisor.wire.server import FRAME_TIMEOUT_MS, Server

MIB = 1024 * 1024


class Bench:
    """A server in a loop that turns only when told, at a time that is told."""

    def __init__(self, path: Path) -> None:
        self.now_ms = 1_000
        self.selector = selectors.DefaultSelector()
        self.path = str(path / "s")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen(2048)
        self.server = Server([self.listener], self.selector, lambda: self.now_ms)
        self.peers: list[Peer] = []

    def turn(self, turns: int = 1) -> None:
        for _ in range(turns):
            for key, mask in self.selector.select(0):
                key.data(mask)

    def pass_time(self, ms: int) -> None:
        self.now_ms += ms
        self.turn()
        self.server.tick(self.now_ms)

    def join(self) -> Peer:
        peer = Peer(self, self.path)
        self.peers.append(peer)
        self.turn()
        return peer

    def take(self) -> list[tuple[Connection, bytes]]:
        return [self.server.requests.popleft() for _ in range(len(self.server.requests))]

    def quiet(self) -> bool:
        """Whether a turn would find nothing to do: a loop that never sleeps shows here."""
        return not self.selector.select(0)

    def close(self) -> None:
        self.server.close()
        for peer in self.peers:
            peer.sock.close()
        self.selector.close()


class Peer:
    """A client in the same thread: never waits, so the loop must turn between what it does."""

    def __init__(self, bench: Bench, path: str) -> None:
        self.bench = bench
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(path)
        self.sock.setblocking(False)
        self.decoder = Decoder()
        self.unsent = bytearray()
        self.ended = False

    def send(self, data: bytes = b"") -> None:
        """Go on with what is unsent, then this, turning the loop as it takes; stop where the server takes no more."""
        self.unsent += data
        while self.unsent:
            try:
                del self.unsent[: self.sock.send(self.unsent)]
            except BlockingIOError:
                if self.bench.quiet():
                    return
            except OSError:
                self.unsent.clear()
            self.bench.turn()
        self.bench.turn()

    def ask(self, number: int, pad: int = 0) -> None:
        self.send(frame(b"%d " % number + b"x" * pad))

    def received(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            self.bench.turn()
            try:
                data = self.sock.recv(MIB)
            except BlockingIOError:
                return found
            except OSError:
                data = b""
            if not data:
                self.ended = True
                return found
            found += map(json.loads, self.decoder.feed(data))

    def refusal(self) -> str | None:
        """The code of the error that the server ended the connection with; None if it goes on."""
        found = self.received()
        if not self.ended:
            assert not found
            return None
        (said,) = found
        assert said["id"] is None
        return str(said["error"]["code"])


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def test_requests_are_served_in_order_and_answered_to_whom_they_are_from(bench: Bench) -> None:
    one, two = bench.join(), bench.join()
    one.send(frame(b"a") + frame(b"b"))
    two.send(frame(b"c"))
    for connection, request in bench.take():
        connection.send(reply(7, {"was": request.decode()}))
    assert [said["ok"]["was"] for said in one.received()] == ["a", "b"]
    assert [said["ok"]["was"] for said in two.received()] == ["c"]
    assert bench.server.pending_bytes == bench.server.unread_bytes == 0


def test_a_connection_knows_who_is_at_the_other_end(bench: Bench) -> None:
    bench.join().ask(1)
    ((connection, _),) = bench.take()
    assert connection.peer == (os.getpid(), os.getuid(), os.getgid())


def test_replies_are_mappings_or_encoded_already(bench: Bench) -> None:
    peer = bench.join()
    peer.send(frame(b"a") + frame(b"b"))
    (connection, _), _ = bench.take()
    connection.send({"v": 1, "id": 1, "ok": {}})
    connection.send(b'{"v":1,"id":2,"ok":{}}')
    assert [said["id"] for said in peer.received()] == [1, 2]


def test_one_of_each_connection_is_served_in_turn(bench: Bench) -> None:
    many, few, late = bench.join(), bench.join(), bench.join()
    many.send(b"".join(frame(b"m%d" % n) for n in range(1000)))
    few.send(frame(b"f0") + frame(b"f1"))
    late.send(frame(b"l0"))
    order = [request for _, request in bench.take()]
    assert order[:6] == [b"m0", b"f0", b"l0", b"m1", b"f1", b"m2"]
    assert order[6:] == [b"m%d" % n for n in range(3, 1000)]


def test_nothing_to_serve_is_an_index_error(bench: Bench) -> None:
    with pytest.raises(IndexError):
        bench.server.requests.popleft()


def test_posted_replies_go_together_when_flushed(bench: Bench) -> None:
    peers = [bench.join() for _ in range(3)]
    for peer in peers:
        peer.send(frame(b"a") + frame(b"b"))
    for connection, _ in bench.take():
        connection.post({"v": 1})
    assert [peer.received() for peer in peers] == [[], [], []]
    bench.server.flush()
    assert [peer.received() for peer in peers] == [[{"v": 1}] * 2] * 3
    bench.server.flush()
    assert bench.quiet()


def test_a_reply_beyond_what_a_frame_holds_is_an_error_of_the_caller(bench: Bench) -> None:
    peer = bench.join()
    peer.ask(1)
    ((connection, _),) = bench.take()
    with pytest.raises(PayloadTooLarge):
        connection.send({"v": 1, "ok": "x" * FRAME_BYTES_MAX})
    connection.send({"v": 1, "ok": "short"})
    assert peer.received() == [{"v": 1, "ok": "short"}]


def test_a_slow_reader_gets_everything_when_it_reads(bench: Bench) -> None:
    peer = bench.join()
    peer.send(frame(b"a") * 100)
    for number, (connection, _) in enumerate(bench.take()):
        connection.send({"n": number, "pad": "x" * 50_000})
    assert bench.server.unread_bytes > 1_000_000
    assert [said["n"] for said in peer.received()] == list(range(100))
    assert bench.server.unread_bytes == 0
    assert bench.quiet()


def test_a_peer_that_reads_nothing_is_closed_at_the_bound(bench: Bench) -> None:
    bad, good = bench.join(), bench.join()
    bad.send(frame(b"a") * 20)
    good.ask(1)
    *requests, (fine, _) = sorted(bench.take(), key=lambda each: each[1])[::-1]
    for connection, _ in requests:
        connection.send(b'"' + b"x" * MIB + b'"')
    assert requests[0][0].closed
    assert bench.server.unread_bytes == 0
    fine.send({"v": 1})
    assert good.received() == [{"v": 1}]
    assert len(bench.server) == 1


def test_replies_that_are_held_back_have_the_same_bounds(bench: Bench) -> None:
    """One after the other, and all in one turn: who reads nothing costs no more."""
    small, large = bench.join(), bench.join()
    for _ in range(20):
        small.send(frame(b"a") * 1000)
        for connection, _ in bench.take():
            connection.post(b'"' + b"x" * 1000 + b'"')
        bench.server.flush()
    assert connection.closed
    large.send(frame(b"a") * 100)
    for connection, _ in bench.take():
        connection.post(b'"' + b"x" * MIB + b'"')
        assert bench.server.unread_bytes <= connection_module.UNREAD_BYTES_MAX + MIB
    assert connection.closed
    assert bench.server.unread_bytes == 0


def test_all_together_leave_no_more_unread_than_the_bound(bench: Bench) -> None:
    peers = [bench.join() for _ in range(6)]
    for peer in peers:
        peer.send(frame(b"a") * 14)
    connections = []
    for connection, _ in bench.take():
        connections.append(connection)
        connection.send(b'"' + b"x" * MIB + b'"')
        assert bench.server.unread_bytes <= server_module.UNREAD_BYTES_MAX
    assert 1 <= sum(connection.closed for connection in set(connections)) <= 2
    assert bench.server.unread_bytes > server_module.UNREAD_BYTES_MAX // 2


def test_what_is_not_served_is_left_in_the_socket_beyond_the_bound(bench: Bench) -> None:
    greedy, modest = bench.join(), bench.join()
    data = frame(b"x" * 10_000)
    greedy.send(data * 2000)
    bound = connection_module.WAITING_BYTES_MAX + server_module.RECEIVE_BYTES * 2
    assert bound / 2 < bench.server.pending_bytes < bound
    assert bench.quiet()
    modest.ask(1)
    served = [bench.server.requests.popleft()[1] for _ in range(2)]
    assert b"1 " in served
    while bench.server.requests:
        bench.server.requests.popleft()
        bench.turn()
    assert bench.server.pending_bytes < len(data)


def test_reading_stops_when_all_together_send_too_much_and_goes_on_when_it_is_served(bench: Bench) -> None:
    peers = [bench.join() for _ in range(8)]
    for peer in peers:
        peer.send(frame(b"x" * (FRAME_BYTES_MAX - 1)))
    assert bench.server.full
    assert server_module.WAITING_BYTES_MAX < bench.server.pending_bytes < server_module.WAITING_BYTES_MAX + MIB
    assert bench.quiet()
    served = 0
    while bench.server.requests:
        bench.server.requests.popleft()
        served += 1
        for peer in peers:
            peer.send()
    assert not bench.server.full
    assert served == 8


def test_a_connection_made_while_full_is_read_when_there_is_room(bench: Bench) -> None:
    for peer in [bench.join() for _ in range(5)]:
        peer.send(frame(b"x" * (FRAME_BYTES_MAX - 1)))
    assert bench.server.full
    late = bench.join()
    late.ask(1)
    assert all(request[:2] != b"1 " for _, request in bench.take())
    bench.turn()
    assert [request for _, request in bench.take()][-1] == b"1 "


def test_frames_that_are_never_completed_do_not_stop_the_others(bench: Bench) -> None:
    bad = [bench.join() for _ in range(12)]
    for peer in bad:
        peer.send(frame(b"x" * (FRAME_BYTES_MAX - 1))[:-10])
        assert not bench.server.full
        assert bench.server.pending_bytes <= server_module.WAITING_BYTES_MAX
    told = [peer.refusal() for peer in bad]
    assert set(told) == {"busy", None}
    assert told.count(None) == len(bench.server) >= 3
    good = bench.join()
    good.ask(1)
    assert [request for _, request in bench.take()] == [b"1 "]


def test_when_there_is_no_room_who_has_most_of_an_incomplete_frame_goes_first(bench: Bench) -> None:
    small = bench.join()
    small.send(frame(b"x" * MIB)[:-10])
    large = [bench.join() for _ in range(4)]
    for peer in large:
        peer.send(frame(b"x" * (FRAME_BYTES_MAX - 1))[:-10])
    assert sorted(map(str, [peer.refusal() for peer in large])) == ["None", "None", "busy", "busy"]
    small.send(b"x" * 10)
    assert len(bench.take()) == 1


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n\r\n", struct.pack(">I", 2 * 1024**3), b"\0\0\0\0", b"\xff" * 100_000, struct.pack("<I", 20)],
)
def test_garbage_is_refused_and_the_connection_closed(bench: Bench, data: bytes) -> None:
    peer = bench.join()
    peer.send(data)
    assert peer.refusal() == "protocol"
    assert len(bench.server) == 0
    assert bench.quiet()


def test_requests_before_garbage_that_came_with_earlier_reads_are_served(bench: Bench) -> None:
    peer = bench.join()
    peer.ask(1)
    peer.send(b"garbage!")
    ((connection, request),) = bench.take()
    assert request == b"1 "
    assert connection.closed
    connection.send({"v": 1})
    connection.post({"v": 1})
    connection.flush()
    connection.refuse(WrongState("x"))
    connection.close()
    bench.server.flush()
    assert peer.refusal() == "protocol"


def test_nothing_for_ten_seconds_ends_the_connection(bench: Bench) -> None:
    silent = bench.join()
    assert bench.server.next_deadline_ms() == 1_000 + FRAME_TIMEOUT_MS
    bench.pass_time(FRAME_TIMEOUT_MS - 1)
    assert len(bench.server) == 1
    late = bench.join()
    bench.pass_time(1)
    assert silent.refusal() == "busy"
    assert bench.server.next_deadline_ms() == 1_000 + FRAME_TIMEOUT_MS - 1 + FRAME_TIMEOUT_MS
    late.ask(1)
    assert bench.server.next_deadline_ms() is None
    bench.pass_time(10 * FRAME_TIMEOUT_MS)
    assert len(bench.server) == 1


def test_half_a_frame_for_ten_seconds_ends_the_connection_however_often_a_byte_comes(bench: Bench) -> None:
    peer = bench.join()
    data = frame(b"x" * 1000)
    for byte in data[:9]:
        bench.pass_time(FRAME_TIMEOUT_MS // 10)
        peer.send(bytes([byte]))
    bench.pass_time(FRAME_TIMEOUT_MS // 10)
    assert peer.refusal() == "busy"


def test_a_later_frame_has_ten_seconds_from_its_first_byte(bench: Bench) -> None:
    peer = bench.join()
    peer.ask(1)
    bench.pass_time(5 * FRAME_TIMEOUT_MS)
    peer.send(frame(b"second") + b"\0\0")
    begun_ms = bench.now_ms
    assert bench.server.next_deadline_ms() == begun_ms + FRAME_TIMEOUT_MS
    bench.pass_time(FRAME_TIMEOUT_MS - 1)
    peer.send(b"\0\5thi")
    bench.pass_time(1)
    assert peer.refusal() == "busy"


def test_who_is_not_read_from_is_not_blamed_for_being_slow(bench: Bench) -> None:
    peer = bench.join()
    data = frame(b"x" * 10_000)
    peer.send((data * 200)[:-10])
    waiting = len(bench.server.requests)
    assert bench.server.next_deadline_ms() is not None
    for _ in range(3):
        bench.pass_time(FRAME_TIMEOUT_MS + 1)
    assert len(bench.server) == 1
    assert bench.server.next_deadline_ms() == bench.now_ms + FRAME_TIMEOUT_MS
    taken = len(bench.take())
    assert taken == waiting
    while peer.unsent:
        peer.send()
        taken += len(bench.take())
    assert taken == 199
    bench.pass_time(FRAME_TIMEOUT_MS + 1)
    assert peer.refusal() == "busy"


def test_half_a_frame_and_the_end_is_refused(bench: Bench) -> None:
    peer = bench.join()
    peer.send(frame(b"whole") + b"\0\0\0\5ha")
    peer.sock.shutdown(socket.SHUT_WR)
    assert peer.refusal() == "protocol"
    assert [request for _, request in bench.take()] == [b"whole"]


def test_a_half_closed_connection_is_answered_and_then_closed(bench: Bench) -> None:
    peer = bench.join()
    peer.send(frame(b"a") + frame(b"b"))
    peer.sock.shutdown(socket.SHUT_WR)
    bench.turn()
    assert bench.quiet()
    (first, _), (second, _) = bench.take()
    first.send({"n": 1})
    assert not first.closed
    second.send({"n": 2})
    assert second.closed
    assert peer.received() == [{"n": 1}, {"n": 2}]
    assert peer.ended


def test_a_half_closed_slow_reader_gets_all_before_the_end(bench: Bench) -> None:
    peer = bench.join()
    peer.ask(1)
    peer.sock.shutdown(socket.SHUT_WR)
    bench.turn()
    ((connection, _),) = bench.take()
    connection.send({"pad": "x" * 2_000_000})
    assert not connection.closed
    assert len(peer.received()) == 1
    assert connection.closed


def test_a_peer_that_has_gone_is_noticed_at_once_and_its_request_still_comes(bench: Bench) -> None:
    peer = bench.join()
    peer.ask(1)
    ended: list[str] = []
    next(iter(bench.server)).on_close = lambda: ended.append("now")
    peer.sock.close()
    bench.turn()
    assert ended == ["now"]
    ((connection, _),) = bench.take()
    assert connection.closed
    assert bench.quiet()


def test_a_peer_that_says_nothing_and_shuts_its_side_is_closed(bench: Bench) -> None:
    peer = bench.join()
    peer.sock.shutdown(socket.SHUT_WR)
    bench.turn()
    assert len(bench.server) == 0
    assert not peer.received()
    assert peer.ended


def test_a_peer_that_resets_is_closed(bench: Bench) -> None:
    peer = bench.join()
    peer.ask(1)
    ((connection, _),) = bench.take()
    connection.send({"v": 1})
    peer.sock.close()
    bench.turn()
    assert connection.closed
    assert len(bench.server) == 0


def test_a_peer_that_is_gone_when_it_is_answered_is_closed(bench: Bench) -> None:
    peer = bench.join()
    peer.ask(1)
    ((connection, _),) = bench.take()
    peer.sock.close()
    connection.send({"v": 1})
    assert connection.closed


def test_descriptors_sent_along_are_dropped(bench: Bench) -> None:
    peer = bench.join()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        peer.sock.sendmsg(
            [frame(b"a")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [bench.listener.fileno()] * 50))]
        )
        bench.turn()
    assert len(bench.take()) == 100
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_thousand_and_twenty_fifth_client_is_told_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "CONNECTIONS_MAX", 3)
    peers = [bench.join() for _ in range(3)]
    surplus = bench.join()
    assert surplus.refusal() == "busy"
    peers[0].sock.close()
    bench.turn()
    again = bench.join()
    again.ask(1)
    assert len(bench.take()) == 1


def test_a_surplus_client_that_has_gone_again_is_no_trouble(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "CONNECTIONS_MAX", 0)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(bench.path)
    sock.close()
    bench.turn(2)
    assert bench.quiet()


def test_a_thousand_connections_come_and_are_served(bench: Bench) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    try:
        peers = [Peer(bench, bench.path) for _ in range(1000)]
        bench.peers += peers
        bench.turn(20)
        assert len(bench.server) == 1000
        for peer in peers:
            peer.sock.send(frame(b"a"))
        bench.turn()
        for connection, _ in bench.take():
            connection.post({"v": 1})
        bench.server.flush()
        assert all(peer.received() == [{"v": 1}] for peer in peers)
    finally:
        bench.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Failing:
    """A listener that cannot accept, for the reasons given, then has nobody."""

    def __init__(self, listener: socket.socket, reasons: list[OSError]) -> None:
        self._listener = listener
        self.reasons = reasons

    def accept(self) -> tuple[socket.socket, Any]:
        if self.reasons:
            raise self.reasons.pop()
        return self._listener.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)


def test_without_descriptors_nobody_is_accepted_for_a_second_and_the_loop_sleeps(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    failing = Failing(bench.listener, [OSError(errno.EMFILE, "too many")])
    bench.server.close()
    bench.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bench.path += "2"
    bench.listener.bind(bench.path)
    bench.listener.listen(10)
    failing = Failing(bench.listener, [OSError(errno.EMFILE, "too many")])
    bench.server = Server([failing], bench.selector, lambda: bench.now_ms)  # type: ignore[list-item]
    peer = bench.join()
    assert bench.quiet()
    assert bench.server.next_deadline_ms() == bench.now_ms + server_module.ACCEPT_PAUSE_MS
    bench.pass_time(server_module.ACCEPT_PAUSE_MS - 1)
    assert bench.quiet()
    bench.pass_time(1)
    failing.reasons.append(ConnectionAbortedError())
    peer.ask(1)
    assert len(bench.take()) == 1
    failing.reasons.append(OSError(errno.EMFILE, "too many"))
    bench.join()
    bench.server.stop_accepting()
    assert bench.server.next_deadline_ms() is None
    bench.close()


def test_after_the_last_is_accepted_the_connected_are_served_on(bench: Bench) -> None:
    peer = bench.join()
    bench.server.stop_accepting()
    bench.server.stop_accepting()
    peer.ask(1)
    assert len(bench.take()) == 1
    with pytest.raises(ConnectionRefusedError):
        Peer(bench, bench.path)


def test_an_adopted_connection_is_served_like_any_other(bench: Bench) -> None:
    ours, theirs = socket.socketpair()
    connection = bench.server.adopt(theirs)
    ours.send(frame(b"a"))
    bench.turn()
    assert bench.take() == [(connection, b"a")]
    connection.send({"v": 1})
    assert ours.recv(100) == frame(b'{"v":1}')
    ours.close()
    bench.turn()
    assert connection.closed


def test_closing_ends_everything_and_may_be_repeated(bench: Bench) -> None:
    peers = [bench.join() for _ in range(3)]
    peers[0].ask(1)
    bench.server.close()
    bench.server.close()
    assert len(bench.server) == 0
    assert not bench.selector.get_map()
    for peer in peers:
        peer.received()
        assert peer.ended


STEPS = 1_000_000 if os.environ.get("JOBSUP_CAMPAIGN") == "full" else 5_000


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_no_bytes_whatever_harm_the_server(bench: Bench) -> None:
    """Frames cut, damaged, repeated and mixed, by peers that come, go and half-close at any moment."""
    chance = random.Random(45)
    size_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    whole = frame(json.dumps({"v": 1, "id": 5, "op": "hello"}).encode())
    peers: list[Peer] = []
    for _ in range(STEPS):
        act = chance.random()
        if (act < 0.2 and len(peers) < 100) or not peers:
            peers.append(Peer(bench, bench.path))
            continue
        peer = chance.choice(peers)
        try:
            if act < 0.5:
                peer.sock.send(whole * chance.randrange(1, 5))
            elif act < 0.7:
                data = bytearray(whole * chance.randrange(1, 4))
                for _ in range(chance.randrange(4)):
                    data[chance.randrange(len(data))] = chance.randrange(256)
                peer.sock.send(data[: chance.randrange(len(data) + 1)])
            elif act < 0.8:
                peer.sock.send(chance.randbytes(chance.randrange(1, 5000)))
            elif act < 0.85:
                peer.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        if act >= 0.85:
            peers.remove(peer)
            peer.sock.close()
        bench.pass_time(chance.randrange(200))
        for connection, request in bench.take():
            connection.send(reply(1, {"was": len(request)}))
    for peer in peers:
        peer.sock.close()
    bench.turn(5)
    assert len(bench.server) == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - size_before < 5 * 1024
    assert bench.server.pending_bytes == bench.server.unread_bytes == 0
    assert bench.server.next_deadline_ms() is None
    fine = bench.join()
    fine.ask(1)
    assert [request for _, request in bench.take()] == [b"1 "]


def test_a_wake_up_with_nothing_to_read_changes_nothing(bench: Bench) -> None:
    peer = bench.join()
    (key,) = [key for key in bench.selector.get_map().values() if key.fileobj is not bench.listener]
    key.data(selectors.EVENT_READ)
    peer.ask(1)
    assert len(bench.take()) == 1


def test_a_connection_is_of_the_scope_of_the_socket_it_came_through(bench: Bench) -> None:
    def listener(name: str) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.bind(bench.path + name)
        made.listen(8)
        return made

    bench.server.listen_also("shop", listener("1"))
    Peer(bench, bench.path).ask(1)
    Peer(bench, bench.path + "1").ask(2)
    bench.turn()
    assert sorted(connection.scope for connection, _ in bench.take()) == ["", "shop"]
    bench.server.listen_also("shop", listener("2"))
    with pytest.raises(ConnectionRefusedError):
        Peer(bench, bench.path + "1")
    Peer(bench, bench.path + "2").ask(3)
    bench.turn()
    assert [connection.scope for connection, _ in bench.take()] == ["shop"]
    bench.server.stop_listening("shop")
    bench.server.stop_listening("shop")
    with pytest.raises(ConnectionRefusedError):
        Peer(bench, bench.path + "2")
    Peer(bench, bench.path).ask(4)
    bench.turn()
    assert [connection.scope for connection, _ in bench.take()] == [""]
