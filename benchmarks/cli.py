"""What `jobsctl enqueue` costs as a whole process, beside a Python that does nothing.

python -m benchmarks.cli [--runs N] [--json]
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import Report, median, parser, percentile, workplace
from tests.support.daemon import Daemon, environment

ABOVE_MAX_MS = 60
TOML = """
[daemon]
python_path = ["../app"]
[queues.noop]
handler = "noop:run"
"""
APP = {"noop.py": "def run(job):\n    return None\n"}


def main() -> None:
    """Measure, print."""
    given = parser(__doc__ or "")
    given.add_argument("--runs", type=int, default=100, help="runs of each, in turn (%(default)s)")
    options = given.parse_args()
    with workplace(options.dir) as name:
        report = measure(Path(name), options.runs)
        report.print(Path(name), as_json=options.json)


def measure(folder: Path, runs: int) -> Report:
    """Both in turn, so that whatever else the machine does falls on both alike."""
    script = Path(sys.executable).with_name("jobsctl")
    jobsctl = [str(script)] if script.exists() else [sys.executable, "-m", "supervisor.cli.jobsctl"]
    nothing, enqueue = [], []
    with Daemon(folder, TOML, app=APP) as daemon:
        command = [*jobsctl, "-c", str(daemon.config), "enqueue", "noop", '{"to": "someone@example.com"}']
        for number in range(-3, runs):
            empty_ms, full_ms = _run_ms([sys.executable, "-c", "pass"], folder), _run_ms(command, folder)
            if number >= 0:
                nothing.append(empty_ms)
                enqueue.append(full_ms)
    report = Report("cli", f"cli: whole processes, {runs} runs each; {' '.join(jobsctl[-2:])} enqueue against a daemon")
    report.samples = {"pass_ms": nothing, "enqueue_ms": enqueue}
    above = median(enqueue) - median(nothing)
    report.add("python -c pass p50", median(nothing), "ms", f"p99 {percentile(nothing, 99):.0f} ms")
    report.add("jobsctl enqueue p50", median(enqueue), "ms", f"p99 {percentile(enqueue, 99):.0f} ms")
    report.add("above python -c pass", above, "ms", aim=f"at most {ABOVE_MAX_MS} ms", met=above <= ABOVE_MAX_MS)
    return report


def _run_ms(command: Sequence[str], folder: Path) -> float:
    env = environment()
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # as users have it: the first run leaves compiled files behind
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, env=env)
    return (time.perf_counter() - begun) * 1000


if __name__ == "__main__":
    main()
