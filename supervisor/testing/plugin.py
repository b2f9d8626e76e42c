"""The pytest plugin: fixtures `jobsup_config`, `jobsup_queue` and `jobsup_daemon`. What they need they import."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from supervisor.testing.daemon import Daemon
    from supervisor.testing.harness import Harness

OPTION = "jobsup_config"
DEFAULT = "etc/queues.toml"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The key of pytest's own configuration."""
    parser.addini(OPTION, f"The configuration of jobsup for its fixtures, from the root of the tests ({DEFAULT}).",
                  default=DEFAULT)  # fmt: skip


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the log of a failed test's daemon beside what it has printed."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()  # type: ignore[attr-defined]
    daemon = getattr(item, "funcargs", {}).get("jobsup_daemon")
    if report.failed and report.when == "call" and daemon is not None:
        report.sections.append(("log of jobsupd", daemon.log))


@pytest.fixture
def jobsup_config(request: pytest.FixtureRequest) -> Path:
    """The configuration file that the other fixtures use. Define a fixture of this name to use another."""
    return request.config.rootpath / str(request.config.getini(OPTION))


@pytest.fixture
def jobsup_queue(jobsup_config: Path) -> Iterator[Harness]:
    """Your queues in this process under a virtual clock: a `supervisor.testing.Harness`."""
    from supervisor.testing.harness import Harness

    with Harness(jobsup_config) as harness:
        yield harness


@pytest.fixture
def jobsup_daemon(jobsup_config: Path) -> Iterator[Daemon]:
    """A real daemon that is ready, with its client: a `supervisor.testing.Daemon`. It is gone after the test."""
    from supervisor.testing.daemon import Daemon

    with Daemon(jobsup_config) as daemon:
        yield daemon
