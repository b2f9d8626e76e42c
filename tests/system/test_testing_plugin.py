"""The pytest plugin, and docs/testing.md, in real runs of pytest."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import threading
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from supervisor.errors import UsageError
from supervisor.testing import FAILPOINTS, Daemon, DaemonFailed
from supervisor.testing.waiting import until
from tests.support.daemon import ROOT
from tests.support.outbox import Application, payloads
from tests.support.waiting import alive, gone

pytest_plugins = ["pytester"]

PAGE = (ROOT / "docs" / "testing.md").read_text()
BLOCK = re.compile(r"this in\s+`([\w./]+)`[^`]*?\n\n```\w+\n(.*?)^```\n", flags=re.MULTILINE | re.DOTALL)
FILES = dict(BLOCK.findall(PAGE))
TOML = """
[daemon]
python_path = ["../app"]
[queues.greet]
handler = "greet:run"
workers = 1
"""
HANDLER = "def run(job):\n    return 'Hello'\n"


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project of a user, with a configuration and a handler."""
    write(pytester.path, {"etc/queues.toml": TOML, "app/greet.py": HANDLER, "pytest.ini": "[pytest]\n"})
    for name in [name for name in os.environ if name.startswith(("JOBSUP_", "PYTEST_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return pytester


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_the_plugin_is_registered() -> None:
    (found,) = [point for point in entry_points(group="pytest11") if point.name == "jobsup"]
    assert found.value == "supervisor.testing.plugin", "install this tree anew: pip install -e ."


def test_the_examples_of_the_page_are_tests_that_pass(project: pytest.Pytester) -> None:
    assert {"etc/queues.toml", "app/shop.py", "app/tasks.py", "pytest.ini"} < FILES.keys()
    write(project.path, FILES)
    wanted = sum(text.count("\ndef test_") for text in FILES.values()) + 2  # one has three parameters
    result = project.runpytest_subprocess("-q", "tests")
    result.assert_outcomes(passed=wanted)


def test_the_failure_that_the_page_shows_is_the_one_that_comes(project: pytest.Pytester) -> None:
    write(project.path, {name: text for name, text in FILES.items() if not name.startswith("tests/")})
    shown = PAGE.split("and what differs:\n\n```\n")[1].split("```")[0].splitlines()
    project.makepyfile(
        """
        def test_it(jobsup_queue):
            jobsup_queue.client.enqueue("orders", {"order": 7, "customer": "ada"}, key="ada")
            jobsup_queue.assert_enqueued("orders", payload={"order": 8, "customer": "ada"})
        """
    )
    result = project.runpytest_subprocess("-q")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"E*{line.strip().replace('[', '[[]')}" for line in shown])


def test_every_action_of_a_failpoint_is_on_the_page() -> None:
    from supervisor.observe.failpoint import ACTIONS

    assert [action for action in ACTIONS if f"`{action}`" not in PAGE] == []


def test_a_run_that_asks_for_no_fixture_imports_nothing(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import sys

        def test_it():
            ours = {name for name in sys.modules if name.partition(".")[0] == "supervisor"}
            assert ours == {"supervisor", "supervisor.testing", "supervisor.testing.plugin"}
            assert not {"msgspec", "sqlite3", "pysqlite3", "jsonschema_rs"} & sys.modules.keys()
        """
    )
    project.runpytest_subprocess("-q").assert_outcomes(passed=1)


def test_the_configuration_is_that_of_the_ini_file_or_of_a_fixture(project: pytest.Pytester) -> None:
    write(project.path, {"conf/other.toml": TOML.replace("queues.greet", "queues.other")})
    (project.path / "pytest.ini").write_text("[pytest]\njobsup_config = conf/other.toml\n")
    project.makepyfile(
        test_ini="def test_it(jobsup_queue): jobsup_queue.counts('other')",
        test_fixture="""
        from pathlib import Path
        import pytest

        @pytest.fixture
        def jobsup_config():
            return Path(__file__).parent / "etc" / "queues.toml"

        def test_it(jobsup_queue, jobsup_config):
            jobsup_queue.counts("greet")
            assert jobsup_config.name == "queues.toml"
        """,
    )
    project.runpytest_subprocess("-q").assert_outcomes(passed=2)


def test_without_a_configuration_it_says_where_it_was_looked_for(project: pytest.Pytester) -> None:
    (project.path / "etc" / "queues.toml").unlink()
    project.makepyfile("def test_it(jobsup_queue): ...")
    result = project.runpytest_subprocess("-q")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ConfigError*etc/queues.toml*"])


def test_the_fixtures_are_described(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("--fixtures")
    result.stdout.fnmatch_lines_random(["jobsup_config*", "jobsup_queue*", "jobsup_daemon*"])


@pytest.mark.parametrize("ending", ["pass", "assert False", "jobsup_daemon.kill()", "raise KeyboardInterrupt"])
def test_a_daemon_is_gone_after_its_test_however_that_ends(project: pytest.Pytester, ending: str) -> None:
    project.makepyfile(
        f"""
        def test_it(jobsup_daemon):
            job = jobsup_daemon.client.enqueue("greet", {{}})
            assert jobsup_daemon.client.wait(job, timeout="30s")["result"] == "Hello"
            with open("pids", "w") as file:
                print(*jobsup_daemon.survivors(), jobsup_daemon.folder, file=file)
            {ending}
        """
    )
    project.runpytest_subprocess("-q")
    *pids, folder = (project.path / "pids").read_text().split()
    assert len(pids) >= 4, "master, keeper, foreman, worker"
    gone(*map(int, pids))
    assert not Path(folder).exists()


def test_a_failed_test_shows_the_log_of_its_daemon(project: pytest.Pytester) -> None:
    project.makepyfile("def test_it(jobsup_daemon): assert False")
    result = project.runpytest_subprocess("-q")
    result.stdout.fnmatch_lines(["*log of jobsupd*", "*pools for 1 workers*"])


# -- the daemon by itself --------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write(tmp_path, {"etc/queues.toml": TOML, "app/greet.py": HANDLER})
    return tmp_path / "etc" / "queues.toml"


def test_a_stopped_process_does_not_keep_a_daemon_from_ending(config: Path) -> None:
    with Daemon(config, failpoints={"keeper.after_accept": "stop"}) as daemon:
        asking = threading.Thread(target=lambda: daemon.client.enqueue("greet", {}))
        asking.start()
        stopped = daemon.wait_struck("keeper.after_accept")
        pids = daemon.survivors()
        assert stopped in pids
        os.kill(stopped, signal.SIGCONT)
        asking.join()
        os.kill(stopped, signal.SIGSTOP)
    gone(*pids)


def test_a_daemon_goes_on_with_its_jobs_after_a_kill_of_its_master(config: Path) -> None:
    with Daemon(config) as daemon:
        job = daemon.client.enqueue("greet", {}, delay="1s")
        assert daemon.kill() == -signal.SIGKILL
        daemon.restart()
        assert daemon.client.wait(job, timeout="30s")["state"] == "completed"
        assert daemon.stop() == 0
        assert not daemon.running
        with pytest.raises(TimeoutError, match=r"a strike at master\.before_exit"):
            daemon.wait_struck("master.before_exit", timeout_s=0.1)


def test_a_daemon_that_cannot_start_says_why_and_leaves_nothing(config: Path) -> None:
    daemon = Daemon(config, failpoints={"master.after_slot": "exit"})
    with pytest.raises(DaemonFailed, match="ended with 3 before it was ready"), daemon:
        pass
    assert daemon.survivors() == []
    assert not daemon.folder.exists()


def test_failpoints_that_do_not_exist_are_refused(config: Path) -> None:
    with pytest.raises(ValueError, match=r"keeper\.nowhere"):
        Daemon(config, failpoints={"keeper.nowhere": "kill"})
    with pytest.raises(ValueError, match="names no failpoint or no action"):
        Daemon(config, failpoints={"keeper.finish": "explode"})
    assert "keeper.finish" in FAILPOINTS


def test_what_is_configured_outside_is_not_touched(config: Path) -> None:
    """Neither the database and the log that the file names, nor a daemon that this environment names."""
    config.write_text('[log]\ntarget = "../real.log"\n[alerts]\ncommand = ["touch", "told"]\n' + TOML)
    with Daemon(config) as daemon:
        daemon.client.wait(daemon.client.enqueue("greet", {}), timeout="30s")
        assert daemon.database.exists()
        assert all(map(alive, daemon.survivors()))
    assert sorted(os.listdir(config.parent.parent)) == ["app", "etc"]


OUTBOXES = """
[[outbox]]
database = "../app.db"
[[outbox]]
name = "other"
database = "../other.db"
queues = ["greet"]
interval = "200ms"
"""


def left_alone(application: Application) -> bool:
    """Whether nobody has taken a row, or said that the rows are its own."""
    claimed = application.ask("SELECT owner FROM jobsup_outbox_instance") != [(None,)]
    return application.rows() == [(1, "greet", None)] and not claimed


def test_rows_of_outboxes_are_left_to_the_real_daemon(config: Path) -> None:
    config.write_text(OUTBOXES + TOML)
    applications = [Application(config.parent.parent / f"{name}.db") for name in ("app", "other")]
    for application in applications:
        application.put("greet", None)
    with Daemon(config) as daemon:
        assert daemon.client.status()["outboxes"] == {}
        daemon.client.wait(daemon.client.enqueue("greet", {}), timeout="30s")
        os.kill(daemon.pid, signal.SIGHUP)
        until(lambda: "reloaded" in daemon.log, 10, "the end of the reload")
    assert all(map(left_alone, applications))


def test_an_outbox_is_served_in_a_database_of_the_tests_own(config: Path, tmp_path: Path) -> None:
    config.write_text(OUTBOXES + TOML)
    real, own = Application(config.parent.parent / "other.db"), Application(tmp_path / 'an "own" ${one}.db')
    for application in (real, own):
        application.put("greet", None)
    with Daemon(config, outboxes={"other": own.path}) as daemon:
        until(lambda: own.rows() == [], 10, "the end of the row")
        assert daemon.client.status()["outboxes"].keys() == {"other"}
        assert daemon.client.wait(1, timeout="30s")["result"] == "Hello"
    assert left_alone(real)


def test_an_outbox_that_is_none_is_refused_and_leaves_nothing(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(UsageError, match="the configuration has no outbox shop") as caught:
        Daemon(config, outboxes={"shop": tmp_path / "shop.db"})
    assert caught.value.hint == "there is none"
    config.write_text(OUTBOXES + TOML)
    with pytest.raises(UsageError) as caught:
        Daemon(config, outboxes={"shop": tmp_path / "shop.db"})
    assert caught.value.hint == "there are app, other"
    assert sorted(os.listdir(tmp_path)) == ["app", "etc"]


@pytest.mark.parametrize(("overrides", "alerts"), [((), 0), (['alerts.on=["dead"]'], 1)])
def test_nobody_is_alerted_but_where_a_test_wants_it(config: Path, overrides: list[str], alerts: int) -> None:
    wanted = '[alerts]\nqueue = "pager"\npayload = { text = "{summary}" }\n'
    bad = '[queues.bad]\ncommand = ["false"]\nmax_attempts = 1\n[queues.pager]\nhandler = "greet:run"\n'
    config.write_text(wanted + TOML + bad)
    with Daemon(config, overrides=overrides) as daemon:
        daemon.client.wait(daemon.client.enqueue("bad", {}), timeout="30s")
        assert daemon.stop() == 0  # what is gathered is told before the end
        assert len(payloads(daemon.database, "pager")) == alerts
