"""jobsctl queues: add a queue without touching the user's own file."""

from __future__ import annotations

from typing import Any

import click

from supervisor.cli.group import group
from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import DURATION, QUEUE, WORKERS


@group("queues")
def command() -> None:
    """Add queues to the configuration."""


@jobsctl_command(
    name="add",
    examples=[
        "jobsctl queues add emails --handler myapp.mail:send --workers 4",
        "jobsctl queues add thumbnails --command 'thumbnail -- {path}' --workers 1-8",
        "jobsctl queues add checksum --command 'sha256sum -- {path}' --reload",
        "jobsctl queues add reports --handler myapp.reports:make --key order=priority --key retention.completed=1d",
    ],
)
@click.argument("name", type=QUEUE)
@click.option("--handler", metavar="MODULE:FUNCTION", help="The Python callable that gets each job.")
@click.option(
    "--command", "argv", metavar="LINE", help="The command to run; divided as a shell would, run without one."
)
@click.option("--workers", metavar="N", type=WORKERS, help="How many worker processes, or MIN-MAX.")
@click.option("--timeout", metavar="DURATION", type=DURATION, help="How long a run may take.")
@click.option("--max-attempts", metavar="N", type=click.IntRange(min=1), help="How often a job may be tried.")
@click.option("--key", "keys", metavar="KEY=VALUE", multiple=True, help="Any other key of a queue; may be repeated.")
@click.option("--reload", "reload_now", is_flag=True, help="Make the daemon apply it at once.")
@pass_invocation
def add(
    invocation: Invocation, name: str, handler: str | None, argv: str | None, workers: int | dict[str, int] | None,
    timeout: int | None, max_attempts: int | None, keys: tuple[str, ...], reload_now: bool,
) -> int:  # fmt: skip
    """Add a queue, and print the path of its file.

    It is a drop-in, queues.d/50-NAME.toml beside the configuration. The whole configuration is
    checked with it first; if it could not be used, nothing is written. A handler that cannot be
    imported yet is written, and said. With --reload the queue is watched until it works; where it
    cannot, the exit status is 1.
    """
    from supervisor.cli.commands.reload import reload
    from supervisor.cli.render import note, put_json, put_line
    from supervisor.config.dropin import add_queue

    if (handler is None) == (argv is None):
        raise click.UsageError("give either --handler or --command")
    table = _table(handler, argv, workers, timeout, max_attempts)
    for written in keys:
        _put(table, written)
    path = add_queue(invocation.config, name, table)
    if not invocation.json:
        put_line(str(path))
        for warning in _doubts(invocation, str(path)):
            note(warning)
    broken = reload(invocation)[1] if reload_now else {}
    if invocation.json:
        put_json({"queue": name, "file": str(path), "reloaded": reload_now})
    elif not reload_now:
        main = invocation.spec().daemon.scope_of
        note(f"jobsctl -c {main} reload applies it" if main else "jobsctl reload applies it")
    return int(bool(broken))


def _doubts(invocation: Invocation, path: str) -> list[str]:
    """What this host says against the new file: it is written all the same, as the handler may come later."""
    from supervisor.config.check import check

    checked = check(invocation.config, invocation.overrides)
    return [text for text in (*checked.problems, *checked.advice) if text.startswith(f"{path}:")]


def _table(
    handler: str | None,
    argv: str | None,
    workers: int | dict[str, int] | None,
    timeout_ms: int | None,
    max_attempts: int | None,
) -> dict[str, Any]:
    """The queue's table, as it is written in TOML; only what was given."""
    from supervisor.policy.duration import show

    given: dict[str, Any] = {
        "handler": handler,
        "command": None if argv is None else _divided(argv),
        "workers": workers,
        "timeout": None if timeout_ms is None else show(timeout_ms),
        "max_attempts": max_attempts,
    }
    return {key: value for key, value in given.items() if value is not None}


def _divided(line: str) -> list[str]:
    import shlex

    try:
        return shlex.split(line)
    except ValueError as error:
        raise click.UsageError(f"--command: {error}") from None


def _put(table: dict[str, Any], written: str) -> None:
    """Put KEY=VALUE into the table; the value is TOML if it can be, else text."""
    import tomllib

    key, equals, text = written.partition("=")
    if not equals or not key:
        raise click.UsageError(f"--key {written}: write KEY=VALUE")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *tables, last = key.split(".")
    for part in tables:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise click.UsageError(f"--key {written}: {part} is not a table")
    table[last] = value


command.add_command(add)
