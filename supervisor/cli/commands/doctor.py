"""jobsctl doctor: look for everything that is known to go wrong, and say what to do about it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.errors import EXIT_FAILED

if TYPE_CHECKING:
    from supervisor.cli.checkup.finding import Finding


@jobsctl_command(examples=["jobsctl doctor", "jobsctl doctor --json | jq -r '.findings[].name'"])
@pass_invocation
def command(invocation: Invocation) -> int:
    """Find what is wrong, and what to do.

    It examines the configuration, the database, the daemon and this host, and changes nothing. Run it as the
    service's user, or as root. Every finding has a name, says what is so, and what to do; they are listed in
    docs/doctor.md. Exit status: 1 if something does not work (a problem), else 0. Tab-separated, the columns are:
    name, severity, message, remedy.
    """
    import os

    from supervisor.cli.checkup import configuration, daemon, database, queues
    from supervisor.cli.checkup.site import Site

    site = Site(invocation.config, invocation.overrides, os.environ)
    checks = (*configuration.CHECKS, *database.CHECKS, *daemon.CHECKS, *queues.CHECKS)
    try:
        found = [finding for check in checks for finding in check(site)]
    finally:
        site.close()
    healthy = not any(finding.severity == "problem" for finding in found)
    if invocation.json:
        _put_json(found, [check.__name__ for check in checks], healthy=healthy)
    else:
        _put_text(found, len(checks))
    return 0 if healthy else EXIT_FAILED


def _put_json(found: list[Finding], checked: list[str], *, healthy: bool) -> None:
    from supervisor.cli.render import put_json

    report: dict[str, Any] = {"ok": healthy, "checked": checked, "findings": [each._asdict() for each in found]}
    put_json(report)


def _put_text(found: list[Finding], checks: int) -> None:
    from supervisor.cli.render import Column, put_line, put_rows

    if not sys.stdout.isatty():
        columns = [Column(name, name) for name in ("name", "severity", "message", "remedy")]
        put_rows((each._asdict() for each in found), columns, as_json=False)
        return
    for each in found:
        put_line(f"{each.severity.upper()} {each.name}: {each.message}")
        put_line(f"    {each.remedy}")
    put_line(f"{checks} checks, {len(found)} findings")
