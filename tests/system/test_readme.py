"""The README is true: its blocks are run as a stranger would, in order, in a fresh copy with a fresh home.

What stands after a `$` is run, and its output compared (`...` stands for any text); files are written where the
text says; the Python block is run. By default the programs of this tree stand in for the installation; with
JOBSUP_CAMPAIGN=full the README's own commands set everything up from nothing, and run all tests.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
MODULES = {"jobsupd": "supervisor.cli.jobsupd", "jobsctl": "supervisor.cli.jobsctl"}


class Block(NamedTuple):
    """A fenced block; `about` is the paragraph in front of it."""

    language: str
    text: str
    about: str

    @property
    def file(self) -> str | None:
        """The file that the text in front of the block says it belongs into."""
        found = re.findall(r"this in `([\w./]+)`", self.about)
        return found[-1] if found else None


def blocks() -> list[Block]:
    pieces = re.split(r"^```(\w*)\n(.*?)^```\n", README.read_text(), flags=re.MULTILINE | re.DOTALL)
    abouts, languages, texts = pieces[::3], pieces[1::3], pieces[2::3]
    return [
        Block(language, text, about.strip().rsplit("\n\n", maxsplit=1)[-1].replace("\n", " "))
        for about, language, text in zip(abouts, languages, texts, strict=False)
    ]


BLOCKS = blocks()
SHELL = [block.text.strip() for block in BLOCKS if block.language == "sh"]
(START,) = (line for line in SHELL if line.endswith("-c etc/queues.toml"))
(TEST,) = (line for line in SHELL if "-m pytest" in line)
(MEASURE,) = (line for line in SHELL if "-m benchmarks." in line)


class Stranger:
    """Someone with a copy of the files, a home with nothing in it, and the README."""

    def __init__(self, path: Path) -> None:
        self.copy = path / "jobsup"
        self.home = path / "home"
        self.home.mkdir()
        self.log = path / "log"
        shutil.copytree(ROOT, self.copy, ignore=_not_in_a_clone)

    def environment(self) -> list[str]:
        """Nothing but a home, the way to programs, and where tests may put files."""
        return ["env", "-i", f"HOME={self.home}", f"PATH={os.environ['PATH']}", "LANG=C.UTF-8"]

    def run(self, line: str, timeout: float = 60) -> str:
        """What a command line writes to stdout.

        Raises:
            AssertionError: it failed.
        """
        command = [*self.environment(), "bash", "-c", line]
        done = subprocess.run(command, cwd=self.copy, capture_output=True, text=True, timeout=timeout, check=False)
        assert done.returncode == 0, f"$ {line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def pretend_to_have_installed(self) -> None:
        """What `pip install .` puts into the environment, made of the interpreter that runs this test."""
        folder = self.copy / ".venv" / "bin"
        folder.mkdir(parents=True)
        for name, arguments in {"python": "", **{name: f"-m {module}" for name, module in MODULES.items()}}.items():
            script = folder / name
            script.write_text(f'#!/bin/sh\nPYTHONPATH="{self.copy}" exec {sys.executable} {arguments} "$@"\n')
            script.chmod(0o755)

    @contextmanager
    def daemon(self, line: str, timeout: float = 30) -> Iterator[None]:
        """What the README starts, for as long as the block lasts; it must then end as asked."""
        with self.log.open("wb") as log:
            command = [*self.environment(), "bash", "-c", line.replace(".venv/bin/jobsupd", "exec .venv/bin/jobsupd")]
            started = subprocess.Popen(command, cwd=self.copy, stdout=log, stderr=log, start_new_session=True)
        try:
            until(lambda: self._answers(started), timeout, "an answer of the daemon")
            yield
            started.send_signal(signal.SIGTERM)
            assert started.wait(40) == 0, self.log.read_text()
        finally:
            if started.poll() is None:
                os.killpg(started.pid, signal.SIGKILL)
                started.wait()

    def _answers(self, started: subprocess.Popen[bytes]) -> bool:
        assert started.poll() is None, self.log.read_text()
        return (self.copy / "run" / "jobsup.sock").exists() and '"running": true' in self.run(
            ".venv/bin/jobsctl status --json"
        )

    def follow(self, block: Block) -> None:
        """Do what a block shows."""
        if block.language == "console":
            for command, expected in _session(block.text):
                shown = self.run(command)
                assert re.fullmatch(expected, shown, flags=re.DOTALL), f"$ {command}\n{shown}"
        elif block.language == "toml":
            self._configure(block)
        elif block.language == "python" and block.file:
            path = self.copy / block.file
            path.parent.mkdir(exist_ok=True)
            path.write_text(block.text)
        elif block.language == "python":
            (self.copy / "program.py").write_text(block.text)
            assert self.run(".venv/bin/python program.py") == "Hello, Grace!\n"

    def _configure(self, block: Block) -> None:
        """Put keys of [daemon] where that table is, and the rest at the end, as an editor would."""
        assert block.file is not None
        path = self.copy / block.file
        own, rest = block.text.split("\n\n", maxsplit=1)
        heading, keys = own.split("\n", maxsplit=1)
        text = path.read_text()
        assert f"\n{heading}\n" in text
        path.write_text(text.replace(f"\n{heading}\n", f"\n{heading}\n{keys}\n", 1) + "\n" + rest)


def _session(text: str) -> Iterator[tuple[str, str]]:
    """Each command of a console block, with a pattern of its output."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, re.escape(shown).replace(re.escape("...\n"), ".*")


def _not_in_a_clone(folder: str, names: list[str]) -> set[str]:
    """What version control ignores, and its own folder."""
    patterns = (ROOT / ".gitignore").read_text().split()
    ignored = {name for name in names for pattern in patterns if fnmatch(name, pattern.rstrip("/"))}
    folders = {name for name in ignored if (Path(folder) / name).is_dir()}
    files = {name for name in ignored - folders for pattern in patterns if fnmatch(name, pattern)}
    return folders | files | ({".git"} & set(names))


def test_the_readme_has_what_a_stranger_asks_for() -> None:
    assert [block.language for block in BLOCKS] == [
        "sh", "console", "console", "python", "toml", "console", "python", "sh", "sh",
    ]  # fmt: skip
    assert len(README.read_text().splitlines()) < 200


def test_what_the_readme_shows_happens(tmp_path: Path) -> None:
    stranger = Stranger(tmp_path)
    stranger.pretend_to_have_installed()
    with stranger.daemon(START.rsplit("&&", maxsplit=1)[-1].strip()):
        for block in BLOCKS:
            stranger.follow(block)


def test_the_benchmarks_that_the_readme_names_can_be_run(tmp_path: Path) -> None:
    names = set(re.findall(r"benchmarks\.(\w+)", README.read_text()))
    assert {"drain", "latency", "cli", "idle", "lease_cost", "instructions", "flows", "waiters", "progress"} == names
    for name in names:
        command = [sys.executable, "-m", f"benchmarks.{name}", "--help"]
        assert subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False).returncode == 0


@pytest.mark.full
@pytest.mark.timeout(3 * 3600)
def test_from_nothing_with_the_readmes_own_commands(tmp_path: Path) -> None:
    stranger = Stranger(tmp_path)
    with stranger.daemon(START, timeout=600):
        for block in BLOCKS:
            stranger.follow(block)
    again = tmp_path / "again"
    again.mkdir()
    Stranger(again).run(TEST, timeout=2 * 3600)
    stranger.run(f"{START.split('&&')[0]} && .venv/bin/pip install -q .", timeout=600)
    stranger.run(f"{MEASURE} --jobs 2000 --huey-jobs 200 --rounds 1", timeout=600)
