"""What makes a process unfit to be forked, and what a queue is told when it lacks a privilege."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from supervisor.config.spec import Queue
from supervisor.pool import preload
from supervisor.unix.inheritance import HandlerUnusable


def test_files_that_are_only_read_are_harmless_and_others_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preload, "_threads", lambda: 0)
    before = preload.open_descriptors()
    (tmp_path / "data").write_text("x")
    with open(tmp_path / "data") as reading, open(tmp_path / "log", "w") as writing, socket.socket() as sock:
        opened = sorted(preload.open_descriptors() - before)
        assert opened == sorted([reading.fileno(), writing.fileno(), sock.fileno()])
        assert preload.leftovers([reading.fileno()]) is None
        said = preload.leftovers(opened)
        assert said is not None
        assert f"descriptor {writing.fileno()} ({tmp_path}/log)" in said
        assert "socket:" in said
        assert "data" not in said


COUNTING = """
import sys, threading
from supervisor.pool.preload import leftovers
go = threading.Event()
threads = [threading.Thread(target=go.wait) for _ in range(int(sys.argv[1]))]
for thread in threads:
    thread.start()
print(leftovers([]))
go.set()
for thread in threads:
    thread.join()
print(leftovers([]))
"""


@pytest.mark.parametrize(("count", "said"), [(1, "1 thread"), (2, "2 threads")])
def test_threads_are_counted_and_joined_ones_are_not(count: int, said: str) -> None:
    command = [sys.executable, "-c", COUNTING, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"the import left behind: {said}\nNone\n"


def refuse(number: int) -> Any:
    def refusing(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return refusing


def test_a_queue_without_the_network_it_needs_is_told_which_drop_in_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preload.socket, "socket", refuse(errno.EAFNOSUPPORT))
    with pytest.raises(HandlerUnusable, match=r"queue web needs the network.*network\.conf"):
        preload.take_on(Queue(name="web", handler="m:f", network=True))


def test_another_failure_of_a_socket_says_nothing_about_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preload.socket, "socket", refuse(errno.EMFILE))
    assert not preload.REFUSED & {errno.EMFILE}
    assert preload._has_network()


def test_a_queue_that_may_not_change_its_user_is_told_which_drop_in_lets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preload, "become", refuse(errno.EPERM))
    with pytest.raises(HandlerUnusable, match=r"queue q needs to run as nobody.*users\.conf"):
        preload.take_on(Queue(name="q", handler="m:f", user="nobody"))


def test_a_user_that_does_not_exist_is_named() -> None:
    with pytest.raises(HandlerUnusable, match="no user no-such-user"):
        preload.take_on(Queue(name="q", handler="m:f", user="no-such-user"))


def test_whatever_an_import_raises_makes_the_handler_unusable() -> None:
    def raising(_: Queue) -> None:
        raise SystemExit("enough")

    given: Any = type("Given", (), {"queue": Queue(name="q", handler="m:f"), "load": staticmethod(raising)})
    with pytest.raises(HandlerUnusable, match="SystemExit: enough") as caught:
        preload.load(given)
    assert "Traceback" in str(caught.value.detail)
