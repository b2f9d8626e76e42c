"""A pool's life with a real daemon: deaths, deadlines, circuits, and what jobs leave behind."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.support.pools import (
    QUEUE,
    a_daemon,
    node,
    pid_in,
    queue_status,
    running,
    status_field,
    workers,
    zombies_of,
)
from tests.support.waiting import alive, until

# --- deaths -------------------------------------------------------------------------------------------------


def test_a_killed_worker_is_replaced_and_its_job_is_charged_with_what_it_died_of(tmp_path: Path) -> None:
    with a_daemon(tmp_path) as daemon:
        job = daemon.enqueue("q", {"say": "about to go\nand gone", "wait_for": str(tmp_path / "go")})
        pid = running(daemon, job)
        os.kill(pid, signal.SIGKILL)
        (tmp_path / "go").touch()
        done = daemon.wait_state(job, "completed")
        assert done["crashes"] == 1
        crash = done["errors"][0]
        assert (crash["kind"], crash["signal"], crash["exit_code"]) == ("crash", 9, None)
        assert crash["rss_peak_bytes"] > 1_000_000
        assert crash["cpu_s"] >= 0
        assert "and gone" in crash["last_output"]
        assert pid not in until(lambda: len(workers(daemon, state="ready")) == 2 and workers(daemon)).values()


def test_an_exit_status_of_zero_is_a_crash_too_if_a_job_was_running(tmp_path: Path) -> None:
    with a_daemon(tmp_path) as daemon:
        job = daemon.enqueue("q", {"leave": 0})
        dead = daemon.wait_state(job, "dead")
        assert [error["exit_code"] for error in dead["errors"]] == [0, 0, 0]


def test_a_fatal_signal_leaves_the_stack_of_the_job_and_nothing_of_ours(tmp_path: Path) -> None:
    with a_daemon(tmp_path) as daemon:
        job = daemon.enqueue("q", {"kill": signal.SIGSEGV})
        trace = daemon.wait_state(job, "dead")["errors"][0]["traceback"]
        assert "tasks.py" in trace
        assert "foreman.py" not in trace


def test_a_crash_does_not_show_the_stacks_of_a_job_before(tmp_path: Path) -> None:
    with a_daemon(tmp_path, '[queues.q]\nhandler = "tasks:run"\nworkers = 1\n') as daemon:
        late = daemon.enqueue("q", {"sleep": 30}, "--timeout", "200ms", "--max-attempts", "1")
        assert "tasks.py" in daemon.wait_state(late, "dead")["errors"][0]["traceback"]
        crash = daemon.wait_state(daemon.enqueue("q", {"leave": 3}), "dead")["errors"][0]
        assert (crash["exit_code"], crash.get("traceback")) == (3, None)


def test_a_crash_does_not_show_what_a_job_before_has_written(tmp_path: Path) -> None:
    with a_daemon(tmp_path, '[queues.q]\nhandler = "tasks:run"\nworkers = 1\n') as daemon:
        daemon.wait_state(daemon.enqueue("q", {"say": "of another job"}), "completed")
        until(lambda: "of another job" in daemon.log)
        crash = daemon.wait_state(daemon.enqueue("q", {"say": "my own", "leave": 3}), "dead")["errors"][0]
        assert (crash["exit_code"], crash["last_output"]) == (3, "my own\n")


def test_what_workers_print_is_logged_a_line_at_a_time(tmp_path: Path) -> None:
    with a_daemon(tmp_path) as daemon:
        daemon.wait_state(daemon.enqueue("q", {"say": "one\ntwo \x1b[31m"}), "completed")
        until(lambda: "two" in daemon.log)
        lines = [line for line in daemon.log.splitlines() if " of q: " in line]
        assert [line.partition(" of q: ")[2] for line in lines] == ["one", "two \\x1b[31m"]


def test_a_worker_that_closed_its_streams_does_not_keep_the_foreman_busy(tmp_path: Path) -> None:
    app = {"closer.py": "import os\ndef run(job):\n    os.closerange(1, 3)\n"}
    with a_daemon(tmp_path, '[queues.q]\nhandler = "closer:run"\nworkers = 1\n', app=app) as daemon:
        daemon.wait_state(daemon.enqueue("q"), "completed")
        foreman = node(daemon, "pool q")["pid"]
        before = cpu_ticks(foreman)
        daemon.wait_state(daemon.enqueue("q"), "completed")
        daemon.ctl("status")
        assert cpu_ticks(foreman) - before < 20


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


# --- deadlines ----------------------------------------------------------------------------------------------


def test_a_job_past_its_deadline_gets_an_exception_and_its_worker_lives_on(tmp_path: Path) -> None:
    with a_daemon(tmp_path, '[queues.q]\nhandler = "tasks:run"\nworkers = 1\nmax_attempts = 1\n') as daemon:
        (pid,) = workers(daemon).values()
        job = daemon.enqueue("q", {"sleep": 30}, "--timeout", "200ms")
        error = daemon.wait_state(job, "dead")["errors"][0]
        assert error["kind"] == "timeout"
        assert "tasks.py" in error["traceback"]
        assert list(workers(daemon).values()) == [pid]


@pytest.mark.parametrize("payload", [{"stubborn": 1}, {"deaf": 1}], ids=["catches everything", "holds the interpreter"])
def test_a_job_that_hears_nothing_is_killed_with_its_stack_kept(tmp_path: Path, payload: dict[str, int]) -> None:
    with a_daemon(tmp_path) as daemon:
        job = daemon.enqueue("q", payload, "--timeout", "200ms", "--max-attempts", "1")
        error = daemon.wait_state(job, "dead")["errors"][0]
        assert (error["kind"], error["signal"]) == ("timeout", 9)
        assert next(iter(payload)) in error["traceback"]
        assert daemon.wait_state(daemon.enqueue("q"), "completed")


def test_a_stopped_worker_is_killed_when_its_job_is_overdue(tmp_path: Path) -> None:
    with a_daemon(tmp_path) as daemon:
        job = daemon.enqueue("q", {"sleep": 30}, "--timeout", "600ms", "--max-attempts", "1")
        os.kill(running(daemon, job), signal.SIGSTOP)
        assert daemon.wait_state(job, "dead")["errors"][0]["kind"] == "timeout"


def test_deaths_by_deadline_never_open_the_circuit(tmp_path: Path) -> None:
    toml = QUEUE + 'max_attempts = 1\nrestart = { intensity = 1, period = "60s" }\n'
    with a_daemon(tmp_path, toml) as daemon:
        jobs = [daemon.enqueue("q", {"stubborn": 1}, "--timeout", "100ms") for _ in range(6)]
        for job in jobs:
            assert daemon.wait_state(job, "dead")["errors"][0]["kind"] == "timeout"
        assert queue_status(daemon)["circuit"] == "closed"


def test_a_worker_that_survives_sigkill_is_replaced_and_judged_once(tmp_path: Path) -> None:
    env = {"JOBSUP_FAILPOINTS": "ladder.kill=skip"}
    with a_daemon(tmp_path, '[queues.q]\nhandler = "tasks:run"\nworkers = 1\n', env=env) as daemon:
        go = tmp_path / "go"
        job = daemon.enqueue("q", {"wait_for": str(go)}, "--timeout", "3s")  # it must be stopped by then
        undead = running(daemon, job)
        os.kill(undead, signal.SIGSTOP)
        go.touch()
        done = daemon.wait_state(job, "completed")
        assert done["failures"] == 1
        assert alive(undead)
        os.kill(undead, signal.SIGCONT)
        until(lambda: not alive(undead))
        until(lambda: len(list((daemon.run_dir / "slots").iterdir())) == 3, what="the old slot deleted")
        assert daemon.job(job) == done


def test_cancelling_a_running_job_climbs_the_ladder_for_it(tmp_path: Path) -> None:
    with a_daemon(tmp_path) as daemon:
        job = daemon.enqueue("q", {"stubborn": 1})
        running(daemon, job)
        daemon.ctl("cancel", job)
        assert daemon.wait_state(job, "cancelled")["crashes"] == 0


# --- circuits -----------------------------------------------------------------------------------------------


def test_a_handler_that_cannot_be_imported_opens_its_circuit_alone_and_is_tried_again(tmp_path: Path) -> None:
    toml = '[queues.bad]\nhandler = "bad:run"\n[queues.q]\nhandler = "tasks:run"\n'
    with a_daemon(tmp_path, toml, app={"bad.py": "raise RuntimeError('not today')"}) as daemon:
        status = queue_status(daemon, "bad")
        assert status["circuit"] == "open"
        assert "not today" in status["reason"]
        assert "Traceback" in status["detail"]
        assert node(daemon, "pool bad")["state"] == "failed"
        waiting = daemon.enqueue("bad")
        assert daemon.wait_state(daemon.enqueue("q"), "completed")
        assert daemon.job(waiting)["state"] == "queued"
        (daemon.app / "bad.py").write_text("def run(job): return 'mended'")
        daemon.ctl("resume", "bad")
        assert daemon.wait_state(waiting, "completed")["result"] == "mended"
        until(lambda: queue_status(daemon, "bad")["circuit"] == "closed")
        assert queue_status(daemon, "bad")["reason"] is None


def test_a_crash_loop_opens_the_circuit_and_one_finished_job_closes_it(tmp_path: Path) -> None:
    app = {
        "loop.py": "import os\ndef run(job): return 'fine'\ndef fork():\n"
        f"    if os.path.exists({str(tmp_path / 'broken')!r}): os._exit(3)\n"
    }
    toml = """
