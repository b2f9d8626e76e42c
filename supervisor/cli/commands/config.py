"""jobsctl config: check the configuration, and show what was understood."""

from __future__ import annotations

from supervisor.cli.group import group
from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation


@group("config")
def command() -> None:
    """Check or show the configuration."""


@jobsctl_command(name="check", examples=["jobsctl config check", "jobsctl -c new.toml config check --json"])
@pass_invocation
def check(invocation: Invocation) -> int:
    """Check the configuration and this host.

    Every problem and warning is a line on stderr. Exit status: 0 it can be used, 2 it cannot.
    """
    from supervisor.cli.render import note, put_json, put_line
    from supervisor.config.check import check as examine
    from supervisor.errors import ConfigError

    found = examine(invocation.config, invocation.overrides)
    for text in (*found.warnings, *found.advice):
        note(f"warning: {text}")
    if found.problems or found.spec is None:
        raise ConfigError(found.problems[0], problems=found.problems)
    if invocation.json:
        put_json(
            {"ok": True, "files": found.spec.files, "queues": list(found.spec.queues),
             "warnings": [*found.warnings, *found.advice]}
        )  # fmt: skip
    else:
        put_line(f"{found.spec.files[0]}: ok, {len(found.spec.queues)} queues")
    return 0


@jobsctl_command(name="show", examples=["jobsctl config show", "jobsctl config show --json | jq .queues.emails"])
@pass_invocation
def show(invocation: Invocation) -> None:
    """Print the configuration as it was understood.

    It is TOML; defaults, drop-ins and overrides are worked in.
    """
    import sys

    from supervisor.cli.render import put_json
    from supervisor.config.resolved import as_data, as_toml_data
    from supervisor.observe.sanitise import sanitise

    spec = invocation.spec()
    if invocation.json:
        put_json(as_data(spec))
        return
    import tomli_w

    sys.stdout.write(sanitise(tomli_w.dumps(as_toml_data(spec)), multiline=True))


command.add_command(check)
command.add_command(show)
