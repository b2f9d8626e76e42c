"""An alert command for tests: it keeps every alert that it is told, and can be made to fail, to hang, or to hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.waiting import until

SCRIPT = """#!/bin/sh
alert=$(cat)
printf '%s\\n' "$1" >> {folder}/begun
test -e {folder}/fail && {{ echo "first line"; echo "no such channel" >&2; exit 3; }}
test -p {folder}/hold && read -r line < {folder}/hold
printf '%s\\n' "$alert" >> {folder}/told
"""
REPORTED_S = 5.0
"""Within which people are told of what happened."""


class Told:
    """What the command was told so far. Write `command` into [alerts]."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.program = folder / "tell"
        self.program.write_text(SCRIPT.format(folder=folder))
        self.program.chmod(0o755)

    @property
    def command(self) -> str:
        """The line of the configuration."""
        return f'command = ["{self.program}", "{{summary}}"]'

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """Every alert for which the command has succeeded, in order."""
        file = self.folder / "told"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def begun(self) -> list[str]:
        """The first argument of every run of the command, failed ones included."""
        file = self.folder / "begun"
        return file.read_text().splitlines() if file.exists() else []

    def of(self, kind: str, state: str = "event", queue: str | None = None) -> list[dict[str, Any]]:
        """Those of a kind and state, of one queue or of all."""
        found = [one for one in self.alerts if (one["kind"], one["state"]) == (kind, state)]
        return [one for one in found if queue in (None, one["queue"])]

    def wait(self, kind: str, state: str = "event", timeout: float = REPORTED_S) -> dict[str, Any]:
        """The first of a kind and state, as soon as it is there."""
        return until(lambda: self.of(kind, state), timeout, f"an alert {kind} {state}")[0]

    def fail(self, yes: bool) -> None:
        """Let every run fail, or succeed again."""
        (self.folder / "fail").touch() if yes else (self.folder / "fail").unlink()
