"""`jobsupd`: the daemon's entry, and the place where its roles are put together."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

import click

from supervisor.cli.streams import open_standard_streams
from supervisor.errors import EXIT_USAGE, JobsupError
from supervisor.version import VERSION

if TYPE_CHECKING:
    from supervisor.config.spec import Spec

ONE_SHOT_WAIT_MS = 5_000
DAEMON_WAIT_MS = 5_000

EPILOG = """\b
Exit status:
  0   stopped          74  the database cannot be opened or written
  1   escalated        75  another jobsup process holds it
  2   configuration    78  the database is newer than this version
"""


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-c", "--config", metavar="FILE", help="The configuration. Default: $JOBSUP_CONFIG, etc/queues.toml, ...")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override a key; repeatable.")
@click.option("--check", is_flag=True, help="Check the configuration and this host, start nothing.")
@click.option("--init", is_flag=True, help="With --one-shot: make the database if there is none.")
@click.option("--one-shot", is_flag=True, help="Serve one client instead of running queues (started by clients).")
@click.option("--fd", type=int, help="With --one-shot: the descriptor of the client's socket.")
@click.option("--failpoints", is_flag=True, help="List the failpoints that JOBSUP_FAILPOINTS can arm.")
@click.version_option(VERSION, prog_name="jobsupd")
def command(
    config: str | None, overrides: tuple[str, ...], check: bool, init: bool, one_shot: bool, fd: int | None,
    failpoints: bool,
) -> None:  # fmt: skip
    """Run the queues of a configuration file until told to stop.

    \b
    Signals: TERM, INT  finish current jobs and stop     HUP   reload the configuration
             QUIT       stop at once                     USR1  reopen the log file
                                                         USR2  write the state to the log
    """
    if failpoints:
        sys.exit(_list_failpoints())
    if check:
        sys.exit(_check(config, overrides))
    if one_shot:
        sys.exit(_one_shot(config, overrides, fd, init=init))
    sys.exit(_daemon(config, overrides))


def main() -> None:
    """The console script: every error of ours is a sentence, a hint and an exit status."""
    open_standard_streams()
    try:
        command(prog_name="jobsupd")
    except JobsupError as error:
        sys.exit(_say(error))


def _say(error: JobsupError) -> int:
    for line in getattr(error, "problems", ()) or (error.message,):
        print(f"jobsupd: {line}", file=sys.stderr)  # noqa: T201 - a command speaks on stderr
    if error.hint:
        print(f"  {error.hint}", file=sys.stderr)  # noqa: T201
    return error.exit_status


def _list_failpoints() -> int:
    from supervisor.observe.failpoint import POINTS

    for name, meaning in POINTS.items():
        print(f"{name}\t{meaning}")  # noqa: T201
    return 0


def _check(config: str | None, overrides: tuple[str, ...]) -> int:
    from supervisor.config.check import check

    checked = check(config, overrides)
    for line in (*checked.problems, *(f"warning: {text}" for text in (*checked.warnings, *checked.advice))):
        print(line, file=sys.stderr)  # noqa: T201
    if checked.problems:
        return EXIT_USAGE
    queues = checked.spec.queues if checked.spec else {}
    print(f"the configuration is good; queues: {', '.join(sorted(queues)) or 'none'}")  # noqa: T201
    return 0


def _one_shot(config: str | None, overrides: tuple[str, ...], fd: int | None, *, init: bool) -> int:
    from supervisor.config.load import load_whole
    from supervisor.keeper.one_shot import init_database, run_one_shot
    from supervisor.unix.lock import ONE_SHOT, take_lock_within

    if fd is None and not init:
        raise click.UsageError("--one-shot needs --fd, or --init to only make the database")
    spec, scope = load_whole(config, overrides)
    if init:
        _make_default_folder(spec)
    take_lock_within(spec.daemon.database, ONE_SHOT, ONE_SHOT_WAIT_MS)
    if fd is None:
        init_database(spec)
        return 0
    return run_one_shot(spec, socket.socket(fileno=fd), create=init, scope=scope)


def _daemon(config: str | None, overrides: tuple[str, ...]) -> int:
    from supervisor.alerter import main as alerter
    from supervisor.cli.clash import clash
    from supervisor.config.load import find, load_main
    from supervisor.keeper import main as keeper
    from supervisor.master import main as master
    from supervisor.pool import main as pool
    from supervisor.relay import main as relay
    from supervisor.unix.inheritance import Roles
    from supervisor.unix.lock import DAEMON, take_lock_within
    from supervisor.worker import main as worker
    from supervisor.worker.executors.load import load as load_executor

    found = clash()
    if found:
        print(f"jobsupd: {found.message}\n  {found.remedy}", file=sys.stderr)  # noqa: T201
        return EXIT_USAGE
    path = str(find(config, os.environ))
    spec = load_main(path, overrides)
    os.environ["JOBSUP_CONFIG"] = path
    os.environ["JOBSUP_SOCKET"] = spec.daemon.socket
    _make_default_folder(spec)
    lock_fd = take_lock_within(spec.daemon.database, DAEMON, DAEMON_WAIT_MS)
    roles = Roles(keeper.run, pool.run, worker.run, load_executor, alerter.run, relay.run)
    return master.run(spec, roles, lock_fd=lock_fd, config=path, overrides=overrides)


def _make_default_folder(spec: Spec) -> None:
    """Make the folder of a database that the file does not name: a fresh copy runs as it is. A named one must exist."""
    from supervisor.config.locate import default_paths

    if spec.daemon.database == default_paths(spec.files[0])[0]:
        try:
            os.makedirs(os.path.dirname(spec.daemon.database), mode=0o750, exist_ok=True)
        except OSError:
            pass  # taking the lock says that it does not exist, and what to do


if __name__ == "__main__":
    main()
