"""jobsctl wait: until a job has reached a final state."""

from __future__ import annotations

from typing import Any

import click

from supervisor.cli.invocation import START_PATIENCE_S, Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import DURATION, JOB_ID
from supervisor.errors import EXIT_FAILED

SLICE_MS = 3_600_000
"""The longest single question; a longer wait asks again."""


@jobsctl_command(
    examples=["jobsctl wait 42", "jobsctl wait $(jobsctl enqueue reports) --timeout 10m --json | jq .result"]
)
@click.argument("job_id", metavar="ID", type=JOB_ID)
@click.option("--timeout", metavar="DURATION", type=DURATION, help="Give up after this time; else wait for ever.")
@pass_invocation
def command(invocation: Invocation, job_id: int, timeout: int | None) -> int:
    """Wait until a job is final; print its state.

    Final is completed, dead or cancelled. Exit status: 0 completed, 1 dead or cancelled, 75 timed out, 3 no such
    job. Without a daemon only a job that is final already can be answered; for others the exit status is 4.
    """
    from supervisor.cli.render import put_json, put_line
    from supervisor.job import FINAL

    job = _wait(invocation, job_id, timeout)
    if invocation.json:
        put_json(job)
    else:
        put_line(job["state"])
    assert job["state"] in {state.value for state in FINAL}
    return 0 if job["state"] == "completed" else EXIT_FAILED


def _wait(invocation: Invocation, job_id: int, timeout_ms: int | None) -> dict[str, Any]:
    from supervisor.cli.commands.status import find_job
    from supervisor.errors import NotRunning, WaitTimeout
    from supervisor.job import State
    from supervisor.unix.clock import boot_ms

    deadline_ms = None if timeout_ms is None else boot_ms() + timeout_ms
    while True:
        left_ms = SLICE_MS if deadline_ms is None else max(0, min(SLICE_MS, deadline_ms - boot_ms()))
        try:
            return invocation.ask_daemon(
                "wait", timeout_s=left_ms / 1000 + 10, patience_s=min(START_PATIENCE_S, left_ms / 1000),
                job=job_id, timeout_ms=left_ms,
            )  # fmt: skip
        except WaitTimeout:
            if deadline_ms is not None and boot_ms() >= deadline_ms:
                raise
        except NotRunning:
            job = find_job(invocation, job_id)
            if not State(job["state"]).final:
                raise
            return job
