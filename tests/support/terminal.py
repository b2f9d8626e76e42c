"""Running jobsctl where stdout or stderr is a terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.daemon import Ran, environment

TERMINAL = {"TERM": "xterm", "COLUMNS": "400", "NO_COLOR": "1"}
STYLE = re.compile(r"\x1b\[[0-9;]*m")


def jobsctl_on_terminal(
    *args: object, config: Path, stdin: bytes = b"", env: Mapping[str, str] | None = None, block: str | None = None
) -> Ran:
    """Run one command with stdout and stderr on one wide terminal; all of it is in `out`, without bold and colours."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", entry(block), "-c", str(config), *map(str, args)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=theirs, stderr=theirs, env=environment(TERMINAL | dict(env or {}))
    )
    os.close(theirs)
    assert process.stdin is not None
    process.stdin.write(stdin)
    process.stdin.close()
    said = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # the terminal has no other end any more
            break
        if not data:
            break
        said += data
    os.close(ours)
    return Ran(process.wait(60), STYLE.sub("", said.decode().replace("\r\n", "\n")), "")


def entry(block: str | None = None) -> str:
    """A program that is jobsctl; with `block`, that module cannot be imported."""
    blocked = f"sys.modules[{block!r}] = None\n" if block else ""
    return f"import sys\n{blocked}from supervisor.cli.jobsctl import main\nmain()"
