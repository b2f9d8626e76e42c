"""jobsctl reload."""

from __future__ import annotations

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation

TIMEOUT_S = 60.0


@jobsctl_command(examples=["jobsctl reload"])
@pass_invocation
def command(invocation: Invocation) -> None:
    """Make the daemon read its configuration.

    Prints what changed. A configuration that cannot be used changes nothing, and every problem is listed.
    Tab-separated lines: what happened (added, removed, changed, or retuned where workers run on), and the queue.
    """
    from supervisor.cli.render import note, put_json, put_line

    reply = invocation.ask_daemon("reload", timeout_s=TIMEOUT_S)
    for warning in reply.get("warnings", ()):
        note(warning)
    if invocation.json:
        put_json(reply)
        return
    import sys

    lines = [(what, queue) for what in ("added", "removed", "changed", "retuned") for queue in reply.get(what, ())]
    for what, queue in lines:
        sys.stdout.write(f"{what}\t{queue}\n")
    if not lines and sys.stdout.isatty():
        put_line("nothing changed")
