"""Large payloads travel as files of the slot: none stays behind when its job leaves the slot unread."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.rig import Rig, a_queue

SHORT = {"do": "spin", "us": 100}


def files(rig: Rig) -> list[str]:
    """The payloads that lie in the slots."""
    folders = [hand.slot.directory for hand in rig.hands.values()]
    return [name for folder in folders for name in os.listdir(folder) if name.startswith("payload-")]


def test_what_is_taken_back_leaves_no_file(tmp_path: Path) -> None:
    with Rig(tmp_path, [a_queue(tmp_path, workers=2)]) as rig:
        rig.start_keeper()
        rig.spawn_all()
        rig.enqueue([SHORT] * 300)
        rig.until(rig.drained)
        for _ in range(10):
            rig.ask("pause", queue="q")
            rig.enqueue([{"do": "rest", "ms": 60}] + [{"do": "nothing", "x": "y" * 17_000}] * 12)
            rig.enqueue([SHORT] * 40)
            rig.ask("resume", queue="q")
            rig.until(rig.drained)
        assert files(rig) == []


def test_what_is_sent_anew_leaves_no_file(tmp_path: Path) -> None:
    """A new keeper sends open leases again; the worker skips the job that it has, and never reads its file."""
    with Rig(tmp_path, [a_queue(tmp_path, workers=1)]) as rig:
        rig.start_keeper()
        rig.spawn_all()
        for _ in range(3):
            rig.enqueue([{"do": "rest", "ms": 300, "x": "y" * 900_000}])
            rig.until(lambda: rig.ledger.running)
            rig.kill_keeper()
            rig.start_keeper()
            rig.until(rig.drained)
        assert files(rig) == []
