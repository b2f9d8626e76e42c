"""File systems of a test's own: a small one that fills up, one that is read-only. Mounted where nobody else sees it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

SCRIPT = """
set -e
if [ -n "$SIZE" ]; then mount -t tmpfs -o "size=$SIZE" tmpfs "$FOLDER"
else mount --bind "$FOLDER" "$FOLDER"; mount -o remount,bind,ro "$FOLDER"; fi
exec "$@"
"""


def python_on(folder: Path, code: str, *, size: str | None, arguments: tuple[str, ...] = ()) -> str:
    """What `code` prints in a process that sees `folder` as a disk of this size, or read-only if it has none."""
    command = [*namespace(), "sh", "-c", SCRIPT, "sh", sys.executable, "-c", code, str(folder), *arguments]
    environ = {**os.environ, "FOLDER": str(folder), "SIZE": size or ""}
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@cache
def namespace() -> tuple[str, ...]:
    """How to enter a mount namespace of one's own; skips the test where this machine does not let us."""
    for command in (("unshare", "-m"), ("unshare", "-Urm")):
        probe = [*command, "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
        if shutil.which("unshare") and subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return command
    pytest.skip("mounting in a namespace of our own is not permitted here")
