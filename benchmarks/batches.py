"""How fast a full queue of batches is drained beside one whose handler takes a job at a time, in one run.

    python -m benchmarks.batches [--jobs N] [--size N] [--rounds N] [--json]

A real jobsupd with two workers and no-op handlers; the jobs are enqueued while the queue is paused, and the time runs
from `resume` to the last completion. What batches are for is work that costs less together: this is what they cost by
themselves.
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.report import Report, median, parser, workplace
from tests.support.daemon import Daemon

WORKERS = 2
GROUP = 1_000
TIMEOUT_S = 300.0
POLL_S = 0.005
APP = {"noop.py": "def run(job):\n    return None\n\ndef together(jobs):\n    return [None] * len(jobs)\n"}
SHARE_MIN = 0.3
"""Of the plain queue's rate; the plain queue has its next jobs in hand while it runs others, a batch has not."""


def main() -> None:
    """Measure, print."""
    given = parser(__doc__ or "")
    given.add_argument("--jobs", type=int, default=50_000, help="jobs of each drain (%(default)s)")
    given.add_argument("--size", type=int, default=100, help="batch_size (%(default)s)")
    given.add_argument("--rounds", type=int, default=3, help="how often each is measured, in turn (%(default)s)")
    options = given.parse_args()
    with workplace(options.dir) as name:
        folder = Path(name)
        report = measure(folder, options.jobs, options.size, options.rounds)
        report.print(folder, as_json=options.json)


def measure(folder: Path, jobs: int, size: int, rounds: int) -> Report:
    """Both, in rounds, so that whatever else the machine does falls on each alike."""
    plain, together = [], []
    for number in range(rounds):
        plain.append(drain_per_s(folder / f"plain{number}", 'handler = "noop:run"', jobs))
        batched = f'handler = "noop:together"\nbatch_size = {size}'
        together.append(drain_per_s(folder / f"batch{number}", batched, jobs))
    report = Report("batches", f"{jobs:,} jobs drained, one by one and in batches of {size}")
    share = median([one / other for one, other in zip(together, plain, strict=True)])
    report.add("one by one", median(plain), "jobs/s", f"{WORKERS} workers, no-op handler")
    note = f"{share:.2f} of that, in the same round"
    report.add("in batches", median(together), "jobs/s", note, aim=f"at least {SHARE_MIN}", met=share >= SHARE_MIN)
    return report


def drain_per_s(folder: Path, runs: str, jobs: int) -> float:
    """Jobs per second of a real daemon, from `resume` to the last completion."""
    folder.mkdir()
    toml = f'[daemon]\npython_path = ["../app"]\n[queues.noop]\nworkers = {WORKERS}\n{runs}\n'
    with Daemon(folder, toml, app=APP) as daemon, daemon.client(timeout=TIMEOUT_S) as client:
        client.request("pause", queue="noop")
        for begin in range(0, jobs, GROUP):
            client.enqueue_many("noop", [None] * min(GROUP, jobs - begin))
        begun = time.perf_counter()
        client.request("resume", queue="noop")
        while client.status()["queues"]["noop"]["completed"] < jobs:
            time.sleep(POLL_S)
        return jobs / (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
