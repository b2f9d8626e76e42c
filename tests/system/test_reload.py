"""Editing TOML and reloading: pools are added, changed and removed while jobs run, and others are not touched."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from supervisor.client import Client
from tests.support.daemon import Daemon
from tests.support.waiting import until

HEAD = '[daemon]\npython_path = ["../app"]\nshutdown_grace = "5s"\n'
KEPT = '[queues.kept]\nhandler = "jobs:gate"\nworkers = 2\n'
APP = {
    "jobs.py": """
import os, select

def gate(job):
    "Run until the named pipe is opened for writing: the test says when."
    if job.payload:
        with open(job.payload["gate"]) as pipe:
            pipe.read()
    return os.getpid()

def answer(job):
    return "first"

def other(job):
    return "second"
"""
}


def pids(daemon: Daemon, queue: str) -> set[int]:
    return {worker["pid"] for worker in daemon.ctl("workers", "--json").lines if worker["queue"] == queue}


def test_a_reload_adds_changes_and_removes_queues_while_jobs_run(tmp_path: Path) -> None:
    first = HEAD + KEPT + '[queues.changed]\nhandler = "jobs:answer"\n[queues.removed]\nhandler = "jobs:answer"\n'
    with Daemon(tmp_path, first, app=APP) as daemon:
        gates = [tmp_path / "gate0", tmp_path / "gate1"]
        for gate in gates:
            os.mkfifo(gate)
        running = [daemon.enqueue("kept", {"gate": str(gate)}) for gate in gates]
        for job_id in running:
            until(lambda job_id=job_id: daemon.job(job_id)["worker"], what="a worker at the job")
        before = pids(daemon, "kept")
        done = daemon.enqueue("removed", {})
        daemon.wait_state(done, "completed")

        second = HEAD + KEPT + '[queues.changed]\nhandler = "jobs:other"\n[queues.added]\nhandler = "jobs:answer"\n'
        daemon.configure(second)
        reloaded = daemon.ctl("reload", "--json")
        assert (reloaded.status, reloaded.json["added"]) == (0, ["added"])
        assert (reloaded.json["removed"], reloaded.json["changed"]) == (["removed"], ["changed"])

        added = daemon.enqueue("added", {})
        changed = daemon.enqueue("changed", {})
        assert daemon.wait_state(added, "completed")["result"] == "first"
        until(lambda: daemon.job(changed)["state"] == "completed", what="the job of the changed queue")
        late = daemon.enqueue("changed", {})
        assert daemon.wait_state(late, "completed")["result"] == "second"
        refused = daemon.ctl("enqueue", "removed", "{}")
        assert refused.status == 3
        assert daemon.job(done)["state"] == "completed"

        assert pids(daemon, "kept") == before
        for gate in gates:
            gate.write_text("go")
        for job_id in running:
            job = daemon.wait_state(job_id, "completed")
            assert job["result"] in before
            assert (job["attempt"], job["failures"], job["crashes"], job["interruptions"]) == (1, 0, 0, 0)


def test_a_queue_that_left_the_file_can_be_resumed_and_moved(tmp_path: Path) -> None:
    gone = '[queues.gone]\nhandler = "jobs:answer"\n'
    with Daemon(tmp_path, HEAD + KEPT + gone, app=APP) as daemon:
        daemon.ctl("pause", "gone")
        job_id = daemon.enqueue("gone", {})
        daemon.configure(HEAD + KEPT)
        daemon.ctl("reload")
        assert daemon.ctl("resume", "gone").status == 0
        daemon.configure(HEAD + KEPT + gone)
        daemon.ctl("reload")
        assert daemon.wait_state(job_id, "completed")["result"] == "first"


def test_the_name_of_a_pool_is_no_queue_and_the_error_says_what_it_is(tmp_path: Path) -> None:
    toml = HEAD + '[queues.a]\n[queues.b]\n[pools.shared]\nhandler = "jobs:answer"\nsources = ["a", "b"]\n'
    with Daemon(tmp_path, toml, app=APP) as daemon:
        ran = daemon.ctl("enqueue", "shared", "{}")
        assert (ran.status, "that is a pool; it draws from a, b" in ran.err) == (3, True)


def test_a_reload_changes_a_pool_of_several_queues(tmp_path: Path) -> None:
    """What the keeper reads, and the number of workers, touch nobody; another handler restarts it."""
    queues = HEAD + "[queues.a]\n[queues.b]\n[pools.shared]\n"
    first = queues + 'handler = "jobs:answer"\nworkers = 1\nsources = { a = 1, b = 1 }\n'
    with Daemon(tmp_path, first, app=APP) as daemon:
        (pid,) = until(lambda: pids(daemon, "shared"))
        for toml in (
            queues + 'handler = "jobs:answer"\nworkers = 1\nsources = { a = 1, b = 5 }\n',
            queues + 'handler = "jobs:answer"\nworkers = 2\nsources = { a = 1, b = 5 }\n',
        ):
            daemon.configure(toml)
            assert daemon.ctl("reload").out == "retuned\tshared\n"
            assert daemon.wait_state(daemon.enqueue("b", {}), "completed")["result"] == "first"
        assert until(lambda: found if len(found := pids(daemon, "shared")) == 2 else None) > {pid}
        daemon.configure(queues + 'handler = "jobs:other"\nworkers = 2\nsources = { a = 1, b = 5 }\n')
        assert daemon.ctl("reload").out == "changed\tshared\n"
        assert daemon.wait_state(daemon.enqueue("b", {}), "completed")["result"] == "second"


def test_a_reload_names_other_tables_that_are_in_force_as_they_read_now(tmp_path: Path) -> None:
    first = HEAD + KEPT + '[limits.api]\nconcurrency = 1\n[schedules.nightly]\nqueue = "kept"\nevery = "1h"\n'
    with Daemon(tmp_path, first, app=APP) as daemon:
        daemon.configure(HEAD + KEPT + '[limits.api]\nconcurrency = 2\n[alerts]\ncommand = ["true"]\n')
        assert daemon.ctl("reload").out == "settings\talerts\nsettings\tlimits.api\nsettings\tschedules.nightly\n"


def test_a_bad_file_changes_nothing_and_status_says_so(tmp_path: Path) -> None:
    with Daemon(tmp_path, HEAD + KEPT, app=APP) as daemon:
        before = pids(daemon, "kept")
        daemon.configure(HEAD + KEPT + "[queues.kept2]\nhandlr = 1\n")
        refused = daemon.ctl("reload")
        assert refused.status == 2
        assert "did you mean handler" in refused.err
        assert "did you mean handler" in daemon.ctl("status", "--json").json["daemon"]["reload_error"]
        assert pids(daemon, "kept") == before
        assert daemon.wait_state(daemon.enqueue("kept", None), "completed")["attempt"] == 1

        daemon.configure(HEAD + KEPT)
        assert daemon.ctl("reload").status == 0
        assert daemon.ctl("status", "--json").json["daemon"]["reload_error"] is None


def test_a_running_worker_tells_its_jobs_the_attempts_that_count(tmp_path: Path) -> None:
    """The keeper decides by the new number at once: a handler that asks whether this is the last try must know it."""
    app = {"jobs.py": "import os\ndef run(job):\n    return [os.getpid(), job.max_attempts]\n"}
    queue = '[queues.q]\nhandler = "jobs:run"\nworkers = 1\nmax_attempts = '
    with Daemon(tmp_path, f"{HEAD}{queue}3\n", app=app) as daemon:
        pid, told = daemon.wait_state(daemon.enqueue("q", {}), "completed")["result"]
        assert told == 3
        daemon.configure(f"{HEAD}{queue}9\n")
        assert daemon.ctl("reload", "--json").json["changed"] == []
        assert daemon.wait_state(daemon.enqueue("q", {}), "completed")["result"] == [pid, 9]
        own = daemon.enqueue("q", {}, "--max-attempts", 2)
        assert daemon.wait_state(own, "completed")["result"] == [pid, 2]


def test_what_is_fixed_stays_in_force_also_for_what_is_started_later(tmp_path: Path) -> None:
    """A keeper that is started after the reload opens the database whose lock is held, not the one in the file."""
    with Daemon(tmp_path, HEAD + KEPT, app=APP) as daemon:
        job = daemon.enqueue("kept", None, "--delay", "1h")
        elsewhere = tmp_path / "var" / "elsewhere.db"
        fixed = f'database = "{elsewhere}"\ndurability = "relaxed"\nrun_dir = "{tmp_path / "other"}"\n'
        daemon.configure(HEAD + fixed + KEPT + '[log]\nlevel = "error"\n')
        with Client(socket=str(daemon.socket)) as client:
            daemon.signal(signal.SIGHUP)
            until(lambda: "reloaded" in daemon.log)
            keeper = next(one["pid"] for one in client.request("tree")["tree"] if one["role"] == "keeper")
            os.kill(keeper, signal.SIGKILL)
            assert client.status(job)["state"] == "scheduled"
            again = client.request("reload")
            assert [line for line in again["warnings"] if "after a restart" in line] == [
                f"{key} takes effect after a restart"
                for key in ("daemon.database", "daemon.run_dir", "daemon.durability", "log.level")
            ]
            daemon.configure(HEAD + KEPT)
            assert client.request("reload")["warnings"] == []
        assert daemon.stop() == 0
        assert not elsewhere.exists()
        assert not (tmp_path / "other").exists()


def test_a_reload_that_breaks_a_pool_says_so_and_fails(tmp_path: Path) -> None:
    changed = '[queues.changed]\nhandler = "jobs:{}"\n'
    with Daemon(tmp_path, HEAD + KEPT + changed.format("answer"), app=APP) as daemon:
        daemon.configure(HEAD + KEPT + changed.format("nothing") + '[queues.added]\nhandler = "nowhere:run"\n')
        reloaded = daemon.ctl("reload", "--json")
        assert reloaded.status == 1
        assert sorted(reloaded.json["broken"]) == ["added", "changed"]
        assert "changed: circuit open: jobs:nothing cannot be imported" in reloaded.err
        assert "    Traceback (most recent call last):" in reloaded.err.splitlines()
        daemon.configure(HEAD + KEPT + changed.format("neither"))  # mended, and no better: its pool had given up
        still = daemon.ctl("reload", "--json")
        assert (still.status, list(still.json["broken"])) == (1, ["changed"])
        assert "jobs:neither cannot be imported" in still.err
        daemon.configure(HEAD + KEPT + changed.format("other"))
        again = daemon.ctl("reload", "--json")
        assert (again.status, again.json["broken"]) == (0, {})
        assert daemon.wait_state(daemon.enqueue("changed", {}), "completed")["result"] == "second"


def test_another_python_path_restarts_what_imports_and_nothing_else(tmp_path: Path) -> None:
    tool = '[queues.tool]\ncommand = ["true"]\nworkers = 1\n'
    with Daemon(tmp_path, HEAD + KEPT + tool, app=APP) as daemon:
        (tmp_path / "more").mkdir()
        daemon.configure((HEAD + KEPT + tool).replace('["../app"]', '["../app", "../more"]'))
        assert daemon.ctl("reload", "--json").json["changed"] == ["kept"]


def test_a_reload_by_signal_does_the_same(tmp_path: Path) -> None:
    with Daemon(tmp_path, HEAD + KEPT, app=APP) as daemon:
        daemon.configure(HEAD + KEPT + '[queues.more]\nhandler = "jobs:answer"\n')
        daemon.signal(signal.SIGHUP)
        until(lambda: pids(daemon, "more"), what="workers of the new queue")
        assert daemon.wait_state(daemon.enqueue("more", {}), "completed")["result"] == "first"
