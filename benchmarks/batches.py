"""How fast a full queue of batches is drained beside one whose handler takes a job at a time, in one run.

    python -m benchmarks.batches [--jobs N] [--size N] [--rounds N] [--json]

A real jobsupd with two workers and no-op handlers; the jobs are enqueued while the queue is paused, and the time runs
from `resume` to the last completion. What batches are for is work that costs less together: this is what they cost by
themselves.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.drain import QUEUE, WORKERS, drain_per_s
from benchmarks.report import Report, median, parser, workplace

APP = {"noop.py": "def together(jobs):\n    return [None] * len(jobs)\n"}
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
        plain.append(drain_per_s(folder / f"plain{number}", jobs))
        batched = f'{QUEUE}handler = "noop:together"\nbatch_size = {size}\n'
        together.append(drain_per_s(folder / f"batch{number}", jobs, batched, APP))
    report = Report("batches", f"{jobs:,} jobs drained, one by one and in batches of {size}")
    share = median([one / other for one, other in zip(together, plain, strict=True)])
    report.add("one by one", median(plain), "jobs/s", f"{WORKERS} workers, no-op handler")
    note = f"{share:.2f} of that, in the same round"
    report.add("in batches", median(together), "jobs/s", note, aim=f"at least {SHARE_MIN}", met=share >= SHARE_MIN)
    return report


if __name__ == "__main__":
    main()
