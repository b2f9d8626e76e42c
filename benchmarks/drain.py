"""How fast a full queue is drained: the raw limit of the store, jobsup, and Huey on SQLite, in one run.

    python -m benchmarks.drain [--jobs N] [--rounds N] [--json]

jobsup: a real jobsupd with two workers and a no-op handler; the jobs are enqueued while the queue is paused, and the
time runs from `resume` to the last completion. Then once more, while single jobs are enqueued one after another: how
long their acknowledgements take. Huey needs the extra `bench`.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import huey_drain, raw
from benchmarks.disk import Disk
from benchmarks.report import Report, median, parser, percentile, workplace
from supervisor.client import Client
from supervisor.shapes import QueueStatus
from tests.support.daemon import Daemon

WORKERS = 2
GROUP = 1_000
POLL_S = 0.005
"""Between looks at the counts: jobs end out of order, so no single one's end is the end of all."""
ACK_PAUSE_S = 0.002
"""Between enqueues: a client among others, not a load of its own."""
TIMEOUT_S = 300.0
PAYLOAD = {"to": "someone@example.com", "template": "welcome", "language": "en", "name": "Somebody", "campaign": 1234}
QUEUE = f"""
[daemon]
python_path = ["../app"]
[queues.noop]
workers = {WORKERS}
"""
TOML = QUEUE + 'handler = "noop:run"\n'
APP = {"noop.py": "def run(job):\n    return None\n"}


def main() -> None:
    """Measure, print."""
    given = parser(__doc__ or "")
    given.add_argument("--jobs", type=int, default=100_000, help="jobs for the raw limit and for jobsup (%(default)s)")
    given.add_argument("--huey-jobs", type=int, default=10_000, help="jobs for Huey (%(default)s)")
    given.add_argument("--rounds", type=int, default=3, help="how often each is measured, in turn (%(default)s)")
    options = given.parse_args()
    with workplace(options.dir) as name:
        folder = Path(name)
        report = measure(folder, options.jobs, options.huey_jobs, options.rounds)
        report.print(folder, as_json=options.json)


def measure(folder: Path, jobs: int, huey_jobs: int, rounds: int) -> Report:
    """All of it, in rounds, so that whatever else the machine does falls on each alike."""
    payload = _text(PAYLOAD)
    with_huey = importlib.util.find_spec("huey") is not None
    raws, ours, hueys, acks, syncs = [], [], [], [], []
    disk = Disk(folder)
    for number in range(rounds):
        place = folder / str(number)
        place.mkdir()
        syncs += [disk.sync_ms() for _ in range(50)]
        raws.append(raw.drain_per_s(place, payload, jobs))
        ours.append(drain_per_s(place / "drain", jobs))
        acks += acknowledgements_ms(place / "acks", jobs)
        if with_huey:
            hueys.append(huey_drain.drain_per_s(place, PAYLOAD, huey_jobs, WORKERS))
    disk.close()
    report = Report(
        "drain",
        f"drain: {jobs:,} no-op jobs with payloads of {len(payload)} bytes, {WORKERS} workers, every commit synced; "
        f"median of {rounds} rounds",
    )
    report.samples = {"raw": raws, "jobsup": ours, "huey": hueys, "acknowledgement_ms": acks}
    _add_rates(report, raws, ours, hueys)
    _add_acknowledgements(report, acks, syncs)
    return report


def _add_rates(report: Report, raws: list[float], ours: list[float], hueys: list[float]) -> None:
    report.add("raw limit", median(raws), "jobs/s", "one process, lease(256), complete in batches of 100, no sockets")
    share = median([our / limit for our, limit in zip(ours, raws, strict=True)])
    note = f"{share:.2f} of the raw limit of the same round"
    report.add("jobsup", median(ours), "jobs/s", note, aim="at least 0.40 of the raw limit", met=share >= 0.4)
    if not hueys:
        report.add("Huey on SQLite", 0, "jobs/s", "not measured: pip install '.[bench]'")
        return
    times = median([our / huey for our, huey in zip(ours, hueys, strict=True)])
    note = f"jobsup is {times:.0f} times as fast"
    report.add("Huey on SQLite", median(hueys), "jobs/s", note, aim="jobsup at least 12 times", met=times >= 12)


def _add_acknowledgements(report: Report, acks: list[float], syncs: list[float]) -> None:
    last = percentile(acks, 99)
    report.add("acknowledgement p50", median(acks), "ms", f"{len(acks)} single enqueues while the queue is drained")
    report.add("acknowledgement p99", last, "ms", f"max {max(acks):.1f} ms", aim="at most 15 ms", met=last <= 15)
    report.add("fdatasync p50", median(syncs), "ms", f"p99 {percentile(syncs, 99):.2f} ms, of one page, same disk")


def drain_per_s(folder: Path, jobs: int, toml: str = TOML, app: Mapping[str, str] = APP) -> float:
    """Jobs per second of a real daemon, from `resume` to the last completion."""
    with Daemon(folder, toml, app=app) as daemon, daemon.client(timeout=TIMEOUT_S) as client:
        last_id = fill(client, jobs)
        begun = time.perf_counter()
        client.request("resume", queue="noop")
        client.wait(last_id, timeout=TIMEOUT_S)
        while _counts(client)["completed"] < jobs:
            time.sleep(POLL_S)
        return jobs / (time.perf_counter() - begun)


def acknowledgements_ms(folder: Path, jobs: int) -> list[float]:
    """How long single enqueues took while the queue was drained."""
    taken: list[float] = []
    with Daemon(folder, TOML, app=APP) as daemon, daemon.client(timeout=TIMEOUT_S) as client:
        fill(client, jobs)
        client.request("resume", queue="noop")
        while len(taken) % 20 or _counts(client)["queued"]:
            begun = time.perf_counter()
            client.enqueue("noop", PAYLOAD)
            taken.append((time.perf_counter() - begun) * 1000)
            time.sleep(ACK_PAUSE_S)
    return taken[:-20] or taken


def fill(client: Client[int], jobs: int) -> int:
    """Enqueue the jobs while nothing takes them; the last one's id."""
    client.request("pause", queue="noop")
    last_id = 0
    for start in range(0, jobs, GROUP):
        last_id = client.enqueue_many("noop", [PAYLOAD] * min(GROUP, jobs - start))[-1]
    return last_id


def _counts(client: Client[int]) -> QueueStatus:
    return client.status()["queues"]["noop"]


def _text(payload: Any) -> bytes:
    import json

    return json.dumps(payload).encode()


if __name__ == "__main__":
    main()
