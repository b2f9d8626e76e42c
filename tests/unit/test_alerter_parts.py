"""The parts of the alerter that decide: who is next in its line, what a command gets, what its end means."""

from __future__ import annotations

import os
import select
from pathlib import Path

import msgspec
import pytest

from supervisor.alerter.attempt import Attempt, arguments, environment
from supervisor.alerter.waiting import RETRY_MS, WAITING_MAX, Line, Task
from supervisor.config.spec import Alerts
from tests.support.waiting import gone


def a_task(number: int = 1, kind: str = "dead", queue: str | None = "q") -> Task:
    return Task(number, kind, "event", queue, 0, msgspec.json.encode({"summary": f"number {number}"}))


# --- the line -----------------------------------------------------------------------------------------------


def test_alerts_about_one_thing_keep_their_order_and_others_pass() -> None:
    line = Line()
    first, second, other = a_task(1), a_task(2), a_task(3, queue="other")
    for task in (first, second, other):
        assert line.join(task)
    assert line.next((), 0) is first
    assert line.next([first.about], 0) is other
    assert line.next([first.about, other.about], 0) is None
    assert line.next((), 0) is second
    assert line.next((), 0) is None


def test_a_second_try_comes_after_a_rest_and_before_what_is_about_the_same() -> None:
    line = Line()
    first, second = a_task(1), a_task(2)
    line.join(second)
    first.tries = 1
    assert line.again(first, 1_000)
    assert line.next_ms(1_000) == 1_000 + RETRY_MS
    assert line.next((), 1_000) is None
    assert line.next((), 1_000 + RETRY_MS) is first
    first.tries = 2
    assert not line.again(first, 5_000)
    assert line.next_ms(5_000) is None
    assert len(line) == 1


def test_the_line_is_bounded() -> None:
    line = Line()
    assert all(line.join(a_task(number)) for number in range(WAITING_MAX))
    assert not line.join(a_task(WAITING_MAX))


# --- the command --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("tell", "{summary}", "{queue}"), ["tell", "it is -x", ""]),
        (("tell", "{ids}", "{count}"), ["tell", "1,2", "7"]),
        (("tell", "{detail}"), ["tell", " --rm"]),
        (("tell", "--", "{detail}"), ["tell", "--", "--rm"]),
        (("tell", "{{x}}", "{host}"), ["tell", "{x}", "a"]),
    ],
)
def test_fields_fill_whole_arguments_and_are_no_options(command: tuple[str, ...], expected: list[str]) -> None:
    alert = {"summary": "it is -x", "queue": None, "ids": [1, 2], "count": 7, "detail": "--rm", "host": "a\0"}
    assert arguments(command, alert) == expected


def test_little_of_the_environment_is_passed_on() -> None:
    environ = {"PATH": "/bin", "LC_ALL": "C", "AWS_SECRET": "x", "PYTHONPATH": "/x", "HOME": "/"}
    assert environment(Alerts(env={"A": "b", "HOME": "/h"}), environ) == {
        "PATH": "/bin", "LC_ALL": "C", "HOME": "/h", "A": "b",
    }  # fmt: skip


def run(tmp_path: Path, script: str) -> Attempt:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return Attempt(Alerts(command=(str(program), "{summary}")), a_task(), {"PATH": os.environ["PATH"]}, 0)


def ended(attempt: Attempt) -> str | None:
    poll = select.poll()
    poll.register(attempt.pidfd, select.POLLIN)
    assert poll.poll(10_000), "it ended"
    return attempt.end()


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ('test "$1" = "number 1"', None),
        ('grep -q "\\"summary\\":\\"number 1\\""', None),
        ("exit 3", "it ended with exit status 3"),
        ("echo one; echo two >&2; exit 1", "it ended with exit status 1: two"),
        ("kill -TERM $$", "it was ended by SIGTERM"),
        ("head -c 1000000 /dev/zero | tr '\\0' x; echo; echo last; exit 1", "it ended with exit status 1: last"),
    ],
)
def test_what_an_end_means(tmp_path: Path, script: str, expected: str | None) -> None:
    attempt = run(tmp_path, script)
    poll = select.poll()
    poll.register(attempt.output_fd, select.POLLIN)
    while poll.poll(10_000) and attempt.read():
        pass
    assert ended(attempt) == expected


def test_a_kill_takes_along_what_the_command_started(tmp_path: Path) -> None:
    attempt = run(tmp_path, "sleep 1000 & echo $!; sleep 1000")
    poll = select.poll()
    poll.register(attempt.output_fd, select.POLLIN)
    assert poll.poll(10_000)
    attempt.read()
    attempt.overdue = True
    attempt.kill()
    message = ended(attempt)
    assert message is not None
    assert message.startswith("it took longer than its time-out: ")
    gone(int(message.rpartition(" ")[2]))


def test_what_does_not_exist_cannot_be_started(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="No such file"):
        Attempt(Alerts(command=(str(tmp_path / "none"),)), a_task(), {}, 0)
    assert len(os.listdir("/proc/self/fd")) == before
