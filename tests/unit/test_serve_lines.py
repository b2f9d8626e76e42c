"""The lines of a command that serves: what is written for a job, and that nothing read does more than fail it."""

from __future__ import annotations

import json
import sys
import textwrap
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.config.spec import Queue
from supervisor.job import Cancel, Child, Done, Failed, Job, RateLimited, Snooze
from supervisor.unix.clock import boot_ms
from supervisor.worker.executors.serve import answer_in, check_ready, excerpt, hello, line_of, outcome_of
from supervisor.worker.executors.served import LINE_BYTES_MAX, Served

WHEN = datetime(2026, 1, 31, 9, 0, 0, 5_000, UTC)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
DURATIONS = st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(max_size=8)
ANSWERS = st.fixed_dictionaries(
    {"id": st.just(7), "token": st.just(3)},
    optional={
        "result": JSON,
        "error": st.text() | st.fixed_dictionaries({"message": st.text()}, optional={"retry_after": DURATIONS}),
        "snooze": DURATIONS,
        "rate_limited": DURATIONS | st.fixed_dictionaries({"delay": DURATIONS}),
        "cancel": st.text(),
        "enqueue": st.lists(
            st.fixed_dictionaries({"queue": JSON}, optional={"payload": JSON, "delay": JSON, "at": JSON, "tags": JSON})
        ),
    },
)


def a_job(**values: Any) -> Job:
    children: list[Child] = []
    given = {"id": 7, "queue": "q", "payload": None, "token": 3, "enqueued_at": WHEN, "deadline": WHEN}
    return Job(**given | {"enqueue": children.append} | values)


@given(st.binary(max_size=200) | ANSWERS.map(json.dumps).map(str.encode) | JSON.map(json.dumps).map(str.encode))
def test_whatever_a_command_writes_is_an_answer_or_is_said_to_be_none(line: bytes) -> None:
    try:
        answer = answer_in(line)
    except ValueError as error:
        assert str(error)
    else:
        assert isinstance(outcome_of(answer, a_job(), 1_000), Done | Failed | Snooze | RateLimited | Cancel)


@pytest.mark.parametrize(
    "line", [b"", b"null", b"{}", b'{"ready": 1}', b'{"ready": true, "more": 1}', b"\xff", b"[" * 9_999]
)
def test_a_first_line_that_is_another_is_shown(line: bytes) -> None:
    with pytest.raises(ValueError, match=r'must be \{"ready": true\}, and is'):
        check_ready(line, 1_000)


def test_a_first_line_may_name_the_version_that_it_speaks() -> None:
    check_ready(b'{"ready": true}\r', 1_000)
    check_ready(b'{"ready": true, "jobsup": 1}', 1_000)


def test_blanks_that_a_command_writes_without_a_job_are_not_kept() -> None:
    program = f"""
        import sys
        sys.stdout.write(" " * {LINE_BYTES_MAX + 1})
        sys.stdout.flush()
        sys.stderr.write("written")
        sys.stderr.flush()
        print(sys.stdin.readline(), flush=True)
        """
    served = Served([sys.executable, "-c", textwrap.dedent(program)], sys.executable)
    while "written" not in (served.tail() or ""):
        assert served.look(boot_ms() + 10_000)
        assert served.strays() == b""
    served.send(b"answer\n")
    line = served.next_line(boot_ms() + 10_000)
    assert line is not None
    assert line.strip() == b"answer"
    served.kill()


@given(JSON)
def test_a_job_is_one_line_whatever_its_payload_is_and_however_it_was_written(payload: object) -> None:
    written = json.dumps(payload, indent=1).replace("\n", "\r\n")
    line = line_of(a_job(), written.encode())
    assert (line.count(b"\n"), line.endswith(b"\n"), b"\r" in line) == (1, True, False)
    assert json.loads(line)["payload"] == payload


def test_a_job_has_its_members_with_times_as_texts() -> None:
    job = a_job(attempt=2, max_attempts=4, priority=-3, tags=("a",), key="k", due_at=WHEN, previous_error="before")
    at = "2026-01-31T09:00:00.005Z"
    assert json.loads(line_of(job, b"[1]")) == {
        "id": 7, "token": 3, "queue": "q", "payload": [1], "attempt": 2, "max_attempts": 4, "priority": -3,
        "tags": ["a"], "key": "k", "enqueued_at": at, "due_at": at, "deadline": at,
        "previous_error": "before", "flow": None,
    }  # fmt: skip


def test_the_first_line_names_the_worker_without_its_scope() -> None:
    assert json.loads(hello(Queue(name="shop/q", command=("x",), serve=True)))["worker"] == "q"


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"result": {"a": [1]}}, Done(b'{"a":[1]}')),
        ({"result": None}, Done(b"null")),
        ({"error": "e"}, Failed("e")),
        ({"error": {"message": "", "type": "T"}}, Failed("T", type="T")),
        ({"error": {"message": "e", "final": True, "retry_after": "2s"}}, Failed("e", final=True, delay_ms=2_000)),
        ({"snooze": "5m"}, Snooze(300)),
        ({"snooze": 0.25}, Snooze(0.25)),
        ({"rate_limited": 20}, RateLimited(20)),
        ({"rate_limited": {"delay": "20s", "key_only": True}}, RateLimited(20, key_only=True)),
        ({"cancel": "c"}, Cancel("c")),
    ],
)
def test_an_answer_means_what_a_python_handler_would_have_returned(members: dict[str, Any], expected: object) -> None:
    line = msgspec.json.encode({"id": 7, "token": 3, **members})
    assert outcome_of(answer_in(line), a_job(), 1_000) == expected


def test_an_excerpt_is_short_and_text() -> None:
    assert excerpt(b"\xff" + b"x" * 500) == "\\xff" + "x" * 199 + " [...]"
