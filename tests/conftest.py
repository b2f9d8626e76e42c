"""For all tests: what belongs to the full campaigns alone is not collected otherwise; in CI nothing may be skipped."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support.campaign import FULL, SUMMARY, Campaign

_skipped: list[str] = []

# A shell that starts us in the background has these ignored, and every daemon would inherit that until it listens.
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes an installation or an hour, unless the full form is asked for."""
    kept = [item for item in items if FULL or not item.get_closest_marker("full")]
    if len(kept) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what could not run here."""
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A test that is skipped where everything could be installed has tested nothing: that is a failure."""
    if os.environ.get("CI") and _skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def campaign(request: pytest.FixtureRequest) -> Campaign:
    """The campaign named after its test."""
    return Campaign(request.node.name.removeprefix("test_"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say so."""
    if os.environ.get("CI") and _skipped:
        terminalreporter.section("skipped in CI, where nothing may be", red=True)
        for name in _skipped:
            terminalreporter.write_line(name)
    if SUMMARY:
        terminalreporter.section("campaigns")
        for name, figures in SUMMARY.items():
            shown = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in figures.items())
            terminalreporter.write_line(f"{name}: {shown}")
