"""What `jobsupd --check` says of the host, without importing, starting or writing anything."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from supervisor.config.check import Checked, check
from supervisor.config.findable import defines, names_in, source_of
from supervisor.config.sandbox import needs
from supervisor.config.spec import Queue
from tests.support.config_files import QUEUE, write

APP = '[daemon]\npython_path = ["app"]\n'


def check_text(folder: Path, text: str, environ: dict[str, str] | None = None) -> Checked:
    found = check(write(folder, text), environ=environ or {"PATH": os.environ["PATH"]})
    without = {
        name: tuple(line.replace(f"{folder}/", "") for line in getattr(found, name)) for name in found._fields[1:]
    }
    return found._replace(**without)


def handler(folder: Path, source: str, name: str = "app/mail.py") -> None:
    write(folder, source, name)


def test_what_does_not_load_is_all_that_is_said(tmp_path: Path) -> None:
    found = check_text(tmp_path, QUEUE + "workers = 0\n")
    said = "queues.toml:3: queues.q.workers: 0 is out of range; write an integer from 1 to 256, or { min = 1, max = 8 }"
    assert found == Checked(None, (said,))


def test_a_handler_is_found_without_being_imported(tmp_path: Path) -> None:
    handler(tmp_path, "raise SystemExit('imported')\ndef send(job): ...\n")
    found = check_text(tmp_path, APP + '[queues.q]\nhandler = "mail:send"\n')
    assert found == Checked(found.spec)
    assert "mail" not in sys.modules


def test_a_handler_in_a_package_is_found_without_running_the_package(tmp_path: Path) -> None:
    handler(tmp_path, "raise SystemExit('imported')", "app/my/__init__.py")
    handler(tmp_path, "class Mail:\n    def send(self): ...\n", "app/my/deep/mail.py")
    found = check_text(tmp_path, APP + '[queues.q]\nhandler = "my.deep.mail:Mail.send"\n')
    assert found == Checked(found.spec)


def test_pools_are_looked_at_as_queues_are(tmp_path: Path) -> None:
    pools = '[queues.a]\n[pools.p]\nhandler = "nowhere:f"\nsources = ["a"]\n[queues.b]\n[pools.r]\n'
    found = check_text(tmp_path, pools + 'command = ["no-such-program"]\nsources = ["b"]\n')
    assert [line[:40] for line in found.problems] == [
        "queues.toml:3: pools.p.handler: there is",
        'queues.toml:7: pools.r.command: "no-such',
    ]


@pytest.mark.parametrize("module", ["nowhere", "mail.nowhere", "json.nowhere", "tests.unit.test_config_check"])
def test_a_module_that_is_nowhere_is_a_problem(tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != os.getcwd()] + ["", os.getcwd()])
    handler(tmp_path, "")
    found = check_text(tmp_path, APP + f'[queues.q]\nhandler = "{module}:f"\n')
    assert found.problems == (
        (
            f"queues.toml:4: queues.q.handler: there is no module {module} in python_path or site-packages; "
            "add its folder to daemon.python_path"
        ),
    )


def test_a_name_that_the_source_does_not_show_is_advice(tmp_path: Path) -> None:
    handler(tmp_path, "def send(job): ...\n")
    text = APP + '[queues.q]\nhandler = "mail:sned"\nafter_fork = "mail:connect"\n'
    found = check_text(tmp_path, text)
    assert (found.problems, found.advice) == (
        (),
        (
            "queues.toml:4: queues.q.handler: app/mail.py seems not to define sned; name a function of that module",
            (
                "queues.toml:5: queues.q.after_fork: app/mail.py seems not to define connect; "
                "name a function of that module"
            ),
        ),
    )


@pytest.mark.parametrize(
    ("source", "known"),
    [
        ("def f(): ...", True),
        ("async def f(): ...", True),
        ("class f: ...", True),
        ("f = 1", True),
        ("(a, f) = 1, 2", True),
        ("import f", True),
        ("import a.b as f", True),
        ("from a import f", True),
        ("if x:\n    f = 1", True),
        ("from a import *", True),
        ("def __getattr__(name): ...", True),
        ("this is no python", True),
        ("\0", True),
        ("g = 1", False),
        ("from f import g", False),
        ("print(f)", False),
    ],
)
def test_names_are_read_from_the_source(tmp_path: Path, source: str, known: bool) -> None:
    path = write(tmp_path, source, "m.py")
    assert defines(str(path), "f") == known
    assert defines(str(path), "f.g") == known


def test_where_there_is_no_source_every_name_may_be(tmp_path: Path) -> None:
    assert defines("/lib/x.so", "f")
    assert names_in(str(tmp_path / "none.py"), "f") == {"f"}


def test_modules_are_found_where_python_finds_them() -> None:
    assert source_of("sys", ()) == "built-in"
    assert (source_of("json.decoder", ()) or "").endswith("json/decoder.py")
    assert (source_of("supervisor.handlers", ()) or "").endswith("supervisor/handlers/__init__.py")
    assert source_of("no_such_module", ()) is None


def test_a_folder_of_python_path_that_is_missing_is_advice(tmp_path: Path) -> None:
    assert check_text(tmp_path, APP).advice == (
        'queues.toml:2: daemon.python_path: "app" is no directory on this host; make it or correct the path',
    )


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("sh", None),
        ("/bin/sh", None),
        ("./ok", None),
        ("no-such-program", '"no-such-program" is in no directory of PATH'),
        ("/no/such/program", '"/no/such/program" does not exist; correct the path'),
        ("./data", "is not executable; run chmod +x on it"),
        ("/etc", '"/etc" is not executable'),
    ],
)
def test_a_command_is_looked_for_where_it_would_be_run(tmp_path: Path, program: str, problem: str | None) -> None:
    write(tmp_path, "", "data")
    write(tmp_path, "", "ok").chmod(0o755)
    found = check_text(tmp_path, f'[queues.q]\ncommand = ["{program}"]\n')
    if problem is None:
        assert found.problems == ()
    else:
        assert found.problems[0].startswith("queues.toml:2: queues.q.command: ")
        assert problem in found.problems[0]


def test_the_folder_that_workers_work_in_must_be_there(tmp_path: Path) -> None:
    text = '[queues.q]\ncommand = ["sh"]\ncwd = "app"\n'
    (problem,) = check_text(tmp_path, text).problems
    assert problem.startswith("queues.toml:3: queues.q.cwd: ")
    assert problem.endswith('app" is no directory on this host; make it or correct the path')
    (tmp_path / "app").mkdir()
    assert check_text(tmp_path, text).problems == ()


def test_a_command_is_looked_for_in_the_path_of_its_queue(tmp_path: Path) -> None:
    write(tmp_path, "", "bin/own").chmod(0o755)
    text = f'[queues.q]\ncommand = ["own"]\nenv = {{ PATH = "{tmp_path}/bin" }}\n'
    assert check_text(tmp_path, text).problems == ()
    assert check_text(tmp_path, '[queues.q]\ncommand = ["sh"]\n', {"X": "y"}).problems == ()


def test_fields_before_the_double_dash_are_advice(tmp_path: Path) -> None:
    text = '[queues.a]\ncommand = ["sh", "{a}", "{{", "--", "{b}"]\n[queues.b]\ncommand = ["sh", "--", "{a}"]\n'
    assert check_text(tmp_path, text).advice == (
        (
            "queues.toml:2: queues.a.command: {a}: values that begin with - are refused here; "
            'put "--" before, if the program knows it'
        ),
    )


def test_a_user_must_exist_and_needs_a_drop_in(tmp_path: Path) -> None:
    found = check_text(tmp_path, '[queues.q]\ncommand = ["sh"]\nuser = "no-such-user"\n')
    assert found.problems == (
        'queues.toml:3: queues.q.user: there is no user "no-such-user" on this host; create it or name another',
    )
    found = check_text(tmp_path, '[queues.q]\ncommand = ["sh"]\nuser = "nobody"\n')
    assert found.problems == ()
    assert "without the drop-in users.conf" in found.advice[0]


def test_names_that_nobody_has_are_advice(tmp_path: Path) -> None:
    text = '[access]\nadmin = ["*", "user:root", "group:root", "user:no-such", "group:no-such"]\n'
    assert check_text(tmp_path, text).advice == (
        'queues.toml:2: access.admin: there is no user "no-such" on this host; create it or name another',
        'queues.toml:2: access.admin: there is no group "no-such" on this host; create it or name another',
    )


def test_a_user_is_no_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody_of_that_name(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr("pwd.getpwnam", lambda name: None)
    monkeypatch.setattr("grp.getgrnam", nobody_of_that_name)
    (advice,) = check_text(tmp_path, '[access]\nstatus = ["user:a", "group:b", "*"]\n').advice
    assert 'there is no group "b"' in advice


@pytest.mark.parametrize("database", ["/run/jobs.db", "/dev/shm/x/jobs.db"])
def test_a_database_that_a_reboot_loses_is_advice(tmp_path: Path, database: str) -> None:
    (advice,) = check_text(tmp_path, f'[daemon]\ndatabase = "{database}"\n').advice
    assert advice.startswith("queues.toml:2: daemon.database: is on a file system that a reboot empties")


def test_what_is_inherited_is_said_of_the_line_in_defaults(tmp_path: Path) -> None:
    text = "[defaults]\nnetwork = true\n" + '[queues.a]\ncommand = ["sh"]\n[queues.b]\ncommand = ["sh"]\n'
    (advice,) = check_text(tmp_path, text).advice
    assert advice.startswith("queues.toml:2: defaults.network: needs the network, which jobsup.service denies")


def test_a_file_named_in_the_environment_should_exist(tmp_path: Path) -> None:
    secret = write(tmp_path, "x", "secret")
    text = f'[queues.q]\ncommand = ["sh"]\n[queues.q.env]\nA_FILE = "{secret}"\nB_FILE = "/no/such"\nC = "/no/such"\n'
    assert check_text(tmp_path, text).advice == (
        'queues.toml:5: queues.q.env.B_FILE: names "/no/such", which does not exist on this host; make the file',
    )


def test_drop_ins_are_named_by_what_needs_them() -> None:
    queue = Queue(name="q", handler="m:f", network=True, user="mailer")
    assert [(need.key, need.drop_in) for need in needs(queue)] == [("network", "network.conf"), ("user", "users.conf")]
    assert needs(Queue(name="q", handler="m:f")) == ()


def test_the_drop_ins_that_are_named_are_shipped() -> None:
    shipped = Path(__file__).parents[2] / "systemd" / "jobsup.service.d"
    queue = Queue(name="q", handler="m:f", network=True, user="mailer")
    assert [need.drop_in for need in needs(queue) if not (shipped / need.drop_in).is_file()] == []
