"""What fetches cost that wait, and how soon one is answered when a job comes.

    python -m benchmarks.pull [--fetches N] [--seconds N] [--jobs N] [--json]

One keeper, once with nobody and once with all of the fetches waiting: its CPU time and how often it wakes up. Then
jobs, one after the other: from the call of Client.enqueue to the answer of a fetch, and from the acknowledgement, which
says that the job is on disk. At the end, what a consumer fetches and acknowledges in a second.
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import time
from pathlib import Path
from typing import Any

from benchmarks.disk import Disk
from benchmarks.report import Report, median, parser, percentile, workplace
from tests.support.daemon import Daemon

TOML = "[queues.pull]\npull = true\n"
EACH = 10
"""Fetches on one connection."""
WAKE_MAX_MS = 10.0
COST_MAX_PERCENT = 0.1
SETTLE_S = 7.0
"""What follows a start and a burst of requests (the checkpoint of an idle database) is not idling."""
PAUSE_S = 0.002
"""Between jobs: each is to find the daemon as it is when nothing else has just come."""
BATCH = 64


class Waiting:
    """Fetches that wait, on connections of their own; each is asked again when it was answered."""

    def __init__(self, path: str, fetches: int) -> None:
        self.selector = selectors.DefaultSelector()
        self.number = 0
        for _ in range(0, fetches, EACH):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(path)
            for _ in range(EACH):
                self.fetch(sock)
            self.selector.register(sock, selectors.EVENT_READ)

    def fetch(self, sock: socket.socket) -> None:
        """Let another fetch wait."""
        self.number += 1
        members = {"queue": "pull", "wait_ms": 86_400_000, "lease_ms": 86_400_000}
        body = json.dumps({"v": 1, "id": self.number, "op": "fetch", **members}).encode()
        sock.sendall(struct.pack(">I", len(body)) + body)

    def answered(self) -> tuple[int, dict[str, Any]]:
        """When one is answered, in nanoseconds, and the job that it got."""
        key, _ = self.selector.select()[0]
        at_ns = time.perf_counter_ns()
        sock: Any = key.fileobj
        (size,) = struct.unpack(">I", _exactly(sock, 4))
        reply = json.loads(_exactly(sock, size))
        self.fetch(sock)
        return at_ns, reply["ok"]["jobs"][0]

    def close(self) -> None:
        """All of them are gone."""
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr] # they are sockets


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += sock.recv(size - len(data))
    return data


def main() -> None:
    """Measure, print."""
    given = parser(__doc__ or "")
    given.add_argument("--fetches", type=int, default=1_000, help="that wait (%(default)s)")
    given.add_argument("--seconds", type=float, default=20, help="how long to watch each time (%(default)s)")
    given.add_argument("--jobs", type=int, default=1_000, help="one after the other (%(default)s)")
    options = given.parse_args()
    with workplace(options.dir) as name:
        report = measure(Path(name), options.fetches, options.seconds, options.jobs)
        report.print(Path(name), as_json=options.json)


def measure(folder: Path, fetches: int, seconds: float, jobs: int) -> Report:
    """Idle with nobody, idle with all of them, then job after job."""
    report = Report("pull", f"pull: {fetches:,} fetches that wait, {jobs:,} jobs")
    with Daemon(folder, TOML) as daemon, daemon.client() as client:
        (keeper,) = [node["pid"] for node in client.request("tree")["tree"] if node["role"] == "keeper"]
        alone = _watched(keeper, seconds)
        waiting = Waiting(str(daemon.socket), fetches)
        daemon.wait_for(lambda: len(client.consumers()) == fetches, what="all fetches")
        beside = _watched(keeper, seconds)
        woken_ms, acknowledged_ms, syncs = _woken(folder, client, waiting, jobs)
        waiting.close()
        per_second = _drained(client, jobs)
    cost, wakes = beside[0] - alone[0], beside[1] - alone[1]
    aim = f"less than {COST_MAX_PERCENT} %"
    report.add("CPU of the keeper, nobody waits", alone[0], "%", f"{alone[1]:.2f} wake-ups a second")
    report.add("CPU that the fetches add", cost, "%", "of one core", aim=aim, met=cost < COST_MAX_PERCENT)
    report.add("wake-ups that they add", wakes, "a second", "", aim="less than 0.5", met=wakes < 0.5)
    after = [max(0.0, woken - known) for woken, known in zip(woken_ms, acknowledged_ms, strict=True)]
    report.samples = {"woken_ms": woken_ms, "acknowledged_ms": acknowledged_ms, "fdatasync_ms": syncs}
    report.add("fdatasync p50", median(syncs), "ms", f"p99 {percentile(syncs, 99):.2f} ms, of one page")
    report.add("enqueue to a fetch's answer p50", median(woken_ms), "ms", f"p99 {percentile(woken_ms, 99):.2f} ms")
    slow = percentile(after, 99)
    aim = f"at most {WAKE_MAX_MS:g} ms"
    report.add(
        "commit to a fetch's answer p99", slow, "ms", f"max {max(after):.2f} ms", aim=aim, met=slow <= WAKE_MAX_MS
    )
    report.add(f"fetched by {BATCH}, acknowledged one by one", per_second, "jobs/s", "one consumer")
    return report


def _watched(pid: int, seconds: float) -> tuple[float, float]:
    """Per cent of a core, and wake-ups in a second. The sleeps are what is measured: nothing happens."""
    time.sleep(min(SETTLE_S, seconds))
    before, begun = _spent(pid), time.perf_counter()
    time.sleep(seconds)
    after, watched_s = _spent(pid), time.perf_counter() - begun
    return (after[0] - before[0]) / 1e9 / watched_s * 100, (after[1] - before[1]) / watched_s


def _spent(pid: int) -> tuple[int, int]:
    """CPU time in nanoseconds, and how often it has slept."""
    status = Path(f"/proc/{pid}/status").read_text()
    slept = next(line for line in status.splitlines() if line.startswith("voluntary_ctxt_switches"))
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]), int(slept.split()[1])


def _woken(folder: Path, client: Any, waiting: Waiting, jobs: int) -> tuple[list[float], list[float], list[float]]:
    """Each job is answered before the next is enqueued, after a pause."""
    woken_ms, acknowledged_ms, syncs = [], [], []
    disk = Disk(folder)
    for _ in range(jobs):
        called_ns = time.perf_counter_ns()
        client.enqueue("pull", {"to": "someone@example.com"})
        acknowledged_ms.append((time.perf_counter_ns() - called_ns) / 1e6)
        at_ns, job = waiting.answered()
        woken_ms.append((at_ns - called_ns) / 1e6)
        client.ack(job["id"], job["token"])
        syncs.append(disk.sync_ms())
        time.sleep(PAUSE_S)
    disk.close()
    return woken_ms, acknowledged_ms, syncs


def _drained(client: Any, jobs: int) -> float:
    """Jobs in a second of one consumer that fetches many at once."""
    client.enqueue_many("pull", [{"number": number} for number in range(jobs)])
    begun = time.perf_counter()
    while found := client.fetch("pull", BATCH, wait=0):
        for job in found:
            client.ack(job["id"], job["token"])
    return jobs / (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
