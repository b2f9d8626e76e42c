"""Commands that serve, on a real daemon: one process for many jobs, and the same verdicts as for Python workers."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.unix.session import members
from tests.support.daemon import ROOT, Daemon
from tests.support.waiting import alive, opened, until

PAGE = (ROOT / "docs" / "serve.md").read_text()
(PERL,) = re.findall(r"^```perl\n(.*?)^```\n", PAGE, flags=re.MULTILINE | re.DOTALL)

TOML = """
[daemon]
python_path = ["../app"]
shutdown_grace = "5s"
[defaults]
workers = 1
max_attempts = 1
kill_grace = "3s"
cwd = "../app"
env = { ABOUT = "the queue" }
backoff = { base = "10ms", max = "20ms" }
[queues.served]
command = ["PYTHON", "served.py"]
serve = true
[queues.small]
command = ["PYTHON", "served.py"]
serve = true
max_result = "1KiB"
[queues.twice]
command = ["PYTHON", "served.py"]
serve = true
max_attempts = 2
max_result = "4MiB"
on_error = { "Hopeless" = "dead" }
[queues.crash]
command = ["PYTHON", "served.py"]
serve = true
max_crashes = 2
[queues.late]
command = ["PYTHON", "served.py"]
serve = true
timeout = "300ms"
kill_grace = "900ms"
[queues.brief]
command = ["PYTHON", "served.py"]
serve = true
recycle_jobs = 2
[queues.early]
command = ["PYTHON", "early.py"]
serve = true
[queues.words]
command = ["perl", "words.pl"]
serve = true
[queues.sums]
handler = "jobs:run"
[pools.shared]
command = ["PYTHON", "served.py"]
serve = true
workers = 1
sources = ["first", "second"]
[queues.first]
[queues.second]
""".replace("PYTHON", sys.executable)

SERVED = r'''
import ctypes, json, os, signal, subprocess, sys, time

hello = json.loads(sys.stdin.readline())
before = None

def write(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()

def say(text):
    sys.stderr.write(text + "\n")
    sys.stderr.flush()

def answer(job, **members):
    write(json.dumps({"id": job["id"], "token": job["token"], **members}))

def status(name):
    return dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)[name]

def facts(job):
    answer(job, result={
        "hello": hello, "job": job, "pid": os.getpid(), "group": os.getpgid(0), "env": dict(os.environ),
        "ignored": int(status("SigIgn"), 16), "blocked": int(status("SigBlk"), 16),
        "files": sorted(os.listdir("/proc/self/fd"))})

def pid(job): answer(job, result=os.getpid())
def echo(job): answer(job, result=job["payload"]["value"])
def say_it(job):
    say("about " + job["payload"]["value"])
    answer(job, **job["payload"]["answer"])
def raw(job): write(job["payload"]["value"].replace("ID", str(job["id"])).replace("TOKEN", str(job["token"])))
def long(job): sys.stdout.write("x" * (17 << 20)); sys.stdout.flush(); time.sleep(600)
def latin(job): sys.stdout.buffer.write(b'{"id": 1, "result": "\xff"}\n'); sys.stdout.flush()
def shut(job): os.close(1); time.sleep(600)
def twice(job):
    line = json.dumps({"id": job["id"], "token": job["token"], "result": os.getpid()})
    write(line + "\n" + job["payload"].get("second", line))
def again(job):
    """Answers, and the next job with this answer once more."""
    global before
    before = json.dumps({"id": job["id"], "token": job["token"], "result": os.getpid()})
    write(before)
def leave(job): say("leaving"); os._exit(job["payload"].get("status", 9))
def segv(job): ctypes.string_at(0)
def hog(job):
    held = b"x" * (200 << 20); say("grown to %d" % len(held)); os._exit(3)
def hang(job):
    say("hanging"); child = subprocess.Popen(["sleep", "600"]); note(job, child.pid); time.sleep(600)
def deaf(job): signal.signal(signal.SIGTERM, signal.SIG_IGN); hang(job)
def tidy(job):
    def end(*_): answer(job, result="tidied up"); os._exit(0)
    signal.signal(signal.SIGTERM, end); time.sleep(600)
def stop(job): os.kill(os.getpid(), signal.SIGSTOP)
def flood(job): say("x" * 3_000_000); answer(job, result=len("x"))
def quiet(job): os.close(2); answer(job, result=os.getpid())
def rest(job):
    """Stops itself as soon as it has answered."""
    answer(job, result=os.getpid()); os.kill(os.getpid(), signal.SIGSTOP)
def unlisten(job):
    """Reads nothing any more, and lives on."""
    answer(job, result=os.getpid()); os.close(0); time.sleep(600)
def exit_after(job):
    """Its last answer, and then the end."""
    answer(job, result=os.getpid()); os._exit(4)
def note(job, number):
    name = job["payload"]["note"]
    with open(name + ".part", "w") as file: file.write(str(number))
    os.rename(name + ".part", name)
def wait(job):
    note(job, os.getpid())
    open(job["payload"]["fifo"]).read()
    answer(job, result="waited")

write('{"ready": true}')
for line in sys.stdin:
    if before:
        write(before); time.sleep(600)
    job = json.loads(line)
    globals()[job["payload"]["do"]](job)
say("no more jobs")
if os.path.exists("hold"): open("hold").read()
say("the end")
'''

EARLY = r"""
import os, re, time