[queues.q]
handler = "loop:run"
after_fork = "loop:fork"
workers = 2
restart = { intensity = 2, period = "60s" }
"""
    (tmp_path / "broken").touch()
    with a_daemon(tmp_path, toml, app=app) as daemon:
        until(lambda: queue_status(daemon)["circuit"] == "open")
        assert "status 3" in queue_status(daemon)["reason"]
        job = daemon.enqueue("q")
        (tmp_path / "broken").unlink()
        daemon.ctl("resume", "q")
        assert daemon.wait_state(job, "completed")["crashes"] == 0
        until(lambda: queue_status(daemon)["circuit"] == "closed")
        until(lambda: len(workers(daemon, state="ready")) == 2)


def test_deaths_of_workers_that_had_finished_jobs_never_open_the_circuit(tmp_path: Path) -> None:
    toml = '[queues.q]\nhandler = "tasks:run"\nworkers = 1\nrestart = { intensity = 1, period = "60s" }\n'
    with a_daemon(tmp_path, toml) as daemon:
        for _ in range(4):
            daemon.wait_state(daemon.enqueue("q"), "completed")
            (slot, pid), *_ = workers(daemon, state="ready").items()
            os.kill(pid, signal.SIGKILL)
            until(lambda slot=slot: slot not in workers(daemon))
        assert queue_status(daemon)["circuit"] == "closed"


def test_poison_that_runs_alone_never_opens_the_circuit(tmp_path: Path) -> None:
    toml = (
        '[queues.q]\nhandler = "tasks:run"\nworkers = 1\nmax_crashes = 6\nrestart = { intensity = 1, period = "60s" }\n'
    )
    with a_daemon(tmp_path, toml) as daemon:
        job = daemon.enqueue("q", {"kill": signal.SIGABRT})
        assert daemon.wait_state(job, "dead")["crashes"] == 6
        assert queue_status(daemon)["circuit"] == "closed"


def test_a_queue_can_escalate_its_crash_loop_to_the_end_of_the_daemon(tmp_path: Path) -> None:
    app = {"loop.py": "import os\ndef run(job): pass\ndef fork(): os._exit(3)\n"}
    toml = """
