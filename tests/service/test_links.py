"""What a child of ours may say or leave, and what its parent must not end of."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.pool.member import STACKS_BYTES_MAX, as_text
from supervisor.unix import spawn as spawning
from supervisor.wire.control import PACKET_BYTES_MAX, Certificate, Link, PoolState, Ready, encode_message
from tests.support.daemon import Daemon

TOML = """
[daemon]
python_path = ["../app"]
[queues.bad]
handler = "bad:run"
[queues.good]
handler = "good:run"
"""


@pytest.fixture
def links() -> Iterator[tuple[Link, Link]]:
    ends = [Link(sock) for sock in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)]
    yield ends[0], ends[1]
    for end in ends:
        end.close()


def test_what_is_no_message_is_passed_over(links: tuple[Link, Link]) -> None:
    mine, theirs = links
    for said in (b"\xff", b"\x81\xa1m\xa2\xff\xff", b"\x91" * 20_000):
        mine.sock.send(said)
    mine.send(PoolState("q", "open", "x" * (PACKET_BYTES_MAX + 1_000)))
    mine.send(Ready())
    assert list(theirs.receive()) == []  # the socket held no more than these
    mine.flush()
    assert [message for message, _ in theirs.receive()] == [Ready()]


@pytest.mark.parametrize("length", [99_000, 500_000])
def test_an_import_that_says_much_harms_only_its_pool(tmp_path: Path, length: int) -> None:
    app = {"bad.py": f"raise ValueError('x' * {length})\n", "good.py": "def run(job):\n    pass\n"}
    with Daemon(tmp_path, TOML, app=app) as daemon:
        status = daemon.ctl("status", "--json").json["queues"]["bad"]
        assert status["circuit"] == "open"
        assert "cannot be imported" in status["reason"]


@pytest.mark.parametrize("data", [b"\xff\xfe", b"x", "\N{SNOWMAN}".encode(), b"\xff" + "\N{SNOWMAN}".encode()])
def test_stacks_still_fit_into_a_certificate_whatever_they_are(data: bytes) -> None:
    certificate = Certificate(1, 1, 1, "exit", stacks=as_text(data * STACKS_BYTES_MAX), last_output="\\xff" * 4_096)
    assert len(encode_message(certificate)) < PACKET_BYTES_MAX


def test_a_child_that_cannot_be_watched_does_not_live_on(monkeypatch: pytest.MonkeyPatch) -> None:
    forked = []

    def no_descriptors(pid: int) -> int:
        forked.append(pid)
        raise OSError(24, "too many open files")

    monkeypatch.setattr(os, "pidfd_open", no_descriptors)
    with pytest.raises(OSError, match="too many"):
        spawning.spawn(lambda: 0, name="x", keep=(), death_signal=None)
    with pytest.raises(ProcessLookupError):
        os.kill(forked[0], 0)
