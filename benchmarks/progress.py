"""What progress costs: no-op jobs are drained beside jobs that report it, and beside the same jobs that do not.

    python -m benchmarks.progress [--jobs 50000] [--reporters 50] [--per-second 100] [--rounds 5]

Times of a drain differ by more than progress can cost, on most machines; so the processor's time is shown, too, which
all processes of the daemon took for each drained job: of the reporting jobs as much as of what drains beside them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.flows import wait_empty
from tests.support.daemon import Daemon

TOML = """
[daemon]
python_path = ["../app"]
[queues.q]
handler = "noop:run"
workers = 2
[queues.long]
handler = "noop:report"
workers = {reporters}
timeout = "1h"
"""
NOOP = """
import time

def run(job):
    pass

def report(job):
    pause_s, aloud = 1 / job.payload["per_second"], job.payload["aloud"]
    while True:
        time.sleep(pause_s)  # as often as is asked for
        if aloud:
            job.progress(0.5, "half of it is done")
"""


class Took(NamedTuple):
    """A drain by the clock, and by the processor of all but the reporting workers; how much of a core those took."""

    wall_s: float
    rest_s: float
    reporters_share: float


def cpu_s(daemon: Daemon) -> tuple[float, float]:
    """Processor's seconds of the reporting workers, and of all other processes of the daemon."""
    with daemon.client() as client:
        nodes = client.request("tree")["tree"]
    sums = {True: 0.0, False: 0.0}
    for node in nodes:
        if node["pid"]:
            ran_ns = Path(f"/proc/{node['pid']}/schedstat").read_text().split()[0]  # cpu_times counts in 10 ms
            sums[node["role"] == "worker" and node["queue"] == "long"] += int(ran_ns) / 1e9
    return sums[True], sums[False]


def drain(daemon: Daemon, asked: argparse.Namespace, done: int, *, aloud: bool) -> Took:
    """The no-op jobs while the others report, or only wake up as often."""
    with daemon.client(timeout=120) as client:
        payload: dict[str, Any] = {"per_second": asked.per_second, "aloud": aloud}
        long = client.enqueue_many("long", [payload] * asked.reporters, max_attempts=1)
        daemon.wait_for(lambda: client.request("status")["queues"]["long"]["running"] == asked.reporters, timeout=60)
        if aloud:
            daemon.wait_for(lambda: all(client.status(job)["progress"] for job in long), what="progress of all")
        client.request("pause", queue="q")
        for _ in range(asked.jobs // 10_000):
            client.enqueue_many("q", [None] * 10_000)
        before, begun = cpu_s(daemon), time.monotonic()
        client.request("resume", queue="q")
        wait_empty(client, done + asked.jobs)
        wall_s, after = time.monotonic() - begun, cpu_s(daemon)
        client.request("cancel", ids=long)
        for job in long:
            client.wait(job, 60)
        return Took(wall_s, after[1] - before[1], (after[0] - before[0]) / wall_s)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=50_000)
    parser.add_argument("--reporters", type=int, default=50)
    parser.add_argument("--per-second", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    toml = TOML.format(reporters=asked.reporters)
    ratios, rest, shares = [], [], []
    with tempfile.TemporaryDirectory() as folder, Daemon(Path(folder), toml, app={"noop.py": NOOP}) as daemon:
        done = 0
        for number in range(asked.rounds):
            took: dict[bool, Took] = {}
            for aloud in (True, False) if number % 2 else (False, True):
                took[aloud] = drain(daemon, asked, done, aloud=aloud)
                done += asked.jobs
            silent, loud = took[False], took[True]
            ratios.append(loud.wall_s / silent.wall_s)
            rest.append(loud.rest_s / silent.rest_s)
            shares.append(loud.reporters_share - silent.reporters_share)
            print(f"{asked.jobs:,} jobs in {silent.wall_s:.2f} s beside silent jobs, in {loud.wall_s:.2f} s beside "
                  f"reporting ones: {ratios[-1]:.3f}; processor's time of the drain {rest[-1]:.3f}; the silent ones "
                  f"took {silent.reporters_share:.3f} of a core, the others {loud.reporters_share:.3f}")  # fmt: skip
    print(f"median: {statistics.median(ratios):.3f} of the time without progress, {statistics.median(rest):.3f} of the "
          f"processor's time; reporting takes {statistics.median(shares) * 100:.1f} % of a core")  # fmt: skip


if __name__ == "__main__":
    main()
