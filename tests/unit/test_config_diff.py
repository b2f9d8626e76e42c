"""What a reload touches, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from supervisor.config import codec
from supervisor.config.diff import KEEPER_ONLY, NAMED, RETUNED, SECTIONS, TOLD, Changes, diff, differences
from supervisor.config.spec import (
    Access,
    Alerts,
    Backoff,
    Breaker,
    Daemon,
    Demand,
    ErrorRule,
    Intake,
    Limit,
    Log,
    Queue,
    Rate,
    Restart,
    Retention,
    Scale,
    Spec,
    Unique,
    WorkerRange,
)
from supervisor.errors import ConfigError

BASE = Queue(name="q", handler="m:f")

OTHER: dict[str, Any] = {
    "name": "other",
    "handler": "m:g",
    "command": ("x",),
    "serve": True,
    "pull": True,
    "batch_size": 5,
    "batch_wait_ms": 1,
    "workers": WorkerRange(min=1, max=8),
    "scale": Scale(cpu_max=0.5),
    "order": ("priority",),
    "ageing_ms": 1000,
    "weights": {"a": 2},
    "ordered": True,
    "after_dead": "skip",
    "concurrency": 1,
    "key_concurrency": 1,
    "rate": Rate(limit=1),
    "key_rate": Rate(limit=2),
    "limits": ("l",),
    "max_size": 1,
    "when_full": "wait",
    "unique": Unique(by=("a",)),
    "throttle_ms": 1,
    "debounce_ms": 1,
    "demand": Demand(max=1),
    "sources": {"a": 1},
    "strict": True,
    "timeout_ms": 1,
    "kill_grace_ms": 1,
    "boot_timeout_ms": 1,
    "max_attempts": 1,
    "max_crashes": 1,
    "max_interruptions": 1,
    "backoff": Backoff(base_ms=1),
    "restart": Restart(intensity=1),
    "retention": Retention(dead_ms=1),
    "max_payload_bytes": 2,
    "max_result_bytes": 2,
    "pass_env": ("A",),
    "env": {"A": "b"},
    "cwd": "/",
    "user": "nobody",
    "network": True,
    "preload": "never",
    "after_fork": "m:h",
    "on_crash_loop": "escalate",
    "redact": ("a",),
    "oldest_max_ms": 1,
    "recycle_jobs": 1,
    "on_error": {"ValueError": ErrorRule(action="dead")},
    "retry_for_ms": 1,
    "ttl_ms": 1,
    "on_failure": "a",
    "on_dead": "a",
    "breaker": Breaker(),
    "python_path": ("/a",),
}


def spec(*queues: Queue, **parts: Any) -> Spec:
    return Spec(queues={queue.name: queue for queue in queues}, **parts)


def test_every_field_of_a_queue_is_looked_at() -> None:
    assert set(OTHER) == {field.name for field in msgspec.structs.fields(Queue)}
    assert set(OTHER) >= RETUNED == KEEPER_ONLY | TOLD


@pytest.mark.parametrize("field", [name for name in OTHER if name != "name"])
def test_a_pool_is_touched_only_if_its_processes_read_what_differs(field: str) -> None:
    changed = msgspec.structs.replace(BASE, **{field: OTHER[field]})
    assert differences(BASE, changed) == {field}
    found = diff(spec(BASE), spec(changed))
    expected = Changes(retuned=("q",)) if field in RETUNED else Changes(changed=("q",))
    assert found == expected


def test_all_that_the_keeper_alone_reads_together_restarts_no_pool_nor_does_what_a_foreman_is_told() -> None:
    changed = msgspec.structs.replace(BASE, **{name: OTHER[name] for name in RETUNED})
    assert diff(spec(BASE), spec(changed)) == Changes(retuned=("q",))


def test_every_other_table_is_looked_at() -> None:
    beside = {field.name for field in msgspec.structs.fields(Spec)} - {"files", "queues", "pools", "scope", "warnings"}
    assert beside == {*SECTIONS, *NAMED}


def test_other_tables_that_differ_are_listed() -> None:
    old = spec(BASE, limits={"a": Limit(name="a"), "b": Limit(name="b")})
    new = spec(BASE, limits={"b": Limit(name="b", concurrency=1), "c": Limit(name="c")}, alerts=Alerts(limit=9))
    assert diff(old, new) == Changes(settings=("alerts", "limits.b", "limits.c", "limits.a"))


def test_what_needs_a_restart_is_no_setting_that_is_in_force() -> None:
    found = diff(spec(BASE), spec(BASE, log=Log(level="debug")))
    assert (found.settings, found.restart_needed) == ((), ("log.level",))


def test_of_a_backoff_the_function_alone_touches_the_pool() -> None:
    changed = msgspec.structs.replace(BASE, backoff=Backoff(function="m:g"))
    assert diff(spec(BASE), spec(changed)) == Changes(changed=("q",))


def test_what_the_keeper_alone_reads_does_not_hide_what_the_pool_reads() -> None:
    changed = msgspec.structs.replace(BASE, order=("lifo",), workers=9, timeout_ms=1)
    assert diff(spec(BASE), spec(changed)) == Changes(changed=("q",))


def test_the_same_spec_changes_nothing() -> None:
    assert diff(spec(BASE), spec(BASE)) == Changes()


def test_queues_come_and_go() -> None:
    a, b, c, d = (Queue(name=name, handler="m:f") for name in "abcd")
    assert diff(spec(a, b, c), spec(d, c)) == Changes(added=("d",), removed=("a", "b"))


def test_some_keys_wait_for_a_restart() -> None:
    old = spec(daemon=Daemon(), log=Log())
    new = spec(
        daemon=Daemon(database="/d", run_dir="/r", durability="relaxed", shutdown_grace_ms=1, python_path=("/p",)),
        log=Log(target="stderr", level="debug", format="json"),
        intake=Intake(acknowledge="buffered"),
        access=Access(admin=("*",)),
    )
    assert diff(old, new).restart_needed == (
        "daemon.database",
        "daemon.run_dir",
        "daemon.durability",
        "log.target",
        "log.level",
        "log.format",
    )


def test_a_spec_survives_the_link_between_processes() -> None:
    queue = msgspec.structs.replace(BASE, **OTHER)
    limits = {"l": Limit(name="l", concurrency=1, rate=Rate(limit=3), per_key=True)}
    before = Spec(
        files=("/f",), queues={"z": queue, "a": BASE}, limits=limits, pools={"p": queue, "a": BASE}, warnings=("w",)
    )
    after = codec.decode(codec.encode(before))
    assert after == before
    assert list(after.queues) == ["z", "a"]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"queues": {"q": {}}}', b'{"unknown": 1}', b"\xff"])
def test_other_bytes_are_no_spec(data: bytes) -> None:
    with pytest.raises(ConfigError, match="this is no encoded configuration"):
        codec.decode(data)
