"""What a daemon costs that has nothing to do: the CPU time of all its processes, ten pools of four idle workers.

python -m benchmarks.idle [--seconds N] [--json]
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks.report import Report, parser, workplace
from tests.support.daemon import Daemon

POOLS, WORKERS = 10, 4
SHARE_MAX_PERCENT = 0.5
SETTLE_S = 3.0
"""What follows a start (first checkpoint, first look at everything) is not idling."""
APP = {"noop.py": "def run(job):\n    return None\n"}


def main() -> None:
    """Measure, print."""
    given = parser(__doc__ or "")
    given.add_argument("--seconds", type=float, default=60, help="how long to watch (%(default)s)")
    options = given.parse_args()
    with workplace(options.dir) as name:
        report = measure(Path(name), options.seconds)
        report.print(Path(name), as_json=options.json)


def measure(folder: Path, seconds: float) -> Report:
    """Watch a daemon that has been left alone for a while; no process may come or go meanwhile.

    The sleeps are what is measured: there is no event to wait for where nothing happens.
    """
    with Daemon(folder, _toml(), app=APP) as daemon:
        time.sleep(SETTLE_S)
        before, begun = _cpu_ns(daemon), time.perf_counter()
        time.sleep(seconds)
        after, watched_s = _cpu_ns(daemon), time.perf_counter() - begun
    assert before.keys() == after.keys(), f"processes came or went: {before.keys() ^ after.keys()}"
    used = {pid: after[pid] - before[pid] for pid in after}
    share = sum(used.values()) / 1e9 / watched_s * 100
    report = Report("idle", f"idle: {POOLS} pools of {WORKERS} workers, {len(used)} processes, {watched_s:.0f} s")
    report.samples = {"cpu_ms": {pid: spent / 1e6 for pid, spent in used.items()}}
    busiest = max(used.values()) / 1e9 / watched_s * 100
    aim = f"less than {SHARE_MAX_PERCENT} % of a core"
    report.add("all processes", share, "%", "of one core", aim=aim, met=share < SHARE_MAX_PERCENT)
    report.add("the busiest process", busiest, "%", "of one core")
    return report


def _toml() -> str:
    queues = "".join(f'[queues.pool{number}]\nhandler = "noop:run"\n' for number in range(POOLS))
    return f'[daemon]\npython_path = ["../app"]\n[defaults]\nworkers = {WORKERS}\n{queues}'


def _cpu_ns(daemon: Daemon) -> dict[int, int]:
    """CPU time of every process of the daemon, to the nanosecond; clock ticks are too coarse for this."""
    return {pid: _spent_ns(pid) for pid in daemon.survivors()}


def _spent_ns(pid: int) -> int:
    return sum(
        int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0])
        for thread in os.listdir(f"/proc/{pid}/task")
    )


if __name__ == "__main__":
    main()
