"""A machine to test on: a real systemd as process 1 of namespaces over an overlay of this host's files.

jobsup is installed in it as docs/deploy.md says: the shipped units, user and drop-ins, the program in /opt/jobsup.
The host keeps nothing of it: every mount lives in the machine's namespaces, its processes end with it, and its
cgroup is removed.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import site
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

from tests.support.waiting import until

REPOSITORY = Path(__file__).parents[3]
HERE = Path(__file__).parent
LIFE_S = 300
BOOT_TIMEOUT_S = 60

MASKED_MOUNTS = ("sys-kernel-debug", "sys-kernel-tracing", "sys-fs-fuse-connections", "dev-hugepages")
MASKED_SERVICES = (
    "systemd-sysctl", "systemd-udevd", "systemd-udev-trigger", "systemd-modules-load", "systemd-remount-fs",
    "systemd-binfmt", "systemd-tmpfiles-setup", "systemd-tmpfiles-setup-dev", "systemd-tmpfiles-clean",
    "systemd-networkd", "systemd-random-seed", "systemd-update-utmp", "systemd-journal-flush",
    "systemd-machine-id-commit", "systemd-hwdb-update", "getty@tty1", "console-getty", "ldconfig",
)  # fmt: skip

MACHINE_TARGET = """\
[Unit]
Description=The machine is up
Requires=basic.target
After=basic.target
AllowIsolate=yes
"""


def why_not() -> str | None:
    """Why a machine cannot be booted here, or None."""
    if os.geteuid() != 0:
        return "booting systemd needs root"
    missing = [name for name in ("unshare", "nsenter", "setpriv", "pivot_root") if shutil.which(name) is None]
    if missing or not Path("/lib/systemd/systemd").exists():
        return f"booting systemd needs {', '.join(missing) or 'systemd'}"
    probe = ["unshare", "--mount", "--pid", "--fork", "--cgroup", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    refused = subprocess.run(probe, capture_output=True, text=True, check=False).stderr.strip()
    return f"booting systemd needs namespaces and mounts: {refused}" if refused else None


class Machine:
    """One booted machine; a context manager, which ends with the machine gone.

    `folder` must not lie below the temporary directory, which the machine covers with one of its own.
    `files` are put into it by absolute path before it boots.
    """

    def __init__(self, folder: Path, files: Mapping[str, str], drop_ins: Iterable[str] = ()) -> None:
        self._scene = folder
        self._lay_out(files, drop_ins)
        self._process: subprocess.Popen[bytes] | None = None
        self.pid_1 = 0

    def __enter__(self) -> Self:
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"]
        with (self._scene / "console").open("wb") as console:
            self._process = subprocess.Popen(
                [*command, "bash", str(HERE / "outer.sh"), str(self._scene)],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={"PATH": os.environ["PATH"], "MACHINE_LIFE_S": str(LIFE_S)},
            )
        try:
            self.pid_1 = until(self._find_init, BOOT_TIMEOUT_S, "systemd as process 1 of the machine")
            until(self._is_up, BOOT_TIMEOUT_S, "the machine's target")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def run(self, *command: str, check: bool = True, timeout: float = 60, stdin: str = "") -> str:
        """What a command, run as root in the machine, printed on stdout."""
        done = subprocess.run(
            self.inside(*command), input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}{self.journal()}"
            )
        return done.stdout

    def kill(self, pid: int, signal_name: str = "KILL") -> None:
        """Send a signal to a process of the machine, by the number it has there."""
        self.run("sh", "-c", f"kill -{signal_name} {pid}")

    def inside(self, *command: str) -> list[str]:
        """The host's command line that runs `command` in the machine."""
        enter = ["nsenter", f"--target={self.pid_1}", *(f"--{kind}" for kind in ("mount", "pid", "uts", "ipc", "net"))]
        return [*enter, "--cgroup", "env", "-i", "PATH=/opt/jobsup/bin:/usr/sbin:/usr/bin:/sbin:/bin", *command]

    def path(self, path: str) -> Path:
        """A file of the machine, as the host reaches it."""
        return Path(f"/proc/{self.pid_1}/root{path}")

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "--property", name, unit).strip()

    def journal(self, unit: str = "jobsup.service") -> str:
        """What a unit said, and systemd of it."""
        command = ("journalctl", "--no-pager", "--output=short-monotonic", f"--unit={unit}", "--lines=60")
        return self.run(*command, check=False)

    def _lay_out(self, files: Mapping[str, str], drop_ins: Iterable[str]) -> None:
        tree = self._scene / "files"
        units = tree / "etc/systemd/system"
        (units / "jobsup.service.d").mkdir(parents=True)
        for name in ("jobsup.service", "jobsup.socket"):
            shutil.copy(REPOSITORY / "systemd" / name, units)
        for name in drop_ins:
            shutil.copy(REPOSITORY / "systemd/jobsup.service.d" / name, units / "jobsup.service.d")
        (tree / "etc/sysusers.d").mkdir()
        shutil.copy(REPOSITORY / "systemd/jobsup.sysusers.conf", tree / "etc/sysusers.d/jobsup.conf")
        (units / "machine.target").write_text(MACHINE_TARGET)
        masked = [f"{name}.service" for name in MASKED_SERVICES] + [f"{name}.mount" for name in MASKED_MOUNTS]
        for unit in masked:
            (units / unit).symlink_to("/dev/null")
        binds = _environment(tree)
        (self._scene / "binds").write_text("".join(f"{source} {target}\n" for source, target in binds.items()))
        for path, text in files.items():
            file = tree / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def _find_init(self) -> int:
        """The machine's process 1, or 0 as long as there is none."""
        self._still_runs()
        return next((process.pid for process in self._inhabitants() if _is_systemd_as_1(process.pid)), 0)

    def _still_runs(self) -> None:
        assert self._process
        if self._process.poll() is not None:
            raise AssertionError(f"the machine ended:\n{(self._scene / 'console').read_text()}")

    def _inhabitants(self) -> Iterator[psutil.Process]:
        """Every process of the machine and what holds it, the outermost first."""
        assert self._process
        with suppress(psutil.NoSuchProcess):
            yield from psutil.Process(self._process.pid).children(recursive=True)

    def _is_up(self) -> bool:
        self._still_runs()
        return self.run("systemctl", "is-active", "machine.target", check=False).strip() == "active"

    def _end(self) -> None:
        """Kill process 1: the kernel ends the others with it and unmounts what they mounted, and the cgroup goes.

        A machine that has no process 1 yet ends by the death of what was to become it.
        """
        assert self._process
        with suppress(AssertionError):
            init = self._find_init()
            for pid in [init] if init else [process.pid for process in self._inhabitants()]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.wait(30)


