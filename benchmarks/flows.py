"""Flows against independent jobs: how long a graph of 10,000 steps takes to go in, and how fast it drains.

    python -m benchmarks.flows [--steps 10000] [--width 1000] [--rounds 9] [--batch 0]

Both drain in turns in one daemon, which has drained both once before: its workers and its caches are warm. A drain ends
with the last job's run, by the rows: to ask for the counts again and again would take a tenth of the keeper's time.
`--batch N` fills an open batch with N jobs and lets it end, and prints the keeper's memory before and after.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil

from supervisor.client import Client
from tests.support.daemon import Daemon

TOML = """
[daemon]
python_path = ["../app"]
[queues.q]
handler = "noop:run"
workers = 2
[queues.told]
handler = "noop:run"
"""
POLL_S = 0.01
"""Between looks at the counts: jobs end out of order, so no single one's end is the end of all."""
LOOK_S = 0.2
"""Between looks at what tells nobody that it has grown: the keeper's memory, and rows."""
ENDED = "SELECT count(*), max(finished_at) FROM outcome WHERE id >= ? AND id < ?"
NOOP = "def run(job):\n    pass\n"


def graph(steps: int, width: int) -> dict[str, Any]:
    """Layers of so many steps, each of which comes after two of the layer before."""
    chosen = random.Random(1)
    made = []
    for number in range(steps):
        begin = (number // width - 1) * width
        after = {begin + chosen.randrange(width) for _ in range(2)} if begin >= 0 else ()
        made.append({"name": f"s{number}", "queue": "q", "after": [f"s{each}" for each in after]})
    return {"steps": made, "on_complete": {"queue": "told"}}


def wait_empty(client: Client[int], jobs: int) -> None:
    while client.request("status")["queues"]["q"]["completed"] < jobs:
        time.sleep(POLL_S)


def drained(daemon: Daemon, client: Client[int], first: int, jobs: int) -> float:
    """Seconds from now, when the queue is resumed, to the end of the last of so many jobs from this one on."""
    begun = time.time()
    client.request("resume", queue="q")
    with closing(sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True)) as rows:
        counted, last = 0, 0
        while counted < jobs:
            time.sleep(LOOK_S)
            counted, last = rows.execute(ENDED, (first, first + jobs)).fetchone()
    return float(last) / 1000 - begun


def plain_round(daemon: Daemon, client: Client[int], jobs: int) -> float:
    """Seconds that independent jobs take to drain."""
    client.request("pause", queue="q")
    return drained(daemon, client, client.enqueue_many("q", [None] * jobs)[0], jobs)


def flow_round(daemon: Daemon, client: Client[int], flow: dict[str, Any]) -> tuple[float, float]:
    """Seconds that a flow takes to go in, and then to drain."""
    client.request("pause", queue="q")
    begun = time.monotonic()
    flow_id = client.flows.start(flow)
    in_s = time.monotonic() - begun
    drain_s = drained(daemon, client, flow_id + 1, len(flow["steps"]))
    assert client.flows.wait(flow_id, 600)["state"] == "completed"
    return in_s, drain_s


def in_turns(folder: Path, steps: int, width: int, rounds: int) -> list[tuple[float, float, float]]:
    """Seconds: a flow to go in, then to drain; independent jobs to drain."""
    with Daemon(folder, TOML, app={"noop.py": NOOP}) as daemon, daemon.client(timeout=120) as client:
        flow = graph(steps, width)
        found = [(plain_round(daemon, client, steps), *flow_round(daemon, client, flow)) for _ in range(rounds + 1)]
        return [(in_s, drain_s, plain_s) for plain_s, in_s, drain_s in found[1:]]


def batch(folder: Path, jobs: int) -> None:
    """One batch of so many jobs, filled in groups while it runs."""
    with Daemon(folder, TOML, app={"noop.py": NOOP}) as daemon, daemon.client(timeout=120) as client:
        keeper = next(
            psutil.Process(node["pid"]) for node in client.request("tree")["tree"] if node["role"] == "keeper"
        )
        flow = client.flows.start({"steps": [], "on_complete": {"queue": "told"}}, open=True)
        before, most = keeper.memory_info().rss, 0
        begun = time.monotonic()
        group = {"steps": [{"queue": "q"}] * min(jobs, 10_000)}
        for _ in range(jobs // len(group["steps"])):
            client.flows.add(flow, group)
            most = max(most, keeper.memory_info().rss)
        client.flows.close(flow)
        while client.flows.show(flow)["state"] == "running":
            most = max(most, keeper.memory_info().rss)
            time.sleep(LOOK_S)
        took = time.monotonic() - begun
        shown = client.flows.show(flow)["jobs"]
        told = client.request("status")["queues"]["told"]
        print(f"{shown['completed']:,} jobs in {took:.1f} s ({shown['all'] / took:,.0f}/s), callbacks "
              f"{told['completed'] + told['queued'] + told['running']}, keeper {before / 2**20:.0f} MiB, "
              f"at most {most / 2**20:.0f} MiB")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.batch:
            batch(Path(folder), asked.batch)
            return
        rounds = in_turns(Path(folder), asked.steps, asked.width, asked.rounds)
    for in_s, drain_s, plain_s in rounds:
        ratio = plain_s / drain_s
        print(f"in {in_s:.2f} s, drained in {drain_s:.2f} s, independent jobs in {plain_s:.2f} s: {ratio:.2f}")
    ins, ratios = [each[0] for each in rounds], [plain / drain for _, drain, plain in rounds]
    median = statistics.median(ratios)
    print(f"median: in {statistics.median(ins):.2f} s, {median:.2f} of the speed of independent jobs")


if __name__ == "__main__":
    main()
