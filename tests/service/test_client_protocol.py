"""docs/protocol.md is enough to write a client by: one is written here by it, and what it says is compared."""

from __future__ import annotations

import json
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from supervisor.errors import every_error
from supervisor.job import State
from supervisor.wire import asking, connection, framing, messages, payload, refusal, server
from tests.support.fake_keeper import LOSE_REPLY, FakeKeeper

DOCUMENT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()


class Scratch:
    """A client that knows nothing of jobsup but docs/protocol.md."""

    def __init__(self, path: str, name: str) -> None:
        self.path, self.name, self.count = path, name, 0
        self.connect()

    def connect(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(self.path)

    def exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            if not (more := self.socket.recv(size - len(data))):
                raise ConnectionResetError
            data += more
        return data

    def send(self, op: str, **members: Any) -> int:
        self.count += 1
        body = json.dumps({"v": 1, "id": self.count, "op": op, **members}).encode()
        self.socket.sendall(struct.pack(">I", len(body)) + body)
        return self.count

    def receive(self) -> dict[str, Any]:
        (size,) = struct.unpack(">I", self.exactly(4))
        reply: dict[str, Any] = json.loads(self.exactly(size))
        assert reply["v"] == 1
        return reply

    def ask(self, op: str, **members: Any) -> dict[str, Any]:
        sent = self.send(op, **members)
        reply = self.receive()
        assert reply["id"] == sent
        return reply

    def enqueue(self, queue: str, *jobs: dict[str, Any]) -> dict[str, Any]:
        key = f"{self.name}-{self.count}"
        while True:
            try:
                return self.ask("enqueue", queue=queue, key=key, jobs=list(jobs))
            except OSError:
                self.connect()


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[FakeKeeper]:
    with FakeKeeper(str(tmp_path / "s")) as keeper:
        yield keeper


@pytest.fixture
def scratch(keeper: FakeKeeper, tmp_path: Path) -> Iterator[Scratch]:
    scratch = Scratch(str(tmp_path / "s"), "scratch")
    yield scratch
    scratch.socket.close()


def test_a_client_written_by_the_document_enqueues_looks_waits_and_cancels(
    scratch: Scratch, keeper: FakeKeeper
) -> None:
    assert scratch.ask("hello")["ok"]["protocol"] == 1
    job = {"payload": {"to": "a@b.c"}, "delay_ms": 300_000, "tags": ["welcome"]}
    assert scratch.enqueue("emails", job, {"payload": 2})["ok"] == {
        "ids": [1, 2],
        "states": ["queued", "queued"],
        "acknowledged": "committed",
        "repeated": False,
        "existing": [],
    }
    assert scratch.ask("job", job=1)["ok"]["payload"] == {"to": "a@b.c"}
    assert scratch.ask("cancel", ids=[1, 9])["ok"] == {
        "done": [1],
        "failed": [{"id": 9, "code": "unknown_job", "message": "there is no job 9"}],
    }
    assert scratch.ask("wait", job=2, timeout_ms=0)["error"]["code"] == "wait_timeout"
    assert "daemon" in scratch.ask("status")["ok"]


def test_it_repeats_what_was_lost_under_the_same_key(scratch: Scratch, keeper: FakeKeeper) -> None:
    keeper.faults.append(LOSE_REPLY)
    assert scratch.enqueue("emails", {"payload": 1})["ok"] == {
        "ids": [1],
        "states": ["queued"],
        "acknowledged": "committed",
        "repeated": True,
        "existing": [],
    }
    assert len(keeper.jobs) == 1


def test_it_gets_replies_out_of_order_by_their_ids(scratch: Scratch, keeper: FakeKeeper) -> None:
    scratch.enqueue("emails", {"payload": 1})
    waiting = scratch.send("wait", job=1, timeout_ms=60_000)
    asked = scratch.send("job", job=1)
    assert scratch.receive()["id"] == asked
    keeper.finish(1)
    done = scratch.receive()
    assert (done["id"], done["ok"]["state"]) == (waiting, "completed")


def test_it_may_close_its_side_and_still_gets_every_reply(scratch: Scratch) -> None:
    sent = {scratch.send("status") for _ in range(50)}
    scratch.socket.shutdown(socket.SHUT_WR)
    assert {scratch.receive()["id"] for _ in range(50)} == sent
    assert scratch.socket.recv(1) == b""


@pytest.mark.parametrize(
    ("op", "members", "code"),
    [
        ("frobnicate", {}, "protocol"), ("job", {}, "usage"), ("job", {"job": 2**70}, "usage"),
        ("job", {"job": 12}, "unknown_job"), ("job", {"job": 1, "more": 1}, "usage"),
        ("enqueue", {"queue": "nix", "key": "k", "jobs": [{"payload": 1}]}, "unknown_queue"),
        ("key", {"queue": "emails", "job_key": "a\x01", "action": "pause"}, "usage"),
        ("enqueue", {"queue": "emails", "key": "k", "jobs": [{"payload": float("nan")}]}, "invalid_payload"),
        ("enqueue", {"queue": "emails", "key": "k", "jobs": [{"payload": "\ud800"}]}, "invalid_payload"),
        ("enqueue", {"queue": "emails", "key": "k", "jobs": [{"payload": "\0"}]}, "invalid_payload"),
        ("enqueue", {"queue": "emails", "key": "k", "jobs": [{"payload": 10**401}]}, "invalid_payload"),
        ("enqueue", {"queue": "emails", "key": "k", "jobs": [{"payload": "x" * 1_048_575}]}, "payload_too_large"),
        ("enqueue", {"queue": "emails", "key": "k", "jobs": [{"payload": 1}] * 10_001}, "payload_too_large"),
        ("dead_delete", {"filter": {}}, "usage"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_answered_with_its_code_and_the_connection_goes_on(
    scratch: Scratch, op: str, members: dict[str, Any], code: str
) -> None:
    assert scratch.ask(op, **members)["error"]["code"] == code
    assert "ok" in scratch.ask("hello")


def test_a_frame_that_names_no_request_ends_the_connection(scratch: Scratch) -> None:
    scratch.socket.sendall(b"\0\0\0\2{}")
    reply = scratch.receive()
    assert (reply["id"], reply["error"]["code"]) == (None, "protocol")
    assert not scratch.socket.recv(1)


def shown(kind: str) -> bytes:
    """The bytes of the worked example."""
    match = re.search(rf"```{kind}\n(.*?)```", DOCUMENT, re.DOTALL)
    assert match
    return b"".join(bytes.fromhex(line[6:54]) for line in match[1].splitlines())


def test_the_worked_example_is_what_happens(scratch: Scratch) -> None:
    assert f"sends {len(shown('request'))} bytes" in DOCUMENT
    assert f"same {len(shown('request'))} bytes" in DOCUMENT
    scratch.socket.sendall(shown("request"))
    assert scratch.exactly(len(shown("reply"))) == shown("reply")


def test_the_examples_in_the_dump_read_as_their_bytes() -> None:
    for kind in ("request", "reply"):
        match = re.search(rf"```{kind}\n(.*?)```", DOCUMENT, re.DOTALL)
        assert match
        for number, line in enumerate(match[1].splitlines()):
            data = bytes.fromhex(line[6:54])
            text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data)
            assert (line[:4], line[55:]) == (f"{number * 16:04x}", text)


def rows(heading: str) -> list[list[str]]:
    """The rows of the first table behind some text, as their cells."""
    lines = iter(DOCUMENT.split(heading, 1)[1].splitlines())
    table = []
    for line in lines:
        if line.startswith("|"):
            table.append([cell.strip() for cell in line[1:-1].split("|")])
        elif table:
            break
    return table[2:]


def test_every_operation_is_in_the_document_with_its_class_and_members() -> None:
    documented = {
        op.strip("` "): (kind, set(re.findall(r"`(\w+)`(\?)?", members)))
        for op, kind, members, _ in rows("## Operations")
    }
    expected = {}
    for request in get_args(messages.AnyRequest):
        fields = [field for field in msgspec.structs.fields(request) if field.name not in ("v", "id")]
        marks = {(field.name, "" if field.required else "?") for field in fields}
        expected[request.__struct_config__.tag] = (request.access, marks)
    assert documented == expected


def test_every_member_is_in_the_document_with_its_rule() -> None:
    assert {name.strip("`"): rule for name, rule in rows("What the members may be")} == refusal.RULES


def test_members_of_jobs_and_filters_and_all_states_are_named() -> None:
    names = [*messages.NewJob.__struct_fields__, *messages.Filter.__struct_fields__, *(state.value for state in State)]
    assert [name for name in names if f"`{name}`" not in DOCUMENT] == []


def test_every_code_in_the_document_is_one_and_every_one_that_comes_over_the_socket_is_there() -> None:
    codes = {code.strip("`") for code, *_ in rows("## Errors")}
    known = {error.code for error in every_error()}
    never = {"error", "unconfirmed", "store", "store_held", "store_newer", "no_database"}
    assert codes <= known
    assert codes == known - never


def test_the_limits_in_the_document_are_those_of_the_program() -> None:
    mib = 1024 * 1024
    limits = {name: amount for name, amount, _ in rows("## Limits")}
    assert limits == {
        "body of a frame": f"{framing.FRAME_BYTES_MAX // mib} MiB",
        "first frame after connecting": f"within {server.FRAME_TIMEOUT_MS // 1000} s",
        "a later frame, from its first byte to its last": f"within {server.FRAME_TIMEOUT_MS // 1000} s",
        "connections": f"{server.CONNECTIONS_MAX:,}",
        "requests of one connection that wait to be served": f"{connection.WAITING_BYTES_MAX // mib} MiB",
        "requests of all connections that wait to be served": f"{server.WAITING_BYTES_MAX // mib} MiB",
        "replies that one connection leaves unread": f"{connection.UNREAD_BYTES_MAX // mib} MiB",
        "replies that all connections leave unread": f"{server.UNREAD_BYTES_MAX // mib} MiB",
    }
    for said in (
        f"{framing.FRAME_BYTES_MAX:,}",
        f"at most {payload.DEPTH_MAX} levels",
        f"more than {payload.DIGITS_MAX} digits",
        f"begin with {asking.FIRST_PAUSE_MS} ms and double up to {asking.LONGEST_PAUSE_MS} ms",
        f"stops after {asking.RESEND_FOR_MS // 60_000}",
    ):
        assert said in DOCUMENT


def test_what_is_harmless_twice_is_in_the_document() -> None:
    (sentence,) = re.findall(r"\n   (`hello`.*?) do no harm", DOCUMENT, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", sentence)) == asking.HARMLESS_TWICE - {"enqueue"}
