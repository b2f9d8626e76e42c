"""Queues, limits and pools together: what goes together, and the sentence for what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.config.discipline import discipline_of
from supervisor.config.spec import Rate
from supervisor.job import State
from supervisor.policy import rate
from supervisor.policy.discipline import PLAIN, Limit
from supervisor.policy.rank import Order
from supervisor.policy.unique import Unique
from tests.support.config_files import QUEUE, load_text, problems_of

POOL = '[queues.a]\n[queues.b]\n[pools.p]\nhandler = "m:f"\n'

CONFLICTS = [
    ('order = "lifo"\nordered = true', 4, "ordered", "and lifo the contrary; keep one of them"),
    ('ageing = "1m"', 3, "ageing", 'means something where priorities count; write order = "priority", or leave it out'),
    ('order = ["priority", "fair"]\nageing = "1m"', 4, "ageing", "does not go with fair"),
    ('order = ["priority", "lifo"]\nageing = "1m"', 4, "ageing", "does not go with lifo"),
    ("weights = { a = 2 }", 3, "weights", 'mean something where keys take turns; write order = "fair"'),
    ("demand = { min = 8, max = 4 }", 3, "demand.max", "4 is below min, 8; raise one or lower the other"),
    ('rate = { limit = 1, period = "63ms", algorithm = "window" }', 3, "rate.period", "write 64ms or more, or another"),
    ('key_rate = { limit = 1, period = "1ms", algorithm = "window" }', 3, "key_rate.period", "write 64ms or more"),
    (
        'rate = { limit = 1001, algorithm = "leaky" }',
        3,
        "rate.limit",
        "1001 in 1s cannot be spaced, as times are whole milliseconds; write at most 1000, or another algorithm",
    ),
    ('throttle = "1m"\ndebounce = "1m"', 4, "debounce", "does not go with throttle; keep one of them"),
    ('unique = {}\nthrottle = "1m"\ndebounce = "1m"', 5, "debounce", "does not go with throttle; keep one of them"),
    ('unique = { while = ["queued"], period = "1m" }', 3, "unique.while", "does not go with period"),
    ('unique = { by = ["id", "id"] }', 3, "unique.by", "names a member twice; write each once"),
    ('unique = { replace = ["payload"] }', 3, "unique.replace", 'write on_conflict = "replace", or remove it'),
    ('unique = { on_conflict = "refuse" }\nthrottle = "1m"', 3, "unique.on_conflict", "does not go with throttle"),
    ('unique = { while = ["queued"] }\ndebounce = "1m"', 3, "unique.while", "does not go with debounce"),
    ('when_full = "wait"', 3, "when_full", "for a queue that can be full; write max_size, or remove it"),
    ('after_dead = "skip"', 3, "after_dead", "means something where order counts; write ordered = true, or remove it"),
]


@pytest.mark.parametrize(("lines", "line", "key", "sentence"), CONFLICTS, ids=[lines for lines, *_ in CONFLICTS])
def test_keys_that_do_not_go_together_are_one_problem(
    tmp_path: Path, lines: str, line: int, key: str, sentence: str
) -> None:
    (found,) = problems_of(tmp_path, f"{QUEUE}{lines}\n")
    assert found.startswith(f"queues.toml:{line}: queues.q.{key}: ")
    assert sentence in found


def test_what_a_queue_inherits_must_go_with_what_it_says(tmp_path: Path) -> None:
    (found,) = problems_of(tmp_path, '[defaults]\norder = "lifo"\n\n' + QUEUE + "ordered = true\n")
    assert found.startswith("queues.toml:6: queues.q.ordered: means that jobs run in the order in which they came")


@pytest.mark.parametrize("own", ["throttle", "debounce"])
def test_unique_goes_with_either_of_its_short_forms(tmp_path: Path, own: str) -> None:
    spec = load_text(tmp_path, f'{QUEUE}unique = {{ by = ["a"] }}\n{own} = "1m"\n')
    unique = discipline_of(spec, "q").unique
    assert unique is not None
    assert (unique.by, unique.period_ms, unique.debounce_ms) == (
        ("a",), *((60_000, None) if own == "throttle" else (None, 60_000)),
    )  # fmt: skip


# -- limits --------------------------------------------------------------------------------------------------------


def test_a_limit_that_is_not_there_is_named_with_the_nearest(tmp_path: Path) -> None:
    (found,) = problems_of(tmp_path, QUEUE + 'limits = ["smpt"]\n[limits.smtp]\nconcurrency = 1\n')
    assert found == "queues.toml:3: queues.q.limits: there is no [limits.smpt]; did you mean smtp?"
    (found,) = problems_of(tmp_path, QUEUE + 'limits = ["smtp"]\n')
    assert found == "queues.toml:3: queues.q.limits: there is no [limits.smtp]; write one"


def test_a_limit_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    limits = "[limits.smtp]\nconcurrency = 2\n[limits.api]\nconcurrency = 2\n"
    (found,) = problems_of(tmp_path, QUEUE + 'limits = ["smtp", "api", "smtp"]\n' + limits)
    assert found == "queues.toml:3: queues.q.limits: names smtp more than once; name each limit once"
    (found,) = problems_of(tmp_path, QUEUE + 'limits = ["smtp", "api", "smtp", "api"]\n' + limits)
    assert found == "queues.toml:3: queues.q.limits: names api, smtp more than once; name each limit once"


@pytest.mark.parametrize("demand", ["{ min = 2 }", "{ max = 5 }", "{ min = 1, max = 2 }"])
@pytest.mark.parametrize(
    ("limit", "named"),
    [("concurrency = 9", "concurrency"), ("rate = { limit = 5 }", "rate"), ('limits = ["api"]', "limits.api")],
)
def test_a_demand_for_several_jobs_means_nothing_beside_a_limit(
    tmp_path: Path, limit: str, named: str, demand: str
) -> None:
    shared = "[limits.api]\nconcurrency = 9\n"
    (found,) = problems_of(tmp_path, f"{QUEUE}demand = {demand}\n{limit}\n{shared}")
    text = f"means nothing beside {named}, by which a worker is handed one job at a time; remove it"
    assert found == f"queues.toml:3: queues.q.demand: {text}"


@pytest.mark.parametrize(
    "lines",
    ["demand = { max = 1 }\nconcurrency = 9", "demand = { min = 2 }\nkey_concurrency = 9",
     'demand = { min = 2 }\nlimits = ["api"]\n[limits.api]\nconcurrency = 9\nper_key = true'],
)  # fmt: skip
def test_a_demand_that_a_limit_does_not_take_away_is_kept(tmp_path: Path, lines: str) -> None:
    load_text(tmp_path, f"{QUEUE}{lines}\n")


def test_a_demand_that_is_inherited_may_mean_nothing(tmp_path: Path) -> None:
    load_text(tmp_path, f"[defaults]\ndemand = {{ min = 2 }}\n{QUEUE}concurrency = 9\n")


def test_a_limit_with_a_problem_is_not_called_missing(tmp_path: Path) -> None:
    (found,) = problems_of(tmp_path, QUEUE + 'limits = ["smtp"]\n[limits.smtp]\nconcurrency = 0\n')
    assert found == ("queues.toml:5: limits.smtp.concurrency: 0 is out of range; write an integer from 1 to 100000")


@pytest.mark.parametrize("body", ["", "per_key = true\n"])
def test_a_limit_that_limits_nothing_says_what_would(tmp_path: Path, body: str) -> None:
    (found,) = problems_of(tmp_path, QUEUE + f"[limits.smtp]\n{body}")
    assert "limits.smtp: limits nothing; write concurrency, rate, or both" in found


def test_rates_of_limits_are_looked_at_as_those_of_queues(tmp_path: Path) -> None:
    text = '[limits.a]\nrate = { limit = 1, period = "10ms", algorithm = "window" }\n'
    text += '[limits.b]\nrate = { limit = 2, period = "1ms", algorithm = "leaky" }\n'
    assert [found.split(";")[0] for found in problems_of(tmp_path, QUEUE + text)] == [
        "queues.toml:4: limits.a.rate.period: is too short to be measured as a window",
        "queues.toml:6: limits.b.rate.limit: 2 in 1ms cannot be spaced, as times are whole milliseconds",
    ]


def test_a_limit_may_have_any_name_that_a_queue_may_have(tmp_path: Path) -> None:
    (found,) = problems_of(tmp_path, QUEUE + "[limits.SMTP]\nconcurrency = 1\n")
    assert found.startswith("queues.toml:3: limits.SMTP: ")
    assert "write a name of lower-case letters" in found


@pytest.mark.parametrize("section", ["limits", "pools"])
def test_a_section_of_names_must_be_a_table(tmp_path: Path, section: str) -> None:
    (found,) = problems_of(tmp_path, f"{section} = 1\n{QUEUE}")
    assert found == f"queues.toml:1: {section}: is no table; write [{section}.NAME]"
    (found,) = problems_of(tmp_path, f"{QUEUE}[{section}]\nx = 1\n")
    assert found.startswith(f"queues.toml:4: {section}.x: is no table; write it as [{section}.x]")


# -- patterns ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("one", "other"), [("a*", "ab*"), ("*", "z*"), ("tenant.*", "tenant.a.*")])
def test_patterns_that_overlap_are_refused(tmp_path: Path, one: str, other: str) -> None:
    text = f'[queues."{other}"]\nhandler = "m:f"\n[queues."{one}"]\nhandler = "m:f"\n'
    (found,) = problems_of(tmp_path, text)
    begin = other[:-1]
    assert found.startswith(
        f'queues.toml:1: queues."{other}": overlaps [queues."{one}"], as queues that begin with {begin}'
    )
    assert found.endswith("match both; let one begin differently")


def test_a_table_of_its_own_comes_before_a_pattern(tmp_path: Path) -> None:
    text = '[queues."tenant.*"]\nhandler = "m:f"\nworkers = 3\n[queues."tenant.acme"]\nhandler = "m:f"\nworkers = 5\n'
    spec = load_text(tmp_path, text)
    workers = {
        name: getattr(spec.queue(name), "workers", None) for name in ("tenant.acme", "tenant.x", "tenan", "tenant.X")
    }
    assert workers == {"tenant.acme": 5, "tenant.x": 3, "tenan": None, "tenant.X": None}
    assert spec.queue("tenant.*") is spec.queues["tenant.*"] or spec.queue("tenant.*") is None


# -- pools ---------------------------------------------------------------------------------------------------------

POOLS = [
    ('sources = ["a", "c"]', "sources", "there is no [queues.c]; known are a, b"),
    ('sources = ["a", "p"]', "sources", "p is a pool, and pools draw from queues; name its queues"),
    ('sources = ["a", "a"]', "sources", "write each queue once, the one that comes first of all first"),
    ("sources = []", "sources", "write each queue once"),
    ("sources = [1]", "sources", "write each queue once"),
    ("sources = {}", "sources", "write a table of weights such as { critical = 6, default = 3 }, or an array"),
    ('sources = "a"', "sources", "write a table of weights such as { critical = 6, default = 3 }, or an array"),
    ("sources = { a = 0, b = 1 }", "sources", "a: 0 is no weight; write a table of whole numbers from 1 to 1000"),
    ('sources = ["a", "b"]\ndemand = { min = 3, max = 2 }', "demand.max", "2 is below min, 3"),
    ('sources = ["a", "b"]\norder = "lifo"', "order", "unknown key"),
    ('sources = ["a", "b"]\nscale = { latency = "2s" }', "scale", "means something only between two numbers"),
    ('sources = ["a", "b"]\ncommand = ["x"]', "command", "stands beside handler; keep one of them"),
]


@pytest.mark.parametrize(("lines", "key", "sentence"), POOLS, ids=[lines for lines, *_ in POOLS])
def test_what_is_wrong_with_a_pool_is_said_of_its_key(tmp_path: Path, lines: str, key: str, sentence: str) -> None:
    found = problems_of(tmp_path, f"{POOL}{lines}\n")
    (ours,) = [line for line in found if f": pools.p.{key}: " in line]
    assert sentence in ours


def test_a_pool_without_sources_or_something_to_run_says_both(tmp_path: Path) -> None:
    found = problems_of(tmp_path, QUEUE + "[pools.p]\nworkers = 1\n")
    assert sorted(line.partition(": pools.p: ")[2].partition(";")[0] for line in found) == [
        "draws from no queue", "says neither what to call nor what to run",
    ]  # fmt: skip


def test_a_queue_is_drawn_from_by_one_pool(tmp_path: Path) -> None:
    text = POOL + 'sources = ["a", "b"]\n[pools.r]\nhandler = "m:f"\nsources = { b = 2 }\n'
    (found,) = problems_of(tmp_path, text)
    assert found == "queues.toml:8: pools.r.sources: b is drawn from by pool p already; it has one, or several of tasks"


def test_pools_in_a_circle_are_refused(tmp_path: Path) -> None:
    text = '[pools.p]\nhandler = "m:f"\nsources = ["r"]\n[pools.r]\nhandler = "m:f"\nsources = ["p"]\n'
    assert problems_of(tmp_path, QUEUE + text) == [
        "queues.toml:5: pools.p.sources: r is a pool, and pools draw from queues; name its queues",
        "queues.toml:8: pools.r.sources: p is a pool, and pools draw from queues; name its queues",
    ]


def test_a_pool_may_not_be_named_like_a_queue(tmp_path: Path) -> None:
    (found,) = problems_of(
        tmp_path, '[queues.a]\n[queues.p]\nhandler = "m:f"\n[pools.p]\nhandler = "m:f"\nsources = ["a"]\n'
    )
    assert found == (
        "queues.toml:4: pools.p: has the name of a queue; choose another, as workers are named after their pool"
    )


def test_a_queue_that_a_pool_draws_from_says_nothing_of_workers(tmp_path: Path) -> None:
    text = '[queues.a]\nworkers = 2\nhandler = "m:f"\n[pools.p]\nhandler = "m:f"\nsources = ["a"]\n'
    assert [found.split(": ")[1] for found in problems_of(tmp_path, text)] == ["queues.a.workers", "queues.a.handler"]
    assert all("remove it here, or from the pool's sources" in found for found in problems_of(tmp_path, text))


def test_a_pool_inherits_what_speaks_of_workers(tmp_path: Path) -> None:
    text = '[defaults]\nworkers = 7\npreload = false\norder = "priority"\n[queues.a]\n[queues.b]\n[queues.c]\n'
    text += '[pools.p]\ncommand = ["x"]\nsources = ["a"]\n[pools.r]\nhandler = "m:f"\nsources = { b = 2, c = 1 }\n'
    spec = load_text(tmp_path, text)
    assert [(pool.workers, pool.preload, pool.order) for pool in spec.pools.values()] == [
        (7, "auto", ("fifo",)), (7, "never", ("fifo",)),
    ]  # fmt: skip
    assert [pool.strict for pool in spec.pools.values()] == [True, False]
    assert spec.sources_of("r") == {"b": 2, "c": 1}
    assert list(spec.workplaces) == ["p", "r"]


def test_jobs_have_the_time_of_their_queue_else_of_the_pool(tmp_path: Path) -> None:
    text = '[defaults]\ntimeout = "1m"\n[queues.a]\n[queues.b]\ntimeout = "2s"\n[queues.c]\nhandler = "m:f"\n'
    spec = load_text(tmp_path, text + '[pools.p]\nhandler = "m:f"\ntimeout = "3s"\nsources = ["a", "b"]\n')
    assert {name: queue.timeout_ms for name, queue in spec.queues.items()} == {"a": 3_000, "b": 2_000, "c": 60_000}


def test_a_pool_follows_the_load_as_it_says(tmp_path: Path) -> None:
    text = '[queues.a]\n[pools.p]\nhandler = "m:f"\nworkers = { min = 1, max = 4 }\nscale = { latency = "2s" }\n'
    assert load_text(tmp_path, text + 'sources = ["a"]\n').pools["p"].scale.latency_ms == 2_000


def test_workers_of_pools_count_for_the_host(tmp_path: Path) -> None:
    text = "".join(f"[queues.q{n}]\n" for n in range(9))
    text += "".join(f'[pools.p{n}]\nhandler = "m:f"\nworkers = 256\nsources = ["q{n}"]\n' for n in range(9))
    (found,) = problems_of(tmp_path, text)
    assert "queues: have 2304 workers together; write at most 2048" in found


# -- what the store is told ----------------------------------------------------------------------------------------


def test_a_queue_becomes_the_rules_of_its_jobs(tmp_path: Path) -> None:
    text = """\