[queues.q]
handler = "loop:run"
after_fork = "loop:fork"
restart = { intensity = 1, period = "60s" }
on_crash_loop = "escalate"
"""
    daemon = a_daemon(tmp_path, toml, app=app)
    try:
        daemon.start(ready=False)
        assert daemon.wait_end() == 1
        assert "giving up" in daemon.log
        assert daemon.survivors() == []
    finally:
        daemon.sweep()


# --- imports ------------------------------------------------------------------------------------------------

THREADED = """
import threading, time, os
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
def run(job): return os.getpid()
"""


def test_an_import_that_leaves_threads_runs_unpreloaded_with_spares(tmp_path: Path) -> None:
    toml = '[queues.q]\nhandler = "threaded:run"\nworkers = 2\n'
    with a_daemon(tmp_path, toml, app={"threaded.py": THREADED}) as daemon:
        status = queue_status(daemon)
        assert status["preloaded"] is False
        assert "1 thread" in status["reason"]
        until(lambda: len(workers(daemon)) == 4)
        used = workers(daemon, state="ready")
        assert len(used) == 2
        foreman = node(daemon, "pool q")["pid"]
        assert status_field(foreman, "Threads") == "1"
        job = daemon.enqueue("q")
        first = daemon.wait_state(job, "completed")["result"]
        spares = set(workers(daemon).values()) - set(used.values())
        os.kill(first, signal.SIGKILL)
        until(lambda: len(workers(daemon, state="ready")) == 2)
        assert spares & set(workers(daemon, state="ready").values())


def test_an_import_that_leaves_a_socket_runs_unpreloaded(tmp_path: Path) -> None:
    app = {"sockets.py": "import socket\nkept = socket.socketpair()\ndef run(job): return 1\n"}
    with a_daemon(tmp_path, '[queues.q]\nhandler = "sockets:run"\n', app=app) as daemon:
        assert "socket:" in queue_status(daemon)["reason"]
        assert daemon.wait_state(daemon.enqueue("q"), "completed")["result"] == 1


def test_an_import_that_keeps_a_file_open_to_read_is_preloaded_and_workers_have_the_file(tmp_path: Path) -> None:
    app = {"reading.py": f"kept = open({str(tmp_path / 'data')!r})\ndef run(job): return kept.read()\n"}
    (tmp_path / "data").write_text("as the crow flies")
    with a_daemon(tmp_path, '[queues.q]\nhandler = "reading:run"\nworkers = 1\n', app=app) as daemon:
        assert queue_status(daemon)["preloaded"] is True
        assert daemon.wait_state(daemon.enqueue("q"), "completed")["result"] == "as the crow flies"


@pytest.mark.parametrize(("preload", "preloaded"), [("true", True), ("false", False)])
def test_preload_can_be_decided_by_hand(tmp_path: Path, preload: str, preloaded: bool) -> None:
    toml = f'[queues.q]\nhandler = "threaded:run"\npreload = {preload}\n'
    with a_daemon(tmp_path, toml, app={"threaded.py": THREADED}) as daemon:
        assert queue_status(daemon)["preloaded"] is preloaded
        assert daemon.wait_state(daemon.enqueue("q"), "completed")


def test_an_import_error_of_unpreloaded_workers_opens_the_circuit_at_once(tmp_path: Path) -> None:
    app = {"bad.py": "raise RuntimeError('in the worker')"}
    with a_daemon(tmp_path, '[queues.q]\nhandler = "bad:run"\npreload = false\n', app=app) as daemon:
        until(lambda: queue_status(daemon)["circuit"] == "open")
        status = queue_status(daemon)
        assert "in the worker" in status["reason"]
        assert "Traceback" in status["detail"]


# --- what workers are, and what they leave -------------------------------------------------------------------


ALLOWED = Counter({"null": 1, "pipe": 4, "socket": 3, "memory": 1, "stacks": 1})
"""Standard input; output twice, ready and bell; its end of the slot and its wake-up pair; files of the slot."""


def test_a_worker_has_its_allow_list_of_descriptors_and_leads_a_session(tmp_path: Path) -> None:
    with a_daemon(tmp_path) as daemon:
        for slot, pid in workers(daemon, state="ready").items():
            targets = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
            kinds = Counter(target.rpartition("/")[2].partition(":")[0] for target in targets)
            assert kinds == ALLOWED | {str(slot): 1}
            assert os.getsid(pid) == pid
            assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "500\n"
            assert int(status_field(pid, "SigBlk"), 16) == 0


def test_what_a_job_started_ends_with_its_worker(tmp_path: Path) -> None:
    with a_daemon(tmp_path) as daemon:
        where = tmp_path / "child"
        job = daemon.enqueue("q", {"child": str(where), "wait_for": str(tmp_path / "never")}, "--max-attempts", "1")
        worker, child = running(daemon, job), pid_in(where)
        assert alive(child)
        os.kill(worker, signal.SIGKILL)
        until(lambda: not alive(child))
        assert zombies_of(node(daemon, "pool q")["pid"]) == []


def test_what_a_job_hid_in_a_session_of_its_own_ends_with_the_daemon(tmp_path: Path) -> None:
    with a_daemon(tmp_path) as daemon:
        where = tmp_path / "escaped"
        daemon.wait_state(daemon.enqueue("q", {"escape": str(where)}), "completed")
        escaped = pid_in(where)
        assert alive(escaped)
        assert daemon.stop() == 0
        assert not alive(escaped)


ORPHANS = """
import os
def run(job):
    if not os.fork():
        os.fork()
        os._exit(0)
    os.wait()
