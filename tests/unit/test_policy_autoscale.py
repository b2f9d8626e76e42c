"""The rule by which a pool grows and shrinks: by tables, and over hundreds of simulated loads."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.policy.autoscale import (
    NO_LOAD,
    PATIENCE_MAX,
    STEP_MS,
    Bounds,
    History,
    Host,
    Load,
    begin,
    begin_anew,
    decide,
    needed,
    next_ms,
    settle_for,
)
from tests.support.pool_simulation import Arrival, Pool

MIB = 1 << 20
BOUNDS = Bounds(1, 8, 1_000, 30_000, 0.9, 256 * MIB)
ROOMY = Host(cpu=0.2, memory_bytes=4_096 * MIB, worker_bytes=50 * MIB, worker_cpu=0.1, workers=1)
STEP = Load(backlog=340, busy=1, mean_ms=1_200.0, work=1.0)


def grown(target: int, now_ms: int = 0) -> History:
    """A pool that has just been found to need so many."""
    return begin(target, now_ms)


# --- up -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("load", "workers"),
    [
        (NO_LOAD, 0),
        (Load(0, 3, 5_000, 3), 3),  # who runs a long job cannot begin another
        (Load(4, 2, 5_000, 2), 6),  # long jobs: a worker for each
        (Load(4, 2, 1_000, 2), 6),  # as long as the latency: likewise
        (Load(998, 2, 10, 2), 10),  # ten seconds of work within a second
        (Load(98, 2, 10, 2), 1),
        (Load(5, 1, 0, 1), 0),  # nobody knows yet how long they take
        (Load(40, 2, 5_000, 2, idle=1), 2),  # what waits beside an idle worker may not run yet
    ],
)
def test_there_are_as_many_as_begin_all_within_the_latency(load: Load, workers: int) -> None:
    assert needed(load, BOUNDS) == workers


def test_a_step_of_load_is_followed_at_once_and_says_why() -> None:
    history, decision = decide(grown(2), STEP, ROOMY, BOUNDS, 10)
    assert decision == (6, "340 jobs wait, 1.2 s each")
    assert history.target == 6


def test_a_step_waits_until_the_workers_of_the_last_one_can_be_ready() -> None:
    history, _ = decide(grown(1), STEP, ROOMY, BOUNDS, 10)
    history, decision = decide(history, STEP, ROOMY, BOUNDS, 9 + STEP_MS)
    assert decision.target == 5
    history, decision = decide(history, STEP, ROOMY, BOUNDS, 10 + STEP_MS)
    assert decision.target == 8
    _, decision = decide(history, STEP, ROOMY, BOUNDS, 10 + 2 * STEP_MS)
    assert decision == (8, "340 jobs wait, 1.2 s each; 8 is the most")


def test_a_large_pool_doubles() -> None:
    _, decision = decide(grown(20), Load(900, 20, 2_000, 20), ROOMY, BOUNDS._replace(most=256), 10)
    assert decision.target == 40


@pytest.mark.parametrize(
    ("load", "text"),
    [
        (Load(1, 1, 900, 1), "1 job waits, 0.9 s each; these are enough"),
        (Load(7, 1, 2.54, 1), "7 jobs wait, 2.5 ms each; these are enough"),
        (Load(7, 1, 5_000, 1, idle=2), "7 jobs wait, 5.0 s each, but 2 idle workers may not run them yet"),
        (NO_LOAD, "nothing waits"),
    ],
)
def test_what_is_enough_says_so(load: Load, text: str) -> None:
    assert decide(grown(2), load, ROOMY, BOUNDS, 10)[1] == (2, text)


# --- the host -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "target", "reason"),
    [
        (Host(), 8, "340 jobs wait, 1.2 s each"),
        (Host(refusal="no worker can be forked"), 4, "1.2 s each: no worker can be forked"),
        (Host(cpu=0.89), 8, "340 jobs wait, 1.2 s each"),
        (
            Host(cpu=0.96),
            4,
            "held at 4 although 340 jobs wait, 1.2 s each: 96% of the CPUs are in use, and more workers would only",
        ),
        (Host(cpu=1.0, worker_cpu=0.97), 4, "share them"),
        (Host(cpu=1.0, worker_cpu=0.2), 8, "340 jobs wait, 1.2 s each"),  # they wait, and find CPU all the same
        (
            Host(memory_bytes=300 * MIB, worker_bytes=50 * MIB, workers=4),
            4,
            "300 MiB of memory are left, one more worker takes about 50, and 256 must stay free",
        ),
        (Host(memory_bytes=306 * MIB, worker_bytes=50 * MIB, workers=4), 5, "340 jobs wait, 1.2 s each"),
        (Host(memory_bytes=100 * MIB, workers=4), 4, "100 MiB of memory are left, one more worker takes about 0"),
        (Host(memory_bytes=406 * MIB, worker_bytes=50 * MIB, workers=2), 5, "340 jobs wait, 1.2 s each"),
        (Host(memory_bytes=356 * MIB, worker_bytes=50 * MIB, workers=2), 4, "356 MiB of memory are left"),
        (Host(memory_bytes=1_000 * MIB, workers=4), 8, "340 jobs wait, 1.2 s each"),
    ],
)
def test_it_grows_as_far_as_the_host_has_something_left(host: Host, target: int, reason: str) -> None:
    _, decision = decide(grown(4), STEP, host, BOUNDS, 10)
    assert decision.target == target
    assert reason in decision.reason


def test_a_host_without_anything_left_does_not_keep_a_pool_from_shrinking() -> None:
    history, _ = decide(grown(4), NO_LOAD, Host(cpu=1.0, memory_bytes=0), BOUNDS, 10)
    assert decide(history, NO_LOAD, Host(cpu=1.0, memory_bytes=0), BOUNDS, 30_010)[1].target == 1


# --- down ---------------------------------------------------------------------------------------------------


def test_it_shrinks_to_the_most_that_was_needed_in_the_quiet_period() -> None:
    history, _ = decide(grown(8), Load(0, 4, 5_000, 4.0), ROOMY, BOUNDS, 10_000)
    history, _ = decide(history, NO_LOAD, ROOMY, BOUNDS, 20_000)
    assert next_ms(history, BOUNDS) == 30_000
    _, decision = decide(history, NO_LOAD, ROOMY, BOUNDS, 29_999)
    assert decision.target == 8
    history, decision = decide(history, NO_LOAD, ROOMY, BOUNDS, 30_000)
    assert decision == (5, "no more than 5 were needed for 30 s")  # four at work, a fifth of the workers free
    assert next_ms(history, BOUNDS) == 40_000
    history, decision = decide(history, NO_LOAD, ROOMY, BOUNDS, 40_000)
    assert decision.target == 1
    assert next_ms(history, BOUNDS) is None


def test_work_that_is_done_keeps_workers_though_nothing_waits() -> None:
    """Ten short jobs at a time would be done within the latency by one worker; the work of a second needs four."""
    history, load = grown(4), Load(0, 3, 100, 3.0)
    for now_ms in range(0, 100_000, 1_000):
        history, decision = decide(history, load, ROOMY, BOUNDS, now_ms)
    assert decision.target == 4


def test_time_alone_changes_nothing_while_the_least_is_there_or_all_are_needed() -> None:
    assert next_ms(begin(1, 0), BOUNDS) is None
    assert next_ms(begin(4, 0), BOUNDS) is None


def test_a_pool_that_must_grow_again_soon_waits_longer_with_the_next_shrink() -> None:
    history, now_ms = grown(1), 0
    for patience in (0, 1, 2, PATIENCE_MAX, PATIENCE_MAX):
        history, decision = decide(history, STEP, ROOMY, BOUNDS, now_ms)
        assert (decision.target, history.patience) == (5, patience)
        history, _ = decide(history, NO_LOAD, ROOMY, BOUNDS, now_ms + 10)
        quiet_ms = 30_000 << patience
        assert next_ms(history, BOUNDS) == now_ms + quiet_ms
        now_ms += quiet_ms
        history, decision = decide(history, NO_LOAD, ROOMY, BOUNDS, now_ms)
        assert decision.target == 1
        now_ms += 20_000
    history, _ = decide(history, STEP, ROOMY, BOUNDS, now_ms + 1_000_000)
    assert history.patience == 0


def test_further_steps_up_do_not_count_as_growing_again() -> None:
    history, _ = decide(grown(8), NO_LOAD, ROOMY, BOUNDS, 10)
    history, _ = decide(history, NO_LOAD, ROOMY, BOUNDS, 30_010)
    history, _ = decide(history, STEP, ROOMY, BOUNDS, 40_000)
    history, decision = decide(history, STEP, ROOMY, BOUNDS, 40_500)
    assert (decision.target, history.patience) == (8, 1)


def test_a_new_reporter_begins_a_new_quiet_period() -> None:
    history, _ = decide(grown(8), NO_LOAD, ROOMY, BOUNDS, 10)
    history = begin_anew(history, 29_000)
    assert decide(history, NO_LOAD, ROOMY, BOUNDS, 30_100)[1].target == 8
    history, _ = decide(history, NO_LOAD, ROOMY, BOUNDS, 30_100)
    assert decide(history, NO_LOAD, ROOMY, BOUNDS, 59_000)[1].target == 1


def test_a_pool_settles_for_fewer_but_not_for_less_than_the_least() -> None:
    bounds = BOUNDS._replace(least=2)
    for workers, target in ((4, 4), (2, 2), (7, 6)):
        settled = settle_for(grown(6), workers, bounds)
        assert settled is not None
        assert settled.target == target
    assert settle_for(grown(6), 1, bounds) is None


# --- the configuration --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("least", "most", "target", "reason"),
    [
        (6, 9, 6, "the configuration says 6 to 9"),
        (1, 3, 3, "the configuration says 1 to 3"),
        (2, 2, 2, "the configuration says 2"),
    ],
)
def test_new_bounds_count_at_once(least: int, most: int, target: int, reason: str) -> None:
    bounds = BOUNDS._replace(least=least, most=most)
    history, decision = decide(grown(4), STEP, Host(cpu=1.0), bounds, 10)
    assert decision == (target, reason)
    assert history.target == target


# --- hundreds of loads --------------------------------------------------------------------------------------

loads = st.builds(
    Load,
    backlog=st.integers(0, 10**6),
    busy=st.integers(0, 300),
    mean_ms=st.floats(0, 10**7),
    work=st.floats(0, 10**6),
    idle=st.integers(0, 3),
)
hosts = st.builds(
    Host,
    cpu=st.none() | st.floats(0, 1),
    memory_bytes=st.none() | st.integers(0, 1 << 36),
    worker_bytes=st.none() | st.integers(0, 1 << 32),
    worker_cpu=st.none() | st.floats(0, 8),
    workers=st.integers(0, 300),
    refusal=st.sampled_from([None, None, None, "", "no"]),
)
bounds = st.builds(
    lambda least, more, latency_ms, down_ms: Bounds(least, least + more, latency_ms, down_ms, 0.9, 1 << 28),
    st.integers(1, 128), st.integers(0, 128), st.integers(1, 10_000), st.integers(100, 60_000),
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(
    begun=st.integers(1, 256),
    steps=st.lists(st.tuples(loads, hosts, st.integers(0, 60_000)), max_size=30),
    within=bounds,
)
def test_whatever_is_told_the_number_stays_within_its_bounds(
    begun: int, steps: list[tuple[Load, Host, int]], within: Bounds
) -> None:
    history, now_ms = begin(begun, 0), 0
    for load, host, passed_ms in steps:
        now_ms += passed_ms
        before = history.target
        history, decision = decide(history, load, host, within, now_ms)
        assert within.least <= decision.target <= within.most
        assert decision.target == history.target
        assert len(history.peaks) <= max(within.most, begun) + 1, "what is remembered does not grow with time"
        due_ms = next_ms(history, within)
        assert due_ms is None or due_ms > now_ms, "a loop that waits for it would never sleep"
        if within.least <= before < decision.target and host.memory_bytes is not None:
            assert decision.target <= host.workers or host.memory_bytes > within.memory_min_bytes


def steps_of_load(chance: random.Random, most: int, until_ms: int) -> Iterator[Arrival]:
    """Steps, bursts and silence, of jobs that take milliseconds or minutes; at times more than all workers can do."""
    at_ms = 0.0
    while at_ms < until_ms:
        mean_ms, ends_ms = chance.choice((20, 200, 2_000, 30_000)), at_ms + chance.uniform(1_000, 90_000)
        busy = chance.choice((0, 0, 0.1, 0.5, 0.9, 1.3)) * most
        if not busy:
            at_ms = ends_ms
            continue
        if chance.random() < 0.3 and mean_ms < 30_000:
            yield from (Arrival(int(at_ms), mean_ms) for _ in range(chance.randrange(200)))
        while at_ms < min(ends_ms, until_ms):
            at_ms += chance.expovariate(busy / mean_ms)
            yield Arrival(int(at_ms), max(1, int(chance.expovariate(1 / mean_ms))))


def hosts_at_random(chance: random.Random) -> Callable[[int], Host]:
    def host(workers: int) -> Host:
        return Host(chance.random(), chance.randrange(2_048 * MIB), chance.randrange(200 * MIB), None, workers)

    return host


@pytest.mark.parametrize("seed", range(120))
def test_random_loads_never_lead_out_of_the_bounds(seed: int) -> None:
    chance = random.Random(seed)
    least = chance.randint(1, 4)
    within = Bounds(least, least + chance.randint(0, 12), 1_000, chance.choice((1_000, 10_000, 30_000)), 0.9, 256 * MIB)
    pool = Pool(within, boot_ms=chance.choice((20, 300, 2_000)))
    if seed % 3 == 0:
        pool.host = hosts_at_random(chance)
    pool.run(steps_of_load(chance, within.most, 120_000), 500_000 + (30_000 << PATIENCE_MAX))
    assert all(within.least <= target <= within.most for _, target in pool.targets)
    assert pool.targets[-1][1] == within.least, "after the last job there is silence"


@pytest.mark.parametrize("seed", range(40))
def test_a_steady_load_is_met_without_flapping(seed: int) -> None:
    """Ten minutes of arrivals at random at one rate, which has many a burst and lull of its own."""
    chance = random.Random(seed)
    most, mean_ms = chance.choice((2, 4, 8, 16)), chance.choice((30, 200, 1_000, 5_000))
    busy = chance.uniform(0.1, 0.8) * most
    arrivals, at_ms = [], 0.0
    while at_ms < 600_000:
        at_ms += chance.expovariate(busy / mean_ms)
        arrivals.append(Arrival(int(at_ms), max(1, int(chance.expovariate(1 / mean_ms)))))
    pool = Pool(Bounds(1, most, 1_000, 30_000, 0.9, 0), boot_ms=chance.choice((20, 300)))
    pool.run(arrivals, 600_000)
    assert pool.turns <= 10


@pytest.mark.parametrize("run_ms", [100, 1_000, 60_000])
@pytest.mark.parametrize("most", [2, 8, 64])
def test_a_step_is_followed_up_within_two_seconds_and_down_once(run_ms: int, most: int) -> None:
    jobs = [Arrival(1_000, run_ms) for _ in range(most * max(1, 4_000 // run_ms))]
    pool = Pool(Bounds(1, most, 1_000, 30_000, 0.9, 0), boot_ms=20)
    pool.run(jobs, 200_000)
    reached_ms = next(at_ms for at_ms, target in pool.targets if target == most)
    assert reached_ms <= 3_000
    assert pool.turns == 1
    assert pool.targets[-1][1] == 1
    assert all(at_ms >= 30_000 for at_ms, _ in pool.targets if at_ms > reached_ms)