os.write(1, b'{"ready": true}\n')
read = b""
while data := os.read(0, 100):
    read += data
    if found := re.search(rb'"id":(\d+),"token":(\d+),', read):
        os.write(1, b'{"id": %s, "token": %s, "result": 1}\n' % found.groups())
        time.sleep(600)
"""

APP = {"early.py": EARLY, "served.py": SERVED, "words.pl": PERL, "jobs.py": "def run(job):\n    return job.payload\n"}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("serve"), TOML, app=APP, env={"SECRET": "hidden"}) as running:
        yield running


def run(daemon: Daemon, queue: str, payload: object, timeout: float = 20) -> dict[str, Any]:
    with daemon.client() as client:
        job_id = client.enqueue(queue, payload)
    return daemon.wait_state(job_id, "completed", "dead", "cancelled", timeout=timeout)


def run_all(daemon: Daemon, queue: str, payloads: list[object]) -> list[dict[str, Any]]:
    with daemon.client() as client:
        ids = client.enqueue_many(queue, payloads)
        return [client.wait(job_id, timeout=20) for job_id in ids]


def last_error(job: dict[str, Any]) -> dict[str, Any]:
    error: dict[str, Any] = job["errors"][-1]
    return error


def charged(job: dict[str, Any]) -> tuple[str, int, int, int]:
    return job["state"], job["failures"], job["crashes"], job["interruptions"]


DONE = ("completed", 0, 0, 0)


def noted(path: Path) -> int:
    return int(until(lambda: path.exists() and path.read_text(), what="the note"))


def unread(pid: int) -> int:
    """How many bytes wait on the stdin of a process."""
    fd = os.open(f"/proc/{pid}/fd/0", os.O_RDONLY | os.O_NONBLOCK)
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4), sys.byteorder)
    finally:
        os.close(fd)


# -- one process for many jobs ---------------------------------------------------------------------------------


def test_one_process_does_all_jobs_of_a_worker(daemon: Daemon) -> None:
    jobs = run_all(daemon, "served", [{"do": "pid"}] * 200)
    assert {charged(job) for job in jobs} == {DONE}
    assert len({job["result"] for job in jobs}) == 1


@pytest.mark.parametrize("value", [None, 0, "ünï \u2028 \x7f", [], {"a": [1.5, True]}, "x" * 1_500_000, 2**63])
def test_values_come_and_go_as_they_are(daemon: Daemon, value: object) -> None:
    if value == "x" * 1_500_000:
        value = value[:1_000_000]  # type: ignore[index]
    assert run(daemon, "twice", {"do": "echo", "value": value})["result"] == value


def test_line_breaks_between_the_values_of_a_payload_break_no_line(daemon: Daemon) -> None:
    ran = daemon.ctl("enqueue", "served", '{\r\n "do": "echo",\n "value": "a\\nb"\n}')
    assert daemon.wait_state(int(ran.out), "completed", "dead")["result"] == "a\nb"


def test_a_command_knows_its_job_and_inherits_nothing_else(daemon: Daemon) -> None:
    job = run(daemon, "twice", {"do": "facts"})
    facts = job["result"]
    assert facts["hello"] == {
        "jobsup": 1, "worker": "twice", "max_line_bytes": 16 * 2**20, "max_result_bytes": 4 * 2**20,
    }  # fmt: skip
    told = facts["job"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told.pop("deadline"))
    assert (told.pop("enqueued_at"), told.pop("token")) == (job["enqueued_at"], job["token"])
    assert told == {
        "id": job["id"], "queue": "twice", "payload": {"do": "facts"}, "attempt": 1, "max_attempts": 2, "priority": 0,
        "tags": [], "key": None, "due_at": None, "previous_error": None, "flow": None,
    }  # fmt: skip
    assert (facts["group"], facts["blocked"]) == (facts["pid"], 0)
    assert facts["ignored"] & 1 << signal.SIGINT - 1 == 0
    assert facts["files"] == ["0", "1", "2", "3"]  # 3 lists the folder
    assert (facts["env"]["JOBSUP_WORKER"], facts["env"]["ABOUT"]) == ("twice", "the queue")
    assert [name for name in facts["env"] if name in ("SECRET", "JOBSUP_JOB_ID", "NOTIFY_SOCKET")] == []


def test_a_pool_of_several_queues_tells_each_job_its_queue(daemon: Daemon) -> None:
    results = [run(daemon, queue, {"do": "facts"})["result"] for queue in ("first", "second")]
    assert [each["job"]["queue"] for each in results] == ["first", "second"]
    assert len({each["pid"] for each in results}) == 1


def test_the_example_of_the_page_works(daemon: Daemon) -> None:
    done = run(daemon, "words", {"text": "to be or not"})
    assert (done["state"], done["result"]) == ("completed", {"words": 4})
    daemon.wait_for(lambda: daemon.ctl("status", "--json").json["queues"]["sums"]["completed"] == 1)
    dead = run(daemon, "words", {})
    assert (dead["reason"], last_error(dead)["type"]) == ("rejected", "NoText")


def test_a_worker_is_recycled_with_its_command(daemon: Daemon) -> None:
    results = [run(daemon, "brief", {"do": "pid"})["result"] for _ in range(4)]
    assert (results[0], results[2]) == (results[1], results[3])
    assert results[0] != results[2]


# -- outcomes --------------------------------------------------------------------------------------------------


def test_an_error_is_kept_with_all_that_the_answer_says(daemon: Daemon) -> None:
    error = {"message": "broken", "type": "app.Broken", "traceback": "line 3"}
    job = run(daemon, "served", {"do": "say_it", "value": "this job", "answer": {"error": error}})
    assert charged(job) == ("dead", 1, 0, 0)
    kept = last_error(job)
    assert {name: kept[name] for name in error} == error
    assert (kept["kind"], kept["last_output"]) == ("error", "about this job\n")
    bare = run(daemon, "served", {"do": "say_it", "value": "another", "answer": {"error": "no more than this"}})
    assert (last_error(bare)["message"], last_error(bare)["last_output"]) == ("no more than this", "about another\n")


def test_errors_are_final_or_late_or_meant_by_rules(daemon: Daemon) -> None:
    def answered(error: dict[str, object]) -> dict[str, Any]:
        return run(daemon, "twice", {"do": "say_it", "value": "", "answer": {"error": error}})

    assert answered({"message": "m"})["failures"] == 2
    final = answered({"message": "m", "final": True})
    assert (final["failures"], final["reason"]) == (1, "rejected")
    assert answered({"message": "m", "type": "app.Hopeless"})["reason"] == "on_error"
    with daemon.client() as client:
        late = client.enqueue(
            "twice", {"do": "say_it", "value": "", "answer": {"error": {"message": "m", "retry_after": 900}}}
        )
    daemon.wait_for(lambda: daemon.job(late)["failures"] == 1)
    assert daemon.job(late)["state"] == "scheduled"


def test_a_job_may_be_snoozed_limited_or_cancelled(daemon: Daemon) -> None:
    def answered(**answer: object) -> int:
        with daemon.client() as client:
            job_id: int = client.enqueue("twice", {"do": "say_it", "value": "", "answer": answer})
        return job_id

    cancelled = daemon.wait_state(answered(cancel="not wanted"), "cancelled")
    assert cancelled["reason"] == "not wanted"
    snoozed = answered(snooze="1h")
    daemon.wait_for(lambda: daemon.job(snoozed)["state"] == "scheduled")
    assert charged(daemon.job(snoozed)) == ("scheduled", 0, 0, 0)
    limited = answered(rate_limited={"delay": "500ms"})
    daemon.wait_for(lambda: daemon.job(limited)["state"] == "scheduled")
    assert daemon.ctl("cancel", limited).status == 0


def test_what_an_answer_enqueues_exists_only_beside_a_result(daemon: Daemon) -> None:
    def sums() -> list[int]:
        found = daemon.ctl("list", "--queue", "sums", "--limit", "0", "--json").lines
        return [job["id"] for job in found if "child" in json.dumps(daemon.job(job["id"])["payload"])]

    child = [{"queue": "sums", "payload": ["child", 1]}, {"queue": "sums", "payload": ["child", 2], "delay": "10ms"}]
    failed = run(daemon, "served", {"do": "say_it", "value": "", "answer": {"error": "no", "enqueue": child}})
    assert (failed["state"], sums()) == ("dead", [])
    done = run(daemon, "served", {"do": "say_it", "value": "", "answer": {"result": 1, "enqueue": child}})
    assert (done["state"], len(sums())) == ("completed", 2)


KEPT_ALIVE: list[tuple[dict[str, object], str, str]] = [
    ({}, "InvalidAnswer", "says nothing of how the job ended"),
    ({"result": 1, "cancel": "x"}, "InvalidAnswer", "has result and cancel"),
    ({"result": "x" * 2000}, "ResultTooLarge", "max_result is 1024"),
    ({"snooze": "soon"}, "InvalidAnswer", "the answer's snooze"),
    ({"snooze": 1e300}, "InvalidAnswer", "the answer's snooze"),
    ({"error": {"message": "m", "retry_after": -1}}, "InvalidAnswer", "the answer's error"),
    ({"result": 1, "enqueue": [{"payload": 1}]}, "InvalidAnswer", "names no queue"),
    ({"result": 1, "enqueue": [{"queue": "sums", "speed": 3}]}, "InvalidPayload", "speed is no option"),
    ({"result": 1, "enqueue": [{"queue": "nowhere"}]}, "UnknownQueue", "nowhere"),
    ({"result": 1, "enqueue": [{"queue": "sums"}] * 10_001}, "PayloadTooLarge", "may enqueue 10000 jobs"),
]


@pytest.mark.parametrize(("answer", "type_", "said"), KEPT_ALIVE, ids=[said for _, _, said in KEPT_ALIVE])
def test_an_answer_that_cannot_be_kept_fails_its_job_and_the_command_goes_on(
    daemon: Daemon, answer: dict[str, object], type_: str, said: str
) -> None:
    before = run(daemon, "small", {"do": "pid"})["result"]
    job = run(daemon, "small", {"do": "say_it", "value": "", "answer": answer})
    assert charged(job) == ("dead", 1, 0, 0)
    assert said in last_error(job)["message"]
    assert last_error(job)["type"] == type_
    assert run(daemon, "small", {"do": "pid"})["result"] == before


# -- lines that are no answer ----------------------------------------------------------------------------------

NO_ANSWER: list[tuple[dict[str, object], str]] = [
    ({"do": "raw", "value": "done!"}, "no answer: JSON is malformed"),
    ({"do": "raw", "value": "[1]"}, "Expected `object`, got `array`"),
    ({"do": "raw", "value": "[" * 100_000}, "no answer"),
    ({"do": "raw", "value": '{"id": 999999, "token": TOKEN, "result": 1}'}, "the command answered job 999999"),
    ({"do": "raw", "value": '{"id": ID, "token": 0, "result": 1}'}, "with token 0, and had job"),
    ({"do": "raw", "value": '{"id": ID, "result": 1}'}, "missing required field `token`"),
    ({"do": "raw", "value": '{"id": "ID", "token": TOKEN, "result": 1}'}, "Expected `int`, got `str` - at `$.id`"),
    ({"do": "raw", "value": '{"id": ID, "token": TOKEN, "reslut": 1}'}, "unknown field `reslut`"),
    ({"do": "raw", "value": '{"id": ID, "token": TOKEN, "error": {}}'}, "missing required field `message`"),
    ({"do": "raw", "value": '{"id": ID, "token": TOKEN, "result": NaN}'}, "no answer: JSON is malformed"),
    ({"do": "long"}, "a line of more than 16777216 bytes"),
    ({"do": "latin"}, "not UTF-8"),
    ({"do": "shut"}, "has closed its stdout"),
]


@pytest.mark.parametrize(("payload", "said"), NO_ANSWER, ids=[f"{number}" for number in range(len(NO_ANSWER))])
def test_a_line_that_is_no_answer_fails_its_job_and_no_other(
    daemon: Daemon, payload: dict[str, object], said: str
) -> None:
    before = run(daemon, "served", {"do": "pid"})["result"]
    bad, good = run_all(daemon, "served", [payload, {"do": "pid"}])
    assert charged(bad) == ("dead", 1, 0, 0)
    assert last_error(bad)["type"] == "InvalidAnswer"
    assert said in last_error(bad)["message"]
    assert charged(good) == DONE
    assert good["result"] != before
    assert not alive(before)


@pytest.mark.parametrize("more", [{}, {"second": "chatter"}, {"second": "half a line"}, {"second": '{"ready": true}'}])
def test_of_two_answers_the_first_counts_and_the_next_job_is_another_processs(
    daemon: Daemon, more: dict[str, object]
) -> None:
    first, second = run_all(daemon, "served", [{"do": "twice", **more}, {"do": "pid"}])
    assert (charged(first), charged(second)) == (DONE, DONE)
    assert first["result"] != second["result"]
    daemon.wait_for(lambda: "wrote a line without having a job" in daemon.log)


def test_a_job_that_is_answered_before_it_was_read_has_failed(daemon: Daemon) -> None:
    large, small = run_all(daemon, "early", ["x" * 500_000, "x"])
    assert (charged(large), charged(small)) == (("dead", 1, 0, 0), DONE)
    assert last_error(large)["message"] == "the command answered before it had read the whole job"


def test_a_second_answer_in_the_place_of_the_next_jobs_charges_nobody(daemon: Daemon) -> None:
    first, second = run_all(daemon, "served", [{"do": "again"}, {"do": "pid"}])
    assert (charged(first), charged(second)) == (DONE, DONE)
    assert first["result"] != second["result"]
    daemon.wait_for(lambda: f"the command answered job {first['id']} twice" in daemon.log)


# -- its death -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "number", "exit_code", "output"),
    [
        ({"do": "leave"}, None, 9, "leaving\n"),
        ({"do": "leave", "status": 0}, None, 0, "leaving\n"),
        ({"do": "leave", "status": 69}, None, 69, "leaving\n"),
        ({"do": "segv"}, signal.SIGSEGV, None, None),
    ],
)
def test_a_death_with_a_job_is_charged_to_it_as_a_crash(
    daemon: Daemon, payload: dict[str, object], number: int | None, exit_code: int | None, output: str | None
) -> None:
    job, other = run_all(daemon, "crash", [payload, {"do": "pid"}])
    error = last_error(job)
    assert (charged(job), job["reason"]) == (("dead", 0, 2, 0), "max_crashes")
    assert (error["kind"], error["signal"], error["exit_code"]) == ("crash", number, exit_code)
    assert error["last_output"] == output
    assert "traceback" not in error or error["traceback"] is None
    assert charged(other) == DONE
    assert daemon.ctl("status", "--json").json["queues"]["crash"]["circuit"] == "closed"


def test_a_crash_tells_the_peak_memory_of_the_command(daemon: Daemon) -> None:
    error = last_error(run(daemon, "crash", {"do": "hog"}))
    assert 200 << 20 < error["rss_peak_bytes"] < 400 << 20


def test_a_death_without_a_job_charges_nobody(daemon: Daemon) -> None:
    before = run(daemon, "served", {"do": "pid"})["result"]
    os.kill(before, signal.SIGKILL)
    until(lambda: not alive(before))
    job = run(daemon, "served", {"do": "pid"})
    assert charged(job) == DONE
    assert job["result"] != before


def test_an_answer_counts_though_the_command_ends_with_it(daemon: Daemon) -> None:
    first, second = run_all(daemon, "served", [{"do": "exit_after"}, {"do": "pid"}])
    assert (charged(first), charged(second)) == (DONE, DONE)


@pytest.mark.parametrize("size", [1, 50_000, 500_000])
def test_a_job_that_the_command_never_read_is_not_charged_with_its_death(daemon: Daemon, size: int) -> None:
    stopped = run(daemon, "served", {"do": "rest"})["result"]
    with daemon.client() as client:
        job_id = client.enqueue("served", {"do": "pid", "filling": "x" * size})
    daemon.wait_for(lambda: unread(stopped) > min(size, 60_000), what="the job in the pipe")
    os.kill(stopped, signal.SIGKILL)
    assert charged(daemon.wait_state(job_id, "completed", "dead")) == DONE


def test_a_command_that_has_closed_its_stdin_is_replaced(daemon: Daemon) -> None:
    first, second = run_all(daemon, "served", [{"do": "unlisten"}, {"do": "pid"}])
    assert (charged(first), charged(second)) == (DONE, DONE)
    assert first["result"] != second["result"]
    until(lambda: not alive(first["result"]))


def test_a_worker_that_is_killed_takes_its_command_along(daemon: Daemon, tmp_path: Path) -> None:
    fifo, note = tmp_path / "fifo", tmp_path / "note"
    os.mkfifo(fifo)
    with daemon.client() as client:
        job_id = client.enqueue("crash", {"do": "wait", "fifo": str(fifo), "note": str(note)})
    command = noted(note)
    (worker,) = [line for line in daemon.ctl("workers", "--json").lines if line["queue"] == "crash"]
    assert command in members(worker["pid"])
    os.kill(worker["pid"], signal.SIGKILL)
    until(lambda: not alive(command))
    daemon.wait_for(lambda: daemon.job(job_id)["crashes"] == 1)
    assert last_error(daemon.job(job_id))["signal"] == signal.SIGKILL
    assert daemon.ctl("cancel", job_id).status == 0


def test_a_foreman_that_is_killed_takes_commands_along_and_their_jobs_run_again(tmp_path: Path) -> None:
    fifo, note = tmp_path / "fifo", tmp_path / "note"
    os.mkfifo(fifo)
    with Daemon(tmp_path, TOML.split("[queues.small]")[0], app=APP) as daemon, daemon.client() as client:
        job_id = client.enqueue("served", {"do": "wait", "fifo": str(fifo), "note": str(note)})
        command = noted(note)
        note.unlink()
        (foreman,) = [line["pid"] for line in daemon.ctl("tree", "--json").lines if line["role"] == "foreman"]
        os.kill(foreman, signal.SIGKILL)
        until(lambda: not alive(command))
        assert noted(note) != command
        until(lambda: opened(fifo))
        assert charged(daemon.wait_state(job_id, "completed", "dead")) == ("completed", 0, 0, 1)


def test_a_master_that_is_killed_leaves_no_command(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with Daemon(tmp_path, TOML.split("[queues.small]")[0], app=APP) as daemon, daemon.client() as client:
        payload = {"do": "wait", "fifo": str(tmp_path / "fifo"), "note": str(tmp_path / "note")}
        job_id = client.enqueue("served", payload)
        command = noted(tmp_path / "note")
        daemon.kill()
        until(lambda: not alive(command))
        until(lambda: not daemon.survivors())
        daemon.start()
        until(lambda: opened(tmp_path / "fifo"))
        assert charged(daemon.wait_state(job_id, "completed", "dead")) == ("completed", 0, 0, 1)


# -- its time --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("do", ["hang", "deaf"])
def test_a_command_past_its_deadline_is_ended_with_its_group(daemon: Daemon, tmp_path: Path, do: str) -> None:
    note = tmp_path / "note"
    late, next_ = run_all(daemon, "late", [{"do": do, "note": str(note)}, {"do": "pid"}])
    assert (charged(late), last_error(late)["kind"]) == (("dead", 1, 0, 0), "timeout")
    assert last_error(late)["last_output"] == "hanging\n"
    assert charged(next_) == DONE
    until(lambda: not alive(noted(note)))


def test_a_stopped_command_is_ended_as_well(daemon: Daemon) -> None:
    late, next_ = run_all(daemon, "late", [{"do": "stop"}, {"do": "pid"}])
    assert (charged(late), last_error(late)["kind"], charged(next_)) == (("dead", 1, 0, 0), "timeout", DONE)


def test_a_command_that_tidies_up_at_its_deadline_may_still_answer(daemon: Daemon) -> None:
    job = run(daemon, "late", {"do": "tidy"})
    assert (charged(job), job["result"]) == (DONE, "tidied up")


def test_a_running_job_is_cancelled_and_the_next_one_runs(daemon: Daemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        job_id = client.enqueue("served", {"do": "hang", "note": str(tmp_path / "note")})
        noted(tmp_path / "note")
        client.cancel(job_id)
    assert charged(daemon.wait_state(job_id, "cancelled")) == ("cancelled", 0, 0, 0)
    assert charged(run(daemon, "served", {"do": "pid"})) == DONE


# -- what it says beside ---------------------------------------------------------------------------------------


def test_a_flood_on_stderr_holds_nobody_up(daemon: Daemon) -> None:
    assert charged(run(daemon, "served", {"do": "flood"})) == DONE


def test_a_command_without_stderr_serves_on_and_its_worker_sleeps(daemon: Daemon) -> None:
    first = run(daemon, "served", {"do": "quiet"})["result"]
    (worker,) = [line["pid"] for line in daemon.ctl("workers", "--json").lines if line["queue"] == "served"]

    def asleep() -> bool:
        return Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0] == "S"

    until(asleep)
    assert run(daemon, "served", {"do": "pid"})["result"] == first
    assert len([None for _ in range(50) if asleep()]) > 25


# -- its beginning ---------------------------------------------------------------------------------------------

BROKEN = {
    "exits": ('import sys; sys.exit("no database")', "it ended with exit status 1: no database"),
    "dies": ("import os; os.kill(os.getpid(), 11)", "it was ended by SIGSEGV"),
    "chats": ('print("Hello!", flush=True); input()', 'its first line must be {"ready": true}, and is Hello!'),
    "refuses": ("""print('{"ready": false}', flush=True); input()""", "it says that it is not ready"),
    "newer": ("""print('{"ready": true, "jobsup": 2}', flush=True); input()""", "it speaks version 2 of the protocol"),
    "fades": ("""print('{"ready": true}', flush=True); raise SystemExit(3)""", "a worker ended with status 3"),
    "silent": ("import time; time.sleep(600)", 'it did not write {"ready": true} within 500ms (boot_timeout)'),
}


def broken_queue(name: str, code: str) -> str:
    braced = code.replace("{", "{{").replace("}", "}}")
    command = json.dumps([sys.executable, "-c", braced])
    time = "500ms" if name == "silent" else "20s"
    rest = f'boot_timeout = "{time}"\nrestart = {{ intensity = 2 }}\n'
    return f"[queues.{name}]\ncommand = {command}\nserve = true\n{rest}"


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    toml = "[defaults]\nworkers = 1\n" + "".join(broken_queue(name, code) for name, (code, _) in BROKEN.items())
    toml += '[queues.missing]\ncommand = ["no-such-command"]\nserve = true\n'
    with Daemon(tmp_path_factory.mktemp("broken"), toml) as running:
        yield running


@pytest.mark.parametrize(
    ("queue", "said"),
    [(name, said) for name, (_, said) in BROKEN.items()] + [("missing", "no-such-command is not found")],
)
def test_a_command_that_does_not_become_ready_opens_its_circuit_and_its_jobs_wait(
    broken: Daemon, queue: str, said: str
) -> None:
    job_id = broken.enqueue(queue, {})

    def reason() -> str:
        shown = broken.ctl("status", "--json").json["queues"][queue]
        return shown["reason"] or "" if shown["circuit"] == "open" else ""

    assert said in broken.wait_for(reason)
    assert charged(broken.job(job_id)) == ("queued", 0, 0, 0)


# -- its end ---------------------------------------------------------------------------------------------------


def test_a_stop_lets_the_job_and_the_command_end(tmp_path: Path) -> None:
    fifo, note = tmp_path / "fifo", tmp_path / "note"
    os.mkfifo(fifo)
    with Daemon(tmp_path, TOML.split("[queues.small]")[0], app=APP) as daemon:
        hold = daemon.app / "hold"
        os.mkfifo(hold)
        with daemon.client() as client:
            job_id = client.enqueue("served", {"do": "wait", "fifo": str(fifo), "note": str(note)})
        command = noted(note)
        daemon.signal(signal.SIGTERM)
        fifo.write_text("go on")
        until(lambda: "no more jobs" in daemon.log)
        assert alive(command)
        until(lambda: opened(hold))
        assert daemon.wait_end() == 0
        assert (alive(command), "the end" in daemon.log) == (False, True)
        assert charged(daemon.job(job_id)) == DONE
        assert daemon.survivors() == []


SLOW = r"""
import os, sys, time

