"""jobsctl doctor finds each mishap that is staged here, by its name, and says what to do about it."""

from __future__ import annotations

import os
import resource
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from supervisor.unix.clock import boot_id, wall_ms
from supervisor.wire import messages
from tests.architecture.test_docs import findings
from tests.support.daemon import Daemon, Ran, Site, drop_privileges, environment
from tests.support.fake_keeper import FakeKeeper
from tests.support.outbox import Application
from tests.support.terminal import entry
from tests.support.waiting import until

TOML = '[defaults]\nworkers = 1\n[queues.emails]\ncommand = ["true"]\n'


class Stage:
    """A good site, on which a test stages one mishap. `within` ends what must run meanwhile."""

    def __init__(self, site: Site, within: ExitStack) -> None:
        self.site = site
        self.within = within
        self.env: dict[str, str] = {}
        self.patch = ""
        self.before_exec: Callable[[], None] | None = None

    def init(self) -> None:
        """Make the database."""
        command = [sys.executable, "-m", "supervisor.cli.jobsupd", "--one-shot", "--init", "-c", str(self.site.config)]
        subprocess.run(command, check=True, env=environment(), capture_output=True)

    def sql(self, script: str) -> None:
        """Change the database behind jobsup's back; nobody else has it open."""
        with sqlite3.connect(self.site.database) as connection:
            connection.executescript(script)
        connection.close()

    def keeper(self, kind: type[FakeKeeper] = FakeKeeper) -> FakeKeeper:
        """Something that answers at the socket."""
        self.site.run_dir.mkdir(exist_ok=True)
        return self.within.enter_context(kind(str(self.site.socket)))

    def process(self, program: str) -> subprocess.Popen[bytes]:
        """A Python program that writes a line when it is ready, and runs until the test is over."""
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(self.site.database), str(self.site.socket)],
            env=environment(), stdout=subprocess.PIPE, stdin=subprocess.PIPE,
        )  # fmt: skip
        self.within.callback(lambda: (process.kill(), process.communicate()))
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    def doctor(self) -> Ran:
        """What doctor says of it."""
        program = entry().replace("from supervisor.cli.jobsctl", f"{self.patch}\nfrom supervisor.cli.jobsctl")
        command = [sys.executable, "-c", program, "-c", str(self.site.config), "doctor", "--json"]
        done = subprocess.run(
            command, env=environment(self.env), capture_output=True, check=False, preexec_fn=self.before_exec
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as within:
        yield Stage(Site(tmp_path, TOML), within)


def package_clash(stage: Stage) -> None:
    folder = stage.site.path / "lib" / "supervisor-4.3.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: supervisor\nVersion: 4.3.0\n")
    (folder / "top_level.txt").write_text("supervisor\n")
    stage.env["PYTHONPATH"] = f"{environment()['PYTHONPATH']}:{folder.parent}"


def config_invalid(stage: Stage) -> None:
    stage.site.configure(TOML + "wrokers = 3\n")


def config_writable(stage: Stage) -> None:
    stage.site.config.chmod(0o666)


def handler_unusable(stage: Stage) -> None:
    stage.site.configure(TOML + '[queues.more]\nhandler = "nowhere.to_be_found:run"\n')


def config_advice(stage: Stage) -> None:
    stage.site.configure('[daemon]\npython_path = ["../nowhere"]\n' + TOML)


def config_not_loaded(stage: Stage) -> None:
    stage.keeper()  # it knows other queues than the file


def alerts_failing(stage: Stage) -> None:
    stage.site.configure('[alerts]\ncommand = ["/nowhere/tell"]\n' + TOML)


def outbox_stuck(stage: Stage) -> None:
    toml = '[[outbox]]\ndatabase = "../app.db"\n' + TOML
    daemon = stage.within.enter_context(Daemon(stage.site.path, toml))
    until(lambda: daemon.ctl("outbox", "list", "--json").lines[0]["error"], what="an outbox without a file")


def outbox_refused(stage: Stage) -> None:
    toml = '[[outbox]]\ndatabase = "../app.db"\n' + TOML
    Application(stage.site.path / "app.db").put("nowhere", 1)
    daemon = stage.within.enter_context(Daemon(stage.site.path, toml))
    until(lambda: daemon.ctl("outbox", "list", "--json").lines[0]["refused"], what="a refused row")


def database_missing(_stage: Stage) -> None:
    pass


def database_hard_linked(stage: Stage) -> None:
    stage.init()
    os.link(stage.site.database, stage.site.path / "another name")


