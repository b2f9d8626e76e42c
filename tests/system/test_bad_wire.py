"""Bad peers of a real daemon: each gets its answer or its end, and everybody else goes on being served."""

from __future__ import annotations

import json
import os
import re
import resource
import socket
import statistics
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.service.test_client_protocol import Scratch
from tests.support.daemon import Daemon
from tests.support.waiting import until

TOML = """
[defaults]
workers = 1
[queues.q]
command = ["true"]
[queues.held]
command = ["true"]
"""
LATE_S, USUAL_S = 5.0, 0.5
"""A bystander's job from enqueue to answer, on a loaded machine: any, and half of all."""
FRAME_S = 10.0


class Bystander:
    """A client that behaves while others do not: each of its jobs is enqueued, run and answered in time."""

    def __init__(self, daemon: Daemon) -> None:
        self.took_s: list[float] = []
        self.failed: list[Exception] = []
        self._daemon = daemon
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            with self._daemon.client(timeout="10s") as client:
                while not self._stop.wait(0.02):
                    began = time.monotonic()
                    assert client.wait(client.enqueue("q"), timeout=10)["state"] == "completed"
                    self.took_s.append(time.monotonic() - began)
        except Exception as error:
            self.failed.append(error)

    def end(self) -> None:
        """Fails if it was not served."""
        self._stop.set()
        self._thread.join(30)
        assert not self.failed
        assert self.took_s
        assert max(self.took_s) < LATE_S
        assert statistics.median(self.took_s) < USUAL_S


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("wire"), TOML) as daemon:
        assert daemon.ctl("pause", "held").status == 0
        yield daemon


