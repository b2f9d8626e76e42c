"""What tests of the daemon's processes share: a configuration, handlers that misbehave, a look at /proc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.support.daemon import Daemon
from tests.support.waiting import until

HEAD = """
[daemon]
python_path = ["../app"]
shutdown_grace = "5s"
[defaults]
kill_grace = "400ms"
max_crashes = 3
backoff = { base = "20ms", factor = 1.0, max = "20ms", jitter = 0.0 }
"""

QUEUE = """
[queues.q]
handler = "tasks:run"
workers = 2
"""

TASKS = '''
import os, signal, subprocess, sys, time

def run(job):
    """Does what the payload says, in order."""
    payload = job.payload or {}
    for verb, value in payload.items():
        VERBS[verb](value)
    return {"pid": os.getpid(), "ppid": os.getppid()}

def sleep(seconds):
    time.sleep(seconds)

def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.005)

def stubborn(_):
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass

def deaf(_):
    """Holds the interpreter in C: no signal handler written in Python ever runs."""
    sum(range(10**13))

def kill(number):
    os.kill(os.getpid(), number)

def leave(code):
    os._exit(code)

def say(text):
    print(text)

def child(path):
    """A process that outlives its parent and ignores what can be ignored, in the worker's session."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    with open(path, "w") as file:
        file.write(str(subprocess.Popen([sys.executable, "-c", code]).pid))

def escape(path):
    """The same, in a session of its own, its parent gone."""
    code = (
        "import os, sys, time\\n"
        "if os.fork(): os._exit(0)\\n"
        "os.setsid()\\n"
        "open(sys.argv[1], 'w').write(str(os.getpid()))\\n"
        "time.sleep(600)"
    )
    subprocess.run([sys.executable, "-c", code, path])

def touch(path):
    open(path, "w").close()

VERBS = {f.__name__: f for f in (sleep, wait_for, stubborn, deaf, kill, leave, say, child, escape, touch)}
'''


def a_daemon(path: Path, toml: str = QUEUE, **options: Any) -> Daemon:
    """A daemon on `toml`, its handlers `TASKS` and those of `app`."""
    app = {"tasks.py": TASKS} | options.pop("app", {})
    return Daemon(path, HEAD + toml, app=app, **options)


def workers(daemon: Daemon, queue: str = "q", state: str | None = None) -> dict[int, int]:
    """Slot -> pid of a queue's workers, as `jobsctl workers` shows them."""
    rows = daemon.ctl("workers", "--json").lines
    return {row["slot"]: row["pid"] for row in rows if row["queue"] == queue and state in (None, row["state"])}


def node(daemon: Daemon, path: str) -> dict[str, Any]:
    """One process as `jobsctl tree` shows it."""
    found: dict[str, Any] = next(row for row in daemon.ctl("tree", "--json").lines if row["path"] == f"jobsupd/{path}")
    return found


def queue_status(daemon: Daemon, queue: str = "q") -> dict[str, Any]:
    """One queue as `jobsctl status` shows it."""
    found: dict[str, Any] = daemon.ctl("status", "--json").json["queues"][queue]
    return found


def status_field(pid: int, name: str) -> str:
    """A field of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:"))


def zombies_of(pid: int) -> list[int]:
    """Dead children of a process that it has not reaped."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] == "Z" and int(fields[1]) == pid:
            found.append(int(name))
    return found


def running(daemon: Daemon, job: int) -> int:
    """Wait until a worker is at the job; the worker's pid."""

    def at_work() -> int | None:
        shown = daemon.job(job)
        return shown["worker"]["pid"] if shown["state"] == "running" and shown["worker"] else None

    pid = until(at_work, 10, f"job {job} at work")
    assert pid is not None
    return pid


def pid_in(path: Path) -> int:
    """The pid that a job wrote into a file."""
    return int(until(lambda: path.exists() and path.read_text(), 10, f"a pid in {path}"))
