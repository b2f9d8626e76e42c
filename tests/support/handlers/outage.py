"""Handlers that need something which may be down: as long as the file of their payload exists, they fail."""

from __future__ import annotations

import os
from typing import Any

import ledgered


def run(job: Any) -> Any:
    """Fail while `down` exists; before that, wait at the FIFO `until`, if there is one."""
    ledgered.note("S", job)
    payload = job.payload
    if "until" in payload:
        ledgered.hold(job, payload)
    if os.path.exists(payload["down"]):
        raise ConnectionError("nobody answers")
    ledgered.note("E", job)
    return None