def _is_systemd_as_1(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.startswith("Name:\tsystemd\n") and re.search(r"^NSpid:.*\t1$", status, re.MULTILINE) is not None


def _environment(tree: Path) -> dict[str, str]:
    """Make /opt/jobsup a virtual environment with this interpreter and its packages; what to bind to where."""
    binds = {site.getsitepackages()[0]: "/opt/jobsup/packages"}
    base = Path(sys.base_prefix)
    if base != Path("/usr"):
        # The interpreter lies where the unit cannot look (ProtectHome), or in a folder that others may not enter.
        binds[str(base)] = "/opt/python"
        base = Path("/opt/python")
        (tree / "etc/ld.so.conf.d").mkdir(parents=True)
        (tree / "etc/ld.so.conf.d/machine.conf").write_text("/opt/python/lib\n")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    home = tree / "opt/jobsup"
    packages = home / "lib" / version / "site-packages"
    packages.mkdir(parents=True)
    (packages / "packages.pth").write_text("/opt/jobsup/packages\n")
    shutil.copytree(REPOSITORY / "supervisor", packages / "supervisor", ignore=shutil.ignore_patterns("__pycache__"))
    (home / "pyvenv.cfg").write_text(f"home = {base}/bin\ninclude-system-site-packages = false\n")
    (home / "bin").mkdir()
    (home / "bin/python3").symlink_to(base / "bin" / version)
    for command in ("jobsupd", "jobsctl"):
        script = home / "bin" / command
        script.write_text(
            f"#!/opt/jobsup/bin/python3\nimport sys\nfrom supervisor.cli.{command} import main\nsys.exit(main())\n"
        )
        script.chmod(0o755)
    return binds
