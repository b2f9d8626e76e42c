"""How a command that failed says so: a sentence and a hint on stderr, with --json also an object on stdout."""

from __future__ import annotations

import json
import sys

from supervisor.errors import EXIT_FAILED, EXIT_NOT_RUNNING, JobsupError
from supervisor.observe.sanitise import sanitise

EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

_STATUS_OF_CODE = {
    "store": EXIT_FAILED,
    "store_newer": EXIT_FAILED,
    "no_database": EXIT_NOT_RUNNING,
}
"""Where jobsctl ends otherwise than jobsupd, for which these classes carry their status."""


def status_of(error: JobsupError) -> int:
    """What jobsctl ends with because of this error."""
    return _STATUS_OF_CODE.get(error.code, error.exit_status)


def as_object(error: JobsupError) -> dict[str, object]:
    """The error as --json shows it; a refused configuration lists every problem."""
    shown: dict[str, object] = {"code": error.code, "message": error.message, "hint": error.hint}
    problems = getattr(error, "problems", ())
    return shown | ({"problems": list(problems)} if problems else {})


def report(error: JobsupError, *, as_json: bool) -> int:
    """Say what went wrong; returns the exit status."""
    if as_json:
        sys.stdout.write(json.dumps({"error": as_object(error)}) + "\n")
    for line in getattr(error, "problems", ()) or (error.message,):
        sys.stderr.write(f"jobsctl: {sanitise(line)}\n")
    if error.hint:
        sys.stderr.write(f"  {sanitise(error.hint)}\n")
    return status_of(error)
