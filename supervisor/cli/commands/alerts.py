"""jobsctl alerts: whether people would be told."""

from __future__ import annotations

from typing import Any

from supervisor.cli.group import group
from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation

SLACK_S = 20.0
"""What the daemon may need beyond two tries of the command."""


@group("alerts")
def command() -> None:
    """Try out alerts."""


@jobsctl_command(name="test", examples=["jobsctl alerts test", "jobsctl alerts test --json | jq .command.error"])
@pass_invocation
def test(invocation: Invocation) -> int:
    """Send a test alert the whole way.

    It goes to the alert command, to the queue of alerts, or both, as `[alerts]` says, and past its limits. Ends with 1
    if the command failed or the queue did not take the job; whether a job is then delivered, `jobsctl wait` says.
    Tab-separated lines: command or queue, told or failed, then the error or the id of the job.
    """
    import sys

    from supervisor.cli import render

    timeout_s = 2 * invocation.spec().alerts.timeout_ms / 1000 + SLACK_S
    found = invocation.ask_daemon("alerts_test", timeout_s=timeout_s)
    ways = {name: found[name] for name in ("command", "queue") if found[name] is not None}
    failed = any(way["error"] for way in ways.values())
    if invocation.json:
        render.put_json(found)
    elif sys.stdout.isatty():
        for name, way in ways.items():
            render.put_line(_sentence(name, way))
    else:
        for name, way in ways.items():
            what = render.plain(way["error"] or way.get("job") or "")
            sys.stdout.write(f"{name}\t{'failed' if way['error'] else 'told'}\t{what}\n")
    return int(failed)


def _sentence(name: str, way: dict[str, Any]) -> str:
    if way["error"]:
        return f"the {name} failed: {way['error']}"
    return "the command has succeeded" if name == "command" else f"job {way['job']} of {way['name']} carries the alert"


command.add_command(test)
