"""`jobsctl config show`: what it prints loads as the same spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor.config.load import load
from supervisor.config.resolved import as_data, as_toml_data
from supervisor.config.spec import (
    Access,
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
from supervisor.policy.duration import MAX_MS
from tests.support.config_files import QUEUE, load_text, write

names = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,20}", fullmatch=True)
variables = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True)
words = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=8)
lines = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=8)
arguments = (words | st.just("${HOME}")).map(lambda text: text.replace("{", "{{").replace("}", "}}"))
times = st.integers(1, 3_600_000)
kept = st.none() | st.integers(0, MAX_MS)
users = st.from_regex(r"[a-z_][a-z0-9_-]{0,10}", fullmatch=True)
code = st.just("pkg.mod:Class.method")

rules = (
    st.builds(ErrorRule, action=st.sampled_from(["retry", "dead", "cancel"]))
    | st.builds(ErrorRule, action=st.just("snooze"), delay_ms=times)
    | st.builds(ErrorRule, max_attempts=st.integers(1, 1000))
    | st.builds(ErrorRule, backoff=st.builds(Backoff, delays_ms=st.lists(times, min_size=1, max_size=3).map(tuple)))
)
ranges = st.tuples(st.integers(1, 8), st.integers(0, 8)).map(lambda two: WorkerRange(min=two[0], max=sum(two)))
scales = st.builds(
    Scale,
    latency_ms=times,
    down_after_ms=st.integers(100, 10**6),
    cpu_max=st.floats(0.01, 1),
    memory_min_bytes=st.integers(1, 2**40),
)
members = st.lists(lines.filter(lambda text: "." not in text), min_size=1, max_size=2).map(".".join)
counts = st.none() | st.integers(1, 1000)
rates = st.none() | st.builds(
    Rate,
    limit=st.integers(1, 1000),
    period_ms=st.integers(1000, 10**6),
    algorithm=st.sampled_from(["bucket", "leaky", "window"]),
)
uniques = st.builds(
    Unique,
    by=st.lists(members, max_size=3).map(tuple),
    states=st.sampled_from([("queued",), ("running", "dead")]),
    on_conflict=st.sampled_from(["existing", "refuse", "replace"]),
    replace=st.sampled_from([("payload",), ("priority", "tags")]),
    across_queues=st.booleans(),
) | st.builds(Unique, period_ms=times)
same = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"unique": uniques}),
    st.fixed_dictionaries({"throttle_ms": times}),
    st.fixed_dictionaries({"unique": uniques, "debounce_ms": times}),
)
orders = st.one_of(
    st.builds(dict, order=st.sampled_from([("fifo",), ("priority",), ("priority", "fair")]), ordered=st.booleans()),
    st.builds(dict, order=st.just(("priority",)), ageing_ms=st.integers(1000, 10**9)),
    st.builds(dict, order=st.just(("fair", "lifo")), weights=st.dictionaries(lines, st.integers(1, 1000), max_size=3)),
)
limits = st.dictionaries(names, st.integers(1, 9), max_size=2).map(
    lambda found: {name: Limit(name=name, concurrency=jobs, per_key=jobs > 3) for name, jobs in found.items()}
)


def pooled(spec: Spec, strict: bool) -> Spec:
    """The same with a pool that draws from queues without workers of their own."""
    drawn = {f"{name}-drawn": weight for weight, name in enumerate(spec.queues, 1)}
    if not drawn:
        return spec
    pool = Queue(
        name="the-pool", command=("tool",), sources=dict.fromkeys(drawn, 0) if strict else drawn, strict=strict,
        demand=Demand(min=2, max=3),
    )  # fmt: skip
    own = {name: Queue(name=name, limits=tuple(spec.limits)) for name in drawn}
    return msgspec.structs.replace(spec, queues={**spec.queues, **own}, pools={pool.name: pool})


plain_queues = st.builds(
    Queue,
    name=names,
    command=st.tuples(st.just("tool"), arguments, st.just("{field}")),
    workers=st.integers(1, 8) | ranges,
    after_dead=st.sampled_from(["block", "skip", "dead_letter"]),
    concurrency=counts,
    key_concurrency=counts,
    rate=rates,
    key_rate=rates,
    max_size=counts,
    when_full=st.sampled_from(["refuse", "wait", "drop_oldest"]),
    demand=st.builds(Demand, min=st.integers(1, 9), max=st.none() | st.integers(9, 99)),
    timeout_ms=times,
    kill_grace_ms=times,
    boot_timeout_ms=times,
    max_attempts=st.integers(1, 1000),
    max_crashes=st.integers(1, 100),
    max_interruptions=st.integers(1, 1000),
    backoff=st.builds(
        Backoff,
        base_ms=st.integers(0, 1000),
        factor=st.floats(1, 100),
        max_ms=st.integers(1000, 10**9),
        jitter=st.floats(0, 1),
        shape=st.sampled_from(["exponential", "linear", "constant"]),
        delays_ms=st.lists(st.integers(0, 10**9), max_size=3).map(tuple),
    ),
    restart=st.builds(Restart, intensity=st.integers(0, 9), period_ms=times),
    retention=st.builds(Retention, completed_ms=kept, cancelled_ms=kept, dead_ms=kept),
    max_payload_bytes=st.integers(2, 8 * 2**20),
    max_result_bytes=st.integers(2, 4 * 2**20),
    pass_env=st.lists(variables, max_size=3).map(tuple),
    env=st.dictionaries(variables, words | st.just("a${B}$${C"), max_size=3),
    cwd=st.none() | st.just("/srv/${X}"),
    user=st.none() | users,
    network=st.booleans(),
    on_crash_loop=st.sampled_from(["backoff", "escalate"]),
    redact=st.lists(members, max_size=3).map(tuple),
    recycle_jobs=st.none() | st.integers(1, 10**9),
    on_error=st.dictionaries(st.sampled_from(["ValueError", "a.b.Error", "exit 3", "signal 9", "timeout"]), rules),
    retry_for_ms=st.none() | times,
    ttl_ms=st.none() | times,
    breaker=st.none()
    | st.builds(
        Breaker,
        failures=st.integers(1, 100),
        period_ms=times,
        cooldown_ms=st.integers(1, 1000),
        max_cooldown_ms=st.integers(1000, 10**6),
        on=st.sampled_from([(), ("OSError", "timeout")]),
    ),
)


def with_idle_keys_unset(queue: Queue) -> Queue:
    """The same queue; what means nothing in it says nothing."""
    changes: dict[str, Any] = {}
    if queue.max_size is None:
        changes["when_full"] = "refuse"
    if not queue.ordered:
        changes["after_dead"] = "block"
    if queue.concurrency is not None or queue.rate is not None:
        changes["demand"] = Demand()
    unique = queue.unique
    if unique is not None and queue.debounce_ms is not None:
        unique = Unique(by=unique.by, across_queues=unique.across_queues)
    elif unique is not None and unique.on_conflict != "replace":
        unique = msgspec.structs.replace(unique, replace=Unique().replace)
    return msgspec.structs.replace(queue, **changes, unique=unique)


queues = st.builds(
    lambda queue, order, unique: with_idle_keys_unset(msgspec.structs.replace(queue, **order, **unique)),
    plain_queues, orders, same,
)  # fmt: skip
scaled = st.builds(Queue, name=names, command=st.just(("tool",)), workers=ranges, scale=scales)
handlers = st.builds(
    Queue,
    name=names,
    handler=code,
    preload=st.sampled_from(["auto", "always", "never"]),
    after_fork=st.none() | code,
    backoff=st.builds(Backoff, function=st.none() | code),
)
specs = st.builds(
    Spec,
    daemon=st.builds(
        Daemon,
        database=st.just("/srv/jobs.db"),
        run_dir=st.just("/srv/run"),
        python_path=st.just(()),
        shutdown_grace_ms=times,
        durability=st.sampled_from(["full", "relaxed"]),
    ),
    intake=st.builds(
        Intake,
        acknowledge=st.sampled_from(["committed", "buffered"]),
        flush_max_jobs=st.integers(1, 10_000),
        flush_interval_ms=st.integers(1, 60_000),
    ),
    log=st.builds(
        Log,
        target=st.sampled_from(["auto", "stderr", "journald", "/var/log/${x}.log"]),
        level=st.sampled_from(["debug", "info", "warning", "error"]),
        format=st.sampled_from(["text", "json"]),
    ),
    access=st.builds(Access, admin=users.map(lambda name: (f"user:{name}", f"group:{name}", "*"))),
    limits=limits,
    queues=st.lists(queues | scaled | handlers, max_size=3).map(lambda found: {queue.name: queue for queue in found}),
)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(spec=st.builds(pooled, specs, st.booleans()))
def test_what_is_shown_loads_as_the_same_spec(tmp_path: Path, spec: Spec) -> None:
    path = write(tmp_path, tomli_w.dumps(as_toml_data(spec)))
    again = load(path, environ={})
    assert msgspec.structs.replace(again, files=(), warnings=()) == spec


def test_a_demand_that_means_nothing_is_not_shown(tmp_path: Path) -> None:
    limited = "[limits.api]\nconcurrency = 5\n" + QUEUE + 'limits = ["api"]\n'
    spec = load_text(tmp_path, "[defaults]\ndemand = { min = 4 }\n" + limited)
    assert "demand" not in as_toml_data(spec)["queues"]["q"]
    load_text(tmp_path, tomli_w.dumps(as_toml_data(spec)))
    free = load_text(tmp_path, "[defaults]\ndemand = { min = 4 }\n" + QUEUE)
    assert as_toml_data(free)["queues"]["q"]["demand"] == {"min": 4}


def test_keys_without_a_value_are_left_out(tmp_path: Path) -> None:
    table = as_toml_data(load_text(tmp_path, QUEUE))["queues"]["q"]
    assert {"command", "cwd", "user", "after_fork", "recycle_jobs", "python_path", "name"}.isdisjoint(table)
    assert (table["handler"], table["timeout"], table["retention"]["dead"]) == ("m:f", "5m", "never")


def test_what_is_shown_as_json_is_what_is_meant() -> None:
    """The escape of `${` belongs to TOML, where loading would take it for a value of the environment."""
    queue = Queue(name="q", handler="m:f", env={"TEMPLATE": "${X}"})
    spec = Spec(queues={"q": queue})
    assert as_data(spec)["queues"]["q"]["env"] == {"TEMPLATE": "${X}"}
    assert as_toml_data(spec)["queues"]["q"]["env"] == {"TEMPLATE": "$${X}"}
