"""Shell completion: the scripts, and what they complete."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.daemon import Ran, Site, jobsctl

TOML = (
    '[queues.emails]\ncommand = ["true"]\n[queues.errands]\ncommand = ["true"]\n[queues.reports]\ncommand = ["true"]\n'
)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, TOML)


def complete(site: Site, *words: str) -> list[str]:
    """What bash would offer for the last of these words."""
    env = {
        "_JOBSCTL_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["jobsctl", *words]),
        "COMP_CWORD": str(len(words)),
        "JOBSUP_CONFIG": str(site.config),
    }
    ran: Ran = jobsctl(env=env)
    assert (ran.status, ran.err) == (0, "")
    return [line.partition(",")[2] for line in ran.out.splitlines() if line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell: str) -> None:
    ran = jobsctl("completion", shell)
    assert ran.status == 0
    assert f"_JOBSCTL_COMPLETE={shell}_complete" in ran.out
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=ran.out.encode(), check=True)


def test_an_unknown_shell_is_2() -> None:
    assert jobsctl("completion", "tcsh").status == 2


def test_commands_are_completed(site: Site) -> None:
    assert complete(site, "re") == ["retry", "resume", "release", "reload"]
    assert complete(site, "dead", "") == ["delete", "groups", "list", "replays", "retry", "stop"]


def test_names_of_queues_are_completed(site: Site) -> None:
    assert complete(site, "enqueue", "e") == ["emails", "errands"]
    assert complete(site, "pause", "") == ["emails", "errands", "reports"]
    assert complete(site, "list", "--queue", "r") == ["reports"]
    assert complete(site, "move", "emails", "er") == ["errands"]


def test_queues_of_drop_ins_and_of_another_file_are_completed(site: Site, tmp_path: Path) -> None:
    site.ctl("queues", "add", "elephants", "--handler", "a:b")
    assert complete(site, "enqueue", "e") == ["elephants", "emails", "errands"]
    other = tmp_path / "other.toml"
    other.write_text('[queues.zoo]\ncommand = ["true"]\n')
    assert complete(site, "-c", str(other), "enqueue", "") == ["zoo"]


def test_a_broken_configuration_completes_nothing_and_says_nothing(site: Site) -> None:
    site.configure("[queues\n")
    assert complete(site, "enqueue", "") == []
    site.config.unlink()
    assert complete(site, "enqueue", "") == []


def test_states_are_completed(site: Site) -> None:
    assert complete(site, "list", "--state", "c") == ["completed", "cancelled"]