if os.path.exists("slow"):
    open("booting", "w").close()
    time.sleep(600)
print('{"ready": true}', flush=True)
sys.stdin.read()
"""


def test_a_stop_does_not_wait_for_a_command_that_is_not_ready_yet(tmp_path: Path) -> None:
    toml = f"""
[daemon]
shutdown_grace = "1h"
[queues.slow]
command = [{json.dumps(sys.executable)}, "slow.py"]
serve = true
cwd = "../app"
workers = 1
boot_timeout = "1h"
"""
    with Daemon(tmp_path, toml, app={"slow.py": SLOW}) as daemon:
        (daemon.app / "slow").touch()
        (worker,) = daemon.ctl("workers", "--json").lines
        os.kill(worker["pid"], signal.SIGKILL)
        until((daemon.app / "booting").exists)
        assert daemon.stop() == 0
        assert daemon.survivors() == []


def test_a_stop_ends_a_command_that_does_not(tmp_path: Path) -> None:
    toml = TOML.replace('shutdown_grace = "5s"', 'shutdown_grace = "500ms"')
    with Daemon(tmp_path, toml, app=APP) as daemon:
        stopped = run(daemon, "served", {"do": "rest"})["result"]
        with daemon.client() as client:
            job_id = client.enqueue("crash", {"do": "deaf", "note": str(tmp_path / "note")})
        child = noted(tmp_path / "note")
        assert daemon.stop() == 0
        assert [alive(pid) for pid in (stopped, child)] == [False, False]
        assert charged(daemon.job(job_id)) == ("queued", 0, 0, 1)


def test_commands_that_are_killed_under_load_lose_nothing(tmp_path: Path) -> None:
    toml = TOML.replace("max_crashes = 2", "max_crashes = 100\nworkers = 2")
    with Daemon(tmp_path, toml, app=APP) as daemon, daemon.client() as client:
        ids = client.enqueue_many("crash", [{"do": "pid"}] * 3_000)
        killed = 0

        def kill_one() -> bool:
            nonlocal killed
            for line in daemon.ctl("workers", "--json").lines:
                for pid in members(line["pid"]) if line["queue"] == "crash" and line["pid"] else ():
                    if pid != line["pid"] and killed < 20:
                        killed += 1
                        os.kill(pid, signal.SIGKILL)
            return killed >= 20 or daemon.ctl("status", "--json").json["queues"]["crash"]["completed"] == len(ids)

        until(kill_one, timeout=60, what="the kills")
        jobs = [client.wait(job_id, timeout=60) for job_id in ids]
        assert {job["state"] for job in jobs} == {"completed"}
        assert sum(job["crashes"] for job in jobs) <= killed
        assert {(job["failures"], job["interruptions"]) for job in jobs} == {(0, 0)}
        assert killed > 0
