"""Tasks through TOML, a shell and real processes: dispatch, what is checked, what waits for code, versions."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from supervisor.errors import InvalidPayload, JobsupError
from tests.support.daemon import Daemon, Site
from tests.support.waiting import until

TOML = """
[daemon]
python_path = ["../app"]
[queues.mail]
handler = "mail"
workers = 2
[queues.plain]
handler = "plain:run"
"""
PLAIN = "def run(job):\n    return job.task\n"
OLD = """
from typing import Literal
from supervisor.task import task

@task
def welcome(job, to: str, language: Literal["en", "de"] = "en"):
    return {"to": to, "language": language, "task": job.task, "version": job.version}

@task
def fan(job, count: int):
    for number in range(count):
        job.enqueue("mail", {"to": str(number)}, task="welcome")

@task
def anything(job):
    return job.payload
"""
NEW = """
from supervisor.task import task

@task(name="greet", aliases=["welcome"], version=2)
def greet(job, to: list[str], language: str = "en"):
    return {"to": to, "language": language, "task": job.task, "version": job.version}

@greet.upgrade(1)
def _(payload):
    return payload | {"to": [payload["to"]]}

@task
def later():
    return "at last"
"""
THREAD = "\nimport threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"


def daemon_of(path: Path, code: str = OLD) -> Daemon:
    return Daemon(path, TOML, app={"mail.py": code, "plain.py": PLAIN})


def change(daemon: Daemon, code: str) -> None:
    """Deploy other code, as a restart does."""
    daemon.stop()
    (daemon.app / "mail.py").write_text(code)
    daemon.start()


def refusal(daemon: Daemon, *args: object) -> str:
    ran = daemon.ctl("enqueue", *args)
    assert ran.status == 2, (ran.status, ran.out, ran.err)
    return ran.err


def tasks(daemon: Daemon) -> dict[tuple[str, int], Any]:
    return {(row["task"], row["version"]): row for row in daemon.ctl("tasks", "mail", "--json").lines}


def test_a_job_is_run_by_the_task_that_it_names(tmp_path: Path) -> None:
    with daemon_of(tmp_path) as daemon:
        welcome = daemon.enqueue("mail", {"to": "a", "language": "de"}, "--task", "welcome")
        other = daemon.enqueue("mail", [1, 2], "--task", "anything")
        found = daemon.wait_state(welcome, "completed")
        assert found["result"] == {"to": "a", "language": "de", "task": "welcome", "version": 1}
        assert found["task"] == "welcome"
        assert daemon.wait_state(other, "completed")["result"] == [1, 2]


def test_what_code_has_published_is_checked_when_a_job_comes(tmp_path: Path) -> None:
    with daemon_of(tmp_path) as daemon:
        until(lambda: tasks(daemon), 10, "the tasks are published")
        assert 'does not fit task welcome: this is not of type "string", at to' in refusal(
            daemon, "mail", '{"to": 5}', "--task", "welcome"
        )
        assert 'this is not one of "de" or "en", at language' in refusal(
            daemon, "mail", '{"to": "a", "language": "fr"}', "--task", "welcome"
        )
        assert '"to" is a required property' in refusal(daemon, "mail", "{}", "--task", "welcome")
        assert "'cc' was unexpected" in refusal(daemon, "mail", '{"to": "a", "cc": "b"}', "--task", "welcome")
        said = refusal(daemon, "mail", "{}")
        assert "queue mail runs tasks, and the job names none" in said
        assert "anything, fan, welcome" in said
        assert "queue plain has no tasks" in refusal(daemon, "plain", "{}", "--task", "welcome")
        assert "queue plain has no tasks" in refusal(daemon, "plain", "{}", "--version", "2")
        with daemon.client() as client:
            with pytest.raises(InvalidPayload, match="does not fit task welcome"):
                client.enqueue_many("mail", [{"to": "a"}, {"to": None}], task="welcome")
            assert client.status()["queues"]["mail"]["queued"] == 0
        # The rows still say what fits when nobody runs.
        daemon.stop()
        assert "does not fit task welcome" in refusal(daemon, "mail", '{"to": 5}', "--task", "welcome")
        waiting = daemon.enqueue("mail", {"to": "b"}, "--task", "welcome")
        daemon.start()
        assert daemon.wait_state(waiting, "completed")["result"]["to"] == "b"


def test_a_task_that_nobody_knows_waits_and_starts_by_itself_when_its_code_arrives(tmp_path: Path) -> None:
    with daemon_of(tmp_path) as daemon:
        job = daemon.enqueue("mail", None, "--task", "later")
        found = daemon.wait_state(job, "blocked")
        assert (found["attempt"], found["failures"], found["errors"]) == (0, 0, [])
        said = daemon.ctl("explain", job, "--json").json
        assert said["state"] == "blocked"
        assert "no worker at hand knows task later" in said["sentence"]
        assert [reason["kind"] for reason in said["reasons"]] == ["no_code"]
        row = tasks(daemon)["later", None]
        assert (row["known"], row["blocked"]) == (False, 1)
        assert daemon.ctl("tasks", "plain", "--json").lines == []
        assert daemon.ctl("status", "--json").json["queues"]["mail"]["blocked"] == 1
        assert [one["id"] for one in daemon.ctl("list", "--state", "blocked", "--json").lines] == [job]
        assert "later" in daemon.log
        change(daemon, NEW)
        assert daemon.wait_state(job, "completed")["result"] == "at last"
        row = tasks(daemon)["later", 1]
        assert (row["known"], row["blocked"]) == (True, 0)


def test_old_payloads_are_upgraded_and_newer_ones_never_given_to_older_code(tmp_path: Path) -> None:
    with daemon_of(tmp_path) as daemon:
        daemon.ctl("pause", "mail")
        old = daemon.enqueue("mail", {"to": "a"}, "--task", "welcome")
        newer = daemon.enqueue("mail", {"to": ["b"]}, "--task", "welcome", "--version", 2)
        daemon.ctl("resume", "mail")
        assert daemon.wait_state(old, "completed")["result"]["to"] == "a"
        daemon.wait_state(newer, "blocked")
        daemon.ctl("pause", "mail")
        kept = daemon.enqueue("mail", {"to": "c"}, "--task", "welcome")
        change(daemon, NEW)  # renamed to greet, of version 2
        daemon.ctl("resume", "mail")
        assert daemon.wait_state(kept, "completed")["result"] == {
            "to": ["c"], "language": "en", "task": "welcome", "version": 2,
        }  # fmt: skip
        assert daemon.wait_state(newer, "completed")["result"]["to"] == ["b"]
        latest = daemon.enqueue("mail", {"to": ["d"]}, "--task", "greet")
        assert daemon.wait_state(latest, "completed")["version"] == 2
        change(daemon, OLD)  # and back: what is new waits again
        back = daemon.enqueue("mail", {"to": ["e"]}, "--task", "greet", "--version", 2)
        assert daemon.wait_state(back, "blocked")["failures"] == 0


def test_an_import_that_leaves_threads_publishes_all_the_same(tmp_path: Path) -> None:
    with daemon_of(tmp_path, OLD + THREAD) as daemon:
        until(lambda: len(tasks(daemon)) == 3, 10, "the tasks are published")
        assert daemon.ctl("status", "--json").json["queues"]["mail"]["preloaded"] is False
        assert "does not fit" in refusal(daemon, "mail", '{"to": 5}', "--task", "welcome")
        assert daemon.wait_state(daemon.enqueue("mail", {"to": "a"}, "--task", "welcome"), "completed")


def test_what_a_task_enqueues_is_a_job_of_a_task_or_its_failure(tmp_path: Path) -> None:
    with daemon_of(tmp_path) as daemon:
        daemon.wait_state(daemon.enqueue("mail", {"count": 3}, "--task", "fan"), "completed")
        with daemon.client() as client:
            until(lambda: client.status()["queues"]["mail"]["completed"] == 4, 10, "all children are done")


def test_parked_jobs_outlive_kills_of_keeper_and_daemon(tmp_path: Path) -> None:
    with daemon_of(tmp_path) as daemon:
        ids = [daemon.enqueue("mail", None, "--task", "later") for _ in range(3)]
        for job in ids:
            daemon.wait_state(job, "blocked")
        keeper = next(row["pid"] for row in daemon.ctl("tree", "--json").lines if row["role"] == "keeper")
        os.kill(keeper, signal.SIGKILL)
        until(lambda: daemon.ctl("cancel", ids[0]).status == 0, 10, "another keeper has taken over")
        assert daemon.job(ids[0])["state"] == "cancelled"
        daemon.kill()
        daemon.sweep()
        assert daemon.job(ids[1])["state"] == "blocked"
        (daemon.app / "mail.py").write_text(NEW)
        daemon.start()
        assert daemon.wait_state(ids[2], "completed")["result"] == "at last"
        assert daemon.wait_state(ids[1], "completed")["result"] == "at last"


def test_a_parked_job_is_given_the_task_that_was_meant(tmp_path: Path) -> None:
    with daemon_of(tmp_path) as daemon:
        lost, kept = (daemon.enqueue("mail", {"to": "a"}, "--task", "welcom") for _ in range(2))
        daemon.wait_state(lost, "blocked")
        daemon.wait_state(kept, "blocked")
        for wrong, said in ((("--task", "fan"), "does not fit task fan"), (("--version", "0"), "is not in the range")):
            ran = daemon.ctl("edit", lost, *wrong)
            assert (ran.status, said in ran.err) == (2, True), ran.err
        assert daemon.job(lost)["task"] == "welcom"
        assert daemon.ctl("edit", lost, "--task", "welcome").status == 0
        assert daemon.wait_state(lost, "completed")["result"] == {
            "to": "a", "language": "en", "task": "welcome", "version": 1
        }  # fmt: skip
        assert daemon.ctl("edit", kept, "--task", "elsewhere", "--version", "3").status == 0
        shown = daemon.job(kept)
        assert (shown["state"], shown["task"], shown["version"]) == ("blocked", "elsewhere", 3)
        waited = [row["task"] for row in daemon.ctl("tasks", "--json").lines if not row["known"]]
        assert waited == ["elsewhere"]
        assert daemon.ctl("edit", kept, "--task", "anything").status == 0
        assert daemon.wait_state(kept, "completed")["result"] == {"to": "a"}
        assert daemon.job(kept)["version"] == 1, "that of another task says nothing of this one"


def test_a_job_is_given_another_task_without_a_daemon(tmp_path: Path) -> None:
    with daemon_of(tmp_path) as daemon:
        job = daemon.enqueue("mail", {"to": "a"}, "--task", "welcom")
        daemon.wait_state(job, "blocked")
        daemon.stop()
        assert daemon.ctl("edit", job, "--task", "welcome").status == 0
        daemon.start()
        assert daemon.wait_state(job, "completed")["result"]["task"] == "welcome"


def test_a_queue_without_tasks_gives_none(tmp_path: Path) -> None:
    with daemon_of(tmp_path) as daemon:
        daemon.ctl("pause", "plain")
        job = daemon.enqueue("plain", None)
        ran = daemon.ctl("edit", job, "--task", "welcome")
        assert (ran.status, "queue plain has no tasks" in ran.err) == (2, True)
        ran = daemon.ctl("edit", job, "--task", "welcome", "--queue", "mail")
        assert (ran.status, "does not fit task welcome" in ran.err) == (2, True)
        assert daemon.ctl("edit", job, "--task", "anything", "--queue", "mail").status == 0
        assert daemon.wait_state(job, "completed")["task"] == "anything"


def test_jobs_are_found_by_their_task(tmp_path: Path) -> None:
    with daemon_of(tmp_path) as daemon:
        daemon.ctl("pause", "mail")
        first = daemon.enqueue("mail", {"to": "a"}, "--task", "welcome")
        second = daemon.enqueue("mail", 1, "--task", "anything")
        plain = daemon.enqueue("plain", None)
        listed = {row["id"]: row["task"] for row in daemon.ctl("list", "--json").lines}
        assert listed == {first: "welcome", second: "anything", plain: None}
        assert daemon.ctl("list", "--task", "anything").out.rstrip("\n").split("\t")[-1] == "anything"
        assert [row["id"] for row in daemon.ctl("export", "--task", "welcome", "--json").lines] == [first]
        dry, done = (["delete", "--task", "welcome", "--state", "queued", *more] for more in (["--dry-run"], []))
        assert [daemon.ctl(*each).out for each in (dry, done, done)] == ["1\n", "1\n", "0\n"]


def test_a_parked_job_can_be_changed_and_its_task_still_says_what_fits(tmp_path: Path) -> None:
    with daemon_of(tmp_path) as daemon:
        daemon.ctl("pause", "mail")
        job = daemon.enqueue("mail", {"to": "a"}, "--task", "welcome")
        ran = daemon.ctl("edit", job, "--payload", '{"to": 5}')
        assert (ran.status, "does not fit task welcome" in ran.err) == (2, True)
        assert daemon.ctl("edit", job, "--payload", '{"to": "z"}').status == 0
        daemon.ctl("resume", "mail")
        assert daemon.wait_state(job, "completed")["result"]["to"] == "z"
        parked = daemon.enqueue("mail", {"x": 1}, "--task", "later")
        daemon.wait_state(parked, "blocked")
        assert daemon.ctl("edit", parked, "--priority", 0, "--tag", "t").status == 0
        ran = daemon.ctl("edit", parked, "--delay", "5m")
        assert (ran.status, "is blocked" in ran.err) == (1, True)
        assert daemon.ctl("retry", parked).status == 1
        assert daemon.ctl("purge", "mail", "--state", "blocked").status == 0
        assert daemon.ctl("status", parked).status == 3


def test_where_there_are_no_tasks_a_parked_job_runs(tmp_path: Path) -> None:
    with daemon_of(tmp_path) as daemon:
        ids = [daemon.enqueue("mail", None, "--task", "later") for _ in range(3)]
        for job in ids:
            daemon.wait_state(job, "blocked")
        assert daemon.ctl("edit", ids[0], "--queue", "plain").status == 0
        assert daemon.wait_state(ids[0], "completed")["result"] == "later"
        assert daemon.ctl("move", "mail", "plain").status == 0
        assert daemon.wait_state(ids[1], "completed")["queue"] == "plain"
        again = daemon.enqueue("mail", None, "--task", "later")
        daemon.wait_state(again, "blocked")
        daemon.configure(TOML.replace('handler = "mail"', 'handler = "plain:run"'))
        assert daemon.ctl("reload").status == 0
        assert daemon.wait_state(again, "completed")["result"] == "later"


def test_a_schedule_names_its_task(tmp_path: Path) -> None:
    toml = TOML + '[schedules.daily]\nqueue = "mail"\ncron = "@daily"\ntask = "welcome"\npayload = { to = "all" }\n'
    with Daemon(tmp_path, toml, app={"mail.py": OLD, "plain.py": PLAIN}) as daemon:
        ran = daemon.ctl("cron", "run", "daily", "--json")
        assert ran.status == 0, ran.err
        assert daemon.wait_state(ran.json["id"], "completed")["result"]["to"] == "all"


@pytest.mark.parametrize(
    "code, said",
    [
        ("x = 1\n", "module mail has no tasks: mark functions with @task, or write module:function"),
        (OLD + "\n@task(name='fan')\ndef other(): ...\n", "module mail has two tasks of the name fan"),
        (OLD + "\n@task\ndef many(*args): ...\n", "task many: parameter *args cannot be filled from a JSON object"),
        (OLD + "\n@task\nasync def slow(): ...\n", "task slow is an async function"),
    ],
)
def test_a_module_whose_tasks_mean_nothing_opens_its_circuit_and_status_says_why(
    tmp_path: Path, code: str, said: str
) -> None:
    with daemon_of(tmp_path, code) as daemon:
        waiting = daemon.enqueue("mail", {}, "--task", "fan")
        reason = until(lambda: daemon.ctl("status", "--json").json["queues"]["mail"]["reason"], 15, "status says why")
        assert said in reason
        assert daemon.job(waiting)["state"] == "queued"


def test_what_does_not_fit_is_neither_quoted_nor_too_long_to_be_said(tmp_path: Path) -> None:
    """The value may be long, or be hidden from whoever reads the error."""
    with daemon_of(tmp_path) as daemon, daemon.client() as client:
        until(lambda: tasks(daemon), 10, "the tasks are published")
        for value in (['"' * 500_000], "x" * 5_000_000, {"secret" * 20_000: 1}):
            with pytest.raises(JobsupError) as refused:
                client.enqueue("mail", {"to": "a", "language": value}, task="welcome")
            assert len(refused.value.message) < 1_000
        with pytest.raises(InvalidPayload) as refused:
            client.enqueue("mail", {"to": 12345678}, task="welcome")
        assert "12345678" not in refused.value.message
        assert daemon.ctl("status", "--json").json["daemon"]["running"]
        assert "ended with" not in daemon.log


def test_a_job_without_a_version_runs_by_whatever_version_arrives_first(tmp_path: Path) -> None:
    with daemon_of(tmp_path) as daemon:
        job = daemon.enqueue("mail", {"to": ["a"]}, "--task", "greet")
        daemon.wait_state(job, "blocked")
        assert (tasks(daemon)["greet", None]["blocked"], daemon.job(job)["version"]) == (1, None)
        change(daemon, NEW)
        assert daemon.wait_state(job, "completed")["result"]["to"] == ["a"]


def test_jobs_of_different_tasks_are_never_the_same(tmp_path: Path) -> None:
    toml = TOML.replace('handler = "mail"', 'handler = "mail"\nunique = { on_conflict = "replace", by = ["to"] }')
    with Daemon(tmp_path, toml, app={"mail.py": OLD, "plain.py": PLAIN}) as daemon:
        until(lambda: tasks(daemon), 10, "the tasks are published")
        one = daemon.enqueue("mail", {"to": "a"}, "--task", "welcome", "--delay", "1h")
        other = daemon.enqueue("mail", {"to": "a"}, "--task", "anything", "--delay", "1h")
        again = daemon.enqueue("mail", {"to": "a", "language": "de"}, "--task", "welcome", "--delay", "1h")
        assert (other != one, again) == (True, one)
        newer = daemon.enqueue("mail", {"to": "a", "x": 1}, "--task", "welcome", "--version", 7, "--delay", "1h")
        found = daemon.job(one)
        assert (newer, found["payload"], found["version"]) == (one, {"to": "a", "x": 1}, 7)


def test_a_list_of_tasks_that_is_none_is_passed_over(tmp_path: Path) -> None:
    forged = (
        "from supervisor.policy.tasks import Known\nfrom supervisor.worker.executors.tasks import TaskExecutor\n"
        'TaskExecutor.known = property(lambda self: (Known("x"), Known("x"), Known("y", 2**70)))\n'
    )
    with daemon_of(tmp_path, forged + OLD) as daemon:
        assert daemon.wait_state(daemon.enqueue("mail", {"to": "a"}, "--task", "welcome"), "completed")
        assert daemon.wait_state(daemon.enqueue("plain", None), "completed")
        assert "ended with" not in daemon.log


DRAWN = """
[queues.drawn]
[pools.shared]
handler = "mail"
sources = ["drawn"]
"""


@pytest.mark.parametrize(
    "more, said",
    [
        ('[alerts]\nqueue = "mail"\npayload = {}\n', "alerts.queue: mail runs tasks, and what it would get names none"),
        ('[queues.x]\ncommand = ["true"]\non_dead = "mail"\n', "queues.x.on_dead: mail runs tasks"),
        (DRAWN + '[queues.x]\ncommand = ["true"]\non_failure = "drawn"\n', "queues.x.on_failure: drawn runs tasks"),
        ('[queues."t_*"]\nhandler = "mail"\n[queues.x]\ncommand = ["true"]\non_dead = "t_1"\n', "on_dead: t_1 runs"),
        (DRAWN + '[schedules.s]\nqueue = "drawn"\nevery = "1h"\n', "schedules.s: says no task"),
        ('[schedules.s]\nqueue = "mail"\nevery = "1h"\n', "schedules.s: says no task, and queue mail runs tasks"),
        (
            '[schedules.s]\nqueue = "plain"\nevery = "1h"\ntask = "t"\n',
            "schedules.s.task: means nothing in queue plain",
        ),
    ],
)
def test_what_would_send_jobs_without_a_task_is_an_error_of_the_file(tmp_path: Path, more: str, said: str) -> None:
    site = Site(tmp_path, TOML + more, app={"mail.py": OLD, "plain.py": PLAIN})
    ran = site.ctl("config", "check")
    assert (ran.status, said in ran.err + ran.out) == (2, True), ran.err + ran.out


def test_a_schedule_can_be_added_for_a_task(tmp_path: Path) -> None:
    with daemon_of(tmp_path) as daemon:
        words = ("cron", "add", "s", "mail", '{"to": "x"}', "--every", "1h", "--task", "welcome", "--json")
        assert daemon.ctl(*words).status == 0
        job = daemon.ctl("cron", "run", "s", "--json").json["id"]
        assert daemon.wait_state(job, "completed")["result"]["to"] == "x"


def test_jobs_from_before_a_queue_had_tasks_wait_and_say_so(tmp_path: Path) -> None:
    toml = TOML.replace('handler = "mail"', 'handler = "plain:run"')
    with Daemon(tmp_path, toml, app={"mail.py": OLD, "plain.py": PLAIN}) as daemon:
        daemon.ctl("pause", "mail")
        job = daemon.enqueue("mail", {"a": 1})
        daemon.configure(TOML)
        assert daemon.ctl("reload").status == 0
        daemon.ctl("resume", "mail")
        daemon.wait_state(job, "blocked")
        assert "it names no task, and its queue runs tasks only" in daemon.ctl("explain", job).out
        assert daemon.ctl("move", "mail", "plain").status == 0
        assert daemon.wait_state(job, "completed")["result"] is None