class Peer:
    """A bare connection: what came back as frames, and whether the other side has ended it."""

    def __init__(self, daemon: Daemon) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(daemon.socket))
        self.began = time.monotonic()

    def send(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it was refused before it had said all

    def end(self, timeout: float = 5) -> list[dict[str, Any]]:
        """Every frame until the other side closes."""
        self.sock.settimeout(timeout)
        data = b""
        try:
            while more := self.sock.recv(65536):
                data += more
        except ConnectionResetError:
            pass
        self.sock.close()
        found = []
        while data:
            (size,) = struct.unpack(">I", data[:4])
            found.append(json.loads(data[4 : 4 + size]))
            data = data[4 + size :]
        return found


@pytest.fixture(scope="module", autouse=True)
def bystander(daemon: Daemon) -> Iterator[Bystander]:
    bystander = Bystander(daemon)
    yield bystander
    bystander.end()


@pytest.fixture(scope="module")
def slow_peers(daemon: Daemon) -> dict[str, Peer]:
    """Peers that say nothing more; what becomes of them takes ten seconds."""
    started = {name: Peer(daemon) for name in ("nothing", "half a header", "half a frame", "a byte at a time")}
    started["half a header"].send(b"\0\0")
    started["half a frame"].send(struct.pack(">I", 100) + b'{"v":1,"id":1,"op":"hel')
    return started


def framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


GARBAGE = {
    "another protocol": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a TLS hello": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "noise": bytes(range(255, 0, -1)) * 400,
    "a length of 0": struct.pack(">I", 0),
    "a length of 2 GB": struct.pack(">I", 2 * 1024**3) + b"x" * 1000,
    "a length of 4 GB": b"\xff\xff\xff\xff",
    "a length of 16 MiB and one byte": struct.pack(">I", 16 * 1024**2 + 1),
    "a length of the wrong end": struct.pack("<I", 12) + b'{"v":1,"id":1}',
    "a body that is not JSON": framed(b"hello?"),
    "a body that is not UTF-8": framed(b'"\xff\xfe"'),
    "a body that is no object": framed(b"[1,2,3]"),
    "a body without members": framed(b"{}"),
    "a body of brackets": framed(b"[" * 100_000),
    "another version": framed(b'{"v":2,"op":"hello"}'),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_answered_with_what_is_wrong_and_ends_the_connection(
    daemon: Daemon, slow_peers: dict[str, Peer], name: str
) -> None:
    peer = Peer(daemon)
    peer.send(GARBAGE[name])
    (said,) = peer.end()
    assert (said["v"], said["id"], said["error"]["code"]) == (1, None, "protocol")


def test_half_a_frame_and_the_end_is_refused(daemon: Daemon) -> None:
    peer = Peer(daemon)
    peer.send(struct.pack(">I", 100) + b'{"v":1')
    peer.sock.shutdown(socket.SHUT_WR)
    (said,) = peer.end()
    assert "inside a frame" in said["error"]["message"]


IDS = ["12", 1.5, -1, 0, 2**53, 2**70, True, None, [1], {"id": 1}, "\u202e", "x" * 100_000]


@pytest.mark.parametrize("job", IDS, ids=lambda job: ascii(job)[:20])
def test_what_is_no_id_is_a_mistake_and_the_connection_goes_on(daemon: Daemon, job: object) -> None:
    scratch = Scratch(str(daemon.socket), "ids")
    for op, members in (("job", {"job": job}), ("wait", {"job": job, "timeout_ms": 0}), ("cancel", {"ids": [job]})):
        assert scratch.ask(op, **members)["error"]["code"] == "usage"
    assert "ok" in scratch.ask("hello")
    scratch.socket.close()


def held(daemon: Daemon) -> int:
    """How many jobs wait in the paused queue."""
    with daemon.client() as client:
        count: int = client.request("status")["queues"]["held"]["queued"]
    return count


def test_a_group_above_the_limit_is_refused_whole_and_one_at_it_is_taken_whole(daemon: Daemon) -> None:
    scratch = Scratch(str(daemon.socket), "groups")
    before = held(daemon)
    too_many = scratch.enqueue("held", *[{"payload": 1}] * 10_001)
    assert too_many["error"]["code"] == "payload_too_large"
    assert "at most 10" in too_many["error"]["message"], too_many
    unfit: tuple[Any, ...] = ("\0", float("nan"), "x" * 2**20)
    for spoilt in [{"payload": 1, "priority": 3}, *({"payload": payload} for payload in unfit)]:
        assert "error" in scratch.enqueue("held", *[{"payload": 1}] * 10, spoilt)
    large = scratch.ask("enqueue", queue="held", key="large", jobs=[{"payload": "x" * 999_000}] * 16)
    assert len(large["ok"]["ids"]) == 16
    assert held(daemon) == before + 16
    assert len(scratch.enqueue("held", *[{"payload": 1}] * 10_000)["ok"]["ids"]) == 10_000
    assert held(daemon) == before + 10_016
    with daemon.client() as client:
        assert client.request("purge", queue="held", state="queued")["count"] == before + 10_016
    scratch.socket.close()


def test_the_same_key_over_two_connections_is_one_group(daemon: Daemon) -> None:
    """Sent at once, and again with another content: the first stands."""
    group = {"queue": "held", "key": "the-same-key", "jobs": [{"payload": 1}, {"payload": 2}]}
    peers = [Scratch(str(daemon.socket), "same") for _ in range(4)]
    for peer in peers:
        peer.send("enqueue", **group)
    replies = [peer.receive()["ok"] for peer in peers]
    replies.append(peers[0].ask("enqueue", **group | {"jobs": [{"payload": 3}]})["ok"])
    assert len({tuple(reply["ids"]) for reply in replies}) == 1
    assert sorted(reply["repeated"] for reply in replies) == [False, True, True, True, True]
    with daemon.client() as client:
        assert [client.status(job_id)["payload"] for job_id in replies[0]["ids"]] == [1, 2]
    for peer in peers:
        peer.socket.close()


def test_a_member_given_twice_counts_once_for_access_and_action(daemon: Daemon) -> None:
    peer = Peer(daemon)
    peer.send(framed(b'{"v":1,"id":7,"op":"reload","op":"hello"}'))
    peer.send(framed(b'{"v":1,"id":8,"id":9,"op":"hello"}'))
    peer.sock.shutdown(socket.SHUT_WR)
    first, second = peer.end()
    assert first.get("error", {}).get("code") in (None, "usage", "protocol")
    assert "added" not in first.get("ok", {})
    assert second["id"] in (8, 9, None)


# -- many, and much ------------------------------------------------------------------------------------------------


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_connections_are_served_and_those_beyond_the_limit_told_so(
    daemon: Daemon, bystander: Bystander, slow_peers: dict[str, Peer], many_files: None
) -> None:
    peers = [Scratch(str(daemon.socket), f"peer-{number}") for number in range(1000)]
    served = len(bystander.took_s)
    until(lambda: len(bystander.took_s) > served + 3, what="the bystander is served among a thousand")
    for peer in peers:
        peer.send("hello")
    assert all("ok" in peer.receive() for peer in peers)
    surplus = [Peer(daemon) for _ in range(100)]
    said = [told for peer in surplus[-20:] for told in peer.end()]
    assert {(told["error"]["code"], told["error"]["message"]) for told in said} == {
        ("busy", "too many clients are connected already")
    }
    for peer in peers:
        peer.socket.close()
    for unserved in surplus:
        unserved.sock.close()
    until(lambda: daemon.ctl("status").status == 0)


def test_large_frames_that_never_end_take_bounded_memory(daemon: Daemon, bystander: Bystander) -> None:
    """Eighty peers announce 16 MiB and send one; room is for 64 MiB of it all."""
    keeper = keeper_of(daemon)
    before_kib = rss_kib(keeper)
    peers = [Peer(daemon) for _ in range(80)]
    announced = struct.pack(">I", 16 * 1024**2) + bytes(1024**2)
    senders = [threading.Thread(target=peer.send, args=(announced,)) for peer in peers]
    for sender in senders:
        sender.start()
    served = len(bystander.took_s)
    until(lambda: len(bystander.took_s) > served + 3, what="the bystander is served meanwhile")
    assert rss_kib(keeper) - before_kib < 200 * 1024
    for peer in peers:
        peer.sock.shutdown(socket.SHUT_RDWR)
    for sender in senders:
        sender.join(10)
    for peer in peers:
        peer.sock.close()


def keeper_of(daemon: Daemon) -> int:
    with daemon.client() as client:
        (pid,) = [node["pid"] for node in client.request("tree")["tree"] if node["role"] == "keeper"]
    return int(pid)


def rss_kib(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])


def test_a_peer_that_asks_for_ever_and_never_reads_is_ended(daemon: Daemon, bystander: Bystander) -> None:
    peer = Peer(daemon)
    peer.sock.settimeout(20)
    request = framed(b'{"v":1,"id":1,"op":"tree"}') * 1000
    keeper = keeper_of(daemon)
    before_kib, served = rss_kib(keeper), len(bystander.took_s)
    with pytest.raises((BrokenPipeError, ConnectionResetError, TimeoutError)):
        for _ in range(1000):
            peer.sock.sendall(request)
    assert rss_kib(keeper) - before_kib < 100 * 1024
    until(lambda: len(bystander.took_s) > served + 3, what="the bystander is served meanwhile")
    peer.sock.close()


def test_who_says_nothing_more_is_told_after_ten_seconds_and_ended(daemon: Daemon, slow_peers: dict[str, Peer]) -> None:
    trickle = slow_peers["a byte at a time"]
    body = framed(b'{"v":1,"id":1,"op":"hello"}' + b" " * 1000)
    for at in range(len(body)):
        if time.monotonic() - trickle.began > FRAME_S + 1:
            break
        trickle.send(body[at : at + 1])
        time.sleep(0.1)
    for name, peer in slow_peers.items():
        (said,) = peer.end(timeout=FRAME_S)
        assert (name, said["error"]["code"], "within 10 s" in said["error"]["message"]) == (name, "busy", True)


# -- peers without permission --------------------------------------------------------------------------------------

WRITER, READER, MEMBER, GROUP, STRANGER = 61_001, 61_002, 61_003, 61_004, 61_005
ACCESS = f"""
[access]
enqueue = ["user:{WRITER}", "group:{GROUP}"]
status = ["user:{WRITER}", "user:{READER}"]
admin = ["user:{READER}"]
"""
ASKED = {
    "enqueue": {"queue": "held", "key": "", "jobs": [{"payload": 1}]},
    "hello": {}, "job": {"job": 1}, "status": {}, "wait": {"job": 1, "timeout_ms": 0}, "workers": {}, "tree": {},
    "cancel": {"ids": [10**9]}, "retry": {"ids": [10**9]}, "pause": {"queue": "held"}, "resume": {"queue": "held"},
    "move": {"old": "gone", "new": "held"}, "purge": {"queue": "held", "state": "dead"},
    "dead_retry": {"filter": {"queue": "held"}}, "dead_delete": {"filter": {"queue": "held"}}, "reload": {},
    "scale": {"queue": "held", "workers": None},
}  # fmt: skip
STATUS = {"hello", "job", "status", "wait", "workers", "tree"}
ADMIN = set(ASKED) - STATUS - {"enqueue"}
MAY: dict[tuple[int, int], set[str]] = {
    (WRITER, WRITER): {"enqueue"} | STATUS,
    (READER, READER): STATUS | ADMIN,
    (MEMBER, GROUP): {"enqueue"},
    (STRANGER, STRANGER): set(),
    (0, 0): set(ASKED),
}
"""Who, by user and group -> what is not denied."""


def as_user(uid: int, gid: int, folder: Path, act: Callable[[], object]) -> Any:
    """What `act` returns, done by another user in this folder, which it need not be able to reach by name."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        said: object = None
        try:
            os.chdir(folder)
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            said = act()
        except OSError as error:
            said = error.errno
        finally:
            os.write(write, json.dumps(said).encode())
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        answer = json.load(file)
    os.waitpid(child, 0)
    return answer


def ask_everything() -> dict[str, str]:
    """The code of what each operation is answered with."""
    scratch = Scratch("jobsup.sock", f"user-{os.getuid()}")
    codes = {}
    for op, members in ASKED.items():
        reply = scratch.ask(op, **members | ({"key": f"{os.getuid()}"} if op == "enqueue" else {}))
        codes[op] = reply.get("error", {}).get("code", "ok")
    return codes


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    with Daemon(tmp_path_factory.mktemp("guarded"), TOML + ACCESS) as daemon:
        yield daemon


def test_who_is_neither_owner_nor_group_cannot_open_the_socket(guarded: Daemon) -> None:
    assert guarded.socket.stat().st_mode & 0o777 == 0o660
    assert guarded.run_dir.stat().st_mode & 0o777 == 0o750
    errno = as_user(STRANGER, STRANGER, guarded.run_dir, ask_everything)
    assert os.strerror(errno) == "Permission denied"


@pytest.mark.parametrize(("uid", "gid"), MAY)
def test_who_may_open_the_socket_may_do_what_the_lists_say(guarded: Daemon, uid: int, gid: int) -> None:
    guarded.run_dir.chmod(0o755)
    guarded.socket.chmod(0o666)
    codes = as_user(uid, gid, guarded.run_dir, ask_everything)
    assert {op for op, code in codes.items() if code != "denied"} == MAY[uid, gid]
    assert "internal" not in codes.values()


def test_a_denied_flood_is_answered_but_hardly_logged(guarded: Daemon) -> None:
    guarded.run_dir.chmod(0o755)
    guarded.socket.chmod(0o666)

    def flood() -> list[str]:
        scratch = Scratch("jobsup.sock", "flood")
        return [scratch.ask("hello")["error"]["code"] for _ in range(500)]

    before = guarded.log.count("\n")
    assert as_user(STRANGER, STRANGER, guarded.run_dir, flood) == ["denied"] * 500
    assert guarded.log.count("\n") - before <= 5
    assert re.search(f"denied [a-z]+ to uid {STRANGER}", guarded.log)
