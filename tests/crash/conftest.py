"""What all campaigns have: their rounds, and a report of what was done."""

from __future__ import annotations

import pytest

from tests.support.campaign import SUMMARY, Campaign


@pytest.fixture
def campaign(request: pytest.FixtureRequest) -> Campaign:
    """The campaign named after its test."""
    return Campaign(request.node.name.removeprefix("test_"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what the campaigns did: rounds whose condition was met, and what was counted in them."""
    if SUMMARY:
        terminalreporter.section("campaigns")
        for name, figures in SUMMARY.items():
            shown = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in figures.items())
            terminalreporter.write_line(f"{name}: {shown}")