def database_network(stage: Stage) -> None:
    stage.init()  # no network file system can be mounted here: the one at hand is declared to be one
    stage.patch = (
        "import os, supervisor.store.open as place\n"
        f"kind = place.file_system_of(os.stat({str(stage.site.database)!r}).st_dev)\n"
        "place.NETWORK_FILE_SYSTEMS = frozenset({kind})"
    )


def database_unreadable(stage: Stage) -> None:
    stage.init()
    stage.site.database.chmod(0)
    stage.before_exec = drop_privileges


def database_foreign(stage: Stage) -> None:
    stage.sql("CREATE TABLE cats (name TEXT)")


def database_newer(stage: Stage) -> None:
    stage.init()
    stage.sql(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('jobsup', 'm999', '2999-01-01')"
    )


def database_damaged(stage: Stage) -> None:
    stage.init()
    stage.sql("PRAGMA journal_mode = DELETE")
    stage.sql(MANY_JOBS)
    with stage.site.database.open("r+b") as file:
        file.seek(-3 * 4096, os.SEEK_END)
        file.write(b"\xff" * 4096)


MANY_JOBS = """
INSERT INTO job (id, lane, band, pos, priority, enqueued_at, payload, queue)
WITH RECURSIVE n (value) AS (VALUES (1) UNION ALL SELECT value + 1 FROM n LIMIT 200)
SELECT value, 1, 0, value, 0, 0, hex(zeroblob(900)), 1 FROM n
"""

READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("SELECT * FROM job").fetchall()
print("ready", flush=True)
sys.stdin.read()
"""


def wal_large(stage: Stage) -> None:
    stage.init()
    stage.process(READER)
    wal = Path(f"{stage.site.database}-wal")
    wal.touch()
    os.truncate(wal, 65 * 2**20)


def sqlite_faulty(stage: Stage) -> None:
    stage.patch = "import supervisor.store.driver as library; library.WAL_RESET_SAFE = False"


def disk_nearly_full(stage: Stage) -> None:
    stage.patch = (
        "import psutil\nusage = psutil.disk_usage\n"
        "psutil.disk_usage = lambda path: usage(path)._replace(free=usage(path).total // 100_000)"
    )


def daemon_absent(stage: Stage) -> None:
    stage.init()


LOCKED = """
import socket, sys, os
from supervisor.unix.lock import take_lock
fd = take_lock(sys.argv[1], "daemon")
"""


def socket_silent(stage: Stage) -> None:
    stage.init()
    stage.site.run_dir.mkdir()
    stage.process(LOCKED + "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[2]); s.listen(9)\n"
                           "print('ready', flush=True); sys.stdin.read()")  # fmt: skip
    stage.patch = "import supervisor.cli.checkup.site as site; site.ANSWER_TIMEOUT_S = 0.3"


def socket_stale(stage: Stage) -> None:
    stage.site.run_dir.mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(stage.site.socket))


def socket_denied(stage: Stage) -> None:
    stage.keeper()
    stage.site.socket.chmod(0)
    stage.before_exec = drop_privileges


def lock_orphaned(stage: Stage) -> None:
    stage.init()
    heir = stage.process(
        LOCKED + "if os.fork(): os._exit(0)\nprint('ready', flush=True); sys.stdin.read(); os._exit(0)"
    )
    until(lambda: heir.poll() is not None, what="the end of the process that took the lock")


def run_dir_unwritable(stage: Stage) -> None:
    stage.site.run_dir.write_text("no directory")


def version_skew(stage: Stage) -> None:
    stage.keeper()


def slots_left(stage: Stage) -> None:
    stage.init()
    (stage.site.run_dir / "slots" / "7").mkdir(parents=True)


def nofile_low(stage: Stage) -> None:
    stage.before_exec = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))


def queue_orphaned(stage: Stage) -> None:
    stage.init()
    stage.site.enqueue("emails")
    stage.site.configure(TOML.replace("emails", "letters"))


def queue_paused(stage: Stage) -> None:
    stage.init()
    stage.site.ctl("pause", "emails")
    stage.site.enqueue("emails")


class Starved(FakeKeeper):
    """A daemon with a job and no worker that is ready."""

    def _carry_out(self, connection: Any, request: Any) -> dict[str, Any] | None:
        if isinstance(request, messages.Status):
            queue = {"queued": 3, "workers": 0, "paused": False, "circuit": "closed", "reason": None}
            return {"daemon": {"running": True, "reload_error": None}, "queues": {"emails": queue}}
        return super()._carry_out(connection, request)


def queue_without_workers(stage: Stage) -> None:
    stage.keeper(Starved)


BROKEN = {
    "broken.py": 'raise RuntimeError("no such luck")\n',
    "fails.py": 'def run(job):\n    raise ValueError("no")\n',
    "mail.py": "from supervisor.task import task\n@task\ndef welcome(job):\n    pass\n"
    "@task\ndef greet(job, to: str):\n    pass\n",
}


def circuit_open(stage: Stage) -> None:
    toml = '[daemon]\npython_path = ["../app"]\n' + TOML + '[queues.bad]\nhandler = "broken:run"\n'
    daemon = stage.within.enter_context(Daemon(stage.site.path, toml, app=BROKEN))
    until(lambda: daemon.ctl("status", "--json").json["queues"]["bad"]["circuit"] != "closed", what="the open circuit")


def dead_letters(stage: Stage) -> None:
    toml = '[daemon]\npython_path = ["../app"]\n[queues.emails]\nhandler = "fails:run"\nmax_attempts = 1\n'
    daemon = stage.within.enter_context(Daemon(stage.site.path, toml, app=BROKEN))
    daemon.wait_state(daemon.enqueue("emails"), "dead")


def task_unknown(stage: Stage) -> None:
    toml = '[daemon]\npython_path = ["../app"]\n[queues.emails]\nhandler = "mail"\n'
    daemon = stage.within.enter_context(Daemon(stage.site.path, toml, app=BROKEN))
    daemon.wait_state(daemon.enqueue("emails", {}, "--task", "welcom"), "blocked")


def schedule_misfits(stage: Stage) -> None:
    toml = '[daemon]\npython_path = ["../app"]\n[queues.emails]\nhandler = "mail"\n'
    misfits = (("typo", "welcom", "{}"), ("odd", "greet", "{ to = 5 }"), ("good", "greet", '{ to = "a" }'))
    for name, task, payload in misfits:
        toml += f'[schedules.{name}]\nqueue = "emails"\ncron = "@yearly"\ntask = "{task}"\npayload = {payload}\n'
    daemon = stage.within.enter_context(Daemon(stage.site.path, toml, app=BROKEN))
    until(lambda: daemon.ctl("tasks").out != "", what="the tasks that the code has")


def clock_behind(stage: Stage) -> None:
    stage.init()
    stage.site.enqueue("emails")
    stage.sql(f"UPDATE job SET enqueued_at = {wall_ms() + 3_600_000}")


def drop_in_missing(stage: Stage) -> None:
    stage.site.configure(TOML + "network = true\n")
    units = stage.site.path / "units"
    units.mkdir()
    (units / "jobsup.service").write_text(f"[Service]\nExecStart=/opt/jobsup/bin/jobsupd -c {stage.site.config}\n")
    stage.env["SYSTEMD_UNIT_PATH"] = str(units)


STAGED = (
    package_clash, config_invalid, config_writable, handler_unusable, config_advice, config_not_loaded, alerts_failing,
    outbox_stuck, outbox_refused,
    database_missing, database_hard_linked, database_network, database_unreadable, database_foreign, database_newer,
    database_damaged, wal_large, sqlite_faulty, disk_nearly_full, daemon_absent, socket_silent, socket_stale,
    socket_denied, lock_orphaned, run_dir_unwritable, version_skew, slots_left, nofile_low, queue_orphaned,
    queue_paused, queue_without_workers, circuit_open, task_unknown, schedule_misfits, dead_letters, clock_behind,
    drop_in_missing,
)  # fmt: skip


def found_by(stage: Stage) -> dict[str, dict[str, str]]:
    """What doctor finds, by name."""
    ran = stage.doctor()
    assert ran.err == ""
    report = ran.json
    problems = [finding for finding in report["findings"] if finding["severity"] == "problem"]
    assert (ran.status, report["ok"]) == ((1, False) if problems else (0, True))
    for finding in report["findings"]:
        assert set(finding) == {"name", "severity", "message", "remedy"}
        assert finding["message"]
        assert finding["remedy"], "every finding says what to do"
    return {finding["name"]: finding for finding in report["findings"]}


def test_every_finding_is_staged() -> None:
    assert sorted(mishap.__name__ for mishap in STAGED) == sorted(findings())
    assert len(STAGED) >= 15


@pytest.mark.parametrize("mishap", STAGED, ids=lambda mishap: mishap.__name__)
def test_a_staged_mishap_is_found_by_name(stage: Stage, mishap: Callable[[Stage], None]) -> None:
    mishap(stage)
    assert mishap.__name__ in found_by(stage)


def test_a_good_site_has_none_of_them(stage: Stage) -> None:
    stage.init()
    assert set(found_by(stage)) <= {"daemon_absent", "nofile_low"}


def test_without_a_configuration_it_still_says_what_is_wrong(stage: Stage) -> None:
    stage.site.config.unlink()
    assert "config_invalid" in found_by(stage)


def test_a_misspelt_task_is_told_from_the_one_that_was_meant(stage: Stage) -> None:
    task_unknown(stage)
    finding = found_by(stage)["task_unknown"]
    said = "no worker at hand knows task welcom (did you mean welcome?); it runs as soon as code is loaded that does"
    said += "; jobsctl edit --task gives it another"
    assert finding["message"] == f"1 job of queue emails parked: {said}"
    assert stage.site.ctl("explain", 1).out == f"job 1 of emails: {said}\n"
    assert "jobsctl tasks emails" in finding["remedy"]


def test_schedules_are_held_against_what_code_has_published(stage: Stage) -> None:
    schedule_misfits(stage)
    found = {each["message"] for each in stage.doctor().json["findings"] if each["name"] == "schedule_misfits"}
    assert len(found) == 2
    assert "schedule typo is for task welcom, which no code knows (did you mean welcome?)" in found
    assert any(each.startswith("the payload of schedule odd does not fit task greet: ") for each in found)


def test_the_reader_of_a_large_log_is_named_by_pid(stage: Stage) -> None:
    wal_large(stage)
    remedy = found_by(stage)["wal_large"]["remedy"]
    assert "pid" in remedy
    assert "python" in remedy


def test_the_heir_of_the_lock_is_named_by_pid(stage: Stage) -> None:
    lock_orphaned(stage)
    message = found_by(stage)["lock_orphaned"]["message"]
    pid = int(message.rsplit("pid ", 1)[1])
    assert f"{stage.site.database}.lock" in {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}


def test_a_file_that_is_no_database_is_foreign(stage: Stage) -> None:
    stage.site.database.write_bytes(b"no database at all " * 500)
    assert "database_foreign" in found_by(stage)


def test_counts_that_are_not_those_of_the_rows_are_damage(stage: Stage) -> None:
    stage.init()
    stage.site.enqueue("emails")
    stage.sql("UPDATE tally SET jobs = jobs + 5")
    assert "counts" in found_by(stage)["database_damaged"]["message"]


def test_a_missing_folder_is_a_problem_and_a_missing_database_a_warning(stage: Stage) -> None:
    assert found_by(stage)["database_missing"]["severity"] == "warning"
    stage.site.database.parent.rmdir()
    assert found_by(stage)["database_missing"]["severity"] == "problem"


STRANGER = """
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[2])
listener.listen(9)
print("ready", flush=True)
while True:
    connection, _ = listener.accept()
    connection.send(b"220 ftp ready")
    connection.close()