"""


def test_orphans_that_end_are_reaped(tmp_path: Path) -> None:
    toml = '[queues.q]\nhandler = "orphans:run"\nworkers = 1\n'
    with a_daemon(tmp_path, toml, app={"orphans.py": ORPHANS}) as daemon:
        for _ in range(3):
            daemon.wait_state(daemon.enqueue("q"), "completed")
        foreman = node(daemon, "pool q")["pid"]
        until(lambda: zombies_of(foreman) == [])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_pool_of_another_user_gives_up_every_privilege(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/") and folder.owner() == "root":
            folder.chmod(folder.stat().st_mode | 0o011)
    toml = '[queues.q]\nhandler = "tasks:run"\nuser = "nobody"\nworkers = 1\n'
    with a_daemon(tmp_path, toml) as daemon:
        (pid,) = until(lambda: workers(daemon, state="ready")).values()
        foreman = node(daemon, "pool q")["pid"]
        for process in (pid, foreman):
            assert set(status_field(process, "Uid").split()) == {"65534"}
            assert set(status_field(process, "Gid").split()) == {"65534"}
            assert int(status_field(process, "CapEff"), 16) == int(status_field(process, "CapPrm"), 16) == 0
        assert daemon.wait_state(daemon.enqueue("q"), "completed")["result"]["pid"] == pid
        os.kill(pid, signal.SIGKILL)
        assert daemon.wait_state(daemon.enqueue("q"), "completed")
