"""For tests of applications: handlers without a daemon, a queue with a virtual clock, a real daemon to break.

    from supervisor.testing import Harness, run_inline

    assert run_inline("myapp.mail:send", {"to": "a@b.c"}).completed

    with Harness("etc/queues.toml") as jobs:
        jobs.client.enqueue("emails", {"to": "a@b.c"}, delay="5m")
        jobs.advance("5m")
        jobs.assert_enqueued("emails", payload={"to": "a@b.c"}, state="completed")

Names are imported when they are first used: the pytest plugin lies in this package, and costs a run nothing that does
not use it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supervisor.observe.failpoint import POINTS as FAILPOINTS
    from supervisor.testing.clock import VirtualClock
    from supervisor.testing.daemon import Daemon, DaemonFailed
    from supervisor.testing.disturbances import Crash, Fail, Interrupt, TimeOut
    from supervisor.testing.enqueued import Enqueued, assert_enqueued, assert_not_enqueued
    from supervisor.testing.harness import Harness
    from supervisor.testing.inline import InlineRun, run_batch_inline, run_inline
    from supervisor.testing.workers import Run

__all__ = [
    "FAILPOINTS", "Crash", "Daemon", "DaemonFailed", "Enqueued", "Fail", "Harness", "InlineRun", "Interrupt", "Run",
    "TimeOut", "VirtualClock", "assert_enqueued", "assert_not_enqueued", "run_batch_inline", "run_inline",
]  # fmt: skip

_HOMES = {
    "clock": ("VirtualClock",),
    "daemon": ("Daemon", "DaemonFailed"),
    "disturbances": ("Crash", "Fail", "Interrupt", "TimeOut"),
    "enqueued": ("Enqueued", "assert_enqueued", "assert_not_enqueued"),
    "harness": ("Harness",),
    "inline": ("InlineRun", "run_batch_inline", "run_inline"),
    "workers": ("Run",),
}
"""Module -> the names that are its own."""


def __getattr__(name: str) -> Any:
    if name == "FAILPOINTS":
        return importlib.import_module("supervisor.observe.failpoint").POINTS
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
