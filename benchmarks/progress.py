"""What progress costs: no-op jobs are drained beside jobs that report it, and beside the same jobs that do not.

python -m benchmarks.progress [--jobs 50000] [--reporters 50] [--per-second 100] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

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


def drain_s(daemon: Daemon, asked: argparse.Namespace, done: int, *, aloud: bool) -> float:
    """Seconds that the no-op jobs take while the others report, or only wake up as often."""
    with daemon.client(timeout=120) as client:
        payload: dict[str, Any] = {"per_second": asked.per_second, "aloud": aloud}
        long = client.enqueue_many("long", [payload] * asked.reporters, max_attempts=1)
        daemon.wait_for(lambda: client.request("status")["queues"]["long"]["running"] == asked.reporters, timeout=60)
        if aloud:
            daemon.wait_for(lambda: all(client.status(job)["progress"] for job in long), what="progress of all")
        client.request("pause", queue="q")
        for _ in range(asked.jobs // 10_000):
            client.enqueue_many("q", [None] * 10_000)
        begun = time.monotonic()
        client.request("resume", queue="q")
        wait_empty(client, done + asked.jobs)
        took = time.monotonic() - begun
        client.request("cancel", ids=long)
        for job in long:
            client.wait(job, 60)
        return took


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=50_000)
    parser.add_argument("--reporters", type=int, default=50)
    parser.add_argument("--per-second", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    toml = TOML.format(reporters=asked.reporters)
    ratios = []
    with tempfile.TemporaryDirectory() as folder, Daemon(Path(folder), toml, app={"noop.py": NOOP}) as daemon:
        done = 0
        for number in range(asked.rounds):
            took: dict[bool, float] = {}
            for aloud in (True, False) if number % 2 else (False, True):
                took[aloud] = drain_s(daemon, asked, done, aloud=aloud)
                done += asked.jobs
            ratios.append(took[True] / took[False])
            silent, loud = took[False], took[True]
            print(f"{asked.jobs:,} jobs in {silent:.2f} s beside silent jobs, in {loud:.2f} s beside reporting ones: "
                  f"{ratios[-1]:.3f}")  # fmt: skip
    print(f"median: {statistics.median(ratios):.3f} of the time without progress")


if __name__ == "__main__":
    main()
