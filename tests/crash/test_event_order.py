"""What happened while a process did not look comes all at once, and in any order."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.campaign import size
from tests.support.field import SHUFFLED, Field, attempt, kill, payloads
from tests.support.waiting import gone, until

MIX = payloads((5, {"do": "nothing"}), (1, {"do": "rest", "ms": 20}))


def stop(pid: int) -> None:
    """SIGSTOP."""
    os.kill(pid, signal.SIGSTOP)


def go_on(pid: int) -> None:
    """SIGCONT."""
    os.kill(pid, signal.SIGCONT)


def dead(pid: int) -> bool:
    """Whether a process has ended; it may be a zombie."""
    state = attempt(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0])
    return state in (None, "Z", "X")


@pytest.mark.campaign
@pytest.mark.timeout(600)
@pytest.mark.parametrize("order", ["reversed", "shuffled"])
def test_deaths_and_last_words_come_in_any_order(tmp_path: Path, order: str) -> None:
    """The master, then a foreman, does not look while its children die; their links and ends are seen together."""
    with Field(tmp_path, {"q": {"workers": 2}}, env=SHUFFLED | {"ANY_ORDER": order}) as field:
        field.load("raw", "--payloads", MIX, "--group", 5, "--pause-ms", 20)
        field.load("raw", "--payloads", MIX, "--group", 5, "--pause-ms", 20, "--seed", 1)
        for _ in range(size(2, 4)):
            for watcher, victims in (("master", "foreman"), ("master", "keeper"), ("foreman", "worker")):
                field.under_load(20)
                (pid,) = until(lambda role=watcher: attempt(lambda: field.pids(role)), 30, "who watches")
                dying = until(lambda role=victims: attempt(lambda: field.pids(role)), 30, "who dies")
                stop(pid)
                kill(*dying)
                until(lambda ended=dying: all(map(dead, ended)), 10, "deaths")
                go_on(pid)
                gone(*dying, within=20)
                assert field.running, field.log
            assert field.stop() == 0
            field.start()
        field.end_loads()
        field.drain()
        assert field.stop() == 0
        assert field.survivors() == []
        assert field.acks.check(field.database, field.ledger) == []
