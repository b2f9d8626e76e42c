"""The unit files are valid, and as closed as they and the docs say they are."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
UNITS = REPOSITORY / "systemd"
DROP_INS = sorted((UNITS / "jobsup.service.d").glob("*.conf"))
EXPOSURE = re.compile(r"Exposure[^:]*: ([0-9.]+) \(")
BASE_EXPOSURE_MAX = 0.5

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None and os.environ.get("CI") != "true",
    reason="systemd-analyze is missing: NO UNIT FILE WAS CHECKED; apt-get install systemd",
)


def host_with(folder: Path, drop_ins: Iterable[Path]) -> Path:
    """A root folder as it is after the installation that docs/deploy.md describes, as far as unit files see it."""
    units = folder / "etc/systemd/system"
    (units / "jobsup.service.d").mkdir(parents=True)
    for unit in (UNITS / "jobsup.service", UNITS / "jobsup.socket"):
        shutil.copy(unit, units)
    for drop_in in drop_ins:
        shutil.copy(drop_in, units / "jobsup.service.d")
    for program in ("opt/jobsup/bin/jobsupd", "bin/sh"):
        (folder / program).parent.mkdir(parents=True)
        (folder / program).write_text("#!/bin/sh\n")
        (folder / program).chmod(0o755)
    shutil.copytree("/lib/systemd/system", folder / "lib/systemd/system", symlinks=True)
    return folder


def verify(root: Path) -> str:
    """What `systemd-analyze verify` complains of; its exit status is 0 even for unknown keys."""
    command = ["systemd-analyze", "verify", f"--root={root}", "jobsup.service", "jobsup.socket"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


def exposure(root: Path) -> float:
    command = ["systemd-analyze", "security", "--offline=true", f"--root={root}", "jobsup.service"]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Overall exposure level for jobsup.service: ([0-9.]+)", report)
    assert found, report
    return float(found[1])


def stated(file: Path) -> float:
    found = EXPOSURE.search(file.read_text())
    assert found, f"{file.name} does not state its exposure"
    return float(found[1])


@pytest.mark.parametrize("drop_ins", [(), *((one,) for one in DROP_INS), tuple(DROP_INS)])
def test_systemd_finds_nothing_to_complain_of(drop_ins: tuple[Path, ...], tmp_path: Path) -> None:
    assert verify(host_with(tmp_path, drop_ins)) == ""


def test_a_key_that_systemd_does_not_know_would_be_found(tmp_path: Path) -> None:
    planted = tmp_path / "planted.conf"
    planted.write_text("[Service]\nNoNewPrivilegez=yes\n")
    assert "NoNewPrivilegez" in verify(host_with(tmp_path / "host", [planted]))


def test_the_base_unit_is_as_closed_as_it_says(tmp_path: Path) -> None:
    measured = exposure(host_with(tmp_path, ()))
    assert measured == stated(UNITS / "jobsup.service")
    assert measured <= BASE_EXPOSURE_MAX


@pytest.mark.parametrize("drop_in", DROP_INS, ids=lambda path: path.stem)
def test_each_drop_in_opens_as_much_as_it_says(drop_in: Path, tmp_path: Path) -> None:
    assert exposure(host_with(tmp_path, [drop_in])) == stated(drop_in)


def test_the_docs_state_the_measured_exposures(tmp_path: Path) -> None:
    docs = (REPOSITORY / "docs/deploy.md").read_text()
    rows = dict(re.findall(r"^\| (.+?) \|.*\| ([0-9.]+) \|$", docs, flags=re.MULTILINE))
    together = exposure(host_with(tmp_path, DROP_INS))
    measured = {"`jobsup.service`": stated(UNITS / "jobsup.service"), "both drop-ins": together}
    measured |= {f"`{drop_in.name}`": stated(drop_in) for drop_in in DROP_INS}
    assert measured == {name: float(figure) for name, figure in rows.items() if name in measured}


@pytest.mark.parametrize("file", [*sorted(UNITS.glob("jobsup.s*")), *DROP_INS], ids=lambda path: path.name)
def test_no_value_is_followed_by_a_comment(file: Path) -> None:
    if file.is_file():
        values = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
        assert [line for line in values if "#" in line] == []


def test_the_unit_keeps_what_a_stop_and_a_restart_rely_on() -> None:
    lines = (UNITS / "jobsup.service").read_text().splitlines()
    for setting in (
        "Type=notify",
        "KillMode=mixed",
        "RuntimeDirectoryPreserve=yes",
        "RestartPreventExitStatus=2 78",
        "OOMPolicy=continue",
        "PrivateUsers=no",
    ):
        assert setting in lines
