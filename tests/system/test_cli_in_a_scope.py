"""Every verb of jobsctl, once more, for the file of a scope, while another scope of the daemon is busy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.daemon import Daemon
from tests.support.scoped import ScopedDaemon
from tests.system import test_cli_online as online

NOT_HERE = {
    "test_tree_shows_every_process": "a scope sees its own processes, and those that all share",
    "test_a_reload_says_what_changed_and_refuses_what_is_wrong": "reload concerns all scopes",
    "test_queues_add_can_reload_at_once": "reload concerns all scopes",
    "test_queues_add_says_at_once_that_a_new_queue_cannot_work": "reload concerns all scopes",
    "test_a_backup_of_a_running_daemon_can_be_started_on": "a backup is of the whole database",
}
"""Tests of what is done over the main socket only; that a scope is refused it, test_scopes shows."""

globals().update(
    {name: found for name, found in vars(online).items() if name.startswith("test_") and name not in NOT_HERE}
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with ScopedDaemon(tmp_path_factory.mktemp("scoped"), online.TOML, app=online.APP) as daemon:
        yield daemon


def test_what_is_left_out_exists() -> None:
    assert set(NOT_HERE) <= set(vars(online))
