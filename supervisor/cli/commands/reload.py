"""jobsctl reload."""

from __future__ import annotations

from typing import Any

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation

TIMEOUT_S = 60.0
LOOK_S = 0.05
WAIT_S = 10.0
"""How long new and changed pools are watched: one that drains first, or imports for longer, is left to `status`."""


@jobsctl_command(examples=["jobsctl reload"])
@pass_invocation
def command(invocation: Invocation) -> int:
    """Make the daemon read its configuration.

    Prints what changed. A configuration that cannot be used changes nothing, and every problem is listed. Pools that
    are new or changed are watched until they work; where one cannot, its cause is said, and the exit status is 1.
    Tab-separated lines: what happened (added, removed, changed, or retuned where workers run on), and the queue or
    pool; or `settings`, and another table that is in force as it reads now, such as `alerts` or `schedules.nightly`.
    """
    from supervisor.cli.render import put_json, put_line

    reply, broken = reload(invocation)
    if invocation.json:
        put_json(reply | {"broken": broken})
        return int(bool(broken))
    import sys

    from supervisor.wire.control import RELOADED

    lines = [(what, name) for what in RELOADED for name in reply.get(what, ())]
    for what, name in lines:
        sys.stdout.write(f"{what}\t{name}\n")
    if not lines and sys.stdout.isatty():
        put_line("nothing changed")
    return int(bool(broken))


def reload(invocation: Invocation) -> tuple[dict[str, Any], dict[str, str]]:
    """Reload, and watch new and changed pools; the reply, and what keeps which pool from working. Both are told."""
    from supervisor.cli.render import note

    before = _foremen(invocation)
    reply = invocation.ask_daemon("reload", timeout_s=TIMEOUT_S)
    for warning in reply.get("warnings", ()):
        note(warning)
    broken = _broken(invocation, {*reply.get("added", ()), *reply.get("changed", ())}, before)
    for queue, (reason, detail) in broken.items():
        note(f"{queue}: circuit open: {reason}", detail)
    return reply, {queue: reason for queue, (reason, _) in broken.items()}


def _foremen(invocation: Invocation) -> dict[str, dict[str, Any]]:
    """The foreman of each queue, as `tree` shows it."""
    nodes = invocation.ask_daemon("tree")["tree"]
    return {node["queue"]: node for node in nodes if node["role"] == "foreman"}


def _start(foreman: dict[str, Any]) -> tuple[int | None, int]:
    """What tells one start of a foreman from another; one that has ended has no pid, and was started anew since."""
    return foreman["pid"], foreman["restarts"]


def _broken(invocation: Invocation, queues: set[str], before: dict[str, dict[str, Any]]) -> dict[str, tuple[str, str]]:
    """Those of these queues whose pools cannot work, with the reason and the traceback, which may be empty.

    Waits until each is known, but not for ever.

    A pool that was changed works when another foreman than `before` is ready.
    """
    import select

    from supervisor.unix.clock import boot_ms

    broken: dict[str, tuple[str, str]] = {}
    until_ms = boot_ms() + int(WAIT_S * 1000)
    while queues and boot_ms() < until_ms:
        shown, foremen = invocation.ask_daemon("status")["queues"], _foremen(invocation)
        queues -= {queue for queue in queues if shown.get(queue, {}).get("pull")}  # nothing of ours runs there
        for queue in sorted(queues & foremen.keys()):
            if queue in before and _start(foremen[queue]) == _start(before[queue]):
                continue
            said = shown.get(queue, foremen[queue])  # the queues of scopes are in the tree, and not in our status
            if said["circuit"] == "open":
                reason = said.get("reason") or "its workers end as soon as they start"
                broken[queue] = (reason, said.get("detail") or "")
            elif foremen[queue]["state"] != "ready":
                continue
            queues.discard(queue)
        if queues:
            select.select([], [], [], LOOK_S)
    return broken
