"""Jobs that go on where they were: steps that are done once, a cursor, and how far they are, with real kills."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.client import Client
from tests.support.daemon import Daemon
from tests.support.field import kill

TOML = """
[daemon]
python_path = ["../app"]
[defaults]
backoff = { base = "10ms", factor = 1.0, jitter = 0.0 }
max_crashes = 10
[queues.q]
handler = "parts:run"
workers = 2
timeout = "60s"
"""
PARTS = """
import os, signal, time
from pathlib import Path
from supervisor.job import Snooze

HERE = Path(__file__).parent

def note(job, what):
    with (HERE / f"ran-{job.id}").open("a") as file:
        file.write(what + "\\n")
    return {"did": what, "attempt": job.attempt}

def run(job):
    return globals()[job.payload["do"]](job)

def steps(job):
    first = job.step("first", lambda: note(job, "first"))
    if job.attempt == 1:
        if job.payload["end"] == "raise":
            raise ValueError("after the first")
        os.kill(os.getpid(), signal.SIGKILL)
    second = job.step("second", lambda: note(job, "second"))
    return [first, second]

def pages(job):
    for page in range(job.cursor or 0, 6):
        note(job, str(page))
        job.save(page + 1)
        if page in (1, 3) and job.payload["how"] == "snooze":
            return Snooze("1ms")
        if page in (1, 3):
            raise ValueError("again")
    return job.cursor

def slowly(job):
    job.progress(0.25, "a \\x1b[31mquarter")
    while not (HERE / "go").exists():
        time.sleep(0.01)
    job.progress(1)

def too_large(job):
    job.step("large", lambda: "x" * 20_000)

def no_json(job):
    job.step("odd", lambda: object())

def elsewhere(job):
    import threading
    said = []
    def other():
        try:
            job.step("other", lambda: 1)
        except RuntimeError as error:
            said.append(str(error))
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    child = os.fork()
    if not child:
        try:
            job.save(1)
        except RuntimeError:
            os._exit(7)
        os._exit(0)
    said.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    job.step("here", lambda: 1)
    return said

def nameless(job):
    job.step("", lambda: 1)

def cut_off(job):
    while True:
        job.progress(0.5, "x" * 500)

def beyond(job):
    job.progress(1.5)

def many(job):
    for number in range(1_001):
        job.step(str(number), lambda: None)

def late(job):
    job.step("early", lambda: note(job, "early"))
    if job.attempt == 1:
        note(job, "stopping")
        while not (HERE / "late").exists():
            time.sleep(0.005)
        job.step("late", lambda: note(job, "late"))
        return "old"
    return sorted(job._course.steps) if job.step("own", lambda: 1) else None
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("parts"), TOML, app={"parts.py": PARTS}) as running:
        yield running


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client[int]]:
    with daemon.client() as found:
        yield found


def ran(daemon: Daemon, job: int) -> list[str]:
    return (daemon.app / f"ran-{job}").read_text().split()


@pytest.mark.parametrize("end", ["raise", "kill"])
def test_a_step_that_is_done_is_not_done_again(daemon: Daemon, client: Client[int], end: str) -> None:
    job = client.enqueue("q", {"do": "steps", "end": end})
    done = client.wait(job, 30)
    assert done["state"] == "completed"
    assert ran(daemon, job) == ["first", "second"]
    assert done["result"] == [{"did": "first", "attempt": 1}, {"did": "second", "attempt": 2}]
    client.retry(job, force=True)
    client.wait(job, 30)
    assert ran(daemon, job) == ["first", "second"] * 2


@pytest.mark.parametrize("how", ["snooze", "raise"])
def test_a_cursor_is_where_the_next_run_goes_on(daemon: Daemon, client: Client[int], how: str) -> None:
    job = client.enqueue("q", {"do": "pages", "how": how}, max_attempts=5)
    assert client.wait(job, 30)["result"] == 6
    assert ran(daemon, job) == ["0", "1", "2", "3", "4", "5"]


def test_what_a_dead_job_has_kept_is_shown(daemon: Daemon, client: Client[int]) -> None:
    dead = client.enqueue("q", {"do": "steps", "end": "raise"}, max_attempts=1)
    assert client.wait(dead, 30)["kept"] == {"steps": ["first"], "cursor": None}
    assert 'kept\t{"steps": ["first"], "cursor": null}' in daemon.ctl("status", dead).out
    pages = client.enqueue("q", {"do": "pages", "how": "raise"}, max_attempts=1)
    assert client.wait(pages, 30)["kept"] == {"steps": [], "cursor": 2}
    assert client.status(client.enqueue("q", {"do": "nothing"}))["kept"] is None


