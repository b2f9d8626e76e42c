"""jobsctl wait: until a job has reached a final state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from supervisor.cli.invocation import START_PATIENCE_S, Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import DURATION, JOB_ID
from supervisor.errors import EXIT_FAILED

if TYPE_CHECKING:
    from supervisor.cli.progress import Say

SLICE_MS = 3_600_000
"""The longest single question; a longer wait asks again."""
GLANCE_MS, GLANCE_MAX_MS = 1_000, 10_000
"""How long the first question is where somebody watches, who is told after each what the job waits for, and how long
the others become: to tell it of a large flow takes the daemon some milliseconds."""


@jobsctl_command(
    examples=["jobsctl wait 42", "jobsctl wait $(jobsctl enqueue reports) --timeout 10m --json | jq .result"]
)
@click.argument("job_id", metavar="ID", type=JOB_ID)
@click.option("--timeout", metavar="DURATION", type=DURATION, help="Give up after this time; else wait for ever.")
@pass_invocation
def command(invocation: Invocation, job_id: int, timeout: int | None) -> int:
    """Wait until a job or a flow is final; print its state.

    On a terminal a line says meanwhile how it stands, as explain does. Final is completed, dead or cancelled. Exit
    status: 0 completed, 1 dead or cancelled, 75 timed out, 3 no such job. Without a daemon only a job that is final
    already can be answered; for others the exit status is 4.
    """
    from supervisor.cli.progress import saying
    from supervisor.cli.render import put_json, put_line
    from supervisor.job import FINAL

    with saying() as say:
        job = _wait(invocation, job_id, timeout, say)
    if invocation.json:
        put_json(job)
    else:
        put_line(job["state"])
    assert job["state"] in {state.value for state in FINAL}
    return 0 if job["state"] == "completed" else EXIT_FAILED


def _wait(invocation: Invocation, job_id: int, timeout_ms: int | None, say: Say | None) -> dict[str, Any]:
    from supervisor.cli.commands.status import find_job
    from supervisor.errors import NotRunning, WaitTimeout
    from supervisor.job import FINAL
    from supervisor.policy.duration import show
    from supervisor.unix.clock import boot_ms

    deadline_ms = None if timeout_ms is None else boot_ms() + timeout_ms
    slice_ms = SLICE_MS if say is None else GLANCE_MS
    while True:
        left_ms = slice_ms if deadline_ms is None else max(0, min(slice_ms, deadline_ms - boot_ms()))
        try:
            return invocation.ask_daemon(
                "wait", timeout_s=left_ms / 1000 + 10, patience_s=min(START_PATIENCE_S, left_ms / 1000),
                job=job_id, timeout_ms=left_ms,
            )  # fmt: skip
        except WaitTimeout as error:
            if timeout_ms is not None and deadline_ms is not None and boot_ms() >= deadline_ms:
                why = _why(invocation, job_id)
                raise WaitTimeout(f"not ended within {show(timeout_ms)}; {why}", hint=error.hint) from None
            if say is not None:
                say(_why(invocation, job_id))
                slice_ms = min(2 * slice_ms, GLANCE_MAX_MS)
        except NotRunning:
            found = _flow_offline(invocation, job_id) or find_job(invocation, job_id)
            if found["state"] not in {state.value for state in FINAL}:
                raise
            return found


def _flow_offline(invocation: Invocation, flow_id: int) -> dict[str, Any] | None:
    from supervisor.errors import NoDatabase

    try:
        with invocation.reader() as reader:
            return reader.flow_alone(flow_id)
    except NoDatabase:
        return None


def _why(invocation: Invocation, job_id: int) -> str:
    """What a job or a flow waits for, in a sentence; a wait does not end because that could not be found out."""
    from supervisor.errors import JobsupError

    try:
        return str(invocation.ask_at_once("explain", job=job_id)["sentence"])
    except JobsupError as error:
        return error.message
