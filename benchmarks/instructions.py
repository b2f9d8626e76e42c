"""How many instructions a no-op job takes in the keeper and in the workers: exact where times are noisy.

    python -m benchmarks.instructions [--beside TREE] [--jobs N] [--json]

A real jobsupd drains a few and then many jobs under valgrind's callgrind; the difference is what a job takes, without
starts and stops. With `--beside`, another checkout of jobsup is counted too, and this one is compared with it. Needs
`valgrind` (`apt install valgrind`); `counted/sitecustomize.py` says what is done about what it cannot do.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.drain import APP, PAYLOAD, TOML
from benchmarks.report import Report, parser, workplace
from tests.support.daemon import Site

HERE = Path(__file__).resolve().parent
COUNTED = HERE / "counted"
SLOWER = 40
"""How much longer things take under callgrind, roughly; the clocks of what is counted go as much slower."""
FEW = 2_000
GROUP = 1_000
ROLES = ("keeper", "worker")
POLL_S = 0.5
"""Between looks from outside: whoever waited in the daemon itself would be counted."""
TIMEOUT_S = 600.0
SUMMARY = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)
PATIENT = 'boot_timeout = "10m"\ntimeout = "1h"\n'

FILL = """
import json, sys
from supervisor.client import Client
with Client(sys.argv[1], timeout=60) as client:
    client.request("pause", queue="noop")
    for start in range(0, int(sys.argv[2]), int(sys.argv[3])):
        client.enqueue_many("noop", [json.loads(sys.argv[4])] * min(int(sys.argv[3]), int(sys.argv[2]) - start))
"""
"""Run by the tree that is counted: only it knows its database."""


def main() -> None:
    """Count, print."""
    given = parser(__doc__ or "")
    given.add_argument("--jobs", type=int, default=20_000, help="jobs whose instructions are counted (%(default)s)")
    given.add_argument("--beside", metavar="TREE", help="another checkout, which is counted too")
    options = given.parse_args()
    if not shutil.which("valgrind"):
        sys.exit("benchmarks.instructions: there is no valgrind: apt install valgrind")
    with workplace(options.dir) as name, pidfds(Path(name) / "pidfds"):
        folder = Path(name)
        report = measure(folder, options.jobs, Path(options.beside).resolve() if options.beside else None)
        report.print(folder, as_json=options.json)


def measure(folder: Path, jobs: int, beside: Path | None) -> Report:
    """Both trees, the short and the long drain of each."""
    report = Report("instructions", f"instructions: of a no-op job, by callgrind, over {jobs:,} jobs")
    ours = per_job(folder / "this", HERE.parent, jobs)
    theirs = per_job(folder / "beside", beside, jobs) if beside else {}
    for role in ROLES:
        note = f"{ours[role] / theirs[role]:.3f} of the {theirs[role]:,.0f} beside it" if theirs else ""
        report.add(role, ours[role], "per job", note)
    report.samples = {"this": ours, "beside": theirs}
    return report


def per_job(folder: Path, tree: Path, jobs: int) -> dict[str, float]:
    """Instructions per job and role."""
    few, many = (counted(folder / str(count), tree, count) for count in (FEW, FEW + jobs))
    return {role: (many[role] - few[role]) / jobs for role in ROLES}


def counted(folder: Path, tree: Path, jobs: int) -> Counter[str]:
    """Instructions of each role of a jobsupd that starts, drains so many jobs and stops."""
    site = Site(folder, TOML + PATIENT, app=APP)
    run = Run(site, tree, folder)
    with run.daemon([]):
        words = (str(site.config), str(jobs), str(GROUP), json.dumps(PAYLOAD))
        _until(lambda: run.python("-c", FILL, *words).returncode == 0, "the jobs are in")
    callgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/counted.%p"]
    with run.daemon(callgrind, {"COUNTED_PIDFDS": str(folder.parent.parent / "pidfds"), "COUNTED_SLOWER": str(SLOWER)}):
        _until(lambda: len(run.pids("worker")) == 2, "two workers are ready")
        roles = {pid: role for role in ROLES for pid in run.pids(role)}
        run.ctl("resume", "noop")
        _until(lambda: run.ctl("status", "--json")[0]["queues"]["noop"]["completed"] >= jobs, "all jobs are done")
    found: Counter[str] = Counter()
    for file in folder.glob("counted.*"):
        found[roles.get(int(file.suffix[1:]), "other")] += int(SUMMARY.findall(file.read_text())[-1])
    return found


class Run:
    """Programs of one tree on one site."""

    def __init__(self, site: Site, tree: Path, folder: Path) -> None:
        self._site = site
        self._log = folder / "log"
        self._env = os.environ | {"PYTHONPATH": f"{tree}{os.pathsep}{COUNTED}", "PYTHONHASHSEED": "0"}

    def python(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run Python to its end."""
        return subprocess.run(
            [sys.executable, *words], env=self._env, cwd=self._site.path, capture_output=True, text=True, check=False
        )

    def ctl(self, *words: str) -> list[Any]:
        """Run jobsctl to its end; the JSON that it printed."""
        ran = self.python("-m", "supervisor.cli.jobsctl", "-c", str(self._site.config), *words)
        return [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]

    def pids(self, role: str) -> list[int]:
        """The processes of a role that are ready; none while no daemon answers."""
        rows = self.ctl("tree", "--json")
        return [row["pid"] for row in rows if row.get("role") == role and row["state"] in {"ready", "busy"}]

    @contextmanager
    def daemon(self, prefix: list[str], env: dict[str, str] | None = None) -> Iterator[None]:
        """A jobsupd that is stopped in the end."""
        words = [*prefix, sys.executable, "-m", "supervisor.cli.jobsupd", "-c", str(self._site.config)]
        with self._log.open("ab") as log, subprocess.Popen(
            words, env=self._env | (env or {}), cwd=self._site.path, stdout=log, stderr=log
        ) as process:  # fmt: skip
            try:
                yield
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(TIMEOUT_S)


@contextmanager
def pidfds(path: Path) -> Iterator[None]:
    """Answer with a pidfd for each pid that is asked for at a socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen(64)
        threading.Thread(target=_answer, args=(listener,), daemon=True).start()
        yield


def _answer(listener: socket.socket) -> None:
    while True:
        asking, _ = listener.accept()
        with asking:
            try:
                pidfd = os.pidfd_open(int(asking.recv(64)))
            except OSError as error:
                asking.send(str(error.errno).encode())
                continue
            socket.send_fds(asking, [b"0"], [pidfd])
            os.close(pidfd)


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"benchmarks.instructions: gave up waiting until {what}")
        time.sleep(POLL_S)


if __name__ == "__main__":
    main()