def test_a_snoozed_job_without_any_option_goes_on_with_what_it_kept(client: Client[int]) -> None:
    job = client.enqueue("q", {"do": "pages", "how": "snooze"})
    done = client.wait(job, 30)
    assert (done["result"], done["crashes"]) == (6, 0)


def test_progress_is_shown_while_a_job_runs(daemon: Daemon, client: Client[int]) -> None:
    job = client.enqueue("q", {"do": "slowly"})
    daemon.wait_for(lambda: client.status(job)["progress"] is not None, what="progress")
    said = client.status(job)["progress"]
    assert (said["fraction"], said["text"]) == (0.25, "a \x1b[31mquarter")
    shown = daemon.ctl("status", job).out
    assert "\x1b" not in shown
    assert "progress\t" in shown
    assert f"it is running, {said['fraction']:.0%} done" in client.explain(job)["sentence"]
    (daemon.app / "go").touch()
    assert client.wait(job, 30)["progress"] is None


@pytest.mark.parametrize(
    ("do", "said"),
    [
        ("too_large", "20002 bytes"),
        ("no_json", "the value of step odd cannot be written as JSON"),
        ("nameless", "needs a name"),
        ("beyond", "between 0 and 1"),
        ("many", "at most 1000 steps"),
    ],
)
def test_what_cannot_be_kept_fails_the_attempt_and_says_why(client: Client[int], do: str, said: str) -> None:
    job = client.enqueue("q", {"do": do}, max_attempts=1)
    assert client.wait(job, 30)["state"] == "dead"
    assert said in client.status(job)["errors"][0]["message"]


def test_only_the_thread_of_the_handler_keeps_anything(client: Client[int]) -> None:
    job = client.enqueue("q", {"do": "elsewhere"})
    said, status = client.wait(job, 30)["result"]
    assert "by no other" in said
    assert status == 7


def test_progress_that_a_deadline_cut_off_does_not_spoil_that_of_the_next_run(tmp_path: Path) -> None:
    """The deadline falls into `job.progress`, which the handler does nothing else but call."""
    toml = TOML.replace("workers = 2", "workers = 1").replace(
        'timeout = "60s"', 'timeout = "300ms"\nkill_grace = "30s"'
    )
    with Daemon(tmp_path, toml, app={"parts.py": PARTS}) as daemon, daemon.client() as client:
        for _ in range(5):
            client.wait(client.enqueue("q", {"do": "cut_off"}, max_attempts=1), 30)
        job = client.enqueue("q", {"do": "slowly"}, timeout="30s")
        daemon.wait_for(lambda: client.status(job)["progress"] is not None, what="progress")
        assert client.status(job)["progress"]["fraction"] == 0.25
        (daemon.app / "go").touch()
        client.wait(job, 30)


def test_a_keeper_that_dies_forgets_no_step(tmp_path: Path) -> None:
    with Daemon(tmp_path, TOML, app={"parts.py": PARTS}) as daemon, daemon.client() as client:
        keeper = next(node["pid"] for node in client.request("tree")["tree"] if node["role"] == "keeper")
        job = client.enqueue("q", {"do": "late"})
        daemon.wait_for(lambda: "stopping" in marks(daemon, job), what="the first step")
        kill(keeper)
        worker = client.status(job)["worker"]
        assert worker is not None
        kill(worker["pid"])
        done = client.wait(job, 30)
        assert done["result"] == ["early", "own"]
        assert marks(daemon, job).count("early") == 1


def test_a_worker_whose_lease_is_over_keeps_nothing(tmp_path: Path) -> None:
    """The stopped worker is taken for dead, its job runs elsewhere; when it goes on, it keeps nothing any more."""
    toml = TOML.replace('timeout = "60s"', 'timeout = "300ms"\nkill_grace = "200ms"')
    with Daemon(tmp_path, toml, app={"parts.py": PARTS}) as daemon, daemon.client() as client:
        job = client.enqueue("q", {"do": "late"})
        daemon.wait_for(lambda: "stopping" in marks(daemon, job), what="the first step")
        done = client.wait(job, 30)
        (daemon.app / "late").touch()
        assert done["result"] == ["early", "own"]
        assert marks(daemon, job) == ["early", "stopping"]


def marks(daemon: Daemon, job: int) -> list[str]:
    path = daemon.app / f"ran-{job}"
    return path.read_text().split() if path.exists() else []
