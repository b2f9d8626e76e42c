"""jobsctl: enqueues, inspects and operates. One file per command in `commands`, imported when it is asked for.

Ends with the statuses of docs/errors.md; 130 when interrupted, 141 when whoever reads our output has gone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click

from supervisor.cli.failure import EXIT_BROKEN_PIPE, EXIT_INTERRUPTED, report
from supervisor.cli.group import Group
from supervisor.cli.invocation import Invocation, common_options
from supervisor.cli.streams import open_standard_streams
from supervisor.errors import EXIT_FAILED, JobsupError, UsageError

COMMANDS = (
    "enqueue", "status", "list", "explain", "wait", "cancel", "retry", "edit", "dead", "keys", "tasks", "pause",
    "resume", "move", "purge", "delete", "flow", "cron", "fetch", "extend", "ack", "fail", "release", "consumers",
    "export", "stats", "workers", "tree", "scale", "queues", "config", "reload", "alerts", "outbox", "doctor", "backup",
    "completion",
)  # fmt: skip
"""In the order in which help shows them."""

COMPLETE_VARIABLE = "_JOBSCTL_COMPLETE"


class Commands(Group):
    """The group of all commands, which imports each when it is asked for."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"supervisor.cli.commands.{cmd_name}").command
        return command


def _version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from supervisor.version import VERSION

        click.echo(f"jobsctl {VERSION}")
        context.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Print the version."
)
@common_options
def jobsctl() -> None:
    """Enqueue, inspect and operate background jobs.

    Where stdout is no terminal, tables are tab-separated lines. Exit status: 0 done, 1 failed or wrong state,
    2 usage or configuration, 3 no such job or queue, 4 daemon not running or not permitted, 75 busy or timed out.
    """


def main() -> NoReturn:
    """Run what the command line says, and exit.

    Without tearing the interpreter down, which takes 10 ms, a fifth of what `enqueue` takes in all: everything that
    must be written is written, and no command leaves work to the end of the process.
    """
    open_standard_streams()
    status = run(sys.argv[1:])
    sys.stderr.flush()
    os._exit(status)


def run(args: Sequence[str]) -> int:
    """Run a command; its exit status. Nothing it expects is raised, and what it printed is flushed."""
    try:
        status = _run(list(args))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _look_away()
        return EXIT_BROKEN_PIPE
    except OSError as error:
        if error.filename is not None:
            raise
        sys.stderr.write(f"jobsctl: the output cannot be written: {error.strerror}\n")
        _look_away()
        return EXIT_FAILED
    return status


def _run(args: list[str]) -> int:
    invocation = Invocation()
    try:
        if instruction := os.environ.get(COMPLETE_VARIABLE):
            from click.shell_completion import shell_complete

            return shell_complete(jobsctl, {}, "jobsctl", COMPLETE_VARIABLE, instruction)
        with jobsctl.make_context("jobsctl", args, obj=invocation) as context:
            return jobsctl.invoke(context) or 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        return _refuse(error, as_json=invocation.json or _asked_for_json(args))
    except JobsupError as error:
        return report(invocation.explained(error), as_json=invocation.json)


def _refuse(error: click.ClickException, *, as_json: bool) -> int:
    """Report a mistake on the command line as an error of ours; a group without a command explains itself."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "jobsctl"
    message = " ".join(error.format_message().split())  # some of click's have lines of their own
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        if not as_json:
            error.show()
            return error.exit_code
        message = "a command is missing"
    return report(UsageError(message, hint=f"{path} --help says what is right"), as_json=as_json)


def _asked_for_json(args: Sequence[str]) -> bool:
    """Whether --json is on a command line that could not be parsed as far as that."""
    return "--json" in args[: args.index("--")] if "--" in args else "--json" in args


def _look_away() -> None:
    """Let what is still buffered go nowhere, so that the interpreter's end does not stumble over it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


if __name__ == "__main__":
    main()
