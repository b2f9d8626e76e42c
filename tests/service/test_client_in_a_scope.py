"""The client against a real daemon, once more, in a scope, while another scope of the daemon is busy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from supervisor.client import Client
from tests.service import test_client_daemon as plain
from tests.support.daemon import Daemon
from tests.support.scoped import ScopedDaemon

NOT_HERE = {"test_the_worked_example_of_the_document_is_what_happens": "it is about the first job of a database"}

globals().update(
    {name: found for name, found in vars(plain).items() if name.startswith("test_") and name not in NOT_HERE}
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with ScopedDaemon(tmp_path_factory.mktemp("scoped"), plain.TOML, app=plain.APP) as daemon:
        yield daemon


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client[int]]:
    with Client(daemon.config) as client:
        yield client


def test_what_is_left_out_exists() -> None:
    assert set(NOT_HERE) <= set(vars(plain))
