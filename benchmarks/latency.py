"""How soon an idle daemon begins a job: from the call of Client.enqueue to the handler's first line.

    python -m benchmarks.latency [--jobs N] [--json]

At full durability: the job is on disk before its worker has it. Beside it, what one fdatasync of a page takes on the
same disk, measured between the jobs.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

from benchmarks.disk import Disk
from benchmarks.report import Report, median, parser, percentile, workplace
from tests.support.daemon import Daemon

SYNCS_PER_JOB_MAX = 6
PAUSE_MAX_S = 0.005
"""Up to so long between jobs, at random: none may always meet the same phase of what the daemon does by the clock."""
TOML = """
[daemon]
python_path = ["../app"]
[queues.stamp]
handler = "stamp:run"
"""
APP = {"stamp.py": "import time\ndef run(job):\n    return time.perf_counter_ns()\n"}


def main() -> None:
    """Measure, print."""
    given = parser(__doc__ or "")
    given.add_argument("--jobs", type=int, default=1_000, help="jobs, one after the other (%(default)s)")
    options = given.parse_args()
    with workplace(options.dir) as name:
        report = measure(Path(name), options.jobs)
        report.print(Path(name), as_json=options.json)


def measure(folder: Path, jobs: int) -> Report:
    """Each job is begun, ended and followed by a pause before the next is enqueued."""
    begun_ms, acknowledged_ms, syncs = [], [], []
    disk = Disk(folder)
    with Daemon(folder, TOML, app=APP) as daemon, daemon.client() as client:
        for _ in range(20):
            client.wait(client.enqueue("stamp"), timeout=30)
        for _ in range(jobs):
            called_ns = time.perf_counter_ns()
            job_id = client.enqueue("stamp", {"to": "someone@example.com"})
            acknowledged_ms.append((time.perf_counter_ns() - called_ns) / 1e6)
            begun_ms.append((client.wait(job_id, timeout=30)["result"] - called_ns) / 1e6)
            syncs.append(disk.sync_ms())
            time.sleep(random.uniform(0, PAUSE_MAX_S))
    disk.close()
    report = Report("latency", f"latency: Client.enqueue to the handler's start, idle daemon, {jobs:,} jobs")
    report.samples = {"start_ms": begun_ms, "acknowledged_ms": acknowledged_ms, "fdatasync_ms": syncs}
    sync, start = median(syncs), median(begun_ms)
    report.add("fdatasync p50", sync, "ms", f"p99 {percentile(syncs, 99):.2f} ms, of one page")
    limit = max(1.5, SYNCS_PER_JOB_MAX * sync)
    aim = f"at most 1.5 ms, or {SYNCS_PER_JOB_MAX} fdatasyncs if that is more ({limit:.2f} ms)"
    report.add("handler's start p50", start, "ms", f"{start / sync:.1f} fdatasyncs", aim=aim, met=start <= limit)
    report.add("handler's start p99", percentile(begun_ms, 99), "ms", f"max {max(begun_ms):.2f} ms")
    report.add("acknowledgement p50", median(acknowledged_ms), "ms", f"p99 {percentile(acknowledged_ms, 99):.2f} ms")
    return report


if __name__ == "__main__":
    main()