"""


def test_a_socket_that_speaks_something_else_is_silent(stage: Stage) -> None:
    stage.site.run_dir.mkdir()
    stage.process(STRANGER)
    stage.patch = "import supervisor.cli.checkup.site as site; site.ANSWER_TIMEOUT_S = 0.3"
    assert "socket_silent" in found_by(stage)


def test_a_slot_whose_dead_worker_nobody_settles_is_found(stage: Stage) -> None:
    stage.init()
    stage.keeper()
    (stage.site.run_dir / "slots" / "7").mkdir(parents=True)
    dead = subprocess.Popen(["true"])
    dead.wait()
    stage.sql("INSERT INTO owner (host, boot, epoch, slot, incarnation, pool, directory, pid, start_time) "
              f"VALUES ('h', '{boot_id()}', 1, 7, 1, 'emails', '', {dead.pid}, 12345)")  # fmt: skip
    stage.patch = "import supervisor.cli.checkup.daemon as daemon; daemon.VERDICT_TIMEOUT_MS = 50"
    finding = found_by(stage)["slots_left"]
    assert (finding["severity"], "slots 7 " in finding["message"]) == ("problem", True)


@pytest.mark.parametrize("text", ["[Service]\nPrivateNetwork=no\n", ""])
def test_an_installed_drop_in_is_enough(stage: Stage, text: str) -> None:
    drop_in_missing(stage)
    folder = stage.site.path / "units" / "jobsup.service.d"
    folder.mkdir()
    (folder / ("own.conf" if text else "network.conf")).write_text(text)
    assert "drop_in_missing" not in found_by(stage)


def test_a_configuration_that_no_unit_starts_needs_no_drop_in(stage: Stage) -> None:
    drop_in_missing(stage)
    (stage.site.path / "units" / "jobsup.service").write_text("[Service]\nExecStart=jobsupd -c /etc/other.toml\n")
    assert "drop_in_missing" not in found_by(stage)


def test_on_a_pipe_findings_are_lines(stage: Stage) -> None:
    config_writable(stage)
    rows = stage.site.ctl("doctor").rows
    assert all(len(row) == 4 for row in rows)
    assert ["config_writable", "problem"] in [row[:2] for row in rows]
