"""What the options in front of or behind a command said, and what a command reaches by them.

Its methods import what they need: `jobsctl enqueue` comes through here and must start fast.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from supervisor.client import Client
    from supervisor.config.spec import Spec
    from supervisor.errors import JobsupError
    from supervisor.store.archive import Archive
    from supervisor.unix.lock import Holder

START_PATIENCE_S = 10.0
"""How long a daemon that holds the database and does not listen yet is waited for."""

F = TypeVar("F", bound=Callable[..., Any])


class Invocation:
    """The options that every command takes; `context.obj` of click."""

    def __init__(self) -> None:
        self.config: str | None = None
        self.overrides: list[str] = []
        self.json = False
        self._spec: Spec | None = None

    def spec(self) -> Spec:
        """The configuration, loaded and checked; of a main file, what is its own, without its scopes.

        Raises:
            ConfigError: it cannot be used.
        """
        if self._spec is None:
            from supervisor.config.load import read

            self._spec = read(self.config, self.overrides).alone
        return self._spec

    def client(self) -> Client[int]:
        """A client of the daemon, or of a one-shot keeper while there is none.

        Raises:
            ConfigError: neither a socket nor a configuration is named.
        """
        from supervisor.client import Client

        return Client(self.config, overrides=tuple(self.overrides))

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """Ask the daemon, or a one-shot keeper while there is none."""
        with self.client() as client:
            return client.request(op, **fields)

    def ask_daemon(
        self, op: str, timeout_s: float | None = None, patience_s: float = START_PATIENCE_S, **fields: Any
    ) -> dict[str, Any]:
        """Ask the daemon; only it can answer. One that holds the database and is starting is waited for.

        Raises:
            NotRunning: there is none.
            Busy: there is one, and it did not listen within `patience_s`.
        """
        from supervisor.errors import Busy, NotRunning

        try:
            return self.ask_at_once(op, timeout_s, **fields)
        except NotRunning:
            holder = self.holder()
            if holder is None:
                raise
        try:
            return self._ask_daemon(op, timeout_s, patience_s, fields)
        except NotRunning as error:
            text = f"the daemon (pid {holder.pid}) has the database, and does not listen yet: {error.message}"
            raise Busy(text, hint="try again; jobsctl doctor examines it") from None

    def ask_at_once(self, op: str, timeout_s: float | None = None, **fields: Any) -> dict[str, Any]:
        """Ask the daemon, if one listens now.

        Raises:
            NotRunning: none does.
        """
        return self._ask_daemon(op, timeout_s, 0, fields)

    def _ask_daemon(
        self, op: str, timeout_s: float | None, patience_s: float, fields: dict[str, Any]
    ) -> dict[str, Any]:
        from supervisor.client import Client

        with Client(self.config, overrides=tuple(self.overrides), one_shot=False, patience=patience_s) as client:
            return client.request(op, timeout_s=timeout_s, **fields)

    def holder(self) -> Holder | None:
        """The daemon that holds the writer lock, whether it answers yet or not; None where none is known."""
        from supervisor.errors import ConfigError
        from supervisor.unix.lock import DAEMON, holder_of

        try:
            holder = holder_of(self.spec().daemon.database)
        except ConfigError:
            return None
        return holder if holder and holder.role == DAEMON else None

    def explained(self, error: JobsupError) -> JobsupError:
        """The error, or a better one: a keeper that found no database could only say that it could not open it."""
        from supervisor.errors import ConfigError, StoreError

        if type(error) is not StoreError:
            return error
        from supervisor.errors import NoDatabase

        try:
            missing = not os.path.lexists(self.spec().daemon.database)
        except ConfigError:
            return error
        return NoDatabase(error.message, hint=error.hint) if missing else error

    @contextmanager
    def reader(self) -> Iterator[Archive]:
        """A reader of the database file.

        Raises:
            NoDatabase: there is none yet.
            Denied: the caller may not read it.
            StoreError: it cannot be read.
        """
        from supervisor.errors import StoreError
        from supervisor.store.archive import Archive
        from supervisor.store.driver import sqlite3
        from supervisor.store.reader import connect_reader

        spec = self.spec()
        connection = connect_reader(spec.daemon.database)
        try:
            yield Archive(connection, spec.queue, spec.scope, spec.hidden_in)
        except sqlite3.Error as error:
            hint = "start jobsupd, which brings it to this version; jobsctl doctor says more"
            raise StoreError(f"{spec.daemon.database}: {error}", hint=hint) from error
        finally:
            connection.close()

    def must_exist(self, queue: str) -> None:
        """Tell a queue that has no jobs from one that does not exist.

        Raises:
            UnknownQueue: neither the configuration nor the database knows it.
        """
        from supervisor.errors import NoDatabase, UnknownQueue

        spec = self.spec()
        known = set(spec.queues)
        if spec.queue(queue) is not None:
            return
        try:
            with self.reader() as reader:
                known |= set(reader.counts())
        except NoDatabase:
            pass
        if queue not in known:
            from supervisor.config.problem import suggestion

            raise UnknownQueue(f"there is no queue {queue}", hint=suggestion(queue, known) if known else None)

    def queue_names(self) -> list[str]:
        """The queues in the files, for completion: cheap, and empty where they cannot be read."""
        from supervisor.config.lookup import drop_ins, main_file
        from supervisor.config.parse import parse
        from supervisor.config.problem import Report
        from supervisor.config.source import read
        from supervisor.errors import ConfigError

        names: dict[str, None] = {}
        try:
            main = main_file(self.config, os.environ)
            for path in (main, *drop_ins(main)):
                report = Report()
                content = read(path, report)
                document = parse(path, content, report) if content is not None else None
                queues = document.data.get("queues") if document else None
                names.update(dict.fromkeys(queues if isinstance(queues, dict) else ()))
        except (ConfigError, OSError):
            return []
        return sorted(names)


def _keep_config(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Invocation).config = value


def _keep_overrides(context: click.Context, _parameter: click.Parameter, value: Sequence[str]) -> None:
    context.ensure_object(Invocation).overrides.extend(value)


def _keep_json(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Invocation).json = True


def common_options(command: F) -> F:
    """Give a command, or the group of them all, the options that stand before and behind."""
    for option in (
        click.option("--json", is_flag=True, expose_value=False, callback=_keep_json,
                     help="Print JSON: one object, or for lists one object per line."),
        click.option("--set", metavar="KEY=VALUE", multiple=True, expose_value=False, callback=_keep_overrides,
                     help="Override a key of the configuration, such as daemon.run_dir=/tmp/run."),
        click.option("-c", "--config", metavar="FILE", expose_value=False, callback=_keep_config,
                     help="The configuration file; else $JOBSUP_CONFIG, etc/queues.toml, /etc/jobsup/queues.toml."),
    ):  # fmt: skip
        command = option(command)
    return command


def jobsctl_command(
    *, examples: Sequence[str], name: str | None = None
) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a function a command with the common options; its docstring is the help, `examples` end it."""
    epilog = "\b\nExamples:\n" + "\n".join(f"  {example}" for example in examples)
    settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

    def decorate(function: Callable[..., Any]) -> click.Command:
        return click.command(name, epilog=epilog, context_settings=settings)(common_options(function))

    return decorate


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)
