"""Clients that wait for jobs: how soon after its commit each is told, and what they cost while nothing happens.

python -m benchmarks.waiters [--waiters 1000] [--rounds 5] [--pace-ms 2]
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import socket
import statistics
import struct
import tempfile
import time
from datetime import datetime
from pathlib import Path

import psutil

from tests.support.daemon import Daemon

TOML = """
[daemon]
python_path = ["../app"]
[queues.q]
handler = "noop:run"
workers = 2
"""
NOOP = "import time\ndef run(job):\n    time.sleep(job.payload / 1000)\n"
"""A job that takes its time is what they wait for."""
SETTLE_S = 1.0
"""What follows so many connections is not idling."""
IDLE_S = 5.0
"""So long is looked at what idling costs: nothing happens in it that could be waited for."""
HEAD = struct.Struct(">I")


class Waiter:
    """One connection that waits for one job."""

    def __init__(self, path: str, job: int) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        asked = json.dumps({"v": 1, "id": 1, "op": "wait", "job": job, "timeout_ms": 600_000}).encode()
        self.sock.sendall(HEAD.pack(len(asked)) + asked)
        self.data = b""

    def told(self) -> str | None:
        """When its job had finished, once it is told."""
        self.data += self.sock.recv(1 << 16)
        if len(self.data) < 4 or len(self.data) < 4 + HEAD.unpack(self.data[:4])[0]:
            return None
        finished: str = json.loads(self.data[4:])["ok"]["finished_at"]
        return finished


def one_round(daemon: Daemon, waiters: int, pace_ms: float) -> tuple[list[float], float, int]:
    """Milliseconds from each job's end to its waiter; the keeper's CPU seconds and switches while nothing happened."""
    with daemon.client(timeout=60) as client:
        client.request("pause", queue="q")
        ids = client.enqueue_many("q", [pace_ms] * waiters)
        waiting = [Waiter(str(daemon.socket), job) for job in ids]
        keeper = next(psutil.Process(n["pid"]) for n in client.request("tree")["tree"] if n["role"] == "keeper")
        time.sleep(SETTLE_S)
        before = keeper.cpu_times(), keeper.num_ctx_switches().voluntary
        time.sleep(IDLE_S)
        after = keeper.cpu_times(), keeper.num_ctx_switches().voluntary
        with selectors.DefaultSelector() as selector:
            for waiter in waiting:
                selector.register(waiter.sock, selectors.EVENT_READ, waiter)
            client.request("resume", queue="q")
            took: list[float] = []
            while len(took) < waiters:
                for key, _ in selector.select():
                    at = time.time()
                    finished = key.data.told()
                    if finished is not None:
                        took.append((at - datetime.fromisoformat(finished).timestamp()) * 1000)
                        selector.unregister(key.fileobj)
        for waiter in waiting:
            waiter.sock.close()
    return took, sum(after[0][:2]) - sum(before[0][:2]), after[1] - before[1]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--waiters", type=int, default=1_000)
    parser.add_argument("--pace-ms", type=float, default=2.0, help="how long each job takes; 0: all end at once")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    os.environ.pop("JOBSUP_SOCKET", None)
    with (
        tempfile.TemporaryDirectory() as folder,
        Daemon(Path(folder), TOML, app={"noop.py": NOOP}) as daemon,
    ):
        worst = []
        for _ in range(asked.rounds):
            took, cpu_s, switches = one_round(daemon, asked.waiters, asked.pace_ms)
            took.sort()
            worst.append(took[int(len(took) * 0.99) - 1])
            print(f"told after p50 {statistics.median(took):.1f} ms, p99 {worst[-1]:.1f} ms; idle for {IDLE_S:g} s: "
                  f"{cpu_s * 1000:.0f} ms of CPU, {switches} wake-ups")  # fmt: skip
        print(f"median of p99: {statistics.median(worst):.1f} ms")


if __name__ == "__main__":
    main()
