"""What may import what: the contracts of the layers, and the few modules that `jobsctl enqueue` can afford."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import ROOT, environment
from tests.support.fake_keeper import FakeKeeper

SHUNNED = {
    "asyncio", "dataclasses", "importlib.metadata", "logging", "msgspec", "multiprocessing", "pathlib", "psutil",
    "pysqlite3", "rich", "shutil", "sqlite3", "sqlite_utils", "subprocess", "tempfile", "tomli_w", "unittest",
}  # fmt: skip
"""What `enqueue` must not import: each costs 3 to 90 ms of the 60 that the whole command may take."""

OURS = {
    "supervisor", "supervisor.cli", "supervisor.cli.commands", "supervisor.cli.commands.enqueue",
    "supervisor.cli.failure", "supervisor.cli.group", "supervisor.cli.invocation", "supervisor.cli.jobsctl",
    "supervisor.cli.parameters", "supervisor.cli.streams",
    "supervisor.client", "supervisor.config", "supervisor.config.locate", "supervisor.config.lookup",
    "supervisor.config.parse", "supervisor.config.problem", "supervisor.config.scan", "supervisor.config.sockets",
    "supervisor.config.source", "supervisor.config.trust", "supervisor.errors", "supervisor.job", "supervisor.observe",
    "supervisor.observe.sanitise", "supervisor.unix", "supervisor.unix.clock", "supervisor.version",
    "supervisor.wire", "supervisor.wire.asking", "supervisor.wire.calls", "supervisor.wire.client",
    "supervisor.wire.framing", "supervisor.wire.job_text", "supervisor.wire.payload", "supervisor.wire.reach",
    "supervisor.wire.sift", "supervisor.wire.steps",
}  # fmt: skip
"""All of ours that `enqueue` may import; whoever adds one has measured what it costs."""

ENTRY = """
import json, sys
from supervisor.cli.jobsctl import run
status = run(sys.argv[1:])
sys.stderr.write(json.dumps(sorted(sys.modules)))
sys.exit(status)
"""


def imported_by(*args: str, config: Path) -> set[str]:
    """The modules that a jobsctl command imports."""
    command = [sys.executable, "-c", ENTRY, "-c", str(config), *args]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=True)
    return set(json.loads(done.stderr))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "etc" / "queues.toml"
    (tmp_path / "run").mkdir()
    file.parent.mkdir()
    file.write_text('[queues.emails]\ncommand = ["true"]\n')
    return file


@pytest.fixture
def enqueue_imports(config: Path, tmp_path: Path) -> set[str]:
    with FakeKeeper(str(tmp_path / "run" / "jobsup.sock")):
        return imported_by("enqueue", "emails", '{"to": "a@b.c"}', config=config)


def test_enqueue_imports_nothing_heavy(enqueue_imports: set[str]) -> None:
    assert not enqueue_imports & SHUNNED


def test_enqueue_imports_only_these_of_ours(enqueue_imports: set[str]) -> None:
    found = {name for name in enqueue_imports if name.partition(".")[0] == "supervisor"}
    assert found == OURS, f"new: {sorted(found - OURS)}; no longer: {sorted(OURS - found)}"


def test_click_is_all_that_enqueue_imports_of_others(enqueue_imports: set[str]) -> None:
    installed = {path.name.partition(".")[0] for path in Path(sys.prefix).rglob("site-packages/*")}
    hooks = {name for name in installed if name.startswith(("_", "distutils", "sitecustomize"))}
    assert {name.partition(".")[0] for name in enqueue_imports} & installed - hooks <= {"click", "supervisor"}


def test_a_load_with_jsonl_imports_nothing_heavy_either(config: Path, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text("1\n2\n")
    with FakeKeeper(str(tmp_path / "run" / "jobsup.sock")) as keeper:
        found = imported_by("enqueue", "emails", "--jsonl", str(jobs), config=config)
        assert len(keeper.jobs) == 2
    assert not found & SHUNNED


def test_commands_import_heavy_modules_in_their_bodies_only() -> None:
    cheap = {"click", "sys", "os", "json", "typing", "collections", "__future__", "contextlib", "importlib"}
    for path in sorted((ROOT / "supervisor/cli/commands").glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                allowed = name.partition(".")[0] in cheap or name in OURS
                assert allowed, f"{path.name}:{node.lineno} imports {name} at its top"


def test_the_contracts_of_the_layers_hold() -> None:
    script = (
        "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(config_filename=sys.argv[1]))"
    )
    command = [sys.executable, "-c", script, str(ROOT / "pyproject.toml")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_the_clock_imports_time() -> None:
    found = []
    handlers = ROOT / "supervisor" / "handlers"  # run in workers and import nothing of ours
    for path in sorted(path for path in (ROOT / "supervisor").rglob("*.py") if handlers not in path.parents):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            found += [path.relative_to(ROOT).as_posix()] if "time" in names else []
    assert found == ["supervisor/unix/clock.py"]