[queues.q]
handler = "m:f"
order = ["priority", "fair"]
weights = { acme = 3 }
ordered = true
after_dead = "skip"
concurrency = 4
rate = { limit = 10, period = "1m", algorithm = "window" }
key_rate = { limit = 2 }
limits = ["all", "each"]
max_size = 9
when_full = "drop_oldest"
unique = { by = ["id"], while = ["queued"], on_conflict = "replace", replace = ["tags"], across_queues = true }
[limits.all]
concurrency = 7
[limits.each]
concurrency = 1
per_key = true
[queues."t.*"]
handler = "m:f"
"""
    spec = load_text(tmp_path, text)
    assert spec.queues["q"].rate == Rate(limit=10, period_ms=60_000, algorithm="window")
    found = discipline_of(spec, "q")
    assert (found.order, found.ordered, found.after_dead) == (Order(("priority", "fair")), True, "skip")
    assert (found.weight("acme"), found.weight("other"), found.group, found.plain) == (3, 1, "q", False)
    assert (found.max_size, found.when_full) == (9, "drop_oldest")
    assert found.limits == (Limit("queue:q", 4, rate.Rate(10, 60_000, "window")), Limit("limit:all", 7))
    assert found.key_limits == (
        Limit("line:q", 1, None, True), Limit("key:q", None, rate.Rate(2, 1_000)), Limit("limit:each", 1),
    )  # fmt: skip
    assert found.unique == Unique(("id",), (State.QUEUED,), None, "replace", ("tags",), across_queues=True)
    assert discipline_of(spec, "t.x").group == "t.*"
    assert discipline_of(spec, "left") is PLAIN
