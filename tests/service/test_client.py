"""The public client against a keeper: what it sends, what it returns, what it raises, and what it costs to import."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from supervisor.client import Client
from supervisor.errors import (
    Busy,
    ConfigError,
    Denied,
    InvalidPayload,
    JobsupError,
    NotRunning,
    PayloadTooLarge,
    QueueFull,
    UnknownJob,
    UnknownQueue,
    UsageError,
    WaitTimeout,
    WrongState,
)
from supervisor.wire import messages
from supervisor.wire.payload import parse
from tests.service.test_client_faults import in_child
from tests.support.fake_keeper import BUSY, MAX_PAYLOAD_BYTES, FakeKeeper
from tests.support.waiting import until


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[FakeKeeper]:
    with FakeKeeper(str(tmp_path / "s")) as keeper:
        yield keeper


@pytest.fixture
def client(keeper: FakeKeeper, tmp_path: Path) -> Iterator[Client[int]]:
    with Client(socket=str(tmp_path / "s"), timeout=10) as client:
        yield client


def enqueued(keeper: FakeKeeper) -> messages.Enqueue:
    found = keeper.seen[-1]
    assert isinstance(found, messages.Enqueue)
    return found


def test_a_job_is_enqueued_and_its_id_returned(client: Client[int], keeper: FakeKeeper) -> None:
    assert client.enqueue("emails", {"to": "a@b.c"}) == 1
    assert client.enqueue("reports") == 2
    assert [(job["queue"], job["payload"]) for job in keeper.jobs.values()] == [
        ("emails", b'{"to":"a@b.c"}'),
        ("reports", b"null"),
    ]


def test_many_are_enqueued_in_one_request_with_the_same_options(client: Client[int], keeper: FakeKeeper) -> None:
    assert client.enqueue_many("emails", ({"n": n} for n in range(3)), priority=2, tags=("a",)) == [1, 2, 3]
    assert len(keeper.seen) == 1
    assert [(job["payload"], job["priority"], job["tags"]) for job in keeper.jobs.values()] == [
        (b'{"n":0}', 2, ("a",)),
        (b'{"n":1}', 2, ("a",)),
        (b'{"n":2}', 2, ("a",)),
    ]


def test_of_nothing_nothing_is_enqueued(client: Client[int], keeper: FakeKeeper) -> None:
    assert client.enqueue_many("emails", []) == []
    assert client.enqueue_each("emails", []) == []
    assert not keeper.seen


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"delay": "5m"}, {"delay_ms": 300_000}),
        ({"delay": 1.5}, {"delay_ms": 1500}),
        ({"delay": timedelta(seconds=2)}, {"delay_ms": 2000}),
        ({"delay": 0}, {"delay_ms": 0}),
        ({"at": "2030-01-31T08:00:00Z"}, {"due_at_ms": 1_896_076_800_000}),
        ({"at": "2030-01-31T09:00:00.250+01:00"}, {"due_at_ms": 1_896_076_800_250}),
        ({"at": datetime(2030, 1, 31, 8, tzinfo=UTC)}, {"due_at_ms": 1_896_076_800_000}),
        ({"at": datetime(2030, 1, 31, 9, tzinfo=timezone(timedelta(hours=1)))}, {"due_at_ms": 1_896_076_800_000}),
        (
            {"priority": -3, "timeout": "90s", "max_attempts": 7},
            {"priority": -3, "timeout_ms": 90_000, "max_attempts": 7},
        ),
        ({"tags": ["b", "a"]}, {"tags": ("b", "a")}),
        ({"tags": iter(["x"])}, {"tags": ("x",)}),
    ],
)
def test_options_arrive_as_they_were_meant(
    client: Client[int], keeper: FakeKeeper, options: dict[str, Any], sent: dict[str, Any]
) -> None:
    client.enqueue("emails", 1, **options)
    nothing = {
        "priority": None,
        "delay_ms": None,
        "due_at_ms": None,
        "timeout_ms": None,
        "max_attempts": None,
        "tags": (),
    }
    (job,) = enqueued(keeper).jobs
    assert {name: getattr(job, name) for name in nothing} == nothing | sent


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"delay": "5"}, "delay: 5 has no unit"), ({"delay": -1}, "delay"), ({"delay": True}, "delay"),
        ({"delay": float("nan")}, "delay"), ({"delay": "5m", "at": "2030-01-01T00:00:00Z"}, "not both"),
        ({"at": "tomorrow"}, "at"), ({"at": "2030-01-01T00:00:00"}, "time zone"), ({"at": 5}, "at"),
        ({"at": datetime(2030, 1, 1)}, "time zone"),  # noqa: DTZ001
        ({"timeout": "soon"}, "timeout"), ({"tags": "abc"}, "tags"), ({"priority": object()}, "option"),
        ({"priority": float("inf")}, "option"), ({"priority": 101}, r"jobs\[0\].priority must be an integer"),
        ({"max_attempts": 0}, "max_attempts"), ({"tags": ["a"] * 2}, "tags"), ({"timeout": 0}, "timeout_ms"),
    ],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused(client: Client[int], options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidPayload, match=sentence):
        client.enqueue("emails", 1, **options)


def test_an_option_that_does_not_exist_is_refused(client: Client[int]) -> None:
    with pytest.raises(InvalidPayload, match="unique"):
        client.enqueue_many("emails", [1], unique=True)
    with pytest.raises(TypeError):
        client.enqueue("emails", 1, unique=True)  # type: ignore[call-arg]


def test_what_the_keeper_refuses_is_raised_as_what_it_is(client: Client[int]) -> None:
    with pytest.raises(UnknownQueue, match="no queue nix") as caught:
        client.enqueue("nix", 1)
    assert caught.value.hint == "look at status"
    with pytest.raises(PayloadTooLarge, match="at most 1,048,576"):
        client.enqueue("emails", "x" * MAX_PAYLOAD_BYTES)
    with pytest.raises(InvalidPayload, match="NUL"):
        client.enqueue("emails", "\0")
    with pytest.raises(UnknownJob):
        client.status(99)
    assert client.enqueue("emails", "after all that") == 1


def test_groups_above_the_limits_are_too_large_and_nothing_of_them_is_kept(
    client: Client[int], keeper: FakeKeeper
) -> None:
    with pytest.raises(PayloadTooLarge, match="10,000 jobs"):
        client.enqueue_many("emails", range(10_001))
    with pytest.raises(PayloadTooLarge, match="16,777,216"):
        client.enqueue_many("emails", ["x" * MAX_PAYLOAD_BYTES] * 17)
    with pytest.raises(PayloadTooLarge, match="max_payload"):
        client.enqueue_many("emails", [1, "x" * MAX_PAYLOAD_BYTES, 2])
    assert not keeper.jobs
    assert client.enqueue_many("emails", range(10_000)) == list(range(1, 10_001))


def test_each_for_itself_refuses_only_the_culprits(client: Client[int], keeper: FakeKeeper) -> None:
    payloads: list[Any] = [{"n": n} for n in range(100)]
    payloads[3] = "x" * MAX_PAYLOAD_BYTES
    payloads[50] = float("nan")
    payloads[99] = {"a", "set"}
    outcomes = client.enqueue_each("emails", payloads)
    refused = {place: outcome for place, outcome in enumerate(outcomes) if isinstance(outcome, JobsupError)}
    assert {place: type(error) for place, error in refused.items()} == {
        3: PayloadTooLarge,
        50: InvalidPayload,
        99: InvalidPayload,
    }
    assert sorted(outcome for outcome in outcomes if isinstance(outcome, int)) == list(range(1, 98))
    assert [keeper.jobs[outcomes[n]]["payload"] for n in (0, 98)] == [b'{"n":0}', b'{"n":98}']  # type: ignore[index]
    assert len(keeper.seen) < 20


def test_each_for_itself_also_where_all_together_are_too_many(client: Client[int]) -> None:
    assert sorted(client.enqueue_each("emails", range(20_001))) == list(range(1, 20_002))  # type: ignore[type-var]


def test_a_full_queue_is_an_error_at_once(client: Client[int], keeper: FakeKeeper) -> None:
    with pytest.raises(QueueFull, match="takes at most 9"):
        client.enqueue("full", 1)
    assert len(keeper.seen) == 1


def test_an_error_that_is_no_jobs_fault_stands_for_each(client: Client[int], keeper: FakeKeeper) -> None:
    outcomes = client.enqueue_each("nix", [1, 2, 3])
    assert [type(outcome) for outcome in outcomes] == [UnknownQueue] * 3
    assert len(keeper.seen) == 1


def test_jobs_as_the_protocol_writes_them_are_inserted_byte_for_byte(client: Client[int], keeper: FakeKeeper) -> None:
    answer = client.insert("emails", [{"payload": parse('{ "a" : 1.0 }'), "priority": 1}, {"payload": [2]}])
    assert answer == {
        "ids": [1, 2], "states": ["queued", "queued"], "acknowledged": "committed", "repeated": False, "existing": [],
    }  # fmt: skip
    assert [(job["payload"], job["priority"]) for job in keeper.jobs.values()] == [
        (b'{ "a" : 1.0 }', 1),
        (b"[2]", None),
    ]


def test_the_same_request_key_is_the_same_job(client: Client[int], keeper: FakeKeeper) -> None:
    assert client.enqueue("emails", 1, request_key="order-17") == 1
    assert client.enqueue("emails", 1, request_key="order-17") == 1
    assert client.enqueue_many("emails", [1, 2], request_key="order-18") == [2, 3]
    assert client.insert("emails", [{"payload": 1}], request_key="order-17")["repeated"] is True
    assert len(keeper.jobs) == 3
    with pytest.raises(UsageError, match="key must be"):
        client.enqueue("emails", 1, request_key="a b")
    with pytest.raises(UsageError):
        client.enqueue("emails", 1, request_key=object())  # type: ignore[arg-type]


def test_keys_differ_between_requests_and_between_clients(keeper: FakeKeeper, tmp_path: Path) -> None:
    for _ in range(3):
        with Client(socket=str(tmp_path / "s")) as client:
            for _ in range(3):
                client.enqueue("emails", 1)
    assert len({request.key for request in keeper.seen if isinstance(request, messages.Enqueue)}) == 9


def test_the_keeper_is_told_how_long_the_client_waits(client: Client[int], keeper: FakeKeeper) -> None:
    client.enqueue("emails", 1)
    assert enqueued(keeper).within_ms == 9_000


def test_status_tells_of_a_job_or_of_the_daemon(client: Client[int]) -> None:
    job_id = client.enqueue("emails", {"a": 1})
    found = client.status(job_id)
    assert (found["id"], found["state"], found["payload"]) == (1, "queued", {"a": 1})
    assert client.status()["daemon"] == {"running": True}


def test_wait_returns_when_the_job_is_final(client: Client[int], keeper: FakeKeeper) -> None:
    job_id = client.enqueue("emails", 1)
    found: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: found.append(client.wait(job_id)))
    thread.start()
    until(lambda: keeper.seen[-1].__struct_config__.tag == "wait")
    assert client.enqueue("emails", 2) == 2
    assert not found
    keeper.finish(job_id)
    thread.join(10)
    assert found[0]["state"] == "completed"
    assert client.wait(job_id, timeout="1m")["state"] == "completed"


def test_wait_ends_when_the_time_is_over(client: Client[int], keeper: FakeKeeper) -> None:
    job_id = client.enqueue("emails", 1)
    with pytest.raises(WaitTimeout, match="is queued"):
        client.wait(job_id, timeout=0)
    with pytest.raises(WaitTimeout):
        client.wait(job_id, timeout="20ms")
    with pytest.raises(UnknownJob):
        client.wait(99, timeout=0)


def test_wait_asks_again_while_there_is_time(
    client: Client[int], keeper: FakeKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supervisor.wire.calls.WAIT_SLICE_MS", 1)
    job_id = client.enqueue("emails", 1)
    found: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: found.append(client.wait(job_id)))
    thread.start()
    until(lambda: len(keeper.seen) > 5)
    keeper.finish(job_id, "dead")
    thread.join(10)
    assert found[0]["state"] == "dead"


def test_cancel_and_retry_say_why_not(client: Client[int], keeper: FakeKeeper) -> None:
    job_id = client.enqueue("emails", 1)
    with pytest.raises(WrongState):
        client.retry(job_id)
    client.cancel(job_id)
    assert keeper.jobs[job_id]["state"] == "cancelled"
    with pytest.raises(WrongState):
        client.cancel(job_id)
    client.retry(job_id, force=True)
    assert keeper.jobs[job_id]["state"] == "queued"
    with pytest.raises(UnknownJob):
        client.cancel(99)


@pytest.mark.parametrize("job_id", ["12", 1.5, None, True, -1, 0, 2**70, object(), [1]])
def test_what_is_no_job_id_is_a_mistake_of_use(client: Client[int], job_id: Any) -> None:
    with pytest.raises(UsageError):
        client.cancel(job_id)
    with pytest.raises(UsageError):
        client.wait(job_id, timeout=0)


def test_any_operation_can_be_asked_for_by_name(client: Client[int]) -> None:
    assert client.request("hello", timeout_s=2)["protocol"] == 1
    assert client.request("purge", queue="emails", state="dead") == {"count": 0}
    assert client.request("pause", queue="emails") == {"count": 0}
    with pytest.raises(UsageError, match="surplus"):
        client.request("hello", surplus=1)
    with pytest.raises(UsageError, match="cannot be asked"):
        client.request("pause", queue=object())


def test_what_is_refused_as_busy_is_asked_again_while_there_is_time(
    client: Client[int], keeper: FakeKeeper, tmp_path: Path
) -> None:
    keeper.faults.extend([BUSY] * 3)
    assert client.enqueue("emails", 1) == 1
    keeper.faults.extend([BUSY] * 1000)
    with Client(socket=str(tmp_path / "s"), timeout="100ms") as other, pytest.raises(Busy, match="told to be busy"):
        other.request("cancel", ids=[1])
    assert len(keeper.seen) > 5


def test_a_closed_client_is_of_no_more_use(client: Client[int]) -> None:
    client.close()
    client.close()
    client.flush()
    with pytest.raises(UsageError, match="closed"):
        client.enqueue("emails", 1)


@pytest.mark.parametrize("timeout", ["5", "x", -1, True, float("nan")])
def test_a_time_that_is_none_is_refused_when_the_client_is_made(timeout: Any) -> None:
    with pytest.raises(UsageError):
        Client(socket="/nowhere", timeout=timeout)


def config_file(folder: Path, run_dir: str = "run") -> Path:
    path = folder / "etc" / "queues.toml"
    path.parent.mkdir(parents=True)
    (folder / run_dir).mkdir()
    path.write_text(f'[daemon]\nrun_dir = "../{run_dir}"\n')
    return path


def test_the_configuration_tells_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = config_file(tmp_path)
    with FakeKeeper(str(tmp_path / "run" / "jobsup.sock")) as keeper:
        for config in (path, str(path)):
            with Client(config) as client:
                client.enqueue("emails", 1)
        monkeypatch.chdir(tmp_path)
        with Client() as client:
            client.enqueue("emails", 2)
        monkeypatch.chdir("/")
        monkeypatch.setenv("JOBSUP_CONFIG", str(path))
        with Client() as client:
            client.enqueue("emails", 3)
        monkeypatch.setenv("JOBSUP_CONFIG", "/nowhere")
        monkeypatch.setenv("JOBSUP_SOCKET", str(tmp_path / "run" / "jobsup.sock"))
        with Client() as client:
            client.enqueue("emails", 4)
        with Client(path) as client:
            client.enqueue("emails", 5)
        assert len(keeper.jobs) == 6


def test_overrides_are_heeded(tmp_path: Path) -> None:
    path = config_file(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    with FakeKeeper(str(other / "jobsup.sock")), Client(path, overrides=[f"daemon.run_dir={other}"]) as client:
        assert client.enqueue("emails", 1) == 1


def test_without_a_configuration_there_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOBSUP_CONFIG", raising=False)
    monkeypatch.delenv("JOBSUP_SOCKET", raising=False)
    with pytest.raises(ConfigError):
        Client(tmp_path / "missing.toml")


def test_a_socket_path_that_is_too_long_is_named(tmp_path: Path) -> None:
    with Client(socket=str(tmp_path / ("x" * 120))) as client, pytest.raises(ConfigError, match="too long"):
        client.enqueue("emails", 1)


def test_a_socket_that_may_not_be_opened_is_denied(keeper: FakeKeeper, tmp_path: Path) -> None:
    (tmp_path / "s").chmod(0)

    def as_somebody_else() -> str:
        if os.getuid() == 0:
            os.setuid(65534)
        with Client(socket=str(tmp_path / "s")) as client, pytest.raises(Denied) as caught:
            client.enqueue("emails", 1)
        return caught.value.message

    assert in_child(as_somebody_else) == f"{tmp_path / 's'} may not be opened by this user"


def test_denied_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket as sockets

    tries: list[str] = []

    class Forbidden(sockets.socket):
        def connect(self, address: Any) -> None:
            tries.append(address)
            raise PermissionError

    monkeypatch.setattr("supervisor.wire.reach.socket.socket", Forbidden)
    with Client(socket="/run/x") as client, pytest.raises(Denied, match="/run/x"):
        client.enqueue("emails", 1)
    assert len(tries) == 1


@pytest.mark.parametrize("make", ["absent", "file", "dead"])
def test_where_nobody_listens_there_is_no_daemon(tmp_path: Path, make: str) -> None:
    path = tmp_path / "s"
    if make == "file":
        path.write_text("x")
    if make == "dead":
        FakeKeeper(str(path)).server.close()
    with Client(socket=str(path), patience=0) as client, pytest.raises(NotRunning, match="no daemon listens"):
        client.enqueue("emails", 1)
    with Client(socket=str(path), one_shot=False) as client, pytest.raises(NotRunning):
        client.enqueue("emails", 1)
    with Client(socket=str(path), timeout="50ms") as client, pytest.raises(NotRunning):
        client.enqueue("emails", 1)


MAY_IMPORT = {
    "json", "socket", "struct", "os", "threading", "typing", "_typing", "typing.io", "typing.re", "contextlib",
    "warnings", "weakref", "select", "errno", "itertools",
}  # fmt: skip

IMPORTED = "import json,socket,struct,os,threading,sys;before=set(sys.modules);{};print(*(set(sys.modules)-before))"


def imported(work: str, **environ: str) -> set[str]:
    program = [sys.executable, "-c", IMPORTED.format(work)]
    root = str(Path(__file__).parents[2])
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        program, capture_output=True, text=True, check=True, timeout=60, env=quiet | {"PYTHONPATH": root} | environ
    )
    return set(done.stdout.split())


def test_importing_the_client_is_cheap() -> None:
    foreign = {name for name in imported("import supervisor.client") if not name.startswith("supervisor")}
    assert foreign - MAY_IMPORT == {"__future__"}


def test_enqueueing_needs_nothing_heavy(keeper: FakeKeeper, tmp_path: Path) -> None:
    use = "c=Client();c.enqueue('emails',{'a':1},priority=1,tags=['x']);c.close()"
    found = imported(f"from supervisor.client import Client;{use}", JOBSUP_SOCKET=str(tmp_path / "s"))
    assert len(keeper.jobs) == 1
    heavy = {
        "msgspec",
        "asyncio",
        "subprocess",
        "dataclasses",
        "sqlite3",
        "psutil",
        "rich",
        "logging",
        "inspect",
        "click",
    }
    assert not heavy & found
