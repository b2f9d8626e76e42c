"""The installation under examination: each fact is gathered once, when a check asks for it first."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from supervisor.errors import ConfigError, JobsupError, NotRunning
from supervisor.unix.lock import DAEMON, Holder, holder_of

if TYPE_CHECKING:
    from supervisor.config.load import Loaded
    from supervisor.config.spec import Spec
    from supervisor.store.reader import Reader

ANSWER_TIMEOUT_S = 5.0


class Site:
    """Facts about one configuration, its database, its daemon and this host; None where they cannot be had."""

    def __init__(self, config: str | None, overrides: Sequence[str], environ: Mapping[str, str]) -> None:
        self.config = config
        self.overrides = overrides
        self.environ = environ

    @cached_property
    def main_file(self) -> str | None:
        """The main configuration file, whether it can be used or not."""
        from supervisor.config.lookup import main_file

        try:
            return main_file(self.config, self.environ)
        except ConfigError:
            return None

    @cached_property
    def _configuration(self) -> tuple[Loaded | None, ConfigError | None]:
        from supervisor.config.load import read

        try:
            return read(self.config, self.overrides, self.environ), None
        except ConfigError as error:
            return None, error

    @property
    def loaded(self) -> Loaded | None:
        """The configuration with the places of its keys."""
        return self._configuration[0]

    @property
    def spec(self) -> Spec | None:
        """The configuration."""
        return self.loaded.spec if self.loaded else None

    @property
    def config_error(self) -> ConfigError | None:
        """Why there is no configuration."""
        return self._configuration[1]

    @cached_property
    def database(self) -> str | None:
        """The real path of the database."""
        return os.path.realpath(self.spec.daemon.database) if self.spec else None

    @cached_property
    def socket(self) -> str | None:
        """The path of the public socket."""
        named = self.environ.get("JOBSUP_SOCKET") if self.config is None else None
        return named or (self.spec.socket if self.spec else None)

    @cached_property
    def holder(self) -> Holder | None:
        """Who holds the writer lock."""
        return holder_of(self.database) if self.database else None

    @property
    def daemon_pid(self) -> int | None:
        """The pid of the daemon that holds the lock."""
        return self.holder.pid if self.holder and self.holder.role == DAEMON else None

    @cached_property
    def _hello(self) -> tuple[dict[str, Any] | None, JobsupError | None]:
        return self._ask("hello")

    @property
    def hello(self) -> dict[str, Any] | None:
        """How the daemon introduces itself; None if nobody answers."""
        return self._hello[0]

    @property
    def silence(self) -> JobsupError | None:
        """Why nobody answers at the socket."""
        return self._hello[1]

    @cached_property
    def status(self) -> dict[str, Any] | None:
        """The daemon's status."""
        return self._ask("status")[0] if self.hello else None

    @cached_property
    def workers(self) -> list[dict[str, Any]] | None:
        """The daemon's workers."""
        found = self._ask("workers")[0] if self.hello else None
        return found["workers"] if found else None

    @cached_property
    def _connection(self) -> tuple[Any, JobsupError | None]:
        from supervisor.store.reader import connect_reader

        if not self.database:
            return None, None
        try:
            return connect_reader(self.database), None
        except JobsupError as error:
            return None, error

    @property
    def connection(self) -> Any:
        """A read-only connection to the database."""
        return self._connection[0]

    @property
    def connection_error(self) -> JobsupError | None:
        """Why there is no connection."""
        return self._connection[1]

    @cached_property
    def reader(self) -> Reader | None:
        """A reader of the database."""
        from supervisor.store.reader import Reader

        if not (self.connection and self.spec):
            return None
        return Reader(self.connection, self.spec.queue, self.spec.scope, self.spec.hidden_in)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """What a query on the database gives, by column; empty without a database."""
        if not self.connection:
            return []
        from sqlite_utils import Database

        return list(Database(self.connection, execute_plugins=False).query(sql))

    def close(self) -> None:
        """Let go of the database."""
        if self.connection:
            self.connection.close()

    def _ask(self, op: str) -> tuple[dict[str, Any] | None, JobsupError | None]:
        from supervisor.client import Client

        if not self.socket:
            return None, NotRunning("there is no configuration to find the socket in")
        try:
            with Client(socket=self.socket, one_shot=False, patience=0, timeout=ANSWER_TIMEOUT_S) as client:
                return client.request(op), None
        except JobsupError as error:
            return None, error
