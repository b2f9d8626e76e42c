"""docs/cli.md, made of the commands themselves: every command with its arguments, options and examples."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator

import click

from supervisor.cli.jobsctl import jobsctl

COMMON = frozenset({"--config", "--set", "--json"})

INTRODUCTION = """\
# Commands

<!-- Made by `python -m supervisor.cli.reference > docs/cli.md`; edit the commands in supervisor/cli/commands. -->

`jobsctl` enqueues, inspects and operates; `jobsupd` is the daemon. Every `jobsctl` command takes these options, in
front of its name or behind it:

| option | meaning |
|---|---|
| `-c FILE`, `--config FILE` | the configuration; else `$JOBSUP_CONFIG`, `etc/queues.toml`, `/etc/jobsup/queues.toml` |
| `--set KEY=VALUE` | override a key of the configuration, such as `daemon.run_dir=/tmp/run`; may be repeated |
| `--json` | print JSON: one object, or for lists one object per line, and nothing else on stdout |
| `-h`, `--help` | explain the command, with examples |

Without `-c`, `$JOBSUP_SOCKET` names the daemon's socket; then commands that only talk to the daemon need no
configuration.

## Output

On a terminal, lists are tables. Where stdout is no terminal they are tab-separated lines without a heading; the help
of each command names the columns. Control characters and bidirectional overrides in users' data are shown, as
`\\x1b` or `\\u202e`, never obeyed. In JSON, keys are stable and snake_case; durations end in `_s` (seconds), sizes in
`_bytes`, instants in `_at` (RFC 3339, UTC, milliseconds); what is unknown is `null`, never absent.

## Errors and exit statuses

Errors are on stderr. With `--json` there is also `{"error": {"code", "message", "hint"}}` on stdout; the codes are
listed in [errors.md](errors.md), an unusable configuration adds `problems`.

| exit status of `jobsctl` | meaning |
|---|---|
| 0 | done |
| 1 | failed, or the job or queue is in the wrong state |
| 2 | the command line or the configuration is wrong |
| 3 | there is no such job or queue |
| 4 | the daemon is not running, or this is not permitted |
| 75 | busy or timed out: try again |
| 130 | interrupted (Ctrl-C) |
| 141 | whoever read the output has gone |

## Without a daemon

`status`, `list`, `stats`, `export`, `config`, `doctor` and `backup` read the database. `enqueue`, `cancel`, `retry`,
`edit`, `keys`, `pause`, `resume`, `move`, `purge`, `delete`, `dead` and `cron` start a keeper of their own for the
one command, which writes and ends; it makes no database and migrates none. `wait` answers if the job is final
already, else it exits with 4. `workers`, `tree` and `reload` exit with 4.
"""

JOBSUPD = """\
## jobsupd

    jobsupd [-c FILE] [--set KEY=VALUE]...

Runs the daemon in the foreground, as systemd wants it. It logs to stderr, or where `[log]` says.

| option | meaning |
|---|---|
| `-c FILE`, `--config FILE` | the configuration, found as by `jobsctl` |
| `--set KEY=VALUE` | override a key of the configuration |
| `--check` | say every problem of the configuration and of this host for it, and exit: 0 if there is none, else 2 |
| `--one-shot` | serve one client on `--fd N` without running jobs, then exit; clients start it by themselves |
| `--one-shot --init` | make a new database, if there is none |
| `--failpoints` | list the failpoints that tests can arm |
| `--version`, `--help` | print the version, or the options |

| exit status of `jobsupd` | meaning |
|---|---|
| 0 | stopped as asked, everything accepted is in the database |
| 1 | gave up: the keeper, or a pool with `on_crash_loop = "escalate"`, died too often |
| 2 | the command line or the configuration is wrong |
| 74 | the database cannot be opened, or what was accepted could not be written within the grace (it says how much) |
| 75 | another daemon has the database; its pid is named |
| 78 | the database was written by a newer version |

Signals are described in [signals.md](signals.md).
"""


def markdown() -> str:
    """The whole page."""
    root = click.Context(jobsctl, info_name="jobsctl")
    return "\n".join([INTRODUCTION, JOBSUPD, "## jobsctl", "", *_commands(jobsctl, root)]).rstrip() + "\n"


def _commands(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _commands(command, inner)
        else:
            yield from _command(command, inner)


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"### {context.command_path}\n"
    pieces = " ".join(command.collect_usage_pieces(context)).replace("[OPTIONS] ", "").replace("[OPTIONS]", "")
    yield f"    {context.command_path} [OPTIONS] {pieces}".rstrip() + "\n"
    yield inspect.cleandoc(command.help or "") + "\n"
    options = [
        parameter
        for parameter in command.params
        if isinstance(parameter, click.Option) and not COMMON.intersection(parameter.opts)
    ]
    if options:
        yield "| option | meaning |\n|---|---|"
        yield from map(_option, options)
        yield ""
    examples = inspect.cleandoc(command.epilog or "").removeprefix("\b\nExamples:\n")
    yield "```sh"
    yield from (line.strip() for line in examples.splitlines())
    yield "```\n"


def _option(option: click.Option) -> str:
    """A row of the table; written here because click words it differently from version to version."""
    kinds = option.type
    values = " or ".join(map(str, kinds.choices)) if isinstance(kinds, click.Choice) else option.metavar or ""
    extra = " Must be given." if option.required else ""
    default = f" Default: {option.default}." if option.show_default else ""
    name = " ".join(filter(None, (", ".join(option.opts), values))).replace("|", "\\|")
    return f"| `{name}` | {option.help}{default}{extra} |"


if __name__ == "__main__":
    sys.stdout.write(markdown())
